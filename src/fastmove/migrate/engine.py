"""The run of a migration on one host: studies are claimed, moved, proved and recorded, until nothing is left to do.

One retrieve is under way as long as the PACS takes it well.  What ends it before its time is waited out: the PACS is
away, the disk is full.  What nobody can wait out, as a move destination that the PACS does not know, ends the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from enum import Enum
from functools import partial
from typing import Final

from fastmove.errors import (
    ConfigurationError,
    FastmoveError,
    LedgerError,
    ListenFailed,
    NoAcceptedContext,
    StorageNotReady,
    TlsUnusable,
)
from fastmove.ledger.model import Batch, JobState, Outcome, Wish
from fastmove.ledger.sharing import Slots
from fastmove.ledger.store import Ledger
from fastmove.migrate.allowance import Allowance, Policy
from fastmove.migrate.claims import LEASE_S, Claims, MakeClaims
from fastmove.migrate.conclusion import Conclusions
from fastmove.migrate.destination import Destination
from fastmove.migrate.facts import Facts
from fastmove.migrate.pulse import Pulse
from fastmove.migrate.recorder import Recorder
from fastmove.migrate.resumption import standing, taken_on
from fastmove.migrate.retry import Decision
from fastmove.migrate.situation import waiting_for
from fastmove.notices import InstanceStored, Observer, StudyMigrated
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.retrieve.unit import UnitResult
from fastmove.services.storage_commitment import CommitmentReceiver
from fastmove.services.withheld import later
from fastmove.types import Readiness

WATCH_S: Final = 1.0
"""How often it is looked what the operator wishes, and what the clock allows."""

AWAY_S: Final = (5.0, 300.0)
"""How long to wait before a PACS is tried again that did not answer: at first, and at most."""

AHEAD: Final = 4
"""Studies in hand for each move that may be under way: their lists are asked for meanwhile."""

_HELD_UP: Final = (LedgerError, StorageNotReady)
_FOR_GOOD: Final = (ConfigurationError, ListenFailed, NoAcceptedContext, TlsUnusable)
"""Errors that waiting mends, even if the PACS has not been seen yet, and those that it does not."""


class Ended(Enum):
    """How a run came to its end."""

    FINISHED = "finished"
    """Nothing is left that could be done now or later."""

    DRAINED = "drained"
    STOPPED = "stopped"
    FAILED = "failed"


class Engine:
    """Runs one batch; `drain` and `stop` may be called at any time, as the wishes in the ledger.

    `now` is the time in seconds since 1970; our listener takes reports of storage commitment for `reports`, too.  With
    `slots` what a window allows is for all hosts together.  Nothing is begun while what is `ready` objects.
    """

    def __init__(
        self,
        ledger: Ledger,
        batch: Batch,
        config: RetrieveConfig,
        policy: Policy,
        owner: str,
        *,
        host: str = "",
        port: int = 0,
        notify: Observer | None = None,
        now: Callable[[], float] = time.time,
        reports: CommitmentReceiver | None = None,
        claims: MakeClaims = Claims,
        slots: Slots | None = None,
        ready: Sequence[Readiness] = (),
    ) -> None:
        self.error: FastmoveError | None = None
        """Why it FAILED."""
        self.why = ""
        """Why, as a sentence, whatever it was."""
        self.established = False
        """The PACS has taken an association."""
        self.complete = self.parked = self.tried_again = 0
        self.objects = self.nbytes = 0
        self.retrieve: Retrieve | None = None
        self.claims = claims(ledger, batch, owner, self._ahead, now)
        self.recorder = Recorder(ledger, self.claims, self._taken_over, now)
        self.facts = Facts(ledger, batch, notify, now, lambda: self._stopping)
        self._conclusions = Conclusions(
            ledger,
            self.claims,
            self.recorder,
            self.facts,
            now,
            self._concluded,
            self._taken_over,
            require_proof=policy.require_proof,
        )
        self._ledger = ledger
        self._batch = batch
        self.config = config
        self._policy = policy
        self._address = host, port
        self._notify = notify
        self._now = now
        self._reports, self._ready = reports, ready
        self._owner = owner
        self.pulse = Pulse(config, self._study, self._limit, self._suffering, ask=policy.gentle)
        self.allowance = Allowance(
            policy.windows, slots, lambda: self.moves, lambda: self.pulse.most, now, lambda: self._begun
        )
        self._draining = self._stopping = False
        self._finishing: set[asyncio.Task[None]] = set()
        self._destination: Destination | None = None
        self._wake = asyncio.Event()

    # ------------------------------------------------------------------ the run

    async def run(self, destination: Destination) -> Ended:
        """Until nothing is left to do, or somebody ends it; LedgerError, and what no waiting mends before it began."""
        await self._heed(await self._ledger.wished(self._batch.id))
        watching = [asyncio.create_task(self._watch())]
        if self._policy.gentle:
            watching.append(asyncio.create_task(self.pulse.run()))
        self._destination = destination
        for task in (*watching, *destination.working):
            task.add_done_callback(self._finished)  # nothing goes on that is not watched
        try:
            async with self.recorder:
                if said := await destination.resume(partial(standing, self._ledger, self._batch)):
                    await self.facts.tell("migrate.spool", said)
                ended = await self._run(destination)
                await asyncio.gather(*self._finishing)
        finally:
            for task in destination.working:
                task.remove_done_callback(self._finished)
            for task in watching:
                task.remove_done_callback(self._finished)
                task.cancel()
            results = await asyncio.gather(*watching, *self._finishing, return_exceptions=True)
            with contextlib.suppress(LedgerError):  # who is not heard of any more is taken to be away
                await self._ledger.away(self._batch.id, self._owner)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return ended

    async def _run(self, destination: Destination) -> Ended:
        delay = AWAY_S[0]
        while True:
            came = self.complete, self.objects
            error = await self._session(destination)
            if self.claims.ended or self._stopping or self._draining:
                break
            waits = self.established or error is None or isinstance(error, _HELD_UP)
            if error is not None and (isinstance(error, _FOR_GOOD) or not waits):
                self.error, self.why = error, str(error)
                return Ended.FAILED
            await self.facts.tell(waiting_for(error), f"{error or self._held_up()}; tried again in {delay:.0f} s")
            await self._sleep(delay)
            if self._stopping or self._draining:
                break
            delay = min(2 * delay, AWAY_S[1]) if came == (self.complete, self.objects) else AWAY_S[0]
        if self.why:
            return Ended.FAILED
        return Ended.STOPPED if self._stopping else Ended.DRAINED if self._draining else Ended.FINISHED

    async def _session(self, destination: Destination) -> FastmoveError | None:
        """One retrieve, as long as it goes well; what ended it before there was nothing left to do."""
        retrieve = self.retrieve = Retrieve(
            self.config,
            destination.target,
            host=self._address[0],
            port=self._address[1],
            notify=self._notify,
            on_stored=lambda notice: self._stored(destination, notice),
            on_unit=lambda unit: self._ended(destination, unit),
            on_began=self._began,
            inventory=self.claims,
            ready=(*self._ready, *destination.ready),
            source=partial(taken_on, self._ledger, self.claims, self.recorder, destination),
            commitments=self._reports,
            ending=self._ending,
        )
        self._allow()
        error: FastmoveError | None = None
        try:
            error = _ended_early(await retrieve.run())
        except FastmoveError as failed:
            error = failed
        self.established |= retrieve.established
        await asyncio.gather(*self._finishing)
        await self.facts.insist(self.claims.release)
        return error

    def _held_up(self) -> str:
        """Why a retrieve has ended although there is more to do, and no error says so."""
        if self.retrieve is not None and self.retrieve.unreached:
            return "nothing at all has come of several studies: perhaps the PACS does not reach us"
        return str(self.claims.error or "our own disk has refused something")

    async def _ending(self, result: RetrieveResult) -> None:
        """It is to end: what is in hand is concluded before our listener closes, as reports may come to that."""
        if (error := _ended_early(result)) is not None and self._finishing:
            await self.facts.tell(waiting_for(error), f"{error}; what is in hand is ended meanwhile")
        while self._finishing:
            await asyncio.gather(*self._finishing)

    def drain(self) -> None:
        """Take on nothing more, and end what is in hand."""
        self._draining = True
        self.claims.drain()
        self._wake.set()

    def stop(self) -> bool:
        """C-CANCEL what is under way, and end; True if one was sent.  A second call aborts."""
        self._stopping = True
        self.claims.drain()
        self._wake.set()
        if self._destination is not None:
            self._destination.stop()
        return self.retrieve is not None and self.retrieve.cancel()

    def interrupt(self, *, at_once: bool = False) -> str:
        """Somebody wants it to end: once more, and more urgently; how it ends then, in words."""
        if self._stopping:
            self.stop()
            return "at once"
        if self._draining or at_once:
            cancelled = self.stop()
            return "C-CANCEL sent, what is on its way is waited for; once more to abort" if cancelled else "at once"
        self.drain()
        return f"{len(self.claims.in_hand):,} studies are in hand, and are ended; once more to cancel them"

    @property
    def state(self) -> str:
        """What it is at, in words."""
        words = self.allowance.words
        return words if self.allowance.shut else ", ".join(filter(None, (f"{self.moves} moves under way", words)))

    # ------------------------------------------------------------------ what comes

    def _stored(self, destination: Destination, notice: InstanceStored) -> Future[None] | None:
        self.objects += 1
        self.nbytes += notice.nbytes
        busy = destination.stored(notice)
        wait = self.allowance.throttle.wait_s(time.monotonic(), notice.nbytes)
        return busy if wait <= 0 else later(busy, wait)

    def _began(self, seconds: float) -> None:
        """A move has brought its first object; under a ceiling we may have kept it waiting ourselves."""
        if not self.allowance.ceiling.has_rate:
            self.pulse.canary.first_object(time.monotonic(), seconds)

    def _ended(self, destination: Destination, unit: UnitResult) -> None:
        self.claims.moved(unit.wanted.study_instance_uid)
        task = asyncio.create_task(self._conclusions.conclude(destination, unit))
        self._finishing.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is None:
            self._finishing.discard(task)
        else:  # whoever runs the engine learns of it; what comes meanwhile is not lost
            self.stop()

    def _concluded(self, study: str, unit: UnitResult, decision: Decision, outcome: Outcome) -> None:
        state = decision.state
        self.complete += state is JobState.COMPLETE
        self.parked += state is JobState.PARKED
        self.tried_again += state is JobState.WAITING
        if self._notify is not None:
            told = (outcome.verdict, decision.reason_class, decision.reason, unit.stored or 0, decision.attempts)
            self._notify(StudyMigrated(study, state.value, *told))
        refused = outcome.status is not None and 0xA700 <= outcome.status < 0xA800
        if refused and decision.reason_class != "undelivered":
            self.pulse.canary.refused(time.monotonic())
        if decision.stops_run and not self.why:
            self.why = decision.reason
            self.stop()

    def _taken_over(self, studies: list[str]) -> None:
        for study in studies:
            self.facts.say("migrate.taken_over", "another host has taken this study over", study)

    # ------------------------------------------------------------------ what is allowed

    async def _watch(self) -> None:
        """The operator's wishes, the clock, our share, and our leases: again and again, whatever becomes of it."""
        renewed = -math.inf
        while True:
            allowance = self.allowance
            try:
                await self._heed(await self._ledger.wished(self._batch.id))
                if allowance.look():
                    await self.facts.tell("migrate.window", str(allowance.ceiling))
                if allowance.divided or time.monotonic() - renewed >= LEASE_S / 4:
                    at = (self._batch.id, self._owner, self.config.ae_title, self.moves, self._now())
                    await allowance.divide(await self._ledger.here(*at), self._allow)
                if time.monotonic() - renewed >= LEASE_S / 4:
                    renewed = time.monotonic()
                    await self.claims.renew()
                    await self._leave_to_others()
                trouble = self.recorder.error or self.claims.error or self.facts.trouble
                allowance.hindrance = "" if trouble is None else f"held up: {trouble}"
            except LedgerError as error:
                allowance.hindrance = f"held up: {error}"
                allowance.look()
                if allowance.divided:  # soon others may have what was ours
                    allowance.lose()
                    self._suspend()
            self._allow()
            if allowance.closed_at is not None and time.monotonic() - allowance.closed_at >= self._policy.closing_s:
                self._suspend()
            if self._draining and allowance.shut and (retrieve := self.retrieve) is not None and not self._finishing:
                retrieve.end_idle()  # what is in hand is not begun before a window opens: it is given back
            await asyncio.sleep(WATCH_S)

    async def _leave_to_others(self) -> None:
        """What is not begun, if we are to have no slot: there are more hosts than slots."""
        if self.allowance.crowded_out and self.retrieve is not None:
            await self.claims.give_back([each.study_instance_uid for each in self.retrieve.work.withdraw()])

    async def _heed(self, wish: Wish) -> None:
        self.allowance.paused = wish is Wish.PAUSE
        if wish is Wish.STOP and not self._stopping:
            self.stop()
            await self.facts.tell("migrate.stopping", "an operator wishes it to stop")
        elif wish is Wish.DRAIN and not self._draining:
            self.drain()
            await self.facts.tell("migrate.draining", "an operator wishes it to end with what is in hand")

    def _suspend(self) -> None:
        if self.retrieve is not None:
            self.retrieve.suspend()

    def _allow(self) -> None:
        self.claims.hold(self.allowance.shut)
        if self.retrieve is not None:
            self.retrieve.parallelism.allow(time.monotonic(), self.allowance.most)

    @property
    def moves(self) -> int:
        """Those under way."""
        return 0 if self.retrieve is None else self.retrieve.under_way

    @property
    def _begun(self) -> bool:
        """A study is in the midst of its moves."""
        return self.retrieve is not None and self.retrieve.work.under_way > 0

    def _ahead(self) -> int:
        free = self.retrieve is not None and not self.allowance.crowded_out
        return AHEAD * max(1, self._limit()) if free else 0

    def _study(self) -> str:
        """One that is being moved, if one is."""
        return next(iter(self.claims.in_hand), "") if self.moves and not self.allowance.shut else ""

    def _limit(self) -> int:
        return 0 if self.retrieve is None else self.retrieve.parallelism.limit

    def _suffering(self, why: str) -> None:
        self._allow()
        kind = "migrate.suffering" if why else "migrate.recovered"
        text = f"no more than {self.pulse.most} moves at once: {why}" if why else "the PACS answers as usual again"
        task = asyncio.create_task(self.facts.tell(kind, text))
        self._finishing.add(task)
        task.add_done_callback(self._finished)

    async def _sleep(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()


def _ended_early(result: RetrieveResult) -> FastmoveError | None:
    """What has ended a retrieve."""
    return result.error if isinstance(result.error, FastmoveError) else None
