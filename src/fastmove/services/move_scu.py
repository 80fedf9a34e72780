"""Move SCU: one C-MOVE over an association, from its request to what can be said of it (PS3.4 C.4.2, PS3.7 9.1.4)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence

from fastmove.dimse import identifier
from fastmove.dimse.messages import CMoveRQ, Message, decode
from fastmove.dimse.move import (
    Evidence,
    Loss,
    MoveEvent,
    MoveOperation,
    MoveOutcome,
    Oddity,
    Progress,
)
from fastmove.dimse.status import StatusClass
from fastmove.errors import TimedOut
from fastmove.limits import Limits
from fastmove.net.mailbox import Received
from fastmove.net.requestor import AssociationHandle
from fastmove.notices import CancelSent, MoveProgressed, Observer, PeerMisbehaved
from fastmove.services.query_scu import IDENTIFIER_TRANSFER_SYNTAXES
from fastmove.services.receipts import Receipts
from fastmove.types import PresentationContext, ProposedContext
from fastmove.uids import QUERY_RETRIEVE
from fastmove.ul.negotiation import contexts_for


def move_contexts(model: str, *, with_find: bool = False) -> tuple[ProposedContext, ...]:
    """What is proposed for the C-MOVEs of an information model, and for its C-FINDs."""
    classes = QUERY_RETRIEVE[model]
    return contexts_for([classes.move, *([classes.find] if with_find else [])], IDENTIFIER_TRANSFER_SYNTAXES)


class Move:
    """One C-MOVE; `receipts` are those of our own listener, None if the objects go to a third party.

    `expected` are the SOP Instance UIDs that are to come, None while nobody knows; `cancel_after`
    that many Pending responses it is cancelled, 0: never.  If we are `trusting`, nothing is expected
    of a PACS that has sent nothing, and has not said that it did.  `on_message` is shown the request and the
    responses: ID of the presentation context, message, identifier; `on_started` is told the Message ID.
    """

    def __init__(
        self,
        receipts: Receipts | None,
        limits: Limits,
        notify: Observer | None = None,
        *,
        cancel_after: int = 0,
        trusting: bool = False,
        on_message: Callable[[int, Message, bytes | None], None] | None = None,
        on_started: Callable[[int], None] | None = None,
    ) -> None:
        self.receipts = receipts
        self.limits = limits
        self.expected: frozenset[str] | None = None
        self.loss = Loss.ASSOCIATION_LOST
        self.operation: MoveOperation | None = None
        self._notify = notify
        self._cancel_after = cancel_after
        self._trusting = trusting
        self._on_message = on_message
        self._on_started = on_started
        self._pending = 0
        self._association: AssociationHandle | None = None
        self._context_id = 0
        self._patience: asyncio.TimerHandle | None = None
        self._stopped = False
        self._ended_at = 0.0

    @property
    def outcome(self) -> MoveOutcome | None:
        """The final response, if it has come."""
        return None if self.operation is None else self.operation.outcome

    # ------------------------------------------------------------------ the exchange

    async def ask(
        self, association: AssociationHandle, model: str, level: str, keys: Sequence[str], destination: str
    ) -> MoveOutcome:
        """`exchange` of an identifier with these keys; ConfigurationError if they cannot be asked for, too."""
        context = association.context(QUERY_RETRIEVE[model].move)
        wanted = identifier.retrieve(keys, model=model, level=level)
        return await self.exchange(
            association, context, destination, identifier.encode(wanted, context.transfer_syntax)
        )

    async def exchange(
        self, association: AssociationHandle, context: PresentationContext, destination: str, request: bytes
    ) -> MoveOutcome:
        """Send the C-MOVE-RQ with this identifier, and follow the responses to the final one.

        TimedOut, and the association is aborted, if there is no sign of life: a response or a
        stored object.  AssociationError and RemoteProtocolError as they happen.
        """

        def failed_list(data: bytes) -> tuple[str, ...]:
            return identifier.failed_sop_instance_uids(data, context.transfer_syntax)

        operation = self.operation = MoveOperation(association.next_message_id(), failed_list)
        self._association, self._context_id = association, context.context_id
        if self._on_started is not None:
            self._on_started(operation.message_id)
        command = CMoveRQ(
            message_id=operation.message_id,
            affected_sop_class_uid=context.abstract_syntax,
            move_destination=destination,
        )
        if self._on_message is not None:
            self._on_message(context.context_id, command, request)
        try:
            association.send(context.context_id, command.encode(), request)
            progressed = time.monotonic()
            while operation.outcome is None:
                received = await self._response(association, progressed)
                if any(self._tell(received, event) for event in self.update(received)):
                    progressed = time.monotonic()
            return operation.outcome
        finally:
            self._association = None
            if self._patience is not None:
                self._patience.cancel()

    def update(self, received: Received) -> list[MoveEvent]:
        """What a response means; RemoteProtocolError if it is none to this request, or comes after the final one."""
        assert self.operation is not None
        return self.operation.update(decode(received.command.data), received.dataset)

    async def _response(self, association: AssociationHandle, progressed: float) -> Received:
        limits = self.limits
        asked = time.monotonic()
        while True:
            stored = 0.0 if self.receipts is None else self.receipts.alive_at
            deadline, loss = min(
                (max(asked, stored) + limits.response_s, Loss.TIMED_OUT),
                (max(progressed, stored) + limits.progress_s, Loss.STALLED),
                key=lambda each: each[0],
            )
            left = deadline - time.monotonic()
            if left <= 0:
                self.loss = loss
                association.abort(loss.value)
                raise TimedOut(loss.value, deadline - asked)
            with contextlib.suppress(TimedOut):
                return await association.receive(left)

    def _tell(self, received: Received, event: MoveEvent) -> bool:
        """Pass it on; True if a counter moved."""
        if isinstance(event, Oddity):
            self._remark(event)
        elif self._on_message is not None:
            self._on_message(received.command.pc_id, decode(received.command.data), received.dataset)
        if not isinstance(event, Progress):
            return False
        if self._notify is not None:
            c = event.counters
            self._notify(MoveProgressed(received.command.status, c.remaining, c.completed, c.failed, c.warning))
        self._pending += 1
        if self._pending == self._cancel_after:
            self.cancel()
        return event.advanced

    def _remark(self, oddity: Oddity) -> None:
        if self._notify is not None and self._association is not None:
            host = self._association.connection.host
            self._notify(PeerMisbehaved(0, host, oddity.key, oddity.detail))

    # ------------------------------------------------------------------ cancelling

    def cancel(self) -> bool:
        """C-CANCEL, True if it was sent; the move then ends with its final response, or after `drain_s`.

        False where there is nothing to cancel yet, or any more, or it was cancelled before.
        """
        operation, association = self.operation, self._association
        if operation is None or association is None or operation.outcome is not None or operation.cancelled:
            return False
        if self._notify is not None:
            self._notify(CancelSent(operation.message_id, self._context_id))
        association.send(self._context_id, operation.cancel().encode())
        self._patience = asyncio.get_running_loop().call_later(self.limits.drain_s, self._cancel_ignored)
        return True

    def _cancel_ignored(self) -> None:
        if self._association is not None:
            self.loss = Loss.CANCEL_IGNORED
            self._association.abort("C-CANCEL was ignored")

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stopped = True
        if self.receipts is not None:
            self.receipts.wake()

    # ------------------------------------------------------------------ afterwards

    async def drain(self, *, while_open: bool = False) -> bool:
        """Wait for objects that are on their way when there are no more responses (PS3.4 C.4.2.3).

        Some PACS answer before they send, and after an abort it is undefined what is still sent.  False if it was only
        waited for `while_open`: something has come, no association is open that could bring more, and yet more is due.
        """
        receipts, limits, outcome = self.receipts, self.limits, self.outcome
        if receipts is None or self.operation is None:  # nothing was asked for
            return True
        uncounted = self.expected is None and (outcome.completed is None if outcome is not None else self._trusting)
        ended = self._ended_at = self._ended_at or time.monotonic()
        while not self._stopped and not self._arrived(receipts, outcome):
            quiet_since = max(ended, receipts.alive_at)
            deadline = quiet_since + limits.drain_s
            if uncounted and (receipts.stored or self._trusting) and not receipts.associations:
                # Where nobody counts, silence after the last association has to do.
                deadline = min(deadline, max(quiet_since, receipts.closed_at) + limits.uncounted_s)
            left = deadline - time.monotonic()
            if left <= 0:
                return True
            if while_open and receipts.objects and not receipts.associations:
                return False
            await receipts.news(left)
        return True

    def _arrived(self, receipts: Receipts, outcome: MoveOutcome | None) -> bool:
        """True if nothing more is to come, as far as list, counters and open associations tell."""
        expected = self.expected
        if expected is not None and expected <= receipts.stored:
            return True
        if outcome is None:
            return False
        given_up = outcome.status_class not in (StatusClass.SUCCESS, StatusClass.WARNING)
        counted = outcome.completed is not None
        delivered = (outcome.completed or 0) + (outcome.warning or 0)
        # A PACS may keep its storage association open for reuse: the counter is enough if it fits.  What we refused,
        # some count as sent.
        fits = counted and delivered > 0 and delivered in (receipts.objects, receipts.objects + receipts.refused)
        if expected is not None:
            # What the PACS itself has given up is not on its way.
            given_up = given_up or (outcome.failed or 0) >= len(expected - receipts.stored)
            return given_up and (fits or not receipts.associations)
        if not counted:
            return given_up and not receipts.associations
        return fits or (receipts.objects + receipts.refused >= delivered and not receipts.associations)

    def evidence(self) -> Evidence:
        """What is known now."""
        receipts = self.receipts or Receipts()
        return Evidence(
            outcome=self.outcome,
            stored=None if self.receipts is None else receipts.stored,
            expected=self.expected,
            arrivals=receipts.objects,
            loss=self.loss,
            differing=receipts.differing,
            announced=0 if self.operation is None else self.operation.announced,
            strays=receipts.strays,
            **receipts.refusals,
        )
