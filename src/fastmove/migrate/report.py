"""The hand-over report: what was asked of a migration, what came of it study by study, and a digest of all of it.

A document of plain values, which pages and programs show; it names no patient.  Studies go by one at a time, so that a
million of them need no more memory than a thousand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from fastmove.ledger.model import Batch, Event, Job, JobState, Progress, StudyJob
from fastmove.ledger.reading import Reading
from fastmove.ledger.store import LOST
from fastmove.migrate.destination import PROOFS, Proved
from fastmove.migrate.digests import StudyDigest, StudyHash, WholeDigest
from fastmove.migrate.retry import CLASSES
from fastmove.types import VERSION

FORMAT: Final = "fastmove migration report"
FORMAT_VERSION: Final = 1

PAGE: Final = 1000
"""Studies that are read at once."""

AT_ONCE: Final = 20_000
"""Instances of which the digests are read at once."""

LISTED: Final = 2000
"""Studies that are not complete, in the document; the CSV has them all."""

EVENTS: Final = 500
"""Events in the document."""

INTERVALS: Final = 200
"""Points of the rate over time, at most."""

MOST_ROWS: Final = 40
"""Of a table by modality or by year; what is rarer is put together."""

OTHERS: Final = "others"
UNSAID: Final = "not said"

OPERATOR: Final = "operator"
NOT_FOUND: Final = "not-found"

VERDICT_WORDS: Final = {
    "complete": "all that is on the list of the source has come",
    "counted": "as many have come as the source counted, which gave no list",
    "unverified": "by the word of the source, which neither listed nor counted",
    "warning": "all has come; the source warned of something",
}
"""What came of a complete study, held against the source: nothing is said of the destination.  Another verdict is shown
by its name."""

PROOF_WORDS: Final[Mapping[str, str]] = {**PROOFS, "": "not known: it was complete before that was written down"}
"""What says that a complete study is at the destination."""

UNPROVED: Final = frozenset((Proved.TAKEN.value, ""))
"""Of these proofs the ones that say nothing of what the destination has kept."""

REASON_WORDS: Final = {each.key: each.words for each in CLASSES} | {
    OPERATOR: "an operator parked it",
    LOST: "whoever had it in hand died, again and again, before anything came",
}
"""What a class of reasons means."""

DEFINITION: Final = (
    "Of a study: SHA-256 over one line for each instance that is stored, 'SOP_INSTANCE_UID SHA256_OF_ITS_FILE' and a "
    "line feed, sorted by SOP Instance UID; '-' for a digest that was never recorded. Of everything: SHA-256 over one "
    "line for each study of which something is stored, 'STUDY_INSTANCE_UID DIGEST_OF_THE_STUDY' and a line feed, "
    "sorted by Study Instance UID. Sorted as bytes; digests hexadecimal in small letters. Its file is the one that we "
    "wrote: the one in the folder or the object store that everything went to; of what was sent on to another PACS the "
    "one in our spool, as it was sent, whatever that PACS makes of it. What went straight to a third party has none."
)

COLUMNS: Final = (
    "study_instance_uid",
    "study_year",
    "modalities",
    "outcome",
    "state",
    "verdict",
    "proof",
    "reason_class",
    "reason",
    "expected",
    "listed",
    "stored",
    "missing",
    "bytes",
    "attempts",
    "ended_at",
    "digest",
)
"""What is told of a study."""

PATIENT_COLUMNS: Final = ("patient_id", "study_date")
"""What more is told if patients are not to be left out."""

_UNFINISHED: Final = (JobState.PARKED, JobState.WAITING, JobState.MOVING, JobState.READY)
"""In the order in which those that are not complete are named."""

Document = dict[str, Any]
Row = Mapping[str, Any]


def studies_are(count: int, reason_class: str | None, what: str) -> str:
    """That so many studies are parked, or tried again, as a sentence."""
    of = "" if reason_class is None else f" of class {reason_class}"
    return f"1 study{of} is {what}" if count == 1 else f"{count:,} studies{of} are {what}"


def outcome(job: Job) -> str:
    """What became of a study, as auditors count: complete, partial, unmigratable, or open."""
    if job.state is JobState.COMPLETE:
        return "complete"
    if job.state is not JobState.PARKED:
        return "open"
    return "partial" if job.stored else "unmigratable"


def at_the_source(job: Job) -> str:
    """Whether the source has something of a study, by what came of it, its list or its count: found, not_found,
    not_known."""
    if job.stored:
        return "found"
    if job.reason_class == NOT_FOUND or job.listed == 0:
        return "not_found"
    return "found" if job.listed or job.job.instances else "not_known"


def missing(job: Job) -> int | None:
    """Instances that did not come: of the list, or else by the count of the PACS; None if neither is known."""
    if job.state is JobState.COMPLETE:
        return 0
    if job.listed is not None:
        return job.missing
    return None if job.job.instances is None else max(job.job.instances - job.stored, 0)


def row(job: Job, digest: StudyDigest) -> dict[str, Any]:
    """A study, by COLUMNS and PATIENT_COLUMNS."""
    return {
        "study_instance_uid": job.job.study_instance_uid,
        "study_year": job.job.study_date[:4],
        "modalities": job.job.modalities,
        "outcome": outcome(job),
        "state": job.state.value,
        "verdict": job.verdict,
        "proof": job.proof,
        "reason_class": job.reason_class,
        "reason": job.reason,
        "expected": job.job.instances,
        "listed": job.listed,
        "stored": job.stored,
        "missing": missing(job),
        "bytes": job.nbytes,
        "attempts": job.attempts,
        "ended_at": moment(job.ended_at),
        "digest": digest.hexadecimal,
        "patient_id": job.job.patient_id,
        "study_date": job.job.study_date,
    }


def moment(at: float | None) -> str | None:
    """A time in UTC, as ISO 8601 has it."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


