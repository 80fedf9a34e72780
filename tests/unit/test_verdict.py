from __future__ import annotations

from typing import Any

import pytest

from fastmove.dimse.move import Evidence, Judgement, Loss, MoveOutcome, Verdict, judge


def uids(count: int, first: int = 0) -> frozenset[str]:
    return frozenset(f"1.2.{n}" for n in range(first, first + count))


def final(status: int | None = 0, completed: int | None = None, **values: Any) -> MoveOutcome:
    """Without `completed` a response without counters, with it one that says nothing failed."""
    return MoveOutcome(status, completed=completed, **({} if completed is None else {"failed": 0}) | values)


REFUSALS = (0xA701, 0xA702, 0xA801, 0xA900, 0x0122, 0x0124, 0xC000, 0xCFFF, 0x1234, 0xFF02, None)

# Row of table M, what is known, verdict, reasons.
TABLE_M: list[tuple[str, Evidence, Verdict, tuple[str, ...]]] = [
    (
        "M01 objects never sent",
        Evidence(outcome=final(completed=10), stored=uids(7), expected=uids(10)),
        Verdict.INCOMPLETE,
        ("move.incomplete",),
    ),
    (
        "M01 objects never sent, counters silent",
        Evidence(outcome=final(), stored=uids(7), expected=uids(10)),
        Verdict.INCOMPLETE,
        ("move.incomplete", "move.unverified"),
    ),
    (
        "M01 counters admit it, other objects stored",
        Evidence(outcome=final(completed=10), stored=uids(10, first=5), expected=uids(10)),
        Verdict.INCOMPLETE,
        ("move.incomplete",),
    ),
    (
        "M02 Failed > 0",
        Evidence(outcome=final(completed=5, failed=5), stored=uids(5)),
        Verdict.INCOMPLETE,
        ("move.counter_conflict",),
    ),
    (
        "M02 Remaining > 0",
        Evidence(outcome=final(completed=5, remaining=5), stored=uids(5)),
        Verdict.INCOMPLETE,
        ("move.counter_conflict",),
    ),
    (
        "M02 Failed > 0 without other counters",
        Evidence(outcome=final(failed=3), stored=uids(5)),
        Verdict.INCOMPLETE,
        ("move.counter_conflict", "move.unverified"),
    ),
    (
        "M02 overruled by the list",
        Evidence(outcome=final(completed=5, failed=5), stored=uids(10), expected=uids(10)),
        Verdict.COMPLETE,
        ("move.counter_conflict", "move.counter_low"),
    ),
    (
        "M03 Completed > durable",
        Evidence(outcome=final(completed=7), stored=uids(0)),
        Verdict.INCOMPLETE,
        ("move.incomplete",),
    ),
    (
        "M03 Completed and Warning > durable",
        Evidence(outcome=final(completed=3, warning=2), stored=uids(4)),
        Verdict.INCOMPLETE,
        ("move.incomplete",),
    ),
    (
        "M03 even with a list, which may be cut short",
        Evidence(outcome=final(completed=12), stored=uids(10), expected=uids(10)),
        Verdict.INCOMPLETE,
        ("move.incomplete",),
    ),
    (
        "M24 an object that came twice counts twice",
        Evidence(outcome=final(completed=12), stored=uids(10), arrivals=12),
        Verdict.COUNTED,
        (),
    ),
    (
        "M04 Completed < durable",
        Evidence(outcome=final(completed=7), stored=uids(10)),
        Verdict.COUNTED,
        ("move.counter_low",),
    ),
    (
        "M05 neither counters nor list",
        Evidence(outcome=final(), stored=uids(3)),
        Verdict.UNVERIFIED,
        ("move.unverified",),
    ),
    (
        "M06 nothing matched, list says otherwise",
        Evidence(outcome=final(completed=0), stored=uids(0), expected=uids(2)),
        Verdict.INCOMPLETE,
        ("move.incomplete", "move.empty"),
    ),
    ("M06 nothing matched", Evidence(outcome=final(completed=0), stored=uids(0)), Verdict.COUNTED, ("move.empty",)),
    (
        "M06 nothing matched, empty list",
        Evidence(outcome=final(completed=0), stored=uids(0), expected=uids(0)),
        Verdict.COMPLETE,
        ("move.empty",),
    ),
    (
        "M07 warning",
        Evidence(outcome=final(0xB000, completed=8, failed=2), stored=uids(8)),
        Verdict.WARNING,
        ("move.warning",),
    ),
    (
        "M07 warning, everything there after a retry",
        Evidence(outcome=final(0xB000, completed=10, failed=2), stored=uids(10), expected=uids(10)),
        Verdict.COMPLETE,
        ("move.warning",),
    ),
    (
        "M07 warning, more lost than admitted",
        Evidence(outcome=final(0xB000, completed=8, failed=2), stored=uids(6)),
        Verdict.INCOMPLETE,
        ("move.incomplete", "move.warning"),
    ),
    (
        "M08 failed list names what we hold",
        Evidence(
            outcome=final(0xB000, completed=8, failed=2, failed_sop_instance_uids=("1.2.8", "1.2.9")),
            stored=uids(10),
            expected=uids(10),
        ),
        Verdict.COMPLETE,
        ("move.warning", "move.counter_low", "move.failed_but_stored"),
    ),
    (
        "M09 failed list unreadable, missing ones computed",
        Evidence(outcome=final(0xB000, completed=8, failed=2), stored=uids(8), expected=uids(10)),
        Verdict.INCOMPLETE,
        ("move.incomplete", "move.warning"),
    ),
    *(
        (f"M10 {status}", Evidence(outcome=final(status), stored=uids(0)), Verdict.REFUSED, ("move.refused",))
        for status in REFUSALS
    ),
    (
        "M10 refused, with a list",
        Evidence(outcome=final(0xA801), stored=uids(0), expected=uids(5)),
        Verdict.REFUSED,
        ("move.refused",),
    ),
    (
        "M11 cancelled by the peer",
        Evidence(outcome=final(0xFE00, completed=3), stored=uids(3)),
        Verdict.REFUSED,
        ("move.cancelled_by_peer",),
    ),
    (
        "M12 cancelled by us",
        Evidence(
            outcome=final(0xFE00, completed=3, remaining=7, cancelled_by_us=True), stored=uids(3), expected=uids(10)
        ),
        Verdict.CANCELLED,
        ("move.cancelled",),
    ),
    (
        "M12 our cancel came too late",
        Evidence(outcome=final(completed=3, cancelled_by_us=True), stored=uids(3), expected=uids(3)),
        Verdict.COMPLETE,
        (),
    ),
    (
        "M13 cancel ignored",
        Evidence(outcome=None, stored=uids(3), loss=Loss.CANCEL_IGNORED),
        Verdict.UNKNOWN,
        ("move.cancel_ignored",),
    ),
    ("M14 stalled", Evidence(outcome=None, stored=uids(3), loss=Loss.STALLED), Verdict.STALLED, ("move.stalled",)),
    ("M17 protocol", Evidence(outcome=None, stored=uids(3), loss=Loss.PROTOCOL), Verdict.UNKNOWN, ("move.protocol",)),
    (
        "M18 a response after the final one does not count",
        Evidence(outcome=final(completed=3), stored=uids(3), loss=Loss.PROTOCOL),
        Verdict.COUNTED,
        (),
    ),
    (
        "M19 counters that started again, list complete",
        Evidence(outcome=final(completed=4464), stored=uids(70000), expected=uids(70000)),
        Verdict.COMPLETE,
        ("move.counter_low",),
    ),
    ("M20 counters agree", Evidence(outcome=final(completed=3), stored=uids(3)), Verdict.COUNTED, ()),
    (
        "M22 association lost, everything arrived",
        Evidence(outcome=None, stored=uids(3), expected=uids(3)),
        Verdict.UNKNOWN,
        ("move.association_lost",),
    ),
    (
        "M24 same UID, other bytes",
        Evidence(outcome=final(completed=3), stored=uids(3), expected=uids(3), differing=1),
        Verdict.WARNING,
        ("store.duplicate_differs",),
    ),
    (
        "M26 refused by our rules",
        Evidence(outcome=final(completed=3, failed=2), stored=uids(3), policy_refusals=2),
        Verdict.POLICY,
        ("move.policy", "move.counter_conflict"),
    ),
    (
        "M32 grown since the list was made",
        Evidence(outcome=final(completed=5), stored=uids(5), expected=uids(4)),
        Verdict.COMPLETE,
        (),
    ),
    (
        "O01 object refused for what it holds",
        Evidence(outcome=final(0xB000, completed=3, failed=1), stored=uids(3), rejected=1),
        Verdict.INCOMPLETE,
        ("move.rejected", "move.warning"),
    ),
    (
        "O05 object refused for what it holds, and none of the list is missing",
        Evidence(outcome=final(completed=3), stored=uids(3), expected=uids(3), rejected=1),
        Verdict.COMPLETE,
        ("move.rejected",),
    ),
    (
        "O16 object longer than allowed",
        Evidence(outcome=final(0xB000, completed=2, failed=1), stored=uids(2), expected=uids(3), oversized=1),
        Verdict.STORAGE_FAILED,
        ("store.too_big", "move.incomplete", "move.warning"),
    ),
    (
        "F01 disk full, peer says success",
        Evidence(outcome=final(completed=3), stored=uids(2), storage_failures=1),
        Verdict.STORAGE_FAILED,
        ("move.storage_failed", "move.incomplete"),
    ),
    (
        "F01 disk full and association lost",
        Evidence(outcome=None, stored=uids(2), storage_failures=1),
        Verdict.STORAGE_FAILED,
        ("move.storage_failed", "move.association_lost"),
    ),
    (
        "T24 stopped",
        Evidence(outcome=None, stored=uids(2), loss=Loss.STOPPED),
        Verdict.UNKNOWN,
        ("stop.signal",),
    ),
    ("third party, counters agree", Evidence(outcome=final(completed=3), stored=None), Verdict.COUNTED, ()),
    (
        "third party, fewer than listed",
        Evidence(outcome=final(completed=3), stored=None, expected=uids(4)),
        Verdict.INCOMPLETE,
        ("move.incomplete",),
    ),
    (
        "third party, as many as listed",
        Evidence(outcome=final(completed=4), stored=None, expected=uids(4)),
        Verdict.COUNTED,
        (),
    ),
    (
        "third party, counters silent",
        Evidence(outcome=final(), stored=None, expected=uids(4)),
        Verdict.UNVERIFIED,
        ("move.unverified",),
    ),
]


