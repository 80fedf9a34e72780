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
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from fastmove import notices
from fastmove.errors import ConfigurationError
from fastmove.limits import (
    AE_TITLE_BYTES,
    LOG_BURST,
    LOG_SUMMARY_S,
    MAX_LOG_FIELD_CHARS,
    MAX_LOG_LINE_BYTES,
    MAX_LOG_WINDOWS,
    MIN_LOG_KEY_BYTES,
)
from fastmove.notices import AssociationClosed, AssociationOpened, Notice, PeerMisbehaved
from fastmove.observe.lines import LineWriter, Place
from fastmove.values import Value

HASH_BYTES: Final = 8
"""Of a UID: two of a hundred million differ, with a chance of 99.97 %."""

_KEY_BYTES: Final = 32
_CUT: Final = "..."

FOREIGN_TEXT: Final = frozenset(("move.pending_detail",))
"""Events whose detail a PACS has written in its own words: it is not logged."""


class Level(IntEnum):
    """How grave; the letter is its first one."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


_BY_LETTER: Final = {level.name[0]: level for level in Level}


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


def escaped(text: object, limit: int = MAX_LOG_FIELD_CHARS) -> str:
    """Text that somebody else wrote: printable ASCII on one line, without quotes, at most so many characters."""
    found = str(text)[: limit + 1]
    plain = found.encode("unicode_escape").decode("ascii").replace('"', "\\x22")
    if len(plain) <= limit and len(found) <= limit:
        return plain
    parts, room = [], limit - len(_CUT)
    for character in found:
        part = character.encode("unicode_escape").decode("ascii").replace('"', "\\x22")
        room -= len(part)
        if room < 0:
            break
        parts.append(part)
    return "".join(parts) + _CUT


def _text(value: object, _: Log) -> str:
    return f'"{escaped(value)}"' if value != "" else ""


def _title(value: object, _: Log) -> str:
    return f'"{escaped(str(value)[:AE_TITLE_BYTES])}"' if value != "" else ""


def _plain(value: object, _: Log) -> str:
    return "" if value is None else escaped(value)


def _status(value: Any, _: Log) -> str:
    return "" if value is None else f"{value:04X}"


def _number_of(value: Any, _: Log) -> str:
    return str(len(value))


def _reasons(value: Any, _: Log) -> str:
    return escaped(",".join(value))


def _identifying(value: Any, log: Log) -> str:
    return "" if not value else f'"{escaped(value)}"' if log.options.uids else log.hashed(str(value))


class Column(NamedTuple):
    """A field of a notice in the line: its name there, and what makes text of its value; empty text is left out."""

    field: str
    name: str
    show: Callable[[Any, Log], str] = _plain


_OF_OBJECT: Final = (Column("sop_class_uid", "class"), Column("sop_instance_uid", "sop", _identifying))
_DETAIL: Final = Column("detail", "detail", _text)
_OF_MOVE: Final = tuple(Column(name, name) for name in ("remaining", "completed", "failed", "warning"))

COLUMNS: Final[dict[type, tuple[Level | None, tuple[Column, ...]]]] = {
    notices.AssociationOpened: (
        Level.INFO,
        (Column("called_ae_title", "called", _title), Column("contexts", "contexts"), Column("max_pdu_length", "pdu")),
    ),
    notices.AssociationClosed: (Level.INFO, (Column("how", "how"), Column("objects", "objects"))),
    notices.PeerMisbehaved: (None, (_DETAIL,)),
    notices.HostStrained: (None, (_DETAIL,)),
    notices.TlsOpened: (Level.INFO, tuple(Column(name, name) for name in ("version", "cipher", "fingerprint"))),
    notices.TlsReloaded: (Level.INFO, (Column("certificate", "certificate", _text),)),
    notices.EchoReceived: (Level.DEBUG, (Column("message_id", "message"),)),
    notices.InstanceStored: (
        Level.DEBUG,
        (*_OF_OBJECT, Column("nbytes", "bytes"), Column("placing", "placing"), Column("path", "path", _identifying)),
    ),
    notices.InstanceRefused: (None, (Column("status", "status", _status), *_OF_OBJECT, _DETAIL)),
    notices.ManifestFailed: (None, (Column("path", "path", _identifying), _DETAIL)),
    notices.MoveProgressed: (Level.DEBUG, (Column("status", "status", _status), *_OF_MOVE)),
    notices.CancelSent: (Level.INFO, (Column("message_id", "message"),)),
    notices.ParallelismChanged: (Level.DEBUG, (Column("limit", "limit"),)),
    notices.QueryUnresolved: (Level.WARNING, (Column("keys", "keys", _number_of), Column("found", "found"))),
    notices.RoundStarted: (
        Level.WARNING,
        (
            Column("study_instance_uid", "study", _identifying),
            Column("round", "round"),
            Column("missing", "missing"),
            Column("delay_s", "delay_s"),
        ),
    ),
    notices.StudyRetrieved: (
        Level.INFO,
        (
            Column("study_instance_uid", "study", _identifying),
            Column("series_instance_uid", "series", _identifying),
            Column("verdict", "verdict"),
            Column("reasons", "reasons", _reasons),
            *(Column(name, name) for name in ("listed", "stored", "present")),
            Column("missing", "missing", _number_of),
            Column("rounds", "rounds"),
            Column("status", "status", _status),
        ),
    ),
    notices.InstanceSent: (
        Level.DEBUG,
        (
            Column("sop_instance_uid", "sop", _identifying),
            Column("nbytes", "bytes"),
            Column("status", "status", _status),
        ),
    ),
    notices.ListenerStarted: (
        Level.INFO,
        (Column("host", "host"), Column("port", "port"), Column("processes", "processes")),
    ),
    notices.ListenerStopped: (Level.INFO, (Column("objects", "objects"), Column("nbytes", "bytes"))),
    notices.UnfinishedRemoved: (Level.INFO, (Column("files", "files"),)),
    notices.PacsStarted: (Level.INFO, (Column("port", "port"), Column("instances", "instances"))),
    notices.FileSkipped: (Level.WARNING, (Column("path", "path", _identifying),)),
    notices.FaultCommitted: (Level.INFO, (Column("fault", "fault"),)),
    notices.QueryAnswered: (
        Level.INFO,
        (Column("level", "level"), Column("status", "status", _status), Column("matches", "matches")),
    ),
    notices.MoveAnswered: (
        Level.INFO,
        (
            Column("move_destination", "destination", _title),
            Column("status", "status", _status),
            *_OF_MOVE,
        ),
    ),
    notices.SignalReceived: (Level.INFO, (Column("signal", "signal"),)),
    notices.ErrorOccurred: (None, (Column("error", "error"), Column("where", "where", _text))),
}
"""Of each notice: its level, None where the event says it, and what of it is in the line, in this order."""


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
            level = _BY_LETTER[notices.level(notice.event)]
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

    def hashed(self, text: str) -> str:
        """The same for the same text in this run, and of no use to whoever has not the key."""
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
