"""The knee of curves whose knee is known."""

from __future__ import annotations

from random import Random

import pytest

from fastmove.bench.knee import flat, knee, steps


def measured(at: float, *, noise: float = 0.0, seed: int = 1, most: int = 32) -> list[tuple[int, float]]:
    """A ramp over a peer that serves so many at once, until it is flat."""
    random = Random(seed)
    points: list[tuple[int, float]] = []
    for step in steps(most):
        points.append((step, min(step, at) * 10.0 * (1 + random.uniform(-noise, noise))))
        if flat([rate for _, rate in points]):
            break
    return points


@pytest.mark.parametrize("at", [1.0, 2.0, 4.0, 5.5, 8.0, 16.0])
def test_knee_is_found_where_it_is(at: float) -> None:
    found = knee(measured(at))
    assert found is not None
    assert found.parallel == pytest.approx(at, rel=0.01)
    assert found.most == pytest.approx(at * 10)
    assert found.reached


@pytest.mark.parametrize("seed", range(20))
def test_knee_is_found_within_a_tenth_although_rates_are_noisy(seed: int) -> None:
    found = knee(measured(4.0, noise=0.03, seed=seed))
    assert found is not None
    assert found.parallel == pytest.approx(4.0, rel=0.1)


def test_knee_that_was_not_reached_is_said_to_lie_beyond() -> None:
    found = knee(measured(100.0, most=8))
    assert found is not None
    assert not found.reached
    assert found.parallel == pytest.approx(8.0)


def test_nothing_that_moved_has_no_knee() -> None:
    assert knee([(1, 0.0), (2, 0.0)]) is None


def test_ramp_ends_after_two_steps_that_brought_nothing() -> None:
    assert [n for n, _ in measured(4.0)] == [1, 2, 3, 4, 6, 8]
    assert list(steps(5)) == [1, 2, 3, 4, 5]
