"""Every bound, with its unit, its default and the reason for it.

Lengths of PDUs are PS3.8 PDU-length values: the 6 bytes of the header are not counted.
"""

from __future__ import annotations

from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.values import Value

PDU_HEADER_BYTES: Final = 6
"""PDU type, reserved byte, 4-byte length (PS3.8 9.3.1)."""

PDV_HEADER_BYTES: Final = 6
"""4-byte item length, presentation context ID, message control header (PS3.8 9.3.5.1, E.2)."""

MIN_PDU_LENGTH: Final = 13
"""The least maximum length that we can send into: a PDV header and some bytes of data."""

MAX_PDU_LENGTH: Final = 16 << 20
"""The longest P-DATA-TF PDU accepted even if we announced 'no limit' (dcm4che's cap)."""

MAX_PRESENTATION_CONTEXTS: Final = 128
"""Odd IDs 1..255 (PS3.8 9.3.2.2)."""

AE_TITLE_BYTES: Final = 16
"""Length of an AE title field (PS3.8 9.3.2)."""

UID_BYTES: Final = 64
"""Longest UID (PS3.5 9.1)."""

ERROR_COMMENT_CHARS: Final = 64
"""Longest Error Comment, VR LO (PS3.7 C)."""

MAX_CONTROL_PDU_LENGTH: Final = 1 << 20
"""Default of `max_control_pdu_length`: DCMTK's cap."""

MAX_COMMAND_BYTES: Final = 64 << 10
"""Default of `max_command_bytes`: real ones are below 1 KiB."""

MAX_IDENTIFIER_BYTES: Final = 16 << 20
"""Longest identifier after it is inflated: 65,535 UIDs of 66 bytes are 4.3 MB."""

MAX_REFERENCE_BYTES: Final = 1024
"""What a report on a storage commitment may take for each object that was asked for: real ones need 150."""

MAX_EMPTY_PDVS: Final = 1000
"""Default of `max_empty_pdvs`."""

MESSAGES_AT_ONCE: Final = 64
"""Requests of one association that are answered in a row, before the others have their turn: a few milliseconds."""

DISK_THREADS: Final = 16
"""Objects that may wait for the disk at once; each association has at most one."""

DISK_STOP_S: Final = 30.0
"""How long the end waits for calls that a disk does not answer."""

GROUP_OBJECTS: Final = 64
"""Objects whose names become durable by one sync of their folder, at most: more would wait too long for the first."""

MAX_ITEMS: Final = 1024
"""Default of `max_items` and `max_user_items`: more is no negotiation but an attack."""

MAX_SEQUENCE_DEPTH: Final = 128
"""Sequences within sequences, when a data set is written anew: real ones have thirty at most, and each may cost a walk
through all that is in it, if elements are out of order."""

MAX_INDEXED_ELEMENTS: Final = 131072
"""Elements of open items that are not in ascending order, when a data set is written anew: 3 MiB of places."""

MAX_PRIVATE_CREATOR_BYTES: Final = 256
"""Longest private creator that is looked up: 64 characters, of four bytes at most (PS3.5 6.2, VR LO)."""

MIN_FIND_CAP: Final = 10
"""Least number of matches at which a PACS may cut an answer off, if nobody knows: real ones give hundreds."""

SWEEP_QUERIES: Final = 10_000
"""C-FINDs of one query that is asked in parts, and some more for each match: then the PACS does not go by them."""

SWEEP_QUERIES_PER_MATCH: Final = 10
"""C-FINDs more for each match that is found."""

SWEEP_FAILURES: Final = 50
"""C-FINDs in a row that fail before the query is given up: 34 lead from a century to a second."""

LOOKED_AT_BYTES: Final = 64 << 10
"""Of a data set that comes, inflated: what it says of itself is mostly in the first kilobyte."""

LOOKED_AT_DEPTH: Final = 64
"""Sequences within sequences, beyond which that is told (DCMTK's limit since 2026)."""

MAX_WORKLIST_BYTES: Final = 1 << 30
"""Longest worklist: ten million rows; it is kept in memory while it is worked off."""

RESERVE_BYTES: Final = 1 << 30
"""Room that is left on the disk, unless told otherwise: what is under way must still find some..."""

RESERVE_SHARE: Final = 0.02
"""... but not more than this part of the file system: a small scratch disk is to be used, too."""

RESERVE_LOOK_S: Final = 1.0
"""How often it is looked how much room there is: at 1 GB/s a reserve of 1 GiB is just enough."""

MAX_KEYS_FILE_BYTES: Final = 1 << 20
"""Longest file of query keys: all attributes there are take a tenth of it."""

MAX_LOG_FIELD_CHARS: Final = 64
"""What a peer wrote is cut to so many characters in a line of the log, after it is escaped."""

MAX_LOG_LINE_BYTES: Final = 2048
"""Longest line of the log: less than PIPE_BUF, so that a pipe takes it whole or not at all."""

