"""DIMSE messages as values: the C-services and N-services of PS3.7 Chapters 9 and 10.

A field that did not come is None: whether that deserves a status or an abort is the service's to say.
The fields of a class are its table: `decode` and `encode` read them, nothing repeats them.
"""

from __future__ import annotations

from typing import Any, ClassVar, Final, dataclass_transform

from fastmove.dimse import command
from fastmove.errors import RemoteProtocolError
from fastmove.values import Fields

# Priority (PS3.7 E.1).
MEDIUM: Final = 0
HIGH: Final = 1
LOW: Final = 2

RESPONSE: Final = 0x8000
"""The bit of the Command Field that tells a response from its request (PS3.7 E.1)."""

DATA_SET_FOLLOWS: Final = 0x0001
"""Any Command Data Set Type but 0101H will do (PS3.7 E.1); this one is what DCMTK sends."""


_NAMES: Final = frozenset(name for _, name, _ in command.ELEMENTS)
_REFERENCES: Final = frozenset(("message_id", "message_id_being_responded_to"))


@dataclass_transform(kw_only_default=True, frozen_default=True)
class _Named(Fields):
    """A value whose fields are given by name."""


class Message(_Named):
    """What every message has: whether a data set follows, and log keys of what was odd but accepted."""

    elements: ClassVar[tuple[str, ...]]
    """The fields that are elements of the command set."""

    references: ClassVar[frozenset[str]]
    """The Message ID of a request, or of the request that a response or a C-CANCEL-RQ is about."""

    has_dataset: bool = False
    notes: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        cls.elements = tuple(name for name in cls.fields if name in _NAMES)
        cls.references = _REFERENCES.intersection(cls.fields)

    def _compared(self) -> tuple[object, ...]:
        return tuple(getattr(self, name) for name in self.fields if name != "notes")

    @property
    def command_field(self) -> int:
        """Which message this is (PS3.7 Table E.1-1)."""
        return COMMAND_FIELDS[type(self)]

    def encode(self) -> bytes:
        """The bytes of the command set."""
        values: dict[str, command.ElementValue | None] = {name: getattr(self, name) for name in self.elements}
        values["command_field"] = self.command_field
        values["command_data_set_type"] = DATA_SET_FOLLOWS if self.has_dataset else command.NO_DATA_SET
        return command.encode(values)


class Response(Message):
    """What every response has; the error fields are those of PS3.7 Annex C."""

    message_id_being_responded_to: int
    status: int | None
    affected_sop_class_uid: str | None = None
    offending_element: tuple[int, ...] | None = None
    error_comment: str | None = None
    error_id: int | None = None


class Request(Message):
    """What every request has that is to be answered."""

    message_id: int

    def response(self, status: int, **values: Any) -> Response:
        """Its response; the UIDs are those of the request, exactly as they came."""
        return _respond(self, self.message_id, status, values)


class CEchoRQ(Request):
    """C-ECHO-RQ (PS3.7 9.3.5.1)."""

    affected_sop_class_uid: str | None


class CEchoRSP(Response):
    """C-ECHO-RSP (PS3.7 9.3.5.2)."""


class CStoreRQ(Request):
    """C-STORE-RQ (PS3.7 9.3.1.1)."""

    has_dataset: bool = True
    affected_sop_class_uid: str | None
    affected_sop_instance_uid: str | None
    priority: int | None = MEDIUM
    move_originator_ae_title: str | None = None
    move_originator_message_id: int | None = None


class CStoreRSP(Response):
    """C-STORE-RSP (PS3.7 9.3.1.2)."""

    affected_sop_instance_uid: str | None = None


class CFindRQ(Request):
    """C-FIND-RQ (PS3.7 9.3.2.1)."""

    has_dataset: bool = True
    affected_sop_class_uid: str | None
    priority: int | None = MEDIUM


class CFindRSP(Response):
    """C-FIND-RSP (PS3.7 9.3.2.2); a data set follows while matches do."""


class CGetRQ(CFindRQ):
    """C-GET-RQ (PS3.7 9.3.3.1)."""


class CGetRSP(Response):
    """C-GET-RSP (PS3.7 9.3.3.2)."""

    number_of_remaining_suboperations: int | None = None
    number_of_completed_suboperations: int | None = None
    number_of_failed_suboperations: int | None = None
    number_of_warning_suboperations: int | None = None


class CMoveRQ(CFindRQ):
    """C-MOVE-RQ (PS3.7 9.3.4.1)."""

    move_destination: str | None


class CMoveRSP(CGetRSP):
    """C-MOVE-RSP (PS3.7 9.3.4.2); the same fields as C-GET-RSP."""


class CCancelRQ(Message):
    """C-CANCEL-RQ of C-FIND, C-GET and C-MOVE (PS3.7 9.3.2.3); it has no response of its own."""

    message_id_being_responded_to: int


class NEventReportRQ(Request):
    """N-EVENT-REPORT-RQ (PS3.7 10.3.1.1)."""

    affected_sop_class_uid: str | None
    affected_sop_instance_uid: str | None
    event_type_id: int | None


