"""A migration of the embedded PACS, in the loop of a test: planned, run as often as it takes, and looked at."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, tzinfo
from pathlib import Path
from typing import Any, Final

from fastmove.bench.spec import Spec
from fastmove.ledger.model import Batch, Instance, Job
from fastmove.ledger.store import Ledger
from fastmove.limits import Limits
from fastmove.migrate.allowance import Policy
from fastmove.migrate.destination import Destination
from fastmove.migrate.engine import Ended, Engine
from fastmove.migrate.files import Files
from fastmove.migrate.forward import Forward, Proof
from fastmove.migrate.plan import inventory
from fastmove.migrate.third_party import ThirdParty
from fastmove.migrate.windows import Windows, parse_window
from fastmove.notices import Notice
from fastmove.services.finder import Finder
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.selection.resolution import Unresolved
from fastmove.services.selection.selection import Query, Selection
from fastmove.services.storage_commitment import CommitmentReceiver
from fastmove.storage.attribute_rules import AttributeRules
from fastmove.storage.options import WriteOptions
from fastmove.storage.template import naming
from fastmove.types import PeerAddress
from tests.compat.harness import reserved_port
from tests.integration.embedded import HOST, EmbeddedPacs, embedded_pacs

OURS: Final = "MIGRATE"
EVERYTHING: Final = Selection(queries=(Query(("StudyDate=19900101-",)),))
LIMITS: Final = Limits(connect_s=2.0, associate_s=2.0, release_s=2.0, drain_s=0.5, stop_s=1.0, away_s=0.5, retry_s=0.05)


class Clock:
    """The time in seconds since 1970 as the ledger and the windows see it: it goes on, and can be put forward."""

    def __init__(self, at: datetime | None = None) -> None:
        self.ahead = 0.0 if at is None else at.timestamp() - time.time()

    def __call__(self) -> float:
        return time.time() + self.ahead

    def put_forward(self, seconds: float) -> None:
        self.ahead += seconds


class Migrating:
    """A ledger, a PACS and a folder."""

    def __init__(self, pacs: EmbeddedPacs, ledger: Ledger, batch: Batch, folder: Path, port: int) -> None:
        self.pacs = pacs
        self.ledger = ledger
        self.batch = batch
        self.folder = folder
        self.port = port
        self.clock = Clock()
        self.notices: list[Notice] = []
        self.engine: Engine | None = None
        self.layout = "series"
        self.rules: AttributeRules | None = None
        self.move_destination = ""
        self.destination: Callable[[Engine], Destination] | None = None
        self.reports: CommitmentReceiver | None = None

    async def plan(self, selection: Selection = EVERYTHING) -> Any:
        """Put what the PACS has into the ledger."""
        finder = Finder(self.pacs.address, OURS, "study", LIMITS)
        unresolved: list[Unresolved] = []
        try:
            found = inventory(selection, finder, unresolved.append, today=date.today())
            jobs = [job async for job in found]
        finally:
            await finder.close()
        assert not unresolved
        return await self.ledger.add(self.batch.id, jobs, self.clock())

    def made(
        self, *windows: str, layout: str = "series", closing_s: float = 60.0, zone: tzinfo = UTC, **config: Any
    ) -> Engine:
        """An engine that is to run."""
        given = {"move_destination": self.move_destination, **config}
        wanted = RetrieveConfig(self.pacs.address, ae_title=OURS, limits=LIMITS, rounds=1, **given)
        policy = Policy(Windows([parse_window(each) for each in windows], zone), closing_s=closing_s)
        self.engine = Engine(
            self.ledger,
            self.batch,
            wanted,
            policy,
            "host:1",
            host=HOST,
            port=self.port,
            notify=self.notices.append,
            now=self.clock,
            reports=self.reports,
        )
        self.layout = layout
        return self.engine

    async def run(self, *windows: str, **options: Any) -> Ended:
        """A run to its end."""
        engine = self.made(*windows, **options)
        return await self.running(engine)

    async def running(self, engine: Engine) -> Ended:
        """The run of an engine that was made."""
        destination = self.destination(engine) if self.destination is not None else self._files(engine)
        async with destination:
            return await engine.run(destination)

    def _files(self, engine: Engine) -> Files:
        options = WriteOptions(durable=False, naming=naming(self.layout), rules=self.rules)
        return Files(self.folder, options, engine.recorder.add, reserve=0, notify=self.notices.append)

    def forwarding(self, peer: PeerAddress, proof: Proof, **options: Any) -> None:
        """From now on everything goes on to this PACS."""
        self.reports = CommitmentReceiver(self.notices.append)

        def destination(engine: Engine) -> Forward:
            return Forward(
                peer,
                OURS,
                self.folder,
                WriteOptions(durable=False, rules=self.rules),
                engine.recorder.add,
                proof=proof,
                limits=LIMITS.replace(commit_s=20.0),
                reports=self.reports,
                reserve=0,
                notify=self.notices.append,
                **options,
            )

        self.destination = destination

    @asynccontextmanager
    async def started(self, *windows: str, **options: Any) -> AsyncIterator[tuple[Engine, asyncio.Task[Ended]]]:
        """A run under way; what is left of it at the end of the block is ended."""
        engine = self.made(*windows, **options)
        running = asyncio.create_task(self.running(engine))
        try:
            yield engine, running
        finally:
            while not running.done():
                engine.interrupt(at_once=True)
                await asyncio.wait([running], timeout=2.0)

    def sending_to(self, peer: PeerAddress) -> None:
        """From now on the PACS sends everything straight to this one."""
        self.pacs.going_to(peer.ae_title, peer.port)
        self.move_destination = peer.ae_title

        def destination(engine: Engine) -> ThirdParty:
            return ThirdParty(peer, engine.config, engine.recorder.add)

        self.destination = destination

    async def jobs(self) -> dict[str, Job]:
        """All studies, by UID."""
        return {job.job.study_instance_uid: job for job in await self.ledger.jobs(self.batch.id, limit=10_000)}

    async def instances(self) -> dict[str, Instance]:
        """All instances that are recorded, by UID."""
        found = {}
        for job in (await self.jobs()).values():
            async for instance in self.ledger.instances(job.id):
                found[instance.sop_instance_uid] = instance
        return found

    def files(self) -> dict[str, Path]:
        """All objects in the folder, by the UID in their names."""
        return {path.stem: path for path in self.folder.rglob("*.dcm")}

    async def states(self) -> dict[str, int]:
        """How many studies are in which state, those that there are."""
        summary = await self.ledger.summary(self.batch.id)
        return {state.value: total.studies for state, total in summary.states.items() if total.studies}

    async def events(self) -> Sequence[str]:
        """The kinds of events so far, the first one first."""
        return [event.kind for event in reversed(await self.ledger.events(self.batch.id))]


@asynccontextmanager
async def migrating(spec: Spec, tmp_path: Path, *faults: str, planned: bool = True) -> AsyncIterator[Migrating]:
    """A PACS with these studies and faults, which are planned."""
    with reserved_port() as port:
        async with (
            embedded_pacs(spec, faults=faults, storage_idle_s=1.0) as pacs,
            Ledger.open(tmp_path / "a.ledger", create=True) as ledger,
        ):
            pacs.going_to(OURS, port)
            batch = await ledger.add_batch("migration", str(pacs.address), {}, time.time())
            made = Migrating(pacs, ledger, batch, tmp_path / "in", port)
            if planned:
                await made.plan()
            yield made


async def until_finished(made: Migrating, engine: Engine | None = None) -> None:
    """Run; studies that are to be tried again are so at once."""
    engine = engine or made.made()
    running = asyncio.create_task(made.running(engine))
    async with asyncio.timeout(60):
        while not running.done():
            if engine.tried_again:
                made.clock.put_forward(600)
            await asyncio.sleep(0.05)
    assert await running is Ended.FINISHED
