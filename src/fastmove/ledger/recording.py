"""What is stored, into the tables: only what is new counts, and nothing of who has lost a study meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Executable, Table, bindparam, func, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from fastmove.ledger.model import Instance
from fastmove.ledger.reading import FILE_SUFFIX
from fastmove.ledger.schema import attempt, instance, progress, series, study_job

if TYPE_CHECKING:
    from fastmove.ledger.reading import AnyRow

INSERT: Final[Mapping[str, Callable[[Table], sqlite.Insert | postgresql.Insert]]] = {
    "sqlite": sqlite.insert,
    "postgresql": postgresql.insert,
}
"""By dialect: an INSERT that knows what to do if the row is there."""

MOST: Final = 5000
"""Instances in one statement: SQLite takes 32,766 values in one."""

_JOBS: Final = (
    select(study_job.c.id, study_job.c.fence, study_job.c.batch_id)
    .where(study_job.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(study_job.c.id)  # whoever locks several does it in this order
    .with_for_update(key_share=True)
)

_SERIES: Final = select(series).where(
    series.c.job_id.in_(bindparam("ids", expanding=True)),
    series.c.series_instance_uid.in_(bindparam("uids", expanding=True)),
)

_LAST_NUMBERS: Final = (
    select(series.c.job_id, func.max(series.c.number))
    .where(series.c.job_id.in_(bindparam("ids", expanding=True)))
    .group_by(series.c.job_id)
)

_KNOWN: Final = select(instance).where(
    tuple_(instance.c.job_id, instance.c.sop_instance_uid).in_(bindparam("keys", expanding=True))
)

_CHANGE: Final = update(instance).where(
    instance.c.job_id == bindparam("of_job"), instance.c.sop_instance_uid == bindparam("of_uid")
)
_CHANGED: Final = ("series", "nbytes", "digest", "name")

_COUNT_JOB: Final = (
    update(study_job)
    .where(study_job.c.id == bindparam("job"))
    .values(stored=study_job.c.stored + bindparam("more"), nbytes=study_job.c.nbytes + bindparam("more_bytes"))
)
_COUNT_ATTEMPT: Final = (
    update(attempt)
    .where(attempt.c.job_id == bindparam("job"), attempt.c.fence == bindparam("of_fence"))
    .values(stored=attempt.c.stored + bindparam("more"), nbytes=attempt.c.nbytes + bindparam("more_bytes"))
)


@cache
def _add_instances(dialect: str) -> Executable:
    statement = INSERT[dialect](instance).on_conflict_do_nothing()
    return statement.returning(instance.c.job_id, instance.c.sop_instance_uid)


@cache
def _add_progress(dialect: str) -> Executable:
    statement = INSERT[dialect](progress)
    sums = {name: progress.c[name] + statement.excluded[name] for name in ("studies", "instances", "nbytes")}
    return statement.on_conflict_do_update(index_elements=list(progress.primary_key), set_=sums)


_Key = tuple[int, str]


class _Series(NamedTuple):
    """What a row of `series` is of."""

    job_id: int
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    folder: str


class Came(NamedTuple):
    """New instances and their bytes, or studies."""

    studies: int = 0
    instances: int = 0
    nbytes: int = 0


async def count_progress(connection: AsyncConnection, minute: int, part: int, came: Mapping[int, Came]) -> None:
    """Add what came to the minute of each batch; the last thing in a transaction, as others may wait for the row."""
    rows = [
        {"batch_id": batch_id, "minute": minute, "part": part, **more._asdict()}
        for batch_id, more in sorted(came.items())
        if any(more)
    ]
    if rows:
        await connection.execute(_add_progress(connection.dialect.name), rows)


async def record(
    connection: AsyncConnection, instances: Sequence[Instance], minute: int, part: int
) -> frozenset[tuple[int, int]]:
    """Write those whose fence is that of their study, once; the studies and fences of the others."""
    found = await connection.execute(_JOBS, {"ids": sorted({each.job_id for each in instances})})
    jobs = {row.id: row for row in found}
    fences = {job_id: row.fence for job_id, row in jobs.items()}
    refused = frozenset((each.job_id, each.fence) for each in instances if fences.get(each.job_id) != each.fence)
    current = {
        (each.job_id, each.sop_instance_uid): each for each in instances if fences.get(each.job_id) == each.fence
    }
    came: dict[int, Came] = {}
    rest = iter([current[key] for key in sorted(current)])  # as they lie in the table: its pages are filled
    while chunk := list(islice(rest, MOST)):
        await _record(connection, chunk, came)
    if came:
        await _count(connection, jobs, came, minute, part)
    return refused


async def _record(connection: AsyncConnection, instances: Sequence[Instance], came: dict[int, Came]) -> None:
    kinds = [_series_of(each) for each in instances]
    numbers = await _numbers(connection, set(kinds))
    rows: dict[_Key, dict[str, Any]] = {
        (each.job_id, each.sop_instance_uid): {
            "job_id": each.job_id,
            "sop_instance_uid": each.sop_instance_uid,
            "series": numbers[kind],
            "nbytes": each.nbytes,
            "digest": each.digest or None,
            "name": _name_of(each, kind),
        }
        for each, kind in zip(instances, kinds, strict=True)
    }
    result = await connection.execute(_add_instances(connection.dialect.name), list(rows.values()))
    new = {(row[0], row[1]) for row in result}
    sizes: dict[int, list[int]] = {}
    for key in new:
        sizes.setdefault(key[0], []).append(rows[key]["nbytes"])
    for job_id, nbytes in sizes.items():
        _add(came, job_id, Came(instances=len(nbytes), nbytes=sum(nbytes)))
    known = rows.keys() - new
    if known:
        await _change(connection, {key: rows[key] for key in known}, came)


async def _change(connection: AsyncConnection, rows: Mapping[_Key, dict[str, Any]], came: dict[int, Came]) -> None:
    """Those that were there: what is new about them."""
    changes = []
    for there in await connection.execute(_KNOWN, {"keys": list(rows)}):
        row = rows[there.job_id, there.sop_instance_uid]
        if any(row[name] != getattr(there, name) for name in _CHANGED):
            key = {"of_job": there.job_id, "of_uid": there.sop_instance_uid}
            changes.append(key | {name: row[name] for name in _CHANGED})
            _add(came, there.job_id, Came(nbytes=row["nbytes"] - there.nbytes))
    if changes:
        await connection.execute(_CHANGE, changes)


async def _numbers(connection: AsyncConnection, wanted: set[_Series]) -> dict[_Series, int]:
    """The rows of `series`, new ones included; nobody else adds any, as the studies are locked."""
    jobs = sorted({each.job_id for each in wanted})
    found = await connection.execute(
        _SERIES, {"ids": jobs, "uids": sorted({each.series_instance_uid for each in wanted})}
    )
    numbers = {_Series(*(getattr(row, name) for name in _Series._fields)): row.number for row in found}
    new = sorted(wanted - numbers.keys())
    if new:
        last = dict(tuple(row) for row in await connection.execute(_LAST_NUMBERS, {"ids": jobs}))
        for each in new:
            last[each.job_id] = numbers[each] = last.get(each.job_id, 0) + 1
        await connection.execute(series.insert(), [each._asdict() | {"number": numbers[each]} for each in new])
    return numbers


def _series_of(each: Instance) -> _Series:
    folder, slash, _ = each.place.rpartition("/")
    return _Series(each.job_id, each.series_instance_uid, each.sop_class_uid, each.transfer_syntax_uid, folder + slash)


def _name_of(each: Instance, kind: _Series) -> str | None:
    """Of its file, if that is not the ordinary one."""
    name = each.place[len(kind.folder) :]
    return None if name == each.sop_instance_uid + FILE_SUFFIX else name


def _add(sums: dict[int, Came], key: int, came: Came) -> None:
    before = sums.get(key, Came())
    sums[key] = Came(*map(sum, zip(before, came, strict=True)))


async def _count(
    connection: AsyncConnection,
    jobs: Mapping[int, AnyRow],
    came: Mapping[int, Came],
    minute: int,
    part: int,
) -> None:
    """In the studies, their attempts, and the minute."""
    counted = [
        {"job": job_id, "of_fence": jobs[job_id].fence, "more": more.instances, "more_bytes": more.nbytes}
        for job_id, more in sorted(came.items())
    ]
    await connection.execute(_COUNT_JOB, counted)
    await connection.execute(_COUNT_ATTEMPT, counted)
    batches: dict[int, Came] = {}
    for job_id, more in came.items():
        _add(batches, jobs[job_id].batch_id, more)
    await count_progress(connection, minute, part, batches)
