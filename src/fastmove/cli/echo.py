"""`fastmove echo`: is the node there?"""

from __future__ import annotations

import time

import click

from fastmove.cli.options import aet_option, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import write_json
from fastmove.limits import Limits
from fastmove.net.loop import run
from fastmove.services.verification import echo
from fastmove.types import PeerAddress


@click.command("echo")
@peer_argument
@aet_option
@timeout_option
@json_option
@reports_errors
def command(peer: PeerAddress, aet: str, timeout: float, as_json: bool) -> None:
    """Ask a DICOM node whether it is there (C-ECHO).

    PEER is AET@HOST:PORT, or a name from fastmove.toml.

    \b
    Example:
      fastmove echo ORTHANC@localhost:4242
    """
    started = time.perf_counter()
    limits = Limits(connect_s=timeout, associate_s=timeout, response_s=timeout)
    run(echo(peer, aet, limits))
    milliseconds = (time.perf_counter() - started) * 1000
    if as_json:
        write_json({"event": "echo.answered", "peer": str(peer), "ms": round(milliseconds, 3)})
    else:
        click.echo(f"{peer} answered in {milliseconds:.1f} ms")
