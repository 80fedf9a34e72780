"""How objects are written."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from fastmove.storage.layout import Naming
from fastmove.storage.modes import PRIVATE, Modes
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.storage.attribute_rules import AttributeRules


class OnDuplicate(Enum):
    """What to do with an object whose name is taken by another: the data sets differ, or their transfer syntaxes."""

    KEEP_BOTH = "keep-both"
    SKIP = "skip"
    REPLACE = "replace"
    FAIL = "fail"


class Placing(Enum):
    """How an object got its final name."""

    NEW = "new"
    SAME = "same"
    """The same object was there already; it is untouched, and its file meta information may be another."""
    BESIDE = "beside"
    """A different file has the name: this one is beside it, under another."""
    REPLACED = "replaced"
    """A different file had the name, and is gone."""
    SKIPPED = "skipped"
    """A different file has the name, and stays; this one is not stored."""
    QUARANTINED = "quarantined"
    """It is of a study that nobody asked for, and was set aside."""


class Unsolicited(Enum):
    """What to do with an object of a study that was not asked for, where somebody asks (`StorageTarget.asked`)."""

    QUARANTINE = "quarantine"
    REFUSE = "refuse"
    KEEP = "keep"


class Reencoding(Value):
    """How a data set is written that is not stored as it came, in DCMTK's terms."""

    transfer_syntax: str | None = None
    """None: as received."""

    group_length: str = "recalculate"
    """Or create, or remove."""

    undefined_length: bool = False
    """Sequences and items are written with undefined length, else with explicit length."""

    new_vr: bool = True
    """VRs of later editions are written as they are, else as OB."""

    padding: tuple[int, int] | None = None
    """File and item lengths are multiples of these; 0: whatever they are."""

    compression_level: int | None = None
    """Of deflated output, 0 to 9; None: zlib's own."""


class WriteOptions(Value):
    """What is stored, under which name, and when it counts as stored."""

    durable: bool = True
    """File and directory are on stable storage before the object counts as stored."""

    on_duplicate: OnDuplicate = OnDuplicate.KEEP_BOTH

    same_file_meta: bool = False
    """An object that comes again is the same only if its file meta information is, too: its sender, say."""

    naming: Naming = Naming()

    reencoding: Reencoding | None = None
    """How data sets are written; None: bit for bit as they came."""

    rules: AttributeRules | None = None
    """What is changed in data sets before they get their names, and before they are written anew; None: nothing."""

    file_meta: bool = True
    """With preamble and file meta information (PS3.10), else the data set alone."""

    keep: bool = True
    """Else objects are received, judged and answered, and leave no file."""

    any_sop_class: bool = False
    """Requests may name another SOP class than that of their presentation context."""

    checked: bool = True
    """A data set has to be the object that its request names, and to be all there; else it is stored whatever it is."""

    strict: bool = False
    """If it is checked, it has to have its UIDs where they belong, too, and be inflatable if it is deflated."""
    unsolicited: Unsolicited = Unsolicited.QUARANTINE

    modes: Modes = PRIVATE
    """Of new files and folders."""
