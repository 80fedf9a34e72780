"""Where we differ from DCMTK's movescu on purpose: each difference, and why.

A difference that no entry explains fails its test; so does an entry whose witness shows it no longer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Deviation:
    """Patterns of whole scenario names and of whole lines of `harness.differences`.

    The difference must occur in the scenarios named `witness`; in all others that fit it may.
    """

    witness: Sequence[str]
    difference: str
    reason: str
    scenario: str = ".*"

    def explains(self, scenario: str, line: str) -> bool:
        """True if this difference in this scenario is meant."""
        named = scenario in self.witness or re.fullmatch(self.scenario, scenario)
        return bool(named and re.fullmatch(self.difference, line, re.DOTALL))


NOWHERE_ELSE: Final = r"(?!)"

DEVIATIONS: Final[tuple[Deviation, ...]] = ()


def unexplained(scenario: str, found: Sequence[str]) -> tuple[list[str], list[Deviation]]:
    """The differences that no entry explains, and the entries that should have shown in this scenario and did not."""
    unknown = [line for line in found if not any(entry.explains(scenario, line) for entry in DEVIATIONS)]
    due = [entry for entry in DEVIATIONS if scenario in entry.witness]
    return unknown, [entry for entry in due if not any(entry.explains(scenario, line) for line in found)]
