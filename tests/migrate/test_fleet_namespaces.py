"""A fleet as it is meant: each host, the PACS and the database in a network namespace of their own, at one switch.

How many moves there were, and of what, is read from the PACS's own log.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
from benchmarks.objects import datasets

from fastmove.ledger.model import Batch, Instance, Job, JobState
from fastmove.ledger.store import LOST, Ledger
from tests.integration.programs import Program
from tests.migrate.hosts import POSTGRESQL, Asked, Site, asked, at_one_switch

pytestmark = [pytest.mark.lane("netns"), pytest.mark.lane("postgresql")]

ROOT: Final = Path(__file__).parents[2]
TAKEN_OVER_S: Final = 60.0
FREED_S: Final = 180.0
"""When the slots of a host that has vanished are others' at the latest."""

NOTICED_S: Final = 16.0
"""When a host knows that it cannot reach the database, at the latest."""

INCOMPLETE: Final = 71
STOPPED: Final = 72
LEDGER_LOST: Final = 73


class Trial(NamedTuple):
    """A planned migration that hosts of a site may run."""

    site: Site
    where: str
    """Of the ledger, as the hosts reach it."""

    ledger: Ledger
    batch: Batch
    pacs: Program
    folder: Path
    studies: int
    instances: int

    @property
    def asked(self) -> Asked:
        return asked(self.pacs.events)

    def moves(self, *titles: str) -> list[Mapping[str, Any]]:
        """The moves to these hosts that are under way, as the PACS has it."""
        return [move for move in self.asked.under_way if move["move_destination"] in titles]

    def run(self, title: str, window: str) -> Program:
        return self.site.run(title, self.where, self.folder / "in", window)

    def stored(self, *titles: str) -> dict[str, list[Path]]:
        """What is in the folders of these hosts, or of all: no object is twice in one."""
        folders = [self.folder / "in" / title for title in titles or self.site.hosts]
        found: dict[str, list[Path]] = {}
        for path in chain.from_iterable(folder.rglob("*.dcm") for folder in folders):
            found.setdefault(path.stem, []).append(path)
        return found

    async def moving(self, title: str) -> list[Job]:
        """The studies that a host has in hand."""
        jobs = await self.ledger.jobs(self.batch.id, states=(JobState.MOVING,), limit=self.studies)
        return [job for job in jobs if job.owner.endswith(f":{title}")]

    async def is_complete(self) -> None:
        """All is recorded, once; and each study lies whole in the folder of one host, byte for byte."""
        summary = await self.ledger.summary(self.batch.id)
        total = self.studies * self.instances
        assert summary.states[JobState.COMPLETE].studies == self.studies
        assert summary.total.stored == total
        kept = datasets(self.folder / "pacs")
        folders = [self.stored(title) for title in self.site.hosts]
        recorded: list[str] = []
        brought = 0
        for job in await self.ledger.jobs(self.batch.id, limit=self.studies):
            instances = [each async for each in self.ledger.instances(job.id)]
            recorded += [each.sop_instance_uid for each in instances]
            brought += sum(attempt.stored for attempt in await self.ledger.attempts(job.id))
            assert any(self.holds(folder, instances) for folder in folders)
        assert sorted(recorded) == sorted(uid.decode() for uid in kept)
        for title in self.site.hosts:
            for uid, (path, begin) in datasets(self.folder / "in" / title).items():
                sent, sent_begin = kept[uid]
                assert path.read_bytes()[begin:] == sent.read_bytes()[sent_begin:]
        twice = sum(len(paths) - 1 for paths in self.stored().values())
        assert total <= brought <= total + twice, "what is counted came"
        minutes = await self.ledger.progress(self.batch.id, 0)
        assert (sum(each.instances for each in minutes), sum(each.studies for each in minutes)) == (
            brought,
            self.studies,
        )

    @staticmethod
    def holds(folder: Mapping[str, list[Path]], instances: Sequence[Instance]) -> bool:
        """True if these are the files of a host."""
        return all(
            (paths := folder.get(each.sop_instance_uid, []))
            and hashlib.sha256(paths[0].read_bytes()).digest() == each.digest
            for each in instances
        )


