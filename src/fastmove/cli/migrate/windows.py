"""When a migration may ask for how much: the options that say so."""

from __future__ import annotations

import os
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from fastmove.cli.options import all_of
from fastmove.errors import ConfigurationError
from fastmove.migrate.windows import Window, parse_window


class WeeklyWindow(click.ParamType[Window]):
    """A window of the week, as `mon-fri 19:00-07:00 parallel=8`."""

    name = "window"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Window:
        """The window."""
        if isinstance(value, Window):
            return value
        try:
            return parse_window(str(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class TimeZone(click.ParamType[ZoneInfo]):
    """A time zone by its name, as `Europe/Berlin`."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        """The zone."""
        if isinstance(value, ZoneInfo):
            return value
        try:
            return ZoneInfo(str(value))
        except (ZoneInfoNotFoundError, ValueError):
            self.fail(f"{value!r} is no time zone that is known here, such as Europe/Berlin", param, ctx)


def local_zone() -> ZoneInfo:
    """That of this host, so that windows follow its clock when it is changed; UTC if it does not say."""
    named = os.environ.get("TZ", "").lstrip(":")
    path = "" if named else os.path.realpath("/etc/localtime")
    name = named or path.rpartition("/zoneinfo/")[2]
    try:
        return ZoneInfo(name or "UTC")
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


window_options: Final = all_of(
    click.option(
        "--window",
        "windows",
        type=WeeklyWindow(),
        multiple=True,
        metavar="WINDOW",
        help='When, and how much at once: "mon-fri 19:00-07:00 parallel=8 rate=100M", "sat,sun 00:00-24:00", "daily '
        '12:00-13:00 closed".  Can be repeated; the last one that fits counts, and without a window nothing is begun.  '
        "[default: always]",
    ),
    click.option(
        "--timezone",
        type=TimeZone(),
        metavar="ZONE",
        help="The clock that windows go by, such as Europe/Berlin.  [default: that of this host]",
    ),
)
"""A verb that goes by windows of the week."""
