"""The texts of movescu's log, in DCMTK's words.

What a text says in brackets is left out at DEBUG, where a dump of the message follows (`debugging`).
"""

from __future__ import annotations

from typing import Final

from fastmove.dimse.move import Evidence, Judgement
from fastmove.errors import AssociationRejected

# ---------------------------------------------------------------------- statuses (PS3.4 Table C.4-2)

_STATUSES: Final[dict[int, str]] = {
    0x0000: "Success",
    0x0122: "Refused: SOPClassNotSupported",
    0xA701: "Refused: OutOfResourcesNumberOfMatches",
    0xA702: "Refused: OutOfResourcesSubOperations",
    0xA801: "Refused: MoveDestinationUnknown",
    0xA900: "Error: DataSetDoesNotMatchSOPClass",
    0xB000: "Warning: SubOperationsCompleteOneOrMoreFailures",
    0xFE00: "Cancel: SubOperationsTerminatedDueToCancelIndication",
    0xFF00: "Pending",
}
PENDING: Final = 0xFF00
_SILENT: Final = (0x0000, 0xFE00, PENDING)
_WARNING: Final = 0xB000


def move_status(status: int) -> str:
    """What a status of a C-MOVE-RSP means."""
    if status & 0xF000 == 0xC000:
        return "Failed: UnableToProcess"
    return _STATUSES.get(status) or f"Unknown Status: {status:#x}"


def bad_status(status: int) -> str | None:
    """What to warn of at the end of a C-MOVE; None if there is nothing to warn of."""
    if status in _SILENT:
        return None
    kind = "warning" if status == _WARNING else "error"
    return f"Move response with {kind} status ({move_status(status)})"


# ---------------------------------------------------------------------- the outgoing association

REQUESTING_ASSOCIATION: Final = "Requesting Association"
REQUEST_FAILED: Final = "Association Request Failed:\n"  # + condition
NO_CONTEXT: Final = "No Acceptable Presentation Contexts"
RELEASING: Final = "Releasing Association"
ABORTING: Final = "Aborting Association"
PEER_ABORTED: Final = "Peer Aborted Association"
RELEASE_FAILED: Final = "Association Release Failed:\n"  # + condition
PEER_REQUESTED_RELEASE: Final = "Protocol Error: Peer requested release (Aborting)"
MOVE_REQUEST_FAILED: Final = "Move Request Failed: "  # + condition
MOVE_SCU_FAILED: Final = "Move SCU Failed: "  # + condition
REQUEST_PARAMETERS: Final = "Request Parameters:\n"  # + dump
PARAMETERS_NEGOTIATED: Final = "Association Parameters Negotiated:\n"  # + dump
REQUEST_IDENTIFIERS: Final = "Request Identifiers:\n"  # + dump
RESPONSE_IDENTIFIERS: Final = "Response Identifiers:\n"  # + dump
STATUS_DETAIL: Final = "Status Detail:\n"  # + dump
INSUFFICIENT_PRIVILEGES: Final = "cannot listen on port {}, insufficient privileges"
CANNOT_CREATE_NETWORK: Final = "cannot create network: "  # + condition
CANNOT_START_TLS: Final = "cannot start TLS: "
SEED_NOT_WRITTEN: Final = "cannot write random seed file '{}', ignoring: {}"
DIRECTORY_MISSING: Final = "specified output directory does not exist"
DIRECTORY_NOT_WRITABLE: Final = "specified output directory is not writeable"

ODD_PDV_LENGTH: Final = "ASSOC: PDV receive length {} is odd (using {})"

MAX_SEND_PDU: Final = 131072
"""Longer P-DATA-TF PDUs are not sent, whatever the peer may take."""
_HEADERS: Final = 12  # of PDU and PDV (PS3.8 9.3.5)


def max_send_pdv(max_pdu_length: int | None) -> str:
    """How long the data of a PDV may be, by what the peer announced (0: no limit)."""
    length = max_pdu_length or MAX_SEND_PDU
    return f"(Max Send PDV: {min(length, MAX_SEND_PDU) - _HEADERS})"


def association_accepted(max_pdu_length: int | None) -> str:
    """The peer accepted; its maximum length as announced."""
    return f"Association Accepted {max_send_pdv(max_pdu_length)}"


_RESULTS: Final = {1: "Rejected Permanent", 2: "Rejected Transient"}
_SOURCES: Final = {
    1: "Service User",
    2: "Service Provider (ACSE Related)",
    3: "Service Provider (Presentation Related)",
}
_NO_REASON: Final = "No Reason"
_REASONS: Final = {  # (source, reason)
    (1, 1): _NO_REASON,
    (1, 2): "App Context Name Not Supported",
    (1, 3): "Calling AE Title Not Recognized",
    (1, 7): "Called AE Title Not Recognized",
    (2, 1): _NO_REASON,
    (2, 2): "Protocol Version Not Supported",
    (3, 0): _NO_REASON,
    (3, 1): "Temporary Congestion",
    (3, 2): "Local Limit Exceeded",
}


def invalid_rejection(rejection: AssociationRejected) -> list[str]:
    """What of an A-ASSOCIATE-RJ has a value that PS3.8 Table 9-21 does not know, an error each."""
    reason = rejection.source << 8 | rejection.reason
    values = (
        ("result", rejection.result, rejection.result in _RESULTS),
        ("source", rejection.source, rejection.source in _SOURCES),
        ("reason", reason, (rejection.source, rejection.reason) in _REASONS),
    )
    return [
        f"Received invalid A-ASSOCIATE-RJ reject {field} 0x{value:04X}, using default."
        for field, value, known in values
        if not known
    ]


