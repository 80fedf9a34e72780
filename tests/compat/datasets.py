"""Kinds of data sets as raw bytes: what a PACS may send, and what it should not.

The well-formed ones are written by pydicom, the others by hand.  No two instances of a group share a UID.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from io import BytesIO
from typing import Final

from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence as Items
from pydicom.tag import Tag

from tests.compat.script import Object
from tests.integration import raw

IMPLICIT, EXPLICIT = raw.IMPLICIT_LE, raw.EXPLICIT_LE
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG: Final = "1.2.840.10008.1.2.4.50"
RLE: Final = "1.2.840.10008.1.2.5"
SYNTAX_NAMES: Final = {IMPLICIT: 1, EXPLICIT: 2, BIG_ENDIAN: 3, DEFLATED: 4, JPEG: 5, RLE: 6}
UNDEFINED: Final = 0xFFFFFFFF
LONG_VRS: Final = (b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"SQ", b"UN", b"UT", b"UC", b"UR", b"SV", b"UV", b"ZZ")

# ---------------------------------------------------------------- written by pydicom


def base(instance: str) -> Dataset:
    """What every object has."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = raw.CT_IMAGE, instance
    dataset.Modality, dataset.PatientID, dataset.PatientName = "CT", "P1", "Doe^John"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = "1.2.3", "1.2.3.1"
    return dataset


def encode(dataset: Dataset, syntax: str) -> bytes:
    """The data set alone in this transfer syntax."""
    buffer = BytesIO()
    out = DicomIO(buffer)
    out.is_little_endian, out.is_implicit_VR = syntax != BIG_ENDIAN, syntax == IMPLICIT
    write_dataset(out, dataset)
    return deflate(buffer.getvalue()) if syntax == DEFLATED else buffer.getvalue()


def deflate(data: bytes) -> bytes:
    """A raw deflate stream, padded to even length (PS3.5 A.5)."""
    compressor = zlib.compressobj(wbits=-15)
    packed = compressor.compress(data) + compressor.flush()
    return packed + bytes(len(packed) % 2)


def plain(dataset: Dataset) -> None:
    """16-bit pixels."""
    dataset.Rows = dataset.Columns = 8
    dataset.BitsAllocated, dataset.PixelRepresentation = 16, 0
    dataset.add_new(0x7FE00010, "OW", bytes(range(128)))


def sequences(dataset: Dataset) -> None:
    """Sequences and items of both length kinds, empty ones, empty items, three levels deep."""
    dataset.ReferencedStudySequence = nested(3, undefined=False)
    dataset.ReferencedSeriesSequence = nested(3, undefined=True)
    dataset["ReferencedSeriesSequence"].is_undefined_length = True
    dataset.ReferencedImageSequence = Items()
    dataset.SourceImageSequence = Items([Dataset(), Dataset()])
    dataset.RequestAttributesSequence = Items()
    dataset["RequestAttributesSequence"].is_undefined_length = True


def nested(depth: int, *, undefined: bool) -> Items:
    """A sequence of two items, the first with another one inside."""
    item = Dataset()
    item.CodeValue, item.CodeMeaning = str(depth), "odd"
    if depth > 1:
        item.ConceptCodeSequence = nested(depth - 1, undefined=not undefined)
        item["ConceptCodeSequence"].is_undefined_length = not undefined
    item.is_undefined_length_sequence_item = undefined
    return Items([item, Dataset()])


def private(dataset: Dataset) -> None:
    """A private block with elements of several VRs, a private sequence, an element without a creator."""
    block = dataset.private_block(0x0009, "COMPAT TEST", create=True)
    for number, (vr, value) in enumerate(
        (("LO", "text"), ("UN", b"\1\2\3\4"), ("US", [1, 2]), ("FD", 1.5), ("OB", b"ab"))
    ):
        block.add_new(number, vr, value)
    item = Dataset()
    item.PatientComments = "inside"
    block.add_new(0x10, "SQ", Items([item]))
    dataset.add_new(0x00111101, "LO", "orphan")


VALUES: Final = {  # one element of each VR
    0x00080005: ("CS", "ISO_IR 100"),
    0x00080012: ("DA", "20240229"),
    0x00080013: ("TM", "120000.5"),
    0x0008002A: ("DT", "20240229120000.123+0100"),
    0x00080050: ("SH", "A1"),
    0x00080054: ("AE", "STORE"),
    0x00080119: ("UC", "unlimited characters"),
    0x00080120: ("UR", "http://example.org/x"),
    0x00081030: ("LO", "Stäbchen"),
    0x00081150: ("UI", "1.2.840.10008.1.1"),
    0x00101010: ("AS", "031Y"),
    0x00104000: ("LT", "long text\r\nsecond line"),
    0x00181063: ("DS", ["1.50", "-2"]),
    0x00186020: ("SL", [-5, 6]),
    0x00189219: ("SS", -7),
    0x00200013: ("IS", "12"),
    0x00280010: ("US", 8),
    0x00280009: ("AT", [0x00181063, 0x00181065]),
    0x00400551: ("LO", ["a", "", "b"]),
    0x0040A160: ("UT", "unlimited text"),
    0x00089459: ("FL", [1.25, -2.5]),
    0x00089087: ("FD", 0.1),
    0x00089036: ("OF", struct.pack("<2f", 1.0, 2.0)),
    0x00701A0A: ("OD", struct.pack("<2d", 1.0, 2.0)),
    0x00660040: ("OL", struct.pack("<2I", 1, 2)),
    0x7FE00001: ("OV", struct.pack("<2Q", 1, 2)),
    0x00283010: ("SQ", Items()),
    0x00720082: ("SV", [-1, 2]),
    0x00720083: ("UV", [1, 2]),
    0x00186000: ("DS", "1"),
    0x00186018: ("UL", [1, 2]),
    0x00420011: ("OB", b"%PDF"),
    0x54001010: ("OW", b"\1\2\3\4"),
    0x00190010: ("LO", "UNKNOWN"),
    0x00191001: ("UN", b"\1\2\3\4\5\6"),
}


