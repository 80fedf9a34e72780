"""The receiver fed by a loop: events are given, ordinary objects answered, and a PDU too many is dropped."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.conftest import open_descriptors
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, directory, events, pdus, receiver

from fastmove._codec import REMARKS, CommandReceived, DatasetComplete, PDataWriter, PduReceiver, send_now
from fastmove._sink import DatasetSink, FileSink, FileTemplate, MemorySink
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.layout import FILE_SUFFIX
from fastmove.types import ControlPdu

OTHER_PC_ID = 3
SOP_CLASS = raw.uid(raw.CT_IMAGE)
META = FileMeta(raw.CT_IMAGE, raw.IMPLICIT_LE, "PEER")
ECHO = raw.message(PC_ID, raw.c_echo_rq())
ODD = raw.p_data(raw.pdv(PC_ID, 0xF0 | raw.COMMAND | raw.LAST, raw.c_echo_rq()))
"""A message that is taken with a remark: bits 4 to 7 of the message control header are set."""

pieces = pytest.mark.parametrize("piece", [1 << 18, 1], ids=["whole", "byte by byte"])


@dataclass
class Fed:
    """A receiver in the hands of a loop, and what it has told."""

    receiver: PduReceiver = field(default_factory=receiver)
    piece: int = 1 << 18
    told: list[object] = field(default_factory=list)
    reads: list[set[str]] = field(default_factory=list)
    """The remarks so far, at each call of `on_read`."""

    def __post_init__(self) -> None:
        self.receiver.on_event = self.told.append
        self.receiver.on_read = lambda: self.reads.append(remarks_of(self.receiver))

    def read(self, data: bytes) -> None:
        """These bytes come from the socket, in pieces."""
        for at in range(0, len(data), self.piece):
            read = data[at : at + self.piece]
            self.receiver.get_buffer(-1)[: len(read)] = read
            self.receiver.buffer_updated(len(read))

    @property
    def kinds(self) -> list[type]:
        return [type(event) for event in self.told]


def remarks_of(by: PduReceiver) -> set[str]:
    return {key for bit, key in REMARKS.items() if by.remarks & bit}


# Events


@pieces
def test_events_are_given_in_the_order_in_which_they_are_pulled(piece: int) -> None:
    stream = ECHO + raw.message(PC_ID, raw.c_store_rq("1.2.3"), b"data") + raw.release_rq() + raw.abort() + raw.pdu(9)
    fed = Fed(piece=piece)
    fed.read(stream)
    pulled = receiver()
    arrive(pulled, stream)
    assert fed.kinds == [type(event) for event in events(pulled)]
    assert [event.pdu_type for event in fed.told if isinstance(event, ControlPdu)] == [raw.RELEASE_RQ, raw.ABORT]
    assert fed.receiver.received == len(stream)


@pieces
def test_suspended_receiver_goes_on_where_it_stopped(piece: int) -> None:
    fed = Fed(piece=piece)

    def suspend(event: object) -> None:
        fed.told.append(event)
        fed.receiver.suspended = True

    fed.receiver.on_event = suspend
    fed.read(ECHO + raw.release_rq() + raw.abort())
    for count in (1, 2, 3):
        assert len(fed.told) == count
        assert (fed.receiver.unread > 0) is (count < 3)
        fed.receiver.buffer_updated(0)
        assert len(fed.told) == count, "still suspended"
        fed.receiver.suspended = False
        fed.receiver.buffer_updated(0)
    assert fed.kinds == [CommandReceived, ControlPdu, ControlPdu]


def test_receiver_is_reading_while_it_gives_an_event() -> None:
    fed = Fed()
    reading = []
    fed.receiver.on_event = lambda _: reading.append(fed.receiver.reading)
    assert not fed.receiver.reading
    fed.read(ECHO + raw.abort())
    assert reading == [True, True]
    assert not fed.receiver.reading


@pieces
def test_error_of_whom_an_event_is_given_ends_that_read_alone(piece: int) -> None:
    fed = Fed(piece=piece)

    def fail(_: object) -> None:
        raise RuntimeError("not understood")

    fed.receiver.on_event = fail
    with pytest.raises(RuntimeError, match="not understood"):
        fed.read(ECHO)
    assert not fed.receiver.reading
    fed.receiver.on_event = fed.told.append
    fed.read(raw.abort())
    assert fed.kinds == [ControlPdu]


# The end of a read


@pieces
def test_end_of_a_read_is_told_only_if_it_brought_a_new_remark(piece: int) -> None:
    fed = Fed(piece=piece)
    fed.read(ECHO)
    assert fed.reads == []
    fed.read(ODD)
    assert fed.reads == [{"pdv.mch"}]
    fed.read(ODD + ECHO)
    assert fed.reads == [{"pdv.mch"}]
    fed.read(raw.message(PC_ID, raw.c_store_rq("1.2.3"), b"odd"))
    assert fed.reads[-1] == {"pdv.mch", "pdv.odd", "store.odd"}


def test_end_of_a_read_is_told_after_its_events() -> None:
    fed = Fed()
    counts = []
    fed.receiver.on_read = lambda: counts.append((len(fed.told), fed.receiver.reading))
    fed.read(ODD + ODD)
    assert counts == [(2, False)]


def test_end_of_every_read_is_told_if_it_is_wanted() -> None:
    fed = Fed()
    fed.receiver.wanted = True
    for count, data in enumerate((ECHO, ECHO[:7], ECHO[7:]), 1):
        fed.read(data)
        assert len(fed.reads) == count
    fed.receiver.buffer_updated(0)
    assert len(fed.reads) == 4
    fed.receiver.wanted = False
    fed.read(ECHO)
    assert len(fed.reads) == 4


# Objects that are answered


@dataclass(kw_only=True)
class Answering(Fed):
    """A receiver that places ordinary objects in `folder` and answers them to `peer`."""

    folder: Path
    template: FileTemplate
    peer: socket.socket

    def answers(self) -> bytes:
        """What the peer can read."""
        got = b""
        with suppress(BlockingIOError):
            while data := self.peer.recv(1 << 16):
                got += data
        return got

    @property
    def counted(self) -> tuple[int, int]:
        """Objects, and their bytes."""
        return self.receiver.stored, self.receiver.stored_bytes

    def complete(self) -> DatasetComplete:
        """The one event that was given."""
        (event,) = self.told
        assert isinstance(event, DatasetComplete)
        return event


Connect = Callable[[], tuple[socket.socket, socket.socket]]


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection that holds little, and takes its last bytes in part."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(listening.getsockname())
        return listening.accept()[0], peer


@pytest.fixture
def connect() -> Connect:
    """Makes the two ends of a connection; parametrize for another kind."""
    return socket.socketpair


@pytest.fixture
def answering(tmp_path: Path, connect: Connect) -> Iterator[Answering]:
    ours, peer = connect()
    with ours, peer, directory(tmp_path) as place:
        for end in (ours, peer):
            end.setblocking(False)
        template = FileTemplate(place, SOP_CLASS, META.pieces, suffix=FILE_SUFFIX)
        made = Answering(folder=tmp_path, template=template, peer=peer)
        made.receiver.accept([PC_ID, OTHER_PC_ID])
        made.receiver.writer = PDataWriter(0)
        made.receiver.fd = ours.fileno()
        made.receiver.store_by(PC_ID, template, answer=True)
        yield made


def store(number: int, context_id: int = PC_ID) -> bytes:
    """The C-STORE of object 1.2.`number` as message `number`."""
    return raw.message(context_id, raw.c_store_rq(f"1.2.{number}", number), data_of(number), fragment=1000)


def data_of(number: int) -> bytes:
    return bytes(range(256)) * 10 + bytes([number & 0xFF]) * 2 * number


def success(number: int, context_id: int = PC_ID) -> bytes:
    """The answer to it."""
    return raw.message(context_id, raw.c_store_rsp(number, f"1.2.{number}"))


def holds(folder: Path, *numbers: int) -> None:
    """Exactly these objects are in place."""
    expected = {f"1.2.{number}.dcm": META.head(f"1.2.{number}".encode()) + data_of(number) for number in numbers}
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == expected


@pieces
def test_placed_object_is_answered_and_gives_no_event(answering: Answering, piece: int) -> None:
    answering.piece = piece
    answering.read(store(1))
    assert answering.answers() == success(1)
    assert answering.told == []
    assert answering.counted == (1, len(data_of(1)))
    holds(answering.folder, 1)


@pieces
def test_objects_in_one_read_are_answered_in_their_order(answering: Answering, piece: int) -> None:
    answering.piece = piece
    answering.read(store(7) + store(300) + store(2) + raw.release_rq())
    assert answering.answers() == success(7) + success(300) + success(2)
    assert answering.kinds == [ControlPdu]
    assert answering.counted == (3, sum(len(data_of(number)) for number in (7, 300, 2)))
    holds(answering.folder, 7, 300, 2)


def test_object_is_not_answered_before_it_is_whole(answering: Answering) -> None:
    answering.read(store(1)[:-1])
    assert answering.answers() == b""
    assert answering.counted == (0, 0)
    holds(answering.folder)
    answering.read(store(1)[-1:])
    assert answering.answers() == success(1)


@pytest.mark.parametrize("longest", [0, 64, 8], ids="PDUs of {} bytes".format)
def test_answer_is_that_of_the_writer(answering: Answering, longest: int) -> None:
    answering.receiver.store_by(PC_ID, answering.template)
    answering.read(store(1))
    request = answering.complete().request
    assert request is not None
    answering.receiver.writer = PDataWriter(longest)
    answering.receiver.store_by(PC_ID, answering.template, answer=True)
    (answering.folder / "1.2.1.dcm").unlink()
    answering.read(store(1))
    assert answering.answers() == PDataWriter(longest).store_response(request, 0)


def told_and_left_to_its_owner(answering: Answering, *, placed: bool = True) -> DatasetComplete:
    """The one event says all of the object, and nobody has counted or answered it."""
    event = answering.complete()
    assert (event.placed, event.response, event.nbytes) == (placed, None, len(data_of(1)))
    assert event.request is not None and event.request.message_id == 1
    assert answering.answers() == b""
    assert answering.counted == (0, 0)
    return event


def test_object_is_told_if_there_is_no_writer(answering: Answering) -> None:
    answering.receiver.writer = None
    answering.read(store(1))
    told_and_left_to_its_owner(answering)
    holds(answering.folder, 1)


def test_object_is_told_without_consent_to_answer(answering: Answering) -> None:
    answering.receiver.store_by(PC_ID, answering.template)
    answering.read(store(1))
    told_and_left_to_its_owner(answering)
    holds(answering.folder, 1)


def test_consent_to_answer_is_that_of_one_context(answering: Answering) -> None:
    answering.receiver.store_by(OTHER_PC_ID, answering.template)
    answering.read(store(1) + store(2, OTHER_PC_ID) + store(3))
    assert answering.answers() == success(1) + success(3)
    assert answering.complete().pc_id == OTHER_PC_ID
    holds(answering.folder, 1, 2, 3)


@pieces
def test_object_whose_name_is_taken_is_told_and_not_answered(answering: Answering, piece: int) -> None:
    taken = answering.folder / "1.2.1.dcm"
    taken.write_bytes(b"another")
    answering.piece = piece
    answering.read(store(1))
    event = told_and_left_to_its_owner(answering, placed=False)
    assert isinstance(event.sink, FileSink)
    event.sink.publish(b"beside")
    assert (answering.folder / "beside").read_bytes() == META.head(b"1.2.1") + data_of(1)
    assert taken.read_bytes() == b"another"


# Answers that cannot be sent


def full(answering: Answering) -> None:
    for size in (1 << 16, 1):
        while send_now(answering.receiver.fd, bytes(size)):
            pass


def gone(answering: Answering) -> None:
    answering.peer.close()


def without_a_socket(answering: Answering) -> None:
    answering.receiver.fd = -1


@pytest.mark.parametrize("hindrance", [full, gone, without_a_socket])
def test_answer_that_cannot_be_sent_is_told_and_the_object_counted_once(
    answering: Answering, hindrance: Callable[[Answering], None]
) -> None:
    hindrance(answering)
    answering.read(store(1))
    event = answering.complete()
    assert (event.placed, event.sink, event.response) == (True, None, success(1))
    assert event.request is not None and event.request.message_id == 1
    assert answering.counted == (1, len(data_of(1)))
    holds(answering.folder, 1)


@pytest.mark.parametrize("connect", [tcp_pair], ids=["TCP"])
def test_what_is_sent_of_an_answer_and_what_is_told_of_it_make_the_whole(answering: Answering) -> None:
    answering.peer.setblocking(True)
    number = 0
    while not answering.told:
        number += 1
        answering.read(store(number))
    unsent = answering.complete().response
    assert unsent
    expected = b"".join(map(success, range(1, number + 1)))
    sent = b""
    while len(sent) < len(expected) - len(unsent):
        sent += answering.peer.recv(1 << 16)
    assert sent + unsent == expected
    assert answering.receiver.stored == number


def test_nothing_is_answered_before_an_answer_that_waits(answering: Answering) -> None:
    def suspend(event: object) -> None:
        answering.told.append(event)
        answering.receiver.suspended = True

    answering.receiver.on_event = suspend
    full(answering)
    answering.read(store(1) + store(2))
    assert answering.complete().response == success(1)
    answering.answers()
    assert answering.receiver.stored == 1
    answering.receiver.suspended = False
    answering.receiver.buffer_updated(0)
    assert answering.answers() == success(2)
    assert len(answering.told) == 1
    holds(answering.folder, 1, 2)


# A PDU under way at the end of the association

STORE = raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_store_rq("1.2.3"))
DATA = raw.pdv(PC_ID, 0, b"first") + raw.pdv(PC_ID, 0, b"second") + raw.pdv(PC_ID, raw.LAST, b"third")
HEADER = 6


def sinking(sink: DatasetSink, piece: int) -> Fed:
    """A receiver that has read a C-STORE-RQ whose data set goes to this sink."""
    return Fed(receiver=after_command(sink), piece=piece)


@pieces
def test_pdu_under_way_is_dropped_wherever_the_association_ends(piece: int) -> None:
    pdu = raw.p_data(DATA)
    for at in range(HEADER, len(pdu)):
        sink = MemorySink(100)
        fed = sinking(sink, piece)
        fed.read(pdu[:at])
        before, unread = sink.getvalue(), fed.receiver.unread
        fed.receiver.allow_data(False)
        fed.read(pdu[at:] + raw.abort(2, 1))
        assert fed.told == [ControlPdu(raw.ABORT, bytes((0, 0, 2, 1)))], f"ended at {at}"
        assert fed.receiver.dropped == unread + len(pdu) - at
        assert sink.getvalue() == before
        assert not fed.receiver.mid_message


@pieces
def test_command_under_way_is_dropped_with_its_pdu(piece: int) -> None:
    pdu = raw.p_data(STORE)
    fed = Fed(piece=piece)
    fed.read(pdu[:40])
    fed.receiver.allow_data(False)
    fed.read(pdu[40:] + raw.release_rq())
    assert fed.kinds == [ControlPdu]
    assert fed.receiver.dropped == len(pdu) - 40
    assert not fed.receiver.mid_message


@pieces
def test_rest_of_the_pdu_whose_event_ends_the_association_is_dropped(piece: int) -> None:
    fed = Fed(piece=piece)
    sink = MemorySink(100)

    def end(event: object) -> None:
        fed.told.append(event)
        fed.receiver.attach(sink)
        fed.receiver.allow_data(False)

    fed.receiver.on_event = end
    fed.read(raw.p_data(STORE, DATA) + raw.abort())
    assert fed.kinds == [CommandReceived, ControlPdu]
    assert fed.receiver.dropped == len(DATA)
    assert sink.getvalue() == b""


@pieces
def test_object_of_the_receiver_is_gone_with_the_association(answering: Answering, piece: int) -> None:
    answering.piece = piece
    before = open_descriptors()
    answering.read(store(1)[:-10])
    assert len(open_descriptors() - before) == 1
    answering.receiver.allow_data(False)
    assert open_descriptors() == before
    answering.read(store(1)[-10:] + raw.abort())
    assert answering.kinds == [ControlPdu]
    assert answering.answers() == b""
    assert answering.counted == (0, 0)
    holds(answering.folder)


def test_data_behind_the_dropped_pdu_is_unexpected() -> None:
    sink = MemorySink(100)
    fed = sinking(sink, 1 << 18)
    pdu = pdus(b"first", 5, last=False)
    fed.read(pdu[:-1])
    fed.receiver.allow_data(False)
    fed.read(pdu[-1:] + pdus(b"second", 6))
    assert [kind.__name__ for kind in fed.kinds] == ["UnexpectedData"]
    assert sink.getvalue() == b"firs"
