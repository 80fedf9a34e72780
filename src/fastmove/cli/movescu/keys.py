"""-k: a key as text becomes an element, by the rules of DCMTK 3.6.7."""

from __future__ import annotations

import math
import os
import re
import struct
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Final

from fastmove.cli.movescu.options import CommandLineError
from fastmove.dictionary import WRITTEN_AS
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.dictionary import Dictionary

# VR → how its numbers are written, and the bytes of each.
_SIGNED, _UNSIGNED, _HEXADECIMAL, _REAL, _TAG = range(5)
NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "AT": (_TAG, 4),
    "FD": (_REAL, 8),
    "FL": (_REAL, 4),
    "OB": (_HEXADECIMAL, 1),
    "OD": (_REAL, 8),
    "OF": (_REAL, 4),
    "OL": (_UNSIGNED, 4),
    "OV": (_UNSIGNED, 8),
    "OW": (_HEXADECIMAL, 2),
    "SL": (_SIGNED, 4),
    "SS": (_SIGNED, 2),
    "SV": (_SIGNED, 8),
    "UL": (_UNSIGNED, 4),
    "UN": (_HEXADECIMAL, 1),
    "US": (_UNSIGNED, 2),
    "UV": (_UNSIGNED, 8),
}

# What C reads as a number: the longest beginning that is one.
_HEX: Final = r"\s*([+-]?)(?:0[xX])?([0-9a-fA-F]+|(?<=[xX]))"
_PATTERNS: Final = {
    _SIGNED: r"\s*([+-]?)(\d+)",
    _UNSIGNED: r"\s*([+-]?)(\d+)",
    _HEXADECIMAL: _HEX,
    _REAL: r"\s*[+-]?(?:inf(?:inity)?|nan|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)",
    _TAG: rf"\({_HEX},{_HEX}",
}
_KEY: Final = f"{_HEX},{_HEX}"

_LONG_BITS: Final = 64


class Element(Value):
    """One data element; the value is little endian, of even length, and otherwise as it was given."""

    tag: int
    vr: str
    """In the letters of `dictionary.WRITTEN_AS` where PS3.6 leaves a choice."""

    value: bytes = b""

    @property
    def written_vr(self) -> str:
        """The VR in the bytes that are sent."""
        return WRITTEN_AS.get(self.vr, self.vr)


def parse_keys(keys: Sequence[str], dictionary: Dictionary) -> tuple[Element, ...]:
    """The elements of all keys in ascending order; of several for one tag the leftmost counts.

    The keys are looked at from right to left: CommandLineError for the rightmost that is wrong.
    """
    elements = [parse_key(key, dictionary) for key in reversed(keys)]
    return tuple(sorted({element.tag: element for element in elements}.values(), key=lambda element: element.tag))


def check_key(text: str, dictionary: Dictionary) -> None:
    """CommandLineError if it is no key."""
    parse_key(text, dictionary)


def parse_key(text: str, dictionary: Dictionary) -> Element:
    """`gggg,eeee[=value]` or `Keyword[=value]`; CommandLineError if it is neither, or the value none of its VR."""
    name, _, value = text.partition("=")
    numbers = _pattern(_KEY).match(text)
    if numbers:
        group, element = _integer(numbers[1], numbers[2], 16), _integer(numbers[3], numbers[4], 16)
        tag, shown = (group & 0xFFFF) << 16 | element & 0xFFFF, f"({group:04x},{element:04x})"
    else:
        found = dictionary.tag(name)
        if found is None:
            raise CommandLineError(f"bad key format or dictionary name not found in dictionary: {name}")
        tag, shown = found, f"({found >> 16:04x},{found & 0xFFFF:04x})"
    row = dictionary.row(tag)
    if row is None:
        raise CommandLineError(f"unknown tag: {shown}")
    if row[0] == "na":
        raise CommandLineError(f"cannot create element for tag: {shown}")
    try:
        return Element(tag, row[0], _value(WRITTEN_AS.get(row[0], row[0]), value))
    except ValueError:
        raise CommandLineError(f'cannot put tag value: {shown}="{value}"') from None


@cache
def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(text, re.ASCII | re.IGNORECASE)


def _value(vr: str, text: str) -> bytes:
    """The bytes of a value; ValueError if it is none of this VR."""
    if vr in NUMBERS:
        data = b"".join(_number(vr, word) for word in text.split("\\")) if text else b""
        return data + bytes(len(data) % 2)
    if vr == "SQ" and text:
        raise ValueError(text)
    data = os.fsencode(text)
    return data + (b"\0" if vr == "UI" else b" ") * (len(data) % 2)


def _number(vr: str, word: str) -> bytes:
    kind, nbytes = NUMBERS[vr]
    found = _pattern(_PATTERNS[kind]).match(word)
    if not found:
        raise ValueError(word)
    if kind == _REAL:
        return _real(found[0], nbytes)
    if kind == _TAG:
        halves = (_integer(found[1], found[2], 16), _integer(found[3], found[4], 16))
        return struct.pack("<HH", *(half & 0xFFFF for half in halves))
    if kind == _SIGNED:
        number = max(-(1 << _LONG_BITS - 1), min(int(found[0]), (1 << _LONG_BITS - 1) - 1))
    else:
        number = _integer(found[1], found[2], 16 if kind == _HEXADECIMAL else 10, _LONG_BITS)
    return (number & (1 << 8 * nbytes) - 1).to_bytes(nbytes, "little")


def _integer(sign: str, digits: str, base: int, bits: int = 32) -> int:
    """What C makes of it: an unsigned long, cut to so many bits; too large is all ones."""
    number = int(digits or "0", base)
    if number >= 1 << _LONG_BITS:
        number = -1
    elif sign == "-":
        number = -number
    return number & (1 << bits) - 1


def _real(text: str, nbytes: int) -> bytes:
    number = float(text)
    try:
        return struct.pack("<d" if nbytes == 8 else "<f", number)
    except OverflowError:  # of single precision
        return struct.pack("<f", math.copysign(math.inf, number))
