"""The folder of a spool: one in it for each study, with its objects by their SOP Instance UIDs."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from fastmove.notices import MigrationNoted, Observer
from fastmove.storage.file_system import FileSystem
from fastmove.storage.inventory import object_in
from fastmove.storage.layout import FILE_SUFFIX
from fastmove.storage.quarantine import QUARANTINE
from fastmove.storage.template import component

_SUFFIX: Final = FILE_SUFFIX.decode("ascii")

_AGAIN: Final = re.compile(r"\.dup\d+(?=\.dcm$)")
"""In the name of another object with the same SOP Instance UID."""


class SpoolFile(NamedTuple):
    """A file in it; its path is relative to the spool."""

    path: str
    nbytes: int
    readable: bool
    """There is an object in it."""

    @property
    def name(self) -> str:
        """What it is called by its SOP Instance UID."""
        return _AGAIN.sub("", self.path.rpartition("/")[2])


class SpoolFolder:
    """Everything here blocks; OSError if the folder is closed to us."""

    def __init__(self, directory: Path, notify: Observer | None) -> None:
        self._directory = directory
        self._notify = notify

    def studies(self) -> list[str]:
        """The folders that there are; quarantine is one of them."""
        with os.scandir(self._directory) as entries:
            names = [each.name for each in entries if each.is_dir(follow_symlinks=False)]
        return sorted(name for name in names if name == QUARANTINE or not name.startswith("."))

    def objects(self, folder: str) -> list[SpoolFile]:
        """What is in one of them."""
        files = []
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError),
            os.scandir(self._directory / folder) as entries,
        ):
            for each in entries:
                if each.name.endswith(_SUFFIX) and each.is_file(follow_symlinks=False):
                    size = each.stat(follow_symlinks=False).st_size
                    files.append(SpoolFile(f"{folder}/{each.name}", size, object_in(each) is not None))
        return files

    def remove(self, folder: str, uids: Collection[str] | None) -> list[SpoolFile]:
        """Remove the objects of these SOP Instance UIDs, or all, and the folder once it is empty; those that are left.

        What cannot be removed is told.
        """
        names = None if uids is None else set(map(name_of, uids))
        left = []
        for each in self.objects(folder):
            if names is not None and each.name not in names:
                left.append(each)
                continue
            with self.telling(each.path):
                (self._directory / each.path).unlink(missing_ok=True)
        if not left:
            with self.telling(folder), contextlib.suppress(FileNotFoundError):
                (self._directory / folder).rmdir()
        return left

    @contextlib.contextmanager
    def telling(self, path: str) -> Iterator[None]:
        """What keeps something there is told, and no more."""
        try:
            yield
        except OSError as error:
            if self._notify is not None:
                text = f"{path} stays in the spool: {error.strerror or error}"
                self._notify(MigrationNoted("migrate.spool", text))


def folder_of(study: str) -> str:
    """The name that the layout has made of it: a UID comes from a peer, and may be `..`."""
    return component((b"", b""), (study.encode("ascii", "replace"),), FileSystem()).decode("ascii")


def name_of(uid: str) -> str:
    """That of the file of an object."""
    return component((b"", FILE_SUFFIX), (uid.encode("ascii", "replace"),), FileSystem()).decode("ascii")
