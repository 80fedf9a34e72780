"""What a data set has to be to be stored, and how it is answered if it is not (PS3.4 B.2.3)."""

from __future__ import annotations

from typing import Final

from fastmove._sink import Check
from fastmove.errors import StorageError
from fastmove.storage.folders import OUT_OF_RESOURCES
from fastmove.storage.options import WriteOptions

CANNOT_UNDERSTAND: Final = 0xC000
DATASET_DOES_NOT_MATCH_SOP_CLASS: Final = 0xA900

_REFUSALS: Final = {
    "store.class_mismatch": (DATASET_DOES_NOT_MATCH_SOP_CLASS, "SOP class of another object"),
    "store.uid_mismatch": (DATASET_DOES_NOT_MATCH_SOP_CLASS, "SOP instance of another object"),
    "store.no_uid_in_ds": (CANNOT_UNDERSTAND, "no SOP Class or SOP Instance UID in the data set"),
    "store.truncated": (CANNOT_UNDERSTAND, "the data set ends before its last element does"),
    "store.deflate": (CANNOT_UNDERSTAND, "the data set cannot be inflated"),
    "store.too_big": (OUT_OF_RESOURCES, "the data set is longer than what is stored here"),
}
"""Status and error comment by log event."""


def refusal(event: str) -> StorageError:
    """How a data set is answered that is refused for this."""
    status, comment = _REFUSALS[event]
    return StorageError(event, status, comment)


def check(options: WriteOptions, transfer_syntax: str, max_bytes: int) -> Check | None:
    """Looks at the data sets in a transfer syntax as they come; None if they are stored whatever they are."""
    if not options.checked:
        return None
    from fastmove._content import ContentCheck  # movescu does not look at what it is sent

    return ContentCheck(transfer_syntax, max_bytes=max_bytes, strict=options.strict)