class Reporting:
    """A report in the making; `studies` counts those that have gone by, of `asked`."""

    def __init__(self, ledger: Reading, batch: Batch, *, digests: bool = True, patients: bool = False) -> None:
        self.studies = 0
        self.asked: int | None = None
        self.columns: tuple[str, ...] = (*COLUMNS, *PATIENT_COLUMNS) if patients else COLUMNS
        """What `told` is told of each study."""
        self._ledger = ledger
        self._batch = batch
        self._digests = digests
        self._outcomes: Counter[str] = Counter()
        self._expected = self._stored = self._nbytes = self._missing = self._uncounted = 0
        self._source: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._proofs: Counter[str] = Counter()
        self._reasons: dict[str, Counter[str]] = {}
        self._modalities: dict[str, Counter[str]] = {}
        self._years: dict[str, Counter[str]] = {}
        self._unfinished: dict[JobState, list[Row]] = {state: [] for state in _UNFINISHED}
        self._ended: list[float] = []

    async def document(self, now: float, told: Callable[[Row], None]) -> Document:
        """The report; `told` has been told of each study, in the order in which they were planned.  LedgerError."""
        self.asked = (await self._ledger.summary(self._batch.id)).total.studies
        with WholeDigest() as whole:
            async for job, digest in self._jobs():
                self.studies += 1
                shown = row(job, digest or StudyDigest())
                known = {name: shown[name] for name in self.columns}
                told(known)
                self._count(job, known)
                if digest is not None:
                    whole.add(job.job.study_instance_uid, digest)
            hexadecimal = whole.hexdigest() if self._digests else None
        progress = await self._ledger.progress(self._batch.id, 0)
        events = await self._ledger.events(self._batch.id, limit=EVENTS + 1)
        return {
            "format": FORMAT,
            "version": FORMAT_VERSION,
            "fastmove": VERSION,
            "made_at": moment(now),
            "batch": {
                "name": self._batch.name,
                "source": self._batch.source,
                "settings": dict(self._batch.settings),
                "wish": self._batch.wish.value,
                "planned_at": moment(self._batch.created_at),
            },
            "studies": self._studies(),
            "instances": {
                "expected": self._expected,
                "studies_not_counted": self._uncounted,
                "stored": self._stored,
                "missing": self._missing,
            },
            "bytes": self._nbytes,
            "verdicts": [
                {"verdict": verdict, "words": VERDICT_WORDS.get(verdict, verdict), "studies": count}
                for verdict, count in self._verdicts.most_common()
            ],
            "proofs": [
                {"proof": proof, "words": PROOF_WORDS.get(proof, proof), "studies": count}
                for proof, count in self._proofs.most_common()
            ],
            "proved": sum(count for proof, count in self._proofs.items() if proof not in UNPROVED),
            "reasons": self._reason_rows(),
            "digest": hexadecimal
            and {
                "sha256": hexadecimal,
                "studies": whole.studies,
                "instances": whole.instances,
                "without_digest": whole.unknown,
                "definition": DEFINITION,
            },
            "time": self._time(progress),
            "rate": rates(progress),
            "modalities": _table(self._modalities, "modality"),
            "years": sorted(_table(self._years, "year"), key=lambda each: str(each["year"])),
            "events": [_event(each) for each in reversed(events[:EVENTS]) if not each.study_instance_uid],
            "earlier_events": len(events) > EVENTS,
            "unfinished": self._listed(),
        }

    async def _jobs(self) -> AsyncIterator[tuple[Job, StudyDigest | None]]:
        """All studies, with the digests of those of which something is stored, if these are wanted."""
        after = 0
        while page := await self._ledger.jobs(self._batch.id, after_id=after, limit=PAGE):
            for part in _parts(page):
                hashed = await self._hashed([job.id for job in part if job.stored]) if self._digests else {}
                for job in part:
                    yield job, hashed[job.id].digest() if job.id in hashed else None
            after = page[-1].id

    async def _hashed(self, job_ids: Sequence[int]) -> Mapping[int, StudyHash]:
        hashed = {number: StudyHash() for number in job_ids}
        for number, uid, digest in await self._ledger.digests(job_ids) if job_ids else ():
            hashed[number].add(uid, digest)
        return hashed

    # ------------------------------------------------------------------ counting

    def _count(self, job: Job, shown: Row) -> None:
        came = outcome(job)
        self._outcomes[came] += 1
        self._expected += job.job.instances or 0
        self._uncounted += job.job.instances is None
        self._stored += job.stored
        self._nbytes += job.nbytes
        self._source[at_the_source(job)] += 1
        for table, key in ((self._modalities, _modality(job.job)), (self._years, job.job.study_date[:4] or UNSAID)):
            sums = table.setdefault(key, Counter())
            sums.update(studies=1, instances=job.stored, bytes=job.nbytes, complete=came == "complete")
        if job.ended_at is not None:
            self._ended = [min([*self._ended[:1], job.ended_at]), max([*self._ended[1:], job.ended_at])]
        if job.state is JobState.COMPLETE:
            self._verdicts[job.verdict] += 1
            self._proofs[job.proof] += 1
            return
        if job.state is JobState.PARKED:
            self._missing += missing(job) or 0
        if job.state in (JobState.PARKED, JobState.WAITING):
            self._reasons.setdefault(job.reason_class, Counter())[job.state.value] += 1
        if len(self._unfinished[job.state]) < LISTED:
            self._unfinished[job.state].append(shown)

    def _studies(self) -> dict[str, int]:
        counts = {each: self._outcomes[each] for each in ("complete", "partial", "unmigratable", "open")}
        source = {each: self._source[each] for each in ("found", "not_found", "not_known")}
        return {"asked": self.studies, **source, **counts}

    def _reason_rows(self) -> list[dict[str, Any]]:
        rows = sorted(self._reasons.items(), key=lambda each: -each[1].total())
        return [
            {"class": key, "words": REASON_WORDS.get(key, key), "parked": of["parked"], "waiting": of["waiting"]}
            for key, of in rows
        ]

    def _listed(self) -> dict[str, Any]:
        listed = [each for state in _UNFINISHED for each in self._unfinished[state]][:LISTED]
        return {"listed": listed, "more": self.studies - self._outcomes["complete"] - len(listed)}

    def _time(self, progress: Sequence[Progress]) -> dict[str, Any]:
        """From the first instance to the last thing that happened."""
        moments = [*(each.minute * 60.0 for each in (*progress[:1], *progress[-1:])), *self._ended]
        first, last = (min(moments), max(moments)) if moments else (None, None)
        seconds = 0.0 if first is None or last is None else last - first
        return {"first_at": moment(first), "last_at": moment(last), "seconds": seconds}


