"""Catalogue of faults, T05, T06, T14 and T15: associations that are lost, silent or never released in a C-MOVE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from fastmove.dimse.move import Verdict
from tests.integration import raw
from tests.integration.scripted import Link
from tests.integration.scripted_pacs import (
    LIMITS,
    PENDING,
    UIDS,
    A,
    B,
    C,
    Move,
    ScriptedPacs,
    lose_by_abort,
    lose_by_fin,
    lose_by_reset,
    moved,
    object_bytes,
)

LOSSES = pytest.mark.parametrize("lose", [lose_by_abort, lose_by_reset, lose_by_fin], ids=["A-ABORT", "RST", "FIN"])


@pytest.fixture
def move(tmp_path: Path) -> Move:
    """A C-MOVE of STUDY against a script."""
    return partial(moved, tmp_path / "stored")


async def test_T05_storage_association_that_is_never_released_does_not_hold_a_complete_move(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        async with pacs.storage() as storage:
            for message_id, uid in enumerate(UIDS, 1):
                await storage.store(uid, raw.dataset(uid), message_id)
                pacs.acknowledged.add(uid)
            await pacs.finish(0, completed=3, failed=0, warning=0)
            await storage.expect_abort(0, 0)
            await storage.expect_closed()
            storage.close()

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.result.seconds < LIMITS.drain_s


async def test_T06_release_that_is_never_answered_changes_no_verdict(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.respond(0, 0, 3, 0, 0)
        await pacs.link.expect(raw.RELEASE_RQ)
        await pacs.aborted()

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.pacs.seen("assoc.release_timeout")


@LOSSES
async def test_T14_move_association_lost_after_the_request_is_unknown(
    move: Move, lose: Callable[[Link], Awaitable[None]]
) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await lose(pacs.link)

    ended = await move(act)
    ended.is_judged(Verdict.UNKNOWN, 72, "move.association_lost")
    assert ended.result.error is not None


@LOSSES
async def test_T14_move_association_lost_after_one_of_three_objects_is_unknown(
    move: Move, lose: Callable[[Link], Awaitable[None]]
) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.respond(PENDING, 2, 1, 0, 0)
        await lose(pacs.link)

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.UNKNOWN, 72, "move.association_lost")
    assert ended.result.judgement.missing == {B, C}


@LOSSES
async def test_T14_association_lost_after_the_final_response_changes_no_verdict(
    move: Move, lose: Callable[[Link], Awaitable[None]]
) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await pacs.respond(0, 0, 3, 0, 0)
        await pacs.link.expect(raw.RELEASE_RQ)
        await lose(pacs.link)

    (await move(act, listed=UIDS)).is_judged(Verdict.COMPLETE, 0)


@LOSSES
async def test_T15_storage_association_lost_inside_an_object_is_incomplete(
    move: Move, lose: Callable[[Link], Awaitable[None]]
) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        async with pacs.storage() as storage:
            await storage.send(object_bytes(C)[0])
            await lose(storage)
            storage.close()
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.INCOMPLETE, 71)
    assert ended.result.judgement.missing == {C}
    assert [path.name for path in ended.files] == [f"{A}.dcm", f"{B}.dcm"]


async def test_response_that_never_comes_times_out(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.aborted()

    ended = await move(act, limits=LIMITS.replace(response_s=0.3, progress_s=5.0))
    ended.is_judged(Verdict.UNKNOWN, 72, "move.timeout")


async def test_object_that_cannot_be_stored_by_our_rules_is_policy(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        async with pacs.storage() as storage:
            await storage.send(raw.message(1, raw.c_store_rq("../x"), raw.dataset(B)))
            await storage.expect_status(0x0117)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.POLICY, 75, "move.policy")


async def store_nothing(pacs: ScriptedPacs, uid: str) -> None:
    """C-STORE with a data set of no bytes."""
    async with pacs.storage() as storage:
        await storage.send(raw.message(1, raw.c_store_rq(uid), b""))
        await storage.expect_status(0xC000)


async def test_O05_object_without_a_byte_makes_a_success_incomplete(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await store_nothing(pacs, C)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.INCOMPLETE, 71, "move.rejected")


async def test_O05_object_that_comes_again_and_is_whole_costs_nothing(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await store_nothing(pacs, C)
        await pacs.store(C)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.result.judgement.reasons == ()
