"""Identifiers of C-MOVE: what query files and -k say, in the transfer syntax of the presentation context."""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fastmove.cli.movescu.keys import NUMBERS, Element
from fastmove.dictionary import VRS, WITH_LONG_LENGTH, has_long_length
from fastmove.errors import DatasetError, UnwritableDataset
from fastmove.limits import MAX_IDENTIFIER_BYTES
from fastmove.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.cli.movescu.dataset_dump import Node
    from fastmove.dictionary import Dictionary

TRAILING_PADDING: Final = 0xFFFCFFFC
DEFAULT_COMPRESSION: Final = -1
MAX_SHORT_LENGTH: Final = 0xFFFE
MIN_DATA_SET_BYTES: Final = 12
"""Of a file without file meta information: DCMTK takes a shorter one for damaged."""


_UNIT: Final = {"AT": 2, "OB": 1, "UN": 1}  # bytes that change places in big endian, where not those of a number
_ARRAY_OF: Final = {2: "H", 4: "I", 8: "Q"}


PREMATURE_END: Final = "I/O suspension or premature end of stream"
INVALID_STREAM: Final = "Invalid stream"
UNFINISHED_SEQUENCE: Final = "Sequence Delimitation Item missing"

_PREAMBLE_BYTES: Final = 128
_FILE_META_GROUP: Final = 0x0002
_TRANSFER_SYNTAX_UID: Final = 0x00020010


