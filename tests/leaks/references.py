"""No public call of the compiled modules keeps a reference, whether it succeeds or fails.

`make test-leaks` runs this with an interpreter that counts all references (python3-dbg). Each case runs 50 times to
warm up, and 50 times more: then there may be two references more than before, the noise of counting. A public call
without a case is an error, and so is one that takes arguments without a case in which it fails.
"""

from __future__ import annotations

import gc
import importlib
import inspect
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastmove._codec import (
    CommandReceived,
    DatasetComplete,
    PDataWriter,
    PduReceiver,
    SinkFailed,
    Window,
    WriteDue,
    send_now,
    store_request,
)
from fastmove._content import ContentCheck
from fastmove._elements import Walk, peek
from fastmove._gather import MemoryMessage
from fastmove._sink import Check, DatasetSink, FileSink, FileTemplate, MemorySink, Pace, Preview, lengths
from fastmove._transcode import DatasetPreview, Rewriting, examine, rewrite
from fastmove.dictionary import standard
from fastmove.errors import DatasetError, UnwritableDataset
from fastmove.storage.options import Reencoding
from tests.encoded import BIG_ENDIAN, DEFLATED, EXPLICIT, HEAD, IMPLICIT, LITTLE, deflate
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, events, pdus, receiver

ITERATIONS: Final = 50
NOISE: Final = 2
ATTEMPTS: Final = 3
"""Something may be cached late: what is constant does not grow three times."""

MODULES: Final = ("_codec", "_content", "_elements", "_gather", "_sink", "_transcode")
NEVER_FAIL: Final = frozenset(
    {"_codec.PduReceiver.get_buffer", "_codec.PduReceiver.allow_data", "_codec.PduReceiver.buffer_updated"}
)
"""They take what is given as it is, or have their failures in a case with another's name."""

Call = Callable[[], object]


class Case(NamedTuple):
    """A call that is made again and again, and the public names that it is about."""

    about: tuple[str, ...]
    call: Call
    fails: bool


CASES: Final[list[Case]] = []


def case(*about: str, fails: bool = False) -> Callable[[Call], Call]:
    """A case of these public names."""

    def add(call: Call) -> Call:
        CASES.append(Case(about, call, fails))
        return call

    return add


def failing(name: str, error: type[BaseException], call: Callable[..., object], *arguments: Any, **named: Any) -> None:
    """A case in which the call raises."""

    def fail() -> None:
        with suppress(error):
            call(*arguments, **named)
            raise AssertionError(f"{name} did not fail")

    CASES.append(Case((name,), fail, True))


SCRATCH: Final = tempfile.mkdtemp()
FOLDER: Final = os.open(SCRATCH, os.O_RDONLY | os.O_DIRECTORY)
DICTIONARY: Final = standard()
PLAIN: Final = Reencoding()
DATASET: Final = HEAD + LITTLE.element(0x00100010, "PN", b"DOE^JANE")
STORE_RQ: Final = raw.c_store_rq("1.2.3")
STREAM: Final = raw.message(PC_ID, STORE_RQ, DATASET)
ANY: Any = object()


def file_of(data: bytes) -> int:
    """A descriptor of an unnamed file with these bytes."""
    fd = os.memfd_create("data")
    os.write(fd, data)
    return fd


def command_received(command: bytes = STORE_RQ) -> CommandReceived:
    """What the receiver makes of a command."""
    made = receiver(window=4096)
    arrive(made, raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, command)))
    event = made.next_event()
    assert isinstance(event, CommandReceived)
    return event


def attributes(of: object) -> list[object]:
    """All that can be seen of it."""
    return [getattr(of, name) for name in dir(type(of)) if not name.startswith("_")] + [repr(of)]


# What is received.


@case("_codec.Window", "_codec.Window.views")
def window_and_a_view() -> None:
    window = Window(4096)
    view = memoryview(window)  # type: ignore[arg-type]
    assert window.views == 1
    view.release()


