"""What observers are told: facts in the past tense.

Each notice has a stable `event` name, the key of its log line and of its JSON object.  The file is as long as the list
of what there is to be told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class AssociationOpened(NamedTuple):
    """An association was established."""

    association: int
    host: str
    port: int
    calling_ae_title: str
    called_ae_title: str
    contexts: int
    max_pdu_length: int | None = None
    """What the peer takes; 0: any, None: it did not say."""
    event: str = "assoc.opened"


class AssociationClosed(NamedTuple):
    """An association ended: `how` is released, aborted, rejected or lost."""

    association: int
    how: str
    objects: int
    event: str = "assoc.closed"


class PeerMisbehaved(NamedTuple):
    """A peer did what it must not, or something odd; `event` is the key of the fault catalogue."""

    association: int
    host: str
    event: str
    detail: str = ""
    port: int = 0
    calling_ae_title: str = ""
    """Empty as long as it is not known."""


class HostStrained(NamedTuple):
    """Something of this host is short or odd: room, descriptors, time, a folder; `event` is a key of the catalogue."""

    event: str
    detail: str = ""


class TlsOpened(NamedTuple):
    """TLS stands, in this version, with this cipher suite; `fingerprint` is the SHA-256 of the peer's certificate."""

    association: int
    host: str
    version: str
    cipher: str
    fingerprint: str
    """Empty if the peer showed none."""
    event: str = "tls.opened"


class TlsReloaded(NamedTuple):
    """A listener has read its certificate, its key and whom it trusts anew, for connections to come."""

    certificate: str
    event: str = "tls.reloaded"


class EchoReceived(NamedTuple):
    """A C-ECHO-RQ came, and was answered."""

    association: int
    message_id: int
    event: str = "echo.received"


class InstanceStored(NamedTuple):
    """An object is in place under its final name (and on stable storage, if that was asked for)."""

    association: int
    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    nbytes: int
    path: str
    placing: str
    calling_ae_title: str
    move_originator_ae_title: str
    move_originator_message_id: int
    message_id: int = 0
    fragments: int = 0
    """P-DATA values that the data set came in."""

    study_instance_uid: str = ""
    """Where it had to be looked at."""
    event: str = "store.stored"


class InstanceRefused(NamedTuple):
    """An object was answered with a failure status."""

    association: int
    sop_class_uid: str
    sop_instance_uid: str
    status: int
    event: str
    detail: str = ""
    move_originator_ae_title: str = ""
    message_id: int = 0
    fragments: int = 0
    path: str = ""
    """Where it is all the same, or would have been."""

    move_originator_message_id: int = 0


class UnfinishedRemoved(NamedTuple):
    """So many unfinished files, which programs that were killed had left, were removed at the start."""

    files: int
    event: str = "recover.swept"


class ManifestFailed(NamedTuple):
    """The manifest lacks something: a file could not be read back for its digest, or a line not be written."""

    path: str
    detail: str
    event: str = "manifest.failed"


class MoveProgressed(NamedTuple):
    """A C-MOVE response came; counters are None where the peer sent none."""

    status: int
    remaining: int | None
    completed: int | None
    failed: int | None
    warning: int | None
    event: str = "move.progressed"


class CancelSent(NamedTuple):
    """C-CANCEL went out for a C-MOVE."""

    message_id: int
    context_id: int
    event: str = "move.cancel_sent"


class ParallelismChanged(NamedTuple):
    """So many moves may be under way at once from now on."""

    limit: int
    event: str = "retrieve.parallelism"


class QueryUnresolved(NamedTuple):
    """A query of the selection found nothing, or not all; `found` studies were found all the same."""

    keys: tuple[str, ...]
    reason: str
    found: int
    event: str = "select.unresolved"


class RoundStarted(NamedTuple):
    """What is missing of a study is asked for once more, after a pause of `delay_s`."""

    study_instance_uid: str
    round: int
    missing: int
    delay_s: float
    event: str = "move.retry"


class StudyRetrieved(NamedTuple):
    """A study, or what was wanted of it, has its verdict; numbers count instances, None where nobody knows."""

    study_instance_uid: str
    series_instance_uid: str
    verdict: str
    reasons: tuple[str, ...]
    listed: int | None
    stored: int | None
    present: int
    missing: dict[str, str]
    """SOP Instance UID → why it did not come."""

    rounds: int
    """How often something was asked for again."""

    status: int | None
    """Of the last C-MOVE, if it had a final response."""

    error_comment: str = ""
    error: str = ""
    event: str = "retrieve.study"


class InstanceSent(NamedTuple):
    """An object was sent and answered."""

    sop_instance_uid: str
    nbytes: int
    status: int
    path: str
    event: str = "send.sent"


class CommitmentReported(NamedTuple):
    """A PACS reported on a storage commitment that we asked for; the numbers count objects, `missing` those that it
    does not name."""

    transaction_uid: str
    committed: int
    failed: int
    missing: int
    event: str = "commit.reported"


class ListenerStarted(NamedTuple):
    """The listener accepts associations."""

    host: str
    port: int
    processes: int
    event: str = "listen.started"


class ListenerStopped(NamedTuple):
    """The listener is down; the numbers are of this process."""

    objects: int
    nbytes: int
    event: str = "listen.stopped"


