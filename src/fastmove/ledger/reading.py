"""The side of the ledger that only looks: numbers of a batch, its studies, what was tried, what is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Executable, func, or_, select

from fastmove.errors import LedgerError
from fastmove.ledger.database import Database
from fastmove.ledger.model import (
    Attempt,
    Batch,
    Event,
    Instance,
    Job,
    JobState,
    Progress,
    StudyJob,
    Summary,
    Total,
    Volume,
    Wish,
)
from fastmove.ledger.schema import attempt, batch, event, instance, is_in, progress, series, study_job

if TYPE_CHECKING:
    from sqlalchemy import Row

    AnyRow = Row[*tuple[Any, ...]]

PAGE: Final = 1000
"""Instances that are read at once."""

FILE_SUFFIX: Final = ".dcm"
"""After the SOP Instance UID, where a file has its ordinary name."""

STUDY: Final = tuple(study_job.c[name] for name in StudyJob.fields)
"""What a StudyJob is made of."""

_FEW: Final = frozenset((JobState.WAITING, JobState.MOVING, JobState.PARKED))
"""States that are looked for by their indexes; of the others there are so many that the next ones are near."""

UNFINISHED: Final = (JobState.READY, JobState.WAITING, JobState.MOVING)

# By what the studies of a state are told apart in a summary.
_GROUPS: Final[dict[JobState, tuple[ColumnElement[Any], ...]]] = {
    JobState.READY: (),
    JobState.WAITING: (study_job.c.reason_class,),
    JobState.MOVING: (),
    JobState.COMPLETE: (study_job.c.verdict,),
    JobState.PARKED: (study_job.c.verdict, study_job.c.reason_class),
}

_SUMS: Final = (
    func.count().label("studies"),
    func.coalesce(func.sum(study_job.c.instances), 0).label("expected"),
    func.coalesce(func.sum(study_job.c.stored), 0).label("stored"),
    func.coalesce(func.sum(study_job.c.nbytes), 0).label("nbytes"),
)


_OF_INSTANCE: Final = (
    instance.c.job_id,
    study_job.c.fence,
    instance.c.sop_instance_uid,
    series.c.series_instance_uid,
    series.c.sop_class_uid,
    series.c.transfer_syntax_uid,
    instance.c.nbytes,
    instance.c.digest,
    series.c.folder,
    instance.c.name,
)

PARTS: Final = 10
"""Of the studies of a volume."""


def milliseconds(seconds: float) -> int:
    """As the tables have times."""
    return round(seconds * 1000)


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000


def _maybe(milliseconds: int | None) -> float | None:
    return None if milliseconds is None else milliseconds / 1000


def study_of(row: AnyRow) -> StudyJob:
    """From the columns of STUDY."""
    return StudyJob(*(getattr(row, name) for name in StudyJob.fields))


class Reading:
    """What can be asked of a ledger; `Ledger` is it, and writes as well."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def _rows(self, operation: str, statement: Executable) -> Sequence[AnyRow]:
        async with self._database.read(operation) as connection:
            return (await connection.execute(statement)).all()

    async def batches(self) -> list[Batch]:
        """All there are, the oldest first."""
        return [_batch(row) for row in await self._rows("batches", select(batch).order_by(batch.c.id))]

    async def batch(self, name: str) -> Batch:
        """By its name; LedgerError, with the names there are, if there is none of that."""
        there = await self.batches()
        for each in there:
            if each.name == name:
                return each
        names = ", ".join(each.name for each in there) or "none at all"
        raise LedgerError("batch", f"there is no batch {name}; there are: {names}")

    async def wished(self, batch_id: int) -> Wish:
        """What an operator wants of a batch."""
        rows = await self._rows("wished", select(batch.c.wish).where(batch.c.id == batch_id))
        if not rows:
            raise LedgerError("wished", f"there is no batch {batch_id}")
        return Wish(rows[0].wish)

    async def summary(self, batch_id: int) -> Summary:
        """A batch in numbers."""
        states = dict.fromkeys(JobState, Total())
        verdicts: Counter[str] = Counter()
        reasons: dict[JobState, Counter[str]] = {state: Counter() for state in JobState}
        async with self._database.read("summary") as connection:
            for state, groups in _GROUPS.items():
                statement = select(*groups, *_SUMS).where(study_job.c.batch_id == batch_id, is_in(state))
                for row in await connection.execute(statement.group_by(*groups)):
                    states[state] = _sum(states[state], row)
                    for column, counts in ((study_job.c.verdict, verdicts), (study_job.c.reason_class, reasons[state])):
                        if column in groups:
                            counts[row._mapping[column]] += row.studies
        waiting = reasons[JobState.WAITING]
        return Summary(states, verdicts, waiting + reasons[JobState.PARKED], waiting)

    async def volumes(self, batch_id: int) -> list[Volume]:
        """A batch by modalities and state, in ten parts each; all of its studies are looked at."""
        groups = (study_job.c.modalities, study_job.c.state, (study_job.c.id % PARTS).label("part"))
        counted = func.count(study_job.c.instances).label("counted")
        statement = select(*groups, *_SUMS, counted).where(study_job.c.batch_id == batch_id).group_by(*groups)
        rows = await self._rows("volumes", statement)
        numbers = ("part", "studies", "counted", "expected", "stored", "nbytes")
        return [
            Volume(row.modalities, JobState(row.state), *(int(getattr(row, name)) for name in numbers)) for row in rows
        ]

    async def unfinished(self, batch_id: int) -> bool:
        """True if there is a study in it that is neither COMPLETE nor PARKED."""
        async with self._database.read("unfinished") as connection:
            for state in UNFINISHED:
                statement = select(study_job.c.id).where(study_job.c.batch_id == batch_id, is_in(state)).limit(1)
                if (await connection.execute(statement)).first() is not None:
                    return True
        return False

    async def next_due(self, batch_id: int) -> float | None:
        """When the first of the WAITING studies is to be tried again."""
        first = select(func.min(study_job.c.due_ms).label("due_ms"))
        rows = await self._rows("next_due", first.where(study_job.c.batch_id == batch_id, is_in(JobState.WAITING)))
        return _maybe(rows[0].due_ms)

    async def progress(self, batch_id: int, since_minute: int) -> list[Progress]:
        """What came in each minute from then on in which something came."""
        sums = (func.sum(progress.c[name]).label(name) for name in Progress.fields[1:])
        statement = (
            select(progress.c.minute, *sums)
            .where(progress.c.batch_id == batch_id, progress.c.minute >= since_minute)
            .group_by(progress.c.minute)
            .order_by(progress.c.minute)
        )
        return [Progress(*map(int, row)) for row in await self._rows("progress", statement)]

    async def jobs(
        self,
        batch_id: int,
        *,
        states: Sequence[JobState] = (),
        reason_class: str | None = None,
        text: str = "",
        patients: bool = False,
        after_id: int = 0,
        limit: int = 100,
    ) -> list[Job]:
        """Studies in the order of their numbers, after one of them; of some states, or of a class of reason.

        `text` is a part of their UID, or with `patients` the beginning of a patient ID: no index has that, so whoever
        looks for what is not there has looked at all of a batch.
        """
        statement = select(study_job).where(study_job.c.batch_id == batch_id, study_job.c.id > after_id)
        if states and _FEW.issuperset(states):
            statement = statement.where(or_(*map(is_in, states)))
        elif states:
            statement = statement.where(study_job.c.state.in_(states))
        if reason_class is not None:
            statement = statement.where(study_job.c.reason_class == reason_class)
        if text:
            fits = study_job.c.study_instance_uid.contains(text, autoescape=True)
            if patients:
                fits |= study_job.c.patient_id.startswith(text, autoescape=True)
            statement = statement.where(fits)
        return [_job(row) for row in await self._rows("jobs", statement.order_by(study_job.c.id).limit(limit))]

    async def job(self, batch_id: int, study_instance_uid: str) -> Job | None:
        """A study of a batch, if it is in there."""
        statement = select(study_job).where(
            study_job.c.batch_id == batch_id, study_job.c.study_instance_uid == study_instance_uid
        )
        rows = await self._rows("job", statement)
        return _job(rows[0]) if rows else None

    async def attempts(self, job_id: int) -> list[Attempt]:
        """What was tried, the first one first."""
        rows = await self._rows("attempts", select(attempt).where(attempt.c.job_id == job_id).order_by(attempt.c.fence))
        return [_attempt(number, row) for number, row in enumerate(rows, 1)]

    async def events(
        self, batch_id: int, *, limit: int = 100, job_id: int | None = None, kinds: Sequence[str] = ()
    ) -> list[Event]:
        """The last ones, the newest first; of a study, or of some kinds."""
        statement = select(event, study_job.c.study_instance_uid).outerjoin_from(event, study_job)
        statement = statement.where(event.c.batch_id == batch_id)
        if job_id is not None:
            statement = statement.where(event.c.job_id == job_id)
        if kinds:
            statement = statement.where(event.c.kind.in_(kinds))
        rows = await self._rows("events", statement.order_by(event.c.id.desc()).limit(limit))
        return [Event(_seconds(row.at_ms), row.kind, row.text, row.study_instance_uid or "") for row in rows]

    async def stored(self, job_id: int) -> int:
        """How many instances are recorded of a study."""
        rows = await self._rows("stored", select(study_job.c.stored).where(study_job.c.id == job_id))
        return int(rows[0].stored) if rows else 0

    async def held(self, job_id: int) -> dict[str, int]:
        """The SOP Instance UIDs that are recorded of a study, with the bytes of each."""
        statement = select(instance.c.sop_instance_uid, instance.c.nbytes).where(instance.c.job_id == job_id)
        return dict(tuple(row) for row in await self._rows("held", statement))

    async def digests(self, job_ids: Sequence[int]) -> Sequence[tuple[int, str, bytes]]:
        """Study, SOP Instance UID and digest (empty: unknown) of all instances of some studies, in this order."""
        columns = (instance.c.job_id, instance.c.sop_instance_uid, func.coalesce(instance.c.digest, b""))
        statement = select(*columns).where(instance.c.job_id.in_(job_ids)).order_by(*columns[:2])
        return [tuple(row) for row in await self._rows("digests", statement)]

    async def instances(self, job_id: int) -> AsyncIterator[Instance]:
        """Those of a study, in the order of their UIDs, each with the present fence of the study."""
        after = ""
        statement = (
            select(*_OF_INSTANCE)
            .join_from(instance, series)
            .join(study_job, study_job.c.id == instance.c.job_id)
            .where(instance.c.job_id == job_id)
            .order_by(instance.c.sop_instance_uid)
            .limit(PAGE)
        )
        while True:
            # Page by page: who reads a ledger for long would keep SQLite from clearing its log.
            rows = await self._rows("instances", statement.where(instance.c.sop_instance_uid > after))
            for row in rows:
                yield _instance(*row)
            if len(rows) < PAGE:
                return
            after = rows[-1].sop_instance_uid


