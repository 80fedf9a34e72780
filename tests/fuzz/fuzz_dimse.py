"""A command set and a data set on their way into a file or into memory (PS3.7 6.3.1, PS3.10 7).

The first byte chooses where the data set goes, and how both are cut into PDVs; the second how the stream is cut; the
next two say how much is the command set. What the receiver has read in a command the slow decoder has to read as well,
what it stores has to be what was sent, under a name that is in its folder, and its short answer that of the long way.
"""

from __future__ import annotations

import atexit
import os
import shutil
import struct
import tempfile
from struct import Struct
from typing import Any, Final

from fastmove._codec import CommandReceived, DatasetComplete, PDataWriter, PduReceiver, SinkFailed, WriteDue
from fastmove._sink import DatasetSink, FileSink, FileTemplate, MemorySink
from fastmove._transcode import DatasetPreview
from fastmove.dictionary import standard
from fastmove.dimse import command, messages
from fastmove.errors import RemoteProtocolError
from fastmove.storage.options import Reencoding
from fastmove.types import InvalidPdu
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN
from tests.fuzz.streams import WINDOW, arrive, cut
from tests.integration import raw

MAX_PDU_LENGTH: Final = 1 << 20
PC_ID: Final = 1
SOP_CLASS: Final = raw.uid(raw.CT_IMAGE)
PREFIX, SUFFIX, HEAD = b"CT.", b".dcm", (b"head", b"tail")
PADDING: Final = b"\0 "

# Bits of the first byte.
SINK: Final = 0x03
"""Where the data set goes: nowhere, into memory, into a file that is looked at, into one that gets its name at once."""
NOWHERE, MEMORY, FILE, PLACED = range(4)
ODD, SPLIT, PREVIEWED, SMALL, DEFERRED, WIDE = 0x04, 0x08, 0x10, 0x20, 0x40, 0x80
"""Data in PDVs of odd length; the command in two PDVs; files with a preview; memory for a few bytes only; files that
are written when their owner says; a window that takes several reads before they have to be."""

WIDE_WINDOW: Final = (64 << 10) + 2 * WINDOW

SCRATCH: Final = tempfile.mkdtemp(prefix="fuzz-")
atexit.register(shutil.rmtree, SCRATCH, ignore_errors=True)
FOLDER: Final = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
PDU, PDV = Struct(">BxI"), Struct(">IBB")
WRITER: Final = PDataWriter(4096)
BLACK_HOLE: Final = DatasetSink()

INSTRUMENTED: Final = (command, messages)


def template(sink: int, *, previewed: bool, deferred: bool) -> FileTemplate:
    """Opens files in the scratch folder."""
    preview = DatasetPreview(EXPLICIT_VR_LITTLE_ENDIAN, Reencoding(), standard()) if previewed else None
    suffix = SUFFIX if sink == PLACED else None
    return FileTemplate(
        FOLDER, SOP_CLASS, lambda _: HEAD, prefix=PREFIX, suffix=suffix, preview=preview, deferred=deferred
    )


TEMPLATES: Final = {
    sink | (previewed and PREVIEWED) | (deferred and DEFERRED): template(sink, previewed=previewed, deferred=deferred)
    for sink in (FILE, PLACED)
    for previewed in (False, True)
    for deferred in (False, True)
}


class Message:
    """One input: a message, and where its data set goes."""

    def __init__(self, data: bytes) -> None:
        self.mode, self.how = data[0], data[1]
        length = int.from_bytes(data[2:4], "little") % (len(data) - 3)
        self.command, self.dataset = data[4 : 4 + length], data[4 + length :]
        self.sink = self.mode & SINK

    def stream(self) -> bytes:
        """One PDU; the data set follows whatever the command says."""
        text, dataset = self.command, self.dataset
        half = len(text) // 2 if self.mode & SPLIT else 0
        size = 11 if self.mode & ODD else 512
        first = PDV.pack(half + 2, PC_ID, raw.COMMAND) + text[:half] if half else b""
        pieces = [first, PDV.pack(len(text) - half + 2, PC_ID, raw.COMMAND | raw.LAST), text[half:]]
        for at in range(0, len(dataset) - size, size):
            pieces += (PDV.pack(size + 2, PC_ID, 0), dataset[at : at + size])
        rest = len(dataset) % size or min(len(dataset), size)
        pieces += (PDV.pack(rest + 2, PC_ID, raw.LAST), dataset[len(dataset) - rest :])
        data = b"".join(pieces)
        return PDU.pack(raw.P_DATA, len(data)) + data

    def memory(self) -> DatasetSink:
        """A sink for what the receiver does not store by itself."""
        if self.sink == NOWHERE:
            return BLACK_HOLE
        return MemorySink(8 if self.mode & SMALL else 1 << 20)


def receiver(mode: int) -> PduReceiver:
    """Stores by itself, if it is to be a file."""
    made = PduReceiver(window=WIDE_WINDOW if mode & WIDE else WINDOW, max_pdu_length=MAX_PDU_LENGTH)
    made.accept((PC_ID,))
    made.allow_data(True)
    if mode & SINK in (FILE, PLACED):
        made.writer = WRITER
        made.store_by(PC_ID, TEMPLATES[mode & (SINK | PREVIEWED | DEFERRED)], answer=mode & SINK == PLACED)
    return made


