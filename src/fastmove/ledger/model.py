"""What the ledger keeps, as values: batches, the studies in them, their instances, what was tried and what came of it.

Times are seconds since 1970, in UTC; the ledger has no clock of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from fastmove.values import Value


class JobState(StrEnum):
    """Where a study is on its way."""

    READY = "ready"
    WAITING = "waiting"
    """To be tried again, at a time."""

    MOVING = "moving"
    """Claimed by an owner, for as long as its lease lasts."""

    COMPLETE = "complete"
    PARKED = "parked"
    """Not tried any more, for a reason."""


class Wish(StrEnum):
    """What an operator wants of a batch."""

    RUN = "run"
    PAUSE = "pause"
    DRAIN = "drain"
    STOP = "stop"


class Batch(Value):
    """Studies that are migrated from one peer by the same settings; `source` is the peer, as text."""

    id: int
    name: str
    source: str
    settings: Mapping[str, Any]
    wish: Wish
    created_at: float


class StudyJob(Value):
    """A study to migrate, as the PACS lists it; `study_date` is YYYYMMDD, `instances` the number that the PACS counts.

    A higher `priority` comes first, and within one the lower `rank`.
    """

    study_instance_uid: str
    patient_id: str = ""
    study_date: str = ""
    modalities: str = ""
    instances: int | None = None
    priority: int = 0
    rank: int = 0


class Claimed(Value):
    """A study that is the caller's; `fence` is what proves it, `attempts` counts those before this one.

    `reason_class` is that of the last one, if it failed.
    """

    id: int
    fence: int
    job: StudyJob
    attempts: int
    stored: int
    reason_class: str = ""


class Instance(Value):
    """A stored object; `digest` is the SHA-256 of its file (empty: unknown), `place` relative to the destination."""

    job_id: int
    fence: int
    sop_instance_uid: str
    series_instance_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    nbytes: int
    digest: bytes
    place: str


class Outcome(Value):
    """What an attempt came to; `status` is that of the final C-MOVE-RSP, `due_at` when a WAITING study is due again."""

    state: JobState
    verdict: str
    reason_class: str = ""
    reason: str = ""
    status: int | None = None
    listed: int | None = None
    missing: int = 0
    seconds: float = 0.0
    due_at: float | None = None
    attempts: int | None = None
    """To be counted from now on; None: all of them, this one included."""

    proof: str = ""
    """What proves that the destination has all of a COMPLETE study, by its name; empty if nothing is known of it."""


class Added(Value):
    """Studies given to `add`: new ones, known ones, and those of the known that have more instances than before."""

    new: int
    known: int
    grown: int


class Job(Value):
    """A study with all that is known of it; verdict to seconds are those of its last outcome."""

    id: int
    batch_id: int
    job: StudyJob
    state: JobState
    attempts: int
    fence: int
    owner: str
    lease_until: float | None
    due_at: float | None
    verdict: str
    reason_class: str
    reason: str
    status: int | None
    listed: int | None
    missing: int
    stored: int
    nbytes: int
    seconds: float
    added_at: float
    ended_at: float | None
    proof: str = ""


class Total(Value):
    """Sums over studies; `expected` counts instances as the PACS does, for the studies of which it does."""

    studies: int = 0
    expected: int = 0
    stored: int = 0
    nbytes: int = 0


class Summary(Value):
    """A batch in numbers: by state, by verdict (of COMPLETE and PARKED), by class of reason (of WAITING and PARKED)."""

    states: Mapping[JobState, Total]
    """Every state is there."""

    verdicts: Mapping[str, int]
    reasons: Mapping[str, int]
    waiting: Mapping[str, int] = {}
    """Of `reasons` those of the WAITING."""

    @property
    def total(self) -> Total:
        """All states together."""
        return Total(*(sum(getattr(each, name) for each in self.states.values()) for name in Total.fields))


class Volume(Value):
    """Sums over studies of the same modalities in a state; `expected` are the instances of those that are `counted`."""

    modalities: str
    """As the PACS lists them."""

    state: JobState
    part: int
    """Of ten, by chance: how they differ says how sure the others are."""

    studies: int
    counted: int
    expected: int
    stored: int
    nbytes: int


class Progress(Value):
    """What came within a minute, counted from 1970: studies completed, instances stored, their bytes."""

    minute: int
    studies: int
    instances: int
    nbytes: int


class Attempt(Value):
    """One try at a study; `ended_at` is None while it lasts, `stored` and `nbytes` are what it has brought."""

    number: int
    owner: str
    began_at: float
    ended_at: float | None
    verdict: str
    reason_class: str
    reason: str
    status: int | None
    listed: int | None
    stored: int
    missing: int
    nbytes: int
    seconds: float
    proof: str = ""


class Event(Value):
    """Something to remember of a batch, or of a study in it."""

    at: float
    kind: str
    text: str
    study_instance_uid: str = ""


class Host(Value):
    """A host that runs a batch: what it is called, its AE title, its moves under way, and when it was last heard of."""

    owner: str
    ae_title: str
    moves: int
    seen_at: float
