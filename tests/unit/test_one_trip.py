"""A SQLite ledger by one trip to its thread for each statement: what it says it has done, and what is left of it."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from fastmove.ledger.one_trip import OneTripConnection
from fastmove.ledger.store import Ledger


async def test_call_that_is_cancelled_twice_has_ended_when_it_says_so(tmp_path: Path) -> None:
    where = tmp_path / "ledger"
    async with Ledger.open(where, create=True) as ledger:
        batch = await ledger.add_batch("migration", "PACS@192.0.2.1:104", {}, 1.0)
        tasks = asyncio.all_tasks()
        with closing(sqlite3.connect(where, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            task = asyncio.create_task(ledger.event(batch.id, "kind", "text", 1.0))
            for _ in range(3):
                await asyncio.sleep(0.05)  # it waits for the other one by now
                task.cancel()
            await asyncio.wait([task], timeout=0.3)
            assert not task.done(), "its statement still waits for its turn, and may yet be carried out"
            other.execute("ROLLBACK")
        await asyncio.wait([task], timeout=10)
        assert task.cancelled()
        assert asyncio.all_tasks() == tasks
        await ledger.event(batch.id, "kind", "text", 1.0)


async def test_statement_brings_its_rows_their_columns_and_how_many_it_changed(tmp_path: Path) -> None:
    connection = await OneTripConnection(lambda: sqlite3.connect(tmp_path / "x", isolation_level=None))
    async with connection.cursor() as cursor:
        await cursor.execute("CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT)")
        assert (cursor.description, await cursor.fetchall()) == (None, ())
        await cursor.executemany("INSERT INTO t (b) VALUES (?)", [("x",), ("y",), ("z",)])
        assert (cursor.rowcount, await cursor.fetchall()) == (3, ())
        await cursor.execute("DELETE FROM t WHERE a > ? RETURNING a, b", (1,))
        assert ([each[0] for each in cursor.description], cursor.rowcount) == (["a", "b"], 2)
        assert await cursor.fetchall() == [(2, "y"), (3, "z")]
        await cursor.execute("INSERT INTO t (b) VALUES ('w')")
        assert cursor.lastrowid == 2
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            await cursor.execute("SELECT * FROM absent")
    await connection.close()


async def test_connection_that_was_ended_is_ended_again_at_once(tmp_path: Path) -> None:
    before = threading.active_count()
    connection = await OneTripConnection(lambda: sqlite3.connect(tmp_path / "x"))
    for _ in range(3):
        ended = connection.stop()
        assert ended is not None
        async with asyncio.timeout(5):
            await ended
    await connection.close()
    connection._thread.join(5)
    assert threading.active_count() == before
