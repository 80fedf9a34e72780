"""The items inside an A-ASSOCIATE PDU: the cursor that reads them, and user information (PS3.8 9.3.2, PS3.7 D.3.3).

Decoding is linear and never reads past the length of the item it is in.  Items that the standard
does not define are skipped and named; of items that come twice the first counts.  Text is read as
ISO 8859-1, which cannot fail, so that whoever judges the value still sees every byte of it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from enum import IntEnum
from struct import Struct
from typing import Any, Final, Protocol

from fastmove.errors import LocalProtocolError, RemoteProtocolError
from fastmove.limits import MAX_ITEMS, PDU_HEADER_BYTES
from fastmove.values import Value

_ITEM_HEADER: Final = Struct(">BxH")
_MAX_LENGTH: Final = 0xFFFF  # of an item, and of a field that has a length of its own


class ItemType(IntEnum):
    """Item-type fields (PS3.8 9.3.2 and 9.3.3, PS3.7 D.3.3)."""

    APPLICATION_CONTEXT = 0x10
    PRESENTATION_CONTEXT_RQ = 0x20
    PRESENTATION_CONTEXT_AC = 0x21
    ABSTRACT_SYNTAX = 0x30
    TRANSFER_SYNTAX = 0x40
    USER_INFORMATION = 0x50
    MAXIMUM_LENGTH = 0x51
    IMPLEMENTATION_CLASS_UID = 0x52
    ASYNCHRONOUS_OPERATIONS_WINDOW = 0x53
    SCP_SCU_ROLE_SELECTION = 0x54
    IMPLEMENTATION_VERSION_NAME = 0x55
    SOP_CLASS_EXTENDED_NEGOTIATION = 0x56
    SOP_CLASS_COMMON_EXTENDED_NEGOTIATION = 0x57
    USER_IDENTITY_RQ = 0x58
    USER_IDENTITY_AC = 0x59


class Cursor:
    """Big-endian fields up to an end of its own; `key` is the fault of reading past it."""

    __slots__ = ("data", "end", "key", "pos")

    def __init__(self, data: bytes, pos: int, end: int, key: str = "rq.item_short") -> None:
        self.data = data
        self.pos = pos
        self.end = end
        self.key = key

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        start = self.pos
        stop = start + count
        if stop > self.end:
            raise fault(self.key, f"{count} bytes wanted, {self.end - start} left", start)
        self.pos = stop
        return self.data[start:stop]

    def number(self, count: int) -> int:
        """An unsigned number of `count` bytes."""
        return int.from_bytes(self.take(count), "big")

    def counted(self) -> bytes:
        """A field behind its own 2-byte length."""
        return self.take(self.number(2))

    def rest(self) -> bytes:
        """All that is left."""
        return self.take(self.end - self.pos)

    def finish(self) -> None:
        """An item whose inner lengths do not add up to its own is malformed."""
        if self.pos != self.end:
            raise fault(self.key, f"{self.end - self.pos} bytes too many", self.pos)

    def items(self, at_most: int = _MAX_LENGTH) -> Iterator[tuple[int, Cursor]]:
        """Every item of the rest: its type, and a cursor on its bytes; `rq.items` if there are too many."""
        data, pos, end = self.data, self.pos, self.end
        for _ in range(at_most):
            if pos == end:
                return
            if end - pos < _ITEM_HEADER.size:
                raise fault("rq.item_short", f"{end - pos} bytes where an item begins", pos)
            item_type, length = _ITEM_HEADER.unpack_from(data, pos)
            start = pos + _ITEM_HEADER.size
            if length > end - start:
                raise fault("rq.item_overrun", f"item {item_type:02X}H of {length} bytes, {end - start} left", pos)
            pos = start + length
            yield item_type, Cursor(data, start, pos)
        if pos != end:
            raise fault("rq.items", f"more than {at_most}", pos)


def fault(key: str, detail: str, pos: int) -> RemoteProtocolError:
    """What to raise for a fault `pos` bytes behind the PDU header."""
    return RemoteProtocolError(key, detail, offset=PDU_HEADER_BYTES + pos)


def decode_uid(raw: bytes) -> str:
    """A UID; some peers pad it, though PS3.8 Annex F says not to."""
    return raw.rstrip(b"\0 ").decode("latin-1")


def encode_item(item_type: int, *parts: bytes) -> bytes:
    """An item; LocalProtocolError if its length does not fit in 2 bytes."""
    return bytes((item_type, 0)) + _counted(b"".join(parts))


def encode_text_item(item_type: int, text: str) -> bytes:
    """An item that is nothing but a UID or a name."""
    return encode_item(item_type, text.encode("latin-1"))


def _counted(raw: bytes) -> bytes:
    if len(raw) > _MAX_LENGTH:
        raise LocalProtocolError(f"{len(raw)} bytes for an item or a field, at most {_MAX_LENGTH} fit")
    return len(raw).to_bytes(2, "big") + raw


# User information (PS3.8 9.3.2.3, PS3.7 D.3.3).


class AsynchronousOperationsWindow(Value):
    """How many operations may be outstanding; 0 is unlimited (PS3.7 D.3.3.3)."""

    maximum_number_operations_invoked: int
    maximum_number_operations_performed: int

    def encode(self) -> bytes:
        """The item."""
        counts = (self.maximum_number_operations_invoked, self.maximum_number_operations_performed)
        return encode_item(ItemType.ASYNCHRONOUS_OPERATIONS_WINDOW, *(count.to_bytes(2, "big") for count in counts))

    @classmethod
    def decode(cls, item: Cursor) -> AsynchronousOperationsWindow:
        """The value of the item."""
        window = cls(item.number(2), item.number(2))
        item.finish()
        return window


class RoleSelection(Value):
    """The roles that the requestor proposes, or the acceptor grants it, for a SOP class (PS3.7 D.3.3.4)."""

    sop_class_uid: str
    scu_role: bool
    scp_role: bool

    def encode(self) -> bytes:
        """The item."""
        roles = bytes((self.scu_role, self.scp_role))
        return encode_item(ItemType.SCP_SCU_ROLE_SELECTION, _counted(self.sop_class_uid.encode("latin-1")), roles)

    @classmethod
    def decode(cls, item: Cursor) -> RoleSelection:
        """The value of the item."""
        selection = cls(decode_uid(item.counted()), item.number(1) == 1, item.number(1) == 1)
        item.finish()
        return selection


class SOPClassExtendedNegotiation(Value):
    """Service-class application information for a SOP class (PS3.7 D.3.3.5)."""

    sop_class_uid: str
    service_class_application_information: bytes

    def encode(self) -> bytes:
        """The item."""
        uid = _counted(self.sop_class_uid.encode("latin-1"))
        return encode_item(ItemType.SOP_CLASS_EXTENDED_NEGOTIATION, uid, self.service_class_application_information)

    @classmethod
    def decode(cls, item: Cursor) -> SOPClassExtendedNegotiation:
        """The value of the item."""
        return cls(decode_uid(item.counted()), item.rest())


class SOPClassCommonExtendedNegotiation(Value):
    """Service class and related general SOP classes of a SOP class (PS3.7 D.3.3.6)."""

    sop_class_uid: str
    service_class_uid: str
    related_general_sop_class_uids: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """The item."""
        uids = (_counted(uid.encode("latin-1")) for uid in (self.sop_class_uid, self.service_class_uid))
        related = b"".join(_counted(uid.encode("latin-1")) for uid in self.related_general_sop_class_uids)
        return encode_item(ItemType.SOP_CLASS_COMMON_EXTENDED_NEGOTIATION, *uids, _counted(related))

    @classmethod
    def decode(cls, item: Cursor) -> SOPClassCommonExtendedNegotiation:
        """The value of the item."""
        sop_class_uid, service_class_uid = decode_uid(item.counted()), decode_uid(item.counted())
        length = item.number(2)
        start = item.pos
        item.take(length)  # what follows is reserved
        related = Cursor(item.data, start, start + length, item.key)
        uids = []
        while related.pos < related.end:
            uids.append(decode_uid(related.counted()))
        return cls(sop_class_uid, service_class_uid, tuple(uids))


class UserIdentityRQ(Value):
    """Who asks: 1 name, 2 name and passcode, 3 Kerberos, 4 SAML, 5 JWT; secrets have no repr (PS3.7 D.3.3.7.1)."""

    secret = frozenset(("primary_field", "secondary_field"))

    user_identity_type: int
    primary_field: bytes
    secondary_field: bytes = b""
    positive_response_requested: bool = False

    def encode(self) -> bytes:
        """The item."""
        head = bytes((self.user_identity_type, self.positive_response_requested))
        return encode_item(
            ItemType.USER_IDENTITY_RQ, head, _counted(self.primary_field), _counted(self.secondary_field)
        )

    @classmethod
    def decode(cls, item: Cursor) -> UserIdentityRQ:
        """The value of the item."""
        identity_type, response_requested = item.number(1), item.number(1) == 1
        identity = cls(identity_type, item.counted(), item.counted(), response_requested)
        item.finish()
        return identity


class UserIdentityAC(Value):
    """The positive response to a user identity (PS3.7 D.3.3.7.2)."""

    secret = frozenset(("server_response",))

    server_response: bytes = b""

    def encode(self) -> bytes:
        """The item."""
        return encode_item(ItemType.USER_IDENTITY_AC, _counted(self.server_response))

    @classmethod
    def decode(cls, item: Cursor) -> UserIdentityAC:
        """The value of the item."""
        response = cls(item.counted())
        item.finish()
        return response


class _SubItem(Protocol):
    def encode(self) -> bytes: ...


class UserInformation(Value):
    """The user information item of an A-ASSOCIATE-RQ or -AC (PS3.8 9.3.2.3)."""

    maximum_length: int | None = None
    """Longest P-DATA-TF PDU that its sender can receive, 6-byte header excluded; 0 is no limit (PS3.8 D.1)."""
    implementation_class_uid: str = ""
    asynchronous_operations_window: AsynchronousOperationsWindow | None = None
    role_selections: tuple[RoleSelection, ...] = ()
    implementation_version_name: str = ""
    sop_class_extended_negotiations: tuple[SOPClassExtendedNegotiation, ...] = ()
    sop_class_common_extended_negotiations: tuple[SOPClassCommonExtendedNegotiation, ...] = ()
    user_identity_rq: UserIdentityRQ | None = None
    user_identity_ac: UserIdentityAC | None = None
    unknown_items: tuple[int, ...] = ()
    """Item types that were skipped; they are not encoded again."""
    duplicate_items: tuple[int, ...] = ()
    """Item types that came again and were skipped."""

    def encode(self) -> bytes:
        """The item, its sub-items in the order of their types."""
        sub_items: list[bytes] = []
        if self.maximum_length is not None:
            sub_items.append(encode_item(ItemType.MAXIMUM_LENGTH, self.maximum_length.to_bytes(4, "big")))
        if self.implementation_class_uid:
            sub_items.append(encode_text_item(ItemType.IMPLEMENTATION_CLASS_UID, self.implementation_class_uid))
        sub_items += _encoded(self.asynchronous_operations_window, *self.role_selections)
        if self.implementation_version_name:
            sub_items.append(encode_text_item(ItemType.IMPLEMENTATION_VERSION_NAME, self.implementation_version_name))
        sub_items += _encoded(*self.sop_class_extended_negotiations, *self.sop_class_common_extended_negotiations)
        sub_items += _encoded(self.user_identity_rq, self.user_identity_ac)
        return encode_item(ItemType.USER_INFORMATION, *sub_items)

    @classmethod
    def decode(cls, items: Iterable[Cursor], at_most: int = MAX_ITEMS) -> UserInformation:
        """The user information of all items of that type, of which there should be one, with its sub-items."""
        found: dict[str, dict[str, Any]] = defaultdict(dict)  # field → SOP class UID, if it is per SOP class → value
        unknown: list[int] = []
        duplicates: list[int] = []
        for item in items:
            for item_type, sub_item in item.items(at_most):
                if item_type not in _USER_SUB_ITEMS:
                    unknown.append(item_type)
                    continue
                name, sub_item.key, read = _USER_SUB_ITEMS[item_type]
                value = read(sub_item)
                subject = getattr(value, "sop_class_uid", "")
                if subject in found[name]:
                    duplicates.append(item_type)
                else:
                    found[name][subject] = value
        fields: dict[str, Any] = {n: tuple(v.values()) if n in _PER_SOP_CLASS else v[""] for n, v in found.items()}
        return cls(**fields, unknown_items=tuple(unknown), duplicate_items=tuple(duplicates))


def _encoded(*sub_items: _SubItem | None) -> list[bytes]:
    return [sub_item.encode() for sub_item in sub_items if sub_item is not None]


def _maximum_length(item: Cursor) -> int:
    length = item.number(4)
    item.finish()
    return length


_PER_SOP_CLASS: Final = frozenset(
    ("role_selections", "sop_class_extended_negotiations", "sop_class_common_extended_negotiations")
)

_USER_SUB_ITEMS: Final[dict[int, tuple[str, str, Callable[[Cursor], Any]]]] = {  # → field, fault, reader
    0x51: ("maximum_length", "rq.maxlen_item", _maximum_length),
    0x52: ("implementation_class_uid", "rq.item_short", lambda item: decode_uid(item.rest())),
    0x53: ("asynchronous_operations_window", "rq.item_short", AsynchronousOperationsWindow.decode),
    0x54: ("role_selections", "rq.role_item", RoleSelection.decode),
    0x55: ("implementation_version_name", "rq.item_short", lambda item: item.rest().decode("latin-1").strip(" \0")),
    0x56: ("sop_class_extended_negotiations", "rq.item_overrun", SOPClassExtendedNegotiation.decode),
    0x57: ("sop_class_common_extended_negotiations", "rq.item_overrun", SOPClassCommonExtendedNegotiation.decode),
    0x58: ("user_identity_rq", "rq.userid", UserIdentityRQ.decode),
    0x59: ("user_identity_ac", "rq.userid", UserIdentityAC.decode),
}
