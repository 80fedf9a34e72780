"""Migrations straight to a third party: both are asked what they have, and what one lacks is moved once more."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.credentials import TlsSettings
from fastmove.errors import AssociationAborted, AssociationError, TimedOut
from fastmove.migrate import third_party
from fastmove.migrate.engine import Ended
from fastmove.services.selection.selection import Wanted
from fastmove.types import PeerAddress
from tests.integration.embedded import embedded_pacs
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


async def test_third_party_that_gives_no_list_is_waited_for_before_more_is_moved_to_it(tmp_path: Path) -> None:
    """What it was sent cannot be proved, and would not be by being sent once more."""
    (tmp_path / "none").mkdir()
    async with (
        migrating(SPEC, tmp_path) as made,
        embedded_pacs(tmp_path / "none", faults=["refuse-finds=A700"]) as other,
    ):
        made.sending_to(other.address)
        engine = made.made()
        running = asyncio.create_task(made.running(engine))
        async with asyncio.timeout(30):
            while "migrate.destination_away" not in await made.events():
                await asyncio.sleep(0.02)
        assert "gives no list of the study's instances" in str(made.notices)
        other.misbehave()
        async with asyncio.timeout(60):
            while not running.done():
                engine._wake.set()
                await asyncio.sleep(0.05)
        assert await running is Ended.FINISHED
        assert set(made.pacs.sent.values()) == {1}
        for job in (await made.jobs()).values():  # a move that was under way is cancelled, and that does not count
            assert {each.reason_class for each in await made.ledger.attempts(job.id)} <= {"", "stopped"}
        assert {(job.state, job.proof) for job in (await made.jobs()).values()} == {("complete", "both-lists")}


async def test_who_stops_does_not_wait_for_a_third_party_that_gives_no_list(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    async with migrating(SPEC, tmp_path) as made, embedded_pacs(tmp_path / "none", faults=["no-image-level"]) as other:
        made.sending_to(other.address)
        engine = made.made()
        running = asyncio.create_task(made.running(engine))
        async with asyncio.timeout(30):
            while "migrate.destination_away" not in await made.events():
                await asyncio.sleep(0.02)
        engine.stop()
        async with asyncio.timeout(20):
            assert await running is Ended.STOPPED
        assert {job.attempts for job in (await made.jobs()).values()} == {0}


async def test_third_party_that_has_nothing_of_a_study_lacks_all_of_it(tmp_path: Path) -> None:
    """Its answer without a match is a list."""
    (tmp_path / "none").mkdir()
    async with migrating(SPEC, tmp_path, "nothing") as made, embedded_pacs(tmp_path / "none") as other:
        made.sending_to(other.address)
        async with made.started() as (engine, _), asyncio.timeout(30):
            while engine.tried_again < 6:
                await asyncio.sleep(0.02)
        for job in (await made.jobs()).values():
            assert job.reason_class == "undelivered"
            assert "8 objects are not there" in job.reason


@pytest.mark.parametrize(
    "error", [AssociationAborted(2, 0, by_peer=True), TimedOut("response_s", 0.1)], ids=["aborts", "late"]
)
async def test_study_over_whose_list_the_third_party_fails_holds_up_no_other(
    tmp_path: Path, error: AssociationError, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "none").mkdir()
    async with migrating(SPEC, tmp_path) as made, embedded_pacs(tmp_path / "none") as other:
        made.sending_to(other.address)
        bad = sorted(await made.jobs())[0]
        listed = third_party._Listed.of

        async def of(self: third_party._Listed, wanted: Wanted) -> Mapping[str, str] | None:
            if self.peer.port == other.address.port and wanted.study_instance_uid == bad:
                raise error
            return await listed(self, wanted)

        monkeypatch.setattr(third_party._Listed, "of", of)
        async with made.started() as (engine, running):
            async with asyncio.timeout(60):
                while engine.complete < 5 or not engine.tried_again:
                    await asyncio.sleep(0.02)
            assert "migrate.destination_away" not in await made.events()
            job = (await made.jobs())[bad]
            assert job.reason_class == "undelivered"
            assert str(error) in job.reason
            monkeypatch.setattr(third_party._Listed, "of", listed)
            async with asyncio.timeout(60):
                while not running.done():
                    made.clock.put_forward(600)
                    await asyncio.sleep(0.05)
        assert await made.states() == {"complete": 6}
        assert set(made.pacs.sent.values()) == {1}


async def test_certificate_for_the_third_party_that_vanishes_is_waited_for(tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    async with migrating(SPEC, tmp_path) as made, embedded_pacs(tmp_path / "none") as other:
        tls = TlsSettings(certificate=tmp_path / "c.pem", key=tmp_path / "k.pem")
        made.sending_to(other.address.replace(tls=tls))
        engine = made.made()
        running = asyncio.create_task(made.running(engine))
        async with asyncio.timeout(30):
            while "migrate.destination_away" not in await made.events():
                await asyncio.sleep(0.02)
        assert "c.pem" in str(made.notices)
        engine.stop()
        async with asyncio.timeout(20):
            assert await running is Ended.STOPPED
