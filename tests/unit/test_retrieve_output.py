"""What a person sees of a retrieve: where it stands, and what to do about each way to go wrong."""

from __future__ import annotations

from collections.abc import Iterator
from string import Formatter

import pytest

from fastmove import errors
from fastmove.cli.exit_codes import _ERRORS as CODES
from fastmove.cli.retrieve_advice import AGAIN, for_error, for_result, texts
from fastmove.cli.retrieve_output import RetrieveTally, Warnings
from fastmove.dimse.move import Evidence, Judgement, MoveOutcome, Verdict
from fastmove.notices import AssociationOpened, InstanceRefused, ListenerStarted, ManifestFailed
from fastmove.observe.lines import Stream
from fastmove.observe.log import Log
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.retrieve.unit import UnitResult
from fastmove.services.selection.selection import Selection, Wanted
from fastmove.types import PeerAddress

PEER = PeerAddress("PACS", "10.0.0.5", 104)
WORDS = texts(PEER, "ME", "ME", 11112)
REFUSED = Verdict.REFUSED


# ---------------------------------------------------------------------- where it stands


@pytest.fixture
def retrieve() -> Retrieve:
    """One that has not begun."""
    return Retrieve(RetrieveConfig(PEER, selection=Selection((Wanted("1.2.3"),))))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The time, to be set."""
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    yield now


def test_line_says_how_far_how_fast_and_how_long_yet(
    retrieve: Retrieve, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    tally, work = RetrieveTally(retrieve), retrieve.work
    assert tally.line("retrieved") == (
        "retrieved 0 instances, 0/0+ studies, 0.0 MB, 0.0 MB/s, 0/s, 0 moves, connecting to PACS@10.0.0.5:104"
    )
    monkeypatch.setattr(Retrieve, "established", True)
    work.known, work.done, work.listed, work.present = 4, 2, 110, 10
    retrieve.objects, retrieve.nbytes = 50, 100_000_000
    clock[0] += 5
    assert tally.line("retrieved") == (
        "retrieved 0:00:15 left, 50/~200 instances, 10 were here, 2/4+ studies, 100.0 MB, 20.0 MB/s, 10/s, 0 moves"
    )
    work.fed, work.done = True, 4
    clock[0] += 5
    assert "50/100 instances" in tally.line("retrieved")


def test_rate_is_that_of_late(retrieve: Retrieve, clock: list[float]) -> None:
    tally = RetrieveTally(retrieve)
    for _ in range(100):
        clock[0] += 0.2
        retrieve.objects += 100
        tally.live("")
    assert "500/s" in tally.line("")
    for _ in range(60):
        clock[0] += 0.2
        tally.live("")
    assert ", 0/s" in tally.line(""), "nothing comes any more"


def test_plain_lines_are_of_the_time_between_them(retrieve: Retrieve, clock: list[float]) -> None:
    tally = RetrieveTally(retrieve)
    for rate in (100, 10, 0):
        clock[0] += 10
        retrieve.objects += rate * 10
        assert f", {rate}/s" in tally.line("")


def test_what_is_wrong_is_a_line_of_its_own(retrieve: Retrieve, monkeypatch: pytest.MonkeyPatch) -> None:
    tally = RetrieveTally(retrieve)
    monkeypatch.setattr(Retrieve, "established", True)
    assert len(tally.live("")) == 2
    tally.observe(ListenerStarted("", 11112, 1))
    tally.observe(InstanceRefused(1, "1.2", "1.2.3", 0xA700, "fs.write", "ENOSPC"))
    assert tally.live("")[2] == "1 object refused"
    tally.stopping = True
    assert tally.live("")[2].startswith("stopping: ")


def test_warning_that_repeats_is_said_three_times(capsys: pytest.CaptureFixture[str]) -> None:
    with Log(Stream()) as log:
        warnings = Warnings(log)
        for number in range(50):
            warnings(InstanceRefused(1, "1.2", f"1.2.{number}", 0xA700, "fs.write", "ENOSPC"))
        warnings(ManifestFailed("x", "No space left on device"))
        warnings(AssociationOpened(1, "", 1, "A", "B", 1, None))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 5
    assert lines[3] == "E event=fs.write and so on (all of them with --json)"
    assert "manifest.failed" in lines[4]


# ---------------------------------------------------------------------- what to do


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def test_words_have_what_stands_in_them() -> None:
    from fastmove.cli import retrieve_advice

    advices = [*retrieve_advice._ADVICE.values(), *retrieve_advice._BY_REJECTION.values()]
    advices += [retrieve_advice._NOTHING_CAME, retrieve_advice._DOCTOR, *retrieve_advice._BY_ERRNO.values()]
    for port in (11112, None):
        assert {name for advice in advices for name in fields(advice)} <= texts(PEER, "ME", "ME", port).keys()


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (errors.ConnectFailed("h", 104, OSError(111, "refused")), "is the PACS running"),
        (errors.AssociationRejected(1, 1, 7), "another AE title than 'PACS'"),
        (errors.AssociationRejected(1, 1, 3), "us as 'ME'"),
        (errors.AssociationRejected(2, 3, 2), "takes no more associations now"),
        (errors.AssociationRejected(1, 1, 1), "fastmove doctor PACS@10.0.0.5:104 --aet ME --port 11112"),
        (errors.AssociationAborted(2, 0, by_peer=True), "do not know us as 'ME'"),
        (errors.ConnectionLost("lost"), "do not know us as 'ME'"),
        (errors.TimedOut("associate_s", 30.0), "is that the port of the PACS"),
        (errors.NoAcceptedContext("1.2"), "Query/Retrieve"),
        (errors.ListenFailed("", 104, PermissionError(13, "Permission denied")), "ports below 1024"),
        (errors.DirectoryUnusable("cannot use x"), "--to"),
    ],
)
def test_error_before_anything_came_says_what_to_do(error: errors.FastmoveError, word: str) -> None:
    assert word in for_error(error, established=False).format_map(WORDS)
    assert isinstance(error, tuple(kind for kind, *_ in CODES))


def test_error_afterwards_says_how_to_go_on() -> None:
    assert for_error(errors.ConnectionLost("lost"), established=True) == AGAIN


def judged(
    verdict: Verdict, *reasons: str, status: int | None = None, **more: object
) -> tuple[RetrieveResult, UnitResult]:
    judgement = Judgement(verdict, reasons)
    outcome = None if status is None else MoveOutcome(status)
    unit = UnitResult(Wanted("1.2.3"), judgement, 5, 0, evidence=Evidence(outcome=outcome, stored=frozenset()))
    result = RetrieveResult(judgement, {verdict: 1}, (unit,), 1.0, None, **more)  # type: ignore[arg-type]
    return result, unit


@pytest.mark.parametrize(
    ("verdict", "reasons", "status", "nothing_came", "word"),
    [
        (REFUSED, ("move.refused",), 0xA801, True, "does not know the move destination 'ME'"),
        (REFUSED, ("move.refused",), 0xA702, True, "may not reach this host and port 11112"),
        (REFUSED, ("move.refused",), 0xA702, False, "could not send everything; run the same command again"),
        (Verdict.INCOMPLETE, ("move.incomplete",), 0, True, "nothing came at all"),
        (Verdict.INCOMPLETE, ("move.incomplete",), 0, False, "run the same command again"),
        (Verdict.INCOMPLETE, ("move.incomplete", "move.rejected"), 0, False, "not what it says they are"),
        (Verdict.STORAGE_FAILED, ("store.too_big", "move.incomplete"), 0xB000, False, "--max-object"),
        (Verdict.STORAGE_FAILED, ("move.storage_failed", "move.incomplete"), 0xB000, False, "make room on the disk"),
        (Verdict.STORAGE_FAILED, ("move.storage_failed",), 0xA702, True, "make room on the disk"),
        (Verdict.POLICY, ("move.policy", "move.refused"), 0xA702, False, "--on-duplicate"),
        (Verdict.WARNING, ("store.duplicate_differs",), 0, False, "look at both"),
        (Verdict.UNKNOWN, ("move.association_lost",), None, False, "run the same command again"),
    ],
)
def test_verdict_says_what_to_do(
    verdict: Verdict, reasons: tuple[str, ...], status: int | None, nothing_came: bool, word: str
) -> None:
    result, unit = judged(verdict, *reasons, status=status)
    (advice,) = for_result(result, [unit], nothing_came=nothing_came, stopped=False)
    assert word in advice.format_map(WORDS)


def test_who_stops_it_is_told_how_to_go_on_once() -> None:
    result, unit = judged(Verdict.CANCELLED, "move.cancelled", status=0xFE00)
    assert list(for_result(result, [unit], nothing_came=False, stopped=True)) == [AGAIN]


def test_who_stops_what_does_not_begin_is_told_why_it_may_not() -> None:
    result, unit = judged(REFUSED, "move.refused", status=0xA702)
    first, second = for_result(result, [unit], nothing_came=True, stopped=True)
    assert first == AGAIN and "may not reach" in second


def test_complete_run_needs_no_advice() -> None:
    result, unit = judged(Verdict.COMPLETE, status=0)
    assert list(for_result(result, [unit], nothing_came=False, stopped=False)) == []


def test_third_party_is_named_as_such() -> None:
    result, unit = judged(REFUSED, "move.refused", status=0xA801)
    (advice,) = for_result(result, [unit], nothing_came=False, stopped=False)
    told = advice.format_map(texts(PEER, "ME", "ARCHIVE", None))
    assert (
        "'ARCHIVE'" in told
        and "the address of ARCHIVE" in told
        and "port" not in told
        and told.endswith("--destination")
    )
