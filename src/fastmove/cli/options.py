"""What several verbs share: peers by address or by name, AE titles, limits, output."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, TypeVar

import click

from fastmove.cli.configuration import Configuration, PeerSettings, load, load_profile
from fastmove.cli.exit_codes import for_error
from fastmove.errors import ConfigurationError, FastmoveError
from fastmove.limits import Limits
from fastmove.services.profile import PacsProfile
from fastmove.sizes import parse_size
from fastmove.storage.modes import GROUP_READABLE, PRIVATE, Modes
from fastmove.storage.options import OnDuplicate, Unsolicited
from fastmove.types import PeerAddress, ae_title

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])

AUTO: Final = "auto"

CONFIG_NAME: Final = "fastmove.toml"
CONFIG_VARIABLE: Final = "FASTMOVE_CONFIG"

_CONFIGURATION: Final = "fastmove.configuration"
_PEER: Final = "fastmove.peer"
"""What a command keeps in its context."""


def config_places() -> Iterator[tuple[Path, str]]:
    """Where a configuration is looked for, in this order, and what that place is."""
    if named := os.environ.get(CONFIG_VARIABLE):
        yield Path(named), f"named by {CONFIG_VARIABLE}"
        return
    yield Path(CONFIG_NAME), "in the working directory"
    try:
        home = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
        yield home / "fastmove" / CONFIG_NAME, "of the user"
    except RuntimeError:  # a service without a home
        pass
    yield Path("/etc/fastmove", CONFIG_NAME), "of the system"


def config_file() -> Path | None:
    """The configuration that counts; None if there is none.  A file that is named must be there."""
    named = bool(os.environ.get(CONFIG_VARIABLE))
    return next((path for path, _ in config_places() if named or os.access(path, os.F_OK)), None)


def configuration(ctx: click.Context | None = None) -> Configuration:
    """What the file says that counts, read once in a command; ConfigurationError for the first thing that is wrong."""
    known: dict[str, Any] = {} if ctx is None else ctx.meta
    if _CONFIGURATION not in known:
        path = config_file()
        found, faults = (Configuration(), []) if path is None else load(path)
        for fault in faults:
            raise fault.error
        known[_CONFIGURATION] = found
    value: Configuration = known[_CONFIGURATION]
    return value


def configured(command: click.Command) -> dict[str, click.Command]:
    """By name what takes defaults from the table of a verb: itself, or all below it that ask a peer."""
    if not isinstance(command, click.Group):
        return {str(command.name): command}
    below = command.commands.items()
    return {name: each for name, each in below if any(isinstance(param.type, CommandPeer) for param in each.params)}


def options_by_key(command: click.Command) -> dict[str, click.Option]:
    """The options of a command by the keys that they would have in the configuration; of a group those of all below."""
    if isinstance(command, click.Group):
        every = map(options_by_key, configured(command).values())
        return {key: option for options in every for key, option in options.items()}
    options = (option for option in command.params if isinstance(option, click.Option))
    return {name[2:].replace("-", "_"): option for option in options for name in option.opts if name.startswith("--")}


def environment_variable(key: str) -> str:
    """What goes before the key in the file, and after the option on the command line."""
    return f"FASTMOVE_{key.upper()}"


def as_defaults(command: click.Command, values: dict[str, Any]) -> dict[str, Any]:
    """Values by key as the defaults of a command, for click."""
    if isinstance(command, click.Group):
        return {name: as_defaults(each, values) for name, each in configured(command).items()}
    options = options_by_key(command)
    return {str(options[key].name): value for key, value in values.items() if key in options}


class Peer(click.ParamType[PeerAddress]):
    """`AET@HOST:PORT`, or a name from the table [peers] of fastmove.toml."""

    name = "peer"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PeerAddress:
        """The peer's address, and what the configuration says of TLS with it."""
        if isinstance(value, PeerAddress):
            return value
        settings = self._settings(value, param, ctx)
        if not settings.tls:
            return settings.address
        from fastmove.cli.tls import settings as tls_settings

        return settings.address.replace(tls=tls_settings({**configuration(ctx).shared, **settings.defaults}))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so; an unusable configuration has none."""
        from click.shell_completion import CompletionItem

        try:
            peers = configuration(ctx).peers
        except ConfigurationError:
            return []
        return [CompletionItem(n, help=str(p.address)) for n, p in peers.items() if n.startswith(incomplete)]

    def _settings(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> PeerSettings:
        try:
            if "@" in value:
                return PeerSettings(PeerAddress.parse(value))
            peers = configuration(ctx).peers
        except ConfigurationError as error:
            raise click.BadParameter(str(error), ctx, param) from None
        if value in peers:
            return peers[value]
        path = config_file()
        known = f"{path} knows {', '.join(peers) or 'no peers'}" if path else f"there is no {CONFIG_NAME}"
        raise click.BadParameter(f"{value!r} is neither AET@HOST:PORT nor the name of a peer ({known})", ctx, param)


class CommandPeer(Peer):
    """The peer that a command is for: what the configuration says of it are defaults of the command's options."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PeerAddress:
        """The peer's address."""
        if isinstance(value, PeerAddress) or ctx is None:
            return super().convert(value, param, ctx)
        settings = self._settings(value, param, ctx)
        ctx.meta[_PEER] = settings
        ctx.default_map = {**(ctx.default_map or {}), **as_defaults(ctx.command, settings.defaults)}
        return settings.address


