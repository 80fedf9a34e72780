"""Associations that send one object after the other, and an account of what was acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from tests.faults.listening import HOST, uid
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

PIECE_BYTES: Final = 16 << 10
DEADLINE_S: Final = 60.0
"""For an answer, on a machine that has other things to do."""


class Objects:
    """Objects by number: any process can say what the n-th has to be."""

    def __init__(self, smallest: int, largest: int) -> None:
        self._range = smallest, largest

    def dataset(self, number: int) -> bytes:
        """The data set of an object; its length follows from the number."""
        return raw.dataset(uid(number), pixel_bytes=Random(number).randrange(*self._range) & ~1)

    def is_whole(self, number: int, path: Path) -> bool:
        """Whether a file is this object, to the last byte."""
        content = path.read_bytes()
        return len(content) > 144 and raw.part10_dataset(content) == self.dataset(number)


class Senders:
    """What was sent, and which objects were answered 0000; `at` is called at that byte of all that is sent."""

    def __init__(self, port: int, objects: Objects, numbers: Callable[[], int]) -> None:
        self.port = port
        self.objects = objects
        self.acknowledged: list[int] = []
        self.refused: list[tuple[int, int]] = []
        """Number and status."""

        self.sent_bytes = 0
        self.stopping = False
        self.allowed: int | None = None
        """Objects that may be begun, all in all; None: as many as will."""

        self._begun = 0
        self._next = numbers
        self._at: tuple[int, Callable[[], object]] | None = None
        self._changed = asyncio.Event()

    def at(self, nbytes: int, call: Callable[[], object]) -> None:
        """Call this when so many bytes have been sent, all in all, and not one more."""
        self._at = nbytes, call

    async def have_acknowledged(self, objects: int) -> None:
        """Wait until so many are."""
        while len(self.acknowledged) < objects:
            assert not self.refused, self.refused
            await self._wait()

    def allow(self, objects: int) -> None:
        """So many may be begun from now on, all in all."""
        self.allowed = objects
        self._changed.set()

    def stop(self) -> None:
        """None is begun any more."""
        self.stopping = True
        self._changed.set()

    async def _may_begin(self) -> bool:
        while not self.stopping and self.allowed is not None and self._begun >= self.allowed:
            await self._wait()
        self._begun += 1
        return not self.stopping

    async def _wait(self) -> None:
        changed = self._changed
        await changed.wait()
        if changed is self._changed:
            self._changed = asyncio.Event()

    async def send(self) -> None:
        """Objects on one association until it is time to stop."""
        async with ScriptedRequestor(HOST, self.port, DEADLINE_S) as peer:
            await peer.associate()
            for message_id in count(1):
                if not await self._may_begin():
                    break
                number = self._next()
                request = raw.c_store_rq(uid(number), message_id & 0xFFFF)
                await self._send_pieces(peer, raw.message(1, request, self.objects.dataset(number)))
                status = (await peer.read_reply()).status
                if status:
                    self.refused.append((number, status))
                else:
                    self.acknowledged.append(number)
                self._changed.set()
            await peer.release()

    async def _send_pieces(self, peer: ScriptedRequestor, data: bytes) -> None:
        start = 0
        while start < len(data):
            end = min(start + PIECE_BYTES, len(data))
            if self._at is not None:
                end = min(end, start + self._at[0] - self.sent_bytes)
            await peer.send(data[start:end])
            self.sent_bytes += end - start
            start = end
            if self._at is not None and self.sent_bytes >= self._at[0]:
                call, self._at = self._at[1], None
                call()


@asynccontextmanager
async def sending(senders: Senders, associations: int, *, lost: bool = False) -> AsyncIterator[Senders]:
    """So many associations at once, to the end of the context; `lost`: the listener does not live that long."""

    async def one() -> None:
        with suppress(*((OSError, EOFError) if lost else ())):
            await senders.send()

    async with asyncio.TaskGroup() as group:
        for _ in range(associations):
            group.create_task(one())
        yield senders
        senders.stop()
