"""When the bytes of each storage association came, and what the time between them went into.

A meter of the listener: the loop calls it where it would call the receiver, so that who is not measured pays nothing.
Time is told apart by what is known here: whether a message was under way when nothing came, whether our loop was busy
with other associations, whether our thread ran or was kept waiting, and whether the disk had the object.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple

from fastmove.net.accepted import AcceptedConnection

PAUSE_S: Final = 0.005
"""What is longer in the middle of a message is a pause of its own, and not the pace of the network."""

MAX_PAUSES: Final = 64
"""Pauses of one object that are told apart; longer lists are summed up in the last."""

BLOCKED_S: Final = 0.0002
"""What is shorter is not looked into."""

STREAK_S: Final = 0.0001
"""Two reads with less between them are of one turn of the loop: it did not sleep."""


_SCHEDULED: Final = Path("/proc/thread-self/schedstat")


class Queue:
    """How long our thread has been ready to run and was not let: the processor's fault, and nobody else's.

    Of the thread that makes it; nothing where the kernel does not tell (CONFIG_SCHED_INFO).
    """

    def __init__(self) -> None:
        try:
            self._fd = os.open(_SCHEDULED, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def waited_s(self) -> float:
        """In seconds, since the thread began."""
        return int(os.pread(self._fd, 64, 0).split()[1]) / 1e9 if self._fd >= 0 else 0.0

    def close(self) -> None:
        """It is not asked any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Arrival(NamedTuple):
    """How an object came; times in seconds, by the monotonic clock where they end in `_at`."""

    association: int
    began_at: float
    """Its first byte was read."""

    ended_at: float
    """It was in place, and was answered."""

    first: bool
    """Of its association: the gap is that since it was established."""

    gap_s: float
    """Nothing came since the answer to the object before: one round trip, and what the peer thinks."""

    waits_s: float
    """Nothing came for short whiles in the middle of it."""

    pauses_s: tuple[float, ...]
    """Nothing came for more than 5 ms in the middle of it, each time."""

    late_s: float
    """It may have been there, and our loop was busy with something else."""

    cpu_s: float
    """Our thread worked on it, or was ready to and not let."""

    blocked_s: float
    """Our thread waited while it was at it: for the disk."""

    held_s: float
    """The disk's threads had it."""

    round_trip_s: float
    """Of its connection, as the kernel has seen it."""

    limited_s: float = 0.0
    """It was not read any sooner, so that no more came than was wanted."""


class Arrivals:
    """What is known of each object at the moment that it is told of; one for all associations of a listener."""

    def __init__(self) -> None:
        self._metered: dict[int, _Metered] = {}
        self._busy_from = self._busy_until = 0.0
        self.queue = Queue()
        self.busy_s = 0.0
        """How long the loop has been at what came, over all associations."""

    def close(self) -> None:
        """Nothing more is measured."""
        self.queue.close()

    def meter(self, connection: AcceptedConnection, protocol: asyncio.BufferedProtocol) -> None:
        """A meter of an Acceptor."""
        self._metered[connection.number] = _Metered(self, connection, protocol)

    def take(self, association: int) -> Arrival | None:
        """How the object came that has just been stored over this association; None if it is not metered."""
        metered = self._metered.get(association)
        return None if metered is None else metered.take()

    def forget(self, association: int) -> None:
        """It is over."""
        self._metered.pop(association, None)

    def begin(self, now: float) -> float:
        """The loop turns to an association; since when it has been busy without a break."""
        if now - self._busy_until > STREAK_S:
            self._busy_from = now
        return self._busy_from

    def end(self, began: float, now: float) -> None:
        """It has done with it."""
        self._busy_until = now
        self.busy_s += now - began


class _Metered:
    """One association: its clock, and the sums of the object under way."""

    def __init__(self, arrivals: Arrivals, connection: AcceptedConnection, protocol: asyncio.BufferedProtocol) -> None:
        self._arrivals = arrivals
        self._connection = connection
        self._inner: Callable[[int], object] = protocol.buffer_updated
        self._loop_time = asyncio.get_running_loop().time
        self._idle_since = time.monotonic()
        self._held_until = self._held_cpu = self._held_queue = 0.0
        self._read_queue = 0.0
        self._reading = False
        self._objects = 0
        self._read_at = self._idle_since
        self._read_cpu = 0.0
        self._clear()
        protocol.buffer_updated = self._updated  # type: ignore[method-assign]

    def _clear(self) -> None:
        self._began_at = 0.0
        self._gap_s = self._waits_s = self._late_s = self._cpu_s = self._blocked_s = self._held_s = 0.0
        self._pauses: list[float] = []

    def _updated(self, nbytes: int) -> None:
        now = self._read_at = time.monotonic()
        busy_from = self._arrivals.begin(now)
        held = self._hold()
        if nbytes:
            self._waited(now, held, now - busy_from)
        self._read_cpu = time.thread_time()
        self._read_queue = self._arrivals.queue.waited_s()
        self._reading = True
        try:
            self._inner(nbytes)
        finally:
            self._reading = False
            ended = self._idle_since = time.monotonic()
            self._worked(ended)
            self._held_cpu, self._held_queue = time.thread_time(), self._arrivals.queue.waited_s()
            self._arrivals.end(now, ended)

    def _waited(self, now: float, held: float, busy: float) -> None:
        """Nothing came since the last read: why?"""
        waited = max(0.0, now - self._idle_since - held)
        late = min(waited, busy)
        self._late_s += late
        waited -= late
        if not self._connection.receiver.receiving:
            self._gap_s += waited
        elif waited < PAUSE_S:
            self._waits_s += waited
        elif len(self._pauses) < MAX_PAUSES:
            self._pauses.append(waited)
        else:
            self._pauses[-1] += waited
        self._began_at = self._began_at or now

    def _hold(self) -> float:
        """For so long it was suspended since the last time; what our own thread worked meanwhile is no waiting."""
        until = self._connection.held_s(self._loop_time())
        held, self._held_until = until - self._held_until, until
        if held:
            queued = self._arrivals.queue.waited_s() - self._held_queue
            worked = min(held, time.thread_time() - self._held_cpu + queued)
            self._cpu_s += worked
            self._held_s += held - worked
        return held

    def _worked(self, now: float) -> None:
        cpu = time.thread_time() - self._read_cpu
        blocked = max(0.0, now - self._read_at - cpu)
        if blocked > BLOCKED_S:  # asking costs a system call
            queued = min(blocked, self._arrivals.queue.waited_s() - self._read_queue)
            cpu, blocked = cpu + queued, blocked - queued
        self._cpu_s += cpu
        self._blocked_s += blocked

    def take(self) -> Arrival:
        """What is known of the object that was stored now; and begin anew for the next one."""
        now = time.monotonic()
        self._hold()
        if self._reading:
            self._worked(now)
            self._read_at, self._read_cpu = now, time.thread_time()
            self._read_queue = self._arrivals.queue.waited_s()
        taken = Arrival(
            self._connection.number,
            self._began_at or now,
            now,
            not self._objects,
            self._gap_s,
            self._waits_s,
            tuple(self._pauses),
            self._late_s,
            self._cpu_s,
            self._blocked_s,
            self._held_s,
            self._connection.round_trip_s,
        )
        self._objects += 1
        self._clear()
        self._idle_since = now
        return taken
