"""The receive path, slow and obvious: a whole byte stream in, all its events out (PS3.8 9.3, Annex E; PS3.7 6.3.1).

It has no state between calls, so it cannot depend on how the stream was cut.  The compiled receiver,
fed with any prefix of a stream in any pieces, must have reported exactly `events(prefix)`.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from fastmove.limits import (
    MAX_COMMAND_BYTES,
    MAX_CONTROL_PDU_LENGTH,
    MAX_EMPTY_PDVS,
    PDU_HEADER_BYTES,
    PDV_HEADER_BYTES,
)

P_DATA_TF, A_ABORT = 4, 7
IS_COMMAND, IS_LAST = 1, 2
C_MOVE_RSP: Final = 0x8021
NO_DATA_SET: Final = 0x0101


class Control(NamedTuple):
    """A whole PDU other than P-DATA-TF."""

    pdu_type: int
    data: bytes


class Command(NamedTuple):
    """A whole command set."""

    pc_id: int
    data: bytes


class Dataset(NamedTuple):
    """A whole data set, which the compiled receiver hands to a sink."""

    pc_id: int
    data: bytes


class Invalid(NamedTuple):
    """The stream broke a rule; nothing after it counts."""

    reason: str
    offset: int


class Unexpected(NamedTuple):
    """P-DATA-TF where the state allows none; nothing after it counts."""

    offset: int


Event = Control | Command | Dataset | Invalid | Unexpected


def events(stream: bytes, *, max_pdu_length: int, accepted: Collection[int], data_allowed: bool = True) -> list[Event]:
    """Everything that this stream says, as far as it goes."""
    return list(_events(stream, max_pdu_length, accepted, data_allowed))


def _events(stream: bytes, max_pdu_length: int, accepted: Collection[int], data_allowed: bool) -> Iterator[Event]:
    offset = 0
    message = _Message()
    while len(stream) - offset >= PDU_HEADER_BYTES:
        pdu_type, length = struct.unpack_from(">BxI", stream, offset)
        end = offset + PDU_HEADER_BYTES + length
        if pdu_type == P_DATA_TF:
            if not data_allowed:
                yield Unexpected(offset)
                return
            if length > max_pdu_length:
                yield Invalid("pdu.too_long", offset)
                return
            if length < PDV_HEADER_BYTES:
                yield Invalid("pdu.short", offset)
                return
            for event in _pdvs(stream, offset + PDU_HEADER_BYTES, end, accepted, message):
                yield event
                if isinstance(event, Invalid):
                    return
        elif not 1 <= pdu_type <= A_ABORT:
            yield Invalid("pdu.unknown_type", offset)
            return
        elif length > MAX_CONTROL_PDU_LENGTH:
            yield Invalid("pdu.too_long", offset)
            return
        elif len(stream) >= end:
            yield Control(pdu_type, stream[offset + PDU_HEADER_BYTES : end])
        offset = end


class _Message:
    """The message under way."""

    def __init__(self) -> None:
        self.command: bytes | None = None
        self.dataset: bytes | None = None
        self.moving = False
        self.context = 0
        self.empty = 0


def _pdvs(
    stream: bytes, offset: int, end: int, accepted: Collection[int], message: _Message
) -> Iterator[Command | Dataset | Invalid]:
    """The PDVs of one P-DATA-TF PDU, whose bytes may still be coming."""
    while offset < end:
        if end - offset < PDV_HEADER_BYTES:
            yield Invalid("pdv.trailing", offset)
            return
        if len(stream) - offset < PDV_HEADER_BYTES:
            return
        length, context, control = struct.unpack_from(">IBB", stream, offset)
        wrong = _wrong_header(length, context, control, end - offset, accepted, message)
        if wrong == "pdv.order" and message.moving and message.dataset == b"":
            yield Dataset(message.context, b"")  # announced by a C-MOVE-RSP, and not sent
            message.dataset = None
            wrong = _wrong_header(length, context, control, end - offset, accepted, message)
        if wrong:
            yield Invalid(wrong, offset)
            return
        pdv_end = offset + 4 + length
        data = stream[offset + PDV_HEADER_BYTES : pdv_end]
        whole = len(stream) >= pdv_end
        message.context = context
        if control & IS_COMMAND:
            message.command = (message.command or b"") + data
            if len(message.command) > MAX_COMMAND_BYTES:
                yield Invalid("dimse.cmd_too_long", pdv_end)
                return
            if whole and control & IS_LAST:
                yield from _command(message, pdv_end)
        else:
            assert message.dataset is not None
            message.dataset += data
            if whole and control & IS_LAST:
                yield Dataset(context, message.dataset)
                message.dataset = None
        if not whole:
            return
        offset = pdv_end


def _wrong_header(
    length: int, context: int, control: int, room: int, accepted: Collection[int], message: _Message
) -> str | None:
    """What is wrong with a PDV header that has `room` bytes to the end of its PDU."""
    if length < 2:
        return "pdv.length"
    if length > room - 4:
        return "pdv.overrun"
    if context not in accepted:
        return "pdv.context"
    if bool(control & IS_COMMAND) is (message.dataset is not None):
        return "pdv.order"
    if (message.command is not None or message.dataset is not None) and context != message.context:
        return "pdv.context_switch"
    message.empty = message.empty + 1 if length == 2 and not control & IS_LAST else 0
    return "pdv.empty_flood" if message.empty > MAX_EMPTY_PDVS else None


def _command(message: _Message, offset: int) -> Iterator[Command | Invalid]:
    """The command set that is whole now."""
    command = message.command or b""
    message.command = None
    fields = _fields(command)
    if isinstance(fields, str):
        yield Invalid(fields, offset)
        return
    if fields.get(0x0800, NO_DATA_SET) != NO_DATA_SET:
        message.dataset = b""
    message.moving = fields[0x0100] == C_MOVE_RSP
    yield Command(message.context, command)


def _fields(command: bytes) -> dict[int, int] | str:
    """Command Field, message IDs, Command Data Set Type and Status, the first of each; or what is wrong.

    An empty Message ID is none: whether there has to be one is not for the receiver to say.
    """
    fields: dict[int, int] = {}
    offset = 0
    while offset < len(command):
        if len(command) - offset < 8:
            return "dimse.malformed"
        group, number, length = struct.unpack_from("<HHI", command, offset)
        if group != 0:
            return "dimse.order"
        value = command[offset + 8 : offset + 8 + length]
        if len(value) != length:
            return "dimse.malformed"
        if number in (0x0100, 0x0110, 0x0120, 0x0800, 0x0900) and (length or number not in (0x0110, 0x0120)):
            if length != 2:
                return "dimse.no_command" if number == 0x0100 else "dimse.malformed"
            fields.setdefault(number, int.from_bytes(value, "little"))
        offset += 8 + length
    return fields if 0x0100 in fields else "dimse.no_command"