def every_vr(dataset: Dataset) -> None:
    """An element of each VR."""
    for tag, (vr, value) in VALUES.items():
        dataset.add_new(tag, vr, value)


def group_lengths(dataset: Dataset) -> None:
    """Group length elements: right for none of the groups, one within an item."""
    for group in (0x0008, 0x0010, 0x0020):
        dataset.add_new(Tag(group, 0), "UL", 4242)
    item = Dataset()
    item.add_new(0x00080000, "UL", 7)
    item.CodeValue = "1"
    dataset.ConceptNameCodeSequence = Items([item])


def padded(dataset: Dataset) -> None:
    """Data set trailing padding, at the end and within an item."""
    item = Dataset()
    item.CodeValue = "1"
    item.add_new(0xFFFCFFFC, "OB", bytes(8))
    dataset.ConceptNameCodeSequence = Items([item])
    dataset.add_new(0xFFFCFFFC, "OB", bytes(32))


def encapsulated(dataset: Dataset) -> None:
    """Two frames in fragments, behind a sequence of undefined length."""
    sequences(dataset)
    dataset.NumberOfFrames, dataset.BitsAllocated = 2, 8
    frames = [b"\xff\xd8" + bytes((number,)) * 100 + b"\xff\xd9" for number in (1, 2)]
    dataset.add_new(0x7FE00010, "OB", encapsulate(frames, fragments_per_frame=2))
    dataset["PixelData"].is_undefined_length = True


FILLS: Final = (plain, sequences, private, every_vr, group_lengths, padded)


def group_of(syntaxes: Iterable[str], fills: Iterable[object] = FILLS) -> tuple[Object, ...]:
    """Every kind in every one of these transfer syntaxes."""
    objects = []
    for syntax in syntaxes:
        for number, fill in enumerate(fills):
            instance = f"1.2.3.1.{SYNTAX_NAMES[syntax]}.{number}"
            dataset = base(instance)
            fill(dataset)  # type: ignore[operator]
            objects.append(Object(instance, encode(dataset, syntax), transfer_syntax=syntax))
    return tuple(objects)


# ---------------------------------------------------------------- written by hand


def element(tag: int, vr: bytes, value: bytes, length: int | None = None) -> bytes:
    """An explicit VR little endian element; `length` may lie."""
    size = len(value) if length is None else length
    head = struct.pack("<HH2s", tag >> 16, tag & 0xFFFF, vr)
    return head + (struct.pack("<HI", 0, size) if vr in LONG_VRS else struct.pack("<H", size)) + value


def item(content: bytes = b"", *, undefined: bool = False) -> bytes:
    """A sequence item."""
    size = UNDEFINED if undefined else len(content)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0) if undefined else b""
    return struct.pack("<HHI", 0xFFFE, 0xE000, size) + content + end


SEQUENCE_END: Final = struct.pack("<HHI", 0xFFFE, 0xE0DD, 0)
CLASS: Final = element(0x00080016, b"UI", raw.uid(raw.CT_IMAGE))
PATIENT: Final = element(0x00100010, b"PN", b"Doe^John")
CODE: Final = element(0x00080100, b"SH", b"1 ")


def by_hand(number: int, rest: bytes, *, before: bytes = CLASS, syntax: str = EXPLICIT) -> Object:
    """An object of these bytes: class, instance UID, the rest."""
    instance = f"1.2.3.1.7.{number}"
    data = before + element(0x00080018, b"UI", raw.uid(instance)) + rest
    return Object(instance, deflate(data) if syntax == DEFLATED else data, transfer_syntax=syntax)


def implicit_sequence() -> bytes:
    """A sequence item's content in implicit VR, as UN of undefined length has it (PS3.5 6.2.2)."""
    return item(raw.element(0x00080100, b"1 "), undefined=True) + SEQUENCE_END


def deep(depth: int) -> bytes:
    """Sequences within sequences."""
    content = CODE
    for _ in range(depth):
        content = element(0x00081140, b"SQ", item(content))
    return content


DEEP: Final = by_hand(19, deep(40))  # the real program's time for +g doubles with every level