@case("_codec.PduReceiver", "_codec.PduReceiver.get_buffer", "_codec.PduReceiver.advance", "_codec.PduReceiver.attach")
@case("_codec.PduReceiver.next_event", "_codec.PduReceiver.accept", "_codec.PduReceiver.allow_data")
def message_into_memory() -> None:
    made = receiver(window=4096)
    arrive(made, STREAM)
    assert isinstance(made.next_event(), CommandReceived)
    sink = MemorySink(1 << 20)
    made.attach(sink)
    complete = made.next_event()
    assert isinstance(complete, DatasetComplete)
    attributes(complete)
    assert sink.getvalue() == DATASET


@case("_codec.PduReceiver.buffer_updated", "_codec.PduReceiver.store_by", "_codec.PduReceiver.count")
def messages_stored_by_the_receiver() -> None:
    made = receiver(window=4096)
    made.writer = PDataWriter(0)
    told: list[object] = []
    made.on_event, made.on_read = told.append, lambda: None
    made.store_by(
        PC_ID, FileTemplate(FOLDER, raw.uid(raw.CT_IMAGE), lambda _: (b"a", b"b"), suffix=b".dcm"), answer=True
    )
    made.get_buffer(-1)[: len(STREAM)] = STREAM
    made.buffer_updated(len(STREAM))
    (complete,) = told
    assert isinstance(complete, DatasetComplete) and complete.placed and complete.response
    os.unlink("1.2.3.dcm", dir_fd=FOLDER)
    made.count(7)
    made.store_by(PC_ID, None)
    attributes(made)
    made.on_event = made.on_read = None


@case("_codec.PduReceiver.buffer_updated", fails=True)
def buffer_updated_whose_observer_fails() -> None:
    made = receiver(window=4096)

    def refuse(_: object) -> None:
        raise LookupError

    made.on_event = refuse
    made.get_buffer(-1)[: len(STREAM)] = STREAM
    with suppress(LookupError):
        made.buffer_updated(len(STREAM))
    made.on_event = None


@case("_codec.PduReceiver.get_buffer", fails=True)
def get_buffer_of_a_full_window() -> None:
    made = receiver(window=4096)
    made.advance(len(made.get_buffer(-1)))
    with suppress(BufferError):
        made.get_buffer(-1)
        raise AssertionError("there was room")


@case("_codec.PduReceiver.next_event", fails=True)
def every_kind_of_rubbish() -> None:
    for rubbish in (
        raw.pdu(0x99, b"12345678"),
        raw.p_data(length=0xFFFFFFFF),
        raw.p_data(b"1234567", length=3),
        raw.p_data(raw.pdv(PC_ID, 3, STORE_RQ[:-1])),
        raw.p_data(raw.pdv(PC_ID, 3, raw.element(0x00080018, b"1.2."))),
        raw.p_data(raw.pdv(PC_ID, 1, STORE_RQ)) + raw.p_data(raw.pdv(PC_ID, 0, DATASET)),
        raw.p_data(raw.pdv(PC_ID, 3, STORE_RQ)) + raw.p_data(raw.pdv(5, 0, DATASET)),
        raw.p_data(raw.pdv(PC_ID, 1, bytes(3000))) * 22,
        raw.release_rq() + raw.abort() + b"rubbish",
    ):
        made = receiver(window=1 << 17)
        arrive(made, rubbish)
        list(events(made))
        made.allow_data(False)
        list(events(made))


@case("_codec.SinkFailed", fails=True)
def sink_that_is_full() -> None:
    made = after_command(MemorySink(8), window=4096)
    arrive(made, pdus(DATASET, 16))
    failed, complete = events(made)
    assert isinstance(failed, SinkFailed) and isinstance(complete, DatasetComplete)
    attributes(failed)


@case("_codec.CommandReceived", "_codec.DatasetComplete")
def all_of_a_command() -> None:
    attributes(
        command_received(raw.c_store_rq("1.2.3 ", change={raw.ORIGINATOR_AE: b"MOVER ", raw.ORIGINATOR_ID: raw.us(7)}))
    )
    attributes(command_received(raw.c_move_rsp(1, 0xFF00, (1, 2, 3, 4))))


