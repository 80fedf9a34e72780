"""`fastmove bench`: how fast a PACS is, where it saturates, and what limits it."""

from __future__ import annotations

import click

from fastmove.cli.bench.compare import compare_command, history_command
from fastmove.cli.bench.echo import command as echo
from fastmove.cli.bench.find import command as find
from fastmove.cli.bench.itself import command as itself
from fastmove.cli.bench.output import report_command
from fastmove.cli.bench.retrieve import command as retrieve
from fastmove.cli.bench.store import command as store


@click.group("bench")
def command() -> None:
    """Measure a PACS: what it delivers, where it saturates, what limits it.

    A benchmark is load.  Agree on a time with those who run the PACS, begin with --dry-run, and see
    docs/how-to/benchmark-fairly.md.

    \b
    Examples:
      fastmove bench retrieve pacs --port 11112 --date today-7d.. --sample 20 --dry-run
      fastmove bench retrieve pacs --port 11112 --date today-7d.. --sample 20 --ramp --duration 20 --out knee.json
      fastmove bench compare before.json after.json --fail-if-slower 10%
    """


for each in (retrieve, store, find, echo, itself, report_command, compare_command, history_command):
    command.add_command(each)
