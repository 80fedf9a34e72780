"""A ledger as it is at one moment, however long somebody looks at it, and whoever writes to it meanwhile."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Any

from fastmove.ledger.database import Database, opened
from fastmove.ledger.reading import Reading


class _OneTransaction(Database):
    """Everything that is asked is asked within the same transaction."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def read(self, operation: str) -> AbstractAsyncContextManager[Any]:
        """The transaction that is under way; it ends elsewhere."""
        return nullcontext(self._connection)


@asynccontextmanager
async def at_one_moment(where: str) -> AsyncIterator[Reading]:
    """Everything that is read within the block is of the moment at which the first of it is; LedgerError.

    One question at a time.  While the block lasts SQLite keeps in its log what is written meanwhile.
    """
    database = await opened(where, create=False, read_only=True)
    try:
        async with database.read("report") as connection:
            yield Reading(_OneTransaction(connection))
    finally:
        await database.close()
