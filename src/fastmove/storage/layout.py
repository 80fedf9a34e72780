"""Names of stored files: the one way from a peer's bytes to a path component.

SOP class and SOP Instance UID are as in the C-STORE-RQ, without padding.
"""

from __future__ import annotations

import re
from typing import Final

from fastmove.errors import StorageError
from fastmove.limits import UID_BYTES
from fastmove.storage.file_system import FileSystem
from fastmove.values import Value

# PS3.5 9.1 allows [0-9.]; PACS really send letters, hyphens and underscores.  Nothing that ends in
# a directory, hides a file, or is no name at all gets through: no slash, no control character, no
# name of dots alone, and a first character that neither hides a file nor reads as an option.
_UID = re.compile(rb"(?=[0-9A-Za-z_])[0-9A-Za-z._-]{1,64}")

_PLAIN = b"0123456789."

_DOT = ord(".")

_PROPER_UID = re.compile(rb"(?:0|[1-9][0-9]*)(?:\.(?:0|[1-9][0-9]*))*")

FILE_SUFFIX = b".dcm"

EXT4: Final = FileSystem()

UID_PADDING = b"\0 "
"""Trailing NUL (PS3.5 9.1), and the space that some senders use instead."""


def file_name(sop_instance_uid: bytes) -> bytes:
    """`UID.dcm` for an unpadded UID; StorageError 0117 (invalid SOP instance) if it is no safe name."""
    plain = not sop_instance_uid.strip(_PLAIN) and 0 < len(sop_instance_uid) <= UID_BYTES  # sooner than the expression
    if (plain and sop_instance_uid[0] != _DOT) or _UID.fullmatch(sop_instance_uid):
        return sop_instance_uid + FILE_SUFFIX
    if not sop_instance_uid:
        raise StorageError("store.uid_empty", 0x0117, "SOP Instance UID is empty")
    if len(sop_instance_uid) > UID_BYTES:
        raise StorageError("store.uid_length", 0x0117, "SOP Instance UID is longer than 64 characters")
    raise StorageError("store.uid_chars", 0x0117, "SOP Instance UID has characters that no UID has")


def is_proper(uid: bytes) -> bool:
    """True for a UID as PS3.5 9.1 has it: numbers without leading zeros, and dots between them."""
    return _PROPER_UID.fullmatch(uid) is not None


class Naming(Value):
    """`UID.dcm`."""

    sanitize: bool = False
    """An object whose UID is no safe name is stored under one with a digest, instead of being refused."""

    suffix = FILE_SUFFIX

    in_folders = False
    """True: the name is a path, chosen when the data set is there (`template.Layout`)."""

    def uid(self, sop_instance_uid: bytes) -> bytes:
        """The UID of a request, padded as it came, as it is written to files."""
        return sop_instance_uid.rstrip(UID_PADDING)

    def prefix(self, sop_class_uid: bytes) -> bytes:
        """What precedes the UID."""
        return b""

    def name(self, sop_class_uid: bytes, sop_instance_uid: bytes, file_system: FileSystem = EXT4) -> bytes:
        """The whole name; StorageError if there is no safe one, and none is to be made, or without a UID."""
        try:
            name = file_name(sop_instance_uid)
            if not file_system.folds_case or sop_instance_uid == sop_instance_uid.upper():
                return name
        except StorageError:
            if not self.sanitize or not sop_instance_uid:
                raise
        from fastmove.storage.template import component  # few need it

        return component((b"", FILE_SUFFIX), (sop_instance_uid,), file_system)

    def remark(self, sop_instance_uid: bytes, file_system: FileSystem = EXT4) -> str:
        """What is odd about a UID that has a name: a log event, empty if nothing is."""
        if is_proper(sop_instance_uid) and len(sop_instance_uid) <= UID_BYTES:
            return ""
        by_itself = Naming.name(self, b"", sop_instance_uid, file_system) == sop_instance_uid + FILE_SUFFIX
        return "store.uid_syntax" if by_itself else "store.name_alias"
