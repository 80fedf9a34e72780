from __future__ import annotations

import inspect
import re

import pytest

from fastmove import errors
from fastmove.cli.exit_codes import ExitCode, for_error
from fastmove.errors import (
    ABORT_REASON,
    REJECT_REASON,
    SERVICE_PROVIDER,
    SERVICE_USER,
    AssociationAborted,
    AssociationRejected,
    CommitmentOverdue,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    DatasetError,
    DimseError,
    DirectoryLocked,
    DirectoryUnusable,
    FastmoveError,
    InternalError,
    LedgerError,
    ListenFailed,
    LocalProtocolError,
    NoAcceptedContext,
    QueryIncomplete,
    ReleasedByPeer,
    RemoteProtocolError,
    StorageError,
    StorageNotReady,
    TimedOut,
    TlsFailed,
    TlsUnusable,
    UnwritableDataset,
)
from fastmove.ul.pdu import AAbort

REFUSED = ConnectionRefusedError(111, "Connection refused")

# One of each leaf, its text, and its exit codes before and after the association is established.
SAMPLES: list[tuple[FastmoveError, str, int, int]] = [
    (DirectoryUnusable("cannot use /x: no"), "directory: cannot use /x: no", 45, 45),
    (DirectoryUnusable("no", "fs.probe"), "directory: no (fs.probe)", 45, 45),
    (
        DirectoryLocked("/x", "b"),
        "directory: /x is in use by b: one program at a time stores there (fs.locked)",
        45,
        45,
    ),
    (ConfigurationError("port", "must be 1 to 65535"), "port: must be 1 to 65535", 1, 1),
    (ListenFailed("", 104, REFUSED), "cannot listen on *:104: Connection refused", 60, 60),
    (ConnectFailed("pacs", 104, REFUSED), "cannot connect to pacs:104: Connection refused", 61, 61),
    (TlsUnusable("tls.key", "k.pem: no key"), "tls.key: k.pem: no key", 70, 70),
    (TlsFailed("tls.version", "too old"), "no TLS with the peer: too old (tls.version)", 61, 72),
    (AssociationRejected(1, 1, 7), "association rejected permanently: called AE title not recognized", 61, 61),
    (AssociationAborted(2, 6, by_peer=True), "association aborted by the peer (source 2, reason 6)", 61, 72),
    (ConnectionLost("the connection ended"), "the connection ended", 61, 72),
    (ReleasedByPeer("the peer released it"), "the peer released it", 61, 72),
    (NoAcceptedContext("1.2.3"), "the peer accepted no presentation context for 1.2.3", 66, 66),
    (TimedOut("associate_s", 30.0), "no answer within 30 s (associate_s)", 61, 72),
    (LocalProtocolError("not now"), "not now", 61, 72),
    (RemoteProtocolError("pdu.short", "5 bytes"), "pdu.short: 5 bytes", 61, 72),
    (DatasetError("x.dcm: no data set"), "x.dcm: no data set", 1, 1),
    (UnwritableDataset("too long", "(0008,1140)[1]", 12), "too long at byte 12, in (0008,1140)[1]", 1, 1),
    (QueryIncomplete(["more than 100 in 2024"]), "the list is not complete: more than 100 in 2024", 71, 71),
    (
        CommitmentOverdue("2.25.1", 1000, 300.0),
        "no report on a storage commitment of 1,000 objects within 300 s (commit_s)",
        74,
        74,
    ),
    (StorageNotReady("fs.low", "1 MB free in /x"), "1 MB free in /x", 73, 73),
    (LedgerError("open", "x.db is no ledger"), "ledger: open: x.db is no ledger", 73, 73),
    (StorageError("fs.write", 0xA700, "ENOSPC", 28), "status A700: ENOSPC", 73, 73),
]


def leaves(root: type[Exception]) -> set[type[Exception]]:
    below = [leaf for child in root.__subclasses__() for leaf in leaves(child)]
    return set(below) or {root}


def test_every_leaf_of_the_tree_has_a_sample() -> None:
    assert {type(error) for error, *_ in SAMPLES} == leaves(FastmoveError) | {
        ConfigurationError,
        ConnectionLost,
        DirectoryUnusable,
        DatasetError,
    }


@pytest.mark.parametrize(("error", "text", "before", "after"), SAMPLES, ids=[type(s[0]).__name__ for s in SAMPLES])
def test_error_says_what_happened_and_has_exit_codes(error: FastmoveError, text: str, before: int, after: int) -> None:
    assert str(error) == text
    assert for_error(error, established=False) == before
    assert for_error(error, established=True) == after
    assert ExitCode.SUCCESS not in (before, after)


