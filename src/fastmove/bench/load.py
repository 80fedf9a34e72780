"""How a peer is loaded: so many operations at once (closed loop), or so many a second whatever becomes of them (open).

An open loop measures each operation from when it was due, not from when somebody was free to begin it: a peer that
stalls makes all that was due meanwhile late, as it would its users (coordinated omission).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from random import Random
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from fastmove.errors import ConfigurationError
from fastmove.values import Value

T = TypeVar("T", contravariant=True)
Item = TypeVar("Item")

NOT_BEGUN: Final = "not-begun"
"""The status of what was due in an open loop, and found nobody free before the time was over."""


TIMED_OUT: Final = "timed-out"
"""The status of what a limit of ours has ended."""


class Load(Value):
    """What is asked of a peer, and for how long."""

    parallel: int = 1
    """Operations at once: always (closed loop), or at most (open loop)."""

    rate_per_s: float | None = None
    """Arrivals a second, at random moments (Poisson); None: a closed loop."""

    duration_s: float | None = None
    """Nothing begins after so long; None: until there is nothing left to ask for."""

    warm_up_s: float = 0.0
    """What ends in this time after the beginning is not counted."""

    seed: int = 1
    """Random moments follow from it."""

    def __init__(self, *arguments: object, **values: object) -> None:
        super().__init__(*arguments, **values)
        if self.rate_per_s is not None and self.rate_per_s <= 0:
            raise ConfigurationError("rate", "arrivals a second must be more than none")


class Performed(NamedTuple):
    """An operation that has come to its end; times by the monotonic clock."""

    due_at: float
    began_at: float
    ended_at: float
    status: str
    """As the peer gave it, `0000`, or what ended it: `rejected`, `aborted`, `lost`, `timed-out`."""

    succeeded: bool
    objects: int = 0
    nbytes: int = 0
    failed_suboperations: int = 0
    """Objects that were asked for, or offered, and refused."""

    associated_s: float | None = None
    """What the association took, if one was made for it."""

    kind: str = ""
    """What was asked for, where results are told apart by that: a modality, say."""

    detail: str = ""
    """Of a failure."""

    unstored: int = 0
    """Objects that our own disk did not take."""

    @property
    def latency_s(self) -> float:
        """From when it was due."""
        return self.ended_at - self.due_at


class Worker(Protocol[T]):
    """Performs operations one after the other; what goes wrong at the peer is a result, not an exception."""

    async def perform(self, item: T, due_at: float) -> object:
        """One operation."""

    async def close(self) -> None:
        """No more of them."""


class Drive(Generic[Item]):
    """Applies a load: takes items until there are none, or the time is over, or it is stopped.

    Workers tell of what they have performed themselves; `not_begun` of what was due and found nobody free.
    """

    def __init__(
        self,
        load: Load,
        items: Iterator[Item],
        worker: Callable[[], Worker[Item]],
        not_begun: Callable[[Performed], object],
    ) -> None:
        self._load = load
        self._items = items
        self._worker = worker
        self._tell_not_begun = not_begun
        self._stopping = asyncio.Event()
        self.under_way = 0
        """Operations that have begun, and not ended."""
        self.waiting = 0
        """Operations that are due, and have not begun."""
        self.began_at = 0.0

    def stop(self) -> None:
        """Begin nothing more."""
        self._stopping.set()

    async def run(self) -> None:
        """Until everything that began has ended."""
        self.began_at = time.monotonic()
        if self._load.rate_per_s is None:
            await self._all(self._closed() for _ in range(self._load.parallel))
        else:
            due: asyncio.Queue[tuple[Item, float] | None] = asyncio.Queue()
            await self._all([self._arrivals(due), *(self._open(due) for _ in range(self._load.parallel))])

    async def _all(self, several: Iterable[Coroutine[None, None, None]]) -> None:
        tasks = [asyncio.create_task(each) for each in several]
        try:
            await asyncio.gather(*tasks)
        finally:  # what one of them cannot survive ends the others
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _over(self, now: float) -> bool:
        duration = self._load.duration_s
        return self._stopping.is_set() or (duration is not None and now - self.began_at >= duration)

    async def _closed(self) -> None:
        worker = self._worker()
        try:
            while not self._over(now := time.monotonic()):
                try:
                    item = next(self._items)
                except StopIteration:
                    return
                await self._perform(worker, item, now)
        finally:
            await worker.close()

    async def _open(self, due: asyncio.Queue[tuple[Item, float] | None]) -> None:
        worker = self._worker()
        try:
            while (arrived := await due.get()) is not None:
                self.waiting -= 1
                item, due_at = arrived
                if not self._over(now := time.monotonic()):
                    await self._perform(worker, item, due_at)
                elif not self._stopping.is_set():
                    self._not_begun(due_at, now)
        finally:
            await worker.close()

    async def _arrivals(self, due: asyncio.Queue[tuple[Item, float] | None]) -> None:
        rate = self._load.rate_per_s
        assert rate is not None
        random = Random(self._load.seed)
        at, end = self.began_at, self.began_at + (self._load.duration_s or math.inf)
        for item in self._items:
            at += random.expovariate(rate)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(at, end) - time.monotonic()):
                    await self._stopping.wait()
            if self._over(at):
                break
            self.waiting += 1
            due.put_nowait((item, at))
        for _ in range(self._load.parallel):
            due.put_nowait(None)

    async def _perform(self, worker: Worker[Item], item: Item, due_at: float) -> None:
        self.under_way += 1
        try:
            await worker.perform(item, due_at)
        finally:
            self.under_way -= 1

    def _not_begun(self, due_at: float, now: float) -> None:
        """It has waited at least so long, and must not be left out."""
        self._tell_not_begun(Performed(due_at, now, now, NOT_BEGUN, succeeded=False))
