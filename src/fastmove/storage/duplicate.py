"""Whether two files hold the same object: data sets byte for byte, whoever sent them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from fastmove.errors import DatasetError
from fastmove.storage.filemeta import file_meta_of

_COMPARE_BYTES = 1 << 20


class _Content(NamedTuple):
    transfer_syntax: str
    nbytes: int
    offset: int


def same_object(one: int, other: int, *, same_file_meta: bool = False) -> bool:
    """True if two open files have equal data sets in the same transfer syntax; OSError.

    With `same_file_meta`, and of files without file meta information, everything counts.
    """
    here, there = (_whole(fd) if same_file_meta else _content(fd) for fd in (one, other))
    if here[:2] != there[:2]:
        return False
    return all(
        os.pread(one, _COMPARE_BYTES, here.offset + at) == os.pread(other, _COMPARE_BYTES, there.offset + at)
        for at in range(0, here.nbytes, _COMPARE_BYTES)
    )


def _content(fd: int) -> _Content:
    try:
        meta = file_meta_of(fd, Path())
    except DatasetError:
        return _whole(fd)
    return _Content(meta.transfer_syntax_uid, meta.nbytes, meta.dataset_offset)


def _whole(fd: int) -> _Content:
    return _Content("", os.fstat(fd).st_size, 0)
