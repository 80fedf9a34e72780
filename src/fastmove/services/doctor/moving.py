"""Probes of C-MOVE: our listener, a test move, whether the PACS reaches us, and whether everything comes."""

from __future__ import annotations

import asyncio
import errno
import os
import tempfile
import time
from pathlib import Path
from typing import Final

from fastmove.dimse import identifier
from fastmove.dimse.move import MoveOutcome, Verdict, judge
from fastmove.dimse.status import UNABLE_TO_PERFORM_SUBOPERATIONS, StatusClass, describe
from fastmove.errors import (
    AssociationError,
    DimseError,
    DirectoryUnusable,
    FastmoveError,
    ListenFailed,
    ProtocolError,
    TimedOut,
    TlsUnusable,
)
from fastmove.services.doctor.arrivals import MoveRecord
from fastmove.services.doctor.findings import (
    Advice,
    Finding,
    Numbers,
    at_pacs,
    counted,
    here,
    note,
    ok,
    problem,
    quoted,
    seconds,
    skipped,
)
from fastmove.services.doctor.securing import of_sender
from fastmove.services.doctor.visit import Visit
from fastmove.services.listener import listen
from fastmove.services.move_scu import Move
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.uids import QUERY_RETRIEVE
from fastmove.ul.negotiation import AcceptPolicy

PATIENCES_PER_MOVE: Final = 10
"""However well it goes, a test move is given up after so many times the patience."""

PRIVILEGED: Final = 1024
SHOWN: Final = 3

# ------------------------------------------------------------------ the listener


async def open_listener(visit: Visit) -> Finding:
    """Our port, with the listener that `retrieve` has; it stays open until the end of the visit."""
    config = visit.config
    port = config.port or 0
    try:
        target = visit.stack.enter_context(StorageTarget(_folder(visit), _options(visit)))
        # Whatever it calls us: who calls a wrong title is to be found out, not to be sent away.
        policy = AcceptPolicy(config.destination, any_called_ae_title=True, max_pdu_length=visit.limits.max_pdu_length)
        arrivals = visit.arrivals
        listening = listen(
            config.host,
            port,
            target,
            policy,
            visit.limits,
            arrivals,
            arrivals.on_stored,
            watch=arrivals,
            tls=config.listener_tls,
        )
        acceptor = visit.acceptor = await visit.stack.enter_async_context(listening)
    except ListenFailed as error:
        number = getattr(error.__cause__, "errno", None)
        advice = _LISTEN_FAILURES.get(number, here("choose another --port or --host; the PACS has to know the port"))
        return problem(f"we {error}", advice, cause=error)
    except TlsUnusable as error:
        return problem(str(error), here("see to our certificate and key: --tls-cert, --tls-key, --tls-ca"), cause=error)
    except DirectoryUnusable as error:
        return problem(str(error), here("choose another folder with --to"), cause=error)
    arrivals.receipts.arriving = acceptor.arriving
    by_tls = " by TLS" if config.listener_tls is not None else ""
    words = f"we listen{by_tls} on {visit.our_address}; that is what the PACS must have for {config.destination!r}"
    return ok(words, port=acceptor.port)


_LISTEN_FAILURES: Final[dict[int | None, Advice]] = {
    errno.EADDRINUSE: here("another program has this port: stop it (another listener?), or choose another --port"),
    errno.EACCES: here(f"ports below {PRIVILEGED} need privileges: choose a higher --port, such as 11112"),
    errno.EADDRNOTAVAIL: here("this host has no such address: leave --host out to listen on all of them"),
}


def _folder(visit: Visit) -> Path:
    if visit.config.directory is not None:
        return visit.config.directory
    try:
        return Path(visit.stack.enter_context(tempfile.TemporaryDirectory(prefix="fastmove-doctor-")))
    except OSError as error:
        raise DirectoryUnusable(f"no temporary folder: {os.strerror(error.errno or 0)}") from error


def _options(visit: Visit) -> WriteOptions:
    """The disk is not what is examined: nothing is synced, and nothing kept unless it is asked for."""
    return WriteOptions(durable=False, keep=visit.config.directory is not None)


# ------------------------------------------------------------------ the move


