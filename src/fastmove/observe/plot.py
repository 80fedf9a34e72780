"""Plots as SVG for a page that stands alone: no script, no style of its own but classes, readable without colours.

Colours are classes (`c0`, `c1`, ...) that the page defines for light, dark and paper.  All texts are escaped here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from html import escape
from typing import Final, NamedTuple

WIDTH: Final = 480
HEIGHT: Final = 280
LEFT: Final = 54
RIGHT: Final = 14
TOP: Final = 12
BOTTOM: Final = 40

COLOURS: Final = 6
"""Classes c0 to c5; more series begin anew."""

TICKS: Final = 5
BAR_HEIGHT: Final = 26
BAR_GAP: Final = 10
BAR_LABEL: Final = 20
"""Above each bar."""

TIME_TICKS: Final = 7
SPANS: Final = tuple(timedelta(minutes=n) for n in (1, 5, 15, 60, 180, 360, 720, 1440, 2880, 7 * 1440, 14 * 1440))
MONTHS: Final = (1, 2, 3, 6, 12, 24, 60)
"""Steps of a scale of time: up to a fortnight, and beyond."""

MIN_LABELLED: Final = 0.09
"""A part of a bar that is smaller has no figure in it."""


class Line(NamedTuple):
    """A series: its name, and its points from left to right."""

    name: str
    points: Sequence[tuple[float, float]]
    low_high: Sequence[tuple[float, float] | None] = ()
    """Error bars, if there are any, as many as points."""

    dashed: bool = False
    """Something reckoned, not measured."""


class Mark(NamedTuple):
    """A vertical line with a word."""

    x: float
    text: str


class Scale(NamedTuple):
    """From values to positions, and where its ticks are."""

    at: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


def number(value: float) -> str:
    """Short, with a sensible number of digits."""
    if value and abs(value) < 0.01:
        return f"{value:.1g}"
    if abs(value) >= 10_000:
        return f"{value / 1000:,.0f}k"
    text = f"{value:,.2f}" if abs(value) < 10 else f"{value:,.0f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _steps(low: float, high: float) -> list[float]:
    """Round values that cover a range."""
    raw = max((high - low) / TICKS, 1e-12)
    power = 10 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * 0.999)
    first, last = math.floor(low / step), math.ceil(high / step - 1e-9)
    return [round(step * n, 12) for n in range(first, last + 1)]


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Even steps between two positions."""
    steps = _steps(low, high if high > low else low + 1)
    span = steps[-1] - steps[0]
    return Scale(
        lambda value: start + (value - steps[0]) / span * (end - start), [(step, number(step)) for step in steps]
    )


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """A step for each power of ten."""
    first = math.floor(math.log10(max(low, 1e-9)) + 1e-9)
    last = max(math.ceil(math.log10(max(high, 1e-9)) - 1e-9), first + 1)

    def at(value: float) -> float:
        return start + (math.log10(max(value, 10.0**first)) - first) / (last - first) * (end - start)

    return Scale(at, [(10.0**power, number(10.0**power)) for power in range(first, last + 1)])


def times(first: float, last: float, start: float, end: float, zone: tzinfo = UTC) -> Scale:
    """From one moment to another, in seconds since 1970, with round times of a clock as ticks."""
    last = max(last, first + 1)
    begin, until = (datetime.fromtimestamp(each, zone) for each in (first, last))
    ticks = [tick for tick in _moments(begin, until) if begin <= tick[0] <= until]
    return Scale(
        lambda value: start + (value - first) / (last - first) * (end - start),
        [(moment.timestamp(), text) for moment, text in ticks],
    )


