"""What becomes of a study after an attempt: it is complete, it waits for another one, or it is parked for people.

An attempt that brought something is no failure: the count of those that did not starts anew.  Nor is one that says
nothing of the study, as we ended it ourselves, or as every other one would have ended the same way.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Final, NamedTuple

from fastmove.errors import REJECT_RESULT, NoAcceptedContext
from fastmove.ledger.model import JobState
from fastmove.services.retrieve.unit import UnitResult
from fastmove.values import Value

SHOWN: Final = 2
"""Of the objects that are missing, in a sentence."""


class Decision(Value):
    """What becomes of a study."""

    state: JobState
    reason_class: str = ""
    """The key of its class; empty if it is complete."""

    reason: str = ""
    """The same for people, with figures."""

    delay_s: float = 0.0
    """How long it waits at least."""

    stops_run: bool = False
    """Nothing else should be taken up: it would end the same way."""

    attempts: int = 0
    """How many in a row have brought nothing so far; the next one is one more."""


class _Case(NamedTuple):
    """What is looked at of an attempt."""

    verdict: str
    reasons: frozenset[str] = frozenset()
    """The log events that explain it."""

    responded: bool = False
    """There was a final response..."""

    status: int | None = None
    """... with this status."""

    failed: int | None = None
    """Sub-operations that the PACS says have failed."""

    found: bool = True
    """The PACS has something of it."""

    error: str = ""
    """The text of what ended it without a response."""

    unrecorded: int = 0
    """Objects that came and are not in the ledger."""

    undelivered: str = ""
    """Why the destination has not proved that it has all of it."""

    stopped: bool = False
    """We have waited no longer for that."""

    def ended_with(self, *ranges: tuple[int, int]) -> bool:
        """True if the final status is one of these."""
        return self.status is not None and any(first <= self.status <= last for first, last in ranges)

    def lost_by(self, error: str) -> bool:
        """True if there is no final response for an error that begins so."""
        return not self.responded and self.error.startswith(error)


class RetryClass(Value):
    """Outcomes of the same cause."""

    key: str
    words: str
    attempts: int | None
    """So many in a row that brought nothing, and it is parked; None: they do not count, and it never is."""

    first_s: float
    """How long it waits after the first..."""

    factor: float
    """... so many times as long after each further one..."""

    longest_s: float
    """... and at most so long."""

    applies: Callable[[_Case], bool]
    """Which outcomes they are."""

    stops_run: bool = False
    """Everything else would end the same way."""

    failures: int | None = None
    """For so many failures of the PACS the last attempt stands at least: after one, what is missing is asked for in
    parts; None: it says nothing of the study."""

    def delay_s(self, study_instance_uid: str, attempt: int) -> float:
        """How long a study waits after attempt 1, 2, ...: from half of what the row says to all of it, each its own.

        For the same study it is always the same: what was put off together does not come back together.
        """
        whole = min(self.first_s * self.factor ** min(attempt - 1, MAX_GROWTH), self.longest_s)
        digest = blake2b(f"{study_instance_uid} {attempt}".encode("utf-8", "surrogatepass"), digest_size=4).digest()
        return whole * (1 + int.from_bytes(digest) / 2**32) / 2


MAX_GROWTH: Final = 64
"""A delay grows no more after so many attempts: by then it is the longest."""

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0

_OUT_OF_RESOURCES: Final = ((0xA700, 0xA7FF), (0x0213, 0x0213))
_NO_SUCH_DESTINATION: Final = (0xA801, 0xA801)
_NO_SUBOPERATIONS: Final = (0xA702, 0xA702)
_NO_SUCH_INSTANCE: Final = (0x0112, 0x0112)
_WARNINGS: Final = (0xB000, 0xBFFF)

_REJECTED_FOR_NOW: Final = f"association {REJECT_RESULT[2]}"
_REJECTED: Final = f"association {REJECT_RESULT[1]}"
_NO_CONTEXT: Final = str(NoAcceptedContext("")).rstrip()
"""How these errors begin."""

_STOPPED: Final = frozenset(("stop.signal", "move.cancel_ignored"))
_BROKEN: Final = frozenset(("move.association_lost", "move.timeout", "move.protocol"))
"""Why there is no final response: by us, or not."""

_SUCCESSES: Final = frozenset(("COMPLETE", "COUNTED", "UNVERIFIED"))
"""Verdicts by which everything has come, as far as anybody can tell."""


def _is_our_disk(case: _Case) -> bool:
    only_too_big = "store.too_big" in case.reasons and "move.storage_failed" not in case.reasons
    return case.verdict == "STORAGE_FAILED" and not only_too_big


def _is_stopped(case: _Case) -> bool:
    return (
        case.stopped
        or case.verdict == "CANCELLED"
        or (case.verdict == "UNKNOWN" and not _STOPPED.isdisjoint(case.reasons))
    )


def _is_against_our_rules(case: _Case) -> bool:
    other_content = case.verdict == "WARNING" and "move.warning" not in case.reasons
    return other_content or case.verdict in ("POLICY", "STORAGE_FAILED")


def _lacks_context(case: _Case) -> bool:
    return case.lost_by(_NO_CONTEXT)


def _is_busy(case: _Case) -> bool:
    # Some say A702 of a move in which a single object failed.
    lost_some = case.verdict == "INCOMPLETE" and bool(case.failed) and case.ended_with(_NO_SUBOPERATIONS)
    return (case.ended_with(*_OUT_OF_RESOURCES) and not lost_some) or case.lost_by(_REJECTED_FOR_NOW)


def _is_nothing(case: _Case) -> bool:
    unknown = case.verdict == "REFUSED" and case.ended_with(_NO_SUCH_INSTANCE)
    return unknown or (case.verdict in _SUCCESSES and not case.found)


def _is_broken(case: _Case) -> bool:
    return case.verdict == "UNKNOWN" and (not case.reasons or not _BROKEN.isdisjoint(case.reasons))


def _has_come(case: _Case) -> bool:
    """All of it, by the counters at least; or by the word of the PACS."""
    warned = case.verdict == "WARNING" and case.failed == 0 and "store.duplicate_differs" not in case.reasons
    return case.found and (warned or case.verdict in _SUCCESSES)


def _has_failed_objects(case: _Case) -> bool:
    said = bool(case.failed) or "move.rejected" in case.reasons or case.ended_with(_WARNINGS)
    return case.verdict == "WARNING" or (case.verdict == "INCOMPLETE" and said)


CLASSES: Final = (
    RetryClass(
        "our-disk", "our own disk takes no more, or not this", 12, 5 * _MINUTE_S, 1, 5 * _MINUTE_S, _is_our_disk
    ),
    RetryClass("stopped", "we ended it ourselves", None, 0.0, 1, 0.0, _is_stopped),
    RetryClass(
        "our-rules", "objects came that are against our own rules", 1, _MINUTE_S, 1, _MINUTE_S, _is_against_our_rules
    ),
    RetryClass("not-found", "the PACS has nothing of it", 2, _HOUR_S, 1, _HOUR_S, _is_nothing),
    RetryClass(
        "undelivered",
        "the destination has not proved that it has all of it",
        6,
        _MINUTE_S,
        3,
        _HOUR_S,
        # A PACS whose objects are answered only when the destination has them tells us what we have told it.
        lambda case: bool(case.undelivered) and (_has_come(case) or _is_busy(case)),
    ),
    RetryClass(
        "unrecorded",
        "objects came that are not in the ledger",
        4,
        _MINUTE_S,
        2,
        _HOUR_S,
        lambda case: case.unrecorded > 0 and _has_come(case),
    ),
    RetryClass("unproved", "nothing proves that all of it has come", 3, 5 * _MINUTE_S, 3, _HOUR_S, _has_come),
    RetryClass(
        "destination-unknown",
        "the PACS does not know the move destination",
        None,
        5 * _MINUTE_S,
        1,
        5 * _MINUTE_S,
        lambda case: case.ended_with(_NO_SUCH_DESTINATION),
        stops_run=True,
    ),
    RetryClass(
        "no-context",
        "the PACS does not offer what was asked of it",
        None,
        5 * _MINUTE_S,
        1,
        5 * _MINUTE_S,
        _lacks_context,
        stops_run=True,
    ),
    RetryClass("pacs-busy", "the PACS has no room for more for now", 20, 30.0, 2, _HOUR_S, _is_busy),
    RetryClass(
        "rejected",
        "the PACS takes no association of ours",
        20,
        _MINUTE_S,
        2,
        _HOUR_S,
        lambda case: case.lost_by(_REJECTED),
    ),
    RetryClass(
        "stalled",
        "the PACS got no further",
        4,
        5 * _MINUTE_S,
        2,
        _HOUR_S,
        lambda case: case.verdict == "STALLED",
    ),
    RetryClass("network", "the association with the PACS was lost", 12, 15.0, 2, _HOUR_S / 2, _is_broken),
    RetryClass(
        "failed-objects",
        "the PACS could not send all of it",
        4,
        5 * _MINUTE_S,
        3,
        2 * _HOUR_S,
        _has_failed_objects,
        failures=1,
    ),
    RetryClass(
        "incomplete",
        "the PACS did not send all of it, and did not say so",
        6,
        _MINUTE_S,
        3,
        _HOUR_S,
        lambda case: case.verdict == "INCOMPLETE",
        failures=0,
    ),
    RetryClass(
        "refused", "the PACS refused it, or failed", 3, 5 * _MINUTE_S, 3, 2 * _HOUR_S, lambda _: True, failures=1
    ),
)
"""The first that applies counts, and the last one always does.

