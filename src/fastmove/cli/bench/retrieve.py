"""`fastmove bench retrieve`: C-MOVE under load."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any, Final

import click

from fastmove.bench.knee import flat, steps
from fastmove.bench.load import Load
from fastmove.bench.result import Document, Result
from fastmove.bench.retrieve import RetrieveBench, RetrieveTarget, Study
from fastmove.bench.studies import LEVELS, Finding, asked_for
from fastmove.cli.bench.output import out_options, write
from fastmove.cli.bench.shown import Shown
from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import (
    PORT,
    aet_option,
    host_option,
    json_option,
    no_durable_option,
    peer_argument,
    reports_errors,
    timeout_option,
)
from fastmove.cli.output import say
from fastmove.cli.selection import selection_from, selection_options
from fastmove.cli.tls import TlsOptions, retrieves_options
from fastmove.dimse.identifier import LEVELS as MODELS
from fastmove.errors import ConfigurationError
from fastmove.limits import Limits
from fastmove.net.loop import interruptions, run
from fastmove.services.selection.selection import Selection
from fastmove.types import PeerAddress
from fastmove.values import Value

MOST_UNDER_WAY: Final = 32
"""Moves at once in an open loop, unless told otherwise: a PACS has a limit, and what is due can wait."""


class Numbers(click.ParamType[tuple[int, ...]]):
    """One number, or several separated by commas: a sweep."""

    name = "n[,n...]"

    def __init__(self, least: int, most: int) -> None:
        self._least, self._most = least, most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """The numbers, each once."""
        if isinstance(value, tuple):
            return value
        parts = str(value).split(",")
        if not all(part.isascii() and part.isdigit() and self._least <= int(part) <= self._most for part in parts):
            self.fail(f"{value!r}: give numbers from {self._least} to {self._most}, separated by commas", param, ctx)
        return tuple(dict.fromkeys(map(int, parts)))


class Levels(click.ParamType[tuple[str, ...]]):
    """Query/Retrieve Levels, separated by commas."""

    name = "level[,...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The levels in capitals."""
        if isinstance(value, tuple):
            return value
        parts = tuple(dict.fromkeys(part.strip().upper() for part in str(value).split(",")))
        if wrong := next((part for part in parts if part not in LEVELS), None):
            self.fail(f"{wrong!r} is none of {', '.join(LEVELS).lower()}", param, ctx)
        return parts


class Point(Value):
    """What differs between the runs of one benchmark."""

    parallel: int
    rate_per_s: float | None
    max_pdu_length: int
    level: str


class Plan(Value):
    """What is run: points, each several times."""

    points: tuple[Point, ...]
    repetitions: int
    ramp_to: int | None
    duration_s: float | None
    warm_up_s: float
    count: int | None
    seed: int

    def asked(self, studies: int) -> str:
        """What the PACS will be asked for, in words."""
        runs = len(self.points) * self.repetitions
        moves = "as many as it takes" if self.duration_s is not None else f"{self.count or studies:,}"
        lasting = "" if self.duration_s is None else f" for {self.duration_s:g} s each"
        at_once = sorted({point.parallel for point in self.points})
        return (
            f"{runs} run{'s' * (runs != 1)}{lasting}, C-MOVEs in each: {moves}, "
            f"at once: {', '.join(map(str, at_once))}{', then more while it pays' * (self.ramp_to is not None)}"
        )


@click.command("retrieve")
@peer_argument
@selection_options
@aet_option
@click.option("--port", type=PORT, required=True, metavar="P", help="Our listening port, as the PACS knows it.")
@click.option("--model", type=click.Choice(list(MODELS)), default="study", show_default=True)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Of what is selected take N studies by chance.")
@click.option(
    "--parallel",
    type=Numbers(1, 256),
    default=(),
    metavar="N[,N...]",
    help="Moves at once (closed loop): as soon as one ends the next begins. Several numbers are a sweep. With --rate "
    f"the most that may be under way.  [default: 1; with --rate {MOST_UNDER_WAY}]",
)
@click.option("--ramp", is_flag=True, help="Find the knee: 1 move at once, 2, 3, 4, 6 ... while throughput grows.")
@click.option(
    "--ramp-to", type=click.IntRange(2, 256), default=32, show_default=True, metavar="N", help="No more than these."
)
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    metavar="MOVES/S",
    help="So many moves a second at random moments (open loop), whatever becomes of them; latencies count from when "
    "each was due.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="Moves of a run.  [default: each study once]")
