"""The ledger at the size of a whole archive: studies added, claimed, recorded and finished, and what looking costs.

Hand by hand, as a migration does: some claims, the instances of these studies, some finished one by one. The others of
a hand are completed by one statement that is not measured: a million transactions of their own take half an hour.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path

from sqlalchemy import text, update

from benchmarks.machine import cpu_s, machine_busy_s
from benchmarks.results import Column, Goal, Run
from fastmove.ledger.model import Claimed, Instance, JobState, Outcome, StudyJob
from fastmove.ledger.schema import study_job
from fastmove.ledger.store import CHUNK, Ledger

STUDIES, INSTANCES = 2_000, 20
CLAIMED = 16
"""Studies of one claim."""

HAND = 10
"""Claims of a hand."""

RECORDED = 2_000
"""Instances in one transaction: what comes in a quarter of a second, at most."""

FINISHED = 2
"""Studies of a hand that are finished one by one."""

LEFT = 0.05
"""Share of the studies that stay READY."""

LOOKS = 5
"""Summaries; and of the studies that are looked up, a hundred times as many."""

SERIES = 2
"""Of a study."""

CT, EXPLICIT = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2.1"
LEASE_S = 45.0
NOW = 1_800_000_000.0
SQLITE, POSTGRESQL = "SQLite", "PostgreSQL"

COLUMNS = (
    Column("objects", "objects", 0, spread=False),
    Column("objects/s", "objects_per_s", 0),
    Column("seconds", "seconds", 3),
    Column("p99 us", "response_us", 0),
    Column("CPU us/object", "cpu_us_per_object", 1),
)
GOALS = (
    Goal("studies are added", SQLITE, "add", "objects_per_s", ">=", 50_000),
    Goal("p99 of a claim, us", SQLITE, f"claim of {CLAIMED}", "response_us", "<=", 5_000),
    Goal("a summary, seconds", SQLITE, "summary", "seconds", "<=", 1.0),
)


@dataclass
class Watch:
    """What one kind of call has taken, over all calls."""

    row: str
    objects: int = 0
    cpu_s: float = 0.0
    machine_s: float = 0.0
    calls_s: list[float] = field(default_factory=list)

    @asynccontextmanager
    async def call(self, objects: int) -> AsyncIterator[None]:
        busy, machine = cpu_s(os.getpid()), machine_busy_s()
        start = time.perf_counter()
        yield
        self.calls_s.append(time.perf_counter() - start)
        self.cpu_s += cpu_s(os.getpid()) - busy
        self.machine_s += machine_busy_s() - machine
        self.objects += objects

    def run(self, setting: str, size_bytes: int, number: int = 0, note: str = "") -> Run:
        """All of it as one run, in a ledger of that size; the response time is that of the slowest but one in 100."""
        calls_s = sorted(self.calls_s)
        result = Run(self.row, setting, number, self.objects, size_bytes, sum(calls_s), self.cpu_s, estimated=note)
        result.others_cpu_s = max(0.0, self.machine_s - self.cpu_s)
        result.response_us = calls_s[int(0.99 * (len(calls_s) - 1))] * 1e6
        return result


def uid(number: int) -> str:
    """As long as they are, and in no order."""
    return f"1.2.826.0.1.3680043.8.498.{int.from_bytes(sha256(b'%d' % number).digest()[:12])}"


def plan(studies: int, instances: int) -> Iterator[StudyJob]:
    """As a PACS lists them."""
    for number in range(studies):
        yield StudyJob(uid(number), f"P{number // 3}", f"20{number % 26:02}0131", "CT", instances)


def instances_of(claim: Claimed) -> Iterator[Instance]:
    """Those of a study, each with a digest of its own."""
    study = claim.job.study_instance_uid
    for number in range(claim.job.instances or 0):
        series = f"{study[:-4]}.{number % SERIES}"
        sop = f"{study[:-4]}.{number % SERIES}.{number}"
        digest = sha256(sop.encode()).digest()
        place = f"{study}/{series}/{sop}.dcm"
        yield Instance(claim.id, claim.fence, sop, series, CT, EXPLICIT, 526_000 + number, digest, place)


async def migrate(ledger: Ledger, batch: int, studies: int) -> list[Watch]:
    """Hand by hand, until what is left is LEFT."""
    claim, record, finish = Watch(f"claim of {CLAIMED}"), Watch("record"), Watch("finish")
    while claim.objects < studies * (1 - LEFT):
        claims: list[Claimed] = []
        for _ in range(HAND):
            async with claim.call(0):
                claims += await ledger.claim(batch, "host", CLAIMED, LEASE_S, NOW)
        claim.objects += len(claims)
        rows = [instance for each in claims for instance in instances_of(each)]
        for start in range(0, len(rows), RECORDED):
            part = rows[start : start + RECORDED]
            async with record.call(len(part)):
                await ledger.record(part, NOW + claim.objects / 100)
        done = Outcome(JobState.COMPLETE, "complete", status=0, listed=0, seconds=1.0)
        for each in claims[:FINISHED]:
            async with finish.call(1):
                await ledger.finish(each, done, NOW)
        await complete(ledger, claims[FINISHED:])
    return [claim, record, finish]


async def complete(ledger: Ledger, claims: Sequence[Claimed]) -> None:
    """All at once."""
    statement = update(study_job).where(study_job.c.id.in_([each.id for each in claims]))
    values = {"state": JobState.COMPLETE, "verdict": "complete", "owner": "", "lease_ms": None}
    async with ledger._database.fact("complete") as connection:
        await connection.execute(statement.values(values))


async def look(ledger: Ledger, batch: int, studies: int, setting: str, size: int) -> list[Run]:
    """Summaries, one run each; and what is held of some studies."""
    runs = []
    for number in range(LOOKS):
        summary = Watch("summary")
        async with summary.call(studies):
            await ledger.summary(batch)
        runs.append(summary.run(setting, size, number))
    held = Watch("held")
    for number in range(100 * LOOKS):
        job = 1 + number * 7919 % studies
        async with held.call(1):
            await ledger.held(job)
    return [*runs, held.run(setting, size)]


async def size_bytes(ledger: Ledger, path: Path | None) -> int:
    """Of the file and its log, or of the database."""
    if path is not None:
        return sum(each.stat().st_size for each in path.parent.glob(path.name + "*"))
    async with ledger._database.read("size") as connection:
        return int((await connection.execute(text("SELECT pg_database_size(current_database())"))).scalar_one())


async def cell(where: str | Path, studies: int, instances: int) -> list[Run]:
    """Everything once, in a ledger that is made there."""
    path = where if isinstance(where, Path) else None
    setting = POSTGRESQL if path is None else SQLITE
    async with Ledger.open(where, create=True) as ledger:
        batch = await ledger.add_batch(f"benchmark {time.time_ns()}", "PACS@host:104", {}, NOW)
        runs = []
        for name in ("add", "add again"):
            watch, listed = Watch(name), plan(studies, instances)
            while part := list(islice(listed, CHUNK)):
                async with watch.call(len(part)):
                    await ledger.add(batch.id, part, NOW)
            runs.append(watch.run(setting, await size_bytes(ledger, path)))
        watches = await migrate(ledger, batch.id, studies)
        size = await size_bytes(ledger, path)
        note = f"{size / 1e6:,.0f} MB then, {size / watches[1].objects:,.0f} bytes an instance"
        runs += [watch.run(setting, size, note=note if watch.row == "record" else "") for watch in watches]
        return runs + await look(ledger, batch.id, studies, setting, size)
