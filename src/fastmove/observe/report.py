"""A result of `fastmove bench` as one page that stands alone: figures, plots, advice, and how it was measured."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from fastmove.observe.page import Figure, X, Y, templates
from fastmove.observe.plot import (
    Bar,
    Line,
    Mark,
    bars,
    chart,
    linear,
    logarithmic,
    number,
    percentiles,
)
from fastmove.observe.result_words import LATENCIES, RATES, STALLS, in_words

Document = Mapping[str, Any]

MAX_LINES: Final = 6
"""Of a plot: more than these nobody can tell apart."""


def html(document: Document) -> str:
    """The page."""
    page = templates().get_template("report.html.jinja")
    return page.render(
        document=document,
        scenario=document["scenario"],
        title=f"bench {document['kind']}: {document['scenario']['peer']}",
        cards=list(_cards(document)),
        figures=[each for each in _figures(document) if each is not None],
        rows=[_row(point, _points(document)) for point in document["points"]],
        latencies=_latency_rows(document),
        failures=_failures(document["runs"]),
        theirs=_theirs(document["runs"]),
        machine=_machine(document.get("machine", {})),
    )


def _points(document: Document) -> list[Mapping[str, Any]]:
    return [each["point"] for each in document["points"]]


def _main_rate(document: Document) -> str:
    return "bytes_per_s" if any(each["bytes_per_s"]["estimate"] for each in document["points"]) else "operations_per_s"


def _cards(document: Document) -> Iterable[tuple[str, str]]:
    """The few figures that count."""
    points = document["points"]
    for name in RATES:
        best = max((each[name]["estimate"] for each in points), default=0.0)
        unit, scale = RATES[name]
        if best and (name != "operations_per_s" or _main_rate(document) == name):
            yield f"{number(best / scale)} {unit}", "at best"
    knee = document["knee"]
    if knee is not None:
        yield (f"{knee['parallel']:.1f} at once", "knee") if knee["reached"] else ("beyond", "knee: not reached")
    stall = document["stall"]
    if stall is not None and stall["dominant"]:
        yield STALLS[stall["dominant"]], f"takes {stall['shares'][stall['dominant']]:.0%} of the time"
    ceiling = document.get("ceiling")
    if ceiling is not None:
        yield (
            f"{ceiling['share']:.0%}",
            f"of the {number(ceiling['bytes_per_s'] / 1e6)} MB/s that this host can receive",
        )
    failed = sum(run["failed_operations"] for run in document["runs"])
    total = sum(run["operations"] for run in document["runs"])
    yield f"{failed:,} of {total:,}", "operations failed"


# ---------------------------------------------------------------------- plots


def _figures(document: Document) -> Iterable[Figure | None]:
    yield _concurrency(document)
    yield _stalls(document)
    yield _over_time(document)
    yield _latencies(document)
    yield _kinds(document)


def _concurrency(document: Document) -> Figure | None:
    points = sorted(document["points"], key=lambda each: each["point"]["parallel"])
    if len({each["point"]["parallel"] for each in points}) < 2:
        return None
    name = _main_rate(document)
    unit, scale = RATES[name]
    measured = [(float(each["point"]["parallel"]), each[name]["estimate"] / scale) for each in points]
    bounds = [
        None if each[name]["low"] is None else (max(0.0, each[name]["low"]) / scale, each[name]["high"] / scale)
        for each in points
    ]
    lines, marks = [Line("measured", measured, bounds)], []
    most = measured[-1][0]
    knee = document["knee"]
    if knee is not None and knee["reached"]:
        slope, top = knee["per_operation"] / scale, knee["most"] / scale
        at = min(knee["parallel"], most)
        lines.append(Line("two lines that fit", [(0.0, 0.0), (at, min(slope * at, top)), (most, top)], dashed=True))
        marks.append(Mark(knee["parallel"], f"knee: {knee['parallel']:.1f}"))
    highest = max([each for _, each in measured] + [bound[1] for bound in bounds if bound is not None])
    plot = chart(
        lines,
        linear(0, most, *X),
        linear(0, highest, *Y),
        title=f"{unit} against operations at once",
        x_label="operations at once",
        y_label=unit,
        marks=marks,
    )
    return Figure(
        "Throughput against concurrency",
        plot,
        "Up to the knee each operation more brings more; beyond it all of them only wait longer. Bars are 95 % "
        "confidence intervals over the repetitions.",
    )


def _over_time(document: Document) -> Figure | None:
    name, unit, scale = (
        ("bytes", "MB/s", 1e6) if _main_rate(document) == "bytes_per_s" else ("operations", "a second", 1.0)
    )
    runs = [run for run in document["runs"] if run["repetition"] == 1][:MAX_LINES]
    lines = []
    for run in runs:
        label = in_words(run["point"], _points(document))
        series, interval = run["over_time"][name], run["over_time"]["interval_s"]
        whole = int(run["seconds"] / interval)  # the last part of an interval is no rate
        lines.append(
            Line(label, [((at + 0.5) * interval, each / interval / scale) for at, each in enumerate(series[:whole])])
        )
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return None
    plot = chart(
        lines,
        linear(0, max(line.points[-1][0] for line in lines), *X),
        linear(0, max(y for line in lines for _, y in line.points), *Y),
        title=f"{unit} over time",
        x_label="seconds",
        y_label=unit,
        dots=False,
    )
    return Figure(
        "Throughput over time",
        plot,
        "Second by second, first repetitions. A line that falls is a cache that ran out, or somebody else at work.",
    )


def _latencies(document: Document) -> Figure | None:
    found = _longest(document)
    lines = [
        Line(LATENCIES.get(name, name), each["curve"]) for name, each in found.items() if len(each.get("curve", ())) > 1
    ]
    lines = lines[:MAX_LINES]
    if not lines:
        return None
    values = [y for line in lines for _, y in line.points if y > 0]
    beyond = max(x for line in lines for x, _ in line.points)
    nines = next(n for n in (1.0, 2.0, 3.0, 4.0) if beyond <= 100 - 10 ** (2 - n) + 1e-9 or n == 4.0)
    plot = chart(
        lines,
        percentiles(*X, nines),
        logarithmic(min(values), max(values), *Y),
        title="latencies by percentile",
        x_label="share of them that took no longer",
        y_label="ms",
        dots=False,
    )
    return Figure(
        "Latency distributions",
        plot,
        f"Of the last point that was measured: {in_words(_points(document)[-1], _points(document))}. "
        "A curve that turns up at the right end is a few that take very long.",
    )


def _longest(document: Document) -> dict[str, Mapping[str, Any]]:
    """The latencies of the last point's run with the most of them, in the order of LATENCIES."""
    runs = (
        [run for run in document["runs"] if run["point"] == document["points"][-1]["point"]]
        if document["points"]
        else []
    )
    if not runs:
        return {}
    latencies = max(runs, key=lambda run: run["operations"])["latencies_ms"]
    return {
        name: latencies[name]
        for name in (*LATENCIES, *sorted(latencies.keys() - LATENCIES.keys()))
        if name in latencies
    }


