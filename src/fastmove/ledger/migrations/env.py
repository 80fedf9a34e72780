"""Run by Alembic: the migrations, in the transaction of whoever opens the ledger."""

from __future__ import annotations

from alembic import context

from fastmove.ledger.schema import METADATA, VERSION_TABLE

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, version_table=VERSION_TABLE
)
with context.begin_transaction():
    context.run_migrations()
