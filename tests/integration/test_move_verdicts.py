"""Catalogue of faults, table M: what a scripted PACS does to a C-MOVE, and the verdict on it.

`Moved` asserts of every row that what counts as stored is what was acknowledged and what is on the disk, so that
none can pass by a success that is none.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from fastmove.cli.exit_codes import for_outcome
from fastmove.dimse.move import Verdict
from fastmove.storage.options import WriteOptions
from tests.integration import raw
from tests.integration.scripted_pacs import (
    LIMITS,
    PENDING,
    UIDS,
    A,
    B,
    C,
    Move,
    ScriptedPacs,
    failed_list,
    lose_by_abort,
    moved,
    object_bytes,
)


@pytest.fixture
def move(tmp_path: Path) -> Move:
    """A C-MOVE of STUDY against a script."""
    return partial(moved, tmp_path / "stored")


async def test_complete_move_is_proved_by_the_list(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.COMPLETE, 0)
    assert [raw.part10_dataset(path.read_bytes()) for path in ended.files] == [raw.dataset(uid) for uid in UIDS]


async def test_M01_objects_never_sent_are_named(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.INCOMPLETE, 71, "move.incomplete")
    assert ended.result.judgement.missing == {C}


@pytest.mark.parametrize("counters", [(1, 2, 0, 0), (0, 2, 1, 0)], ids=["remaining", "failed"])
async def test_M02_success_with_failed_or_remaining_is_no_success(move: Move, counters: tuple[int, ...]) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await pacs.respond(0, *counters)
        await pacs.released()

    (await move(act)).is_judged(Verdict.INCOMPLETE, 71, "move.counter_conflict")


async def test_M02_list_overrules_counters_in_conflict(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.finish(0, completed=1, failed=2, warning=0)

    (await move(act, listed=UIDS)).is_judged(Verdict.COMPLETE, 0, "move.counter_conflict")


@pytest.mark.parametrize("sent", [(), (A, B)], ids=["nothing sent", "2 of 3 sent"])
async def test_M03_more_completed_than_stored_is_incomplete(move: Move, sent: tuple[str, ...]) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        if sent:
            await pacs.store(*sent)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.INCOMPLETE, 71, "move.incomplete")


async def test_M04_less_completed_than_stored_is_success_with_a_reason(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.COUNTED, 0, "move.counter_low")


async def test_M05_neither_counters_nor_list_is_unverified_and_no_proof(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.finish(0)

    ended = await move(act)
    ended.is_judged(Verdict.UNVERIFIED, 0, "move.unverified")
    assert for_outcome(ended.result.judgement, require_proof=True) == 71


async def test_M06_zero_matches_is_success_that_says_so(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.respond(0, 0, 0, 0, 0)
        await pacs.released()

    (await move(act)).is_judged(Verdict.COUNTED, 0, "move.empty")


async def test_M06_zero_matches_of_a_list_is_incomplete(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.respond(0, 0, 0, 0, 0)
        await pacs.released()

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.INCOMPLETE, 71, "move.incomplete")
    assert ended.result.judgement.missing == set(UIDS)


@pytest.mark.parametrize("identifier", [failed_list(C), None], ids=["with list", "without list"])
async def test_M07_warning_status_is_a_warning(move: Move, identifier: bytes | None) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await pacs.respond(0xB000, None, 2, 1, 0, identifier=identifier)
        await pacs.released()

    ended = await move(act)
    ended.is_judged(Verdict.WARNING, 68, "move.warning")
    outcome = ended.result.evidence.outcome
    assert outcome is not None
    assert outcome.failed_sop_instance_uids == ((C,) if identifier else ())


async def test_M08_failed_list_with_instances_that_we_hold_is_remarked(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.respond(0xB000, None, 2, 1, 0, identifier=failed_list(C))
        await pacs.released()

    (await move(act)).is_judged(Verdict.WARNING, 68, "move.failed_but_stored")


@pytest.mark.parametrize("identifier", [failed_list(C)[:-4], b"\xff" * 64], ids=["torn", "rubbish"])
async def test_M09_failed_list_that_cannot_be_read_is_ignored(move: Move, identifier: bytes) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await pacs.respond(0xB000, None, 2, 1, 0, identifier=identifier)
        await pacs.released()

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.INCOMPLETE, 71, "move.incomplete")
    assert ended.pacs.seen("move.failed_list")


@pytest.mark.parametrize(
    "status", [0xA701, 0xA702, 0xA801, 0xA900, 0x0122, 0x0124, 0xC000, 0xCFFF, 0x1234, None], ids=lambda s: f"{s}"
)
async def test_M10_failure_status_is_refused(move: Move, status: int | None) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.respond(status or 0, change={raw.STATUS: None} if status is None else None)
        await pacs.released()

    ended = await move(act)
    ended.is_judged(Verdict.REFUSED, 69, "move.refused")
    outcome = ended.result.evidence.outcome
    assert outcome is not None and outcome.status == status


async def test_M11_cancel_status_that_nobody_asked_for_is_refused(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0xFE00, completed=1, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.REFUSED, 69, "move.cancelled_by_peer")


async def test_M12_cancel_status_after_our_cancel_is_what_was_asked_for(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.respond(PENDING, 2, 1, 0, 0)
        pacs.session.cancel()
        await pacs.cancelled()
        await pacs.respond(0xFE00, 2, 1, 0, 0)
        await pacs.released()

    (await move(act)).is_judged(Verdict.CANCELLED, 0, "move.cancelled")


async def test_M13_cancel_that_is_ignored_is_aborted_after_the_drain_time(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        pacs.session.cancel()
        await pacs.cancelled()
        await pacs.respond(PENDING, 2, 1, 0, 0)
        await pacs.aborted()

    (await move(act)).is_judged(Verdict.UNKNOWN, 72, "move.cancel_ignored")


async def test_M13_second_cancel_aborts_at_once(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        pacs.session.cancel()
        await pacs.cancelled()
        pacs.session.cancel()
        await pacs.aborted()

    ended = await move(act, limits=LIMITS.replace(drain_s=0.1))
    ended.is_judged(Verdict.UNKNOWN, 72, "stop.signal")


async def test_M14_pending_for_ever_with_frozen_counters_is_stalled(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        while True:
            await pacs.respond(PENDING, 2, 1, 0, 0)
            try:
                await pacs.link.read_pdu(deadline=0.05)
            except TimeoutError:
                continue
            return

    (await move(act)).is_judged(Verdict.STALLED, 74, "move.stalled")


async def test_M14_stall_is_aborted_by_the_service_user(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.respond(PENDING, 3, 0, 0, 0)
        await pacs.aborted()

    (await move(act)).is_judged(Verdict.STALLED, 74)


async def test_M15_dataset_of_a_pending_response_is_ignored(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.respond(PENDING, 0, 3, 0, 0, identifier=raw.dataset(A))
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.pacs.seen("move.pending_dataset")


async def test_M16_announced_dataset_that_never_comes_is_no_success(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.respond(PENDING, 2, 1, 0, 0, change={raw.DATA_SET_TYPE: raw.us(1)})
        pdu = await pacs.link.read_pdu(deadline=3.0)
        assert pdu.pdu_type == raw.ABORT
        await pacs.link.expect_closed()

    ended = await move(act)
    assert for_outcome(ended.result.judgement) in (72, 74)


async def test_M16_next_response_is_recognised_where_an_announced_dataset_should_be(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        for remaining in (2, 1):
            counters = (remaining, 3 - remaining, 0, 0)
            await pacs.respond(PENDING, *counters, change={raw.DATA_SET_TYPE: raw.us(1)})
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.pacs.seen("move.pending_dataset")


@pytest.mark.parametrize("field", [0x8021, 0x8001, 0x8020], ids=["wrong message ID", "C-STORE-RSP", "C-FIND-RSP"])
async def test_M17_response_to_something_else_aborts_at_once(move: Move, field: int) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        responded_to = pacs.message_id + (field == 0x8021)
        change: dict[int, bytes | None] = {raw.COMMAND_FIELD: raw.us(field), raw.RESPONDED_TO: raw.us(responded_to)}
        await pacs.respond(0, 0, 3, 0, 0, change=change)
        await pacs.aborted()

    ended = await move(act)
    ended.is_judged(Verdict.UNKNOWN, 72, "move.protocol")


@pytest.mark.parametrize("together", [True, False], ids=["with the final response", "instead of A-RELEASE-RP"])
async def test_M18_pending_after_the_final_response_is_aborted_and_changes_no_verdict(
    move: Move, together: bool
) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        final, late = pacs.response(0, 0, 3, 0, 0), pacs.response(PENDING, 9, 0, 0, 0)
        await pacs.link.send(final, late if together else b"")
        if not together:
            await pacs.link.expect(raw.RELEASE_RQ)
            await pacs.link.send(late)
        await pacs.aborted()

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.pacs.seen("move.after_final")


async def test_M20_object_in_flight_at_the_final_response_is_waited_for(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        async with pacs.storage() as storage:
            head, tail = object_bytes(C)
            await storage.send(head)
            await pacs.finish(0, completed=3, failed=0, warning=0)
            await storage.send(tail)
            await storage.expect_status(0)
            pacs.acknowledged.add(C)
            storage.close()

    (await move(act)).is_judged(Verdict.COUNTED, 0)


async def test_M21_storage_association_opened_after_the_final_response_is_served(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.finish(0, completed=3, failed=0, warning=0)
        await pacs.store(*UIDS, release=False)

    (await move(act)).is_judged(Verdict.COUNTED, 0)


async def test_M21_storage_association_that_never_comes_is_incomplete_after_the_drain_time(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.INCOMPLETE, 71)
    assert LIMITS.drain_s <= ended.result.seconds < LIMITS.drain_s + 1


async def test_M22_objects_after_the_abort_of_the_move_association_are_stored_and_unknown(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await lose_by_abort(pacs.link)
        await pacs.store(B, C)

    ended = await move(act)
    ended.is_judged(Verdict.UNKNOWN, 72, "move.association_lost")
    assert ended.result.evidence.stored == set(UIDS)


@pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
async def test_M23_same_object_on_two_associations_at_once_is_one_file(move: Move, durable: bool) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        head, tail = object_bytes(A)
        async with pacs.storage() as one, pacs.storage() as other:
            for part in (head, tail):
                await one.send(part)
                await other.send(part)
            await one.expect_status(0)
            await other.expect_status(0)
        pacs.acknowledged.add(A)
        await pacs.finish(0, completed=1, failed=0, warning=0)

    ended = await move(act, options=WriteOptions(durable=durable))
    ended.is_judged(Verdict.COUNTED, 0)
    assert [path.name for path in ended.files] == [f"{A}.dcm"]


async def test_M24_same_uid_with_other_bytes_keeps_both_and_warns(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        async with pacs.storage() as storage:
            await storage.send(*object_bytes(A, pixel_bytes=1024))
            await storage.expect_status(0)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.WARNING, 68, "store.duplicate_differs")
    assert [path.name for path in ended.files] == [f"{A}.dcm", f"{A}.dup1.dcm"]


async def test_M24_same_uid_with_other_bytes_is_a_warning_even_with_a_list(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        async with pacs.storage() as storage:
            await storage.send(*object_bytes(A, pixel_bytes=1024))
            await storage.expect_status(0)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    (await move(act, listed=(A,))).is_judged(Verdict.WARNING, 68, "store.duplicate_differs")


async def test_M31_association_for_each_object_costs_nothing(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        for uid in UIDS:
            await pacs.store(uid)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    (await move(act, listed=UIDS)).is_judged(Verdict.COMPLETE, 0)


async def test_M33_list_that_the_peer_cannot_give_falls_back_to_the_counters(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act, listed=(), find_status=0xA700)
    ended.is_judged(Verdict.COUNTED, 0)
    assert for_outcome(ended.result.judgement, require_proof=True) == 71
