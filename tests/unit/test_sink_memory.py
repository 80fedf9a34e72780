from __future__ import annotations

import errno

import pytest
from tests.integration import raw
from tests.unit.receivers import PC_ID, after_command, arrive, put, stored

from fastmove._codec import DatasetComplete, SinkFailed
from fastmove._sink import DatasetSink, MemorySink

DATA = bytes(range(256)) * 100


def test_counts_go_beyond_32_bits() -> None:
    # The bytes of the window do not matter: none is written here but the PDU headers.
    sink, total, pdu = DatasetSink(), (4 << 30) + 4096, (16 << 20) - 4096
    receiver = after_command(sink, window=1 << 22)
    found: list[object] = []
    for start in range(0, total, pdu):
        left = min(pdu, total - start)
        last = raw.LAST if start + left == total else 0
        arrive(receiver, raw.p_data(raw.pdv(PC_ID, last, length=left + 2), length=left + 6))
        found.append(receiver.next_event())
        while left:
            count = min(left, len(receiver.get_buffer(-1)))
            receiver.advance(count)
            left -= count
            found.append(receiver.next_event())
    assert found[:-1] == [None] * (len(found) - 1)
    complete = found[-1]
    assert isinstance(complete, DatasetComplete)
    assert complete.nbytes == sink.nbytes == total


def test_base_sink_counts_and_forgets() -> None:
    sink = DatasetSink()
    stored(sink, DATA)
    assert sink.nbytes == len(DATA)


def test_memory_sink_takes_up_to_its_limit() -> None:
    sink = MemorySink(len(DATA))
    stored(sink, DATA)
    assert sink.getvalue() == DATA
    assert sink.limit_bytes == len(DATA)


def test_memory_sink_refuses_more_than_its_limit() -> None:
    sink = MemorySink(len(DATA) - 1)
    failed, complete = put(sink, DATA, fragment=1000)
    assert isinstance(failed, SinkFailed)
    assert failed.error_number == errno.EFBIG
    assert isinstance(complete, DatasetComplete)
    assert complete.nbytes == len(DATA)
    assert len(sink.getvalue()) <= sink.limit_bytes
    assert sink.getvalue() == DATA[: sink.nbytes]


def test_memory_sink_without_data_is_empty() -> None:
    assert MemorySink(0).getvalue() == b""


def test_value_of_a_memory_sink_does_not_change_any_more() -> None:
    sink = MemorySink(1000)
    stored(sink, b"first")
    value = sink.getvalue()
    put(sink, b"second")
    assert value == b"first"
    assert sink.getvalue() == b"firstsecond"


@pytest.mark.parametrize("limit", [-1, 1 << 64])
def test_limit_of_a_memory_sink_has_64_bits(limit: int) -> None:
    with pytest.raises(OverflowError):
        MemorySink(limit)
