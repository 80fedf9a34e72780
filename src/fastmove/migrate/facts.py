"""What a run writes into its ledger of itself, though that may be away for a while."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from fastmove.errors import LedgerError
from fastmove.ledger.model import Batch
from fastmove.ledger.store import Ledger
from fastmove.notices import MigrationNoted, Observer

T = TypeVar("T")

AGAIN_S: Final = 1.0
"""How often a ledger that is away is tried again..."""

PATIENCE_S: Final = 3600.0
"""... and for how long; then whoever looks after us begins anew."""


class Facts:
    """Of a batch; `stopping` says that nothing is to be waited for any more."""

    def __init__(
        self,
        ledger: Ledger,
        batch: Batch,
        notify: Observer | None,
        now: Callable[[], float],
        stopping: Callable[[], bool],
    ) -> None:
        self.trouble: LedgerError | None = None
        """Why something cannot be written down that has to be; it is tried again."""
        self._ledger = ledger
        self._batch = batch
        self._notify = notify
        self._now = now
        self._stopping = stopping

    @property
    def stopping(self) -> bool:
        """True if nothing is to be waited for any more."""
        return self._stopping()

    async def insist(self, write: Callable[[], Awaitable[T]]) -> T:
        """What it gives; a ledger that is away is waited for.  LedgerError if we are to end, or after long."""
        since = time.monotonic()
        while True:
            try:
                result = await write()
            except LedgerError as error:
                self.trouble = error
                if self.stopping or time.monotonic() - since > PATIENCE_S:
                    raise
                await asyncio.sleep(AGAIN_S)
            else:
                self.trouble = None
                return result

    def say(self, kind: str, text: str, study: str = "") -> None:
        """Tell the observer of something."""
        if self._notify is not None:
            self._notify(MigrationNoted(kind, text, study))

    async def remember(self, kind: str, text: str, job_id: int | None = None) -> None:
        """As an event, if the ledger takes it: nobody stops for want of one."""
        with contextlib.suppress(LedgerError):
            await self._ledger.event(self._batch.id, kind, text, self._now(), job_id=job_id)

    async def tell(self, kind: str, text: str) -> None:
        """Both."""
        self.say(kind, text)
        await self.remember(kind, text)
