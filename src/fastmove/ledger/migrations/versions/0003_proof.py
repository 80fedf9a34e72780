"""What proves that a destination has a study."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0003"
down_revision: Final = "0002"


def upgrade() -> None:
    """A column more, of studies and of attempts; of those that are over already nothing is known."""
    for table in ("study_job", "attempt"):
        op.add_column(table, sa.Column("proof", sa.Text, server_default="", nullable=False))
