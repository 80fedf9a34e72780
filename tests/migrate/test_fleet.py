"""Several hosts at one migration: each study once, no more moves than allowed, and who dies is replaced."""

from __future__ import annotations

import asyncio
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC
from functools import partial
from itertools import count
from pathlib import Path
from typing import Final

import click
import psycopg
import pytest

from fastmove.bench.spec import Spec
from fastmove.cli.verbs import main
from fastmove.errors import LedgerError
from fastmove.ledger.model import Batch, Instance, JobState, Outcome, StudyJob
from fastmove.ledger.postgresql import USER
from fastmove.ledger.sharing import Place
from fastmove.ledger.store import Ledger
from fastmove.migrate.allowance import Allowance, Policy
from fastmove.migrate.claims import LEASE_S
from fastmove.migrate.engine import Ended, Engine
from fastmove.migrate.files import Files
from fastmove.migrate.fleet import FleetClaims, Queue, queue_of
from fastmove.migrate.windows import Windows, parse_window
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.storage.options import WriteOptions
from fastmove.storage.template import naming
from tests.compat.harness import reserved_port
from tests.contract.postgresql import Cluster, running
from tests.integration.embedded import HOST, EmbeddedPacs, embedded_pacs
from tests.integration.programs import Program, fastmove
from tests.migrate.ledgers import CT, IMPLICIT
from tests.migrate.migrating import LIMITS, Migrating

pytestmark = pytest.mark.lane("postgresql")

SPEC: Final = Spec(studies=60, series=1, instances=6, size=3_000)
NAMES: Final = count(1)
ALWAYS: Final = "daily 00:00-24:00 parallel=4"


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Cluster]:
    with running() as cluster:
        yield cluster


@pytest.fixture
def database(postgresql: Cluster) -> Iterator[str]:
    name = f"fleet_{next(NAMES)}"
    yield postgresql.create(name)
    postgresql.drop(name)


class Fleet:
    """Hosts that run one batch, each with a ledger connection, a listener and a folder of its own."""

    def __init__(self, pacs: EmbeddedPacs, where: str, folder: Path, window: str) -> None:
        self.pacs = pacs
        self.where = where
        self.folder = folder
        self.window = window
        self.engines: dict[str, Engine] = {}

    @asynccontextmanager
    async def host(self, name: str, port: int) -> AsyncIterator[Callable[[], asyncio.Task[Ended]]]:
        """A host that is there, and what starts its run."""
        self.pacs.going_to(name, port)
        async with AsyncExitStack() as opened:
            ledger = await opened.enter_async_context(Ledger.open(self.where))
            batch: Batch = await ledger.batch("migration")
            queue = await opened.enter_async_context(queue_of(self.where, batch))
            slots = await opened.enter_async_context(ledger.slots(batch.id))
            engine = self.engines[name] = Engine(
                ledger,
                batch,
                RetrieveConfig(self.pacs.address, ae_title=name, limits=LIMITS, rounds=1),
                Policy(Windows([parse_window(self.window)], UTC), gentle=False),
                name,
                host=HOST,
                port=port,
                claims=partial(FleetClaims, queue=queue),
                slots=slots,
            )
            options = WriteOptions(durable=False, naming=naming("series"))
            files = await opened.enter_async_context(Files(self.folder / name, options, engine.recorder.add, reserve=0))
            yield lambda: asyncio.create_task(engine.run(files))

    def files(self) -> list[str]:
        return sorted(path.stem for path in self.folder.rglob("*.dcm"))


@asynccontextmanager
async def fleet(
    where: str, tmp_path: Path, *faults: str, window: str = "daily 00:00-24:00 parallel=4"
) -> AsyncIterator[Fleet]:
    async with (
        embedded_pacs(SPEC, faults=faults, storage_idle_s=1.0) as pacs,
        Ledger.open(where, create=True) as ledger,
    ):
        batch = await ledger.add_batch("migration", str(pacs.address), {}, time.time())
        await Migrating(pacs, ledger, batch, tmp_path, 0).plan()
        yield Fleet(pacs, where, tmp_path / "in", window)


