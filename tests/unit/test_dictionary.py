"""The data dictionary: what is looked up, what the transcoder gets, and the files of DCMDICTPATH."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from fastmove import dictionary
from fastmove.dictionary import SIGNED_AS_PIXELS, VRS, Dictionary, load, standard


@pytest.mark.parametrize(
    ("tag", "vr", "keyword"),
    [
        (0x0020000D, "UI", "StudyInstanceUID"),
        (0x00000110, "US", "MessageID"),
        (0x0032000A, "CS", "RETIRED_StudyStatusID"),
        (0x60020010, "US", "OverlayRows"),
        (0x60FF0010, "LO", "PrivateCreator"),
        (0x00203110, "CS", "RETIRED_SourceImageIDs"),
        (0x00080000, "UL", "GenericGroupLength"),
        (0x00090000, "UL", "PrivateGroupLength"),
        (0x00190010, "LO", "PrivateCreator"),
        (0x00281101, "US", "RedPaletteColorLookupTableDescriptor"),  # US or SS
        (0x7FE00010, "OW", "PixelData"),
        (0x7F020010, "OB", "RETIRED_VariablePixelData"),  # OB or OW
    ],
)
def test_attribute_is_found_by_its_tag(tag: int, vr: str, keyword: str) -> None:
    assert (standard().vr(tag), standard().keyword(tag)) == (vr, keyword)


@pytest.mark.parametrize("tag", [0x00203111, 0x61000010, 0x00191010, 0x00190001, 0x30120010, 0xFFFEE0DE])
def test_unknown_attribute_has_neither_vr_nor_keyword(tag: int) -> None:
    assert standard().row(tag) is None
    assert standard().vr(tag) is None


@pytest.mark.parametrize(
    ("keyword", "tag"),
    [
        ("PatientID", 0x00100020),
        ("CommandGroupLength", 0x00000000),
        ("OverlayRows", 0x60000010),
        ("RETIRED_StudyStatusID", 0x0032000A),
        ("StudyStatusID", 0x0032000A),
        ("RETIRED_PatientID", None),
        ("patientid", None),
        ("Patient", None),
        ("ID", None),
        ("UI StudyInstanceUID", None),
        ("", None),
        ("PatientID\n00100030", None),
    ],
)
def test_keyword_is_found_only_as_it_is_written(keyword: str, tag: int | None) -> None:
    assert standard().tag(keyword) == tag


def records(table: bytes) -> list[tuple[int, str]]:
    return [(tag, vr.decode()) for tag, vr in struct.iter_unpack("<I2s2x", table)]


def test_table_is_ascending_and_has_the_vrs_that_are_written() -> None:
    rows = records(dictionary.table())
    assert rows == sorted(set(rows))
    assert {vr for _, vr in rows} <= VRS | {"xs"}
    assert {tag for tag, vr in rows if vr == "xs"} == SIGNED_AS_PIXELS
    assert all(vr == standard().vr(tag) for tag, vr in rows[::97])
    assert len(rows) > 4900


def test_range_table_says_what_the_ranges_say() -> None:
    rows = list(struct.iter_unpack("<4H2B2s4x", standard().range_table))
    assert (0x6000, 0x60FF, 0x0010, 0x0010, 0, 2, b"US") in rows
    assert (0x0009, 0xFFFF, 0x0010, 0x00FF, 1, 2, b"LO") in rows
    assert rows[-1] == (0x0000, 0xFFFF, 0x0000, 0x0000, 2, 2, b"UL")


def test_private_element_is_known_by_its_creator_in_any_block() -> None:
    assert standard().vr(0x00191010, "1.2.840.113681") == "ST"
    assert standard().vr(0x0019FE10, "1.2.840.113681") == "ST"
    assert standard().vr(0x0019FE10, "1.2.840") is None


def test_private_element_of_one_block_is_not_known_in_another() -> None:
    name = "PHILIPS MR/PART"
    assert (standard().vr(0x00191101, name), standard().vr(0x00191201, name)) == ("IS", None)


def test_private_table_has_the_elements_of_a_creator() -> None:
    assert records(standard().private_table("1.2.840.113681"))[0] == (0x00190010, "ST")
    assert standard().private_table("nobody") == b""


def loaded(tmp_path: Path, *files: str) -> Dictionary:
    paths = [tmp_path / f"{number}.dic" for number in range(len(files))]
    for path, text in zip(paths, files, strict=True):
        path.write_text(text)
    return load(":".join(map(str, paths)))


def test_no_dictionary_path_is_the_standard_dictionary() -> None:
    assert load("") is standard()
    assert load("::") is standard()


def test_dictionary_files_replace_the_standard_dictionary(tmp_path: Path) -> None:
    found = loaded(tmp_path, "# ours\n\n  (0010,0020)\tLO\tNumber\t1\tX\n(0011-o-0099,0030-u-0040)\tSH\tRange\t1-n\n")
    assert (found.tag("Number"), found.vr(0x00100020)) == (0x00100020, "LO")
    assert (found.vr(0x00130031), found.vr(0x00120031), found.keyword(0x00150040)) == ("SH", None, "Range")
    assert found.tag("PatientID") is None
    assert found.vr(0x0020000D) is None
    assert found.loaded
    assert found.errors == ()


def test_later_dictionary_file_overrides_an_earlier_one(tmp_path: Path) -> None:
    found = loaded(tmp_path, "(0010,0020)\tLO\tFirst\n", "(0010,0020)\tSH\tSecond\n")
    assert (found.vr(0x00100020), found.tag("First"), found.tag("Second")) == ("SH", None, 0x00100020)


def test_private_rows_of_a_dictionary_file_belong_to_their_creator(tmp_path: Path) -> None:
    found = loaded(tmp_path, '(0011-o-0015,"ME, MYSELF",1A)\tFD\tOne\t1\n(0011,"ME, MYSELF",101b)\tFL\tOther\t1\n')
    assert [found.vr(tag, "ME, MYSELF") for tag in (0x0013111A, 0x0012111A, 0x0011101B, 0x0011111B)] == [
        "FD",
        None,
        "FL",
        None,
    ]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("(0010,0020) LO Number 1", "too few fields (line 2)"),
        ("(0010,0020)\tLO", "too few fields (line 2)"),
        ("(0010 0020)\tLO\tNumber\t1", "bad Tag field (line 2): (0010 0020)"),
        ("0010,0020\tLO\tNumber\t1", "bad Tag field (line 2): 0010,0020"),
        ("(0010-x-0020,0020)\tLO\tNumber\t1", "bad Tag field (line 2): (0010-x-0020,0020)"),
        ("(0010,0020)\tZZ\tNumber\t1", "bad VR field (line 2): ZZ"),
        ("(0010,0020)\tLO\tNumber\tx", "bad VM field (line 2): x"),
    ],
)
def test_bad_row_is_reported_and_left_out(tmp_path: Path, row: str, error: str) -> None:
    found = loaded(tmp_path, f"(0010,0010)\tPN\tName\t1\n{row}\n")
    assert found.errors == (f"DcmDataDictionary: {tmp_path / '0.dic'}: {error}",)
    assert (found.vr(0x00100010), found.vr(0x00100020)) == ("PN", None)
    assert not found.loaded


def test_missing_dictionary_file_is_reported() -> None:
    found = load("/nonexistent/x.dic")
    assert found.errors == ("DcmDataDictionary: Cannot open file: /nonexistent/x.dic",)
    assert not found.loaded
    assert found.vr(0x0020000D) is None


def test_dictionary_file_leaves_delimiters_and_group_lengths_known(tmp_path: Path) -> None:
    found = loaded(tmp_path, "(0010,0020)\tLO\tNumber\n")
    assert (found.row(0xFFFEE000), found.row(0x00100000)) == (("na", "Item"), ("UL", "GenericGroupLength"))
    assert found.row(0x00090010) is None
