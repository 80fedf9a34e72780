"""Statements by which studies change hands; nobody waits in a circle, and no two get the same one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import ColumnElement, Update, bindparam, select, update

from fastmove.ledger.model import Claimed, JobState
from fastmove.ledger.reading import STUDY, study_of
from fastmove.ledger.schema import attempt, is_in, study_job

if TYPE_CHECKING:
    from fastmove.ledger.reading import AnyRow

PROMOTED: Final = 1000
"""WAITING studies that one claim makes READY at most: it has to be quick where thousands are due at once."""


def chosen(
    *conditions: ColumnElement[bool], order: Sequence[Any] = (study_job.c.id,), limit: Any = None, free: bool = False
) -> Update:
    """A change of these studies, locked in this order; `free` leaves out those that somebody else has locked."""
    # PostgreSQL evaluates a common table expression with locks once, a subquery perhaps once for each row.
    locked = select(study_job.c.id).where(*conditions).order_by(*order).limit(limit)
    found = locked.with_for_update(key_share=True, skip_locked=free).cte("chosen")
    return update(study_job).where(study_job.c.id.in_(select(found.c.id)))


OF_BATCH: Final = study_job.c.batch_id == bindparam("of_batch")
OF_JOB: Final = study_job.c.id == bindparam("of_job")
OF_FENCE: Final = study_job.c.fence == bindparam("of_fence")
OF_ATTEMPT: Final = (attempt.c.job_id == bindparam("of_job"), attempt.c.fence == bindparam("of_fence"))

PROMOTE: Final = chosen(
    OF_BATCH,
    is_in(JobState.WAITING),
    study_job.c.due_ms <= bindparam("now_ms"),
    order=(study_job.c.due_ms,),
    limit=PROMOTED,
    free=True,
).values(state=JobState.READY, due_ms=None)
"""WAITING studies that are due; then one index has all that can be claimed, in order."""


def _claiming(which: Update) -> Update:
    changed = which.values(
        state=JobState.MOVING,
        owner=bindparam("new_owner"),
        lease_ms=bindparam("until_ms"),
        due_ms=None,
        fence=study_job.c.fence + 1,
        attempts=study_job.c.attempts + 1,
    )
    told = (study_job.c[name] for name in ("id", "fence", "attempts", "stored", "reason_class"))
    return changed.returning(*told, *STUDY)


CLAIM: Final = _claiming(
    chosen(
        OF_BATCH,
        is_in(JobState.READY),
        order=(study_job.c.priority.desc(), study_job.c.rank, study_job.c.id),
        limit=bindparam("count"),
        free=True,
    )
)
"""The first of the READY ones."""

CLAIM_JOB: Final = _claiming(update(study_job).where(OF_JOB, OF_FENCE, is_in(JobState.READY)))
"""A certain one, of which nothing has become since it had this fence."""


def claimed(row: AnyRow) -> Claimed:
    """What CLAIM and CLAIM_JOB return."""
    return Claimed(row.id, row.fence, study_of(row), row.attempts - 1, row.stored, row.reason_class)


def turn(claim: Claimed) -> tuple[int, int, int]:
    """Its place in the order of the claims; PostgreSQL returns them in any."""
    return -claim.job.priority, claim.job.rank, claim.id
