"""Any stream, cut anywhere, gives the same events; the compiled receiver says what the reference says."""

from __future__ import annotations

from itertools import combinations
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove._codec import CommandReceived, DatasetComplete, PduReceiver
from fastmove._sink import MemorySink
from fastmove.types import ControlPdu
from tests.integration import raw
from tests.wire.receiving import Receiving
from tests.wire.reference import Command, Dataset, Event, Invalid, events

ACCEPTED = (1, 3)
MAX_PDU_LENGTH = 4096

fragments = st.binary(max_size=60)
context_ids = st.sampled_from((1, 1, 1, 1, 3, 5))
controls = st.sampled_from((0, 1, 2, 3, 3, 2))
commands = st.sampled_from(
    (
        raw.c_echo_rq(),
        raw.c_store_rq("1.2.3"),
        raw.c_store_rq("1.2.3", change={raw.COMMAND_FIELD: None}),
        raw.c_store_rq("1.2.3") + raw.element(raw.DATA_SET_TYPE, raw.us(raw.NO_DATA_SET)),
        raw.c_echo_rq() + raw.element(raw.DATA_SET_TYPE, raw.us(1)),
        raw.c_echo_rq() + raw.element(0x00080018, b"1.2"),
        raw.c_store_rq("1.2.3")[:-1],
        b"",
    )
)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """A whole message, several PDVs in a PDU, fragments of any size."""
    context_id, command, dataset = draw(context_ids), draw(commands), draw(st.binary(max_size=200))
    size = draw(st.integers(20, 100))
    pdvs = pdvs_of(context_id, raw.COMMAND, command, size) + pdvs_of(context_id, 0, dataset, size)
    together = draw(st.integers(1, 8))
    return b"".join(raw.p_data(*pdvs[at : at + together]) for at in range(0, len(pdvs), together))


def pdvs_of(context_id: int, kind: int, data: bytes, size: int) -> list[bytes]:
    starts = list(range(0, len(data), size)) or [0]
    return [
        raw.pdv(context_id, kind | (raw.LAST if start == starts[-1] else 0), data[start : start + size])
        for start in starts
    ]


lies = st.one_of(st.none(), st.integers(0, 80), st.sampled_from((4097, 0x7FFFFFFF, 0x80000002, 0xFFFFFFFF)))
odd_pdvs = st.builds(raw.pdv, context_ids, controls, fragments, length=lies)
odd_pdus = st.one_of(
    st.builds(raw.p_data, odd_pdvs, odd_pdvs, length=lies),
    st.builds(raw.pdu, st.integers(0, 9), fragments, length=lies),
    st.binary(max_size=20),
)
plain_pdus = st.builds(raw.pdu, st.sampled_from((1, 2, 3, 5, 6, 7)), fragments)
streams = st.lists(st.one_of(messages(), messages(), plain_pdus, odd_pdus), max_size=6).map(b"".join)
cuts = st.lists(st.integers(0, 1200), max_size=12)


def comparable(found: list[Event]) -> list[object]:
    """Without the offset at which a command became too long: it is where the last read ended."""
    return [
        event.reason if isinstance(event, Invalid) and event.reason == "dimse.cmd_too_long" else event
        for event in found
    ]


def cut_at(stream: bytes, offsets: list[int]) -> list[bytes]:
    bounds = sorted({0, len(stream), *(offset % (len(stream) + 1) for offset in offsets)})
    return [stream[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]


@settings(max_examples=400, deadline=None)
@given(streams, cuts)
def test_receiver_says_what_the_reference_says_however_the_stream_is_cut(stream: bytes, offsets: list[int]) -> None:
    received = Receiving(max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED).feed_all(cut_at(stream, offsets))
    assert comparable(received) == comparable(events(stream, max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED))


@settings(max_examples=60, deadline=None)
@given(streams)
def test_receiver_knows_after_each_byte_what_the_reference_knows(stream: bytes) -> None:
    receiving = Receiving(max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED)
    for end in range(1, len(stream) + 1):
        receiving.feed(stream[end - 1 : end])
        known = events(stream[:end], max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED)
        assert comparable(receiving.events) == comparable(known)


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=20000), st.integers(1, 5000), st.integers(1, 7000))
def test_data_set_larger_than_the_window_arrives_whole(dataset: bytes, fragment: int, piece: int) -> None:
    fragment = min(fragment, MAX_PDU_LENGTH - 6)
    stream = raw.message(1, raw.c_store_rq("1.2.3"), dataset, fragment=fragment)
    pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
    received = Receiving(max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED).feed_all(pieces)
    assert received == [Command(1, raw.c_store_rq("1.2.3")), Dataset(1, dataset)]


