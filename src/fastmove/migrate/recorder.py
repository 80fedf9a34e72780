"""What is stored, into the ledger: in batches, each of them one transaction."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from typing import Final

from fastmove.errors import LedgerError
from fastmove.ledger.model import Instance
from fastmove.ledger.store import Ledger
from fastmove.migrate.claims import Claims
from fastmove.storage.entries import UNREADABLE, Entry

EVERY_S: Final = 1.0
"""A batch is what has come meanwhile."""

MOST: Final = 2000
"""In one transaction."""


class Recorder:
    """Records instances of studies in hand; a context manager in the loop, at whose end everything is recorded.

    `lost` is told of studies that another owner has taken over.  Raises LedgerError in the end, if it has to.
    """

    def __init__(
        self, ledger: Ledger, claims: Claims, lost: Callable[[list[str]], None], now: Callable[[], float]
    ) -> None:
        self.recorded = 0
        self.foreign = 0
        """Objects of no study that we have taken on."""
        self.unreadable = 0
        """Objects that could not be read back, and are not recorded."""
        self.error: LedgerError | None = None
        """Why the last batch could not be recorded; it is tried again."""
        self._ledger = ledger
        self._claims = claims
        self._lost = lost
        self._now = now
        self._entries: deque[Entry] = deque()
        self._writing = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    def add(self, entry: Entry) -> None:
        """An object is in place; may be called by any thread."""
        self._entries.append(entry)

    async def __aenter__(self) -> Recorder:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        await self.flush()
        while self._entries:  # what came meanwhile
            await self.flush()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            if self._entries:
                with contextlib.suppress(LedgerError):  # `error` says so
                    await self.flush()

    async def flush(self) -> None:
        """Record all that has been added until now; what comes meanwhile is another batch.  LedgerError."""
        async with self._writing:
            due = len(self._entries)
            while due > 0:
                batch = [self._entries.popleft() for _ in range(min(due, MOST))]
                due -= len(batch)
                instances = list(filter(None, map(self._instance, batch)))
                try:
                    void = await self._ledger.record(instances, self._now())
                except BaseException as error:  # it is not lost: the next one tries again
                    self._entries.extendleft(reversed(batch))
                    self.error = error if isinstance(error, LedgerError) else self.error
                    raise
                self.error = None
                self.recorded += len(instances)
                if void:
                    self._lost(self._claims.lost(void))

    def _instance(self, entry: Entry) -> Instance | None:
        claimed = self._claims.claimed(entry.study_instance_uid)
        if entry.status == UNREADABLE:
            self.unreadable += 1
            return None
        if claimed is None:
            self.foreign += 1
            return None
        return Instance(
            claimed.id,
            claimed.fence,
            entry.sop_instance_uid,
            entry.series_instance_uid,
            entry.sop_class_uid,
            entry.transfer_syntax_uid,
            entry.bytes,
            bytes.fromhex(entry.sha256),
            entry.path,
        )
