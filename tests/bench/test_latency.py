"""Latencies: what goes in comes out, to three digits."""

from __future__ import annotations

from random import Random

import pytest

from fastmove.bench.latency import Latency


def test_percentiles_are_those_of_the_values_to_three_digits() -> None:
    random = Random(1)
    values = sorted(random.lognormvariate(-4.0, 1.0) for _ in range(10_000))
    latency = Latency()
    for value in values:
        latency.record(value)
    summary = latency.summary()
    assert summary["count"] == 10_000
    for name, at in (("p50", 4999), ("p90", 8999), ("p99", 9899), ("p99.9", 9989)):
        assert summary[name] == pytest.approx(values[at] * 1e3, rel=0.002), name
    assert summary["max"] == pytest.approx(values[-1] * 1e3, rel=0.002)


def test_values_out_of_range_count_as_the_shortest_and_the_longest() -> None:
    latency = Latency()
    latency.record(0.0)
    latency.record(1e9)
    assert latency.summary()["min"] == 0.001
    assert latency.summary()["max"] == pytest.approx(3.6e6, rel=0.001)


def test_nothing_has_a_count_and_nothing_else() -> None:
    assert Latency().summary() == {"count": 0}


def test_json_brings_the_whole_distribution_back() -> None:
    latency = Latency()
    for milliseconds in range(1, 500):
        latency.record(milliseconds / 1e3)
    again = Latency.from_json(latency.as_json())
    assert again.summary() == latency.summary()
    assert again.curve() == latency.curve()
    again.add(latency)
    assert again.count == 2 * latency.count
