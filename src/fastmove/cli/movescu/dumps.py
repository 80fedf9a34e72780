"""What DCMTK shows at DEBUG: negotiations, received A-ASSOCIATE PDUs, and messages, line by line."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from fastmove.cli.movescu.uid_names import shown, uid_name
from fastmove.dimse.messages import CEchoRQ, CMoveRQ, CMoveRSP, CStoreRQ, Message, Request, Response
from fastmove.types import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fastmove.ul.items import RoleSelection, UserIdentityAC, UserIdentityRQ, UserInformation
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ

# ---------------------------------------------------------------------- negotiation (PS3.8 9.3.2 and 9.3.3)

_BEGIN: Final = "====================== BEGIN A-ASSOCIATE-{} ====================="
_END: Final = "======================= END A-ASSOCIATE-{} ======================"

_RESULTS: Final = (  # PS3.8 Table 9-18
    "Accepted",
    "User Rejection",
    "No Reason",
    "Abstract Syntax Not Supported",
    "Transfer Syntaxes Not Supported",
)
_ROLES: Final = {(True, True): "SCP/SCU", (True, False): "SCU", (False, True): "SCP", (False, False): "None"}
_IDENTITIES: Final = {  # type → its name, and what its primary field is (PS3.7 D.3.3.7.1)
    1: ("Username", "Username"),
    2: ("Username/Password", "Username"),
    3: ("Kerberos", "Kerberos Service Ticket"),
    4: ("SAML", "SAML Assertion"),
    5: ("JSON Web Token", "JSON Web Token"),
}
_NAMED_IDENTITIES: Final = (1, 2)


def requested(request: AAssociateRQ) -> str:
    """What we are about to ask for."""
    return _association("RQ", request, None, UserInformation(), request.called_ae_title)


def negotiated(request: AAssociateRQ, answer: AAssociateAC) -> str:
    """What the peer made of our request."""
    return _association("AC", request, answer, answer.user_information, request.called_ae_title)


def asked(request: AAssociateRQ, max_pdu_length: int) -> str:
    """What a sender asks of us; the length is the one that we accept."""
    return _association("RQ", request, None, request.user_information, "", max_pdu_length)


def answered(request: AAssociateRQ, answer: AAssociateAC) -> str:
    """What we made of a sender's request."""
    length = answer.user_information.maximum_length
    return _association("AC", request, answer, request.user_information, "", length)


def _association(
    kind: str,
    request: AAssociateRQ,
    answer: AAssociateAC | None,
    theirs: UserInformation,
    responding_ae_title: str,
    max_pdu_length: int | None = None,
) -> str:
    ours = request.user_information.maximum_length if max_pdu_length is None else max_pdu_length
    granted = answer.user_information if answer else UserInformation()
    lines = [
        _BEGIN.format(kind),
        f"Our Implementation Class UID:      {IMPLEMENTATION_CLASS_UID}",
        f"Our Implementation Version Name:   {IMPLEMENTATION_VERSION_NAME}",
        f"Their Implementation Class UID:    {theirs.implementation_class_uid}",
        f"Their Implementation Version Name: {theirs.implementation_version_name}",
        f"Application Context Name:    {request.application_context_name}",
        f"Calling Application Name:    {(answer or request).calling_ae_title}",
        f"Called Application Name:     {request.called_ae_title}",
        f"Responding Application Name: {responding_ae_title}",
        f"Our Max PDU Receive Size:    {ours or 0}",
        f"Their Max PDU Receive Size:  {theirs.maximum_length or 0}",
        "Presentation Contexts:",
        *_contexts(request, answer),
        *_extended("Requested Extended Negotiation:", request.user_information),
        *_extended("Accepted Extended Negotiation:", granted, " "),
        *_identity(request.user_information.user_identity_rq),
        *_identity_response(granted.user_identity_ac),
        _END.format(kind),
    ]
    return "\n".join(lines)


def _contexts(request: AAssociateRQ, answer: AAssociateAC | None) -> Iterable[str]:
    answers = {context.presentation_context_id: context for context in answer.presentation_contexts} if answer else {}
    granted = answer.user_information.role_selections if answer else ()
    for context in request.presentation_contexts:
        context_id = context.presentation_context_id
        result = answers.get(context_id)
        yield f"  Context ID:        {context_id} ({_result(result.result) if result else 'Proposed'})"
        for uid in context.abstract_syntaxes:
            yield f"    Abstract Syntax: {shown(uid)}"
        yield f"    Proposed SCP/SCU Role: {_role(context.abstract_syntaxes, request.user_information.role_selections)}"
        if result is None:
            yield "    Proposed Transfer Syntax(es):"
            yield from (f"      {shown(uid)}" for uid in context.transfer_syntaxes)
            continue
        yield f"    Accepted SCP/SCU Role: {_role(context.abstract_syntaxes, granted)}"
        if result.result == 0:
            yield f"    Accepted Transfer Syntax: {shown(result.transfer_syntax)}"


