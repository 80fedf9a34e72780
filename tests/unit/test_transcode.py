"""The rules by which data sets are written anew, one by one; tests/compat compares them with DCMTK's."""

from __future__ import annotations

import os
import zlib
from tempfile import TemporaryFile

import pytest
from tests.encoded import (
    BARE,
    BIG,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HEAD,
    IMPLICIT,
    ITEM_END,
    JPEG,
    PIXEL_DATA,
    SEQUENCE_END,
    TEXT,
    TRAILING_PADDING,
    UNDEFINED,
    Chance,
    deflate,
    element,
    examined,
    item,
    open_item,
    open_sequence,
    peak_kib,
    rewritten,
    sequence,
)

from fastmove import limits
from fastmove._transcode import examine, rewrite
from fastmove.dictionary import standard
from fastmove.errors import DatasetError, UnwritableDataset
from fastmove.storage.options import Reencoding

UID = element(0x00081150, "UI", b"1.2\0")
PATIENT = element(0x00100020, "LO", b"AB")
NAME = element(0x00100010, "PN", b"A^B ")
SEQUENCE = 0x00081140


def check(received: bytes, expected: bytes, syntax: str = EXPLICIT, **options: object) -> None:
    """Written anew it is what is expected, and examine() says whether that is what came."""
    assert rewritten(received, syntax, **options) == expected
    assert examined(received, syntax, **options).identical is (received == expected)


def test_what_is_as_it_would_be_written_is_identical() -> None:
    check(HEAD + NAME + PATIENT, HEAD + NAME + PATIENT)
    check(b"", b"")


def test_uids_of_the_data_set_are_found_without_padding() -> None:
    found = examined(HEAD)
    assert (found.sop_class_uid, found.sop_instance_uid) == (b"1.2.840.10008.5.1.4.1.1.2", b"1.2.3.4")


def test_uids_of_items_and_absent_ones_are_not_found() -> None:
    found = examined(element(0x00080016, "UI", b"") + sequence(SEQUENCE, item(HEAD)))
    assert (found.sop_class_uid, found.sop_instance_uid) == (b"", None)


def test_elements_are_written_in_ascending_order() -> None:
    check(PATIENT + HEAD + NAME, HEAD + NAME + PATIENT)
    assert examined(PATIENT + HEAD).remarks == (("not ascending", 0x00080016), ("not ascending", 0x00080018))


def test_elements_of_items_are_written_in_ascending_order() -> None:
    inner = sequence(SEQUENCE, item(NAME + UID) + item(PATIENT + NAME))
    expected = sequence(SEQUENCE, item(UID + NAME) + item(NAME + PATIENT))
    check(NAME + inner + HEAD, HEAD + expected + NAME)


def test_first_of_two_elements_counts() -> None:
    second = element(0x00100020, "LO", b"XY")
    check(PATIENT + second, PATIENT)
    check(PATIENT + NAME + second, NAME + PATIENT)
    assert examined(PATIENT + second).remarks == (("duplicate", 0x00100020),)


def test_lengths_become_explicit() -> None:
    check(
        open_sequence(SEQUENCE, open_item(UID) + open_item()) + PATIENT,
        sequence(SEQUENCE, item(UID) + item()) + PATIENT,
    )


def test_lengths_become_undefined() -> None:
    expected = open_sequence(SEQUENCE, open_item(UID) + open_item()) + PATIENT
    check(sequence(SEQUENCE, item(UID) + item()) + PATIENT, expected, undefined_length=True)
    check(expected, expected, undefined_length=True)


def test_wrong_lengths_are_corrected() -> None:
    check(sequence(SEQUENCE, item(UID + PATIENT, 18)), sequence(SEQUENCE, item(UID + PATIENT)))
    check(element(SEQUENCE, "SQ", item(UID) + item(UID), 30), sequence(SEQUENCE, item(UID) + item(UID)))


