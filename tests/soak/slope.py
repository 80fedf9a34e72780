"""Whether what is measured grows with what is done: a straight line through samples, and how sure its slope is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, NamedTuple

SAMPLES: Final = 20
T_95: Final = 1.734
"""Student's t for 18 degrees of freedom, one-sided 95 %: SAMPLES less two."""


class Slope(NamedTuple):
    """Of the line of least squares; `error` is its standard error."""

    per_unit: float
    error: float

    @property
    def at_least(self) -> float:
        """The lower bound that the true slope is above with 95 % probability."""
        return self.per_unit - T_95 * self.error


def slope(points: Sequence[tuple[float, float]]) -> Slope:
    """The slope of SAMPLES points."""
    assert len(points) == SAMPLES
    n = len(points)
    mean_x = math.fsum(x for x, _ in points) / n
    mean_y = math.fsum(y for _, y in points) / n
    spread = math.fsum((x - mean_x) ** 2 for x, _ in points)
    per_unit = math.fsum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residue = math.fsum((y - mean_y - per_unit * (x - mean_x)) ** 2 for x, y in points)
    return Slope(per_unit, math.sqrt(residue / (n - 2) / spread))
