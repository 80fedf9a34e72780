"""`fastmove migrate database`: a PostgreSQL of one's own, which two hosts of a fleet can use at once."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import psycopg
import pytest

from fastmove.bench.spec import Spec
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import JobState, StudyJob
from fastmove.ledger.postgresql import DATA, MAKING, SOCKET, server_in, url_of
from fastmove.ledger.store import Ledger
from fastmove.migrate.fleet import queue_of
from fastmove.notices import MoveRequested
from tests.compat.harness import reserved_port
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.programs import EXIT_S, Program, fastmove
from tests.integration.retrieving import until

pytestmark = pytest.mark.lane("postgresql")

SPEC: Final = Spec(studies=24, series=1, instances=3, size=2_000)


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder to have one in, with a short path, which others can get to: root has it run by another user."""
    with tempfile.TemporaryDirectory(prefix="fastmove-database-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def started(folder: Path) -> Program:
    return Program("migrate", "database", folder)


def silently(line: str) -> None:
    """What a server says that nobody wants to read."""


def moving_to(pacs: EmbeddedPacs) -> set[str]:
    """The destinations of all moves that were asked for."""
    return {notice.move_destination for notice in pacs.notices if isinstance(notice, MoveRequested)}


async def test_two_hosts_migrate_by_it_and_after_another_start_the_ledger_is_as_it_was(
    place: Path, tmp_path: Path
) -> None:
    folder = place / "trial"
    async with AsyncExitStack() as opened:
        database = await opened.enter_async_context(started(folder))
        where = (await database.event("migrate.database"))["url"]
        pacs = await opened.enter_async_context(embedded_pacs(SPEC, faults=("delay=0.5",), storage_idle_s=1.0))
        peer = str(pacs.address)
        planned = await fastmove("migrate", "plan", where, peer, "--aet", "HOST1", "--all")
        assert planned.code == 0, planned.err
        runs = []
        for name in ("HOST1", "HOST2"):
            port = opened.enter_context(reserved_port())
            pacs.going_to(name, port)
            us = ("--aet", name, "--port", str(port), "--to", tmp_path / name)
            how = ("--no-durable", "--reserve", "0", "--no-gentle", "--window", "daily 00:00-24:00 parallel=2")
            run = Program("migrate", "run", where, peer, *us, *how)
            runs.append(await opened.enter_async_context(run))
        await until(lambda: {"HOST1", "HOST2"} == moving_to(pacs))
        pacs.misbehave("delay=0.06")
        assert [await run.ended() for run in runs] == [0, 0], [run.errors for run in runs]
        assert sorted(path.stem for path in tmp_path.rglob("*.dcm")) == sorted(pacs.instances())
        assert set(pacs.sent.values()) == {1}, "no study was moved by both"
        assert all(list((tmp_path / name).rglob("*.dcm")) for name in ("HOST1", "HOST2")), "both had something to do"
        assert await database.stopped() == 0
        assert not (folder / SOCKET).exists()
        assert not (folder / DATA / "postmaster.pid").exists(), "it was shut down"
    async with started(folder) as database:
        assert (await database.event("migrate.database"))["url"] == where
        async with Ledger.open(where, read_only=True) as ledger:
            summary = await ledger.summary((await ledger.batch("migration")).id)
        assert summary.states[JobState.COMPLETE].studies == SPEC.studies
        assert summary.total.stored == SPEC.studies * SPEC.instances
        database.signal(signal.SIGINT)
        assert await database.ended() == 0


SHOWN: Final = {
    "listen_addresses": "",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "data_checksums": "on",
    "server_encoding": "UTF8",
}


def test_it_is_durable_and_only_who_may_enter_its_folder_reaches_it(place: Path) -> None:
    folder = place / "trial"
    folder.mkdir(0o755)
    with server_in(folder, silently), psycopg.connect(url_of(folder)) as connection:
        for name, value in SHOWN.items():
            assert connection.execute(f"SHOW {name}".encode()).fetchone() == (value,), name
        locale = connection.execute("SELECT datcollate FROM pg_database WHERE datname = 'ledger'").fetchone()
        assert locale == ("C",)
        access = connection.execute("SELECT DISTINCT auth_method FROM pg_hba_file_rules WHERE type <> 'local'")
        assert access.fetchall() == [("reject",)]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid != 0


async def test_ledger_and_queue_take_its_address_whatever_the_folder_is_called(place: Path) -> None:
    folder = place / "a b+c%2Cd:e&f=g?h#ü'@"
    with server_in(folder, silently):
        where = url_of(folder)
        async with Ledger.open(where, create=True) as ledger:
            batch = await ledger.add_batch("migration", "PACS@192.0.2.1:104", {}, time.time())
            await ledger.add(batch.id, [StudyJob("1.2.3", rank=1)], time.time())
            async with queue_of(where, batch) as queue:
                assert await queue.put(ledger) == 1
                assert await queue.fetch() is not None


async def test_settings_of_another_server_in_the_environment_are_not_its_own(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "6000")
    monkeypatch.setenv("PGDATA", str(place))
    with server_in(place / "trial", silently):
        assert (place / "trial" / SOCKET).is_socket()


async def test_second_one_in_the_same_folder_says_where_the_first_is(place: Path) -> None:
    folder = place / "trial"
    async with started(folder) as first:
        where = (await first.event("migrate.database"))["url"]
        second = await fastmove("migrate", "database", folder)
        assert (second.code, second.out) == (1, "")
        assert where in second.err
        async with await psycopg.AsyncConnection.connect(where) as connection:
            await connection.execute("SELECT 1")
        assert await first.stopped() == 0


async def test_it_shuts_down_when_we_are_killed_and_is_started_again_with_what_was_there(place: Path) -> None:
    folder = place / "trial"
    async with started(folder) as killed:
        where = (await killed.event("migrate.database"))["url"]
        (server,) = killed.children()
        descriptor = os.pidfd_open(server)
        try:
            async with Ledger.open(where, create=True) as ledger:
                await ledger.add_batch("migration", "PACS@192.0.2.1:104", {}, time.time())
            killed.signal(signal.SIGKILL)
            assert await killed.ended() == -signal.SIGKILL
            gone = asyncio.Event()
            asyncio.get_running_loop().add_reader(descriptor, gone.set)
            async with asyncio.timeout(EXIT_S):
                await gone.wait()
            asyncio.get_running_loop().remove_reader(descriptor)
        finally:
            os.close(descriptor)
    with server_in(folder, silently):
        async with Ledger.open(where) as ledger:
            assert (await ledger.batch("migration")).source == "PACS@192.0.2.1:104"


async def test_one_that_ends_by_itself_is_no_success(place: Path) -> None:
    async with started(place / "trial") as program:
        await program.event("migrate.database")
        (server,) = program.children()
        os.kill(server, signal.SIGQUIT)
        assert await program.ended() == 73
        assert "has ended by itself" in program.errors
        assert "received immediate shutdown request" in program.errors, "what the server said of it"


def test_what_was_left_half_made_is_made_anew(place: Path) -> None:
    folder = place / "trial"
    (folder / MAKING / "base").mkdir(parents=True)
    with server_in(folder, silently):
        assert sorted(each.name for each in folder.iterdir()) == [SOCKET, f"{SOCKET}.lock", DATA]


async def test_folder_that_is_something_else_is_left_alone(place: Path) -> None:
    (place / "letters").touch()
    before = place.stat()
    ended = await fastmove("migrate", "database", place)
    assert (ended.code, ended.out) == (1, "")
    assert "letters" in ended.err
    assert [each.name for each in place.iterdir()] == ["letters"]
    assert (place.stat().st_mode, place.stat().st_uid) == (before.st_mode, before.st_uid)


async def test_folder_whose_socket_would_have_too_long_a_path_is_not_made(place: Path) -> None:
    longest = place / ("x" * (107 - len(f"{place}//{SOCKET}")))
    with server_in(longest, silently):
        assert len(str(longest / SOCKET)) == 107
    too_long = Path(f"{longest}y")
    ended = await fastmove("migrate", "database", too_long)
    assert (ended.code, ended.out) == (1, "")
    assert "107 bytes at most" in ended.err
    assert not too_long.exists()


@pytest.fixture
def no_postgresql(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine that has none, but everything else that is needed."""
    setpriv = shutil.which("setpriv")
    assert setpriv is not None
    (tmp_path / "setpriv").symlink_to(setpriv)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("fastmove.ledger.postgresql.DEBIAN", tmp_path)


@pytest.mark.usefixtures("no_postgresql")
def test_machine_without_postgresql_is_told_what_to_install(place: Path) -> None:
    with (
        pytest.raises(ConfigurationError, match=r"apt install postgresql.*compose\.yaml"),
        server_in(place / "x", print),
    ):
        pass
    assert not (place / "x").exists()


def test_data_of_another_version_is_not_touched(place: Path) -> None:
    folder = place / "trial"
    with server_in(folder, silently):
        pass
    (folder / DATA / "PG_VERSION").write_text("9\n")
    with pytest.raises(ConfigurationError, match="made by PostgreSQL 9,"), server_in(folder, silently):
        pass


@pytest.mark.lane("root")
def test_root_has_it_run_by_the_owner_of_the_folder_who_must_get_there(place: Path) -> None:
    ours = place / "ours"
    ours.mkdir(0o700)
    os.chown(ours, 1, 1)
    with server_in(ours, silently) as server:
        assert Path(f"/proc/{server.process.pid}").stat().st_uid == 1
    place.chmod(0o700)
    with pytest.raises(ConfigurationError, match="Permission denied"), server_in(place / "trial", silently):
        pass