@pytest.mark.parametrize("vr", TEXT)
def test_blanks_at_the_end_of_text_are_removed_down_to_an_even_length(vr: str) -> None:
    check(element(0x00091001, vr, b"abc     "), element(0x00091001, vr, b"abc "))
    check(element(0x00091001, vr, b"ab  "), element(0x00091001, vr, b"ab"))
    check(element(0x00091001, vr, b"    "), element(0x00091001, vr, b""))
    check(element(0x00091001, vr, b" a\0\0"), element(0x00091001, vr, b" a\0\0"))


def test_blanks_at_the_end_of_long_text_are_removed() -> None:
    check(element(0x0040A160, "UT", b"ab" + b" " * 100_000), element(0x0040A160, "UT", b"ab"))


def test_odd_values_are_padded_with_a_zero() -> None:
    for vr in ("LO", "US", "OB", "UN", "UT", "AT", "FD"):
        check(element(0x00091001, vr, b"ab "), element(0x00091001, vr, b"ab \0"))
    assert examined(element(0x00091001, "OB", b"abc")).remarks == (("odd length", 0x00091001),)


def test_odd_words_stay_odd() -> None:
    check(element(0x00091001, "OW", b"abc"), element(0x00091001, "OW", b"abc"))


def test_blanks_and_redundant_zeros_of_uids_are_removed() -> None:
    for value in (b"1.2 ", b" 1. 2\0", b"1.2\0\0\0", b"1.\t2", b"1.2\0 \0"):
        check(element(0x0020000D, "UI", value), element(0x0020000D, "UI", b"1.2\0"))
    assert examined(element(0x0020000D, "UI", b"1.2 ")).remarks == (("blank in UID", 0x0020000D),)


def test_group_lengths_are_recalculated() -> None:
    wrong, right = element(0x00080000, "UL", b"\1\0\0\0"), element(0x00080000, "UL", b"\x0c\0\0\0")
    check(wrong + UID + PATIENT, right + UID + PATIENT)
    check(right + UID + PATIENT, right + UID + PATIENT)
    check(sequence(SEQUENCE, item(wrong + UID)), sequence(SEQUENCE, item(right + UID)))


def test_group_lengths_are_created() -> None:
    group_8, group_10 = element(0x00080000, "UL", b"\x0c\0\0\0"), element(0x00100000, "UL", b"\x0a\0\0\0")
    expected = group_8 + UID + group_10 + PATIENT
    check(UID + PATIENT, expected, group_length="create")
    check(expected, expected, group_length="create")
    check(expected + element(0x00110000, "UL", bytes(4)), expected, group_length="create")


def test_group_lengths_are_removed() -> None:
    group_8 = element(0x00080000, "UL", b"\x0c\0\0\0")
    check(group_8 + UID + PATIENT, UID + PATIENT, group_length="remove")


def test_trailing_padding_is_removed() -> None:
    check(HEAD + element(TRAILING_PADDING, "OB", bytes(4)), HEAD)


def test_file_and_items_are_padded() -> None:
    padded = rewritten(sequence(SEQUENCE, item(UID)), start=100, padding=(64, 32))
    assert padded == sequence(SEQUENCE, item(UID + element(TRAILING_PADDING, "OB", bytes(8)))) + element(
        TRAILING_PADDING, "OB", bytes(192 - 100 - 52 - 12)
    )


def test_odd_padding_leaves_group_lengths_and_padding_alone() -> None:
    received = element(0x00080000, "UL", b"\1\0\0\0") + UID + element(TRAILING_PADDING, "OB", bytes(4))
    check(received, received, padding=(3, 2))


def test_newer_vrs_become_ob() -> None:
    for vr in ("UN", "UT", "UC", "UR", "OF", "OD", "OL", "OV", "SV", "UV"):
        check(element(0x00091001, vr, bytes(8)), element(0x00091001, "OB", bytes(8)), new_vr=False)
    check(element(0x00091001, "OW", bytes(8)), element(0x00091001, "OW", bytes(8)), new_vr=False)


def test_unknown_vrs_become_un() -> None:
    check(b"\x10\0\x20\0z1\4\0abcd", element(0x00100020, "UN", b"abcd"))
    check(element(0x00100020, "ZZ", b"abcd"), element(0x00100020, "UN", b"abcd"))
    assert examined(element(0x00100020, "ZZ", b"abcd")).remarks == (("not a VR", 0x00100020),)


