"""What a run tells its caller: outcome to exit code.

1 to 70 are movescu's where it has one; 71 to 76 are those that movescu does not use.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from fastmove.dimse.move import UNPROVED, Judgement, Verdict
from fastmove.errors import (
    AssociationAborted,
    AssociationRejected,
    CommitmentOverdue,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    DatasetError,
    DimseError,
    DirectoryUnusable,
    FastmoveError,
    LedgerError,
    ListenFailed,
    NoAcceptedContext,
    ProtocolError,
    QueryIncomplete,
    StorageError,
    StorageNotReady,
    TimedOut,
    TlsFailed,
    TlsUnusable,
)

if TYPE_CHECKING:
    from fastmove.services.retrieve.config import RetrieveResult


class ExitCode(IntEnum):
    """Every exit code."""

    SUCCESS = 0
    USAGE = 1
    PORT_NEEDS_PRIVILEGE = 2
    OUTPUT_NOT_WRITABLE = 40
    OUTPUT_UNUSABLE = 45
    CANNOT_LISTEN = 60
    CANNOT_ASSOCIATE = 61
    BAD_ASSOCIATION_PARAMETERS = 65
    NO_PRESENTATION_CONTEXT = 66
    CANNOT_RELEASE = 67
    WARNING = 68
    REFUSED = 69
    CANNOT_START_TLS = 70
    INCOMPLETE = 71
    UNKNOWN = 72
    STORAGE_FAILED = 73
    STALLED = 74
    POLICY = 75
    SLOWER = 76


VERDICTS: Final[dict[Verdict, ExitCode]] = {
    Verdict.COMPLETE: ExitCode.SUCCESS,
    Verdict.COUNTED: ExitCode.SUCCESS,
    Verdict.UNVERIFIED: ExitCode.SUCCESS,
    Verdict.CANCELLED: ExitCode.SUCCESS,
    Verdict.WARNING: ExitCode.WARNING,
    Verdict.REFUSED: ExitCode.REFUSED,
    Verdict.INCOMPLETE: ExitCode.INCOMPLETE,
    Verdict.UNKNOWN: ExitCode.UNKNOWN,
    Verdict.STALLED: ExitCode.STALLED,
    Verdict.STORAGE_FAILED: ExitCode.STORAGE_FAILED,
    Verdict.POLICY: ExitCode.POLICY,
}

# Of several moves in one run the gravest counts.
GRAVEST_FIRST: Final = (
    ExitCode.STORAGE_FAILED,
    ExitCode.POLICY,
    ExitCode.STALLED,
    ExitCode.UNKNOWN,
    ExitCode.INCOMPLETE,
    ExitCode.REFUSED,
    ExitCode.WARNING,
    ExitCode.SUCCESS,
)

# The first class that fits; what an established association ends in is another matter than none at all.
_ERRORS: Final[tuple[tuple[type[FastmoveError], ExitCode, ExitCode], ...]] = (
    # class, before the association is established, afterwards
    (DirectoryUnusable, ExitCode.OUTPUT_UNUSABLE, ExitCode.OUTPUT_UNUSABLE),
    (TlsUnusable, ExitCode.CANNOT_START_TLS, ExitCode.CANNOT_START_TLS),
    (ConfigurationError, ExitCode.USAGE, ExitCode.USAGE),
    (DatasetError, ExitCode.USAGE, ExitCode.USAGE),
    (ListenFailed, ExitCode.CANNOT_LISTEN, ExitCode.CANNOT_LISTEN),
    (NoAcceptedContext, ExitCode.NO_PRESENTATION_CONTEXT, ExitCode.NO_PRESENTATION_CONTEXT),
    (ConnectFailed, ExitCode.CANNOT_ASSOCIATE, ExitCode.CANNOT_ASSOCIATE),
    (TlsFailed, ExitCode.CANNOT_ASSOCIATE, ExitCode.UNKNOWN),
    (AssociationRejected, ExitCode.CANNOT_ASSOCIATE, ExitCode.CANNOT_ASSOCIATE),
    (AssociationAborted, ExitCode.CANNOT_ASSOCIATE, ExitCode.UNKNOWN),
    (ConnectionLost, ExitCode.CANNOT_ASSOCIATE, ExitCode.UNKNOWN),
    (TimedOut, ExitCode.CANNOT_ASSOCIATE, ExitCode.UNKNOWN),
    (ProtocolError, ExitCode.CANNOT_ASSOCIATE, ExitCode.UNKNOWN),
    (QueryIncomplete, ExitCode.INCOMPLETE, ExitCode.INCOMPLETE),
    (CommitmentOverdue, ExitCode.STALLED, ExitCode.STALLED),
    (StorageError, ExitCode.STORAGE_FAILED, ExitCode.STORAGE_FAILED),
    (StorageNotReady, ExitCode.STORAGE_FAILED, ExitCode.STORAGE_FAILED),
    (LedgerError, ExitCode.STORAGE_FAILED, ExitCode.STORAGE_FAILED),
    (DimseError, ExitCode.REFUSED, ExitCode.REFUSED),
)


def for_outcome(judgement: Judgement, *, require_proof: bool = False) -> ExitCode:
    """The exit code of one move; with `require_proof` only a complete list is success."""
    if require_proof and judgement.verdict in UNPROVED:
        return ExitCode.INCOMPLETE
    return VERDICTS[judgement.verdict]


def of_movescu(status: int | None) -> ExitCode:
    """What movescu of DCMTK makes of the final status of a C-MOVE; None: there was none."""
    if status in (None, 0x0000, 0xFE00):
        return ExitCode.SUCCESS
    return ExitCode.WARNING if status == 0xB000 else ExitCode.REFUSED


def for_error(error: FastmoveError, *, established: bool) -> ExitCode:
    """The exit code of an error, before or after the association was established.

    Who waits for a response has one, whatever the caller knows.
    """
    established = established or getattr(error, "timer", "") == "response_s"
    for error_class, before, after in _ERRORS:
        if isinstance(error, error_class):
            return after if established else before
    return ExitCode.UNKNOWN


def gravest(codes: Iterable[ExitCode]) -> ExitCode:
    """The one that counts of the moves of a run; a move that could not even start is graver than any verdict."""
    return min(
        codes, key=lambda code: GRAVEST_FIRST.index(code) if code in GRAVEST_FIRST else -1, default=ExitCode.SUCCESS
    )


def for_retrieve(result: RetrieveResult, *, require_proof: bool = False, interrupted: bool = False) -> ExitCode:
    """The gravest of all units; what was stopped or not found is no success."""
    codes = [for_outcome(Judgement(verdict), require_proof=require_proof) for verdict in result.verdicts]
    codes.append(for_outcome(result.judgement, require_proof=require_proof))
    if result.unresolved:
        codes.append(ExitCode.INCOMPLETE)
    if isinstance(result.error, StorageNotReady) and not result.all_complete:
        codes.append(ExitCode.STORAGE_FAILED)
    if interrupted and not result.all_complete:
        codes.append(ExitCode.UNKNOWN)
    stopped = result.unattempted or result.selection_failed or Verdict.CANCELLED in result.verdicts
    if stopped and gravest(codes) in (ExitCode.SUCCESS, ExitCode.WARNING):
        codes.append(ExitCode.UNKNOWN)
    return gravest(codes)
