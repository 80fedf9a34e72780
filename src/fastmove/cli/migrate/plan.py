"""`fastmove migrate plan`: which studies a PACS has, into the ledger, and how much that is."""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from datetime import date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from fastmove.bench.sampling import Sampled
from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.migrate.found import Expected, Found, as_json_of, show, show_expected, show_sampled
from fastmove.cli.migrate.ledger import BATCH, is_shared, ledger_argument
from fastmove.cli.migrate.outlook import Outlook, known_of
from fastmove.cli.migrate.sampling import Sampling, sample_options
from fastmove.cli.migrate.windows import local_zone, window_options
from fastmove.cli.options import (
    aet_option,
    json_option,
    peer_argument,
    peer_profile,
    reports_errors,
    timeout_option,
)
from fastmove.cli.output import Progress, say, write_json
from fastmove.cli.selection import selection_from, selection_options
from fastmove.cli.tls import TlsOptions, retrieves_options
from fastmove.dimse.identifier import LEVELS
from fastmove.errors import ConfigurationError, LedgerError
from fastmove.ledger.database import shown
from fastmove.ledger.model import Added, Batch, StudyJob
from fastmove.ledger.store import Ledger
from fastmove.migrate.plan import EVERYTHING, ORDERS, PRIORS, inventory, patients_of, seen_since
from fastmove.migrate.windows import Window, Windows
from fastmove.net.loop import run
from fastmove.services.finder import Finder
from fastmove.services.selection.selection import Selection, Worklist
from fastmove.types import PeerAddress

CHUNK = 2000
"""Studies that are written down together: what has been found is not lost if the rest is not."""


@click.command("plan")
@ledger_argument
@peer_argument
@click.option("--all", "everything", is_flag=True, help="All studies that there are, those without a date as well.")
@selection_options
@aet_option
@click.option(
    "--model",
    type=click.Choice(list(LEVELS)),
    default="study",
    show_default=True,
    help="Query/Retrieve model (PS3.4 C.3) that the PACS is asked by.",
)
@click.option(
    "--batch",
    default=BATCH,
    show_default=True,
    metavar="NAME",
    help="Name of the migration; a LEDGER may have several.",
)
@click.option(
    "--order",
    type=click.Choice(list(ORDERS)),
    help="Which studies are moved first.  priors: those of patients who are expected, and the newest of these first.  "
    "[default: newest, or priors with --priors-of]",
)
@click.option(
    "--priors-of",
    "schedules",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Who is expected, with --order priors: a table with patient IDs, accession numbers or study UIDs, as --from "
    "takes it, or a list of patient IDs.  Can be repeated.",
)
@click.option(
    "--seen-within",
    type=click.IntRange(min=1),
    default=30,
    show_default=True,
    metavar="DAYS",
    help="Without --priors-of those are expected who have a study of the last DAYS.",
)
@click.option(
    "--priority",
    type=int,
    default=0,
    show_default=True,
    metavar="N",
    help="Those of a higher number come before all others.",
)
@click.option("--dry-run", is_flag=True, help="Say what there is, and write nothing down.")
@sample_options
@window_options
@timeout_option
@limit_option
@retrieves_options
@json_option
@reports_errors
def command(
    where: str,
    peer: PeerAddress,
    aet: str,
    model: str,
    batch: str,
    everything: bool,
    order: str | None,
    schedules: tuple[Path, ...],
    seen_within: int,
    priority: int,
    dry_run: bool,
    sample: int | None,
    port: int | None,
    sample_parallel: int,
    host: str,
    windows: tuple[Window, ...],
    timezone: ZoneInfo | None,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
    **selected: Any,
) -> None:
    """Write down in the LEDGER which studies a PACS has (C-FIND).

    Nothing is moved yet.  Run it again at any time: studies that are new are added, of those that have grown since what
    is missing is moved, and what is still to be moved gets the order of the last plan.  So the last days before a
    cut-over are a matter of minutes.  A PACS that gives only so many matches is asked by ever shorter periods.  PEER is
    AET@HOST:PORT, or a name from fastmove.toml.

    How many bytes there are, and how long it takes, is said once something has been moved, or with --sample.

    \b
    Exit codes: 0 all was found   71 there may be more, or listed studies are not there   69 the sample did not come
    61 no association   60 cannot listen   73 the ledger cannot be written   1 usage

    \b
    Examples:
      fastmove migrate plan archive.ledger pacs --all --dry-run --sample 60 --port 11112
      fastmove migrate plan archive.ledger pacs --date 2000..2015
      fastmove migrate plan archive.ledger pacs --date 2000.. --priors-of schedule.csv
      fastmove migrate plan archive.ledger pacs --from tomorrow.csv --priority 10
    """
    selection = selection_from(**selected)
    if everything != (selection == Selection()):
        raise ConfigurationError(
            "selection", "say which studies: --date 2010.., --from FILE, ..., or --all and no other"
        )
    if everything:
        selection = EVERYTHING
    order = _order(order, schedules)
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s")})
    sampling = None if sample is None else Sampling(sample, sample_parallel, peer, aet, model, bounds, host, port, tls)
    zone = timezone or local_zone(windows)
    finder = Finder(tls.reach(peer), aet, model, bounds)
    found, now, today = Found(sample or 0), time.time(), date.today()
    expected = Expected() if order == PRIORS else None

    async def studies() -> AsyncGenerator[StudyJob, None]:
        if expected is not None:
            who = _scheduled(schedules) if schedules else seen_since(seen_within, today)
            asked = patients_of(who, finder, expected.unresolved.append, today=today, profile=peer_profile())
            expected.patients = await asked
        jobs = inventory(
            selection,
            finder,
            found.missed,
            today=today,
            order=order,
            expected=frozenset() if expected is None else expected.patients,
            priority=priority,
            profile=peer_profile(),
        )
        async with aclosing(jobs):
            async for job in jobs:
                found.add(job)
                yield job

    async def planned() -> Added | None:
        try:
            with Progress(found, "found", quiet=as_json):
                async with aclosing(studies()) as jobs:
                    if not dry_run:
                        return await _written(where, batch, str(peer), jobs, now)
                    async for _ in jobs:
                        pass
                    return None
        finally:
            await finder.close()

    async def main() -> tuple[Added | None, Sampled | None, Outlook]:
        added = await planned()
        sampled = None
        if sampling is not None:
            sampled = await sampling.moved(found.drawn(), found.amounts, quiet=as_json)
        at = datetime.fromtimestamp(now, zone)
        known = await known_of(where, batch, str(peer), at, zone)
        amounts = found.amounts if dry_run or known is None else known.left()
        outlook = Outlook.of(amounts, known, sampled, sample_parallel, Windows(windows, zone), at)
        return added, sampled, outlook

    added, sampled, outlook = run(main())
    if as_json:
        write_json(as_json_of(found, expected, added, sampled) | {"outlook": outlook.as_json()})
    else:
        show(found)
        if expected is not None:
            show_expected(expected)
        if added is not None:
            say(f"{shown(where)}: {added.new:,} new, {added.known:,} known, {added.grown:,} of these have grown")
        if sampled is not None:
            show_sampled(sampled, sample_parallel)
        outlook.show("all of that" if dry_run else "to be moved")
    if found.unresolved:
        raise click.exceptions.Exit(ExitCode.INCOMPLETE)
    raise click.exceptions.Exit(ExitCode.REFUSED if sampled is not None and not sampled.parts else ExitCode.SUCCESS)


