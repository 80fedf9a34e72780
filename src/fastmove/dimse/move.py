"""C-MOVE as its SCU sees it: request, pending..., final (PS3.4 C.4.2); and the verdict on a whole move.

No counter of a response proves anything: the verdict weighs them against what is durable and, where there is
one, against the list of what was to come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence, Set
from enum import Enum
from typing import Final, NamedTuple

from fastmove.dimse.messages import CCancelRQ, CMoveRSP, Message
from fastmove.dimse.status import (
    OUT_OF_RESOURCES,
    PENDING,
    PROCESSING_FAILURE,
    UNABLE_TO_PROCESS,
    StatusClass,
    describe,
)
from fastmove.errors import DimseError, LocalProtocolError, RemoteProtocolError
from fastmove.values import Value

_COUNTER_RANGE: Final = 0x10000
"""Counters are US: a study of 70,000 instances makes them start again (PS3.7 E.1)."""


class Counters(NamedTuple):
    """Sub-operations by what became of them; None where the peer has not said."""

    remaining: int | None = None
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None


class Progress(NamedTuple):
    """A pending response; `advanced` if a counter moved."""

    counters: Counters
    advanced: bool


class Oddity(NamedTuple):
    """Something wrong in a response that does not end the move; `key` is the log event."""

    key: str
    detail: str


class MoveOutcome(Value):
    """The final response; `status` is None if it came without one.

    Completed, failed and warning are those of the last pending response where the final one is silent, and go
    beyond 65,535 where a counter was seen to start again.
    """

    status: int | None
    error_comment: str = ""
    completed: int | None = None
    failed: int | None = None
    warning: int | None = None
    remaining: int | None = None
    failed_sop_instance_uids: tuple[str, ...] = ()
    cancelled_by_us: bool = False

    @property
    def status_class(self) -> StatusClass:
        """The class of the status; none at all is a failure."""
        return StatusClass.FAILURE if self.status is None else describe(self.status, "C-MOVE")[0]


class Finished(NamedTuple):
    """The final response."""

    outcome: MoveOutcome


MoveEvent = Progress | Oddity | Finished


class MoveOperation:
    """One C-MOVE under way; `failed_list` reads the UIDs of a final response's identifier (DimseError if it cannot)."""

    def __init__(self, message_id: int, failed_list: Callable[[bytes], tuple[str, ...]]) -> None:
        self.message_id = message_id
        self.counters = Counters()
        self.announced = 0
        """Sub-operations that there are at least, by what has been counted so far."""
        self.outcome: MoveOutcome | None = None
        self.cancelled = False
        self._failed_list = failed_list

    def cancel(self) -> CCancelRQ:
        """The C-CANCEL-RQ to send (PS3.7 9.3.2.3); LocalProtocolError after the final response."""
        if self.outcome is not None:
            raise LocalProtocolError("the move has ended: nothing is left to cancel")
        self.cancelled = True
        return CCancelRQ(message_id_being_responded_to=self.message_id)

    def update(self, rsp: Message, identifier: bytes | None = None) -> list[MoveEvent]:
        """What a response means; RemoteProtocolError if it is none to this request, or comes after the final one."""
        if not isinstance(rsp, CMoveRSP):
            raise RemoteProtocolError("move.protocol", f"command field {rsp.command_field:#x} instead of C-MOVE-RSP")
        if rsp.message_id_being_responded_to != self.message_id:
            detail = f"response to message {rsp.message_id_being_responded_to}, not {self.message_id}"
            raise RemoteProtocolError("move.protocol", detail)
        if self.outcome is not None:
            raise RemoteProtocolError("move.after_final")
        events: list[MoveEvent] = []
        previous, self.counters = self.counters, self._count(rsp, events)
        self.announced = max(self.announced, self.counters.remaining or 0)
        unsaid = rsp.number_of_completed_suboperations is None and bool(previous.remaining)
        if rsp.status == PENDING:  # and no other: FF01 is for C-FIND (PS3.4 Table C.4-2)
            if rsp.has_dataset:
                events.append(Oddity("move.pending_dataset", f"{len(identifier or b'')} bytes, not read"))
            if (rsp.error_comment, rsp.error_id, rsp.offending_element) != (None, None, None):
                events.append(Oddity("move.pending_detail", rsp.error_comment or ""))
            return [*events, Progress(self.counters, self.counters != previous)]
        over = self.counters._replace(remaining=rsp.number_of_remaining_suboperations)
        self.announced = max(self.announced, sum(number or 0 for number in over))
        self.outcome = MoveOutcome(
            status=rsp.status,
            error_comment=rsp.error_comment or "",
            # Silent at the end, with some still to come before: what became of those nobody said.
            completed=None if unsaid else self.counters.completed,
            failed=self.counters.failed,
            warning=self.counters.warning,
            remaining=rsp.number_of_remaining_suboperations,
            failed_sop_instance_uids=self._failed_uids(identifier, events),
            cancelled_by_us=self.cancelled,
        )
        return [*events, Finished(self.outcome)]

    def _count(self, rsp: CMoveRSP, events: list[MoveEvent]) -> Counters:
        def total(name: str, before: int | None, now: int | None) -> int | None:
            if before is None or now is None:
                return before if now is None else now
            change = now - before % _COUNTER_RANGE
            if change < -_COUNTER_RANGE // 2:
                events.append(Oddity("move.counter_wrap", f"{name} started again at {now}"))
                change += _COUNTER_RANGE
            elif change < 0:
                events.append(Oddity("move.counter_conflict", f"{name} went back by {-change} to {now}"))
            return before + change

        last = self.counters
        remaining = rsp.number_of_remaining_suboperations
        return Counters(
            last.remaining if remaining is None else remaining,
            total("completed", last.completed, rsp.number_of_completed_suboperations),
            total("failed", last.failed, rsp.number_of_failed_suboperations),
            total("warning", last.warning, rsp.number_of_warning_suboperations),
        )

    def _failed_uids(self, identifier: bytes | None, events: list[MoveEvent]) -> tuple[str, ...]:
        if not identifier:
            return ()
        try:
            return self._failed_list(identifier)
        except DimseError as error:
            events.append(Oddity("move.failed_list", error.error_comment))
            return ()


