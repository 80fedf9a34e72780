"""Studies, into a batch: each once, however often it is given, and anew if it has grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fastmove.errors import LedgerError
from fastmove.ledger.model import Added, JobState, StudyJob
from fastmove.ledger.recording import INSERT
from fastmove.ledger.schema import batch, study_job

AFRESH: Final[dict[str, Any]] = {
    "state": JobState.READY,
    "attempts": 0,
    "due_ms": None,
    "verdict": "",
    "reason_class": "",
    "reason": "",
    "status": None,
}
"""A study as if nothing had been tried; its attempts know what has been."""

AT_ONCE: Final = 2000
"""Studies of one statement: more would keep the loop of the caller from its other work."""

ENDED: Final = (JobState.COMPLETE, JobState.PARKED)

# Where the PACS did not count before, what has been stored is what there was.
_KNOWN: Final = (
    select(study_job.c.id, study_job.c.study_instance_uid, study_job.c.state)
    .add_columns(func.coalesce(study_job.c.instances, study_job.c.stored).label("counted"))
    .where(
        study_job.c.batch_id == bindparam("of_batch"),
        study_job.c.study_instance_uid.in_(bindparam("uids", expanding=True)),
    )
    .order_by(study_job.c.id)
    .with_for_update(key_share=True)
)
_GROW: Final = update(study_job).where(study_job.c.id == bindparam("of_job")).values(instances=bindparam("counted"))


async def add(connection: AsyncConnection, batch_id: int, jobs: Sequence[StudyJob], added_ms: int) -> Added:
    """Of studies that are given twice the one with more instances."""
    # One at a time adds to a batch, lest two that add the same studies wait for each other.
    locked = select(batch.c.id).where(batch.c.id == batch_id).with_for_update(key_share=True)
    if (await connection.execute(locked)).first() is None:
        raise LedgerError("add", f"there is no batch {batch_id}")
    given: dict[str, StudyJob] = {}
    for job in jobs:
        before = given.setdefault(job.study_instance_uid, job)
        if (job.instances or 0) > (before.instances or 0):
            given[job.study_instance_uid] = job
    common = {"batch_id": batch_id, "state": JobState.READY, "added_ms": added_ms}
    rows = [common | {name: getattr(job, name) for name in StudyJob.fields} for job in given.values()]
    adding = INSERT[connection.dialect.name](study_job).on_conflict_do_nothing()
    statement = adding.returning(study_job.c.study_instance_uid)
    new: set[str] = set()
    for start in range(0, len(rows), AT_ONCE):
        new |= set((await connection.execute(statement, rows[start : start + AT_ONCE])).scalars())
    known = {uid: job for uid, job in given.items() if uid not in new}
    return Added(len(new), len(jobs) - len(new), await _grow(connection, batch_id, known) if known else 0)


async def _grow(connection: AsyncConnection, batch_id: int, known: Mapping[str, StudyJob]) -> int:
    """Those with more instances than before; one that had ended is to be tried again."""
    changes: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for there in await connection.execute(_KNOWN, {"of_batch": batch_id, "uids": list(known)}):
        counted = known[there.study_instance_uid].instances or 0
        if counted > there.counted:
            changes[there.state in ENDED].append({"of_job": there.id, "counted": counted})
    for ended, rows in changes.items():
        if rows:
            await connection.execute(_GROW.values(AFRESH) if ended else _GROW, rows)
    return sum(map(len, changes.values()))
