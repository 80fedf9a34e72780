"""-k and query files: the identifiers, the lines about them and the errors are those of the real movescu."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.movescu.keys import parse_keys
from fastmove.cli.movescu.options import CommandLineError
from fastmove.cli.movescu.query import BadQueryFile, NotConvertible, Query, blanks_in_uids, read_query
from fastmove.dictionary import load, standard
from tests.compat import datasets
from tests.compat.datasets import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG, element, item
from tests.compat.recorder import Recording, record

SYNTAXES: Final = (EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED)

NAMES: Final = (
    *("0010,0020", "0010,0020=", "10,20=x", "0x10,0x20=x", "0010, 0020=x", " 0010,0020=x", "0010 ,0020=x", "+10,20=x"),
    *("10010,0020=x", "0010,10020=x", "0010,0020abc=x", "0010,0020 junk", "0010,0020x=y", "(0010,0020)=x", "-10,20=x"),
    *("0010;0020=x", "0010=x", "0010,", "0010,=x", "g010,0020", "0010,00g0=x", "0010,00200=x", "0x,20", "0010,0x=5"),
    *("1000000010,0020=x", "11111111111111111110,20=x", "10028,1f0010=abc", "\t0010,0020=x", "0010,0020\n=x"),
    *("PatientID", "PatientID=", "PatientID =x", " PatientID=x", "patientid=x", "=x", "", "Patient=x", "x.y[0]=1"),
    *("RETIRED_StudyStatusID=x", "RETIRED_PatientID=x", "OverlayRows=5", "RETIRED_CurveDimensions=1", "Item"),
    *("PrivateCreator=x", "GenericGroupLength", "PrivateGroupLength", "RTDoseROISequence", "UserContentLabel"),
    *("6000,0010=5", "6002,0010=5", "6001,0010=x", "6100,0010=x", "0020,3102=x", "0020,3101=x", "7f02,0011=1"),
    *("0009,0010=ME", "0009,1001=x", "0009,00ff=ME", "0009,0000=5", "0001,0010=x", "0001,1010=x", "0003,0010"),
    *("0008,0000=99", "0010,0000=abc", "0000,0000=4", "0000,0100=33", "0002,0010=1.2", "0002,0000", "0002,0001=1\\2"),
    *("fffe,e000", "fffe,e000=1", "fffe,e00d", "fffe,e0de", "3012,0010", "0008,0202", "0008,1140", "0008,1140=x"),
)
VALUES: Final = (
    *(
        "0010,0020=a  ",
        "0010,0020=  ",
        "0010,0020= a",
        "0010,0020=a=b",
        "0010,0020=a\\b ",
        "0010,0020=\\",
        "0020,0013= 1 ",
    ),
    *(
        "0010,4000=  a  ",
        "0008,0054=  AE  ",
        "0008,1190= http://x ",
        "0008,0119=a  ",
        "0072,0070=a  ",
        "0010,0020=a\xe4",
    ),
    *("0008,2111=a\\b  ", "0018,9074= ", "0010,0010=A^B  ", "0008,0020=  20200101", "0018,9041=" + "x" * 65534),
    *("0018,9041=" + "x" * 65535, "0020,000d=" + "1." * 40, "0020,000d=1.2", "0020,000d=1.a", "0020,000d=\\"),
    *(
        "0028,0010=5",
        "0028,0010=-1",
        "0028,0010=70000",
        "0028,0010=5x",
        "0028,0010=abc",
        "0028,0010=1\\2",
        "0028,0010=1\\",
    ),
    *(
        "0028,0010=0x10",
        "0028,0010=010",
        "0028,0010= 7",
        "0028,0010=+7",
        "0028,0010= ",
        "0028,0010=1\\\\2",
        "0028,0010=1 2",
    ),
    *("0028,0010=" + "9" * 20, "0028,0010=-" + "9" * 20, "0028,0010=1.5", "0028,0010=" + "\\".join("1" * 40000)),
    *("0018,9219=-5", "0018,9219=40000", "0018,9219=x", "0018,6016=4294967297", "0018,6016=-1", "0060,3004=5"),
    *("0018,6020=99999999999", "0018,6020=-99999999999", "0018,6020=" + "9" * 20, "0018,6020=-" + "9" * 20),
    *("0072,0082=-5", "0072,0082=" + "9" * 20, "0072,0083=7", "0072,0083=-1", "0072,0083=x", "0004,1200=5"),
    *(
        "0018,602c=1.5",
        "0018,602c=1e3",
        "0018,602c=1,5",
        "0018,602c=abc",
        "0018,602c=inf",
        "0018,602c=nan",
        "0018,602c=.",
    ),
    *("0018,602c=0x10", "0018,602c= 1", "0018,602c=.5", "0018,602c=1e400", "0018,602c=-1e-400", "0018,602c=1.5e+"),
    *("0018,602c=1\\2", "0018,602c=\\1", "0018,602c=-Infinity", "0018,602c=1d3", "0018,1271=1.1", "0018,1271=-0.1"),
    *(
        "7fe0,0008=1.5",
        "7fe0,0008=1e39\\1",
        "7fe0,0008=x",
        "7fe0,0009=1.5\\2",
        "0066,0040=10",
        "0066,0040=a",
        "7fe0,0001=10",
    ),
    *(
        "0028,0009=(0018,1063)",
        "0028,0009=0018,1063",
        "0028,0009=(18,63)",
        "0028,0009=(0018,1063",
        "0028,0009=FrameTime",
    ),
    *(
        "0028,0009=(0018,1063)\\(0018,1064)",
        "0028,0009= (0018,1063)",
        "0028,0009=(0018,1063)x",
        "0028,0009=( 0018, 1063)",
    ),
    *("0028,0009=(10018,1063)", "0028,0009=(0018,1063)\\", "0028,0009=(0018 ,1063)", "0028,0106=5", "0028,3006=1\\2"),
    *("7fe0,0010=1\\2\\3", "7fe0,0010=12345", "7fe0,0010=g", "7fe0,0010= 1", "7fe0,0010=0x1f", "7fe0,0010=-1"),
    *(
        "0042,0011=1\\2\\3",
        "0042,0011=100",
        "0042,0011=x",
        "0042,0011=1\\",
        "0042,0011=1g",
        "0072,006d=1\\2",
        "0072,006d=z",
    ),
    *("5400,1010=1\\2\\3", "6000,3000=1\\2", "0028,1201=1\\2", "0028,1201", "7f02,0010=1\\2", "0042,0011=-1"),
)
SEVERAL: Final = {
    "leftmost counts": ("PatientID=a", "0010,0010=n", "0010,0020=b", "0020,000d=1"),
    "rightmost error": ("0010,0020=bad", "nope", "0028,0010=x"),
    "group lengths": ("0010,0000=1", "0010,0020=abc", "0008,0000", "0008,0060=MR", "0002,0000", "0002,0010=1.2"),
    "padding left out": ("0010,0020=a", "fffc,fffc=1\\2"),
    "signed pixels": ("0028,0103=1", "0028,0106=-5", "0028,3002=1\\2\\3"),
    "every kind": (
        *("0028,0010=5\\6", "0018,602c=1.5", "0028,0009=(0018,1063)", "7fe0,0010=1\\2", "0010,0020=abc", "0008,1140"),
        *("0028,3006=1\\2", "0072,0082=-5", "0018,9041=x", "0010,0000=3", "0042,0011=1\\2\\3", "5400,1010=1\\2\\3"),
        *("0066,0040=7", "7fe0,0008=1.5", "7fe0,0001=9", "0018,6020=-5", "0040,a30a=1\\2", "0028,0106=7", "0018,9073"),
    ),
}


def arguments(keys: tuple[str, ...]) -> list[str]:
    return [word for key in keys for word in ("-k", key)]


def error_of(recording: Recording) -> str:
    return recording.stderr.partition("error: ")[2].removesuffix("\n")


def dumped(recording: Recording) -> list[str]:
    """The lines between the title and the next message, as they were before they got their prefixes."""
    lines = recording.stderr.split("\n")
    start = lines.index("I: Request Identifiers:") + 1
    return [line.removeprefix("I: ") for line in lines[start : lines.index("I: ", start + 1) + 1]]


def as_printed(lines: list[str]) -> list[str]:
    return "\n".join(lines).split("\n")


def compare(keys: tuple[str, ...], transfer_syntax: str) -> None:
    judge = record(["-v", *arguments(keys)], transfer_syntax)
    try:
        query = Query(parse_keys(keys, standard()))
    except CommandLineError as error:
        assert (judge.code, error_of(judge)) == (1, error.text)
        return
    assert judge.code == 0, judge.stderr
    assert judge.identifiers == [query.identifier(transfer_syntax, standard())]
    assert dumped(judge) == as_printed(query.dump(standard()))


@pytest.mark.parametrize("key", NAMES)
def test_key_is_taken_or_refused_as_by_movescu(key: str) -> None:
    compare((key,), EXPLICIT)


@pytest.mark.parametrize("key", VALUES, ids=lambda key: key[:40])
def test_value_is_encoded_as_by_movescu(key: str) -> None:
    compare((key,), EXPLICIT)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("keys", SEVERAL.values(), ids=SEVERAL)
def test_keys_are_put_together_as_by_movescu(keys: tuple[str, ...], syntax: str) -> None:
    compare(keys, syntax)


@pytest.mark.parametrize("keys", [("0020,000d=1.2 ", "0020,000e=1 2", "0010,0020=a "), ("0008,0018= ",)])
def test_blanks_in_uids_are_removed_with_a_warning(keys: tuple[str, ...]) -> None:
    judge, parsed = record(arguments(keys)), parse_keys(keys, standard())
    assert judge.identifiers == [Query(parsed).identifier(EXPLICIT, standard())]
    assert judge.lines == [f"W: {text}" for text in blanks_in_uids(parsed, standard())]


@pytest.mark.parametrize("level", [0, 1, 9])
def test_compression_level_counts_for_the_identifier(level: int) -> None:
    keys = ("0010,0020=" + "abcdefgh" * 200, "0020,000d=1.2.3")
    judge = record(["-xd", "+cl", str(level), *arguments(keys)], DEFLATED)
    assert judge.identifiers == [Query(parse_keys(keys, standard())).identifier(DEFLATED, standard(), level)]


# ---------------------------------------------------------------- DCMDICTPATH

COMMAND_SET: Final = "".join(  # without these the real one cannot even write its commands
    f"(0000,{number:04x})\t{row[0]}\t{row[1]}\t1\n" for number in range(0x1032) if (row := standard().row(number))
)
DICTIONARY: Final = COMMAND_SET + (
    '(0010,0020)\tLO\tNumber\t1\tX\n(0011-o-0099,"ME",10)\tFD\tPrivate\n(0012-0020,0030-u-0040)\tSH\tMany\n'
)


@pytest.mark.parametrize(
    "key", ["Number=1", "Many=2", "0012,0031=x", "0013,0031=x", "PatientID=1", "0020,000d=1", "0010,0000", "fffe,e000"]
)
def test_dictionary_files_replace_the_dictionary(tmp_path: Path, key: str) -> None:
    path = tmp_path / "my.dic"
    path.write_text(DICTIONARY)
    judge = record(arguments((key,)), environment={"DCMDICTPATH": str(path)})
    try:
        assert judge.identifiers == [Query(parse_keys((key,), load(str(path)))).identifier(EXPLICIT, load(str(path)))]
    except CommandLineError as error:
        assert (judge.code, error_of(judge)) == (1, error.text)


@pytest.mark.parametrize(
    "row",
    [
        *("(0010,0020) LO Number 1", "(0010,0020)\tLO", "(0010 0020)\tLO\tNumber\t1", "0010,0020\tLO\tNumber\t1"),
        *("(0010,0020)\tZZ\tNumber\t1", "(0010,0020)\tLO\tNumber\tx", "# remark", "", "  (0010,0020)\tLO\tNumber"),
    ],
)
def test_rows_of_dictionary_files_are_read_as_by_movescu(tmp_path: Path, row: str) -> None:
    path = tmp_path / "my.dic"
    path.write_text(f"(0010,0010)\tPN\tName\t1\n{row}\n{COMMAND_SET}")
    ours = load(f"{path}:/nonexistent")
    judge = record(["-ta", "1", *arguments(("Name=x",))], environment={"DCMDICTPATH": f"{path}:/nonexistent"})
    sent = [Query(parse_keys(("Name=x",), ours)).identifier(EXPLICIT, ours)] if ours.loaded else []
    warning = [] if ours.loaded else ["W: no data dictionary loaded, check environment variable: DCMDICTPATH"]
    assert judge.identifiers == sent
    assert judge.lines[: len(ours.errors) + len(warning)] == [*(f"E: {text}" for text in ours.errors), *warning]


# ---------------------------------------------------------------- query files

LEVEL: Final = element(0x00080052, b"CS", b"STUDY ")
STUDY: Final = element(0x0020000D, b"UI", b"1.2.3\0")
BODY: Final = LEVEL + STUDY
IMPLICIT_BODY: Final = struct.pack("<HHI6sHHI6s", 8, 0x52, 6, b"STUDY ", 0x20, 13, 6, b"1.2.3\0")
BIG_ENDIAN_BODY: Final = struct.pack(">HH2sH6sHH2sH6s", 8, 0x52, b"CS", 6, b"STUDY ", 0x20, 13, b"UI", 6, b"1.2.3\0")
FRAGMENTS: Final = item() + item(b"abcd") + datasets.SEQUENCE_END
ENCAPSULATED: Final = element(0x7FE00010, b"OB", FRAGMENTS, datasets.UNDEFINED)


def meta(syntax: str, *, group_length: bool = True) -> bytes:
    uid = element(0x00020010, b"UI", syntax.encode() + bytes(len(syntax) % 2))
    length = element(0x00020000, b"UL", struct.pack("<I", len(uid))) if group_length else b""
    return bytes(128) + b"DICM" + length + uid


def sequence(*items: bytes, undefined: bool = False) -> bytes:
    content = b"".join(items) + (datasets.SEQUENCE_END if undefined else b"")
    return element(0x00081140, b"SQ", content, datasets.UNDEFINED if undefined else len(content))


REFERENCE: Final = element(0x00081150, b"UI", b"1.2.840.10008.5.1.4.1.1.2\0") + element(0x00081155, b"UI", b"1.2.3.4\0")
FILES: Final[dict[str, bytes]] = {
    "bare explicit": BODY,
    "bare implicit": IMPLICIT_BODY,
    "bare big endian": BIG_ENDIAN_BODY,
    "bare of a high group": element(0x54000100, b"SQ", item(element(0x54001004, b"US", b"\x10\0"))),
    "part 10": meta(EXPLICIT) + BODY,
    "no preamble": meta(EXPLICIT)[132:] + BODY,
    "implicit": meta(IMPLICIT) + IMPLICIT_BODY,
    "big endian": meta(BIG_ENDIAN) + BIG_ENDIAN_BODY,
    "deflated": meta(DEFLATED) + datasets.deflate(BODY),
    "no group length": meta(EXPLICIT, group_length=False) + BODY,
    "no transfer syntax": bytes(128) + b"DICM" + element(0x00020000, b"UL", bytes(4)) + BODY,
    "unknown transfer syntax": meta("1.2.3.4") + BODY,
    "compressed without pixels": meta(JPEG) + BODY,
    "not ascending": STUDY + LEVEL,
    "twice": BODY + element(0x0020000D, b"UI", b"1.2.4\0"),
    "group length": element(0x00080000, b"UL", b"\1\2\0\0") + BODY,
    "group length in an item": sequence(item(element(0x00080000, b"UL", bytes(4)) + REFERENCE)),
    "padded": BODY + element(0xFFFCFFFC, b"OB", b"ab"),
    "needless blanks": element(0x00100020, b"LO", b"a   ") + element(0x00104000, b"LT", b" x  ") + STUDY,
    "odd length": BODY + element(0x00204000, b"LT", b"abc"),
    "explicit sequence": LEVEL + sequence(item(REFERENCE), item()) + STUDY,
    "undefined sequence": LEVEL + sequence(item(REFERENCE, undefined=True), undefined=True) + STUDY,
    "nested sequences": sequence(item(sequence(item(LEVEL), undefined=True)), item(sequence(), undefined=True)),
    "sequence in UN": element(0x00081140, b"UN", item(REFERENCE)) + STUDY,
    "private": element(0x00190010, b"LO", b"NOBODY") + element(0x00191077, b"UN", b"ab"),
    "values": b"".join(
        element(tag, vr, value)
        for tag, vr, value in (
            (0x00080005, b"CS", b"ISO_IR 100"),
            (0x00080008, b"CS", b"A\\B\\C "),
            (0x00100010, b"PN", b"M\xfcller^X"),
            (0x00100020, b"LO", b""),
            (0x00186020, b"SL", struct.pack("<i", -5)),
            (0x0018602C, b"FD", struct.pack("<3d", 1.1, 123456789.123, 1e16)),
            (0x00280009, b"AT", b"\x18\0\x63\x10\x18\0\x64\x10"),
            (0x00280010, b"US", b"\1\0\2\0"),
            (0x00280106, b"SS", b"\xff\xff"),
            (0x00281201, b"OW", bytes(range(64))),
            (0x00420011, b"OB", bytes(5000)),
            (0x00660016, b"OF", struct.pack("<3f", 0.1, 1e20, 3)),
            (0x0072006D, b"UN", b"abcdef"),
            (0x00720076, b"FL", struct.pack("<4f", 0.1, -0.0, 1e-10, 16777217)),
            (0x00720083, b"UV", b"\1" * 8),
            (0x7FE00010, b"OW", bytes(4098)),
        )
    ),
}
REFUSED: Final[dict[str, bytes]] = {
    "empty": b"",
    "text": b"hello world, this is text\n",
    "preamble alone": bytes(128) + b"DICM",
    "one byte": b"\x08",
    "seven bytes": BODY[:7],
    "value cut": BODY[:-3],
    "value cut in a file": meta(EXPLICIT) + BODY[:10],
    "header cut": BODY + b"\x20\0\x10",
    "implicit in name only": meta(IMPLICIT) + BODY,
    "explicit in name only": meta(EXPLICIT) + IMPLICIT_BODY,
    "unknown VR": BODY.replace(b"CS", b"ZZ", 1),
    "garbage for deflated": meta(DEFLATED) + b"garbage here",
    "deflated and cut": meta(DEFLATED) + datasets.deflate(BODY)[:12],
    "compressed": meta(JPEG) + BODY + ENCAPSULATED,
}


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("name", FILES)
def test_query_file_is_sent_as_by_movescu(tmp_path: Path, name: str, syntax: str) -> None:
    path = tmp_path / "query"
    path.write_bytes(FILES[name])
    judge = record(["-v", str(path)], syntax)
    query = read_query(str(path), (), standard())
    assert judge.identifiers == [query.identifier(syntax, standard())]
    assert dumped(judge) == as_printed(query.dump(standard()))


@pytest.mark.parametrize("name", FILES)
def test_keys_take_the_place_of_what_a_query_file_has(tmp_path: Path, name: str) -> None:
    keys = ("0020,000d=9.8", "0008,0060=MR ", "0072,0082=-5", "0008,1140")
    path = tmp_path / "query"
    path.write_bytes(FILES[name])
    judge = record(["-v", *arguments(keys), str(path)])
    query = read_query(str(path), parse_keys(keys, standard()), standard())
    assert judge.identifiers == [query.identifier(EXPLICIT, standard())]
    assert dumped(judge) == as_printed(query.dump(standard()))


@pytest.mark.parametrize("name", REFUSED)
def test_query_file_is_refused_as_by_movescu(tmp_path: Path, name: str) -> None:
    path = tmp_path / "query"
    path.write_bytes(REFUSED[name])
    judge = record(["-ta", "1", str(path)])
    with pytest.raises((BadQueryFile, NotConvertible)) as refused:
        read_query(str(path), (), standard()).identifier(EXPLICIT, standard())
    assert judge.identifiers == []
    assert any(line.endswith(str(refused.value)) for line in judge.lines), judge.lines


def test_query_file_without_a_data_set_has_nothing_to_send(tmp_path: Path) -> None:
    path = tmp_path / "query"
    path.write_bytes(meta(EXPLICIT))
    assert record(["-ta", "1", str(path)]).identifiers == []
    assert read_query(str(path), (), standard()).identifier(EXPLICIT, standard()) == b""


def test_deflated_identifier_is_of_even_length() -> None:
    lengths = set()
    for number in range(8):
        data = Query(parse_keys(("0010,0020=" + "a" * number,), standard())).identifier(DEFLATED, standard())
        stream = zlib.decompressobj(-zlib.MAX_WBITS)
        stream.decompress(data)
        lengths.add((len(data) % 2, stream.unused_data))
    assert lengths == {(0, b""), (0, b"\0")}


UNDEFINED_SEQUENCE: Final = LEVEL + sequence(item(STUDY, undefined=True), undefined=True) + STUDY
EXPLICIT_SEQUENCE: Final = LEVEL + sequence(item(STUDY)) + STUDY


@pytest.mark.parametrize("content", [UNDEFINED_SEQUENCE, EXPLICIT_SEQUENCE], ids=["undefined", "explicit"])
def test_truncated_query_file_is_sent_or_refused_as_by_movescu(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "query"
    for length in range(1, len(content), 3):
        path.write_bytes(content[:length])
        judge = record(["-ta", "1", str(path)])
        try:
            assert [read_query(str(path), (), standard()).identifier(EXPLICIT, standard())] == judge.identifiers, length
        except BadQueryFile as error:
            assert f"E: {error}" in judge.lines, length
