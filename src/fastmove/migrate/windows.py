"""Weekly windows of a peer: when anything may be begun, and how much at once; no clock, moments are passed in.

Windows are meant by the clock on the wall, and clocks are changed twice a year.  A window opens when the clock first
shows its beginning, or anything later, and closes once the clock has shown everything before its end for the last time.
So what begins or ends within an hour that is skipped does so with the jump; where an hour comes twice, a window that
covers it is that much longer, and one that begins or ends within it has the longer of both readings.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Final, NamedTuple

from fastmove.errors import ConfigurationError
from fastmove.sizes import parse_size, shown_size
from fastmove.values import Value

DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
"""As `date.weekday` counts them."""

EXAMPLE: Final = "mon-fri 19:00-07:00 parallel=8 rate=100M objects=400"

MAX_PARALLEL: Final = 1 << 16
"""Moves at once that a window may allow: message IDs have 16 bits (PS3.7 E.1)."""

DAY_MINUTES: Final = 24 * 60

LOOKED_AHEAD: Final = timedelta(days=15)
"""If nothing has changed until then nothing does: a week, and one more as a change of the clock may swallow one."""

KEPT: Final = 1024
"""Openings that are kept."""
_BEFORE: Final = 2
"""Days before a moment on which a window may have begun that contains it: over midnight, and a clock that was set back
over midnight."""


class Ceiling(Value):
    """The most that may be had of a peer at a time; None: no limit of its own."""

    parallel: int | None = None
    """Moves at once; 0: nothing may be begun."""

    bytes_per_s: float | None = None
    objects_per_s: float | None = None

    @property
    def closed(self) -> bool:
        """True if nothing may be begun."""
        return self.parallel == 0

    @property
    def has_rate(self) -> bool:
        """True if what comes within a second is limited."""
        return self.bytes_per_s is not None or self.objects_per_s is not None

    def __str__(self) -> str:
        if self.closed:
            return "closed"
        parts = (
            "" if self.parallel is None else f"parallel {self.parallel}",
            "" if self.bytes_per_s is None else f"{shown_size(round(self.bytes_per_s))}/s",
            "" if self.objects_per_s is None else f"{self.objects_per_s:g} objects/s",
        )
        return " / ".join(filter(None, parts)) or "open"


OPEN: Final = Ceiling()
"""Nothing is limited."""

CLOSED: Final = Ceiling(parallel=0)
"""Nothing may be begun."""


class Window(Value):
    """A time of the week, and what may be had then; it belongs to the days on which it begins."""

    days: frozenset[int]
    """0: Monday."""

    begin: int
    """Minutes after midnight..."""

    end: int
    """... at most 1440; not after `begin`: on the day that follows."""

    ceiling: Ceiling = OPEN

    def __str__(self) -> str:
        return f"{_days_text(self.days)} {_clock(self.begin)}-{_clock(self.end)}{_settings_text(self.ceiling)}"

    def walls(self, day: date) -> tuple[datetime, datetime]:
        """From when to when it is open by the clock on the wall, if it begins on that day."""
        midnight = datetime.combine(day, time.min)
        length = self.end - self.begin if self.end > self.begin else self.end - self.begin + DAY_MINUTES
        begin = midnight + timedelta(minutes=self.begin)
        return begin, begin + timedelta(minutes=length)


# ---------------------------------------------------------------------- as people write them


_TIMES: Final = re.compile(r"(\d{1,2}):(\d\d)-(\d{1,2}):(\d\d)", re.ASCII)


def parse_window(text: str, field: str = "window") -> Window:
    """The window of `mon-fri 19:00-07:00 parallel=8`; ConfigurationError, which names it, for all else."""
    days, _, rest = re.sub(r"\s*([-,=])\s*", r"\1", text).strip().partition(" ")
    times, *settings = rest.split() or [""]
    try:
        return Window(_days(days.lower()), *_times(times), _ceiling(settings))
    except ValueError as error:
        raise ConfigurationError(field, f"{text!r}: {error}; a window looks like {EXAMPLE!r}") from None


def _days(text: str) -> frozenset[int]:
    if text == "daily":
        return frozenset(range(len(DAYS)))
    found: set[int] = set()
    for part in text.split(","):
        name, dash, until = part.partition("-")
        first, last = _day(name), _day(until if dash else name)
        found.update((first + n) % len(DAYS) for n in range((last - first) % len(DAYS) + 1))
    return frozenset(found)


def _day(name: str) -> int:
    if name not in DAYS:
        raise ValueError(f"{name!r} is no day: {', '.join(DAYS)}, or daily for all of them")
    return DAYS.index(name)


def _times(text: str) -> tuple[int, int]:
    found = _TIMES.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} does not say from when to when, as 19:00-07:00 does")
    hour, minute, end_hour, end_minute = map(int, found.groups())
    begin, end = hour * 60 + minute, end_hour * 60 + end_minute
    if max(minute, end_minute) > 59 or begin >= DAY_MINUTES or end > DAY_MINUTES:
        raise ValueError(f"{text!r} has a time that no day has: it may begin from 00:00 to 23:59, and end until 24:00")
    if begin == end:
        raise ValueError(f"{text!r} begins when it ends: a whole day is 00:00-24:00")
    return begin, end or DAY_MINUTES


def _parallel(text: str) -> int:
    if not re.fullmatch(r"\d{1,9}", text, re.ASCII) or not 1 <= int(text) <= MAX_PARALLEL:
        raise ValueError(f"parallel is a number from 1 to {MAX_PARALLEL:,}, not {text!r}; `closed` allows nothing")
    return int(text)


def _rate(text: str) -> float:
    if (rate := parse_size(text.removesuffix("/s"))) <= 0:
        raise ValueError("rate has to be more than 0 bytes a second; `closed` allows nothing")
    return float(rate)


def _objects(text: str) -> float:
    if not re.fullmatch(r"\d{1,9}(\.\d{1,9})?", text, re.ASCII) or float(text) <= 0:
        raise ValueError(f"objects is a number a second, more than 0, not {text!r}; `closed` allows nothing")
    return float(text)


def _size_text(value: float) -> str:
    """As short as it can be without losing anything: 100M."""
    unit, factor = next((unit for unit in _UNITS if value >= unit[1] and value % unit[1] == 0), ("", 1))
    return f"{round(value / factor)}{unit}"


_UNITS: Final = (("G", 10**9), ("M", 10**6), ("k", 10**3))


class _Setting(NamedTuple):
    field: str
    read: Callable[[str], float]
    write: Callable[[float], str]


_SETTINGS: Final = {
    "parallel": _Setting("parallel", _parallel, str),
    "rate": _Setting("bytes_per_s", _rate, _size_text),
    "objects": _Setting("objects_per_s", _objects, lambda value: f"{value:.9f}".rstrip("0").rstrip(".")),
}


def _ceiling(settings: Sequence[str]) -> Ceiling:
    if "closed" in settings:
        if len(settings) > 1:
            raise ValueError("what is closed has no other settings")
        return CLOSED
    found: dict[str, float] = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if name not in _SETTINGS or not value:
            raise ValueError(f"{setting!r} is no setting: {', '.join(f'{each}=...' for each in _SETTINGS)}, or closed")
        row = _SETTINGS[name]
        if row.field in found:
            raise ValueError(f"{name} is there twice")
        found[row.field] = row.read(value)
    return OPEN.replace(**found)


def _days_text(days: frozenset[int]) -> str:
    if len(days) == len(DAYS):
        return "daily"
    runs: list[list[int]] = []
    for day in sorted(days):
        if runs and runs[-1][-1] == day - 1:
            runs[-1].append(day)
        else:
            runs.append([day])
    names = ([DAYS[day] for day in run] for run in runs)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(run) for run in names)


def _settings_text(ceiling: Ceiling) -> str:
    if ceiling.closed:
        return " closed"
    values = ((name, row, getattr(ceiling, row.field)) for name, row in _SETTINGS.items())
    return "".join(f" {name}={row.write(value)}" for name, row, value in values if value is not None)


# ---------------------------------------------------------------------- what holds when


class Span(NamedTuple):
    """A time in which the same holds, in UTC; `end` is None if it stays so."""

    begin: datetime
    end: datetime | None
    ceiling: Ceiling


class Windows:
    """The windows of a peer; the last one that contains a moment counts, so exceptions stand behind what is usual.

    Without any the default always holds; with some everything is closed that none of them contains.
    """

    def __init__(self, windows: Sequence[Window], timezone: tzinfo, default: Ceiling = OPEN) -> None:
        self.windows = tuple(windows)
        self.timezone = timezone
        self.default = default
        self._known: dict[tuple[int, date], tuple[datetime, datetime]] = {}

    def at(self, moment: datetime) -> Ceiling:
        """What holds at a moment; ValueError if it has no time zone."""
        now = _utc(moment)
        if not self.windows:
            return self.default
        today = now.astimezone(self.timezone).date()
        days = [today + timedelta(distance) for distance in range(-_BEFORE, 2)]
        for number in reversed(range(len(self.windows))):
            if any(opens <= now < closes for day in days for opens, closes in self._moments(number, day)):
                return self.windows[number].ceiling
        return CLOSED

    def next_change(self, moment: datetime) -> datetime | None:
        """When something else begins to hold, in UTC, in which differences are what passes; None if it never does."""
        return next(self.spans(moment)).end

    def spans(self, moment: datetime) -> Iterator[Span]:
        """What holds from a moment on, one after the other, without an end unless it stays as it is."""
        begin, holds = _utc(moment), self.at(moment)
        last = begin
        for edge in self._edges(begin):
            if edge - last > LOOKED_AHEAD:
                break
            if (ceiling := self.at(edge)) != holds:
                yield Span(begin, edge, holds)
                begin, holds, last = edge, ceiling, edge
        yield Span(begin, None, holds)

    def _edges(self, now: datetime) -> Iterator[datetime]:
        """When windows open and close after a moment, in order, without an end."""
        if not any(window.days for window in self.windows):
            return
        day = now.astimezone(self.timezone).date() - timedelta(_BEFORE)
        waiting: list[datetime] = []
        last = now
        while True:
            for number in range(len(self.windows)):
                for moments in self._moments(number, day):
                    waiting.extend(moments)
            waiting.sort()
            day += timedelta(1)
            # Nothing that belongs to this day or a later one is before its first midnight.
            midnight = self._moment(datetime.combine(day, time.min), closing=False)
            due = bisect_right(waiting, midnight)
            for edge in waiting[:due]:
                if edge > last:
                    last = edge
                    yield edge
            del waiting[:due]

    def _moments(self, number: int, day: date) -> Sequence[tuple[datetime, datetime]]:
        """When a window opens that begins on a day, and when it closes; nothing if none does."""
        window = self.windows[number]
        if day.weekday() not in window.days:
            return ()
        if (found := self._known.get((number, day))) is None:
            opens, closes = window.walls(day)
            found = self._moment(opens, closing=False), self._moment(closes, closing=True)
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[number, day] = found
        return (found,)

    def _moment(self, wall: datetime, *, closing: bool) -> datetime:
        """When the clock shows a time, in UTC: first, or last if something closes; with the jump if it never does."""
        first, last = (wall.replace(tzinfo=self.timezone, fold=fold).astimezone(UTC) for fold in (0, 1))
        if first == last:
            return first
        if first < last:
            # Set back to this very time, the clock shows nothing before it once more.
            again = closing and self._wall(last - timedelta(seconds=1)) < wall
            return last if again else first
        # The time is skipped, and the two readings lie before and behind the jump.
        before, behind = 0, int((first - last).total_seconds())
        while behind - before > 1:
            middle = (before + behind) // 2
            shown = self._wall(last + timedelta(seconds=middle))
            before, behind = (middle, behind) if shown < wall else (before, middle)
        return last + timedelta(seconds=behind)

    def _wall(self, moment: datetime) -> datetime:
        return moment.astimezone(self.timezone).replace(tzinfo=None)

    # ------------------------------------------------------------------ for people

    def describe(self) -> tuple[str, ...]:
        """The week day by day, as it is while no clock is changed: `Mon 00:00-07:00 parallel 8, 07:00-24:00 closed`."""
        return tuple(
            f"{name.capitalize()} " + ", ".join(f"{_clock(begin)}-{_clock(end)} {what}" for begin, end, what in parts)
            for name, parts in zip(DAYS, self._week(), strict=True)
        )

    def picture(self) -> tuple[str, ...]:
        """The week as a picture for a terminal: hours, a row of 48 half hours for each day, what the marks mean."""
        hours = "".join(f"{hour:<6}" for hour in range(0, 24, 3)).rstrip()
        rows = (f"{name.capitalize()} " + _row(parts) for name, parts in zip(DAYS, self._week(), strict=True))
        return f"    {hours}", *rows, LEGEND

    def _week(self) -> Iterator[list[_Part]]:
        nominal = Windows(self.windows, UTC, self.default)
        for day in range(len(DAYS)):
            midnight = _SOME_MONDAY + timedelta(day)
            parts = []
            for begin, end, ceiling in nominal.spans(midnight):
                until = midnight + timedelta(1) if end is None else min(end, midnight + timedelta(1))
                parts.append(_Part(_minutes(begin - midnight), _minutes(until - midnight), ceiling))
                if parts[-1].end == DAY_MINUTES:
                    break
            yield parts


class _Part(NamedTuple):
    """A part of a day, in minutes after midnight."""

    begin: int
    end: int
    ceiling: Ceiling


_SOME_MONDAY: Final = datetime(2024, 1, 1, tzinfo=UTC)

LEGEND: Final = ". closed  1-9 moves at once  + more  # no limit of its own  | changes within the half hour"


def _row(parts: Sequence[_Part]) -> str:
    marks = []
    for begin in range(0, DAY_MINUTES, 30):
        found = [part.ceiling for part in parts if part.begin < begin + 30 and part.end > begin]
        marks.append(_mark(found[0]) if len(found) == 1 else "|")
    return "".join(marks)


def _mark(ceiling: Ceiling) -> str:
    if ceiling.closed:
        return "."
    if ceiling.parallel is None:
        return "#"
    return str(ceiling.parallel) if ceiling.parallel < 10 else "+"


def _minutes(span: timedelta) -> int:
    return span // timedelta(minutes=1)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


def _utc(moment: datetime) -> datetime:
    if moment.utcoffset() is None:
        raise ValueError("a moment needs a time zone")
    return moment.astimezone(UTC)