def peer_settings(ctx: click.Context | None = None) -> PeerSettings:
    """What the configuration says of the peer of a command: its address alone, if it was not given by name."""
    settings: PeerSettings = (ctx or click.get_current_context()).meta[_PEER]
    return settings


def peer_profile(ctx: click.Context | None = None) -> PacsProfile:
    """What the configuration says of the peer of a command, or else `doctor` has found out.

    ConfigurationError if the file that has it cannot be used.
    """
    settings = peer_settings(ctx)
    profile = settings.profile
    if isinstance(profile, Path):
        profile = load_profile(profile)
    elif profile is None:
        from fastmove.cli.profile_file import saved_profile

        profile = saved_profile(settings.address) or PacsProfile()
    return profile if settings.find_cap is None else profile.replace(find_cap=settings.find_cap)


def given(*names: str) -> bool:
    """True if any of these parameters stands on the command line of the running command: it is no default."""
    sources = map(click.get_current_context().get_parameter_source, names)
    return click.core.ParameterSource.COMMANDLINE in sources


class AETitle(click.ParamType[str]):
    """1 to 16 printable ASCII characters."""

    name = "ae"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The title without its outer spaces."""
        try:
            return ae_title(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error), ctx, param) from None


class AcceptedHost(click.ParamType[str]):
    """An address, a network, the name of a host, or `any`."""

    name = "host"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is, if it can be meant."""
        from fastmove.net.allowed_hosts import parse

        try:
            parse(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error).removeprefix(f"{error.field}: "), ctx, param) from None
        return str(value)


class LayoutTemplate(click.ParamType[str]):
    """A preset, or a template of paths."""

    name = "layout"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The text as it is, if `naming` takes it."""
        from fastmove.storage.template import naming

        try:
            naming(value)
        except ConfigurationError as error:
            raise click.BadParameter(str(error).removeprefix("layout: "), ctx, param) from None
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The presets that begin so."""
        from click.shell_completion import CompletionItem

        from fastmove.storage.template import PRESETS

        return [CompletionItem(name, help=text) for name, text in PRESETS.items() if name.startswith(incomplete)]


