"""The first tables."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None

ID: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")
UID: Final = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")


def column(name: str, kind: Any, default: str | None = None, *, nullable: bool = False) -> sa.Column[Any]:
    """One that has a value, unless it may be null."""
    return sa.Column(name, kind, nullable=nullable, server_default=default)


def outcome() -> tuple[sa.Column[Any], ...]:
    """What a study and an attempt have in common."""
    return (
        column("verdict", sa.Text, ""),
        column("reason_class", sa.Text, ""),
        column("reason", sa.Text, ""),
        column("status", sa.Integer, nullable=True),
        column("listed", sa.Integer, nullable=True),
        column("missing", sa.Integer, "0"),
        column("stored", sa.Integer, "0"),
        column("nbytes", sa.BigInteger, "0"),
        column("seconds", sa.Float, "0"),
    )


def upgrade() -> None:
    """From nothing."""
    op.create_table(
        "batch",
        column("id", ID),
        column("name", sa.Text),
        column("source", sa.Text),
        column("settings", sa.JSON),
        column("wish", sa.Text),
        column("created_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="batch_pk"),
        sa.UniqueConstraint("name", name="batch_name_key"),
    )
    op.create_table(
        "study_job",
        column("id", ID),
        column("batch_id", ID),
        column("study_instance_uid", UID),
        column("patient_id", sa.Text, ""),
        column("study_date", sa.Text, ""),
        column("modalities", sa.Text, ""),
        column("instances", sa.Integer, nullable=True),
        column("priority", sa.Integer, "0"),
        column("rank", sa.BigInteger, "0"),
        column("state", sa.Text),
        column("attempts", sa.Integer, "0"),
        column("fence", sa.Integer, "0"),
        column("owner", sa.Text, ""),
        column("lease_ms", sa.BigInteger, nullable=True),
        column("due_ms", sa.BigInteger, nullable=True),
        *outcome(),
        column("added_ms", sa.BigInteger),
        column("ended_ms", sa.BigInteger, nullable=True),
        sa.PrimaryKeyConstraint("id", name="study_job_pk"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="study_job_batch_id_fk"),
    )
    op.create_table(
        "series",
        column("job_id", ID),
        column("number", sa.Integer),
        column("series_instance_uid", sa.Text),
        column("sop_class_uid", sa.Text),
        column("transfer_syntax_uid", sa.Text),
        column("folder", sa.Text),
        sa.PrimaryKeyConstraint("job_id", "number", name="series_pk"),
        sa.ForeignKeyConstraint(["job_id"], ["study_job.id"], name="series_job_id_fk"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "instance",
        column("job_id", ID),
        column("sop_instance_uid", UID),
        column("series", sa.Integer),
        column("nbytes", sa.BigInteger),
        column("digest", sa.LargeBinary, nullable=True),
        column("name", sa.Text, nullable=True),
        sa.PrimaryKeyConstraint("job_id", "sop_instance_uid", name="instance_pk"),
        sa.ForeignKeyConstraint(["job_id", "series"], ["series.job_id", "series.number"], name="instance_job_id_fk"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "attempt",
        column("job_id", ID),
        column("fence", sa.Integer),
        column("owner", sa.Text),
        column("began_ms", sa.BigInteger),
        column("ended_ms", sa.BigInteger, nullable=True),
        *outcome(),
        sa.PrimaryKeyConstraint("job_id", "fence", name="attempt_pk"),
        sa.ForeignKeyConstraint(["job_id"], ["study_job.id"], name="attempt_job_id_fk"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "event",
        column("id", ID),
        column("batch_id", ID),
        column("job_id", ID, nullable=True),
        column("at_ms", sa.BigInteger),
        column("kind", sa.Text),
        column("text", sa.Text),
        sa.PrimaryKeyConstraint("id", name="event_pk"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="event_batch_id_fk"),
        sa.ForeignKeyConstraint(["job_id"], ["study_job.id"], name="event_job_id_fk"),
    )
    op.create_table(
        "progress",
        column("batch_id", ID),
        column("minute", sa.Integer),
        column("part", sa.SmallInteger),
        column("studies", sa.Integer, "0"),
        column("instances", sa.Integer, "0"),
        column("nbytes", sa.BigInteger, "0"),
        sa.PrimaryKeyConstraint("batch_id", "minute", "part", name="progress_pk"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="progress_batch_id_fk"),
        sqlite_with_rowid=False,
    )
    summed = ("verdict", "reason_class", "instances", "stored", "nbytes")
    by_state: dict[str, tuple[Any, ...]] = {
        "ready": (sa.text("priority DESC"), "rank", "id", *summed),
        "waiting": ("due_ms", *summed),
        "moving": ("lease_ms",),
        "complete": summed,
        "parked": summed,
    }
    for state, keys in by_state.items():
        where = sa.text(f"state = '{state}'")
        columns = ["batch_id", *keys]
        op.create_index(f"study_job_{state}_ix", "study_job", columns, sqlite_where=where, postgresql_where=where)
    moving = sa.text("state = 'moving'")
    op.create_index("study_job_owner_ix", "study_job", ["owner"], sqlite_where=moving, postgresql_where=moving)
    op.create_index("study_job_study_key", "study_job", ["study_instance_uid", "batch_id"], unique=True)
    op.create_index("event_batch_ix", "event", ["batch_id", "id"])
    op.create_index("event_job_ix", "event", ["job_id", "id"])
