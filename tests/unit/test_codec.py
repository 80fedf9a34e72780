from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove._codec import (
    REMARKS,
    CommandReceived,
    DatasetComplete,
    PDataWriter,
    PduReceiver,
    SinkFailed,
    Window,
    quick_ack,
    store_request,
)
from fastmove._sink import DatasetSink, FileSink, MemorySink
from fastmove.dimse import command, messages
from fastmove.errors import RemoteProtocolError
from fastmove.limits import MAX_EMPTY_PDVS, MAX_PDU_LENGTH
from fastmove.types import ControlPdu, InvalidPdu, UnexpectedData
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, directory, events, fill_up, pdus, put, receiver

DATA = bytes(range(256)) * 100


def command_received(data: bytes) -> CommandReceived:
    """The event that a command set makes."""
    made = receiver()
    arrive(made, raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, data)))
    event = made.next_event()
    assert isinstance(event, CommandReceived), event
    return event


def remarks_of(made: CommandReceived | PduReceiver) -> set[str]:
    """The log events of what was odd."""
    return {name for bit, name in REMARKS.items() if made.remarks & bit}


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
    assert made.next_event() == InvalidPdu("pdu.too_long", 0)


def test_nothing_is_read_after_an_invalid_pdu_but_counted_as_dropped() -> None:
    made = receiver(window=4096)
    arrive(made, raw.pdu(9) + raw.release_rq())
    assert list(events(made)) == [InvalidPdu("pdu.unknown_type", 0)]
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


# CommandReceived

uids = st.text("0123456789.", max_size=64)
ae_titles = st.text("ABCDEFGHIJ_0123456789", min_size=1, max_size=16)
us = st.integers(0, 0xFFFF)


def test_store_request_tells_what_storage_needs() -> None:
    change: dict[int, bytes | None] = {raw.ORIGINATOR_AE: b"MOVER ", raw.ORIGINATOR_ID: raw.us(9)}
    event = command_received(raw.c_store_rq("1.2.3", 7, change=change))
    assert (event.pc_id, event.command_field, event.message_id, event.status) == (PC_ID, 1, 7, -1)
    assert event.has_dataset
    assert event.sop_class_uid == raw.uid(raw.CT_IMAGE)
    assert event.sop_instance_uid == b"1.2.3\0"
    assert event.move_originator_ae_title == b"MOVER "
    assert event.move_originator_message_id == 9
    assert event.remarks == 0


def test_absent_elements_are_none_or_minus_one() -> None:
    event = command_received(raw.command({raw.COMMAND_FIELD: raw.us(0x30)}))
    assert (event.message_id, event.status, event.move_originator_message_id) == (-1, -1, -1)
    assert event.sop_class_uid is event.sop_instance_uid is event.move_originator_ae_title is None
    assert not event.has_dataset


def test_response_tells_the_message_it_responds_to_and_its_status() -> None:
    event = command_received(raw.c_store_rsp(12, "1.2.3", 0xA700))
    assert (event.command_field, event.message_id, event.status, event.has_dataset) == (0x8001, 12, 0xA700, False)


@pytest.mark.parametrize(
    ("command_set", "remark"),
    [
        (raw.command_set(raw.c_echo_rq()[12:], None), "dimse.group_length"),
        (raw.command_set(raw.c_echo_rq()[12:], 4), "dimse.group_length"),
        (raw.command_set(raw.c_echo_rq()[12:] + raw.element(raw.MESSAGE_ID, raw.us(9))), "dimse.order"),
        (raw.c_store_rq("1.2.3", change={raw.PRIORITY: None}), "dimse.priority"),
        (raw.c_store_rq("1.2.3", change={raw.PRIORITY: raw.us(3)}), "dimse.priority"),
        (raw.c_store_rq("1.2.3", change={raw.AFFECTED_SOP_INSTANCE: b"1.2.3 "}), "store.uid_pad"),
        (raw.c_store_rq("1.2.3", change={raw.AFFECTED_SOP_CLASS: b"1.2.3 "}), "store.uid_pad"),
    ],
)
def test_what_is_odd_but_taken_is_remarked(command_set: bytes, remark: str) -> None:
    event = command_received(command_set)
    assert remarks_of(event) == {remark}