for _name, _error, _arguments in (
    ("PduReceiver.advance", ValueError, (1 << 40,)),
    ("PduReceiver.accept", TypeError, (ANY,)),
    ("PduReceiver.attach", TypeError, (ANY,)),
    ("PduReceiver.store_by", TypeError, (1, ANY)),
    ("PduReceiver.count", TypeError, (ANY,)),
):
    failing(f"_codec.{_name}", _error, getattr(receiver(window=4096), _name.partition(".")[2]), *_arguments)
failing("_codec.PduReceiver", ValueError, PduReceiver, window=1, max_pdu_length=0)
failing("_codec.PduReceiver", TypeError, PduReceiver, window=ANY, max_pdu_length=0)
failing("_codec.Window", ValueError, Window, 1)


# What is sent.


@case("_codec.send_now")
def send_now_to_a_socket() -> None:
    here, there = SOCKETS
    assert send_now(here.fileno(), b"1234") == 4
    there.recv(4)


@case("_codec.store_request", "_codec.PDataWriter", "_codec.PDataWriter.message", "_codec.PDataWriter.begin")
@case("_codec.PDataWriter.next_chunk", "_codec.PDataWriter.store_response")
def message_out_of_a_file() -> None:
    writer = PDataWriter(4096)
    writer.message(1, store_request(b"1.2", b"1.2.3", 1, b"MOVER", 2), DATASET)
    writer.begin(1, STORE_RQ, BIG_FILE, 0, 300000)
    while writer.next_chunk() is not None:
        pass
    writer.store_response(REQUEST, 0)


@case("_codec.PDataWriter.next_chunk", fails=True)
def file_that_is_shorter_than_it_was() -> None:
    writer = PDataWriter(4096)
    writer.begin(1, STORE_RQ, BIG_FILE, 0, 1 << 30)
    with suppress(EOFError):
        while writer.next_chunk() is not None:
            pass
        raise AssertionError("it was long enough")
    writer.begin(1, STORE_RQ, -1, 0, 5)
    with suppress(OSError):
        writer.next_chunk()
        raise AssertionError("there is no such file")


BIG_FILE: Final = file_of(bytes(300000))
SOCKETS: Final = socket.socketpair()
REQUEST: Final = command_received()
WITHOUT_UID: Final = command_received(raw.c_store_rq("1.2.3", change={raw.AFFECTED_SOP_INSTANCE: None}))
WRITER: Final = PDataWriter(4096)

failing("_codec.send_now", TypeError, send_now, 1, ANY)
failing("_codec.store_request", ValueError, store_request, b"1" * 65, b"1", 1)
failing("_codec.store_request", ValueError, store_request, b"1", b"1", 65536)
failing("_codec.PDataWriter", ValueError, PDataWriter, 7)
failing("_codec.PDataWriter.message", TypeError, WRITER.message, 1, None)
failing("_codec.PDataWriter.begin", ValueError, WRITER.begin, 1, STORE_RQ, 0, 0, 0)
failing("_codec.PDataWriter.begin", ValueError, WRITER.begin, 1, bytes(5000), 0, 0, 1)
failing("_codec.PDataWriter.store_response", ValueError, WRITER.store_response, WITHOUT_UID, 0)
failing("_codec.PDataWriter.store_response", ValueError, WRITER.store_response, None, 0)


# What is sent from memory.

MEMORY: Final = bytearray(5000)


@case("_gather.MemoryMessage", "_gather.MemoryMessage.send", "_gather.MemoryMessage.take")
def message_out_of_memory() -> None:
    message = MemoryMessage(WRITER, 1, STORE_RQ, b"before", memoryview(MEMORY), 7, 20_000)
    attributes(message)
    here, there = SOCKETS
    message.take(100)
    message.send(here.fileno())
    there.recv(1 << 20)
    while message.left:
        message.take(4096)


def _no_memory(memory: Any, nbytes: int) -> MemoryMessage:
    return MemoryMessage(WRITER, 1, STORE_RQ, b"", memory, 0, nbytes)


