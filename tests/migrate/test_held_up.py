"""What holds a run up is waited out: it ends only when nothing is left to do, or somebody ends it."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.errors import LedgerError
from fastmove.ledger.model import Wish
from fastmove.migrate import engine as engine_module
from fastmove.migrate import pulse as pulse_module
from fastmove.migrate.canary import LEARNT
from fastmove.migrate.claims import Claims
from fastmove.migrate.engine import Ended
from fastmove.services.withheld import Withheld, later
from fastmove.storage.entries import UNREADABLE
from tests.integration.retrieving import until
from tests.migrate.ledgers import instances
from tests.migrate.migrating import Clock, Migrating, migrating

SPEC: Final = Spec(studies=6, series=1, instances=4, size=2_000)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is tried soon."""
    monkeypatch.setattr(engine_module, "AWAY_S", (0.2, 0.4))
    monkeypatch.setattr(engine_module, "WATCH_S", 0.1)


def noted(made: Migrating, kind: str) -> list[str]:
    return [str(getattr(each, "text", "")) for each in made.notices if getattr(each, "event", "") == kind]


class Failing:
    """A call to the ledger that fails some times, with LedgerError."""

    def __init__(self, made: Migrating, monkeypatch: pytest.MonkeyPatch, name: str, times: int, after: int = 0) -> None:
        self.calls = 0
        self.left = times
        self._after = after
        self._call = getattr(made.ledger, name)
        monkeypatch.setattr(made.ledger, name, self)

    async def __call__(self, *given: Any, **named: Any) -> Any:
        self.calls += 1
        if self.calls > self._after and self.left:
            self.left -= 1
            raise LedgerError("test", "database is locked")
        return await self._call(*given, **named)


# ---------------------------------------------------------------------- the PACS


@pytest.mark.parametrize("fault", ["refuse-moves=A702", "drop=100%", "fail=100%"])
async def test_run_of_which_nothing_comes_at_first_goes_on_when_something_does(tmp_path: Path, fault: str) -> None:
    async with migrating(Spec(studies=12, series=1, instances=4, size=2_000), tmp_path, fault) as made:
        async with made.started(parallel=1) as (engine, running):
            await until(lambda: engine.tried_again >= 3 and bool(noted(made, "migrate.waiting")))
            assert not running.done()
            assert "perhaps the PACS does not reach us" in noted(made, "migrate.waiting")[0]
            made.pacs.misbehave()
            await until(lambda: engine.complete + engine.tried_again >= 12)
            made.clock.put_forward(7200)
            assert await asyncio.wait_for(running, 30) is Ended.FINISHED
        assert await made.states() == {"complete": 12}


async def test_pacs_that_goes_away_during_the_last_study_is_waited_for(tmp_path: Path) -> None:
    async with migrating(Spec(studies=1, series=1, instances=20, size=2_000), tmp_path, "abort-after=5") as made:
        async with made.started() as (engine, running):
            await until(lambda: engine.tried_again >= 1)
            made.pacs.misbehave()
            made.clock.put_forward(7200)
            assert await asyncio.wait_for(running, 30) is Ended.FINISHED
        assert await made.states() == {"complete": 1}


async def test_pacs_that_answers_no_question_any_more_is_spared_within_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse_module, "EVERY_S", 0.2)
    monkeypatch.setattr(pulse_module, "LEARNING_S", 0.55)
    spec = Spec(studies=60, series=1, instances=40, size=2_000)
    async with migrating(spec, tmp_path, "delay=0.05") as made, made.started(parallel=6) as (engine, _):
        await until(lambda: engine.pulse.asked > 0)
        assert engine.retrieve is not None and engine.retrieve.under_way <= 1, "it is not known yet what is usual"
        await until(lambda: engine.pulse.asked > LEARNT and engine.moves == 6)
        made.pacs.misbehave("delay=0.05", "find-delay=60")
        await until(lambda: engine.pulse.suffers, 2 * (pulse_module.LEAST_PATIENCE_S + 1) + 2)
        assert engine.pulse.most is not None and engine.pulse.most <= 3


# ---------------------------------------------------------------------- the ledger


@pytest.mark.parametrize("name", ["claim", "next_due", "finish", "instances_of", "release", "event", "record"])
async def test_ledger_that_fails_for_a_while_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    async with migrating(SPEC, tmp_path, "delay=0.01") as made:
        monkeypatch.setattr("fastmove.migrate.claims.LOOK_S", 0.2)
        if name == "instances_of":
            failing = _failing_instances(made, monkeypatch)
        else:
            failing = Failing(made, monkeypatch, name, 2, after=1 if name in ("claim", "finish", "record") else 0)
        async with made.started("daily 00:00-24:00 parallel=1") as (engine, running):
            ended = await asyncio.wait_for(running, 30)
        assert ended is Ended.FINISHED, engine.why
        assert name in ("release", "event") or not failing.left
        assert await made.states() == {"complete": SPEC.studies}
        assert (await made.instances()).keys() == made.pacs.instances()


