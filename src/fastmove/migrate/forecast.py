"""When a migration will be finished, from what its last minutes brought and from the windows of its peer.

The model: while a ceiling holds, so much comes a second as came on average in the minutes in which this ceiling held.
If there were too few of these, so much as came on average for each move that was allowed, times the moves that this
ceiling allows, and no more bytes and objects than it allows.  While closed nothing comes.  Of studies, instances and
bytes, as far as it is known how many are left, the one that takes longest counts.

The range: rates are as uncertain as the averages of parts of what was measured differ, twice the standard error, and
by a twentieth at least, as nobody knows the studies to come.  Where moves had to be reckoned with, the earliest is that
fewer moves bring no less than what was measured, and the latest that more moves bring no more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from statistics import fmean, stdev
from typing import Final, NamedTuple

from fastmove.migrate.windows import Ceiling, Span, Windows
from fastmove.values import Value

ENOUGH: Final = 5
"""Minutes under a ceiling, from which on what they brought is taken for what it brings."""

PARTS: Final = 10
"""What was measured is divided into so many parts, whose averages show how uncertain it is..."""

LEAST_SPREAD: Final = 0.05
"""... by this part at least..."""

UNKNOWN_SPREAD: Final = 1.0
"""... and by this one if there are fewer than `ENOUGH` minutes: half as much, or twice as much."""

HORIZON: Final = timedelta(days=5 * 366)
"""What takes longer is not foreseen: by then the PACS will be another one."""


class Minute(Value):
    """What came in a minute, or another time that was measured, and the ceiling that held."""

    ceiling: Ceiling
    studies: float = 0.0
    instances: float = 0.0
    nbytes: float = 0.0
    seconds: float = 60.0


class Remaining(Value):
    """What is still to come; None: nobody knows."""

    studies: int | None = None
    instances: int | None = None
    nbytes: int | None = None


class Forecast(Value):
    """When it will be finished, in the time zone of the windows; None beyond the horizon."""

    likely: datetime
    earliest: datetime
    latest: datetime | None


class _Measure(NamedTuple):
    """One of the things that are counted."""

    left: Callable[[Remaining], int | None]
    came: Callable[[Minute], float]
    most: Callable[[Ceiling], float | None] = lambda _: None


_MEASURES: Final = (
    _Measure(lambda left: left.studies, lambda minute: minute.studies),
    _Measure(lambda left: left.instances, lambda minute: minute.instances, lambda ceiling: ceiling.objects_per_s),
    _Measure(lambda left: left.nbytes, lambda minute: minute.nbytes, lambda ceiling: ceiling.bytes_per_s),
)

_Bend = Callable[[float], float]
"""What so many times as many moves bring, as a factor."""


def forecast(remaining: Remaining, minutes: Sequence[Minute], windows: Windows, now: datetime) -> Forecast | None:
    """When the rest will have come, as the module says; None if nothing shows that it ever will."""
    open_minutes = [minute for minute in minutes if not minute.ceiling.closed and minute.seconds > 0]
    spans = _Spans(windows, now)
    if all(measure.left(remaining) is None for measure in _MEASURES):
        return None

    def finish(bend: _Bend, uncertain: Callable[[float], float]) -> datetime | None:
        ends = []
        for measure in _MEASURES:
            left = measure.left(remaining)
            if left is not None and left > 0:
                rates = _Rates(measure, open_minutes, bend, uncertain(_spread(measure, open_minutes)))
                ends.append(spans.end(left, rates))
        found = [end for end in ends if end is not None]
        if len(found) < len(ends):
            return None
        return max(found, default=now).astimezone(windows.timezone)

    likely = finish(lambda moves: moves, lambda _: 1.0)
    earliest = finish(lambda moves: max(moves, 1.0), lambda spread: 1.0 + spread)
    latest = finish(lambda moves: min(moves, 1.0), lambda spread: 1.0 / (1.0 + spread))
    return None if likely is None or earliest is None else Forecast(likely, earliest, latest)


class _Rates:
    """How much of a measure comes a second under each ceiling."""

    def __init__(self, measure: _Measure, minutes: Sequence[Minute], bend: _Bend, factor: float) -> None:
        self._measure = measure
        self._minutes = minutes
        self._bend = bend
        self._factor = factor
        self._most = max((minute.ceiling.parallel or 0 for minute in minutes), default=0)
        self._known: dict[Ceiling, float] = {}

    def under(self, ceiling: Ceiling) -> float:
        """A second, while that ceiling holds."""
        if ceiling not in self._known:
            allowed = self._measure.most(ceiling)
            rate = 0.0 if ceiling.closed else self._measured(ceiling) * self._factor
            self._known[ceiling] = rate if allowed is None else min(rate, allowed)
        return self._known[ceiling]

    def _measured(self, ceiling: Ceiling) -> float:
        same = [minute for minute in self._minutes if minute.ceiling == ceiling]
        if len(same) >= ENOUGH:
            return _average(self._measure, same)
        if not self._minutes:
            return 0.0
        moves = fmean(
            (self._moves(minute.ceiling) for minute in self._minutes), [minute.seconds for minute in self._minutes]
        )
        return _average(self._measure, self._minutes) * self._bend(self._moves(ceiling) / moves)

    def _moves(self, ceiling: Ceiling) -> int:
        """Moves that it allows; without a limit as many as the highest one that held, as nobody knows better."""
        return ceiling.parallel or self._most or 1


class _Spans:
    """What holds from now on, found out once for all that is to be forecast."""

    def __init__(self, windows: Windows, now: datetime) -> None:
        self._horizon = now.astimezone(UTC) + HORIZON
        self._coming: Iterator[Span] = windows.spans(now)
        self._known: list[Span] = []

    def end(self, left: float, rates: _Rates) -> datetime | None:
        """When so much will have come; None if not before the horizon."""
        for span in self._all():
            rate = rates.under(span.ceiling)
            lasts_s = math.inf if span.end is None else (span.end - span.begin).total_seconds()
            if rate > 0 and left <= rate * lasts_s:
                end = span.begin + timedelta(seconds=min(left / rate, HORIZON.total_seconds()))
                return end if end < self._horizon else None
            left -= rate * lasts_s if rate > 0 else 0.0
        return None

    def _all(self) -> Iterator[Span]:
        yield from self._known
        while not self._known or (self._known[-1].end or self._horizon) < self._horizon:
            self._known.append(next(self._coming))
            yield self._known[-1]


def _average(measure: _Measure, minutes: Sequence[Minute]) -> float:
    return sum(map(measure.came, minutes)) / sum(minute.seconds for minute in minutes)


def _spread(measure: _Measure, minutes: Sequence[Minute]) -> float:
    """By which part the average may be wrong."""
    if len(minutes) < ENOUGH:
        return UNKNOWN_SPREAD
    number = min(PARTS, len(minutes))
    edges = [len(minutes) * n // number for n in range(number + 1)]
    parts = [minutes[begin:end] for begin, end in zip(edges, edges[1:], strict=False)]
    shares = [_per_move(measure, part) for part in parts]
    average = fmean(shares)
    return max(LEAST_SPREAD, 2 * stdev(shares) / math.sqrt(number) / average) if average > 0 else UNKNOWN_SPREAD


def _per_move(measure: _Measure, minutes: Sequence[Minute]) -> float:
    """Ceilings that follow each other are no uncertainty."""
    return _average(measure, minutes) / fmean(minute.ceiling.parallel or 1 for minute in minutes)
