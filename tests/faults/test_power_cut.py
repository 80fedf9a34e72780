"""G-B1, F13: the power is cut while objects come in; what was acknowledged before is there, whole, after it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.faults.forks import Forked, Forks
from tests.faults.listening import UID, listening
from tests.faults.power import Disk, disk
from tests.faults.senders import Objects, Senders, sending
from tests.faults.shim import EVER, Kind, Plan
from tests.integration.embedded import embedded_pacs
from tests.integration.retrieving import Retrieving

pytestmark = [pytest.mark.lane("power-cut", "gcc"), pytest.mark.timeout(300)]

OBJECTS: Final = Objects(300, 30_000)
ASSOCIATIONS: Final = 16
SAMPLE: Final = 50
"""Objects acknowledged before the last cut that are read again after the next; names are all looked for."""

MOST_CUTS: Final = 10
"""Until what is not durable must have lost something."""


@dataclass
class Findings:
    """What the power cuts of a run left."""

    cuts: int = 0
    acknowledged: int = 0
    """Before the last cut."""

    missing: set[int] = field(default_factory=set)
    torn: set[int] = field(default_factory=set)

    @property
    def lost(self) -> set[int]:
        return self.missing | self.torn


class Cutter:
    """Cuts the power of a disk, and compares what is left with what has been acknowledged by then."""

    def __init__(self, disk: Disk, folder: str, objects: Objects, random: Random) -> None:
        self.disk = disk
        self.found = Findings()
        self._folder = folder
        self._objects = objects
        self._random = random
        self._read = 0

    async def cut(self, acknowledged: Sequence[int]) -> None:
        """Once; the objects are those whose 0000 had come when the cut began."""
        before = list(acknowledged)
        image = await asyncio.to_thread(self.disk.cut)
        await asyncio.to_thread(self._look, image, before)
        self.found.cuts += 1
        self.found.acknowledged = len(before)

    def _look(self, image: Path, acknowledged: Sequence[int]) -> None:
        with self.disk.after(image) as mounted:
            there = {path.name: path for path in (mounted / self._folder).glob("*.dcm")}
            old, new = acknowledged[: self._read], acknowledged[self._read :]
            self._read = len(acknowledged)
            to_read = {*new, *self._random.sample(old, min(SAMPLE, len(old)))}
            for number in acknowledged:
                path = there.get(f"{UID}.{number}.dcm")
                if path is None:
                    self.found.missing.add(number)
                elif number in to_read and not self._objects.is_whole(number, path):
                    self.found.torn.add(number)


async def power_cuts(
    forks: Forks,
    plan: Plan | None,
    disk: Disk,
    options: Sequence[str],
    kind: Objects = OBJECTS,
    *,
    cuts: int,
    objects: int,
    seed: int = 1,
) -> Findings:
    """Objects come in on many associations; power cuts until they were so many, over so many, or something is lost."""
    random, numbers = Random(seed), count()
    cutter = Cutter(disk, "stored", kind, random)
    async with listening(forks, plan, disk.folder / "stored", *options) as listener:
        senders = Senders(listener.port, kind, lambda: next(numbers))
        senders.allow(0)
        async with sending(senders, ASSOCIATIONS):
            for number in range(1, cuts + 1):
                # The cut comes in the middle of these objects; those that look at it have time, the senders wait.
                senders.allow(number * objects // cuts)
                await senders.have_acknowledged(round((number - random.uniform(0.1, 0.9)) * objects / cuts))
                await cutter.cut(senders.acknowledged)
                if cutter.found.lost:
                    break
            await senders.have_acknowledged(number * objects // cuts)
        assert not senders.refused
        await cutter.cut(senders.acknowledged)
        assert await listener.program.stopped() == 0
    return cutter.found


@pytest.mark.parametrize(("kind", "cuts", "objects"), [("ext4", 20, 2000), ("xfs", 10, 1000)], ids=["ext4", "xfs"])
async def test_F13_power_cut_at_any_moment_loses_nothing_that_was_acknowledged(
    kind: str, cuts: int, objects: int, forks: Forks, tmp_path: Path
) -> None:
    with disk(tmp_path, kind) as under_test:
        found = await power_cuts(forks, None, under_test, (), cuts=cuts, objects=objects)
    assert (found.missing, found.torn) == (set(), set())
    assert found.cuts > cuts and found.acknowledged >= objects


LIES: Final[dict[str, tuple[tuple[str, ...], str]]] = {
    # options of the listener, a call that pretends to have been done
    "nothing is synced": (("--no-durable",), ""),
    "files are not": ((), "fdatasync"),
    "folders are not": ((), "fsync"),
}


@pytest.mark.parametrize("lie", LIES)
async def test_power_cut_finds_each_sync_that_is_not_done(lie: str, forks: Forks, plan: Plan, tmp_path: Path) -> None:
    options, op = LIES[lie]
    with disk(tmp_path, "ext4") as under_test, plan.rule(op, "/stored", Kind.PRETEND, 0, 1, EVER) as rule:
        found = await power_cuts(forks, plan, under_test, options, cuts=MOST_CUTS, objects=20 * MOST_CUTS)
    assert found.lost, f"{found.cuts} cuts, and all {found.acknowledged} objects are there"
    assert bool(rule.met) == bool(op)


# ---------------------------------------------------------------------- retrieve

STUDIES: Final = Spec(studies=2, series=1, instances=60, size=8_000)


@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_F13_retrieve_after_a_power_cut_asks_for_what_is_missing_and_for_nothing_else(
    kind: str, forks: Forks, tmp_path: Path
) -> None:
    async with embedded_pacs(STUDIES, faults=("delay=0.002",)) as pacs:
        with disk(tmp_path, kind) as under_test, reserved_port() as port:
            run = Retrieving(pacs, under_test.folder / "to", port)
            async with Forked(forks, None, *run.command) as program:
                await program.event("store.stored", 40)
                sent = set(pacs.sent)
                image = await asyncio.to_thread(under_test.cut)
                assert await program.ended() == 0
            await run.settled()
            with under_test.after(image) as mounted:
                pacs.misbehave()
                again = Retrieving(pacs, mounted / "to", port)
                before = again.whole()
                assert sent and sent <= before.keys() < pacs.files.keys()
                pacs.sent.clear()
                async with Forked(forks, None, *again.command) as program:
                    assert await program.ended() == 0, program.errors
                await again.settled()
                after = again.whole()
                assert after.items() >= before.items() and after.keys() == pacs.files.keys()
                assert pacs.sent.keys() == after.keys() - before.keys()
                assert not list(again.folder.rglob(".fm-*"))


# ---------------------------------------------------------------------- nightly

SMALL: Final = Objects(100, 900)


@pytest.mark.nightly
@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("kind", ["ext4", "xfs"])
async def test_F13_two_thousand_power_cuts_over_a_million_objects(
    kind: str, seed: int, forks: Forks, tmp_path: Path
) -> None:
    with disk(tmp_path, kind) as under_test:
        found = await power_cuts(forks, None, under_test, (), SMALL, cuts=100, objects=50_000, seed=seed)
    assert (found.missing, found.torn, found.acknowledged >= 50_000) == (set(), set(), True)