def _failing_instances(made: Migrating, monkeypatch: pytest.MonkeyPatch) -> Any:
    class Left:
        left = 1

    read = made.ledger.instances

    async def reading(job_id: int) -> Any:
        if Left.left:
            Left.left -= 1
            raise LedgerError("instances", "database is locked")
        async for each in read(job_id):
            yield each

    monkeypatch.setattr(made.ledger, "instances", reading)
    return Left


async def test_run_that_is_held_up_by_the_ledger_goes_on_when_what_waited_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrating(SPEC, tmp_path) as made:
        engine = made.made()
        entries = instances((await made.ledger.claim(made.batch.id, "x", 1, 60.0, made.clock()))[0], 1)
        failing = Failing(made, monkeypatch, "record", 1)
        recorder = engine.recorder
        monkeypatch.setattr(recorder, "_instance", lambda _: entries[0])
        recorder.add(None)  # type: ignore[arg-type]
        with pytest.raises(LedgerError):
            await recorder.flush()
        assert recorder.error is not None
        await recorder.flush()
        assert (recorder.error, failing.left) == (None, 0)


async def test_studies_of_which_nobody_was_told_are_taken_on_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastmove.migrate.claims.LOOK_S", 0.2)
    async with migrating(SPEC, tmp_path) as made:
        (claimed,) = await made.ledger.claim(made.batch.id, "x", 1, 60.0, made.clock())
        await made.ledger.record(instances(claimed, 1), made.clock())
        await made.ledger.release(claimed, made.clock())
        Failing(made, monkeypatch, "held", 1)
        async with made.started() as (engine, running):
            await until(lambda: engine.complete >= SPEC.studies - 4)
            async with asyncio.timeout(40):
                while not running.done():  # what nobody was told of is somebody else's once its lease is over
                    made.clock.put_forward(60)
                    await asyncio.wait([running], timeout=0.5)
            assert running.result() is Ended.FINISHED
        assert (await made.states()).keys() == {"complete"}


