"""Runs, the ratios between runs of one round, the table, the verdict on each goal, and the JSON of all of it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from rich.console import Console
from rich.table import Table

T = TypeVar("T")

TABLE_COLUMNS = 160
"""Width where the output is no terminal; rich would take 80 and fold every cell."""

DISTURBED = 0.15
"""Share of a run's CPU time, used by others on the machine, from which the table warns."""


@dataclass
class Run:
    """One program, once, in one setting; times in seconds. `error` set: the figures mean nothing."""

    row: str
    setting: str
    round: int
    objects: int = 0
    bytes: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    start_cpu_s: float = 0.0
    peak_rss_bytes: int = 0
    response_us: float = 0.0
    first_ms: float = 0.0
    others_cpu_s: float = 0.0
    sender_cpu_s: float = 0.0
    link_cpu_s: float = 0.0
    studies: int = 0
    associations: int = 0
    memory_growth: float = 0.0
    estimated: str = ""
    error: str = ""


METRICS: dict[str, Callable[[Run], float]] = {
    "cpu_s_per_gb": lambda r: r.cpu_s / (r.bytes / 1e9),
    "cpu_us_per_object": lambda r: r.cpu_s / r.objects * 1e6,
    "mb_per_s": lambda r: r.bytes / 1e6 / r.seconds,
    "objects_per_s": lambda r: r.objects / r.seconds,
    "seconds": lambda r: r.seconds,
    "ms_per_object": lambda r: r.seconds / r.objects * 1e3,
    "peak_rss_mib": lambda r: r.peak_rss_bytes / (1 << 20),
    "response_us": lambda r: r.response_us,
    "first_ms": lambda r: r.first_ms,
    "start_cpu_s": lambda r: r.start_cpu_s,
    "sender_cpu_s_per_gb": lambda r: r.sender_cpu_s / (r.bytes / 1e9),
    "sender_cpu_us_per_object": lambda r: r.sender_cpu_s / r.objects * 1e6,
    "studies_per_s": lambda r: r.studies / r.seconds,
    "associations": lambda r: r.associations,
    "memory_growth": lambda r: r.memory_growth,
    "link_cpu_s_per_gb": lambda r: r.link_cpu_s / (r.bytes / 1e9),
    "objects": lambda r: r.objects,
}


@dataclass(frozen=True)
class Values:
    """A metric over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return float(statistics.median(self.values))

    def text(self, digits: int = 2, *, spread: bool = True) -> str:
        """The median, and min-max if there is more than one value; one digit more where it would be nearly all."""
        digits += digits == 0 and not self.median.is_integer() and self.median < 10
        if len(self.values) == 1 or not spread:
            return f"{self.median:.{digits}f}"
        return f"{self.median:.{digits}f} ({min(self.values):.{digits}f}-{max(self.values):.{digits}f})"


def values(
    runs: Iterable[Run], setting: str, row: str, metric: str, reference: str = "", *, inverse: bool = False
) -> Values:
    """The metric of a row in each round; with a reference, its ratio to that row in the same round, or the inverse."""
    measure = METRICS[metric]
    good = {(r.row, r.round): r for r in runs if r.setting == setting and not r.error and r.objects and r.seconds}
    own = {number: measure(run) for (name, number), run in good.items() if name == row}
    if not reference:
        return Values(tuple(own.values()))
    other = {number: measure(run) for (name, number), run in good.items() if name == reference}
    pairs = ((own[n], other[n]) for n in own if n in other)
    return Values(tuple((b / a if inverse else a / b) for a, b in pairs if a and b))


@dataclass(frozen=True)
class Column:
    """One column of the table; `inverse` turns a ratio of times into "so many times faster", `spread` adds min-max."""

    header: str
    metric: str
    digits: int
    reference: str = ""
    inverse: bool = False
    spread: bool = True


@dataclass(frozen=True)
class Goal:
    """A number to reach: the metric of `row`, or its ratio to `reference`, against a bound."""

    what: str
    setting: str
    row: str
    metric: str
    relation: str
    bound: float
    reference: str = ""
    inverse: bool = False

    def verdict(self, runs: Sequence[Run]) -> dict[str, object] | None:
        """Met or not, with the figures; None if this run measured nothing of it."""
        found = values(runs, self.setting, self.row, self.metric, self.reference, inverse=self.inverse)
        if not found.values:
            return None
        met = found.median <= self.bound if self.relation == "<=" else found.median >= self.bound
        against = f" x {self.reference}" if self.reference else ""
        estimated = {r.estimated for r in runs if r.setting == self.setting and r.row in (self.row, self.reference)}
        note = "; ".join(sorted(estimated - {""}))
        text = f"{self.setting}: {self.what}: {found.text()}{against}, goal {self.relation} {self.bound:g}{against}"
        return {**asdict(self), "met": met, "measured": found.median, "text": text + (f" [{note}]" if note else "")}


def draw(console: Console, title: str, runs: Sequence[Run], setting: str, columns: Sequence[Column]) -> None:
    """One setting as a table: a row per program, in the order of their first runs."""
    table = Table(title=title, title_justify="left", title_style="bold", pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column.header, justify="right")
    table.add_column("note", overflow="fold")
    mine = [r for r in runs if r.setting == setting]
    for row in dict.fromkeys(r.row for r in sorted(mine, key=lambda r: r.round)):
        found = [values(mine, setting, row, c.metric, c.reference, inverse=c.inverse) for c in columns]
        cells = [v.text(c.digits, spread=c.spread) if v.values else "-" for v, c in zip(found, columns, strict=True)]
        notes = dict.fromkeys(filter(None, (r.error or r.estimated for r in mine if r.row == row)))
        table.add_row(row, *cells, "; ".join(notes))
    console.print(table)
    busy = [r.others_cpu_s / r.seconds for r in mine if r.seconds and r.others_cpu_s > DISTURBED * r.seconds]
    if busy:
        console.print(
            f"disturbed: in {len(busy)} of {len(mine)} runs others used {statistics.median(busy):.0%} of a CPU; "
            "trust the ratios of CPU time, not the rates",
            style="yellow",
        )


def publish(
    benchmark: str,
    environment: dict[str, object],
    runs: Sequence[Run],
    tables: Sequence[tuple[str, str, Sequence[Column]]],
    goals: Sequence[Goal],
    path: Path | None,
) -> None:
    """Print every table, given as (title, setting, columns), then a line per goal that was measured; write the JSON."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=TABLE_COLUMNS)
    for title, setting, columns in tables:
        draw(console, title, runs, setting, columns)
    verdicts = [v for goal in goals if (v := goal.verdict(runs))]
    for verdict in verdicts:
        console.print("met    " if verdict["met"] else "NOT met", str(verdict["text"]), markup=False, highlight=False)
    if not verdicts:
        console.print("No goal was measured by this run.")
    if path:
        measured = [asdict(r) | ({} if r.error else {k: m(r) for k, m in METRICS.items()}) for r in runs]
        result = {"benchmark": benchmark, "environment": environment, "runs": measured, "goals": verdicts}
        path.write_text(json.dumps(result, indent=1) + "\n")


def rotated(rows: Sequence[T], number: int) -> list[T]:
    """The rows in the order of this round: each begins once, so that a drift of the machine touches all alike."""
    k = number % max(1, len(rows))
    return [*rows[k:], *rows[:k]]
