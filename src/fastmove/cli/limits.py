"""`--limit NAME=VALUE` and the table [limits]: every bound and deadline that a user may set, by its name."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import click

from fastmove.cli.configuration_keys import LIMITS
from fastmove.cli.options import configuration, environment_variable, peer_settings
from fastmove.limits import RANGES, Limits, check

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

Setting = tuple[str, float]

BY_OPTION: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "max_pdu": ("max_pdu_length",),
        "timeout": ("connect_s", "associate_s"),
        "drain": ("drain_s",),
        "max_associations": ("max_associations",),
        "max_object": ("max_object_bytes",),
    }
)
"""Options that set limits, too, and which: by the names of their parameters."""

_SOURCES: Final = click.core.ParameterSource
_RANK: Final = {_SOURCES.DEFAULT: 0, _SOURCES.DEFAULT_MAP: 1, _SOURCES.ENVIRONMENT: 4, _SOURCES.COMMANDLINE: 5}
_RANK_OF_TABLE: Final = 2
_RANK_OF_PEER: Final = 3
"""What stands nearer to the command goes before: the table [limits], what the file says of the peer, ..."""


class LimitSetting(click.ParamType[Setting]):
    """`NAME=VALUE`, NAME a field of Limits."""

    name = "name=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Setting:
        """Name and value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        kinds = {key.name: key.kind for key in LIMITS}
        if not equals:
            self.fail(f"{value!r} is not NAME=VALUE, as message_s=120", param, ctx)
        if name not in kinds:
            from fastmove.cli.configuration import unknown

            self.fail(f"{name}: {unknown(name, kinds)}", param, ctx)
        try:
            return name, kinds[name].read(text)
        except ValueError:
            self.fail(f"{name}: must be {kinds[name].text}, not {text!r}", param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The names that begin so."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(f"{name}=") for name in RANGES if name.startswith(incomplete)]


limit_option = click.option(
    "--limit",
    "limits",
    type=LimitSetting(),
    multiple=True,
    envvar=environment_variable("limit"),
    show_envvar=True,
    metavar="NAME=VALUE",
    help="A bound or a deadline by its name, such as response_s=60 or message_s=120; the page `limits` of the "
    "documentation and `fastmove config example` have them all. Can be repeated.",
)


def limits_from(named: Iterable[Setting], also: Mapping[str, tuple[str, ...]] | None = None, **own: float) -> Limits:
    """The limits of the running command: by name, by the options that set some, by the configuration.

    `also` are options that set more than BY_OPTION says, `own` is what the command has for defaults.
    ConfigurationError for a value that its option lets through and that is out of all bounds.
    """
    ctx = click.get_current_context()
    try:
        peers = set(peer_settings(ctx).defaults)
    except KeyError:  # a command without a peer
        peers = set()
    settings: list[tuple[int, Mapping[str, float]]] = [(0, own), (_RANK_OF_TABLE, configuration(ctx).limits)]
    for option, fields in {**BY_OPTION, **(also or {})}.items():
        if option in ctx.params:
            source = ctx.get_parameter_source(option) or _SOURCES.DEFAULT
            rank = _RANK_OF_PEER if source is _SOURCES.DEFAULT_MAP and option in peers else _RANK[source]
            settings.append((rank, dict.fromkeys(fields, ctx.params[option])))
    settings.append((_RANK[ctx.get_parameter_source("limits") or _SOURCES.DEFAULT], dict(named)))
    values: dict[str, Any] = {}
    for _, each in sorted(settings, key=lambda setting: setting[0]):
        values |= each
    for name, value in values.items():
        check(name, value)
    return Limits(**values)
