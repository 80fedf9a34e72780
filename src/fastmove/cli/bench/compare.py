"""`fastmove bench compare` and `fastmove bench history`: results against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from fastmove.bench.compare import RATES, WORDS, Change, Comparison, compare, differences, verdict
from fastmove.bench.history import history as entries_of
from fastmove.bench.result import load
from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.options import json_option, reports_errors
from fastmove.cli.output import say, table, write_json
from fastmove.observe.result_words import STALLS, in_words

DEFAULT_THRESHOLD = 0.1

_SCALE = {"bytes_per_s": 1e6}

_WORDS = {
    Change.SAME: "no difference that matters",
    Change.FASTER: "faster",
    Change.SLOWER: "SLOWER",
    Change.UNSURE: "not sure: repeat more often",
}


class Percentage(click.ParamType[float]):
    """`10%`, or `0.1`."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The share."""
        if isinstance(value, float):
            return value
        text = str(value)
        try:
            share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
        except ValueError:
            share = 0.0
        if not 0 < share < 1:
            self.fail(f"{value!r} is no share between 0% and 100%", param, ctx)
        return share


_RESULT = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command("compare")
@click.argument("before", type=_RESULT, metavar="BEFORE")
@click.argument("after", type=_RESULT, metavar="AFTER")
@click.option(
    "--fail-if-slower",
    "fail_at",
    type=Percentage(),
    metavar="PERCENT",
    help="End with exit code 76 if the same takes so much longer, and chance has not done it: 10%.",
)
@json_option
@reports_errors
def compare_command(before: Path, after: Path, fail_at: float | None, as_json: bool) -> None:
    """Hold two results against each other: did an upgrade make it slower?

    Each point that both measured is compared by the ratio of its rates (or of
    latencies, in an open loop), with a 95 % confidence interval over the
    repetitions.  Slower means: the same takes longer by more than the threshold (10 %, or that of --fail-if-slower),
    and the whole interval lies below 1.

    \b
    Exit codes: 0 not slower   76 slower   72 it may be slower, and the repetitions do not tell   1 usage

    \b
    Example:
      fastmove bench compare before.json after.json --fail-if-slower 10%
    """
    threshold = DEFAULT_THRESHOLD if fail_at is None else fail_at
    documents = load(before), load(after)
    compared = compare(*documents, threshold)
    found = verdict(compared)
    others = list(differences(*documents))
    if as_json:
        write_json(
            {
                "event": "bench.compared",
                "verdict": found.value,
                "threshold": threshold,
                "points": [
                    {**each._asdict(), "ratio": each.ratio._asdict(), "change": each.change.value} for each in compared
                ],
                "differences": others,
            }
        )
    else:
        among = [each.point for each in compared]
        table(
            [_row(each, among) for each in compared],
            ["point", "rate", "before", "after", "after/before", "95 % interval", ""],
        )
        for each in others:
            say(f"note: {each}")
    if fail_at is not None and found is Change.SLOWER:
        raise click.exceptions.Exit(ExitCode.SLOWER)
    if fail_at is not None and any(each.change is Change.UNSURE and each.ratio.estimate < 1 for each in compared):
        raise click.exceptions.Exit(ExitCode.UNKNOWN)


def _row(each: Comparison, among: Sequence[Mapping[str, Any]]) -> list[str]:
    scale, ratio = _SCALE.get(each.rate, 1.0), each.ratio
    interval = "one run only" if ratio.low is None or ratio.high is None else f"{ratio.low:.3f} to {ratio.high:.3f}"
    return [
        in_words(each.point, among),
        WORDS[each.rate],
        f"{each.before / scale:,.1f}",
        f"{each.after / scale:,.1f}",
        f"{ratio.estimate:.3f}",
        interval,
        _WORDS[each.change],
    ]


@click.command("history")
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@json_option
@reports_errors
def history_command(paths: tuple[Path, ...], as_json: bool) -> None:
    """Show results in the order of their time: files, and all that folders hold.

    \b
    Example:
      fastmove bench history ~/benchmarks
    """
    entries, skipped = entries_of(paths)
    if as_json:
        for each in entries:
            write_json({"event": "bench.result", **each._asdict(), "path": str(each.path)})
    elif entries:
        rows = [
            [
                each.started.replace("T", " ")[:16],
                each.kind,
                each.peer,
                in_words(each.point, [other.point for other in entries if other.path == each.path]),
                *(f"{each.rates[name]['estimate'] / _SCALE.get(name, 1.0):,.1f}" for name in RATES),
                f"{each.failed:,}" if each.failed else "",
                f"{each.knee:.1f}" if each.knee is not None else "",
                STALLS[each.stall] if each.stall else "",
            ]
            for each in entries
        ]
        header = ["when (UTC)", "bench", "PACS", "point", *RATES.values(), "failed", "knee", "limited by"]
        table(rows, header)
    for left_out in skipped:
        say(f"skipped: {left_out.why}", err=True)
    if not entries:
        say("no results there", err=True)
        raise click.exceptions.Exit(ExitCode.USAGE)
