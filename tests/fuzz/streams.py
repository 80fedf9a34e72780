"""How the targets let bytes arrive: cut as the input itself says, so that a finding can be had again."""

from __future__ import annotations

from collections.abc import Callable

from fastmove._codec import PduReceiver

WINDOW = 4096
"""The smallest window: the more often what is under way has to be moved within it."""

_BYTEWISE = 0xF0
_SINGLE = 16


def cut(stream: bytes, how: int) -> tuple[bytes, ...]:
    """The pieces of a stream: all of it for 0, its end byte by byte for some numbers, else cut at one or two places."""
    if not how:
        return (stream,)
    size = len(stream)
    if how >= _BYTEWISE:
        first = max(0, size - _SINGLE * (how - _BYTEWISE + 1))
        then = range(first, min(first + _SINGLE, size))
        return (stream[:first], *[stream[at : at + 1] for at in then], stream[first + _SINGLE :])
    one = how * size // _BYTEWISE
    if how & 1:
        return stream[:one], stream[one:]
    other = one + (size - one) * (how * 37 % 101) // 101
    return stream[:one], stream[one:other], stream[other:]


def arrive(receiver: PduReceiver, stream: bytes, how: int, take: Callable[[object], object]) -> None:
    """The stream is read in these pieces, and as the window has room; events go to `take`."""
    receiver.on_event, receiver.on_read = take, nothing
    get_buffer, updated = receiver.get_buffer, receiver.buffer_updated
    for piece in cut(stream, how):
        while piece:
            buffer = get_buffer(-1)
            count = len(piece)
            if count > len(buffer):
                count = len(buffer)
                buffer[:] = piece[:count]
                piece = piece[count:]
            else:
                buffer[:count] = piece
                piece = b""
            updated(count)
    receiver.on_event = receiver.on_read = None  # who takes has the receiver, mostly


def nothing() -> None:
    """Nobody wants to know what was odd."""
