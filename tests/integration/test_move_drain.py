"""How long a move waits for objects after its final response, where neither a list nor counters say what is to come."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from fastmove.dimse.move import Verdict
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor
from tests.integration.scripted_pacs import LIMITS, A, B, C, Move, ScriptedPacs, moved

UNCOUNTED_S: Final = 0.5
PAUSE_S: Final = 0.3
"""Between objects of a slow PACS: two pauses are longer than UNCOUNTED_S."""
PATIENT: Final = LIMITS.replace(uncounted_s=UNCOUNTED_S, drain_s=10.0)
"""What ends long before `drain_s` has not waited for it."""
SOON_S: Final = 5.0


@pytest.fixture
def move(tmp_path: Path) -> Move:
    """A C-MOVE of STUDY against a script."""
    return partial(moved, tmp_path / "stored")


async def test_silence_after_the_last_association_ends_an_uncounted_move(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0)

    ended = await move(act, limits=PATIENT)
    ended.is_judged(Verdict.UNVERIFIED, 0, "move.unverified")
    assert UNCOUNTED_S <= ended.result.seconds < SOON_S


async def test_each_object_starts_the_silence_of_an_uncounted_move_anew(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0)
        for uid in (B, C):
            await asyncio.sleep(PAUSE_S)
            await pacs.store(uid)

    ended = await move(act, limits=PATIENT)
    ended.is_judged(Verdict.UNVERIFIED, 0)
    assert 2 * PAUSE_S + UNCOUNTED_S <= ended.result.seconds < SOON_S


async def test_uncounted_move_waits_for_an_open_storage_association(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        async with pacs.storage() as storage:
            await storage.store(A, raw.dataset(A), 1)
            await pacs.finish(0)
            await asyncio.sleep(UNCOUNTED_S + PAUSE_S)
            await storage.store(B, raw.dataset(B), 2)
        pacs.acknowledged.update((A, B))

    ended = await move(act, limits=PATIENT)
    ended.is_judged(Verdict.UNVERIFIED, 0)
    assert 2 * UNCOUNTED_S + PAUSE_S <= ended.result.seconds < SOON_S


async def test_silence_of_an_uncounted_move_begins_when_the_last_association_ends(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        async with pacs.storage() as storage:
            await storage.store(A, raw.dataset(A))
            pacs.acknowledged.add(A)
            await pacs.finish(0)
            await asyncio.sleep(UNCOUNTED_S + PAUSE_S)
        await asyncio.sleep(PAUSE_S)
        await pacs.store(B)

    (await move(act, limits=PATIENT)).is_judged(Verdict.UNVERIFIED, 0)


async def test_uncounted_move_waits_no_longer_than_the_drain_time_for_an_open_association(move: Move) -> None:
    limits = PATIENT.replace(uncounted_s=0.1, drain_s=0.6)

    async def act(pacs: ScriptedPacs) -> None:
        async with pacs.storage() as storage:
            await storage.store(A, raw.dataset(A))
            pacs.acknowledged.add(A)
            await pacs.finish(0)
            await storage.expect_abort(0, 0)
            await storage.expect_closed()
            storage.close()

    ended = await move(act, limits=limits)
    ended.is_judged(Verdict.UNVERIFIED, 0)
    assert limits.drain_s <= ended.result.seconds < limits.drain_s + 1


async def test_uncounted_move_waits_no_longer_than_a_drain_time_that_is_shorter(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0)

    ended = await move(act, limits=LIMITS.replace(uncounted_s=10.0))
    ended.is_judged(Verdict.UNVERIFIED, 0)
    assert LIMITS.drain_s <= ended.result.seconds < LIMITS.drain_s + 1


async def test_associations_without_an_object_do_not_prolong_the_drain_time(move: Move) -> None:
    limits = PATIENT.replace(drain_s=1.0)

    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0)
        try:
            while True:
                async with ScriptedRequestor("127.0.0.1", pacs.port) as monitor:
                    await monitor.associate(raw.associate_rq(called=pacs.destination))
                    await monitor.echo()
                    await monitor.release()
                await asyncio.sleep(UNCOUNTED_S / 5)
        except (OSError, EOFError, AssertionError):
            return  # the listener has stopped

    ended = await move(act, limits=limits)
    ended.is_judged(Verdict.UNVERIFIED, 0)
    assert limits.drain_s <= ended.result.seconds < limits.drain_s + 1


async def test_uncounted_move_of_which_nothing_has_come_waits_for_the_drain_time(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.finish(0)
        await asyncio.sleep(UNCOUNTED_S + PAUSE_S)
        await pacs.store(A)

    ended = await move(act, limits=PATIENT)
    ended.is_judged(Verdict.UNVERIFIED, 0)
    assert ended.result.seconds < SOON_S


async def test_counted_move_waits_for_the_drain_time_although_nothing_is_open(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0, completed=2, failed=0, warning=0)
        await asyncio.sleep(UNCOUNTED_S + PAUSE_S)
        await pacs.store(B, release=False)

    (await move(act, limits=PATIENT)).is_judged(Verdict.COUNTED, 0)


async def trickle(storage: ScriptedRequestor, uid: str, pieces: int) -> None:
    """Send an object in pieces, with a pause after each, and read the answer."""
    data = raw.dataset(uid)
    size = len(data) // pieces // 2 * 2
    await storage.send(raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(uid))))
    for number in range(pieces):
        last = number == pieces - 1
        piece = data[number * size :] if last else data[number * size : (number + 1) * size]
        await asyncio.sleep(PAUSE_S)
        await storage.send(raw.p_data(raw.pdv(1, raw.LAST if last else 0, piece)))
    await storage.expect_status(0)
    storage.close()


HASTY: Final = LIMITS.replace(drain_s=2 * PAUSE_S, response_s=2 * PAUSE_S, uncounted_s=UNCOUNTED_S)
"""An object of six pauses takes longer than each of these."""


async def test_object_that_is_still_arriving_after_the_final_response_is_waited_for(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        async with pacs.storage() as storage:
            await pacs.finish(0, completed=1, failed=0, warning=0)
            await trickle(storage, A, 6)
            pacs.acknowledged.add(A)

    (await move(act, limits=HASTY)).is_judged(Verdict.COUNTED, 0)


async def test_move_whose_object_takes_longer_than_a_response_may_is_not_given_up(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        async with pacs.storage() as storage:
            await trickle(storage, A, 6)
            pacs.acknowledged.add(A)
        await pacs.finish(0, completed=1, failed=0, warning=0)

    (await move(act, limits=HASTY)).is_judged(Verdict.COUNTED, 0)
