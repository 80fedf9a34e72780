"""Probes of how the PACS sends: associations, PDUs, counters, order, speed; all from the one test move."""

from __future__ import annotations

from itertools import pairwise
from typing import Final

from fastmove.services.doctor.arrivals import Arrived, MoveRecord
from fastmove.services.doctor.findings import (
    Advice,
    Finding,
    Numbers,
    at_pacs,
    counted,
    here,
    note,
    ok,
    quoted,
    seconds,
    skipped,
)
from fastmove.services.doctor.visit import Visit
from fastmove.uids import STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES
from fastmove.ul.pdu import AAssociateRQ

SMALL_OBJECT_BYTES: Final = 64 << 10
"""An object that should take a few milliseconds, wherever it comes from."""

STALLS_S: Final = ((0.035, 0.06), (0.19, 0.225))
"""How long an acknowledgement is delayed, beyond the round trip: 40 ms by Linux, 200 ms by Windows."""

FAR_S: Final = 0.005
"""A round trip from which on it is the distance that counts."""

GAPS_WANTED: Final = 3
LONG_PDV_BYTES: Final = 32768
"""A sender that fills PDUs of this length is not held up by them."""


async def storage(visit: Visit) -> Finding:
    """Storage associations: how many, what is proposed, how long the PDUs are."""
    _, moved = visit.study_moved
    objects, associations = len(moved.arrived), len(moved.by_association)
    one_each = visit.profile["association_per_object"] = None if objects < 2 else associations == objects
    long = (arrived.object for arrived in moved.arrived if arrived.object.fragments > 1)
    pdv = max((stored.nbytes // stored.fragments for stored in long), default=0)
    kinds = sorted({_named(each.object.sop_class_uid, STORAGE_SOP_CLASSES) for each in moved.arrived})
    used = {each.object.transfer_syntax_uid for each in moved.arrived}
    syntaxes = sorted(TRANSFER_SYNTAXES[uid].name if uid in TRANSFER_SYNTAXES else quoted(uid) for uid in used)
    contexts = [context for request in moved.requests for context in request.presentation_contexts]
    proposed = {uid for context in contexts for uid in context.transfer_syntaxes}
    numbers: Numbers = {
        "objects": objects,
        "associations": associations,
        "pdv_bytes": pdv or None,
        "transfer_syntaxes_proposed": len(proposed),
        "transfer_syntaxes": "\\".join(sorted(used)),
        **_told(moved.requests),
    }
    words = f"{counted(objects, 'object')} over {counted(associations, 'association')}; {', '.join(kinds)}"
    words += f"; {', '.join(syntaxes)} (of {len(proposed)} proposed)" + (
        f"; PDUs of about {pdv:,} bytes" if pdv else ""
    )
    advice: list[Advice] = []
    if one_each:
        advice.append(at_pacs("let it send a study over one association: one for each object costs time"))
    if 0 < pdv < LONG_PDV_BYTES < visit.limits.max_pdu_length:
        advice.append(at_pacs(f"raise the PDU length that it sends: we take {visit.limits.max_pdu_length:,} bytes"))
    return note(words, *advice, **numbers) if advice else ok(words, **numbers)


def _told(requests: tuple[AAssociateRQ, ...]) -> Numbers:
    """What the sender says of itself."""
    if not requests:
        return {}
    user = requests[-1].user_information
    name = user.implementation_version_name or user.implementation_class_uid
    return {"sender_max_pdu_length_bytes": user.maximum_length, "sender_implementation": name}


def _named(uid: str, names: dict[str, str]) -> str:
    return names.get(uid) or quoted(uid)


async def counters(visit: Visit) -> Finding:
    """Whether the counters of the final response are right."""
    _, moved = visit.study_moved
    outcome, came = moved.outcome, len(moved.arrived)
    if outcome is None:
        return skipped("there is no final response")
    delivered = moved.evidence.delivered
    right = visit.profile["counters"] = delivered == came
    numbers: Numbers = {"completed": outcome.completed, "failed": outcome.failed, "came": came}
    if right:
        return ok(f"right: {counted(came, 'object')} completed, as many came", **numbers)
    prove = here("leave --prove on: the verdict then rests on a list, not on what the PACS counts")
    if delivered is None:
        return note("there are none: it does not say how many objects it has sent", prove, **numbers)
    return note(f"wrong: it says that {delivered:,} are completed, {came:,} came", prove, **numbers)


async def early_success(visit: Visit) -> Finding:
    """Whether the final response comes before the last object."""
    _, moved = visit.study_moved
    if moved.ended is None:
        return skipped("there is no final response")
    late = [each for each in moved.arrived if each.at > moved.ended]
    visit.profile["early_success"] = bool(late)
    if not late:
        return ok("the final response comes last, as it should", late=0)
    late_s = round(late[-1].at - moved.ended, 6)
    words = f"the final response comes early: {counted(len(late), 'object')} after it, the last {seconds(late_s)} later"
    advice = here(f"leave --drain at its 30 s, or raise it for large studies (here {seconds(late_s)} were needed)")
    return note(words, advice, late=len(late), late_s=late_s)


async def originator(visit: Visit) -> Finding:
    """Whether objects name the C-MOVE that they belong to (PS3.7 9.1.1.1)."""
    _, moved = visit.study_moved
    named = {(each.object.move_originator_ae_title, each.object.move_originator_message_id) for each in moved.arrived}
    right = visit.profile["move_originator"] = named == {(visit.config.ae_title, moved.message_id)}
    if right:
        return ok("objects name the C-MOVE that they belong to", move_originator=True)
    if not any(title for title, _ in named):
        return note("objects do not say which C-MOVE they belong to", _ONE_PORT, move_originator=False)
    said = ", ".join(sorted(f"{quoted(title)} message {number}" for title, number in named))
    words = f"objects name another C-MOVE than that of {visit.config.ae_title!r} message {moved.message_id}: {said}"
    return note(words, _ONE_PORT, move_originator=False)


_ONE_PORT: Final = here("leave --prove on: of several moves at once, the list alone tells then what belongs to which")


async def speed(visit: Visit) -> Finding:
    """Objects and bytes a second, over what it opened of associations."""
    _, moved = visit.study_moved
    first, last = moved.arrived[0], moved.arrived[-1]
    took, more = last.at - first.at, len(moved.arrived) - 1
    wait = f"the first object after {seconds(first.at - moved.started)}"
    if not more or took <= 0:
        return ok(f"{wait}; of one object no speed can be told", bytes=moved.nbytes)
    objects_per_s = visit.objects_per_s = round(more / took, 2)
    bytes_per_s = (moved.nbytes - first.object.nbytes) / took
    words = f"{wait}; then {objects_per_s:,.0f} objects/s, {bytes_per_s / 1e6:,.1f} MB/s"
    return ok(words, objects_per_s=objects_per_s, bytes_per_s=round(bytes_per_s), bytes=moved.nbytes)


async def stalls(visit: Visit) -> Finding:
    """Gaps as long as a delayed acknowledgement: Nagle's algorithm at work."""
    gaps = _gaps(visit.study_moved[1])
    if len(gaps) < GAPS_WANTED:
        return skipped("that cannot be told: too few small objects came in a row")
    round_trip_s = visit.round_trip_s  # C-STORE waits for its answer: that much is distance
    stalled = [gap for gap in gaps if any(low <= gap - round_trip_s <= high for low, high in STALLS_S)]
    median = sorted(gaps)[len(gaps) // 2]
    numbers: Numbers = {"gaps": len(gaps), "stalled": len(stalled), "median_gap_s": round(median, 6)}
    visit.profile["stalls"] = 2 * len(stalled) >= len(gaps)
    if not visit.profile["stalls"]:
        words = f"none: {seconds(median)} from one small object to the next"
        if round_trip_s >= FAR_S and median < 2 * round_trip_s:
            return ok(f"{words}, a round trip for each: several at once make up for the distance", **numbers)
        hidden = "we acknowledge at once, which hides Nagle's algorithm of a sender if it is on"
        return ok(f"{words} ({hidden})", **numbers)
    words = f"{len(stalled)} of {len(gaps)} small objects come {seconds(median)} after the one before"
    return note(
        f"{words}: as long as a delayed acknowledgement, or the PACS needs so long; from here that looks the same",
        at_pacs("turn Nagle's algorithm off (TCP_NODELAY; DCMTK: environment variable TCP_NODELAY=1)"),
        here("several associations at once make up for it"),
        **numbers,
    )


def _gaps(moved: MoveRecord) -> list[float]:
    """From one object to the next of the same association, if it is small."""
    rows: dict[int, list[Arrived]] = {}
    for each in moved.arrived:
        rows.setdefault(each.object.association, []).append(each)
    return [
        after.at - before.at
        for row in rows.values()
        for before, after in pairwise(row)
        if after.object.nbytes <= SMALL_OBJECT_BYTES
    ]


async def outlook(visit: Visit) -> Finding:
    """How fast it could be, from what was measured."""
    objects_per_s, at_once = visit.objects_per_s, visit.known.associations or 1
    if objects_per_s is None:
        return skipped("no speed was measured")
    numbers: Numbers = {"objects_per_s": objects_per_s, "associations": at_once}
    one = f"one move brings {objects_per_s:,.0f} objects/s"
    if at_once == 1:
        return note(f"{one}, and it serves one association at a time: that is all", **numbers)
    most = objects_per_s * at_once
    words = f"{one}; {at_once} at once may bring up to {most:,.0f}/s, if its disks and the network can"
    return ok(words, most_objects_per_s=round(most), **numbers)
