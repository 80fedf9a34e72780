"""How log4cplus makes a line of a message: its pattern layouts."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from collections.abc import Callable
from typing import Final

from fastmove.cli.movescu.log import LETTERS, LEVELS, STANDARD_ERROR, write_all

_STARTED: Final = time.monotonic()
_NAMES: Final = {level: name.upper() for name, level in LEVELS.items() if name not in ("all", "off")}


def complain(text: str, level: str = "ERROR") -> None:
    """What is wrong with a configuration, as log4cplus says it."""
    write_all(STANDARD_ERROR, os.fsencode(f"log4cplus:{level} {text}\n"))


class Event:
    """One line of a message."""

    __slots__ = ("level", "line", "logger", "time")

    def __init__(self, logger: str, level: int, line: str) -> None:
        self.logger = logger
        self.level = level
        self.line = line
        self.time = time.time()


Layout = Callable[[Event], str]

DATE_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
_FRACTION: Final = re.compile("%[qQ]")


def _date(seconds: float, parts: time.struct_time, text: str) -> str:
    """strftime, with `%q` for milliseconds and `%Q` for milliseconds with their fraction."""
    milliseconds = seconds % 1 * 1000
    thousandths = {"%q": f"{int(milliseconds):03}", "%Q": f"{milliseconds:07.3f}"}
    return time.strftime(_FRACTION.sub(lambda found: thousandths[found[0]], text or DATE_FORMAT), parts)


def _last_components(name: str, count: str) -> str:
    wanted = int(count) if count.isdigit() else 0
    return ".".join(name.split(".")[-wanted:])


def _milliseconds() -> int:
    return int((time.monotonic() - _STARTED) * 1000)


_CONVERSIONS: Final[dict[str, Callable[[Event, str], str]]] = {
    "m": lambda event, _: event.line,
    "n": lambda event, _: "\n",
    "p": lambda event, _: _NAMES[event.level],
    "P": lambda event, _: LETTERS[event.level],
    "c": lambda event, option: _last_components(event.logger, option),
    "D": lambda event, option: _date(event.time, time.localtime(event.time), option),
    "d": lambda event, option: _date(event.time, time.gmtime(event.time), option),
    "i": lambda event, _: str(os.getpid()),
    "t": lambda event, _: str(threading.get_ident()),
    "T": lambda event, _: str(threading.get_native_id()),
    "h": lambda event, _: socket.gethostname(),
    "H": lambda event, _: socket.gethostname(),
    "r": lambda event, _: str(_milliseconds()),
    "%": lambda event, _: "%",
    **dict.fromkeys("FLlMbxX", lambda event, _: ""),
}

_CONVERSION: Final = re.compile(r"%(?P<left>-?)(?P<least>\d*)(?:\.(?P<most>\d+))?(?P<letter>[A-Za-z%])")
_WITH_OPTION: Final = "cDd"


def pattern_layout(pattern: str) -> Layout:
    """A layout by its ConversionPattern; what is no conversion is complained of and stays as it is."""
    parts: list[Layout] = []
    position = 0
    for found in _CONVERSION.finditer(pattern):
        if found.start() < position:
            continue  # in the option of the one before
        parts.append(_literal(pattern[position : found.start()]))
        position = found.end()
        letter, option = found["letter"], ""
        if letter not in _CONVERSIONS:
            complain(f"Unexpected char [{letter}] at position {position} in conversion pattern.")
            parts.append(_literal(found[0]))
            continue
        if letter in _WITH_OPTION and pattern.startswith("{", position):
            option, closed, _ = pattern[position + 1 :].partition("}")
            position += len(option) + 2
            if not closed:
                complain(f"No matching '}}' found in conversion pattern string \"{pattern}\"")
                option = ""
        parts.append(_conversion(_CONVERSIONS[letter], option, found))
    parts.append(_literal(pattern[position:]))
    return lambda event: "".join(part(event) for part in parts)


def _literal(text: str) -> Layout:
    return lambda event: text


def _conversion(convert: Callable[[Event, str], str], option: str, found: re.Match[str]) -> Layout:
    least, most, left = int(found["least"] or 0), int(found["most"] or 0), bool(found["left"])

    def convert_and_fit(event: Event) -> str:
        text = convert(event, option)
        if most and len(text) > most:
            return text[-most:]  # its end, and no longer aligned
        return text.ljust(least) if left else text.rjust(least)

    return convert_and_fit


simple_layout: Final = pattern_layout("%p - %m%n")
ttcc_layout: Final = pattern_layout("%r [%t] %p %c <> - %m%n")