failing("_gather.MemoryMessage", ValueError, _no_memory, memoryview(MEMORY), 0)
failing("_gather.MemoryMessage", ValueError, _no_memory, memoryview(b""), 9)
failing("_gather.MemoryMessage", TypeError, _no_memory, None, 9)
failing("_gather.MemoryMessage.take", TypeError, _no_memory(memoryview(MEMORY), 9).take, "x")
failing("_gather.MemoryMessage.send", TypeError, _no_memory(memoryview(MEMORY), 9).send, "x")


# Where data sets go.


@case("_sink.Check", "_sink.Pace")
@case("_sink.DatasetSink", "_sink.Preview", "_sink.MemorySink", "_sink.MemorySink.getvalue")
def sinks_without_a_file() -> None:
    attributes(DatasetSink())
    Preview()
    attributes(Check())
    attributes(Pace())
    sink = MemorySink(10)
    attributes(sink)
    sink.getvalue()


@case("_sink.FileSink", "_sink.FileSink.write_head", "_sink.FileSink.sync", "_sink.FileSink.publish")
@case("_sink.FileSink.discard")
def files_of_all_kinds() -> None:
    for unnamed in (False, True):
        sink = FileSink(FOLDER, b"head", unnamed, 0o600, DatasetPreview(EXPLICIT, PLAIN, DICTIONARY))
        attributes(sink)
        sink.write_head()
        sink.sync()
        sink.publish(b"name")
        other = FileSink(FOLDER, b"head", unnamed)
        other.publish(b"name", replace=True)
        FileSink(FOLDER, b"", unnamed).discard()
        os.unlink("name", dir_fd=FOLDER)


@case("_codec.WriteDue", "_sink.FileSink.write_out")
def file_written_when_its_owner_says() -> None:
    sink = FileSink(FOLDER, b"head", deferred=True)
    made = after_command(sink, window=4096)
    arrive(made, pdus(bytes(3000), 1000, last=False))
    due = made.next_event()
    assert isinstance(due, WriteDue)
    attributes(due)
    sink.write_out()
    arrive(made, pdus(bytes(1000), 1000))
    list(events(made))
    sink.discard()


@case("_sink.FileSink.publish", "_sink.FileSink.sync", fails=True)
def files_that_fail() -> None:
    FileSink(FOLDER, b"head").publish(b"name")
    sink = FileSink(FOLDER, b"head")
    with suppress(FileExistsError):
        sink.publish(b"name")
        raise AssertionError("the name was taken")
    os.unlink("name", dir_fd=FOLDER)
    sink.discard()
    for call in (sink.sync, lambda: sink.publish(b"x")):
        with suppress(OSError, ValueError):
            call()
            raise AssertionError("it was discarded")


@case("_sink.lengths")
def lengths_of_files() -> None:
    sink = FileSink(FOLDER, b"head")
    sink.publish(b"name")
    assert lengths(FOLDER, [b"name", b"absent", b"."] * 100)[:2] == [4, -1]
    os.unlink("name", dir_fd=FOLDER)


@case("_sink.lengths", fails=True)
def lengths_that_fail() -> None:
    for wrong in ([b"a", b"a\0b"], [b"a", b"x" * 300], [b"a", "text"], [None], 7):
        with suppress(OSError, ValueError, TypeError):
            lengths(FOLDER, wrong)
            raise AssertionError(wrong)


@case("_sink.FileTemplate", "_sink.FileTemplate.open")
def files_by_a_template() -> None:
    template = FileTemplate(FOLDER, b"1.2", lambda n: (b"%d" % n, b""))
    attributes(template)
    template.open(b"1.2.3").discard()
    FileTemplate(FOLDER, b"1.2", None).open(b"1.2.3").discard()