@pytest.mark.parametrize(
    ("evidence", "verdict", "reasons"), [row[1:] for row in TABLE_M], ids=[row[0] for row in TABLE_M]
)
def test_verdict_and_reasons_of_table_m(evidence: Evidence, verdict: Verdict, reasons: tuple[str, ...]) -> None:
    judgement = judge(evidence)
    assert (judgement.verdict, judgement.reasons) == (verdict, reasons)


def test_missing_instances_are_named() -> None:
    judgement = judge(Evidence(outcome=final(completed=4), stored=uids(3), expected=uids(4)))
    assert judgement == Judgement(Verdict.INCOMPLETE, ("move.incomplete",), frozenset({"1.2.3"}))


def test_every_verdict_is_reached_by_a_row_of_the_table() -> None:
    assert {row[2] for row in TABLE_M} == set(Verdict)


@pytest.mark.parametrize("loss", Loss)
def test_no_final_response_is_never_success(loss: Loss) -> None:
    judgement = judge(Evidence(outcome=None, stored=uids(3), expected=uids(3), loss=loss))
    assert judgement.verdict in (Verdict.UNKNOWN, Verdict.STALLED)
    assert judgement.reasons == (loss.value,)


def test_no_other_status_than_success_is_success_without_a_list() -> None:
    for status in (*range(0x0001, 0x10000, 97), 0xFE00, 0xFF00):
        verdict = judge(Evidence(outcome=final(status, completed=3), stored=uids(3))).verdict
        assert verdict in (Verdict.REFUSED, Verdict.WARNING), hex(status)
