"""A TCP relay that makes the network bad: late, slow, sliced, clotted, cut, reset, frozen, doubled.

Words are toxiproxy's where it has them.  What is random comes from a seeded generator: `repr(proxy)`, which goes into
the message of a test that fails, says how to have the same again.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, Self

READ_BYTES: Final = 65536
READS_ON_THE_WAY: Final = 64
"""What is late is kept: so many reads of each direction, 4 MiB at most."""


_Read = tuple[float, bytes | None]
"""When it is to be passed on, and what; b"": EOF, None: RST."""


class End(Enum):
    """What happens when a direction has passed on as much as it may, or as long."""

    CUT = "FIN to both sides"
    RESET = "RST to both sides (reset_peer)"
    FREEZE = "nothing is forwarded any more, both connections stay open (timeout)"
    HALF_CLOSE = "FIN to the sink, the other direction goes on"
    STALL = "nothing is forwarded for stall_s, then it goes on"


@dataclass(frozen=True, slots=True)
class Toxics:
    """What one direction does to the bytes; the default does nothing."""

    latency_s: float = 0.0
    """From the arrival of bytes until they are passed on; those behind them do not wait longer for it."""
    jitter_s: float = 0.0
    """Added to the latency, at random from 0 to this; nothing overtakes."""
    bandwidth_bytes_per_s: float = 0.0
    """0: no limit."""
    slice_bytes: int = 0
    """Pass on 1 to so many bytes at a time, each in a segment of its own (slicer); 0: as read."""
    coalesce_s: float = 0.0
    """Gather what comes within this time, and pass it on in one piece."""
    limit_bytes: int = -1
    """After so many bytes comes the end (limit_data); -1: never."""
    after_s: float = -1.0
    """So long after the beginning of the connection comes the end (timeout); -1: never."""
    end: End = End.CUT
    stall_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Fate:
    """What one connection suffers."""

    outgoing: Toxics = Toxics()
    """From the one who connects to the target."""
    incoming: Toxics = Toxics()
    """From the target back."""
    duplicated: bool = False
    """What goes to the target goes there over a second connection too, whose answers nobody gets."""


@dataclass
class FaultProxy:
    """Relays connections to (host, port), each with its fate of the plan, those after them as the toxics say.

    Connect to `address`.
    """

    host: str
    port: int
    outgoing: Toxics = Toxics()
    incoming: Toxics = Toxics()
    seed: int = 0
    plan: Sequence[Fate] = ()
    connections: int = field(default=0, init=False)
    limit_reached: asyncio.Event = field(default_factory=asyncio.Event, init=False, repr=False)
    """Set once a direction has come to its end."""

    def __post_init__(self) -> None:
        toxics = [way for fate in self.plan for way in (fate.outgoing, fate.incoming)]
        assert all(each.limit_bytes for each in (self.outgoing, self.incoming, *toxics)), (
            "a limit of 0 bytes: after_s=0"
        )

    async def __aenter__(self) -> Self:
        self._random = random.Random(self.seed)
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.address: tuple[str, int] = self._listening.getsockname()
        self._sockets: set[socket.socket] = set()
        self._relays: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        # No task: one that is cancelled as it gets a connection would leave its socket to nobody.
        asyncio.get_running_loop().add_reader(self._listening, self._accept)
        return self

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        asyncio.get_running_loop().remove_reader(self._listening)
        await _cancelled(*self._relays)
        for sock in (*self._sockets, self._listening):
            sock.close()
        if exc is not None:
            exc.add_note(f"--- {self!r}")
        elif self._failures:
            raise self._failures[0]

    def _accept(self) -> None:
        try:
            client, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # whoever called has gone again
        client.setblocking(False)
        fate = Fate(self.outgoing, self.incoming)
        if self.connections < len(self.plan):
            fate = self.plan[self.connections]
        self.connections += 1
        relay = asyncio.create_task(self._relay(client, fate))
        self._relays.add(relay)
        relay.add_done_callback(self._over)

    def _over(self, relay: asyncio.Task[None]) -> None:
        self._relays.discard(relay)
        if not relay.cancelled() and (error := relay.exception()) is not None:
            self._failures.append(error)

    async def _relay(self, client: socket.socket, fate: Fate) -> None:
        targets = [self._socket() for _ in range(2 if fate.duplicated else 1)]
        ends = (client, *targets)
        self._sockets.update(ends)
        for sock in ends:
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            for target in targets:
                await asyncio.get_running_loop().sock_connect(target, (self.host, self.port))
        except OSError:
            self._end_by(End.RESET, ends)
            return
        ways = [
            self._forward(client, targets, fate.outgoing),
            self._forward(targets[0], [client], fate.incoming),
            *(self._forward(twin, [], Toxics()) for twin in targets[1:]),
        ]
        self._end_by(await self._ended([asyncio.create_task(way) for way in ways]), ends)

    def _socket(self) -> socket.socket:
        return socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET)

    def _end_by(self, end: End, ends: Sequence[socket.socket]) -> None:
        if end is End.FREEZE:
            return
        for sock in ends:
            if end is End.RESET:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            self._sockets.discard(sock)

    @staticmethod
    async def _ended(ways: Sequence[asyncio.Task[End | None]]) -> End:
        """All directions come to their EOF, or one ends them all; none waits for its socket any more."""
        try:
            for next_ended in asyncio.as_completed(ways):
                if (end := await next_ended) not in (None, End.HALF_CLOSE):
                    return end
            return End.CUT
        finally:
            await _cancelled(*ways)

    async def _forward(self, source: socket.socket, sinks: Sequence[socket.socket], toxics: Toxics) -> End | None:
        """Pass on until EOF (None), or what ends the connection."""
        flow = asyncio.Queue[_Read](READS_ON_THE_WAY)
        reading = asyncio.create_task(self._read(source, toxics, flow))
        try:
            return await self._pass_on(flow, sinks, toxics)
        except OSError:
            return End.RESET  # the sink is gone, or the half of it that is written to
        finally:
            await _cancelled(reading)

    async def _read(self, source: socket.socket, toxics: Toxics, flow: asyncio.Queue[_Read]) -> None:
        loop = asyncio.get_running_loop()
        due, data = 0.0, b"?"
        while data:
            try:
                data = await loop.sock_recv(source, READ_BYTES)
                if data and toxics.coalesce_s:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(toxics.coalesce_s):
                            while more := await loop.sock_recv(source, READ_BYTES):
                                data += more
            except OSError:
                await flow.put((due, None))
                return
            late_s = toxics.latency_s + self._random.uniform(0, toxics.jitter_s)
            due = max(due, loop.time() + late_s)
            await flow.put((due, data))

    async def _pass_on(self, flow: asyncio.Queue[_Read], sinks: Sequence[socket.socket], toxics: Toxics) -> End | None:
        loop = asyncio.get_running_loop()
        left = toxics.limit_bytes
        deadline = loop.time() + toxics.after_s if toxics.after_s >= 0 else None
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    due, data = await flow.get()
            except TimeoutError:
                deadline = None
                if (end := await self._at_the_limit(flow, sinks, toxics)) is not None:
                    return end
                continue
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            if data is None:
                return End.RESET
            if not data:
                for sink in sinks:
                    sink.shutdown(socket.SHUT_WR)
                return None
            for piece in self._slices(data, toxics, left):
                for sink in sinks:
                    await loop.sock_sendall(sink, piece)
                left -= len(piece)
                if not left and (end := await self._at_the_limit(flow, sinks, toxics)) is not None:
                    return end
                if toxics.bandwidth_bytes_per_s:
                    await asyncio.sleep(len(piece) / toxics.bandwidth_bytes_per_s)

    async def _at_the_limit(
        self, flow: asyncio.Queue[_Read], sinks: Sequence[socket.socket], toxics: Toxics
    ) -> End | None:
        """What ends the connection; None where it goes on."""
        self.limit_reached.set()
        if toxics.end is End.STALL:
            await asyncio.sleep(toxics.stall_s)
            return None
        if toxics.end is not End.HALF_CLOSE:
            return toxics.end
        for sink in sinks:
            sink.shutdown(socket.SHUT_WR)
        while (await flow.get())[1]:
            pass  # nobody gets it
        return End.HALF_CLOSE

    def _slices(self, data: bytes, toxics: Toxics, left: int) -> Iterator[bytes]:
        """Pieces of the data, one of which ends where so many bytes are left."""
        while data:
            size = self._random.randint(1, toxics.slice_bytes) if toxics.slice_bytes else len(data)
            if left > 0:
                size = min(size, left)
            yield data[:size]
            data = data[size:]
            left -= size


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
