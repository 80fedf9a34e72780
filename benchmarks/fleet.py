"""What three hosts make of a PACS that limits the rate of each association, beside what one of them does.

The hosts, the PACS and a PostgreSQL are network namespaces at one switch, those of the tests.  The time is that of the
commands, from the start of all to the end of the last one: whoever has nothing left to do looks every five seconds
whether the others have ended.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from benchmarks import yardstick
from benchmarks.objects import Mismatch, compare
from benchmarks.peers import ProgramFailed
from benchmarks.results import Column, Goal, Run, rotated

STUDIES, INSTANCES, SIZE = 400, 10, 20_000

PACE_S = 0.1
"""The PACS waits so long before each object: 10 a second over each association."""

MOVES = 2
"""At once, of each host."""

HOSTS = {"1 host": 1, "3 hosts": 3}
ONE, THREE = HOSTS

COLUMNS = (
    Column("times faster than 1 host", "seconds", 2, ONE, inverse=True),
    Column("seconds", "seconds", 1),
    Column("objects/s", "objects_per_s", 0),
    Column("objects", "objects", 0, spread=False),
)


def setting(studies: int, instances: int) -> str:
    return f"{studies:,} studies of {instances}, {MOVES} moves a host, {1 / PACE_S:g} objects/s an association"


GOALS = (Goal("three hosts to one", setting(STUDIES, INSTANCES), THREE, "seconds", ">=", 2.5, ONE, inverse=True),)


def available() -> None:
    """Unavailable, if the machine lacks something."""
    from tests import lanes  # as all that is of the tests: the other benchmarks do without

    if why := lanes.netns() or lanes.postgresql():
        raise yardstick.Unavailable(f"the fleet is not measured: {why}")


async def run(hosts: int, result: Run, folder: Path, synthetic: str) -> None:
    """All studies by so many hosts; every byte compared, and the moves counted in the log of the PACS."""
    from tests.migrate.hosts import asked, at_one_switch

    with at_one_switch(hosts) as site, site.database() as cluster:
        cluster.create("fleet")
        where = site.url("fleet")
        async with AsyncExitStack() as stack:
            pacs = await stack.enter_async_context(site.pacs(folder / "pacs", synthetic, f"delay={PACE_S}"))
            await pacs.event("pacs.ready")
            async with site.plan("HOST1", where) as plan:
                if await plan.ended():
                    raise ProgramFailed(plan.errors)
            begun = time.monotonic()
            window = f"parallel={MOVES * hosts}"
            programs = [
                await stack.enter_async_context(site.run(title, where, folder / "in", window, "--parallel", str(MOVES)))
                for title in site.hosts
            ]
            codes = await asyncio.gather(*(program.process.wait() for program in programs))
            result.seconds = time.monotonic() - begun
            for program, code in zip(programs, codes, strict=True):
                if code:
                    raise ProgramFailed(f"exit code {code}: {program.errors}")
            if (most := asked(pacs.events).most) > MOVES * hosts:
                raise ProgramFailed(f"{most} moves at once, more than {MOVES * hosts}")
    compare(folder / "in", folder / "pacs")


def cell(studies: int, instances: int, size: int, rounds: int, folder: Path) -> list[Run]:
    """One host and three, round by round, in rotating order."""
    runs: list[Run] = []
    objects = studies * instances
    synthetic = f"studies={studies},series=1,instances={instances},size={size}"
    for number in range(rounds):
        for row, hosts in rotated(list(HOSTS.items()), number):
            result = Run(row, setting(studies, instances), number, objects, objects * size, studies=studies)
            own = Path(tempfile.mkdtemp(dir=folder))
            try:
                asyncio.run(run(hosts, result, own, synthetic))
            except (ProgramFailed, Mismatch) as failure:
                result.error = f"FAILED: {failure}"
            finally:
                shutil.rmtree(own)
            runs.append(result)
    return runs