def association_rejected(rejection: AssociationRejected) -> str:
    """Result, source and reason of an A-ASSOCIATE-RJ."""
    result = _RESULTS.get(rejection.result, _RESULTS[1])
    source = _SOURCES.get(rejection.source, _SOURCES[1])
    reason = _REASONS.get((rejection.source, rejection.reason), _NO_REASON)
    return f"Association Rejected:\nResult: {result}, Source: {source}\nReason: {reason}"


# ---------------------------------------------------------------------- C-MOVE


def sending_move_request(message_id: int, *, debugging: bool) -> str:
    """A C-MOVE-RQ is going out."""
    return "Sending Move Request" if debugging else f"Sending Move Request (MsgID {message_id})"


def sending_cancel_request(message_id: int, context_id: int) -> str:
    """A C-CANCEL-RQ is going out."""
    return f"Sending Cancel Request (MsgID {message_id}, PresID {context_id})"


def why_no_success(judgement: Judgement, evidence: Evidence) -> str:
    """What is wrong with a move that DCMTK's movescu takes for a success; empty where that has been said already."""
    outcome = evidence.outcome
    if outcome is None or not judgement.reasons:
        return ""
    arrived, delivered = max(len(evidence.stored or ()), evidence.arrivals), evidence.delivered or 0
    return {
        "move.incomplete": f"{delivered - arrived} of {delivered} objects that the peer counts did not arrive",
        "move.counter_conflict": f"success was reported, with {outcome.failed or 0} failed sub-operations"
        f" and {outcome.remaining or 0} remaining",
        "move.rejected": f"{evidence.rejected} objects were refused",
        "move.policy": f"{evidence.policy_refusals} objects were refused for their SOP Instance UIDs",
        "move.storage_failed": f"{evidence.storage_failures} objects could not be written",
        "move.cancelled_by_peer": "the move was cancelled, but not from here",
    }.get(judgement.reasons[0], "")


def received_move_response(number: int, status: int, *, debugging: bool) -> str:
    """The n-th response of a C-MOVE, if it is pending, or the final one."""
    text = f"Received Move Response {number}" if status == PENDING else "Received Final Move Response"
    return text if debugging else f"{text} ({move_status(status)})"


def dimse_warning(calling_ae_title: str, called_ae_title: str, text: str) -> str:
    """Something of a message that is odd but does no harm."""
    return f"DIMSE Warning: ({calling_ae_title},{called_ae_title}): {text}"


PENDING_WITH_DATASET: Final = "moveUser: Status Pending, but DataSetType!=NULL"
PENDING_IGNORED: Final = "Assuming NO response identifiers are present"
PENDING_READ: Final = "Reading but ignoring response identifier set"
PENDING_WITH_DETAIL: Final = "moveUser: Pending with statusDetail, ignoring detail"

# ---------------------------------------------------------------------- storage associations and C-STORE

SUB_ASSOCIATION_RECEIVED: Final = "Sub-Association Received"
SUB_ASSOCIATION_PARAMETERS: Final = "Parameters:\n"  # + dump
NO_VALID_CONTEXT: Final = "    (but no valid presentation contexts)"
UNEXPECTED_COMMAND: Final = "Expected C-ECHO or C-STORE request but received DIMSE command "  # + command field
STORE_FAILED: Final = "Store SCP Failed: "  # + condition
SUB_ASSOCIATION_FAILED: Final = "DIMSE failure (aborting sub-association): "  # + condition
CANNOT_WRITE: Final = "cannot write DICOM file: "  # + path
OVERWRITING: Final = "DICOM file already exists, overwriting: "  # + path
BAD_DICOM_FILE: Final = "bad DICOM file: "  # + path; nothing where UIDs are missing


def sub_association_acknowledged(max_pdu_length: int | None) -> str:
    """We accepted; the maximum length that the sender announced."""
    return f"Sub-Association Acknowledged {max_send_pdv(max_pdu_length)}"


def received_store_request(message_id: int, modality: str, *, debugging: bool) -> str:
    """A C-STORE-RQ came; the modality is the prefix of the file's name, `OT` for unknown classes."""
    return "Received Store Request" if debugging else f"Received Store Request (MsgID {message_id}, {modality})"


def received_echo_request(message_id: int, *, debugging: bool) -> str:
    """A C-ECHO-RQ came."""
    return "Received Echo Request" if debugging else f"Received Echo Request (MsgID {message_id})"


# ---------------------------------------------------------------------- TLS

OWN_CERTIFICATE: Final = "peers will not accept our certificate: "  # + why


def tls_opened(version: str, cipher: str, fingerprint: str) -> str:
    """An incoming connection is encrypted; the fingerprint of a peer without a certificate is empty."""
    shown = f"SHA256:{fingerprint}" if fingerprint else "none"
    return f"TLS handshake completed: {version}, {cipher}, certificate of the peer: {shown}"


# ---------------------------------------------------------------------- --arguments


def calling(program: str, arguments: list[str]) -> str:
    """The command line, `arguments` with options in their long form; empty ones are counted and not shown."""
    shown = "".join(f"'{argument}' " for argument in arguments if argument)
    return f"calling '{program}' with {len(arguments)} arguments: {shown}\n"
