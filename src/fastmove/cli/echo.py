"""`fastmove echo`: is the node there?"""

from __future__ import annotations

import time

import click

from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import aet_option, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import json_lines, write_json
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.net.loop import run
from fastmove.services.verification import echo
from fastmove.types import PeerAddress


@click.command("echo")
@peer_argument
@aet_option
@timeout_option
@limit_option
@requests_options
@json_option
@reports_errors
def command(
    peer: PeerAddress, aet: str, timeout: float, limits: tuple[Setting, ...], tls: TlsOptions, as_json: bool
) -> None:
    """Ask a DICOM node whether it is there (C-ECHO).

    PEER is AET@HOST:PORT, or a name from fastmove.toml.

    \b
    Examples:
      fastmove echo ORTHANC@localhost:4242
      fastmove echo PACS@pacs.example:2762 --tls --tls-cert me.crt --tls-key me.key --tls-ca hospital.crt
    """
    started = time.perf_counter()
    bounds = limits_from(limits, also={"timeout": ("connect_s", "associate_s", "response_s")})
    run(echo(tls.reach(peer), aet, bounds, json_lines if as_json else None))
    milliseconds = (time.perf_counter() - started) * 1000
    if as_json:
        write_json({"event": "echo.answered", "peer": str(peer), "ms": round(milliseconds, 3)})
    else:
        click.echo(f"{peer} answered in {milliseconds:.1f} ms")
