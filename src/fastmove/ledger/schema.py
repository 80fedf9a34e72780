"""The tables of the ledger, for SQLite and PostgreSQL alike; `migrations/` makes the same, step by step.

Times are milliseconds since 1970, in UTC.  What a column means is its `doc`; the reference page has the same.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    literal_column,
)
from sqlalchemy.sql.elements import ColumnElement

from fastmove.ledger.model import JobState

REVISION: Final = "0003"
"""The newest of `migrations/versions`; they count up, so that an older ledger can be told from a newer one."""

VERSION_TABLE: Final = "ledger_version"
"""Where a ledger has its revision; not Alembic's usual name, as others may use the same database."""

METADATA: Final = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pk",
        "fk": "%(table_name)s_%(column_0_name)s_fk",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ix": "%(table_name)s_%(column_0_N_name)s_ix",
    }
)

# An INTEGER PRIMARY KEY is SQLite's own row number; a BIGINT one would be an index more.
_Id: Final = BigInteger().with_variant(Integer, "sqlite")

# Compared byte by byte, as SQLite does: by the rules of a language it takes longer, and the order is another.
_Uid: Final = Text().with_variant(Text(collation="C"), "postgresql")


def _column(name: str, kind: Any, doc: str, *more: Any, **options: Any) -> Column[Any]:
    """One that always has a value, unless `nullable` says otherwise."""
    return Column(name, kind, *more, doc=doc, **{"nullable": False, **options})


def _maybe(name: str, kind: Any, doc: str, *more: Any) -> Column[Any]:
    """One that may be unknown."""
    return _column(name, kind, doc, *more, nullable=True)


def _text(name: str, doc: str) -> Column[Any]:
    """One that is empty until somebody says something."""
    return _column(name, Text, doc, server_default="")


def _count(name: str, doc: str, kind: Any = Integer) -> Column[Any]:
    """One that begins with 0."""
    return _column(name, kind, doc, server_default="0")


def _outcome() -> tuple[Column[Any], ...]:
    """What a study and each attempt at it have of an outcome."""
    return (
        _text("verdict", "What it came to"),
        _text("reason_class", "Why, as a class"),
        _text("reason", "Why, in words"),
        _maybe("status", Integer, "Final status of the C-MOVE"),
        _maybe("listed", Integer, "Instances that the PACS listed"),
        _count("missing", "Of those, how many did not come"),
        _count("stored", "Instances stored"),
        _count("nbytes", "Bytes of them", BigInteger),
        _column("seconds", Float, "How long it took", server_default="0"),
    )


def _proof() -> Column[Any]:
    """Apart from the rest of an outcome, and last: columns that came later are at the end."""
    return _text("proof", "What proves that the destination has all of it, once it is complete")


batch: Final = Table(
    "batch",
    METADATA,
    _column("id", _Id, "Its number", primary_key=True),
    _column("name", Text, "What an operator calls it", unique=True),
    _column("source", Text, "The peer that it is migrated from"),
    _column("settings", JSON, "How it is migrated"),
    _column("wish", Text, "What an operator wants of it: run, pause, drain, stop"),
    _column("created_ms", BigInteger, "When it was made"),
    info={"doc": "Studies that are migrated from one peer by the same settings."},
)

study_job: Final = Table(
    "study_job",
    METADATA,
    _column("id", _Id, "Its number", primary_key=True),
    _column("batch_id", _Id, "The batch that it is in", ForeignKey("batch.id")),
    _column("study_instance_uid", _Uid, "The study; once in a batch"),
    _text("patient_id", "As the PACS lists it"),
    _text("study_date", "As the PACS lists it, YYYYMMDD"),
    _text("modalities", "As the PACS lists them"),
    _maybe("instances", Integer, "Instances, as the PACS counts them"),
    _count("priority", "Higher ones come first"),
    _count("rank", "Within a priority, lower ones come first", BigInteger),
    _column("state", Text, "ready, waiting, moving, complete, parked"),
    _count("attempts", "Attempts in a row that brought nothing, and the one that is under way"),
    _count("fence", "Goes up whenever the study, or its place, changes: who has an older one may write nothing"),
    _text("owner", "Who has claimed it"),
    _maybe("lease_ms", BigInteger, "Until when it is the owner's"),
    _maybe("due_ms", BigInteger, "When a waiting one is tried again"),
    *_outcome(),
    _column("added_ms", BigInteger, "When it was added"),
    _maybe("ended_ms", BigInteger, "When its last attempt ended, or it was parked"),
    _proof(),
    info={"doc": "A study to migrate, and how far that is."},
)

series: Final = Table(
    "series",
    METADATA,
    _column("job_id", _Id, "The study", ForeignKey("study_job.id"), primary_key=True),
    _column("number", Integer, "Counts from 1 in a study", primary_key=True),
    _column("series_instance_uid", Text, "The series"),
    _column("sop_class_uid", Text, "SOP class of the instances"),
    _column("transfer_syntax_uid", Text, "Their transfer syntax, as stored"),
    _column("folder", Text, "Where their files are below the destination, with the slash at its end"),
    info={"doc": "What instances of a series have in common; a series whose instances differ in it has several rows."},
    sqlite_with_rowid=False,
)

