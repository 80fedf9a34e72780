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
    at = max(1, math.floor(degrees + 1e-9))  # what is reckoned to be 4 may come out just below
    if at <= len(_T_975):
        return _T_975[at - 1]
    z = _Z_975
    return z + (z**3 + z) / (4 * at) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * at**2)


def mean(values: Sequence[float]) -> Interval:
    """Their mean."""
    return sum_of_means([(1.0, values)])


def ratio(numerators: Sequence[float], denominators: Sequence[float]) -> Interval:
    """The ratio of two geometric means of positive values."""
    above, below = ([math.log(value) for value in values] for values in (numerators, denominators))
    estimate, low, high = sum_of_means([(1.0, above), (-1.0, below)])
    return Interval(
        math.exp(estimate), None if low is None else math.exp(low), None if high is None else math.exp(high)
    )


def sum_of_means(terms: Sequence[tuple[float, Sequence[float]]]) -> Interval:
    """The sum of some means, each times a factor, of which some may be steadier than others."""
    estimate = sum(factor * fmean(values) for factor, values in terms)
    if min(len(values) for _, values in terms) < 2:
        return Interval(estimate, None, None)
    errors = [factor**2 * variance(values) / len(values) for factor, values in terms]
    error = sum(errors)
    if not error:
        return Interval(estimate, estimate, estimate)
    degrees = error**2 / sum(each**2 / (len(values) - 1) for each, (_, values) in zip(errors, terms, strict=True))
    half = _quantile(degrees) * math.sqrt(error)
    return Interval(estimate, estimate - half, estimate + half)
