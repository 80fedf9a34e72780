"""`fastmove migrate database`: a PostgreSQL of one's own, to try a fleet with."""

from __future__ import annotations

import signal
from functools import partial
from pathlib import Path

import click

from fastmove.cli.options import json_option, reports_errors
from fastmove.cli.output import say, write_json
from fastmove.errors import LedgerError
from fastmove.ledger.postgresql import Server, server_in, url_of
from fastmove.net.loop import interruptions


@click.command("database")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@json_option
@reports_errors
def command(folder: Path, as_json: bool) -> None:
    """Start a database for the LEDGER of several hosts, to try that on this machine.

    It is a PostgreSQL of one's own in the folder DIR, from the programs that are installed here.  Only who starts it
    can use it, from this machine, by the address that is said at the beginning; there is no password.  Ctrl-C ends it.
    What is in it stays, and is there again when it is next started with the same DIR.

    \b
    Exit codes: 0 it was ended   73 it did not start, or ended by itself   1 usage, PostgreSQL is not installed

    \b
    Example: two hosts of a fleet on one machine, each command in a terminal of its own.
      fastmove migrate database /var/tmp/trial
      export LEDGER='postgresql://fastmove@/ledger?host=/var/tmp/trial'    # in each of the others
      fastmove migrate plan "$LEDGER" pacs --aet HOST1 --all
      fastmove migrate run "$LEDGER" pacs --aet HOST1 --port 11112 --to host1
      fastmove migrate run "$LEDGER" pacs --aet HOST2 --port 11113 --to host2
    """
    heeded = {*interruptions(), signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, {*heeded, signal.SIGCHLD})  # they are waited for, from the first moment on
    with server_in(folder, partial(say, err=True)) as server:
        where = url_of(server.folder)
        if as_json:
            write_json({"event": "migrate.database", "url": where})
        else:
            say(where)
        _wait(server, heeded)


def _wait(server: Server, heeded: set[signal.Signals]) -> None:
    """Until one of these signals comes; LedgerError if the server ends before."""
    while signal.sigwait({*heeded, signal.SIGCHLD}) not in heeded:
        if server.process.poll() is not None:
            raise LedgerError("database", "PostgreSQL has ended by itself")
