"""What is in a line of the log, for each kind of notice: a table, and how each value is shown."""

from __future__ import annotations

from collections.abc import Callable
from enum import IntEnum
from typing import Any, Final, NamedTuple, Protocol

from fastmove import notices
from fastmove.limits import AE_TITLE_BYTES, MAX_LOG_FIELD_CHARS

_CUT: Final = "..."

FOREIGN_TEXT: Final = frozenset(("move.pending_detail",))
"""Events whose detail a PACS has written in its own words: it is not logged."""


class Level(IntEnum):
    """How grave; the letter is its first one."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


BY_LETTER: Final = {level.name[0]: level for level in Level}


class Hashes(Protocol):
    """Who hides what identifies a patient."""

    def identifying(self, text: str) -> str:
        """A UID or a path, as it may be shown."""


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


def _text(value: object, _: Hashes) -> str:
    return f'"{escaped(value)}"' if value != "" else ""


def _title(value: object, _: Hashes) -> str:
    return f'"{escaped(str(value)[:AE_TITLE_BYTES])}"' if value != "" else ""


def _plain(value: object, _: Hashes) -> str:
    return "" if value is None else escaped(value)


def _status(value: Any, _: Hashes) -> str:
    return "" if value is None else f"{value:04X}"


def _number_of(value: Any, _: Hashes) -> str:
    return str(len(value))


def _reasons(value: Any, _: Hashes) -> str:
    return escaped(",".join(value))


def _identifying(value: Any, hashes: Hashes) -> str:
    return "" if not value else hashes.identifying(str(value))


class Column(NamedTuple):
    """A field of a notice in the line: its name there, and what makes text of its value; empty text is left out."""

    field: str
    name: str
    show: Callable[[Any, Hashes], str] = _plain


_OF_OBJECT: Final = (Column("sop_class_uid", "class"), Column("sop_instance_uid", "sop", _identifying))
_DETAIL: Final = Column("detail", "detail", _text)
_OF_MOVE: Final = tuple(Column(name, name) for name in ("remaining", "completed", "failed", "warning"))
_OF_COMMITMENT: Final = (
    Column("transaction_uid", "transaction", _identifying),
    *(Column(name, name) for name in ("committed", "failed")),
)

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
    notices.StudyMigrated: (
        Level.INFO,
        (
            Column("study_instance_uid", "study", _identifying),
            *(Column(name, name) for name in ("state", "verdict", "reason_class", "stored", "attempts")),
        ),
    ),
    notices.MigrationNoted: (
        None,
        (Column("study_instance_uid", "study", _identifying), Column("text", "text", _text)),
    ),
    notices.CommitmentReported: (Level.INFO, (*_OF_COMMITMENT, Column("missing", "missing"))),
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
    notices.MoveRequested: (
        Level.INFO,
        (
            Column("move_destination", "destination", _title),
            Column("level", "level"),
            Column("study_instance_uid", "study", _identifying),
            Column("instances", "instances"),
        ),
    ),
    notices.MoveAnswered: (
        Level.INFO,
        (
            Column("move_destination", "destination", _title),
            Column("status", "status", _status),
            *_OF_MOVE,
        ),
    ),
    notices.CommitmentAnswered: (Level.INFO, (Column("status", "status", _status), *_OF_COMMITMENT)),
    notices.SignalReceived: (Level.INFO, (Column("signal", "signal"),)),
    notices.ErrorOccurred: (None, (Column("error", "error"), Column("where", "where", _text))),
}
"""Of each notice: its level, None where the event says it, and what of it is in the line, in this order."""