def _parts(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    """One after the other, so many as have AT_ONCE instances together, or one that has more."""
    part: list[Job] = []
    stored = 0
    for job in jobs:
        if part and stored + job.stored > AT_ONCE:
            yield part
            part, stored = [], 0
        part.append(job)
        stored += job.stored
    yield part


def rates(progress: Sequence[Progress]) -> dict[str, Any] | None:
    """What came in each interval of the whole time; None if nothing came."""
    if not progress:
        return None
    first, last = progress[0].minute, progress[-1].minute
    width = -(-(last - first + 1) // INTERVALS)
    number = (last - first) // width + 1
    sums = {name: [0] * number for name in ("studies", "instances", "bytes")}
    for each in progress:
        at = (each.minute - first) // width
        sums["studies"][at] += each.studies
        sums["instances"][at] += each.instances
        sums["bytes"][at] += each.nbytes
    return {"began_at": moment(first * 60.0), "interval_s": width * 60, **sums}


def _modality(job: StudyJob) -> str:
    """All modalities of a study, always in the same order."""
    return ", ".join(sorted(filter(None, (each.strip() for each in job.modalities.split("\\"))))) or UNSAID


def _table(sums: Mapping[str, Counter[str]], name: str) -> list[dict[str, Any]]:
    """The rows of a table, the largest first; beyond MOST_ROWS all the others together."""
    ordered = sorted(sums.items(), key=lambda each: (-each[1]["studies"], each[0]))
    rows, rest = ordered[:MOST_ROWS], Counter[str]()
    for _, more in ordered[MOST_ROWS:]:
        rest.update(more)
    if rest:
        rows.append((OTHERS, rest))
    return [
        {name: key, **{each: of[each] for each in ("studies", "complete", "instances", "bytes")}} for key, of in rows
    ]


def _event(event: Event) -> dict[str, Any]:
    return {"at": moment(event.at), "kind": event.kind, "text": event.text}