def test_command_of_more_than_64_kib_is_refused_in_any_pieces() -> None:
    stream = raw.p_data(raw.pdv(1, raw.COMMAND, bytes(4000))) * 17
    for piece in (1, 7, 4096, len(stream)):
        pieces = [stream[at : at + piece] for at in range(0, len(stream), piece)]
        received = Receiving(max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED).feed_all(pieces)
        assert comparable(received) == ["dimse.cmd_too_long"]


DATASET: Final = b"".join(
    raw.element(tag, value)
    for tag, value in (
        (0x00080018, b"1.2.3\0"),
        (0x00080060, b"CT"),
        (0x00100010, b"DOE^JANE^^^^"),
        (0x0020000D, b"1.2.826.0.1.3680043.9"),
    )
)
EXCHANGE: Final = b"".join(
    (
        raw.associate_rq(contexts=[raw.context_rq(1, raw.CT_IMAGE)], user_items=raw.max_length(16384)),
        raw.p_data(raw.pdv(1, raw.COMMAND, raw.c_store_rq("1.2.3")[:20])),
        raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq("1.2.3")[20:]), raw.pdv(1, 0, DATASET[:9])),
        raw.p_data(raw.pdv(1, 0), raw.pdv(1, raw.LAST, DATASET[9:])),
        raw.release_rq(),
    )
)
"""All that a requestor sends in an association with one small object: of each kind of boundary there is one."""

SAID: Final = [
    (1, EXCHANGE[6 : 6 + int.from_bytes(EXCHANGE[2:6], "big")]),
    (1, raw.c_store_rq("1.2.3"), True),
    (1, len(DATASET), DATASET),
    (5, bytes(4)),
]


def heard(*pieces: bytes) -> list[tuple[object, ...]]:
    """What an acceptor hears of an exchange in these pieces: data are allowed from the request to the release."""
    said: list[tuple[object, ...]] = []
    receiver = PduReceiver(window=4096, max_pdu_length=MAX_PDU_LENGTH)
    receiver.accept(ACCEPTED)
    sink = MemorySink(1000)
    for piece in pieces:
        receiver.get_buffer(-1)[: len(piece)] = piece
        receiver.advance(len(piece))
        while (event := receiver.next_event()) is not None:
            kind = type(event)
            if kind is ControlPdu:
                said.append((event.pdu_type, event.data))  # type: ignore[union-attr]
                receiver.allow_data(event.pdu_type == raw.ASSOCIATE_RQ)  # type: ignore[union-attr]
            elif kind is CommandReceived:
                said.append((event.pc_id, event.data, event.has_dataset))  # type: ignore[union-attr]
                receiver.attach(sink)
            elif kind is DatasetComplete:
                said.append((event.pc_id, event.nbytes, sink.getvalue()))  # type: ignore[union-attr]
            else:
                said.append((event,))
    return said


def test_exchange_of_400_bytes_says_the_same_cut_at_any_place_and_at_any_two() -> None:
    assert len(EXCHANGE) == 400
    assert heard(EXCHANGE) == SAID
    for at in range(1, len(EXCHANGE)):
        assert heard(EXCHANGE[:at], EXCHANGE[at:]) == SAID, f"cut at {at}"
    for one, other in combinations(range(1, len(EXCHANGE)), 2):
        if heard(EXCHANGE[:one], EXCHANGE[one:other], EXCHANGE[other:]) != SAID:
            raise AssertionError(f"cut at {one} and {other}")