def test_remarks_gather_in_the_receiver_until_they_are_reset() -> None:
    made = receiver()
    arrive(made, raw.message(PC_ID, raw.c_store_rq("1.2.3", change={raw.PRIORITY: None}), b"odd"))
    list(events(made))
    arrive(made, raw.p_data(raw.pdv(PC_ID, 0xF0 | raw.COMMAND | raw.LAST, raw.c_echo_rq())))
    list(events(made))
    assert remarks_of(made) == {"dimse.priority", "pdv.odd", "pdv.mch"}
    made.remarks = 0
    assert made.remarks == 0


values = {
    raw.AFFECTED_SOP_CLASS: uids,
    raw.MESSAGE_ID: us,
    raw.PRIORITY: us,
    raw.DATA_SET_TYPE: st.one_of(us, st.just(raw.NO_DATA_SET)),
    raw.STATUS: us,
    0x0902: ae_titles,
    raw.AFFECTED_SOP_INSTANCE: uids,
    raw.REMAINING: us,
    raw.ORIGINATOR_AE: ae_titles,
    raw.ORIGINATOR_ID: us,
    0x1234: ae_titles,
}


@st.composite
def command_sets(draw: st.DrawFn) -> bytes:
    """Command sets as PS3.7 6.3.1 has them: ascending; the group length may lie, one element may come again."""
    present = draw(st.sets(st.sampled_from(sorted(values))))
    elements = b""
    for number in sorted({raw.COMMAND_FIELD} | present):
        value = draw(values.get(number, us))
        data = raw.us(value) if isinstance(value, int) else raw.uid(value, b"\0" if number in UID_ELEMENTS else b" ")
        elements += raw.element(number, data)
    if draw(st.booleans()):
        elements += raw.element(raw.COMMAND_FIELD, raw.us(draw(us)))
    return raw.command_set(elements, draw(st.sampled_from((-1, -1, None, 3))))


UID_ELEMENTS = (raw.AFFECTED_SOP_CLASS, raw.AFFECTED_SOP_INSTANCE)


def text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("latin-1").rstrip("\0 ")


@settings(max_examples=300, deadline=None)
@given(command_sets())
def test_receiver_reads_a_command_set_as_the_command_codec_does(data: bytes) -> None:
    event = command_received(data)
    known = command.decode(data)
    number = known.values.get
    assert event.data == data
    assert event.command_field == number("command_field")
    assert event.message_id == number("message_id", -1)
    assert event.status == number("status", -1)
    assert event.has_dataset is (number("command_data_set_type", command.NO_DATA_SET) != command.NO_DATA_SET)
    assert text(event.sop_class_uid) == number("affected_sop_class_uid")
    assert text(event.sop_instance_uid) == number("affected_sop_instance_uid")
    assert text(event.move_originator_ae_title) == number("move_originator_ae_title")
    assert event.move_originator_message_id == number("move_originator_message_id", -1)
    assert remarks_of(event) - {"dimse.priority"} == set(known.notes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        raw.c_echo_rq()[:-1],
        raw.c_echo_rq() + bytes(7),
        raw.c_echo_rq() + raw.element(raw.STATUS, b"\0\0", length=3),
        raw.c_echo_rq() + raw.element(0x00080018, b"1.2"),
        raw.c_echo_rq(change={raw.COMMAND_FIELD: None}),
        raw.c_echo_rq(change={raw.COMMAND_FIELD: b"\1"}),
        raw.c_echo_rq(change={raw.COMMAND_FIELD: b""}),
        raw.c_echo_rq(change={raw.MESSAGE_ID: b"\1"}),
        raw.c_echo_rq(change={raw.DATA_SET_TYPE: b"\1\1\0\0"}),
        raw.c_echo_rq(change={raw.STATUS: b"\1"}),
    ],
    ids=lambda data: data.hex()[-24:] or "empty",
)
def test_receiver_refuses_a_command_set_for_the_reason_of_the_command_codec(data: bytes) -> None:
    made = receiver()
    arrive(made, raw.p_data(raw.pdv(PC_ID, raw.COMMAND | raw.LAST, data)))
    event = made.next_event()
    assert isinstance(event, InvalidPdu)
    with pytest.raises(RemoteProtocolError) as caught:
        messages.decode(data)
    assert event.reason == caught.value.key