class Size(click.ParamType["int | None"]):
    """Bytes as people write them; with `auto` it may be that, too: None."""

    name = "size"

    def __init__(self, *, auto: bool = False) -> None:
        self._auto = auto

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """The bytes; None for `auto`."""
        if isinstance(value, int):
            return value
        if self._auto and value == AUTO:
            return None
        try:
            return parse_size(value)
        except ValueError as error:
            raise click.BadParameter(f"{error}{f', or {AUTO}' if self._auto else ''}", ctx, param) from None


PORT = click.IntRange(0, 65535)

# Eager: what the configuration says of it must be known before the options are looked at.
peer_argument = click.argument("peer", type=CommandPeer(), metavar="PEER", is_eager=True)
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
accept_from_option = click.option(
    "--accept-from", multiple=True, metavar="AE", help="Accept only these calling AE titles.  [default: all]"
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
reserve_option = click.option(
    "--reserve",
    type=Size(auto=True),
    default=AUTO,
    show_default=True,
    metavar="SIZE|auto",
    help="Room to leave on the disk: with less, nothing more is let in. auto: 1 GiB or 2 % of the file system, "
    "whichever is less; 0: none.",
)
max_object_option = click.option(
    "--max-object",
    type=Size(),
    default="0",
    show_default=True,
    metavar="SIZE",
    help="Longest data set to store; a longer one is read to its end, thrown away and answered A700. 0: any.",
)
strict_option = click.option(
    "--strict/--no-strict",
    default=False,
    show_default=True,
    help="Refuse data sets without SOP Class and SOP Instance UID, and deflated ones that cannot be inflated, too.",
)
layout_option = click.option(
    "--layout",
    type=LayoutTemplate(),
    default="flat",
    show_default=True,
    metavar="LAYOUT",
    help="Folders and names of the files: flat, study, series, patient, or a template as "
    "{PatientID}/{StudyDate}/{SOPInstanceUID}.dcm.",
)
max_pdu_option = click.option(
    "--max-pdu",
    type=click.IntRange(4096, 16 << 20),
    default=Limits().max_pdu_length,
    show_default=True,
    metavar="N",
    help="Longest PDU to announce, in bytes.",
)

sanitize_option = click.option(
    "--sanitize",
    is_flag=True,
    help="Store objects whose SOP Instance UID is no safe file name under one with a digest, instead of refusing them.",
)
unsolicited_option = click.option(
    "--unsolicited",
    type=click.Choice([each.value for each in Unsolicited]),
    default="quarantine",
    show_default=True,
    help="When an object comes of a study that was not asked for: set it aside in DIR/.quarantine, refuse it, or keep "
    "it with the others. It never counts.",
)
group_readable_option = click.option(
    "--group-readable",
    is_flag=True,
    help="Files 0640 and folders 0750, so that the group may read, instead of 0600 and 0700; whatever the umask.",
)


def modes(*, group_readable: bool) -> Modes:
    """Of what is stored."""
    return GROUP_READABLE if group_readable else PRIVATE


def accept_host_option(default: str) -> Callable[[F], F]:
    """`--accept-host`, with what is let in without it."""
    return click.option(
        "--accept-host",
        type=AcceptedHost(),
        multiple=True,
        metavar="HOST",
        help="Accept associations from this address, network (10.0.0.0/24) or host as well; `any`: from everywhere.  "
        f"[default: {default}]",
    )


def fail(error: FastmoveError, *, established: bool = False) -> NoReturn:
    """End with a message on standard error and the error's exit code."""
    click.echo(f"fastmove: {error}", err=True)
    raise click.exceptions.Exit(for_error(error, established=established))


def all_of(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Options that belong together, as one decorator; `--help` has them in this order."""

    def decorated(function: F) -> F:
        return functools.reduce(lambda verb, option: option(verb), reversed(options), function)

    return decorated


def reports_errors(function: F) -> F:
    """A verb whose FastmoveError becomes a message and an exit code."""

    @functools.wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except FastmoveError as error:
            fail(error)

    return wrapped  # type: ignore[return-value]