LOG_QUEUE_LINES: Final = 4096
"""Lines that wait for a slow place; with more, lines are dropped and counted. A megabyte at most, mostly."""

LOG_BURST: Final = 10
"""Lines of one event and one peer within `LOG_SUMMARY_S`; of more only their number is told."""

LOG_SUMMARY_S: Final = 10.0
"""How often that number is told, in seconds."""

MAX_LOG_WINDOWS: Final = 4096
"""Pairs of event and peer that are counted apart; with more, the peers of an event are counted together."""

LOG_RETRY_S: Final = 1.0
"""A log file that cannot be written is tried again after so many seconds, and is looked for under its name as often."""

LOG_CLOSE_S: Final = 1.0
"""At the end: time for the last lines, in seconds."""

MAX_AUDIT_STUDIES: Final = 64
"""Studies of one association that wait for its end before they are audited; with more, all are audited at once."""

MAX_AUDITED_REFUSALS: Final = 100
"""Objects that are named in the audit message of those refused; it still is below 32,768 bytes (PS3.15 A.6)."""

MAX_SPOOL_BYTES: Final = 256 << 20
"""Audit messages that wait on the disk: some 100,000."""

AUDIT_BACKLOG: Final = 1024
"""Objects that may wait to be audited before what comes has to wait, too."""

AUDIT_SINK_S: Final = 5.0
"""How long to wait for the collector of audit messages, in seconds, before they are spooled."""

AUDIT_CLOSE_S: Final = 2 * AUDIT_SINK_S
"""At the end: time for the last audit messages, or to spool them."""

MIN_LOG_KEY_BYTES: Final = 16
"""Shortest key for the hashes of UIDs."""


class Limits(Value):
    """The bounds that a user may set; times in seconds, sizes in bytes."""

    max_pdu_length: int = 131072
    """Announced to peers: longer PDUs no longer pay (measured), and every peer copes with it."""

    max_control_pdu_length: int = MAX_CONTROL_PDU_LENGTH
    """Longest PDU other than P-DATA-TF, such as A-ASSOCIATE-RQ, in bytes; a longer one is refused at its header."""

    max_items: int = MAX_ITEMS
    """Items of an A-ASSOCIATE PDU; of these 128 may be presentation contexts, as their IDs are odd (PS3.8 9.3.2.2)."""

    max_user_items: int = MAX_ITEMS
    """Sub-items of its user information: a role for each SOP class is usual, and two of each are possible."""

    max_command_bytes: int = MAX_COMMAND_BYTES
    """Longest command set."""

    max_identifier_bytes: int = MAX_IDENTIFIER_BYTES
    """Longest identifier: of a query, or the failed UIDs of a C-MOVE."""

    max_empty_pdvs: int = MAX_EMPTY_PDVS
    """PDVs without data in a row before the peer is taken for a flooder."""

    window_bytes: int = 1 << 20
    """Receive window of an association: a CT image in one read and one write where the sender is fast."""

    small_window_bytes: int = 256 << 10
    """The same while more than `large_windows` associations are open: what the kernel hands over at once by itself."""

    large_windows: int = 32
    """Associations with a large window; bounds the memory of many (0.5 MiB each, on average)."""

    connect_s: float = 30.0
    """TCP connection of an outgoing association."""

    tls_s: float = 10.0
    """The handshake of TLS, from the TCP connection on."""

    associate_s: float = 30.0
    """From A-ASSOCIATE-RQ to its answer."""

    artim_s: float = 30.0
    """ARTIM (PS3.8 9.1.5): connection without A-ASSOCIATE-RQ, and our A-ABORT, RJ or RP until close."""

    release_s: float = 30.0
    """From A-RELEASE-RQ to A-RELEASE-RP."""

    idle_s: float = 600.0
    """Established association without a byte, no message under way."""

    message_s: float = 60.0
    """Message or PDU under way without a byte; and what we send, without a byte of it being taken."""

    min_rate: int = 1024
    """Bytes a second that have to come while a message or PDU is under way, on average over `rate_s`; 0: none."""

    rate_s: float = 60.0
    """How long less than `min_rate` is borne."""

    response_s: float = 300.0
    """A DIMSE response; any Pending response or stored byte starts it anew."""

    progress_s: float = 900.0
    """A move without progress in its counters and without a stored byte."""

    drain_s: float = 30.0
    """Objects still arriving after the final C-MOVE response."""

    uncounted_s: float = 2.0
    """The same where neither list nor counters say what is to come: from the end of the last storage association."""

    retry_s: float = 1.0
    """Before what brought nothing is asked for once more; each further time twice as long."""

    away_s: float = 300.0
    """A PACS that was there and takes no association any more, before it is given up."""

    max_back_off_s: float = 60.0
    """The longest of these pauses."""

    commit_s: float = 300.0
    """The report on a storage commitment, from the response to its request on."""

    commit_instances: int = 1000
    """Objects of one request for storage commitment; more go into several requests."""

    stop_s: float = 10.0
    """SIGTERM: time for objects in flight."""

    big_folder_files: int = 100_000
    """Files in one folder that are worth a word: they can be stored, and nobody can look through them."""

    folder_look_s: float = 10.0
    """How often it is looked whether the folder of the objects is still at its path; 0: never."""

    max_associations: int = 200
    """Incoming associations at once; one more is answered A-ASSOCIATE-RJ (2,3,2)."""

    max_associations_per_host: int = 64
    """The same for one host."""

    max_pending: int = 512
    """Connections without an association at once; with one more the oldest is closed, of the host that has most."""

    max_pending_per_host: int = 256
    """The same for one host."""

    pending_bytes: int = 16 << 20
    """Memory of all these together; beyond it that one is closed which has sent most."""

    user_timeout_s: float = 60.0
    """TCP_USER_TIMEOUT: what we have sent, without an acknowledgement; 0: as long as the kernel likes."""

    keepalive_s: int = 60
    """TCP_KEEPIDLE: silence before the kernel asks whether the other host is still there..."""

    keepalive_interval_s: int = 15
    """... TCP_KEEPINTVL: and how long it waits for each answer..."""

    keepalive_probes: int = 4
    """... TCP_KEEPCNT: and how often it asks."""

    lag_s: float = 1.0
    """Our own loop not having run for so long is worth a line in the log."""

    slow_disk_s: float = 1.0
    """A call of the disk that takes so long is worth a line in the log, and a stuck one every ten seconds."""

    max_object_bytes: int = 0
    """Longest data set that is stored; 0: any."""

    def back_off_s(self, attempts: int) -> float:
        """How long to pause after so many attempts in a row that brought nothing, beside the first."""
        return float(min(self.retry_s * 2**attempts, self.max_back_off_s))