@click.option(
    "--duration",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="Length of a run; studies are asked for again and again.",
)
@click.option(
    "--warm-up",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="At the beginning of a run, not counted.",
)
@click.option(
    "--repeat", type=click.IntRange(1, 100), default=1, show_default=True, metavar="N", help="Each run so often."
)
@click.option(
    "--level",
    "levels",
    type=Levels(),
    default="study",
    show_default=True,
    metavar="LEVEL[,...]",
    help="Move whole studies, or the same series by series, or image by image.",
)
@click.option(
    "--max-pdu",
    "max_pdus",
    type=Numbers(4096, 16 << 20),
    default=str(Limits().max_pdu_length),
    show_default=True,
    metavar="N[,N...]",
    help="Longest PDU to announce, in bytes.",
)
@click.option("--new-associations", is_flag=True, help="An association for each move, as movescu does it.")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the objects, those of each run in a folder of its own.  [default: they are discarded]",
)
@no_durable_option
@click.option("--seed", type=click.IntRange(min=0), default=1, show_default=True, metavar="N", help="Of all chance.")
@out_options
@click.option("--dry-run", is_flag=True, help="Say what would be asked of the PACS, and ask for nothing but the list.")
@timeout_option
@limit_option
@host_option
@retrieves_options
@json_option
@reports_errors
def command(
    peer: PeerAddress,
    aet: str,
    port: int,
    model: str,
    sample: int | None,
    parallel: tuple[int, ...],
    ramp: bool,
    ramp_to: int,
    rate: float | None,
    count: int | None,
    duration: float | None,
    warm_up: float,
    repeat: int,
    levels: tuple[str, ...],
    max_pdus: tuple[int, ...],
    new_associations: bool,
    folder: Path | None,
    durable: bool,
    seed: int,
    out: Path | None,
    page: Path | None,
    dry_run: bool,
    timeout: float,
    limits: tuple[Setting, ...],
    host: str,
    tls: TlsOptions,
    as_json: bool,
    **selected: Any,
) -> None:
    """Measure how a PACS delivers studies by C-MOVE: throughput, latencies, and what limits it.

    Studies come to our own listener and are discarded.  The PACS must know our AE title with this
    host and port; `fastmove doctor` finds out.  Ctrl-C ends the run with C-CANCEL, and what was
    measured is reported all the same.

    \b
    Exit codes: 0 everything was moved   69 moves failed   72 it was stopped   61 no association
    60 cannot listen   1 usage

    \b
    Examples:
      fastmove bench retrieve pacs --port 11112 --date today-7d.. --sample 20 --dry-run
      fastmove bench retrieve pacs --port 11112 --date today-7d.. --sample 20 --parallel 4 --repeat 5 --out a.json
      fastmove bench retrieve pacs --port 11112 --from studies.txt --ramp --duration 20 --out knee.json
      fastmove bench retrieve pacs --port 11112 --from studies.txt --rate 0.5 --duration 120
    """
    selection = selection_from(**selected)
    if selection == Selection():
        raise ConfigurationError("selection", "say what to retrieve: --study, --from, --date, ...")
    if ramp and (rate is not None or parallel):
        raise ConfigurationError("--ramp", "finds out how many at once by itself: leave --rate and --parallel out")
    if warm_up and duration is None:
        raise ConfigurationError("--warm-up", "needs a --duration that it is the beginning of")
    if duration is not None and warm_up >= duration:
        raise ConfigurationError("--warm-up", f"{warm_up:g} s leave nothing of {duration:g} s to measure")
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s")})
    at_once = (1,) if ramp else parallel or ((1,) if rate is None else (MOST_UNDER_WAY,))
    points = [Point(*each) for each in itertools.product(at_once, [rate], max_pdus, levels)]
    if ramp and len(points) > 1:
        raise ConfigurationError("--ramp", "varies moves at once and nothing else: give one --level and one --max-pdu")
    plan = Plan(tuple(points), repeat, ramp_to if ramp else None, duration, warm_up, count, seed)
    target = RetrieveTarget(
        tls.reach(peer),
        aet,
        model,
        bounds,
        tls.listener(),
        new_associations=new_associations,
    )
    bench = RetrieveBench(target, host=host, port=port, folder=folder, durable=durable)
    scenario = {
        "peer": str(peer),
        "arguments": sys.argv[1:],
        "ae_title": aet,
        "model": model,
        "duration_s": duration,
        "warm_up_s": warm_up,
        "count": count,
        "repetitions": repeat,
        "seed": seed,
        "new_associations": new_associations,
        "kept": folder is not None,
        "durable": folder is not None and durable,
        "tls": tls.reach(peer).tls is not None,
    }
    session = _Session(bench, plan, Result("retrieve", scenario), as_json=as_json)
    document = run(session(selection, sample, dry_run=dry_run))
    if document is None:
        return
    write(document, out, page, as_json=as_json)
    failed = any(each["failed_operations"] for each in document["runs"])
    if bench.stopped:
        raise click.exceptions.Exit(ExitCode.UNKNOWN)
    if failed:
        raise click.exceptions.Exit(ExitCode.REFUSED)