def _stalls(document: Document) -> Figure | None:
    rows = []
    for each in document["points"]:
        label = in_words(each["point"], _points(document))
        runs = [run["stalls_s"] for run in document["runs"] if run["point"] == each["point"] and "stalls_s" in run]
        seconds = [sum(run.get(name, 0.0) for run in runs) for name in STALLS]
        if total := sum(seconds):
            shares = [second / total for second in seconds]
            rows.append(Bar(label, shares, [f"{share:.0%}" for share in shares]))
    if not rows:
        return None
    return Figure(
        "Where the time of the moves went",
        bars(rows, _told(rows), title="shares of time", most=1.0),
        "Of every second of a move, as the receiving side sees it.",
    )


def _told(rows: Sequence[Bar]) -> list[str]:
    """The names of the parts, without the last ones that nothing went into: few benchmarks limit themselves."""
    names = list(STALLS.values())
    while names and not any(row.parts[len(names) - 1] for row in rows):
        names.pop()
    return names


def _kinds(document: Document) -> Figure | None:
    totals: dict[str, list[float]] = {}
    for run in document["runs"]:
        for kind, each in run["kinds"].items():
            known = totals.setdefault(kind, [0.0, 0.0, 0.0])
            spent = each["latency_ms"].get("mean", 0.0) * each["operations"] / 1e3
            for at, value in enumerate((each["bytes"] / 1e6, each["objects"], spent)):
                known[at] += value
    rows = [
        Bar(kind, [megabytes / seconds], [f"{number(megabytes / seconds)} MB/s, {number(objects / seconds)} objects/s"])
        for kind, (megabytes, objects, seconds) in sorted(
            totals.items(), key=lambda item: -item[1][0] / (item[1][2] or 1)
        )
        if seconds and megabytes
    ]
    if not rows:
        return None
    return Figure(
        "By modality",
        bars(rows, ["MB/s"], title="MB/s of one move, by modality"),
        "What a single move brings while it runs, all points together: many small objects take longer than few large "
        "ones.",
    )


# ---------------------------------------------------------------------- tables


def _row(point: Mapping[str, Any], among: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [in_words(point["point"], among), f"{point['repetitions']}"]
    for name, (_, scale) in RATES.items():
        rate = point[name]
        around = "" if rate["low"] is None else f" ± {number((rate['high'] - rate['low']) / 2 / scale)}"
        cells.append(f"{number(rate['estimate'] / scale)}{around}")
    return cells


def _latency_rows(document: Document) -> list[list[str]]:
    names = ("min", "p50", "p90", "p99", "p99.9", "max")
    return [
        [LATENCIES.get(name, name), f"{each['count']:,}", *(number(each[at]) if at in each else "" for at in names)]
        for name, each in _longest(document).items()
        if each["count"]
    ]


def _theirs(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """What the PACS says of itself: at the beginning, and at the end."""
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for run in runs:
        for name, (before, after) in run.get("pacs_metrics", {}).items():
            first.setdefault(name, before)
            last[name] = after
    return [(name, number(first[name]), number(last[name])) for name in sorted(first)]


def _machine(known: Mapping[str, float]) -> list[tuple[str, str]]:
    return [
        (
            name.removesuffix("_per_s").replace("_", " "),
            f"{number(value / 1e6)} MB/s" if name.endswith("bytes_per_s") else f"{number(value)}/s",
        )
        for name, value in known.items()
    ]


def _failures(runs: Sequence[Mapping[str, Any]]) -> list[tuple[str, int, str]]:
    counts: Counter[str] = Counter()
    details: dict[str, str] = {}
    for run in runs:
        counts.update(run["failures"])
        details = run["details"] | details
    return [(status, count, details.get(status, "")) for status, count in sorted(counts.items())]
