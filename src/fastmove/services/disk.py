"""The disk's own threads: nothing that may block is done in the loop's, and names become durable in groups.

There is no timer: a group starts at once when none is under way; who comes meanwhile goes with the next.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Self, TypeVar

from fastmove.dimse.status import PROCESSING_FAILURE
from fastmove.errors import StorageError
from fastmove.limits import DISK_THREADS, GROUP_OBJECTS
from fastmove.storage.target import StorageTarget, Stored
from fastmove.types import Objection

T = TypeVar("T")

Settled = Callable[[StorageError | None], None]
"""Told that an object is durable, or why it is not stored."""

_INTERNAL: Final = "internal error"


class Disk:
    """What all associations of a listener have a storage target do; a context manager, used on the loop alone."""

    def __init__(self, target: StorageTarget) -> None:
        self._target = target
        self._writers = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="write")
        self._syncer = ThreadPoolExecutor(1, thread_name_prefix="sync")
        self._waiting: list[tuple[Stored, int, Settled]] = []
        self._under_way: list[tuple[Stored, int, Settled]] = []
        self._probing = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Wait for what is under way."""
        self._writers.shutdown()
        self._syncer.shutdown()

    def run(self, call: Callable[..., T], *arguments: object) -> asyncio.Future[T]:
        """Have a thread make a call."""
        return asyncio.get_running_loop().run_in_executor(self._writers, call, *arguments)

    def objection(self) -> Objection | None:
        """Why nothing more is to come in: a sync has failed, and none has succeeded since.

        Who asks has a thread try it once more, for the next one who asks.
        """
        failure = self._target.unsynced
        if failure is None:
            return None
        if not self._probing:
            self._probing = True
            self.run(self._target.probe).add_done_callback(self._probed)
        return Objection(failure.key, f"{failure.error_comment}; no association before the disk syncs again")

    def _probed(self, probing: asyncio.Future[None]) -> None:
        self._probing = False
        probing.result()

    def settle(self, stored: Stored, failed_syncs: int, settled: Settled) -> None:
        """Call `settled` once the name of this object is durable; `failed_syncs` is the target's before its commit."""
        self._waiting.append((stored, failed_syncs, settled))
        if not self._under_way:
            self._start()

    def _start(self) -> None:
        self._under_way, self._waiting = self._waiting[:GROUP_OBJECTS], self._waiting[GROUP_OBJECTS:]
        group = [(stored, failed_syncs) for stored, failed_syncs, _ in self._under_way]
        settling = asyncio.get_running_loop().run_in_executor(self._syncer, self._target.settle, group)
        settling.add_done_callback(self._ended)

    def _ended(self, settling: asyncio.Future[list[StorageError | None]]) -> None:
        group, self._under_way = self._under_way, []
        if self._waiting:
            self._start()  # the disk goes on while we answer
        failures: Sequence[StorageError | None]
        if (error := settling.exception()) is None:
            failures = settling.result()
        else:
            context = {"message": "names could not be made durable", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
            failures = [StorageError("internal", PROCESSING_FAILURE, _INTERNAL)] * len(group)
        for (_, _, settled), failure in zip(group, failures, strict=True):
            settled(failure)
