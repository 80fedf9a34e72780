"""What repetitions say: a mean and how sure it is, and by how much one set of them is slower than another.

Student's t for means; ratios are compared by their logarithms, with Welch's t, as the two sets need not be equally
steady.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean, variance
from typing import Final, NamedTuple

_T_975: Final = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t for 1, 2, ... degrees of freedom..."""

_Z_975: Final = 1.959964
"""... and for infinitely many; between them by its expansion in their inverse (Fisher and Cornish)."""


class Interval(NamedTuple):
    """An estimate and its 95 % confidence interval; without bounds where there is but one value."""

    estimate: float
    low: float | None
    high: float | None


def _quantile(degrees: float) -> float:
    at = max(1, math.floor(degrees))
    if at <= len(_T_975):
        return _T_975[at - 1]
    z = _Z_975
    return z + (z**3 + z) / (4 * at) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * at**2)


def mean(values: Sequence[float]) -> Interval:
    """Their mean."""
    estimate = fmean(values)
    if len(values) < 2:
        return Interval(estimate, None, None)
    half = _quantile(len(values) - 1) * math.sqrt(variance(values) / len(values))
    return Interval(estimate, estimate - half, estimate + half)


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """The ratio of two geometric means of positive values."""
    logs = [math.log(value) for value in numerators], [math.log(value) for value in denominators]
    estimate = fmean(logs[0]) - fmean(logs[1])
    if min(map(len, logs)) < 2:
        return Interval(math.exp(estimate), None, None)
    errors = [variance(each) / len(each) for each in logs]
    error = sum(errors)
    if not error:
        return Interval(*[math.exp(estimate)] * 3)
    degrees = error**2 / sum(each**2 / (len(of) - 1) for each, of in zip(errors, logs, strict=True))
    half = _quantile(degrees) * math.sqrt(error)
    return Interval(math.exp(estimate), math.exp(estimate - half), math.exp(estimate + half))
