"""`fastmove bench retrieve`: C-MOVE under load."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import click

from fastmove.bench.result import Document, hold_against, load_ceiling
from fastmove.bench.retrieve import RetrieveBench, Study
from fastmove.bench.runner import Target
from fastmove.bench.studies import LEVELS, Finding, asked_for
from fastmove.cli.bench.output import out_options, write
from fastmove.cli.bench.plan import Plan, Point, TransferSyntaxes, also_option, load_options, planned_of
from fastmove.cli.bench.session import Session
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import (
    PORT,
    Size,
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
from fastmove.net.loop import run
from fastmove.services.selection.selection import Selection
from fastmove.types import PeerAddress


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


@click.command("retrieve")
@peer_argument
@selection_options
@aet_option
@click.option("--port", type=PORT, required=True, metavar="P", help="Our listening port, as the PACS knows it.")
@click.option("--model", type=click.Choice(list(MODELS)), default="study", show_default=True)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Of what is selected take N studies by chance.")
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
    "--transfer-syntax",
    "transfer_syntaxes",
    type=TransferSyntaxes(),
    default="any",
    show_default=True,
    metavar="TS[,TS...]",
    help="Take objects in this transfer syntax only, by keyword or UID: the PACS has to convert others.",
)
@also_option
@load_options("Moves")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Keep the objects, those of each run in a folder of its own.  [default: they are discarded]",
)
@no_durable_option
@click.option(
    "--max-rate",
    type=Size(),
    metavar="SIZE",
    help="Take no more than so many bytes a second, over all moves (20M): the PACS is held back by TCP.",
)
@click.option(
    "--ceiling",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Result of `fastmove bench self`: say how near this host was to what it can receive at most.",
)
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
    levels: tuple[str, ...],
    transfer_syntaxes: tuple[str, ...],
    also: tuple[PeerAddress, ...],
    folder: Path | None,
    durable: bool,
    max_rate: int | None,
    ceiling: Path | None,
    out: Path | None,
    page: Path | None,
    dry_run: bool,
    timeout: float,
    limits: tuple[Setting, ...],
    host: str,
    tls: TlsOptions,
    as_json: bool,
    **others: Any,
) -> None:
    """Measure how a PACS delivers studies by C-MOVE: throughput, latencies, and what limits it.

    Studies come to our own listener and are discarded.  The PACS must know our AE title with this
    host and port; `fastmove doctor` finds out.  Ctrl-C ends the run with C-CANCEL, and what was
    measured is reported all the same.

    \b
    Exit codes: 0 everything was moved   69 moves failed   72 it was stopped   61 no association
    60 cannot listen   73 --to could not store everything   1 usage

    \b
    Examples:
      fastmove bench retrieve pacs --port 11112 --date today-7d.. --sample 20 --dry-run
      fastmove bench retrieve pacs --port 11112 --date today-7d.. --sample 20 --parallel 4 --repeat 5 --out a.json
      fastmove bench retrieve pacs --port 11112 --from studies.txt --ramp --duration 20 --out knee.json
      fastmove bench retrieve pacs --port 11112 --from studies.txt --rate 0.5 --duration 120
    """
    planned = planned_of(others)
    selection = selection_from(**others)
    if selection == Selection():
        raise ConfigurationError("selection", "say what to retrieve: --study, --from, --date, ...")
    plan = Plan.of(levels=levels, transfer_syntaxes=transfer_syntaxes, also=also, **planned)
    known = None if ceiling is None else load_ceiling(ceiling)
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s")})
    target = Target(tls.reach(peer), aet, model, bounds, new_associations=plan.new_associations)
    bench = RetrieveBench(
        target,
        host=host,
        port=port,
        folder=folder,
        durable=durable,
        listener_tls=tls.listener(),
        max_bytes_per_s=max_rate,
    )
    kept = folder is not None
    scenario = plan.scenario(target, model=model, kept=kept, durable=kept and durable, max_rate=max_rate)
    session = Session(bench, plan, scenario, as_json=as_json, also=also)

    async def main() -> Document | None:
        finding, units = Finding(target), {}
        try:
            studies = await finding.studies(selection, today=date.today(), sample=sample, seed=plan.seed)
            for level in levels:
                units[level] = await finding.at_level(studies, level)
        finally:
            await finding.close()
        if not as_json or dry_run:
            known = sum(study.instances for study in studies if study.instances is not None)
            once = max(map(len, units.values()))
            say(f"{len(studies):,} studies, {known:,} instances that are known of; {plan.asked('C-MOVEs', once)}")
        if dry_run:
            return None

        def asked(point: Point) -> Iterator[Study]:
            count = plan.count if plan.duration_s is not None else plan.count or len(units[point.level])
            return asked_for(units[point.level], count, seed=plan.seed)

        return await session.run(asked)

    document = run(main())
    if document is None:
        return
    if known is not None:
        hold_against(document, known)
    write(document, out, page, as_json=as_json)
    raise click.exceptions.Exit(session.exit_code(document))
