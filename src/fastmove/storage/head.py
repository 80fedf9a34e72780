"""What the beginning of a data set in a file says of the object."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from fastmove._elements import peek

if TYPE_CHECKING:
    from fastmove._sink import FileSink
    from fastmove.storage.target import Received

USUAL_HEAD_BYTES: Final = 4 << 10
"""Of a data set: study and series are mostly in these..."""

HEAD_BYTES: Final = 64 << 10
"""... and nothing is looked for behind these."""

_META_BYTES: Final = 128 + 4 + 12
"""Preamble, prefix and the element that says how long the others of the file meta information are."""

_STUDY_AND_SERIES: Final = (0x0020000D, 0x0020000E)


def attributes(fd: int, offset: int, transfer_syntax: str, tags: Collection[int]) -> dict[int, bytes]:
    """Values by tag, as they are there, of the data set at `offset` of an open file; what is not found is left out."""
    values: dict[int, bytes] = {}
    for length in (USUAL_HEAD_BYTES, HEAD_BYTES):
        data = os.pread(fd, length, offset)
        values = peek(data, transfer_syntax, tags)
        if len(values) == len(tags) or len(data) < length:
            break
    return values


def values_in(sink: FileSink, received: Received, tags: Collection[int]) -> dict[int, bytes]:
    """The same of a file in the making, whose data set is whole; OSError if it cannot be written or read."""
    sink.write_head()
    fd = sink.file_descriptor
    return attributes(fd, os.fstat(fd).st_size - received.nbytes - sink.growth, received.transfer_syntax, tags)


def study_in(sink: FileSink, received: Received) -> str:
    """Study Instance UID of a file in the making, empty if it is not found; OSError."""
    return _uid(values_in(sink, received, _STUDY_AND_SERIES[:1]), _STUDY_AND_SERIES[0])


def values_of(path: str, transfer_syntax: str, tags: Collection[int]) -> dict[int, bytes]:
    """Values by tag of a file that was stored here, as they are there; what is not found is left out.  OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        group_length = os.pread(fd, 4, _META_BYTES - 4)  # the first element, as we write it (PS3.10 7.1)
        return attributes(fd, _META_BYTES + int.from_bytes(group_length, "little"), transfer_syntax, tags)
    finally:
        os.close(fd)


def study_of(path: str, transfer_syntax: str) -> str:
    """Study Instance UID of a file that was stored here, empty if it is not found; OSError."""
    return _uid(values_of(path, transfer_syntax, _STUDY_AND_SERIES), _STUDY_AND_SERIES[0])


def study_and_series(fd: int, offset: int, transfer_syntax: str) -> tuple[str, str]:
    """Study and Series Instance UID of the data set at `offset`, empty if they are not found."""
    values = attributes(fd, offset, transfer_syntax, _STUDY_AND_SERIES)
    study, series = (_uid(values, tag) for tag in _STUDY_AND_SERIES)
    return study, series


def _uid(values: Mapping[int, bytes], tag: int) -> str:
    return values.get(tag, b"").rstrip(b"\0 ").decode("ascii", "replace")
