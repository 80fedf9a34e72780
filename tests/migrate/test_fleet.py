"""Several hosts at one migration: each study once, no more moves than allowed, and who dies is replaced."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.ledger.model import Batch, JobState
from fastmove.ledger.store import Ledger
from fastmove.migrate.allowance import Policy
from fastmove.migrate.engine import Ended, Engine
from fastmove.migrate.files import Files
from fastmove.migrate.fleet import FleetClaims, queue_of
from fastmove.migrate.windows import Windows, parse_window
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.storage.options import WriteOptions
from fastmove.storage.template import naming
from tests.compat.harness import reserved_port
from tests.contract.postgresql import Cluster, running
from tests.integration.embedded import HOST, EmbeddedPacs, embedded_pacs
from tests.integration.programs import Program
from tests.migrate.migrating import LIMITS, Migrating

pytestmark = pytest.mark.lane("postgresql")

SPEC: Final = Spec(studies=60, series=1, instances=6, size=3_000)
NAMES: Final = count(1)
ALWAYS: Final = "daily 00:00-24:00 parallel=4"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture
def database(postgresql: Cluster) -> Iterator[str]:
    name = f"fleet_{next(NAMES)}"
    yield postgresql.create(name)
    postgresql.drop(name)


class Fleet:
    """Hosts that run one batch, each with a ledger connection, a listener and a folder of its own."""

    def __init__(self, pacs: EmbeddedPacs, where: str, folder: Path, window: str) -> None:
        self.pacs = pacs
        self.where = where
        self.folder = folder
        self.window = window
        self.engines: dict[str, Engine] = {}

    @asynccontextmanager
    async def host(self, name: str, port: int) -> AsyncIterator[Callable[[], asyncio.Task[Ended]]]:
        """A host that is there, and what starts its run."""
        self.pacs.going_to(name, port)
        async with AsyncExitStack() as opened:
            ledger = await opened.enter_async_context(Ledger.open(self.where))
            batch: Batch = await ledger.batch("migration")
            queue = await opened.enter_async_context(queue_of(self.where, batch))
            slots = await opened.enter_async_context(ledger.slots(batch.id))
            engine = self.engines[name] = Engine(
                ledger,
                batch,
                RetrieveConfig(self.pacs.address, ae_title=name, limits=LIMITS, rounds=1),
                Policy(Windows([parse_window(self.window)], UTC), gentle=False),
                name,
                host=HOST,
                port=port,
                claims=partial(FleetClaims, queue=queue),
                slots=slots,
            )
            options = WriteOptions(durable=False, naming=naming("series"))
            files = await opened.enter_async_context(Files(self.folder / name, options, engine.recorder.add, reserve=0))
            yield lambda: asyncio.create_task(engine.run(files))

    def files(self) -> list[str]:
        return sorted(path.stem for path in self.folder.rglob("*.dcm"))


@asynccontextmanager
async def fleet(
    where: str, tmp_path: Path, *faults: str, window: str = "daily 00:00-24:00 parallel=4"
) -> AsyncIterator[Fleet]:
    async with (
        embedded_pacs(SPEC, faults=faults, storage_idle_s=1.0) as pacs,
        Ledger.open(where, create=True) as ledger,
    ):
        batch = await ledger.add_batch("migration", str(pacs.address), {}, time.time())
        await Migrating(pacs, ledger, batch, tmp_path, 0).plan()
        yield Fleet(pacs, where, tmp_path / "in", window)


async def test_each_study_is_moved_once_by_one_of_the_hosts_and_never_more_at_once_than_allowed(
    database: str, tmp_path: Path
) -> None:
    names = ("ONE", "TWO", "THREE")
    async with fleet(database, tmp_path, "delay=0.06") as made, AsyncExitStack() as opened:
        starts = []
        for name in names:
            port = opened.enter_context(reserved_port())
            starts.append(await opened.enter_async_context(made.host(name, port)))
        ended = await asyncio.gather(*(start() for start in starts))
        assert set(ended) == {Ended.FINISHED}
        assert made.files() == sorted(made.pacs.instances())
        assert set(made.pacs.sent.values()) == {1}
        assert made.pacs.most_moves <= 4
        assert all(list((made.folder / name).rglob("*.dcm")) for name in names), "all had something to do"
        async with Ledger.open(database, read_only=True) as ledger:
            summary = await ledger.summary((await ledger.batch("migration")).id)
        assert summary.total.stored == 60 * 6


async def test_host_that_joins_gets_its_share_and_one_that_leaves_gives_back_what_it_has(
    database: str, tmp_path: Path
) -> None:
    async with fleet(database, tmp_path, "delay=0.05") as made, AsyncExitStack() as opened:
        ports = [opened.enter_context(reserved_port()) for _ in range(2)]
        first = await opened.enter_async_context(made.host("ONE", ports[0]))
        running = first()
        one = made.engines["ONE"]
        async with asyncio.timeout(20):
            while one.retrieve is None or one.retrieve.parallelism.limit < 4:
                await asyncio.sleep(0.05)
        second = await opened.enter_async_context(made.host("TWO", ports[1]))
        joined = second()
        two = made.engines["TWO"]
        async with asyncio.timeout(20):
            while two.objects < 6:
                await asyncio.sleep(0.05)
        two.stop()
        assert await joined is Ended.STOPPED
        assert await running is Ended.FINISHED
        assert sorted(set(made.files())) == sorted(made.pacs.instances())
        assert made.pacs.most_moves <= 4


@pytest.mark.nightly
@pytest.mark.timeout(180)
async def test_host_that_dies_in_mid_study_is_replaced_within_a_minute_and_nothing_is_recorded_twice(
    database: str, tmp_path: Path
) -> None:
    async with fleet(database, tmp_path, "delay=0.2") as made, AsyncExitStack() as opened:
        ports = [opened.enter_context(reserved_port()) for _ in range(2)]
        made.pacs.going_to("TWO", ports[1])
        there = (database, str(made.pacs.address), "--aet", "TWO", "--port", str(ports[1]))
        here = ("--to", tmp_path / "two", "--no-durable", "--reserve", "0", "--no-gentle", "--window", ALWAYS)
        first = await opened.enter_async_context(made.host("ONE", ports[0]))
        async with Program("migrate", "run", *there, *here) as program:
            await program.event("move.progressed")
            program.signal(signal.SIGKILL)
            await program.ended()
        died = time.monotonic()
        async with Ledger.open(database, read_only=True) as ledger:
            batch = await ledger.batch("migration")
            dead = {job.id for job in await ledger.jobs(batch.id, states=(JobState.MOVING,))}
            assert dead
            running = first()
            async with asyncio.timeout(90):
                while {job.id for job in await ledger.jobs(batch.id, states=(JobState.MOVING,)) if job.owner != "ONE"}:
                    await asyncio.sleep(0.2)
            assert time.monotonic() - died < 60
            assert await running is Ended.FINISHED
            summary = await ledger.summary(batch.id)
            assert summary.states[JobState.COMPLETE].studies == 60
            assert summary.total.stored == 60 * 6
            for job in await ledger.jobs(batch.id):
                assert len(await ledger.held(job.id)) == 6


@pytest.mark.lane("systemd")
def test_unit_says_nothing_that_systemd_does_not_know(tmp_path: Path) -> None:
    unit = Path(__file__).parents[2] / "packaging/fleet/fastmove-migrate@.service"
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/fastmove/bin/fastmove", sys.executable))
    shown = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert unit.name not in shown.stderr, shown.stderr