async def test_each_study_is_moved_once_by_one_of_the_hosts_and_never_more_at_once_than_allowed(
    database: str, tmp_path: Path
) -> None:
    names = ("ONE", "TWO", "THREE")
    async with fleet(database, tmp_path, "delay=0.06") as made, AsyncExitStack() as opened:
        starts = []
        for name in names:
            port = opened.enter_context(reserved_port())
            starts.append(await opened.enter_async_context(made.host(name, port)))
        ended = await asyncio.gather(*(start() for start in starts))
        assert set(ended) == {Ended.FINISHED}
        assert made.files() == sorted(made.pacs.instances())
        assert set(made.pacs.sent.values()) == {1}
        assert made.pacs.most_moves <= 4
        assert all(list((made.folder / name).rglob("*.dcm")) for name in names), "all had something to do"
        async with Ledger.open(database, read_only=True) as ledger:
            summary = await ledger.summary((await ledger.batch("migration")).id)
        assert summary.total.stored == 60 * 6


async def test_host_that_joins_gets_its_share_and_one_that_leaves_gives_back_what_it_has(
    database: str, tmp_path: Path
) -> None:
    async with fleet(database, tmp_path, "delay=0.1") as made, AsyncExitStack() as opened:
        ports = [opened.enter_context(reserved_port()) for _ in range(2)]
        first = await opened.enter_async_context(made.host("ONE", ports[0]))
        running = first()
        one = made.engines["ONE"]
        async with asyncio.timeout(20):
            while one.retrieve is None or one.retrieve.parallelism.limit < 4:
                await asyncio.sleep(0.05)
        second = await opened.enter_async_context(made.host("TWO", ports[1]))
        joined = second()
        two = made.engines["TWO"]
        async with asyncio.timeout(20):
            while two.objects < 6:
                await asyncio.sleep(0.05)
        two.stop()
        assert await joined is Ended.STOPPED
        assert await running is Ended.FINISHED
        assert sorted(set(made.files())) == sorted(made.pacs.instances())
        assert made.pacs.most_moves <= 4


async def test_host_that_gets_no_slot_ends_what_it_has_begun_and_leaves_the_rest_to_others(
    database: str, tmp_path: Path
) -> None:
    async with (
        fleet(database, tmp_path, "delay=0.02", window="daily 00:00-24:00 parallel=1") as made,
        AsyncExitStack() as opened,
    ):
        starts = {
            name: await opened.enter_async_context(made.host(name, opened.enter_context(reserved_port())))
            for name in ("TWO", "ONE")
        }
        running = [starts["TWO"]()]
        two = made.engines["TWO"]
        async with asyncio.timeout(20):
            while not two.objects:
                await asyncio.sleep(0.01)
        running.append(starts["ONE"]())  # it comes first by its name
        async with asyncio.timeout(50):
            assert await asyncio.gather(*running) == [Ended.FINISHED] * 2
        one = made.engines["ONE"]
        assert one.complete > 0 < two.complete and one.complete + two.complete == SPEC.studies
        assert set(made.pacs.sent.values()) == {1}
        assert made.pacs.most_moves == 1


