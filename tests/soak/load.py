"""Peers that send as fast as they can, and peers that do anything but: what a listener gets in weeks, in seconds."""

from __future__ import annotations

import asyncio
import itertools
import os
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, cast

from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor
from tests.soak.listening import Listening

ROOT: Final = "1.2.826.0.1.3680043.10.9999.55"
DIGITS: Final = 12
PLACE: Final = f"{ROOT}.1{'0' * DIGITS}"
"""The UID that stands in the template for that of an object: all are of the same length."""

SUCCESS: Final = raw.element(raw.STATUS, raw.us(0))
_numbers = itertools.count(1)


def uids() -> Iterator[str]:
    """SOP Instance UIDs that nobody has had."""
    return (f"{ROOT}.1{number:0{DIGITS}}" for number in _numbers)


class Template:
    """A C-STORE message of so many bytes, or a little more."""

    def __init__(self, nbytes: int) -> None:
        command = raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(PLACE)))
        data = raw.dataset(PLACE, pixel_bytes=nbytes)
        whole = raw.message(1, raw.c_store_rq(PLACE), data, fragment=65_000)
        head = len(command) + 1024  # the UID stands in the beginning of the data set too
        self._head, self._rest = whole[:head], whole[head:]
        assert self._head.count(PLACE.encode()) == 2 and PLACE.encode() not in self._rest
        self.dataset_bytes = len(data)
        self._place = PLACE.encode()

    def message(self, uid: str) -> tuple[bytes, bytes]:
        """In two pieces: only the first differs from object to object."""
        return self._head.replace(self._place, uid.encode()), self._rest


class Stream(asyncio.Protocol):
    """An association that stores one object after the other, and takes each away when it is acknowledged.

    With `keep` it leaves them there.
    """

    def __init__(self, directory: Path, template: Template, *, keep: bool = False) -> None:
        self._directory = directory
        self._keep = keep
        self._template = template
        self._transport: asyncio.Transport
        self._uid = ""
        self._next: Iterator[str] = iter(())
        self._answer = b""
        self._over = asyncio.get_running_loop().create_future()
        self._over.set_result(None)

    @classmethod
    async def opened(
        cls, listener: Listening, template: Template, stack: AsyncExitStack, *, keep: bool = False
    ) -> Stream:
        """One that stands, until the end of the stack."""
        stream = cls(listener.directory, template, keep=keep)
        async with listener.connect() as peer:
            await peer.associate()
            sock = socket.socket(fileno=peer.sock.detach())
        await asyncio.get_running_loop().create_connection(lambda: stream, sock=sock)
        stack.callback(stream.cut)
        return stream

    def cut(self) -> None:
        """No more of it."""
        self._transport.abort()

    async def store(self, uids: Iterator[str]) -> None:
        """Objects of these UIDs, until there are no more; each must be in place when it is acknowledged."""
        self._next = uids
        self._over = asyncio.get_running_loop().create_future()
        self._send()
        await self._over

    def _send(self) -> None:
        if uid := next(self._next, ""):
            self._uid = uid
            self._transport.writelines(self._template.message(uid))
        else:
            self._over.set_result(None)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        answer = self._answer = self._answer + data
        if len(answer) < 6 or len(answer) < 6 + int.from_bytes(answer[2:6], "big"):
            return
        self._answer = b""
        try:
            assert answer[0] == raw.P_DATA and SUCCESS in answer, answer
            path = f"{self._directory}/{self._uid}.dcm"
            assert os.stat(path).st_size > self._template.dataset_bytes  # noqa: PTH116  50,000 times
            if not self._keep:
                os.unlink(path)  # noqa: PTH108
        except (AssertionError, OSError) as error:
            self._over.set_exception(error)
        else:
            self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._over.done():
            self._over.set_exception(exc or EOFError(f"closed after {self._uid}"))


# ---------------------------------------------------------------------- anything but


def _mid_object(at: int) -> bytes:
    whole = raw.message(1, raw.c_store_rq(PLACE), raw.dataset(PLACE))
    return whole[: at % (len(whole) - 1) + 1]


async def _released(peer: ScriptedRequestor, at: int) -> None:
    await peer.associate()
    await peer.release()


async def _aborted(peer: ScriptedRequestor, at: int) -> None:
    await peer.associate()
    data = raw.dataset(PLACE)
    command = raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(PLACE)))
    await peer.send(command, raw.p_data(raw.pdv(1, 0, data[: at % len(data)])), raw.abort())
    await peer.expect_closed()


async def _reset(peer: ScriptedRequestor, at: int) -> None:
    await peer.associate()
    await peer.send(_mid_object(at))
    peer.reset()


async def _closed(peer: ScriptedRequestor, at: int) -> None:
    await peer.associate()
    await peer.send(_mid_object(at))


async def _rejected(peer: ScriptedRequestor, at: int) -> None:
    await peer.send(raw.associate_rq(called="SOMEBODY"))
    await peer.expect(raw.ASSOCIATE_RJ)


async def _half_a_request(peer: ScriptedRequestor, at: int) -> None:
    request = raw.associate_rq()
    await peer.send(request[: at % len(request)])


async def _no_dicom(peer: ScriptedRequestor, at: int) -> None:
    await peer.send(b"GET / HTTP/1.1\r\nHost: pacs\r\n\r\n")
    await peer.expect(raw.ABORT)


async def _malformed(peer: ScriptedRequestor, at: int) -> None:
    await peer.associate()
    await peer.send(raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, b"\xff" * (at % 50 + 1))))
    await peer.expect(raw.ABORT)


async def _release_in_an_object(peer: ScriptedRequestor, at: int) -> None:
    await peer.associate()
    half = raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(PLACE)), raw.pdv(1, 0, bytes(at % 200)))
    await peer.send(half, raw.release_rq())
    await peer.expect(raw.ABORT)


VISITS: Final[tuple[Callable[[ScriptedRequestor, int], Awaitable[None]], ...]] = (
    _released,
    _aborted,
    _reset,
    _closed,
    _rejected,
    _half_a_request,
    _no_dicom,
    _malformed,
    _release_in_an_object,
)
"""What a peer does from its connection to its end."""


async def visit(listener: Listening, number: int) -> None:
    """The n-th one, which is cut at another byte than the ones before."""
    async with listener.connect() as peer:
        await VISITS[number % len(VISITS)](peer, number // len(VISITS))
