"""Deflated data sets (PS3.5 A.5), by way of a file without a name in the directory for temporary files."""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable
from typing import BinaryIO, Final, TypeVar

from fastmove.errors import DatasetError

_CHUNK_BYTES: Final = 1 << 18

T = TypeVar("T")


def spool_file() -> BinaryIO:
    """A file for what is not to be kept in memory."""
    import tempfile  # needed for nothing else

    return tempfile.TemporaryFile(buffering=0)


def inflated(fd: int, offset: int, nbytes: int) -> BinaryIO:
    """What the raw deflate stream in these bytes of a file holds; what follows the stream does not count.

    DatasetError if it is damaged or ends too early; OSError.
    """
    end = offset + nbytes
    stream = zlib.decompressobj(-zlib.MAX_WBITS)
    spool = spool_file()
    try:
        while offset < end and not stream.eof:
            chunk = os.pread(fd, min(_CHUNK_BYTES, end - offset), offset)
            if not chunk:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            offset += len(chunk)
            while chunk and not stream.eof:
                spool.write(stream.decompress(chunk, _CHUNK_BYTES))
                chunk = stream.unconsumed_tail
        if nbytes and not stream.eof:
            raise DatasetError("the deflated data set ends too early", offset=offset)
    except zlib.error as error:
        spool.close()
        raise DatasetError("the data set cannot be inflated", offset=offset) from error
    except BaseException:
        spool.close()
        raise
    return spool


def of_inflated(fd: int, offset: int, nbytes: int, work: Callable[[int, int], T]) -> T:
    """What `work` makes of the inflated bytes, given as a descriptor and their number; DatasetError, OSError."""
    with inflated(fd, offset, nbytes) as spool:
        return work(spool.fileno(), os.fstat(spool.fileno()).st_size)


def deflated_from(work: Callable[[int], int], fd_out: int, start: int, level: int | None) -> int:
    """Deflate what `work` writes into a file from byte `start` on, and tells the length of, as `deflated`."""
    with spool_file() as spool:
        return deflated(spool.fileno(), start, work(spool.fileno()), fd_out, start, level)


def deflated(fd_in: int, offset: int, nbytes: int, fd_out: int, start: int, level: int | None) -> int:
    """Write these bytes of a file as a raw deflate stream into another, from byte `start` on; the stream's length."""
    at, end = start, offset + nbytes
    stream = zlib.compressobj(-1 if level is None else level, zlib.DEFLATED, -zlib.MAX_WBITS)
    while True:
        chunk = os.pread(fd_in, min(_CHUNK_BYTES, end - offset), offset)
        offset += len(chunk)
        out = stream.compress(chunk) if chunk else stream.flush()
        while out:
            written = os.pwrite(fd_out, out, at)
            at += written
            out = out[written:]
        if not chunk:
            return at - start
