"""The data sets of storage commitment: Action Information and Event Information (PS3.4 J.3.2.1, J.3.3.1; PS3.3 C.14).

Both are a Transaction UID and lists of SOP Instances.  They are written and read here, without pydicom: lists are long,
and whoever sends one says how long it takes to read.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from fastmove.dimse.everyday import LONG, header
from fastmove.dimse.identifier import deflated, inflated
from fastmove.dimse.status import PROCESSING_FAILURE
from fastmove.errors import DimseError
from fastmove.limits import MAX_REFERENCE_BYTES, UID_BYTES
from fastmove.uids import TRANSFER_SYNTAXES, TransferSyntax

REQUEST_STORAGE_COMMITMENT: Final = 1
"""Action Type ID (PS3.4 Table J.3-1)."""

ALL_COMMITTED: Final = 1
FAILURES_EXIST: Final = 2
EVENT_TYPES: Final = frozenset((ALL_COMMITTED, FAILURES_EXIST))
"""Event Type ID (PS3.4 Table J.3-2)."""

FAILURE_REASONS: Final[dict[int, str]] = {  # PS3.3 C.14.1.1
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class/instance conflict",
    0x0122: "referenced SOP Class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
NO_REASON: Final = 0
"""Stands for a Failure Reason that did not come."""

_REFERENCED_SOP_CLASS_UID: Final = 0x00081150
_REFERENCED_SOP_INSTANCE_UID: Final = 0x00081155
_TRANSACTION_UID: Final = 0x00081195
_FAILURE_REASON: Final = 0x00081197
_FAILED_SOP_SEQUENCE: Final = 0x00081198
_REFERENCED_SOP_SEQUENCE: Final = 0x00081199
_ITEM: Final = 0xFFFEE000
_DELIMITERS: Final = frozenset((0xFFFEE00D, 0xFFFEE0DD))
_ITEM_GROUP: Final = 0xFFFE
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_LONG: Final = frozenset(vr.encode() for vr in LONG)
_FEW_BYTES: Final = 64 << 10
"""Beside the lists."""


class Reference(NamedTuple):
    """A SOP Instance (PS3.3 Table 10-11), and in the list of failed ones why it failed."""

    sop_class_uid: str
    sop_instance_uid: str
    failure_reason: int = NO_REASON


class Information(NamedTuple):
    """What is asked for, or reported, in one transaction."""

    transaction_uid: str
    referenced: tuple[Reference, ...]
    failed: tuple[Reference, ...] = ()

    @property
    def event_type_id(self) -> int:
        """The Event Type of a report with this in it."""
        return FAILURES_EXIST if self.failed else ALL_COMMITTED


def reason(failure_reason: int) -> str:
    """A Failure Reason in words."""
    if failure_reason == NO_REASON:
        return "no reason given"
    return f"{FAILURE_REASONS.get(failure_reason, 'undefined reason')} ({failure_reason:04X}H)"


# ---------------------------------------------------------------------- writing


def encode(information: Information, transfer_syntax: str) -> bytes:
    """The data set in a transfer syntax of `uids.TRANSFER_SYNTAXES`; a list without an entry is left out."""
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    parts = [_element(_TRANSACTION_UID, "UI", _uid(information.transaction_uid), syntax)]
    lists = ((_FAILED_SOP_SEQUENCE, information.failed), (_REFERENCED_SOP_SEQUENCE, information.referenced))
    for tag, references in lists:
        if references:
            failed = tag == _FAILED_SOP_SEQUENCE
            parts.append(_element(tag, "SQ", b"".join(_items(references, syntax, failed=failed)), syntax))
    data = b"".join(parts)
    return deflated(data) if syntax.deflated else data


def _items(references: Iterable[Reference], syntax: TransferSyntax, *, failed: bool) -> Iterator[bytes]:
    order = "<" if syntax.little_endian else ">"
    for sop_class_uid, sop_instance_uid, failure_reason in references:
        value = _element(_REFERENCED_SOP_CLASS_UID, "UI", _uid(sop_class_uid), syntax)
        value += _element(_REFERENCED_SOP_INSTANCE_UID, "UI", _uid(sop_instance_uid), syntax)
        if failed:
            value += _element(_FAILURE_REASON, "US", struct.pack(f"{order}H", failure_reason), syntax)
        yield struct.pack(f"{order}HHI", _ITEM >> 16, _ITEM & 0xFFFF, len(value)) + value


def _element(tag: int, vr: str, value: bytes, syntax: TransferSyntax) -> bytes:
    return header(tag, vr, len(value), syntax) + value


def _uid(text: str) -> bytes:
    data = text.encode("latin-1")
    return data + b"\0" * (len(data) & 1)


# ---------------------------------------------------------------------- reading


def decode(data: bytes, transfer_syntax: str, most: Callable[[str], int]) -> Information:
    """What a data set says; DimseError (0110H) if it cannot be read.

    `most` is asked, given the Transaction UID, how many instances there may be, before any is looked at; it may raise
    DimseError, too.
    """
    syntax = TRANSFER_SYNTAXES.get(transfer_syntax)
    try:
        if syntax is None:
            raise ValueError("unknown transfer syntax")
        return _Reader(inflated(data) if syntax.deflated else data, syntax).read(most)
    except (ValueError, struct.error, zlib.error) as error:
        raise DimseError(PROCESSING_FAILURE, f"data set cannot be read: {error}") from error


class _Reader:
    """Goes through a data set; nothing of it is copied but UIDs, and nothing is called for each depth of nesting."""

    def __init__(self, data: bytes, syntax: TransferSyntax) -> None:
        self._data = data
        self._implicit_vr = syntax.implicit_vr
        order = "<" if syntax.little_endian else ">"
        self._tag = struct.Struct(f"{order}HH")
        self._us = struct.Struct(f"{order}H")
        self._ul = struct.Struct(f"{order}I")

    def read(self, most: Callable[[str], int]) -> Information:
        """All that matters of it; ValueError, struct.error."""
        lists: dict[int, tuple[Reference, ...]] = {}
        transaction_uid, bound = "", 0
        for tag, start, end in self._elements(0, len(self._data)):
            if tag == _TRANSACTION_UID:
                transaction_uid = self._uid(start, end)
                bound = most(transaction_uid)
                if len(self._data) > _FEW_BYTES + bound * MAX_REFERENCE_BYTES:
                    raise ValueError(f"too long for {bound:,} instances")
            elif tag in (_FAILED_SOP_SEQUENCE, _REFERENCED_SOP_SEQUENCE):
                if not transaction_uid:  # it comes first (PS3.5 7.1), so that lists of strangers need not be read
                    break
                if tag in lists:
                    raise ValueError("a sequence comes twice")
                lists[tag] = tuple(self._references(start, end, bound))
        if not transaction_uid:
            raise ValueError("no Transaction UID")
        return Information(
            transaction_uid, lists.get(_REFERENCED_SOP_SEQUENCE, ()), lists.get(_FAILED_SOP_SEQUENCE, ())
        )

    def _references(self, start: int, end: int, bound: int) -> Iterator[Reference]:
        for number, (tag, item_start, item_end) in enumerate(self._elements(start, end)):
            if tag != _ITEM:
                raise ValueError("a sequence with something else than items")
            if number == bound:
                raise ValueError(f"more than {bound:,} instances")
            values = {inner: (at, to) for inner, at, to in self._elements(item_start, item_end)}
            sop_class_uid, sop_instance_uid = (
                self._uid(*values.get(each, (0, 0)))
                for each in (_REFERENCED_SOP_CLASS_UID, _REFERENCED_SOP_INSTANCE_UID)
            )
            if not sop_instance_uid:
                raise ValueError("an item without a SOP Instance UID")
            at, to = values.get(_FAILURE_REASON, (0, 0))
            failure_reason = self._us.unpack_from(self._data, at)[0] if to - at == self._us.size else NO_REASON
            yield Reference(sop_class_uid, sop_instance_uid, failure_reason)

    def _uid(self, start: int, end: int) -> str:
        value = self._data[start : min(end, start + UID_BYTES + 2)].rstrip(b"\0 ")
        if len(value) > UID_BYTES:
            raise ValueError("a UID that is too long")
        return value.decode("latin-1")

    def _elements(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Tag of each element or item, and where its value begins and ends."""
        while start < end:
            tag, length, value = self._header(start, end)
            if length == _UNDEFINED_LENGTH:
                stop, start = self._delimited(value, end)
            else:
                stop = start = value + length
            yield tag, value, stop

    def _delimited(self, start: int, end: int) -> tuple[int, int]:
        """Where a value of undefined length ends that begins here, and what comes after it."""
        depth = 1
        while start < end:
            at = start
            tag, length, start = self._header(at, end)
            if tag in _DELIMITERS:
                depth -= 1
                if not depth:
                    return at, start
            elif length == _UNDEFINED_LENGTH:
                depth += 1
            else:
                start += length
        raise ValueError("a sequence or item without an end")

    def _header(self, start: int, end: int) -> tuple[int, int, int]:
        """Tag, length, and where the value begins; it ends before `end`."""
        data = self._data
        group, element = self._tag.unpack_from(data, start)
        value = start + 8
        vr = data[start + 4 : start + 6]
        if self._implicit_vr or group == _ITEM_GROUP:
            (length,) = self._ul.unpack_from(data, start + 4)
        elif vr in _LONG:
            (length,) = self._ul.unpack_from(data, value)
            value += 4
        elif vr.isalpha() and vr.isupper():
            (length,) = self._us.unpack_from(data, start + 6)
        else:
            raise ValueError("an element without a VR")
        if value + (0 if length == _UNDEFINED_LENGTH else length) > end:
            raise ValueError("an element that ends too late")
        return group << 16 | element, length, value
