from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.integration import raw
from tests.unit.receivers import PC_ID, arrive, receiver

from fastmove._codec import (
    CommandReceived,
    DatasetComplete,
    PDataWriter,
    store_request,
)
from fastmove._sink import MemorySink

DATA = bytes(range(256)) * 100


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


@pytest.mark.parametrize("max_pdu_length", [100, 16384, 131072, 0])
@pytest.mark.parametrize("nbytes_before", [0, 1, 87, 40_001, 700_000])
def test_data_set_may_begin_in_memory_and_go_on_in_a_file(
    part10: tuple[int, bytes], max_pdu_length: int, nbytes_before: int
) -> None:
    fd, content = part10
    before = os.urandom(nbytes_before)
    nbytes = nbytes_before + (5_000 if max_pdu_length == 100 else 500_000)
    writer = PDataWriter(max_pdu_length)
    writer.begin(PC_ID, COMMAND, fd, 7, nbytes, before)
    found = message_of(pdvs_of(b"".join(chunks(writer)), max_pdu_length))
    assert found == (COMMAND, (before + content[7:])[:nbytes])


def test_data_set_that_is_in_memory_alone_needs_no_file() -> None:
    writer = PDataWriter(16384)
    writer.begin(PC_ID, COMMAND, -1, 0, len(DATA), DATA)
    assert message_of(pdvs_of(b"".join(chunks(writer)), 16384)) == (COMMAND, DATA)


def test_beginning_longer_than_the_data_set_is_refused() -> None:
    with pytest.raises(ValueError, match="part of it"):
        PDataWriter(16384).begin(PC_ID, COMMAND, -1, 0, 9, bytes(10))


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
            pdvs = pdvs_of(bytes(chunk), 16384)
            assert not any(control == raw.LAST for _, control, _ in pdvs)
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