async def move(visit: Visit) -> Finding:
    """C-MOVE of one study: does the PACS take it, and know the destination?"""
    study = visit.study
    assert study is not None
    expected = visit.instances if visit.whole else frozenset()
    moved = visit.moved = await _moved(visit, visit.keys(study), "STUDY", expected)
    outcome, destination = moved.outcome, visit.config.destination
    if outcome is None:
        return _unanswered(visit, moved)
    failure = outcome.status_class not in (StatusClass.SUCCESS, StatusClass.WARNING)
    tried = moved.arrived or moved.opened or moved.oddities or outcome.failed
    if failure and not tried and outcome.status != UNABLE_TO_PERFORM_SUBOPERATIONS:
        advice = _REFUSALS.get(outcome.status or 0, _REFUSED)
        return problem(f"C-MOVE is refused: {_status(outcome)}", *_told(visit, advice), cause=_failure(outcome))
    assert moved.ended is not None
    words = f"it takes a C-MOVE to {destination!r}: {_status(outcome)}, after {seconds(moved.ended - moved.started)}"
    return ok(words, status=f"{outcome.status or 0:04X}", move_s=round(moved.ended - moved.started, 6))


async def _moved(visit: Visit, keys: tuple[str, ...], level: str, expected: frozenset[str]) -> MoveRecord:
    """One C-MOVE to our listener, followed until nothing more is to come."""
    arrivals = visit.arrivals
    arrivals.receipts.originator = visit.config.ae_title
    arrivals.forget()
    receipts = arrivals.receipts
    receipts.expected = expected
    patience_s = visit.config.patience_s
    limits = visit.limits.replace(drain_s=min(visit.limits.drain_s, patience_s))
    test = Move(receipts, limits, visit.notify)
    test.expected = expected or None
    association, context = await visit.context(QUERY_RETRIEVE[visit.move_model].move)
    target = identifier.retrieve(keys, model=visit.move_model, level=level)
    request = identifier.encode(target, context.transfer_syntax)
    ended: float | None = None
    error: FastmoveError | None = None
    started = time.perf_counter()
    try:
        async with asyncio.timeout(PATIENCES_PER_MOVE * patience_s):
            await test.exchange(association, context, visit.config.destination, request)
        ended = time.perf_counter()
    except TimeoutError:
        error = TimedOut("progress_s", PATIENCES_PER_MOVE * patience_s)
    except (AssociationError, ProtocolError) as lost:
        error = lost
    if error is not None:
        await visit.hang_up()
    if error is None or arrivals.opened:
        await test.drain()
    return MoveRecord(
        test.operation.message_id if test.operation is not None else 0,
        test.evidence(),
        started,
        ended,
        error,
        tuple(arrivals.stored),
        tuple(arrivals.opened),
        tuple(arrivals.requests),
        tuple(arrivals.refused),
        tuple(arrivals.oddities),
        arrivals.unlisted,
    )


def _unanswered(visit: Visit, moved: MoveRecord) -> Finding:
    error = moved.error
    assert error is not None
    if moved.arrived:
        words = f"objects come, but no final response to the C-MOVE: {error}"
        return note(
            words, at_pacs("see its log"), here("by the list of --prove, retrieve asks once more for what has not come")
        )
    if moved.opened:
        return problem(f"it connects to us, sends nothing, and does not answer: {error}", _LOG, cause=error)
    advice = _told(visit, _UNREACHABLE)
    return problem(f"it takes the C-MOVE, then nothing comes of it: {error}", *advice, cause=error)


def _status(outcome: MoveOutcome) -> str:
    if outcome.status is None:
        return "a final response without a status"
    name = describe(outcome.status, "C-MOVE")[1]
    comment = f" ({quoted(outcome.error_comment)})" if outcome.error_comment else ""
    return f"{name}{comment}" if not outcome.status else f"status {outcome.status:04X}H, {name}{comment}"


def _failure(outcome: MoveOutcome) -> DimseError:
    return DimseError(outcome.status or 0, outcome.error_comment)


def _told(visit: Visit, advice: tuple[Advice, ...]) -> list[Advice]:
    """Advice with our names and addresses in it."""
    names = {"entry": f"{visit.config.destination!r} with {visit.our_address}", "ours": visit.config.ae_title}
    names["port"] = str(visit.acceptor.port if visit.acceptor is not None else visit.config.port)
    return [Advice(each.side, each.text.format(**names)) for each in advice]


