"""From one real Orthanc to another, to files, or straight from one to the other, killed on the way: nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import urllib.request
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Final

import pytest

from fastmove.bench.spec import Spec, write
from tests.compat.harness import reserved_port
from tests.integration.peers import HOST, Orthanc
from tests.integration.programs import Program, fastmove
from tests.migrate.test_forward import held_by

OURS: Final = "MIGRATE"

KINDS: Final = ("files", "forward", "third-party")

pytestmark = pytest.mark.peer("orthanc")


def studies_of(orthanc: Orthanc) -> dict[str, int]:
    """Study Instance UID → instances, by its REST interface."""
    base = f"http://{HOST}:{orthanc.http_port}"
    with urllib.request.urlopen(f"{base}/studies?expand") as answer:
        studies = {each["ID"]: each["MainDicomTags"]["StudyInstanceUID"] for each in json.load(answer)}
    counts = {}
    for number, uid in studies.items():
        with urllib.request.urlopen(f"{base}/studies/{number}/statistics") as answer:
            counts[uid] = int(json.load(answer)["CountInstances"])
    return counts


class Moving:
    """A migration from one to the other, by command lines, as often as it takes."""

    def __init__(self, source: Orthanc, there: Orthanc, port: int, folder: Path) -> None:
        self.source = source
        self.there = there
        self.ledger = folder / "a.ledger"
        self.folder = folder
        self.port = port
        self.peer = f"{source.ae_title}@{HOST}:{source.port}"
        self.longest_s = 1.0
        """Before a run is killed."""

    def run(self, kind: str) -> tuple[str | Path, ...]:
        """The arguments of a run."""
        there = f"{self.there.ae_title}@{HOST}:{self.there.port}"
        us = ("--aet", OURS, "--reserve", "0", "--no-durable", "--no-gentle", "--limit", "away_s=10")
        to: dict[str, tuple[str | Path, ...]] = {
            "files": ("--port", str(self.port), "--to", self.folder / "in"),
            "forward": ("--port", str(self.port), "--forward", there, "--spool", self.folder / "spool"),
            "third-party": ("--third-party", there),
        }
        return ("migrate", "run", self.ledger, self.peer, *us, *to[kind])

    async def plan(self) -> None:
        ended = await fastmove("migrate", "plan", self.ledger, self.peer, "--aet", OURS, "--date", "1990..")
        assert ended.code == 0, ended.err

    async def killed(self, kind: str, random: Random) -> None:
        """A run that is killed at some moment."""
        async with Program(*self.run(kind)) as program:
            began = "listen.started" if kind != "third-party" else "retrieve.parallelism"
            await program.event(began)
            await asyncio.sleep(random.uniform(0.0, self.longest_s))  # the random moment
            with suppress(ProcessLookupError):  # it was faster
                program.signal(signal.SIGKILL)
            await program.ended()

    async def moved(self, kind: str) -> set[str]:
        """What is there in the end, whoever is asked: the SOP Instance UIDs."""
        ended = await fastmove("migrate", "status", self.ledger, "--json")
        (status,) = ended.lines
        studies = await asyncio.to_thread(studies_of, self.source)
        complete = status["states"]["complete"]
        assert complete["studies"] == len(studies), status
        assert complete["stored"] == sum(studies.values())
        if kind == "files":
            return {path.stem for path in (self.folder / "in").rglob("*.dcm")}
        assert await asyncio.to_thread(studies_of, self.there) == studies
        return await held_by(self.there)


async def migrated(kind: str, tmp_path: Path, spec: Spec, kills: int, source_kills: int) -> None:
    random = Random(11)
    with reserved_port() as port:
        async with (
            Orthanc({OURS: (HOST, port)}, "THERE", http=True) as there,
            Orthanc({OURS: (HOST, port), "THERE": (HOST, there.port)}, http=True) as source,
        ):
            await source.load(write(spec, tmp_path / "archive"))
            moving = Moving(source, there, port, tmp_path)
            moving.longest_s = spec.studies / 2000
            await moving.plan()
            for _ in range(kills):
                await moving.killed(kind, random)
            for _ in range(source_kills):
                async with Program(*moving.run(kind)) as program:
                    await program.event("retrieve.parallelism")
                    await asyncio.sleep(random.uniform(0.2, 1.0))  # the random moment
                    await source.restart()
                    await program.event("migrate.study")
                    program.signal(signal.SIGKILL)
                    await program.ended()
            async with Program(*moving.run(kind)) as program, asyncio.timeout(900):
                assert await program.process.wait() == 0, program.errors
            assert await moving.moved(kind) == await held_by(source)
    assert not list((tmp_path / "spool").rglob("*.dcm"))


@pytest.mark.parametrize("kind", KINDS)
async def test_archive_is_moved_and_a_kill_on_the_way_changes_nothing(kind: str, tmp_path: Path) -> None:
    await migrated(kind, tmp_path, Spec(studies=12, series=2, instances=3, size=3_000), kills=2, source_kills=0)


@pytest.mark.nightly
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("kind", KINDS)
async def test_two_thousand_studies_are_moved_whoever_is_killed(kind: str, tmp_path: Path) -> None:
    await migrated(kind, tmp_path, Spec(studies=2000, series=1, instances=4, size=3_000), kills=20, source_kills=2)
