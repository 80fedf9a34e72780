"""How many moves at once: a simulated PACS answers, time is a number."""

from __future__ import annotations

import pytest

from fastmove.services.retrieve.parallelism import HOLD_S, Parallelism

PACE_S = 0.02


class Pacs:
    """Sends `rate` bytes a second for each move, up to what `served` moves together get."""

    def __init__(self, parallelism: Parallelism, served: int, rate: float = 1e6) -> None:
        self.parallelism = parallelism
        self.served = served
        self.rate = rate
        self.now = 0.0
        self.nbytes = 0.0

    def run(self, seconds: float) -> None:
        """So long, with as many moves as are allowed, all of which bring something."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.05
            limit = self.parallelism.limit
            self.nbytes += 0.05 * self.rate * min(limit, self.served)
            self.parallelism.measure(self.now, int(self.nbytes), limit, PACE_S)


@pytest.mark.parametrize("served", [2, 4, 8, 16])
def test_limit_comes_near_what_the_pacs_serves_at_once(served: int) -> None:
    parallelism = Parallelism()
    Pacs(parallelism, served).run(4.0)
    assert parallelism.limit == served


def test_limit_of_a_pacs_that_takes_all_is_reached_within_a_second() -> None:
    parallelism = Parallelism()
    Pacs(parallelism, 100).run(1.0)
    assert parallelism.limit == parallelism.ceiling == 16


def test_step_that_did_not_pay_is_taken_back_and_not_tried_again_at_once() -> None:
    parallelism = Parallelism()
    pacs = Pacs(parallelism, 2)
    pacs.run(2.0)
    assert parallelism.limit == 2
    changes = parallelism.changes
    pacs.run(HOLD_S / 2)
    assert parallelism.changes == changes
    pacs.served = 3  # somebody else has left it
    pacs.run(3 * HOLD_S)
    assert parallelism.limit >= 3


def test_fixed_number_is_neither_raised_nor_lowered() -> None:
    parallelism = Parallelism(5)
    Pacs(parallelism, 100).run(2.0)
    parallelism.congested(3.0)
    parallelism.waiting(4.0, [9.0, 0.0, 0.0, 0.0, 0.0])
    assert parallelism.limit == 5


def test_known_number_is_the_ceiling() -> None:
    parallelism = Parallelism(known=3)
    Pacs(parallelism, 100).run(3.0)
    assert parallelism.limit == 3


def test_the_more_distant_a_pacs_the_more_moves_there_are_to_begin_with() -> None:
    limits = []
    for seconds in (0.001, 0.02, 0.1):
        parallelism = Parallelism()
        parallelism.round_trip(seconds)
        limits.append(parallelism.limit)
    assert limits == [1, 4, 8]


def test_pacs_that_has_had_enough_gets_half_and_at_least_one() -> None:
    parallelism = Parallelism()
    Pacs(parallelism, 100).run(2.0)
    limits = []
    for n in range(6):
        parallelism.congested(10.0 + n * (HOLD_S + 1))
        limits.append(parallelism.limit)
    assert limits == [8, 4, 2, 1, 1, 1]


def test_many_complaints_at_once_halve_only_once() -> None:
    parallelism = Parallelism()
    Pacs(parallelism, 100).run(2.0)
    for n in range(8):
        parallelism.congested(10.0 + n / 100)
    assert parallelism.limit == 8


def test_first_object_that_takes_far_longer_than_usual_halves() -> None:
    parallelism = Parallelism()
    pacs = Pacs(parallelism, 100)
    pacs.run(2.0)
    for _ in range(5):
        parallelism.began(pacs.now, 0.5, parallelism.limit)
    assert parallelism.limit == 16
    parallelism.began(pacs.now, 5.0, 16)
    assert parallelism.limit == 8


def test_slow_first_object_of_a_move_that_began_when_more_were_allowed_says_nothing() -> None:
    parallelism = Parallelism()
    pacs = Pacs(parallelism, 100)
    pacs.run(2.0)
    parallelism.began(pacs.now, 0.5, 16)
    parallelism.congested(pacs.now)
    parallelism.began(pacs.now + HOLD_S + 1, 5.0, 16)
    assert parallelism.limit == 8


def test_moves_that_stand_in_a_queue_show_how_many_are_served() -> None:
    parallelism = Parallelism()
    pacs = Pacs(parallelism, 100)
    pacs.run(0.6)
    assert parallelism.limit >= 8
    parallelism.began(pacs.now, 0.2, parallelism.limit)
    parallelism.waiting(pacs.now, [0.0] * 4 + [2.0] * 4)
    assert (parallelism.limit, parallelism.ceiling) == (4, 4)


def test_refused_association_beside_others_shows_how_many_are_served() -> None:
    parallelism = Parallelism()
    Pacs(parallelism, 100).run(2.0)
    parallelism.served(2.0, 5)
    Pacs(parallelism, 100).run(3 * HOLD_S)
    assert parallelism.limit == 5


def test_moves_that_bring_nothing_are_not_measured() -> None:
    parallelism = Parallelism()
    for n in range(100):
        parallelism.measure(n * 0.05, n * 1000, 1, PACE_S)
    assert parallelism.limit == 2


def test_work_is_shared_among_those_that_may_soon_be_there() -> None:
    parallelism = Parallelism()
    assert parallelism.shares(None) == 16
    Pacs(parallelism, 4).run(3.0)
    assert parallelism.shares(PACE_S) == parallelism.limit == 4
    assert Parallelism(3).shares(None) == 3


def test_pacs_that_is_near_is_not_asked_for_parts_before_its_pace_is_known() -> None:
    parallelism = Parallelism()
    parallelism.round_trip(0.001)
    assert [parallelism.shares(pace_s) for pace_s in (None, 0.001, PACE_S)] == [1, 1, 16]


def test_no_more_than_allowed_are_under_way_and_then_as_many_as_pay() -> None:
    parallelism = Parallelism()
    pacs = Pacs(parallelism, 100)
    pacs.run(2.0)
    parallelism.allow(pacs.now, 3)
    assert parallelism.limit == 3
    pacs.run(120.0)
    assert parallelism.limit == 3
    parallelism.allow(pacs.now, None)
    assert parallelism.limit == 3
    pacs.run(4.0)
    assert parallelism.limit == 16


def test_none_allowed_is_none_whatever_happens_and_what_was_before_comes_back() -> None:
    parallelism = Parallelism()
    pacs = Pacs(parallelism, 4)
    pacs.run(4.0)
    parallelism.allow(pacs.now, 0)
    assert parallelism.limit == 0
    parallelism.congested(pacs.now + HOLD_S)
    parallelism.served(pacs.now, 1)
    assert parallelism.limit == 0
    parallelism.allow(pacs.now, None)
    assert parallelism.limit >= 1
    pacs.run(10.0)
    assert 4 <= parallelism.limit <= 5


@pytest.mark.parametrize(("allowed", "limit"), [(2, 2), (5, 5), (9, 5), (None, 5), (0, 0)])
def test_fixed_number_is_lowered_by_what_is_allowed_alone(allowed: int | None, limit: int) -> None:
    parallelism = Parallelism(5)
    parallelism.allow(0.0, 1)
    parallelism.allow(1.0, allowed)
    assert parallelism.limit == limit
