"""Looks at each file in the moment it gets its name: whoever looks then must find it whole."""

from __future__ import annotations

import ctypes
import os
import select
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, Self

_EVENT: Final = struct.Struct("iIII")  # struct inotify_event, without the name
_CREATED, _MOVED_TO, _OVERFLOW = 0x100, 0x80, 0x4000
_CLOEXEC: Final = 0x80000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Watcher:
    """`judge` is called with each new name of a folder at once, in a thread; what it finds bad is in `bad`."""

    def __init__(self, folder: Path, judge: Callable[[Path], bool]) -> None:
        self.looked_at = 0
        self.bad: list[str] = []
        self._folder = folder
        self._judge = judge
        self._inotify = _libc.inotify_init1(_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="watcher")
        self._stop, self._stopped = os.pipe2(os.O_CLOEXEC)
        if self._inotify < 0 or _libc.inotify_add_watch(self._inotify, os.fsencode(folder), _CREATED | _MOVED_TO) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._stopped)
        self._thread.join()
        for descriptor in (self._inotify, self._stop):
            os.close(descriptor)

    def _run(self) -> None:
        # Until it is stopped, and everything that happened before is looked at.
        while True:
            ready, _, _ = select.select([self._inotify, self._stop], [], [])
            if self._inotify in ready:
                self._read(os.read(self._inotify, 1 << 16))
            elif ready:
                return

    def _read(self, events: bytes) -> None:
        while events:
            _, mask, _, length = _EVENT.unpack_from(events)
            name = events[_EVENT.size : _EVENT.size + length].rstrip(b"\0")
            events = events[_EVENT.size + length :]
            if mask & _OVERFLOW:
                self.bad.append("too much at once to look at")
            elif not name.startswith(b".fm-"):
                self._look(self._folder / os.fsdecode(name))

    def _look(self, path: Path) -> None:
        try:
            good = self._judge(path)
        except Exception as error:  # noqa: BLE001  whatever it is, a test has to hear of it
            self.bad.append(f"{path.name}: {error!r}")
        else:
            self.looked_at += 1
            if not good:
                self.bad.append(f"{path.name}: not whole")