_LOG: Final = at_pacs("see its log for this C-MOVE")
_ENTER: Final = at_pacs(
    "enter {entry} as a DICOM node that it may send to (move destination); many PACS need a restart for that"
)
_UNREACHABLE: Final = (
    at_pacs("it must be able to connect to us: check that it has {entry}; upper and lower case count"),
    here("open TCP port {port} for the PACS in the firewall of this host, and in those between"),
    here("if this host is behind NAT, in a container or a VPN, the PACS must have the address that it sees"),
    _LOG,
)
_ELSEWHERE: Final = (
    at_pacs("who gets what it sends to that AE title? Check that it has {entry}, and no other host or port"),
    at_pacs("does it answer first and send later? Its log, or its list of jobs, says what became of this one"),
)
_REFUSED: Final = (_ENTER, *_UNREACHABLE[1:])
"""Some PACS refuse for one reason what they say to refuse for another."""

# Status of a C-MOVE that is refused at once (PS3.4 Table C.4-2) → what to do.
_REFUSALS: Final[dict[int, tuple[Advice, ...]]] = {
    0xA801: (_ENTER, here("if it has another AE title for this host and port, say so: --destination")),
    0xA701: (at_pacs("it is out of resources"), _LOG),
    0x0122: (at_pacs("allow C-MOVE for {ours!r}"),),
    0x0124: (at_pacs("allow C-MOVE for {ours!r}"),),
    0x0211: (here("is this the archive? What answers has no C-MOVE"),),
    0xA900: (at_pacs("it does not take the keys of the request: see its conformance statement and its log"),),
}


# ------------------------------------------------------------------ what comes


async def arrival(visit: Visit) -> Finding:
    """Whether the PACS reaches our listener, and who it is that connects."""
    moved, config = visit.study_moved[1], visit.config
    if not moved.arrived:
        return _nothing(visit, moved)
    first_s = round(moved.arrived[0].at - moved.started, 6)
    hosts = sorted({each.host for each in moved.opened})
    titles = sorted({each.calling_ae_title for each in moved.opened})
    called = sorted({each.called_ae_title for each in moved.opened} - {config.destination})
    numbers: Numbers = {"first_object_s": first_s, "hosts": ", ".join(hosts), "calling": ", ".join(titles)}
    who = f"{', '.join(map(quoted, titles))} connects from {', '.join(hosts)}"
    if called:
        return problem(
            f"it reaches us, but calls us {', '.join(map(quoted, called))}, not {config.destination!r}",
            at_pacs(f"correct the AE title of this host to {config.destination!r}, upper and lower case count"),
            here(f"as it is now, --aet {called[0]} would do"),
            cause=Verdict.REFUSED,
            **numbers,
        )
    expected = {str(address[4][0]) for address in visit.addresses}
    if strange := [host for host in hosts if host not in expected]:
        options = " ".join(f"--accept-host {host}" for host in strange)
        firewall = here(f"firewall rules have to let in {', '.join(strange)}, not only {config.peer.host}")
        return note(
            f"objects come from another address: {who}",
            here(f"retrieve takes objects from there with {options}, or accept_host of this peer in fastmove.toml"),
            firewall,
            **numbers,
        )
    return ok(f"{who}; the first object after {seconds(first_s)}", **numbers)


def _nothing(visit: Visit, moved: MoveRecord) -> Finding:
    """Why there are no objects."""
    outcome = moved.outcome
    assert outcome is not None
    cause = _failure(outcome) if outcome.status else Verdict.INCOMPLETE
    said = _status(outcome)
    if moved.refused:
        refusal = moved.refused[0]
        words = f"we refuse its objects: {refusal.event}, {refusal.detail}"
        return problem(words, at_pacs("what it sends breaks the standard: its vendor has to know"), cause=cause)
    if moved.opened:
        contexts = sum(each.contexts for each in moved.opened)
        odd = "".join(f"; {each.event} {each.detail}" for each in moved.oddities[:SHOWN])
        words = f"it connects to us with {counted(contexts, 'usable presentation context')}, but sends nothing{odd}"
        return problem(f"{words}; it ends with {said}", _LOG, cause=cause)
    if moved.oddities:
        first = next((each for each in moved.oddities if of_sender(each.event)), moved.oddities[0])
        what = "but by another TLS" if of_sender(first.event) else "but not in DICOM"
        words = f"our port is connected to from {first.host}, {what}: {first.event} {first.detail}"
        sends_tls = (at_pacs("does it send by TLS? Our port is a plain one"), here("or receive by TLS: --tls-receive"))
        advice = of_sender(first.event) or (sends_tls if "0x16" in first.detail else (_LOG,))
        return problem(words, *advice, cause=cause)
    if not outcome.status and not outcome.failed and not outcome.completed:
        words = "it says success, and that nothing matched, of a study that it has"
        other = at_pacs("are the images still there, or archived, offline or in another store?")
        return problem(words, other, _LOG, cause=cause)
    if moved.evidence.delivered:
        words = f"it says that {counted(moved.evidence.delivered, 'object')} were sent, and nothing has come to us"
        return problem(words, *_told(visit, _ELSEWHERE), cause=cause)
    failed = f", {counted(outcome.failed, 'object')} failed" if outcome.failed else ""
    return problem(f"nothing has come to us; it ends with {said}{failed}", *_told(visit, _UNREACHABLE), cause=cause)


