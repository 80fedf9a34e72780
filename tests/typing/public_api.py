"""What the public API promises to type checkers; read by mypy, never run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import assert_type

import fastmove
from fastmove import (
    AcceptPolicy,
    AssociationHandle,
    AssociationRejected,
    ConfigurationError,
    DicomFile,
    FastmoveError,
    InstanceStored,
    Limits,
    Notice,
    OnDuplicate,
    PeerAddress,
    Retrieve,
    RetrieveConfig,
    RetrieveResult,
    SendOutcome,
    StorageSCU,
    StorageTarget,
    WriteOptions,
)
from fastmove._codec import CommandReceived, DatasetComplete, PDataWriter, PduReceiver, SinkFailed, Window, WriteDue
from fastmove._sink import DatasetSink, FileSink, MemorySink
from fastmove.net.acceptor import Acceptor
from fastmove.types import ControlPdu, InvalidPdu, PresentationContext, ProposedContext, UnexpectedData
from fastmove.ul.pdu import AAssociateRQ

PEER = PeerAddress.parse("PACS@pacs.example:104")
assert_type(PEER, PeerAddress)
assert_type(PEER.port, int)
assert_type(Limits().idle_s, float)
assert_type(fastmove.run(fastmove.echo(PEER)), None)


def observe(notice: Notice) -> None:
    if isinstance(notice, InstanceStored):
        assert_type(notice.nbytes, int)
    assert_type(notice.event, str)


async def receive(target: StorageTarget) -> None:
    async with fastmove.listen("", 0, target, AcceptPolicy("STORE"), notify=observe) as acceptor:
        assert_type(acceptor, Acceptor)
        assert_type(acceptor.port, int)


async def associate() -> None:
    contexts = fastmove.contexts_for(["1.2.840.10008.1.1"], ["1.2.840.10008.1.2"])
    assert_type(contexts, tuple[ProposedContext, ...])
    request = fastmove.propose("US", PEER.ae_title, contexts)
    assert_type(request, AAssociateRQ)
    async with fastmove.associate(PEER, request, Limits(), observe) as association:
        assert_type(association, AssociationHandle)
        assert_type(association.context("1.2.840.10008.1.1"), PresentationContext)
        assert_type(await fastmove.echo_on(association), None)
        assert_type(await StorageSCU(association).store(fastmove.read_file_meta(Path("x.dcm"))), int)


async def send(paths: Sequence[Path]) -> None:
    files = [fastmove.read_file_meta(path) for path in paths]
    assert_type(files, list[DicomFile])
    assert_type(fastmove.storage_contexts(files), tuple[ProposedContext, ...])
    outcome = await fastmove.send(PEER, files, parallel=2, notify=observe)
    assert_type(outcome, SendOutcome)
    assert_type(outcome.failures, list[tuple[Path, str]])


async def find() -> None:
    async for match in fastmove.find(PEER, ["PatientID=1"], level="STUDY"):
        assert_type(match, dict[str, str])


async def retrieve(target: StorageTarget) -> None:
    config = RetrieveConfig(PEER, ("StudyInstanceUID=1.2.3",))
    move = Retrieve(config, target, port=11112, notify=observe)
    assert_type(move.cancel(), bool)
    assert_type(await move.run(), RetrieveResult)


with StorageTarget(Path(), WriteOptions(durable=True, on_duplicate=OnDuplicate.KEEP_BOTH)) as storage:
    assert_type(storage, StorageTarget)

try:
    pass
except AssociationRejected as rejected:
    assert_type(rejected.transient, bool)
except ConfigurationError as wrong:
    assert_type(wrong.field, str)
except FastmoveError:
    pass

# The compiled core


def pull(receiver: PduReceiver) -> None:
    assert_type(receiver.get_buffer(-1), memoryview)
    event = receiver.next_event()
    match event:
        case CommandReceived():
            assert_type(event.sop_instance_uid, bytes | None)
        case DatasetComplete():
            assert_type(event.nbytes, int)
        case SinkFailed():
            assert_type(event.error_number, int)
        case WriteDue():
            assert_type(event.sink, FileSink)
        case ControlPdu() | InvalidPdu() | UnexpectedData() | None:
            pass
        case _:
            assert_type(event, None)  # unreachable: these are all
    receiver.attach(MemorySink(10))
    receiver.attach(None)


assert_type(FileSink(0, b"").file_descriptor, int)
assert_type(MemorySink(10).getvalue(), bytes)
assert_type(memoryview(Window(4096)), memoryview)
assert_type(PDataWriter(16384).next_chunk(), memoryview | None)

# What must not pass

PeerAddress("PACS", "host", "104")  # type: ignore[arg-type]
PEER.port = 105  # type: ignore[misc]
Limits(idle=3)  # type: ignore[call-arg]
RetrieveConfig(PEER, "StudyInstanceUID=1.2.3", 5)  # type: ignore[arg-type]
PduReceiver(4096, 0)  # type: ignore[call-arg]
PduReceiver(window=4096, max_pdu_length=0).attach(b"")  # type: ignore[arg-type]
FileSink(0, "head")  # type: ignore[arg-type]
DatasetSink().nbytes = 5  # type: ignore[misc]
fastmove.nothing_of_that_name  # noqa: B018  # type: ignore[attr-defined]


class Receiver(PduReceiver):  # type: ignore[misc]
    """The receiver is final."""