# ---------------------------------------------------------------------- rows to values


def _batch(row: AnyRow) -> Batch:
    return Batch(row.id, row.name, row.source, row.settings, Wish(row.wish), _seconds(row.created_ms))


def _sum(total: Total, row: AnyRow) -> Total:
    return Total(*(getattr(total, name) + int(getattr(row, name)) for name in Total.fields))


def _job(row: AnyRow) -> Job:
    given: dict[str, Any] = {
        "job": study_of(row),
        "state": JobState(row.state),
        "lease_until": _maybe(row.lease_ms),
        "due_at": _maybe(row.due_ms),
        "added_at": _seconds(row.added_ms),
        "ended_at": _maybe(row.ended_ms),
    }
    return Job(**{name: getattr(row, name) for name in Job.fields if name not in given}, **given)


def _attempt(number: int, row: AnyRow) -> Attempt:
    given: dict[str, Any] = {"number": number, "began_at": _seconds(row.began_ms), "ended_at": _maybe(row.ended_ms)}
    return Attempt(**{name: getattr(row, name) for name in Attempt.fields if name not in given}, **given)


def _instance(
    job_id: int,
    fence: int,
    sop_instance_uid: str,
    series_instance_uid: str,
    sop_class_uid: str,
    transfer_syntax_uid: str,
    nbytes: int,
    digest: bytes | None,
    folder: str,
    name: str | None,
) -> Instance:
    """From _OF_INSTANCE, which come by the hundred: by position, as names would take longer than the query."""
    place = folder + (sop_instance_uid + FILE_SUFFIX if name is None else name)
    uids = (sop_instance_uid, series_instance_uid, sop_class_uid, transfer_syntax_uid)
    return Instance(job_id, fence, *uids, nbytes, digest or b"", place)
