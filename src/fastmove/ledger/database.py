"""Connections to a ledger: SQLite or PostgreSQL, three kinds of transactions, and the version of the tables.

Facts survive a power cut once they are committed.  Claims may be lost with one: a study is then claimed anew.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from random import randrange
from typing import Any, Final, NamedTuple
from urllib.parse import quote

import aiosqlite
from sqlalchemy import URL, AsyncAdaptedQueuePool, Connection, event, inspect, make_url, select, table, text
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.sql import column

from fastmove.errors import LedgerError
from fastmove.ledger.one_trip import OneTripConnection
from fastmove.ledger.schema import REVISION, VERSION_TABLE

BUSY_S: Final = 30.0
"""How long a process waits for another one that writes to the same file."""

PARTS: Final = 16
"""Rows of `progress` for a minute at most, where several processes write at the same time."""

READERS: Final = 4
"""Connections that read a SQLite file at the same time, beside those that write."""

CONNECTIONS: Final = 4
"""Of one process to PostgreSQL at most."""

_SILENT_MS: Final = 8000
"""A PostgreSQL that does not acknowledge for so long what it was asked is out of reach."""

_OURS: Final = {"connect_timeout": 5, "keepalives_idle": 5, "keepalives_interval": 2, "tcp_user_timeout": _SILENT_MS}
_ITS: Final = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_user_timeout": 25_000}
"""By parameters of libpq and of the server: a process knows after 15 s at most that it cannot reach the server, and
the server after 30 s that a host is gone, whose rows nobody else can change before.  Linux alone would take hours."""

_SECRETS: Final = ("password", "sslpassword")
"""Parameters of a connection that nobody is to see, where they are given in the query of a URL."""

_SCHEMES: Final = ("postgresql", "postgres")

_SQLITE: Final = b"SQLite format 3\0"

_UPGRADING: Final = 0x666D6C67
"""What processes that would upgrade the same PostgreSQL ledger wait for one another by; a number of our own."""

_WRITING: Final = ("journal_mode=WAL", "foreign_keys=ON", "temp_store=MEMORY")
_PRAGMAS: Final = {
    # A checkpoint takes longer than a claim may; the next fact makes it.
    "facts": (*_WRITING, "synchronous=FULL", "cache_size=-65536", "wal_autocheckpoint=16000"),
    "claims": (*_WRITING, "synchronous=NORMAL", "wal_autocheckpoint=0"),
    "reads": ("query_only=ON", "temp_store=MEMORY"),
}


class Way(NamedTuple):
    """How a kind of transaction is made: by which connections, how it begins, and whose turn it is."""

    engine: AsyncEngine
    begin: tuple[str, ...]
    turn: AbstractAsyncContextManager[Any]


class Database:
    """Transactions of three kinds; `part` is the one of `progress` that this process counts in."""

    def __init__(self, facts: Way, claims: Way, reads: Way, part: int) -> None:
        self._facts = facts
        self._claims = claims
        self._reads = reads
        self.part = part
        self.dialect = reads.engine.dialect.name
        self.shared = self.dialect == "postgresql"
        """True if several hosts may use it."""

    def fact(self, operation: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that survives a power cut; LedgerError, with the operation, if it fails."""
        return _transaction(self._facts, operation)

    def claim(self, operation: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that may be lost with a power cut, and waits for no disk."""
        return _transaction(self._claims, operation)

    def read(self, operation: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """A transaction that sees the ledger as it is at one moment, whoever writes meanwhile."""
        return _transaction(self._reads, operation)

    async def session(self) -> AsyncConnection:
        """A connection of one's own, each statement a transaction; LedgerError."""
        try:
            connection = await self._claims.engine.connect()
            return await connection.execution_options(isolation_level="AUTOCOMMIT")
        except SQLAlchemyError as error:
            raise LedgerError("session", getattr(error, "orig", None) or error) from error

    async def close(self) -> None:
        """End all connections."""
        for way in (self._facts, self._claims, self._reads):
            await way.engine.dispose()


@asynccontextmanager
async def _transaction(way: Way, operation: str) -> AsyncIterator[AsyncConnection]:
    try:
        async with way.turn:
            connection = await _connected(way.engine)
            try:
                async with connection.begin():
                    for statement in way.begin:
                        await connection.exec_driver_sql(statement)
                    yield connection
            except asyncio.CancelledError:
                # Its last statement may still be running: nobody else is to have this connection.
                await _ended(connection.invalidate())
                raise
            finally:
                await _ended(connection.close())
    except SQLAlchemyError as error:
        raise LedgerError(operation, getattr(error, "orig", None) or error) from error


async def _ended(ending: Coroutine[Any, Any, None]) -> None:
    """Wait until this has ended, however often we are cancelled meanwhile; only then we are."""
    task, cancelled = asyncio.create_task(ending), None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
    task.result()


async def _connected(engine: AsyncEngine) -> AsyncConnection:
    """A connection; who is cancelled meanwhile leaves none behind, as there may be one that nobody has yet."""
    connection = engine.connect()
    connecting = asyncio.ensure_future(connection.start())
    try:
        await asyncio.shield(connecting)
    except asyncio.CancelledError:
        await asyncio.wait([connecting])
        if connecting.exception() is None:
            await connection.close()
        raise
    return connection


# ---------------------------------------------------------------------- opening


async def opened(where: str | Path, *, create: bool, read_only: bool) -> Database:
    """A path is SQLite, `postgresql://...` PostgreSQL; LedgerError if there is no ledger that this version can use."""
    if isinstance(where, str) and "://" in where:
        database = _postgresql(_url(where), read_only=read_only)
    else:
        database = _sqlite(_file(Path(where), create=create and not read_only), read_only=read_only)
    try:
        await _checked(database, shown(where), create=create, read_only=read_only)
    except BaseException:
        await database.close()
        raise
    return database


def shown(where: str | Path) -> str:
    """Where a ledger is, for people to read: without the passwords that the URL of a database may have; LedgerError."""
    if not isinstance(where, str) or "://" not in where:
        return str(where)
    url = _url(where).set(drivername="postgresql")
    return url.difference_update_query(_SECRETS).render_as_string(hide_password=True)


async def _checked(database: Database, name: str, *, create: bool, read_only: bool) -> None:
    """Bring the tables up to date, if that is ours to do."""
    async with database.read("open") as connection:
        revision, empty = await connection.run_sync(_revision)
    if revision is None and not (create and not read_only and (empty or database.dialect != "sqlite")):
        raise LedgerError("open", f"{name} is no ledger")
    if revision is not None and (not revision.isdigit() or int(revision) > int(REVISION)):
        raise LedgerError("open", f"{name} is of a newer version of fastmove (tables {revision}): upgrade fastmove")
    if revision == REVISION:
        return
    if read_only:
        raise LedgerError("open", f"{name} is of an older version of fastmove: open it to write once, to upgrade it")
    async with database.fact("upgrade") as connection:
        if database.dialect == "postgresql":
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _UPGRADING})
        await connection.run_sync(_upgrade)


