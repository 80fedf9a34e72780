"""How objects are written."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class OnDuplicate(Enum):
    """What to do with an object whose name is taken by a file of other content."""

    KEEP_BOTH = "keep-both"
    REPLACE = "replace"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Durability and conflicts."""

    durable: bool = True
    """File and directory are on stable storage before the object counts as stored."""

    on_duplicate: OnDuplicate = OnDuplicate.KEEP_BOTH
