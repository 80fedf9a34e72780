"""Puts bytes into the compiled receiver, and data sets through it into sinks: nothing else can fill a sink."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration import raw

from fastmove._codec import DatasetComplete, PduReceiver, WriteDue
from fastmove._sink import DatasetSink

PC_ID = 1


def receiver(*, window: int = 1 << 18, max_pdu_length: int = 0) -> PduReceiver:
    """A receiver in an established association with one presentation context."""
    made = PduReceiver(window=window, max_pdu_length=max_pdu_length)
    made.accept([PC_ID])
    made.allow_data(True)
    return made


def arrive(into: PduReceiver, data: bytes) -> None:
    """These bytes are read from the socket, at once."""
    buffer = into.get_buffer(-1)
    buffer[: len(data)] = data
    into.advance(len(data))


def events(of: PduReceiver) -> Iterator[object]:
    """What the receiver has to say about what has arrived."""
    while (event := of.next_event()) is not None:
        if isinstance(event, WriteDue):
            event.sink.write_out()
            continue
        yield event


def after_command(sink: DatasetSink | None, **settings: int) -> PduReceiver:
    """A receiver that has read a C-STORE-RQ whose data set goes to this sink."""
    made = receiver(**settings)
    arrive(made, raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_store_rq("1.2.3"))))
    assert made.next_event() is not None
    made.attach(sink)
    return made


def pdus(dataset: bytes, fragment: int, *, last: bool = True) -> bytes:
    """A data set, or with `last=False` some of one, one PDU a fragment."""
    starts = range(0, len(dataset), fragment) or (0,)
    return b"".join(
        raw.p_data(raw.pdv(PC_ID, raw.LAST if last and at == starts[-1] else 0, dataset[at : at + fragment]))
        for at in starts
    )


def put(sink: DatasetSink, dataset: bytes, *, fragment: int = 16000, read: int = 1 << 17) -> list[object]:
    """Send a data set through a receiver into the sink, so much at a time; the events after the command."""
    made = after_command(sink)
    stream = pdus(dataset, fragment)
    found: list[object] = []
    for at in range(0, len(stream), read):
        arrive(made, stream[at : at + read])
        found += events(made)
    return found


def stored(sink: DatasetSink, dataset: bytes, *, fragment: int = 16000, read: int = 1 << 17) -> None:
    """Put a data set into the sink, which takes all of it."""
    (complete,) = put(sink, dataset, fragment=fragment, read=read)
    assert isinstance(complete, DatasetComplete)
    assert complete.nbytes == sink.nbytes == len(dataset)


@contextmanager
def directory(path: Path) -> Iterator[int]:
    """The descriptor of an open directory."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def fill_up(fd: int) -> int:
    """Put a full disk in the place of an open file; the errno that writing gives from now on."""
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, fd, inheritable=False)
    os.close(full)
    return errno.ENOSPC
