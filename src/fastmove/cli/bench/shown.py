"""What a benchmark shows: a live view while it runs, and a summary at the end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastmove.bench.runner import Runner
from fastmove.cli.bench.live import COLUMNS, VERBS, Live
from fastmove.cli.output import Progress, megabytes, say, table
from fastmove.observe.result_words import RATES, STALLS, in_words
from fastmove.values import Value

BAR: Final = 40
"""Characters of a bar."""


WORTH_SAYING: Final = 0.05
"""Of all time, for what is beside the moves."""


class Shown:
    """A context manager around all runs."""

    def __init__(self, runner: Runner[Any], *, quiet: bool) -> None:
        self._run = Live(runner)
        self._progress = Progress(self._run, VERBS.get(runner.kind, "received"), quiet=quiet)
        self._quiet = quiet
        self._operations = runner.operations

    def __enter__(self) -> Shown:
        self._progress.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._progress.__exit__(*error)

    def begin(self, point: Value, among: Sequence[Value], repetition: int) -> None:
        """A run begins, of one of these points."""
        self._run.begin(f"{in_words(vars(point), [vars(each) for each in among])}, run {repetition}")

    def end(self, measured: Mapping[str, Any]) -> None:
        """It is over."""
        if not self._quiet:
            say(f"{self._run.title}: {_rates(measured, self._operations)}", err=True)


def _rates(measured: Mapping[str, Any], operations: str) -> str:
    parts = [f"{measured['operations']:,} {operations}"]
    parts += [f"{measured['failed_operations']:,} failed"] if measured["failed_operations"] else []
    rates = [f"{measured['operations_per_s']:,.1f} {operations}/s"]
    if measured["objects"]:
        parts.append(f"{measured['objects']:,} objects")
        rates.insert(0, f"{measured['objects_per_s']:,.1f} objects/s")
    if measured["bytes"]:
        parts.append(megabytes(measured["bytes"]))
        rates.insert(0, f"{measured['bytes_per_s'] / 1e6:,.1f} MB/s")
    return f"{', '.join(parts)} in {measured['seconds']:.2f} s: {', '.join(rates)}"


def summary(document: Mapping[str, Any]) -> None:
    """The result for a person."""
    points, columns = document["points"], COLUMNS[document["kind"]]
    rates = [name for name in RATES if any(each[name]["estimate"] for each in points)]
    header = ["point", *(RATES[name][0] for name in rates)]
    header += [f"{name.replace('_', ' ')} {percentile}" for name, percentile in columns]
    among = [each["point"] for each in points]
    table([_row(point, among, document["runs"], rates, columns) for point in points], header)
    if (knee := document["knee"]) is not None:
        _knee(knee)
    if (stall := document["stall"]) is not None:
        say("")
        for line in _stalls(stall):
            say(line)
    if (ceiling := document.get("ceiling")) is not None:
        most = f"{ceiling['bytes_per_s'] / 1e6:,.0f} MB/s of objects of {ceiling['objects']}"
        say(f"\nthis host can receive {most} (bench self): it was at {ceiling['share']:.0%} of that")
    for status, detail in _failures(document["runs"]).items():
        say(f"{status}: {detail}")


def _row(
    point: Mapping[str, Any],
    among: Sequence[Mapping[str, Any]],
    runs: Sequence[Mapping[str, Any]],
    rates: Sequence[str],
    columns: Sequence[tuple[str, str]],
) -> list[str]:
    latencies = [run["latencies_ms"] for run in runs if run["point"] == point["point"]]

    def interval(name: str) -> str:
        rate, scale = point[name], RATES[name][1]
        around = "" if rate["low"] is None else f" ±{(rate['high'] - rate['low']) / 2 / scale:,.1f}"
        return f"{rate['estimate'] / scale:,.1f}{around}"

    def latency(name: str, percentile: str) -> str:
        found = [each[name][percentile] for each in latencies if percentile in each.get(name, {})]
        return f"{sum(found) / len(found):,.1f} ms" if found else "-"

    return [in_words(point["point"], among), *map(interval, rates), *(latency(*column) for column in columns)]


def _knee(knee: Mapping[str, Any]) -> None:
    unit, scale = RATES[knee["of"]]
    if knee["reached"]:
        say(f"\nknee: {knee['parallel']:.1f} at once; more than {knee['most'] / scale:,.1f} {unit} is not had")
    else:
        say(f"\nknee: not reached; throughput still grew at the last step ({knee['most'] / scale:,.1f} {unit})")


def _stalls(stall: Mapping[str, Any]) -> list[str]:
    lines = ["where the time of the moves went:"]
    for name, share in sorted(stall["shares"].items(), key=lambda each: -each[1]):
        if name == "limit" and not share:
            continue
        lines.append(f"  {STALLS[name]:<34} {share:6.1%} {'█' * round(share * BAR)}")
    if (beside := stall.get("associations", 0.0)) >= WORTH_SAYING:
        lines.append(f"making associations, before the moves: {beside:.0%} of all time")
    return [*lines, "", stall["advice"]] if stall["advice"] else lines


def _failures(runs: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    counts: Counter[str] = Counter()
    details: dict[str, str] = {}
    for run in runs:
        counts.update(run["failures"])
        details = run["details"] | details
    return {f"{count:,} x {status}": details.get(status, "") for status, count in counts.items()}
