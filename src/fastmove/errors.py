"""The exception tree, and what each failure puts on the wire.

    FastmoveError
    ├── ConfigurationError(ValueError)    a bad option or plan; names the field
    │   ├── DirectoryUnusable             a directory that objects cannot be stored in
    │   │   └── DirectoryLocked           somebody else stores there
    │   └── TlsUnusable                   a certificate, key or list that TLS cannot be started with
    ├── ListenFailed                      the port could not be had
    ├── AssociationError
    │   ├── ConnectFailed                 the TCP connection could not be made
    │   ├── TlsFailed                     no TLS with the peer, or it broke
    │   ├── AssociationRejected           A-ASSOCIATE-RJ: result, source, reason
    │   ├── AssociationAborted            A-ABORT: source, reason, by whom
    │   ├── ConnectionLost                the transport ended without A-ABORT or release
    │   │   └── ReleasedByPeer            the peer released it, with our request open
    │   ├── NoAcceptedContext             the peer accepted no context for an abstract syntax
    │   └── TimedOut                      which timer, after how many seconds
    ├── ProtocolError
    │   ├── LocalProtocolError            we tried something that is illegal now
    │   └── RemoteProtocolError           the peer did; carries the A-ABORT to send
    ├── DatasetError                      a file or data set that cannot be read
    │   └── UnwritableDataset             or not be written as was asked for
    ├── StorageNotReady                   nothing can be stored for now: the disk is full, or nearly
    ├── QueryIncomplete                   a PACS that has more than it can be made to list
    ├── LedgerError                       a ledger that cannot be opened, read or written
    ├── CommitmentOverdue                 no report on a storage commitment came in time
    └── DimseError                        a status that becomes a response
        └── StorageError                  a C-STORE failure, by cause
    InternalError(Exception)              our own bug: not caught by `except FastmoveError`

A peer that misbehaves and a disk that fills up are *events* of the receive path, not
exceptions; these classes are what callers of the API meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

SHOWN_GAPS: Final = 5
"""Of a list that is not complete, in one message."""

# A-ABORT source (PS3.8 Table 9-26).
SERVICE_USER: Final = 0
SERVICE_PROVIDER: Final = 2

# A-ABORT reason, service-provider source only (PS3.8 Table 9-26).
REASON_NOT_SPECIFIED: Final = 0
UNRECOGNIZED_PDU: Final = 1
UNEXPECTED_PDU: Final = 2
UNRECOGNIZED_PDU_PARAMETER: Final = 4
UNEXPECTED_PDU_PARAMETER: Final = 5
INVALID_PDU_PARAMETER: Final = 6

# What is wrong with a received byte stream → provider reason of the A-ABORT that answers
# it in an established association.  The keys are log events, and stable.
ABORT_REASON: Final[dict[str, int]] = {
    "pdu.unknown_type": UNRECOGNIZED_PDU,
    "pdu.unexpected": UNEXPECTED_PDU,
    "pdu.too_long": INVALID_PDU_PARAMETER,
    "pdu.short": INVALID_PDU_PARAMETER,
    "pdu.length": INVALID_PDU_PARAMETER,
    "pdv.length": INVALID_PDU_PARAMETER,
    "pdv.overrun": INVALID_PDU_PARAMETER,
    "pdv.trailing": INVALID_PDU_PARAMETER,
    "pdv.empty_flood": INVALID_PDU_PARAMETER,
    "pdv.context": UNEXPECTED_PDU_PARAMETER,
    "pdv.order": UNEXPECTED_PDU_PARAMETER,
    "pdv.context_switch": UNEXPECTED_PDU_PARAMETER,
    "ac.malformed": INVALID_PDU_PARAMETER,
}


class FastmoveError(Exception):
    """Everything that a caller may expect to go wrong."""


class ConfigurationError(FastmoveError, ValueError):
    """A bad option or plan; `field` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


class ListenFailed(FastmoveError):
    """The address cannot be listened on; `__cause__` is the OSError."""

    def __init__(self, host: str, port: int, cause: OSError | UnicodeError) -> None:
        super().__init__(f"cannot listen on {host or '*'}:{port}: {getattr(cause, 'strerror', None) or cause}")
        self.host = host
        self.port = port
        self.__cause__ = cause


class DirectoryUnusable(ConfigurationError):
    """A directory that objects cannot be stored in; `key` is the log event, if it has one."""

    def __init__(self, message: str, key: str = "") -> None:
        super().__init__("directory", f"{message} ({key})" if key else message)
        self.key = key


class DirectoryLocked(DirectoryUnusable):
    """A directory that another program stores into."""

    def __init__(self, directory: str, holder: str) -> None:
        super().__init__(f"{directory} is in use by {holder}: one program at a time stores there", "fs.locked")
        self.holder = holder


class TlsUnusable(ConfigurationError):
    """A certificate, key or list that TLS cannot be started with; `field` is the log event."""


class AssociationError(FastmoveError):
    """The association could not be made, or did not last."""


class ConnectFailed(AssociationError):
    """No TCP connection to the peer; `__cause__` is the OSError."""

    def __init__(self, host: str, port: int, cause: OSError | UnicodeError) -> None:
        super().__init__(f"cannot connect to {host}:{port}: {getattr(cause, 'strerror', None) or cause}")
        self.host = host
        self.port = port
        self.__cause__ = cause


