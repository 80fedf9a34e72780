"""Data sets as lines of text, as DCMTK prints them: one for each element, item and delimiter."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from fastmove.cli.movescu.keys import Element
from fastmove.cli.movescu.query import INVALID_STREAM, PREMATURE_END, UNFINISHED_SEQUENCE, UnreadableDataset
from fastmove.cli.movescu.uid_names import shown
from fastmove.dictionary import SIGNED_AS_PIXELS, WRITTEN_AS, has_long_length
from fastmove.uids import EXPLICIT_VR_BIG_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES

if TYPE_CHECKING:
    from fastmove.dictionary import Dictionary

_NAMES: Final = {
    "1.2.840.10008.1.2": "Little Endian Implicit",
    "1.2.840.10008.1.2.1": "Little Endian Explicit",
    "1.2.840.10008.1.2.2": "Big Endian Explicit",
    "1.2.840.10008.1.2.4.50": "JPEG Baseline",
    "1.2.840.10008.1.2.4.70": "JPEG Lossless, Non-hierarchical, 1st Order Prediction",
    "1.2.840.10008.1.2.4.80": "JPEG-LS Lossless",
    "1.2.840.10008.1.2.4.81": "JPEG-LS Lossy (Near-lossless)",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 (Lossless only)",
    "1.2.840.10008.1.2.4.91": "JPEG 2000 (Lossless or Lossy)",
    "1.2.840.10008.1.2.4.92": "JPEG 2000 Part 2 Multicomponent Image Compression (Lossless only)",
    "1.2.840.10008.1.2.4.93": "JPEG 2000 Part 2 Multicomponent Image Compression (Lossless or Lossy)",
    "1.2.840.10008.1.2.4.100": "MPEG2 Main Profile @ Main Level",
    "1.2.840.10008.1.2.4.101": "MPEG2 Main Profile @ High Level",
}
_PROCESSES: Final = re.compile(r" \(Process (\d+)(?: and (\d+))?\)$")
MAX_SHOWN_BYTES: Final = 4096
"""Longer values are not loaded from a file."""

MAX_SHOWN_DEPTH: Final = 100
"""Sequences within each other: the reader is recursive."""

_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
_PIXEL_DATA, _PIXEL_REPRESENTATION = 0x7FE00010, 0x00280103
_UNDEFINED: Final = 0xFFFFFFFF
_UNKNOWN: Final = "??"
_NUMBERS: Final = {"FD": "d", "FL": "f", "SL": "i", "SS": "h", "SV": "q", "UL": "I", "US": "H", "UV": "Q"}
_OTHERS: Final = {"OD": "d", "OF": "f", "OL": "I", "OV": "Q"}  # of one value, whatever there is in it
_TEXTS: Final = frozenset(("LT", "ST", "UR", "UT"))  # where a backslash is a character (PS3.5 6.2)


class Node(NamedTuple):
    """An element or item as it lies there."""

    tag: int
    vr: str
    length: int
    value: bytes = b""
    nodes: tuple[Node, ...] = ()
    in_memory: bool = False


def syntax_name(transfer_syntax: str) -> str:
    """What DCMTK calls a transfer syntax."""
    name = TRANSFER_SYNTAXES[transfer_syntax].name
    numbered = _PROCESSES.sub(lambda found: ", Process " + "+".join(filter(None, found.groups())), name)
    own = numbered.replace("Non-Hierarchical", "Non-hierarchical") if numbered != name else name
    return _NAMES.get(transfer_syntax, own)


def dump(nodes: Iterable[Node], keys: Sequence[Element], transfer_syntax: str, dictionary: Dictionary) -> list[str]:
    """The lines about a data set, with these keys in place of what it has, and the blank ones around them."""
    top = {node.tag: node for node in reversed(tuple(nodes))}
    for key in keys:
        top[key.tag] = Node(key.tag, key.vr, len(key.value), key.value, in_memory=True)
    order = ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    rows = [line for tag in sorted(top) for line in _lines(top[tag], 0, order, dictionary)]
    return ["", "# Dicom-Data-Set", f"# Used TransferSyntax: {syntax_name(transfer_syntax)}", *rows, ""]


def _lines(node: Node, level: int, order: str, dictionary: Dictionary) -> Iterator[str]:
    keyword = dictionary.keyword(node.tag) or "Unknown Tag & Data"
    undefined = node.length == _UNDEFINED
    if node.vr == "pi" or (node.vr != "SQ" and node.tag != _ITEM and not undefined):
        yield _line(level, node.tag, node.vr, *_value(node, "<" if node.in_memory else order), keyword)
        return
    kind, length = ("undefined", "u/l") if undefined else ("explicit", str(node.length))
    what, end = ("Item", "ItemDelimitationItem") if node.tag == _ITEM else ("Sequence", "SequenceDelimitationItem")
    title = "PixelSequence" if node.tag == _PIXEL_DATA else f"{what} with {kind} length"
    yield _line(level, node.tag, node.vr, f"({title} #={len(node.nodes)})".encode(), length, 1, keyword)
    for inner in node.nodes:
        yield from _lines(inner, level + 1, order, dictionary)
    again = "" if undefined else " for re-encoding" if node.tag == _ITEM else " for re-encod."
    tag = _ITEM_END if node.tag == _ITEM else _SEQUENCE_END
    yield _line(level, tag, "na", f"({end}{again})".encode(), "0", 0, end)


def _line(level: int, tag: int, vr: str, value: bytes, length: str, multiplicity: int, keyword: str) -> str:
    start = f"{'  ' * level}({tag >> 16:04x},{tag & 0xFFFF:04x}) {vr} ".encode()
    return os.fsdecode(start + value.ljust(40) + f" # {length:>3},{multiplicity:2} {keyword}".encode())


def _value(node: Node, order: str) -> tuple[bytes, str, int]:
    """What is shown of a value, of its length, and its multiplicity."""
    data = node.value + bytes(len(node.value) % 2)
    vr = WRITTEN_AS.get(node.vr, node.vr)
    if vr in _NUMBERS or vr == "AT":
        numbers = _numbers(data, "HH" if vr == "AT" else _NUMBERS[vr], order)
        text, multiplicity = b"\\".join(_shown_number(vr, number) for number in numbers), len(numbers)
    elif vr in _OTHERS:
        text = b"\\".join(_shown_number(vr, number) for number in _numbers(data, _OTHERS[vr], order))
        multiplicity = 1
    elif vr == "OW" and node.vr != "pi":
        text, multiplicity = b"\\".join(b"%04x" % int(word) for (word,) in _numbers(data, "H", order)), 1
    elif vr in ("OB", "UN", _UNKNOWN, "pi"):
        text, multiplicity = b"\\".join(b"%02x" % byte for byte in data), 1
    else:
        text, multiplicity = _shown_text(node, vr)
    if len(data) > MAX_SHOWN_BYTES and not node.in_memory:
        text = b"(not loaded)"
    return text or b"(no value available)", str(len(data)), multiplicity


def _numbers(data: bytes, code: str, order: str) -> list[tuple[float, ...]]:
    size = struct.calcsize(order + code)
    return list(struct.iter_unpack(order + code, data[: len(data) - len(data) % size]))


def _shown_number(vr: str, number: tuple[float, ...]) -> bytes:
    if vr == "AT":
        return b"(%04x,%04x)" % (int(number[0]), int(number[1]))
    value = number[0] or 0  # no negative zero
    if vr in ("FL", "OF"):
        return b"%.9g" % value
    if vr in ("FD", "OD"):
        return repr(value).removesuffix(".0").encode() if abs(value) < 1 else b"%.17g" % value
    return b"%d" % int(value)


def _shown_text(node: Node, vr: str) -> tuple[bytes, int]:
    odd = len(node.value) % 2
    if vr == "UI":
        text = node.value.replace(b" ", b"").rstrip(b"\0")
        name = shown(text.decode("latin-1"))
        value = name.encode() if name.startswith("=") else b"[%s]" % text if text else b""
    else:
        text = node.value + b"\0" if odd else node.value.rstrip(b" ")
        value = b"[%s]" % text if text else b""
    return value, 0 if not text else 1 if vr in _TEXTS else text.count(b"\\") + 1


# ---------------------------------------------------------------- reading


def read(data: bytes, transfer_syntax: str, dictionary: Dictionary) -> tuple[Node, ...]:
    """The elements of a data set that is not deflated; UnreadableDataset."""
    implicit = transfer_syntax == IMPLICIT_VR_LITTLE_ENDIAN
    order = ">" if transfer_syntax == EXPLICIT_VR_BIG_ENDIAN else "<"
    return _Reader(data, order, dictionary).elements(0, len(data), implicit, None, 0)[0]


class _Reader:
    def __init__(self, data: bytes, order: str, dictionary: Dictionary) -> None:
        self.data = data
        self.order = order
        self.dictionary = dictionary

    def elements(
        self, at: int, end: int, implicit: bool, delimiter: int | None, depth: int
    ) -> tuple[tuple[Node, ...], int]:
        """What is there up to a delimiter or the end, and where that is."""
        if depth > MAX_SHOWN_DEPTH:
            raise UnreadableDataset(PREMATURE_END)
        nodes: list[Node] = []
        creators: dict[int, str] = {}
        signed: bool | None = None
        while at < end:
            tag, vr, length, start = self.header(at, implicit)
            if tag == delimiter:
                return tuple(nodes), start
            if tag & 0x1FF00 == 0x10000 and tag & 0xF0:
                creators[tag >> 16 << 8 | tag & 0xFF] = self.text(start, length)
            if implicit:
                vr = self.implied(tag, creators.get(tag >> 8, ""), signed)
            node, at = self.element(tag, vr, length, start, implicit, depth)
            nodes.append(node)
            if tag == _PIXEL_REPRESENTATION:
                signed = node.value[:2] == struct.pack(self.order + "H", 1)
        return tuple(nodes), at

    def header(self, at: int, implicit: bool) -> tuple[int, str, int, int]:
        """Tag, VR, length, and where the value starts (PS3.5 7.1)."""
        try:
            group, number, vr, length = struct.unpack_from(self.order + "HH2sH", self.data, at)
            tag, letters = group << 16 | number, vr.decode("latin-1")
            if implicit or group == _ITEM >> 16:
                return tag, "na", struct.unpack_from(self.order + "I", self.data, at + 4)[0], at + 8
            if has_long_length(letters):
                return tag, letters, struct.unpack_from(self.order + "I", self.data, at + 8)[0], at + 12
        except struct.error:
            raise UnreadableDataset(PREMATURE_END, cut=True) from None
        return tag, letters, length, at + 8

    def element(self, tag: int, vr: str, length: int, at: int, implicit: bool, depth: int) -> tuple[Node, int]:
        """One element, and where the next one starts."""
        if length != _UNDEFINED and vr != "SQ":
            if at + length > len(self.data):
                cut = at == len(self.data)
                short = length <= MAX_SHOWN_BYTES and not cut
                raise UnreadableDataset(INVALID_STREAM if short else PREMATURE_END, cut)
            return Node(tag, vr, length, self.data[at : at + length]), at + length
        items: list[Node] = []
        next_at = at
        while length == _UNDEFINED or next_at < at + length:
            if next_at >= len(self.data):
                if items:
                    raise UnreadableDataset(UNFINISHED_SEQUENCE)
                break
            item, _, size, start = self.header(next_at, implicit)
            if item == _SEQUENCE_END:
                next_at = start
                break
            if item != _ITEM:
                raise UnreadableDataset(PREMATURE_END)
            if vr != "SQ" and tag == _PIXEL_DATA:
                inner, next_at = self.element(item, "pi", size, start, implicit, depth)
            else:
                item_end, delimiter = (start + size, None) if size != _UNDEFINED else (len(self.data), _ITEM_END)
                within = min(item_end, len(self.data))
                nodes, next_at = self.elements(start, within, implicit or vr == "UN", delimiter, depth + 1)
                inner = Node(item, "na", size, nodes=nodes)
            items.append(inner)
        return Node(tag, vr if tag == _PIXEL_DATA else "SQ", length, nodes=tuple(items)), next_at

    def implied(self, tag: int, creator: str, signed: bool | None) -> str:
        """The VR of an element in implicit VR, in DCMTK's letters."""
        row = self.dictionary.row(tag)
        if row is None:
            return self.dictionary.vr(tag, creator) or _UNKNOWN
        if row[0] == "xs" and tag in SIGNED_AS_PIXELS and signed is not None:
            return "SS" if signed else "US"
        return row[0]

    def text(self, at: int, length: int) -> str:
        return self.data[at : at + length].rstrip(b" \0").decode("latin-1")
