"""What pages have in common: templates that escape by themselves, one style, and plots with their words."""

from __future__ import annotations

from typing import Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from fastmove.observe.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, number

Templates = Environment

X: Final = (LEFT, WIDTH - RIGHT)
Y: Final = (HEIGHT - BOTTOM, TOP)
"""From where to where the scales of a plot go."""


HEADROOM: Final = 1.15
"""Above the highest point of a plot, for the name of its unit."""


class Figure(dict[str, str | Markup]):
    """A plot, what it shows, and what to see in it."""

    def __init__(self, heading: str, plot: str, text: str) -> None:
        super().__init__(heading=heading, plot=Markup(plot), text=text)  # plot.py escapes


def templates(*more: tuple[str, str]) -> Templates:
    """Those of this package; before them others, each a package and a folder in it."""
    loaders = [PackageLoader(*each) for each in (*more, ("fastmove.observe", "."))]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"number": number, "count": count, "size": size, "duration": duration}
    return environment


def count(value: float | None) -> str:
    """With commas; empty if nobody knows."""
    return "" if value is None else f"{value:,.0f}"


def size(nbytes: float | None) -> str:
    """Bytes in the unit that fits, by powers of a thousand."""
    if nbytes is None:
        return ""
    unit, scale = next((each for each in _UNITS if abs(nbytes) >= each[1]), _UNITS[-1])
    value = nbytes / scale
    return f"{value:,.{0 if unit == 'B' else 1 if value >= 100 else 2}f} {unit}"


_UNITS: Final = (("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3), ("B", 1.0))


def share(part: int, whole: int) -> str:
    """In per cent; only all of it is 100 %."""
    if not whole:
        return "0 %"
    return "100 %" if part == whole else f"{min(100 * part / whole, 99.99):.2f} %"


def duration(seconds: float | None) -> str:
    """A span of time in one or two units."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours < 48 else f"{hours / 24:,.1f} days"
