"""A look at the beginning of a data set: the values that are there, and nothing but them, whatever the bytes are."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from tests.corpus import Corpus
from tests.encoded import (
    BARE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    JPEG,
    LITTLE,
    PIXEL_DATA,
    UNDEFINED,
    WRITERS,
    Writer,
    deflate,
)

from fastmove._elements import peek
from fastmove.storage.filemeta import read_file_meta
from fastmove.uids import TRANSFER_SYNTAXES

SOP_INSTANCE, MODALITY, PATIENT_ID, STUDY, SERIES = 0x00080018, 0x00080060, 0x00100020, 0x0020000D, 0x0020000E
WANTED: Final = (SERIES, PATIENT_ID, STUDY, MODALITY)
SEQUENCE: Final = 0x00081140
FIRST: Final = 64 << 10

syntaxes = pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG])


def writer(syntax: str) -> Writer:
    return WRITERS.get(syntax, LITTLE)


def data_set(write: Writer, between: bytes = b"") -> bytes:
    """The values of EXPECTED, with something between the first and the others."""
    return (
        write.head
        + write.element(MODALITY, "CS", b"CT")
        + between
        + write.element(PATIENT_ID, "LO", b"PAT 1 ")
        + write.element(STUDY, "UI", b"1.2.3\0")
        + write.element(SERIES, "UI", b"1.2.3.4\0")
        + write.element(PIXEL_DATA, "OW", bytes(100))
    )


EXPECTED: Final = {MODALITY: b"CT", PATIENT_ID: b"PAT 1 ", STUDY: b"1.2.3\0", SERIES: b"1.2.3.4\0"}


@syntaxes
def test_values_are_given_as_they_are_there(syntax: str) -> None:
    assert peek(data_set(writer(syntax)), syntax, WANTED) == EXPECTED


def test_deflated_data_set_is_inflated() -> None:
    assert peek(deflate(data_set(LITTLE)), DEFLATED, WANTED) == EXPECTED


def test_unknown_transfer_syntax_is_taken_for_explicit_vr_little_endian() -> None:
    assert peek(data_set(LITTLE), "1.2.3.4.5", WANTED) == EXPECTED


def test_every_file_of_the_corpus_is_read_as_by_pydicom(corpus: Corpus) -> None:
    for file in corpus.files:
        meta, truth = read_file_meta(file.path), dcmread(file.path)
        data = file.path.read_bytes()[meta.dataset_offset :]
        found = {tag: value.decode().rstrip("\0 ") for tag, value in peek(data, file.transfer_syntax, WANTED).items()}
        assert found == {tag: truth[tag].value for tag in WANTED}


@pytest.mark.parametrize(
    ("tags", "found"),
    [((), set()), ((STUDY,), {STUDY}), ((0x00100010, STUDY), {STUDY}), ((PIXEL_DATA,), set()), ((1 << 40,), set())],
)
def test_only_what_is_asked_for_and_there_is_given(tags: tuple[int, ...], found: set[int]) -> None:
    assert peek(data_set(LITTLE), EXPLICIT, tags).keys() == found


def test_of_two_elements_with_one_tag_the_first_counts() -> None:
    twice = LITTLE.element(PATIENT_ID, "LO", b"first ") + LITTLE.element(PATIENT_ID, "LO", b"second")
    assert peek(twice, EXPLICIT, [PATIENT_ID, STUDY]) == {PATIENT_ID: b"first "}


# Sequences


@syntaxes
@pytest.mark.parametrize("deep", [1, 2, 30])
def test_what_is_in_sequences_is_passed_over(syntax: str, deep: int) -> None:
    write = writer(syntax)
    inner = write.element(PATIENT_ID, "LO", b"WRONG ") + write.element(0x00091010, "UN", b"private ")
    for items in (write.item, write.open_item):
        for sequences in (write.sequence, write.open_sequence):
            nested = inner
            for _ in range(deep):
                nested = inner + sequences(SEQUENCE, items(nested) + items(inner))
            assert peek(data_set(write, nested.removeprefix(inner)), syntax, WANTED) == EXPECTED


def test_sequence_in_un_is_in_implicit_vr_little_endian_whatever_is_around_it() -> None:
    """PS3.5 6.2.2, note 2."""
    inside = BARE.open_item(BARE.element(PATIENT_ID, "LO", b"WRONG ") + BARE.open_sequence(SEQUENCE, BARE.open_item()))
    inside += BARE.element(0xFFFEE0DD, "", b"")
    for syntax, write in ((EXPLICIT, LITTLE), (BIG_ENDIAN, WRITERS[BIG_ENDIAN])):
        un = write.element(0x00091010, "UN", inside, UNDEFINED)
        assert peek(data_set(write, un), syntax, WANTED) == EXPECTED
        around = write.open_sequence(SEQUENCE, write.open_item(write.element(PATIENT_ID, "LO", b"WRONG ") + un))
        assert peek(data_set(write, around), syntax, WANTED) == EXPECTED


def test_sequences_nested_without_end_are_given_up() -> None:
    bomb = (LITTLE.element(SEQUENCE, "SQ", b"", UNDEFINED) + LITTLE.element(ITEM, "", b"", UNDEFINED)) * 3000
    assert peek(LITTLE.element(MODALITY, "CS", b"CT") + bomb, EXPLICIT, WANTED) == {MODALITY: b"CT"}


def test_vr_to_come_has_a_long_header_and_one_of_rubbish_a_short_one() -> None:
    for vr in ("ZZ", b"\x01\x02"):
        assert peek(data_set(LITTLE, LITTLE.element(0x00090010, vr, b"12345678")), EXPLICIT, WANTED) == EXPECTED


# Bounds


@syntaxes
def test_data_set_that_is_cut_gives_what_is_whole(syntax: str) -> None:
    data = data_set(writer(syntax))
    for end in range(len(data)):
        found = peek(data[:end], syntax, WANTED)
        assert found.items() <= EXPECTED.items()
        assert peek(data[:end], syntax, (SOP_INSTANCE, *WANTED)).items() >= found.items()


def test_what_lies_beyond_64_kib_is_not_looked_at() -> None:
    filler = 0x00090010, "OB"
    fits = (
        FIRST - len(data_set(LITTLE, LITTLE.element(*filler, b""))) + len(LITTLE.element(PIXEL_DATA, "OW", bytes(100)))
    )
    assert peek(data_set(LITTLE, LITTLE.element(*filler, bytes(fits))), EXPLICIT, WANTED) == EXPECTED
    beyond = peek(data_set(LITTLE, LITTLE.element(*filler, bytes(fits + 1))), EXPLICIT, WANTED)
    assert beyond == {tag: value for tag, value in EXPECTED.items() if tag != SERIES}


def test_deflate_bomb_is_inflated_no_further_than_that() -> None:
    bomb = deflate(data_set(LITTLE, LITTLE.element(0x00090010, "OB", bytes(64 << 20))))
    assert peek(bomb, DEFLATED, WANTED) == {MODALITY: b"CT"}


@pytest.mark.parametrize("tag", [0x7FE00008, 0x7FE00009, PIXEL_DATA])
def test_nothing_behind_pixel_data_is_looked_at(tag: int) -> None:
    data = LITTLE.element(tag, "OW", b"12") + LITTLE.element(0x7FE10010, "LO", b"X ")
    assert peek(data, EXPLICIT, [tag, 0x7FE10010]) == {}


lengths = st.sampled_from((0, 1, 2, 8, 100, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFE, UNDEFINED))
tags = st.sampled_from((*WANTED, SEQUENCE, ITEM, 0xFFFEE00D, 0xFFFEE0DD, PIXEL_DATA, 0x00090010))
vrs = st.sampled_from(("UI", "LO", "SQ", "UN", "OB", "ZZ", b"\0\0"))


@st.composite
def rubbish(draw: st.DrawFn) -> bytes:
    """Headers that lie, delimiters out of place, and noise."""
    write = draw(st.sampled_from((LITTLE, BARE, WRITERS[BIG_ENDIAN])))
    pieces = st.one_of(
        st.binary(max_size=40),
        st.builds(
            lambda t, v, b, n: write.element(t, v, b, n % 0x10000 if v in ("UI", "LO", b"\0\0") else n),
            tags,
            vrs,
            st.binary(max_size=10),
            lengths,
        ),
    )
    return b"".join(draw(st.lists(pieces, max_size=12)))


@settings(max_examples=400, deadline=None)
@given(rubbish(), st.sampled_from((*TRANSFER_SYNTAXES, "1.2.3")))
def test_no_bytes_make_it_raise_or_find_what_is_not_in_them(data: bytes, syntax: str) -> None:
    for value in peek(data, syntax, WANTED).values():
        assert syntax == DEFLATED or value in data