async def complete(visit: Visit) -> Finding:
    """Whether everything comes: what `retrieve` would say of it."""
    _, moved = visit.study_moved
    verdict, reasons, missing = judge(moved.evidence)
    came = len({each.object.sop_instance_uid for each in moved.arrived})
    expected = moved.evidence.expected
    numbers: Numbers = {"verdict": verdict.name, "objects": came, "missing": len(missing), "unlisted": moved.unlisted}
    of = f" of {len(expected):,} that it lists" if expected is not None else ""
    words = f"{verdict.name}: {counted(came, 'object')}{of}"
    if missing:
        words += "; missing: " + ", ".join(sorted(missing)[:SHOWN]) + (", ..." if len(missing) > SHOWN else "")
    if moved.unlisted:
        words += f"; {counted(moved.unlisted, 'object')} came that it does not list"
    if verdict in (Verdict.COMPLETE, Verdict.COUNTED, Verdict.UNVERIFIED):
        advice = [here("run again when the study does not grow any more")] if moved.unlisted else []
        return note(words, *advice, **numbers) if moved.unlisted else ok(words, **numbers)
    if moved.refused:
        words += f"; we refused {counted(len(moved.refused), 'object')}: {moved.refused[0].event}"
    words += f" ({', '.join(reasons)})" if reasons else ""
    return problem(words, *_INCOMPLETE.get(verdict, _MISSING), cause=verdict, **numbers)


_AGAIN: Final = here("retrieve asks again for what is missing, as often as --rounds says, if it has a list (--prove)")
_MISSING: Final = (
    at_pacs("see its log for these objects: often one in a transfer syntax or SOP class that it does not propose"),
    _AGAIN,
)
_BROKEN: Final = (at_pacs("see its log for why the C-MOVE ended"), _AGAIN)
_INCOMPLETE: Final = {
    Verdict.UNKNOWN: _BROKEN,
    Verdict.STALLED: _BROKEN,
    Verdict.STORAGE_FAILED: (here("is there room in the folder for the objects?"),),
}


async def uid_lists(visit: Visit) -> Finding:
    """C-MOVE at IMAGE level with a list of two SOP Instance UIDs (PS3.4 C.4.2.2.1)."""
    study, _ = visit.study_moved
    series, instances = max(visit.series.items(), key=lambda item: len(item[1]), default=("", frozenset()))
    two = sorted(instances)[:2]
    if len(two) < 2:
        return skipped("no series with two instances is listed")
    uids = "\\".join(two)
    keys = visit.keys(study, f"SeriesInstanceUID={series}", f"SOPInstanceUID={uids}")
    moved = await _moved(visit, keys, "IMAGE", frozenset(two))
    came = {each.object.sop_instance_uid for each in moved.arrived}
    if came == set(two):
        visit.profile["uid_lists"] = True
        return ok("single instances come by one C-MOVE with a list of their UIDs", uid_lists=True)
    why = moved.error or (_status(moved.outcome) if moved.outcome is not None else "no final response")
    words = f"of a list of two instances {len(came)} come ({why})"
    if moved.error is not None or (not came and moved.evidence.delivered):
        return note(f"{words}: whether it takes lists cannot be told")
    visit.profile["uid_lists"] = False
    return note(f"{words}: single instances need a C-MOVE each", uid_lists=False)
