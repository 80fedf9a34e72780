"""The elements of a data set in a file, one after the other, each with its place (PS3.5 7).

Values are passed over, not read.  Unlike those who store what comes as it is, whoever changes something has to be sure
what belongs to what: lengths that do not fit, and elements that are out of order or there twice, are a DatasetError.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from fastmove.dictionary import has_long_length
from fastmove.errors import DatasetError
from fastmove.limits import MAX_SEQUENCE_DEPTH
from fastmove.uids import TRANSFER_SYNTAXES

UNDEFINED: Final = 0xFFFFFFFF
ITEM: Final = 0xFFFEE000
ITEM_DELIMITATION: Final = 0xFFFEE00D
SEQUENCE_DELIMITATION: Final = 0xFFFEE0DD
DELIMITER_BYTES: Final = 8
"""Tag and length."""

_WINDOW_BYTES: Final = 64 << 10
_DELIMITERS: Final = frozenset((ITEM, ITEM_DELIMITATION, SEQUENCE_DELIMITATION))
_MOST_LEVELS: Final = 2 * MAX_SEQUENCE_DEPTH
"""One for the sequence, one for the item in it."""

_MOST_ELEMENTS: Final = 4 << 20
"""Looked at in one object, which takes some seconds: real ones have a tenth of that."""

_ENCAPSULATED: Final = frozenset((b"OB", b"OW"))


class _Forms(NamedTuple):
    """Headers in one order of bytes."""

    implicit: struct.Struct
    """Tag and length; so are those of items and delimiters."""

    short: struct.Struct
    long: struct.Struct
    length: struct.Struct


_FORMS: Final = {
    order: _Forms(*(struct.Struct(order + form) for form in ("HHI", "HH2sH", "HH2s2xI", "I"))) for order in "<>"
}


class Encoding(NamedTuple):
    """How elements are written: with VRs or without, in which order of bytes."""

    explicit_vr: bool = True
    order: str = "<"

    def element(self, tag: int, vr: bytes, value: bytes) -> bytes:
        """An element; its value is of even length, and short enough for its VR."""
        return self.header(tag, vr, len(value)) + value

    def header(self, tag: int, vr: bytes, length: int) -> bytes:
        """What precedes a value of that length."""
        group, element = tag >> 16, tag & 0xFFFF
        forms = _FORMS[self.order]
        if not self.explicit_vr or tag in _DELIMITERS:
            return forms.implicit.pack(group, element, length)
        return (forms.long if is_long(vr) else forms.short).pack(group, element, vr, length)


IMPLICIT: Final = Encoding(explicit_vr=False)
"""Of data sets in implicit VR, and of what is in a sequence whose VR is UN (PS3.5 6.2.2, note 2)."""


def encoding_of(transfer_syntax: str) -> Encoding | None:
    """How the data sets of a transfer syntax are written; None if they are deflated, or nobody knows."""
    known = TRANSFER_SYNTAXES.get(transfer_syntax)
    if known is None or known.deflated:
        return None
    return Encoding(not known.implicit_vr, "<" if known.little_endian else ">")


class Element(NamedTuple):
    """An element of the data set itself, by places from its beginning on."""

    tag: int
    vr: bytes
    """As it is there; empty where there are none."""

    at: int
    value: int
    end: int
    """Behind it, and behind its delimiter if it has one."""

    length: int
    """As it is there."""

    @property
    def undefined(self) -> bool:
        """It ends with a delimiter."""
        return self.length == UNDEFINED


class Elements:
    """The elements of the `nbytes` at `offset` of an open file.  DatasetError, OSError."""

    def __init__(self, fd: int, offset: int, nbytes: int, encoding: Encoding) -> None:
        self.nbytes = nbytes
        self.encoding = encoding
        self._fd = fd
        self._offset = offset
        self._window = b""
        self._window_at = 0
        self._looked_at = 0

    def __iter__(self) -> Iterator[Element]:
        at, last = 0, -1
        while at < self.nbytes:
            element = self._element(at)
            if element.tag in _DELIMITERS:
                raise DatasetError("an item or delimiter that belongs to nothing", offset=at)
            if element.tag <= last:
                raise DatasetError("an element that is out of order, or there twice", offset=at)
            last = element.tag
            yield element
            at = element.end

    def read(self, at: int, n: int) -> bytes:
        """So many bytes from there."""
        if n > self.nbytes - at:
            raise DatasetError("a value that is longer than what is left", offset=at)
        start = at - self._window_at
        if not 0 <= start <= len(self._window) - n:
            self._window_at, start = at, 0
            self._window = os.pread(self._fd, min(max(n, _WINDOW_BYTES), self.nbytes - at), self._offset + at)
            if len(self._window) < n:
                raise DatasetError("the file is shorter than it is said to be", offset=at)
        return self._window[start : start + n]

    def check_items(self, element: Element) -> None:
        """See that a sequence of defined length has items in it, and nothing else."""
        at = element.value
        encoding = IMPLICIT if element.vr == b"UN" else self.encoding
        while at < element.end:
            tag, _, value, length = self._header(at, encoding)
            if tag != ITEM:
                raise DatasetError("something in a sequence that is no item", offset=at)
            at = self._behind(value, encoding, [False]) if length == UNDEFINED else value + length
        if at != element.end:
            raise DatasetError("an item that is longer than its sequence", offset=at)

    def _element(self, at: int) -> Element:
        tag, vr, value, length = self._header(at, self.encoding)
        if length != UNDEFINED:
            end = value + length
            if end > self.nbytes:
                raise DatasetError("a value that is longer than what is left", offset=at)
        elif vr in _ENCAPSULATED:
            end = self._behind_fragments(value)
        else:
            end = self._behind(value, self._within(at, vr, self.encoding), [True])
        return Element(tag, vr, at, value, end, length)

    def _header(self, at: int, encoding: Encoding) -> tuple[int, bytes, int, int]:
        """Tag, VR (empty where there is none), where the value begins, and its length."""
        self._looked_at += 1
        if self._looked_at > _MOST_ELEMENTS:
            raise DatasetError("more elements than anybody can need", offset=at)
        data = self.read(at, DELIMITER_BYTES)
        forms = _FORMS[encoding.order]
        if encoding.explicit_vr:
            group, element, vr, length = forms.short.unpack(data)
            tag = group << 16 | element
            if tag not in _DELIMITERS:
                if not is_long(vr):
                    return tag, vr, at + 8, length
                return tag, vr, at + 12, forms.length.unpack(self.read(at + 8, 4))[0]
        group, element, length = forms.implicit.unpack(data)
        return group << 16 | element, b"", at + 8, length

    def _behind(self, at: int, encoding: Encoding, levels: list[bool]) -> int:
        """Behind the delimiter of a sequence (True) or item (False) of undefined length, whatever is in it."""
        encodings = [encoding]
        while levels:
            in_sequence, encoding = levels[-1], encodings[-1]
            tag, vr, value, length = self._header(at, encoding)
            if tag == (SEQUENCE_DELIMITATION if in_sequence else ITEM_DELIMITATION):
                levels.pop()
                encodings.pop()
                at = value
                continue
            if (tag == ITEM) is not in_sequence or (tag in _DELIMITERS and tag != ITEM):
                raise DatasetError("neither item nor end of sequence", offset=at)
            if length != UNDEFINED:
                at = value + length
                continue
            if len(levels) == _MOST_LEVELS:
                raise DatasetError("sequences are nested too deeply", offset=at)
            if vr in _ENCAPSULATED:
                at = self._behind_fragments(value)
                continue
            levels.append(not in_sequence)
            encodings.append(self._within(at, vr, encoding))
            at = value
        return at

    def _within(self, at: int, vr: bytes, encoding: Encoding) -> Encoding:
        """How what is in a sequence, or in an item (no VR), is written."""
        if vr not in (b"", b"SQ", b"UN"):
            raise DatasetError("undefined length of what is no sequence", offset=at)
        return IMPLICIT if vr == b"UN" else encoding

    def _behind_fragments(self, at: int) -> int:
        """Behind the delimiter of pixel data that are encapsulated (PS3.5 A.4)."""
        while True:
            tag, _, value, length = self._header(at, self.encoding)
            if tag == SEQUENCE_DELIMITATION:
                return value
            if tag != ITEM or length == UNDEFINED:
                raise DatasetError("something among fragments that is none", offset=at)
            at = value + length


@lru_cache(1024)
def is_long(vr: bytes) -> bool:
    """Whether the length of elements with this VR has 32 bits."""
    return has_long_length(vr.decode("latin-1"))