class PacsStarted(NamedTuple):
    """The test PACS accepts associations; `skipped` counts files of its folder that are no DICOM objects."""

    ae_title: str
    host: str
    port: int
    patients: int
    studies: int
    series: int
    instances: int
    skipped: int
    move_destinations: tuple[str, ...]
    event: str = "pacs.ready"


class FileSkipped(NamedTuple):
    """A file did not get into the index of the test PACS."""

    path: str
    detail: str
    event: str = "pacs.skipped"


class FaultCommitted(NamedTuple):
    """The test PACS misbehaved, as `--fault` asked for; `detail` is the object, or the status, or what it was about."""

    fault: str
    detail: str = ""
    event: str = "pacs.fault"


class QueryAnswered(NamedTuple):
    """A C-FIND got its final response."""

    association: int
    level: str
    status: int
    matches: int
    event: str = "find.answered"


class MoveRequested(NamedTuple):
    """A C-MOVE is about to be carried out, over so many instances; it ends with its answer, or the association."""

    association: int
    move_destination: str
    level: str
    study_instance_uid: str
    instances: int
    event: str = "move.requested"


class MoveAnswered(NamedTuple):
    """A C-MOVE got its final response; the numbers count sub-operations."""

    association: int
    move_destination: str
    status: int
    remaining: int
    completed: int
    failed: int
    warning: int
    event: str = "move.answered"


class CommitmentAnswered(NamedTuple):
    """The test PACS reported on a storage commitment that it was asked for, and got this status; numbers count
    objects."""

    association: int
    transaction_uid: str
    status: int
    committed: int
    failed: int
    event: str = "commit.answered"


class StudyMigrated(NamedTuple):
    """An attempt at a study of a migration is over: it is complete, waits to be tried again, or is parked."""

    study_instance_uid: str
    state: str
    verdict: str
    reason_class: str
    reason: str
    stored: int
    """Instances that are recorded of it."""

    attempts: int
    event: str = "migrate.study"


class MigrationNoted(NamedTuple):
    """Something happened to a migration that whoever runs it should know: a sentence, and the study if it is of one."""

    event: str
    text: str
    study_instance_uid: str = ""


class SignalReceived(NamedTuple):
    """A signal came, and was heeded."""

    signal: str
    event: str = "signal.received"


class ErrorOccurred(NamedTuple):
    """An error of this program, caught before it did more harm: its class, and where in the code it was raised."""

    event: str
    error: str
    where: str


Notice = (
    AssociationOpened
    | AssociationClosed
    | PeerMisbehaved
    | HostStrained
    | InstanceStored
    | InstanceRefused
    | ManifestFailed
    | UnfinishedRemoved
    | TlsOpened
    | TlsReloaded
    | EchoReceived
    | MoveProgressed
    | CancelSent
    | ParallelismChanged
    | QueryUnresolved
    | RoundStarted
    | StudyRetrieved
    | InstanceSent
    | CommitmentReported
    | ListenerStarted
    | ListenerStopped
    | PacsStarted
    | FileSkipped
    | FaultCommitted
    | QueryAnswered
    | MoveRequested
    | MoveAnswered
    | CommitmentAnswered
    | StudyMigrated
    | MigrationNoted
    | SignalReceived
    | ErrorOccurred
)
Observer = Callable[[Notice], None]


INFORMATION = frozenset(
    (
        "assoc.aborted",
        "assoc.rejected",
        "assoc.release_collision",
        "assoc.sta13_drop",
        "assoc.timeout",
        "audit.restored",
        "commit.duplicate",
        "conn.closed_early",
        "conn.failed",
        "conn.lost",
        "dimse.cancel_ignored",
        "dimse.group_length",
        "dimse.pipelined",
        "dimse.priority",
        "fs.fallback",
        "listen.failed",
        "migrate.draining",
        "migrate.recovered",
        "migrate.stopping",
        "migrate.window",
        "move.counter_wrap",
        "pdv.mch",
        "rq.early_data",
        "rq.sop_unknown",
        "rq.ts",
        "rq.unknown_item",
        "store.uid_pad",
        "tls.closed",
    )
)
"""What peers do every day, and what ends a command that says so itself: worth a record, not a warning."""

ERRORS = frozenset(
    (
        "audit.failed",
        "fs.close",
        "fs.dirsync",
        "fs.fsync",
        "fs.occupied",
        "fs.open",
        "fs.rename",
        "fs.symlink",
        "fs.write",
        "internal",
        "listen.accept_failed",
        "manifest.failed",
        "mem",
        "store.class_mismatch",
        "store.empty",
        "store.rule_dataset",
        "store.rule_unmapped",
        "store.rule_value",
        "store.truncated",
        "store.uid_chars",
        "store.uid_empty",
        "store.uid_length",
        "store.uid_mismatch",
        "store.unwritable",
    )
)
"""What costs an object, or worse."""


def level(event: str) -> str:
    """`I`, `W` or `E`: the level of something that happened, by the name of the event."""
    return "I" if event in INFORMATION else "E" if event in ERRORS else "W"


def as_dict(notice: Notice) -> dict[str, Any]:
    """The notice as a JSON-ready dict, `event` first."""
    fields = notice._asdict()
    return {"event": fields.pop("event"), **fields}
