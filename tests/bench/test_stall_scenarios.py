"""Twenty seeded scenarios: a PACS, or this host, is slow in one way above all, and the benchmark says in which."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

import pytest

from fastmove.bench.load import Load
from fastmove.bench.spec import Spec
from fastmove.services.receiver import Receiver
from fastmove.storage.target import StorageTarget
from tests.bench.benching import benching

SCENARIOS: Final = 20
RIGHT: Final = 19


class Scenario(NamedTuple):
    """What is slow, and how."""

    stall: str
    faults: tuple[str, ...] = ()
    disk_s: float = 0.0
    """Of our own disk, an object."""

    cpu_s: float = 0.0
    """Of our own processor, an object."""

    spec: Spec = Spec()
    parallel: int = 1


def scenario(seed: int) -> Scenario:
    """One of them; each kind of slowness comes four times, with something smaller beside it."""
    random = Random(seed)
    slow_s = random.uniform(0.012, 0.035)
    beside = random.choice(((), (), ("delay=0.002",), ("rtt=0.001",)))
    made = (
        Scenario("pacs", (random.choice((f"delay={slow_s:.4f}", f"first-delay={12 * slow_s:.4f}")),)),
        Scenario("network", (random.choice((f"rtt={slow_s:.4f}", f"bandwidth={random.randint(2, 5)}M")),)),
        Scenario("nagle", ("stall=0.0405", *beside)),
        Scenario("disk", beside, disk_s=slow_s),
        Scenario("cpu", beside, cpu_s=slow_s / 2),
    )[seed % 5]
    size = random.choice((20_000, 60_000, 120_000))
    spec = Spec(studies=2, series=1, instances=random.randint(8, 14), size=size)
    return made._replace(spec=spec, parallel=random.choice((1, 2)))


def slowed(patch: pytest.MonkeyPatch, case: Scenario) -> None:
    """This host as slow as a scenario wants it."""
    commit: Callable[..., Any] = StorageTarget.commit
    stored: Callable[..., Any] = Receiver._stored

    def slow_commit(self: StorageTarget, *arguments: Any) -> Any:
        time.sleep(case.disk_s)  # in the disk's own thread, as a disk is
        return commit(self, *arguments)

    def slow_stored(self: Receiver, *arguments: Any) -> Any:
        until = time.thread_time() + case.cpu_s
        while time.thread_time() < until:
            pass
        return stored(self, *arguments)

    if case.disk_s:
        patch.setattr(StorageTarget, "commit", slow_commit)
    if case.cpu_s:
        patch.setattr(Receiver, "_stored", slow_stored)


async def told(case: Scenario, folder: Path) -> str:
    """What takes most of the time, as the benchmark has it."""
    with pytest.MonkeyPatch.context() as patch:
        slowed(patch, case)
        async with benching(case.spec, *case.faults, folder=folder, durable=True) as benched:
            run = await benched.run(Load(parallel=case.parallel))
    stalls: dict[str, float] = run["stalls_s"]
    return max(stalls, key=stalls.__getitem__)


async def test_right_stall_is_named_in_nineteen_of_twenty_scenarios(tmp_path: Path) -> None:
    wrong = []
    for seed in range(SCENARIOS):
        case = scenario(seed)
        if (found := await told(case, tmp_path / str(seed))) != case.stall:
            wrong.append((seed, case, found))
    assert len(wrong) <= SCENARIOS - RIGHT, wrong
