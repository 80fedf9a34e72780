"""Migrations to another PACS: everything is sent on, proved to be there, and leaves the spool."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.migrate.engine import Ended
from fastmove.migrate.forward import Proof
from fastmove.migrate.spool import Answer
from fastmove.types import PeerAddress
from tests.integration.embedded import embedded_pacs
from tests.integration.peers import HOST, Orthanc
from tests.integration.programs import listen_program
from tests.migrate.migrating import OURS, Migrating, migrating

SPEC: Final = Spec(studies=6, series=2, instances=4, size=5_000)


async def held_by(orthanc: Orthanc) -> set[str]:
    """The SOP Instance UIDs that it has, by its REST interface."""

    def asked() -> set[str]:
        with urllib.request.urlopen(f"http://{HOST}:{orthanc.http_port}/instances?expand") as answer:
            return {each["MainDicomTags"]["SOPInstanceUID"] for each in json.load(answer)}

    return await asyncio.to_thread(asked)


async def arrived(made: Migrating) -> None:
    """Everything is recorded to be there, and the spool is empty."""
    assert await made.states() == {"complete": len(made.pacs.studies)}
    instances = await made.instances()
    assert instances.keys() == made.pacs.instances()
    assert not made.files()


@pytest.mark.peer("orthanc")
@pytest.mark.parametrize("proof", [Proof.COMMIT, Proof.FIND, Proof.AUTO])
async def test_another_pacs_has_all_of_it_and_says_so(tmp_path: Path, proof: Proof) -> None:
    async with migrating(SPEC, tmp_path) as made, Orthanc({OURS: (HOST, made.port)}, http=True) as orthanc:
        made.forwarding(PeerAddress(orthanc.ae_title, HOST, orthanc.port), proof)
        assert await made.run() is Ended.FINISHED
        await arrived(made)
        assert await held_by(orthanc) == made.pacs.instances()
        (place,) = {each.place.partition("/")[0] for each in (await made.instances()).values()}
        assert place == orthanc.ae_title


async def test_objects_that_the_other_pacs_refuses_are_sent_again_and_told(tmp_path: Path) -> None:
    stored = tmp_path / "there"
    options = ("--any-called-aet", "--no-durable", "--max-object", "1000")
    async with migrating(SPEC, tmp_path) as made, listen_program(stored, *options) as program:
        started = await program.event("listen.started")
        made.forwarding(PeerAddress("THERE", HOST, started["port"]), Proof.NONE)
        async with made.started() as (engine, _), asyncio.timeout(30):
            while engine.tried_again < 6:
                await asyncio.sleep(0.02)
        jobs = (await made.jobs()).values()
        assert {(job.reason_class, job.stored, job.missing) for job in jobs} == {("undelivered", 0, 8)}
        assert "8 objects were not taken" in next(iter(jobs)).reason
        assert "A700" in next(iter(jobs)).reason
        assert not await made.instances()


async def test_other_pacs_that_lacks_some_gets_them_once_more(tmp_path: Path) -> None:
    """It says Success, and has not all of it on its list: an embedded PACS that holds what its files say."""
    async with migrating(SPEC, tmp_path) as made:
        lacking = sorted(made.pacs.instances())[3]
        async with Orthanc({OURS: (HOST, made.port)}, http=True) as orthanc:
            made.forwarding(PeerAddress(orthanc.ae_title, HOST, orthanc.port), Proof.FIND)
            engine = made.made()
            real = made.destination
            assert real is not None
            struck = False

            async def strike_out() -> None:
                """What it had taken is gone again."""
                with urllib.request.urlopen(f"http://{HOST}:{orthanc.http_port}/instances?expand") as answer:
                    found = {each["MainDicomTags"]["SOPInstanceUID"]: each["ID"] for each in json.load(answer)}
                request = urllib.request.Request(
                    f"http://{HOST}:{orthanc.http_port}/instances/{found[lacking]}", method="DELETE"
                )
                urllib.request.urlopen(request).close()

            destination = real(engine)
            finish = destination.finish

            async def finish_later(study: str, instances: object) -> object:
                nonlocal struck
                if not struck and lacking in made.pacs.instances(study):
                    struck = True
                    await asyncio.to_thread(asyncio.run, strike_out())
                return await finish(study, instances)  # type: ignore[arg-type]

            destination.finish = finish_later  # type: ignore[method-assign, assignment]
            made.destination = lambda _: destination
            running = asyncio.create_task(made.running(engine))
            while not running.done():
                if engine.tried_again:
                    made.clock.put_forward(600)
                await asyncio.sleep(0.1)
            assert await running is Ended.FINISHED
            await arrived(made)
            assert await held_by(orthanc) == made.pacs.instances()
            assert struck


async def test_other_pacs_that_does_not_commit_leaves_studies_undelivered(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made, embedded_pacs(tmp_path / "none") as other:
        made.forwarding(other.address, Proof.COMMIT)
        async with made.started() as (engine, _), asyncio.timeout(30):
            while engine.tried_again < 6:
                await asyncio.sleep(0.02)
        assert {job.reason_class for job in (await made.jobs()).values()} == {"undelivered"}


async def test_pacs_is_told_of_what_the_other_one_refuses_if_that_is_wished(tmp_path: Path) -> None:
    stored = tmp_path / "there"
    options = ("--any-called-aet", "--no-durable", "--max-object", "1000")
    async with migrating(SPEC, tmp_path) as made, listen_program(stored, *options) as program:
        started = await program.event("listen.started")
        peer = PeerAddress("THERE", HOST, started["port"])
        made.forwarding(peer, Proof.NONE, answer=Answer.DESTINATION)
        async with made.started() as (engine, _), asyncio.timeout(30):
            while engine.tried_again < 6:
                await asyncio.sleep(0.02)
        assert {move.failed for move in made.pacs.moves} == {8}
        assert not made.pacs.sent
        assert {job.reason_class for job in (await made.jobs()).values()} == {"undelivered"}
        assert not await made.instances()


async def test_pacs_has_its_answers_only_when_the_other_one_has_the_objects(tmp_path: Path) -> None:
    stored = tmp_path / "there"
    async with migrating(SPEC, tmp_path) as made, listen_program(stored, "--any-called-aet", "--no-durable") as program:
        started = await program.event("listen.started")
        peer = PeerAddress("THERE", HOST, started["port"])
        made.forwarding(peer, Proof.NONE, answer=Answer.DESTINATION)
        assert await made.run() is Ended.FINISHED
        await arrived(made)
        assert {path.stem for path in stored.rglob("*.dcm")} == made.pacs.instances()
