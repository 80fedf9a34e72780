"""How a migration stands, by what its ledger has: windows, hosts, and the state of both peers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fastmove.bench.spec import Spec
from fastmove.ledger.model import Batch, Instance, JobState, Outcome, StudyJob, Wish
from fastmove.ledger.sharing import GONE_S
from fastmove.ledger.store import Ledger
from fastmove.migrate import engine
from fastmove.migrate.files import Files
from fastmove.migrate.forward import Proof
from fastmove.migrate.situation import FORGOTTEN_S, Peer, Situation, situation
from fastmove.storage.options import WriteOptions
from fastmove.types import PeerAddress
from tests.integration.peers import HOST
from tests.migrate.ledgers import CT, IMPLICIT, NOW
from tests.migrate.migrating import OURS, migrating

OWNER = "mig1:1:MIG1"
SETTINGS = {"forward": "NEW@h:104", "proof": "auto"}


@pytest.fixture
def closed() -> Iterator[PeerAddress]:
    """A peer that nobody is at, nor can be meanwhile."""
    with socket.socket() as held:
        held.bind((HOST, 0))
        yield PeerAddress("THERE", HOST, held.getsockname()[1])


class Batched:
    """A batch of two studies that a host has in hand, at a moment."""

    def __init__(self, ledger: Ledger, batch: Batch) -> None:
        self.ledger = ledger
        self.batch = batch

    async def stands(self, now: float) -> Situation:
        (batch,) = await self.ledger.batches()
        summary = await self.ledger.summary(batch.id)
        return await situation(self.ledger, batch, summary, await self.ledger.progress(batch.id, 0), now, UTC)

    async def peers(self, now: float) -> dict[str, Peer]:
        return {peer.role: peer for peer in (await self.stands(now)).peers()}

    async def state(self, now: float) -> tuple[str, str]:
        peers = await self.peers(now)
        return peers["source"].state, peers["destination"].state

    async def here(self, now: float, moves: int = 0, owner: str = OWNER) -> None:
        await self.ledger.here(self.batch.id, owner, "MIG1", moves, now)

    async def noted(self, kind: str, text: str, now: float) -> None:
        await self.ledger.event(self.batch.id, kind, text, now)


@pytest.fixture
def batched(runner: asyncio.Runner, tmp_path: Path) -> Iterator[Batched]:
    opening = Ledger.open(tmp_path / "a.ledger", create=True)

    async def planned() -> Batched:
        ledger = await opening.__aenter__()
        batch = await ledger.add_batch("b", "PACS@h:104", SETTINGS, NOW)
        await ledger.add(batch.id, [StudyJob("1.2.1"), StudyJob("1.2.2")], NOW)
        return Batched(ledger, batch)

    yield runner.run(planned())
    runner.run(opening.__aexit__(None, None, None))


async def test_nobody_is_at_it_before_a_host_is_heard_of_and_when_none_is_any_more(batched: Batched) -> None:
    assert await batched.state(NOW) == ("idle", "idle")
    await batched.here(NOW, 2)
    assert await batched.state(NOW + GONE_S - 1) == ("running", "running")
    assert (await batched.peers(NOW))["source"].text == "2 moves under way"
    assert await batched.state(NOW + GONE_S) == ("idle", "idle")


async def test_host_that_was_gone_for_a_day_is_not_shown(batched: Batched) -> None:
    await batched.here(NOW, owner="old")
    await batched.here(NOW + 60)
    assert [each.owner for each in (await batched.stands(NOW + FORGOTTEN_S - 1)).hosts] == [OWNER, "old"]
    assert [each.owner for each in (await batched.stands(NOW + FORGOTTEN_S)).hosts] == [OWNER]


async def test_pacs_is_waited_for_until_something_is_under_way_or_has_come(batched: Batched) -> None:
    await batched.here(NOW, 2)
    await batched.noted("migrate.waiting", "connection refused; tried again in 5 s", NOW + 1)
    await batched.here(NOW + 5, 0)
    source = (await batched.peers(NOW + 5))["source"]
    assert (source.state, source.text, source.since) == ("held-up", "connection refused; tried again in 5 s", NOW + 1)
    assert await batched.state(NOW + 5) == ("held-up", "running")
    await batched.here(NOW + 10, 1)
    assert await batched.state(NOW + 10) == ("running", "running")
    await batched.noted("migrate.waiting", "away again", NOW + 11)
    await batched.here(NOW + 100, 0)
    assert await batched.state(NOW + 100) == ("held-up", "running")
    (claimed, _) = await batched.ledger.claim(batched.batch.id, OWNER, 2, 60.0, NOW)
    await batched.ledger.record(
        [Instance(claimed.id, claimed.fence, "1.9", "1.8", CT, IMPLICIT, 1, b"", "x.dcm")], NOW + 100
    )
    assert await batched.state(NOW + 100) == ("running", "running")


@pytest.mark.parametrize(
    ("where", "kind", "said"),
    [
        ({"forward": "NEW@h:104"}, "migrate.destination_away", "connection refused; tried again in 5 s"),
        ({"to": "s3://archive/ct"}, "migrate.destination_away", "the store cannot be reached; tried again in 5 s"),
        ({"to": "/data"}, "migrate.disk_low", "1.0 GB free in /data; tried again in 5 s"),
    ],
)
async def test_destination_that_is_waited_for_is_told_apart_from_the_source(
    where: dict[str, str], kind: str, said: str, batched: Batched
) -> None:
    await batched.ledger.settle(batched.batch.id, where)
    await batched.here(NOW)
    await batched.noted(kind, said, NOW + 1)
    destination = (await batched.peers(NOW + 2))["destination"]
    assert (destination.name, destination.state) == (next(iter(where.values())), "held-up")
    assert (destination.text, destination.since) == (said, NOW + 1)
    assert await batched.state(NOW + 2) == ("running", "held-up")
    await batched.noted("migrate.waiting", "NEW: it is the source now", NOW + 3)
    assert await batched.state(NOW + 3) == ("held-up", "running"), "what was waited for last counts, by its kind alone"
    await batched.noted("migrate.began", "a new run", NOW + 4)
    assert await batched.state(NOW + 4) == ("running", "running")


async def test_destination_that_a_run_waits_for_is_held_up_and_the_source_is_not(
    tmp_path: Path, closed: PeerAddress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WATCH_S", 0.05)
    async with migrating(Spec(studies=2, series=1, instances=2, size=2_000), tmp_path) as made:
        made.forwarding(closed, Proof.NONE)
        async with made.started(), asyncio.timeout(30):
            while "migrate.destination_away" not in await made.events():
                await asyncio.sleep(0.02)
            await made.ledger.settle(made.batch.id, {"forward": str(closed)})
            stands = await Batched(made.ledger, made.batch).stands(made.clock())
    assert [(peer.role, peer.state) for peer in stands.peers()] == [("source", "running"), ("destination", "held-up")]
    assert [host.ae_title for host in stands.here] == [OURS]


async def test_disk_that_is_nearly_full_holds_up_the_destination_and_not_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "WATCH_S", 0.05)
    async with migrating(Spec(studies=2, series=1, instances=2, size=2_000), tmp_path) as made:
        options = WriteOptions(durable=False)
        made.destination = lambda running: Files(made.folder, options, running.recorder.add, reserve=1 << 60)
        async with made.started(), asyncio.timeout(30):
            while "migrate.disk_low" not in await made.events():
                await asyncio.sleep(0.02)
            await made.ledger.settle(made.batch.id, {"to": str(made.folder)})
            peers = (await Batched(made.ledger, made.batch).stands(made.clock())).peers()
    assert [(peer.role, peer.state) for peer in peers] == [("source", "running"), ("destination", "held-up")]
    assert str(made.folder) in peers[1].text
    assert not made.pacs.moves


async def test_destination_that_proves_nothing_is_behind(batched: Batched) -> None:
    await batched.here(NOW)
    (claimed, _) = await batched.ledger.claim(batched.batch.id, OWNER, 2, 60.0, NOW)
    await batched.ledger.finish(claimed, Outcome(JobState.WAITING, "complete", "undelivered", due_at=NOW + 9), NOW)
    destination = (await batched.peers(NOW))["destination"]
    assert (destination.state, destination.text) == ("behind", "1 study waits for its proof")


async def test_pacs_is_spared_from_when_it_suffers_until_it_has_recovered(batched: Batched) -> None:
    await batched.here(NOW)
    await batched.noted("migrate.suffering", "no more than 3 moves at once", NOW + 1)
    source = (await batched.peers(NOW + 2))["source"]
    assert (source.state, source.text, source.since) == ("sparing", "no more than 3 moves at once", NOW + 1)
    await batched.noted("migrate.recovered", "it answers as usual", NOW + 3)
    assert await batched.state(NOW + 4) == ("running", "running")
    await batched.noted("migrate.suffering", "again", NOW + 5)
    assert await batched.state(NOW + 6) == ("sparing", "running")
    await batched.noted("migrate.began", "a new run", NOW + 7)
    assert await batched.state(NOW + 8) == ("running", "running")


async def test_closed_window_says_until_when_and_an_operator_comes_first(batched: Batched) -> None:
    now = datetime(2026, 11, 30, 12, tzinfo=UTC).timestamp()
    await batched.ledger.settle(batched.batch.id, SETTINGS | {"windows": ["daily 19:00-07:00"], "timezone": "UTC"})
    await batched.here(now)
    source = (await batched.peers(now))["source"]
    assert (source.state, source.until) == ("closed", datetime(2026, 11, 30, 19, tzinfo=UTC))
    assert (await batched.peers(now))["destination"].state == "running"
    await batched.ledger.wish(batched.batch.id, Wish.PAUSE)
    assert (await batched.peers(now))["source"].state == "paused"


async def test_batch_that_nobody_has_run_has_no_destination(tmp_path: Path) -> None:
    async with Ledger.open(tmp_path / "b.ledger", create=True) as ledger:
        batch = await ledger.add_batch("b", "PACS@h:104", {}, NOW)
        assert set(await Batched(ledger, batch).peers(NOW)) == {"source"}


async def test_what_is_finished_has_ended(batched: Batched) -> None:
    for claimed in await batched.ledger.claim(batched.batch.id, OWNER, 2, 60.0, NOW):
        await batched.ledger.finish(claimed, Outcome(JobState.COMPLETE, "complete"), NOW)
    assert await batched.state(NOW) == ("ended", "ended")
