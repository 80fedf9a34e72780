"""Results against each other: what is slower, what is not, and what nobody can tell."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fastmove.bench.compare import Change, classify, compare, differences, verdict
from fastmove.bench.confidence import Interval
from fastmove.bench.history import history
from fastmove.bench.result import Result, load, save
from fastmove.errors import ConfigurationError

POINT = {"parallel": 4, "rate_per_s": None}


def result(*rates: float, kind: str = "retrieve", failed: int = 0, **scenario: Any) -> dict[str, Any]:
    """A result with so many repetitions of one point."""
    made = Result(kind, {"peer": "PACS@host:104", "arguments": [], **scenario})
    for number, rate in enumerate(rates, 1):
        figures = {"bytes_per_s": rate * 1e6, "objects_per_s": rate * 2, "operations_per_s": rate / 50}
        made.add(POINT, number, {**figures, "failed_operations": failed, "operations": 9})
    return made.finished({"implementation_version_name": "PACS_1"}, complete=True)


def measured(random: Random, factor: float, repetitions: int = 5, noise: float = 0.02) -> dict[str, Any]:
    return result(*(100 * factor * random.lognormvariate(0.0, noise) for _ in range(repetitions)))


@pytest.mark.parametrize("seed", range(20))
def test_slow_down_of_fifteen_percent_is_flagged_and_equal_runs_are_not(seed: int) -> None:
    random = Random(seed)
    before, same, slower = measured(random, 1.0), measured(random, 1.0), measured(random, 1 / 1.15)
    assert verdict(compare(before, slower, 0.1)) is Change.SLOWER
    assert verdict(compare(before, same, 0.1)) is Change.SAME
    assert verdict(compare(slower, before, 0.1)) is Change.FASTER


def test_large_change_of_one_run_each_is_not_sure() -> None:
    assert verdict(compare(result(100.0), result(70.0), 0.1)) is Change.UNSURE
    assert verdict(compare(result(100.0), result(95.0), 0.1)) is Change.SAME


def test_large_change_of_unsteady_runs_is_not_sure() -> None:
    assert verdict(compare(result(50.0, 100.0, 150.0), result(40.0, 80.0, 130.0), 0.1)) is Change.UNSURE


@pytest.mark.parametrize(
    ("interval", "change"),
    [
        (Interval(0.85, 0.80, 0.90), Change.SLOWER),
        (Interval(0.85, 0.70, 1.03), Change.UNSURE),
        (Interval(0.95, 0.94, 0.96), Change.SAME),
        (Interval(1.2, 1.15, 1.25), Change.FASTER),
        (Interval(1.2, 0.9, 1.6), Change.UNSURE),
        (Interval(0.85, None, None), Change.UNSURE),
    ],
)
def test_change_needs_size_and_certainty(interval: Interval, change: Change) -> None:
    assert classify(interval, 0.1) is change


def test_other_benchmarks_cannot_be_compared() -> None:
    with pytest.raises(ConfigurationError, match="bench store and bench retrieve"):
        compare(result(1.0, kind="store"), result(1.0), 0.1)


def test_results_without_a_common_point_cannot_be_compared() -> None:
    other = json.loads(json.dumps(result(1.0)))
    for each in (*other["runs"], *other["points"]):
        each["point"]["parallel"] = 5
    with pytest.raises(ConfigurationError, match="no point in common"):
        compare(result(1.0), other, 0.1)


def test_what_else_differs_is_told() -> None:
    before, after = result(1.0, duration_s=10), result(1.0, duration_s=20, failed=2)
    after["peer"] = {"implementation_version_name": "PACS_2"}
    after["environment"] = {**after["environment"], "processors": 99}
    after["complete"] = False
    told = "\n".join(differences(before, after))
    assert "duration: 10 before, 20 after" in told
    assert "implementation version name: PACS_1 before, PACS_2 after" in told
    assert "processors" in told
    assert "2 operations failed after" in told
    assert "the run after was stopped" in told
    assert list(differences(before, before)) == []


# ---------------------------------------------------------------------- files


def test_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    document = result(1.0, 2.0)
    save(document, tmp_path / "a.json")
    assert load(tmp_path / "a.json") == document
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "cannot be read"),
        ("[]", "no result of fastmove bench"),
        ('{"format": "other"}', "no result of fastmove bench"),
        ('{"format": "fastmove-bench", "version": 99}', "version 99"),
    ],
)
def test_file_that_is_no_result_is_refused(text: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(ConfigurationError, match=why):
        load(tmp_path / "a.json")


def test_history_is_in_the_order_of_time_and_tells_what_it_left_out(tmp_path: Path) -> None:
    for name, started in (("b", "2026-01-02T00:00:00+00:00"), ("a", "2026-02-01T00:00:00+00:00")):
        document = result(1.0, failed=1)
        document["started"] = started
        save(document, tmp_path / f"{name}.json")
    (tmp_path / "c.json").write_text("{}")
    entries, skipped = history([tmp_path])
    assert [entry.path.name for entry in entries] == ["b.json", "a.json"]
    assert entries[0].rates["bytes_per_s"]["estimate"] == 1e6
    assert entries[0].failed == 1
    assert [each.path.name for each in skipped] == ["c.json"]


def test_point_at_which_nothing_is_moved_any_more_is_slower() -> None:
    (only,) = compare(result(100.0, 101.0), result(0.0, 0.0), 0.1)
    assert only.change is Change.SLOWER
    assert (only.after, only.ratio.estimate) == (0.0, 0.0)


def test_point_at_which_some_runs_moved_nothing_is_not_left_out() -> None:
    (only,) = compare(result(100.0, 101.0, 99.0), result(100.0, 101.0, 0.0), 0.1)
    assert only.change is Change.UNSURE
    assert only.ratio.estimate == pytest.approx(0.67)


def test_open_loops_are_compared_by_their_latency_since_the_rate_was_asked_for() -> None:
    def open_loop(*means: float) -> dict[str, Any]:
        made = Result("retrieve", {})
        for number, mean in enumerate(means, 1):
            figures = {"bytes_per_s": 1e6, "objects_per_s": 2.0, "operations_per_s": 0.5, "objects": 0}
            latencies = {"latencies_ms": {"move": {"count": 9, "mean": mean}}}
            made.add({"parallel": 4, "rate_per_s": 0.5}, number, figures | latencies)
        return made.finished({}, complete=True)

    (only,) = compare(open_loop(100.0, 102.0, 98.0), open_loop(200.0, 204.0, 196.0), 0.1)
    assert only.change is Change.SLOWER
    assert only.ratio.estimate == pytest.approx(0.5)