def name_of(request: CommandReceived) -> bytes:
    """Where a file that got its name at once has to be, and nowhere else."""
    return PREFIX + request.sop_instance_uid.rstrip(PADDING) + SUFFIX


def thorough(data: bytes) -> None:
    """What was understood, stored and answered is what was sent."""
    if len(data) < 4:
        return
    message = Message(data)
    receiving = receiver(message.mode)
    told: list[Any] = []
    sinks: list[DatasetSink] = []

    def take(event: object) -> None:
        told.append(event)
        match event:
            case CommandReceived():
                understood(event)
                if event.has_dataset:
                    sinks.append(message.memory())
                    receiving.attach(sinks[-1])
            case DatasetComplete(request=None):
                received(event, message, sinks[-1])
            case DatasetComplete():
                stored(event, message)
            case WriteDue():
                event.sink.write_out()
            case SinkFailed():
                assert message.mode & SMALL, "only a small sink is ever full"
            case InvalidPdu():
                pass
            case _:
                raise AssertionError(f"unknown event {event!r}")

    arrive(receiving, message.stream(), message.how, take)
    assert told, "whatever a command set is, it is told"
    assert not os.listdir(FOLDER), "only what has its name is left behind"  # noqa: PTH208


def understood(event: CommandReceived) -> None:
    """The slow decoder reads the same, or refuses it for what the receiver does not look at."""
    try:
        values = command.decode(event.data).values
        decoded = messages.decode(event.data)
    except RemoteProtocolError:
        return
    assert values["command_field"] == event.command_field
    reference = values.get("message_id", values.get("message_id_being_responded_to", -1))
    assert event.message_id in (reference, values.get("message_id_being_responded_to", -1))
    assert event.status == values.get("status", -1)
    assert event.has_dataset == decoded.has_dataset
    for ours, theirs in (
        (event.sop_class_uid, values.get("affected_sop_class_uid")),
        (event.sop_instance_uid, values.get("affected_sop_instance_uid")),
    ):
        assert (ours is None) == (theirs is None)
        assert ours is None or ours.rstrip(PADDING).decode("latin-1") == theirs
    if isinstance(decoded, messages.Request):
        response = decoded.response(0)
        assert messages.decode(response.encode()) == response, f"{response}"


def received(event: DatasetComplete, message: Message, sink: DatasetSink) -> None:
    """A data set that went where we wanted."""
    assert event.nbytes == len(message.dataset)
    if isinstance(sink, MemorySink) and not message.mode & SMALL:
        assert sink.getvalue() == message.dataset


def stored(event: DatasetComplete, message: Message) -> None:
    """A data set that the receiver stored by itself."""
    request = event.request
    assert request is not None and request.sop_instance_uid is not None
    if event.placed:
        assert not message.mode & DEFERRED
        with open(name_of(request), "rb", opener=lambda name, flags: os.open(name, flags, dir_fd=FOLDER)) as file:
            content = file.read()
        os.unlink(name_of(request), dir_fd=FOLDER)
        assert event.response == answer(request)
    else:
        sink = event.sink
        if sink is None:
            return  # it failed, and that was told
        assert isinstance(sink, FileSink)
        sink.write_head()
        content = os.pread(sink.file_descriptor, len(data_and_head(request, message)) + 4096, 0)
        sink.discard()
    if not message.mode & PREVIEWED:
        assert content == data_and_head(request, message)


def data_and_head(request: CommandReceived, message: Message) -> bytes:
    """The file as it has to be."""
    assert request.sop_instance_uid is not None
    return request.sop_instance_uid.rstrip(PADDING).join(HEAD) + message.dataset


OF_A_STORE = {0x0000, 0x0002, 0x0100, 0x0110, 0x0700, 0x0800, 0x1000, 0x1030, 0x1031}
NUMBERS = {0x0700: 2, 0x1031: 2}
"""Elements that say nothing of how to answer: with another length they are as if they were not there."""


def of_a_store(data: bytes) -> bytes:
    """A command set without what is no part of a C-STORE-RQ, which the receiver does not look at."""
    kept, offset = b"", 0
    while offset < len(data):
        _, element, length = struct.unpack_from("<HHI", data, offset)
        end = offset + 8 + length
        if element in OF_A_STORE and NUMBERS.get(element, length) == length:
            kept += data[offset:end]
        offset = end
    return kept


def answer(request: CommandReceived) -> bytes:
    """C-STORE-RSP the long way."""
    decoded = messages.decode(of_a_store(request.data))
    assert isinstance(decoded, messages.CStoreRQ)
    return WRITER.message(PC_ID, decoded.response(0).encode())


def same_stream(data: bytes) -> None:
    """The quick oracle sends what the thorough one sends."""
    if len(data) < 4:
        return
    stream = Message(data).stream()
    assert quick_oracles.stream(data) == stream
    assert quick_oracles.pieces(len(stream), data[1]) == [len(piece) for piece in cut(stream, data[1]) if piece]
    thorough(data)


if __name__ == "__main__":
    import quick_oracles

    from tests.fuzz.engine import run

    run(quick_oracles.dimse, same_stream, INSTRUMENTED)
