"""A scenario: what the embedded PACS is, and how its conduct changes while it runs, from a TOML file.

    profile = "hospital"
    studies = 10000
    port = 11112
    move_destination = ["ME@127.0.0.1:11113"]
    fault = ["delay=0.03", "served=4"]

    [[then]]
    after = 60
    fault = ["rate=10"]

Keys at the top are the options of `fastmove pacs`; each `then` puts other faults in place of those before it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from typing import Any

from fastmove.errors import ConfigurationError
from fastmove.pacs.faults import Faults
from fastmove.values import Value


class Change(Value):
    """From so many seconds after the start these faults are committed, and no others."""

    after_s: float
    faults: Faults


class Scenario(Value):
    """What a file says."""

    options: Mapping[str, Any]
    """By the names of the options, with `_` for `-`."""

    changes: tuple[Change, ...] = ()


def parse(text: str) -> Scenario:
    """Read one; ConfigurationError names what is wrong."""
    try:
        known: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError("scenario", f"no TOML: {error}") from error
    several = known.pop("then", [])
    if not isinstance(several, list):
        raise ConfigurationError("scenario", "then: begin each with [[then]]")
    changes = tuple(map(_change, several))
    if any(second.after_s <= first.after_s for first, second in zip(changes, changes[1:], strict=False)):
        raise ConfigurationError("scenario", "then: each `after` is later than the one before")
    return Scenario(known, changes)


def _change(table: Any) -> Change:
    if not isinstance(table, dict) or table.keys() - {"after", "fault"} or "after" not in table:
        raise ConfigurationError("scenario", "then: has `after`, in seconds, and `fault`, a list, and nothing else")
    after, faults = table["after"], table.get("fault", [])
    if isinstance(after, bool) or not isinstance(after, (int, float)) or after <= 0:
        raise ConfigurationError("scenario", f"then: after = {after!r} is no number of seconds")
    if not isinstance(faults, list) or not all(isinstance(fault, str) for fault in faults):
        raise ConfigurationError("scenario", f"then: fault = {faults!r} is no list of faults")
    return Change(float(after), Faults.parse(faults))
