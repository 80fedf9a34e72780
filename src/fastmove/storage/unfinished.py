"""What killed processes leave unfinished: removed, unless somebody is still at it."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

_PREFIX = ".fm-"
_SUFFIX = ".part"


def unfinished_name(name: str) -> str:
    """Of a file in the making that is to be called so."""
    return f"{_PREFIX}{name}{_SUFFIX}"


def is_unfinished(name: str) -> bool:
    """True for the name of a file in the making (`_sink`)."""
    return name.startswith(_PREFIX) and name.endswith(_SUFFIX)


def sweep(directory: Path) -> int:
    """Remove the unfinished files of a folder that no live process has locked; how many there were.  OSError."""
    with os.scandir(directory) as entries:
        unfinished = [entry.path for entry in entries if is_unfinished(entry.name)]
    return sum(map(remove_unfinished, unfinished))


def remove_unfinished(path: str) -> bool:
    """True if it could be removed: whoever writes a file holds a lock on it, which ends with his process."""
    with contextlib.suppress(OSError):  # locked, gone, or not ours: it stays, and is no object all the same
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            Path(path).unlink()
        finally:
            os.close(fd)
        return True
    return False
