"""Whether a destination is to be had: once it is not, nothing more is moved, and it is looked for until it is back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from fastmove.types import Objection

T = TypeVar("T")

AGAIN_S: Final = 2.0
"""How often a destination that is away is looked for."""


class Unreached(Exception):
    """A destination was not reached, or could not be asked: perhaps it is away."""


class Presence:
    """Of the destination of this name: `look` raises Unreached as long as it is away.

    Once it is back, it is as if it were away until we are `idle`: what waits for it goes before what is moved next.
    `left` is called when it has gone away.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], Awaitable[None]],
        idle: Callable[[], bool],
        left: Callable[[], None],
        key: str = "destination.away",
    ) -> None:
        self._name = name
        self._look = look
        self._idle = idle
        self._left = left
        self._key = key
        self._why = ""
        self._there = asyncio.Event()
        self._there.set()
        self._turn = asyncio.Lock()
        self._stopped = asyncio.Event()

    @property
    def away(self) -> bool:
        """True until it has been found again."""
        return not self._there.is_set()

    def objection(self) -> Objection | None:
        """Why nothing more is to be moved, if it is not."""
        if self._why and not self.away and self._idle():
            self._why = ""
        return Objection(self._key, f"{self._name}: {self._why}") if self._why else None

    async def lost(self, why: str) -> bool:
        """It was not reached: wait until it is back, and True; False if it is there already, or we are stopped."""
        async with self._turn:  # one look for all who have not reached it
            if not self.away and await self.found(why):
                return False
        return bool(await self.unless_stopped(self._there.wait()))

    async def found(self, why: str = "") -> bool:
        """Look for it once; `why` is what is told if it is away, or else what the look says."""
        try:
            await self._look()
        except Unreached as failed:
            self.gone(why or str(failed))
            return False
        self._there.set()
        return True

    def gone(self, why: str) -> None:
        """It is away, as somebody has found."""
        self._why = why
        if not self.away:
            self._there.clear()
            self._left()

    async def back(self) -> None:
        """Wait until it is there."""
        await self._there.wait()

    @property
    def stopped(self) -> bool:
        """True if nothing is waited for any more that only the destination can bring about."""
        return self._stopped.is_set()

    def stop(self) -> None:
        """Wait for it no longer."""
        self._stopped.set()

    async def unless_stopped(self, asked: Coroutine[Any, Any, T], grace_s: float = 0.0) -> T | None:
        """What it comes to; None if we are stopped before it ends, and for so long after that."""
        asking, stopping = asyncio.create_task(asked), asyncio.create_task(self._stopped.wait())
        try:
            await asyncio.wait((asking, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                await asyncio.wait((asking,), timeout=grace_s)
            return asking.result() if asking.done() else None
        finally:
            stopping.cancel()
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)

    async def run(self) -> None:
        """Look for it, whenever it is away, until it is back."""
        while True:
            await asyncio.sleep(AGAIN_S)
            if self.away:
                await self.found()