class Loss(Enum):
    """Why there is no final response; the value is the log event."""

    ASSOCIATION_LOST = "move.association_lost"
    PROTOCOL = "move.protocol"
    TIMED_OUT = "move.timeout"
    CANCEL_IGNORED = "move.cancel_ignored"
    STALLED = "move.stalled"
    STOPPED = "stop.signal"


class Verdict(Enum):
    """What can be said of a whole move once it is over, objects still arriving afterwards included."""

    COMPLETE = "every expected instance is durable"
    COUNTED = "no list, but the counters agree with what is durable"
    UNVERIFIED = "neither list nor counters"
    CANCELLED = "cancelled by us"
    WARNING = "finished with a warning"
    REFUSED = "refused, failed or cancelled by the peer"
    INCOMPLETE = "the peer reported success, but instances are missing"
    UNKNOWN = "no final response"
    STALLED = "no progress"
    POLICY = "instances refused by our own rules"
    STORAGE_FAILED = "instances that could not be written"


UNPROVED: Final = frozenset((Verdict.COUNTED, Verdict.UNVERIFIED))
"""Successes that rest on what the PACS counts, or on its word alone."""


class Evidence(Value):
    """What is known when a move is over; sets are SOP Instance UIDs, numbers count instances.

    `stored` are the durable ones, those that were there before included; None if the move went to a third party.
    `expected` is the list (C-FIND); None if there is none. The other numbers count what was not put right later.
    """

    outcome: MoveOutcome | None
    stored: Set[str] | None
    expected: Set[str] | None = None
    arrivals: int = 0
    """Objects that came and were acknowledged; one that came twice counts twice, as it does for the peer."""
    loss: Loss = Loss.ASSOCIATION_LOST
    storage_failures: int = 0
    policy_refusals: int = 0
    oversized: int = 0
    rejected: int = 0
    differing: int = 0
    announced: int = 0
    """Sub-operations that there were at least, by what the responses counted."""
    strays: int = 0
    """Objects that came with the others and are of another study; the peer counts them all the same."""

    @property
    def missing(self) -> frozenset[str]:
        """Expected and not stored; empty where that cannot be known."""
        return frozenset() if self.expected is None or self.stored is None else frozenset(self.expected - self.stored)

    @property
    def proved(self) -> bool:
        """True if the list says that everything is durable."""
        return self.expected is not None and self.stored is not None and self.expected <= self.stored

    @property
    def delivered(self) -> int | None:
        """Sub-operations that the peer says reached the destination; None if it did not say."""
        if self.outcome is None or self.outcome.completed is None:
            return None
        return self.outcome.completed + (self.outcome.warning or 0)

    @property
    def ended(self) -> StatusClass | None:
        """The class of the final status; None without a final response."""
        return None if self.outcome is None else self.outcome.status_class

    @property
    def exhausted(self) -> bool:
        """True if the peer was out of resources: later it may not be (PS3.4 Table C.4-2)."""
        status = None if self.outcome is None else self.outcome.status
        return status is not None and status & 0xFF00 == OUT_OF_RESOURCES

    @property
    def unable(self) -> bool:
        """True if the peer was unable to process the move: that may be for a single object that it cannot read."""
        status = None if self.outcome is None else self.outcome.status
        return status is not None and (status == PROCESSING_FAILURE or status & 0xF000 == UNABLE_TO_PROCESS)

    @property
    def failed_over(self) -> bool:
        """True if the peer failed over some of what it was asked for, and may have left out what was to follow."""
        if self.outcome is None or self.exhausted:
            return False
        if self.ended is StatusClass.FAILURE:
            return self.unable or self.arrivals > 0
        return self.fine and bool(self.outcome.failed)

    @property
    def fine(self) -> bool:
        """True if the final status claims that the objects were sent."""
        return self.ended in (StatusClass.SUCCESS, StatusClass.WARNING)