def test_unknown_element_of_undefined_length_is_a_sequence_in_implicit_vr() -> None:
    received = element(SEQUENCE, "UN", BARE.open_item(BARE.element(0x00081150, "", b"1.2\0")), UNDEFINED)
    check(received + BARE.element(SEQUENCE_END, "", b"") + PATIENT, sequence(SEQUENCE, item(UID)) + PATIENT)


def test_unknown_element_of_defined_length_stays() -> None:
    received = element(SEQUENCE, "UN", BARE.item(BARE.element(0x00081150, "", b"1.2\0")))
    check(received, received)


@pytest.mark.parametrize(
    ("vr", "little", "big"),
    [
        *((vr, b"abcdefgh", b"badcfehg") for vr in ("AT", "OW", "SS", "US")),
        *((vr, b"abcdefgh", b"dcbahgfe") for vr in ("FL", "OF", "OL", "SL", "UL")),
        *((vr, b"abcdefgh", b"hgfedcba") for vr in ("FD", "OD", "OV", "SV", "UV")),
        *((vr, b"abcdefgh", b"abcdefgh") for vr in ("OB", "UN", "LO", "UT")),
    ],
)
def test_numbers_change_their_byte_order(vr: str, little: bytes, big: bytes) -> None:
    native, swapped = element(0x00091001, vr, little), BIG.element(0x00091001, vr, big)
    check(native, swapped, transfer_syntax=BIG_ENDIAN)
    check(swapped, native, BIG_ENDIAN, transfer_syntax=EXPLICIT)


def test_numbers_that_are_cut_short() -> None:
    check(element(0x00091001, "FL", b"abcdef"), BIG.element(0x00091001, "FL", b"dcbaef"), transfer_syntax=BIG_ENDIAN)
    check(element(0x00091001, "US", b"abc"), BIG.element(0x00091001, "US", b"ba\0c"), transfer_syntax=BIG_ENDIAN)


def test_vrs_come_from_the_dictionary() -> None:
    received = BARE.element(0x00081150, "", b"1.2\0") + BARE.element(0x00100020, "", b"AB")
    unknown = BARE.element(0x00189999, "", b"ab"), element(0x00189999, "UN", b"ab")
    overlay = BARE.element(0x60023000, "", b"ab"), element(0x60023000, "OW", b"ab")
    check(
        received + unknown[0] + overlay[0], UID + PATIENT + unknown[1] + overlay[1], IMPLICIT, transfer_syntax=EXPLICIT
    )


def test_vrs_are_left_out() -> None:
    received = sequence(SEQUENCE, item(UID)) + PATIENT
    expected = BARE.sequence(SEQUENCE, BARE.item(BARE.element(0x00081150, "", b"1.2\0")))
    check(received, expected + BARE.element(0x00100020, "", b"AB"), transfer_syntax=IMPLICIT)


def test_vrs_of_private_elements_follow_from_their_creator() -> None:
    creator, block, known = b"SIEMENS CSA HEADER", 0x00290010, 0x00291008
    received = BARE.element(block, "", creator) + BARE.element(known, "", b"AB") + BARE.element(0x00291101, "", b"AB")
    expected = element(block, "LO", creator) + element(known, "CS", b"AB") + element(0x00291101, "UN", b"AB")
    check(received, expected, IMPLICIT, transfer_syntax=EXPLICIT)


def test_pixel_representation_decides_between_us_and_ss() -> None:
    for value, vr in ((b"\1\0", "SS"), (b"\0\0", "US")):
        received = BARE.element(0x00280103, "", value) + BARE.element(0x00280106, "", b"\1\2")
        expected = element(0x00280103, "US", value) + element(0x00280106, vr, b"\1\2")
        check(received, expected, IMPLICIT, transfer_syntax=EXPLICIT)


def test_value_too_long_for_its_vr_becomes_un() -> None:
    for length, vr in ((65534, "LO"), (65536, "UN")):
        value = b"a" * length
        expected = element(0x00100020, vr, value)
        check(BARE.element(0x00100020, "", value), expected, IMPLICIT, transfer_syntax=EXPLICIT)


