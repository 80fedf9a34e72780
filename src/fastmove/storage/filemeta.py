"""Preamble and File Meta Information (PS3.10 7.1), prebuilt per presentation context."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, Protocol

from fastmove.errors import DatasetError
from fastmove.limits import UID_BYTES
from fastmove.types import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fastmove.values import Value

PREAMBLE = bytes(128)
"""Zeros, always: a C-STORE carries no preamble, and a peer's could be an executable (CVE-2019-11687)."""

META_OFFSET: Final = 132
"""Preamble and prefix come before the file meta information, which is Explicit VR Little Endian (PS3.10 7.1)."""


def _padded(value: bytes, pad: bytes) -> bytes:
    return value + pad if len(value) & 1 else value


def _element(element: int, vr: bytes, value: bytes) -> bytes:
    value = _padded(value, b"\0" if vr == b"UI" else b" ")
    return b"\2\0" + element.to_bytes(2, "little") + vr + len(value).to_bytes(2, "little") + value


class FileMeta:
    """The head of every file of one presentation context: only the SOP instance UID changes.

    A SOP class that is no UID is written as it is, each of its characters one byte.
    """

    __slots__ = ("_after", "_before", "transfer_syntax_uid")

    def __init__(self, sop_class_uid: str, transfer_syntax_uid: str, source_ae_title: str = "") -> None:
        self._before = b"\2\0\1\0OB\0\0\2\0\0\0\0\1" + _element(0x0002, b"UI", sop_class_uid.encode("latin-1"))
        self.transfer_syntax_uid = transfer_syntax_uid
        self._after = (
            _element(0x0010, b"UI", transfer_syntax_uid.encode("ascii"))
            + _element(0x0012, b"UI", IMPLEMENTATION_CLASS_UID.encode("ascii"))
            + _element(0x0013, b"SH", IMPLEMENTATION_VERSION_NAME.encode("ascii"))
            + (_element(0x0016, b"AE", source_ae_title.encode("ascii", "replace")) if source_ae_title else b"")
        )

    def head(self, sop_instance_uid: bytes) -> bytes:
        """Everything that precedes the data set; the UID is unpadded, of at most 64 bytes."""
        before, after = self.pieces(len(sop_instance_uid))
        return before + sop_instance_uid + after

    def pieces(self, n: int) -> tuple[bytes, bytes]:
        """What precedes and what follows a UID of n bytes."""
        padded = n + (n & 1)
        group_length = len(self._before) + 8 + padded + len(self._after)
        before = (
            PREAMBLE
            + b"DICM\2\0\0\0UL\4\0"
            + group_length.to_bytes(4, "little")
            + self._before
            + b"\2\0\3\0UI"
            + padded.to_bytes(2, "little")
        )
        return before, bytes(padded - n) + self._after


class Source(Protocol):
    """Bytes in memory that objects consist of, again and again from the beginning."""

    @property
    def view(self) -> memoryview:
        """The bytes."""


class DicomFile(Value):
    """A Part-10 file as its file meta information describes it; the data set is `nbytes` from `dataset_offset` on."""

    path: Path
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset_offset: int
    nbytes: int

    before: bytes = b""
    """The data set begins with this, and only then goes on in the file: `nbytes` in all."""

    source: Source | None = None
    """Then it goes on in this memory, from `dataset_offset` on, and not in a file."""


_HEAD_BYTES: Final = 64 << 10
"""More than any file meta information that is not an attack (private information included)."""

_USUAL_HEAD_BYTES: Final = 1 << 10

_ELEMENT_HEADER_BYTES: Final = 12
"""Tag, VR and length, of either form."""

_LONG_LENGTH_VRS: Final = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"UC", b"UN", b"UR", b"UT"))

_WANTED: Final = {
    0x0002: "Media Storage SOP Class UID",
    0x0003: "Media Storage SOP Instance UID",
    0x0010: "Transfer Syntax UID",
}


def read_file_meta(path: Path) -> DicomFile:
    """What a file holds, from its file meta information alone; DatasetError if it is no Part-10 file, OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return file_meta_of(fd, path)
    finally:
        os.close(fd)


def file_meta_of(fd: int, path: Path) -> DicomFile:
    """The same of an open file; the path is only passed on."""
    size = os.fstat(fd).st_size
    head = os.pread(fd, _USUAL_HEAD_BYTES, 0)
    if head[128:132] != b"DICM":
        raise DatasetError(f"{path}: not a DICOM file (no DICM at byte 128)")
    values, at = _elements(head)
    if at + _ELEMENT_HEADER_BYTES > len(head) < size:  # there may be more of it
        head = os.pread(fd, _HEAD_BYTES, 0)
        values, at = _elements(head)
    if at > len(head):
        raise DatasetError(f"{path}: file meta information does not end where it should")
    for element, name in _WANTED.items():
        value = values.get(element, "")
        if not value.isascii() or not 0 < len(value) <= UID_BYTES:
            raise DatasetError(f"{path}: no valid {name} in the file meta information")
    if at >= size:
        raise DatasetError(f"{path}: no data set")
    return DicomFile(path, values[0x0002], values[0x0003], values[0x0010], at, size - at)


def _elements(head: bytes) -> tuple[dict[int, str], int]:
    """The values of _WANTED, and where the last element ends: behind the head, if it is not all there."""
    values: dict[int, str] = {}
    at = META_OFFSET
    while head[at : at + 2] == b"\2\0":
        element = int.from_bytes(head[at + 2 : at + 4], "little")
        if head[at + 4 : at + 6] in _LONG_LENGTH_VRS:
            value, length = at + 12, int.from_bytes(head[at + 8 : at + 12], "little")
        else:
            value, length = at + 8, int.from_bytes(head[at + 6 : at + 8], "little")
        at = value + length
        if element in _WANTED:
            values[element] = head[value:at].rstrip(b"\0 ").decode("ascii", "replace")
    return values, at
