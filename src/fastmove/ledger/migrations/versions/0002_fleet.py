"""What the hosts of a fleet have to agree upon."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"

ID: Final = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Two tables more."""
    op.create_table(
        "queued",
        sa.Column("job_id", ID, nullable=False),
        sa.Column("fence", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("job_id", name="queued_pk"),
        sa.ForeignKeyConstraint(["job_id"], ["study_job.id"], name="queued_job_id_fk"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "host",
        sa.Column("batch_id", ID, nullable=False),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("ae_title", sa.Text, nullable=False),
        sa.Column("moves", sa.Integer, nullable=False),
        sa.Column("seen_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "owner", name="host_pk"),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name="host_batch_id_fk"),
        sqlite_with_rowid=False,
    )
