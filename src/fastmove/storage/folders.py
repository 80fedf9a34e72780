"""Folders below that of the objects: made when they are needed, and never through a link."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from threading import Lock
from typing import Final

from fastmove._sink import ABSENT as ABSENT
from fastmove._sink import NO_FILE as NO_FILE
from fastmove._sink import lengths
from fastmove.errors import DirectoryUnusable, StorageError, StorageNotReady
from fastmove.storage.modes import PRIVATE, Modes, keep, make_folder

KEPT_FOLDERS: Final = 64
"""Descriptors of folders that are kept: a series each, for what comes on many associations at once."""

OUT_OF_RESOURCES: Final = 0xA700

_OPEN: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def disk_failure(key: str, number: int) -> StorageError:
    """What a peer is told of a failed call of the operating system; the key is the log event."""
    name = errno.errorcode.get(number, str(number))
    return StorageError(key, OUT_OF_RESOURCES, f"{name}: {os.strerror(number)}", number)


_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT))


def refuse_full_disk(error: OSError, message: str) -> None:
    """StorageNotReady if what we write at the start finds no room: that is the disk's failing, not the user's."""
    if error.errno in _NO_ROOM:
        raise StorageNotReady("", f"{message}: {error.strerror}; make room there") from error


class Folder:
    """An open folder; closed when nobody has it any more."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        """Close it now; again is no harm."""
        if self.fd >= 0:
            fd, self.fd = self.fd, -1
            with contextlib.suppress(OSError):  # it is closed all the same, and nothing was written through it
                os.close(fd)

    __del__ = close


def is_link(parent: Folder, name: bytes) -> bool:
    """True if what has this name in a folder is a symlink, which nobody follows here."""
    with contextlib.suppress(FileNotFoundError):
        return stat.S_ISLNK(os.stat(name, dir_fd=parent.fd, follow_symlinks=False).st_mode)
    return False


def root_folder(directory: Path, modes: Modes = PRIVATE) -> Folder:
    """The folder of all objects, made with those above it if it is not there; DirectoryUnusable, StorageNotReady."""
    try:
        make_folder(directory, modes)
        return Folder(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError as error:
        refuse_full_disk(error, f"cannot make {directory}")
        raise DirectoryUnusable(f"cannot use {directory}: {error.strerror}") from error


def lengths_below(directory: Path, paths: Iterable[str]) -> list[int]:
    """The bytes of each file with one of these paths below a folder; ABSENT, or NO_FILE.  OSError."""
    root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return lengths(root, map(os.fsencode, paths))
    finally:
        os.close(root)


def sync_folder(folder: Path) -> None:
    """Wait until all names in a folder are on stable storage; OSError."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Folders:
    """The folders below one that is open, by their paths; any thread may ask for them.

    With `durable` a folder that is new to us is on stable storage before it is given out.
    """

    def __init__(self, root: Folder, *, durable: bool, modes: Modes = PRIVATE, kept: int = KEPT_FOLDERS) -> None:
        self._root = root
        self._modes = modes
        self._durable = durable
        self._kept = kept
        self._recent: dict[bytes, Folder] = {}  # the one that was asked for last is the last
        self._forgotten = 0
        self._lock = Lock()

    def get(self, path: bytes) -> Folder:
        """The folder of this path, made if it is not there; StorageError if something else is, OSError."""
        if not path:
            return self._root
        with self._lock:
            forgotten = self._forgotten
            folder = self._recent.pop(path, None)
            if folder is not None:
                self._recent[path] = folder
                return folder
        opened = self._opened(path)
        with self._lock:
            if forgotten != self._forgotten:
                return opened  # it may be one that was removed
            folder = self._recent.pop(path, opened)  # somebody else was faster: one folder, one descriptor
            self._recent[path] = folder
            if len(self._recent) > self._kept:
                del self._recent[next(iter(self._recent))]
        return folder

    def _opened(self, path: bytes) -> Folder:
        above, _, name = path.rpartition(b"/")
        parent = self.get(above)
        try:
            folder = Folder(os.open(name, _OPEN, dir_fd=parent.fd))
        except FileNotFoundError:
            folder = self._made(parent, name)
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            if is_link(parent, name):
                raise StorageError("fs.symlink", OUT_OF_RESOURCES, "in the place of a folder is a symlink") from None
            raise StorageError("fs.occupied", OUT_OF_RESOURCES, "what is in the place of a folder is none") from None
        if self._durable:
            try:
                os.fsync(parent.fd)  # whoever made it may not have, or not yet
            except OSError as error:
                folder.close()
                # The next sync will say that all is well: let there be something for it to do.
                with contextlib.suppress(OSError):
                    os.rmdir(name, dir_fd=parent.fd)
                raise disk_failure("fs.dirsync", error.errno or 0) from error
        return folder

    def _made(self, parent: Folder, name: bytes) -> Folder:
        try:
            os.mkdir(name, self._modes.folder, dir_fd=parent.fd)
        except FileExistsError:  # somebody else was faster
            return Folder(os.open(name, _OPEN, dir_fd=parent.fd))
        folder = Folder(os.open(name, _OPEN, dir_fd=parent.fd))
        if not self._modes.umask:
            keep(folder.fd, self._modes.folder)
        return folder

    def forget(self, path: bytes) -> None:
        """The folder and those above it are to be opened anew: somebody has removed one of them."""
        with self._lock:
            self._forgotten += 1
            while path:
                self._recent.pop(path, None)
                path = path.rpartition(b"/")[0]

    def close(self) -> None:
        """Close what is kept, but for the root; nobody may be at work."""
        with self._lock:
            for folder in self._recent.values():
                folder.close()
            self._recent.clear()