@case("_transcode.DatasetPreview")
def data_set_with_a_preview() -> None:
    for odd in (b"", b"DOE^JANE  "):
        dataset = HEAD + LITTLE.element(0x00100010, "PN", odd)
        preview = DatasetPreview(EXPLICIT, PLAIN, DICTIONARY)
        sink = FileTemplate(FOLDER, b"1.2", None, preview=preview).open(b"1.2.3")
        made = after_command(sink, window=4096)
        arrive(made, pdus(dataset, 20))
        list(events(made))
        sink.write_head()
        attributes(sink.examination)
        sink.discard()


def refuse_length(_: int) -> tuple[bytes, bytes]:
    """No head."""
    raise LookupError


TEMPLATE: Final = FileTemplate(FOLDER, b"1.2", refuse_length)
failing("_sink.FileTemplate.open", LookupError, TEMPLATE.open, b"1.2.3")
failing("_sink.FileTemplate.open", ValueError, TEMPLATE.open, b"1" * 65535)
failing("_sink.FileTemplate", ValueError, FileTemplate, FOLDER, b"1.2", None, prefix=bytes(16))
failing("_sink.FileSink", OSError, FileSink, -1, b"head")
failing("_sink.FileSink", OSError, FileSink, -1, b"head", False)
failing("_sink.MemorySink", OverflowError, MemorySink, -1)
failing("_transcode.DatasetPreview", ValueError, DatasetPreview, DEFLATED, PLAIN, DICTIONARY)


# Data sets.


@case("_elements.peek", "_elements.Walk", "_transcode.Rewriting")
def look_into_a_data_set() -> None:
    peek(DATASET, EXPLICIT, (0x00080016, 0x00080018, 0x00100010))
    peek(deflate(DATASET), DEFLATED, (0x00100010,))
    Walk(-1, 0, 0, True, False, DICTIONARY)
    Rewriting(-1, 0, 0, True, False, DICTIONARY)


@case("_content.ContentCheck", "_content.ContentCheck.judge")
def content_looked_at() -> None:
    for syntax, dataset in ((EXPLICIT, DATASET), (DEFLATED, deflate(DATASET)), (DEFLATED, b"\xff" * 100)):
        check = ContentCheck(syntax, max_bytes=10000)
        for pieces in ((dataset,), (dataset[:30], dataset[30:])):
            check.judge(b"1.2", b"1.2.3", pieces)
            attributes(check)


@case("_content.ContentCheck.judge", fails=True)
def content_refused() -> None:
    for check in (ContentCheck(EXPLICIT, max_bytes=1), ContentCheck(DEFLATED, strict=True)):
        assert check.judge(b"1.2", b"1.2.3", (DATASET,))[0]
        with suppress(TypeError):
            check.judge(b"1.2", b"1.2.3", (ANY,))
            raise AssertionError("that is no piece")


@case("_transcode.examine", "_transcode.rewrite", "_transcode.Examination")
def data_set_written_anew() -> None:
    for syntax, fd, length in INPUTS:
        attributes(examine(fd, 0, length, syntax, PLAIN, DICTIONARY))
        for wanted in WANTED:
            rewrite(fd, 0, length, syntax, OUT, 0, wanted, DICTIONARY)


@case("_transcode.examine", "_transcode.rewrite", "_elements.peek", fails=True)
def data_sets_that_are_none() -> None:
    for fd, length in BROKEN:
        for call in (
            partial(examine, fd, 0, length, EXPLICIT, PLAIN, DICTIONARY),
            partial(rewrite, fd, 0, length, EXPLICIT, OUT, 0, PLAIN, DICTIONARY),
        ):
            with suppress(DatasetError, OSError, UnwritableDataset):
                call()
                raise AssertionError("it was read")
    peek(DATASET[:-3], EXPLICIT, (0x00100010,))
    peek(b"\xff" * 100, DEFLATED, (0x00100010,))


