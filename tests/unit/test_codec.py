from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, directory, events, fill_up, pdus, put, receiver

from fastmove._codec import (
    CommandReceived,
    DatasetComplete,
    PduReceiver,
    SinkFailed,
    Window,
)
from fastmove._sink import DatasetSink, FileSink, MemorySink
from fastmove.limits import MAX_EMPTY_PDVS, MAX_PDU_LENGTH
from fastmove.types import ControlPdu, InvalidPdu, UnexpectedData

DATA = bytes(range(256)) * 100


# The window


def test_window_counts_its_views() -> None:
    window = Window(4096)
    assert window.views == 0
    first, second = memoryview(window), memoryview(window)
    assert window.views == 2
    first.release()
    assert window.views == 1
    second.release()
    assert window.views == 0


def test_window_lives_as_long_as_a_view_of_it() -> None:
    view = memoryview(Window(4096))
    view[:3] = b"abc"
    assert view[:3].tobytes() == b"abc"
    assert len(view) == 4096


@pytest.mark.parametrize("size", [-1, 0, 4095])
def test_window_of_less_than_4_kib_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="4096"):
        Window(size)
    with pytest.raises(ValueError, match="4096"):
        PduReceiver(window=size, max_pdu_length=0)


def test_buffer_is_the_whole_window_while_nothing_is_unread() -> None:
    made = receiver(window=4096)
    assert len(made.get_buffer(-1)) == 4096
    assert not made.get_buffer(-1).readonly


def test_buffer_is_the_free_tail_of_the_window() -> None:
    made = receiver(window=4096)
    arrive(made, b"\x04\x00")
    assert made.next_event() is None
    assert len(made.get_buffer(-1)) == 4094
    assert made.unread == 2


def test_full_window_is_an_error_until_events_are_read() -> None:
    made = receiver(window=4096)
    arrive(made, raw.release_rq() + raw.pdu(raw.ABORT, bytes(4096 - 16)))
    with pytest.raises(BufferError, match="full"):
        made.get_buffer(-1)
    assert isinstance(made.next_event(), ControlPdu)
    assert len(made.get_buffer(-1)) == 10
    assert isinstance(made.next_event(), ControlPdu)
    assert len(made.get_buffer(-1)) == 4096


@pytest.mark.parametrize("nbytes", [-1, 4097, 1 << 40])
def test_more_bytes_than_the_window_holds_cannot_have_arrived(nbytes: int) -> None:
    made = receiver(window=4096)
    with pytest.raises(ValueError, match="room"):
        made.advance(nbytes)
    assert made.unread == 0


def test_room_shrinks_by_what_has_arrived() -> None:
    made = receiver(window=4096)
    made.advance(4000)
    with pytest.raises(ValueError, match="room"):
        made.advance(97)
    made.advance(96)
    assert made.unread == 4096


def test_unread_bytes_move_to_the_front_of_the_window() -> None:
    made = receiver(window=4096)
    arrive(made, raw.release_rq() + raw.release_rp()[:7])
    assert made.next_event() == ControlPdu(raw.RELEASE_RQ, bytes(4))
    arrive(made, raw.release_rp()[7:])
    assert list(events(made)) == [ControlPdu(raw.RELEASE_RP, bytes(4))]


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=20), st.integers(1, 4096))
def test_buffer_is_never_empty_once_events_are_read(fragments: list[int], piece: int) -> None:
    stream = raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_store_rq("1.2.3")))
    stream += b"".join(raw.p_data(raw.pdv(PC_ID, 0, bytes(n))) for n in fragments)
    made = receiver(window=4096)
    while stream:
        room = len(made.get_buffer(-1))
        assert room > 4096 - 12  # at most a header waits
        count = min(room, piece, len(stream))
        arrive(made, stream[:count])
        stream = stream[count:]
        list(events(made))


# What may come


