"""The data dictionary: VR and keyword by tag, tag by keyword (PS3.6), as DCMTK 3.6.7 has them.

Keywords of retired attributes have its prefix `RETIRED_`; they are found without it, too.  The rows are text, which is
searched as it is: what a command asks for is little, and to read five thousand rows takes longer than to search them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Final

from fastmove.values import Value

RETIRED: Final = "RETIRED_"
GROUP_LENGTH: Final = "GenericGroupLength"
DELIMITERS: Final = (0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD)

# Where PS3.6 leaves the choice, the rows have DCMTK's letters: xs US or SS, ox OB or OW, lt LUT data, px pixel data,
# up offset in a DICOMDIR.  This is what it writes if nothing else in the data set decides; an item tag has none.
WRITTEN_AS: Final[dict[str, str]] = {"xs": "US", "ox": "OB", "lt": "OW", "px": "OW", "up": "UL", "na": "UN"}

# US or SS as Pixel Representation says, if it precedes in the same item; the other attributes of xs are always US.
SIGNED_AS_PIXELS: Final = frozenset(
    (0x00189810, 0x00280106, 0x00280107, 0x00280108, 0x00280109, 0x00280120, 0x00280121, 0x00283002)
    + (0x00409211, 0x00409216, 0x00603004, 0x00603006)
)

VRS: Final = frozenset(
    ("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT", "OB", "OD", "OF", "OL", "OV", "OW", "PN")
    + ("SH", "SL", "SQ", "SS", "ST", "SV", "TM", "UC", "UI", "UL", "UN", "UR", "US", "UT", "UV")
)

# VRs whose length field has 32 bits in explicit VR (PS3.5 7.1.2).
WITH_LONG_LENGTH: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"))


def has_long_length(vr: str) -> bool:
    """True if the length field has 32 bits: those that PS3.5 7.1.2 names, and VRs still to come."""
    return vr in WITH_LONG_LENGTH or (vr not in VRS and vr.isalpha() and vr.isupper())


_RECORD: Final = struct.Struct("<I2s2x")
_RANGE_RECORD: Final = struct.Struct("<4H2B2s4x")
_PARITY: Final = {"": 0, "o": 1, "u": 2}  # which numbers of a range: even, odd, all


class Numbers(Value):
    """A range of group or element numbers."""

    first: int
    last: int
    parity: int = 0
    """0 even, 1 odd, 2 all."""

    def __contains__(self, number: int) -> bool:
        return self.first <= number <= self.last and self.parity in (2, number % 2)


class Range(Value):
    """Attributes that share a row: repeating groups (PS3.5 7.6), private creators, group lengths."""

    groups: Numbers
    elements: Numbers
    vr: str
    keyword: str

    def __contains__(self, tag: int) -> bool:
        return tag >> 16 in self.groups and tag & 0xFFFF in self.elements


class Dictionary:
    """Attributes by tag and by keyword; `rows` is `tttttttt VR Keyword` a line, `private` a line for each creator."""

    def __init__(
        self,
        rows: str,
        ranges: Iterable[Range] = (),
        private: str = "",
        errors: Iterable[str] = (),
        loaded: bool = True,
    ) -> None:
        self._rows: Final = "\n" + rows
        self._private: Final = "\n" + private
        self.ranges: Final = tuple(ranges)
        self.errors: Final = tuple(errors)
        """Console lines about files that could not be read."""

        self.loaded: Final = loaded
        """False if no file was without error: then no data set can be read or sent."""

    def row(self, tag: int) -> tuple[str, str] | None:
        """VR, in DCMTK's letters where PS3.6 leaves a choice, and keyword of an attribute that is not private."""
        at = self._rows.find(f"\n{tag:08x} ") + 1
        if at:
            vr, keyword = self._rows[at + 9 : self._rows.index("\n", at)].split(" ")
            return vr, keyword
        return next(((row.vr, row.keyword) for row in self.ranges if tag in row), None)

    def vr(self, tag: int, creator: str = "") -> str | None:
        """The VR that an attribute is written with; None if it is unknown.  Private elements have a creator."""
        row = self.row(tag)
        if row:
            return WRITTEN_AS.get(row[0], row[0])
        private = self._private_of(creator) if creator else {}
        return private.get(tag) or private.get(tag & 0xFFFF00FF)

    def keyword(self, tag: int) -> str | None:
        """None if the attribute is unknown or private."""
        row = self.row(tag)
        return row[1] if row else None

    @property
    def keywords(self) -> list[str]:
        """Those of all attributes that have a row of their own."""
        return self._rows.split()[2::3]

    def tag(self, keyword: str) -> int | None:
        """The (first) tag with this keyword; retired ones with or without their prefix."""
        if not keyword.isascii() or " " in keyword or "\n" in keyword:
            return None
        for name in (keyword, RETIRED + keyword):
            end = self._rows.find(f" {name}\n")
            if end >= 0:
                return int(self._rows[end - 11 : end - 3], 16)
            for row in self.ranges:
                if row.keyword == name:
                    return row.groups.first << 16 | row.elements.first
        return None

    @cached_property
    def table(self) -> bytes:
        """Records of 8 bytes in ascending order: tag (little endian), VR written, two zeros.

        The VR of SIGNED_AS_PIXELS is xs.  What is not in it may be in `range_table`.
        """
        words = self._rows.split()
        tags = bytes.fromhex("".join(words[0::3]))
        vrs = "".join(WRITTEN_AS.get(vr, vr) for vr in words[1::3]).encode()
        records = bytearray(len(tags) * 2)
        for byte in range(4):
            records[byte::8] = tags[3 - byte :: 4]
        records[4::8], records[5::8] = vrs[0::2], vrs[1::2]
        for tag in SIGNED_AS_PIXELS:
            row = self.row(tag)
            if row and row[0] == "xs":
                at = records.index(_RECORD.pack(tag, b"US"))
                records[at + 4 : at + 6] = b"xs"
        return bytes(records)

    @cached_property
    def range_table(self) -> bytes:
        """Records of 16 bytes, of which the first that contains a tag counts.

        First and last group, first and last element (each u16, little endian), parity of the groups and of the
        elements (a byte each: 0 even, 1 odd, 2 all), VR written, four zeros.
        """
        return b"".join(
            _RANGE_RECORD.pack(
                *(row.groups.first, row.groups.last, row.elements.first, row.elements.last),
                *(row.groups.parity, row.elements.parity, WRITTEN_AS.get(row.vr, row.vr).encode()),
            )
            for row in self.ranges
        )

    def private_table(self, creator: str) -> bytes:
        """Like `table` for the elements of a private creator (PS3.5 7.8.1); an element gggg00ee may lie in any block.

        One that is gggg10ee, say, lies in this block only; it precedes the other.
        """
        return b"".join(_RECORD.pack(tag, vr.encode()) for tag, vr in sorted(self._private_of(creator).items()))

    def _private_of(self, creator: str) -> dict[int, str]:
        at = self._private.find(f"\n{creator}\t") + 1
        line = self._private[at : self._private.index("\n", at)] if at else ""
        words = line.partition("\t")[2].split()
        return {int(word[:8].replace("x", "0"), 16): WRITTEN_AS.get(word[8:], word[8:]) for word in words}


