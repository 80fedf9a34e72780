"""What every ledger promises, be it a SQLite file or PostgreSQL."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest
from sqlalchemy import insert, text

from fastmove.errors import LedgerError
from fastmove.ledger import claiming, reading, recording, store
from fastmove.ledger.model import (
    Added,
    Claimed,
    Event,
    Instance,
    JobState,
    Outcome,
    Progress,
    StudyJob,
    Total,
    Wish,
)
from fastmove.ledger.schema import host
from fastmove.ledger.sharing import Place
from fastmove.ledger.store import Ledger

NOW: Final = 1_800_000_000.0
MINUTE: Final = int(NOW // 60)
LEASE_S: Final = 45.0
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT: Final = "1.2.840.10008.1.2.1"
DONE: Final = Outcome(JobState.COMPLETE, "complete", status=0, listed=3, seconds=1.5, proof="committed")
PARKED: Final = Outcome(JobState.PARKED, "refused", "refused", "no such study", status=0xA900)


def waiting(due_at: float) -> Outcome:
    return Outcome(JobState.WAITING, "incomplete", "lost", "the connection ended", missing=2, due_at=due_at)


def studies(number: int, **values: Any) -> list[StudyJob]:
    return [
        StudyJob(f"1.2.{each}", f"P{each % 3}", "20240131", "CT", **{"instances": 3, **values})
        for each in range(number)
    ]


def of(claim: Claimed, *numbers: int, nbytes: int = 1000, **values: Any) -> list[Instance]:
    """Instances of a study, by number."""
    study = claim.job.study_instance_uid
    return [
        Instance(
            **{
                "job_id": claim.id,
                "fence": claim.fence,
                "sop_instance_uid": f"{study}.1.{number}",
                "series_instance_uid": f"{study}.1",
                "sop_class_uid": CT,
                "transfer_syntax_uid": EXPLICIT,
                "nbytes": nbytes,
                "digest": bytes([number % 256]) * 32,
                "place": f"{study}/{study}.1.{number}.dcm",
                **values,
            }
        )
        for number in numbers
    ]


async def planned(ledger: Ledger, jobs: Iterable[StudyJob] = (), name: str = "one") -> int:
    """The number of a new batch with these studies."""
    batch = await ledger.add_batch(name, "PACS@host:104", {"parallel": 4}, NOW)
    await ledger.add(batch.id, jobs, NOW)
    return batch.id


async def claimed(ledger: Ledger, batch: int, count: int = 1, now: float = NOW, owner: str = "me") -> list[Claimed]:
    return await ledger.claim(batch, owner, count, LEASE_S, now)


async def uids(claims: list[Claimed]) -> list[str]:
    return [each.job.study_instance_uid for each in claims]


async def state_of(ledger: Ledger, batch: int, study: str = "1.2.0") -> JobState:
    job = await ledger.job(batch, study)
    assert job is not None
    return job.state


# ---------------------------------------------------------------------- batches


async def test_batch_is_what_was_added_and_is_found_by_its_name(ledger: Ledger) -> None:
    added = await ledger.add_batch("müller", "PACS@host:104", {"parallel": 4, "to": ["a"]}, NOW + 0.25)
    assert (added.source, added.settings, added.wish) == ("PACS@host:104", {"parallel": 4, "to": ["a"]}, Wish.RUN)
    assert added.created_at == NOW + 0.25
    assert await ledger.batch("müller") == added
    other = await ledger.add_batch("two", "X@y:1", {}, NOW)
    assert await ledger.batches() == [added, other]


async def test_settings_of_a_batch_are_those_that_were_written_last(ledger: Ledger) -> None:
    batch = await ledger.add_batch("one", "X@y:1", {"to": "a", "parallel": 2}, NOW)
    await ledger.settle(batch.id, {"to": "b"})
    assert (await ledger.batch("one")).settings == {"to": "b"}
    with pytest.raises(LedgerError, match="there is no batch 77"):
        await ledger.settle(77, {})


async def test_name_of_a_batch_is_taken_once(ledger: Ledger) -> None:
    await ledger.add_batch("one", "", {}, NOW)
    with pytest.raises(LedgerError, match="there is a batch one already"):
        await ledger.add_batch("one", "", {}, NOW)


async def test_batch_that_is_not_there_is_told_with_those_that_are(ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="there is no batch x; there are: none at all"):
        await ledger.batch("x")
    await ledger.add_batch("one", "", {}, NOW)
    await ledger.add_batch("two", "", {}, NOW)
    with pytest.raises(LedgerError, match="there are: one, two"):
        await ledger.batch("x")
    with pytest.raises(LedgerError, match="no batch 99"):
        await ledger.wished(99)
    with pytest.raises(LedgerError, match="no batch 99"):
        await ledger.wish(99, Wish.STOP)
    with pytest.raises(LedgerError, match="no batch 99"):
        await ledger.add(99, studies(1), NOW)


async def test_wish_of_an_operator_is_seen(ledger: Ledger) -> None:
    batch, other = await planned(ledger), await planned(ledger, name="two")
    assert await ledger.wished(batch) is Wish.RUN
    await ledger.wish(batch, Wish.DRAIN)
    assert (await ledger.wished(batch), await ledger.wished(other)) == (Wish.DRAIN, Wish.RUN)


async def test_events_are_read_newest_first_of_a_batch_or_of_a_study(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    job = await ledger.job(batch, "1.2.1")
    assert job is not None
    await ledger.event(batch, "began", "on host a", NOW)
    await ledger.event(batch, "parked", "why", NOW + 1.5, job_id=job.id)
    assert await ledger.events(batch) == [Event(NOW + 1.5, "parked", "why", "1.2.1"), Event(NOW, "began", "on host a")]
    assert await ledger.events(batch, limit=1) == [Event(NOW + 1.5, "parked", "why", "1.2.1")]
    assert [each.kind for each in await ledger.events(batch, job_id=job.id)] == ["parked"]


# ---------------------------------------------------------------------- adding


async def test_study_is_added_once_however_often_it_is_given(ledger: Ledger) -> None:
    batch = await planned(ledger)
    jobs = studies(3, priority=2, rank=7)
    assert await ledger.add(batch, jobs, NOW) == Added(3, 0, 0)
    assert await ledger.add(batch, [*jobs, jobs[0], StudyJob("1.2.9")], NOW) == Added(1, 4, 0)
    rows = await ledger.jobs(batch)
    assert [row.job for row in rows] == [*jobs, StudyJob("1.2.9")]
    assert {row.state for row in rows} == {JobState.READY} and {row.added_at for row in rows} == {NOW}
    assert await ledger.add(await planned(ledger, name="two"), jobs, NOW) == Added(3, 0, 0)


async def test_many_studies_are_added_in_several_transactions(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "CHUNK", 10)
    batch = await planned(ledger)
    assert await ledger.add(batch, iter(studies(35)), NOW) == Added(35, 0, 0)
    assert await ledger.add(batch, iter(studies(45, instances=4)), NOW) == Added(10, 35, 35)


async def test_study_that_has_grown_is_tried_again_if_it_had_ended(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(5))
    for outcome, each in zip((DONE, PARKED, waiting(NOW + 9)), await claimed(ledger, batch, 3), strict=True):
        assert await ledger.finish(each, outcome, NOW)
    await claimed(ledger, batch)
    assert await ledger.add(batch, studies(5, instances=4), NOW) == Added(0, 5, 5)
    rows = await ledger.jobs(batch)
    assert [row.job.instances for row in rows] == [4] * 5
    expected = [JobState.READY, JobState.READY, JobState.WAITING, JobState.MOVING, JobState.READY]
    assert [row.state for row in rows] == expected
    assert [row.attempts for row in rows] == [0, 0, 1, 1, 0]
    assert (rows[1].verdict, rows[1].reason, rows[1].status) == ("", "", None)
    assert await ledger.add(batch, studies(5, instances=3), NOW) == Added(0, 5, 0)
    assert await ledger.add(batch, studies(5, instances=None), NOW) == Added(0, 5, 0)


async def test_study_that_grows_while_it_moves_is_tried_afresh_once(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2, instances=5))
    for claim, outcome in zip(await claimed(ledger, batch, 2), (DONE, PARKED), strict=True):
        assert await ledger.add(batch, [claim.job.replace(instances=9)], NOW) == Added(0, 1, 1)
        await ledger.record(of(claim, 1, 2, 3, 4, 5), NOW)
        assert await ledger.finish(claim, outcome.replace(listed=5), NOW) is JobState.READY
        (attempt,) = await ledger.attempts(claim.id)
        assert (attempt.verdict, attempt.listed) == (outcome.verdict, 5), "what came of it is known all the same"
        row = await ledger.job(batch, claim.job.study_instance_uid)
        assert row is not None and (row.state, row.attempts, row.verdict, row.proof) == (JobState.READY, 0, "", "")
    assert await ledger.progress(batch, MINUTE) == [Progress(MINUTE, 0, 10, 10_000)], "no study is complete"
    # A PACS that counts more than it lists: once more is enough, however often it is planned.
    for claim in await claimed(ledger, batch, 2):
        assert await ledger.finish(claim, DONE.replace(listed=5), NOW) is JobState.COMPLETE
    assert await ledger.add(batch, studies(2, instances=9), NOW) == Added(0, 2, 0)
    assert await claimed(ledger, batch) == []


async def test_study_that_has_grown_before_it_was_listed_is_complete(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2, instances=None))
    listed, unlisted = await claimed(ledger, batch, 2)
    await ledger.add(batch, studies(2, instances=3), NOW)
    assert await ledger.finish(listed, DONE.replace(listed=3), NOW) is JobState.COMPLETE
    await ledger.record(of(unlisted, 1, 2, 3), NOW)
    assert await ledger.finish(unlisted, DONE.replace(listed=None), NOW) is JobState.COMPLETE


async def test_study_that_was_not_counted_has_grown_beyond_what_is_stored(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1, instances=None))
    (claim,) = await claimed(ledger, batch)
    await ledger.record(of(claim, 1, 2), NOW)
    await ledger.finish(claim, DONE, NOW)
    assert await ledger.add(batch, studies(1, instances=2), NOW) == Added(0, 1, 0)
    assert await ledger.add(batch, studies(1, instances=3), NOW) == Added(0, 1, 1)
    assert await state_of(ledger, batch) is JobState.READY


async def test_of_a_study_given_twice_at_once_the_larger_count_stays(ledger: Ledger) -> None:
    batch = await planned(ledger)
    jobs = [StudyJob("1.2.3", instances=count) for count in (None, 5, 9, 7)]
    assert await ledger.add(batch, jobs, NOW) == Added(1, 3, 0)
    assert [row.job.instances for row in await ledger.jobs(batch)] == [9]


async def test_studies_that_are_planned_again_are_in_the_order_of_the_last_plan(ledger: Ledger) -> None:
    def plan(*ranks: int, priority: int = 0) -> list[StudyJob]:
        return [StudyJob(f"1.2.{n}", priority=priority, rank=rank) for n, rank in enumerate(ranks)]

    batch = await planned(ledger, plan(1, 2, 3, 4))
    assert await ledger.add(batch, plan(4, 3, 2, 1), NOW) == Added(0, 4, 0)
    assert await ledger.add(batch, [StudyJob("1.2.1", priority=5, rank=9)], NOW) == Added(0, 1, 0)
    assert await ledger.prioritise(batch, study="1.2.0", priority=7) == 1
    assert await ledger.add(batch, plan(4, 3, 2, 1), NOW) == Added(0, 4, 0), "a lower priority takes nothing back"
    assert await uids(claims := await claimed(ledger, batch, 4)) == ["1.2.0", "1.2.1", "1.2.3", "1.2.2"]
    for claim in claims[:3]:
        assert await ledger.finish(claim, DONE, NOW)
    assert await ledger.add(batch, plan(8, 8, 8, 8, priority=8), NOW) == Added(0, 4, 0)
    rows = await ledger.jobs(batch)
    assert [(row.job.priority, row.job.rank) for row in rows] == [(7, 4), (5, 3), (8, 8), (0, 1)], (
        "what has ended stays"
    )


# ---------------------------------------------------------------------- claiming


async def test_claim_is_in_the_order_of_priority_rank_and_addition(ledger: Ledger) -> None:
    order = {"a": (0, 1), "b": (5, 2), "c": (0, 0), "d": (5, 1), "e": (0, 0), "f": (-1, 0)}
    batch = await planned(ledger, [StudyJob(uid, priority=p, rank=r) for uid, (p, r) in order.items()])
    await planned(ledger, studies(2), name="two")
    assert await uids(await claimed(ledger, batch, 4)) == ["d", "b", "c", "e"]
    assert await uids(await claimed(ledger, batch, 9)) == ["a", "f"]
    assert await claimed(ledger, batch, 9) == []


async def test_claimed_study_is_its_owners_with_an_attempt_open(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    first, second = await claimed(ledger, batch, 2)
    assert first.job == studies(2)[0]
    assert (first.fence, first.attempts, first.stored) == (1, 0, 0)
    row = await ledger.job(batch, "1.2.0")
    assert row is not None and row.id == first.id != second.id
    assert (row.state, row.owner, row.lease_until, row.fence) == (JobState.MOVING, "me", NOW + LEASE_S, 1)
    (attempt,) = await ledger.attempts(first.id)
    assert (attempt.number, attempt.owner, attempt.began_at, attempt.ended_at) == (1, "me", NOW, None)


async def test_waiting_study_is_claimed_when_it_is_due_in_its_order(ledger: Ledger) -> None:
    batch = await planned(ledger, [*studies(2, priority=1), StudyJob("1.3")])
    assert await ledger.next_due(batch) is None
    first, second = await claimed(ledger, batch, 2)
    await ledger.finish(first, waiting(NOW + 60.5), NOW)
    await ledger.finish(second, waiting(NOW + 90), NOW)
    assert await ledger.next_due(batch) == NOW + 60.5
    assert await uids(await claimed(ledger, batch, 1, NOW + 60.4)) == ["1.3"]
    (again,) = await claimed(ledger, batch, 9, NOW + 60.5)
    assert (again.job.study_instance_uid, again.fence, again.attempts) == ("1.2.0", 2, 1)
    assert await ledger.next_due(batch) == NOW + 90


async def test_many_that_are_due_at_once_are_claimed_all_the_same(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = await planned(ledger, studies(30))
    for each in await claimed(ledger, batch, 30):
        await ledger.finish(each, waiting(NOW + 1), NOW)
    assert claiming.PROMOTED >= 100
    assert len(await claimed(ledger, batch, 50, NOW + 1)) == 30


async def test_certain_study_is_claimed_once_and_only_as_it_was(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(3))
    number = (await ledger.jobs(batch))[1].id

    async def claim_of(fence: int) -> Claimed | None:
        return await ledger.claim_job(number, fence, "queue", LEASE_S, NOW)

    assert await claim_of(1) is None
    claim = await claim_of(0)
    assert claim is not None and (claim.job.study_instance_uid, claim.fence) == ("1.2.1", 1)
    assert await claim_of(0) is await claim_of(1) is None, "it is in hand"
    await ledger.finish(claim, waiting(NOW + 60), NOW)
    await ledger.promote(batch, NOW + 59)
    assert await claim_of(1) is None, "it is not due"
    await ledger.promote(batch, NOW + 60)
    again = await claim_of(1)
    assert again is not None and (again.fence, again.attempts) == (2, 1)
    await ledger.finish(again, DONE, NOW)
    assert await claim_of(2) is None
    assert await ledger.claim_job(12345, 0, "queue", LEASE_S, NOW) is None


async def test_no_two_claimants_get_the_same_study(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger, studies(200))
    got: list[int] = []

    async def claimant(own: Ledger, owner: str) -> None:
        while found := await own.claim(batch, owner, 3, LEASE_S, NOW):
            got.extend(each.id for each in found)
            assert all([await own.finish(each, DONE, NOW) for each in found[:1]])

    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(Ledger.open(where)) for _ in range(6)]
        await asyncio.gather(*(claimant(own, f"host {n}") for n, own in enumerate(ledgers)))
    assert len(got) == len(set(got)) == 200
    numbers = (await ledger.summary(batch)).states
    assert numbers[JobState.MOVING].studies + numbers[JobState.COMPLETE].studies == 200


# ---------------------------------------------------------------------- who is at it


async def test_study_whose_lease_has_ended_is_taken_away(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(3))
    (lost,) = await claimed(ledger, batch, owner="dead")
    (kept,) = await claimed(ledger, batch, owner="alive")
    assert await ledger.renew("alive", LEASE_S, NOW + 40) == 1
    assert await ledger.recover(NOW + LEASE_S - 1, batch_id=batch) == 0
    assert await ledger.recover(NOW + LEASE_S, batch_id=batch) == 1
    row = await ledger.job(batch, "1.2.0")
    assert row is not None
    assert (row.state, row.owner, row.lease_until, row.attempts) == (JobState.READY, "", None, 0)
    (attempt,) = await ledger.attempts(lost.id)
    assert (attempt.verdict, attempt.ended_at) == ("lost", NOW + LEASE_S)
    assert await state_of(ledger, batch, "1.2.1") is JobState.MOVING
    assert await ledger.finish(kept, DONE, NOW)
    assert await ledger.renew("alive", LEASE_S, NOW) == await ledger.renew("nobody", LEASE_S, NOW) == 0


async def test_all_studies_are_taken_away_if_nobody_else_runs(ledger: Ledger) -> None:
    batch, other = await planned(ledger, studies(3)), await planned(ledger, studies(1), name="two")
    await claimed(ledger, batch, 2)
    await claimed(ledger, other)
    assert await ledger.recover(NOW, batch_id=batch, all_owners=True) == 2
    assert await state_of(ledger, other) is JobState.MOVING
    again = await claimed(ledger, batch, 9)
    assert [(each.fence, each.attempts) for each in again] == [(3, 0), (3, 0), (1, 0)]
    assert [each.number for each in await ledger.attempts(again[0].id)] == [1, 2]


async def test_study_is_parked_when_ten_owners_in_a_row_were_lost_with_it_and_nothing_came(ledger: Ledger) -> None:
    batch = await planned(ledger, [StudyJob(uid, rank=n) for n, uid in enumerate(("came", "ended", "deadly"))])
    moments = (NOW + n for n in range(99))

    async def states() -> dict[str, str]:
        return {row.job.study_instance_uid: row.state for row in await ledger.jobs(batch)}

    for turn in range(store.MOST_LOST):
        came, ended, deadly = await claimed(ledger, batch, 3, now := next(moments))
        assert (came.attempts, ended.attempts, deadly.attempts) == (0, 0, 0), "what was lost does not count"
        if turn == 3:
            await ledger.record(of(came, 1), now)
            await ledger.finish(ended, waiting(now).replace(attempts=0), now)
        await ledger.recover(now, batch_id=batch, all_owners=True)
    assert await states() == {"came": "ready", "ended": "ready", "deadly": "parked"}
    row = await ledger.job(batch, "deadly")
    assert row is not None and row.reason == "whoever had it in hand died, 10 times in a row"
    assert (row.verdict, row.reason_class, row.owner, row.lease_until) == ("lost", "lost", "", None)
    assert await ledger.park(batch, "came", "", now) and await ledger.park(batch, "ended", "", now)
    assert await ledger.retry(batch, reason_class="lost") == 1
    for _ in range(store.MOST_LOST - 1):
        again = await claimed(ledger, batch, 3, now := next(moments))
        assert [each.id for each in again] == [row.id]
        await ledger.recover(now, batch_id=batch, all_owners=True)
    assert (await states())["deadly"] == "ready", "it has been given as many more"


async def test_late_owner_writes_nothing(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (late,) = await claimed(ledger, batch, owner="late")
    await ledger.record(of(late, 1), NOW)
    await ledger.recover(NOW + 99, batch_id=batch)
    assert await ledger.record(of(late, 2), NOW) == {(late.id, late.fence)}
    (new,) = await claimed(ledger, batch, now=NOW + 99, owner="new")
    assert new.stored == 1
    assert await ledger.record(of(late, 1, 2, nbytes=5), NOW) == {(late.id, late.fence)}
    assert not await ledger.finish(late, DONE, NOW)
    assert not await ledger.release(late, NOW)
    assert await ledger.held(new.id) == {"1.2.0.1.1": 1000}
    row = await ledger.job(batch, "1.2.0")
    assert row is not None and (row.state, row.owner, row.stored, row.nbytes) == (JobState.MOVING, "new", 1, 1000)
    assert await ledger.finish(new, DONE, NOW)
    assert not await ledger.finish(new, PARKED, NOW)
    assert await state_of(ledger, batch) is JobState.COMPLETE


async def test_what_others_have_is_refused_and_the_rest_is_recorded(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    old, kept = await claimed(ledger, batch, 2)
    await ledger.renew("me", LEASE_S, NOW)
    await ledger.finish(old, waiting(NOW), NOW)
    (new,) = await claimed(ledger, batch)
    unknown = of(old.replace(id=999), 1)
    mixed = [*of(old, 1), *of(kept, 1, 2), *of(new, 2), *of(old, 2, nbytes=5), *unknown]
    assert await ledger.record(mixed, NOW) == {(old.id, old.fence), (999, old.fence)}
    assert await ledger.held(old.id) == {"1.2.0.1.2": 1000}
    assert len(await ledger.held(kept.id)) == 2


async def test_what_comes_after_the_end_of_a_study_is_recorded(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    await ledger.finish(claim, DONE, NOW)
    assert await ledger.record(of(claim, 1), NOW) == frozenset()
    (attempt,) = await ledger.attempts(claim.id)
    assert (attempt.stored, attempt.nbytes) == (1, 1000)
    assert (await ledger.summary(batch)).states[JobState.COMPLETE] == Total(1, 3, 1, 1000)


async def test_attempts_are_counted_from_what_an_outcome_says(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    await ledger.finish(claim, waiting(NOW + 1), NOW)
    (claim,) = await claimed(ledger, batch, now=NOW + 1)
    assert claim.attempts == 1
    await ledger.finish(claim, waiting(NOW + 2).replace(attempts=0), NOW)
    (claim,) = await claimed(ledger, batch, now=NOW + 2)
    assert claim.attempts == 0


async def test_instances_that_are_forgotten_have_to_come_once_more(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    await ledger.record(of(claim, 1, 2, 3), NOW)
    assert await ledger.forget(claim, {"1.2.0.1.2", "1.2.0.1.3", "1.9"})
    assert set(await ledger.held(claim.id)) == {"1.2.0.1.1"}
    row = await ledger.job(batch, "1.2.0")
    assert row is not None and (row.stored, row.nbytes) == (1, 1000)
    await ledger.recover(NOW + 2 * LEASE_S, batch_id=batch)
    assert not await ledger.forget(claim, {"1.2.0.1.1"})
    assert set(await ledger.held(claim.id)) == {"1.2.0.1.1"}


async def test_released_study_is_as_if_it_had_not_been_claimed(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    assert await ledger.release(claim, NOW)
    assert not await ledger.release(claim, NOW)
    assert await ledger.attempts(claim.id) == []
    (again,) = await claimed(ledger, batch)
    assert (again.attempts, again.fence > claim.fence) == (0, True)


# ---------------------------------------------------------------------- what is in the queue of a fleet


async def put(ledger: Ledger, batch: int, first: int = 100) -> list[tuple[str, int, bool]]:
    """UID, fence and whether it was begun of what had to be put into the queue."""
    async with ledger.putting(batch, first) as waiting:
        pass
    uids = {row.id: row.job.study_instance_uid for row in await ledger.jobs(batch)}
    return [(uids[each.id], each.fence, each.begun) for each in waiting]


async def test_studies_that_come_first_are_put_into_the_queue_once_in_their_order(ledger: Ledger) -> None:
    batch = await planned(ledger, [StudyJob(uid, rank=rank) for uid, rank in (("c", 3), ("a", 1), ("b", 2), ("d", 4))])
    await planned(ledger, studies(2), name="two")
    assert await put(ledger, batch, 2) == [("a", 0, False), ("b", 0, False)]
    assert await put(ledger, batch, 2) == []
    assert await put(ledger, batch, 3) == [("c", 0, False)]
    await claimed(ledger, batch, 2)
    assert await put(ledger, batch, 2) == [("d", 0, False)]


async def test_study_that_was_not_put_into_the_queue_after_all_is_put_in_again(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    with pytest.raises(ZeroDivisionError):
        async with ledger.putting(batch, 100) as waiting:
            assert len(waiting) == 1 / 0
    assert len(await put(ledger, batch)) == 2


async def test_whatever_becomes_of_a_study_it_is_put_into_the_queue_again_once_it_is_ready(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    before = -1

    async def is_put_again(begun: bool = True) -> None:
        nonlocal before
        ((_, fence, begun_by_then),) = await put(ledger, batch)
        assert (fence > before, begun_by_then) == (True, begun)
        assert await put(ledger, batch) == []
        before = fence

    await is_put_again(begun=False)
    await ledger.prioritise(batch, priority=2)
    await is_put_again(begun=False)
    await ledger.add(batch, studies(1, rank=5), NOW)
    await is_put_again(begun=False)
    await ledger.park(batch, "1.2.0", "", NOW)
    assert await put(ledger, batch) == []
    await ledger.retry(batch)
    await is_put_again(begun=False)
    (claim,) = await claimed(ledger, batch)
    assert await put(ledger, batch) == []
    await ledger.release(claim, NOW)
    await is_put_again(begun=False)
    await claimed(ledger, batch)
    await ledger.recover(NOW, batch_id=batch, all_owners=True)
    await is_put_again()
    (claim,) = await claimed(ledger, batch)
    await ledger.finish(claim, waiting(NOW + 1), NOW)
    assert await put(ledger, batch) == []
    await ledger.promote(batch, NOW + 1)
    await is_put_again()
    (claim,) = await claimed(ledger, batch)
    await ledger.finish(claim, DONE, NOW)
    assert await put(ledger, batch) == []
    await ledger.add(batch, studies(1, instances=9), NOW)
    await is_put_again()


async def test_one_host_at_a_time_puts_studies_into_the_queue(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger, studies(3))
    if "://" not in where:
        return  # the file is locked
    async with Ledger.open(where) as other, ledger.putting(batch, 100) as ours:
        assert (len(ours), await put(other, batch)) == (3, [])
    assert await put(ledger, batch) == []


async def test_hosts_that_are_there_share_and_who_was_not_heard_of_for_a_day_is_forgotten(ledger: Ledger) -> None:
    batch, now = await planned(ledger), time.time()
    for owner, seen in (("old", now - 90_000), ("dead", now - 60), ("a", now - 5)):
        await said(ledger, batch, owner, seen)
    assert await ledger.here(batch, "b", "B", 2, now) == Place(2, 1)
    assert [each.owner for each in await ledger.hosts(batch)] == ["b", "a", "dead"]
    await ledger.away(batch, "a")
    assert await ledger.here(batch, "b", "B", 2, now) == Place(1, 0)


async def said(ledger: Ledger, batch: int, owner: str, seen: float) -> None:
    """A host was last heard of then."""
    values = {"batch_id": batch, "owner": owner, "ae_title": "", "moves": 0, "seen_ms": round(seen * 1000)}
    async with ledger._database.fact("test") as connection:
        await connection.execute(insert(host).values(values))


async def test_host_whose_clock_is_wrong_is_told_so_where_there_are_others(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger)
    for wrong, words in ((60, "60 s ahead of"), (-60, "60 s behind")):
        if "://" in where:
            with pytest.raises(LedgerError, match=f"our clock is {words} the database's"):
                await ledger.here(batch, "a", "A", 0, time.time() + wrong)
            assert await ledger.hosts(batch) == []
        else:
            assert await ledger.here(batch, "a", "A", 0, time.time() + wrong) == Place(1, 0)


# ---------------------------------------------------------------------- recording


async def test_instance_is_read_as_it_was_recorded(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    places = ["a/b/{}.dcm", "{}.dcm", "a/{}", "a/CT.{}", "{}.dcm/x.dcm", "", "a//", "s3://bucket/ä/{}.dcm", "/a/{}.dcm"]
    recorded = [
        of(claim, number, place=place.format(f"1.2.0.1.{number}"), digest=b"" if number % 2 else bytes(32))[0]
        for number, place in enumerate(places)
    ]
    recorded.append(recorded[0].replace(sop_instance_uid="1.9", transfer_syntax_uid="1.2.840.10008.1.2.4.50"))
    await ledger.record(recorded, NOW)
    found = [each async for each in ledger.instances(claim.id)]
    assert found == sorted(recorded, key=lambda each: each.sop_instance_uid)


async def test_instances_are_read_page_by_page(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "PAGE", 4)
    batch = await planned(ledger, studies(2))
    claim, other = await claimed(ledger, batch, 2)
    await ledger.record([*of(claim, *range(12)), *of(other, 1)], NOW)
    found = [each.sop_instance_uid async for each in ledger.instances(claim.id)]
    assert found == sorted(await ledger.held(claim.id)) and len(found) == 12


async def test_digests_of_several_studies_come_by_study_and_uid(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(3))
    first, second, third = await claimed(ledger, batch, 3)
    await ledger.record([*of(second, 10, 2), *of(third, 1), *of(first, 3, digest=b"")], NOW)
    found = await ledger.digests([second.id, first.id])
    listed = [*of(first, 3, digest=b""), *of(second, 10, 2)]
    assert found == [(each.job_id, each.sop_instance_uid, each.digest) for each in listed]


async def test_what_is_recorded_again_counts_once(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    claim, other = await claimed(ledger, batch, 2)
    await ledger.record([*of(claim, 1, 2), *of(claim, 2)], NOW)
    await ledger.record([*of(claim, 1, 2, 3), *of(other, 1)], NOW + 60)
    await ledger.record(of(claim, 1, 2, 3), NOW + 120)
    row = await ledger.job(batch, "1.2.0")
    assert row is not None and (row.stored, row.nbytes) == (3, 3000)
    assert await ledger.progress(batch, 0) == [Progress(MINUTE, 0, 2, 2000), Progress(MINUTE + 1, 0, 2, 2000)]
    (attempt,) = await ledger.attempts(claim.id)
    assert (attempt.stored, attempt.nbytes) == (3, 3000)


async def test_instance_that_has_changed_counts_by_its_new_size(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    await ledger.record(of(claim, 1, 2), NOW)
    changed = of(claim, 2, nbytes=400, place="elsewhere/x", digest=bytes(32))
    await ledger.record(changed, NOW)
    row = await ledger.job(batch, "1.2.0")
    assert row is not None and (row.stored, row.nbytes) == (2, 1400)
    assert [each async for each in ledger.instances(claim.id)] == [*of(claim, 1), *changed]


async def test_nothing_is_recorded_of_nothing(ledger: Ledger) -> None:
    assert await ledger.record([], NOW) == frozenset()


async def test_counters_are_right_whatever_is_replayed(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "MOST", 7)
    source = random.Random(5)
    batch = await planned(ledger, studies(4))
    claims = await claimed(ledger, batch, 4)
    for _ in range(25):
        given = [
            each
            for claim in source.sample(claims, source.randint(1, 4))
            for number in source.choices(range(20), k=source.randint(1, 8))
            for each in of(
                claim, number, nbytes=source.randint(1, 9), place=f"{source.randint(0, 2)}/{number}", digest=b""
            )
        ]
        assert await ledger.record(given, NOW) == frozenset()
    rows = {row.id: (row.stored, row.nbytes) for row in await ledger.jobs(batch)}
    for claim in claims:
        held = await ledger.held(claim.id)
        assert rows[claim.id] == (len(held), sum(held.values()))
        assert [each.nbytes async for each in ledger.instances(claim.id)] == [held[uid] for uid in sorted(held)]
    (came,) = await ledger.progress(batch, MINUTE)
    assert (came.instances, came.nbytes) == tuple(map(sum, zip(*rows.values(), strict=True)))


# ---------------------------------------------------------------------- what came of it


async def test_outcome_is_kept_by_the_study_and_its_attempt(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(1))
    (first,) = await claimed(ledger, batch)
    await ledger.record(of(first, 1), NOW)
    await ledger.finish(first, waiting(NOW + 60), NOW + 1)
    (second,) = await claimed(ledger, batch, now=NOW + 60)
    await ledger.record(of(second, 2, 3), NOW + 61)
    await ledger.finish(second, DONE, NOW + 62.5)
    row = await ledger.job(batch, "1.2.0")
    assert row is not None
    assert (row.state, row.verdict, row.reason_class, row.status, row.listed) == ("complete", "complete", "", 0, 3)
    assert (row.missing, row.seconds, row.ended_at, row.due_at, row.owner) == (0, 1.5, NOW + 62.5, None, "")
    before, after = await ledger.attempts(first.id)
    assert (before.number, before.verdict, before.reason_class, before.missing) == (1, "incomplete", "lost", 2)
    assert (before.ended_at, before.reason, before.stored) == (NOW + 1, "the connection ended", 1)
    assert (after.number, after.verdict, after.stored, after.nbytes, after.seconds) == (2, "complete", 2, 2000, 1.5)
    assert (row.proof, before.proof, after.proof) == ("committed", "", "committed")
    await ledger.add(batch, studies(1, instances=99), NOW)
    grown = await ledger.job(batch, "1.2.0")
    assert grown is not None and (grown.state, grown.proof) == (JobState.READY, ""), "more has to come"
    assert await ledger.progress(batch, MINUTE + 1) == [Progress(MINUTE + 1, 1, 2, 2000)]


@pytest.mark.parametrize(
    "outcome",
    [Outcome(JobState.MOVING, ""), Outcome(JobState.WAITING, ""), DONE.replace(due_at=NOW)],
    ids=["moving", "waiting for nothing", "complete, but due"],
)
async def test_outcome_that_is_none_is_refused(ledger: Ledger, outcome: Outcome) -> None:
    batch = await planned(ledger, studies(1))
    (claim,) = await claimed(ledger, batch)
    with pytest.raises(ValueError, match="no outcome"):
        await ledger.finish(claim, outcome, NOW)
    assert await state_of(ledger, batch) is JobState.MOVING


async def test_summary_has_every_state_verdict_and_reason(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(7))
    await planned(ledger, studies(2), name="two")
    nothing = await ledger.summary(await planned(ledger, name="three"))
    assert set(nothing.states) == set(JobState) and nothing.total == Total()
    done, warned, parked, wait, moving = await claimed(ledger, batch, 5)
    await ledger.record([*of(done, 1, 2, 3), *of(moving, 1)], NOW)
    await ledger.finish(done, DONE, NOW)
    await ledger.finish(warned, DONE.replace(verdict="counted"), NOW)
    await ledger.finish(parked, PARKED, NOW)
    await ledger.finish(wait, waiting(NOW + 60), NOW)
    summary = await ledger.summary(batch)
    assert summary.states == {
        JobState.READY: Total(2, 6),
        JobState.WAITING: Total(1, 3),
        JobState.MOVING: Total(1, 3, 1, 1000),
        JobState.COMPLETE: Total(2, 6, 3, 3000),
        JobState.PARKED: Total(1, 3),
    }
    assert summary.verdicts == {"complete": 1, "counted": 1, "refused": 1}
    assert summary.reasons == {"refused": 1, "lost": 1}
    assert summary.total == Total(7, 21, 4, 4000)


async def test_volumes_add_up_by_modalities_and_state(ledger: Ledger) -> None:
    jobs = [StudyJob(f"1.2.{n}", modalities="MR" if n % 3 else "CT\\SR", instances=n or None) for n in range(30)]
    batch = await planned(ledger, jobs)
    await planned(ledger, studies(3), name="two")
    for each in await claimed(ledger, batch, 9):
        await ledger.record(of(each, 1, 2, nbytes=500), NOW)
        await ledger.finish(each, DONE, NOW)
    volumes = await ledger.volumes(batch)

    def sums(modalities: str, state: JobState) -> tuple[int, ...]:
        chosen = [each for each in volumes if (each.modalities, each.state) == (modalities, state)]
        numbers = ("studies", "counted", "expected", "stored", "nbytes")
        return tuple(sum(getattr(each, name) for each in chosen) for name in numbers)

    assert sums("CT\\SR", JobState.COMPLETE) == (3, 2, 9, 6, 3000)
    assert sums("MR", JobState.COMPLETE) == (6, 6, 27, 12, 6000)
    assert sums("CT\\SR", JobState.READY) == (7, 7, 126, 0, 0)
    assert sum(each.studies for each in volumes) == 30
    assert {each.part for each in volumes} == set(range(10))


async def test_batch_is_finished_when_every_study_has_ended(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    assert await ledger.unfinished(batch)
    first, second = await claimed(ledger, batch, 2)
    await ledger.finish(first, DONE, NOW)
    assert await ledger.unfinished(batch)
    await ledger.finish(second, waiting(NOW + 60), NOW)
    assert await ledger.unfinished(batch)
    assert await ledger.park(batch, "1.2.1", "of no use", NOW)
    assert not await ledger.unfinished(batch)


async def test_jobs_are_read_page_by_page_by_state_and_reason(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(8))
    first, *rest = await claimed(ledger, batch, 5)
    await ledger.finish(first, DONE, NOW)
    for each, outcome in zip(rest, (PARKED, PARKED.replace(reason_class="x"), waiting(NOW)), strict=False):
        await ledger.finish(each, outcome, NOW)

    async def found(**which: Any) -> list[str]:
        return [row.job.study_instance_uid[4:] for row in await ledger.jobs(batch, **which)]

    assert await found() == list("01234567")
    assert await found(limit=3) == list("012")
    after = (await ledger.jobs(batch, limit=3))[-1].id
    assert await found(limit=3, after_id=after) == list("345")
    assert await found(states=[JobState.PARKED]) == list("12")
    assert await found(states=[JobState.MOVING, JobState.PARKED], after_id=after) == list("4")
    assert await found(states=[JobState.READY, JobState.COMPLETE]) == list("0567")
    assert await found(states=[JobState.PARKED], reason_class="x") == list("2")
    assert await found(reason_class="lost") == list("3")
    assert await ledger.job(batch, "1.2.99") is None


async def test_jobs_are_found_by_a_part_of_their_uid_and_the_beginning_of_a_patient_id(ledger: Ledger) -> None:
    patients = ("A_1", "A%1", "B1", "1.2.0")
    batch = await planned(ledger, [StudyJob(f"1.2.{n}", each) for n, each in enumerate(patients)])

    async def found(text: str, **which: Any) -> list[str]:
        return [row.job.study_instance_uid[4:] for row in await ledger.jobs(batch, text=text, **which)]

    assert await found("2.1") == list("1")
    assert await found("1.2.", limit=2) == list("01")
    for part in ("A", "B1", "%", "_", "1_2"):
        assert await found(part) == [], "no patient, unless that is asked for"
    assert await found("A", patients=True) == list("01")
    assert await found("A_", patients=True) == list("0"), "nothing stands for anything else"
    assert await found("1", patients=True) == list("0123")
    assert await found("1.2.0", patients=True) == list("03")
    assert await found("B", patients=True, states=[JobState.PARKED]) == []


# ---------------------------------------------------------------------- what an operator does


async def test_operator_has_studies_tried_again(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(5))
    for each, outcome in zip(
        await claimed(ledger, batch, 4),
        (DONE, PARKED, waiting(NOW + 999), PARKED.replace(reason_class="x")),
        strict=True,
    ):
        await ledger.finish(each, outcome, NOW)
    assert await ledger.retry(batch, study="1.2.0") == 0
    assert await ledger.retry(batch, reason_class="x") == 1
    assert await ledger.retry(batch) == 2
    again = await claimed(ledger, batch, 9)
    assert [(each.job.study_instance_uid, each.attempts) for each in again] == [
        ("1.2.1", 0),
        ("1.2.2", 0),
        ("1.2.3", 0),
        ("1.2.4", 0),
    ]
    assert [each.number for each in await ledger.attempts(again[0].id)] == [1, 2]
    assert (await ledger.summary(batch)).reasons == {}


async def test_operator_parks_all_of_a_class_that_are_to_be_tried_again(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(5))
    other = PARKED.replace(reason_class="lost")
    outcomes = (waiting(NOW), waiting(NOW + 999), waiting(NOW + 999).replace(reason_class="x"), other)
    for each, outcome in zip(await claimed(ledger, batch, 4), outcomes, strict=True):
        await ledger.finish(each, outcome, NOW)
    assert (await ledger.summary(batch)).waiting == {"lost": 2, "x": 1}
    (due,) = await claimed(ledger, batch, 1)
    await ledger.release(due, NOW)  # it is due, and READY
    assert await ledger.park_class(batch, "lost", "of no use", NOW + 5) == 2
    assert await ledger.park_class(batch, "lost", "of no use", NOW + 6) == 0
    rows = {row.job.study_instance_uid: row for row in await ledger.jobs(batch)}
    for uid in ("1.2.0", "1.2.1"):
        row = rows[uid]
        assert (row.state, row.verdict, row.reason_class, row.reason, row.due_at, row.ended_at) == (
            JobState.PARKED,
            "operator",
            "operator",
            "of no use",
            None,
            NOW + 5,
        )
    assert (rows["1.2.2"].state, rows["1.2.3"].reason_class) == (JobState.WAITING, "lost")
    summary = await ledger.summary(batch)
    assert (summary.waiting, summary.reasons) == ({"x": 1}, {"operator": 2, "x": 1, "lost": 1})


async def test_operator_parks_a_study_that_does_not_move(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(2))
    assert await ledger.park(batch, "1.2.1", "asked to", NOW + 1)
    row = await ledger.job(batch, "1.2.1")
    assert row is not None
    assert (row.state, row.reason_class, row.reason, row.ended_at) == ("parked", "operator", "asked to", NOW + 1)
    await claimed(ledger, batch, 2)
    assert not await ledger.park(batch, "1.2.0", "asked to", NOW)
    assert not await ledger.park(batch, "1.2.99", "asked to", NOW)
    assert await ledger.retry(batch, reason_class="operator") == 1


async def test_operator_puts_a_study_or_a_patient_first(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(6))
    assert await ledger.prioritise(batch, patient_id="P1", priority=1) == 2
    assert await ledger.prioritise(batch, study="1.2.5", priority=2) == 1
    assert await ledger.prioritise(batch, study="1.2.99", priority=2) == 0
    assert await uids(await claimed(ledger, batch, 4)) == ["1.2.5", "1.2.1", "1.2.4", "1.2.0"]
    assert await ledger.prioritise(batch, priority=0) == 6


async def test_fence_of_a_study_that_can_be_taken_on_goes_up_with_whatever_changes_its_turn(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(3))
    moving, wait = await claimed(ledger, batch, 2)
    await ledger.finish(wait, waiting(NOW + 60), NOW)

    async def fences() -> list[int]:
        return [row.fence for row in await ledger.jobs(batch)]

    assert await fences() == [1, 1, 0]
    await ledger.prioritise(batch, priority=1)
    assert await fences() == [1, 1, 1], "what is moved is its owner's"
    assert await ledger.add(batch, studies(3, rank=4), NOW) == Added(0, 3, 0)
    assert await fences() == [1, 1, 2]
    assert await ledger.add(batch, studies(3, rank=4), NOW) == Added(0, 3, 0)
    assert await fences() == [1, 1, 2], "it is where it was"
    await ledger.park(batch, "1.2.2", "asked to", NOW)
    assert await ledger.retry(batch) == 2
    assert await fences() == [1, 2, 3]
    assert await ledger.finish(moving, DONE, NOW)


# ---------------------------------------------------------------------- several at once, and ends of all kinds


async def test_ledger_is_read_while_it_is_written(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger, studies(3))
    async with Ledger.open(where, read_only=True) as reader, ledger._database.fact("test") as connection:
        await connection.execute(text("UPDATE study_job SET state = 'parked'"))
        async with asyncio.timeout(10):
            assert (await reader.summary(batch)).states[JobState.READY].studies == 3
            assert await ledger.unfinished(batch)
    assert not await ledger.unfinished(batch)


async def test_who_only_reads_cannot_write(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger, studies(1))
    async with Ledger.open(where, read_only=True) as reader:
        with pytest.raises(LedgerError, match=r"ledger: claim: .*(readonly|read-only)"):
            await reader.claim(batch, "me", 1, LEASE_S, NOW)
        assert await state_of(reader, batch) is JobState.READY


async def test_call_that_is_cancelled_at_any_moment_keeps_nobody_from_writing(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(500))
    calls: list[Callable[[], Awaitable[object]]] = [
        lambda: ledger.claim(batch, "me", 5, 40.0, NOW),
        lambda: ledger.event(batch, "kind", "text", NOW),
        lambda: ledger.renew("me", 40.0, NOW),
    ]
    source = random.Random(5)
    cancelled: list[object] = []  # what was cancelled is kept, as it is by whoever waits for several
    for number in range(90):
        task = asyncio.ensure_future(calls[number % len(calls)]())
        await asyncio.sleep(source.uniform(0.0, 0.004))  # the moment
        task.cancel()
        cancelled += await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(5):
            await ledger.event(batch, "kind", "text", NOW)
            await ledger.renew("me", 40.0, NOW)
    assert any(isinstance(each, asyncio.CancelledError) for each in cancelled)


async def test_record_that_is_cancelled_half_way_leaves_the_ledger_usable(ledger: Ledger) -> None:
    batch = await planned(ledger, studies(50))
    (claim,) = await claimed(ledger, batch)
    for pauses in range(12):
        task = asyncio.create_task(ledger.record(of(claim, *range(pauses * 10, pauses * 10 + 10)), NOW))
        for _ in range(pauses):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await ledger.record(of(claim, *range(120)), NOW)
    row = await ledger.job(batch, "1.2.0")
    assert row is not None and (row.stored, row.nbytes) == (120, 120_000)
    assert len(await claimed(ledger, batch, 5)) == 5


async def test_nobody_waits_in_a_circle(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger, studies(30))
    source = random.Random(1)

    async def host(own: Ledger, name: str) -> None:
        for turn in range(12):
            claims = await own.claim(batch, name, 8, LEASE_S, NOW + turn)
            source.shuffle(claims)
            await own.record([each for claim in claims for each in of(claim, *range(3))], NOW)
            for claim in claims:
                await own.finish(claim, waiting(NOW) if turn % 2 else DONE, NOW)

    async def operator(own: Ledger) -> None:
        for turn in range(12):
            jobs = studies(30, instances=4 + turn)
            source.shuffle(jobs)
            await own.add(batch, jobs, NOW)
            await own.prioritise(batch, patient_id=f"P{turn % 3}", priority=turn)
            await own.retry(batch)
            await own.recover(NOW, batch_id=batch, all_owners=True)

    async with AsyncExitStack() as stack:
        ledgers = [await stack.enter_async_context(Ledger.open(where)) for _ in range(5)]
        await asyncio.gather(
            *(host(own, f"host {n}") for n, own in enumerate(ledgers[:3])), *map(operator, ledgers[3:])
        )
    for row in await ledger.jobs(batch):
        held = await ledger.held(row.id)
        assert (row.stored, row.nbytes) == (len(held), sum(held.values()))


WRITER: Final = """
import asyncio, sys
from fastmove.ledger.store import Ledger
from tests.contract.test_ledger import LEASE_S, NOW, claimed, of

