"""How slowly the embedded PACS does what it does: turns that have to be waited for, bandwidth, a long way.

What is limited is shared by all its moves; each kind of slowness is one that `fastmove bench` has to tell apart.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from fastmove.services.conduct import Through, Turn

PIECE_S: Final = 0.001
LEAST_PIECE_BYTES: Final = 1400
"""What is sent at once where bandwidth is short: a millisecond's worth, which comes as evenly as from a slow line."""

HEADERS_BYTES: Final = 12
"""Of a P-DATA-TF PDU and its first PDV (PS3.8 9.3.5): DCMTK writes them by a call of their own."""

Write = Callable[[memoryview], None]


class Clock:
    """Gives moments that are so far apart that no more than a rate is had, whoever asks."""

    def __init__(self) -> None:
        self._next = 0.0

    async def wait(self, seconds: float) -> None:
        """Until it is one's turn; the next is so many seconds later."""
        now = time.monotonic()
        at = max(now, self._next)
        self._next = at + seconds
        if at > now:
            await asyncio.sleep(at - now)


class Pace:
    """What the moves of a PACS share."""

    def __init__(self) -> None:
        self._objects, self._bytes = Clock(), Clock()
        self._most: int | None = None
        self._served: asyncio.Semaphore | None = None

    def turn(self, *, delay_s: float, rate_per_s: float | None, served: int | None) -> Turn:
        """Turns of objects: at most `served` at once, so many a second, each of which takes `delay_s` longer."""
        if served != self._most:  # it may be changed at any time: who waits already, waits by the old number
            self._most, self._served = served, None if served is None else asyncio.Semaphore(served)
        places = self._served

        @asynccontextmanager
        async def turn() -> AsyncIterator[None]:
            if rate_per_s is not None:
                await self._objects.wait(1.0 / rate_per_s)
            if places is None:
                await asyncio.sleep(delay_s)
                yield
                return
            async with places:
                await asyncio.sleep(delay_s)
                yield

        def made() -> AbstractAsyncContextManager[None]:
            return turn()

        return made

    def through(self, *, bandwidth: float | None, stall_s: float) -> Callable[[], Through]:
        """What objects go through: so many bytes a second, and a stall in the first PDU of each."""

        def made() -> Through:
            stalled = not stall_s

            async def through(chunk: memoryview, write: Write) -> None:
                nonlocal stalled
                if not stalled:
                    stalled = True
                    write(chunk[:HEADERS_BYTES])
                    await asyncio.sleep(stall_s)
                    chunk = chunk[HEADERS_BYTES:]
                if bandwidth is None:
                    write(chunk)
                    return
                piece_bytes = max(LEAST_PIECE_BYTES, int(bandwidth * PIECE_S))
                for at in range(0, len(chunk), piece_bytes):
                    piece = chunk[at : at + piece_bytes]
                    await self._bytes.wait(len(piece) / bandwidth)
                    write(piece)

            return through

        return made
