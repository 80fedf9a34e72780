"""Many hosts at one migration: studies are jobs of a queue in PostgreSQL, and any host takes the next.

The queue (procrastinate) says whose turn it is, and when; the ledger says what is so.  A study is claimed there with a
new fence when its job is fetched, so that a host which has lost it writes nothing any more; when a host is not heard of
for as long as its lease lasts its studies are ready again, and are put into the queue once more.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from fastmove.errors import ConfigurationError, LedgerError
from fastmove.ledger.database import reached_by
from fastmove.ledger.model import Batch, Claimed, JobState, Outcome
from fastmove.ledger.store import Ledger
from fastmove.migrate.claims import LEASE_S, Claims

if TYPE_CHECKING:
    from procrastinate import App
    from procrastinate.jobs import Job as Ticket

TASK: Final = "fastmove.migrate.study"

CHUNK: Final = 1000
"""Studies that are put into the queue together."""

POOL_S: Final = 5.0
"""How long a connection is waited for: who cannot reach the queue must not take long to learn it."""

FOREIGN_KEY_VIOLATION: Final = "23503"
"""An SQLSTATE (PostgreSQL, appendix A)."""

PUT_S: Final = 60.0
"""How often it is looked whether studies were planned that are not in the queue."""

EARLIER_S: Final = 5.0
"""Before a job is looked at again whose study is still somebody else's."""


@contextmanager
def _reached(operation: str) -> Iterator[None]:
    """What is done within the block is done by the queue's database; LedgerError if it does not do it."""
    from procrastinate.exceptions import ConnectorException

    try:
        yield
    except ConnectorException as error:
        raise LedgerError(operation, error.__cause__ or error) from error


class Queue:
    """The jobs of one batch; made by `queue_of`.  LedgerError if its database cannot be reached."""

    def __init__(self, app: App, batch: Batch, worker_id: int) -> None:
        self._app = app
        self._manager = app.job_manager
        self._name = f"batch-{batch.id}"
        self._worker_id = worker_id

    async def put(self, ledger: Ledger, batch: Batch) -> int:
        """Put all studies in that are to be moved and are not in it yet; how many."""
        from procrastinate.jobs import Job

        total = 0
        while waiting := await ledger.unqueued(batch.id, CHUNK):
            tickets = [
                Job(
                    queue=self._name,
                    priority=2 * each.priority + each.begun,  # as a host that lost it would have gone on with it
                    lock=None,
                    queueing_lock=None,
                    task_name=TASK,
                    task_kwargs={"job_id": each.id},
                )
                for each in waiting
            ]
            with _reached("put"):
                await self._manager.batch_defer_jobs_async(tickets)
            await ledger.queued([each.id for each in waiting])
            total += len(waiting)
        return total

    async def fetch(self) -> Ticket | None:
        """The next job, which is ours from now on; None if none is due."""
        from procrastinate.exceptions import ConnectorException

        with _reached("fetch"):
            try:
                return await self._manager.fetch_job([self._name], self._worker_id)
            except ConnectorException as error:
                if getattr(error.__cause__, "sqlstate", "") != FOREIGN_KEY_VIOLATION:
                    raise
            self._worker_id = await self._manager.register_worker()  # for long we were not heard of, and crossed out
            return await self._manager.fetch_job([self._name], self._worker_id)

    async def done(self, ticket: Ticket) -> None:
        """Nothing more is to be done about it."""
        from procrastinate.jobs import Status

        with _reached("done"):
            await self._manager.finish_job(ticket, Status.SUCCEEDED, delete_job=True)

    async def later(self, ticket: Ticket, at: float) -> None:
        """It is due again at a time, in seconds since 1970."""
        with _reached("later"):
            await self._manager.retry_job(ticket, retry_at=datetime.fromtimestamp(at, UTC))

    async def beat(self) -> None:
        """Say that we are here; jobs of hosts that were not heard of for long are dropped: the ledger has others."""
        with _reached("beat"):
            await self._manager.update_heartbeat(self._worker_id)
            for stalled in await self._manager.get_stalled_jobs(queue=self._name, seconds_since_heartbeat=LEASE_S):
                await self.done(stalled)
            await self._manager.prune_stalled_workers(10 * LEASE_S)


