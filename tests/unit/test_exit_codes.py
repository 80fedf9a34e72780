from __future__ import annotations

from itertools import pairwise

import pytest

from fastmove import errors
from fastmove.cli.exit_codes import GRAVEST_FIRST, VERDICTS, ExitCode, for_error, for_outcome, gravest
from fastmove.dimse.move import Judgement, Verdict


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.COMPLETE, 0),
        (Verdict.COUNTED, 0),
        (Verdict.UNVERIFIED, 0),
        (Verdict.CANCELLED, 0),
        (Verdict.WARNING, 68),
        (Verdict.REFUSED, 69),
        (Verdict.INCOMPLETE, 71),
        (Verdict.UNKNOWN, 72),
        (Verdict.STORAGE_FAILED, 73),
        (Verdict.STALLED, 74),
        (Verdict.POLICY, 75),
    ],
)
def test_verdict_has_its_exit_code(verdict: Verdict, code: int) -> None:
    assert for_outcome(Judgement(verdict)) == code


def test_every_verdict_has_an_exit_code() -> None:
    assert VERDICTS.keys() == set(Verdict)


@pytest.mark.parametrize(
    ("verdict", "code"),
    [
        (Verdict.COMPLETE, 0),
        (Verdict.COUNTED, 71),
        (Verdict.UNVERIFIED, 71),
        (Verdict.WARNING, 68),
        (Verdict.POLICY, 75),
    ],
)
def test_required_proof_makes_success_without_a_list_incomplete(verdict: Verdict, code: int) -> None:
    assert for_outcome(Judgement(verdict), require_proof=True) == code


def test_gravest_of_several_moves_wins() -> None:
    assert [code.value for code in GRAVEST_FIRST] == [73, 75, 74, 72, 71, 69, 68, 0]
    for graver, lighter in pairwise(GRAVEST_FIRST):
        assert gravest([lighter, graver, lighter]) is graver


def test_no_move_at_all_is_success() -> None:
    assert gravest([]) is ExitCode.SUCCESS


def test_move_that_could_not_start_is_graver_than_any_verdict() -> None:
    assert gravest([ExitCode.STORAGE_FAILED, ExitCode.CANNOT_ASSOCIATE, ExitCode.SUCCESS]) is ExitCode.CANNOT_ASSOCIATE


@pytest.mark.parametrize(
    ("error", "before", "after"),
    [
        (errors.ConfigurationError("peer", "no"), 1, 1),
        (errors.ConnectFailed("pacs", 104, OSError(111, "refused")), 61, 61),
        (errors.AssociationRejected(1, 1, 7), 61, 61),
        (errors.AssociationAborted(2, 0, by_peer=True), 61, 72),
        (errors.ConnectionLost(), 61, 72),
        (errors.TimedOut("associate_s", 30), 61, 72),
        (errors.TimedOut("response_s", 30), 72, 72),
        (errors.RemoteProtocolError("ac.malformed"), 61, 72),
        (errors.NoAcceptedContext("1.2.3"), 66, 66),
        (errors.StorageError("fs.write", 0xA700), 73, 73),
        (errors.DimseError(0x0122), 69, 69),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_error_has_an_exit_code_before_and_after_establishment(
    error: errors.FastmoveError, before: int, after: int
) -> None:
    assert for_error(error, established=False) == before
    assert for_error(error, established=True) == after


def leaves(root: type[Exception]) -> list[type[Exception]]:
    return [leaf for child in root.__subclasses__() for leaf in leaves(child)] or [root]


@pytest.mark.parametrize("leaf", leaves(errors.FastmoveError), ids=lambda leaf: leaf.__name__)
def test_no_error_is_success(leaf: type[errors.FastmoveError]) -> None:
    error = leaf.__new__(leaf)
    assert for_error(error, established=True) is not ExitCode.SUCCESS
    assert for_error(error, established=False) is not ExitCode.SUCCESS
