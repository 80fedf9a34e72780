"""`fastmove migrate serve`: the pages of a migration for a browser."""

from __future__ import annotations

import asyncio
import ipaddress
import secrets
import signal
import socket
from typing import TYPE_CHECKING, Final

import click

from fastmove.cli.migrate.ledger import ledger_argument
from fastmove.cli.migrate.windows import local_zone
from fastmove.cli.options import reports_errors
from fastmove.cli.output import say
from fastmove.errors import ConfigurationError, ListenFailed
from fastmove.ledger.store import Ledger
from fastmove.net.loop import interruptions, run

if TYPE_CHECKING:
    from fastmove.migrate.web.access import Access

LOCAL: Final = "127.0.0.1"

TOKEN_VARIABLE: Final = "FASTMOVE_WEB_TOKEN"

MIN_TOKEN: Final = 16
"""Characters: what is shorter can be guessed."""

GRACE_S: Final = 3
"""Answers that are under way at the end have so long."""


@click.command("serve")
@ledger_argument
@click.option("--host", default=LOCAL, show_default=True, metavar="HOST", help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    metavar="P",
    help="Port to listen on; 0: any.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="Another name by which browsers reach this host, such as that of a proxy.  Can be repeated.",
)
@click.option(
    "--https",
    is_flag=True,
    help="Browsers come by HTTPS, through a proxy that has the first --name: their cookie goes by nothing else.",
)
@click.option("--read-only", is_flag=True, help="To look at only: without buttons.")
@click.option(
    "--token",
    envvar=TOKEN_VARIABLE,
    show_envvar=True,
    metavar="TOKEN",
    help="What opens the pages; others on this host can see it in the list of processes, unless it is in the "
    "environment.  [default: a new one each time]",
)
@click.option("--no-token", is_flag=True, help="Open to everybody on this host.")
@click.option("--patients", is_flag=True, help="Show the patient ID of a study, which else is left out.")
@reports_errors
def command(
    where: str,
    host: str,
    port: int,
    names: tuple[str, ...],
    https: bool,
    read_only: bool,
    token: str | None,
    no_token: bool,
    patients: bool,
) -> None:
    """Serve pages that show a migration, and steer it.

    They are for a browser on this host, unless --host says otherwise.  Open the address that is said at the beginning;
    its token lets you in.  One that you have given is not said again: open the address with ?token= and the token
    behind it.  The pages need nothing from anywhere else.  Runs of the LEDGER go on, whether it is served or not.
    Ctrl-C ends it.

    \b
    Exit codes: 0 it was ended   60 cannot listen   73 the ledger cannot be read   1 usage

    \b
    Examples:
      fastmove migrate serve archive.ledger
      fastmove migrate serve archive.ledger --read-only --host 10.0.0.7 --port 8443
    """
    if https and not names:
        raise ConfigurationError("--https", "say by which --name browsers reach the proxy")
    made = None
    if no_token:
        if token is not None:
            raise ConfigurationError("--no-token", "there is a token")
        if not _is_loopback(host):
            raise ConfigurationError("--no-token", f"{host} is not this host alone: everybody could push the buttons")
    elif token is None:
        token = made = secrets.token_urlsafe(24)
    elif len(token) < MIN_TOKEN or not token.isascii():
        raise ConfigurationError("--token", f"it has to have at least {MIN_TOKEN} characters of ASCII")

    async def main() -> None:
        from fastmove.migrate.web.access import TOKEN, Rules  # nobody else needs what serves pages
        from fastmove.migrate.web.app import application
        from fastmove.migrate.web.site import Site

        async with Ledger.open(where, read_only=read_only) as ledger:
            with _listening(host, port) as listener:
                number = listener.getsockname()[1]
                known = {host, socket.gethostname(), *names}
                rules = Rules.of(token, known, number, read_only=read_only, https=https)
                site = Site(ledger, rules, local_zone(), patients=patients)
                await site.warm()
                ours = f"https://{names[0]}/" if https else _address(host, number)
                say(ours + ("" if made is None else f"?{TOKEN}={made}"))  # a given one has no business in a journal
                if not _is_loopback(host):
                    say(
                        "fastmove: everybody on the network can reach it, and it is not encrypted: who listens on the "
                        "way sees the token. Put a proxy with TLS before it, or use ssh -L.",
                        err=True,
                    )
                await _serve(application(site), listener)

    run(main())


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _listening(host: str, port: int) -> socket.socket:
    """ListenFailed if the port cannot be had."""
    bare = host.strip("[]")
    try:
        family = socket.getaddrinfo(bare, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((bare, port), family=family)
    except (OSError, UnicodeError) as error:
        raise ListenFailed(host, port, error) from error


def _address(host: str, port: int) -> str:
    """What to open in a browser."""
    bare = host.strip("[]")
    anywhere = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(bare, bare)
    shown = f"[{anywhere}]" if ":" in anywhere else anywhere
    return f"http://{shown}:{port}/"


async def _serve(application: Access, listener: socket.socket) -> None:
    """Until a signal comes."""
    import uvicorn

    server = uvicorn.Server(
        uvicorn.Config(
            application,
            access_log=False,  # addresses have tokens and UIDs
            http="h11",
            lifespan="off",
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
            ws="none",
        )
    )

    def end() -> None:
        server.should_exit = True

    loop = asyncio.get_running_loop()
    # The server takes SIGINT and SIGTERM for itself, and raises them once more when it has ended: for us.
    heeded = {*interruptions(), signal.SIGTERM}
    for number in heeded:
        loop.add_signal_handler(number, end)
    try:
        await server.serve([listener])
    finally:
        for number in heeded:
            loop.remove_signal_handler(number)
