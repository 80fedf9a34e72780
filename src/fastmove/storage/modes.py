"""Who may read what is stored: the modes of files and folders that are made, whatever the umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from fastmove.values import Value

_PERMISSIONS: Final = 0o777


class Modes(Value):
    """The modes of new files and folders; those that are there keep theirs."""

    file: int = 0o600
    folder: int = 0o700
    umask: bool = False
    """Less the umask, as other programs have it; else these exactly."""


PRIVATE: Final = Modes()
"""For the owner alone."""

GROUP_READABLE: Final = Modes(0o640, 0o750)
"""The group may read; of which group, a setgid folder says."""


def keep(fd: int, mode: int) -> None:
    """Give an open file or folder, that we have just made, exactly this mode; OSError."""
    found = os.fstat(fd).st_mode
    if found & _PERMISSIONS != mode:
        os.fchmod(fd, found & stat.S_ISGID | mode)


def opened(path: Path | str, flags: int, modes: Modes, dir_fd: int | None = None) -> int:
    """A descriptor of a file, which is made if it is not there; OSError, also for a link in its place."""
    flags |= os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        try:
            fd = os.open(path, flags | os.O_CREAT | os.O_EXCL, modes.file, dir_fd=dir_fd)
        except FileExistsError:
            try:
                return os.open(path, flags, dir_fd=dir_fd)
            except FileNotFoundError:  # gone since
                continue
        try:
            if not modes.umask:
                keep(fd, modes.file)
        except BaseException:
            os.close(fd)
            raise
        return fd


def make_folder(path: Path, modes: Modes) -> None:
    """Make a folder, and those above it, if they are not there; OSError."""
    missing = [each for each in (path, *path.parents) if not each.exists()]
    for each in reversed(missing):
        try:
            os.mkdir(each, modes.folder)  # noqa: PTH102  as it is, whatever pathlib makes of modes
        except FileExistsError:  # somebody else was faster
            continue
        if not modes.umask:
            fd = os.open(each, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                keep(fd, modes.folder)
            finally:
                os.close(fd)