async def test_ledger_is_not_asked_all_the_time_while_the_hand_is_full_and_something_is_due(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrating(SPEC, tmp_path, "refuse-moves=C001") as made:
        await made.ledger.wish(made.batch.id, Wish.PAUSE)
        calls = Failing(made, monkeypatch, "next_due", 0)
        async with made.started() as (engine, running):
            await until(lambda: calls.calls > 0)
            (claimed,) = await made.ledger.claim(made.batch.id, "x", 1, 60.0, made.clock())
            before = calls.calls
            from fastmove.ledger.model import JobState, Outcome

            put_off = Outcome(JobState.WAITING, "refused", "refused", due_at=made.clock() - 1)
            await made.ledger.finish(claimed, put_off, made.clock())
            engine.claims.hold(False)
            engine.claims.hold(True)
            await asyncio.sleep(1.0)  # it might ask all the time
            assert calls.calls - before < 5
            assert not running.done()


async def test_objects_that_came_are_looked_for_in_the_ledger_by_uid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrating(Spec(studies=1, series=1, instances=5, size=2_000), tmp_path) as made:
        # Two that the PACS has deleted since; and of the five that it has two cannot be read back.
        (claimed,) = await made.ledger.claim(made.batch.id, "x", 1, 60.0, made.clock())
        stale = instances(claimed, 2)
        await made.ledger.record(stale, made.clock())
        await made.ledger.release(claimed, made.clock())
        engine = made.made()
        described = engine.recorder._instance
        count = iter(range(100))

        def unreadable(entry: Any) -> Any:
            return described(entry.replace(status=UNREADABLE) if next(count) < 2 else entry)

        monkeypatch.setattr(engine.recorder, "_instance", unreadable)
        running = asyncio.create_task(made.running(engine))
        await until(lambda: engine.complete + engine.tried_again > 0)
        (job,) = (await made.jobs()).values()
        assert (job.state.value, job.reason_class) == ("waiting", "unrecorded")
        engine.interrupt(at_once=True)
        assert await running is Ended.STOPPED


async def test_studies_that_were_lost_and_claimed_again_in_mid_move_end_well(tmp_path: Path) -> None:
    spec = Spec(studies=3, series=1, instances=20, size=2_000)
    async with migrating(spec, tmp_path, "delay=0.05") as made, made.started(parallel=1) as (engine, running):
        await until(lambda: engine.objects >= 5)
        # As if we had been cut off for longer than our lease, and nobody had taken anything over meanwhile.
        await made.ledger.recover(made.clock(), batch_id=made.batch.id, all_owners=True)
        made.pacs.misbehave()
        await until(lambda: engine.complete + engine.tried_again >= 3)
        made.clock.put_forward(7200)
        assert await asyncio.wait_for(running, 30) is Ended.FINISHED
        assert await made.states() == {"complete": 3}
        assert max(made.pacs.sent.values()) <= 2, "what came between the two is not known"
        assert (await made.instances()).keys() == made.pacs.instances()


async def test_study_that_was_lost_and_claimed_again_stays_ours_when_the_loss_is_learnt_of(tmp_path: Path) -> None:
    async with migrating(SPEC, tmp_path) as made:
        claims = Claims(made.ledger, made.batch, "me", lambda: SPEC.studies + 1, made.clock)
        given = claims()
        study = (await anext(given)).study_instance_uid
        before = claims.in_hand[study]
        await made.ledger.recover(made.clock(), batch_id=made.batch.id, all_owners=True)
        again = await made.ledger.claim(made.batch.id, "me", SPEC.studies, 60.0, made.clock())
        for each in again:
            claims._take(each)
        assert claims.lost(await made.ledger.record(instances(before, 1), made.clock())) == []
        claims.over(before)
        assert claims.in_hand[study].fence > before.fence
        await given.aclose()


async def test_ledger_that_fails_while_the_first_study_is_taken_on_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with migrating(SPEC, tmp_path) as made:
        (claimed,) = await made.ledger.claim(made.batch.id, "x", 1, 60.0, made.clock())
        await made.ledger.record(instances(claimed, 1), made.clock())
        await made.ledger.release(claimed, made.clock())
        Failing(made, monkeypatch, "forget", 1)
        async with made.started() as (engine, running):
            assert await asyncio.wait_for(running, 40) is Ended.FINISHED, engine.why
        assert await made.states() == {"complete": SPEC.studies}


# ---------------------------------------------------------------------- the operator, and the clock


async def test_drain_ends_a_run_whose_window_is_closed_and_gives_back_what_was_not_begun(tmp_path: Path) -> None:
    many = Spec(studies=40, series=1, instances=4, size=2_000)
    async with migrating(many, tmp_path, "delay=0.05") as made:
        made.clock = Clock(datetime(2026, 6, 1, 11, 59, 58, tzinfo=UTC))
        async with made.started("daily 08:00-12:00", parallel=1, closing_s=0.5) as (engine, running):
            await until(lambda: engine.allowance.shut and not engine.moves)
            await made.ledger.wish(made.batch.id, Wish.DRAIN)
            assert await asyncio.wait_for(running, 10) is Ended.DRAINED
        assert "moving" not in await made.states()


async def test_run_whose_last_study_ends_after_the_window_has_closed_is_finished(tmp_path: Path) -> None:
    async with migrating(Spec(studies=1, series=1, instances=40, size=2_000), tmp_path, "delay=0.05") as made:
        made.clock = Clock(datetime(2026, 6, 1, 11, 59, 59, tzinfo=UTC))
        ended = await asyncio.wait_for(made.run("daily 08:00-12:00", closing_s=60.0), 20)
        assert ended is Ended.FINISHED


async def test_stop_is_heeded_though_it_cannot_be_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with migrating(SPEC, tmp_path, "delay=0.2") as made, made.started() as (engine, running):
        await until(lambda: engine.moves > 0)
        Failing(made, monkeypatch, "event", 1000)
        await made.ledger.wish(made.batch.id, Wish.STOP)
        assert await asyncio.wait_for(running, 15) is Ended.STOPPED


# ---------------------------------------------------------------------- rates


@pytest.mark.parametrize("kind", [Future, Withheld])
async def test_answer_comes_when_the_destination_has_it_and_the_rate_allows_it(kind: type[Future[None]]) -> None:
    loop = asyncio.get_running_loop()
    busy = kind()
    busy.set_result(None)
    began = loop.time()
    held = later(busy, 0.2)
    assert type(held) is kind
    await asyncio.wrap_future(held)
    assert loop.time() - began >= 0.19
    busy = kind()
    held = later(busy, 0.01)
    await asyncio.sleep(0.05)  # the rate allows it
    assert not held.done()
    busy.set_exception(LedgerError("test", "not taken"))
    with pytest.raises(LedgerError):
        held.result(5)
