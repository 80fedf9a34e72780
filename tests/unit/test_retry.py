"""What becomes of a study after an attempt: every verdict, every status, and how long it waits."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise, product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.dimse.move import Evidence, Judgement, Loss, MoveOutcome, Verdict, judge_unit
from fastmove.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    NoAcceptedContext,
    TimedOut,
)
from fastmove.ledger.model import JobState
from fastmove.migrate.retry import CLASSES, Decision, decide
from fastmove.services.retrieve.unit import UnitResult
from fastmove.services.selection.selection import Wanted

STUDY = "1.2.840.1"
STATUSES = (
    *(None, 0x0000, 0x0001, 0x0110, 0x0112, 0x0122, 0x0124, 0x0210, 0x0211, 0x0213, 0xA700, 0xA701, 0xA702, 0xA7FF),
    *(0xA801, 0xA900, 0xA9FF, 0xAA00, 0xAA04, 0xB000, 0xB007, 0xC000, 0xC001, 0xCFFF, 0xFE00, 0xFF00, 0xFF01, 0x1234),
)
ROWS = {row.key: row for row in CLASSES}
NEVER_PARKED = {"stopped", "destination-unknown", "no-context"}


def unit(
    verdict: Verdict,
    *reasons: str,
    status: int | None = None,
    responded: bool | None = None,
    listed: int | None = 10,
    stored: int | None = 10,
    missing: Iterable[str] = (),
    error: str = "",
    comment: str = "",
    **counters: int | None,
) -> UnitResult:
    outcome = None
    if responded or (responded is None and status is not None):
        outcome = MoveOutcome(status, comment, **counters)
    return UnitResult(
        wanted=Wanted(STUDY),
        judgement=Judgement(verdict, reasons, frozenset(missing)),
        listed=listed,
        stored=stored,
        missing=dict.fromkeys(missing, "C000H Unable to process"),
        evidence=Evidence(outcome=outcome, stored=frozenset()),
        error=error,
    )


def decided(of: UnitResult, attempts: int = 1, *, progressed: bool = False, **more: Any) -> Decision:
    return decide(of, attempts=attempts, progressed=progressed, **more)


def key(of: UnitResult, **more: Any) -> str:
    found = decided(of, **more)
    assert found.reason.startswith(ROWS[found.reason_class].words)
    return found.reason_class


# Every verdict


@pytest.mark.parametrize("verdict", Verdict)
def test_every_verdict_with_every_status_is_decided(verdict: Verdict) -> None:
    reasons = ["", *(loss.value for loss in Loss), "move.warning", "store.too_big", "list.failed", "move.empty"]
    for status, reason, stored, progressed in product(STATUSES, reasons, (None, 0, 10), (False, True)):
        one = unit(verdict, *filter(None, [reason]), status=status, responded=status is not None, stored=stored)
        for attempts in (1, 2, 50):
            found = decided(one, attempts, progressed=progressed)
            assert found.reason
            if found.state is JobState.COMPLETE:
                assert verdict in (Verdict.COMPLETE, Verdict.COUNTED, Verdict.UNVERIFIED)
                assert (found.reason_class, found.delay_s, found.stops_run) == ("", 0.0, False)
                continue
            row = ROWS[found.reason_class]
            assert found.stops_run is row.stops_run
            assert found.state is not JobState.PARKED or not progressed
            parked = row.attempts is not None and attempts >= row.attempts and not progressed
            assert (found.state is JobState.PARKED) is parked


STORED = [f"1.2.{n}" for n in range(4)]
UIDS = st.frozensets(st.sampled_from(STORED))
OUTCOMES = st.builds(
    MoveOutcome,
    st.sampled_from(STATUSES),
    completed=st.none() | st.integers(0, 4),
    failed=st.none() | st.integers(0, 2),
    warning=st.none() | st.integers(0, 2),
    cancelled_by_us=st.booleans(),
)
EVIDENCES = st.builds(
    Evidence,
    outcome=st.none() | OUTCOMES,
    stored=st.none() | UIDS,
    expected=st.none() | UIDS,
    arrivals=st.integers(0, 4),
    loss=st.sampled_from(Loss),
    storage_failures=st.integers(0, 1),
    policy_refusals=st.integers(0, 1),
    oversized=st.integers(0, 1),
    rejected=st.integers(0, 1),
    differing=st.integers(0, 1),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(EVIDENCES, min_size=1, max_size=3), UIDS, st.none() | UIDS, st.booleans())
def test_whatever_is_judged_is_decided_and_what_is_missing_is_never_complete(
    moves: list[Evidence], stored: frozenset[str], expected: frozenset[str] | None, require_proof: bool
) -> None:
    judgement = judge_unit(moves, stored, expected)
    one = UnitResult(
        wanted=Wanted(STUDY),
        judgement=judgement,
        listed=None if expected is None else len(expected),
        stored=len(stored if expected is None else stored & expected),
        missing=dict.fromkeys(judgement.missing, "why"),
        evidence=moves[-1],
    )
    found = decided(one, require_proof=require_proof)
    if found.state is JobState.COMPLETE:
        assert not judgement.missing
        assert one.stored
        assert judgement.verdict is Verdict.COMPLETE or not require_proof
    if judgement.verdict is Verdict.COMPLETE and one.stored:
        assert found.state is JobState.COMPLETE


# What is complete


def test_study_of_which_a_list_says_that_all_is_there_is_complete_whatever_the_last_response_was() -> None:
    for status in STATUSES:
        found = decided(unit(Verdict.COMPLETE, status=status, listed=1234, stored=1234), require_proof=True)
        assert found == Decision(JobState.COMPLETE, reason="all 1,234 objects are there")


@pytest.mark.parametrize("verdict", [Verdict.COUNTED, Verdict.UNVERIFIED])
def test_without_a_list_it_is_complete_unless_proof_is_required(verdict: Verdict) -> None:
    one = unit(verdict, status=0, listed=None)
    found = decided(one)
    assert found.state is JobState.COMPLETE
    assert found.reason == "10 objects are there, all of them as far as the PACS tells; no list proves it"
    assert key(one, require_proof=True) == "unproved"
    assert decided(one, ROWS["unproved"].attempts or 0, require_proof=True).state is JobState.PARKED


def test_third_party_has_what_the_pacs_says_that_it_has_sent() -> None:
    assert decided(unit(Verdict.COUNTED, status=0, listed=10, stored=None)).state is JobState.COMPLETE
    assert key(unit(Verdict.COUNTED, "move.empty", status=0, listed=None, stored=None)) == "not-found"


def test_warnings_of_objects_that_came_all_the_same_are_no_failures() -> None:
    one = unit(Verdict.WARNING, "move.warning", status=0xB000, listed=None, completed=7, failed=0, warning=3)
    assert decided(one).state is JobState.COMPLETE
    assert key(one, require_proof=True) == "unproved"


@pytest.mark.parametrize("verdict", [Verdict.COMPLETE, Verdict.COUNTED])
def test_objects_that_are_not_in_the_ledger_keep_it_from_being_complete(verdict: Verdict) -> None:
    found = decided(unit(verdict, status=0), unrecorded=3)
    assert (found.state, found.reason_class) == (JobState.WAITING, "unrecorded")
    assert found.reason.startswith("objects came that are not in the ledger: 3 of them; ")


def test_what_is_missing_counts_before_what_is_not_in_the_ledger() -> None:
    assert key(unit(Verdict.INCOMPLETE, "move.incomplete", status=0, missing=["1.2.1"]), unrecorded=2) == "incomplete"


# What is not


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (unit(Verdict.REFUSED, "move.refused", status=0xA700), "pacs-busy"),
        (unit(Verdict.REFUSED, "move.refused", status=0xA701), "pacs-busy"),
        (unit(Verdict.REFUSED, "move.refused", status=0xA702, failed=10), "pacs-busy"),
        (unit(Verdict.INCOMPLETE, "move.incomplete", status=0xA702, missing=["1.2.1"]), "pacs-busy"),
        (unit(Verdict.INCOMPLETE, "move.incomplete", status=0xA702, failed=1, missing=["1.2.1"]), "failed-objects"),
        (unit(Verdict.REFUSED, "move.refused", status=0x0213), "pacs-busy"),
        (unit(Verdict.UNKNOWN, "move.association_lost", error=str(AssociationRejected(2, 3, 1))), "pacs-busy"),
        (unit(Verdict.UNKNOWN, "move.association_lost", error=str(AssociationRejected(1, 1, 3))), "rejected"),
        (unit(Verdict.UNKNOWN, "move.association_lost", error=str(NoAcceptedContext("1.2"))), "no-context"),
        (unit(Verdict.UNKNOWN, "move.association_lost", error=str(ConnectionLost("lost"))), "network"),
        (unit(Verdict.UNKNOWN, "move.association_lost", error=str(AssociationAborted(2, 0, by_peer=True))), "network"),
        (unit(Verdict.UNKNOWN, "move.association_lost", error=str(ConnectFailed("h", 1, OSError()))), "network"),
        (unit(Verdict.UNKNOWN, "move.timeout", error=str(TimedOut("response_s", 300))), "network"),
        (unit(Verdict.UNKNOWN, "move.protocol"), "network"),
        (unit(Verdict.UNKNOWN, "move.counter_low", "move.timeout"), "network"),
        (unit(Verdict.UNKNOWN), "network"),
        (unit(Verdict.UNKNOWN, "list.failed", "move.empty", status=0, stored=0, listed=None), "refused"),
        (unit(Verdict.INCOMPLETE, "move.incomplete", status=0, missing=["1.2.1"]), "incomplete"),
        (unit(Verdict.INCOMPLETE, "move.incomplete", status=0, listed=None), "incomplete"),
        (unit(Verdict.INCOMPLETE, "move.counter_conflict", status=0, failed=2, listed=None), "failed-objects"),
        (unit(Verdict.INCOMPLETE, "move.incomplete", "move.warning", status=0xB000, failed=1), "failed-objects"),
        (unit(Verdict.INCOMPLETE, "move.incomplete", "move.rejected", status=0), "failed-objects"),
        (unit(Verdict.WARNING, "move.warning", status=0xB000, failed=2, listed=None), "failed-objects"),
        (unit(Verdict.WARNING, "move.warning", status=0xB000, listed=None), "failed-objects"),
        (unit(Verdict.REFUSED, "move.refused", status=0xA900), "refused"),
        (unit(Verdict.REFUSED, "move.refused", status=0xC123, failed=3), "refused"),
        (unit(Verdict.REFUSED, "move.refused", status=0x0124), "refused"),
        (unit(Verdict.REFUSED, "move.cancelled_by_peer", status=0xFE00), "refused"),
        (unit(Verdict.REFUSED, "move.refused", responded=True), "refused"),
        (unit(Verdict.REFUSED, "move.refused", status=0xA801), "destination-unknown"),
        (unit(Verdict.REFUSED, "move.refused", status=0x0122), "refused"),
        (unit(Verdict.REFUSED, "move.refused", status=0x0112, stored=0), "not-found"),
        (unit(Verdict.COUNTED, "move.empty", status=0, listed=None, stored=0), "not-found"),
        (unit(Verdict.COMPLETE, listed=0, stored=0), "not-found"),
        (unit(Verdict.STALLED, "move.stalled"), "stalled"),
        (unit(Verdict.STORAGE_FAILED, "move.storage_failed", "store.too_big", status=0xB000), "our-disk"),
        (unit(Verdict.STORAGE_FAILED, "move.storage_failed", "move.refused", status=0xA702), "our-disk"),
        (unit(Verdict.STORAGE_FAILED, "store.too_big"), "our-rules"),
        (unit(Verdict.POLICY, "move.policy", "move.refused", status=0xA702), "our-rules"),
        (unit(Verdict.POLICY, "rq.host", "move.association_lost"), "our-rules"),
        (unit(Verdict.WARNING, "store.duplicate_differs", status=0), "our-rules"),
        (unit(Verdict.WARNING, "store.duplicate_differs", status=0, failed=0), "our-rules"),
        (unit(Verdict.CANCELLED, "move.cancelled", status=0xFE00), "stopped"),
        (unit(Verdict.UNKNOWN, "stop.signal"), "stopped"),
        (unit(Verdict.UNKNOWN, "move.cancel_ignored"), "stopped"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_outcome_has_its_class(one: UnitResult, expected: str) -> None:
    assert key(one) == expected


def test_oversized_object_beside_other_reasons_is_a_matter_of_our_rules() -> None:
    """A PACS counts as failed what we refused."""
    one = unit(Verdict.STORAGE_FAILED, "store.too_big", "move.incomplete", "move.warning", status=0xB000, failed=1)
    assert key(one) == "our-rules"


def test_study_that_is_not_proved_at_its_destination_is_not_complete_and_says_why() -> None:
    found = decided(unit(Verdict.COMPLETE), undelivered="2 objects are not committed to")
    assert (found.state, found.reason_class) == (JobState.WAITING, "undelivered")
    assert found.reason.startswith("the destination has not proved that it has all of it: 2 objects are not committed")


def test_refusal_that_repeats_what_we_answered_is_a_matter_of_the_destination() -> None:
    refused = unit(Verdict.REFUSED, "move.refused", status=0xA702)
    assert key(refused) == "pacs-busy"
    assert key(refused, undelivered="2 objects were not taken") == "undelivered"


def test_what_would_end_every_other_study_the_same_way_stops_the_run() -> None:
    assert {row.key for row in CLASSES if row.stops_run} == {"destination-unknown", "no-context"}


def test_text_of_an_error_says_nothing_once_there_is_a_final_response() -> None:
    text = str(AssociationRejected(2, 3, 1))
    assert key(unit(Verdict.REFUSED, "move.refused", status=0xC000, error=text)) == "refused"


def test_reason_is_a_sentence_with_figures() -> None:
    one = unit(
        Verdict.INCOMPLETE,
        "move.incomplete",
        status=0xB000,
        comment="disk offline",
        listed=1500,
        stored=1498,
        missing=["1.2.1", "1.2.2"],
        failed=2,
    )
    assert decided(one, 2).reason == (
        "the PACS could not send all of it (B000H): disk offline: 2 of 1,500 objects are missing, such as "
        "1.2.1 (C000H Unable to process) and 1.2.2 (C000H Unable to process); attempt 2 of 4 that brought nothing"
    )
    assert decided(one, 4).reason.endswith("; parked after attempt 4 of 4 that brought nothing")
    assert decided(one, 4, progressed=True).reason.endswith("; but it brought something")
    counted = unit(Verdict.WARNING, "move.warning", status=0xB000, failed=2, listed=None)
    assert decided(counted).reason.startswith("the PACS could not send all of it (B000H): 2 failed by the count")


# How often, and how long it waits


@pytest.mark.parametrize("row", [row for row in CLASSES if row.attempts is not None], ids=lambda row: row.key)
def test_class_is_parked_after_its_attempts_and_progress_never_is(row: Any) -> None:
    some = {
        "our-rules": unit(Verdict.POLICY),
        "not-found": unit(Verdict.COMPLETE, listed=0, stored=0),
        "unrecorded": unit(Verdict.COMPLETE),
        "undelivered": unit(Verdict.COMPLETE),
        "unproved": unit(Verdict.COUNTED, status=0, listed=None),
        "our-disk": unit(Verdict.STORAGE_FAILED),
        "pacs-busy": unit(Verdict.REFUSED, status=0xA701),
        "rejected": unit(Verdict.UNKNOWN, error=str(AssociationRejected(1, 1, 7))),
        "stalled": unit(Verdict.STALLED),
        "network": unit(Verdict.UNKNOWN, "move.timeout"),
        "failed-objects": unit(Verdict.WARNING, "move.warning", status=0xB000),
        "incomplete": unit(Verdict.INCOMPLETE, status=0),
        "refused": unit(Verdict.REFUSED, status=0xC000),
    }[row.key]
    more: dict[str, Any] = {"unrecorded": int(row.key == "unrecorded"), "require_proof": True}
    more["undelivered"] = "2 are missing there" if row.key == "undelivered" else ""
    for attempts in range(1, row.attempts):
        found = decided(some, attempts, **more)
        assert (found.state, found.attempts) == (JobState.WAITING, attempts)
        assert found.delay_s > 0
    parked = decided(some, row.attempts, **more)
    assert (parked.state, parked.reason_class, parked.delay_s) == (JobState.PARKED, row.key, 0.0)
    again = decided(some, row.attempts + 100, progressed=True, **more)
    assert (again.state, again.attempts) == (JobState.WAITING, 0)


def test_attempt_that_says_nothing_of_the_study_does_not_count() -> None:
    assert {row.key for row in CLASSES if row.attempts is None} == NEVER_PARKED
    for one in (unit(Verdict.CANCELLED), unit(Verdict.REFUSED, status=0xA801)):
        found = decided(one, 1000)
        assert (found.state, found.attempts) == (JobState.WAITING, 999)


@pytest.mark.parametrize("row", CLASSES, ids=lambda row: row.key)
def test_delays_grow_to_the_longest_and_are_never_beyond_it(row: Any) -> None:
    assert [row.delay_s(STUDY, n) for n in (1, 2, 3)] == [row.delay_s(STUDY, n) for n in (1, 2, 3)]
    for attempt in (*range(1, 30), 10**6):
        whole = min(row.first_s * row.factor ** min(attempt - 1, 64), row.longest_s)
        assert whole / 2 <= row.delay_s(STUDY, attempt) <= whole
    assert row.delay_s(STUDY, 10**6) >= row.longest_s / 2
    assert row.first_s <= row.longest_s


def test_thousands_that_were_put_off_together_do_not_come_back_together() -> None:
    row = ROWS["network"]
    seconds = [int(row.delay_s(f"1.2.840.113619.2.55.3.{n}", 3)) for n in range(3000)]
    assert len(set(seconds)) == 30
    assert max(map(seconds.count, set(seconds))) < 150, "of 100 on average"
    again = [row.delay_s(f"1.2.840.113619.2.55.3.{n}", 4) for n in range(3000)]
    order = sorted(range(3000), key=lambda n: again[n])
    assert sum(seconds[a] <= seconds[b] for a, b in pairwise(order)) < 1800, "nor always in the same order"
