"""Weekly windows: as people write them, and what holds when, also where clocks are changed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from itertools import islice
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.errors import ConfigurationError
from fastmove.migrate.windows import CLOSED, DAY_MINUTES, OPEN, Ceiling, Window, Windows, parse_window

MINUTE = timedelta(minutes=1)
BERLIN = ZoneInfo("Europe/Berlin")

NIGHTS = (
    "mon-fri 19:00-07:00 parallel=8 rate=100M objects=400",
    "sat,sun 00:00-24:00 parallel=16",
    "daily 12:00-13:00 parallel=1",
    "mon-fri 07:00-19:00 closed",
)
ODD = (
    "sat-mon 02:15-02:45 parallel=2",
    "sun 02:30-03:30 parallel=3",
    "daily 23:17-02:00 parallel=4",
    "sun 01:50-02:20 closed",
)
MIDNIGHT = (
    "sun 00:00-06:00 parallel=5",
    "fri 23:40-23:30 parallel=6",
)

CHANGES = {
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
    "Australia/Lord_Howe": (date(2026, 4, 5), date(2026, 10, 4)),
    "Asia/Kolkata": (date(2026, 3, 29), date(2026, 10, 25)),
    "America/Havana": (date(2026, 3, 8), date(2026, 11, 1)),  # to and from midnight
    "America/St_Johns": (date(2010, 3, 14), date(2010, 11, 7)),  # at one minute past midnight, back to the day before
    "Pacific/Apia": (date(2011, 12, 30),),  # a day that was not
}
NIGHTS_OF_CHANGE = [(zone, day) for zone, days in CHANGES.items() for day in days]


def windows(*texts: str, zone: tzinfo = BERLIN, default: Ceiling = OPEN) -> Windows:
    return Windows([parse_window(text) for text in texts], zone, default)


def moment(text: str, zone: tzinfo = BERLIN, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold)


def opened(of: Windows, begin: str, days: int = 1) -> list[tuple[str, str]]:
    """When it is not closed, by the clock in UTC, within some days of a local midnight."""
    since = moment(begin, of.timezone).astimezone(UTC)
    found = []
    for span in of.spans(since):
        if span.begin >= since + timedelta(days):
            break
        if not span.ceiling.closed and span.end is not None:
            found.append((f"{span.begin:%H:%M}", f"{span.end:%H:%M}"))
    return found


# As people write them


def test_window_has_days_times_and_ceilings() -> None:
    window = parse_window("mon-fri 19:00-07:00 parallel=8 rate=100M objects=400")
    assert window == Window(frozenset(range(5)), 19 * 60, 7 * 60, Ceiling(8, 100e6, 400.0))
    assert parse_window("daily 7:05-24:00").ceiling == OPEN
    assert parse_window("daily 7:05-00:00") == parse_window("daily 7:05-24:00")
    assert parse_window("mon 07:00-19:00 closed").ceiling == CLOSED


@pytest.mark.parametrize(
    ("text", "days"),
    [("daily", "0123456"), ("sat-mon", "560"), ("sat,sun", "56"), ("Mon - Wed , fri", "0124"), ("tue-tue", "1")],
)
def test_days_are_names_lists_and_ranges_also_over_the_end_of_the_week(text: str, days: str) -> None:
    assert parse_window(f"{text} 00:00-24:00").days == frozenset(map(int, days))


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "'' is no day"),
        ("monday 1:00-2:00", "'monday' is no day"),
        ("mon-wed-fri 1:00-2:00", "'wed-fri' is no day"),
        ("mon- 1:00-2:00", "'1:00-2:00' is no day"),  # spaces beside a dash do not count
        ("mon,,tue 1:00-2:00", "'' is no day"),
        ("mon", "does not say from when to when"),
        ("mon 19-7", "does not say from when to when"),
        ("mon 24:00-01:00", "a time that no day has"),
        ("mon 23:00-24:01", "a time that no day has"),
        ("mon 10:60-11:00", "a time that no day has"),
        ("mon 10:00-10:00", "a whole day is 00:00-24:00"),
        ("mon 1:00-2:00 paralel=2", "'paralel=2' is no setting"),
        ("mon 1:00-2:00 parallel", "'parallel' is no setting"),
        ("mon 1:00-2:00 parallel=0", "`closed` allows nothing"),
        ("mon 1:00-2:00 parallel=two", "from 1 to 65,536"),
        ("mon 1:00-2:00 parallel=2 parallel=3", "parallel is there twice"),
        ("mon 1:00-2:00 rate=fast", "'fast' is no size"),
        ("mon 1:00-2:00 rate=0", "more than 0"),
        ("mon 1:00-2:00 objects=-1", "more than 0"),
        ("mon 1:00-2:00 closed parallel=2", "no other settings"),
    ],
)
def test_what_is_no_window_is_named_with_what_is_wrong_and_how_one_looks(text: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_window(text, "peers.main.windows")
    message = str(caught.value)
    assert message.startswith(f"peers.main.windows: {text!r}: ")
    assert wrong in message
    assert "looks like 'mon-fri 19:00-07:00 parallel=8" in message


CEILINGS = st.builds(
    Ceiling,
    st.none() | st.integers(1, 99),
    st.none() | st.integers(1, 10**12).map(float) | st.sampled_from([1e3, 5e6, 2e9]),
    st.none() | st.integers(1, 10**5).map(float) | st.sampled_from([0.5, 2.25]),
) | st.just(CLOSED)
WINDOWS = st.builds(
    Window,
    st.frozensets(st.integers(0, 6), min_size=1),
    st.integers(0, DAY_MINUTES - 1),
    st.integers(1, DAY_MINUTES),
    CEILINGS,
).filter(lambda window: window.begin != window.end)


@given(WINDOWS)
def test_window_is_written_as_it_is_read(window: Window) -> None:
    assert parse_window(str(window)) == window


# What holds when


def test_without_windows_the_default_always_holds() -> None:
    always = windows(default=Ceiling(4))
    assert always.at(moment("2026-01-01T12:00")) == Ceiling(4)
    assert always.next_change(moment("2026-01-01T12:00")) is None


def test_what_no_window_contains_is_closed() -> None:
    nights = windows("mon-fri 19:00-07:00", default=Ceiling(4))
    assert nights.at(moment("2026-01-05T18:59")) == CLOSED
    assert nights.at(moment("2026-01-05T19:00")) == OPEN


def test_last_window_that_contains_a_moment_counts() -> None:
    week = windows(*NIGHTS)
    assert week.at(moment("2026-01-06T12:30")) == CLOSED
    assert week.at(moment("2026-01-10T12:30")) == Ceiling(1)
    assert week.at(moment("2026-01-10T13:30")) == Ceiling(16)


def test_window_over_midnight_belongs_to_the_day_on_which_it_begins() -> None:
    friday = windows("fri 19:00-07:00")
    assert friday.at(moment("2026-01-10T06:59")) == OPEN, "Saturday morning"
    assert friday.at(moment("2026-01-09T06:59")) == CLOSED, "Friday morning"
    assert friday.at(moment("2026-01-10T07:00")) == CLOSED


def test_windows_that_follow_each_other_with_the_same_ceiling_are_no_change() -> None:
    week = windows("daily 00:00-24:00 parallel=3")
    assert week.next_change(moment("2026-01-06T12:30")) is None
    assert [span.ceiling for span in week.spans(moment("2026-01-06T12:30"))] == [Ceiling(3)]


def test_window_that_never_opens_changes_nothing() -> None:
    assert Windows([Window(frozenset(), 0, 60)], BERLIN).next_change(moment("2026-01-06T12:30")) is None


def test_moment_may_be_of_any_time_zone_and_has_to_have_one() -> None:
    nights = windows("daily 19:00-07:00")
    assert nights.at(datetime(2026, 1, 5, 18, 30, tzinfo=UTC)) == OPEN
    assert nights.at(datetime(2026, 1, 6, 3, 30, tzinfo=timezone(timedelta(hours=9)))) == OPEN
    assert nights.at(datetime(2026, 1, 6, 2, 30, tzinfo=timezone(timedelta(hours=9)))) == CLOSED
    with pytest.raises(ValueError, match="time zone"):
        nights.at(datetime(2026, 1, 5, 18, 30))


def test_changes_follow_each_other_through_the_week() -> None:
    spans = list(islice(windows(*NIGHTS).spans(moment("2026-01-09T15:00")), 5))
    assert [(f"{span.begin.astimezone(BERLIN):%a %H:%M}", str(span.ceiling)) for span in spans] == [
        ("Fri 15:00", "closed"),
        ("Fri 19:00", "parallel 8 / 100 MB/s / 400 objects/s"),
        ("Sat 00:00", "parallel 16"),
        ("Sat 12:00", "parallel 1"),
        ("Sat 13:00", "parallel 16"),
    ]


# Where clocks are changed: Berlin skips 02:00-03:00 on 29 March, and has it twice on 25 October 2026


@pytest.mark.parametrize(
    ("window", "open_in_utc"),
    [
        ("sun 02:30-03:30", [("01:00", "01:30")]),  # opens with the jump
        ("sun 01:30-02:30", [("00:30", "01:00")]),  # closes with it
        ("sun 02:15-02:45", []),
        ("sun 01:00-04:00", [("00:00", "02:00")]),  # an hour less
    ],
)
def test_hour_that_is_skipped(window: str, open_in_utc: list[tuple[str, str]]) -> None:
    assert opened(windows(window), "2026-03-29") == open_in_utc


@pytest.mark.parametrize(
    ("window", "open_in_utc"),
    [
        ("sun 01:00-04:00", [("23:00", "03:00")]),  # an hour more
        ("sun 02:30-03:30", [("00:30", "02:30")]),  # opens the first time,
        ("sun 01:30-02:30", [("23:30", "01:30")]),  # closes the last time
        ("sun 02:15-02:45", [("00:15", "01:45")]),
        ("sun 01:00-02:00", [("23:00", "00:00")]),  # two o'clock comes twice, what is before it does not
        ("sun 02:00-03:00", [("00:00", "02:00")]),
        ("sun 03:00-04:00", [("02:00", "03:00")]),
    ],
)
def test_hour_that_comes_twice(window: str, open_in_utc: list[tuple[str, str]]) -> None:
    assert opened(windows(window), "2026-10-25") == open_in_utc


@pytest.mark.parametrize(("day", "hours"), [("2026-03-28", 11), ("2026-10-24", 13), ("2026-06-01", 12)])
def test_night_is_as_long_as_it_is(day: str, hours: int) -> None:
    night = windows("daily 19:00-07:00")
    begin = moment(f"{day}T19:00").astimezone(UTC)
    assert night.at(begin - MINUTE) == CLOSED
    assert night.next_change(begin) == begin + timedelta(hours=hours)


def test_weekly_window_that_a_change_swallows_is_waited_for_beyond_a_week() -> None:
    change = windows("sun 02:15-02:45").next_change(moment("2026-03-22T03:00"))
    assert change == moment("2026-04-05T02:15")


def test_half_an_hour_is_enough_for_lord_howe() -> None:
    zone = ZoneInfo("Australia/Lord_Howe")
    assert opened(windows("sun 01:00-03:00", zone=zone), "2026-04-05") == [("14:00", "16:30")]
    assert opened(windows("sun 01:00-03:00", zone=zone), "2026-10-04") == [("14:30", "16:00")]
    assert opened(windows("sun 02:15-03:00", zone=zone), "2026-10-04") == [("15:30", "16:00")]


def test_day_that_was_not_has_no_window() -> None:
    zone = ZoneInfo("Pacific/Apia")
    fridays = windows("fri 09:00-17:00", "thu 20:00-06:00", zone=zone)
    assert opened(fridays, "2011-12-29", days=3) == [("06:00", "10:00")]


def by_the_minute(of: Windows, begin: datetime, minutes: int) -> list[Ceiling]:
    """What holds, by looking at the clock each minute of a longer time."""
    margin = 3 * DAY_MINUTES
    first = begin - margin * MINUTE
    walls = [(first + n * MINUTE).astimezone(of.timezone).replace(tzinfo=None) for n in range(minutes + 2 * margin)]
    held = [CLOSED if of.windows else of.default] * len(walls)
    days = sorted({wall.date() for wall in walls} | {walls[0].date() + timedelta(n) for n in range(len(walls) // 1440)})
    for window in of.windows:
        for day in days[1:-2]:
            if day.weekday() in window.days:
                opens_at, closes_at = window.walls(day)
                opens = next(n for n, wall in enumerate(walls) if wall >= opens_at)
                closes = next(n for n in range(len(walls), 0, -1) if walls[n - 1] < closes_at)
                held[opens:closes] = [window.ceiling] * (closes - opens)
    return held[margin : margin + minutes]


@pytest.mark.parametrize("texts", [NIGHTS, ODD, MIDNIGHT], ids=["nights", "odd", "midnight"])
@pytest.mark.parametrize(("zone", "change"), NIGHTS_OF_CHANGE)
def test_what_holds_is_what_the_clock_says_each_minute_of_a_week(zone: str, change: date, texts: Sequence[str]) -> None:
    week = windows(*texts, zone=ZoneInfo(zone))
    begin = datetime.combine(change - timedelta(3), time.min, UTC)
    minutes = 7 * DAY_MINUTES
    expected = by_the_minute(week, begin, minutes)
    assert [week.at(begin + n * MINUTE) for n in range(minutes)] == expected
    changes = [begin + n * MINUTE for n in range(1, minutes) if expected[n] != expected[n - 1]]
    assert [span.end for span in islice(week.spans(begin), len(changes))] == changes


@settings(max_examples=150, deadline=None)
@given(
    st.lists(WINDOWS, max_size=4),
    st.sampled_from(NIGHTS_OF_CHANGE),
    st.integers(-3 * DAY_MINUTES, 3 * DAY_MINUTES),
    st.lists(st.floats(0, 0.999), max_size=5),
)
def test_nothing_changes_before_the_next_change_and_something_does_then(
    some: list[Window], night: tuple[str, date], offset: int, between: list[float]
) -> None:
    zone, day = night
    week = Windows(some, ZoneInfo(zone), Ceiling(7))
    now = datetime.combine(day, time.min, UTC) + offset * MINUTE
    change = week.next_change(now)
    until = now + timedelta(40) if change is None else change
    for part in (*between, 0.0):
        assert week.at(now + (until - now) * part) == week.at(now)
    if change is not None:
        assert change > now
        assert week.at(change - timedelta(microseconds=1)) == week.at(now) != week.at(change)


# For people


def test_week_is_described_day_by_day() -> None:
    lines = windows(*NIGHTS).describe()
    night = "parallel 8 / 100 MB/s / 400 objects/s"
    assert len(lines) == 7
    assert lines[0] == f"Mon 00:00-19:00 closed, 19:00-24:00 {night}"
    assert lines[1] == f"Tue 00:00-07:00 {night}, 07:00-19:00 closed, 19:00-24:00 {night}"
    assert lines[5] == "Sat 00:00-12:00 parallel 16, 12:00-13:00 parallel 1, 13:00-24:00 parallel 16"
    assert windows(default=Ceiling(3)).describe()[6] == "Sun 00:00-24:00 parallel 3"


def test_week_is_pictured_by_half_hours() -> None:
    hours, *rows, legend = windows(*NIGHTS, "sun 20:15-20:30").picture()
    assert hours.split() == ["0", "3", "6", "9", "12", "15", "18", "21"]
    assert [row[:4] for row in rows] == ["Mon ", "Tue ", "Wed ", "Thu ", "Fri ", "Sat ", "Sun "]
    assert all(len(row) == 4 + 48 for row in rows)
    assert rows[1][4:] == "8" * 14 + "." * 24 + "8" * 10
    assert rows[6][4:] == "+" * 24 + "11" + "+" * 14 + "|" + "+" * 7
    assert ". closed" in legend
    assert hours.index("21") == 4 + 42, "above its half hour"
