"""`fastmove migrate`: an archive from one PACS to elsewhere, in the background, with proof."""

from __future__ import annotations

import click

from fastmove.cli.migrate.control import drain, park, pause, prioritise, resume, retry, stop
from fastmove.cli.migrate.database import command as database
from fastmove.cli.migrate.plan import command as plan
from fastmove.cli.migrate.report import report_command, verify_command
from fastmove.cli.migrate.rules import command as rules
from fastmove.cli.migrate.run import command as run
from fastmove.cli.migrate.serve import command as serve
from fastmove.cli.migrate.status import export_command, status_command


@click.group("migrate")
def command() -> None:
    """Move an archive: plan it, run it for weeks, see what became of each study.

    LEDGER is a file in which everything is written down: what there is to do, what was stored where, what failed
    and why; for several hosts it is a database, postgresql://USER@HOST/NAME.  A run can be stopped at any time, also by
    a power cut, and goes on where it was.

    \b
    Examples, in this order:
      fastmove migrate plan archive.ledger pacs --all
      fastmove migrate run archive.ledger pacs --port 11112 --to /data --window "daily 19:00-07:00 parallel=8"
      fastmove migrate status archive.ledger
      fastmove migrate report archive.ledger --html report.html
    """


for each in (plan, run, status_command, export_command, pause, resume, drain, stop, retry, park, prioritise):
    command.add_command(each)
for each in (report_command, verify_command, rules, serve, database):
    command.add_command(each)