class NEventReportRSP(CStoreRSP):
    """N-EVENT-REPORT-RSP (PS3.7 10.3.1.2)."""

    event_type_id: int | None = None


class NDeleteRQ(Request):
    """N-DELETE-RQ (PS3.7 10.3.6.1)."""

    requested_sop_class_uid: str | None
    requested_sop_instance_uid: str | None


class NDeleteRSP(CStoreRSP):
    """N-DELETE-RSP (PS3.7 10.3.6.2)."""


class NGetRQ(NDeleteRQ):
    """N-GET-RQ (PS3.7 10.3.2.1)."""

    attribute_identifier_list: tuple[int, ...] | None = None


class NGetRSP(CStoreRSP):
    """N-GET-RSP (PS3.7 10.3.2.2)."""


class NSetRQ(NDeleteRQ):
    """N-SET-RQ (PS3.7 10.3.3.1)."""

    has_dataset: bool = True


class NSetRSP(CStoreRSP):
    """N-SET-RSP (PS3.7 10.3.3.2)."""


class NActionRQ(NDeleteRQ):
    """N-ACTION-RQ (PS3.7 10.3.4.1)."""

    action_type_id: int | None


class NActionRSP(CStoreRSP):
    """N-ACTION-RSP (PS3.7 10.3.4.2)."""

    action_type_id: int | None = None


class NCreateRQ(Request):
    """N-CREATE-RQ (PS3.7 10.3.5.1)."""

    affected_sop_class_uid: str | None
    affected_sop_instance_uid: str | None = None


class NCreateRSP(CStoreRSP):
    """N-CREATE-RSP (PS3.7 10.3.5.2)."""


class UnknownCommand(Message):
    """A Command Field that PS3.7 does not know."""

    operation: int
    message_id: int | None = None
    affected_sop_class_uid: str | None = None

    @property
    def command_field(self) -> int:
        """The Command Field that came."""
        return self.operation

    def response(self, status: int, **values: Any) -> Response:
        """The response to an unknown request; RemoteProtocolError if it is none or has no Message ID."""
        if self.message_id is None or self.operation & RESPONSE:
            raise RemoteProtocolError("dimse.unknown_op", f"Command Field {self.operation:04X}H")
        return _respond(self, self.message_id, status, {"operation": self.operation | RESPONSE} | values)


class UnknownCommandRSP(Response):
    """The response to an operation that we do not know: status 0211H."""

    operation: int

    @property
    def command_field(self) -> int:
        """The Command Field of the request with the response bit set."""
        return self.operation


MESSAGES: Final[dict[int, type[Message]]] = {  # PS3.7 Table E.1-1, (0000,0100)
    0x0001: CStoreRQ,
    0x8001: CStoreRSP,
    0x0010: CGetRQ,
    0x8010: CGetRSP,
    0x0020: CFindRQ,
    0x8020: CFindRSP,
    0x0021: CMoveRQ,
    0x8021: CMoveRSP,
    0x0030: CEchoRQ,
    0x8030: CEchoRSP,
    0x0100: NEventReportRQ,
    0x8100: NEventReportRSP,
    0x0110: NGetRQ,
    0x8110: NGetRSP,
    0x0120: NSetRQ,
    0x8120: NSetRSP,
    0x0130: NActionRQ,
    0x8130: NActionRSP,
    0x0140: NCreateRQ,
    0x8140: NCreateRSP,
    0x0150: NDeleteRQ,
    0x8150: NDeleteRSP,
    0x0FFF: CCancelRQ,
}
COMMAND_FIELDS: Final = {message: number for number, message in MESSAGES.items()}


def _respond(request: Request | UnknownCommand, message_id: int, status: int, values: dict[str, Any]) -> Response:
    message: Any = MESSAGES.get(request.command_field | RESPONSE, UnknownCommandRSP)
    for uid in ("sop_class_uid", "sop_instance_uid"):
        if f"affected_{uid}" in message.elements:
            requested = getattr(request, f"requested_{uid}", None)
            values.setdefault(f"affected_{uid}", getattr(request, f"affected_{uid}", requested))
    response: Response = message(message_id_being_responded_to=message_id, status=status, **values)
    return response


def decode(data: bytes) -> Message:
    """The message of a command set; RemoteProtocolError if it has no Command Field or cannot be answered."""
    command_set = command.decode(data)
    values = command_set.values
    number = values.get("command_field")
    if not isinstance(number, int):
        raise RemoteProtocolError("dimse.no_command")
    common: dict[str, Any] = {
        "has_dataset": values.get("command_data_set_type", command.NO_DATA_SET) != command.NO_DATA_SET,
        "notes": command_set.notes,
    }
    message: Any = MESSAGES.get(number)
    if message is None:
        message = UnknownCommand
        common["operation"] = number
    elif values.keys().isdisjoint(message.references):
        raise RemoteProtocolError("dimse.no_msgid", message.__name__)
    decoded: Message = message(**common, **{name: values.get(name) for name in message.elements})
    return decoded
