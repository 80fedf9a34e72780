"""What the hosts of a fleet have to agree upon: who is there, what is in the queue, how many may ask a PACS at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from sqlalchemy import delete, exists, extract, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from fastmove.errors import LedgerError
from fastmove.ledger.database import Database
from fastmove.ledger.model import Host, JobState
from fastmove.ledger.reading import Reading, milliseconds
from fastmove.ledger.recording import INSERT
from fastmove.ledger.schema import attempt, host, is_in, queued, study_job

GONE_S: Final = 45.0
"""A host that was not heard of for so long is not there."""

FORGOTTEN_S: Final = 86_400.0
"""A host that was not heard of for so long is not told of any more."""

MOST_SKEW_S: Final = 10.0
"""By how much a clock may differ from that of the database: a lease is renewed 30 s before it ends."""

_SLOTS: Final = 0x666D
"""The first number of an advisory lock of ours; the second is batch and slot."""

_PUTTING: Final = 0x666E
"""The first number of the advisory lock of whoever puts studies into the queue; the second is the batch."""

_KEPT: Final = {"tcp_keepalives_idle": "60", "tcp_keepalives_interval": "15", "tcp_user_timeout": "150s"}
"""Settings of the server's: the slots of a host that has vanished from the network are free after 90 s at least, 165 s
at most.  It has cancelled its moves by then, and a PACS that could not be told has given them up."""

MOST_SLOTS: Final = 1 << 10
"""Of a batch."""


class Waiting(NamedTuple):
    """A study that is to be put into the queue."""

    id: int
    fence: int
    """What is in the queue is void once the study has another one."""

    priority: int
    begun: bool
    """Somebody has had it in hand before."""


class Place(NamedTuple):
    """That of a host among all that are there."""

    hosts: int
    rank: int
    """From 0."""

    def share(self, whole: int) -> int:
        """Its part of so many; all parts together are the whole."""
        return whole // self.hosts + (self.rank < whole % self.hosts)


class Sharing(Reading):
    """Part of `Ledger`; raises LedgerError as all of it."""

    @asynccontextmanager
    async def putting(self, batch_id: int, first: int) -> AsyncIterator[list[Waiting]]:
        """Of so many READY studies that come first those that are not in the queue as they are now, in their order.

        They are in it once the block has ended.  One host at a time puts studies in: meanwhile others get none.
        """
        order = (study_job.c.priority.desc(), study_job.c.rank, study_job.c.id)
        next_ones = select(study_job).where(study_job.c.batch_id == batch_id, is_in(JobState.READY)).order_by(*order)
        ready = next_ones.limit(first).subquery()
        there = (queued.c.job_id == ready.c.id) & (queued.c.fence == ready.c.fence)
        begun = (ready.c.stored > 0) | exists().where(attempt.c.job_id == ready.c.id)
        statement = (
            select(ready.c.id, ready.c.fence, ready.c.priority, begun.label("begun"))
            .outerjoin_from(ready, queued, there)
            .where(queued.c.job_id.is_(None))
            .order_by(ready.c.priority.desc(), ready.c.rank, ready.c.id)
        )
        async with self._database.claim("putting") as connection:
            ours = not self._database.shared or await connection.scalar(
                select(func.pg_try_advisory_xact_lock(_PUTTING, batch_id))
            )
            rows = (await connection.execute(statement)).all() if ours else []
            yield [Waiting(row.id, row.fence, row.priority, bool(row.begun)) for row in rows]
            if rows:
                adding = INSERT[self._database.dialect](queued)
                adding = adding.on_conflict_do_update(index_elements=["job_id"], set_={"fence": adding.excluded.fence})
                await connection.execute(adding, [{"job_id": row.id, "fence": row.fence} for row in rows])

    async def here(self, batch_id: int, owner: str, ae_title: str, moves: int, now: float) -> Place:
        """Say that a host is at it, with so many moves under way; LedgerError if its clock is wrong by the database's.

        By a wrong clock it would take away what others have, or lose what it has itself.
        """
        values = {"batch_id": batch_id, "owner": owner, "ae_title": ae_title, "moves": moves}
        seen = {"seen_ms": milliseconds(now), "moves": moves}
        adding = INSERT[self._database.dialect](host).values(values | seen)
        adding = adding.on_conflict_do_update(index_elements=["batch_id", "owner"], set_=seen)
        there = select(host.c.owner).where(host.c.batch_id == batch_id, host.c.seen_ms > milliseconds(now - GONE_S))
        forgotten = (host.c.batch_id == batch_id, host.c.seen_ms < milliseconds(now - FORGOTTEN_S))
        async with self._database.claim("here") as connection:
            if self._database.shared:
                theirs = float(await connection.scalar(select(extract("epoch", func.clock_timestamp()))) or 0)
                if abs(ahead := now - theirs) > MOST_SKEW_S:
                    which = "ahead of" if ahead > 0 else "behind"
                    raise LedgerError(
                        "here", f"our clock is {abs(ahead):.0f} s {which} the database's: synchronise both"
                    )
            await connection.execute(adding)
            await connection.execute(delete(host).where(*forgotten))
            owners = sorted((await connection.execute(there)).scalars())
        return Place(len(owners), owners.index(owner))

    async def away(self, batch_id: int, owner: str) -> None:
        """A host is not at it any more."""
        async with self._database.claim("away") as connection:
            await connection.execute(delete(host).where(host.c.batch_id == batch_id, host.c.owner == owner))

    async def hosts(self, batch_id: int) -> list[Host]:
        """All that were heard of, the last one first; one that died is among them."""
        statement = select(host).where(host.c.batch_id == batch_id).order_by(host.c.seen_ms.desc())
        rows = await self._rows("hosts", statement)
        return [Host(row.owner, row.ae_title, row.moves, row.seen_ms / 1000) for row in rows]

    def slots(self, batch_id: int) -> Slots:
        """Those of a batch, of which this process has none yet."""
        return Slots(self._database, batch_id)


class Slots:
    """How many moves this host may have under way, of all that a PACS allows to all hosts together; a context manager.

    A slot is a lock that ends with the connection, and so with the host, however that ends (PostgreSQL, advisory
    locks).  In a ledger that is a file there are as many as are wanted: one host has them all.  Whoever holds some asks
    again and again, and learns in time that the connection has ended.
    """

    def __init__(self, database: Database, batch_id: int) -> None:
        self._database = database
        self._first = batch_id * MOST_SLOTS
        self._held: set[int] = set()
        self._connection: AsyncConnection | None = None

    async def __aenter__(self) -> Slots:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def _leave(self) -> None:
        """End the connection: what it locks is free at once."""
        connection, self._connection = self._connection, None
        self._held.clear()
        if connection is not None:
            await connection.invalidate()
            await connection.close()

    async def hold(self, wanted: int, most: int) -> int:
        """Have `wanted` of `most`, or as many as others leave; how many there are.  LedgerError: none at all."""
        if not self._database.shared:
            return min(wanted, most)
        try:
            await self._join()
            room = range(min(most, MOST_SLOTS))
            for slot in room:
                if len(self._held.intersection(room)) >= wanted:
                    break
                if slot not in self._held and await self._do(func.pg_try_advisory_lock, slot):
                    self._held.add(slot)
            while len(self._held) > wanted:  # those first that are beyond what is allowed now: nobody else sees them
                await self._do(func.pg_advisory_unlock, slot := max(self._held))
                self._held.remove(slot)
        except SQLAlchemyError as error:
            await self._leave()
            raise LedgerError("slots", getattr(error, "orig", None) or error) from error
        return len(self._held)

    async def _join(self) -> None:
        """Have a connection that stands; what another one held may be somebody else's by now."""
        if self._connection is None:
            self._connection = await self._database.session()
            await self._connection.execute(
                select(*(func.set_config(name, value, False) for name, value in _KEPT.items()))
            )
        else:
            await self._connection.execute(select(1))

    async def _do(self, function: object, slot: int) -> bool:
        assert self._connection is not None and callable(function)
        return bool((await self._connection.execute(select(function(_SLOTS, self._first + slot)))).scalar())
