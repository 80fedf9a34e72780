"""The throttle: no more than allowed in any time, and no less than that in the long run; time is a number."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmove.migrate.throttle import BURST_S, Throttle

MB = 1_000_000


def come(throttle: Throttle, sizes: list[int], pauses: list[float] | None = None) -> list[float]:
    """When they come, each as soon as it may and no sooner than something else lets it."""
    now, times = 1000.0, []
    for nbytes, pause in zip(sizes, pauses or [0.0] * len(sizes), strict=True):
        now += pause
        times.append(now)
        now += throttle.wait_s(now, nbytes)
    return times


@given(
    st.lists(st.tuples(st.integers(1, 50 * MB), st.floats(0, 5)), min_size=2, max_size=40),
    st.none() | st.integers(1000, 100 * MB),
    st.none() | st.floats(0.1, 1000),
)
def test_in_any_time_no_more_comes_than_is_allowed_for_it(
    objects: list[tuple[int, float]], bytes_per_s: int | None, objects_per_s: float | None
) -> None:
    sizes = [nbytes for nbytes, _ in objects]
    times = come(Throttle(bytes_per_s, objects_per_s), sizes, [pause for _, pause in objects])
    for first in range(len(times)):
        for last in range(first + 1, len(times)):
            allowed_s = (times[last] - times[first] + BURST_S) * (1 + 1e-9) + 1e-6
            assert last - first <= (objects_per_s or math.inf) * allowed_s
            assert sum(sizes[first:last]) <= (bytes_per_s or math.inf) * allowed_s


def test_as_much_comes_as_is_allowed() -> None:
    times = come(Throttle(10 * MB, None), [MB] * 101)
    assert times[-1] - times[0] == pytest.approx(10.0)
    times = come(Throttle(None, 50), [MB] * 101)
    assert times[-1] - times[0] == pytest.approx(2.0)


def test_stricter_of_both_ceilings_counts() -> None:
    assert come(Throttle(10 * MB, 2), [MB] * 11)[-1] - 1000.0 == pytest.approx(5.0)
    assert come(Throttle(10 * MB, 200), [MB] * 11)[-1] - 1000.0 == pytest.approx(1.0)


def test_without_ceilings_nothing_waits() -> None:
    assert come(Throttle(), [10**12] * 3) == [1000.0] * 3


def test_many_at_once_wait_one_after_the_other() -> None:
    throttle = Throttle(objects_per_s=10)
    assert [throttle.wait_s(5.0, 1) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])


def test_after_idle_time_no_more_than_a_second_worth_comes_at_once() -> None:
    throttle = Throttle(objects_per_s=10)
    throttle.wait_s(0.0, 1)
    waits = [throttle.wait_s(3600.0, 1) for _ in range(12)]
    assert waits[:10] == [0.0] * 10
    assert waits[10:] == pytest.approx([0.1, 0.2])


def test_object_of_many_seconds_comes_and_is_waited_for_afterwards() -> None:
    assert Throttle(MB).wait_s(0.0, 90 * MB) == pytest.approx(90.0)


def test_what_is_still_to_be_waited_can_be_asked_for() -> None:
    throttle = Throttle(MB, 100)
    throttle.wait_s(0.0, 10 * MB)
    assert throttle.wait_s(4.0, 0, 0) == throttle.wait_s(4.0, 0, 0) == pytest.approx(6.0)


def test_ceiling_that_is_raised_shortens_the_wait_and_one_that_is_lowered_lengthens_it() -> None:
    throttle = Throttle(MB)
    throttle.wait_s(0.0, 10 * MB)
    throttle.limit(2.0, 4 * MB, None)
    assert throttle.wait_s(2.0, 0, 0) == pytest.approx(2.0), "8 MB are left"
    throttle.limit(3.0, MB / 2, None)
    assert throttle.wait_s(3.0, 0, 0) == pytest.approx(8.0), "4 MB are left"


def test_lower_ceiling_leaves_no_more_than_its_own_second_worth() -> None:
    throttle = Throttle(objects_per_s=100)
    throttle.wait_s(0.0, 1)
    throttle.limit(50.0, None, 2)
    assert [throttle.wait_s(50.0, 1) for _ in range(3)] == pytest.approx([0.0, 0.0, 0.5])


def test_ceiling_that_is_lifted_and_set_again_starts_anew() -> None:
    throttle = Throttle(MB)
    throttle.wait_s(0.0, 100 * MB)
    throttle.limit(1.0, None, None)
    assert throttle.wait_s(1.0, 100 * MB) == 0.0
    throttle.limit(2.0, MB, None)
    assert throttle.wait_s(2.0, MB) == pytest.approx(1.0)


def test_clock_that_goes_back_gives_nothing() -> None:
    throttle = Throttle(objects_per_s=1)
    assert throttle.wait_s(10.0, 1) == pytest.approx(1.0)
    assert throttle.wait_s(5.0, 1) == pytest.approx(2.0)
    assert throttle.wait_s(10.0, 1) == pytest.approx(3.0)


@pytest.mark.parametrize("rate", [0, -1.0, math.nan, math.inf])
def test_ceiling_that_nobody_could_wait_for_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="more than 0"):
        Throttle(rate)
    with pytest.raises(ValueError, match="more than 0"):
        Throttle().limit(0.0, None, rate)