PRIVATE: Final = LITTLE.element(0x00090010, "LO", b"ACUSON") + LITTLE.element(0x00091010, "UN", b"1234")
SEQUENCE: Final = LITTLE.open_sequence(0x00081140, LITTLE.open_item(DATASET) + LITTLE.item(DATASET))
NESTED: Final = HEAD + SEQUENCE + PRIVATE + LITTLE.element(0x00100010, "PN", b"DOE^JANE  ") + HEAD
INPUTS: Final = (
    (EXPLICIT, file_of(NESTED), len(NESTED)),
    (DEFLATED, file_of(deflate(NESTED)), len(deflate(NESTED))),
)
WANTED: Final = tuple(PLAIN.replace(transfer_syntax=syntax) for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED))
OUT: Final = os.memfd_create("out")
_TOO_DEEP: Final = LITTLE.element(0x00081140, "SQ", b"", 0xFFFFFFFF) + LITTLE.item(b"", 0xFFFFFFFF)
_BROKEN: Final = (DATASET[:-3], HEAD + LITTLE.item(b"1"), _TOO_DEEP * 200, NESTED[:70])
BROKEN: Final = (*((file_of(data), len(data)) for data in _BROKEN), (-1, 10), (file_of(b""), 1000))

failing("_elements.peek", TypeError, peek, DATASET, EXPLICIT, ANY)
failing("_content.ContentCheck", TypeError, ContentCheck, None)
failing("_elements.Walk", AttributeError, Walk, -1, 0, 0, True, False, None)
failing("_transcode.Rewriting", AttributeError, Rewriting, -1, 0, 0, True, False, None)


def public() -> Iterator[tuple[str, bool]]:
    """Every public call of the compiled modules, and whether it can fail by what it is given."""
    for module_name in MODULES:
        module = importlib.import_module(f"fastmove.{module_name}")
        for name, found in vars(module).items():
            if name.startswith("_") or getattr(found, "__module__", None) != module.__name__:
                continue
            if not inspect.isclass(found):
                yield f"{module_name}.{name}", True
                continue
            made_by_us = found.__new__ is not object.__new__ and found.__name__ in CONSTRUCTED
            yield f"{module_name}.{name}", made_by_us
            for method, value in vars(found).items():
                if not method.startswith("_") and callable(value):
                    yield f"{module_name}.{name}.{method}", takes_arguments(value)


CONSTRUCTED: Final = {
    *("Window", "PduReceiver", "PDataWriter", "FileSink", "FileTemplate", "MemorySink", "DatasetPreview", "Walk"),
    *("Rewriting", "ContentCheck"),
}
"""Classes whose instances others than the compiled modules make, with arguments."""


def takes_arguments(method: Callable[..., object]) -> bool:
    """More than the instance."""
    return len(inspect.signature(method).parameters) > 1


FUNCTION: Final = type(examine)
"""Cython 3.3 counts a reference to this for each function within a function, and never gives it back: no memory."""


def references() -> int:
    """All of them that are somebody's."""
    return sys.gettotalrefcount() - sys.getrefcount(FUNCTION)  # type: ignore[attr-defined]


def left_by(call: Call) -> int:
    """References more after 50 calls than before."""
    fewest = sys.maxsize
    for _ in range(ATTEMPTS):
        for _ in range(ITERATIONS):
            call()
        gc.collect()
        before = references()
        for _ in range(ITERATIONS):
            call()
        gc.collect()
        fewest = min(fewest, references() - before)
        if fewest <= NOISE:
            break
    return fewest


def main() -> int:
    """Count, and tell."""
    started = time.monotonic()
    wrong = []
    for about, call, _ in CASES:
        left = left_by(call)
        if left > NOISE:
            wrong.append(
                f"{getattr(call, '__name__', call)} ({', '.join(about)}): {left} references in {ITERATIONS} calls"
            )
    good = {name for case in CASES if not case.fails for name in case.about}
    bad = {name for case in CASES if case.fails for name in case.about}
    for name, can_fail in public():
        if name not in good | bad:
            wrong.append(f"{name} has no case")
        elif can_fail and name not in bad | NEVER_FAIL:
            wrong.append(f"{name} has no case in which it fails")
    print("\n".join(wrong) or f"no reference is left by {len(CASES)} cases of {len(good | bad)} public calls, ", end="")
    print(f"{time.monotonic() - started:.1f} s")
    for end in SOCKETS:
        end.close()
    Path(SCRATCH).rmdir()
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