# ---------------------------------------------------------------------- who is expected


def _order(order: str | None, schedules: Sequence[Path]) -> str:
    if schedules and order not in (None, PRIORS):
        raise ConfigurationError("--priors-of", "says who comes first: not with another --order")
    return order or (PRIORS if schedules else "newest")


def _scheduled(schedules: Sequence[Path]) -> Selection:
    """Those that tables name, or lists of patient IDs; ConfigurationError."""
    return Selection(worklists=tuple(itertools.chain.from_iterable(map(_worklists, schedules))))


def _worklists(path: Path) -> tuple[Worklist, ...]:
    try:
        return selection_from(files=(path,)).worklists
    except ConfigurationError as error:
        try:
            return selection_from(files=(path,), columns=("patient",)).worklists
        except ConfigurationError:
            why = f"{error}; name the column PatientID, or give a list of patient IDs and nothing else"
            raise ConfigurationError("--priors-of", why) from None


# ---------------------------------------------------------------------- into the ledger


async def _written(where: str, batch: str, source: str, studies: AsyncGenerator[StudyJob, None], now: float) -> Added:
    """Write studies down as they are found; a ledger that is not there is made when there is something to write."""
    begun: list[StudyJob] = []
    if not is_shared(where) and not Path(where).exists():
        if not Path(where).parent.is_dir():
            raise LedgerError("open", f"there is no {Path(where).parent}")
        first = await anext(studies, None)
        if first is None:
            return Added(0, 0, 0)
        begun.append(first)
    async with Ledger.open(where, create=True) as ledger:
        return await _write(ledger, await _batch(ledger, batch, source, now), begun, studies, now)


async def _batch(ledger: Ledger, name: str, source: str, now: float) -> Batch:
    known = next((each for each in await ledger.batches() if each.name == name), None)
    if known is None:
        return await ledger.add_batch(name, source, {}, now)
    if known.source != source:
        raise ConfigurationError("PEER", f"batch {name!r} is of {known.source}: give another --batch, or ledger")
    return known


async def _write(
    ledger: Ledger, batch: Batch, begun: list[StudyJob], studies: AsyncIterator[StudyJob], now: float
) -> Added:
    """These, and those that are found."""
    total, chunk = Added(0, 0, 0), begun

    async def write() -> None:
        nonlocal total
        added = await ledger.add(batch.id, chunk, now)
        total = Added(*(sum(pair) for pair in zip(_counts(total), _counts(added), strict=True)))
        chunk.clear()

    try:
        async for job in studies:
            chunk.append(job)
            if len(chunk) >= CHUNK:
                await write()
    finally:  # an inventory that ends in an error has found what it has found
        if chunk:
            await write()
    return total


def _counts(added: Added) -> tuple[int, int, int]:
    return added.new, added.known, added.grown
