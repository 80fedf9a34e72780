"""How objects are written."""

from __future__ import annotations

from enum import Enum

from fastmove.values import Value


class OnDuplicate(Enum):
    """What to do with an object whose name is taken by a file of other content."""

    KEEP_BOTH = "keep-both"
    REPLACE = "replace"
    FAIL = "fail"


class Placing(Enum):
    """How an object got its final name."""

    NEW = "new"
    SAME = "same"
    """An identical file was there already; it is untouched."""
    BESIDE = "beside"
    """A different file has the name: this one is beside it, under another."""
    REPLACED = "replaced"
    """A different file had the name, and is gone."""


class WriteOptions(Value):
    """Durability and conflicts."""

    durable: bool = True
    """File and directory are on stable storage before the object counts as stored."""

    on_duplicate: OnDuplicate = OnDuplicate.KEEP_BOTH
