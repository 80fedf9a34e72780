"""Lines to a place that may be slow, full, or gone: nobody who writes one ever waits for it.

A bounded queue and a thread.  What does not fit is dropped and counted, and when the place takes lines again it is told
how many were.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TextIO

from fastmove.errors import ConfigurationError
from fastmove.limits import LOG_CLOSE_S, LOG_QUEUE_LINES, LOG_RETRY_S

_ROOM_MS: Final = 100
"""How long a line waits for room at a time; in between it is looked whether we are closing."""


class Place(Protocol):
    """Where lines go."""

    def write(self, line: bytes) -> None:
        """Write a line and its newline; OSError if the place does not take it now, EPIPE if it never will again."""

    def reopen(self) -> None:
        """What was opened may have been renamed: begin anew.  OSError."""

    def close(self) -> None:
        """No more lines come."""


def _await_room(fd: int) -> None:
    """Until a write of at most PIPE_BUF bytes, more than any line has, goes through at once; or BlockingIOError."""
    waiting = select.poll()
    waiting.register(fd, select.POLLOUT)
    if not waiting.poll(_ROOM_MS):
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


class LogFile:
    """A file that is added to, made with mode 0600; a new one is begun when somebody has renamed or deleted it.

    ConfigurationError if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._torn = False
        try:
            self._fd = self._open()
        except OSError as error:
            raise ConfigurationError("log file", f"cannot write {path}: {error.strerror}") from error
        self._looked = time.monotonic()

    def _open(self) -> int:
        # Non-blocking: there may be a FIFO in its place, that nobody reads.
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        return os.open(self._path, flags, 0o600)

    def write(self, line: bytes) -> None:
        """One write for each line: several processes may add to one file."""
        if time.monotonic() - self._looked >= LOG_RETRY_S:
            self._look()
        _await_room(self._fd)
        data = (b"\n" if self._torn else b"") + line + b"\n"
        self._torn = os.write(self._fd, data) < len(data)
        if self._torn:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _look(self) -> None:
        """Whether the file is still under its name."""
        self._looked = time.monotonic()
        ours = os.fstat(self._fd)
        try:
            there = self._path.stat()
        except FileNotFoundError:
            self.reopen()
        else:
            if (ours.st_dev, ours.st_ino) != (there.st_dev, there.st_ino):
                self.reopen()

    def reopen(self) -> None:
        """Open it by its name once more."""
        fd = self._open()
        os.close(self._fd)
        self._fd, self._torn = fd, False

    def close(self) -> None:
        """Close it."""
        os.close(self._fd)


class Stream:
    """Standard error, or whatever is in its place when a line is written, if that has no descriptor."""

    def __init__(self, stream: Callable[[], TextIO] = lambda: sys.stderr) -> None:
        self._stream = stream
        self._fd = -1
        with contextlib.suppress(OSError, ValueError):
            if not stream().isatty():  # a terminal may show a bar, which the stream knows how to go around
                self._fd = stream().fileno()

    def write(self, line: bytes) -> None:
        """A line, in one write."""
        if self._fd < 0:
            print(line.decode("ascii"), file=self._stream(), flush=True)
        else:
            _await_room(self._fd)
            os.write(self._fd, line + b"\n")

    def reopen(self) -> None:
        """A stream is what it is."""

    def close(self) -> None:
        """It is not ours."""


class LineWriter:
    """Writes lines to a place in a thread of its own; `tick` is called there, and says in how many seconds again."""

    def __init__(
        self,
        place: Place,
        dropped: Callable[[int], str],
        tick: Callable[[], float | None] = lambda: None,
        *,
        name: str = "log",
        close_s: float = LOG_CLOSE_S,
    ) -> None:
        self._close_s = close_s
        self._place = place
        self._tell_dropped = dropped
        self._tick = tick
        self._lines: deque[bytes] = deque()
        self._news = threading.Condition()
        self._closing = threading.Event()
        self._deadline = 0.0
        self._dropped = 0
        self._reopen = False
        self._gone = False
        """Nobody will ever read what is written there."""

        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Have a line written, without its newline; what is not ASCII is escaped."""
        data = line.encode("ascii", "backslashreplace")
        with self._news:
            if self._gone or self._closing.is_set() or len(self._lines) >= LOG_QUEUE_LINES:
                self._dropped += 1
                return
            self._lines.append(data)
            self._news.notify()

    def reopen(self) -> None:
        """Begin the file anew before the next line: the old one has another name now."""
        with self._news:
            self._reopen = True
            self._news.notify()

    @property
    def dropped(self) -> int:
        """Lines that were not written, and not told of yet."""
        return self._dropped

    def close(self) -> None:
        """Write what is there, if the place takes it within `close_s`."""
        self._deadline = time.monotonic() + self._close_s
        self._closing.set()
        with self._news:
            self._news.notify()
        self._thread.join(2 * self._close_s)  # a write that hangs in the file system cannot be given up: the thread is

    # ------------------------------------------------------------------ the thread

    def _work(self) -> None:
        try:
            while self._wait():
                self._write_all()
        finally:
            self._place.close()

    def _wait(self) -> bool:
        """Until there is something to do; False when it is over."""
        pause = self._tick()
        with self._news:
            if not self._due and not self._closing.is_set():
                self._news.wait(pause)
            return self._due or not self._closing.is_set()

    @property
    def _due(self) -> bool:
        return not self._gone and bool(self._lines or self._dropped or self._reopen)

    def _write_all(self) -> None:
        while self._due:
            try:
                self._write_one()
            except OSError as error:
                self._gone = error.errno == errno.EPIPE
                if self._closing.is_set():
                    self._gone |= error.errno != errno.EAGAIN or time.monotonic() >= self._deadline
                elif error.errno != errno.EAGAIN:
                    self._closing.wait(LOG_RETRY_S)

    def _write_one(self) -> None:
        """Whatever comes first; it is only taken from the queue when it is written."""
        if self._reopen:
            self._reopen = False
            try:
                self._place.reopen()
            except OSError:
                self._reopen = True
                raise
        elif dropped := self._dropped:
            self._place.write(self._tell_dropped(dropped).encode("ascii"))
            with self._news:
                self._dropped -= dropped
        else:
            self._place.write(self._lines[0])
            with self._news:
                self._lines.popleft()