def _revision(connection: Connection) -> tuple[str | None, bool]:
    """That of the tables, if there are some of ours; and whether there are none at all."""
    tables = inspect(connection).get_table_names()
    if VERSION_TABLE not in tables:
        return None, not tables
    return connection.execute(select(column("version_num")).select_from(table(VERSION_TABLE))).scalar(), False


def _upgrade(connection: Connection) -> None:
    """To the newest revision, whatever is there."""
    from alembic import command  # a tenth of a second, and hardly ever needed
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _file(path: Path, *, create: bool) -> Path:
    """The file of a ledger, perhaps an empty one; LedgerError if it is not there, or certainly something else."""
    try:
        if create and not path.exists():
            os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))  # who has which studies is nobody's business
        with path.open("rb") as file:
            beginning = file.read(len(_SQLITE))
    except FileNotFoundError:
        missing = path if path.parent.is_dir() else path.parent
        raise LedgerError("open", f"there is no {missing}") from None
    except OSError as error:
        raise LedgerError("open", f"{path} cannot be opened: {error.strerror or error}") from error
    if beginning not in (b"", _SQLITE):
        raise LedgerError("open", f"{path} is no ledger")
    return path


def _sqlite(path: Path, *, read_only: bool) -> Database:
    turn = asyncio.Lock()  # SQLite has one writer; who waits for it outside polls
    reads = Way(_file_engine(path, "reads", READERS, "ro" if read_only else "rw"), ("BEGIN",), nullcontext())
    if read_only:
        return Database(reads, reads, reads, 0)
    facts, claims = (Way(_file_engine(path, kind, 1, "rw"), ("BEGIN IMMEDIATE",), turn) for kind in ("facts", "claims"))
    return Database(facts, claims, reads, 0)


def _file_engine(path: Path, kind: str, connections: int, mode: str) -> AsyncEngine:
    def connect() -> sqlite3.Connection:
        # Transactions begin as we say, not when the module sees fit.
        return sqlite3.connect(f"file:{quote(str(path))}?mode={mode}", uri=True, isolation_level=None, timeout=BUSY_S)

    async def connected() -> aiosqlite.Connection:
        return await OneTripConnection(connect)

    engine = create_async_engine(
        "sqlite+aiosqlite://",
        async_creator=connected,
        poolclass=AsyncAdaptedQueuePool,
        pool_size=connections,
        max_overflow=0,
        pool_reset_on_return=None,  # each transaction has ended by itself; another rollback is a trip to the thread
    )

    @event.listens_for(engine.sync_engine, "connect")
    def set_up(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        for pragma in _PRAGMAS[kind]:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "handle_error")
    def keep(context: ExceptionContext) -> None:
        # SQLAlchemy would close the connection of a call that was cancelled, and not wait for its statement if that
        # call is cancelled once more: it would still write while another one has its turn.  `_transaction` does it.
        if isinstance(context.original_exception, asyncio.CancelledError):
            context.is_disconnect = False

    return engine


def _url(where: str) -> URL:
    """That of a PostgreSQL database; LedgerError for any other."""
    try:
        url = make_url(where)
    except (ArgumentError, ValueError):
        raise LedgerError("open", "the database is not given as postgresql://USER@HOST:PORT/NAME") from None
    if url.get_backend_name() not in _SCHEMES:
        raise LedgerError("open", f"{url.drivername}: a ledger is a file, or postgresql://...")
    return url.set(drivername="postgresql+psycopg")


def reached_by(where: str | URL) -> dict[str, Any]:
    """Parameters of a connection to this PostgreSQL by which both sides learn in time that the other one is gone."""
    users = make_url(where).query.get("options", "")
    return {**_OURS, "options": " ".join((*(f"-c {name}={value}" for name, value in _ITS.items()), str(users))).strip()}


def _postgresql(url: URL, *, read_only: bool) -> Database:
    reach = reached_by(url)
    try:
        engine = create_async_engine(url, pool_size=CONNECTIONS, max_overflow=0, pool_pre_ping=True, connect_args=reach)
    except ModuleNotFoundError as error:
        raise LedgerError("open", f"PostgreSQL needs {error.name}: pip install 'fastmove[fleet]'") from error
    reads = Way(engine, ("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",), nullcontext())
    if read_only:
        return Database(reads, reads, reads, 0)
    claims = Way(engine, ("SET LOCAL synchronous_commit TO off",), nullcontext())
    return Database(Way(engine, (), nullcontext()), claims, reads, randrange(PARTS))