async def main(where):
    async with Ledger.open(where) as ledger:
        batch = await ledger.batch("one")
        for claim in await claimed(ledger, batch.id, 1000):
            for number in range(10):
                await ledger.record(of(claim, 2 * number, 2 * number + 1), NOW)
                print(claim.id, 2 * number + 2, flush=True)

asyncio.run(main(sys.argv[1]))
"""


async def written(where: str, lines: int) -> AsyncIterator[tuple[int, int]]:
    """What a writer said that it had recorded, until it was killed after so many lines."""
    writer = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITER, where, stdout=asyncio.subprocess.PIPE, env={"PYTHONPATH": ":".join(sys.path)}
    )
    assert writer.stdout is not None
    for _ in range(lines):
        job, count = (await writer.stdout.readline()).split()
        yield int(job), int(count)
    writer.kill()
    while line := await writer.stdout.readline():
        if line.endswith(b"\n"):
            yield int(line.split()[0]), int(line.split()[1])
    await writer.wait()


async def test_nothing_that_was_recorded_is_lost_when_the_writer_is_killed(ledger: Ledger, where: str) -> None:
    batch = await planned(ledger, studies(1000))
    for lines in (1, 12, 37):
        said = {job: count async for job, count in written(where, lines)}
        async with Ledger.open(where) as after:
            rows = {row.id: row for row in await after.jobs(batch, limit=1000)}
            for job, count in said.items():
                held = await after.held(job)
                assert len(held) >= count
                assert (rows[job].stored, rows[job].nbytes) == (len(held), sum(held.values()))
            assert await after.recover(NOW, batch_id=batch, all_owners=True) == 1000
