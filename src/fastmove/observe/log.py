"""The log: one line for each event, `LEVEL event=KEY assoc=N peer=HOST:PORT aet="TITLE" ...`.

What is in a data set, an identifier or a comment of a PACS is in no line: it may name a patient.  UIDs and paths, which
identify as well, are hashed with a key; what a peer wrote is escaped and cut; what repeats is counted.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import threading
import time
from pathlib import Path
from typing import Final

from fastmove import notices
from fastmove.errors import ConfigurationError
from fastmove.limits import (
    AE_TITLE_BYTES,
    LOG_BURST,
    LOG_SUMMARY_S,
    MAX_LOG_LINE_BYTES,
    MAX_LOG_WINDOWS,
    MIN_LOG_KEY_BYTES,
)
from fastmove.notices import AssociationClosed, AssociationOpened, Notice, PeerMisbehaved
from fastmove.observe.columns import BY_LETTER, COLUMNS, FOREIGN_TEXT, Level, escaped
from fastmove.observe.lines import LineWriter, Place
from fastmove.values import Value

HASH_BYTES: Final = 8
"""Of a UID: two of a hundred million differ, with a chance of 99.97 %."""

_KEY_BYTES: Final = 32


class LogOptions(Value):
    """What is logged, and how; the key is that of the hashes, and secret."""

    secret = frozenset(("key",))

    level: Level = Level.WARNING
    uids: bool = False
    """UIDs and paths in clear."""

    key: bytes = b""
    """Empty: one for this log alone."""


def new_key() -> bytes:
    """A key that nobody knows: hashes of this run cannot be compared with those of others."""
    return secrets.token_bytes(_KEY_BYTES)


def read_key(path: Path) -> bytes:
    """A key from a file that only we can read; ConfigurationError."""
    try:
        with path.open("rb") as file:
            mode, key = os.fstat(file.fileno()).st_mode, file.read(1024)
    except OSError as error:
        raise ConfigurationError("log key", f"cannot read {path}: {error.strerror}") from error
    if stat.S_ISREG(mode) and mode & 0o077:
        raise ConfigurationError("log key", f"{path} can be read by others: chmod 600 {path}")
    if len(key) < MIN_LOG_KEY_BYTES:
        raise ConfigurationError("log key", f"{path} has {len(key)} bytes, fewer than {MIN_LOG_KEY_BYTES}")
    return key


class _Window:
    """Lines of one event and one peer within `LOG_SUMMARY_S`."""

    __slots__ = ("ends", "held", "left", "level")

    def __init__(self, level: Level, ends: float, left: int) -> None:
        self.level = level
        self.ends = ends
        self.left = left
        self.held = 0


class Repetition:
    """Lets `LOG_BURST` of an event and a peer through, and counts the others until the peer has been quiet."""

    def __init__(self) -> None:
        self._windows: dict[tuple[str, str], _Window] = {}

    def lets_through(self, level: Level, event: str, peer: str, now: float) -> bool:
        """False for what is only to be counted."""
        window = self._windows.get((event, peer))
        if window is None:
            if len(self._windows) >= MAX_LOG_WINDOWS:
                peer = "*"
            window = self._windows.setdefault((event, peer), _Window(level, now + LOG_SUMMARY_S, LOG_BURST))
        if window.left:
            window.left -= 1
            return True
        window.held += 1
        return False

    def due(self, now: float) -> list[tuple[Level, str, str, int]]:
        """What was held back, of windows that are over, and how much; they go on if there was any."""
        found = []
        while self._windows:
            key, window = next(iter(self._windows.items()))
            if window.ends > now:
                break
            del self._windows[key]
            if window.held:
                found.append((window.level, *key, window.held))
                self._windows[key] = _Window(window.level, now + LOG_SUMMARY_S, 0)
        return found

    def next_due(self) -> float | None:
        """When to look again."""
        return next((window.ends for window in self._windows.values()), None)


class Log:
    """An observer that writes lines; made to be called from any thread, and takes none of its time for the disk.

    `timed`: lines have the time and the process.  `only`: notices of other kinds are not logged.
    """

    def __init__(
        self,
        place: Place,
        options: LogOptions | None = None,
        *,
        timed: bool = False,
        only: frozenset[type] | None = None,
    ) -> None:
        self.options = options or LogOptions()
        self._key = hashlib.blake2b(self.options.key or new_key()).digest()
        self._timed = timed
        self._only = only
        self._lock = threading.Lock()
        self._repetition = Repetition()
        self._peers: dict[int, tuple[str, str, str]] = {}
        self._writer = LineWriter(place, self._dropped, self._tick)

    def __call__(self, notice: Notice) -> None:
        """Log it, if it is grave enough and is no repetition."""
        kind = type(notice)
        if self._only is not None and kind not in self._only:
            return
        level, columns = COLUMNS[kind]
        if level is None:
            level = BY_LETTER[notices.level(notice.event)]
        if level < self.options.level:
            if kind is AssociationOpened or kind is AssociationClosed:
                self._peer_of(notice)
            return
        host, peer, title = self._peer_of(notice)
        if level > Level.DEBUG:
            with self._lock:
                through = self._repetition.lets_through(level, notice.event, host, time.monotonic())
            if not through:
                return
        fields = [("assoc", str(getattr(notice, "association", "") or "")), ("peer", peer), ("aet", title)]
        for field, name, show in columns:
            if not (name == "detail" and notice.event in FOREIGN_TEXT):
                fields.append((name, show(getattr(notice, field), self)))
        self._writer.write(self._line(level, notice.event, fields))

    def _line(self, level: Level, event: str, fields: list[tuple[str, str]]) -> str:
        if self._timed:
            fields = [("time", _now()), ("pid", str(os.getpid())), *fields]
        line = " ".join((f"{level.name[0]} event={event}", *(f"{name}={text}" for name, text in fields if text)))
        return line[:MAX_LOG_LINE_BYTES]

    def _peer_of(self, notice: Notice) -> tuple[str, str, str]:
        """Host; host and port; and AE title, as text, of whoever it is about."""
        number: int = getattr(notice, "association", 0)
        if isinstance(notice, AssociationOpened):
            found = _address(notice.host, notice.port, notice.calling_ae_title)
            self._peers[number] = found
            return found
        if isinstance(notice, AssociationClosed):
            return self._peers.pop(number, _NOBODY)
        if isinstance(notice, PeerMisbehaved):
            return _address(notice.host, notice.port, notice.calling_ae_title)
        if isinstance(notice, notices.TlsOpened):
            return _address(notice.host, 0, "")
        return self._peers.get(number, _NOBODY)

    def identifying(self, text: str) -> str:
        """A UID or a path as it is, if that was asked for, else its hash: of no use to whoever has not the key."""
        if self.options.uids:
            return f'"{escaped(text)}"'
        data = text.encode("utf-8", "replace")
        return "#" + hashlib.blake2b(data, key=self._key, digest_size=HASH_BYTES).hexdigest()

    def say(self, text: str) -> None:
        """A line for a person, in its turn."""
        self._writer.write(text[:MAX_LOG_LINE_BYTES])

    def reopen(self) -> None:
        """Begin the file anew: the old one has another name now."""
        self._writer.reopen()

    def close(self) -> None:
        """Say what was held back, and write what is there, if the place takes it within a second."""
        self._summarise(float("inf"))
        self._writer.close()

    def __enter__(self) -> Log:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # ------------------------------------------------------------------ what repeats, and what is lost

    def _tick(self) -> float | None:
        now = time.monotonic()
        self._summarise(now)
        with self._lock:
            due = self._repetition.next_due()
        return None if due is None else max(due - now, 0.0)

    def _summarise(self, until: float) -> None:
        with self._lock:
            held_back = self._repetition.due(until)
        for level, event, host, number in held_back:
            self._writer.write(self._line(level, event, [("peer", host), ("repeated", str(number))]))

    def _dropped(self, number: int) -> str:
        return self._line(Level.WARNING, "log.dropped", [("lines", str(number))])


_NOBODY: Final = ("", "", "")


def _address(host: str, port: int, title: str) -> tuple[str, str, str]:
    shown = escaped(host)
    at = f"[{shown}]:{port}" if ":" in shown else f"{shown}:{port}"
    return shown, at if port else shown, f'"{escaped(title[:AE_TITLE_BYTES])}"' if title else ""


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
