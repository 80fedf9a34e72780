"""Closed and open loops over workers whose operations take as long as a test says."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable

import pytest

from fastmove.bench.load import NOT_BEGUN, Drive, Load, Performed
from fastmove.errors import AssociationError, ConfigurationError

Operate = Callable[[int], Awaitable[object]]


class Worker:
    """Performs what it is told to, and keeps account."""

    def __init__(self, operate: Operate, log: list[Performed]) -> None:
        self._operate = operate
        self._log = log
        self.closed = False

    async def perform(self, item: int, due_at: float) -> None:
        began = time.monotonic()
        await self._operate(item)
        self._log.append(Performed(due_at, began, time.monotonic(), "0000", succeeded=True, kind=str(item)))

    async def close(self) -> None:
        self.closed = True


class Bench:
    """A drive over such workers."""

    def __init__(self, load: Load, operate: Operate, count: int | None = None) -> None:
        self.performed: list[Performed] = []
        self.left_out: list[Performed] = []
        self.workers: list[Worker] = []
        items = itertools.count() if count is None else iter(range(count))
        self.drive = Drive(load, items, lambda: self._worker(operate), self.left_out.append)

    def _worker(self, operate: Operate) -> Worker:
        self.workers.append(Worker(operate, self.performed))
        return self.workers[-1]


async def test_closed_loop_has_so_many_under_way_and_never_more() -> None:
    under_way: list[int] = []

    async def operate(_: int) -> None:
        under_way.append(bench.drive.under_way)
        await asyncio.sleep(0)

    bench = Bench(Load(parallel=3), operate, count=30)
    await bench.drive.run()
    assert sorted(int(each.kind) for each in bench.performed) == list(range(30))
    assert max(under_way) == 3
    assert all(worker.closed for worker in bench.workers)
    assert len(bench.workers) == 3


async def test_closed_loop_begins_nothing_after_its_duration() -> None:
    bench = Bench(Load(parallel=2, duration_s=0.1), lambda _: asyncio.sleep(0.001))
    await bench.drive.run()
    assert bench.performed
    assert all(each.began_at < bench.drive.began_at + 0.1 for each in bench.performed)


async def test_open_loop_keeps_its_rate_whatever_operations_take() -> None:
    bench = Bench(Load(parallel=50, rate_per_s=400.0, duration_s=0.5), lambda _: asyncio.sleep(0.05))
    await bench.drive.run()
    assert len(bench.performed) == pytest.approx(200, rel=0.25)
    gaps = [b.due_at - a.due_at for a, b in itertools.pairwise(sorted(bench.performed, key=lambda each: each.due_at))]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.3), "gaps of a Poisson process deviate by as much as they last"


async def test_arrivals_follow_from_the_seed() -> None:
    times = []
    for _ in range(2):
        bench = Bench(Load(parallel=9, rate_per_s=500.0, seed=7), lambda _: asyncio.sleep(0), count=20)
        await bench.drive.run()
        times.append([round(each.due_at - bench.drive.began_at, 9) for each in bench.performed])
    assert sorted(times[0]) == pytest.approx(sorted(times[1]))


async def test_stall_makes_late_all_that_was_due_meanwhile() -> None:
    async def operate(item: int) -> None:
        await asyncio.sleep(0.2 if item == 5 else 0)

    bench = Bench(Load(parallel=1, rate_per_s=500.0), operate, count=60)
    await bench.drive.run()
    slow = [each for each in bench.performed if each.latency_s > 0.05]
    assert len(slow) > 20, "an operation of 0.2 s makes one slow sample in a closed loop, and here dozens"


async def test_what_was_due_and_never_begun_is_told_of_with_the_time_that_it_waited() -> None:
    bench = Bench(Load(parallel=1, rate_per_s=200.0, duration_s=0.2), lambda _: asyncio.sleep(0.15))
    await bench.drive.run()
    assert len(bench.performed) == 2
    assert len(bench.left_out) > 10
    assert {each.status for each in bench.left_out} == {NOT_BEGUN}
    assert not any(each.succeeded for each in bench.left_out)
    assert all(each.latency_s >= 0 for each in bench.left_out)


async def test_stop_begins_nothing_more() -> None:
    async def operate(item: int) -> None:
        if item == 3:
            bench.drive.stop()

    bench = Bench(Load(), operate)
    await bench.drive.run()
    assert len(bench.performed) == 4


async def test_what_one_worker_cannot_survive_ends_the_others() -> None:
    async def operate(item: int) -> None:
        if item == 4:
            raise AssociationError("that is all")
        await asyncio.sleep(0.001)

    bench = Bench(Load(parallel=4), operate)
    with pytest.raises(AssociationError, match="that is all"):
        await bench.drive.run()
    assert all(worker.closed for worker in bench.workers)


def test_rate_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        Load(rate_per_s=0.0)


async def test_open_loop_ends_with_its_duration_however_late_the_next_arrival_is() -> None:
    bench = Bench(Load(rate_per_s=0.001, duration_s=0.2), lambda _: asyncio.sleep(0))
    async with asyncio.timeout(5):
        await bench.drive.run()
    assert not bench.performed