@cache
def standard() -> Dictionary:
    """What comes with the package."""
    directory = Path(__file__).parent
    rows, _, ranges = (directory / "dictionary.txt").read_text("ascii").partition("\n(")
    private = (directory / "dictionary_private.txt").read_text("utf-8")
    return Dictionary(rows + "\n", map(_range, f"({ranges}".splitlines()), private)


def table() -> bytes:
    """`Dictionary.table` of the standard dictionary."""
    return standard().table


def _range(line: str) -> Range:
    place, vr, keyword = line.split(" ")
    groups, elements = place[1:-1].split(",")
    return Range(_numbers(groups), _numbers(elements), vr, keyword)


def _numbers(text: str) -> Numbers:
    """`6000-60ff`: the even ones; `0009-o-ffff`: the odd ones; `0010-u-00ff`: all; ValueError for anything else."""
    parts = text.split("-")
    parity = _PARITY.get(parts[1], -1) if len(parts) == 3 else 0 if len(parts) == 2 else 2
    first, last = int(parts[0], 16), int(parts[-1], 16)
    if parity < 0 or len(parts) > 3 or not 0 <= first <= last <= 0xFFFF:
        raise ValueError(text)
    return Numbers(first, last, parity)


def load(paths: str) -> Dictionary:
    """The dictionary of these files, joined by colons as in DCMDICTPATH; the standard one if there are none.

    They replace it, but for item tags and group lengths, and of two rows for the same the later one counts.  A line is
    the place, VR, keyword, and perhaps VM and more, parted by tabs.  What cannot be read is in `errors`, and left out.
    """
    files = [path for path in paths.split(":") if path]
    if not files:
        return standard()
    found = _Rows()
    complete = [found.read(path) for path in files]
    rows = "".join(f"{tag:08x} {vr} {keyword}\n" for tag, (vr, keyword) in sorted(found.single.items()))
    private = "".join(f"{creator}\t{' '.join(words)}\n" for creator, words in found.private.items())
    always = (row for row in standard().ranges if row.keyword == GROUP_LENGTH)
    return Dictionary(rows, (*found.ranges, *always), private, found.errors, any(complete))