def test_what_comes_before_the_response_is_remarked() -> None:
    made = receiver()
    arrive(made, raw.message(PC_ID, raw.c_store_rq("1.2.3"), b"data") + raw.release_rq()[:1])
    list(events(made))
    assert remarks_of(made) == {"dimse.pipelined"}


def test_events_say_what_they_are() -> None:
    event = command_received(raw.c_echo_rq())
    assert repr(event) == f"CommandReceived(pc_id=1, command_field=0x0030, {len(raw.c_echo_rq())} bytes)"
    failed, complete = put(MemorySink(0), b"data")
    assert repr(failed) == f"SinkFailed(error_number={errno.EFBIG})"
    assert repr(complete) == "DatasetComplete(pc_id=1, nbytes=4)"


def test_events_cannot_be_changed() -> None:
    event = command_received(raw.c_echo_rq())
    with pytest.raises(AttributeError):
        event.pc_id = 3  # type: ignore[misc]


# PDataWriter


def pdvs_of(data: bytes, max_pdu_length: int) -> list[tuple[int, int, bytes]]:
    """Context ID, message control header and data of each PDV; no PDU is longer than allowed."""
    found, offset = [], 0
    while offset < len(data):
        pdu_type, length, item_length, pc_id, control = struct.unpack_from(">BxIIBB", data, offset)
        assert pdu_type == raw.P_DATA
        assert item_length == length - 4
        assert not max_pdu_length or length <= max_pdu_length
        found.append((pc_id, control, data[offset + 12 : offset + 6 + length]))
        offset += 6 + length
    assert offset == len(data)
    return found


def message_of(pdvs: list[tuple[int, int, bytes]]) -> tuple[bytes, bytes | None]:
    """Command set and data set of one message, its control headers checked."""
    commands = [pdv for pdv in pdvs if pdv[1] & raw.COMMAND]
    datasets = [pdv for pdv in pdvs if not pdv[1] & raw.COMMAND]
    assert pdvs == commands + datasets
    assert [control for _, control, _ in commands] == [raw.COMMAND] * (len(commands) - 1) + [raw.COMMAND | raw.LAST]
    if not datasets:
        return b"".join(data for *_, data in commands), None
    assert [control for _, control, _ in datasets] == [0] * (len(datasets) - 1) + [raw.LAST]
    return b"".join(data for *_, data in commands), b"".join(data for *_, data in datasets)


@pytest.fixture
def part10(tmp_path: Path) -> Iterator[tuple[int, bytes]]:
    """An open file, and what is in it."""
    content = os.urandom(600_001)
    (tmp_path / "object.dcm").write_bytes(content)
    fd = os.open(tmp_path / "object.dcm", os.O_RDONLY)
    try:
        yield fd, content
    finally:
        os.close(fd)


def chunks(writer: PDataWriter) -> Iterator[bytes]:
    while (chunk := writer.next_chunk()) is not None:
        yield bytes(chunk)


COMMAND = store_request(b"1.2.840.10008.5.1.4.1.1.2", b"1.2.3", 1)
LENGTHS = (8, 9, 13, 14, 100, 1001, 4096, 16383, 16384, 16390, 131071, 131072, 131073, 1 << 20, (1 << 32) - 1, 0)


@pytest.mark.parametrize("max_pdu_length", LENGTHS)
@pytest.mark.parametrize("nbytes", [1, 2, 16377, 16378, 16379, 600_000])
def test_every_pdu_of_a_file_is_at_most_as_long_as_the_peer_takes(
    part10: tuple[int, bytes], max_pdu_length: int, nbytes: int
) -> None:
    fd, content = part10
    nbytes = min(nbytes, 30_000) if 0 < max_pdu_length < 1000 else nbytes
    writer = PDataWriter(max_pdu_length)
    writer.begin(PC_ID, COMMAND, fd, 1, nbytes)
    found = b"".join(chunks(writer))
    assert message_of(pdvs_of(found, max_pdu_length)) == (COMMAND, content[1 : nbytes + 1])


