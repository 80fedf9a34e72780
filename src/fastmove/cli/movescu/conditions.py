"""What went wrong on the network, in DCMTK's words: `0006:0317 Peer aborted Association (or never connected)`.

Module and code in hexadecimal, then the text; causes are on lines of their own.
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from typing import Final

from fastmove.errors import (
    AssociationAborted,
    ConnectFailed,
    ConnectionLost,
    ListenFailed,
    NoAcceptedContext,
    ReleasedByPeer,
    TimedOut,
    TlsFailed,
)

PEER_ABORTED: Final = "0006:0317 Peer aborted Association (or never connected)"
PEER_RELEASED: Final = "0006:0319 DUL Peer Requested Release"
NO_VALID_CONTEXT: Final = "0006:0208 DIMSE No valid Presentation Context ID"
NO_DATA: Final = "0006:0207 DIMSE No data available (timeout in non-blocking mode)"
READ_TIMEOUT: Final = "0006:031a DUL network read timeout"
NOTHING_PROPOSED: Final = "0006:0110 No presentation context proposed"
TCP_INITIALIZATION: Final = "0006:031c TCP Initialization Error: "
TLS: Final = "0006:031e DUL secure transport layer: "
INAPPROPRIATE_DATA: Final = "0006:0202 DIMSE Inappropriate data for message"

_TIMERS: Final[dict[str, str]] = {
    "connect_s": TCP_INITIALIZATION + "Operation now in progress (Timeout)",
    "associate_s": READ_TIMEOUT,
    "release_s": READ_TIMEOUT,
}
"""All others are waits for a message: NO_DATA."""

_RECEIVE_FAILED: Final = "0006:020d DIMSE Failed to receive message"
_PDV_FAILED: Final = f"{_RECEIVE_FAILED}\n0006:020c DIMSE Read PDV failed"

BAD_COMMAND: Final = "0006:0201 DIMSE Bad command type"
NO_STATUS: Final = "0006:020b DIMSE: Command Parse Failed: Element: (0000,0900) Status"
_RESPONDED_TO: Final = "(0000,0120) MessageIDBeingRespondedTo"

# Log event → what DCMTK says of it between messages or in one, and the text itself; details are added to its end.
FAULTS: Final[dict[str, tuple[str, str]]] = {
    "pdu.unknown_type": (_PDV_FAILED, "0006:0321 Unrecognized PDU type: "),
    "pdu.unexpected": (_PDV_FAILED, "0006:0303 DUL Finite State Machine Error: "),
    "pdu.too_long": (_PDV_FAILED, "0006:0308 DUL Illegal PDU Length "),
    "pdu.short": (_PDV_FAILED, "0006:0308 PDV with invalid length encountered: "),
    "pdu.length": (_PDV_FAILED, "0006:0307 DUL Illegal or ill-formed PDU: "),
    "pdv.length": (_PDV_FAILED, "0006:0308 PDV with invalid length encountered: "),
    "pdv.overrun": (_PDV_FAILED, "0006:0307 PDV lengths don't add up correctly: "),
    "pdv.trailing": (_PDV_FAILED, "0006:0307 PDV lengths don't add up correctly: "),
    "pdv.empty_flood": (_PDV_FAILED, "0006:0307 DUL Illegal or ill-formed PDU: "),
    "pdv.context": (_RECEIVE_FAILED, "0006:0101 ASC Bad presentation context ID: "),
    "pdv.context_switch": (_RECEIVE_FAILED, "0006:0101 ASC Bad presentation context ID: "),
    "pdv.order": ("", "0006:020f DIMSE Unexpected PDV type: "),
    "ac.malformed": ("", "0006:0307 DUL Illegal or ill-formed PDU\n0006:0308 "),
    "dimse.malformed": ("0006:020d DIMSE: receiveCommand: cmdSet->read() Failed", "0001:0004 Invalid stream: "),
    "dimse.no_command": ("", "0006:020b DIMSE_parseCmdObject: Missing CommandField"),
    "dimse.no_msgid": ("", "0006:020b DIMSE: Command Parse Failed: "),
    "move.protocol": ("", "0006:0211 DIMSE: Unexpected Response "),
    "move.after_final": ("", "0006:0211 DIMSE: Unexpected Response "),
}

Wording = tuple[str, str | Callable[[re.Match[str]], str]]

_DETAILS: Final[dict[str, Wording]] = {
    "pdu.unknown_type": ("type=0x(..)", r"\1"),
    "pdu.too_long": (r"length=(\d+), at most (\d+)", r"\1.  Max expected \2"),
    "rq.version": ("version=0x", ""),
    "rq.short": (r"(\d+) bytes, at least (\d+) wanted", r"Got \1 bytes of data. The minimum allowed size is \2."),
    "ac.malformed": (
        r"(\d+) bytes, at least (\d+) wanted",
        r"DUL Illegal associate PDU. Got \1 bytes of data. The minimum allowed size is \2.",
    ),
    "dimse.no_msgid": (
        r"\w+(RQ|RSP)",
        lambda found: f"Element: {'(0000,0110) MessageID' if found[1] == 'RQ' else _RESPONDED_TO}",
    ),
    "pdv.context": (".*", ""),
    "pdv.overrun": (".*", ""),
    "move.protocol": (
        r"command field (0x\w+).*|response to message (\d+), not (\d+)",
        lambda found: f"Command Field: {found[1]}" if found[1] else f"MsgId: {found[2]} (expected: {found[3]})",
    ),
}
"""Log event → what its detail looks like here, and in DCMTK's words."""

