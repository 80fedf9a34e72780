"""Confidence intervals against figures from statistical tables, and how often they hold what they promise."""

from __future__ import annotations

import math
from random import Random
from statistics import variance

import pytest

from fastmove.bench.confidence import mean, ratio


def test_mean_of_five_has_the_interval_of_students_t() -> None:
    found = mean([9.0, 10.0, 11.0, 12.0, 13.0])
    assert found.estimate == 11.0
    half = 2.776 * math.sqrt(2.5 / 5)
    assert found.low == pytest.approx(11.0 - half)
    assert found.high == pytest.approx(11.0 + half)


@pytest.mark.parametrize(("degrees", "quantile"), [(30, 2.042), (31, 2.040), (60, 2.000), (120, 1.980)])
def test_quantiles_are_those_of_the_tables_however_many_there_are(degrees: int, quantile: float) -> None:
    values = [10.0, 12.0] * ((degrees + 1) // 2) + [11.0] * ((degrees + 1) % 2)
    found = mean(values)
    assert found.high is not None
    assert found.high - found.estimate == pytest.approx(quantile * math.sqrt(variance(values) / len(values)), rel=5e-4)


def test_one_value_has_no_interval() -> None:
    assert mean([5.0]) == (5.0, None, None)
    assert ratio([5.0], [10.0]) == (pytest.approx(0.5), None, None)


def test_equal_values_have_an_interval_without_width() -> None:
    assert ratio([8.0, 8.0], [10.0, 10.0]) == pytest.approx((0.8, 0.8, 0.8))


def test_interval_of_a_ratio_holds_the_truth_in_nineteen_of_twenty_cases() -> None:
    random, held = Random(1), 0
    for _ in range(2000):
        before = [random.lognormvariate(0.0, 0.05) for _ in range(5)]
        after = [0.85 * random.lognormvariate(0.0, 0.10) for _ in range(5)]
        found = ratio(after, before)
        assert found.low is not None
        assert found.high is not None
        held += found.low <= 0.85 <= found.high
    assert 0.93 <= held / 2000 <= 0.98
