"""Studies, into a batch: each once, however often it is given; in the order of the last plan, anew if it has grown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Any, Final

from sqlalchemy import bindparam, case, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from fastmove.errors import LedgerError
from fastmove.ledger.model import Added, Claimed, JobState, StudyJob
from fastmove.ledger.recording import INSERT
from fastmove.ledger.schema import batch, is_in, study_job

AFRESH: Final[dict[str, Any]] = {
    "state": JobState.READY,
    "attempts": 0,
    "fence": study_job.c.fence + 1,
    "due_ms": None,
    "verdict": "",
    "reason_class": "",
    "reason": "",
    "status": None,
    "proof": "",
}
"""A study as if nothing had been tried; its attempts know what has been.

The fence goes up, as what a queue has of the study is of the time before.
"""

PLACED_ANEW: Final = {"fence": study_job.c.fence + case((is_in(JobState.READY), 1), else_=0)}
"""Of a study that gets another place among those that are to be moved: what a queue has of a READY one is outdated.

A WAITING one gets into the queue when it is due; that of a MOVING one is its owner's.
"""

ENDED: Final = (JobState.COMPLETE, JobState.PARKED)

# Where the PACS did not count before, what has been stored is what there was.
_KNOWN: Final = (
    select(study_job.c.id, study_job.c.study_instance_uid, study_job.c.state, study_job.c.priority, study_job.c.rank)
    .add_columns(func.coalesce(study_job.c.instances, study_job.c.stored).label("counted"))
    .where(
        study_job.c.batch_id == bindparam("of_batch"),
        study_job.c.study_instance_uid.in_(bindparam("uids", expanding=True)),
    )
    .order_by(study_job.c.id)
    .with_for_update(key_share=True)
)
_THIS: Final = update(study_job).where(study_job.c.id == bindparam("of_job"))
_GROW: Final = _THIS.values(instances=bindparam("counted"))
_REORDER: Final = _THIS.values(priority=bindparam("new_priority"), rank=bindparam("new_rank"), **PLACED_ANEW)

_VALUES: Final = attrgetter(*StudyJob.fields)


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
    written = await _insert(connection, list(given.values()), {"batch_id": batch_id, "added_ms": added_ms})
    grown = 0 if written == len(given) else await _again(connection, batch_id, given)
    return Added(written, len(jobs) - written, grown)


def grown_since(claim: Claimed, counted: int | None, came: int) -> bool:
    """True if a plan has counted more in a study since this claim than was listed, or came; it is to be tried afresh.

    Only a count that was raised meanwhile says so: a PACS that always counts more than it lists must not have a study
    moved again and again.
    """
    return (counted or 0) > max(claim.job.instances or 0, came)


async def _insert(connection: AsyncConnection, jobs: Sequence[StudyJob], common: Mapping[str, int]) -> int:
    """Those that are not there; how many.

    As the driver's own values: for a million studies, what SQLAlchemy does to each takes as long as SQLite does.
    """
    dialect = connection.dialect
    names = ["state", *common, *StudyJob.fields]
    adding = INSERT[dialect.name](study_job).on_conflict_do_nothing().compile(dialect=dialect, column_keys=names)
    values = [(JobState.READY.value, *common.values(), *_VALUES(job)) for job in jobs]
    if adding.positional:
        places = [names.index(name) for name in adding.positiontup or ()]
        rows: Any = list(map(itemgetter(*places), values))
    else:
        rows = [dict(zip(names, each, strict=True)) for each in values]
    return (await connection.exec_driver_sql(str(adding), rows)).rowcount if rows else 0


async def _again(connection: AsyncConnection, batch_id: int, given: Mapping[str, StudyJob]) -> int:
    """How many have more instances than before; of these one that had ended is to be tried again.

    What is still to be moved gets the rank of this plan, and its priority if that is higher: what an operator has put
    first stays there.
    """
    grown: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    reordered: list[dict[str, Any]] = []
    for there in await connection.execute(_KNOWN, {"of_batch": batch_id, "uids": list(given)}):
        job, ended = given[there.study_instance_uid], there.state in ENDED
        counted, priority = job.instances or 0, max(there.priority, job.priority)
        if grows := counted > there.counted:
            grown[ended].append({"of_job": there.id, "counted": counted})
        if (grows or not ended) and (priority, job.rank) != (there.priority, there.rank):
            reordered.append({"of_job": there.id, "new_priority": priority, "new_rank": job.rank})
    for ended, rows in grown.items():
        if rows:
            await connection.execute(_GROW.values(AFRESH) if ended else _GROW, rows)
    if reordered:
        await connection.execute(_REORDER, reordered)
    return sum(map(len, grown.values()))
