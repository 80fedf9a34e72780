"""The relay that makes a peer distant does what TCP over such a distance does, and no more."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import socket
import statistics
import struct
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from benchmarks.link import FIRST_WINDOW_BYTES, SOON_S, WINDOW_BYTES, Link

RTT_S = 0.05
LEAST_S = RTT_S - 2 * SOON_S
HEADERS, COMMAND = bytes.fromhex("0400000000a00000009c0103"), bytes(154)
"""The two pieces in which DCMTK writes a C-STORE-RSP."""

DELAYED_ACK_S = 0.038
"""The kernel's 40 ms, by its own clock."""


@contextlib.asynccontextmanager
async def connected(
    rtt_s: float = RTT_S, *, near_nagle: bool = False, buffer_bytes: int = 0
) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a connection through a link; the first answer has come."""
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket() as near:
        for sock in (listening, near):
            sock.setblocking(False)
            if buffer_bytes:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        async with Link(listening.getsockname()[1], rtt_s=rtt_s, near_nagle=near_nagle) as link:
            await loop.sock_connect(near, ("127.0.0.1", link.port))
            near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            far, _ = await loop.sock_accept(listening)
            with far:
                far.setblocking(False)
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.sock_sendall(near, b"?")
                assert await loop.sock_recv(far, 1) == b"?"
                await loop.sock_sendall(far, b"!")
                assert await loop.sock_recv(near, 1) == b"!"
                yield near, far


async def digest(sock: socket.socket, size: int) -> str:
    """Of the next so many bytes."""
    loop, found = asyncio.get_running_loop(), hashlib.sha256()
    while size:
        piece = await loop.sock_recv(sock, min(size, 1 << 20))
        assert piece, f"{size} bytes are missing"
        found.update(piece)
        size -= len(piece)
    return found.hexdigest()


async def transferred(source: socket.socket, sink: socket.socket, data: bytes) -> float:
    """How long it took."""
    begun = time.monotonic()
    received, _ = await asyncio.gather(digest(sink, len(data)), asyncio.get_running_loop().sock_sendall(source, data))
    assert received == hashlib.sha256(data).hexdigest()
    return time.monotonic() - begun


async def test_answer_takes_a_round_trip_and_the_first_one_two() -> None:
    begun = time.monotonic()
    async with connected() as (near, far):
        assert time.monotonic() - begun >= 2 * LEAST_S
        times = [await transferred(near, far, b"?") + await transferred(far, near, b"!") for _ in range(5)]
    assert min(times) >= LEAST_S and statistics.median(times) < 1.5 * RTT_S


async def test_bytes_on_their_way_do_not_wait_for_each_other() -> None:
    async with connected() as (near, far):
        begun = time.monotonic()
        for _ in range(100):
            near.send(b"x" * 100)
            await asyncio.sleep(0)
        await digest(far, 100 * 100)
        assert LEAST_S / 2 <= time.monotonic() - begun < 10 * RTT_S


@pytest.mark.parametrize("rtt_s", [0.0, 0.004])
async def test_every_byte_arrives_both_ways_at_once(rtt_s: float) -> None:
    there, back = random.Random(1).randbytes(3 * WINDOW_BYTES + 1), random.Random(2).randbytes(WINDOW_BYTES + 17)
    async with connected(rtt_s) as (near, far):
        await asyncio.gather(transferred(near, far, there), transferred(far, near, back))


async def test_sender_waits_for_a_receiver_that_does_not_read() -> None:
    data, buffer_bytes = random.Random(3).randbytes(WINDOW_BYTES), 65536
    async with connected(0.002, buffer_bytes=buffer_bytes) as (near, far):
        loop, sent = asyncio.get_running_loop(), 0
        with contextlib.suppress(TimeoutError):
            while True:
                async with asyncio.timeout(0.3):
                    await loop.sock_sendall(near, data)
                    sent += 1
        near.close()  # in the middle of one
        assert sent * len(data) <= WINDOW_BYTES + 2 * buffer_bytes + sum(map(most_buffered, ("rmem", "wmem")))
        assert await digest(far, sent * len(data)) == hashlib.sha256(sent * data).hexdigest()


def most_buffered(kind: str) -> int:
    """What the kernel lets a socket of the link grow to, where bytes lie beside its window."""
    return int(Path(f"/proc/sys/net/ipv4/tcp_{kind}").read_text().split()[2])


async def test_new_connection_starts_slowly() -> None:
    data = bytes(10 * FIRST_WINDOW_BYTES)
    async with connected() as (near, far):
        first, second = [await transferred(near, far, data) for _ in range(2)]
    assert first >= 3.5 * LEAST_S  # 10, 20, 40, and 30 segments
    assert second < 2 * RTT_S


@pytest.mark.parametrize(
    ("near_nagle", "quickack", "least_s"),
    [(False, True, 0.0), (True, True, LEAST_S), (True, False, LEAST_S + DELAYED_ACK_S)],
    ids=["without", "until it is acknowledged", "which the receiver's kernel delays"],
)
async def test_rest_of_a_message_waits_for_its_headers_by_nagles_algorithm(
    near_nagle: bool, quickack: bool, least_s: float
) -> None:
    waits = []
    async with connected(near_nagle=near_nagle) as (near, far):
        for _ in range(5):
            far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, quickack)
            near.send(HEADERS + COMMAND)
            await digest(far, 1)
            first = time.monotonic()
            if quickack:
                far.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            await digest(far, len(HEADERS + COMMAND) - 1)
            waits.append(time.monotonic() - first)
            await transferred(far, near, b"!")
    assert least_s <= statistics.median(waits) < least_s + RTT_S / 2


async def test_end_of_one_way_arrives_and_the_other_goes_on() -> None:
    loop = asyncio.get_running_loop()
    async with connected(0.01) as (near, far):
        await loop.sock_sendall(near, b"last")
        near.shutdown(socket.SHUT_WR)
        assert [await loop.sock_recv(far, 4), await loop.sock_recv(far, 1)] == [b"last", b""]
        await transferred(far, near, bytes(100_000))
        far.close()
        assert await loop.sock_recv(near, 1) == b""


@pytest.mark.parametrize("who", ["near", "far"])
async def test_reset_arrives_as_reset(who: str) -> None:
    loop = asyncio.get_running_loop()
    async with connected(0.01) as (near, far):
        resets, other = (near, far) if who == "near" else (far, near)
        resets.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        resets.close()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(other, 1)


async def test_refused_connection_is_reset_after_a_round_trip() -> None:
    loop = asyncio.get_running_loop()
    with socket.socket() as nobody, socket.socket() as near:
        nobody.bind(("127.0.0.1", 0))
        near.setblocking(False)
        async with Link(nobody.getsockname()[1], rtt_s=RTT_S) as link:
            begun = time.monotonic()
            await loop.sock_connect(near, ("127.0.0.1", link.port))
            with pytest.raises(ConnectionResetError):
                await loop.sock_recv(near, 1)
            assert time.monotonic() - begun >= LEAST_S
