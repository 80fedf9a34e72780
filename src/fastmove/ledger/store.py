"""The ledger: what is to be migrated, who is at it, what is stored, and what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from sqlalchemy import Update, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fastmove.errors import LedgerError
from fastmove.ledger.adding import AFRESH, ENDED, PLACED_ANEW, add, grown_since
from fastmove.ledger.claiming import (
    CLAIM,
    CLAIM_JOB,
    OF_ATTEMPT,
    OF_FENCE,
    OF_JOB,
    PROMOTE,
    chosen,
    claimed,
    turn,
)
from fastmove.ledger.database import opened
from fastmove.ledger.model import Added, Batch, Claimed, Instance, JobState, Outcome, StudyJob, Wish
from fastmove.ledger.reading import milliseconds
from fastmove.ledger.recording import INSERT, Came, count_progress, record
from fastmove.ledger.schema import attempt, batch, event, instance, is_in, study_job
from fastmove.ledger.sharing import Sharing

T = TypeVar("T")

CHUNK: Final = 5000
"""Studies that are added in one transaction; and values in one statement."""

LOST: Final = "lost"
"""Verdict of an attempt whose owner was not heard of any more; and class of the reason why a study is parked then."""

MOST_LOST: Final = 10
"""Attempts at a study that may be lost without having brought anything, until another one ends.

