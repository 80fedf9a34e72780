"""The knee: up to how many operations at once throughput grows, and what it is at most.

Throughput against concurrency rises by about the same for each operation more, until something is used up; then it
stays.  Two straight lines through what was measured meet at the knee.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

STEPS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
"""What a ramp tries, one after the other."""

GAIN: Final = 0.05
"""A step that brings less more is none..."""

FLAT_STEPS: Final = 2
"""... and after so many of these in a row the ramp ends."""

BEHIND: Final = 0.9
"""A knee is one if something was measured well behind it: it is at most this times the last step."""


class Knee(NamedTuple):
    """Where throughput ceases to grow; rates are in the unit of what it was found in."""

    parallel: float
    """Where the two lines meet..."""

    per_operation: float
    """... what each operation at once brings before..."""

    most: float
    """... and the rate that is not exceeded behind."""

    reached: bool
    """False if throughput still grew at the last step: the knee lies beyond."""


def steps(most: int) -> Iterator[int]:
    """What a ramp tries up to so many."""
    yield from (step for step in STEPS if step < most)
    yield most


def flat(rates: Sequence[float]) -> bool:
    """True if the last steps of a ramp have brought nothing more than the best before them."""
    if len(rates) <= FLAT_STEPS:
        return False
    best = max(rates[:-FLAT_STEPS])
    return max(rates[-FLAT_STEPS:]) < best * (1 + GAIN)


def knee(measured: Sequence[tuple[int, float]]) -> Knee | None:
    """That of (operations at once, rate) pairs; None where nothing was moved at all.

    For each number of steps that are taken to lie on the slope the two lines are fitted, and the best pair counts;
    deviations are relative ones, as rates of many at once are no more exact than those of few.
    """
    points = sorted((n, rate) for n, rate in measured if rate > 0)
    if not points:
        return None
    fits = []
    for rising in range(1, len(points) + 1):
        slope = _average([rate / n for n, rate in points[:rising]])
        behind = [rate for _, rate in points[rising:]]
        most = _average(behind) if behind else max(rate for _, rate in points)
        error = sum((min(slope * n, most) / rate - 1) ** 2 for n, rate in points)
        fits.append((error, slope, most))
    _, slope, most = min(fits)
    parallel = max(1.0, most / slope)
    return Knee(parallel, slope, most, reached=parallel <= BEHIND * points[-1][0])


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)