def test_fragments_stay_as_they_are() -> None:
    fragments = item(b"") + item(b"abcd") + item(b"ef")
    received = HEAD + open_sequence(PIXEL_DATA, fragments, "OB")
    check(received, received, JPEG)
    check(received, received, JPEG, undefined_length=True)


def test_odd_fragments_are_padded() -> None:
    check(open_sequence(PIXEL_DATA, item(b"abc"), "OB"), open_sequence(PIXEL_DATA, item(b"abc\0"), "OB"), JPEG)


def test_encapsulated_pixel_data_become_ob() -> None:
    check(open_sequence(PIXEL_DATA, item(b"ab"), "OW"), open_sequence(PIXEL_DATA, item(b"ab"), "OB"), JPEG)


def test_encapsulated_pixel_data_cannot_be_written_in_a_native_transfer_syntax() -> None:
    received = HEAD + open_sequence(PIXEL_DATA, item(b"abcd"), "OB")
    assert examined(received).sop_instance_uid == b"1.2.3.4"
    with pytest.raises(UnwritableDataset):
        rewritten(received)


def test_native_pixel_data_are_refused_in_a_transfer_syntax_for_encapsulated_ones() -> None:
    with pytest.raises(DatasetError, match="encapsulated"):
        examined(HEAD + element(PIXEL_DATA, "OW", b"abcd"), JPEG)
    examined(sequence(SEQUENCE, item(element(PIXEL_DATA, "OW", b"abcd"))), JPEG)


@pytest.mark.parametrize("level", [None, 0, 1, 9])
def test_deflated_data_sets_are_inflated_and_deflated(level: int | None) -> None:
    plain = HEAD + PATIENT + element(0x00700001, "OB", bytes(3000))
    packed = rewritten(deflate(plain) + b"\0", DEFLATED, compression_level=level)
    assert zlib.decompress(packed, wbits=-15) == plain
    assert rewritten(packed, DEFLATED, transfer_syntax=EXPLICIT) == plain
    assert rewritten(plain, transfer_syntax=DEFLATED, compression_level=level) == packed
    assert not examined(packed, DEFLATED).identical


@pytest.mark.parametrize("packed", [deflate(HEAD * 50)[:-4], b"\xff" * 20, zlib.compress(HEAD)])
def test_damaged_deflated_data_sets_are_refused(packed: bytes) -> None:
    with pytest.raises(DatasetError):
        examined(packed, DEFLATED)
    with pytest.raises(DatasetError):
        rewritten(packed, DEFLATED)


@pytest.mark.parametrize(
    "received",
    [
        HEAD + element(0x00100010, "PN", b"A^BC", 8),
        HEAD + element(0x00100010, "OB", b"A^B ", 0x7FFFFFF0),
        HEAD + element(SEQUENCE, "SQ", item(UID), 100),
        HEAD + sequence(SEQUENCE, item(UID, 12) + UID),
        HEAD + sequence(SEQUENCE, item(UID + PATIENT, 20)),
        HEAD + sequence(SEQUENCE, UID),
        HEAD + sequence(SEQUENCE, item(UID + element(SEQUENCE_END, "", b""))),
        HEAD + element(SEQUENCE, "SQ", item(UID), UNDEFINED),
        HEAD + element(SEQUENCE_END, "", b"") + PATIENT,
        HEAD + item(PATIENT),
        HEAD + element(0x00091001, "OB", item(UID), UNDEFINED),
        HEAD + element(0x00091001, "UT", item(UID), UNDEFINED),
    ],
)
def test_what_dcmtk_cannot_read_is_refused(received: bytes) -> None:
    with pytest.raises(DatasetError):
        examined(received)
    with pytest.raises(DatasetError):
        rewritten(received)


def test_error_says_where() -> None:
    with pytest.raises(DatasetError) as caught:
        examined(HEAD + sequence(SEQUENCE, item(UID) + item(element(0x00091001, "OB", b"", UNDEFINED))))
    assert (caught.value.path, caught.value.offset) == ("(0008,1140)[2]", len(HEAD) + 12 + 8 + 12 + 8 + 12)


