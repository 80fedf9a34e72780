"""What becomes of objects that nobody asked for: they are kept apart, where they overwrite nothing.

Nor do they count: they are in no manifest, and who looks through the folder passes them over.
"""

from __future__ import annotations

from typing import Final, Protocol

QUARANTINE: Final = ".quarantine"
"""A folder in that of the objects; no layout makes one of that name."""

NOT_AUTHORIZED: Final = 0x0124
"""Status of an object that is refused because nobody asked for it (PS3.7 9.1.1.1.9, C.5.15)."""


class Asked(Protocol):
    """What was asked for; threads that store objects want to know."""

    def names(self, sop_instance_uid: str) -> bool:
        """True for an object by its UID: then it need not be looked at."""

    def covers(self, study_instance_uid: str) -> bool:
        """True if something of this study was asked for."""