def _result(result: int) -> str:
    return _RESULTS[result] if result < len(_RESULTS) else "--Invalid Result/Reason--"


def _role(abstract_syntaxes: Sequence[str], selections: Sequence[RoleSelection]) -> str:
    for selection in selections:
        if selection.sop_class_uid in abstract_syntaxes:
            return _ROLES[selection.scu_role, selection.scp_role]
    return "Default"


def _extended(title: str, information: UserInformation, blank: str = "") -> Iterable[str]:
    items = information.sop_class_extended_negotiations
    yield title if items else f"{title}{blank} none"
    for item in items:
        yield f"  {shown(item.sop_class_uid)} ({item.sop_class_uid})"
        yield f"    [{', '.join(f'0x{byte:02x}' for byte in item.service_class_application_information)}]"


def _identity(identity: UserIdentityRQ | None) -> Iterable[str]:
    """Who asks, but never by what secret he proves it, which DCMTK shows."""
    title = "Requested User Identity Negotiation:"
    if identity is None:
        yield f"{title} none"
        return
    kind, field = _IDENTITIES.get(identity.user_identity_type, ("unknown", "Primary field"))
    yield title
    yield f"  Authentication mode {identity.user_identity_type}: {kind}"
    if identity.user_identity_type in _NAMED_IDENTITIES:
        yield f"  {field}: [{identity.primary_field.decode('utf-8', 'backslashreplace')}]"
    else:
        yield f"  {field} (not dumped) length: {len(identity.primary_field)}"
    if identity.secondary_field:
        yield f"  Password (not dumped) length: {len(identity.secondary_field)}"
    yield f"  Positive Response requested: {'Yes' if identity.positive_response_requested else 'No'}"


def _identity_response(response: UserIdentityAC | None) -> Iterable[str]:
    title = "User Identity Negotiation Response:"
    if response is None:
        yield f"{title}  none"
        return
    yield title
    yield f"  Server Response (not dumped) length: {len(response.server_response)}"


# ---------------------------------------------------------------------- received PDUs

_PDU_TYPES: Final = {AAssociateRQ.pdu_type: "Associate Request", AAssociateAC.pdu_type: "Associate Accept"}
_BYTES_A_LINE: Final = 16
_MAX_BYTES: Final = 512


def received_pdu(pdu_type: int, data: bytes) -> str:
    """A received A-ASSOCIATE-RQ or -AC in hexadecimal, `data` being what follows its header."""
    header = bytes((pdu_type, 0)) + len(data).to_bytes(4, "big")
    pdu = (header + data)[:_MAX_BYTES]
    lines = [f"PDU Type: {_PDU_TYPES[pdu_type]}, PDU Length: {len(data)} + {len(header)} bytes PDU header"]
    if len(header + data) > _MAX_BYTES:
        lines.append(f"Only dumping {_MAX_BYTES} bytes.")
    # An empty line follows if the last one is full (sic).
    for start in range(0, len(pdu) + 1, _BYTES_A_LINE):
        lines.append("".join(f"  {byte:02x}" for byte in pdu[start : start + _BYTES_A_LINE]))
    return "\n".join(lines)


# ---------------------------------------------------------------------- messages (PS3.7 9)

_OUTGOING: Final = "===================== OUTGOING DIMSE MESSAGE ===================="
_INCOMING: Final = "===================== INCOMING DIMSE MESSAGE ===================="
_END_MESSAGE: Final = "======================= END DIMSE MESSAGE ======================="

_TYPES: Final = {CMoveRQ: "C-MOVE RQ", CMoveRSP: "C-MOVE RSP", CStoreRQ: "C-STORE RQ", CEchoRQ: "C-ECHO RQ"}
_PRIORITIES: Final = {0: "medium", 1: "high", 2: "low"}

