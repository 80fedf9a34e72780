"""Data sets as bytes, written by hand or by chance, and what becomes of them when they are written anew."""

from __future__ import annotations

import os
import random
import struct
import zlib
from pathlib import Path
from tempfile import TemporaryFile
from typing import Final, NamedTuple

from fastmove._transcode import Examination, examine, rewrite
from fastmove.dictionary import WITH_LONG_LENGTH, standard
from fastmove.storage.options import Reencoding

IMPLICIT: Final = "1.2.840.10008.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
BIG_ENDIAN: Final = "1.2.840.10008.1.2.2"
DEFLATED: Final = "1.2.840.10008.1.2.1.99"
JPEG: Final = "1.2.840.10008.1.2.4.70"

UNDEFINED: Final = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
PIXEL_DATA: Final = 0x7FE00010
TRAILING_PADDING: Final = 0xFFFCFFFC
LONG: Final = WITH_LONG_LENGTH | {"ZZ"}
TEXT: Final = ("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "LT", "PN", "SH", "ST", "TM", "UC", "UR", "UT")
NUMBERS: Final = ("AT", "FD", "FL", "OD", "OF", "OL", "OV", "OW", "SL", "SS", "SV", "UL", "US", "UV")
VRS: Final = (*TEXT, *NUMBERS, "OB", "UI", "UN")

SOP_CLASS: Final = b"1.2.840.10008.5.1.4.1.1.2\0"
SOP_INSTANCE: Final = b"1.2.3.4\0"


class Writer(NamedTuple):
    """Writes elements in one of the three encodings (PS3.5 7.1)."""

    explicit_vr: bool = True
    order: str = "<"

    def element(self, tag: int, vr: str | bytes, value: bytes, length: int | None = None) -> bytes:
        head = struct.pack(self.order + "HH", tag >> 16, tag & 0xFFFF)
        length = len(value) if length is None else length
        if not self.explicit_vr or tag in (ITEM, ITEM_END, SEQUENCE_END):
            return head + struct.pack(self.order + "I", length) + value
        letters = vr if isinstance(vr, bytes) else vr.encode()
        if letters.decode("latin-1") in LONG:
            return head + letters + struct.pack(self.order + "HI", 0, length) + value
        return head + letters + struct.pack(self.order + "H", length) + value

    def item(self, content: bytes = b"", length: int | None = None) -> bytes:
        return self.element(ITEM, "", content, length)

    def open_item(self, content: bytes = b"") -> bytes:
        return self.item(content + self.element(ITEM_END, "", b""), UNDEFINED)

    def sequence(self, tag: int, items: bytes, vr: str = "SQ") -> bytes:
        return self.element(tag, vr, items)

    def open_sequence(self, tag: int, items: bytes, vr: str = "SQ") -> bytes:
        return self.element(tag, vr, items + self.element(SEQUENCE_END, "", b""), UNDEFINED)

    @property
    def head(self) -> bytes:
        return self.element(0x00080016, "UI", SOP_CLASS) + self.element(0x00080018, "UI", SOP_INSTANCE)


LITTLE: Final = Writer()
BIG: Final = Writer(order=">")
BARE: Final = Writer(explicit_vr=False)
WRITERS: Final = {IMPLICIT: BARE, BIG_ENDIAN: BIG}
HEAD: Final = LITTLE.head
element, item, open_item = LITTLE.element, LITTLE.item, LITTLE.open_item
sequence, open_sequence = LITTLE.sequence, LITTLE.open_sequence


def deflate(data: bytes) -> bytes:
    """A raw deflate stream (PS3.5 A.5)."""
    stream = zlib.compressobj(wbits=-15)
    return stream.compress(data) + stream.flush()


def examined(data: bytes, syntax: str = EXPLICIT, **options: object) -> Examination:
    """What examine() finds, the data set being in the middle of a file."""
    with TemporaryFile(buffering=0) as file:
        file.write(b"head" + data + b"tail")
        return examine(file.fileno(), 4, len(data), syntax, Reencoding(**options), standard())


def rewritten(data: bytes, syntax: str = EXPLICIT, *, start: int = 5, **options: object) -> bytes:
    """What rewrite() writes, the data set being in the middle of a file, and the output behind a head."""
    with TemporaryFile(buffering=0) as file, TemporaryFile(buffering=0) as out:
        file.write(b"head" + data + b"tail")
        length = rewrite(file.fileno(), 4, len(data), syntax, out.fileno(), start, Reencoding(**options), standard())
        assert os.fstat(out.fileno()).st_size == (start + length if length else 0)
        return os.pread(out.fileno(), length, start)


class Chance:
    """Data sets by chance.

    Broken ones have wrong lengths, stray delimiters, VRs that are none, and end anywhere.  Tame ones are in ascending
    order and have no odd lengths, so that what an element is depends on nothing that writing them anew would change.
    """

    TAGS: Final = (
        *(0x00080001, 0x00080005, 0x00080008, 0x00080020, 0x00080060, 0x00081030, 0x00089999, 0x00100010, 0x00100020),
        *(0x00180050, 0x00181000, 0x00189602, 0x00189810, 0x0020000D, 0x00200013, 0x00280002, 0x00280010, 0x00280100),
        *(0x00280103, 0x00280106, 0x00281101, 0x00283006, 0x00409224, 0x50003000, 0x60003000, 0x60020010, 0x00700022),
        *(0x00720061, 0x00720065, 0x00720082, PIXEL_DATA, TRAILING_PADDING),
    )
    SEQUENCES: Final = (0x00081115, 0x00081140, 0x00091010, 0x00189999, 0x00283010, 0x00400275, 0x0040A730, 0x00880200)
    PRIVATE: Final = (0x00090010, 0x00091001, 0x00091008, 0x00290010, 0x00290011, 0x00291008, 0x00291010, 0x00291108)
    CREATORS: Final = (b"SIEMENS CSA HEADER", b"SIEMENS CSA HEADER  ", b"ACUSON", b"ABC ", b"GEMS_IDEN_01")
    GROUP_LENGTHS: Final = (0x00080000, 0x00090000, 0x00100000, 0x00280000)

    def __init__(self, seed: int, syntax: str = EXPLICIT, *, broken: bool = False, tame: bool = False) -> None:
        self.random = random.Random(seed)
        self.syntax = syntax
        self.broken = broken
        self.tame = tame

    def seldom(self, probability: float = 0.03) -> bool:
        return self.broken and self.random.random() < probability

    def dataset(self) -> bytes:
        writer = WRITERS.get(self.syntax, LITTLE)
        data = writer.head + self.content(writer, 0)
        if self.seldom(0.3):
            data = data[: self.random.randrange(len(data) + 1)]
        if len(data) % 2:  # as what comes by PDVs never is
            data += b"\0" if self.broken else writer.element(0xFFF10011, "LO", b"a")
        if self.syntax == DEFLATED:
            data = deflate(data)
        return data + bytes(len(data) % 2)

    def content(self, writer: Writer, depth: int) -> bytes:
        choose = self.random.choice
        tags = [choose(self.TAGS) for _ in range(self.random.randrange(6))]
        tags += [choose(self.PRIVATE) for _ in range(choose((0, 0, 0, 2, 4)))]
        tags += [choose(self.GROUP_LENGTHS)] if self.random.random() < 0.3 else []
        tags += [choose(self.SEQUENCES) for _ in range(choose((0, 0, 1, 1, 2)) if depth < 4 else 0)]
        if self.tame or self.random.random() < 0.75:
            tags = sorted(set(tags))
        else:
            self.random.shuffle(tags)
        return b"".join(self.one(writer, tag, depth) for tag in tags)

    def one(self, writer: Writer, tag: int, depth: int) -> bytes:
        choose = self.random.choice
        if tag in self.SEQUENCES:
            return self.sequence(writer, tag, depth)
        if self.seldom(0.01):
            return writer.element(choose((ITEM, ITEM_END, SEQUENCE_END)), "", b"")
        vr = standard().vr(tag) or choose(VRS)
        if tag & 0xFFFF == 0:
            return writer.element(tag, "UL", choose((bytes(4), b"\x10\0\0\0")))
        if tag & 0xFFFF in (0x10, 0x11) and tag >> 16 & 1:
            return writer.element(tag, "LO", choose(self.CREATORS))
        if tag == PIXEL_DATA and self.syntax not in (IMPLICIT, EXPLICIT, BIG_ENDIAN, DEFLATED):
            fragments = (item(self.value("OB")) for _ in range(self.random.randrange(4)))
            return open_sequence(tag, b"".join(fragments), "OB")
        vr = choose(VRS) if self.random.random() < 0.15 else vr
        value = self.value(vr)
        value += bytes(len(value) % 2) if self.tame else b""
        length = max(0, len(value) + choose((-2, 2, 4, 100))) if self.seldom() else len(value)
        return writer.element(tag, choose((b"ZZ", b"zz", b"\0\0", b"Ab")) if self.seldom() else vr, value, length)

    def value(self, vr: str) -> bytes:
        length = self.random.choice((0, 1, 2, 2, 3, 4, 4, 4, 6, 7, 8, 8, 10, 16, 20))
        if vr == "UI":
            return bytes(self.random.choices(b"0123456789......  \0", k=length))
        if vr in TEXT:
            padding = b" " * self.random.choice((0, 0, 0, 1, 2, 5)) + bytes(self.random.choice((0, 0, 0, 1, 2)))
            return bytes(self.random.choices(b"abcAB12\\", k=length)) + padding
        return self.random.randbytes(length)

    def sequence(self, writer: Writer, tag: int, depth: int) -> bytes:
        unknown = writer.explicit_vr and self.random.random() < 0.15
        inner = BARE if unknown else writer
        items = b""
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            content = self.content(inner, depth + 1)
            wrong = self.random.choice((-2, 2, 8, 100)) if self.seldom(0.05) and len(content) > 8 else 0
            undefined = self.random.random() < 0.5
            items += inner.open_item(content) if undefined else inner.item(content, len(content) + wrong)
        if unknown:
            return writer.element(tag, "UN", items + BARE.element(SEQUENCE_END, "", b""), UNDEFINED)
        return writer.open_sequence(tag, items) if self.random.random() < 0.5 else writer.sequence(tag, items)


def peak_kib(*, anew: bool = False) -> int:
    """The most memory that this process has had, in KiB; anew: from now on."""
    if anew:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])
