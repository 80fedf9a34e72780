"""Migrations from a PACS that ends a move at an object that it cannot read: all others are moved all the same."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.ledger.model import JobState
from fastmove.migrate.engine import Ended, Engine
from fastmove.types import PeerAddress
from tests.integration.peers import HOST, Orthanc
from tests.migrate.migrating import Migrating, migrating
from tests.migrate.test_forward import held_by

STUDY_OF_ELEVEN: Final = Spec(studies=1, series=1, instances=11, size=2_000)


def later(made: Migrating, engine: Engine) -> None:
    """Whatever waits to be tried again is due, and looked for at once."""
    made.clock.put_forward(4 * 3600)
    engine.claims.hold(True)
    engine.claims.hold(False)


async def parked(made: Migrating, *places: int) -> set[str]:
    """Run until the study is parked of which the PACS cannot read the objects at these places: which they are."""
    order = sorted(made.pacs.instances())
    broken = {order[place] for place in places}
    made.pacs.misbehave("unreadable=" + "\\".join(broken))
    async with made.started() as (engine, running), asyncio.timeout(60):
        seen = 0
        while not running.done():
            if engine.tried_again > seen:
                seen = engine.tried_again
                later(made, engine)
            await asyncio.sleep(0.05)
        assert await running is Ended.FINISHED
    (job,) = (await made.jobs()).values()
    assert (job.state, job.reason_class, job.missing) == (JobState.PARKED, "refused", len(broken))
    assert "(C000H)" in job.reason and all(uid in job.reason for uid in sorted(broken)[:2])
    assert (await made.instances()).keys() == made.pacs.instances() - broken
    return broken


@pytest.mark.parametrize("places", [(0,), (9,), (2, 6)], ids=str)
async def test_all_but_what_cannot_be_read_comes_at_the_first_attempt(places: tuple[int, ...], tmp_path: Path) -> None:
    async with migrating(STUDY_OF_ELEVEN, tmp_path) as made:
        broken = await parked(made, *places)
        assert made.files().keys() == made.pacs.instances() - broken
        assert set(made.pacs.sent.values()) == {1}
        (job,) = (await made.jobs()).values()
        attempts = await made.ledger.attempts(job.id)
        assert [attempt.missing for attempt in attempts] == [len(places)] * 4


async def test_next_attempt_asks_for_smaller_parts(tmp_path: Path) -> None:
    async with migrating(Spec(studies=1, series=1, instances=640, size=2_000), tmp_path) as made:
        broken = await parked(made, 0, 1, 320)
        assert made.files().keys() == made.pacs.instances() - broken
        assert set(made.pacs.sent.values()) == {1}
        assert len(made.pacs.moves) < 150
        (job,) = (await made.jobs()).values()
        first, second, *_ = sorted(await made.ledger.attempts(job.id), key=lambda attempt: attempt.number)
        assert 3 < first.missing <= 80, "those of two parts"
        assert second.missing == 3


async def test_lost_association_is_no_reason_to_ask_in_parts(tmp_path: Path) -> None:
    async with migrating(STUDY_OF_ELEVEN, tmp_path, "abort-after=0") as made:
        async with made.started() as (engine, running), asyncio.timeout(60):
            while engine.tried_again < 1:
                await asyncio.sleep(0.05)
            made.pacs.misbehave()
            later(made, engine)
            assert await running is Ended.FINISHED
        assert await made.states() == {"complete": 1}
        assert [move.completed for move in made.pacs.moves if move.status == 0] == [11]


@pytest.mark.peer("orthanc")
async def test_third_party_gets_all_but_what_cannot_be_read(tmp_path: Path) -> None:
    async with migrating(STUDY_OF_ELEVEN, tmp_path) as made, Orthanc(http=True) as orthanc:
        made.sending_to(PeerAddress(orthanc.ae_title, HOST, orthanc.port))
        broken = await parked(made, 3)
        assert await held_by(orthanc) == made.pacs.instances() - broken
        assert set(made.pacs.sent.values()) == {1}