class _Session:
    """The runs of one command, and how they are stopped."""

    def __init__(self, bench: RetrieveBench, plan: Plan, result: Result, *, as_json: bool) -> None:
        self._bench = bench
        self._plan = plan
        self._result = result
        self._as_json = as_json
        self._units: dict[str, list[Study]] = {}

    async def __call__(self, selection: Selection, sample: int | None, *, dry_run: bool) -> Document | None:
        for number in interruptions():
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt)
        finding = Finding(self._bench.target)
        try:
            studies = await finding.studies(selection, today=date.today(), sample=sample, seed=self._plan.seed)
            for level in {point.level for point in self._plan.points}:
                self._units[level] = await finding.at_level(studies, level)
        finally:
            await finding.close()
        known = [study.instances for study in studies if study.instances is not None]
        if not self._as_json or dry_run:
            holding = f"{len(studies):,} studies, {sum(known):,} instances that are known of"
            say(f"{holding}; {self._plan.asked(len(studies))}")
        if dry_run:
            return None
        with Shown(self._bench, quiet=self._as_json) as shown:
            for point, repetition in self._points():
                if self._bench.stopped:
                    break
                shown.begin(point, self._plan.points, repetition)
                measured = await self._bench.run(self._load(point), self._asked(point), point.max_pdu_length)
                self._result.add(vars(point), repetition, measured)
                shown.end(measured)
        return self._result.finished(self._bench.peer, complete=not self._bench.stopped)

    def _points(self) -> Iterator[tuple[Point, int]]:
        """One repetition of all points after the other, so that what changes with time changes all of them."""
        plan = self._plan
        if plan.ramp_to is None:
            yield from ((point, number) for number in range(1, plan.repetitions + 1) for point in plan.points)
            return
        rates: list[float] = []
        for at_once in steps(plan.ramp_to):
            point = plan.points[0].replace(parallel=at_once)
            for number in range(1, plan.repetitions + 1):
                yield point, number
            found = self._result.rates(vars(point), "bytes_per_s")
            rates.append(sum(found) / len(found) if found else 0.0)
            if flat(rates):
                return

    def _load(self, point: Point) -> Load:
        plan = self._plan
        return Load(
            parallel=point.parallel,
            rate_per_s=point.rate_per_s,
            duration_s=plan.duration_s,
            warm_up_s=plan.warm_up_s,
            seed=plan.seed,
        )

    def _asked(self, point: Point) -> Iterator[Study]:
        plan, units = self._plan, self._units[point.level]
        count = plan.count if plan.duration_s is not None else plan.count or len(units)
        return asked_for(units, count, seed=plan.seed)

    def _interrupt(self) -> None:
        cancelled = self._bench.stop()
        say(f"stopping{': C-CANCEL sent, once more to abort' if cancelled else ''}", err=True)
