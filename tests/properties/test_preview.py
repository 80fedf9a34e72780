"""However a data set comes, and whatever is written anew of it before it is all there: the file is the same."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove._sink import FileSink
from fastmove.errors import DatasetError
from fastmove.storage.options import Reencoding, WriteOptions
from fastmove.storage.reencode import preview, reencoded
from fastmove.storage.target import Received
from tests.encoded import (
    BARE,
    BIG_ENDIAN,
    EXPLICIT,
    HEAD,
    IMPLICIT,
    JPEG,
    LITTLE,
    PIXEL_DATA,
    WRITERS,
    Chance,
    element,
    examined,
    item,
    open_item,
    open_sequence,
    rewritten,
    sequence,
)
from tests.unit.receivers import directory, stored

FILE_HEADS: Final = (b"", b"preamble and file meta")

seeds = st.integers(0, 1 << 32)
syntaxes = st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG))
options = st.fixed_dictionaries(
    {
        "group_length": st.sampled_from(("recalculate", "create", "remove")),
        "undefined_length": st.booleans(),
        "new_vr": st.booleans(),
        "padding": st.sampled_from((None, None, None, (256, 32))),
    }
)
fillers = st.sampled_from((0, 0, 9_000, 16_000, 17_002, 70_000, 300_000))
"""Bytes before and behind what is looked at: it lies in the first look, in a later one, or in none."""


def kept(data: bytes, syntax: str, head: bytes, fragment: int, read: int, **reencoding: object) -> bytes:
    """The data set in the file that is kept of this one; DatasetError if there is none."""
    options = WriteOptions(reencoding=Reencoding(**reencoding), file_meta=False)
    with tempfile.TemporaryDirectory() as folder, directory(Path(folder)) as fd:
        sink = FileSink(fd, head, preview=preview(syntax, Reencoding(**reencoding)))
        stored(sink, data, fragment=fragment, read=read)
        try:
            found = examined(data, syntax, **reencoding)
        except DatasetError:
            uids = b"", b""
        else:
            uids = found.sop_class_uid or b"", found.sop_instance_uid or b""
        received = Received(*uids, syntax, "", len(data))  # nothing to object to: what is right already is kept
        final = sink
        try:
            final, _ = reencoded(sink, received, options, lambda head: FileSink(fd, head))
            before = len(head) if final is sink else 0
            size = os.fstat(final.file_descriptor).st_size
            assert os.pread(final.file_descriptor, before, 0) == head[:before]
            return os.pread(final.file_descriptor, size, before)
        finally:
            final.discard()
            sink.discard()


@settings(max_examples=300, deadline=None)
@given(
    seeds,
    syntaxes,
    options,
    st.booleans(),
    st.booleans(),
    fillers,
    fillers,
    st.sampled_from(FILE_HEADS),
    st.sampled_from((200, 16_372, 131_060)),
    st.sampled_from((1_460, 100_000, 131_072)),
)
def test_file_is_that_of_the_whole_data_set_written_anew(
    seed: int,
    syntax: str,
    options: dict[str, object],
    tame: bool,
    broken: bool,
    before: int,
    behind: int,
    head: bytes,
    fragment: int,
    read: int,
) -> None:
    writer = WRITERS.get(syntax, LITTLE)
    data = writer.element(0x00060010, "OB", bytes(before)) if before else b""
    data += Chance(seed, syntax, tame=tame, broken=broken and not tame).dataset()
    data += writer.element(0x7FE10010, "OB", bytes(behind)) if behind else b""
    try:
        expected = rewritten(data, syntax, start=0, **options)
    except DatasetError:
        with pytest.raises(DatasetError):
            kept(data, syntax, head, fragment, read, **options)
    else:
        assert kept(data, syntax, head, fragment, read, **options) == expected


PIXELS: Final = element(PIXEL_DATA, "OW", bytes(400_000))
NESTED: Final = open_item(element(0x00081150, "UI", b"1.2\0"))
OPEN: Final = open_sequence(0x00081140, NESTED)
ENCAPSULATED: Final = open_sequence(PIXEL_DATA, item() + item(bytes(400_000)), "OB")


@pytest.mark.parametrize(
    ("syntax", "data"),
    [
        (EXPLICIT, HEAD + OPEN + PIXELS),
        (EXPLICIT, HEAD + OPEN),
        (EXPLICIT, element(0x00050010, "LO", b"A ") + element(0x00051001, "OB", bytes(60_000)) + HEAD + OPEN + PIXELS),
        (EXPLICIT, HEAD + sequence(0x00081140, open_item(element(0x00081150, "UI", b"1.2\0"))) + PIXELS),
        (EXPLICIT, HEAD + element(0x00081030, "LO", b"text    ") + PIXELS),
        (EXPLICIT, HEAD + element(0x00100000, "UL", bytes(4)) + element(0x00100010, "PN", b"A ") + PIXELS),
        (EXPLICIT, HEAD + OPEN + element(0x7FE00000, "UL", (400_012).to_bytes(4, "little")) + PIXELS),
        (IMPLICIT, BARE.head + BARE.open_sequence(0x00081140, BARE.open_item()) + BARE.element(PIXEL_DATA, "", PIXELS)),
        (JPEG, HEAD + OPEN + ENCAPSULATED),
    ],
)
def test_file_is_not_written_again_where_only_its_beginning_differs(syntax: str, data: bytes, tmp_path: Path) -> None:
    assert rewritten(data, syntax) != data
    with directory(tmp_path) as fd:
        sink = FileSink(fd, b"head", preview=preview(syntax, Reencoding()))
        stored(sink, data)
        sink.write_head()
        written = os.pread(sink.file_descriptor, len(data) + 100, 4)
        assert written == rewritten(data, syntax)
        assert sink.growth == len(written) - len(data)
        sink.discard()


@pytest.mark.parametrize("looked_at", [16_384, 65_536, 262_144])
@pytest.mark.parametrize(
    ("syntax", "behind"),
    [(EXPLICIT, OPEN + PIXELS), (EXPLICIT, sequence(0x00081140, NESTED) + PIXELS), (JPEG, ENCAPSULATED)],
)
def test_what_is_not_there_yet_is_not_taken_for_the_end(syntax: str, behind: bytes, looked_at: int) -> None:
    header = 12  # of the sequence: the last bytes that are looked at
    data = element(0x00050010, "LO", b"A ")
    data += element(0x00051001, "OB", bytes(looked_at - header - len(data) - len(HEAD) - 12)) + HEAD + behind
    assert kept(data, syntax, b"head", 16_372, 131_072) == rewritten(data, syntax)
