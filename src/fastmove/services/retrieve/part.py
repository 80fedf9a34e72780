"""What one C-MOVE asks for, how much that is, and whether what came of it is what the list says."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from fastmove.dimse.move import Evidence
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.services.retrieve.unit import Unit

MIN_PART: Final = 8
"""Instances of a part of a study that is moved in several: each costs a C-MOVE and a storage association."""

FIRST_PART: Final = 16
"""The same while nobody knows how long an instance takes."""

PART_S: Final = 10.0
"""The longest that a part is meant to take: when the rest is done, it is waited for."""

WHOLE_S: Final = 0.5
"""What takes less than this by one move is not worth several."""

WORTH: Final = 1.5
"""A part is to take so many times as long as it takes to its first object."""

PARTS: Final = (16, 64, 256)
"""Of what the PACS has failed over once, twice, more often: an object that it cannot read may hold up all of a part."""


class Part(Value):
    """What one C-MOVE asks for."""

    unit: Unit
    level: str
    keys: tuple[str, ...]
    uids: frozenset[str] | None
    """The SOP Instance UIDs that it is to bring; None if nobody knows."""

    covers: frozenset[str] | None
    """These, and those that it brings although they are there."""

    first: str = ""
    """The SOP Instance UID that a list begins with."""

    def asks_more(self, evidence: Evidence) -> bool:
        """True if what came, or was announced, is not what the list says: it is to be asked for once more then."""
        stored = evidence.stored or frozenset()
        if self.covers is None:
            return len(stored) < self.unit.number
        return not stored <= self.covers or self.outnumbered(evidence)

    def outnumbered(self, evidence: Evidence) -> bool:
        """True if there were more sub-operations than what was asked for has instances on the list.

        Those that brought something else, or the same once more, are left out.
        """
        if self.covers is None or evidence.stored is None:
            return False
        again = evidence.arrivals - len(evidence.stored)
        others = evidence.strays + evidence.rejected + evidence.policy_refusals
        beside = evidence.stored & (self.unit.series or {}).keys() - self.covers
        return evidence.announced - again - others - len(beside) > len(self.covers)


def part_limit(missing: int, failures: int) -> int:
    """How many instances a part may ask for, when the PACS has failed over them so often in a row."""
    return missing if not failures else math.ceil(missing / PARTS[min(failures, len(PARTS)) - 1])


def part_size(remaining: int, others: int, shares: int, pace_s: float | None, first_object_s: float = 0.0) -> int:
    """How many of the remaining instances the next part is to ask for.

    All of them while `others`, units waiting for their turn, keep as many moves busy as there are `shares`; else one
    share, in a time that one can wait for when the rest is done, by `pace_s`, the seconds that an instance takes, and
    no less than what its beginning, `first_object_s`, is worth.
    """
    if others >= shares or shares <= 1:
        return remaining
    if pace_s is None:
        return max(FIRST_PART, math.ceil(remaining / shares))
    if remaining * pace_s < WHOLE_S:
        return remaining
    least = max(MIN_PART, math.ceil(WORTH * first_object_s / pace_s))
    return max(least, min(math.ceil(remaining / shares), math.ceil(PART_S / pace_s)))
