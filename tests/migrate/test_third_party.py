"""Migrations straight to a third party: both are asked what they have, and what one lacks is moved once more."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.migrate.engine import Ended
from fastmove.types import PeerAddress
from tests.integration.peers import HOST, Orthanc
from tests.migrate.migrating import migrating
from tests.migrate.test_forward import held_by

SPEC: Final = Spec(studies=6, series=2, instances=4, size=5_000)


@pytest.mark.peer("orthanc")
async def test_third_party_has_all_of_it_and_nothing_comes_to_us(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made, Orthanc(http=True) as orthanc:
        made.sending_to(PeerAddress(orthanc.ae_title, HOST, orthanc.port))
        assert await made.run() is Ended.FINISHED
        assert await made.states() == {"complete": 6}
        assert {(job.verdict, job.listed, job.stored) for job in (await made.jobs()).values()} == {("complete", 8, 8)}
        assert (await made.instances()).keys() == made.pacs.instances() == await held_by(orthanc)
        assert not made.files()


@pytest.mark.peer("orthanc")
async def test_what_the_third_party_lacks_is_moved_once_more_whatever_the_pacs_says(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path, "drop=30%") as made, Orthanc(http=True) as orthanc:
        made.sending_to(PeerAddress(orthanc.ae_title, HOST, orthanc.port))
        async with made.started() as (engine, running):
            async with asyncio.timeout(60):
                while engine.complete + engine.tried_again < 6:
                    await asyncio.sleep(0.02)
            assert engine.tried_again
            for job in (await made.jobs()).values():
                assert job.missing == 8 - job.stored
                assert (job.verdict == "complete") is (job.missing == 0)
            made.pacs.misbehave()
            while not running.done():
                made.clock.put_forward(600)
                await asyncio.sleep(0.1)
            assert await running is Ended.FINISHED
        assert await made.states() == {"complete": 6}
        assert await held_by(orthanc) == made.pacs.instances()
        assert set(made.pacs.sent.values()) == {1}
