"""When a migration will be finished, where that can be reckoned by hand; and what holds however it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.migrate.forecast import Minute, Remaining, forecast
from fastmove.migrate.windows import CLOSED, OPEN, Ceiling, Windows, parse_window

BERLIN = ZoneInfo("Europe/Berlin")
EIGHT = Ceiling(8)
ALWAYS = Windows((), BERLIN, EIGHT)
NIGHTS = Windows([parse_window("daily 19:00-07:00 parallel=8")], BERLIN)
NOON = datetime(2026, 6, 1, 12, tzinfo=BERLIN)  # a Monday
SECOND = timedelta(seconds=1)


def measured(
    ceiling: Ceiling = EIGHT, *, instances: float = 6000.0, number: int = 60, noise: float = 0.0
) -> list[Minute]:
    """So many minutes, by default with 100 instances of half a megabyte a second, 100 in a study."""
    random = Random(1)
    came = [instances * (1 + random.uniform(-noise, noise)) for _ in range(number)]
    return [Minute(ceiling, each / 100, each, each * 500_000) for each in came]


def likely(remaining: Remaining, minutes: list[Minute], windows: Windows, now: datetime = NOON) -> datetime | None:
    found = forecast(remaining, minutes, windows, now)
    return None if found is None else found.likely


def test_where_nothing_is_closed_it_is_what_is_left_by_the_rate() -> None:
    assert likely(Remaining(instances=360_000), measured(), ALWAYS) == NOON + timedelta(hours=1)


def test_only_open_time_counts() -> None:
    assert likely(Remaining(instances=360_000), measured(), NIGHTS) == datetime(2026, 6, 1, 20, tzinfo=BERLIN)
    night = 12 * 360_000
    assert likely(Remaining(instances=night), measured(), NIGHTS) == datetime(2026, 6, 2, 7, tzinfo=BERLIN)
    assert likely(Remaining(instances=3 * night + 6000), measured(), NIGHTS) == datetime(
        2026, 6, 4, 19, 1, tzinfo=BERLIN
    )


def test_night_on_which_clocks_are_changed_is_as_long_as_it_is() -> None:
    noon = datetime(2026, 10, 24, 12, tzinfo=BERLIN)
    found = likely(Remaining(instances=13 * 360_000), measured(), NIGHTS, noon)
    assert found == datetime(2026, 10, 25, 7, tzinfo=BERLIN)


def test_what_takes_longest_counts() -> None:
    minutes = measured()
    hour = Remaining(studies=3600, instances=360_000, nbytes=360_000 * 500_000)
    for more in ("studies", "instances", "nbytes"):
        left = hour.replace(**{more: getattr(hour, more) * 5})
        assert likely(left, minutes, ALWAYS) == NOON + timedelta(hours=5)


def test_ceiling_that_was_never_measured_brings_as_much_for_each_move() -> None:
    half = Windows((), BERLIN, Ceiling(4))
    assert likely(Remaining(instances=360_000), measured(), half) == NOON + timedelta(hours=2)


def test_ceiling_that_was_measured_brings_what_was_measured() -> None:
    minutes = [*measured(), *measured(Ceiling(4), instances=5400)]
    half = Windows((), BERLIN, Ceiling(4))
    assert likely(Remaining(instances=5400), minutes, half) == NOON + timedelta(minutes=1)


def test_few_minutes_under_a_ceiling_do_not_stand_for_it() -> None:
    minutes = [*measured(), *measured(Ceiling(4), instances=0, number=4)]
    found = likely(Remaining(instances=360_000), minutes, Windows((), BERLIN, Ceiling(4)))
    assert found is not None
    assert found - NOON == pytest.approx(timedelta(hours=2), rel=0.1)


def test_without_a_limit_there_are_as_many_moves_as_there_were_at_most() -> None:
    minutes = [*measured(Ceiling(4)), *measured(EIGHT)]
    unlimited = Windows((), BERLIN, OPEN)
    assert likely(Remaining(instances=480_000), minutes, unlimited) == NOON + timedelta(hours=1)
    assert likely(Remaining(instances=360_000), measured(OPEN), unlimited) == NOON + timedelta(hours=1)


@pytest.mark.parametrize("ceiling", [Ceiling(16, objects_per_s=50), Ceiling(16, bytes_per_s=25_000_000)])
def test_ceilings_of_bytes_and_objects_are_not_exceeded(ceiling: Ceiling) -> None:
    left = Remaining(instances=360_000, nbytes=360_000 * 500_000)
    found = forecast(left, measured(), Windows((), BERLIN, ceiling), NOON)
    assert found is not None
    assert found.earliest == found.likely == NOON + timedelta(hours=2)


def test_range_is_wider_the_more_rates_vary_and_never_nothing() -> None:
    left = Remaining(instances=3_600_000)
    steady, unsteady = (forecast(left, measured(noise=noise), ALWAYS, NOON) for noise in (0.0, 0.9))
    assert steady is not None and unsteady is not None
    assert steady.latest is not None and unsteady.latest is not None
    assert steady.latest - steady.likely == pytest.approx(timedelta(minutes=30), abs=SECOND)
    assert unsteady.earliest < steady.earliest < steady.likely < steady.latest < unsteady.latest


def test_few_minutes_may_be_wrong_by_half_and_by_twice() -> None:
    found = forecast(Remaining(instances=360_000), measured(number=2), ALWAYS, NOON)
    assert found is not None
    assert found.earliest == NOON + timedelta(hours=0.5)
    assert found.latest == NOON + timedelta(hours=2)


def test_range_covers_that_fewer_moves_bring_as_much_and_more_moves_bring_no_more() -> None:
    left = Remaining(instances=360_000)
    fewer = forecast(left, measured(), Windows((), BERLIN, Ceiling(2)), NOON)
    more = forecast(left, measured(), Windows((), BERLIN, Ceiling(16)), NOON)
    assert fewer is not None and more is not None and fewer.latest is not None and more.latest is not None
    assert fewer.earliest < NOON + timedelta(hours=1) < NOON + timedelta(hours=3.9) < fewer.likely < fewer.latest
    assert more.earliest < more.likely == NOON + timedelta(minutes=30)
    assert more.latest > NOON + timedelta(hours=1)


def test_nights_and_days_that_differ_are_no_uncertainty() -> None:
    minutes = [*measured(), *measured(Ceiling(1), instances=750)]
    found = forecast(Remaining(instances=360_000), minutes, ALWAYS, NOON)
    assert found is not None and found.latest is not None
    assert found.latest - found.likely == pytest.approx(timedelta(minutes=3), abs=SECOND)


def test_minutes_in_which_it_was_closed_say_nothing() -> None:
    minutes = [*measured(), *[Minute(CLOSED)] * 500]
    half = Windows((), BERLIN, Ceiling(4))
    assert forecast(Remaining(instances=360_000), minutes, half, NOON) == forecast(
        Remaining(instances=360_000), measured(), half, NOON
    )


def test_nothing_left_is_finished_now() -> None:
    assert likely(Remaining(studies=0, instances=0, nbytes=0), [], NIGHTS) == NOON


@pytest.mark.parametrize(
    ("remaining", "minutes", "windows"),
    [
        (Remaining(), measured(), ALWAYS),
        (Remaining(instances=1), [], ALWAYS),
        (Remaining(instances=1), [Minute(EIGHT)] * 60, ALWAYS),
        (Remaining(instances=1, studies=5), [Minute(EIGHT, instances=100)] * 60, ALWAYS),
        (Remaining(instances=1), measured(), Windows([parse_window("daily 00:00-24:00 closed")], BERLIN)),
        (Remaining(instances=10**12), measured(), ALWAYS),
        (Remaining(instances=10**9), [Minute(EIGHT, instances=1e-9)] * 60, ALWAYS),
        (Remaining(instances=10**30), measured(), NIGHTS),
    ],
    ids=[
        "unknown",
        "unmeasured",
        "nothing came",
        "no study came",
        "never open",
        "too far",
        "hardly anything",
        "far too far",
    ],
)
def test_what_cannot_be_foreseen_is_not(remaining: Remaining, minutes: list[Minute], windows: Windows) -> None:
    assert forecast(remaining, minutes, windows, NOON) is None


def test_latest_may_lie_beyond_what_is_foreseen() -> None:
    found = forecast(Remaining(instances=100 * 86_400 * 365 * 4), measured(number=2), ALWAYS, NOON)
    assert found is not None
    assert found.latest is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.builds(
            Minute,
            st.builds(Ceiling, st.integers(1, 16)),
            st.floats(0, 10),
            st.floats(1, 10_000),
            st.floats(1, 1e9),
            st.floats(1, 60),
        ),
        min_size=1,
        max_size=30,
    ),
    st.lists(st.integers(1, 16), min_size=1, max_size=3),
    st.integers(1, 10**6),
    st.integers(0, 10**5),
    st.integers(0, 365 * 24 * 60),
)
def test_earliest_is_before_likely_is_before_latest_and_more_takes_longer(
    minutes: list[Minute], parallel: list[int], instances: int, more: int, at: int
) -> None:
    texts = ("mon-fri 19:00-07:00", "sat,sun 00:00-24:00", "daily 01:30-02:30")
    windows = Windows([parse_window(f"{text} parallel={n}") for text, n in zip(texts, parallel, strict=False)], BERLIN)
    now = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=at)
    found = forecast(Remaining(instances=instances), minutes, windows, now)
    if found is None:
        return
    assert now <= found.earliest <= found.likely
    assert found.latest is None or found.likely <= found.latest
    open_then = (windows.at(found.likely - timedelta(microseconds=1)), windows.at(found.likely))
    assert not all(ceiling.closed for ceiling in open_then), "it ends while something may come"
    longer = forecast(Remaining(instances=instances + more), minutes, windows, now)
    assert longer is None or longer.likely >= found.likely