async def test_what_a_dead_host_has_in_a_folder_of_its_own_is_brought_again_by_who_takes_the_study_over(
    database: str, tmp_path: Path
) -> None:
    async with fleet(database, tmp_path) as made, AsyncExitStack() as opened:
        ledger = await opened.enter_async_context(Ledger.open(database))
        batch = await ledger.batch("migration")
        (lost,) = await ledger.claim(batch.id, "DEAD", 1, LEASE_S, time.time())
        ((series, uids),) = made.pacs.studies[lost.job.study_instance_uid].items()
        of_series = (series, CT, IMPLICIT, 1000, b"")
        stored = [Instance(lost.id, lost.fence, uid, *of_series, f"{uid}.dcm") for uid in sorted(uids)[:2]]
        await ledger.record(stored, time.time())
        assert await ledger.recover(time.time() + LEASE_S, batch_id=batch.id) == 1
        start = await opened.enter_async_context(made.host("ONE", opened.enter_context(reserved_port())))
        assert await start() is Ended.FINISHED
        assert made.files() == sorted(made.pacs.instances())
        assert set(made.pacs.sent.values()) == {1}
        dead, *others = await ledger.attempts(lost.id)
        assert (dead.owner, [attempt.verdict for attempt in others]) == ("DEAD", ["complete"])
        assert len(await ledger.held(lost.id)) == 6


@pytest.mark.nightly
@pytest.mark.timeout(180)
async def test_host_that_dies_in_mid_study_is_replaced_within_a_minute_and_nothing_is_recorded_twice(
    database: str, tmp_path: Path
) -> None:
    async with fleet(database, tmp_path, "delay=0.2") as made, AsyncExitStack() as opened:
        ports = [opened.enter_context(reserved_port()) for _ in range(2)]
        made.pacs.going_to("TWO", ports[1])
        there = (database, str(made.pacs.address), "--aet", "TWO", "--port", str(ports[1]))
        here = ("--to", tmp_path / "two", "--no-durable", "--reserve", "0", "--no-gentle", "--window", ALWAYS)
        first = await opened.enter_async_context(made.host("ONE", ports[0]))
        async with Program("migrate", "run", *there, *here) as program:
            await program.event("move.progressed")
            program.signal(signal.SIGKILL)
            await program.ended()
        died = time.monotonic()
        async with Ledger.open(database, read_only=True) as ledger:
            batch = await ledger.batch("migration")
            dead = {job.id for job in await ledger.jobs(batch.id, states=(JobState.MOVING,))}
            assert dead
            running = first()
            async with asyncio.timeout(90):
                while {job.id for job in await ledger.jobs(batch.id, states=(JobState.MOVING,)) if job.owner != "ONE"}:
                    await asyncio.sleep(0.2)
            assert time.monotonic() - died < 60
            assert await running is Ended.FINISHED
            summary = await ledger.summary(batch.id)
            assert summary.states[JobState.COMPLETE].studies == 60
            assert summary.total.stored == 60 * 6
            for job in await ledger.jobs(batch.id):
                assert len(await ledger.held(job.id)) == 6


# ---------------------------------------------------------------------- what they share


@asynccontextmanager
async def ledger_of(where: str, studies: int = 3) -> AsyncIterator[tuple[Ledger, Batch]]:
    """A ledger with so many studies to be moved, without a PACS."""
    async with Ledger.open(where, create=True) as ledger:
        batch = await ledger.add_batch("migration", "PACS@192.0.2.1:104", {}, time.time())
        await ledger.add(batch.id, [StudyJob(f"1.2.{n}", rank=n) for n in range(studies)], time.time())
        yield ledger, batch


def claims_of(ledger: Ledger, batch: Batch, queue: Queue, ahead: int = 3) -> FleetClaims:
    return FleetClaims(ledger, batch, "ME", lambda: ahead, time.time, queue)


def execute(where: str, statement: str) -> list[tuple[object, ...]]:
    """A statement of the test's own."""
    with psycopg.connect(where, autocommit=True) as connection:
        cursor = connection.execute(statement.encode())
        return cursor.fetchall() if cursor.description else []


