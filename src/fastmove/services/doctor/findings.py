"""What an examination of a PACS finds: in plain words, with numbers, and with what to change on which side."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final

from fastmove.dimse.move import Verdict
from fastmove.errors import FastmoveError
from fastmove.limits import UID_BYTES
from fastmove.values import Value

Number = str | float | bool | None
"""What can be measured or counted, or be read off the wire; a `float` may be whole."""

Numbers = dict[str, Number]
"""Them by name; the unit is the end of the name: `_s`, `_bytes`."""

_NONE: Final[Mapping[str, Number]] = MappingProxyType({})


class Outcome(Enum):
    """What a probe came to."""

    OK = "ok"
    NOTE = "note"
    """It works, but not as one would wish."""
    PROBLEM = "problem"
    """It does not work."""
    SKIPPED = "skipped"


class Side(Enum):
    """Where something has to be changed."""

    PACS = "PACS"
    HERE = "here"


class Advice(Value):
    """What to change, and where."""

    side: Side
    text: str


class Finding(Value):
    """What one probe found."""

    outcome: Outcome
    seen: str
    """In one sentence."""

    numbers: Mapping[str, Number] = _NONE

    advice: tuple[Advice, ...] = ()
    cause: FastmoveError | Verdict | None = None
    """Of a problem: the error, or what `retrieve` would make of it."""

    probe: str = ""
    """The name of the probe; whoever runs it fills it in."""


def ok(seen: str, **numbers: Number) -> Finding:
    """All is well."""
    return Finding(Outcome.OK, printable(seen), numbers)


def note(seen: str, *advice: Advice, **numbers: Number) -> Finding:
    """Worth knowing, and maybe worth a change."""
    return Finding(Outcome.NOTE, printable(seen), numbers, advice)


def problem(seen: str, *advice: Advice, cause: FastmoveError | Verdict, **numbers: Number) -> Finding:
    """It does not work, and this is what to do."""
    return Finding(Outcome.PROBLEM, printable(seen), numbers, advice, cause)


def skipped(why: str) -> Finding:
    """It was not tried."""
    return Finding(Outcome.SKIPPED, printable(why))


def at_pacs(text: str) -> Advice:
    """To be changed in the PACS, or in what is before it."""
    return Advice(Side.PACS, printable(text))


def here(text: str) -> Advice:
    """To be changed on this host, or in the command."""
    return Advice(Side.HERE, printable(text))


def printable(text: str) -> str:
    """Without what drives a terminal or forges a line: much of it was written by a peer."""
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in text)


def quoted(text: str) -> str:
    """What a peer wrote, bounded, with quotes around it."""
    return ascii(text[:UID_BYTES])


def counted(number: int, noun: str) -> str:
    """`1 object`, `3 objects`."""
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else noun if noun.endswith("s") else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def seconds(duration: float) -> str:
    """A duration in the unit that suits it."""
    if duration < 0.0995:
        return f"{duration * 1000:.1f} ms"
    return f"{duration * 1000:.0f} ms" if duration < 0.9995 else f"{duration:.1f} s"