def _moments(begin: datetime, until: datetime) -> Iterator[tuple[datetime, str]]:
    """Round times around the span; a clock that is changed within it is as it was at midnight of the first day."""
    midnight = begin.replace(hour=0, minute=0, second=0, microsecond=0)
    whole = until - begin
    step = next((step for step in SPANS if whole <= TIME_TICKS * step), None)
    if step is not None:
        form = "%H:%M" if step < timedelta(days=1) else "%d %b"
        for number in range((until - midnight) // step + 1):
            moment = midnight + number * step
            clock = moment.strftime(form)
            yield moment, moment.strftime("%d %b") if clock == "00:00" else clock
        return
    months = next((each for each in MONTHS if whole <= TIME_TICKS * each * timedelta(days=31)), MONTHS[-1])
    first, last = begin.year * 12, until.year * 12 + until.month
    for month in range(first, last, months):
        moment = midnight.replace(year=month // 12, month=month % 12 + 1, day=1)
        yield moment, moment.strftime("%b %Y")


def percentiles(start: float, end: float, most: float) -> Scale:
    """50, 90, 99, 99.9 ...: each step has a tenth of what the one before has left out."""

    def at(percentile: float) -> float:
        nines = -math.log10(max(1 - percentile / 100, 1e-6))
        return start + min(nines / most, 1.0) * (end - start)

    named = [0.0, 50.0, 90.0, 99.0, 99.9, 99.99]
    return Scale(at, [(each, f"{each:g} %") for each in named if -math.log10(1 - each / 100) <= most + 1e-9])


def chart(
    lines: Sequence[Line],
    x: Scale,
    y: Scale,
    *,
    title: str,
    x_label: str,
    y_label: str,
    marks: Iterable[Mark] = (),
    dots: bool = True,
) -> str:
    """Lines over a grid, with a legend below if there are several."""
    named = [line for line in lines if line.name]
    legend = _legend(named) if len(named) > 1 else ""
    height = HEIGHT + (20 * -(-len(named) // 2) if legend else 0)
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" class="plot">',
        f"<title>{escape(title)}</title>",
        *_grid(x, y, x_label, y_label),
        *(part for at, line in enumerate(lines) for part in _line(line, at, x, y, dots=dots)),
        *(_mark(mark, x) for mark in marks),
        legend,
        "</svg>",
    ]
    return "\n".join(filter(None, parts))


def _grid(x: Scale, y: Scale, x_label: str, y_label: str) -> Iterable[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for value, text in y.ticks:
        at = y.at(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text class="tick" x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{escape(text)}</text>'
    last = -math.inf
    for value, text in x.ticks:
        at = x.at(value)
        if at - last < 9 * len(text):  # they would run into each other
            continue
        last = at
        yield f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>'
        anchor = "end" if at > right - 3 * len(text) else "middle"  # the last one must not be cut off
        yield f'<text class="tick" x="{at:.1f}" y="{bottom + 16}" text-anchor="{anchor}">{escape(text)}</text>'
    yield f'<text class="label" x="{right}" y="{bottom + 33}" text-anchor="end">{escape(x_label)}</text>'
    yield f'<text class="label" x="{LEFT + 4}" y="{TOP + 10}">{escape(y_label)}</text>'


def _line(line: Line, at: int, x: Scale, y: Scale, *, dots: bool) -> Iterable[str]:
    colour = f"c{at % COLOURS}"
    points = [(x.at(first), y.at(second)) for first, second in line.points]
    path = " ".join(f"{first:.1f},{second:.1f}" for first, second in points)
    if len(points) > 1:
        yield f'<polyline class="line {colour}{" dashed" * line.dashed}" points="{path}"/>'
    for bar, (first, _) in zip(line.low_high, points, strict=False):
        if bar is not None:
            low, high = (y.at(value) for value in bar)
            yield f'<line class="line {colour} thin" x1="{first:.1f}" x2="{first:.1f}" y1="{low:.1f}" y2="{high:.1f}"/>'
    if dots or len(points) == 1:
        for (first, second), (value_x, value_y) in zip(points, line.points, strict=True):
            told = escape(f"{line.name}: {number(value_x)}, {number(value_y)}" if line.name else number(value_y))
            place = f'cx="{first:.1f}" cy="{second:.1f}" r="3.5"'
            yield f'<circle class="dot {colour}" {place}><title>{told}</title></circle>'


def _mark(mark: Mark, x: Scale) -> str:
    at = x.at(mark.x)
    anchor, shift = ("end", -5) if at > WIDTH * 0.6 else ("start", 5)
    bottom = HEIGHT - BOTTOM
    place = f'x="{at + shift:.1f}" y="{bottom - 8}" text-anchor="{anchor}"'
    return (
        f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}"/>'
        f'<text class="marked" {place}>{escape(mark.text)}</text>'
    )


def _legend(lines: Sequence[Line]) -> str:
    parts = []
    for at, line in enumerate(lines):
        left, top = LEFT + (at % 2) * (WIDTH - LEFT) // 2, HEIGHT + 12 + 20 * (at // 2)
        parts.append(
            f'<line class="line c{at % COLOURS}{" dashed" * line.dashed}" x1="{left}" x2="{left + 18}" '
            f'y1="{top - 4}" y2="{top - 4}"/><text class="tick" x="{left + 24}" y="{top}">{escape(line.name)}</text>'
        )
    return "".join(parts)


class Bar(NamedTuple):
    """A bar of parts: its name, and share by share what it is made of."""

    name: str
    parts: Sequence[float]
    figures: Sequence[str] = ()
    """What stands in each part, if it is large enough."""


def bars(rows: Sequence[Bar], names: Sequence[str], *, title: str, most: float | None = None) -> str:
    """Horizontal bars with a legend of their parts; all of them end at `most`, by default that of the longest."""
    top = most or max((sum(row.parts) for row in rows), default=0.0) or 1.0
    legend_rows = -(-len(names) // 2) if len(names) > 1 else 0
    step = BAR_LABEL + BAR_HEIGHT + BAR_GAP
    height = len(rows) * step + 20 * legend_rows + 8
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}" class="plot">',
        f"<title>{escape(title)}</title>",
    ]
    for at, row in enumerate(rows):
        y, x = at * step, 0.0
        parts.append(f'<text class="tick" x="0" y="{y + 14}">{escape(row.name)}</text>')
        for part, value in enumerate(row.parts):
            width = value / top * WIDTH
            if width <= 0:
                continue
            figure = row.figures[part] if part < len(row.figures) else ""
            told = escape(f"{names[part] if part < len(names) else row.name}: {figure}")
            parts.append(
                f'<rect class="bar c{part % COLOURS}" x="{x:.1f}" y="{y + BAR_LABEL}" width="{width:.1f}" '
                f'height="{BAR_HEIGHT}"><title>{told}</title></rect>'
            )
            if figure and value / top >= MIN_LABELLED:
                parts.append(f'<text class="inside" x="{x + 6:.1f}" y="{y + BAR_LABEL + 17}">{escape(figure)}</text>')
            x += width
    for at, name in enumerate(names if legend_rows else ()):
        left, y = (at % 2) * WIDTH // 2, len(rows) * step + 12 + 20 * (at // 2)
        parts.append(
            f'<rect class="bar c{at % COLOURS}" x="{left}" y="{y - 10}" width="12" height="12"/>'
            f'<text class="tick" x="{left + 18}" y="{y}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>"])
