"""Room on a file system that is not to be used up: with less than the reserve nothing more is let in."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final

from fastmove.limits import RESERVE_BYTES, RESERVE_LOOK_S, RESERVE_SHARE
from fastmove.sizes import shown_size
from fastmove.types import Objection

_JOIN_S: Final = 1.0


class Reserve:
    """The room that is left where `directory` is, held against `nbytes` that have to stay free.

    None is `RESERVE_BYTES` or `RESERVE_SHARE` of the file system, whichever is less, so that a small scratch disk can
    be used; 0 is no reserve.  As a context manager it looks again once a second, in a thread of its own: a file
    system whose server is gone does not answer, and nobody is to wait for that.  `objection` never waits.
    """

    def __init__(self, directory: Path, nbytes: int | None = None) -> None:
        self._directory = directory
        self._wanted = nbytes
        self._objection: Objection | None = None
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="reserve", daemon=True)
        self.measure()

    def measure(self) -> None:
        """See what is free; where that cannot be told, what was known before stays.  Blocks."""
        if self._wanted == 0:
            return
        try:
            found = os.statvfs(self._directory)
        except OSError:  # the folder or its server is gone: whoever writes there learns why
            return
        total, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
        if not total:  # a file system that does not count
            return
        reserve = min(RESERVE_BYTES, int(total * RESERVE_SHARE)) if self._wanted is None else self._wanted
        detail = f"{shown_size(free)} free in {self._directory}, {shown_size(reserve)} are kept in reserve"
        self._objection = Objection("fs.low", detail) if free < reserve else None

    def objection(self) -> Objection | None:
        """Why nothing more is to come in; None while there is room."""
        return self._objection

    def _watch(self) -> None:
        while not self._end.wait(RESERVE_LOOK_S):
            self.measure()

    def __enter__(self) -> Reserve:
        if self._wanted != 0:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        if self._wanted != 0:
            self._thread.join(_JOIN_S)
