"""What several verbs share: peers by address or by name, AE titles, limits, output."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import click

from fastmove.cli.exit_codes import for_error
from fastmove.errors import ConfigurationError, FastmoveError
from fastmove.limits import Limits
from fastmove.storage.options import OnDuplicate
from fastmove.types import PeerAddress, ae_title

F = TypeVar("F", bound=Callable[..., Any])

CONFIG_NAME = "fastmove.toml"


def config_file() -> Path | None:
    """The configuration: $FASTMOVE_CONFIG, ./fastmove.toml, or that of the user; None if there is none."""
    if named := os.environ.get("FASTMOVE_CONFIG"):
        return Path(named)
    home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return next((path for path in (Path(CONFIG_NAME), home / "fastmove" / CONFIG_NAME) if path.is_file()), None)


@functools.cache
def _config(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(str(path), f"cannot be read: {error}") from None


class Peer(click.ParamType[PeerAddress]):
    """`AET@HOST:PORT`, or a name from the table [peers] of fastmove.toml."""

    name = "peer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PeerAddress:
        """The peer's address."""
        if isinstance(value, PeerAddress):
            return value
        try:
            if "@" in value:
                return PeerAddress.parse(value)
            path = config_file()
            peers = _config(path).get("peers", {})
            if not isinstance(peers, dict):
                raise ConfigurationError(str(path), "peers is no table")
            if value in peers:
                return PeerAddress.parse(str(peers[value]))
        except ConfigurationError as error:
            raise click.BadParameter(str(error), ctx, param) from None
        known = f"{path} knows {', '.join(peers) or 'no peers'}" if path else f"there is no {CONFIG_NAME}"
        raise click.BadParameter(f"{value!r} is neither AET@HOST:PORT nor the name of a peer ({known})", ctx, param)


class AETitle(click.ParamType[str]):
    """1 to 16 printable ASCII characters."""

    name = "ae"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The title without its outer spaces."""
        try:
            return ae_title(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error), ctx, param) from None


PORT = click.IntRange(0, 65535)

peer_argument = click.argument("peer", type=Peer(), metavar="PEER")
aet_option = click.option(
    "--aet", type=AETitle(), default="FASTMOVE", show_default=True, metavar="AE", help="Our own AE title."
)
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object per line on standard output.")
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0.1),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="For the connection and for the answer to our association request.",
)
host_option = click.option(
    "--host", default="", metavar="ADDRESS", help="Address to listen on.  [default: all addresses]"
)
no_durable_option = click.option(
    "--durable/--no-durable",
    default=True,
    show_default=True,
    help="Sync file and folder to the disk before Success is sent; without it a power cut may lose "
    "objects that the sender believes stored.",
)

on_duplicate_option = click.option(
    "--on-duplicate",
    type=click.Choice([each.value for each in OnDuplicate]),
    default="keep-both",
    show_default=True,
    help="When another object with the same UID is there. An identical one is left alone.",
)
max_pdu_option = click.option(
    "--max-pdu",
    type=click.IntRange(4096, 16 << 20),
    default=Limits().max_pdu_length,
    show_default=True,
    metavar="N",
    help="Longest PDU to announce, in bytes.",
)


def fail(error: FastmoveError, *, established: bool = False) -> NoReturn:
    """End with a message on standard error and the error's exit code."""
    click.echo(f"fastmove: {error}", err=True)
    raise click.exceptions.Exit(for_error(error, established=established))


def reports_errors(function: F) -> F:
    """A verb whose FastmoveError becomes a message and an exit code."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except FastmoveError as error:
            fail(error)

    return wrapped  # type: ignore[return-value]
