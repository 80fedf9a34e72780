"""What to do when a retrieve does not end well, in the words of the person who has to do it."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final

from fastmove.dimse.move import Verdict
from fastmove.dimse.status import MOVE_DESTINATION_UNKNOWN, UNABLE_TO_PERFORM_SUBOPERATIONS
from fastmove.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    DirectoryLocked,
    DirectoryUnusable,
    FastmoveError,
    ListenFailed,
    NoAcceptedContext,
    StorageNotReady,
    TimedOut,
    TlsFailed,
    TlsUnusable,
)
from fastmove.services.retrieve.config import RetrieveResult
from fastmove.services.retrieve.unit import UnitResult
from fastmove.types import PeerAddress

AGAIN: Final = "run the same command again: what is here is not fetched once more"

UNLISTED: Final = "make room for it, and " + AGAIN + ", but gets its line"

_DOCTOR: Final = "`{doctor}` finds out"

_ADVICE: Final[dict[int | str, str]] = {
    MOVE_DESTINATION_UNKNOWN: "the PACS does not know the move destination {destination!r}: enter this AE title with "
    "the address of {host} in the PACS, or give one that it knows with {option}",
    UNABLE_TO_PERFORM_SUBOPERATIONS: "the PACS could not send everything; " + AGAIN,
    "move.incomplete": AGAIN,
    "move.association_lost": AGAIN,
    "move.timeout": AGAIN + "; how long a response may take says --limit response_s=SECONDS",
    "move.cancelled": AGAIN,
    "stop.signal": AGAIN,
    "move.storage_failed": "make room on the disk, or mend it, and " + AGAIN,
    "fs.low": "make room on the disk, or say with --reserve how much is to be left, and " + AGAIN,
    "move.empty": "the PACS has nothing of it: is what was asked for right?",
    "move.rejected": "the PACS sent objects that are not what it says they are, or not whole; the warnings say what is "
    "wrong with them: tell its administrator",
    "store.too_big": "an object is longer than --max-object allows: allow more, and " + AGAIN,
    "move.stalled": "the PACS goes on saying that it is about to send; ask its administrator, then " + AGAIN,
    "move.policy": "the PACS sent what our rules refuse, such as another object under a UID that is here already: "
    "see --on-duplicate",
    "rq.host": "give the addresses or the network that the PACS sends from with --accept-host, or `any`; in "
    "fastmove.toml that is accept_host of the peer",
    "rq.calling_ae": "--accept-from has to name every AE title by which the PACS sends, or be left out",
    "rq.called_ae": "the PACS has {destination!r} entered with the address of {host}, and calls it something else",
    "store.duplicate_differs": "what is here under the same UID is another object, or was changed or cut short since: "
    "look at both, and remove one",
}
"""By the final status of a C-MOVE, or by the log event that decides the verdict."""

_NOTHING_CAME: Final = (
    "nothing came at all: the PACS may not reach {host} (firewall, or another address or port entered for "
    "{destination!r} in the PACS); " + _DOCTOR
)

IMPATIENT_S: Final = 5.0
"""Who stops a retrieve of which nothing has come, after that may want to know why."""

_OURS: Final = frozenset((Verdict.STORAGE_FAILED, Verdict.POLICY))
"""Verdicts that the PACS has no part in, whatever it answers then."""

_BY_REJECTION: Final = {  # (source, reason), PS3.8 Table 9-21
    (1, 3): "the PACS does not know us as {aet!r}: enter this AE title with the address of {host} in the PACS, "
    "or give the one that it knows with --aet",
    (1, 7): "the PACS goes by another AE title than {called!r}: say the right one before the @ (capitals count)",
}

_BY_ERRNO: Final = {
    errno.EADDRINUSE: "another program listens there, perhaps another fastmove (`ss -ltnp` shows it): end it, or give "
    "another --port and enter that in the PACS",
    errno.EACCES: "ports below 1024 are for root: give another --port and enter that in the PACS",
    errno.EADDRNOTAVAIL: "--host has to be an address of this host",
}


def _of_rejection(error: FastmoveError) -> str:
    assert isinstance(error, AssociationRejected)
    if error.transient:
        return "the PACS takes no more associations now: wait for others to end, then " + AGAIN
    return _BY_REJECTION.get((error.source, error.reason), _DOCTOR)


def _of_port(error: FastmoveError) -> str:
    return _BY_ERRNO.get(getattr(error.__cause__, "errno", None) or 0, "")


_BY_TLS_EVENT: Final = {
    "tls.not_tls": "is this the plain port of the PACS? Leave out --tls, or ask for its TLS port (2762 is usual)",
    "tls.name": "say by which name the PACS goes with --tls-server-name, or do not check it: --no-tls-check-name",
    "tls.cert": "give the authority of the PACS's certificate with --tls-ca, or pin the certificate with --tls-pin",
    "tls.refused": "the PACS has to trust the authority of our certificate (--tls-cert)",
}


def _of_tls(error: FastmoveError) -> str:
    assert isinstance(error, TlsFailed)
    hint = _BY_TLS_EVENT.get(error.key, "")
    return f"{hint}{'; ' if hint else ''}`fastmove doctor` with the same options says more"


def _of_abort(error: FastmoveError) -> str:
    assert isinstance(error, AssociationAborted)
    if error.why == "userid.no_response":
        return "the PACS does not say that it knows the user: see --user-identity-file, and the log of the PACS"
    return "some PACS do so if they do not know us as {aet!r}; " + _DOCTOR


def _is_reserve(error: FastmoveError) -> bool:
    return isinstance(error, StorageNotReady) and error.key == "fs.low"


_ERRORS: Final[tuple[tuple[type[FastmoveError], Callable[[FastmoveError], str]], ...]] = (
    (AssociationRejected, _of_rejection),
    (ConnectFailed, lambda _: "is the PACS running, and are its address and port right?  " + _DOCTOR),
    (TimedOut, lambda _: "is that the port of the PACS, and for DICOM?  " + _DOCTOR),
    (AssociationAborted, _of_abort),
    (TlsFailed, _of_tls),
    (TlsUnusable, lambda _: "see to the file, or give another one; docs/how-to/tls.md says what is needed"),
    (ConnectionLost, lambda _: "some PACS do so if they do not know us as {aet!r}; " + _DOCTOR),
    (NoAcceptedContext, lambda _: "does the PACS offer Query/Retrieve?  Perhaps by another --model.  " + _DOCTOR),
    (ListenFailed, _of_port),
    (StorageNotReady, lambda error: _ADVICE["fs.low"] if _is_reserve(error) else AGAIN),
    (DirectoryLocked, lambda _: "wait until it has ended, or give another folder with --to"),
    (DirectoryUnusable, lambda _: "give another folder with --to, or see to this one: may you write there?"),
)
"""The first class that fits."""


def for_error(error: FastmoveError, *, established: bool) -> str:
    """What to do about an error that ended a run before there was anything to judge; empty if it says so itself."""
    if established and not isinstance(error, NoAcceptedContext | ListenFailed | StorageNotReady):
        return AGAIN
    return next((advice(error) for kind, advice in _ERRORS if isinstance(error, kind)), "")


def for_result(
    result: RetrieveResult, odd: Iterable[UnitResult], *, nothing_came: bool, stopped: bool
) -> Iterator[str]:
    """What to do about a verdict, if anything is to be done; `stopped`: somebody wanted it so."""
    if result.all_complete and result.judgement.verdict is Verdict.COMPLETE:
        return
    if stopped:
        yield AGAIN
    if isinstance(result.error, StorageNotReady):
        yield _ADVICE["fs.low"]
        return
    outcomes = (unit.evidence.outcome for unit in odd if unit.evidence is not None)
    statuses = {outcome.status for outcome in outcomes if outcome is not None}
    verdict = result.judgement.verdict
    if nothing_came and MOVE_DESTINATION_UNKNOWN not in statuses and verdict not in _OURS:
        if not stopped or result.seconds > IMPATIENT_S or UNABLE_TO_PERFORM_SUBOPERATIONS in statuses:
            yield _NOTHING_CAME
        return
    # To ask again for what is refused for what it is does not help.
    reasons = sorted(result.judgement.reasons, key=lambda reason: reason != "move.rejected")
    keys: Sequence[Any] = (*reasons, *statuses) if verdict in _OURS else (*statuses, *reasons)
    last = AGAIN if result.unattempted or result.selection_failed else ""
    advice = next((_ADVICE[key] for key in keys if key in _ADVICE), last)
    if advice and not (stopped and advice is AGAIN):
        yield advice


def texts(peer: PeerAddress, aet: str, destination: str, port: int | None) -> dict[str, str]:
    """What stands in the words for {...}; `port` is None if the objects go to a third party."""
    return {
        "aet": aet,
        "called": peer.ae_title,
        "destination": destination,
        "doctor": f"fastmove doctor {peer} --aet {aet}" + (f" --port {port}" if port else ""),
        "host": f"this host and port {port}" if port is not None else destination,
        "option": "--aet or --destination" if port is not None else "--destination",
    }