@pytest.mark.parametrize("max_pdu_length", [13, 16384, 16385, 0])
def test_fragments_have_an_even_length(part10: tuple[int, bytes], max_pdu_length: int) -> None:
    writer = PDataWriter(max_pdu_length)
    writer.begin(PC_ID, COMMAND, part10[0], 0, 20_000)
    assert not any(len(data) & 1 for *_, data in pdvs_of(b"".join(chunks(writer)), max_pdu_length))


def test_first_chunk_holds_the_command_set_and_data(part10: tuple[int, bytes]) -> None:
    writer = PDataWriter(16384)
    writer.begin(PC_ID, COMMAND, part10[0], 0, 600_000)
    first, *others = chunks(writer)
    assert pdvs_of(first, 16384)[0] == (PC_ID, raw.COMMAND | raw.LAST, COMMAND)
    assert len(pdvs_of(first, 16384)) > 1
    assert others
    assert not any(control & raw.COMMAND for chunk in others for _, control, _ in pdvs_of(chunk, 16384))


def test_chunks_fill_the_buffer_of_the_writer(part10: tuple[int, bytes]) -> None:
    writer = PDataWriter(131072, buffer_bytes=300_000)
    writer.begin(PC_ID, COMMAND, part10[0], 0, 600_000)
    assert all(len(chunk) <= 300_000 for chunk in chunks(writer))


def test_buffer_takes_at_least_one_fragment(part10: tuple[int, bytes]) -> None:
    writer = PDataWriter(0, buffer_bytes=1)
    writer.begin(PC_ID, bytes(4000), part10[0], 0, 600_000)
    found = b"".join(chunks(writer))
    assert message_of(pdvs_of(found, 0)) == (bytes(4000), part10[1][:600_000])


def test_writer_is_used_again_for_the_next_message(part10: tuple[int, bytes]) -> None:
    writer = PDataWriter(16384)
    for nbytes in (5, 100_000, 7):
        writer.begin(3, COMMAND, part10[0], 10, nbytes)
        pdvs = pdvs_of(b"".join(chunks(writer)), 16384)
        assert {pc_id for pc_id, *_ in pdvs} == {3}
        assert message_of(pdvs) == (COMMAND, part10[1][10 : 10 + nbytes])
        assert writer.next_chunk() is None


def test_writer_that_was_not_begun_has_nothing_to_send() -> None:
    assert PDataWriter(16384).next_chunk() is None


@pytest.mark.parametrize("nbytes", [600_002, 700_000])
def test_file_that_became_shorter_is_an_error(part10: tuple[int, bytes], nbytes: int) -> None:
    writer = PDataWriter(16384)
    writer.begin(PC_ID, COMMAND, part10[0], 0, nbytes)
    with pytest.raises(EOFError, match="shorter"):
        list(chunks(writer))


def test_file_that_cannot_be_read_is_an_error() -> None:
    writer = PDataWriter(16384)
    writer.begin(PC_ID, COMMAND, -1, 0, 100)
    with pytest.raises(OSError, match="Bad file descriptor"):
        writer.next_chunk()


def test_data_set_beyond_4_gib_is_read_where_it_is(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek((5 << 30) - 4)
        file.write(b"here it is")
    with path.open("rb") as file:
        writer = PDataWriter(16384)
        writer.begin(PC_ID, COMMAND, file.fileno(), (5 << 30) - 4, 10)
        assert message_of(pdvs_of(b"".join(chunks(writer)), 16384)) == (COMMAND, b"here it is")
        writer.begin(PC_ID, COMMAND, file.fileno(), 0, 5 << 30)
        for _ in range(2):
            chunk = writer.next_chunk()
            assert chunk is not None
            assert not any(control & raw.LAST and not control & raw.COMMAND for _, control, _ in pdvs_of(chunk, 16384))
    path.unlink()


def test_empty_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one element"):
        PDataWriter(16384).begin(PC_ID, COMMAND, 0, 0, 0)


def test_command_set_without_end_is_refused() -> None:
    with pytest.raises(ValueError, match="too long"):
        PDataWriter(16384).begin(PC_ID, bytes(5000), 0, 0, 10)


@pytest.mark.parametrize("max_pdu_length", [1, 6, 7])
def test_pdus_without_room_for_data_are_refused(max_pdu_length: int) -> None:
    with pytest.raises(ValueError, match="no data fits"):
        PDataWriter(max_pdu_length)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(LENGTHS), st.binary(max_size=3000), st.one_of(st.none(), st.binary(max_size=40_000)))