Verdicts that say enough come first: what is there is there, whatever the last response was.
"""


def failed_over(reason_class: str, attempts: int) -> int:
    """How often in a row the PACS has failed over a study, by the class of its last attempt and the fruitless ones."""
    least = next((row.failures for row in CLASSES if row.key == reason_class), None)
    return 0 if least is None else max(attempts, least)


def decide(
    unit: UnitResult,
    *,
    attempts: int,
    progressed: bool,
    unrecorded: int = 0,
    undelivered: str = "",
    stopped: bool = False,
    require_proof: bool = False,
) -> Decision:
    """What becomes of a study after an attempt, which has progressed if it brought anything new.

    `attempts` are those in a row that did not, this one included; so many objects that came are not in the ledger,
    and `undelivered` is why the destination has not proved that it has them; if we have `stopped`, it had no time to.
    With `require_proof` only a list says that all has come.
    """
    case = _case(unit, unrecorded, undelivered, stopped=stopped)
    row = next(each for each in CLASSES if each.applies(case))
    if row.key == "unproved" and (case.verdict == "COMPLETE" or not require_proof):
        return Decision(JobState.COMPLETE, reason=_complete(unit))
    fruitless = 0 if progressed else attempts - (row.attempts is None)
    parked = row.attempts is not None and fruitless >= row.attempts
    return Decision(
        JobState.PARKED if parked else JobState.WAITING,
        row.key,
        _sentence(row, case, unit) + _count(row, fruitless, progressed, parked),
        delay_s=0.0 if parked else row.delay_s(unit.wanted.study_instance_uid, max(fruitless, 1)),
        stops_run=row.stops_run,
        attempts=fruitless,
    )


def _case(unit: UnitResult, unrecorded: int, undelivered: str, *, stopped: bool) -> _Case:
    outcome = None if unit.evidence is None else unit.evidence.outcome
    reasons = frozenset(unit.judgement.reasons)
    return _Case(
        unit.judgement.verdict.name,
        reasons,
        responded=outcome is not None,
        status=None if outcome is None else outcome.status,
        failed=None if outcome is None else outcome.failed,
        found=bool(unit.stored or unit.listed) or (unit.stored is None and "move.empty" not in reasons),
        error=unit.error,
        unrecorded=unrecorded,
        undelivered=undelivered,
        stopped=stopped and bool(undelivered),
    )


def _complete(unit: UnitResult) -> str:
    number = unit.listed if unit.stored is None else unit.stored
    if unit.judgement.verdict.name == "COMPLETE":
        return f"all {number or 0:,} objects are there"
    there = "" if number is None else f"{number:,} objects are there, "
    return f"{there}all of them as far as the PACS tells; no list proves it"


def _sentence(row: RetryClass, case: _Case, unit: UnitResult) -> str:
    """Its class, with what is known of it in figures."""
    outcome = None if unit.evidence is None else unit.evidence.outcome
    status = f" ({case.status:04X}H)" if case.status else ""
    comment = "" if outcome is None else outcome.error_comment
    parts = (case.undelivered, comment, unit.error if unit.error != comment else "", _lacking(case, unit))
    return row.words + status + "".join(f": {part}" for part in parts if part)


def _lacking(case: _Case, unit: UnitResult) -> str:
    if not unit.missing:
        if case.unrecorded:
            return f"{case.unrecorded:,} of them"
        return f"{case.failed:,} failed by the count of the PACS" if case.failed else ""
    some = (f"{uid} ({why})" for uid, why in list(unit.missing.items())[:SHOWN])
    of = "" if unit.listed is None else f" of {unit.listed:,}"
    return f"{len(unit.missing):,}{of} objects are missing, such as {' and '.join(some)}"


def _count(row: RetryClass, fruitless: int, progressed: bool, parked: bool) -> str:
    if progressed:
        return "; but it brought something"
    if row.attempts is None:
        return ""
    tried = f"attempt {fruitless:,} of {row.attempts:,} that brought nothing"
    return f"; parked after {tried}" if parked else f"; {tried}"
