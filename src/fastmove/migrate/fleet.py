"""Many hosts at one migration: studies are jobs of a queue in PostgreSQL, and any host takes the next.

The queue (procrastinate) says whose turn it is; the ledger says what is so.  A job is of a study as it was, by its
fence: whatever becomes of the study, a claim included, makes it void, and when the study is READY again another job is
put in.  So a job that comes twice does no harm.  Who claims a study has a new fence, so that a host which has lost it
writes nothing any more; when a host is not heard of for as long as its lease lasts its studies are READY again.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Final

from fastmove.errors import ConfigurationError, LedgerError
from fastmove.ledger.database import reached_by
from fastmove.ledger.model import Batch, Claimed
from fastmove.ledger.store import Ledger
from fastmove.migrate.claims import LEASE_S, Claims

if TYPE_CHECKING:
    from procrastinate import App
    from procrastinate.jobs import Job as Ticket

TASK: Final = "fastmove.migrate.study"

FIRST: Final = 1000
"""READY studies that are in the queue, of those that come first.

No more: when an operator puts others first, or a later plan has another order, their jobs are void, and are to be
fetched before those that count.
"""

POOL_S: Final = 5.0
"""How long a connection is waited for: who cannot reach the queue must not take long to learn it."""

FOREIGN_KEY_VIOLATION: Final = "23503"
RAISE_EXCEPTION: Final = "P0001"
"""SQLSTATEs (PostgreSQL, appendix A); by the second one procrastinate says that a job is not there, or not fetched."""


@contextmanager
def _reached(operation: str, but: str = "") -> Iterator[None]:
    """What is done within the block is done by the queue's database; LedgerError if it does not do it.

    An error of the SQLSTATE `but` is none.
    """
    from procrastinate.exceptions import ConnectorException

    try:
        yield
    except ConnectorException as error:
        if not but or getattr(error.__cause__, "sqlstate", "") != but:
            raise LedgerError(operation, error.__cause__ or error) from error


class Queue:
    """The jobs of one batch; made by `queue_of`.  LedgerError if its database cannot be reached."""

    def __init__(self, app: App, batch: Batch, worker_id: int) -> None:
        self._app = app
        self._manager = app.job_manager
        self._batch_id = batch.id
        self._name = f"batch-{batch.id}"
        self._worker_id = worker_id

    async def put(self, ledger: Ledger) -> int:
        """Put in what comes first of the studies to be moved, as far as it is not in the queue; how many."""
        from procrastinate.jobs import Job

        async with ledger.putting(self._batch_id, FIRST) as waiting:
            tickets = [
                Job(
                    queue=self._name,
                    priority=2 * each.priority + each.begun,  # as a host that lost it would have gone on with it
                    lock=None,
                    queueing_lock=None,
                    task_name=TASK,
                    task_kwargs={"job_id": each.id, "fence": each.fence},
                )
                for each in waiting
            ]
            if tickets:
                with _reached("put"):
                    await self._manager.batch_defer_jobs_async(tickets)
        return len(tickets)

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

        with _reached("done", but=RAISE_EXCEPTION):  # we were taken to be gone, and another host has had it since
            await self._manager.finish_job(ticket, Status.SUCCEEDED, delete_job=True)

    async def beat(self) -> None:
        """Say that we are here; what hosts had fetched that were not heard of for long can be fetched again."""
        with _reached("beat"):
            await self._manager.update_heartbeat(self._worker_id)
            for stalled in await self._manager.get_stalled_jobs(queue=self._name, seconds_since_heartbeat=LEASE_S):
                with _reached("beat", but=RAISE_EXCEPTION):  # another host was faster
                    await self._manager.retry_job(stalled)
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

    async def _claim(self, room: int) -> list[Claimed]:
        found: list[Claimed] = []
        try:
            while len(found) < room and (ticket := await self._ticket()) is not None:
                job_id, fence = (int(str(ticket.task_kwargs[name])) for name in ("job_id", "fence"))
                claimed = await self._ledger.claim_job(job_id, fence, self._owner, LEASE_S, self._now())
                if claimed is not None:
                    self._take(claimed)
                    found.append(claimed)
                await self._queue.done(ticket)
        except LedgerError:
            if not found:  # else it is met again
                raise
        return found

    async def _ticket(self) -> Ticket | None:
        """The next one; what may be moved is put into the queue first if that is empty."""
        ticket = await self._queue.fetch()
        while ticket is None and await self._fill():
            ticket = await self._queue.fetch()
        return ticket

    async def _fill(self) -> int:
        """Put into the queue what may be moved now and is not in it; how many."""
        await self._ledger.promote(self._batch.id, self._now())
        return await self._queue.put(self._ledger)

    async def renew(self) -> None:
        """Say that we are still at it, take over what others have lost, and put into the queue what is not in it."""
        await super().renew()
        await self._queue.beat()
        if await self._fill():
            self._changed.set()

    async def release(self) -> None:
        """Give back what is in hand, as if it had not been taken on."""
        await super().release()
        await self._fill()