def test_message_is_split_into_pdus_that_the_peer_takes(
    max_pdu_length: int, command_set: bytes, dataset: bytes | None
) -> None:
    found = PDataWriter(max_pdu_length).message(PC_ID, command_set, dataset)
    assert message_of(pdvs_of(found, max_pdu_length)) == (command_set, dataset)


def test_message_of_several_fragments_is_read_back_by_the_receiver() -> None:
    made, sink = receiver(max_pdu_length=16384), MemorySink(1 << 20)
    arrive(made, PDataWriter(16384).message(PC_ID, COMMAND, DATA))
    assert isinstance(made.next_event(), CommandReceived)
    made.attach(sink)
    assert isinstance(made.next_event(), DatasetComplete)
    assert sink.getvalue() == DATA


# Command sets that are written without the command codec


@settings(max_examples=200, deadline=None)
@given(uids, uids, us, st.one_of(st.none(), ae_titles), us)
def test_store_request_is_what_the_command_codec_encodes(
    sop_class: str, sop_instance: str, message_id: int, ae_title: str | None, originator: int
) -> None:
    expected = messages.CStoreRQ(
        message_id=message_id,
        affected_sop_class_uid=sop_class,
        affected_sop_instance_uid=sop_instance,
        move_originator_ae_title=ae_title,
        move_originator_message_id=None if ae_title is None else originator,
    )
    move_originator = None if ae_title is None else ae_title.encode()
    found = store_request(sop_class.encode(), sop_instance.encode(), message_id, move_originator, originator)
    assert found == expected.encode()


@pytest.mark.parametrize(
    "arguments", [(b"1" * 65, b"1", 1), (b"1", b"1" * 65, 1), (b"1", b"1", 1, b"A" * 17)], ids=("class", "instance", "ae")
)
def test_store_request_with_values_too_long_is_refused(arguments: tuple[bytes, bytes, int]) -> None:
    with pytest.raises(ValueError, match="at most"):
        store_request(*arguments)


paddings = st.sampled_from((b"\0", b" ", b"\0\0", b""))


@settings(max_examples=200, deadline=None)
@given(uids, uids, paddings, us, us, st.sampled_from(LENGTHS))
def test_store_response_is_what_the_command_codec_encodes(
    sop_class: str, sop_instance: str, padding: bytes, message_id: int, status: int, max_pdu_length: int
) -> None:
    received = sop_instance.encode() + padding
    if len(received) & 1:
        received = sop_instance.encode() + b"\0" * (len(sop_instance) & 1)
    change: dict[int, bytes | None] = {raw.AFFECTED_SOP_INSTANCE: received}
    event = command_received(raw.c_store_rq("", message_id, sop_class, change))
    request = messages.decode(event.data)
    assert isinstance(request, messages.CStoreRQ)
    writer = PDataWriter(max_pdu_length)
    found = writer.store_response(event, status)
    assert found == writer.message(PC_ID, request.response(status).encode())
    assert message_of(pdvs_of(found, max_pdu_length))[1] is None


@pytest.mark.parametrize("missing", [raw.AFFECTED_SOP_CLASS, raw.MESSAGE_ID, raw.AFFECTED_SOP_INSTANCE])
def test_store_request_that_cannot_be_answered_in_short_is_refused(missing: int) -> None:
    with pytest.raises(ValueError, match="in short"):
        PDataWriter(0).store_response(command_received(raw.c_store_rq("1.2.3", change={missing: None})), 0)


def test_uid_of_more_than_66_bytes_is_not_answered_in_short() -> None:
    event = command_received(raw.c_store_rq("1" * 68))
    with pytest.raises(ValueError, match="in short"):
        PDataWriter(0).store_response(event, 0)
    assert PDataWriter(0).store_response(command_received(raw.c_store_rq("1" * 66)), 0)


def test_quick_ack_takes_any_descriptor() -> None:
    quick_ack(-1)


def test_attach_takes_sinks_only() -> None:
    with pytest.raises(TypeError):
        receiver().attach(object())  # type: ignore[arg-type]
    receiver().attach(DatasetSink())
