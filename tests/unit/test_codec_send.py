"""send_now: what the socket takes at once, and never a signal or an exception."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

import pytest

from fastmove._codec import send_now

BLOCK = os.urandom(1 << 20)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection; both block."""
    near, far = socket.socketpair()
    with near, far:
        yield near, far


@pytest.mark.parametrize("blocking", [True, False])
def test_what_fits_is_sent_whole(pair: tuple[socket.socket, socket.socket], blocking: bool) -> None:
    near, far = pair
    near.setblocking(blocking)
    assert send_now(near.fileno(), b"response") == 8
    assert far.recv(100) == b"response"


@pytest.mark.parametrize("blocking", [True, False])
def test_full_socket_takes_a_part_and_then_nothing(pair: tuple[socket.socket, socket.socket], blocking: bool) -> None:
    near, far = pair
    near.setblocking(blocking)
    sent = send_now(near.fileno(), BLOCK)
    assert 0 < sent < len(BLOCK)
    while more := send_now(near.fileno(), BLOCK[sent:]):
        sent += more
    near.close()
    with far.makefile("rb") as file:
        assert file.read() == BLOCK[:sent]


def test_closed_peer_takes_nothing_and_no_signal_is_raised(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    far.close()
    raised: list[int] = []
    before = signal.signal(signal.SIGPIPE, lambda number, _: raised.append(number))
    try:
        assert send_now(near.fileno(), b"response") == 0
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert raised == []


def test_closed_descriptor_takes_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    near, _ = pair
    number = near.fileno()
    near.close()
    assert send_now(number, b"response") == 0


def test_nothing_is_sent_of_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    assert send_now(pair[0].fileno(), b"") == 0


def test_only_bytes_and_views_of_them_are_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    for data in (None, 7, "response"):
        with pytest.raises(TypeError):
            send_now(pair[0].fileno(), data)  # type: ignore[arg-type]


def test_view_is_sent_and_given_back(pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    held = bytearray(b"a response")
    with memoryview(held) as view:
        assert send_now(near.fileno(), view[2:]) == 8
    assert far.recv(100) == b"response"
    held.clear()  # BufferError if anybody still had it
