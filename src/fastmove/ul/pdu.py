"""The six PDUs other than P-DATA-TF: values ⇄ bytes (PS3.8 9.3).

What is malformed raises RemoteProtocolError with the log event as its key: `rq.…` for an
A-ASSOCIATE-RQ, `ac.malformed` for an A-ASSOCIATE-AC, `pdu.length` for the PDUs of four bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from struct import Struct
from typing import ClassVar, Final, TypeAlias

from fastmove.errors import LocalProtocolError, RemoteProtocolError
from fastmove.limits import AE_TITLE_BYTES, MAX_ITEMS
from fastmove.uids import APPLICATION_CONTEXT
from fastmove.ul.items import Cursor, ItemType, UserInformation, decode_uid, encode_item, encode_text_item, fault
from fastmove.values import Value

PROTOCOL_VERSION: Final = 0x0001  # bit 0, the only one to be tested (PS3.8 9.3.2)

_PDU_HEADER: Final = Struct(">BxI")
_ASSOCIATE_FIELDS: Final = Struct(">Hxx16s16s32x")  # up to the variable items (PS3.8 Tables 9-11 and 9-17)
_FOUR_BYTES: Final = 4  # what follows the header of an A-ASSOCIATE-RJ, A-RELEASE-RQ, A-RELEASE-RP, A-ABORT


def _encode_pdu(pdu_type: int, body: bytes) -> bytes:
    return _PDU_HEADER.pack(pdu_type, len(body)) + body


class PresentationContextRQ(Value):
    """A presentation context as it is proposed; one abstract syntax, if the peer obeys (PS3.8 9.3.2.2)."""

    presentation_context_id: int
    abstract_syntaxes: tuple[str, ...]
    transfer_syntaxes: tuple[str, ...]

    def encode(self) -> bytes:
        """The item."""
        return encode_item(
            ItemType.PRESENTATION_CONTEXT_RQ,
            bytes((self.presentation_context_id, 0, 0, 0)),
            *(encode_text_item(ItemType.ABSTRACT_SYNTAX, uid) for uid in self.abstract_syntaxes),
            *(encode_text_item(ItemType.TRANSFER_SYNTAX, uid) for uid in self.transfer_syntaxes),
        )

    @classmethod
    def decode(cls, item: Cursor) -> PresentationContextRQ:
        """The context in the item; RemoteProtocolError `rq.item_short` or `rq.item_overrun`."""
        context_id = item.take(4)[0]
        abstract, transfer = _syntaxes(item)
        return cls(context_id, abstract, transfer)


class PresentationContextAC(Value):
    """The answer to a proposed presentation context; 0 is acceptance (PS3.8 Table 9-18)."""

    presentation_context_id: int
    result: int
    transfer_syntax: str = ""

    def encode(self) -> bytes:
        """The item."""
        head = bytes((self.presentation_context_id, 0, self.result, 0))
        syntax = encode_text_item(ItemType.TRANSFER_SYNTAX, self.transfer_syntax)
        return encode_item(ItemType.PRESENTATION_CONTEXT_AC, head, syntax)

    @classmethod
    def decode(cls, item: Cursor) -> PresentationContextAC:
        """The answer in the item; RemoteProtocolError as for a proposed context."""
        context_id, _, result, _ = item.take(4)
        _, transfer = _syntaxes(item)
        return cls(context_id, result, transfer[0] if transfer else "")


def _syntaxes(context: Cursor) -> tuple[tuple[str, ...], tuple[str, ...]]:
    names: dict[int, list[str]] = {ItemType.ABSTRACT_SYNTAX: [], ItemType.TRANSFER_SYNTAX: []}
    for item_type, item in context.items():
        if item_type in names:
            names[item_type].append(decode_uid(item.rest()))
    return tuple(names[ItemType.ABSTRACT_SYNTAX]), tuple(names[ItemType.TRANSFER_SYNTAX])


def _encode_associate(pdu: AAssociateRQ | AAssociateAC) -> bytes:
    titles = [title.encode("latin-1").ljust(AE_TITLE_BYTES) for title in (pdu.called_ae_title, pdu.calling_ae_title)]
    if any(len(title) > AE_TITLE_BYTES for title in titles):
        raise LocalProtocolError(f"AE title longer than {AE_TITLE_BYTES} bytes")
    items = [
        encode_text_item(ItemType.APPLICATION_CONTEXT, pdu.application_context_name),
        *(context.encode() for context in pdu.presentation_contexts),
        pdu.user_information.encode(),
    ]
    return _encode_pdu(pdu.pdu_type, _ASSOCIATE_FIELDS.pack(pdu.protocol_version, *titles) + b"".join(items))


def _associate_fields(data: bytes) -> tuple[int, str, str]:
    """Protocol version, called and calling AE title: their spaces at both ends are insignificant."""
    if len(data) < _ASSOCIATE_FIELDS.size:
        raise fault("rq.short", f"{len(data)} bytes, at least {_ASSOCIATE_FIELDS.size} wanted", 0)
    version, called, calling = _ASSOCIATE_FIELDS.unpack_from(data)
    return version, called.decode("latin-1").strip(" "), calling.decode("latin-1").strip(" ")


def _associate_items(data: bytes, at_most: int) -> dict[int, list[Cursor]]:
    items: dict[int, list[Cursor]] = defaultdict(list)
    for item_type, item in Cursor(data, _ASSOCIATE_FIELDS.size, len(data)).items(at_most):
        items[item_type].append(item)
    return items


class AAssociateRQ(Value):
    """A-ASSOCIATE-RQ (PS3.8 9.3.2)."""

    pdu_type: ClassVar[int] = 0x01
    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[PresentationContextRQ, ...]
    user_information: UserInformation = UserInformation()
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION
    unknown_items: tuple[int, ...] = ()
    """Item types that were skipped; they are not encoded again."""

    def encode(self) -> bytes:
        """The whole PDU; LocalProtocolError if a field does not fit."""
        return _encode_associate(self)

    @classmethod
    def decode(cls, data: bytes, max_items: int = MAX_ITEMS, max_user_items: int = MAX_ITEMS) -> AAssociateRQ:
        """The PDU whose bytes after the header are `data`; RemoteProtocolError `rq.…` if malformed."""
        version, called, calling = _associate_fields(data)
        if not version & PROTOCOL_VERSION:  # the items of another version are not ours to read
            return cls(called, calling, (), application_context_name="", protocol_version=version)
        items = _associate_items(data, max_items)
        names = items.pop(ItemType.APPLICATION_CONTEXT, [])
        if len(names) != 1:
            raise fault("rq.items", f"{len(names)} application contexts", 0)
        contexts = tuple(map(PresentationContextRQ.decode, items.pop(ItemType.PRESENTATION_CONTEXT_RQ, ())))
        _check_context_ids(contexts)
        user_information = UserInformation.decode(items.pop(ItemType.USER_INFORMATION, ()), max_user_items)
        name = decode_uid(names[0].rest())
        return cls(called, calling, contexts, user_information, name, version, tuple(items))


def _check_context_ids(contexts: Iterable[PresentationContextRQ]) -> None:
    """Odd and different, which also bounds their number to 128 (PS3.8 9.3.2.2)."""
    seen: set[int] = set()
    for context in contexts:
        context_id = context.presentation_context_id
        if context_id % 2 == 0 or context_id in seen:
            raise RemoteProtocolError(
                "rq.context_id", f"{context_id} is {'even' if context_id % 2 == 0 else 'there twice'}"
            )
        seen.add(context_id)


class AAssociateAC(Value):
    """A-ASSOCIATE-AC; the AE titles are those of the request, and not to be tested (PS3.8 9.3.3)."""

    pdu_type: ClassVar[int] = 0x02
    called_ae_title: str
    calling_ae_title: str
    presentation_contexts: tuple[PresentationContextAC, ...]
    user_information: UserInformation = UserInformation()
    application_context_name: str = APPLICATION_CONTEXT
    protocol_version: int = PROTOCOL_VERSION
    unknown_items: tuple[int, ...] = ()

    def encode(self) -> bytes:
        """The whole PDU; LocalProtocolError if a field does not fit."""
        return _encode_associate(self)

    @classmethod
    def decode(cls, data: bytes, max_items: int = MAX_ITEMS, max_user_items: int = MAX_ITEMS) -> AAssociateAC:
        """The PDU whose bytes after the header are `data`; RemoteProtocolError `ac.malformed`."""
        try:
            version, called, calling = _associate_fields(data)
            items = _associate_items(data, max_items)
            names = [decode_uid(item.rest()) for item in items.pop(ItemType.APPLICATION_CONTEXT, ())]
            contexts = tuple(map(PresentationContextAC.decode, items.pop(ItemType.PRESENTATION_CONTEXT_AC, ())))
            user_information = UserInformation.decode(items.pop(ItemType.USER_INFORMATION, ()), max_user_items)
        except RemoteProtocolError as error:
            raise RemoteProtocolError("ac.malformed", error.detail, offset=error.offset) from error
        return cls(called, calling, contexts, user_information, names[0] if names else "", version, tuple(items))


def _four_bytes(data: bytes) -> bytes:
    if len(data) != _FOUR_BYTES:
        raise fault("pdu.length", f"{len(data)} bytes instead of {_FOUR_BYTES}", 0)
    return data


class AAssociateRJ(Value):
    """A-ASSOCIATE-RJ: result 1 permanent or 2 transient, source, reason (PS3.8 9.3.4, Table 9-21)."""

    pdu_type: ClassVar[int] = 0x03
    result: int
    source: int
    reason: int

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.pdu_type, bytes((0, self.result, self.source, self.reason)))

    @classmethod
    def decode(cls, data: bytes) -> AAssociateRJ:
        """The PDU whose bytes after the header are `data`, whatever values it has; RemoteProtocolError `pdu.length`."""
        return cls(*_four_bytes(data)[1:])


class AReleaseRQ(Value):
    """A-RELEASE-RQ (PS3.8 9.3.6)."""

    pdu_type: ClassVar[int] = 0x05

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.pdu_type, bytes(_FOUR_BYTES))

    @classmethod
    def decode(cls, data: bytes) -> AReleaseRQ:
        """The PDU; RemoteProtocolError `pdu.length`."""
        _four_bytes(data)
        return cls()


class AReleaseRP(Value):
    """A-RELEASE-RP (PS3.8 9.3.7)."""

    pdu_type: ClassVar[int] = 0x06

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.pdu_type, bytes(_FOUR_BYTES))

    @classmethod
    def decode(cls, data: bytes) -> AReleaseRP:
        """The PDU; RemoteProtocolError `pdu.length`."""
        _four_bytes(data)
        return cls()


class AAbort(Value):
    """A-ABORT: source 0 service-user or 2 service-provider, reason (PS3.8 9.3.8, Table 9-26)."""

    pdu_type: ClassVar[int] = 0x07
    source: int = 0
    reason: int = 0

    def encode(self) -> bytes:
        """The whole PDU."""
        return _encode_pdu(self.pdu_type, bytes((0, 0, self.source, self.reason)))

    @classmethod
    def decode(cls, data: bytes) -> AAbort:
        """The PDU; an abort is an abort, whatever its length."""
        return cls(*data[2:4].ljust(2, b"\0"))


Pdu: TypeAlias = AAssociateRQ | AAssociateAC | AAssociateRJ | AReleaseRQ | AReleaseRP | AAbort

_DECODERS: Final[dict[int, Callable[[bytes], Pdu]]] = {
    pdu.pdu_type: pdu.decode for pdu in (AAssociateRJ, AReleaseRQ, AReleaseRP, AAbort)
}
_DECODERS_OF_ITEMS: Final[dict[int, Callable[[bytes, int, int], Pdu]]] = {
    pdu.pdu_type: pdu.decode for pdu in (AAssociateRQ, AAssociateAC)
}


def decode(pdu_type: int, data: bytes, max_items: int = MAX_ITEMS, max_user_items: int = MAX_ITEMS) -> Pdu:
    """The PDU of this type whose bytes after the 6-byte header are `data`; RemoteProtocolError if malformed.

    Of an A-ASSOCIATE PDU with more than so many items, or sub-items of user information, that is so, too.
    """
    if pdu_type in _DECODERS_OF_ITEMS:
        return _DECODERS_OF_ITEMS[pdu_type](data, max_items, max_user_items)
    if pdu_type not in _DECODERS:
        raise RemoteProtocolError("pdu.unknown_type", f"type={pdu_type:#04x}")
    return _DECODERS[pdu_type](data)