@asynccontextmanager
async def planned(tmp_path: Path, studies: int, instances: int, delay_s: float) -> AsyncIterator[Trial]:
    """A PACS with so many studies, each of whose associations brings an object after every `delay_s`."""
    async with AsyncExitStack() as stack:
        site = stack.enter_context(at_one_switch(3))
        cluster = stack.enter_context(site.database())
        socket, where = cluster.create("fleet"), site.url("fleet")
        synthetic = f"studies={studies},series=1,instances={instances},size=4k"
        pacs = await stack.enter_async_context(site.pacs(tmp_path / "pacs", synthetic, f"delay={delay_s}"))
        await pacs.event("pacs.ready")
        async with site.plan("HOST1", where) as plan:
            assert await plan.ended() == 0
        ledger = await stack.enter_async_context(Ledger.open(socket, read_only=True))
        batch = await ledger.batch("migration")
        yield Trial(site, where, ledger, batch, pacs, tmp_path, studies, instances)


async def until(holds: Callable[[], bool | Awaitable[bool]], seconds: float = 30.0) -> float:
    """Wait until it holds; after how many seconds it did."""
    begun = time.monotonic()
    async with asyncio.timeout(seconds):
        while True:
            held = holds()
            if held if isinstance(held, bool) else await held:
                return time.monotonic() - begun
            await asyncio.sleep(0.05)


async def all_ended(seconds: float, *programs: Program) -> list[int]:
    """The exit codes of these, once all have ended."""
    async with asyncio.timeout(seconds):
        for program in programs:
            await program.process.wait()
    return [await program.ended() for program in programs]


async def taken_over(trial: Trial, dead: Collection[Job]) -> float:
    """Wait until all of these are in other hands, or complete; after how many seconds they were."""
    left = {job.id for job in dead}
    lost = {job.owner for job in dead}

    async def others_have_them() -> bool:
        for job_id in tuple(left):
            last = (await trial.ledger.attempts(job_id))[-1]
            if last.owner not in lost:
                left.remove(job_id)
        return not left

    return await until(others_have_them, TAKEN_OVER_S + 30.0)


def under_way_for(trial: Trial, title: str) -> list[float]:
    """How long each move of a host has been under way, in seconds."""
    return [time.time() - move["time"] for move in trial.moves(title)]


# ---------------------------------------------------------------------- who comes and goes


async def test_hosts_join_and_leave_and_the_pacs_never_sees_more_moves_than_allowed(tmp_path: Path) -> None:
    async with planned(tmp_path, 250, 5, 0.1) as trial, AsyncExitStack() as running:

        async def join(title: str) -> Program:
            return await running.enter_async_context(trial.run(title, "parallel=4"))

        one = await join("HOST1")
        await until(lambda: len(trial.moves("HOST1")) == 4)
        two = await join("HOST2")
        await until(lambda: len(trial.moves("HOST2")) == 2)
        three = await join("HOST3")
        await until(lambda: len(trial.moves("HOST3")) >= 1)
        assert await two.stopped() == STOPPED
        one.signal(signal.SIGINT)  # it ends with what it has in hand
        again = await join("HOST2")
        assert await one.ended() == STOPPED
        assert await all_ended(60.0, three, again) == [0, 0]
        assert trial.asked.most == 4
        await trial.is_complete()
        again = [study for study, asked_for in trial.asked.instances.items() if asked_for.total() != trial.instances]
        assert len(again) <= 4, "none but those that were under way when a host left"
        assert all(trial.stored(title) for title in trial.site.hosts)


# ---------------------------------------------------------------------- who dies, and who is cut off


