"""`fastmove bench find`: C-FIND under load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastmove.bench.find import FindBench, Question, questions
from fastmove.bench.runner import Target
from fastmove.cli.bench.output import out_options, write
from fastmove.cli.bench.plan import Plan, load_options, planned_of
from fastmove.cli.bench.session import Session
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import aet_option, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import say
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.dimse import identifier
from fastmove.errors import ConfigurationError
from fastmove.net.loop import run
from fastmove.types import PeerAddress

DEFAULT_COUNT = 100


def _questions(keys: tuple[str, ...], file: Path | None, model: str, level: str) -> list[Question]:
    """Those of the options, and one for each line of a file; ConfigurationError if one cannot be asked."""
    asked = [Question(keys, level)] if keys and file is None else []
    if file is not None:
        try:
            lines = file.read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError("--from", f"{file} cannot be read: {error}") from error
        asked += [Question((*line.split(), *keys), level) for line in lines if line.strip() and line[0] != "#"]
    if not asked:
        raise ConfigurationError("--key", "say what to ask for: -k StudyDate=20260101 -k PatientName, or --from FILE")
    for question in asked:
        identifier.query(question.keys, model=model, level=question.level, relational=True)
    return asked


@click.command("find")
@peer_argument
@aet_option
@click.option("-k", "--key", "keys", multiple=True, metavar="KEY[=VALUE]", help="A key of all queries.")
@click.option(
    "--from",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A query for each line: KEY=VALUE KEY=VALUE ...; asked in a random order.",
)
@click.option("--model", type=click.Choice(list(identifier.LEVELS)), default="study", show_default=True)
@click.option(
    "--level",
    type=click.Choice(["PATIENT", "STUDY", "SERIES", "IMAGE"], case_sensitive=False),
    default="STUDY",
    show_default=True,
    help="Query/Retrieve Level.",
)
@load_options("Queries")
@out_options
@timeout_option
@limit_option
@requests_options
@json_option
@reports_errors
def command(
    peer: PeerAddress,
    aet: str,
    keys: tuple[str, ...],
    file: Path | None,
    model: str,
    level: str,
    out: Path | None,
    page: Path | None,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
    **others: Any,
) -> None:
    """Measure how a PACS answers queries (C-FIND): time to the first match, to the last, matches a second.

    Without --count or --duration a run has 100 of them.  A query that is asked again and again may
    come out of a cache: give many of them (--from).

    \b
    Exit codes: 0 all were answered   69 some failed   72 it was stopped   61 no association

    \b
    Examples:
      fastmove bench find pacs -k StudyDate=20260101 -k PatientName
      fastmove bench find pacs --from queries.txt --rate 5 --duration 60
    """
    plan = Plan.of(**planned_of(others))
    several = _questions(keys, file, model, level.upper())
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s")})
    target = Target(tls.reach(peer), aet, model, bounds, new_associations=plan.new_associations)
    scenario = plan.scenario(target, model=model, queries=len(several))
    session = Session(FindBench(target), plan, scenario, as_json=as_json)
    count = plan.count if plan.duration_s is not None else plan.count or DEFAULT_COUNT
    if not as_json:
        say(plan.asked("queries", DEFAULT_COUNT))
    document = run(session.run(lambda _: questions(several, count, seed=plan.seed)))
    write(document, out, page, as_json=as_json)
    raise click.exceptions.Exit(session.exit_code(document))
