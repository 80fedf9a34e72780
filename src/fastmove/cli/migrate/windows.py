"""When a migration may ask for how much: the options that say so."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from fastmove.cli.options import all_of
from fastmove.errors import ConfigurationError
from fastmove.migrate.windows import Window, parse_window

LOCALTIME: Final = Path("/etc/localtime")
TIMEZONE: Final = Path("/etc/timezone")


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


def local_zone(windows: Sequence[Window] = ()) -> ZoneInfo:
    """That of this host, by its name: windows follow its clock when that is changed, and pages can read the name again.

    Where no name is known UTC; ConfigurationError if there are windows, which would open at another time then.
    """
    if (known := next(filter(_is_ours, _candidates()), None)) is not None:
        return known
    if windows:
        raise ConfigurationError("--timezone", "is needed: nothing gives the zone that our clock is in a name")
    return ZoneInfo("UTC")


def _candidates() -> Iterator[ZoneInfo]:
    """Zones that this host may be in."""
    named = os.environ.get("TZ", "").lstrip(":") or os.path.realpath(LOCALTIME)
    names = [named.rpartition("/zoneinfo/")[2], "UTC"]  # a path, or a name as it is
    with contextlib.suppress(OSError, UnicodeDecodeError):  # Debian's; it is of use where the zone was copied
        names.insert(1, TIMEZONE.read_text().strip())
    for name in names:
        with contextlib.suppress(ZoneInfoNotFoundError, ValueError, OSError):
            yield ZoneInfo(name)


def _is_ours(zone: ZoneInfo) -> bool:
    """True if it and the clock of this host say the same in two years to come, day by day."""
    days = (time.time() + day * 86_400 for day in range(730))
    return all(
        datetime.fromtimestamp(day, zone).utcoffset() == timedelta(seconds=time.localtime(day).tm_gmtoff)
        for day in days
    )


window_options: Final = all_of(
    click.option(
        "--window",
        "windows",
        type=WeeklyWindow(),
        multiple=True,
        metavar="WINDOW",
        help='When, and how much at once: "mon-fri 19:00-07:00 parallel=8 rate=100M", "sat,sun 00:00-24:00", "daily '
        '12:00-13:00 closed".  Can be repeated: the last one that the moment is in counts, and outside all of them '
        "nothing is begun.  "
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