async def test_host_whose_connection_has_ended_learns_that_others_may_have_its_slots(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), ledger.slots(batch.id) as ours, ledger.slots(batch.id) as others:
        assert await ours.hold(4, 4) == 4
        execute(database, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        async with asyncio.timeout(10):  # until the server has ended it
            while await others.hold(4, 4) < 3:
                await asyncio.sleep(0.02)
        await others.hold(3, 4)
        with pytest.raises(LedgerError, match="slots"):
            await ours.hold(4, 4)
        assert await ours.hold(4, 4) == 1


async def test_slots_beyond_what_is_allowed_now_are_not_held_beside_those_within(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), AsyncExitStack() as opened:
        one, two, three = [await opened.enter_async_context(ledger.slots(batch.id)) for _ in range(3)]
        assert (await one.hold(4, 8), await two.hold(4, 8)) == (4, 4)
        assert (await one.hold(2, 4), await two.hold(2, 4)) == (2, 2)
        assert await three.hold(4, 4) == 0


async def test_slot_of_a_move_that_is_too_many_is_kept_until_it_has_ended(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), ledger.slots(batch.id) as ours, ledger.slots(batch.id) as others:
        moves = 4
        windows = Windows([parse_window(ALWAYS)], UTC)
        allowance = Allowance(windows, ours, lambda: moves, lambda: None, time.time)
        await allowance.divide(Place(1, 0), lambda: None)
        assert allowance.most == 4
        for _ in range(3):  # again and again, as long as it takes
            await allowance.divide(Place(2, 0), lambda: None)
            assert (allowance.most, await others.hold(2, 4)) == (2, 0)
        moves = 2
        await allowance.divide(Place(2, 0), lambda: None)
        assert (allowance.most, await others.hold(2, 4)) == (2, 2)


async def test_what_a_dead_host_had_comes_before_what_nobody_has_begun(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), queue_of(database, batch) as queue:
        assert await queue.put(ledger) == 3
        (first,) = await claims_of(ledger, batch, queue, ahead=1)._claim(1)
        assert await ledger.recover(time.time() + LEASE_S, batch_id=batch.id) == 1
        assert await queue.put(ledger) == 1
        again = await claims_of(ledger, batch, queue)._claim(3)
        assert [claimed.id for claimed in again] == [first.id, first.id + 1, first.id + 2]


async def test_studies_that_were_claimed_before_the_database_was_lost_are_taken_on(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger_of(database) as (ledger, batch), queue_of(database, batch) as queue:
        await queue.put(ledger)
        fetch, fetched = queue.fetch, count()

        async def lost() -> object:
            if next(fetched) == 2:
                raise LedgerError("fetch", "the connection is gone")
            return await fetch()

        monkeypatch.setattr(queue, "fetch", lost)
        claims = claims_of(ledger, batch, queue)
        async with aclosing(claims()) as studies:
            taken = [(await anext(studies)).study_instance_uid for _ in range(3)]
        assert sorted(taken) == sorted(claims.in_hand) == ["1.2.0", "1.2.1", "1.2.2"]


async def taken(claims: FleetClaims, number: int = 9) -> list[str]:
    """What a host gets of the queue."""
    return [claimed.job.study_instance_uid for claimed in await claims._claim(number)]


async def test_what_an_operator_puts_first_or_a_later_plan_orders_anew_comes_in_that_order(database: str) -> None:
    async with ledger_of(database, 6) as (ledger, batch), queue_of(database, batch) as queue:
        claims = claims_of(ledger, batch, queue)
        await queue.put(ledger)
        assert await taken(claims, 1) == ["1.2.0"]
        await ledger.prioritise(batch.id, study="1.2.4", priority=10)
        await ledger.add(batch.id, [StudyJob(f"1.2.{n}", rank=9 - n) for n in range(6)], time.time())
        await ledger.prioritise(batch.id, study="1.2.5", priority=-1)
        await claims.renew()
        assert await taken(claims) == ["1.2.4", "1.2.3", "1.2.2", "1.2.1", "1.2.5"]


async def test_no_more_studies_are_in_the_queue_than_come_next(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.migrate.fleet.FIRST", 2)
    async with ledger_of(database, 7) as (ledger, batch), queue_of(database, batch) as queue:
        claims = claims_of(ledger, batch, queue)
        assert (await queue.put(ledger), await queue.put(ledger)) == (2, 0)
        assert await taken(claims, 1) == ["1.2.0"]
        await ledger.add(batch.id, [StudyJob("1.2.7", rank=-1)], time.time())
        assert await taken(claims) == ["1.2.1", "1.2.7", *(f"1.2.{n}" for n in range(2, 7))]


async def test_study_that_an_operator_parks_and_has_tried_again_is_moved(database: str) -> None:
    async with ledger_of(database, 1) as (ledger, batch), queue_of(database, batch) as queue:
        claims = claims_of(ledger, batch, queue)
        await queue.put(ledger)
        assert await ledger.park(batch.id, "1.2.0", "", time.time())
        assert await taken(claims) == []
        assert await ledger.retry(batch.id) == 1
        assert await taken(claims) == ["1.2.0"]


async def test_study_that_is_to_be_tried_again_is_moved_by_another_host_when_the_first_has_died(database: str) -> None:
    async with ledger_of(database, 1) as (ledger, batch), queue_of(database, batch) as queue:
        (claim,) = await claims_of(ledger, batch, queue)._claim(1)
        due = time.time() + 60
        await ledger.finish(claim, Outcome(JobState.WAITING, "unknown", "network", due_at=due), time.time())
        now = due - 1
        other = FleetClaims(ledger, batch, "OTHER", lambda: 3, lambda: now, queue)
        assert await taken(other) == []
        now = due
        await other.renew()
        assert await taken(other) == ["1.2.0"]


async def test_what_a_host_had_fetched_when_it_died_is_fetched_again(
    database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ledger_of(database, 2) as (ledger, batch), queue_of(database, batch) as dead:
        await dead.put(ledger)
        assert await dead.fetch() is not None
        execute(database, "UPDATE procrastinate_workers SET last_heartbeat = last_heartbeat - interval '1 minute'")
        async with queue_of(database, batch) as alive, queue_of(database, batch) as other:
            both = [claims_of(ledger, batch, queue) for queue in (alive, other)]
            stalled = await alive._manager.get_stalled_jobs(seconds_since_heartbeat=LEASE_S)
            assert len(list(stalled)) == 1

            async def as_before(**_: object) -> object:
                return stalled

            for claims, queue in zip(both, (alive, other), strict=True):
                monkeypatch.setattr(queue._manager, "get_stalled_jobs", as_before)
                await claims.renew()  # the second finds that the first was faster
            assert await taken(both[0]) == ["1.2.0", "1.2.1"]
        assert execute(database, "SELECT count(*) FROM procrastinate_jobs") == [(0,)], "nothing is left over"


async def test_host_that_leaves_gives_back_what_it_has(database: str) -> None:
    async with ledger_of(database, 2) as (ledger, batch), queue_of(database, batch) as queue:
        one, two = (claims_of(ledger, batch, queue) for _ in range(2))
        assert len(await taken(one)) == 2
        await one.release()
        assert await taken(two) == ["1.2.0", "1.2.1"]


async def test_claim_whose_answer_was_lost_is_not_renewed(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), queue_of(database, batch) as queue:
        await queue.put(ledger)
        claims = claims_of(ledger, batch, queue, ahead=1)
        (known,) = await claims._claim(1)
        (unknown,) = await ledger.claim(batch.id, "ME", 1, LEASE_S, time.time() - LEASE_S + 1)
        await claims.renew()
        assert await ledger.recover(time.time() + 2, batch_id=batch.id) == 1
        moving = await ledger.jobs(batch.id, states=(JobState.MOVING,))
        assert [job.id for job in moving] == [known.id] != [unknown.id]


async def test_host_that_was_crossed_out_of_the_queue_takes_on_studies_again(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), queue_of(database, batch) as queue:
        await queue.put(ledger)
        execute(database, "DELETE FROM procrastinate_workers")
        assert len(await claims_of(ledger, batch, queue)._claim(3)) == 3


async def test_database_that_ends_the_connections_is_asked_by_others(database: str) -> None:
    async with ledger_of(database) as (ledger, batch), queue_of(database, batch) as queue:
        await queue.put(ledger)
        execute(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
        assert len(await claims_of(ledger, batch, queue)._claim(3)) == 3


async def test_queue_that_is_out_of_reach_is_an_error_of_the_ledger_and_hinders_no_end(
    postgresql: Cluster, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmove.migrate.fleet.POOL_S", 0.5)
    name = database.partition("@/")[2].partition("?")[0]
    async with ledger_of(database) as (_, batch), queue_of(database, batch) as queue:
        postgresql.drop(name)
        with pytest.raises(LedgerError, match="fetch"):
            await queue.fetch()
        postgresql.create(name)


# ---------------------------------------------------------------------- what is shipped for it

FOLDER: Final = Path(__file__).parents[2] / "packaging/fleet"
UNIT: Final = FOLDER / "fastmove-migrate@.service"


def test_compose_file_starts_a_database_that_only_this_machine_reaches() -> None:
    yaml = pytest.importorskip("yaml", reason="needs PyYAML, which moto brings")
    (service,) = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"].values()
    assert service["image"].startswith("postgres:")
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert service["environment"].keys() >= {"POSTGRES_USER", "POSTGRES_DB"}


def test_command_line_of_the_unit_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: Path(value))
    (line,) = [line for line in UNIT.read_text().splitlines() if line.startswith("ExecStart=")]
    configured = {
        "${LEDGER}": "postgresql://fastmove@db/ledger",
        "${PEER}": "PACS@192.0.2.1:104",
        "${PORT}": "11112",
        "${WINDOW}": "daily 19:00-07:00 parallel=8",
        "%i": "HOST1",
    }
    words = shlex.split(line.removeprefix("ExecStart="))
    for name, value in configured.items():
        words = [word.replace(name, value) for word in words]
    assert not any("$" in word or "%" in word for word in words)
    program, *verbs = words[:3]
    assert (Path(program).name, verbs) == ("fastmove", ["migrate", "run"])
    command: click.Command | None = main
    for verb in verbs:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), verb)
    assert command is not None
    command.make_context("run", words[3:])


@pytest.mark.lane("systemd")
def test_unit_says_nothing_that_systemd_does_not_know(tmp_path: Path) -> None:
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/fastmove/bin/fastmove", sys.executable))
    shown = subprocess.run(["systemd-analyze", "verify", str(copy)], capture_output=True, text=True)
    assert UNIT.name not in shown.stderr, shown.stderr


async def test_password_of_a_ledger_is_not_told_by_any_verb(database: str, tmp_path: Path) -> None:
    where = database.replace("@", ":secret@")
    spec = Spec(studies=2, series=1, instances=2, size=2_000)
    with reserved_port() as port:
        async with embedded_pacs(spec, storage_idle_s=1.0) as pacs:
            pacs.going_to("ME", port)
            peer, us = str(pacs.address), ("--aet", "ME", "--port", str(port))
            planned = await fastmove("migrate", "plan", where, peer, "--aet", "ME", "--all")
            to = ("--to", tmp_path / "in", "--no-durable", "--reserve", "0", "--no-gentle", "--log-level", "debug")
            ran = await fastmove("migrate", "run", where, peer, *us, *to)
    others = [await fastmove("migrate", verb, where) for verb in ("status", "pause", "export", "report")]
    for ended in (planned, ran, *others):
        assert ended.code == 0, ended.err
        assert "secret" not in ended.out + ended.err
    assert f"postgresql://{USER}:***@" in planned.out
    async with Ledger.open(database, read_only=True) as ledger:
        (batch,) = await ledger.batches()
        assert "secret" not in str([batch, *await ledger.events(batch.id)])