def test_data_is_unexpected_until_it_is_allowed() -> None:
    made = PduReceiver(window=4096, max_pdu_length=0)
    made.accept([PC_ID])
    arrive(made, raw.message(PC_ID, raw.c_echo_rq()))
    assert list(events(made)) == [UnexpectedData(0)]


def test_allowing_data_counts_from_the_next_pdu_on() -> None:
    made = PduReceiver(window=4096, max_pdu_length=0)
    made.accept([PC_ID])
    arrive(made, raw.release_rp() + raw.message(PC_ID, raw.c_echo_rq()))
    assert isinstance(made.next_event(), ControlPdu)
    made.allow_data(True)
    assert isinstance(made.next_event(), CommandReceived)


def test_only_accepted_contexts_may_occur() -> None:
    made = receiver()
    made.accept([3, 255])
    arrive(made, raw.message(255, raw.c_echo_rq()) + raw.message(PC_ID, raw.c_echo_rq()))
    first, second = events(made)
    assert isinstance(first, CommandReceived)
    assert first.pc_id == 255
    assert isinstance(second, InvalidPdu)
    assert second.reason == "pdv.context"


@pytest.mark.parametrize("pc_id", [-1, 256])
def test_context_id_that_is_no_byte_is_refused(pc_id: int) -> None:
    with pytest.raises(OverflowError):
        receiver().accept([pc_id])


@pytest.mark.parametrize(
    ("announced", "allowed"),
    [(4096, 4096), (0, MAX_PDU_LENGTH), (MAX_PDU_LENGTH, MAX_PDU_LENGTH), ((1 << 32) - 1, MAX_PDU_LENGTH)],
)
def test_pdu_may_be_as_long_as_announced_and_no_longer(announced: int, allowed: int) -> None:
    made = receiver(max_pdu_length=announced)
    arrive(made, raw.p_data(length=allowed))
    assert made.next_event() is None
    made = receiver(max_pdu_length=announced)
    arrive(made, raw.p_data(length=allowed + 1))
    detail = f"length={allowed + 1}, at most {allowed}"
    assert made.next_event() == InvalidPdu("pdu.too_long", 0, detail)


def test_nothing_is_read_after_an_invalid_pdu_but_counted_as_dropped() -> None:
    made = receiver(window=4096)
    arrive(made, raw.pdu(9) + raw.release_rq())
    assert list(events(made)) == [InvalidPdu("pdu.unknown_type", 0, "type=0x09")]
    for _ in range(3):
        arrive(made, bytes(4096))
        assert made.next_event() is None
    assert made.dropped == 16 + 3 * 4096
    assert len(made.get_buffer(-1)) == 4096


def test_empty_pdvs_in_a_row_are_bounded() -> None:
    empty = raw.p_data(raw.pdv(PC_ID, raw.COMMAND))
    made = receiver()
    arrive(made, empty * MAX_EMPTY_PDVS + raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_echo_rq())))
    assert isinstance(made.next_event(), CommandReceived)
    arrive(made, empty * (MAX_EMPTY_PDVS + 1))
    event = made.next_event()
    assert isinstance(event, InvalidPdu)
    assert event.reason == "pdv.empty_flood"


# Counters


def test_pdus_pdvs_and_messages_are_counted() -> None:
    made = receiver()
    echo = raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_echo_rq())
    store = raw.pdv(PC_ID, raw.COMMAND | raw.LAST, raw.c_store_rq("1.2.3"))
    arrive(made, raw.p_data(echo, store, raw.pdv(PC_ID, 0, DATA)) + raw.release_rq() + raw.p_data(raw.pdv(PC_ID, 2)))
    assert len(list(events(made))) == 4
    assert (made.pdus, made.pdvs, made.messages, made.dropped) == (2, 4, 2, 0)


