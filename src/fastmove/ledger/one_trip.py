"""SQLite for asyncio with one trip to the thread of a connection for each statement.

aiosqlite makes four of them: a cursor, the statement, its rows, the end of the cursor.  Beside threads that make
digests each costs a tenth of a millisecond, as the GIL changes hands twice.  And no cursor is left when a call is
cancelled: SQLite would not end its transaction before that is closed.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Self

import aiosqlite

_CHUNK: Final = 64
"""Rows of a trip of aiosqlite's own cursors, which nobody uses here."""


class _Came(NamedTuple):
    """What is left of a cursor that is closed."""

    description: Any
    rowcount: int
    lastrowid: int | None
    rows: Sequence[Any]


class OneTripCursor:
    """A cursor of SQLAlchemy's dialect for aiosqlite: `execute` brings everything, and nothing is left to be closed.

    Nothing can be streamed by it, as nothing here is: what is read of a large ledger is read page by page.
    """

    arraysize = 1

    def __init__(self, connection: OneTripConnection) -> None:
        self._connection = connection
        self._came = _Came(None, -1, None, ())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """As `close`."""

    async def execute(self, sql: str, parameters: Any = ()) -> Self:
        """Run a statement; sqlite3.Error."""
        self._came = await self._connection.trip(lambda cursor: cursor.execute(sql, parameters))
        return self

    async def executemany(self, sql: str, parameters: Any) -> Self:
        """Run a statement for each of the parameters; sqlite3.Error."""
        self._came = await self._connection.trip(lambda cursor: cursor.executemany(sql, parameters))
        return self

    async def fetchall(self) -> Sequence[Any]:
        """The rows that came."""
        return self._came.rows

    async def close(self) -> None:
        """Nothing is open."""

    @property
    def description(self) -> Any:
        """Of the columns, as PEP 249 has it; None if the statement has no rows."""
        return self._came.description

    @property
    def rowcount(self) -> int:
        """Rows that it changed; -1: it is none that changes any."""
        return self._came.rowcount

    @property
    def lastrowid(self) -> int | None:
        """Of the row that it inserted last."""
        return self._came.lastrowid


class OneTripConnection(aiosqlite.Connection):
    """A connection with such cursors; to be awaited once, which opens it."""

    def __init__(self, connect: Callable[[], sqlite3.Connection]) -> None:
        super().__init__(connect, _CHUNK)
        self._stopped: asyncio.Future[Any] | None = None
        self._thread.daemon = True  # as SQLAlchemy has it: who ends without having closed it does not wait for ever

    def stop(self) -> asyncio.Future[Any] | None:
        """End the thread; a second time nothing more is asked of it, as it would never answer."""
        if self._running:
            self._stopped = super().stop()
        return self._stopped

    def cursor(self) -> OneTripCursor:  # type: ignore[override]
        """A cursor; made without a trip."""
        return OneTripCursor(self)

    async def trip(self, run: Callable[[sqlite3.Cursor], object]) -> _Came:
        """What a statement came to, run by the connection's thread with a cursor of its own; sqlite3.Error."""
        connection = self._conn  # not we ourselves: the thread keeps its last call, and nobody would ever collect us

        def there() -> _Came:
            cursor = connection.cursor()
            try:
                run(cursor)
                rows = cursor.fetchall() if cursor.description else ()
                return _Came(cursor.description, cursor.rowcount, cursor.lastrowid, rows)
            finally:
                cursor.close()

        came: _Came = await self._execute(there)  # type: ignore[no-untyped-call]
        return came
