"""The Command Set: elements of group 0000, implicit VR little endian (PS3.7 6.3.1, Annex E)."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Final

from fastmove.errors import RemoteProtocolError
from fastmove.values import Value

ElementValue = int | str | tuple[int, ...]
"""US and UL are int, AT is a tuple of tags, all else is str."""

NO_DATA_SET: Final = 0x0101
"""Command Data Set Type of a message without a data set; every other value announces one (PS3.7 E.1)."""

# Element number of group 0000, the standard's name in snake case, VR (PS3.7 Table E.1-1); ascending.
ELEMENTS: Final[tuple[tuple[int, str, str], ...]] = (
    (0x0000, "command_group_length", "UL"),
    (0x0002, "affected_sop_class_uid", "UI"),
    (0x0003, "requested_sop_class_uid", "UI"),
    (0x0100, "command_field", "US"),
    (0x0110, "message_id", "US"),
    (0x0120, "message_id_being_responded_to", "US"),
    (0x0600, "move_destination", "AE"),
    (0x0700, "priority", "US"),
    (0x0800, "command_data_set_type", "US"),
    (0x0900, "status", "US"),
    (0x0901, "offending_element", "AT"),
    (0x0902, "error_comment", "LO"),
    (0x0903, "error_id", "US"),
    (0x1000, "affected_sop_instance_uid", "UI"),
    (0x1001, "requested_sop_instance_uid", "UI"),
    (0x1002, "event_type_id", "US"),
    (0x1005, "attribute_identifier_list", "AT"),
    (0x1008, "action_type_id", "US"),
    (0x1020, "number_of_remaining_suboperations", "US"),
    (0x1021, "number_of_completed_suboperations", "US"),
    (0x1022, "number_of_failed_suboperations", "US"),
    (0x1023, "number_of_warning_suboperations", "US"),
    (0x1030, "move_originator_ae_title", "AE"),
    (0x1031, "move_originator_message_id", "US"),
)

_HEADER: Final = struct.Struct("<HHI")
_US: Final = struct.Struct("<H")
_UL: Final = struct.Struct("<I")
_TAG: Final = struct.Struct("<HH")
_GROUP_LENGTH: Final = struct.Struct("<HHII")


class PaddedUid(str):
    """A UID padded otherwise than PS3.5 9.1 prescribes: equal to the bare UID, encoded as it came."""

    __slots__ = ("received",)
    received: bytes


class CommandSet(Value):
    """The known elements that came, by name; `notes` are log keys of what was wrong but accepted."""

    values: dict[str, ElementValue]
    notes: tuple[str, ...] = ()


def _decode_at(data: bytes) -> tuple[int, ...]:
    return tuple(group << 16 | element for group, element in _TAG.iter_unpack(data))


def _decode_ui(data: bytes) -> str:
    text = data.decode("latin-1")
    bare = text.rstrip("\0 ")
    if len(text) - len(bare) < 2 and not text.endswith(" "):
        return bare
    uid = PaddedUid(bare)
    uid.received = data
    return uid


def _decode_text(data: bytes) -> str:
    return data.decode("latin-1").strip("\0 ")


def _encode_ui(value: str) -> bytes:
    if isinstance(value, PaddedUid):
        return value.received
    data = value.encode("latin-1")
    return data + b"\0" if len(data) & 1 else data


def _encode_text(value: str) -> bytes:
    data = value.encode("ascii", "replace")
    return data + b" " if len(data) & 1 else data


def _encode_at(value: tuple[int, ...]) -> bytes:
    return b"".join(_TAG.pack(tag >> 16, tag & 0xFFFF) for tag in value)


_NUMBERS: Final = {"US": _US, "UL": _UL}
_DECODERS: Final[dict[str, Callable[[bytes], ElementValue]]] = {
    "AT": _decode_at,
    "UI": _decode_ui,
    "AE": _decode_text,
    "LO": _decode_text,
}
_ENCODERS: Final[dict[str, Callable[..., bytes]]] = {
    "US": _US.pack,
    "UL": _UL.pack,
    "AT": _encode_at,
    "UI": _encode_ui,
    "AE": _encode_text,
    "LO": _encode_text,
}
_BY_ELEMENT: Final = {element: (name, _NUMBERS.get(vr), _DECODERS.get(vr)) for element, name, vr in ELEMENTS}
_BY_NAME: Final = {name: (element, _ENCODERS[vr]) for element, name, vr in ELEMENTS[1:]}


def _wrong_length(name: str, length: int, offset: int) -> RemoteProtocolError:
    key = "dimse.no_command" if name == "command_field" else "dimse.malformed"
    return RemoteProtocolError(key, f"{name} has {length} bytes", offset=offset)


def decode(data: bytes) -> CommandSet:
    """The elements of a command set; RemoteProtocolError where the bytes allow no reading.

    Of an element that comes twice the first counts; unknown elements and empty numbers are skipped.
    A wrong or missing group length is accepted: the PDVs already told where the command set ends.
    """
    values: dict[str, ElementValue] = {}
    notes: tuple[str, ...] = ()
    offset, end = 0, len(data)
    while offset < end:
        if end - offset < _HEADER.size:
            raise RemoteProtocolError("dimse.malformed", f"{end - offset} bytes after the last element", offset=offset)
        group, element, length = _HEADER.unpack_from(data, offset)
        value_offset = offset + _HEADER.size
        if length > end - value_offset:
            detail = f"({group:04X},{element:04X}) has {length} bytes, {end - value_offset} are left"
            raise RemoteProtocolError("dimse.malformed", detail, offset=offset)
        if group:
            raise RemoteProtocolError("dimse.order", f"({group:04X},{element:04X}) in a command set", offset=offset)
        offset = value_offset + length
        known = _BY_ELEMENT.get(element)
        if known is None:
            continue
        name, number, decode_value = known
        if name in values:
            notes = ("dimse.order",)
        elif decode_value is not None:
            try:
                values[name] = decode_value(data[value_offset:offset])
            except struct.error:
                raise _wrong_length(name, length, value_offset) from None
        elif number is not None and length == number.size:
            values[name] = number.unpack_from(data, value_offset)[0]
        elif length and element:
            raise _wrong_length(name, length, value_offset)
    if values.pop("command_group_length", -1) != end - _GROUP_LENGTH.size:
        notes += ("dimse.group_length",)
    return CommandSet(values, notes)


def encode(values: Mapping[str, ElementValue | None]) -> bytes:
    """A command set in ascending order with its group length; None leaves an element out.

    Raises KeyError for a name that is no element of Table E.1-1.
    """
    for name in values:
        if name not in _BY_NAME:
            raise KeyError(name)
    parts = [b""]
    for name, (element, encode_value) in _BY_NAME.items():
        value = values.get(name)
        if value is not None:
            data = encode_value(value)
            parts += (_HEADER.pack(0, element, len(data)), data)
    body = b"".join(parts)
    return _GROUP_LENGTH.pack(0, 0, _UL.size, len(body)) + body