That its owner died says nothing of a study, so a lost attempt does not count.  But one that kills whoever has it in
hand would be tried for ever: after so many it is parked, and with it what was in the same hands as often.
"""

OPERATOR: Final = "operator"
"""Verdict, and class of the reason, of a study that an operator has parked."""

_OUTCOME: Final = ("verdict", "reason_class", "reason", "status", "listed", "missing", "seconds", "proof")
"""What the tables have of an outcome."""

_NOBODYS: Final[dict[str, Any]] = {"owner": "", "lease_ms": None}

# What was parked, or has ended otherwise, begins anew.
_LOST_IN_VAIN: Final = (
    select(func.count())
    .where(attempt.c.job_id == study_job.c.id, attempt.c.verdict == LOST, attempt.c.stored == 0)
    .where(attempt.c.began_ms > func.coalesce(study_job.c.ended_ms, -1))
    .scalar_subquery()
)


class Ledger(Sharing):
    """The record of migrations; a change is one transaction, and LedgerError if it fails.

    What is added, recorded or finished survives a power cut. Times (`now`) are seconds since 1970, by the caller.
    """

    @classmethod
    @asynccontextmanager
    async def open(cls, where: str | Path, *, create: bool = False, read_only: bool = False) -> AsyncIterator[Self]:
        """A path is SQLite, `postgresql://...` PostgreSQL; `create` makes what is not there.

        A ledger of an older version is upgraded, unless `read_only`. LedgerError if there is none that can be used.
        """
        database = await opened(where, create=create, read_only=read_only)
        try:
            yield cls(database)
        finally:
            await database.close()

    # ------------------------------------------------------------------ batches and studies

    async def add_batch(self, name: str, source: str, settings: Mapping[str, Any], now: float) -> Batch:
        """A new one, without studies; LedgerError if the name is taken."""
        made = Batch(0, name, source, dict(settings), Wish.RUN, milliseconds(now) / 1000)
        values = {"name": name, "source": source, "settings": made.settings, "wish": made.wish}
        statement = INSERT[self._database.dialect](batch).values(**values, created_ms=milliseconds(now))
        async with self._database.fact("add_batch") as connection:
            result = await connection.execute(statement.on_conflict_do_nothing().returning(batch.c.id))
            number = result.scalar()
        if number is None:
            raise LedgerError("add_batch", f"there is a batch {name} already")
        return made.replace(id=number)

    async def wish(self, batch_id: int, wish: Wish) -> None:
        """Say what an operator wants of a batch."""
        async with self._database.fact("wish") as connection:
            result = await connection.execute(update(batch).where(batch.c.id == batch_id).values(wish=wish))
            if not result.rowcount:
                raise LedgerError("wish", f"there is no batch {batch_id}")

    async def settle(self, batch_id: int, settings: Mapping[str, Any]) -> None:
        """Write down how a batch is migrated from now on."""
        async with self._database.fact("settle") as connection:
            result = await connection.execute(update(batch).where(batch.c.id == batch_id).values(settings=settings))
            if not result.rowcount:
                raise LedgerError("settle", f"there is no batch {batch_id}")

    async def event(self, batch_id: int, kind: str, text: str, now: float, *, job_id: int | None = None) -> None:
        """Remember something of a batch, or of a study in it."""
        values = {"batch_id": batch_id, "job_id": job_id, "at_ms": milliseconds(now), "kind": kind, "text": text}
        async with self._database.fact("event") as connection:
            await connection.execute(insert(event).values(values))

    async def add(self, batch_id: int, jobs: Iterable[StudyJob], now: float) -> Added:
        """Put studies into a batch, each once; one that has grown, and had ended, is READY again."""
        sums = Added(0, 0, 0)
        for chunk in _chunks(jobs):
            async with self._database.fact("add") as connection:
                added = await add(connection, batch_id, chunk, milliseconds(now))
            sums = Added(*(getattr(sums, name) + getattr(added, name) for name in Added.fields))
        return sums

    async def retry(self, batch_id: int, *, reason_class: str | None = None, study: str | None = None) -> int:
        """Have PARKED and WAITING studies tried again at once, as if they were new; how many."""
        wanted = [study_job.c.batch_id == batch_id]
        if reason_class is not None:
            wanted.append(study_job.c.reason_class == reason_class)
        if study is not None:
            wanted.append(study_job.c.study_instance_uid == study)
        changed = 0
        async with self._database.fact("retry") as connection:
            for state in (JobState.PARKED, JobState.WAITING):
                changed += await _changed(connection, chosen(*wanted, is_in(state)).values(AFRESH))
        return changed

    async def park(self, batch_id: int, study: str, reason: str, now: float) -> bool:
        """Have a READY or WAITING study not tried any more; False if there is none of that UID."""
        wanted = (study_job.c.batch_id == batch_id, study_job.c.study_instance_uid == study)
        statement = update(study_job).where(*wanted, study_job.c.state.in_((JobState.READY, JobState.WAITING)))
        async with self._database.fact("park") as connection:
            return (await connection.execute(statement.values(_parked(reason, now)))).rowcount > 0

    async def park_class(self, batch_id: int, reason_class: str, reason: str, now: float) -> int:
        """Have all WAITING studies of a class of reasons not tried any more, those that are due included; how many."""
        wanted = (study_job.c.batch_id == batch_id, study_job.c.reason_class == reason_class)
        changed = 0
        async with self._database.fact("park_class") as connection:
            for state in (JobState.READY, JobState.WAITING):
                parked = chosen(*wanted, is_in(state)).values(_parked(reason, now))
                changed += await _changed(connection, parked)
        return changed

    async def prioritise(
        self, batch_id: int, *, study: str | None = None, patient_id: str | None = None, priority: int
    ) -> int:
        """Give a study, those of a patient, or all of them a priority; how many."""
        wanted = [study_job.c.batch_id == batch_id]
        if study is not None:
            wanted.append(study_job.c.study_instance_uid == study)
        if patient_id is not None:
            wanted.append(study_job.c.patient_id == patient_id)
        async with self._database.fact("prioritise") as connection:
            return await _changed(connection, chosen(*wanted).values(priority=priority, **PLACED_ANEW))

    # ------------------------------------------------------------------ who is at it

    async def claim(self, batch_id: int, owner: str, count: int, lease_s: float, now: float) -> list[Claimed]:
        """Take on READY studies, and WAITING ones that are due: by priority, rank, and as they were added."""
        async with self._database.claim("claim") as connection:
            await connection.execute(PROMOTE, {"of_batch": batch_id, "now_ms": milliseconds(now)})
            return await _claim(connection, CLAIM, owner, lease_s, now, of_batch=batch_id, count=count)

    async def claim_job(self, job_id: int, fence: int, owner: str, lease_s: float, now: float) -> Claimed | None:
        """Take on a certain study, if it is READY, and neither it nor its place has changed since it had this fence."""
        async with self._database.claim("claim_job") as connection:
            found = await _claim(connection, CLAIM_JOB, owner, lease_s, now, of_job=job_id, of_fence=fence)
        return found[0] if found else None

    async def promote(self, batch_id: int, now: float) -> None:
        """Make WAITING studies READY that are due."""
        async with self._database.claim("promote") as connection:
            await connection.execute(PROMOTE, {"of_batch": batch_id, "now_ms": milliseconds(now)})

    async def renew(self, owner: str, lease_s: float, now: float, *, only: Collection[int] | None = None) -> int:
        """Say that an owner is still at it, at all of his studies or only at these; how many they are."""
        which = () if only is None else (study_job.c.id.in_(only),)
        statement = chosen(is_in(JobState.MOVING), study_job.c.owner == owner, *which)
        async with self._database.claim("renew") as connection:
            return await _changed(connection, statement.values(lease_ms=milliseconds(now + lease_s)))

    async def release(self, claim: Claimed, now: float) -> bool:
        """Give a study back as if it had not been claimed; False if it is somebody else's by now."""
        back = {"state": JobState.READY, "attempts": study_job.c.attempts - 1, **_NOBODYS}
        ours = {"of_job": claim.id, "of_fence": claim.fence}
        async with self._database.claim("release") as connection:
            statement = update(study_job).where(OF_JOB, OF_FENCE, is_in(JobState.MOVING)).values(back)
            if not (await connection.execute(statement, ours)).rowcount:
                return False
            await connection.execute(delete(attempt).where(*OF_ATTEMPT), ours)
        return True

    async def recover(self, now: float, *, batch_id: int, all_owners: bool = False) -> int:
        """Take away studies whose lease has ended, or all that are MOVING if nobody else runs; how many.

        Their fence goes up: who comes late writes nothing.  One that was lost too often is parked.
        """
        lost = select(study_job.c.id, study_job.c.fence).where(study_job.c.batch_id == batch_id, is_in(JobState.MOVING))
        if not all_owners:
            lost = lost.where(study_job.c.lease_ms <= milliseconds(now))
        async with self._database.fact("recover") as connection:
            locked = lost.order_by(study_job.c.id).with_for_update(key_share=True)
            rows = [{"of_job": row.id, "of_fence": row.fence} for row in await connection.execute(locked)]
            if rows:
                back = {"state": JobState.READY, "attempts": study_job.c.attempts - 1, "fence": study_job.c.fence + 1}
                await connection.execute(update(study_job).where(OF_JOB).values(**back, **_NOBODYS), rows)
                ended = {"ended_ms": milliseconds(now), "verdict": LOST}
                await connection.execute(update(attempt).where(*OF_ATTEMPT).values(ended), rows)
                parked = _parked(f"whoever had it in hand died, {MOST_LOST} times in a row", now, LOST)
                too_often = update(study_job).where(OF_JOB, _LOST_IN_VAIN >= MOST_LOST)
                await connection.execute(too_often.values(parked), rows)
        return len(rows)

    # ------------------------------------------------------------------ what came of it

    async def record(self, instances: Sequence[Instance], now: float) -> frozenset[tuple[int, int]]:
        """Write down what is stored, once; the studies, and their fences, of what is somebody else's by now."""
        if not instances:
            return frozenset()
        async with self._database.fact("record") as connection:
            return await record(connection, instances, int(now // 60), self._database.part)

    async def forget(self, claim: Claimed, uids: Collection[str]) -> bool:
        """Strike out instances by SOP Instance UID, which have to come once more; False if it is somebody else's."""
        async with self._database.fact("forget") as connection:
            locked = select(study_job.c.id).where(OF_JOB, OF_FENCE).with_for_update(key_share=True)
            if (await connection.execute(locked, {"of_job": claim.id, "of_fence": claim.fence})).first() is None:
                return False
            gone: list[int] = []
            for part in _chunks(uids):
                struck = delete(instance).where(instance.c.job_id == claim.id, instance.c.sop_instance_uid.in_(part))
                gone += (await connection.execute(struck.returning(instance.c.nbytes))).scalars()
            less = {"stored": study_job.c.stored - len(gone), "nbytes": study_job.c.nbytes - sum(gone)}
            await connection.execute(update(study_job).where(study_job.c.id == claim.id).values(less))
        return True

    async def finish(self, claim: Claimed, outcome: Outcome, now: float) -> JobState | None:
        """End an attempt: what the study is then; None, and nothing written, if it is somebody else's by now.

        One that a plan found to have grown since it was claimed has not ended: READY, as if nothing had been tried.
        """
        if outcome.state is JobState.MOVING or (outcome.state is JobState.WAITING) != (outcome.due_at is not None):
            raise ValueError(f"no outcome: {outcome}")
        ours = {"of_job": claim.id, "of_fence": claim.fence}
        came = {name: getattr(outcome, name) for name in _OUTCOME} | {"ended_ms": milliseconds(now)}
        due_ms = None if outcome.due_at is None else milliseconds(outcome.due_at)
        count = {} if outcome.attempts is None else {"attempts": outcome.attempts}
        ended = update(study_job).where(OF_JOB, OF_FENCE, is_in(JobState.MOVING))
        ended = ended.values(state=outcome.state, due_ms=due_ms, **came, **count, **_NOBODYS).returning(
            study_job.c.batch_id, study_job.c.instances, study_job.c.stored
        )
        state = outcome.state
        async with self._database.fact("finish") as connection:
            row = (await connection.execute(ended, ours)).first()
            if row is None:
                return None
            await connection.execute(update(attempt).where(*OF_ATTEMPT).values(came), ours)
            came_to = row.stored if outcome.listed is None else outcome.listed
            if state in ENDED and grown_since(claim, row.instances, came_to):
                await connection.execute(update(study_job).where(OF_JOB).values(AFRESH), {"of_job": claim.id})
                state = JobState.READY
            if state is JobState.COMPLETE:
                await count_progress(connection, int(now // 60), self._database.part, {row.batch_id: Came(studies=1)})
        return state


def _parked(reason: str, now: float, reason_class: str = OPERATOR) -> dict[str, Any]:
    """What a study is that is parked without an attempt that said so."""
    ended = {"state": JobState.PARKED, "due_ms": None, "ended_ms": milliseconds(now)}
    return {**ended, "verdict": reason_class, "reason_class": reason_class, "reason": reason}


async def _changed(connection: AsyncConnection, statement: Update) -> int:
    """How many; Python's sqlite3 does not count the rows of a statement that begins with WITH."""
    return len((await connection.execute(statement.returning(study_job.c.id))).all())


async def _claim(
    connection: AsyncConnection, statement: Any, owner: str, lease_s: float, now: float, **of: int
) -> list[Claimed]:
    values = {**of, "new_owner": owner, "until_ms": milliseconds(now + lease_s)}
    found = sorted(map(claimed, await connection.execute(statement, values)), key=turn)
    if found:
        began = {"owner": owner, "began_ms": milliseconds(now)}
        await connection.execute(insert(attempt), [{"job_id": each.id, "fence": each.fence, **began} for each in found])
    return found


def _chunks(many: Iterable[T]) -> Iterator[list[T]]:
    rest = iter(many)
    while chunk := list(islice(rest, CHUNK)):
        yield chunk
