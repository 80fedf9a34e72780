"""A result as a document: what was asked, of whom, where, and what was measured; everything that a report shows.

Plain JSON: `observe/report.py` renders it, `compare` holds two against each other.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from fastmove.bench.confidence import mean
from fastmove.bench.environment import environment
from fastmove.bench.knee import knee
from fastmove.bench.stalls import ADVICE, ASSOCIATIONS, MOST, UNSTORED, Stall, dominant
from fastmove.errors import ConfigurationError

FORMAT: Final = "fastmove-bench"
FORMAT_VERSION: Final = 1

RATES: Final = ("bytes_per_s", "objects_per_s", "operations_per_s")

CEILING: Final = "self"
"""The kind of benchmark that says what this host can do at most."""

Document = dict[str, Any]


class Result:
    """Collects the runs of a benchmark; a point is what was varied between runs, by name."""

    def __init__(self, kind: str, scenario: Mapping[str, Any]) -> None:
        self._document: Document = {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "kind": kind,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "scenario": dict(scenario),
            "environment": environment(),
            "peer": {},
            "complete": False,
            "runs": [],
        }

    def add(self, point: Mapping[str, Any], repetition: int, measured: Mapping[str, Any]) -> None:
        """A run is over."""
        self._document["runs"].append({"point": dict(point), "repetition": repetition, **measured})

    @property
    def runs(self) -> list[dict[str, Any]]:
        """Those so far."""
        runs: list[dict[str, Any]] = self._document["runs"]
        return runs

    def rates(self, point: Mapping[str, Any], name: str) -> list[float]:
        """One rate of the runs of a point so far."""
        return [run[name] for run in self.runs if run["point"] == point]

    def finished(self, peer: Mapping[str, Any], *, complete: bool) -> Document:
        """The document; it is not `complete` if runs are missing that were asked for."""
        document = self._document
        document["peer"] = dict(peer)
        document["complete"] = complete
        document["points"] = _points(self.runs)
        document["knee"] = _knee(document["points"])
        document["stall"] = None if document["kind"] == CEILING else _stall(self.runs)
        return document


def _points(runs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each point with the means of its repetitions, and their 95 % confidence intervals."""
    points: list[dict[str, Any]] = []
    for point in [run["point"] for run in runs]:
        if any(known["point"] == point for known in points):
            continue
        of_it = [run for run in runs if run["point"] == point]
        rates = {name: mean([run[name] for run in of_it])._asdict() for name in RATES}
        points.append({"point": point, "repetitions": len(of_it), **rates})
    return points


def _knee(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """That of the points that differ in nothing but `parallel`, if there are several."""
    if len({json.dumps({**each["point"], "parallel": 0}) for each in points}) != 1 or len(points) < 3:
        return None
    name = "bytes_per_s" if any(each["bytes_per_s"]["estimate"] for each in points) else "operations_per_s"
    found = knee([(each["point"]["parallel"], each[name]["estimate"]) for each in points])
    return None if found is None else {"of": name, **found._asdict()}


def _stall(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """What moves went into, all runs that brought objects together."""
    telling = [run for run in runs if "stalls_s" in run and run["objects"]]
    if not telling:
        return None
    seconds = {stall: sum(run["stalls_s"].get(stall.value, 0.0) for run in telling) for stall in Stall}
    worst = dominant(seconds)
    total = sum(seconds.values())
    before = sum(_seconds(run["latencies_ms"].get("association", {})) for run in telling)
    beside = before / (before + total) if total else 0.0
    advice = ASSOCIATIONS if beside > MOST else "" if worst is None else ADVICE[worst]
    return {
        "dominant": None if worst is None else worst.value,
        "shares": {stall.value: round(spent / total, 4) if total else 0.0 for stall, spent in seconds.items()},
        "associations": round(beside, 4),
        "advice": UNSTORED if any(run.get("unstored_objects") for run in runs) else advice,
    }


def _seconds(latency: Mapping[str, Any]) -> float:
    """All of them together."""
    return float(latency.get("count", 0) * latency.get("mean", 0.0) / 1e3)


def load_ceiling(path: Path) -> Document:
    """Read what `bench self` has measured; ConfigurationError if it is something else."""
    ceiling = load(path)
    if ceiling["kind"] != CEILING or not ceiling["points"]:
        raise ConfigurationError("--ceiling", f"{path} is no result of fastmove bench self")
    return ceiling


def hold_against(document: Document, ceiling: Document) -> None:
    """Say in a result what this host could have received at most: the nearest size of objects of a `bench self`."""
    runs = [run for run in document["runs"] if run["objects"]]
    if not runs:
        return
    best = max(runs, key=lambda run: run["bytes_per_s"])
    mean_bytes = best["bytes"] / best["objects"]

    def distance(point: Mapping[str, Any]) -> float:
        mean = point["bytes_per_s"]["estimate"] / max(point["objects_per_s"]["estimate"], 1e-9)
        return abs(math.log(max(mean, 1.0) / mean_bytes))

    nearest = min(distance(each) for each in ceiling["points"])
    alike = [each for each in ceiling["points"] if distance(each) < nearest + math.log(2)]
    most = max(each["bytes_per_s"]["estimate"] for each in alike)
    if not most:
        return
    document["ceiling"] = {
        "objects": alike[0]["point"]["objects"],
        "bytes_per_s": round(most, 1),
        "share": round(best["bytes_per_s"] / most, 4),
    }


def save(document: Document, path: Path) -> None:
    """Write it, whole or not at all; OSError."""
    replace_file(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def replace_file(path: Path, text: str) -> None:
    """Write a file, whole or not at all; OSError."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        unfinished.write_text(text)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def load(path: Path) -> Document:
    """Read one; ConfigurationError if it is none of ours."""
    try:
        document = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigurationError("result", f"{path} cannot be read: {error}") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ConfigurationError("result", f"{path} is no result of fastmove bench")
    if document.get("version") != FORMAT_VERSION:
        raise ConfigurationError("result", f"{path} has version {document.get('version')}, not {FORMAT_VERSION}")
    return document
