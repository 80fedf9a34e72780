"""A scripted DICOM peer in both roles: sends the bytes it is told to, reads PDUs, expects an end.

With `raw` it shares no code with fastmove, so that a bug of ours cannot cancel itself out.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, Self

from tests.integration import raw
from tests.integration.raw import ABORT, ASSOCIATE_AC, ASSOCIATE_RJ, COMMAND, LAST, P_DATA, PDU_NAME


@dataclass(frozen=True, slots=True)
class Pdu:
    """A received PDU: its type, and its bytes after the header."""

    pdu_type: int
    data: bytes

    def __str__(self) -> str:
        return f"{PDU_NAME.get(self.pdu_type, hex(self.pdu_type))} {self.data[:64].hex(' ')}"


@dataclass(frozen=True, slots=True)
class Reply:
    """A received DIMSE message."""

    context_id: int
    fields: dict[int, bytes]
    dataset: bytes

    @property
    def status(self) -> int:
        return int.from_bytes(self.fields[raw.STATUS], "little")

    @property
    def responded_to(self) -> int:
        return int.from_bytes(self.fields[raw.RESPONDED_TO], "little")


class Link:
    """A TCP connection on which every byte is ours to choose; deadlines in seconds."""

    def __init__(self, sock: socket.socket, deadline: float = 1.0) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = sock
        self.deadline = deadline
        self.longest_p_data = 0
        self._loop = asyncio.get_running_loop()
        self._unread = b""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self.close()

    async def send(self, *chunks: bytes) -> None:
        """Send all chunks glued together."""
        async with asyncio.timeout(self.deadline):  # not wait_for: in Python 3.11 that may swallow a cancellation
            await self._loop.sock_sendall(self.sock, b"".join(chunks))

    async def send_pieces(self, data: bytes, size: int = 1, pause_s: float = 0.0) -> None:
        """Send `size` bytes at a time, each in a segment of its own (Nagle is off)."""
        for start in range(0, len(data), size):
            await self._loop.sock_sendall(self.sock, data[start : start + size])
            await asyncio.sleep(pause_s)

    async def _fill(self, count: int) -> None:
        while len(self._unread) < count:
            data = await self._loop.sock_recv(self.sock, 65536)
            if not data:
                raise EOFError(f"the peer closed the connection after {self._unread[:64].hex(' ')!r}")
            self._unread += data

    async def next_type(self, deadline: float | None = None) -> int:
        """The type of the next PDU, which is not read yet; EOFError, ConnectionResetError or TimeoutError."""
        async with asyncio.timeout(deadline or self.deadline):
            await self._fill(6)
        return self._unread[0]

    async def read_pdu(self, deadline: float | None = None) -> Pdu:
        """The next PDU; EOFError, ConnectionResetError or TimeoutError if there is none."""
        async with asyncio.timeout(deadline or self.deadline):
            await self._fill(6)
            pdu_type, length = struct.unpack(">BxI", self._unread[:6])
            assert length <= 1 << 24, f"PDU of {length} bytes announced"
            await self._fill(6 + length)
        data, self._unread = self._unread[6 : 6 + length], self._unread[6 + length :]
        if pdu_type == P_DATA:
            self.longest_p_data = max(self.longest_p_data, length)
        return Pdu(pdu_type, data)

    async def expect(self, pdu_type: int, deadline: float | None = None) -> bytes:
        """The next PDU, which must be of this type: its bytes after the header."""
        received = await self.read_pdu(deadline)
        assert received.pdu_type == pdu_type, f"{PDU_NAME[pdu_type]} expected, got {received}"
        return received.data

    async def expect_abort(self, source: int, reason: int) -> None:
        data = await self.expect(ABORT)
        assert (len(data), *data[2:]) == (4, source, reason), (
            f"A-ABORT({source},{reason}) expected, got {data.hex(' ')}"
        )

    async def expect_reject(self, result: int, source: int, reason: int) -> None:
        data = await self.expect(ASSOCIATE_RJ)
        expected = (result, source, reason)
        assert (len(data), *data[1:]) == (4, *expected), f"RJ{expected} expected, got {data.hex(' ')}"

    async def expect_closed(self, deadline: float | None = None) -> None:
        """The peer ends the connection, by FIN or RST, without another PDU."""
        try:
            received = await self.read_pdu(deadline)
        except ConnectionResetError:
            return
        except EOFError:
            assert not self._unread, f"closed after a torn PDU: {self._unread[:64].hex(' ')}"
            return
        raise AssertionError(f"close expected, got {received}")

    async def read_reply(self) -> Reply:
        """The next whole DIMSE message."""
        parts: dict[int, bytes] = {COMMAND: b"", 0: b""}
        wanted = COMMAND
        while True:
            data, offset = await self.expect(P_DATA), 0
            while offset < len(data):
                length, context_id, control = struct.unpack_from(">IBB", data, offset)
                assert control & COMMAND == wanted, "command and data set fragments out of order"
                parts[wanted] += data[offset + 6 : offset + 4 + length]
                offset += 4 + length
                if control & LAST:
                    fields = raw.decode_command(parts[COMMAND])
                    if wanted == 0 or fields[raw.DATA_SET_TYPE] == raw.us(raw.NO_DATA_SET):
                        assert offset == len(data), "a second message in the PDU of the first"
                        return Reply(context_id, fields, parts[0])
                    wanted = 0

    async def expect_status(self, status: int, responded_to: int = 1) -> Reply:
        """The next message is a response with this status to this message."""
        reply = await self.read_reply()
        assert (reply.status, reply.responded_to) == (status, responded_to), (
            f"status {status:04X} to {responded_to} expected, got {reply.status:04X} to {reply.responded_to}"
        )
        return reply

    def half_close(self) -> None:
        """Send FIN, go on reading."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection by RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """End the connection by FIN."""
        self.sock.close()


class ScriptedRequestor(Link):
    """The requestor of an association; use as an async context manager."""

    def __init__(self, host: str, port: int, deadline: float = 1.0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__(socket.socket(family, socket.SOCK_STREAM), deadline)
        self.address = (host, port)

    async def __aenter__(self) -> Self:
        try:
            async with asyncio.timeout(self.deadline):
                await self._loop.sock_connect(self.sock, self.address)
        except BaseException:
            self.close()
            raise
        return self

    async def associate(self, rq: bytes | None = None) -> dict[int, int]:
        """Send this A-ASSOCIATE-RQ, expect an AC: the result of each context by its ID."""
        await self.send(raw.associate_rq() if rq is None else rq)
        return await self.expect_accept()

    async def expect_accept(self) -> dict[int, int]:
        """The next PDU is an A-ASSOCIATE-AC: the result of each context by its ID."""
        self.accept_items = read_items((await self.expect(ASSOCIATE_AC))[68:])
        return {data[0]: data[2] for kind, data in self.accept_items if kind == 0x21}

    @property
    def user_items(self) -> dict[int, bytes]:
        """The user information sub-items of the A-ASSOCIATE-AC by type."""
        return dict(read_items(b"".join(data for kind, data in self.accept_items if kind == 0x50)))

    async def echo(self, message_id: int = 1, context_id: int = 3) -> None:
        """C-ECHO, which must succeed."""
        await self.send(raw.message(context_id, raw.c_echo_rq(message_id)))
        await self.expect_status(0, message_id)

    async def store(self, sop_instance: str, dataset: bytes, message_id: int = 1, context_id: int = 1) -> Reply:
        """C-STORE of a CT image, which must succeed."""
        await self.send(raw.message(context_id, raw.c_store_rq(sop_instance, message_id), dataset))
        return await self.expect_status(0, message_id)

    async def release(self) -> None:
        """A-RELEASE, which must be answered; then the connection ends."""
        await self.send(raw.release_rq())
        assert await self.expect(raw.RELEASE_RP) == bytes(4)
        self.close()


def read_items(data: bytes) -> list[tuple[int, bytes]]:
    """The items or sub-items in `data`: type and bytes."""
    items, offset = [], 0
    while offset < len(data):
        kind, length = struct.unpack_from(">BxH", data, offset)
        assert offset + 4 + length <= len(data), "an item is longer than what holds it"
        items.append((kind, data[offset + 4 : offset + 4 + length]))
        offset += 4 + length
    return items


class Step(Protocol):
    """One step of a script."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        """Do it on this connection; `received` holds all PDUs so far."""


@dataclass(frozen=True, slots=True)
class Recv:
    """Wait for the next PDU, which must be of this type."""

    pdu_type: int
    deadline: float = 5.0

    async def run(self, link: Link, received: list[Pdu]) -> None:
        received.append(Pdu(self.pdu_type, await link.expect(self.pdu_type, self.deadline)))


@dataclass(frozen=True, slots=True)
class Send:
    """Send bytes, or what a function of the received PDUs returns."""

    data: bytes | Callable[[list[Pdu]], bytes]

    async def run(self, link: Link, received: list[Pdu]) -> None:
        await link.send(self.data if isinstance(self.data, bytes) else self.data(received))


@dataclass(frozen=True, slots=True)
class Close:
    """End the connection by FIN."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.close()