@asynccontextmanager
async def queue_of(where: str, batch: Batch) -> AsyncIterator[Queue]:
    """The queue of a batch in a PostgreSQL database, which is made if it is not there.

    ConfigurationError without procrastinate, LedgerError if the queue cannot be used.
    """
    try:
        from procrastinate import App, PsycopgConnector
        from procrastinate.exceptions import ConnectorException
    except ModuleNotFoundError as error:
        raise ConfigurationError("--fleet", f"needs {error.name}: pip install 'fastmove[fleet]'") from error
    reach = reached_by(where)
    app = App(connector=PsycopgConnector(conninfo=where, kwargs=reach, min_size=1, max_size=2, timeout=POOL_S))
    with _reached("queue"):
        async with app.open_async():
            if not await app.check_connection_async():
                with contextlib.suppress(ConnectorException):  # another host was faster
                    await app.schema_manager.apply_schema_async()
            worker_id = await app.job_manager.register_worker()
            try:
                yield Queue(app, batch, worker_id)
            finally:
                with contextlib.suppress(ConnectorException):  # others will drop it, as one that was not heard of
                    await app.job_manager.unregister_worker(worker_id)


class FleetClaims(Claims):
    """As `Claims`, from the queue that all hosts share."""

    def __init__(
        self,
        ledger: Ledger,
        batch: Batch,
        owner: str,
        ahead: Callable[[], int],
        now: Callable[[], float],
        queue: Queue,
    ) -> None:
        super().__init__(ledger, batch, owner, ahead, now)
        self._queue = queue
        self._tickets: dict[int, Ticket] = {}
        self._put_at = 0.0

    async def _claim(self, room: int) -> list[Claimed]:
        found: list[Claimed] = []
        try:
            while len(found) < room and (ticket := await self._queue.fetch()) is not None:
                job_id = int(str(ticket.task_kwargs["job_id"]))
                claimed = await self._ledger.claim_job(job_id, self._owner, LEASE_S, self._now())
                if claimed is not None:
                    self._tickets[claimed.id] = ticket
                    self._take(claimed)
                    found.append(claimed)
                elif await self._ledger.state(job_id) is JobState.MOVING:
                    await self._queue.later(ticket, self._now() + EARLIER_S)  # its owner may be gone
                else:
                    await self._queue.done(ticket)
        except LedgerError:
            if not found:  # else it is met again, and what was claimed before is not lost
                raise
        return found

    async def renew(self) -> None:
        """Say that we are still at it, take over what others have lost, and put into the queue what is not in it."""
        await super().renew()
        recovered = await self._ledger.recover(self._now(), batch_id=self._batch.id)
        await self._queue.beat()
        if (recovered or self._now() - self._put_at >= PUT_S) and await self._queue.put(self._ledger, self._batch):
            self._put_at = self._now()
            self._changed.set()

    async def concluded(self, claimed: Claimed, outcome: Outcome) -> None:
        """An attempt is over."""
        ticket = self._tickets.pop(claimed.id, None)
        if ticket is not None:
            if outcome.due_at is None:
                await self._queue.done(ticket)
            else:
                await self._queue.later(ticket, outcome.due_at)
        await super().concluded(claimed, outcome)

    async def release(self) -> None:
        """Give back what is in hand, as if it had not been taken on."""
        for claimed in list(self.in_hand.values()):
            if (ticket := self._tickets.pop(claimed.id, None)) is not None:
                await self._queue.done(ticket)  # the ledger says that it is to be put in again
        await super().release()
        await self._queue.put(self._ledger, self._batch)