class Judgement(NamedTuple):
    """The verdict, the log events that explain it (the decisive one first), and what the list says is missing."""

    verdict: Verdict
    reasons: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()


class _Rule(NamedTuple):
    verdict: Verdict
    reason: str
    applies: Callable[[Evidence], bool]
    unless_proved: bool = False


def _lost(loss: Loss) -> Callable[[Evidence], bool]:
    return lambda e: e.outcome is None and e.loss is loss


def _more_delivered_than_stored(e: Evidence) -> bool:
    if not e.fine or e.stored is None:
        return False
    came = max(len(e.stored), e.arrivals)
    # Without a list a stray may have come in place of one of ours.
    return (e.delivered or 0) > (came + e.strays if e.proved else came)


def _less_delivered_than_expected(e: Evidence) -> bool:
    return e.fine and e.stored is None and e.delivered is not None and e.delivered < len(e.expected or ())


def _counters_conflict(e: Evidence) -> bool:
    outcome = e.outcome
    return outcome is not None and e.ended is StatusClass.SUCCESS and bool(outcome.failed or outcome.remaining)


def _cancelled(e: Evidence, by_us: bool) -> bool:
    return e.outcome is not None and e.ended is StatusClass.CANCEL and e.outcome.cancelled_by_us is by_us


def _less_delivered_than_stored(e: Evidence) -> bool:
    return e.fine and e.stored is not None and e.delivered is not None and e.delivered < len(e.stored)


def _failed_but_stored(e: Evidence) -> bool:
    named = () if e.outcome is None else e.outcome.failed_sop_instance_uids
    return e.fine and e.stored is not None and not e.stored.isdisjoint(named)


