"""Probes of the association: whether there is one, what comes of its negotiation, C-ECHO, and how many at once."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from fastmove.errors import (
    REJECT_REASON,
    AssociationError,
    AssociationRejected,
    DimseError,
    FastmoveError,
    NoAcceptedContext,
    ProtocolError,
    TimedOut,
)
from fastmove.net.requestor import AssociationHandle
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
)
from fastmove.services.doctor.visit import MODELS, Visit, leave
from fastmove.services.verification import echo_on
from fastmove.types import PresentationContext
from fastmove.uids import QUERY_RETRIEVE, TRANSFER_SYNTAXES, VERIFICATION
from fastmove.ul.items import AsynchronousOperationsWindow

ECHOES: Final = 3
SMALL_PDU_BYTES: Final = 16384
"""A PACS that takes less costs time with every identifier, and mostly sends as short PDUs as it takes."""

WAITING_S: Final = 0.5
WAITING: Final = 10.0
"""An association that takes longer than that, and so many times as long as others, has to wait for one of them."""

OPERATIONS: Final = 8
"""Proposed as asynchronous operations window, to see what is made of it."""


async def associate(visit: Visit) -> Finding:
    """Whether it gives us an association, and if not, why."""
    ours, theirs = visit.config.ae_title, visit.config.peer.ae_title
    refusal = visit.refusal
    if refusal is None:
        return ok(f"accepted: we are {ours}, it is {theirs}")
    entry = f"enter the AE title {ours!r} with {visit.our_address}"
    if isinstance(refusal, AssociationRejected):
        key = refusal.source, refusal.reason
        advice = _REJECTIONS.get(key, _UNSAID)
        why = REJECT_REASON.get(key, f"reason {refusal.source}/{refusal.reason}, which the standard does not have")
        when = "for now" if refusal.transient else "for good"
        words = f"rejected {when}: {why}"
        numbers: Numbers = {"result": refusal.result, "source": refusal.source, "reason": refusal.reason}
    else:
        advice, words, numbers = _UNSAID, f"it aborts: {refusal}", {}
    told = (Advice(each.side, each.text.format(entry=entry, ours=ours, theirs=theirs)) for each in advice)
    return problem(words, *told, cause=refusal, **numbers)


_UNSAID: Final = (
    at_pacs("mostly it does not know us: {entry}; its log says more"),
    here("is {theirs!r} what the PACS calls itself? Upper and lower case count"),
)
_FULL: Final = (
    here("try again later; other programs, or earlier runs of ours, may hold associations open"),
    at_pacs("raise the number of associations that it serves at once"),
)
_VERSION: Final = (at_pacs("no DICOM node may reject that (PS3.8 9.3.2): its vendor has to know"),)

# (source, reason) of A-ASSOCIATE-RJ (PS3.8 Table 9-21) → what to do.
_REJECTIONS: Final[dict[tuple[int, int], tuple[Advice, ...]]] = {
    (1, 1): _UNSAID,
    (1, 2): _VERSION,
    (1, 3): (
        at_pacs("{entry}, as a node that may query and retrieve"),
        here("if it knows this host by another AE title, say so: --aet"),
    ),
    (1, 7): (here("{theirs!r} is not what the PACS calls itself: ask for its AE title, upper and lower case count"),),
    (2, 1): _UNSAID,
    (2, 2): _VERSION,
    (3, 1): _FULL,
    (3, 2): _FULL,
}


async def contexts(visit: Visit) -> Finding:
    """Which services it offers, and in which transfer syntaxes."""
    accepted = {each.abstract_syntax: each for each in (await visit.association()).contexts.values()}
    offered = [
        f"{what} ({name} root, {_syntax(accepted[uid])})"
        for name in MODELS
        for what, uid in (("C-FIND", QUERY_RETRIEVE[name].find), ("C-MOVE", QUERY_RETRIEVE[name].move))
        if uid in accepted
    ]
    offered += [f"C-ECHO ({_syntax(accepted[VERIFICATION])})"] if VERIFICATION in accepted else []
    both = [name for name in MODELS if {QUERY_RETRIEVE[name].find, QUERY_RETRIEVE[name].move} <= accepted.keys()]
    moves = [name for name in MODELS if QUERY_RETRIEVE[name].move in accepted]
    finds = [name for name in MODELS if QUERY_RETRIEVE[name].find in accepted]
    visit.move_model = (both or moves or [""])[0]
    visit.find_model = (both or finds or [""])[0]
    visit.profile["study_root"] = "study" in moves
    numbers: Numbers = {"contexts": len(accepted), "find": "\\".join(finds), "move": "\\".join(moves)}
    what = "; ".join(offered) or "nothing that we asked for"
    if not moves:
        advice = at_pacs(
            f"allow C-MOVE for {visit.config.ae_title!r}: Study Root Query/Retrieve MOVE, as a role or right"
        )
        other = here("is this the archive, or a router or worklist that has no C-MOVE?")
        cause = NoAcceptedContext(QUERY_RETRIEVE["study"].move)
        return problem(f"it offers {what}, but no C-MOVE", advice, other, cause=cause, **numbers)
    if not finds:
        advice = at_pacs(f"allow C-FIND for {visit.config.ae_title!r}: without it nothing can be searched or proved")
        return note(f"it offers {what}, but no C-FIND", advice, **numbers)
    if "study" not in both:
        advice = here(f"use --model {visit.move_model}")
        return note(f"it offers {what}; not all of the study root", advice, **numbers)
    return ok(f"it offers {what}", **numbers)


def _syntax(context: PresentationContext) -> str:
    row = TRANSFER_SYNTAXES.get(context.transfer_syntax)
    return row.name.removesuffix(" Little Endian") if row else quoted(context.transfer_syntax)


async def implementation(visit: Visit) -> Finding:
    """Whose implementation it is, and how long PDUs it takes."""
    told = visit.answer.user_information if visit.answer is not None else None
    length = told.maximum_length if told is not None else None
    name = told.implementation_version_name if told is not None else ""
    uid = told.implementation_class_uid if told is not None else ""
    numbers: Numbers = {
        "max_pdu_length_bytes": length,
        "implementation_version_name": name,
        "implementation_class_uid": uid,
    }
    visit.profile["max_pdu_length"] = length
    limit = "no limit" if length == 0 else "a length it does not tell" if length is None else f"{length:,} bytes"
    words = f"{quoted(name or uid or 'unnamed')}; it takes PDUs of {limit}"
    if length is None:
        return note(words, at_pacs("a maximum length belongs into each A-ASSOCIATE-AC (PS3.8 D.1)"), **numbers)
    if 0 < length < SMALL_PDU_BYTES:
        return note(words, at_pacs("raise its maximum PDU length: 131072 is good, 16384 the least"), **numbers)
    return ok(words, **numbers)


async def asynchronous(visit: Visit) -> Finding:
    """What it makes of an asynchronous operations window (PS3.7 D.3.3.3), on an association of its own."""
    request = visit.proposal()
    window = AsynchronousOperationsWindow(OPERATIONS, 1)
    asked = request.user_information.replace(asynchronous_operations_window=window)
    try:
        association = await visit.associate(request.replace(user_information=asked))
    except AssociationError as error:
        return note(f"it does not bear to be asked for asynchronous operations: {error}")
    answer = association.connection.answer
    await leave(association)
    given = answer.user_information.asynchronous_operations_window if answer is not None else None
    invoked = given.maximum_number_operations_invoked if given is not None else 1
    numbers = {"operations_invoked": invoked}
    if invoked == 1:
        return ok("one operation at a time: several at once need several associations", **numbers)
    many = "any number of operations" if invoked == 0 else counted(invoked, "operation")
    return ok(f"it would take {many} at a time (we do not use that yet)", **numbers)


async def echo(visit: Visit) -> Finding:
    """C-ECHO, some times in a row."""
    durations: list[float] = []
    try:
        for _ in range(ECHOES):
            association = await visit.association()
            association.context(VERIFICATION)
            started = time.perf_counter()
            async with asyncio.timeout(visit.limits.associate_s):
                await echo_on(association)
            durations.append(time.perf_counter() - started)
    except NoAcceptedContext:
        return note(
            "it has no C-ECHO: every DICOM node that accepts associations should", at_pacs("allow Verification")
        )
    except TimeoutError:
        await visit.hang_up()
        cause = TimedOut("response_s", visit.limits.associate_s)
        return problem(f"C-ECHO: {cause}", at_pacs("the service hangs: restart it, see its log"), cause=cause)
    except DimseError as error:
        return note(f"C-ECHO is answered with {error}", at_pacs("see its log"))
    except (AssociationError, ProtocolError) as error:
        await visit.hang_up()
        return problem(f"C-ECHO ends the association: {error}", at_pacs("see its log"), cause=error)
    echo_s = visit.round_trip_s = round(sorted(durations)[len(durations) // 2], 6)
    return ok(f"answered in {seconds(echo_s)}", echo_s=echo_s)


# ------------------------------------------------------------------ several associations


async def parallel(visit: Visit) -> Finding:
    """Open one association after the other until one is refused or has to wait, or as many as we may."""
    await visit.hang_up()
    wanted = visit.config.associations
    request, opened = visit.proposal(), list[AssociationHandle]()
    took: list[float] = []
    stopped: FastmoveError | None = None
    try:
        while len(took) < wanted and not _waits(took):
            started = time.perf_counter()
            opened.append(await visit.associate(request))
            await _serves(visit, opened[-1])
            took.append(time.perf_counter() - started)
    except (AssociationError, ProtocolError, DimseError) as error:
        stopped = error
    finally:
        await asyncio.gather(*map(leave, opened))
    served = visit.profile["associations"] = max(len(took) - _waits(took), 1)
    if stopped is None and not _waits(took):
        return ok(f"{counted(served, 'association')} at once; more were not tried", associations=served)
    why = f": {stopped}" if stopped is not None else f" has to wait, {seconds(took[-1])} for an answer"
    return note(
        f"{counted(served, 'association')} at once; one more{why}",
        at_pacs("raise the number of associations that it serves at once, or that one AE title may have"),
        here(f"--parallel {served} at most, or less: other users need some as well"),
        associations=served,
    )


def _waits(took: list[float]) -> bool:
    """Whether the last one took much longer than those before: it is accepted, but waits for one of them to end."""
    *before, last = took or [0.0]
    return bool(before) and last > max(WAITING_S, WAITING * sorted(before)[len(before) // 2])


async def _serves(visit: Visit, association: AssociationHandle) -> None:
    """C-ECHO over it, within the time for an association; TimedOut, or what went wrong."""
    try:
        async with asyncio.timeout(visit.limits.associate_s):
            await echo_on(association)
    except NoAcceptedContext:
        pass  # no C-ECHO: that it accepts has to do
    except TimeoutError:
        raise TimedOut("response_s", visit.limits.associate_s) from None