_STATUSES: Final[dict[int, str]] = {
    0x0000: "Success: Sub-operations complete - No failures or warnings",
    0x0001: "Warning",
    0x0107: "Warning",
    0x0116: "Warning",
    0x0122: "Refused: SOP Class not supported",
    0x0124: "Refused: Not authorized",
    0x0210: "Duplicate invocation",
    0x0211: "Unrecognized operation",
    0x0212: "Mistyped argument",
    0xA701: "Refused: Out of resources - Unable to calculate number of matches",
    0xA702: "Refused: Out of resources - Unable to perform sub-operations",
    0xA801: "Refused: Move Destination unknown",
    0xA900: "Error: Data Set does not match SOP Class",
    0xAA00: "Failed: None of the frames requested were found in SOP Instance",
    0xAA01: "Failed: Unable to create new object for this SOP Class",
    0xAA02: "Failed: Unable to extract frames",
    0xAA03: "Failed: Time-based request for non-time-based SOP Instance",
    0xAA04: "Failed: Invalid request",
    0xB000: "Warning: Sub-operations complete - One or more failures or warnings",
    0xFE00: "Cancel: Sub-operations terminated due to Cancel Indication",
    0xFF00: "Pending: Sub-operations are continuing",
    0xFF01: "Pending",
}
_BY_FIRST_DIGIT: Final = {0x0: "Failure", 0xA: "Failure", 0xB: "Warning", 0xC: "Failed: Unable to process"}


def message(command: Message, context_id: int, *, outgoing: bool = False) -> str:
    """A C-MOVE, C-STORE or C-ECHO message; of others their command field and IDs."""
    rows = [("Message Type", _TYPES.get(type(command)) or f"0x{command.command_field:04x}")]
    if isinstance(command, Request):
        rows.append(("Presentation Context ID", str(context_id)))
        rows.append(("Message ID", str(command.message_id)))
    if isinstance(command, Response):
        rows.append(("Message ID Being Responded To", str(command.message_id_being_responded_to)))
    if isinstance(command, CMoveRQ | CMoveRSP | CStoreRQ):
        rows.append(("Affected SOP Class UID", _class(command.affected_sop_class_uid)))
    if isinstance(command, CStoreRQ):
        rows.append(("Affected SOP Instance UID", command.affected_sop_instance_uid or ""))
    if isinstance(command, CMoveRSP):
        rows += _counters(command)
    rows.append(("Data Set", "present" if command.has_dataset else "none"))
    if isinstance(command, CMoveRQ | CStoreRQ):
        priority = command.priority or 0
        rows.append(("Priority", _PRIORITIES.get(priority, str(priority))))
    if isinstance(command, CMoveRQ):
        rows.append(("Move Destination", command.move_destination or ""))
    if isinstance(command, CStoreRQ) and command.move_originator_ae_title is not None:
        rows.append(("Move Originator AE Title", command.move_originator_ae_title))
    if isinstance(command, CStoreRQ) and command.move_originator_message_id is not None:
        rows.append(("Move Originator ID", str(command.move_originator_message_id)))
    if isinstance(command, Response) and command.status is not None:
        rows.append(("DIMSE Status", f"0x{command.status:04x}: {_status(command.status)}"))
    lines = (f"{label:<30}: {value}" for label, value in rows)
    return "\n".join((_OUTGOING if outgoing else _INCOMING, *lines, _END_MESSAGE))


_NO_VALUE: Final = "(no value available)"


def _class(uid: str | None) -> str:
    return (uid_name(uid) or uid) if uid else "none"


def _counters(response: CMoveRSP) -> Iterable[tuple[str, str]]:
    for kind in ("Remaining", "Completed", "Failed", "Warning"):
        number = getattr(response, f"number_of_{kind.lower()}_suboperations")
        yield f"{kind} Suboperations", "none" if number is None else str(number)


def _status(status: int) -> str:
    return _STATUSES.get(status) or _BY_FIRST_DIGIT.get(status >> 12, "Unknown Status Code (non-standard)")


def status_detail(response: Response) -> str | None:
    """The elements that explain a status (PS3.7 Annex C); None if there are none."""
    rows: list[tuple[int, str, str, int, int, str]] = []
    if (tags := response.offending_element) is not None:
        value = "\\".join(f"({tag >> 16:04x},{tag & 0xFFFF:04x})" for tag in tags)
        rows.append((0x0901, "AT", value, 4 * len(tags), len(tags), "OffendingElement"))
    if (comment := response.error_comment) is not None:
        value = f"[{comment}]" if comment else ""
        rows.append((0x0902, "LO", value, len(comment) + len(comment) % 2, bool(comment), "ErrorComment"))
    if response.error_id is not None:
        rows.append((0x0903, "US", str(response.error_id), 2, 1, "ErrorID"))
    if not rows:
        return None
    lines = (
        f"(0000,{tag:04x}) {vr} {text or _NO_VALUE:<40} # {size:3}, {vm:d} {name}"
        for tag, vr, text, size, vm, name in rows
    )
    return "\n".join(("", "# Dicom-Data-Set", "# Used TransferSyntax: Little Endian Implicit", *lines, ""))