def test_nothing_is_written_of_what_cannot_be_read() -> None:
    with TemporaryFile(buffering=0) as file, TemporaryFile(buffering=0) as out:
        file.write(HEAD + PATIENT[:-1])
        with pytest.raises(DatasetError):
            rewrite(file.fileno(), 0, len(HEAD + PATIENT) - 1, EXPLICIT, out.fileno(), 0, Reencoding(), standard())
        assert os.fstat(out.fileno()).st_size == 0


def test_end_within_a_header_is_the_end() -> None:
    for left in (PATIENT[:2], PATIENT[:6], element(0x00091001, "OB", b"")[:10]):
        check(HEAD + left, HEAD)
        check(HEAD + element(SEQUENCE, "SQ", item(UID + left, 100), UNDEFINED), HEAD + sequence(SEQUENCE, item(UID)))


def test_item_delimiter_ends_the_data_set() -> None:
    check(HEAD + element(ITEM_END, "", b"") + PATIENT, HEAD)


def test_file_shorter_than_said_is_an_os_error() -> None:
    with TemporaryFile(buffering=0) as file, pytest.raises(OSError):
        file.write(HEAD)
        examine(file.fileno(), 0, len(HEAD) + 10, EXPLICIT, Reencoding(), standard())


@pytest.mark.parametrize("options", [{}, {"transfer_syntax": IMPLICIT}, {"undefined_length": True}])
def test_data_sets_cut_anywhere_are_refused_or_written(options: dict[str, object]) -> None:
    for syntax in (EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, DEFLATED):
        data = max((Chance(seed, syntax).dataset() for seed in range(12)), key=len)[:500]
        for end in range(len(data)):
            try:
                found = examined(data[:end], syntax, **options)
                written = rewritten(data[:end], syntax, **options)
            except DatasetError:
                continue
            assert not found.identical or written == data[:end]


def test_sequences_are_nested_as_deep_as_the_limit() -> None:
    received = UID
    for _ in range(limits.MAX_SEQUENCE_DEPTH):
        received = sequence(SEQUENCE, item(received))
    check(received, received)
    with pytest.raises(DatasetError, match="nested too deeply"):
        examined(sequence(SEQUENCE, item(received)))


def test_too_many_elements_out_of_order_are_refused() -> None:
    with pytest.raises(DatasetError, match="out of order"):
        rewritten(PATIENT + UID * (limits.MAX_INDEXED_ELEMENTS + 1))


@pytest.mark.parametrize("options", [{"group_length": "create"}, {"transfer_syntax": BIG_ENDIAN}])
def test_large_values_take_no_memory(options: dict[str, object]) -> None:
    size = 64 << 20
    with TemporaryFile(buffering=0) as file, TemporaryFile(buffering=0) as out:
        file.write(HEAD + element(PIXEL_DATA, "OW", b"", size))
        file.truncate(len(HEAD) + 12 + size)
        before = peak_kib(anew=True)
        arguments = (Reencoding(**options), standard())
        nbytes = len(HEAD) + 12 + size
        assert not examine(file.fileno(), 0, nbytes, EXPLICIT, *arguments).identical
        assert rewrite(file.fileno(), 0, nbytes, EXPLICIT, out.fileno(), 0, *arguments) >= nbytes
        assert peak_kib() - before < 8 << 10


def test_many_small_elements_are_written_across_buffers() -> None:
    items = b"".join(item(element(0x00091001 + n % 7, "UN", bytes([n % 256]) * (n % 97 * 2))) for n in range(6000))
    opened = b"".join(
        open_item(element(0x00091001 + n % 7, "UN", bytes([n % 256]) * (n % 97 * 2))) for n in range(6000)
    )
    check(open_sequence(SEQUENCE, opened) + PATIENT, sequence(SEQUENCE, items) + PATIENT)
    check(sequence(SEQUENCE, items) + PATIENT, open_sequence(SEQUENCE, opened) + PATIENT, undefined_length=True)