class _Rows:
    """What was read from dictionary files."""

    def __init__(self) -> None:
        self.single = {tag: row for tag in DELIMITERS if (row := standard().row(tag))}
        self.ranges: list[Range] = []
        self.private: dict[str, list[str]] = {}
        self.errors: list[str] = []

    def read(self, path: str) -> bool:
        """True if all of the file could be read."""
        before = len(self.errors)
        try:
            lines = Path(path).read_text("latin-1").splitlines()
        except OSError:
            lines = []
            self.errors.append(f"DcmDataDictionary: Cannot open file: {path}")
        for number, line in enumerate(lines, 1):
            fields = line.strip().split("\t")
            if line.strip() and not line.lstrip().startswith("#"):
                wrong = self._add([field.strip() for field in fields])
                if wrong:
                    self.errors.append(f"DcmDataDictionary: {path}: {wrong.format(number)}")
        return len(self.errors) == before

    def _add(self, fields: list[str]) -> str:
        """What is wrong with a row, with `{}` in place of its number."""
        if len(fields) < 3:
            return "too few fields (line {})"
        place, vr, keyword, vm = (*fields, "1")[:4]
        parts = place[1:-1].split(",") if place[:1] + place[-1:] == "()" else []
        try:
            groups, elements = _numbers(parts[0]), _numbers(parts[1:][-1])
        except (ValueError, IndexError):
            return f"bad Tag field (line {{}}): {place}"
        if vr not in VRS and vr not in WRITTEN_AS:
            return f"bad VR field (line {{}}): {vr}"
        if not vm[:1].isdigit():
            return f"bad VM field (line {{}}): {vm}"
        if len(parts) > 2:
            self._add_private(groups, ",".join(parts[1:-1]).strip('"'), parts[-1].lower(), vr)
        elif groups.first == groups.last and elements.first == elements.last:
            self.single[groups.first << 16 | elements.first] = (vr, keyword)
        else:
            self.ranges.insert(0, Range(groups, elements, vr, keyword))
        return ""

    def _add_private(self, groups: Numbers, creator: str, element: str, vr: str) -> None:
        place = element if len(element) == 4 else f"xx{element[-2:]}"
        words = self.private.setdefault(creator, [])
        words += [f"{group:04x}{place}{vr}" for group in range(groups.first, groups.last + 1) if group in groups]
