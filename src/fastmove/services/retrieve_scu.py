"""Retrieve SCU: C-MOVE, what it brings, and what can be said of it in the end (PS3.4 C.4.2, PS3.7 9.1.4)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable

from fastmove.dimse import identifier
from fastmove.dimse.messages import CMoveRQ, decode
from fastmove.dimse.move import (
    Evidence,
    Judgement,
    Loss,
    MoveOperation,
    MoveOutcome,
    Oddity,
    Progress,
    judge,
)
from fastmove.dimse.status import StatusClass
from fastmove.errors import AssociationError, NoAcceptedContext, RemoteProtocolError, TimedOut
from fastmove.limits import Limits
from fastmove.net.mailbox import Received
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import InstanceStored, ListenerStarted, MoveProgressed, Observer, PeerMisbehaved
from fastmove.services.listener import listen
from fastmove.services.query_scu import IDENTIFIER_TRANSFER_SYNTAXES, instances
from fastmove.services.receipts import Receipts
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.uids import QUERY_RETRIEVE
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from fastmove.values import Value


class RetrieveConfig(Value):
    """What to ask of whom, and where it is to go."""

    peer: PeerAddress
    keys: tuple[str, ...]
    """Query keys, `StudyInstanceUID=1.2.3` or `0020,000D=1.2.3`."""

    ae_title: str = "FASTMOVE"
    """Ours: the calling AE title."""

    move_destination: str = ""
    """The AE title that the PACS sends to; empty: ours."""

    model: str = "study"
    level: str | None = None
    """PATIENT, STUDY, SERIES or IMAGE; None: the deepest whose unique key is given."""

    prove: bool = False
    """Ask for the list of instances first (C-FIND), so that the verdict rests on UIDs and not on counters."""

    limits: Limits = Limits()


class RetrieveResult(Value):
    """The verdict on one move, and what it rests on."""

    judgement: Judgement
    evidence: Evidence
    seconds: float
    """From the C-MOVE-RQ to the last response or object."""

    first_object_s: float | None
    """From the C-MOVE-RQ to the first stored object."""

    error: Exception | None = None
    """Why there is no final response."""


class Retrieve:
    """One C-MOVE, from request to verdict; `cancel` may be called at any time.

    With a `target` it listens on `host` and `port` as long as it runs and stores what comes;
    without one the PACS sends to a third party.  ConfigurationError if the keys are no request.
    """

    def __init__(
        self,
        config: RetrieveConfig,
        target: StorageTarget | None = None,
        *,
        host: str = "",
        port: int = 0,
        notify: Observer | None = None,
        on_stored: Callable[[InstanceStored], None] | None = None,
    ) -> None:
        self.config = config
        self.established = False
        self.receipts = None if target is None else Receipts(notify, on_stored)
        self._storage = target
        self._address = host, port
        self._notify = notify
        self._target = identifier.retrieve(config.keys, model=config.model, level=config.level)
        self._operation: MoveOperation | None = None
        self._association: AssociationHandle | None = None
        self._context_id = 0
        self._patience: asyncio.TimerHandle | None = None
        self._loss = Loss.ASSOCIATION_LOST
        self._exchanging: asyncio.Future[None] | None = None
        self._stopped = False
        self._started = 0.0
        self._expected: frozenset[str] | None = None
        if self.receipts is not None:
            self.receipts.originator = config.ae_title

    def cancel(self) -> bool:
        """C-CANCEL, True if it was sent; the move then ends with its final response, or after `drain_s`.

        A second call aborts; so does the first where there is nothing to cancel yet, or any more.
        """
        operation, association = self._operation, self._association
        moving = operation is not None and association is not None and operation.outcome is None
        if not moving or operation is None or association is None or operation.cancelled:
            self._stop()
            return False
        association.send(self._context_id, operation.cancel().encode())
        loop = asyncio.get_running_loop()
        self._patience = loop.call_later(self.config.limits.drain_s, self._cancel_ignored)
        return True

    def _stop(self) -> None:
        self._stopped = True
        if self._exchanging is not None:
            self._loss = Loss.STOPPED
            self._exchanging.cancel()
        if self.receipts is not None:
            self.receipts.wake()

    def _cancel_ignored(self) -> None:
        if self._association is not None:
            self._loss = Loss.CANCEL_IGNORED
            self._association.abort("C-CANCEL was ignored")

    async def run(self) -> RetrieveResult:
        """Listen, associate, move, wait for what is still on its way, judge.

        Raises ListenFailed, AssociationError if there was no association to begin with,
        ConfigurationError.
        """
        receipts = self.receipts
        if self._storage is None or receipts is None:
            return await self._run()
        config = self.config
        policy = AcceptPolicy(config.move_destination or config.ae_title, max_pdu_length=config.limits.max_pdu_length)
        async with listen(
            *self._address, self._storage, policy, config.limits, receipts, receipts.on_stored
        ) as acceptor:
            if self._notify is not None:
                self._notify(ListenerStarted(acceptor.host, acceptor.port, 1))
            return await self._run()

    async def _run(self) -> RetrieveResult:
        self._started = time.monotonic()
        error: Exception | None = None
        self._exchanging = asyncio.ensure_future(self._exchange())
        try:
            await self._exchanging
        except NoAcceptedContext:
            raise
        except (AssociationError, RemoteProtocolError) as lost:
            if not self.established:
                raise
            # With a final response in hand, a release that goes wrong changes nothing (T06).
            error = lost
            if isinstance(lost, RemoteProtocolError):
                self._loss = Loss.PROTOCOL
        except asyncio.CancelledError:
            if not self._stopped:
                raise
            error = AssociationError("stopped")
        finally:
            self._association = self._exchanging = None
            if self._patience is not None:
                self._patience.cancel()
        outcome = None if self._operation is None else self._operation.outcome
        await self._drain(outcome)
        ended = time.monotonic()
        receipts = self.receipts or Receipts()
        evidence = Evidence(
            outcome=outcome,
            stored=None if self.receipts is None else receipts.stored,
            expected=self._expected,
            arrivals=receipts.objects,
            loss=self._loss,
            differing=receipts.differing,
            **receipts.refusals,
        )
        first = receipts.first_at - self._started if receipts.stored else None
        return RetrieveResult(judge(evidence), evidence, ended - self._started, first, error)

    async def _exchange(self) -> None:
        """The move association, from beginning to end."""
        config = self.config
        model = QUERY_RETRIEVE[config.model]
        contexts = contexts_for([model.move, *([model.find] if config.prove else [])], IDENTIFIER_TRANSFER_SYNTAXES)
        request = propose(config.ae_title, config.peer.ae_title, contexts, max_pdu_length=config.limits.max_pdu_length)
        async with associate(config.peer, request, config.limits, self._notify) as association:
            self.established = True
            self._association = association
            if config.prove:
                self._expected = await instances(association, self._target, config.model)
                if self.receipts is not None:
                    self.receipts.expected = self._expected or frozenset()
                self._started = time.monotonic()
            await self._move(association)

    async def _move(self, association: AssociationHandle) -> None:
        config = self.config
        context = association.context(QUERY_RETRIEVE[config.model].move)
        self._context_id = context.context_id

        def failed_list(data: bytes) -> tuple[str, ...]:
            return identifier.failed_sop_instance_uids(data, context.transfer_syntax)

        operation = self._operation = MoveOperation(association.next_message_id(), failed_list)
        request = CMoveRQ(
            message_id=operation.message_id,
            affected_sop_class_uid=context.abstract_syntax,
            move_destination=config.move_destination or config.ae_title,
        )
        association.send(context.context_id, request.encode(), identifier.encode(self._target, context.transfer_syntax))
        progressed = time.monotonic()
        while operation.outcome is None:
            received = await self._response(association, progressed)
            for event in operation.update(decode(received.command.data), received.dataset):
                if isinstance(event, Progress):
                    if event.advanced:
                        progressed = time.monotonic()
                    self._tell_progress(received.command.status, event)
                elif isinstance(event, Oddity):
                    self._remark(event.key, event.detail)
        await association.release(lambda late: operation.update(decode(late.command.data), late.dataset))

    async def _response(self, association: AssociationHandle, progressed: float) -> Received:
        """The next response, as long as there is any sign of life: a response or a stored object."""
        limits = self.config.limits
        asked = time.monotonic()
        while True:
            stored = 0.0 if self.receipts is None else self.receipts.last_at
            deadline, loss = min(
                (max(asked, stored) + limits.response_s, Loss.TIMED_OUT),
                (max(progressed, stored) + limits.progress_s, Loss.STALLED),
                key=lambda each: each[0],
            )
            left = deadline - time.monotonic()
            if left <= 0:
                self._loss = loss
                association.abort(loss.value)
                raise TimedOut(loss.value, deadline - asked)
            with contextlib.suppress(TimedOut):
                return await association.receive(left)

    async def _drain(self, outcome: MoveOutcome | None) -> None:
        """Wait for objects that are on their way when the move association is over (PS3.4 C.4.2.3).

        Some PACS answer before they send, and after an abort it is undefined what is still sent.
        """
        receipts = self.receipts
        if receipts is None:
            return
        limits = self.config.limits
        uncounted = outcome is not None and outcome.completed is None and self._expected is None
        ended = time.monotonic()
        while not self._stopped and not self._arrived(receipts, outcome):
            quiet_since = max(ended, receipts.last_at)
            deadline = quiet_since + limits.drain_s
            if uncounted and receipts.stored and receipts.open_associations == 0:
                # Where nobody counts, silence after the last association has to do.
                deadline = min(deadline, max(quiet_since, receipts.closed_at) + limits.uncounted_s)
            left = deadline - time.monotonic()
            if left <= 0:
                return
            await receipts.news(left)

    def _arrived(self, receipts: Receipts, outcome: MoveOutcome | None) -> bool:
        """True if nothing more is to come, as far as list, counters and open associations tell."""
        expected = self._expected
        if expected is not None and expected <= receipts.stored:
            return True
        if outcome is None:
            return False
        given_up = outcome.status_class not in (StatusClass.SUCCESS, StatusClass.WARNING)
        if expected is not None:
            # What the PACS itself has given up is not on its way.
            failed = outcome.failed or 0
            return receipts.open_associations == 0 and (given_up or failed >= len(expected - receipts.stored))
        if outcome.completed is None:
            return given_up and receipts.open_associations == 0
        # A PACS may keep its storage association open for reuse: the counter is enough if it fits.
        delivered = outcome.completed + (outcome.warning or 0)
        have = receipts.objects
        return have >= delivered and ((have == delivered and have > 0) or receipts.open_associations == 0)

    def _tell_progress(self, status: int, event: Progress) -> None:
        if self._notify is not None:
            c = event.counters
            self._notify(MoveProgressed(status, c.remaining, c.completed, c.failed, c.warning))

    def _remark(self, key: str, detail: str) -> None:
        if self._notify is not None:
            self._notify(PeerMisbehaved(0, self.config.peer.host, key, detail))