class TlsFailed(AssociationError):
    """There is no TLS with the peer, or it broke; `key` is the log event, `detail` what it says of it."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(f"no TLS with the peer: {detail} ({key})")
        self.key = key
        self.detail = detail


REJECT_RESULT: Final = {1: "rejected permanently", 2: "rejected for now"}
REJECT_REASON: Final[dict[tuple[int, int], str]] = {  # (source, reason), PS3.8 Table 9-21
    (1, 1): "no reason given",
    (1, 2): "application context name not supported",
    (1, 3): "calling AE title not recognized",
    (1, 7): "called AE title not recognized",
    (2, 1): "no reason given by the provider",
    (2, 2): "protocol version not supported",
    (3, 1): "temporary congestion",
    (3, 2): "local limit exceeded",
}


class AssociationRejected(AssociationError):
    """The peer answered A-ASSOCIATE-RJ (PS3.8 9.3.4)."""

    def __init__(self, result: int, source: int, reason: int) -> None:
        what = REJECT_RESULT.get(result, f"result {result}")
        why = REJECT_REASON.get((source, reason), f"undefined reason {source}/{reason}")
        super().__init__(f"association {what}: {why}")
        self.result = result
        self.source = source
        self.reason = reason

    @property
    def values(self) -> str:
        """As the PDU has them, with what they mean."""
        why = str(self).partition(": ")[2]
        return f"result {self.result}, source {self.source}, reason {self.reason}: {why}"

    @property
    def transient(self) -> bool:
        """True if trying again later makes sense (result 2)."""
        return self.result == 2


class AssociationAborted(AssociationError):
    """The association ended by A-ABORT (PS3.8 9.3.8)."""

    def __init__(self, source: int, reason: int, *, by_peer: bool, why: str = "") -> None:
        who = "the peer" if by_peer else "us"
        super().__init__(
            f"association aborted by {who} (source {source}, reason {reason})" + (f": {why}" if why else "")
        )
        self.source = source
        self.reason = reason
        self.by_peer = by_peer
        self.why = why


class ConnectionLost(AssociationError):
    """The TCP connection ended without a release or an abort."""


class ReleasedByPeer(ConnectionLost):
    """The peer released the association while we still wanted something of it."""


class NoAcceptedContext(AssociationError):
    """The peer accepted no presentation context for an abstract syntax."""

    def __init__(self, abstract_syntax: str) -> None:
        super().__init__(f"the peer accepted no presentation context for {abstract_syntax}")
        self.abstract_syntax = abstract_syntax


class TimedOut(AssociationError):
    """A timer ran out; `timer` is its name in `limits.py`."""

    def __init__(self, timer: str, seconds: float) -> None:
        super().__init__(f"no answer within {seconds:g} s ({timer})")
        self.timer = timer
        self.seconds = seconds


class ProtocolError(FastmoveError):
    """A rule of PS3.7 or PS3.8 was broken."""


class LocalProtocolError(ProtocolError):
    """We tried something that is illegal in this state."""


class RemoteProtocolError(ProtocolError):
    """The peer broke a rule; `key` is the log event, `source`/`reason` the A-ABORT to send."""

    def __init__(self, key: str, detail: str = "", *, source: int | None = None, offset: int = -1) -> None:
        super().__init__(f"{key}: {detail}" if detail else key)
        self.key = key
        self.detail = detail
        self.offset = offset
        self.source = source if source is not None else SERVICE_PROVIDER if key in ABORT_REASON else SERVICE_USER
        self.reason = ABORT_REASON.get(key, 0) if self.source == SERVICE_PROVIDER else 0


class DimseError(FastmoveError):
    """A failure that becomes a response: a status, and a comment of at most 64 characters (PS3.7 C)."""

    def __init__(self, status: int, error_comment: str = "", offending_elements: tuple[int, ...] = ()) -> None:
        super().__init__(f"status {status:04X}" + (f": {error_comment}" if error_comment else ""))
        self.status = status
        self.error_comment = error_comment[:64]
        self.offending_elements = offending_elements


class StorageError(DimseError):
    """An object that could not be stored; `key` is the log event."""

    def __init__(self, key: str, status: int, error_comment: str = "", errno: int = 0) -> None:
        super().__init__(status, error_comment)
        self.key = key
        self.errno = errno


class DatasetError(FastmoveError):
    """A file or data set that is not what it should be: where, by the sequences it is in and by its offset in bytes."""

    def __init__(self, message: str, path: str = "", offset: int = -1) -> None:
        place = f" at byte {offset}" if offset >= 0 else ""
        super().__init__(message + place + (f", in {path}" if path else ""))
        self.path = path
        self.offset = offset


class UnwritableDataset(DatasetError):
    """A data set that can be read, and not be written in the transfer syntax that was asked for."""


class StorageNotReady(FastmoveError):
    """Objects are not to be stored for now, as the disk is nearly full (`key` is the log event), or full (no key)."""

    def __init__(self, key: str, detail: str) -> None:
        super().__init__(detail)
        self.key = key


class QueryIncomplete(FastmoveError):
    """A PACS has more than it can be made to list; `gaps` says of what."""

    def __init__(self, gaps: Sequence[str]) -> None:
        more = f"; and {len(gaps) - SHOWN_GAPS:,} more" if len(gaps) > SHOWN_GAPS else ""
        super().__init__("the list is not complete: " + "; ".join(gaps[:SHOWN_GAPS]) + more)
        self.gaps = tuple(gaps)


class CommitmentOverdue(FastmoveError):
    """A PACS took a request for storage commitment, and did not report on it in time."""

    def __init__(self, transaction_uid: str, instances: int, seconds: float) -> None:
        super().__init__(f"no report on a storage commitment of {instances:,} objects within {seconds:g} s (commit_s)")
        self.transaction_uid = transaction_uid
        self.instances = instances
        self.seconds = seconds


class LedgerError(FastmoveError):
    """What a ledger was to do could not be done; `cause` says why."""

    def __init__(self, operation: str, cause: str | BaseException) -> None:
        super().__init__(f"ledger: {operation}: {str(cause).strip()}")
        self.operation = operation
        self.cause = cause


class InternalError(Exception):
    """Our own bug."""
