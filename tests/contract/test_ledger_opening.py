"""What is opened as a ledger, what is made one, and what is refused."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from pathlib import Path

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text

from fastmove.errors import LedgerError
from fastmove.ledger import database
from fastmove.ledger.model import StudyJob
from fastmove.ledger.store import Ledger
from tests.contract.postgresql import Cluster

NOW = 1_800_000_000.0


@pytest.fixture
def elsewhere(cluster: Cluster | None, tmp_path: Path) -> str:
    """Where no ledger is, but something else: a table of others."""
    if cluster is None:
        path = tmp_path / "other.db"
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE batch_of_others (id)")
        connection.close()
        return str(path)
    return cluster.create("others_" + tmp_path.name.lower().replace("-", "_")[:50])


async def names(where: str | Path, **options: bool) -> list[str]:
    async with Ledger.open(where, **options) as ledger:
        return [each.name for each in await ledger.batches()]


async def refused(where: str | Path, **options: bool) -> str:
    with pytest.raises(LedgerError) as caught:
        await names(where, **options)
    assert caught.value.operation == "open"
    return str(caught.value).removeprefix("ledger: open: ")


async def mark(where: str, revision: str) -> None:
    async with Ledger.open(where, create=True) as ledger, ledger._database.fact("test") as connection:
        await connection.execute(text("UPDATE ledger_version SET version_num = :it"), {"it": revision})


async def test_ledger_is_there_when_it_is_opened_again(where: str) -> None:
    async with Ledger.open(where, create=True) as ledger:
        await ledger.add_batch("one", "", {}, NOW)
    assert await names(where) == await names(where, create=True) == await names(where, read_only=True) == ["one"]


async def test_several_that_make_the_same_ledger_at_once_all_get_it(elsewhere: str, tmp_path: Path) -> None:
    where = elsewhere if "://" in elsewhere else str(tmp_path / "new.db")
    assert await asyncio.gather(*(names(where, create=True) for _ in range(5))) == [[]] * 5


async def test_database_without_a_ledger_is_refused(elsewhere: str) -> None:
    assert "is no ledger" in await refused(elsewhere)
    assert "is no ledger" in await refused(elsewhere, read_only=True)
    assert "is no ledger" in await refused(elsewhere, read_only=True, create=True)


@pytest.mark.parametrize("revision", ["0004", "9999", "ae1027a6acf"])
async def test_ledger_of_a_newer_version_is_refused(where: str, revision: str) -> None:
    await mark(where, revision)
    for options in ({}, {"create": True}, {"read_only": True}):
        said = await refused(where, **options)
        assert f"is of a newer version of fastmove (tables {revision}): upgrade fastmove" in said


async def test_ledger_of_an_older_version_is_upgraded_by_who_may_write(
    where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await names(where, create=True) == []
    upgraded: list[object] = []
    monkeypatch.setattr(database, "REVISION", "0004")
    monkeypatch.setattr(database, "_upgrade", upgraded.append)
    assert "is of an older version of fastmove: open it to write once" in await refused(where, read_only=True)
    assert not upgraded
    assert await names(where) == []
    assert len(upgraded) == 1


async def make_0002(where: str) -> None:
    """A ledger as fastmove made it before it kept what proves a delivery: with a study that is complete."""

    def made(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(database.__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "0002")
        for statement in (
            "INSERT INTO batch (name, source, settings, wish, created_ms) VALUES ('old', '', '{}', 'run', 0)",
            "INSERT INTO study_job (batch_id, study_instance_uid, state, verdict, added_ms)"
            " SELECT id, '1.2', 'complete', 'complete', 0 FROM batch",
            "INSERT INTO attempt (job_id, fence, owner, began_ms, verdict)"
            " SELECT id, 1, 'host:1', 0, 'complete' FROM study_job",
        ):
            connection.execute(text(statement))

    if "://" in where:
        old = database._postgresql(database._url(where), read_only=False)
    else:
        old = database._sqlite(database._file(Path(where), create=True), read_only=False)
    async with old.fact("test") as connection:
        await connection.run_sync(made)
    await old.close()


async def test_ledger_without_proofs_is_upgraded_and_keeps_what_it_has(elsewhere: str, tmp_path: Path) -> None:
    where = elsewhere if "://" in elsewhere else str(tmp_path / "old.db")
    await make_0002(where)
    async with Ledger.open(where) as ledger:
        (batch,) = await ledger.batches()
        (job,) = await ledger.jobs(batch.id)
        (attempt,) = await ledger.attempts(job.id)
        assert (job.verdict, job.proof, attempt.verdict, attempt.proof) == ("complete", "", "complete", "")


async def test_password_is_not_told() -> None:
    said = await refused("postgresql://someone:secret@/nowhere?host=/nonexistent")
    assert "/nonexistent" in said and "secret" not in said


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("a.ledger", "a.ledger"),
        ("postgresql://u:secret@h:5433/d", "postgresql://u:***@h:5433/d"),
        ("postgres://u@h/d?password=secret&sslmode=require", "postgresql://u@h/d?sslmode=require"),
        ("postgresql://u@h/d?sslpassword=secret", "postgresql://u@h/d"),
    ],
)
def test_ledger_is_shown_without_its_passwords(where: str, said: str) -> None:
    assert database.shown(where) == said


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("mysql://h/d", "mysql: a ledger is a file, or postgresql://..."),
        ("postgresql://u:secret@h:port/d", "the database is not given as postgresql://USER@HOST:PORT/NAME"),
        ("://", "the database is not given as postgresql://USER@HOST:PORT/NAME"),
    ],
)
async def test_database_that_is_none_of_ours_is_refused(where: str, said: str) -> None:
    assert await refused(where) == said


async def test_driver_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "PostgreSQL needs psycopg: pip install 'fastmove[fleet]'" in await refused("postgresql://h/d")


# ---------------------------------------------------------------------- files


async def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    path = tmp_path / "no" / "ledger.db"
    assert await refused(tmp_path / "ledger.db") == f"there is no {tmp_path}/ledger.db"
    assert await refused(path) == await refused(path, create=True) == f"there is no {path.parent}"
    assert await refused(tmp_path / "ledger.db", create=True, read_only=True) == f"there is no {tmp_path}/ledger.db"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"SOP Instance UID;", b"SQLite format 3"])
async def test_file_that_is_something_else_is_refused_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(content)
    assert await refused(path) == await refused(path, create=True) == f"{path} is no ledger"
    assert path.read_bytes() == content
    assert "Is a directory" in await refused(tmp_path)


async def test_database_of_others_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE batch (id)")
    connection.close()
    before = path.read_bytes()
    assert await refused(path, create=True) == f"{path} is no ledger"
    assert path.read_bytes() == before


async def test_damaged_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert await refused(path) == "file is not a database"


async def test_empty_file_becomes_a_ledger_if_asked(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.touch()
    assert await refused(path) == f"{path} is no ledger"
    assert await names(path, create=True) == []


async def test_name_of_a_file_may_be_anything(tmp_path: Path) -> None:
    path = tmp_path / "a b%20?#&ä.db"
    assert await names(path, create=True) == await names(str(path), read_only=True) == []
    assert {each.name.removesuffix("-wal").removesuffix("-shm") for each in tmp_path.iterdir()} == {path.name}


async def test_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    async with Ledger.open(path, create=True) as ledger:
        await ledger.add_batch("one", "", {}, NOW)
        modes = {each.name: oct(each.stat().st_mode & 0o777) for each in tmp_path.iterdir()}
    assert modes == {"ledger.db": "0o600", "ledger.db-wal": "0o600", "ledger.db-shm": "0o600"}


async def test_facts_wait_for_the_disk_and_claims_do_not(tmp_path: Path) -> None:
    full, normal = 2, 1
    async with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        for way, level in ((ledger._database.fact, full), (ledger._database.claim, normal)):
            async with way("test") as connection:
                assert (await connection.execute(text("PRAGMA synchronous"))).scalar() == level
                assert (await connection.execute(text("PRAGMA foreign_keys"))).scalar() == 1
                assert (await connection.execute(text("PRAGMA journal_mode"))).scalar() == "wal"


async def test_who_waits_too_long_for_another_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0.01)
    path = tmp_path / "ledger.db"
    async with Ledger.open(path, create=True) as ledger, Ledger.open(path) as other:
        async with ledger._database.fact("test"):
            with pytest.raises(LedgerError, match="ledger: add_batch: database is locked"):
                await other.add_batch("one", "", {}, NOW)
        await other.add_batch("one", "", {}, NOW)


async def test_full_disk_is_told_and_nothing_is_half_written(tmp_path: Path) -> None:
    async with Ledger.open(tmp_path / "ledger.db", create=True) as ledger:
        batch = await ledger.add_batch("one", "", {}, NOW)
        async with ledger._database.fact("test") as connection:
            pages = (await connection.execute(text("PRAGMA page_count"))).scalar_one()
            await connection.execute(text(f"PRAGMA max_page_count={pages + 5}"))
        with pytest.raises(LedgerError, match="ledger: add: database or disk is full"):
            await ledger.add(batch.id, (StudyJob(f"1.2.{number}") for number in range(2000)), NOW)
        assert await ledger.jobs(batch.id) == []
        async with ledger._database.fact("test") as connection:
            await connection.execute(text("PRAGMA max_page_count=100000"))
        assert (await ledger.add(batch.id, (StudyJob(f"1.2.{number}") for number in range(2000)), NOW)).new == 2000
