"""`fastmove config`: which configuration counts, what is in it, what is wrong with it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from fastmove.cli.configuration import Configuration, load, load_profile, profile_lines, shown, unknown
from fastmove.cli.configuration_keys import LIMITS, PEER, PROFILE, SECTIONS, SHARED, Key
from fastmove.cli.options import (
    CONFIG_NAME,
    CONFIG_VARIABLE,
    config_file,
    config_places,
    environment_variable,
    options_by_key,
    reports_errors,
)
from fastmove.cli.output import table
from fastmove.errors import ConfigurationError
from fastmove.services.profile import PacsProfile

OTHER_VARIABLES: Final = (
    CONFIG_VARIABLE,
    environment_variable("limit"),
    "FASTMOVE_DCMTK_EXIT_CODES",
    "FASTMOVE_WEB_TOKEN",
)
"""Those that are no defaults of options."""

EXAMPLE_WIDTH: Final = 100


@click.group("config")
def command() -> None:
    """Show and check the configuration: defaults of the verbs, and peers by name.

    The first of these counts, the others are not read: the file that FASTMOVE_CONFIG names;
    fastmove.toml in the working directory; fastmove/fastmove.toml in $XDG_CONFIG_HOME, by default
    ~/.config; /etc/fastmove/fastmove.toml.  Environment variables FASTMOVE_<OPTION> go before what
    it says, and options before these.

    \b
    Examples:
      fastmove config example > fastmove.toml
      fastmove config check
    """


@command.command("path")
@reports_errors
def path() -> None:
    """Say which configuration counts.

    The exit code is 1 if there is none.
    """
    chosen = config_file()
    if chosen is None:
        raise ConfigurationError(CONFIG_NAME, f"there is none; {_searched()}")
    click.echo(chosen)


@command.command("check")
@click.argument("file", required=False, type=click.Path(path_type=Path), metavar="[FILE]")
@reports_errors
def check(file: Path | None) -> None:
    """Say what is in the configuration, and all that is wrong with it.

    FILE is another one than that which counts.  The exit code is 1 if anything is wrong.
    """
    chosen = file or config_file()
    if chosen is None:
        click.echo(f"there is no {CONFIG_NAME}: {_searched()}")
        _show(Configuration(), None)
        return
    place = dict(config_places()).get(chosen)
    click.echo(f"{chosen}, {place}" if place and file is None else str(chosen))
    configuration, faults = load(chosen)
    _show(configuration, chosen)
    wrong = [str(fault.error) for fault in faults]
    for name, peer in configuration.peers.items():
        if isinstance(peer.profile, Path):
            try:
                load_profile(peer.profile)
            except ConfigurationError as error:
                wrong.append(f"peers.{name}.profile: {error}")
    for line in wrong:
        click.echo(line, err=True)
    if wrong:
        raise click.exceptions.Exit(1)
    click.echo("nothing is wrong with it")


@command.command("example")
def example() -> None:
    """Write a configuration with every key, commented out."""
    click.echo("\n".join(example_lines()))


def _searched() -> str:
    return f"looked for {', '.join(str(path) for path, _ in config_places())}"


def _show(configuration: Configuration, path: Path | None) -> None:
    """Peers and defaults as tables; what is in the environment too, and goes before."""
    peers = configuration.peers
    if peers:
        told = [key.name for key in PEER if any(getattr(peer, key.name, None) is not None for peer in peers.values())]
        rows = [
            [name, str(peer.address), *(_cell(getattr(peer, each)) for each in told)] for name, peer in peers.items()
        ]
        table(rows, ["peer", "address", *told])
    defaults = [(name, value) for name, value in configuration.shared.items()]
    for verb, values in configuration.sections.items():
        defaults += [(f"{verb}.{name}", value) for name, value in values.items()]
    defaults += [(f"limits.{name}", value) for name, value in configuration.limits.items()]
    rows = [[name, shown(value), str(path)] for name, value in defaults]
    keys = dict.fromkeys(key.name for section in (SHARED, *SECTIONS.values()) for key in section)
    variables = {environment_variable(name): name for name in keys}
    rows += [[key, os.environ[name], name] for name, key in variables.items() if os.environ.get(name)]
    if rows:
        table(rows, ["default", "value", "from"])
    for name in sorted(os.environ):
        if name.startswith("FASTMOVE_") and name not in variables and name not in OTHER_VARIABLES:
            click.echo(f"{name}: {unknown(name, variables)}", err=True)


def _cell(value: Any) -> str:
    if isinstance(value, PacsProfile):
        return ", ".join(profile_lines(value))
    return "" if value is None else str(value)


# The example


class Described(NamedTuple):
    """A key, a value for it, and what it means: those of its option, if it is the default of one."""

    key: Key
    value: Any
    default: Any
    """None if there is none."""

    text: str


def described(verb: str, keys: tuple[Key, ...]) -> Iterator[Described]:
    """The keys of a verb, as its options have it."""
    from fastmove.cli.verbs import main

    found = main.get_command(click.Context(main), verb)
    assert found is not None
    options = options_by_key(found)
    for key in keys:
        option = options[key.name]
        default = option.default if option.show_default else None
        yield Described(key, key.kind.example if default is None else default, default, option.help or "")


def shared() -> Iterator[Described]:
    """The keys of all verbs, as the first verb has them."""
    for key in SHARED:
        verb = next(verb for verb, keys in SECTIONS.items() if key in keys)
        yield from described(verb, (key,))


def example_lines() -> Iterator[str]:
    """The text of `fastmove config example`."""
    yield f"# {CONFIG_NAME}: what is not commented out counts."
    yield from _remark(f"It is looked for in this order: the file that {CONFIG_VARIABLE} names, the working directory,")
    yield from _remark("~/.config/fastmove, /etc/fastmove. `fastmove config check` says what is wrong with it.")
    yield from ("", "# For all verbs that have the option.", "")
    yield from _rows(shared())
    for verb, keys in SECTIONS.items():
        yield from ("", f"[{verb}]")
        yield from _remark(f"Those above, for this verb alone: {', '.join(key.name for key in keys if key in SHARED)}.")
        yield from _rows(described(verb, tuple(key for key in keys if key not in SHARED)))
    yield from ("", "[limits]")
    yield from _remark(
        "Bounds and deadlines: bytes, seconds where the name ends in _s, or how many. A limit that is set"
    )
    yield from _remark("here goes before the key of an option that sets it too, such as timeout.")
    yield from (f"#{key.name} = {shown(key.kind.example)}" for key in LIMITS)
    yield from ("", "# Peers by name: fastmove echo pacs", "[peers]", "", '#pacs = "PACS@10.0.0.5:104"', "")
    yield from _remark("A peer of which there is more to say is a table. What it says goes before the above.")
    yield from ("#[peers.archive]", "")
    yield from _rows(Described(key, key.kind.example, None, key.text) for key in PEER)
    yield from ("", "# Or, instead of the path of a profile:", "#[peers.mammo]")
    yield from (f"#{key.name} = {shown(key.kind.example)}" for key in PEER[:3])
    yield from ("#[peers.mammo.profile]", *(f"#{key.name} = {shown(key.kind.example)}" for key in PROFILE))


def _rows(rows: Iterator[Described]) -> Iterator[str]:
    for row in rows:
        yield from _remark(row.text)
        yield f"#{row.key.name} = {shown(row.value)}"


def _remark(text: str) -> Iterator[str]:
    yield from textwrap.wrap(text, EXAMPLE_WIDTH, initial_indent="# ", subsequent_indent="# ")