@pytest.mark.nightly
@pytest.mark.timeout(300)
async def test_killed_host_is_replaced_within_a_minute_and_only_its_studies_are_asked_for_again(tmp_path: Path) -> None:
    async with planned(tmp_path, 400, 12, 0.1) as trial, AsyncExitStack() as running:
        one, two, three = [
            await running.enter_async_context(trial.run(title, "parallel=6")) for title in trial.site.hosts
        ]
        await until(lambda: trial.asked.most == 6)

        async def in_mid_study() -> bool:
            return any(0 < job.stored < trial.instances for job in await trial.moving("HOST2"))

        await until(in_mid_study)
        two.signal(signal.SIGKILL)
        await two.ended()
        dead = await trial.moving("HOST2")
        assert await taken_over(trial, dead) < TAKEN_OVER_S
        assert await all_ended(180.0, one, three) == [0, 0]
        await trial.is_complete()
        found = trial.asked
        assert found.most == 6
        lost = {job.id for job in dead}
        halves = 0
        for job in await trial.ledger.jobs(trial.batch.id, limit=trial.studies):
            first, *others = await trial.ledger.attempts(job.id)
            of_study = found.instances[job.job.study_instance_uid]
            if job.id in lost:  # a host with a folder of its own has nothing of what the dead one had in its own
                assert (first.verdict, len(others)) == (LOST, 1)
                assert of_study.total() - of_study["HOST2"] == trial.instances == others[0].stored
                halves += 0 < first.stored < trial.instances
            else:
                assert (others, of_study.total()) == ([], trial.instances)
        assert halves


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_host_that_loses_its_link_is_replaced_and_what_it_says_late_is_refused(tmp_path: Path) -> None:
    async with planned(tmp_path, 190, 40, 0.1) as trial, AsyncExitStack() as running:
        one, two, three = [
            await running.enter_async_context(trial.run(title, "parallel=6")) for title in trial.site.hosts
        ]
        # In the midst of studies, none of which has just been ended: it has nothing to do that it could not do later.
        await until(
            lambda: len(each := under_way_for(trial, "HOST2")) == 2 and 0.5 < min(each) <= max(each) < 3.0, 60.0
        )
        trial.site.hosts["HOST2"].link("down")
        lost = await trial.moving("HOST2")
        assert await taken_over(trial, lost) < TAKEN_OVER_S
        # Not before the PACS has given up what it could not deliver others may have so many moves more.
        await until(lambda: len(trial.moves("HOST1", "HOST3")) == 6, FREED_S)
        assert not trial.moves("HOST2")
        assert two.process.returncode is None
        before = [await trial.ledger.attempts(job.id) for job in lost]
        assert {first.verdict for first, *_ in before} == {LOST}
        trial.site.hosts["HOST2"].link("up")
        await two.event("migrate.taken_over")
        codes = await all_ended(120.0, one, two, three)
        assert codes[::2] == [0, 0] and codes[1] in (0, INCOMPLETE), (
            "it goes on, or ends and says that it has not seen all"
        )
        after = [await trial.ledger.attempts(job.id) for job in lost]
        assert [(first.owner, first.stored) for first, *_ in after] == [
            (first.owner, first.stored) for first, *_ in before
        ]
        assert trial.asked.most == 6
        await trial.is_complete()


@pytest.mark.nightly
@pytest.mark.timeout(600)
async def test_host_that_cannot_reach_the_database_cancels_its_moves_and_is_replaced(tmp_path: Path) -> None:
    async with planned(tmp_path, 100, 40, 0.1) as trial, AsyncExitStack() as running:
        one, two, three = [
            await running.enter_async_context(trial.run(title, "parallel=6")) for title in trial.site.hosts
        ]
        await until(
            lambda: len(each := under_way_for(trial, "HOST2")) == 2 and 0.5 < min(each) <= max(each) < 3.0, 60.0
        )
        trial.site.cut_off("HOST2", POSTGRESQL)
        cut_at = time.time()
        lost = await trial.moving("HOST2")
        assert await taken_over(trial, lost) < TAKEN_OVER_S
        assert not trial.moves("HOST2")
        last = max(event["time"] for event in trial.pacs.seen("move.requested") if event["move_destination"] == "HOST2")
        assert last - cut_at < NOTICED_S
        trial.site.join("HOST2", POSTGRESQL)
        codes = await all_ended(180.0, one, two, three)
        assert codes in ([0, 0, 0], [0, LEDGER_LOST, 0])
        assert trial.asked.most == 6
        await trial.is_complete()


# ---------------------------------------------------------------------- what it is for


def fleet_benchmark(path: Path, *options: str) -> dict[str, Any]:
    """What `python -m benchmarks fleet` measures."""
    command = [sys.executable, "-m", "benchmarks", "fleet", "--json", str(path), *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    measured: dict[str, Any] = json.loads(path.read_text())
    return measured


def test_fleet_benchmark_compares_three_hosts_with_one(tmp_path: Path) -> None:
    found = fleet_benchmark(tmp_path / "f.json", "--rounds", "1", "--studies", "60", "--instances", "3")
    assert {(run["row"], run["objects"], run["error"]) for run in found["runs"]} == {
        ("1 host", 180, ""),
        ("3 hosts", 180, ""),
    }


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_three_hosts_are_more_than_two_and_a_half_times_as_fast_as_one(tmp_path: Path) -> None:
    (goal,) = fleet_benchmark(tmp_path / "f.json")["goals"]
    assert goal["measured"] >= 2.5, goal["text"]
