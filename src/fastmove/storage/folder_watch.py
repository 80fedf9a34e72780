"""Looks after the folder of the objects while it is in use: is it still the one at its path, and how full is it?"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from fastmove.storage.folders import Folder


class Odd(NamedTuple):
    """What is odd about a folder: a log event, and its detail."""

    event: str
    detail: str


class FolderWatch:
    """Tells what is odd about an open folder, each thing once; of `big` files or more there are many.

    Objects go where the folder was opened, whatever becomes of its path.  `flat`: all of them are in it.
    """

    def __init__(self, directory: Path, root: Folder, *, flat: bool, big: int) -> None:
        self._directory = directory
        self._root = root
        self._flat = flat
        self._big = big
        self._before: int | None = None
        self._told: set[Odd] = set()

    def look(self, stored: int) -> list[Odd]:
        """What is news, when so many objects have been stored since the beginning.  Blocks; OSError."""
        news = [odd for odd in self._odd(stored) if odd not in self._told]
        self._told.update(news)
        return news

    def _odd(self, stored: int) -> Iterator[Odd]:
        ours = os.fstat(self._root.fd)
        if self._before is None:
            yield from self._shared(ours)
            self._before = self._count() if self._flat else 0
        try:
            moved = not os.path.samestat(self._directory.stat(), ours)
        except OSError:  # nothing is there, or nothing that could be looked at
            moved = True
        if moved:
            yield Odd("fs.dir_changed", f"{self._directory} is another folder now; objects go where the first one is")
        if self._flat and self._before + stored >= self._big:
            advice = "folders by study or series (--layout) are quicker to look through"
            yield Odd("fs.dir_big", f"{self._directory} has {self._big:,} files or more: {advice}")

    def _shared(self, status: os.stat_result) -> Iterator[Odd]:
        """Whether somebody else may put something else in the place of what is here."""
        open_to_all = status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX
        if open_to_all or status.st_uid not in (os.geteuid(), 0):
            who = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}"
            yield Odd("fs.dir_changed", f"{self._directory} may be changed by others: {who}")

    def _count(self) -> int:
        """How many there are, as far as it matters."""
        with os.scandir(self._root.fd) as entries:
            return sum(1 for _ in islice(entries, self._big))
