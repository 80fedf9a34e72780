"""Messages from memory: the same bytes as those from files, however the socket cuts them."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from random import Random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.receivers import PC_ID
from tests.unit.test_codec_writer import COMMAND, message_of, pdvs_of

from fastmove._codec import PDataWriter
from fastmove._gather import MemoryMessage

MEMORY: Final = os.urandom(50_001)


def endless(before: bytes, memory: bytes, start: int, nbytes: int) -> bytes:
    """The data set."""
    times = nbytes // len(memory) + 2
    return (before + memory[start:] + times * memory)[:nbytes]


def taken(message: MemoryMessage, sizes: Iterator[int]) -> bytes:
    found = b""
    while message.left:
        found += message.take(next(sizes))
    return found


@settings(deadline=None, max_examples=200)
@given(
    max_pdu_length=st.sampled_from([8, 14, 100, 1001, 16384, 131072, 0]),
    nbytes_before=st.sampled_from([0, 1, 90, 5_000]),
    more=st.integers(0, 120_000),
    memory=st.binary(min_size=1, max_size=300),
    seed=st.integers(0, 1000),
)
def test_bytes_are_framed_as_the_writer_does_it_whatever_is_taken_at_once(
    max_pdu_length: int, nbytes_before: int, more: int, memory: bytes, seed: int
) -> None:
    random, before = Random(seed), os.urandom(nbytes_before)
    nbytes = max(1, nbytes_before + (more % 3000 if 0 < max_pdu_length < 1000 or len(memory) < 20 else more))
    start = random.randrange(len(memory))
    message = MemoryMessage(PDataWriter(max_pdu_length), PC_ID, COMMAND, before, memoryview(memory), start, nbytes)
    found = taken(message, iter(lambda: random.choice((1, 7, 12, 13, 4096, 100_000)), None))
    assert message_of(pdvs_of(found, max_pdu_length)) == (COMMAND, endless(before, memory, start, nbytes))


@pytest.mark.parametrize("max_pdu_length", [16384, 131072, 0])
@pytest.mark.parametrize("nbytes", [1, 50_000, 3_000_000])
def test_socket_that_takes_little_gets_the_same_bytes(max_pdu_length: int, nbytes: int) -> None:
    near, far = socket.socketpair()
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    near.setblocking(False)
    before = os.urandom(min(nbytes, 300))
    message = MemoryMessage(PDataWriter(max_pdu_length), PC_ID, COMMAND, before, memoryview(MEMORY), 17, nbytes)
    received: list[bytes] = []

    def read() -> None:
        while data := far.recv(7001):
            received.append(data)

    reader = threading.Thread(target=read)
    with far:
        reader.start()
        with near:
            whole = message.left
            while not message.send(near.fileno()):
                near.setblocking(True)
                near.sendall(message.take(1000))  # waits until there is room
                near.setblocking(False)
                if not message.left:
                    break
            assert message.left == 0
        reader.join()
    found = b"".join(received)
    assert len(found) == whole
    assert message_of(pdvs_of(found, max_pdu_length)) == (COMMAND, endless(before, MEMORY, 17, nbytes))


def test_socket_that_is_gone_takes_nothing_and_raises_no_signal() -> None:
    near, far = socket.socketpair()
    far.close()
    message = MemoryMessage(PDataWriter(0), PC_ID, COMMAND, b"", memoryview(MEMORY), 0, 100)
    with near:
        assert not message.send(near.fileno())
        assert message.left > 100


def test_memory_is_held_as_long_as_the_message_and_given_back() -> None:
    memory = bytearray(MEMORY)
    message = MemoryMessage(PDataWriter(0), PC_ID, COMMAND, b"", memory, 0, 100)  # type: ignore[arg-type]
    with pytest.raises(BufferError):
        memory.clear()
    del message
    memory.clear()


@pytest.mark.parametrize(
    ("before", "memory", "start", "nbytes"),
    [(b"", b"x", 0, 0), (bytes(9), b"x", 0, 8), (b"", b"", 0, 5), (b"", b"xyz", 3, 5)],
)
def test_data_set_that_cannot_be_is_refused(before: bytes, memory: bytes, start: int, nbytes: int) -> None:
    with pytest.raises(ValueError):
        MemoryMessage(PDataWriter(0), PC_ID, COMMAND, before, memoryview(memory), start, nbytes)