@dataclass(frozen=True, slots=True)
class Reset:
    """End the connection by RST."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.reset()


@dataclass(frozen=True, slots=True)
class Closed:
    """Wait until the other side ends the connection."""

    deadline: float = 5.0

    async def run(self, link: Link, received: list[Pdu]) -> None:
        await link.expect_closed(self.deadline)


@dataclass
class ScriptedAcceptor:
    """Accepts connections on a free port; the n-th one runs the n-th script, later ones the last.

    A script that ends leaves its connection open, silent.  A step that fails raises when the context ends.
    """

    scripts: Sequence[Sequence[Step]]
    host: str = "127.0.0.1"
    received: list[list[Pdu]] = field(default_factory=list)

    async def __aenter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._listening = socket.create_server((self.host, 0), family=family)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._links: list[Link] = []
        self._played: list[asyncio.Task[None]] = []
        self._accepting = asyncio.create_task(self._accept())
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, *exc_info: object) -> None:
        self._accepting.cancel()
        unfinished = [task for task in self._played if not task.done()]
        for task in unfinished:
            task.cancel()
        results = await asyncio.gather(self._accepting, *self._played, return_exceptions=True)
        for link in self._links:
            link.close()
        self._listening.close()
        failures = [result for result in results if isinstance(result, Exception)]
        if failures and exc_type is None:
            raise failures[0]

    async def finished(self, deadline: float = 5.0) -> None:
        """Wait until the scripts of all connections so far are at their end."""
        async with asyncio.timeout(deadline):
            await asyncio.gather(*self._played)

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(self._listening)
            link, received = Link(sock), list[Pdu]()
            script = self.scripts[min(len(self._links), len(self.scripts) - 1)]
            self._links.append(link)
            self.received.append(received)
            self._played.append(asyncio.create_task(self._play(script, link, received)))

    @staticmethod
    async def _play(script: Sequence[Step], link: Link, received: list[Pdu]) -> None:
        for step in script:
            await step.run(link, received)
