"""What a file system makes of names, found out at the start: by a file that is made, and removed again."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import Final, NamedTuple

from fastmove.errors import DirectoryUnusable
from fastmove.storage.folders import Folder

LONGEST_NAMES: Final = (255, 143)
"""Of names that are tried: what is usual, and what is left where the file system encrypts them (eCryptfs)..."""

LEAST_NAME: Final = 80
"""... and what there must be: a UID, `.dup1` and `.dcm`, or a digest in their place."""


class FileSystem(NamedTuple):
    """What a file system makes of names."""

    longest_name: int = 255
    """In bytes."""

    folds_case: bool = False
    """`A` and `a` are one name."""


def probed(root: Folder, directory: object) -> FileSystem:
    """That of an open folder; DirectoryUnusable (`fs.probe`) if it has no room for our names, OSError."""
    limit = os.fpathconf(root.fd, "PC_NAME_MAX")
    lengths = dict.fromkeys(min(limit, length) for length in (limit, *LONGEST_NAMES, LEAST_NAME))
    for length in lengths:
        if length < LEAST_NAME:
            break
        with contextlib.suppress(_TooLong):
            return FileSystem(length, _folds_case(root, length))
    message = f"names of {LEAST_NAME} letters, digits and ._^~- cannot be had in {directory}"
    raise DirectoryUnusable(message, "fs.probe")


class _TooLong(Exception):
    """A name cannot be had."""


def _folds_case(root: Folder, length: int) -> bool:
    """Whether a file of a name of this length, that all our characters are in, is there by another case, too."""
    start, end = b".fm-%d-Probe_^~a" % os.getpid(), b".part"  # as that of an unfinished file: somebody may sweep it
    name = start + b"x" * (length - len(start) - len(end)) + end
    try:
        fd = os.open(name, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root.fd)
    except OSError as error:
        if error.errno not in (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ):
            raise
        raise _TooLong from None
    try:
        os.close(fd)
        os.stat(name.upper(), dir_fd=root.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=root.fd)
    return True