def test_tree_in_the_docstring_is_the_tree_of_the_module() -> None:
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    drawn = re.findall(r"([A-Z]\w+)(?:\(([\w, ]+)\))?(?: {2,}|\n)", (errors.__doc__ or "").split("\n\n")[1] + "\n")
    assert {name for name, _ in drawn} == classes
    for name, bases in drawn:
        for base in filter(None, bases.split(", ")):
            assert base in [c.__name__ for c in getattr(errors, name).__mro__]


def test_tree_is_drawn_as_it_is_derived() -> None:
    stack: list[str] = []
    for line in (errors.__doc__ or "").split("\n\n")[1].splitlines():
        found = re.search(r"[A-Z]\w+", line)
        assert found
        depth = (found.start() - 4) // 4
        del stack[depth:]
        if stack:
            assert getattr(errors, found[0]).__bases__[0].__name__ == stack[-1]
        stack.append(found[0])


def test_internal_error_is_not_caught_with_the_expected_ones() -> None:
    assert not issubclass(InternalError, FastmoveError)


def test_configuration_error_is_a_value_error_that_names_the_field() -> None:
    error = ConfigurationError("peer", "no port")
    assert isinstance(error, ValueError)
    assert error.field == "peer"


@pytest.mark.parametrize("error_class", [ListenFailed, ConnectFailed])
def test_network_error_keeps_its_cause(error_class: type[ListenFailed | ConnectFailed]) -> None:
    error = error_class("pacs", 104, REFUSED)
    assert error.__cause__ is REFUSED
    assert (error.host, error.port) == ("pacs", 104)
    assert str(error_class("pacs", 104, OSError("no errno"))).endswith(": no errno")


# A-ASSOCIATE-RJ


@pytest.mark.parametrize(("source", "reason"), REJECT_REASON)
def test_every_rejection_of_table_9_21_is_put_into_words(source: int, reason: int) -> None:
    error = AssociationRejected(2, source, reason)
    assert str(error) == f"association rejected for now: {REJECT_REASON[source, reason]}"
    assert (error.result, error.source, error.reason) == (2, source, reason)


def test_rejection_that_the_standard_does_not_know_is_told_in_numbers() -> None:
    assert str(AssociationRejected(7, 1, 9)) == "association result 7: undefined reason 1/9"


@pytest.mark.parametrize(("result", "transient"), [(1, False), (2, True), (0, False)])
def test_only_a_transient_rejection_is_worth_another_try(result: int, transient: bool) -> None:
    assert AssociationRejected(result, 1, 1).transient is transient


def test_abort_of_ours_says_why() -> None:
    error = AssociationAborted(0, 0, by_peer=False, why="stopping")
    assert str(error) == "association aborted by us (source 0, reason 0): stopping"
    assert not error.by_peer


# A-ABORT


@pytest.mark.parametrize("key", ABORT_REASON)
def test_broken_rule_of_ps3_8_is_answered_by_the_provider_with_its_reason(key: str) -> None:
    error = RemoteProtocolError(key, offset=12)
    assert (error.key, error.offset) == (key, 12)
    assert (error.source, error.reason) == (SERVICE_PROVIDER, ABORT_REASON[key])
    assert AAbort(error.source, error.reason).encode()[-2:] == bytes((2, error.reason))


def test_abort_reasons_are_those_of_table_9_26() -> None:
    assert set(ABORT_REASON.values()) <= {1, 2, 4, 5, 6}


@pytest.mark.parametrize("key", ["dimse.malformed", "dimse.no_command", "dimse.order", "dimse.cmd_too_long", "unheard"])
def test_broken_rule_of_ps3_7_is_answered_by_the_user_without_a_reason(key: str) -> None:
    error = RemoteProtocolError(key)
    assert (error.source, error.reason) == (SERVICE_USER, 0)
    assert str(error) == key


def test_source_may_be_given() -> None:
    error = RemoteProtocolError("pdu.short", source=SERVICE_USER)
    assert (error.source, error.reason) == (SERVICE_USER, 0)
    error = RemoteProtocolError("dimse.order", source=SERVICE_PROVIDER)
    assert (error.source, error.reason) == (SERVICE_PROVIDER, 0)


# Responses


def test_error_comment_has_at_most_64_characters() -> None:
    error = DimseError(0x0110, "x" * 100, (0x00080018,))
    assert error.error_comment == "x" * 64
    assert error.offending_elements == (0x00080018,)
    assert str(DimseError(0x0110)) == "status 0110"


def test_storage_error_keeps_key_and_errno() -> None:
    error = StorageError("fs.write", 0xA700, "ENOSPC", 28)
    assert (error.key, error.status, error.errno) == ("fs.write", 0xA700, 28)
    assert isinstance(error, DimseError)