def test_receiver_knows_whether_a_message_is_under_way() -> None:
    made = receiver()
    stream = raw.message(PC_ID, raw.c_store_rq("1.2.3"), b"data")
    known = []
    for byte in stream:
        arrive(made, bytes([byte]))
        list(events(made))
        known.append((made.mid_message, made.receiving))
    pdu_header_done = 5
    assert known[:pdu_header_done] == [(False, True)] * pdu_header_done
    assert known[pdu_header_done:-1] == [(True, True)] * (len(stream) - 6)
    assert known[-1] == (False, False)


def test_control_pdu_under_way_is_no_message_but_is_being_received() -> None:
    made = receiver()
    arrive(made, raw.release_rq()[:8])
    assert made.next_event() is None
    assert (made.mid_message, made.receiving, made.unread) == (False, True, 0)


# The sink


def test_data_set_without_a_sink_is_drained_and_counted() -> None:
    made = after_command(None)
    arrive(made, pdus(DATA, 1000))
    (complete,) = events(made)
    assert isinstance(complete, DatasetComplete)
    assert (complete.pc_id, complete.nbytes) == (PC_ID, len(DATA))


def test_sink_detached_in_the_middle_keeps_what_came_before() -> None:
    sink = MemorySink(1 << 20)
    made = after_command(sink)
    arrive(made, pdus(b"first", 10, last=False))
    assert made.next_event() is None
    made.attach(None)
    arrive(made, pdus(b"second", 10))
    (complete,) = events(made)
    assert isinstance(complete, DatasetComplete)
    assert complete.nbytes == 11
    assert sink.getvalue() == b"first"


def test_sink_of_one_data_set_does_not_get_the_next() -> None:
    sink = MemorySink(1 << 20)
    made = after_command(sink)
    arrive(made, pdus(b"first", 10) + raw.message(PC_ID, raw.c_store_rq("1.2.4"), b"second"))
    assert len(list(events(made))) == 3
    assert sink.getvalue() == b"first"


ENDS = {
    "more data": (raw.p_data(raw.pdv(PC_ID, 0, b"more")), type(None)),
    "half a pdv header": (raw.p_data(raw.pdv(PC_ID, 0, b"more"))[:9], type(None)),
    "end": (raw.p_data(raw.pdv(PC_ID, raw.LAST)), DatasetComplete),
    "abort": (raw.abort(), ControlPdu),
    "release": (raw.release_rq(), ControlPdu),
    "unknown pdu": (raw.pdu(9), InvalidPdu),
    "long pdu": (raw.p_data(length=MAX_PDU_LENGTH + 1), InvalidPdu),
    "short pdu": (raw.p_data(length=5), InvalidPdu),
    "foreign context": (raw.p_data(raw.pdv(7, 0, b"more")), InvalidPdu),
    "command": (raw.message(PC_ID, raw.c_echo_rq()), InvalidPdu),
    "pdv overrun": (raw.p_data(raw.pdv(PC_ID, 0, b"more", length=100)), InvalidPdu),
    "pdv without header": (raw.p_data(raw.pdv(PC_ID, 0, b"more", length=1)), InvalidPdu),
    "trailing bytes": (raw.p_data(raw.pdv(PC_ID, 0, b"more"), b"xyz"), InvalidPdu),
}


@pytest.mark.parametrize(("end", "kind"), ENDS.values(), ids=ENDS)
def test_no_byte_of_a_file_waits_in_the_window_after_an_event(tmp_path: Path, end: bytes, kind: type) -> None:
    with directory(tmp_path) as place:
        sink = FileSink(place, b"head")
        made = after_command(sink)
        arrive(made, pdus(DATA, 1000, last=False) + end)
        assert isinstance(made.next_event(), kind)
        arrive(made, bytes(len(made.get_buffer(-1))))
        assert sink.nbytes >= len(DATA)
        assert os.fstat(sink.file_descriptor).st_size == len(b"head") + sink.nbytes
        assert os.pread(sink.file_descriptor, len(DATA), 4) == DATA
        sink.discard()


