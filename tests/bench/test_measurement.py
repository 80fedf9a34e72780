"""What counts in a run, and what as."""

from __future__ import annotations

import pytest

from fastmove.bench.load import NOT_BEGUN, Load, Performed
from fastmove.bench.measurement import Measurement
from fastmove.bench.store import _Sent


def performed(due: float, ended: float, status: str = "0000", *, succeeded: bool = True, detail: str = "") -> Performed:
    return Performed(due, due, ended, status, succeeded=succeeded, detail=detail)


def test_failures_are_told_apart_from_what_has_the_same_status_and_did_not_fail() -> None:
    measured = Measurement(0.0, Load())
    for number in range(9):
        measured.operation("move", performed(number, number + 1.0, detail="all is well"))
    measured.operation("move", performed(9.0, 10.0, succeeded=False, detail="3 are missing"))
    run = measured.finished()
    assert (run["statuses"], run["failures"], run["failed_operations"]) == ({"0000": 10}, {"0000": 1}, 1)
    assert run["details"] == {"0000": "3 are missing"}


def test_failures_have_latencies_of_their_own_but_for_what_took_too_long() -> None:
    measured = Measurement(0.0, Load(rate_per_s=1.0, duration_s=100.0))
    measured.operation("move", performed(1.0, 3.0))
    measured.operation("move", performed(2.0, 2.001, "A701", succeeded=False))
    measured.operation("move", performed(3.0, 33.0, NOT_BEGUN, succeeded=False))
    latencies = measured.finished()["latencies_ms"]
    assert latencies["move"]["count"] == 2
    assert latencies["move"]["max"] > 29_000
    assert latencies["move_failed"]["count"] == 1


def test_rate_of_an_open_loop_is_of_what_ended_whenever_it_was_due() -> None:
    measured = Measurement(0.0, Load(rate_per_s=1.0, duration_s=100.0, warm_up_s=50.0))
    for number in range(101):  # one a second, each of which takes 25 s
        measured.operation("move", performed(number, number + 25.0))
    run = measured.finished()
    assert run["operations_per_s"] == pytest.approx(1.0, rel=0.03)
    assert sum(run["over_time"]["operations"]) == pytest.approx(50, abs=1)
    assert run["operations"] == 51, "those that were due in that time"


@pytest.mark.parametrize(
    ("statuses", "counts"),
    [
        ((0xB000, 0xA700, 0xA700), 0xA700),
        ((0x0000, 0xB000, 0x0000), 0xB000),
        ((0xA700, 0xB000, 0xC000), 0xA700),
        ((0x0000, 0x0000), 0x0000),
    ],
)
def test_study_of_which_an_object_was_refused_is_no_success_whatever_came_before(
    statuses: tuple[int, ...], counts: int
) -> None:
    sent = _Sent(Measurement(0.0, Load()))
    for number, status in enumerate(statuses):
        sent.outstanding[number] = (0.0, 1000)
        sent.answered(number, status)
    assert sent.status == counts
