"""What the overview shows of a batch: how far it is, how fast, until when, what failed, and who is at it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, tzinfo
from itertools import groupby
from typing import Any, Final, NamedTuple

from fastmove.ledger.model import Batch, Event, Job, JobState, Progress, Summary, Wish
from fastmove.ledger.sharing import Sharing
from fastmove.migrate.forecast import Forecast, Minute, Remaining, forecast
from fastmove.migrate.situation import LEFT, OF_LATE, Situation, situation
from fastmove.migrate.windows import Windows
from fastmove.observe.page import HEADROOM, Figure, X, Y
from fastmove.observe.plot import Line, chart, linear, times
from fastmove.values import Value

STATES: Final = {
    JobState.COMPLETE: "complete",
    JobState.MOVING: "being moved",
    JobState.WAITING: "to be tried again",
    JobState.PARKED: "parked",
    JobState.READY: "to be moved",
}
"""In words, and in the order of the bar."""

SPANS: Final = {"3h": (180, 1), "24h": (1440, 10), "7d": (10080, 60), "all": (None, None)}
"""What a plot shows: so many minutes, and how many of them make a point."""

POINTS: Final = 200
"""Of a plot of everything."""

LEARNT: Final = 7 * 1440
"""A forecast looks back so many minutes..."""

BREAK: Final = 15
"""... but when nothing came for so many of them, it was not at work..."""

MEASURED: Final = 1440
"""... and of those that are left these last ones count."""

EVENTS: Final = 20
HOSTS: Final = 2000
"""Studies that are being moved, of which it is looked at who moves them."""


class AtIt(Value):
    """Somebody who moves studies, or has some in hand."""

    owner: str
    studies: int
    """In hand."""

    here: bool
    ae_title: str = ""
    moves: int | None = None
    """Under way; None if nobody knows."""

    seen_at: float | None = None
    """When it was last heard of."""


class Day(NamedTuple):
    """A day of the week as windows have it."""

    name: str
    words: str
    parts: list[tuple[str, int, int]]
    """What holds, from which half hour on, and for how many of them."""

    now: float | None
    """Where it is now, in half hours, if this is the day."""


class Look(Value):
    """A batch at a moment."""

    at: float
    batch: Batch
    summary: Summary
    progress: Sequence[Progress]
    """Of as many minutes as a forecast learns from."""

    moving: Sequence[Job]
    events: Sequence[Event]
    situation: Situation
    forecast: Forecast | None = None
    """None if it has ended, too."""

    @property
    def left(self) -> int:
        """Studies that have not ended."""
        return self.situation.left

    def hosts(self) -> list[AtIt]:
        """Who is at it, by name; and who has studies in hand all the same."""
        in_hand = Counter(job.owner for job in self.moving)
        heard = self.situation.hosts
        found = [
            AtIt(
                each.owner,
                in_hand.pop(each.owner, 0),
                self.situation.is_here(each),
                each.ae_title,
                each.moves,
                each.seen_at,
            )
            for each in heard
        ]
        found += [AtIt(owner, studies, False) for owner, studies in in_hand.items()]
        return sorted(found, key=lambda each: each.owner)

    @property
    def condition(self) -> tuple[str, str]:
        """What it is at: a word for the style, and one for people."""
        if self.summary.total.studies and not self.left:
            return "ended", "ended"
        if not self.situation.here:
            return _IDLE[self.batch.wish]
        return self.batch.wish.value, _BUSY[self.batch.wish]


_BUSY: Final = {
    Wish.RUN: "running",
    Wish.PAUSE: "pausing",
    Wish.DRAIN: "ending with what is in hand",
    Wish.STOP: "stopping",
}
_IDLE: Final = {
    Wish.RUN: ("idle", "nobody is at it"),
    Wish.PAUSE: ("pause", "paused"),
    Wish.DRAIN: ("drain", "ended by an operator"),
    Wish.STOP: ("stop", "stopped by an operator"),
}
"""What is wished, in words, while somebody moves studies, and while nobody does."""


async def look(ledger: Sharing, batch_id: int, now: float, zone: tzinfo) -> Look | None:
    """What there is to see of a batch; None if there is none."""
    batch = next((each for each in await ledger.batches() if each.id == batch_id), None)
    if batch is None:
        return None
    summary = await ledger.summary(batch_id)
    progress = await ledger.progress(batch_id, int(now // 60) - LEARNT)
    seen = Look(
        now,
        batch,
        summary,
        progress,
        await ledger.jobs(batch_id, states=(JobState.MOVING,), limit=HOSTS),
        await ledger.events(batch_id, limit=EVENTS),
        await situation(ledger, batch, summary, progress, now, zone),
    )
    return seen.replace(forecast=until(seen) if seen.left else None)


# ---------------------------------------------------------------------- figures


def parts(summary: Summary) -> list[dict[str, Any]]:
    """The states with their shares of all studies, in per cent, and where each begins."""
    total, begin, found = summary.total.studies or 1, 0.0, []
    for state, words in STATES.items():
        of = summary.states[state]
        width = 100 * of.studies / total
        found.append({"state": state.value, "words": words, "total": of, "begin": begin, "width": width})
        begin += width
    return found


def week(known: Windows, now: float) -> list[Day]:
    """The days of the week, for a picture; none if it is always open."""
    if not known.windows:
        return []
    moment = datetime.fromtimestamp(now, known.timezone)
    found = []
    for number, (row, words) in enumerate(zip(known.picture()[1:-1], known.describe(), strict=True)):
        name, marks = row.split(" ", 1)
        today = moment.weekday() == number
        day = Day(name, words, [], (moment.hour * 60 + moment.minute) / 30 if today else None)
        at = 0
        for mark, run in groupby(marks):
            half_hours = len(list(run))
            day.parts.append((_MARKS.get(mark, "open"), at, half_hours))
            at += half_hours
        found.append(day)
    return found


_MARKS: Final = {".": "closed", "|": "changing"}


def terms(batch: Batch) -> list[tuple[str, str]]:
    """How a batch is run, windows apart, by the names of the options."""
    given = [each for each in batch.settings.items() if each[0] not in ("windows", "timezone")]
    return [(name, ("yes" if value else "no") if isinstance(value, bool) else str(value)) for name, value in given]


def until(seen: Look) -> Forecast | None:
    """When it will be finished, if it goes on as it did while it was at work; None if nobody can know."""
    known = seen.situation.windows
    left = [seen.summary.states[state] for state in LEFT]
    instances = sum(max(each.expected - each.stored, 0) for each in left)
    remaining = Remaining(sum(each.studies for each in left), instances or None)
    return forecast(remaining, minutes_of(seen, known), known, datetime.fromtimestamp(seen.at, known.timezone))


def minutes_of(seen: Look, known: Windows) -> list[Minute]:
    """Minutes in which it was at work, those in which nothing came between others included; not the one that lasts."""
    found: list[Minute] = []
    before: int | None = None
    for each in seen.progress:
        if each.minute >= seen.at // 60:
            continue
        if before is not None and each.minute - before <= BREAK:
            found += [_minute(known, minute) for minute in range(before + 1, each.minute)]
        found.append(_minute(known, each.minute, each))
        before = each.minute
    return found[-MEASURED:]


def _minute(known: Windows, minute: int, came: Progress | None = None) -> Minute:
    ceiling = known.at(datetime.fromtimestamp(minute * 60, known.timezone))
    return Minute(ceiling) if came is None else Minute(ceiling, came.studies, came.instances, came.nbytes)


def over_time(progress: Sequence[Progress], span: str, now: float, zone: tzinfo) -> list[Figure]:
    """Plots of what came, for one of SPANS; none if nothing did."""
    if not progress:
        return []
    minutes, width = SPANS[span]
    last = int(now // 60)
    if minutes is None or width is None:
        minutes = max(last - progress[0].minute, OF_LATE)
        width = max(1, minutes // POINTS)
    number = minutes // width
    first = last - number * width  # the minute that lasts is no rate
    sums = [[0.0, 0.0] for _ in range(number)]
    for each in progress:
        if first <= each.minute < last:
            of = sums[(each.minute - first) // width]
            of[0] += each.nbytes / 1e6
            of[1] += each.instances
    figures = []
    for at, (unit, text) in enumerate((("MB/s", "Bytes stored"), ("instances/s", "Instances stored"))):
        points = [((first + (n + 0.5) * width) * 60, of[at] / width / 60) for n, of in enumerate(sums)]
        plot = chart(
            [Line("", points)],
            times(first * 60, last * 60, *X, zone),
            linear(0, HEADROOM * max(each for _, each in points), *Y),
            title=f"{unit} over time",
            x_label="",
            y_label=unit,
            dots=False,
        )
        figures.append(Figure(text, plot, f"{unit}, averages of {width:,} min"))
    return figures
