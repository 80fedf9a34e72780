"""Run with `allocator.c` loaded first: each call of the compiled modules, with its n-th allocation failing, for all n.

Prints a line of JSON for each call: how many allocations it made, and what was wrong. The last is the listener: an
association for each n, whose C-STORE-RQ is read while the n-th allocation fails.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from fastmove._codec import PDataWriter, PduReceiver, SinkFailed, store_request
from fastmove._elements import peek
from fastmove._sink import FileSink, FileTemplate, MemorySink
from fastmove._transcode import DatasetPreview, examine, rewrite
from fastmove.cli.log import tell_errors
from fastmove.dictionary import standard
from fastmove.errors import DatasetError, UnwritableDataset
from fastmove.limits import Limits
from fastmove.net import acceptor
from fastmove.notices import Notice
from fastmove.services.listener import listen
from fastmove.storage.options import Reencoding, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy
from tests.encoded import BARE, DEFLATED, EXPLICIT, HEAD, IMPLICIT, LITTLE, deflate
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor
from tests.unit.receivers import PC_ID, after_command, arrive, events, pdus, receiver

ALLOCATOR: Final = ctypes.CDLL(None)
fail_at, stop = ALLOCATOR.fail_at, ALLOCATOR.stop
fail_at.argtypes, fail_at.restype = (ctypes.c_long, ctypes.c_long), None
stop.restype = ctypes.c_long

ROOT: Final = Path(sys.argv[1])
FOLDER: Final = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY)
MOST: Final = 4000
"""Allocations of one call: more is no end."""

FAILING: Final = (1, 12)
"""So many fail after each other: without the second, there is always memory for a traceback. If all failed for good,
CPython 3.11 would try for ever to make the number of the instruction that an exception came from."""

UID: Final = "1.2.3"
PLAIN: Final = Reencoding()
DICTIONARY: Final = standard()
OUT_OF_ORDER: Final = LITTLE.element(0x00100010, "PN", b"DOE^JANE  ") + HEAD
NESTED: Final = (
    OUT_OF_ORDER + LITTLE.sequence(0x00081140, LITTLE.item(OUT_OF_ORDER)) + LITTLE.element(0x00090010, "LO", b"ACUSON")
)
STREAM: Final = raw.message(PC_ID, raw.c_store_rq(UID), HEAD)
EXPECTED: Final = (MemoryError, DatasetError, UnwritableDataset, OSError)
"""What a call may raise while there is no memory."""

Call = Callable[[], object]


def file_of(data: bytes) -> int:
    """A descriptor of a file with these bytes."""
    fd = os.memfd_create("data")
    os.write(fd, data)
    return fd


class Receive:
    """A message into a sink; afterwards either it has been received, or it was told that it was not."""

    def __init__(self, sink: Callable[[], Any], content: Callable[[Any], bytes]) -> None:
        self._sink = sink
        self._content = content

    def __call__(self) -> None:
        sink = self._sink()
        made = after_command(sink, window=4096)
        arrive(made, pdus(HEAD, 7))
        told = list(events(made))
        failed = any(isinstance(event, SinkFailed) for event in told)
        assert failed or self._content(sink) == HEAD, "what was stored is not what was sent"


def placed() -> None:
    """A message that the receiver stores and answers by itself: if there is a name, there is all of the object."""
    made = receiver(window=4096)
    made.writer = PDataWriter(0)
    made.on_event, made.on_read = list[object]().append, int
    template = FileTemplate(FOLDER, raw.uid(raw.CT_IMAGE), lambda _: (b"a", b"b"), suffix=b".dcm")
    made.store_by(PC_ID, template, answer=True)
    made.get_buffer(-1)[: len(STREAM)] = STREAM
    try:
        made.buffer_updated(len(STREAM))
    finally:
        made.on_event = made.on_read = None


def replaced() -> None:
    """A file in the place of another."""
    sink = FileSink(FOLDER, b"new")
    sink.publish(b"1.2.3.dcm", replace=True)


def file_content(sink: FileSink) -> bytes:
    """What is in the file of a sink."""
    sink.write_head()
    return os.pread(sink.file_descriptor, 1 << 16, 0)


def previewed() -> FileSink:
    """A file whose data set is looked at first."""
    preview = DatasetPreview(EXPLICIT, PLAIN, DICTIONARY)
    return FileTemplate(FOLDER, b"1.2", None, preview=preview).open(b"1.2.3")


def written() -> None:
    """Messages out of memory and out of a file."""
    writer = PDataWriter(4096)
    writer.message(1, store_request(b"1.2", UID.encode(), 1), NESTED)
    writer.begin(1, raw.c_store_rq(UID), PLAIN_FILE, 0, len(NESTED))
    while writer.next_chunk() is not None:
        pass


class Anew:
    """A data set written anew: if it is, it is what it is else."""

    def __init__(self, data: bytes, syntax: str, wanted: str) -> None:
        self._in, self._length, self._syntax = file_of(data), len(data), syntax
        self._reencoding = PLAIN.replace(transfer_syntax=wanted)
        self._expected = self._written()

    def _written(self) -> bytes:
        length = rewrite(self._in, 0, self._length, self._syntax, OUT, 0, self._reencoding, DICTIONARY)
        return os.pread(OUT, length, 0)

    def __call__(self) -> None:
        examine(self._in, 0, self._length, self._syntax, self._reencoding, DICTIONARY)
        assert self._written() == self._expected, "another data set was written"


PLAIN_FILE, OUT = file_of(NESTED), os.memfd_create("out")
PRIVATE: Final = BARE.element(0x00090010, "LO", b"ACUSON") + BARE.element(0x00091000, "US", b"12")

CALLS: Final[dict[str, Call]] = {
    "PduReceiver": lambda: PduReceiver(window=4096, max_pdu_length=0),
    "message into memory": Receive(lambda: MemorySink(1 << 20), lambda sink: sink.getvalue()),
    "message into a file": Receive(lambda: FileSink(FOLDER, b""), file_content),
    "message into a named file": Receive(lambda: FileSink(FOLDER, b"", False), file_content),
    "message into a file with a preview": Receive(previewed, file_content),
    "message stored by the receiver": placed,
    "file in the place of another": replaced,
    "messages sent": written,
    "peek": lambda: peek(NESTED, EXPLICIT, (0x00100010,)),
    "data set": Anew(NESTED, EXPLICIT, IMPLICIT),
    "data set with private elements": Anew(BARE.head + PRIVATE, IMPLICIT, EXPLICIT),
    "deflated data set": Anew(deflate(NESTED), DEFLATED, EXPLICIT),
    "data set to be deflated": Anew(HEAD, EXPLICIT, DEFLATED),
}


def starve(call: Call, failing: int) -> tuple[int, Counter[str]]:
    """The call with each of its allocations failing, and those after it; what came of it."""
    came: Counter[str] = Counter()
    call()
    clear(complete=b"")
    for number in range(MOST):
        outcome = "done"
        fail_at(number, failing)
        try:
            call()
            failed = stop()
        except EXPECTED:
            failed = stop()
            outcome = "refused"
        except AssertionError as error:
            failed = stop()
            outcome = f"wrong: {error}"
        except Exception as error:  # noqa: BLE001  told by its name: what it is about may need more memory
            failed = stop()
            outcome = f"wrong: {type(error).__name__}: {error}"
        outcome = clear(complete=b"a" + UID.encode() + b"b" + HEAD) or outcome
        if not failed:
            assert outcome == "done", outcome
            return number, came
        came[outcome] += 1
    raise AssertionError(f"no end after {MOST} allocations")


def clear(complete: bytes) -> str:
    """Remove what has been stored; says what is wrong with it."""
    wrong = ""
    for name in os.listdir(FOLDER):  # noqa: PTH208
        content = (ROOT / name).read_bytes()
        if name != "1.2.3.dcm":
            wrong = f"wrong: {name} was left behind"
        elif complete and content not in (complete, b"new"):
            wrong = f"wrong: {name} has {len(content)} bytes"
        (ROOT / name).unlink()
    return wrong


class Listening:
    """A listener of this process, whose reads are starved one after the other."""

    LIMITS: Final = Limits(artim_s=0.2, idle_s=5.0, message_s=5.0)
    DATASET: Final = raw.dataset(UID)

    def __init__(self) -> None:
        self.number = -1
        self.failing = 1
        self.failed = 0
        self.notices: list[Notice] = []
        self._create = acceptor.AcceptedConnection.__init__

    def install(self) -> None:
        """Connections read through us from now on, while `number` is not negative."""
        listening = self

        def create(connection: acceptor.AcceptedConnection, *arguments: Any) -> None:
            listening._create(connection, *arguments)
            updated = connection.buffer_updated

            def starving(nbytes: int) -> None:
                if listening.number < 0:
                    updated(nbytes)
                    return
                fail_at(listening.number, listening.failing)
                try:
                    updated(nbytes)
                finally:
                    listening.failed = stop()

            connection.buffer_updated = starving  # type: ignore[method-assign]

        acceptor.AcceptedConnection.__init__ = create  # type: ignore[method-assign]

    async def run(self) -> tuple[int, Counter[str]]:
        """An association for each allocation; what the peer got."""
        came: Counter[str] = Counter()
        tell_errors(self.notices.append)
        with StorageTarget(ROOT, WriteOptions(durable=False)) as target:
            policy = AcceptPolicy("FASTMOVE")
            async with listen("127.0.0.1", 0, target, policy, self.LIMITS, self.notices.append) as listener:
                for number in range(MOST):
                    outcome = await self.store(listener.port, number)
                    for path in ROOT.iterdir():
                        if raw.part10_dataset(path.read_bytes()) != self.DATASET:
                            outcome = f"wrong: {path.name} is not the object"
                        path.unlink()
                    if not self.failed:
                        return number, came
                    came[outcome] += 1
        raise AssertionError("no end")

    async def store(self, port: int, number: int) -> str:
        """An object while the allocation fails, then C-ECHO on another association."""
        async with ScriptedRequestor("127.0.0.1", port, 3.0) as peer:
            await peer.associate()
            self.number, self.failed = number, 0
            try:
                await peer.send(raw.message(1, raw.c_store_rq(UID), self.DATASET))
                outcome = await self.answer(peer)
            finally:
                self.number = -1
        async with ScriptedRequestor("127.0.0.1", port, 3.0) as peer:
            await peer.associate()
            await peer.echo()
            await peer.release()
        return outcome

    async def answer(self, peer: ScriptedRequestor) -> str:
        """What the peer gets."""
        try:
            answer = await peer.read_pdu()
        except (EOFError, ConnectionResetError) as error:
            return f"wrong: {type(error).__name__}"
        if answer.pdu_type == raw.ABORT:
            await peer.expect_closed()
            return f"A-ABORT ({answer.data[2]},{answer.data[3]})"
        assert answer.pdu_type == raw.P_DATA
        status = raw.decode_command(answer.data[6:])[raw.STATUS]
        return f"status {int.from_bytes(status, 'little'):04X}"


def main() -> None:
    """Each call, once and for good, then the listener."""
    unraised: list[str] = []
    sys.unraisablehook = lambda problem: unraised.append(f"{problem.exc_type.__name__} in {problem.object!r:.60}")
    for name, call in CALLS.items():
        for failing in FAILING:
            unraised.clear()
            allocations, came = starve(call, failing)
            line = {"call": name, "failing": failing, "allocations": allocations, "came": came, "unraised": unraised}
            print(json.dumps(line), flush=True)
    listening = Listening()
    listening.install()
    for failing in FAILING:
        unraised.clear()
        listening.notices.clear()
        listening.failing = failing
        allocations, came = asyncio.run(listening.run())
        told = Counter(notice.event for notice in listening.notices if notice.event in ("mem", "internal"))
        line = {"call": "listener", "failing": failing, "allocations": allocations, "came": came, "unraised": unraised}
        print(json.dumps(line | {"told": told}), flush=True)


if __name__ == "__main__":
    main()
