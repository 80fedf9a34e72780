"""`fastmove migrate plan`: which studies a PACS has, into the ledger."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from datetime import date
from typing import Any

import click

from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.migrate.ledger import BATCH, ledger_argument
from fastmove.cli.options import (
    aet_option,
    json_option,
    peer_argument,
    peer_profile,
    reports_errors,
    timeout_option,
)
from fastmove.cli.output import Progress, Tally, say, table, write_json
from fastmove.cli.selection import selection_from, selection_options
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.dimse.identifier import LEVELS
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import Added, Batch, StudyJob
from fastmove.ledger.store import Ledger
from fastmove.migrate.plan import ORDERS, inventory
from fastmove.net.loop import run
from fastmove.services.finder import Finder
from fastmove.services.selection.resolution import Unresolved
from fastmove.services.selection.selection import Selection
from fastmove.types import PeerAddress

CHUNK = 2000
"""Studies that are written down together: what has been found is not lost if the rest is not."""

SHOWN_UNRESOLVED = 10


class Found(Tally):
    """What an inventory has found so far."""

    def __init__(self) -> None:
        super().__init__()
        self.studies = self.instances = self.uncounted = self.undated = 0
        self.years: dict[str, list[int]] = {}
        self.unresolved: list[Unresolved] = []

    def add(self, job: StudyJob) -> None:
        """A study."""
        self.studies += 1
        self.instances += job.instances or 0
        self.uncounted += job.instances is None
        self.undated += not job.study_date
        year = self.years.setdefault(job.study_date[:4] or "no date", [0, 0])
        year[0] += 1
        year[1] += job.instances or 0

    def line(self, verb: str) -> str:
        """The state as text."""
        return f"{verb} {self.studies:,} studies with {self.instances:,} instances"


@click.command("plan")
@ledger_argument
@peer_argument
@selection_options
@aet_option
@click.option("--model", type=click.Choice(list(LEVELS)), default="study", show_default=True)
@click.option("--batch", default=BATCH, show_default=True, metavar="NAME", help="What the migration is called.")
@click.option(
    "--order",
    type=click.Choice(list(ORDERS)),
    default="newest",
    show_default=True,
    help="Which studies are moved first.",
)
@click.option(
    "--priority",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Those of a higher number come before all others: priors of tomorrow's patients, say.",
)
@click.option("--dry-run", is_flag=True, help="Say what there is, and write nothing down.")
@timeout_option
@limit_option
@requests_options
@json_option
@reports_errors
def command(
    where: str,
    peer: PeerAddress,
    aet: str,
    model: str,
    batch: str,
    order: str,
    priority: int,
    dry_run: bool,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
    **selected: Any,
) -> None:
    """Find out which studies a PACS has (C-FIND), and write them down in the LEDGER.

    Run it again at any time: studies that are new are added, and those that have grown since are moved once
    more, so that the last days before a cut-over are a matter of minutes.  A PACS that gives only so many matches
    is asked by ever shorter periods.  PEER is AET@HOST:PORT, or a name from fastmove.toml.

    \b
    Exit codes: 0 all was found   71 there may be more   61 no association   73 the ledger cannot be written
    1 usage

    \b
    Examples:
      fastmove migrate plan archive.ledger pacs --date 2000..2015 --dry-run
      fastmove migrate plan archive.ledger pacs --date 2000..
      fastmove migrate plan archive.ledger pacs --from tomorrow.csv --priority 10
    """
    selection = selection_from(**selected)
    if selection == Selection():
        raise ConfigurationError("selection", "say which studies: --date 1990.. for all with a date, --from, ...")
    finder = Finder(tls.reach(peer), aet, model, limits_from(limits, also={"timeout": ("connect_s", "associate_s")}))
    found, now = Found(), time.time()

    async def studies() -> AsyncIterator[StudyJob]:
        jobs = inventory(
            selection,
            finder,
            found.unresolved.append,
            today=date.today(),
            order=order,
            priority=priority,
            profile=peer_profile(),
        )
        async with aclosing(jobs):
            async for job in jobs:
                found.add(job)
                yield job

    async def planned() -> Added | None:
        with Progress(found, "found", quiet=as_json):
            if dry_run:
                async for _ in studies():
                    pass
                return None
            async with Ledger.open(where, create=True) as ledger:
                return await _write(ledger, await _batch(ledger, batch, str(peer), now), studies(), now)

    async def main() -> Added | None:
        try:
            return await planned()
        finally:
            await finder.close()

    added = run(main())
    if as_json:
        write_json(_as_json(found, added))
    else:
        _show(found, added, where)
    raise click.exceptions.Exit(ExitCode.INCOMPLETE if found.unresolved else ExitCode.SUCCESS)


async def _batch(ledger: Ledger, name: str, source: str, now: float) -> Batch:
    known = next((each for each in await ledger.batches() if each.name == name), None)
    if known is None:
        return await ledger.add_batch(name, source, {}, now)
    if known.source != source:
        raise ConfigurationError("PEER", f"batch {name!r} is of {known.source}: give another --batch, or ledger")
    return known


async def _write(ledger: Ledger, batch: Batch, studies: AsyncIterator[StudyJob], now: float) -> Added:
    """Write studies down as they are found."""
    total = Added(0, 0, 0)
    chunk: list[StudyJob] = []

    async def write() -> None:
        nonlocal total
        added = await ledger.add(batch.id, chunk, now)
        total = Added(*(sum(pair) for pair in zip(_counts(total), _counts(added), strict=True)))
        chunk.clear()

    try:
        async for job in studies:
            chunk.append(job)
            if len(chunk) == CHUNK:
                await write()
    finally:  # an inventory that ends in an error has found what it has found
        if chunk:
            await write()
    return total


def _counts(added: Added) -> tuple[int, int, int]:
    return added.new, added.known, added.grown


def _as_json(found: Found, added: Added | None) -> dict[str, Any]:
    return {
        "event": "migrate.planned",
        "studies": found.studies,
        "instances": found.instances,
        "uncounted": found.uncounted,
        "undated": found.undated,
        "years": {year: {"studies": n, "instances": i} for year, (n, i) in sorted(found.years.items())},
        "unresolved": [str(each) for each in found.unresolved],
        **({} if added is None else vars(added)),
    }


def _show(found: Found, added: Added | None, where: str) -> None:
    if found.years:
        rows = ([year, f"{n:,}", f"{i:,}"] for year, (n, i) in sorted(found.years.items()))
        table(rows, ["year", "studies", "instances"])
    say(found.line("found"))
    if found.uncounted:
        say(f"of {found.uncounted:,} studies the PACS does not say how many instances they have")
    for each in itertools.islice(found.unresolved, SHOWN_UNRESOLVED):
        say(f"not all was found: {each}", err=True)
    if added is not None:
        say(f"{where}: {added.new:,} new, {added.known:,} known, {added.grown:,} of these have grown")
