"""A TCP relay that makes the network bad: late, slow, sliced, clotted, cut, reset, frozen.

Words are toxiproxy's where it has them.  Sizes of slices and delays come from a seeded generator, so that a
failing run can be repeated: the seed is in `repr(proxy)`.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Self

READ_BYTES: Final = 65536


class End(Enum):
    """What happens when the limit of a direction is reached."""

    CUT = "FIN to both sides"
    RESET = "RST to both sides"
    FREEZE = "nothing is forwarded any more, both connections stay open"


@dataclass(frozen=True, slots=True)
class Toxics:
    """What one direction does to the bytes; the default does nothing."""

    delay_s: float = 0.0
    """Before each read is passed on."""
    jitter_s: float = 0.0
    """Added to the delay, at random from 0 to this."""
    rate_bytes_per_s: float = 0.0
    """0: no limit."""
    slice_bytes: int = 0
    """Pass on 1 to so many bytes at a time, each in a segment of its own; 0: as read."""
    coalesce_s: float = 0.0
    """Gather what comes within this time, and pass it on in one piece."""
    limit_bytes: int = -1
    """After so many bytes comes the end; -1: never."""
    end: End = End.CUT


@dataclass
class FaultProxy:
    """Relays connections to (host, port); connect to `address`."""

    host: str
    port: int
    outgoing: Toxics = Toxics()
    """From the one who connects to the target."""
    incoming: Toxics = Toxics()
    """From the target back."""
    seed: int = 0
    connections: int = field(default=0, init=False)
    limit_reached: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    """Set once a direction has passed on its last byte."""

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.address: tuple[str, int] = self._listening.getsockname()
        self._sockets: list[socket.socket] = []
        self._relays: list[asyncio.Task[None]] = []
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in (self._accepting, *self._relays):
            task.cancel()
        results = await asyncio.gather(self._accepting, *self._relays, return_exceptions=True)
        for sock in (*self._sockets, self._listening):
            sock.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            client, _ = await loop.sock_accept(self._listening)
            self.connections += 1
            self._relays.append(asyncio.create_task(self._relay(client)))

    async def _relay(self, client: socket.socket) -> None:
        target = socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)
        pair = (client, target)
        self._sockets += pair
        for sock in pair:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(target, (self.host, self.port))
        except OSError:
            end_by(End.RESET, pair)
            return
        directions = (
            asyncio.create_task(self._forward(client, target, self.outgoing)),
            asyncio.create_task(self._forward(target, client, self.incoming)),
        )
        try:
            await self._until_ended(directions, pair)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.gather(*directions, return_exceptions=True)

    async def _until_ended(
        self, directions: tuple[asyncio.Task[End | None], ...], pair: tuple[socket.socket, ...]
    ) -> None:
        """Both directions come to their EOF, or one reaches its limit and ends both."""
        for next_ended in asyncio.as_completed(directions):
            end = await next_ended
            if end is End.FREEZE:
                for task in directions:
                    task.cancel()
                return
            if end is not None:
                for task in directions:
                    task.cancel()
                await asyncio.gather(*directions, return_exceptions=True)
                end_by(end, pair)
                return
        end_by(End.CUT, pair)

    async def _forward(self, source: socket.socket, sink: socket.socket, toxics: Toxics) -> End | None:
        """Pass on until EOF (None) or the limit."""
        loop = asyncio.get_running_loop()
        left = toxics.limit_bytes
        try:
            while data := await self._read(source, toxics):
                if toxics.delay_s or toxics.jitter_s:
                    await asyncio.sleep(toxics.delay_s + self._random.uniform(0, toxics.jitter_s))
                for piece in self._slices(data, toxics):
                    passed = piece if left < 0 else piece[:left]
                    await loop.sock_sendall(sink, passed)
                    if left >= 0:
                        left -= len(passed)
                        if left == 0:
                            self.limit_reached.set()
                            return toxics.end
                    if toxics.rate_bytes_per_s:
                        await asyncio.sleep(len(passed) / toxics.rate_bytes_per_s)
            sink.shutdown(socket.SHUT_WR)
        except ConnectionError:
            return End.RESET
        except OSError:
            return End.CUT  # the other side of a half-closed pair is gone
        return None

    async def _read(self, source: socket.socket, toxics: Toxics) -> bytes:
        loop = asyncio.get_running_loop()
        data = await loop.sock_recv(source, READ_BYTES)
        if data and toxics.coalesce_s:
            with suppress(TimeoutError):
                async with asyncio.timeout(toxics.coalesce_s):
                    while more := await loop.sock_recv(source, READ_BYTES):
                        data += more
        return data

    def _slices(self, data: bytes, toxics: Toxics) -> list[bytes]:
        if not toxics.slice_bytes:
            return [data]
        slices = []
        while data:
            size = self._random.randint(1, toxics.slice_bytes)
            slices.append(data[:size])
            data = data[size:]
        return slices


def end_by(end: End, pair: tuple[socket.socket, ...]) -> None:
    """Close both sides, by FIN or RST."""
    for sock in pair:
        if end is End.RESET:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()