CALLERS: Final[dict[str, str]] = {
    "assoc.aborted": NOTHING_PROPOSED,
    "assoc.artim": READ_TIMEOUT,
    "conn.closed_early": NOTHING_PROPOSED,
    "conn.reset": PEER_ABORTED,
    "rq.no_context": NOTHING_PROPOSED,
    "rq.version": "0006:0322 DUL Unsupported peer protocol {}; expected 0001 in parseAssociate",
    **dict.fromkeys(
        ("rq.short", "rq.items", "rq.item_overrun", "rq.item_short", "rq.maxlen_item", "rq.role_item", "rq.context_id"),
        "0006:0308 DUL Illegal associate PDU. {}",
    ),
    "pdu.too_long": "A-ASSOCIATE PDU too large: {} bytes, refusing.\n0006:0437 A-ASSOCIATE PDU too large",
    "pdu.unknown_type": "0006:0321 Unrecognized PDU type: {}",
    "pdu.unexpected": NOTHING_PROPOSED,
}
"""Log events on a connection to the listener before it is an association, and all that DCMTK says of them."""

MID_OBJECT: Final[dict[str, str]] = {
    "assoc.aborted": PEER_ABORTED,
    "assoc.release_mid_object": PEER_RELEASED,
    "conn.eof_mid_object": PEER_ABORTED,
    "conn.reset": PEER_ABORTED,
    "conn.stalled": NO_DATA,
    "conn.too_slow": NO_DATA,
}
"""How a sender ended a storage association in the middle of an object; DCMTK says only that the store failed."""

BETWEEN_OBJECTS: Final = frozenset(("assoc.aborted", "conn.reset"))
"""Of these those that may happen at any time; between objects nothing is said of them."""


IN_STORE: Final = frozenset(("pdv.context_switch", "pdv.order"))
"""Of FAULTS those that happen between a C-STORE-RQ and the end of its data set."""


def fault(event: str, detail: str = "", *, established: bool = True) -> str:
    """The condition of a log event of FAULTS: what a peer sent that it must not."""
    around, text = FAULTS.get(event, (_RECEIVE_FAILED, f"0006:0307 {event}: "))
    complete = (text + _worded(event, detail)).rstrip(": ")
    return f"{around}\n{complete}" if around and established else complete


def of_caller(event: str, detail: str = "") -> str:
    """The condition of a log event of CALLERS."""
    worded = re.sub(r"length=(\d+).*", r"\1", detail) if event == "pdu.too_long" else _worded(event, detail)
    return CALLERS[event].format(worded).rstrip(": ")


def _worded(event: str, detail: str) -> str:
    pattern, words = _DETAILS.get(event, ("", ""))
    detail = re.sub(r" ?at byte \d+$", "", detail)
    return re.sub(pattern, words, detail, count=1) if pattern else detail


def condition(error: Exception, *, established: bool) -> str:
    """The condition of what ended the outgoing association, or kept it from being established."""
    if isinstance(error, ReleasedByPeer):
        return PEER_RELEASED
    if isinstance(error, ConnectionLost) or (isinstance(error, AssociationAborted) and error.by_peer):
        return PEER_ABORTED
    if isinstance(error, TimedOut):
        return _TIMERS.get(error.timer, NO_DATA)
    if isinstance(error, NoAcceptedContext):
        return NO_VALID_CONTEXT
    if isinstance(error, ConnectFailed):
        return _connect(error)
    if isinstance(error, TlsFailed):
        return tls(error.key, error.detail)
    if isinstance(error, ListenFailed):
        return TCP_INITIALIZATION + _strerror(error.__cause__)
    text = error.why if isinstance(error, AssociationAborted) else str(error)
    event, _, detail = text.partition(": ")
    return fault(event, detail, established=established)


def tls(event: str, detail: str) -> str:
    """The condition of a connection on which TLS failed."""
    return f"{TLS}{detail} ({event})" if detail else TLS + event


def _connect(error: ConnectFailed) -> str:
    if isinstance(error.__cause__, socket.gaierror | UnicodeError):
        return f"0006:0320 Attempt to connect to unknown host: {error.host}"
    return TCP_INITIALIZATION + _strerror(error.__cause__)


def _strerror(cause: BaseException | None) -> str:
    """The system's own text: asyncio writes a text of its own into its errors."""
    number = getattr(cause, "errno", None)
    return os.strerror(number) if number else str(cause)