# The first rule that applies gives the verdict, all that apply give reasons; one that gives way to a proof is still
# a reason.  The gravest come first, and success only to those whose final status claims it.
_RULES: Final = (
    _Rule(Verdict.STORAGE_FAILED, "move.storage_failed", lambda e: e.storage_failures > 0),
    _Rule(Verdict.STORAGE_FAILED, "store.too_big", lambda e: e.oversized > 0),
    _Rule(Verdict.POLICY, "move.policy", lambda e: e.policy_refusals > 0),
    _Rule(Verdict.STALLED, Loss.STALLED.value, _lost(Loss.STALLED)),
    *(_Rule(Verdict.UNKNOWN, loss.value, _lost(loss)) for loss in Loss if loss is not Loss.STALLED),
    _Rule(Verdict.INCOMPLETE, "move.incomplete", lambda e: e.fine and bool(e.missing)),
    _Rule(Verdict.INCOMPLETE, "move.incomplete", _more_delivered_than_stored),
    _Rule(Verdict.INCOMPLETE, "move.incomplete", _less_delivered_than_expected),
    _Rule(Verdict.INCOMPLETE, "move.counter_conflict", _counters_conflict, unless_proved=True),
    _Rule(Verdict.INCOMPLETE, "move.rejected", lambda e: e.fine and e.rejected > 0, unless_proved=True),
    _Rule(Verdict.REFUSED, "move.refused", lambda e: e.ended in (StatusClass.FAILURE, StatusClass.PENDING)),
    _Rule(Verdict.REFUSED, "move.cancelled_by_peer", lambda e: _cancelled(e, by_us=False)),
    _Rule(Verdict.WARNING, "move.warning", lambda e: e.ended is StatusClass.WARNING, unless_proved=True),
    _Rule(Verdict.WARNING, "store.duplicate_differs", lambda e: e.differing > 0),
    _Rule(Verdict.CANCELLED, "move.cancelled", lambda e: _cancelled(e, by_us=True)),
    _Rule(Verdict.COMPLETE, "", lambda e: e.fine and e.proved),
    _Rule(Verdict.UNVERIFIED, "move.unverified", lambda e: e.fine and e.delivered is None and not e.proved),
    _Rule(Verdict.COUNTED, "move.empty", lambda e: e.fine and e.delivered == 0 and not e.stored),
    _Rule(Verdict.COUNTED, "move.counter_low", _less_delivered_than_stored),
    _Rule(Verdict.COUNTED, "move.failed_but_stored", _failed_but_stored),
    _Rule(Verdict.COUNTED, "", lambda e: e.fine),
)


def judge(evidence: Evidence) -> Judgement:
    """The verdict on a move that is over, its drain time included."""
    applying = [rule for rule in _RULES if rule.applies(evidence)]
    decisive = next(rule for rule in applying if not (rule.unless_proved and evidence.proved))
    reasons = dict.fromkeys(rule.reason for rule in (decisive, *applying) if rule.reason)
    return Judgement(decisive.verdict, tuple(reasons), evidence.missing)


GRAVEST_FIRST: Final = (
    Verdict.STORAGE_FAILED,
    Verdict.POLICY,
    Verdict.STALLED,
    Verdict.UNKNOWN,
    Verdict.INCOMPLETE,
    Verdict.REFUSED,
    Verdict.WARNING,
    Verdict.CANCELLED,
    Verdict.UNVERIFIED,
    Verdict.COUNTED,
    Verdict.COMPLETE,
)
"""Of several verdicts the first of these counts."""

_OVERRIDDEN: Final = frozenset((Verdict.STALLED, Verdict.UNKNOWN, Verdict.REFUSED, Verdict.CANCELLED))
"""How a move may have ended of which no more is needed, as everything on the list is durable."""


def judge_unit(moves: Sequence[Evidence], stored: Set[str] | None, expected: Set[str] | None) -> Judgement:
    """The verdict on what several moves were to bring together; `moves` are those of the last round, if any was needed.

    Where there is a list, it decides: what was asked for again has no say any more.
    """
    missing = frozenset() if expected is None or stored is None else frozenset(expected - stored)
    proved = expected is not None and stored is not None and not missing
    judgements = [judge(_credited(e, stored)) for e in moves]
    verdicts = {j.verdict for j in judgements if not (proved and j.verdict in _OVERRIDDEN)}
    reasons = dict.fromkeys(reason for j in judgements for reason in j.reasons)
    if proved and verdicts <= {Verdict.COUNTED, Verdict.UNVERIFIED, Verdict.COMPLETE}:
        return Judgement(Verdict.COMPLETE, tuple(reasons))
    verdict = next((v for v in GRAVEST_FIRST if v in verdicts), Verdict.UNKNOWN)
    if missing and verdict in (Verdict.COMPLETE, Verdict.COUNTED, Verdict.UNVERIFIED):
        verdict = Verdict.INCOMPLETE
        reasons["move.incomplete"] = None
    return Judgement(verdict, tuple(reasons), missing)


def _credited(move: Evidence, stored: Set[str] | None) -> Evidence:
    """What a move was to bring may have come by another."""
    if move.stored is None or stored is None or move.expected is None:
        return move
    return move.replace(stored=move.stored | (stored & move.expected))
