"""Retrieve: everything that was selected, by as many C-MOVEs at once as the PACS takes well, and the verdict on it.

One listener serves all moves.  Of each study the PACS is asked for the list of its instances first (C-FIND); what is
there already is not fetched again, what is missing after a move is asked for once more; in the end the list decides.

What a run decides while it goes on is all here, which is why it is long.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Container, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

from fastmove.dimse.status import MOVE_DESTINATION_UNKNOWN
from fastmove.errors import AssociationError, FastmoveError, NoAcceptedContext, ProtocolError, StorageNotReady
from fastmove.net.acceptor import Acceptor
from fastmove.net.lag import lag_told
from fastmove.net.requestor import MessageIDs
from fastmove.notices import (
    InstanceRefused,
    InstanceStored,
    ListenerStarted,
    Notice,
    Observer,
    ParallelismChanged,
    RoundStarted,
)
from fastmove.services.listener import listen
from fastmove.services.retrieve.admission import Admission
from fastmove.services.retrieve.asked import Asked
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.correlation import UNSOLICITED, Correlation
from fastmove.services.retrieve.listing import Lister
from fastmove.services.retrieve.mover import Ending, Moved, Mover, list_again
from fastmove.services.retrieve.parallelism import Parallelism
from fastmove.services.retrieve.part import Part
from fastmove.services.retrieve.reach import Reach
from fastmove.services.retrieve.reckoning import Reckoning, as_notice
from fastmove.services.retrieve.unit import Unit, UnitResult
from fastmove.services.retrieve.work import Source, Work
from fastmove.services.selection.selection import Wanted
from fastmove.services.storage_scp import OnStored
from fastmove.storage.options import Placing
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness, first_objection

if TYPE_CHECKING:
    from fastmove.services.storage_commitment import CommitmentReceiver

TICK_S = 0.05
"""How often it is looked whether another move at once would pay."""

MAX_LATE = 256
"""Moves of which something is due that may come late; with more the PACS is not asked for another before they end."""


class Retrieve:
    """A retrieve from selection to verdict; `cancel` may be called at any time.

    With a `target` it listens on `host` and `port` as long as it runs and stores what comes; without one the PACS
    sends to a third party.  What is in the `inventory`, by SOP Instance UID, is not fetched again.  `on_unit` is
    told what became of each unit, `on_began` of each move after how many seconds it brought something; an objection of
    what is `ready` ends the run.  With a `source` units come from there as long as it has some, and not from the
    selection.  The listener takes reports for `commitments`, too.  `ending` is told how it ends, and waited for before
    the listener closes.
    ConfigurationError if keys are no request.
    """

    def __init__(
        self,
        config: RetrieveConfig,
        target: StorageTarget | None = None,
        *,
        host: str = "",
        port: int = 0,
        notify: Observer | None = None,
        on_stored: OnStored | None = None,
        on_unit: Callable[[UnitResult], None] | None = None,
        on_began: Callable[[float], None] | None = None,
        inventory: Container[str] = frozenset(),
        ready: Sequence[Readiness] = (),
        source: Source | None = None,
        commitments: CommitmentReceiver | None = None,
        ending: Callable[[RetrieveResult], Awaitable[None]] | None = None,
    ) -> None:
        self.config = config
        self.objects = self.nbytes = 0
        self.unreached = False
        """It ended as nothing at all has come of several units: perhaps the PACS does not reach us."""
        self.sent = 0
        """Sub-operations that the PACS says it has performed."""
        self.parallelism = Parallelism(config.parallel, known=config.profile.associations)
        self.work = Work(config, inventory, source)
        self._reach = Reach(config.limits, self.parallelism)
        self._storage = target
        self._address = host, port
        self._admission = Admission(config)
        self._notify = notify
        self._on_stored = on_stored
        self._on_unit, self._on_began = on_unit, on_began
        self._ready, self._reports, self._ending = ready, commitments, ending
        self._correlation = None if target is None else Correlation(config.ae_title, self._observe, self._stored)
        self._lister = Lister(config.model, config.profile)
        self._message_ids = MessageIDs()
        self._acceptor: Acceptor | None = None
        self._movers: dict[asyncio.Task[None], Mover] = {}
        self._late: dict[asyncio.Task[None], Ending] = {}
        self._stopping = False
        self._changed = asyncio.Event()
        self._pace_s: float | None = None
        self._limit_told = 0
        self._reckoning = Reckoning()

    def cancel(self) -> bool:
        """Ask for nothing more, and C-CANCEL what is under way, True if one was sent: it ends with its final response.

        A second call aborts; so does the first where there is nothing to cancel yet, or any more.
        """
        self._stopping = True
        self._changed.set()
        cancelled = bool(sum(mover.cancel() for mover in self._movers.values()))
        for task, mover in self._movers.items():
            if cancelled and mover.moving:
                continue
            mover.stop()  # it lists, or is about to; or C-CANCEL does not help
            if not mover.opened:
                task.cancel()
        if cancelled:
            return True
        for ending in self._late.values():
            ending.stop()
        if self._acceptor is not None:
            self._acceptor.abort("stopped")
        return False

    def suspend(self) -> int:
        """C-CANCEL all moves that are under way, how many; what is missing then is asked for again when it may be."""
        return sum([mover.cancel() for mover in self._movers.values()])

    def end_idle(self) -> None:
        """End if nothing is asked or moved, and nothing may come any more of a move that has ended."""
        if not (self._movers or self._late):
            self.cancel()

    @property
    def to_us(self) -> bool:
        """True if the objects come here, not to a third party."""
        return self._storage is not None

    @property
    def established(self) -> bool:
        """True if an association has stood."""
        return self._reach.established

    @property
    def away(self) -> bool:
        """True while the PACS takes no association, though it did."""
        return self._reach.away

    @property
    def under_way(self) -> int:
        """Associations on which something is asked or moved."""
        return sum(not mover.closing for mover in self._movers.values())

    async def run(self) -> RetrieveResult:
        """Listen, list, move, wait for what is still on its way, ask again for what is missing, judge.

        Raises ListenFailed, AssociationError if there was no association to begin with, ConfigurationError, also for a
        name in `accept_hosts` that leads nowhere, DimseError if a query of the selection failed before anything was
        found, StorageNotReady if there was no room then.
        """
        storage, correlation, config = self._storage, self._correlation, self.config
        if storage is None or correlation is None:
            with lag_told(config.limits, self._notify):
                return await self._run()
        limits, stored, policy = config.limits, correlation.stored, await self._admission.policy()
        tls, ready, reports = config.listener_tls, self._ready, self._reports
        storage.asked = Asked(correlation, self.work)
        try:
            async with listen(
                *self._address, storage, policy, limits, correlation, stored, ready=ready, tls=tls, commitments=reports
            ) as acceptor:
                self._acceptor = acceptor
                acceptor.on_rejected = self._admission.turned_away
                correlation.arriving = acceptor.arriving
                self._tell(ListenerStarted(acceptor.host, acceptor.port, 1))
                return await self._run()
        finally:
            storage.asked = None

    async def _run(self) -> RetrieveResult:
        feeding = asyncio.create_task(self.work.feed(self._changed.set, self._notify))
        try:
            await self._supervise(feeding)
        finally:
            feeding.cancel()
            for task in (tasks := (feeding, *self._movers, *self._late)):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if feeding.done() and not feeding.cancelled() and (failed := feeding.exception()) is not None:
            if not isinstance(failed, FastmoveError):
                raise failed
            self._reckoning.error = self._reckoning.error or failed
            self._reckoning.selection_failed = True
        self._reckoning.selection_failed |= feeding.cancelled()
        for unit in self.work.unfinished():
            if unit.evidences:  # nothing was asked of the others: they were not taken up
                self._finish(unit)
        result = self._reckoning.result(self.work, stopped=self._stopping)
        if self._ending is not None:
            await self._ending(result)
        return result

    async def _supervise(self, feeding: asyncio.Task[None]) -> None:
        """Keep as many movers at work as there may be and have something to do, until nothing is left."""
        while True:
            self._changed.clear()
            now = time.monotonic()
            self._adjust(now)
            if not self._stopping and now >= self._reach.not_before:
                limit = self.parallelism.limit
                room = (min(1, limit) if self.away else limit) - self.under_way
                for _ in range(min(room, self.work.waiting(now))):
                    mover = self._another()
                    task = asyncio.create_task(self._mover(mover))
                    self._movers[task] = mover
                    task.add_done_callback(self._done)
            for unit in self.work.come_late():
                self._finish(unit)
            if not self._movers and not self._late and (self._stopping or (feeding.done() and self.work.exhausted)):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TICK_S):
                    await self._changed.wait()

    def _done(self, task: asyncio.Task[None]) -> None:
        self._movers.pop(task, None)
        self._late.pop(task, None)
        self._changed.set()
        if not task.cancelled() and (error := task.exception()) is not None:
            self._stop(error if isinstance(error, Exception) else RuntimeError(str(error)))

    def _adjust(self, now: float) -> None:
        paces = [mover.pace_s for mover in self._movers.values() if mover.pace_s is not None]
        self._pace_s = sum(paces) / len(paces) if paces else self._pace_s
        if not self._stopping and (self._unready() or any(mover.unwritten for mover in self._movers.values())):
            # The disk is full, or broken: what is on its way would be refused as well.
            self._stopping = True
            for mover in self._movers.values():
                mover.cancel()
        if self._acceptor is not None:
            bringing = sum(mover.bringing for mover in self._movers.values())
            self.parallelism.measure(now, self._acceptor.received, bringing, self._pace_s)
            limit = self.parallelism.limit
            movers = [mover for mover in self._movers.values() if not mover.closing]
            # What began when more were allowed stands behind those, and says nothing of how many are served.
            self.parallelism.waiting(now, [mover.waiting_s if mover.limit <= limit else 0.0 for mover in movers])
        if self.parallelism.limit != self._limit_told:
            self._limit_told = self.parallelism.limit
            self._tell(ParallelismChanged(self._limit_told))

    def _unready(self) -> bool:
        if (why := first_objection(self._ready)) is not None:
            self._reckoning.error = self._reckoning.error or StorageNotReady(*why)
        return why is not None

    def _stop(self, error: Exception) -> None:
        """Take up nothing more: it would end the same way."""
        self._reckoning.error = self._reckoning.error or error
        self._stopping = True
        self._changed.set()

    def _another(self) -> Mover:
        return Mover(self.config, self._correlation, self._lister, self._message_ids, self._notify)

    async def _mover(self, mover: Mover) -> None:
        """List and move, until there is nothing to do, too many do it, or the association ends."""
        try:
            if not await self._reach.open(mover, self._opened):
                return
            self._admission.reached(mover.host)
            while mover.usable and not self._stopping and self.under_way <= self.parallelism.limit:
                shares, first_s = self.parallelism.shares(self._pace_s), self.parallelism.first_object_s or 0.0
                if (part := self.work.part(time.monotonic(), shares, self._pace_s, first_s)) is not None:
                    await self._move(mover, part)
                elif (wanted := self.work.take()) is not None:
                    await self._begin(mover, wanted)
                elif not await self.work.news():
                    return
        except (AssociationError, ProtocolError) as error:
            self._stop(error)
        finally:
            await mover.close()

    def _opened(self) -> int:
        return sum(mover.opened or mover.closing for mover in self._movers.values())

    async def _begin(self, mover: Mover, wanted: Wanted) -> None:
        """Ask for the list of a unit, and make its first plan."""
        try:
            listing = await mover.list(wanted)
        except (AssociationError, ProtocolError):
            self.work.put_back(wanted)
            self._lister.failed(wanted)
            return
        unit = self.work.begin(wanted, listing)
        if unit.settled:
            self._finish(unit)
        else:
            self._changed.set()  # others may take parts of it

    async def _move(self, mover: Mover, part: Part) -> None:
        if self._reckoning.started is None:
            self._reckoning.started = time.monotonic()
        limit = mover.limit = self.parallelism.limit
        ending = await mover.move(part, self.work.is_last)
        if len(self._late) < MAX_LATE and await ending.open():
            # What is due may come late, or never: nobody needs to stand idle for that.
            task = asyncio.create_task(self._ended(part, ending, limit))
            self._late[task] = ending
            task.add_done_callback(self._done)
            mover.ended()
        else:
            await self._ended(part, ending, limit, mover)

    async def _ended(self, part: Part, ending: Ending, limit: int, mover: Mover | None = None) -> None:
        """A move is over, as soon as nothing more of it is to come; it may be that of this mover."""
        unit = part.unit
        moved = await ending.last()
        if mover is not None:
            mover.ended()
        self._reckoning.last_at = time.monotonic()
        self._account(moved, limit)
        unit.record(part, moved.evidence, moved.error)
        unit.turned_away = self._admission.since(moved.started) or unit.turned_away
        unit.other_level |= self.work.learn(part, moved.evidence)
        if self._correlation is not None and self._correlation.originators_given:
            self.work.told_apart = True
        if not unit.settled:
            return
        if unit.outgrown:
            await list_again(unit, mover, self._another)
            claimed = self.work.claim(unit)
            self._reckoning.unsolicited -= len(claimed)
            self.objects, self.nbytes = self.objects + len(claimed), self.nbytes + sum(claimed)
        if not self._stopping and unit.worth_another_round(self.config.rounds):
            self._again(unit)
        else:
            self._finish(unit)

    def _account(self, moved: Moved, limit: int) -> None:
        """What a move tells of the PACS."""
        now = time.monotonic()
        if moved.first_object_s is not None:
            if self._on_began is not None:
                self._on_began(moved.first_object_s)
            self.parallelism.began(now, moved.first_object_s, limit)
        outcome = moved.evidence.outcome
        self.sent += moved.evidence.delivered or 0
        if outcome is None:
            if not self._stopping:
                self.parallelism.congested(now)
            if isinstance(moved.error, NoAcceptedContext):
                self._stop(moved.error)
            self._reckoning.lost = self._reckoning.lost or moved.error
        elif outcome.status == MOVE_DESTINATION_UNKNOWN:
            self._stopping = True  # it is unknown for all of them
        elif moved.evidence.exhausted and not moved.evidence.arrivals and outcome.failed != 1:
            self.parallelism.congested(now)
        if moved.evidence.storage_failures:
            self._stopping = True  # the disk is full, or broken: more would be refused as well

    def _again(self, unit: Unit) -> None:
        delay = 0.0
        if not unit.brought:
            delay = self.config.limits.back_off_s(unit.rounds)
        self._tell(RoundStarted(unit.wanted.study_instance_uid, unit.rounds + 1, len(unit.missing), delay))
        self.work.again(unit, time.monotonic() + delay)
        self._changed.set()

    def _stored(self, notice: InstanceStored, ours: bool) -> Future[None] | None:
        if notice.placing == Placing.QUARANTINED.value:
            self._reckoning.quarantined += 1
            self._tell(notice)
            return None
        if self.work.came(notice, ours=ours):
            self.objects += 1
            self.nbytes += notice.nbytes
            if self._reckoning.first_at is None:
                self._reckoning.first_at = time.monotonic()
        else:
            self._reckoning.unsolicited += 1
        return None if self._on_stored is None else self._on_stored(notice)

    def _observe(self, notice: Notice) -> None:
        if type(notice) is InstanceRefused:
            self._reckoning.unsolicited_refused += notice.event == UNSOLICITED
            self._changed.set()
        self._tell(notice)

    def _finish(self, unit: Unit) -> None:
        result = unit.result()
        self.work.finish(unit)
        self._reckoning.add(result)
        if self.to_us and not (self.objects or self.work.present) and self._reckoning.unreached(result):
            self.unreached = self._stopping = True
        self._tell(as_notice(result))
        if self._on_unit is not None:
            self._on_unit(result)

    def _tell(self, notice: Notice) -> None:
        if self._notify is not None:
            self._notify(notice)
