"""A TCP relay that makes a peer distant: every byte takes half a round trip, and none waits for another.

What it models is TCP between two Linux machines that are a round-trip time (RTT) apart:

- Bytes arrive half an RTT after they left, to within a millisecond. Up to 4 MiB a connection and direction are on their
  way, Linux's own bound for a send buffer: 40 MB/s at 100 ms, where a C-STORE SCU has one object on its way anyway.
- A connection takes its time: the far side is called after half an RTT, the first byte leaves after a whole one, and
  the first answer comes after two. Only connect() itself returns at once, as it reaches the relay.
- Slow start: ten segments of 1448 bytes at first, and as many more as are acknowledged (RFC 6928, RFC 5681).
- An acknowledgement takes half an RTT. Of two full segments and more it leaves when they arrive (RFC 1122 4.2.3.2), of
  less when the receiver's kernel has really given it: after 40 ms, unless the receiver sets TCP_QUICKACK or answers.
- Nagle's algorithm as Linux has it, for the side that is said to have it on: a small segment waits while another small
  one is not acknowledged. It has to be said, as the sender's own kernel sees the relay's acknowledgements, which come
  at once. DCMTK has it on, and writes the headers of a P-DATA-TF PDU, 12 bytes, before the rest: such a segment.
- FIN and RST arrive half an RTT after what was sent before them.

What it does not model: loss, jitter, limited bandwidth and what follows from them; receive windows; acknowledgements
delayed for more than 40 ms (Linux stretches that to an RTT). docs/reference/performance.md says how near it comes to
packets that are really late.

The relay's own sockets have TCP_NODELAY, as what has arrived must not wait again; TCP_MAXSEG, so that kernels on both
sides make segments as for Ethernet; and Reno, as BBR would take its time for finding out how fast the loopback is.
"""

from __future__ import annotations

import asyncio
import fcntl
import mmap
import socket
import struct
import termios
import time
from collections import deque
from contextlib import AsyncExitStack, suppress
from typing import Final, Self

import click
import uvloop

SEGMENT_BYTES: Final = 1448
"""What a frame of Ethernet carries: 1500 less IP, TCP and its time stamp."""

MAXSEG: Final = SEGMENT_BYTES + 12
FIRST_WINDOW_BYTES: Final = 10 * SEGMENT_BYTES
ACKNOWLEDGED_AT_ONCE_BYTES: Final = 2 * SEGMENT_BYTES
WINDOW_BYTES: Final = 4 << 20
"""The most that is on its way in one direction of one connection, and the memory that it takes."""

SOON_S: Final = 0.0005
"""Timers go by the millisecond: what is due within half of one is due."""

LOOK_AGAIN_S: Final = 0.001
LOOK_AGAIN_SHARE: Final = 1 / 32
"""How soon to look again at what the kernel has not done yet, and of the time that it has taken so far."""

P_DATA_TF: Final = 0x04
HEADERS_BYTES: Final = 12
"""Of PDU and PDV (PS3.8 9.3.5): what DCMTK writes first."""


