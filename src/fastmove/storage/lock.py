"""One program at a time stores into a folder: two that look at what is there would not see what the other one brings.

The lock is that of an open file (flock): it ends with the process, however that ends, and is shared by its children.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import Final

from fastmove.errors import DirectoryLocked, DirectoryUnusable
from fastmove.notices import HostStrained, Observer
from fastmove.storage.folders import Folder, refuse_full_disk, root_folder
from fastmove.storage.modes import PRIVATE, Modes, opened

LOCK_NAME: Final = ".fastmove.lock"
"""In the folder, while somebody stores there."""

_SHOWN: Final = 120
"""Characters of what the file says: anybody may have written it who may write into the folder."""


class FolderLock:
    """The lock on a folder, which is made if it is not there; `holder` is what others are told of us.

    By another `name` it is a lock on something else in the folder.  DirectoryLocked if somebody has it,
    DirectoryUnusable if the folder cannot be used.  On a file system without locks `notify` is told, and nobody is kept
    out.
    """

    def __init__(
        self,
        directory: Path,
        holder: str,
        notify: Observer | None = None,
        modes: Modes = PRIVATE,
        name: str = LOCK_NAME,
    ) -> None:
        self._root = root_folder(directory, modes)
        self._modes = modes
        self._name = name
        self._fd = -1
        try:
            self._fd = self._locked(directory, notify)
            os.ftruncate(self._fd, 0)
            os.write(self._fd, f"{holder}, process {os.getpid()} on {os.uname().nodename}\n".encode("utf-8", "replace"))
        except OSError as error:
            self._give_up()
            refuse_full_disk(error, f"cannot write {name} in {directory}")
            raise DirectoryUnusable(f"cannot write {name} in {directory}: {error.strerror}") from error
        except BaseException:
            self._give_up()
            raise

    def _locked(self, directory: Path, notify: Observer | None) -> int:
        while True:
            fd = opened(self._name, os.O_RDWR, self._modes, self._root.fd)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is_in(self._root, fd, self._name):  # whoever had it has just given it up, and the file is gone
                    os.close(fd)
                    continue
            except BlockingIOError:
                said = os.pread(fd, 4 * _SHOWN, 0).decode("utf-8", "replace").strip()[:_SHOWN]
                os.close(fd)
                who = "".join(each if each.isprintable() else "?" for each in said) or "another program"
                raise DirectoryLocked(str(directory), who) from None
            except OSError as error:
                if notify is not None:
                    notify(HostStrained("fs.unlocked", f"{directory} cannot be locked: {error.strerror}"))
            return fd

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the lock up, and take its file away; again is no harm."""
        if self._fd >= 0:
            try:
                if _is_in(self._root, self._fd, self._name):
                    os.unlink(self._name, dir_fd=self._root.fd)
            except OSError:
                pass  # it stays, and says nothing to anybody without the lock
        self._give_up()

    def _give_up(self) -> None:
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            with contextlib.suppress(OSError):  # it is closed all the same, and what it says is nobody's data
                os.close(fd)
        self._root.close()


def _is_in(root: Folder, fd: int, name: str) -> bool:
    """True if the file is still the one of that name."""
    try:
        named = os.stat(name, dir_fd=root.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(named, os.fstat(fd))
