"""The disk's own threads: nothing that may block is done in the loop's, and names become durable in groups.

There is no timer: who has put an object in place makes its name durable at once, unless somebody is at it; what comes
meanwhile goes with the next group.  A call that does not come back is told of (`fs.slow`), and waited for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import SimpleQueue
from threading import Lock, Thread, local
from typing import Final, Self

from fastmove._sink import FileSink
from fastmove.dimse.status import PROCESSING_FAILURE
from fastmove.errors import DatasetError, StorageError
from fastmove.limits import DISK_STOP_S, DISK_THREADS, GROUP_OBJECTS, Limits
from fastmove.notices import HostStrained, Observer
from fastmove.storage.target import Received, StorageTarget, Stored
from fastmove.types import Objection

Outcome = Stored | StorageError | DatasetError
"""What became of an object: where it is, or why it is not."""

Committed = Callable[[Outcome], None]
Done = Callable[[BaseException | None], None]
"""Told on the loop that a call has ended, or how it failed."""

QUIET_S: Final = 10.0
"""After a slow disk was told of, it is told of again no sooner."""

_INTERNAL: Final = "internal error"


def outcome_of(target: StorageTarget, sink: FileSink, name: bytes, received: Received) -> Outcome:
    """Put an object in place as `StorageTarget.commit` does: where it is, or why it is not stored."""
    try:
        return target.commit(sink, name, received)
    except (StorageError, DatasetError) as error:
        return error


class Disk:
    """What all associations of a listener have a storage target do; a context manager, used on the loop alone."""

    def __init__(self, target: StorageTarget, limits: Limits | None = None, notify: Observer | None = None) -> None:
        self._target = target
        self._slow_s = (limits or Limits()).slow_disk_s
        self._notify = notify
        self._watching: asyncio.TimerHandle | None = None
        self._begun: list[float | None] = []
        """When each thread has begun what it is at; None if it is at nothing."""
        self._own = local()
        """The number of a thread."""
        self._durable = target.options.durable and target.options.keep
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._unfinished = 0
        self._told: deque[Callable[[], None]] = deque()
        self._telling = False
        self._lock = Lock()
        self._unsettled: list[tuple[Stored, int, Committed]] = []
        self._settling = False
        self._probing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way, but not for a disk that does not answer at all."""
        if self._watching is not None:
            self._watching.cancel()
        for _thread in self._threads:
            self._calls.put(None)
        deadline = time.monotonic() + DISK_STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    # ------------------------------------------------------------------ on the loop

    def run(self, call: Callable[[], None], done: Done) -> None:
        """Have a thread make a call."""

        def made() -> None:
            error: BaseException | None = None
            try:
                call()
            except Exception as failed:  # noqa: BLE001  whoever waits for it is told, whatever it was
                error = failed
            self._tell(partial(done, error))

        self._add(made)

    def commit(self, sink: FileSink, name: bytes, received: Received, committed: Committed) -> None:
        """Put an object in place as `StorageTarget.commit` does, and make its name durable if the options say so."""
        failed_syncs = self._target.failed_syncs
        self._add(partial(self._commit, sink, name, received, failed_syncs, committed))

    def objection(self) -> Objection | None:
        """Why nothing more is to come in: a sync has failed, and none has succeeded since.

        Who asks has a thread try it once more, for the next one who asks.
        """
        failure = self._target.unsynced
        if failure is None:
            return None
        if not self._probing:
            self._probing = True
            self.run(self._target.probe, self._probed)
        return Objection(failure.key, f"{failure.error_comment}; no association before the disk syncs again")

    def _probed(self, error: BaseException | None) -> None:
        self._probing = False
        if error is not None:
            self._complain(error)

    def _add(self, call: Callable[[], None]) -> None:
        self._unfinished += 1
        if self._unfinished > len(self._threads) < DISK_THREADS:
            thread = Thread(target=self._work, args=(len(self._threads),), name="disk", daemon=True)
            self._threads.append(thread)
            self._begun.append(None)
            thread.start()
        self._calls.put(call)
        if self._watching is None and self._notify is not None:
            self._watching = self._loop.call_later(self._slow_s, self._look, self._notify)

    def _look(self, notify: Observer) -> None:
        """Tell of calls that have been under way for long; look again when the next may have been, if there is one."""
        self._watching = None
        now = time.monotonic()
        taken_s = [now - begun for begun in self._begun if begun is not None]
        slow = [each for each in taken_s if each >= self._slow_s]
        if slow:
            calls = f"{len(slow)} calls of the disk have" if len(slow) > 1 else "a call of the disk has"
            notify(HostStrained("fs.slow", f"{calls} been under way for {max(slow):.1f} s"))
        if self._unfinished:
            again_s = QUIET_S if slow else self._slow_s - max(taken_s, default=0.0)
            self._watching = self._loop.call_later(again_s, self._look, notify)

    def _hear(self) -> None:
        self._telling = False
        try:
            while self._told:
                self._unfinished -= 1
                self._told.popleft()()
        finally:
            if self._told:  # one of them failed, which is the loop's to report
                self._loop.call_soon(self._hear)

    def _complain(self, error: BaseException) -> None:
        self._loop.call_exception_handler({"message": "the disk's thread failed", "exception": error})

    # ------------------------------------------------------------------ in the threads

    def _work(self, number: int) -> None:
        self._own.number = number
        while (call := self._calls.get()) is not None:
            self._begins()
            try:
                call()
            finally:
                self._begun[number] = None
            del call  # it holds on to an association, which may have ended before the next one comes

    def _begins(self) -> None:
        self._begun[self._own.number] = time.monotonic()

    def _tell(self, news: Callable[[], None]) -> None:
        self._told.append(news)
        if not self._telling:  # else the loop has not begun to listen yet, and will hear of this as well
            self._telling = True
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(self._hear)

    def _commit(self, sink: FileSink, name: bytes, received: Received, failed_syncs: int, committed: Committed) -> None:
        try:
            outcome = outcome_of(self._target, sink, name, received)
        except Exception as error:  # noqa: BLE001  a bug of ours: the peer gets its answer all the same
            outcome = self._blamed(error)
        if self._durable and isinstance(outcome, Stored):
            self._settle(outcome, failed_syncs, committed)
        else:
            self._tell(partial(committed, outcome))

    def _blamed(self, error: Exception) -> StorageError:
        """What a peer is told of a bug, which the loop reports."""
        self._told.append(partial(self._complain, error))
        self._unfinished += 1
        return StorageError("internal", PROCESSING_FAILURE, _INTERNAL)

    def _settle(self, stored: Stored, failed_syncs: int, committed: Committed) -> None:
        with self._lock:
            self._unsettled.append((stored, failed_syncs, committed))
            if self._settling:
                return  # whoever is at it goes on with this one
            self._settling = True
        while group := self._next_group():
            self._begins()
            failures: Sequence[StorageError | None]
            try:
                failures = self._target.settle([(stored, failed_syncs) for stored, failed_syncs, _ in group])
            except Exception as error:  # noqa: BLE001  the same: nobody waits for ever, and the next group has its turn
                failures = [self._blamed(error)] * len(group)
            for (stored, _, committed), failure in zip(group, failures, strict=True):
                self._tell(partial(committed, failure or stored))

    def _next_group(self) -> list[tuple[Stored, int, Committed]]:
        with self._lock:
            group, self._unsettled = self._unsettled[:GROUP_OBJECTS], self._unsettled[GROUP_OBJECTS:]
            self._settling = bool(group)
        return group
