from __future__ import annotations

import errno
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration import raw
from tests.unit.receivers import PC_ID, arrive, events, put, receiver

from fastmove._codec import (
    REMARKS,
    CommandReceived,
    PDataWriter,
    PduReceiver,
    store_request,
)
from fastmove._sink import MemorySink
from fastmove.dimse import command, messages
from fastmove.errors import RemoteProtocolError
from fastmove.types import InvalidPdu

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


def test_remarks_gather_in_the_receiver() -> None:
    made = receiver()
    arrive(made, raw.message(PC_ID, raw.c_store_rq("1.2.3", change={raw.PRIORITY: None}), b"odd"))
    list(events(made))
    arrive(made, raw.p_data(raw.pdv(PC_ID, 0xF0 | raw.COMMAND | raw.LAST, raw.c_echo_rq())))
    list(events(made))
    assert remarks_of(made) == {"dimse.priority", "pdv.odd", "pdv.mch", "store.odd"}


values: dict[int, st.SearchStrategy[Any]] = {
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
    "arguments",
    [(b"1" * 65, b"1", 1), (b"1", b"1" * 65, 1), (b"1", b"1", 1, b"A" * 17)],
    ids=("class", "instance", "ae"),
)
def test_store_request_with_values_too_long_is_refused(arguments: tuple[bytes, bytes, int]) -> None:
    with pytest.raises(ValueError, match="at most"):
        store_request(*arguments)


LENGTHS = (8, 13, 60, 16384, 0)
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


@pytest.mark.parametrize("missing", [raw.AFFECTED_SOP_CLASS, raw.MESSAGE_ID, raw.AFFECTED_SOP_INSTANCE])
def test_store_request_that_cannot_be_answered_in_short_is_refused(missing: int) -> None:
    with pytest.raises(ValueError, match="in short"):
        PDataWriter(0).store_response(command_received(raw.c_store_rq("1.2.3", change={missing: None})), 0)


def test_uid_of_more_than_66_bytes_is_not_answered_in_short() -> None:
    event = command_received(raw.c_store_rq("1" * 68))
    with pytest.raises(ValueError, match="in short"):
        PDataWriter(0).store_response(event, 0)
    assert PDataWriter(0).store_response(command_received(raw.c_store_rq("1" * 66)), 0)