class UnreadableDataset(Exception):
    """A data set that ends too early; `cut` if before a value: stored objects may."""

    def __init__(self, reason: str, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


class BadQueryFile(Exception):
    """A query file that cannot be read; `reason` is what DCMTK says of such a file."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"bad DICOM file: {path}: {reason}")
        self.path = path
        self.reason = reason


class NotConvertible(Exception):
    """A query that cannot be written in the transfer syntax of the presentation context: it is compressed."""

    def __init__(self, transfer_syntax: str, wanted: str) -> None:
        from fastmove.cli.movescu.dataset_dump import syntax_name

        have, want = syntax_name(transfer_syntax), syntax_name(wanted)
        super().__init__(f"unable to convert dataset from '{have}' transfer syntax to '{want}'")


class EmptyQuery(NotConvertible):
    """A query without an element: there is nothing to send."""

    def __init__(self) -> None:
        Exception.__init__(self, "dataset is empty")


class Query(Value):
    """What one C-MOVE-RQ asks for: the data set of a file, if there is one, with keys in place of what it has."""

    keys: tuple[Element, ...]
    """In ascending order."""

    path: str = ""
    source: bytes = b""
    """The data set of the file."""

    transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN
    """Of the file."""

    def identifier(
        self, transfer_syntax: str, dictionary: Dictionary, compression_level: int = DEFAULT_COMPRESSION
    ) -> bytes:
        """The Identifier in a transfer syntax; empty if there is nothing in it; BadQueryFile, NotConvertible."""
        if not self.source:
            return encode(self.keys, transfer_syntax, compression_level)
        level = None if compression_level == DEFAULT_COMPRESSION else compression_level
        source, syntax = self.source, self.transfer_syntax
        try:
            if self.keys:
                plain = _rewritten(source, syntax, EXPLICIT_VR_LITTLE_ENDIAN, dictionary, None)
                elements = _top_level(plain)
                elements |= {key.tag: encode([key], EXPLICIT_VR_LITTLE_ENDIAN) for key in self.keys}
                source, syntax = b"".join(elements[tag] for tag in sorted(elements)), EXPLICIT_VR_LITTLE_ENDIAN
            return _rewritten(source, syntax, transfer_syntax, dictionary, level)
        except UnwritableDataset as error:
            raise NotConvertible(self.transfer_syntax, transfer_syntax) from error
        except DatasetError as error:
            cause = error.__cause__
            inflating = isinstance(cause, zlib.error)
            reason = f"ZLib Error: {str(cause).rpartition(': ')[2]}" if inflating else self._reason(dictionary)
            raise BadQueryFile(self.path, reason) from error

    def nodes(self, dictionary: Dictionary) -> tuple[Node, ...]:
        """The elements of the file; UnreadableDataset."""
        from fastmove.cli.movescu.dataset_dump import read

        source = self.source
        if TRANSFER_SYNTAXES[self.transfer_syntax].deflated:
            try:
                stream = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
                source = stream.decompress(source, MAX_IDENTIFIER_BYTES)
            except zlib.error:
                raise UnreadableDataset(PREMATURE_END) from None
            if not stream.eof:
                raise UnreadableDataset(PREMATURE_END)
        return read(source, self.transfer_syntax, dictionary)

    def dump(self, dictionary: Dictionary) -> list[str]:
        """The lines that show it; none of the file's elements if they cannot be read."""
        from fastmove.cli.movescu.dataset_dump import dump

        try:
            nodes = self.nodes(dictionary)
        except UnreadableDataset:
            nodes = ()
        return dump(nodes, self.keys, self.transfer_syntax, dictionary)

    def _reason(self, dictionary: Dictionary) -> str:
        try:
            self.nodes(dictionary)
        except UnreadableDataset as error:
            return str(error)
        return PREMATURE_END


def read_query(path: str, keys: tuple[Element, ...], dictionary: Dictionary) -> Query:
    """The query of a file; BadQueryFile.  Without file meta information the transfer syntax is guessed."""
    try:
        content = Path(path).read_bytes()
    except IsADirectoryError:
        raise BadQueryFile(path, PREMATURE_END) from None
    except OSError as error:
        raise BadQueryFile(path, os.strerror(error.errno or 0)) from error
    if not content:
        raise BadQueryFile(path, "End of stream")
    prefixed = content[_PREAMBLE_BYTES : _PREAMBLE_BYTES + 4] == b"DICM"
    start = at = _PREAMBLE_BYTES + 4 if prefixed else 0
    meta: dict[int, bytes] = {}
    while content[at : at + 2] == struct.pack("<H", _FILE_META_GROUP):
        try:
            tag, value_at, length = _explicit_header(content, at)
        except struct.error:
            break
        meta.setdefault(tag, content[value_at : value_at + length])
        at = value_at + length
    too_short = at == start == len(content) if prefixed else not meta and len(content) < MIN_DATA_SET_BYTES
    if at > len(content) or too_short:
        raise BadQueryFile(path, PREMATURE_END)
    syntax = meta.get(_TRANSFER_SYNTAX_UID, b"").rstrip(b"\0 ").decode("ascii", "replace")
    source = content[at:]
    if syntax not in TRANSFER_SYNTAXES:
        syntax = _guessed(source, dictionary)
    query = Query(keys, path, source, syntax)
    try:
        query.nodes(dictionary)
    except UnreadableDataset as error:
        if error.cut:
            raise BadQueryFile(path, str(error)) from error
    return query


def _guessed(source: bytes, dictionary: Dictionary) -> str:
    """By the VR of the first element, and by the order of bytes in which its tag is known."""
    if source[4:6].decode("latin-1") not in VRS:
        return IMPLICIT_VR_LITTLE_ENDIAN
    little, big = (struct.unpack_from(f"{order}HH", source) for order in "<>")
    big_endian = not _known(little, dictionary) and _known(big, dictionary)
    return EXPLICIT_VR_BIG_ENDIAN if big_endian else EXPLICIT_VR_LITTLE_ENDIAN


def _known(tag: Sequence[int], dictionary: Dictionary) -> bool:
    return dictionary.row(tag[0] << 16 | tag[1]) is not None


def _rewritten(
    source: bytes, transfer_syntax: str, wanted: str, dictionary: Dictionary, compression_level: int | None
) -> bytes:
    """By the rules for stored objects, which are those of identifiers: in files that are in memory only."""
    from fastmove._transcode import rewrite
    from fastmove.storage.options import Reencoding

    reencoding = Reencoding(transfer_syntax=wanted, compression_level=compression_level)
    before = os.memfd_create("query")
    after = os.memfd_create("identifier")
    try:
        with open(before, "wb", closefd=False) as file:
            file.write(source)
        length = rewrite(before, 0, len(source), transfer_syntax, after, 0, reencoding, dictionary)
        data = os.pread(after, length, 0)
    finally:
        os.close(before)
        os.close(after)
    return data + bytes(len(data) % 2)  # a deflated one may be odd, which no message is (PS3.5 A.5)


def _top_level(data: bytes) -> dict[int, bytes]:
    """The elements of a data set in explicit VR little endian with explicit lengths."""
    elements, at = {}, 0
    while at < len(data):
        tag, value_at, length = _explicit_header(data, at)
        elements[tag] = data[at : value_at + length]
        at = value_at + length
    return elements


def _explicit_header(data: bytes, at: int) -> tuple[int, int, int]:
    """Tag, offset of the value, its length (PS3.5 7.1.2); struct.error if the data end before."""
    group, number, vr, length = struct.unpack_from("<HH2sH", data, at)
    if has_long_length(vr.decode("latin-1")):
        return group << 16 | number, at + 12, struct.unpack_from("<I", data, at + 8)[0]
    return group << 16 | number, at + 8, length


def encode(elements: Iterable[Element], transfer_syntax: str, compression_level: int = DEFAULT_COMPRESSION) -> bytes:
    """A data set of these elements, in ascending order, by the rules of DCMTK.

    Group lengths are set right, trailing blanks of text and all blanks of UIDs removed; a value that is too long for
    its VR is UN (PS3.5 6.2.2).  The padding of the data set is left out.
    """
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    parts: list[bytes] = []
    group, nbytes = -1, 0
    for element in sorted(elements, key=lambda element: element.tag, reverse=True):
        if element.tag == TRAILING_PADDING:
            continue
        value = written(element)
        if element.tag >> 16 != group:
            group, nbytes = element.tag >> 16, 0
        if element.tag & 0xFFFF == 0:
            value = struct.pack("<I", nbytes)
        if not syntax.little_endian:
            value = _swapped(value, element.written_vr)
        parts += (value, _header(element, len(value), syntax.little_endian, syntax.implicit_vr))
        nbytes += len(parts[-1]) + len(value)
    data = b"".join(reversed(parts))
    return deflated(data, compression_level) if syntax.deflated and data else data


def deflated(data: bytes, level: int) -> bytes:
    """Padded to even length (PS3.5 A.5)."""
    deflate = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
    data = deflate.compress(data) + deflate.flush()
    return data + bytes(len(data) % 2)


def written(element: Element) -> bytes:
    """The value without needless padding."""
    if element.written_vr in NUMBERS or element.vr == "SQ":
        return element.value
    if element.vr == "UI":
        value = element.value.replace(b" ", b"").rstrip(b"\0")
        return value + bytes(len(value) % 2)
    value = element.value.rstrip(b" ")
    return value + b" " * (len(value) % 2)


def blanks_in_uids(keys: Sequence[Element], dictionary: Dictionary) -> list[str]:
    """A warning for each UID with blanks."""
    return [
        f"DcmUniqueIdentifier: Element {dictionary.keyword(key.tag)} ({key.tag >> 16:04x},{key.tag & 0xFFFF:04x}) "
        "contains one or more space characters, which were removed"
        for key in reversed(keys)
        if key.vr == "UI" and b" " in key.value
    ]


def _header(element: Element, length: int, little_endian: bool, implicit_vr: bool) -> bytes:
    order = "<" if little_endian else ">"
    tag = divmod(element.tag, 0x10000)
    vr = element.written_vr
    if implicit_vr:
        return struct.pack(f"{order}HHI", *tag, length)
    if vr in WITH_LONG_LENGTH or length > MAX_SHORT_LENGTH:
        vr = vr if vr in WITH_LONG_LENGTH else "UN"
        return struct.pack(f"{order}HH2s2xI", *tag, vr.encode(), length)
    return struct.pack(f"{order}HH2sH", *tag, vr.encode(), length)


def _swapped(value: bytes, vr: str) -> bytes:
    unit = _UNIT.get(vr) or NUMBERS.get(vr, (0, 1))[1]
    if unit == 1:
        return value
    numbers = array(_ARRAY_OF[unit], value)
    numbers.byteswap()
    return numbers.tobytes()
