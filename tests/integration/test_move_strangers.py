"""Objects that somebody else pushes into our listener while a move is under way (D20, M25; PS3.7 9.1.1.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from fastmove.dimse.move import Verdict
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor
from tests.integration.scripted_pacs import LIMITS, UIDS, A, B, C, Move, ScriptedPacs, moved

Originator = Mapping[int, bytes | None]

NOBODY: Final[Originator] = {}
OURS: Final[Originator] = {raw.ORIGINATOR_AE: raw.ae("FASTMOVE"), raw.ORIGINATOR_ID: raw.us(1)}
ANOTHER: Final[Originator] = {raw.ORIGINATOR_AE: raw.ae("ANOTHER"), raw.ORIGINATOR_ID: raw.us(1)}
UNLISTED: Final = "1.2.3.9.9"


@pytest.fixture
def move(tmp_path: Path) -> Move:
    """A C-MOVE of STUDY against a script."""
    return partial(moved, tmp_path / "stored")


def stranger(pacs: ScriptedPacs) -> ScriptedRequestor:
    """A connection of another sender to the listener of the move."""
    return ScriptedRequestor("127.0.0.1", pacs.port)


async def push(pacs: ScriptedPacs, originator: Originator, *uids: str, status: int = 0) -> None:
    """Another sender stores these objects, with these Move Originator elements."""
    async with stranger(pacs) as sender:
        await sender.associate(raw.associate_rq(called=pacs.destination, calling="STRANGER"))
        for message_id, uid in enumerate(uids, 1):
            command = raw.c_store_rq(uid, message_id, change=originator)
            await sender.send(raw.message(1, command, raw.dataset(uid)))
            await sender.expect_status(status, message_id)
        await sender.release()


async def test_object_of_another_move_does_not_stand_for_one_that_is_missing(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await push(pacs, ANOTHER, C)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.INCOMPLETE, 71, "move.incomplete")
    assert [path.name for path in ended.files] == [f"{uid}.dcm" for uid in UIDS], "it is kept all the same"


async def test_object_of_another_move_is_none_too_many(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await push(pacs, ANOTHER, C)
        await pacs.store(B)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    ended = await move(act)
    ended.is_judged(Verdict.COUNTED, 0)
    assert ended.result.judgement.reasons == ()


@pytest.mark.parametrize(
    "originator",
    [OURS, {raw.ORIGINATOR_AE: raw.ae("FASTMOVE")}, {raw.ORIGINATOR_AE: b"FASTMOVE  "}, {raw.ORIGINATOR_AE: b""}],
    ids=["AE title and ID", "AE title", "padded", "empty"],
)
async def test_object_that_names_us_is_counted_whoever_sends_it(move: Move, originator: Originator) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await push(pacs, originator, *UIDS)
        pacs.acknowledged.update(UIDS)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.COUNTED, 0)


async def test_object_that_names_nobody_is_counted_as_nothing_tells_it_from_ours(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await push(pacs, NOBODY, C)
        pacs.acknowledged.add(C)
        await pacs.finish(0, completed=2, failed=0, warning=0)

    (await move(act)).is_judged(Verdict.COUNTED, 0, "move.counter_low")


async def test_object_that_names_nobody_does_not_stand_for_one_of_the_list(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        await push(pacs, NOBODY, UNLISTED)
        pacs.acknowledged.add(UNLISTED)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    ended = await move(act, listed=UIDS)
    ended.is_judged(Verdict.INCOMPLETE, 71, "move.incomplete")
    assert ended.result.judgement.missing == {C}


async def test_D20_objects_of_the_list_are_ours_whomever_they_name(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await push(pacs, ANOTHER, *UIDS, UNLISTED)
        pacs.acknowledged.update(UIDS)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    (await move(act, listed=UIDS)).is_judged(Verdict.COMPLETE, 0)


@pytest.mark.parametrize(
    ("originator", "verdict", "code"),
    [(ANOTHER, Verdict.COUNTED, 0), (OURS, Verdict.POLICY, 75), (NOBODY, Verdict.POLICY, 75)],
    ids=["another's", "ours", "nobody's"],
)
async def test_refused_object_counts_as_a_stored_one_would(
    move: Move, originator: Originator, verdict: Verdict, code: int
) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(*UIDS)
        await push(pacs, originator, "../x", status=0x0117)
        await pacs.finish(0, completed=3, failed=0, warning=0)

    (await move(act)).is_judged(verdict, code)


async def test_objects_of_another_move_do_not_prolong_the_drain_time(move: Move) -> None:
    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A)
        await pacs.finish(0, completed=3, failed=0, warning=0)
        async with stranger(pacs) as sender:
            await sender.associate(raw.associate_rq(called=pacs.destination, calling="STRANGER"))
            with suppress(ConnectionError, EOFError):  # aborted when the listener stops
                for message_id in range(1, 1000):
                    command = raw.c_store_rq(C, message_id, change=ANOTHER)
                    await sender.send(raw.message(1, command, raw.dataset(C)))
                    if (await sender.read_pdu()).pdu_type == raw.ABORT:
                        return
                    await asyncio.sleep(LIMITS.drain_s / 10)

    ended = await move(act)
    ended.is_judged(Verdict.INCOMPLETE, 71)
    assert LIMITS.drain_s <= ended.result.seconds < LIMITS.drain_s + 1