class Way:
    """One direction of one connection; its counts of bytes: acknowledged <= confirmed <= arrived <= left <= came.

    What came and is not acknowledged lies in a ring of WINDOW_BYTES; nothing more is read while that is full.
    """

    def __init__(self, source: socket.socket, sink: socket.socket, half_s: float, *, nagle: bool) -> None:
        self._loop = asyncio.get_running_loop()
        self.over: asyncio.Future[bool] = self._loop.create_future()
        """The end has reached the sink, or nothing can any more; True if it is the end of both ways."""
        self.back: Way | None = None
        self._source, self._sink, self._half_s, self._nagle = source, sink, half_s, nagle
        self._came = self._left = self._arrived = self._confirmed = self._acknowledged = 0
        self._flying: deque[tuple[float, int]] = deque()
        """When the bytes up to this count arrive."""
        self._returning: deque[tuple[float, int]] = deque()
        """When their acknowledgement is back."""
        self._window = FIRST_WINDOW_BYTES
        self._small_end = 0
        """Where the last segment that was not full ended."""
        self._headers_end = 0
        """Where headers end that were written before the rest."""
        self._ended = self._reset = False
        self._end_due_s: float | None = None
        self._sent_at_s = 0.0
        self._look_due_s: float | None = None
        self._ring = memoryview(mmap.mmap(-1, WINDOW_BYTES))  # takes memory as it is used
        self._origin = 0
        self._timer: asyncio.TimerHandle | None = None
        self._timer_due_s = 0.0
        self._reading = False

    def start(self) -> None:
        """Have the source's bytes leave, from now on."""
        self._read_on()

    def stop(self, *, reset: bool = False) -> None:
        """Whatever has not arrived never will."""
        self._pause()
        if self._timer:
            self._timer.cancel()
        if not self.over.done():
            self.over.set_result(reset)

    def break_off(self) -> None:
        """The source has reset the connection: whatever has not left never will."""
        if not self.over.done():
            self._pause()
            self._came, self._ended, self._reset = self._left, True, True
            self._advance()

    def _read_on(self) -> None:
        if not (self._reading or self._ended):
            self._loop.add_reader(self._source, self._readable)
            self._reading = True

    def _pause(self) -> None:
        if self._reading:
            self._loop.remove_reader(self._source)
            self._reading = False

    def _piece(self, begin: int, end: int) -> memoryview:
        """The ring from one count to the other, as far as that is side by side."""
        at = (begin - self._origin) % WINDOW_BYTES
        return self._ring[at : min(at + end - begin, WINDOW_BYTES)]

    def _readable(self) -> None:
        if self._came == self._acknowledged:
            self._origin = self._came  # the same memory again, while it is in the cache
        piece = self._piece(self._came, self._acknowledged + WINDOW_BYTES)
        try:
            size = self._source.recv_into(piece)
            self._source.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            self.break_off()
            return
        if self._nagle and self._came == self._left and size > HEADERS_BYTES and piece[0] == P_DATA_TF:
            self._headers_end = self._came + HEADERS_BYTES
        self._came += size
        self._ended = not size
        if self._ended or self._came == self._acknowledged + WINDOW_BYTES:
            self._pause()
        self._advance()

    def _on_timer(self) -> None:
        self._timer = None
        self._advance()

    def _advance(self) -> None:
        """Do all that is due, and set the timer for the next."""
        now_s = time.monotonic()
        soon_s = now_s + SOON_S
        while self._returning and self._returning[0][0] <= soon_s:
            self._acknowledge(self._returning.popleft()[1])
        self._leave(now_s)
        try:
            while self._flying and self._flying[0][0] <= soon_s:
                count = self._flying.popleft()[1]
                if not self._arrive(count, now_s):
                    self._flying.appendleft((now_s + LOOK_AGAIN_S, count))
            self._confirm(now_s)
            if self._end_due_s is not None and self._end_due_s <= soon_s and not self._flying:
                self._end()
        except OSError:  # the sink is gone, and the source will learn of it
            self.stop()
            if self.back:
                self.back.break_off()
        if not self.over.done():
            self._set_timer(now_s)

    def _acknowledge(self, count: int) -> None:
        self._window = min(WINDOW_BYTES, self._window + count - self._acknowledged)
        self._acknowledged = count
        self._read_on()

    def _leave(self, now_s: float) -> None:
        while size := self._may_leave():
            self._left += size
            self._flying.append((now_s + self._half_s, self._left))
            if size % SEGMENT_BYTES:
                self._small_end = self._left
        if self._ended and self._left == self._came and self._end_due_s is None:
            self._end_due_s = now_s + self._half_s

    def _may_leave(self) -> int:
        """How many bytes: the window and Nagle's algorithm hold back what would be a small segment."""
        waiting = self._came - self._left
        size = min(waiting, self._acknowledged + self._window - self._left)
        if size < waiting:
            return size - size % SEGMENT_BYTES
        if self._nagle and self._small_end > self._acknowledged and not self._ended:
            self._headers_end = 0  # they are together with the rest when they may leave
            return size - size % SEGMENT_BYTES
        return self._headers_end - self._left if self._headers_end > self._left else size

    def _arrive(self, count: int, now_s: float) -> bool:
        """Hand the bytes up to this count to the sink; False if it does not take all of them now."""
        with suppress(BlockingIOError, InterruptedError):
            while self._arrived < count:
                self._arrived += self._sink.send(self._piece(self._arrived, count))
                self._sent_at_s = now_s
        return self._arrived == count

    def _confirm(self, now_s: float) -> None:
        """Acknowledge what has arrived: two full segments at once, less when the sink's kernel has done so.

        That no longer has the bytes waiting in our socket then.
        """
        self._look_due_s = None
        if self._confirmed == self._arrived:
            return
        waiting = 0
        if self._arrived - self._confirmed < ACKNOWLEDGED_AT_ONCE_BYTES:
            waiting = struct.unpack("i", fcntl.ioctl(self._sink, termios.TIOCOUTQ, bytes(4)))[0]
        if self._arrived - waiting > self._confirmed:
            self._confirmed = self._arrived - waiting
            self._returning.append((now_s + self._half_s, self._confirmed))
        if waiting:
            self._look_due_s = now_s + max(LOOK_AGAIN_S, (now_s - self._sent_at_s) * LOOK_AGAIN_SHARE)

    def _end(self) -> None:
        if not self._reset:
            self._sink.shutdown(socket.SHUT_WR)
        self.stop(reset=self._reset)

    def _set_timer(self, now_s: float) -> None:
        due = [queue[0][0] for queue in (self._flying, self._returning) if queue]
        due += [at_s for at_s in (self._end_due_s, self._look_due_s) if at_s is not None]
        if self._timer and due and min(due) < self._timer_due_s:
            self._timer.cancel()
            self._timer = None
        if due and not self._timer:
            self._timer_due_s = min(due)
            self._timer = self._loop.call_later(self._timer_due_s - now_s, self._on_timer)


