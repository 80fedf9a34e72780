"""`fastmove bench echo`: C-ECHO under load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastmove.bench.echo import EchoBench, echoes
from fastmove.bench.runner import Target
from fastmove.cli.bench.output import out_options, write
from fastmove.cli.bench.plan import Plan, load_options, planned_of
from fastmove.cli.bench.session import Session
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import aet_option, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import say
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.net.loop import run
from fastmove.types import PeerAddress

DEFAULT_COUNT = 1000


@click.command("echo")
@peer_argument
@aet_option
@load_options("C-ECHOs")
@out_options
@timeout_option
@limit_option
@requests_options
@json_option
@reports_errors
def command(
    peer: PeerAddress,
    aet: str,
    out: Path | None,
    page: Path | None,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
    **others: Any,
) -> None:
    """Measure the way to a PACS and its DICOM stack by C-ECHO: nothing else is to be done for it.

    Without --count or --duration a run has 1,000 of them.  With --new-associations each has one of
    its own, as monitoring has it.

    \b
    Exit codes: 0 all were answered   69 some failed   72 it was stopped   61 no association

    \b
    Examples:
      fastmove bench echo pacs
      fastmove bench echo pacs --parallel 1,4,16 --new-associations --count 200
    """
    plan = Plan.of(**planned_of(others))
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s")})
    target = Target(tls.reach(peer), aet, limits=bounds, new_associations=plan.new_associations)
    session = Session(EchoBench(target), plan, plan.scenario(target), as_json=as_json)
    count = plan.count if plan.duration_s is not None else plan.count or DEFAULT_COUNT
    if not as_json:
        say(plan.asked("C-ECHOs", DEFAULT_COUNT))
    document = run(session.run(lambda _: echoes(count)))
    write(document, out, page, as_json=as_json)
    raise click.exceptions.Exit(session.exit_code(document))
