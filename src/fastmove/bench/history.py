"""Results of a folder in the order of their time: what a PACS could do, week by week."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from fastmove.bench.compare import RATES
from fastmove.bench.result import load
from fastmove.errors import ConfigurationError


class Entry(NamedTuple):
    """A point of a result."""

    started: str
    path: Path
    kind: str
    peer: str
    point: dict[str, Any]
    rates: Mapping[str, Mapping[str, Any]]
    """Rate → estimate, low and high."""

    failed: int
    knee: float | None
    stall: str | None


class Skipped(NamedTuple):
    """A file that is no result."""

    path: Path
    why: str


def history(paths: Iterable[Path]) -> tuple[list[Entry], list[Skipped]]:
    """Every point of the results in files and folders, the oldest first; and what was left out."""
    entries: list[Entry] = []
    skipped: list[Skipped] = []
    for path in _files(paths):
        try:
            document = load(path)
        except ConfigurationError as error:
            skipped.append(Skipped(path, str(error)))
            continue
        knee, stall = document.get("knee"), document.get("stall")
        entries += (
            Entry(
                document["started"],
                path,
                document["kind"],
                document["scenario"]["peer"],
                each["point"],
                {name: each[name] for name in RATES},
                sum(run["failed_operations"] for run in document["runs"] if run["point"] == each["point"]),
                None if knee is None or not knee["reached"] else knee["parallel"],
                None if stall is None else stall["dominant"],
            )
            for each in document["points"]
        )
    return sorted(entries, key=lambda each: (each.started, str(each.path))), skipped


def _files(paths: Iterable[Path]) -> Iterable[Path]:
    for path in paths:
        yield from sorted(path.rglob("*.json")) if path.is_dir() else (path,)