def test_no_byte_of_a_file_waits_in_the_window_after_unexpected_data(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        sink = FileSink(place, b"head")
        made = after_command(sink)
        arrive(made, pdus(DATA, len(DATA), last=False)[:-1])
        assert made.next_event() is None
        made.allow_data(False)
        arrive(made, DATA[-1:] + pdus(b"more", 10))
        assert isinstance(made.next_event(), UnexpectedData)
        assert os.fstat(sink.file_descriptor).st_size == len(b"head") + sink.nbytes
        sink.discard()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=8), st.integers(1, 6000), st.integers(0, 3))
def test_file_has_all_that_has_come_after_every_event(
    tmp_path_factory: pytest.TempPathFactory, fragments: list[int], piece: int, aborts: int
) -> None:
    data = [os.urandom(n) for n in fragments]
    stream = b"".join(raw.p_data(raw.pdv(PC_ID, 0, fragment)) + raw.release_rq() * aborts for fragment in data)
    stream += raw.p_data(raw.pdv(PC_ID, raw.LAST))
    with directory(tmp_path_factory.getbasetemp()) as place:
        sink = FileSink(place, b"")
        made = after_command(sink, window=4096)
        while stream:
            count = min(len(made.get_buffer(-1)), piece, len(stream))
            arrive(made, stream[:count])
            stream = stream[count:]
            for event in events(made):
                assert os.fstat(sink.file_descriptor).st_size == sink.nbytes, event
            assert os.fstat(sink.file_descriptor).st_size == sink.nbytes
        assert os.pread(sink.file_descriptor, 1 << 20, 0) == b"".join(data)
        sink.discard()


@pytest.mark.parametrize("fragment", [100, 1000, 25600], ids=lambda n: f"{n} bytes a fragment")
def test_full_disk_is_told_once_and_the_data_set_is_drained(tmp_path: Path, fragment: int) -> None:
    with directory(tmp_path) as place:
        sink = FileSink(place, b"head")
        fill_up(sink.file_descriptor)
        failed, complete = put(sink, DATA, fragment=fragment)
        sink.discard()
    assert isinstance(failed, SinkFailed)
    assert failed.error_number == errno.ENOSPC
    assert isinstance(complete, DatasetComplete)
    assert complete.nbytes == len(DATA)


@pytest.mark.parametrize("limit", [0, 999, 1000, 25599])
def test_sink_that_is_full_is_told_before_the_end_of_its_data_set(limit: int) -> None:
    failed, complete = put(MemorySink(limit), DATA, fragment=1000)
    assert isinstance(failed, SinkFailed)
    assert isinstance(complete, DatasetComplete)
    assert complete.nbytes == len(DATA)


def test_full_disk_is_told_when_data_stops_coming(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        sink = FileSink(place, b"head")
        fill_up(sink.file_descriptor)
        made = after_command(sink)
        arrive(made, pdus(DATA, 1000, last=False))
        assert isinstance(made.next_event(), SinkFailed)
        assert made.next_event() is None
        sink.discard()


def test_full_disk_is_told_before_a_control_pdu(tmp_path: Path) -> None:
    with directory(tmp_path) as place:
        sink = FileSink(place, b"head")
        fill_up(sink.file_descriptor)
        made = after_command(sink)
        arrive(made, pdus(DATA, 1000, last=False) + raw.abort())
        failed, abort = events(made)
        sink.discard()
    assert isinstance(failed, SinkFailed)
    assert isinstance(abort, ControlPdu)


def test_next_message_is_read_after_a_sink_failed() -> None:
    made = after_command(MemorySink(3))
    arrive(made, pdus(DATA, 1000) + raw.message(PC_ID, raw.c_store_rq("1.2.4"), b"data"))
    kinds = [type(event) for event in events(made)]
    assert kinds == [SinkFailed, DatasetComplete, CommandReceived, DatasetComplete]


def test_attach_takes_sinks_only() -> None:
    with pytest.raises(TypeError):
        receiver().attach(object())  # type: ignore[arg-type]
    receiver().attach(DatasetSink())