ODD: Final = {  # readable, but not as it should be
    "unsorted": by_hand(1, element(0x00200013, b"IS", b"1 ") + PATIENT),
    "duplicate": by_hand(2, PATIENT + element(0x00100010, b"PN", b"Other ")),
    "redundant blanks": by_hand(3, element(0x00100010, b"PN", b"Doe       ") + element(0x00100020, b"LO", b"  ")),
    "null padding": by_hand(4, element(0x00100020, b"LO", b"P\0\0\0") + element(0x00104000, b"LT", b"x\0")),
    "blanks in a UID": by_hand(5, element(0x0020000D, b"UI", b"1.2.3 ") + element(0x0020000E, b"UI", b" 1.2 3\0\0")),
    "odd length": by_hand(6, element(0x00100020, b"LO", b"abc") + element(0x00104000, b"LT", b"x")),
    "UN of undefined length": by_hand(7, element(0x00081140, b"UN", implicit_sequence(), UNDEFINED)),
    "UN of a known tag": by_hand(8, element(0x00100010, b"UN", b"Doe^John") + element(0x00280010, b"UN", b"\1\0")),
    "sequence as UN": by_hand(9, element(0x00081140, b"UN", item(raw.element(0x00080100, b"1 ")))),
    "unknown VR": by_hand(10, element(0x00190010, b"LO", b"X ") + element(0x00191001, b"ZZ", b"abcd")),
    "unknown VR of small letters": by_hand(18, element(0x00190010, b"LO", b"X ") + element(0x00191001, b"z1", b"abcd")),
    "another VR": by_hand(11, element(0x00100010, b"LO", b"Doe^John") + element(0x00280010, b"UL", b"\1\0\0\0")),
    "item of undefined length in a sequence of defined": by_hand(
        12, element(0x00081140, b"SQ", item(CODE, undefined=True))
    ),
    "group 0002 inside": by_hand(13, PATIENT, before=element(0x00020010, b"UI", raw.uid(EXPLICIT)) + CLASS),
    "private sequence without a creator": by_hand(14, element(0x00231001, b"SQ", item(CODE))),
    "long value of a short VR": by_hand(15, element(0x00104000, b"LT", b"x" * 65534)),
    "nested ten deep": by_hand(16, deep(10)),
    "deflated": by_hand(17, PATIENT, syntax=DEFLATED),
}


PIXELS: Final = element(0x7FE00010, b"OW", bytes(range(250)) * 8, 4000)

DAMAGED: Final = {  # not readable to the end, or not what the command says
    "value cut short": by_hand(1, PATIENT[:-4]),
    "pixel data cut short": by_hand(30, PIXELS),
    "pixel data cut short, implicit": Object(
        "1.2.3.1.7.31", raw.dataset("1.2.3.1.7.31")[:-100], transfer_syntax=IMPLICIT
    ),
    "header cut short": by_hand(2, PATIENT + b"\x20\0\x0d\0"),
    "length beyond the end": by_hand(3, element(0x00100010, b"PN", b"Doe^", 4000)),
    "huge length": by_hand(4, element(0x7FE00010, b"OW", b"ab", 0xFFFFFFF0)),
    "sequence without an end": by_hand(5, element(0x00081140, b"SQ", item(CODE), UNDEFINED)),
    "item without an end": by_hand(6, element(0x00081140, b"SQ", item(CODE, undefined=True)[:-8], UNDEFINED)),
    "item longer than its sequence": by_hand(7, element(0x00081140, b"SQ", item(CODE), 12) + PATIENT),
    "no item in a sequence": by_hand(8, element(0x00081140, b"SQ", PATIENT)),
    "delimiter at the top": by_hand(9, SEQUENCE_END + PATIENT),
    "garbage": Object("1.2.3.1.7.10", b"\xfe\xed" * 500),
    "zeros": Object("1.2.3.1.7.11", bytes(24)),
    "text": Object("1.2.3.1.7.12", b"GET / HTTP/1.1\r\nHost: example \r\n\r\n"),
    "empty": Object("1.2.3.1.7.13", b""),
    "no SOP class": Object("1.2.3.1.7.14", element(0x00080018, b"UI", b"1.2.3.1.7.14") + PATIENT),
    "no SOP instance": Object("1.2.3.1.7.15", CLASS + PATIENT),
    "neither": Object("1.2.3.1.7.16", PATIENT),
    "another SOP class": by_hand(17, PATIENT, before=element(0x00080016, b"UI", raw.uid(raw.MR_IMAGE))),
    "another SOP instance": Object("1.2.3.1.7.18", CLASS + element(0x00080018, b"UI", b"1.2.3.99") + PATIENT),
    "deflated, not at all": Object("1.2.3.1.7.20", by_hand(20, PATIENT).data, transfer_syntax=DEFLATED),
    "implicit announced, explicit sent": Object("1.2.3.1.7.21", by_hand(21, PATIENT).data, transfer_syntax=IMPLICIT),
    "explicit announced, implicit sent": Object("1.2.3.1.7.22", raw.dataset("1.2.3.1.7.22")),
    "big endian announced, little sent": Object("1.2.3.1.7.23", by_hand(23, PATIENT).data, transfer_syntax=BIG_ENDIAN),
}
