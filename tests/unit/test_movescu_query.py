"""-k and query files of movescu: what is sent, and what is refused."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import pytest

from fastmove.cli.movescu.keys import Element, check_key, parse_key, parse_keys
from fastmove.cli.movescu.options import CommandLineError
from fastmove.cli.movescu.query import BadQueryFile, NotConvertible, Query, blanks_in_uids, encode, read_query
from fastmove.dictionary import standard
from fastmove.uids import (
    DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
)

STUDY = bytes.fromhex("20000d00 5549 0600 312e322e3300")
LEVEL = bytes.fromhex("08005200 4353 0600 535455445920")
META = bytes(128) + b"DICM" + bytes.fromhex("02001000 5549 1400") + b"1.2.840.10008.1.2.1\0"
JPEG = bytes(128) + b"DICM" + bytes.fromhex("02001000 5549 1600") + b"1.2.840.10008.1.2.4.50"
ITEM = bytes.fromhex("feff00e0 ffffffff") + STUDY + bytes.fromhex("feff0de0 00000000")
SEQUENCE = LEVEL + bytes.fromhex("08004011 5351 0000 ffffffff") + ITEM + bytes.fromhex("feffdde0 00000000")
ENCAPSULATED = bytes.fromhex("e07f1000 4f42 0000 ffffffff feff00e0 00000000 feff00e0 02000000 6162 feffdde0 00000000")


def value_of(key: str) -> bytes:
    return parse_key(key, standard()).value


@pytest.mark.parametrize(
    ("key", "tag", "vr"),
    [
        ("0010,0020", 0x00100020, "LO"),
        ("10, 20=x", 0x00100020, "LO"),
        ("10010,10020", 0x00100020, "LO"),
        ("PatientID=", 0x00100020, "LO"),
        ("RETIRED_StudyStatusID", 0x0032000A, "CS"),
        ("StudyStatusID", 0x0032000A, "CS"),
        ("0009,0010=ME", 0x00090010, "LO"),
        ("0008,0000", 0x00080000, "UL"),
        ("0028,0106", 0x00280106, "xs"),
    ],
)
def test_key_names_an_attribute_by_tag_or_keyword(key: str, tag: int, vr: str) -> None:
    element = parse_key(key, standard())
    assert (element.tag, element.vr) == (tag, vr)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("PatientId=x", "bad key format or dictionary name not found in dictionary: PatientId"),
        ("", "bad key format or dictionary name not found in dictionary: "),
        ("Seq[0].PatientID=x", "bad key format or dictionary name not found in dictionary: Seq[0].PatientID"),
        ("0009,1001=x", "unknown tag: (0009,1001)"),
        ("-10,20", "unknown tag: (fffffff0,0020)"),
        ("fffe,e000", "cannot create element for tag: (fffe,e000)"),
        ("0028,0010=x=1", 'cannot put tag value: (0028,0010)="x=1"'),
        ("0008,1140=x", 'cannot put tag value: (0008,1140)="x"'),
    ],
)
def test_wrong_key_is_refused_in_movescus_words(key: str, error: str) -> None:
    with pytest.raises(CommandLineError) as refused:
        check_key(key, standard())
    assert refused.value.text == error


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("0010,0020=a=b", b"a=b "),
        ("0020,000d=1.2", b"1.2\0"),
        ("0028,0010=-1\\70000\\5x", struct.pack("<3H", 65535, 70000 & 0xFFFF, 5)),
        ("0028,0010=" + "9" * 20, b"\xff\xff"),
        ("0018,6020=-" + "9" * 20, bytes(4)),
        ("0072,0082=" + "9" * 20, struct.pack("<q", 2**63 - 1)),
        ("0028,0009=(18,1063)\\(0x20,1", struct.pack("<4H", 0x18, 0x1063, 0x20, 1)),
        ("0042,0011=1\\100\\ff", b"\x01\x00\xff\x00"),
        ("7fe0,0010=12345", b"\x45\x23"),
        ("7fe0,0008=1e39", struct.pack("<f", float("inf"))),
        ("0018,602c=-.5e1x", struct.pack("<d", -5.0)),
    ],
)
def test_value_is_read_as_c_reads_numbers(key: str, value: bytes) -> None:
    assert value_of(key) == value


def test_leftmost_of_several_keys_for_a_tag_counts() -> None:
    keys = ("PatientID=left", "0020,000d=1", "0010,0020=right")
    assert [key.value for key in parse_keys(keys, standard())] == [b"left", b"1\0"]


def test_rightmost_wrong_key_is_the_one_that_is_reported() -> None:
    with pytest.raises(CommandLineError, match="rightmost"):
        parse_keys(("nope", "0028,0010=x", "rightmost", "PatientID"), standard())


def test_elements_are_sent_ascending_without_needless_blanks() -> None:
    elements = [Element(0x0020000D, "UI", b"1 2.3 "), Element(0x00100020, "LO", b"a   ")]
    assert encode(elements, EXPLICIT_VR_LITTLE_ENDIAN) == (
        bytes.fromhex("10002000 4c4f 0200 6120") + bytes.fromhex("20000d00 5549 0400 31322e33")
    )


def test_group_lengths_are_set_right_in_each_transfer_syntax() -> None:
    elements = [Element(0x00100000, "UL", b""), Element(0x00100020, "LO", b"abcd"), Element(0x00204000, "LT", b"ab")]
    for syntax, header, order in (
        (EXPLICIT_VR_LITTLE_ENDIAN, 8, "<"),
        (IMPLICIT_VR_LITTLE_ENDIAN, 8, "<"),
        (EXPLICIT_VR_BIG_ENDIAN, 8, ">"),
    ):
        assert encode(elements, syntax)[header : header + 4] == struct.pack(order + "I", 12)


def test_numbers_are_swapped_by_their_size_in_big_endian() -> None:
    rows = {"US": 2, "UL": 4, "FD": 8, "OW": 2, "OF": 4, "OV": 8, "AT": 2, "OB": 1, "UN": 1, "LO": 1}
    value = bytes(range(1, 9))
    for vr, unit in rows.items():
        swapped = b"".join(value[at : at + unit][::-1] for at in range(0, 8, unit))
        assert encode([Element(0x00100020, vr, value)], EXPLICIT_VR_BIG_ENDIAN).endswith(swapped)


def test_value_too_long_for_its_vr_is_unknown() -> None:
    data = encode([Element(0x00100020, "LO", b"x" * 65536)], EXPLICIT_VR_LITTLE_ENDIAN)
    assert data[:12] == bytes.fromhex("10002000 554e 0000 00000100")


def test_padding_of_the_data_set_is_left_out() -> None:
    assert encode([Element(0xFFFCFFFC, "OB", bytes(8))], EXPLICIT_VR_LITTLE_ENDIAN) == b""


def test_deflated_identifier_is_a_raw_stream_of_even_length() -> None:
    data = encode([Element(0x00100020, "LO", b"abcd")], DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN)
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    assert stream.decompress(data) == bytes.fromhex("10002000 4c4f 0400 61626364")
    assert len(data) % 2 == 0


def test_blanks_in_uids_are_warned_of_from_right_to_left() -> None:
    keys = parse_keys(("0020,000d=1 2", "0008,0018=1", "0020,000e= 1"), standard())
    assert [text.split()[2] for text in blanks_in_uids(keys, standard())] == ["SeriesInstanceUID", "StudyInstanceUID"]


def query(tmp_path: Path, content: bytes, *keys: str) -> Query:
    path = tmp_path / "query.dcm"
    path.write_bytes(content)
    return read_query(str(path), parse_keys(keys, standard()), standard())


@pytest.mark.parametrize("meta", [b"", META])
def test_query_file_is_sent_with_and_without_file_meta_information(tmp_path: Path, meta: bytes) -> None:
    found = query(tmp_path, meta + LEVEL + STUDY)
    assert found.identifier(EXPLICIT_VR_LITTLE_ENDIAN, standard()) == LEVEL + STUDY


def test_keys_take_the_place_of_elements_and_are_put_among_them(tmp_path: Path) -> None:
    found = query(tmp_path, META + LEVEL + STUDY, "0020,000d=9.8.7", "0010,0020=ab")
    assert found.identifier(EXPLICIT_VR_LITTLE_ENDIAN, standard()) == (
        LEVEL + bytes.fromhex("10002000 4c4f 0200 6162") + bytes.fromhex("20000d00 5549 0600 392e382e3700")
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "End of stream"),
        (b"\x08\0\x52", "I/O suspension or premature end of stream"),
        (LEVEL + STUDY + b"\x20\0\x10", "I/O suspension or premature end of stream"),
        (LEVEL + STUDY[:-1], "Invalid stream"),
        (SEQUENCE[:34], "Sequence Delimitation Item missing"),
        (SEQUENCE[:38], "I/O suspension or premature end of stream"),
    ],
)
def test_damaged_query_file_is_refused_in_movescus_words(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(BadQueryFile) as refused:
        query(tmp_path, content).identifier(EXPLICIT_VR_LITTLE_ENDIAN, standard())
    assert str(refused.value) == f"bad DICOM file: {tmp_path / 'query.dcm'}: {reason}"


def test_directory_and_missing_file_are_no_query_files(tmp_path: Path) -> None:
    with pytest.raises(BadQueryFile, match="premature end"):
        read_query(str(tmp_path), (), standard())
    with pytest.raises(BadQueryFile, match="No such file"):
        read_query(str(tmp_path / "nothing"), (), standard())


def test_compressed_query_file_cannot_be_converted(tmp_path: Path) -> None:
    with pytest.raises(NotConvertible, match="'JPEG Baseline' transfer syntax to 'Big Endian Explicit'"):
        query(tmp_path, JPEG + LEVEL + ENCAPSULATED).identifier(EXPLICIT_VR_BIG_ENDIAN, standard())


def test_dump_shows_values_as_they_were_given(tmp_path: Path) -> None:
    assert query(tmp_path, LEVEL + STUDY, "0028,0106=5", "0010,0020=ab  ").dump(standard()) == [
        "",
        "# Dicom-Data-Set",
        "# Used TransferSyntax: Little Endian Explicit",
        "(0008,0052) CS [STUDY]                                  #   6, 1 QueryRetrieveLevel",
        "(0010,0020) LO [ab]                                     #   4, 1 PatientID",
        "(0020,000d) UI [1.2.3]                                  #   6, 1 StudyInstanceUID",
        "(0028,0106) xs 5                                        #   2, 1 SmallestImagePixelValue",
        "",
    ]


def test_every_truncation_of_a_query_file_is_sent_whole_or_refused(tmp_path: Path) -> None:
    content = SEQUENCE + STUDY
    sent = 0
    for length in range(len(content)):
        try:
            sent += len(query(tmp_path, content[:length]).identifier(EXPLICIT_VR_LITTLE_ENDIAN, standard())) > 0
        except BadQueryFile:
            continue
    assert sent == 3  # after the level, the header of the sequence, and its end