class Link:
    """Listens on `port`, and relays to (host, far_port); near is who connects, far who is called."""

    def __init__(
        self,
        far_port: int,
        *,
        rtt_s: float,
        host: str = "127.0.0.1",
        port: int = 0,
        near_nagle: bool = False,
        far_nagle: bool = False,
    ) -> None:
        self.host, self.far_port, self.port = host, far_port, port
        self.connections = 0
        self._half_s = rtt_s / 2
        self._near_nagle, self._far_nagle = near_nagle, far_nagle

    async def __aenter__(self) -> Self:
        self._listening = socket.create_server((self.host, self.port), backlog=64)
        as_on_a_line(self._listening)
        self.port = self._listening.getsockname()[1]
        self._relays: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, *_: object) -> None:
        tasks = (self._accepting, *self._relays)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        self._listening.close()
        for result in results:
            if isinstance(result, Exception):
                raise result

    async def _accept(self) -> None:
        while True:
            near, _ = await asyncio.get_running_loop().sock_accept(self._listening)
            self.connections += 1
            relay = asyncio.create_task(self._relay(near))
            self._relays.add(relay)
            relay.add_done_callback(self._relays.discard)

    async def _relay(self, near: socket.socket) -> None:
        with near, socket.socket() as far:
            for sock in (near, far):
                as_on_a_line(sock)
            await asyncio.sleep(self._half_s)
            try:
                await asyncio.get_running_loop().sock_connect(far, (self.host, self.far_port))
            except OSError:
                await asyncio.sleep(self._half_s)
                reset(near)
                return
            await asyncio.sleep(self._half_s)
            there = Way(near, far, self._half_s, nagle=self._near_nagle)
            back = Way(far, near, self._half_s, nagle=self._far_nagle)
            there.back, back.back = back, there
            try:
                there.start()
                back.start()
                for over in asyncio.as_completed((there.over, back.over)):
                    if await over:
                        reset(near, far)
                        return
            finally:
                there.stop()
                back.stop()


def as_on_a_line(sock: socket.socket) -> None:
    """The options of the relay's own sockets."""
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, MAXSEG)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")


def reset(*sockets: socket.socket) -> None:
    """Have them send RST when they are closed."""
    for sock in sockets:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Route(click.ParamType[tuple[int, int, bool, bool]]):
    """PORT:FARPORT, with `near` or `far` for the sides that have Nagle's algorithm on."""

    name = "route"

    def convert(
        self, value: str, parameter: click.Parameter | None, context: click.Context | None
    ) -> tuple[int, int, bool, bool]:
        port, far_port, *nagle = value.split(":")
        if not (port.isdigit() and far_port.isdigit() and set(nagle) <= {"near", "far"}):
            self.fail(f"{value!r} is not PORT:FARPORT[:near][:far]", parameter, context)
        return int(port), int(far_port), "near" in nagle, "far" in nagle


@click.command()
@click.option("--rtt", "rtt_ms", type=click.FloatRange(min=2), default=20.0, show_default=True, help="Milliseconds.")
@click.argument("routes", type=Route(), nargs=-1, required=True, metavar="PORT:FARPORT[:near][:far]...")
def main(rtt_ms: float, routes: tuple[tuple[int, int, bool, bool], ...]) -> None:
    """Relay each PORT of the loopback to FARPORT, an RTT away, until killed; near and far: who has Nagle on."""

    async def serve() -> None:
        async with AsyncExitStack() as stack:
            for port, far_port, near, far in routes:
                link = Link(far_port, rtt_s=rtt_ms / 1e3, port=port, near_nagle=near, far_nagle=far)
                await stack.enter_async_context(link)
            await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main(prog_name="python -m benchmarks.link")