_MOST_S: Final = 7 * 86_400.0
"""No wait is without an end: a week is longer than anybody waits for a PDU."""

_TIME: Final = (0.001, _MOST_S)
_PAUSE: Final = (0.0, _MOST_S)
_COUNT: Final = (1, 1 << 20)

RANGES: Final[dict[str, tuple[float, float]]] = {
    "max_pdu_length": (4096, MAX_PDU_LENGTH),
    "max_control_pdu_length": (4096, 1 << 30),
    "max_items": (130, 1 << 16),
    "max_user_items": (1, 1 << 16),
    "max_command_bytes": (1024, 1 << 30),
    "max_identifier_bytes": (1024, 1 << 30),
    "max_empty_pdvs": (0, 1 << 30),
    "window_bytes": (16 << 10, 64 << 20),
    "small_window_bytes": (16 << 10, 64 << 20),
    "large_windows": (0, 1 << 20),
    "connect_s": _TIME,
    "tls_s": _TIME,
    "associate_s": _TIME,
    "artim_s": _TIME,
    "release_s": _TIME,
    "idle_s": _TIME,
    "message_s": _TIME,
    "min_rate": (0, 1 << 30),
    "rate_s": _TIME,
    "response_s": _TIME,
    "progress_s": _TIME,
    "drain_s": _PAUSE,
    "uncounted_s": _PAUSE,
    "retry_s": _PAUSE,
    "away_s": _PAUSE,
    "max_back_off_s": _PAUSE,
    "commit_s": _TIME,
    "commit_instances": (1, 65535),
    "stop_s": _PAUSE,
    "big_folder_files": (1, 1 << 30),
    "folder_look_s": _PAUSE,
    "max_associations": _COUNT,
    "max_associations_per_host": _COUNT,
    "max_pending": _COUNT,
    "max_pending_per_host": _COUNT,
    "pending_bytes": (1 << 20, 1 << 40),
    "user_timeout_s": _PAUSE,
    "keepalive_s": (1, 32767),
    "keepalive_interval_s": (1, 32767),
    "keepalive_probes": (1, 127),
    "lag_s": _TIME,
    "slow_disk_s": _TIME,
    "max_object_bytes": (0, 1 << 60),
}
"""Least and most of each; those of the keepalive are the kernel's (tcp(7))."""


def is_whole(name: str) -> bool:
    """True for a limit that is a whole number: bytes, or how many; else it is seconds."""
    return str(Limits.__annotations__[name]) == "int"


def in_words(name: str) -> str:
    """What the value of a limit has to be."""
    least, most = RANGES[name]
    return f"{'a whole number' if is_whole(name) else 'a number of seconds'} from {least:,} to {most:,}"


def check(name: str, value: float) -> None:
    """ConfigurationError if the value of a limit is not what it has to be."""
    least, most = RANGES[name]
    right_kind = isinstance(value, int if is_whole(name) else int | float) and not isinstance(value, bool)
    if not right_kind or not least <= value <= most:
        raise ConfigurationError(name, f"must be {in_words(name)}, not {value}")