instance: Final = Table(
    "instance",
    METADATA,
    _column("job_id", _Id, "The study", primary_key=True),
    _column("sop_instance_uid", _Uid, "The instance", primary_key=True),
    _column("series", Integer, "The row of `series`"),
    _column("nbytes", BigInteger, "Bytes of its file"),
    _maybe("digest", LargeBinary, "SHA-256 of its file, if known"),
    _maybe("name", Text, "Name of its file, unless that is the SOP Instance UID and .dcm"),
    ForeignKeyConstraint(["job_id", "series"], ["series.job_id", "series.number"]),
    info={"doc": "A stored object."},
    sqlite_with_rowid=False,
)

attempt: Final = Table(
    "attempt",
    METADATA,
    _column("job_id", _Id, "The study", ForeignKey("study_job.id"), primary_key=True),
    _column("fence", Integer, "That of the claim", primary_key=True),
    _column("owner", Text, "Who made it"),
    _column("began_ms", BigInteger, "When it was claimed"),
    _maybe("ended_ms", BigInteger, "When it ended"),
    *_outcome(),
    _proof(),
    info={"doc": "A try at a study."},
    sqlite_with_rowid=False,
)

event: Final = Table(
    "event",
    METADATA,
    _column("id", _Id, "Its number", primary_key=True),
    _column("batch_id", _Id, "The batch", ForeignKey("batch.id")),
    _maybe("job_id", _Id, "The study, if it is about one", ForeignKey("study_job.id")),
    _column("at_ms", BigInteger, "When it was"),
    _column("kind", Text, "What kind of thing it was"),
    _column("text", Text, "In words"),
    info={"doc": "Something to remember of a batch, or of a study in it."},
)

progress: Final = Table(
    "progress",
    METADATA,
    _column("batch_id", _Id, "The batch", ForeignKey("batch.id"), primary_key=True),
    _column("minute", Integer, "Since 1970", primary_key=True),
    _column("part", SmallInteger, "So that the hosts of a fleet need not wait for one row", primary_key=True),
    _count("studies", "Studies completed"),
    _count("instances", "Instances stored"),
    _count("nbytes", "Bytes of them", BigInteger),
    info={"doc": "What came within a minute; all parts of it together."},
    sqlite_with_rowid=False,
)


queued: Final = Table(
    "queued",
    METADATA,
    _column("job_id", _Id, "The study", ForeignKey("study_job.id"), primary_key=True),
    _column("fence", Integer, "That it had then: once it has another one, what is in the queue is void"),
    info={"doc": "What is in the queue of a fleet."},
    sqlite_with_rowid=False,
)

host: Final = Table(
    "host",
    METADATA,
    _column("batch_id", _Id, "The batch", ForeignKey("batch.id"), primary_key=True),
    _column("owner", Text, "What it is called as the owner of studies", primary_key=True),
    _column("ae_title", Text, "Its AE title"),
    _column("moves", Integer, "Moves that it has under way"),
    _column("seen_ms", BigInteger, "When it was last heard of"),
    info={"doc": "A host that runs a batch."},
    sqlite_with_rowid=False,
)


def is_in(state: JobState) -> ColumnElement[bool]:
    """The condition of the index of a state; with the state as a parameter SQLite could not use that index."""
    condition: ColumnElement[bool] = study_job.c.state == literal_column(f"'{state.value}'")
    return condition


# What a summary adds up is in the index, so that it need not look at a million rows; no index has more than the state
# at hand, so that counting what is stored of a study that moves touches none of them.
_SUMMED: Final = tuple(study_job.c[name] for name in ("verdict", "reason_class", "instances", "stored", "nbytes"))
_KEYS: Final[dict[JobState, tuple[Any, ...]]] = {
    JobState.READY: (study_job.c.priority.desc(), study_job.c.rank, study_job.c.id, *_SUMMED),
    JobState.WAITING: (study_job.c.due_ms, *_SUMMED),
    JobState.MOVING: (study_job.c.lease_ms,),
    JobState.COMPLETE: _SUMMED,
    JobState.PARKED: _SUMMED,
}
for _state, _keys in _KEYS.items():
    Index(
        f"study_job_{_state.value}_ix",
        study_job.c.batch_id,
        *_keys,
        sqlite_where=is_in(_state),
        postgresql_where=is_in(_state),
    )
Index(
    "study_job_owner_ix",
    study_job.c.owner,
    sqlite_where=is_in(JobState.MOVING),
    postgresql_where=is_in(JobState.MOVING),
)
# The batch last, lest SQLite take this index for everything that is asked of a batch.
Index("study_job_study_key", study_job.c.study_instance_uid, study_job.c.batch_id, unique=True)
Index("event_batch_ix", event.c.batch_id, event.c.id)
Index("event_job_ix", event.c.job_id, event.c.id)
