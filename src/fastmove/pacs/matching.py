"""Attribute matching: does a stored value match a key (PS3.4 C.2.2.2)?

Keys and values are text; several values are joined by a backslash, and one that matches is enough.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from typing import Final

Matches = Callable[[str], bool]
"""Whether a stored value, never empty, matches."""

_WILDCARDS: Final = frozenset(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"))
"""VRs with wild card matching (PS3.4 C.2.2.2.4)."""

_NUMBERS: Final = frozenset(("DS", "FD", "FL", "IS", "SL", "SS", "UL", "US"))

# VR with range matching (PS3.4 C.2.2.2.5) → what completes the start and the end of a value of less precision.
_RANGES: Final = {"DA": ("00000101", "99991231"), "TM": ("000000.000000", "235959.999999")}
_OLD_SEPARATORS: Final = {"DA": ".", "TM": ":"}  # ACR-NEMA 2.0 dates and times (PS3.5 6.2)


def matcher(vr: str, key: str) -> Matches | None:
    """What a value of this VR must satisfy; None for universal matching (PS3.4 C.2.2.2.3)."""
    key = key.strip(" \0")
    if not key.strip("*"):
        return None
    if vr == "UI":  # lists of UIDs may be long (PS3.4 C.2.2.2.2)
        uids = frozenset(key.split("\\")) - {""}
        return lambda values: values in uids or not uids.isdisjoint(values.split("\\"))
    alternatives = [_matcher(vr, part) for part in key.split("\\") if part]

    def matches(values: str) -> bool:
        return any(one(value) for value in values.split("\\") if value for one in alternatives)

    return matches


def _matcher(vr: str, key: str) -> Matches:
    if vr in _RANGES:
        return _range(vr, key)
    if vr == "PN":
        return _person_name(key)
    if vr in _WILDCARDS and set(key) & set("*?"):
        return _wildcard(key)
    if vr in _NUMBERS:
        return _number(key)
    return key.__eq__


def _wildcard(key: str) -> Matches:
    # fnmatch's translation does not backtrack without end, whatever the stars; "[" is not special here.
    pattern = re.compile(fnmatch.translate(key.replace("[", "[[]")))
    return lambda value: pattern.match(value) is not None


def _person_name(key: str) -> Matches:
    """Insensitive to case and to empty components at the end; one component group is enough (PS3.5 6.2.1)."""
    one = _wildcard(_folded(key))

    def matches(value: str) -> bool:
        return one(_folded(value)) or any(one(_folded(group)) for group in value.split("="))

    return matches


def _folded(name: str) -> str:
    return name.casefold().rstrip("^= ")


def _number(key: str) -> Matches:
    try:
        number = float(key)
    except ValueError:
        return lambda _: False

    def matches(value: str) -> bool:
        try:
            return float(value) == number
        except ValueError:
            return False

    return matches


def _range(vr: str, key: str) -> Matches:
    """A date or time, or two with a hyphen of which one may be missing; both ends are included."""
    start, hyphen, end = key.replace(_OLD_SEPARATORS[vr], "").partition("-")
    first, last = _RANGES[vr]
    lowest = start.strip() + first[len(start.strip()) :]
    end = end.strip() if hyphen else start.strip()
    highest = end + last[len(end) :]

    def matches(value: str) -> bool:
        value = value.replace(_OLD_SEPARATORS[vr], "")
        return lowest <= value + first[len(value) :] <= highest

    return matches
