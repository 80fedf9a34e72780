"""Ledgers in which some of everything has happened, without a PACS."""

from __future__ import annotations

import hashlib
from typing import Final

from fastmove.ledger.model import Batch, Claimed, Instance, JobState, Outcome, StudyJob
from fastmove.ledger.store import Ledger

NOW: Final = 1_800_000_000.0
OWNER: Final = "mig1.example.org:4711"
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT: Final = "1.2.840.10008.1.2"

EVIL: Final = "<script>alert(1)</script>\"'&"
"""What a PACS might say."""


def study(number: int) -> str:
    return f"1.2.3.{number}"


def digest_of(uid: str) -> bytes:
    return hashlib.sha256(uid.encode()).digest()


def instances(claimed: Claimed, number: int, *, known: bool = True) -> list[Instance]:
    """So many, with or without digests."""
    uid = claimed.job.study_instance_uid
    uids = [f"{uid}.9.{n}" for n in range(1, number + 1)]
    return [
        Instance(
            claimed.id,
            claimed.fence,
            each,
            f"{uid}.1",
            CT,
            IMPLICIT,
            1000,
            digest_of(each) if known else b"",
            f"{uid}/{each}.dcm",
        )
        for each in uids
    ]


OUTCOMES: Final = (
    # instances stored, what it came to
    (
        11,
        Outcome(
            JobState.COMPLETE, "complete", reason="all 11 objects are there", status=0, listed=11, proof="committed"
        ),
    ),
    (3, Outcome(JobState.COMPLETE, "counted", reason="3 objects are there", status=0, proof="taken")),
    (2, Outcome(JobState.COMPLETE, "unverified", reason="2 objects are there", status=0)),
    (2, Outcome(JobState.PARKED, "incomplete", "failed-objects", f"4 failed {EVIL}", 0xB000, 6, 4)),
    (0, Outcome(JobState.PARKED, "refused", "not-found", "the PACS has nothing of it", 0, 0, 0)),
    (0, Outcome(JobState.PARKED, "refused", "refused", "=2+3", 0xC001)),
    (1, Outcome(JobState.WAITING, "unknown", "network", "the association was lost", due_at=NOW + 3600)),
)
"""What became of the first studies; of the others one is being moved, and the rest is to be moved."""

STUDIES: Final = 10

SETTINGS: Final = {
    "windows": ["daily 00:00-24:00 parallel=4"],
    "timezone": "UTC",
    "parallel": "auto",
    "gentle": True,
    "forward": "NEW@10.1.2.4:104",
    "proof": "auto",
    "rules": "SHA256:" + "ab" * 32,
}
"""As a run writes them down."""


async def filled(ledger: Ledger, name: str = "migration", now: float = NOW) -> Batch:
    """A batch with studies in all states."""
    batch = await ledger.add_batch(name, "PACS@10.1.2.3:104", SETTINGS, now - 9000)
    jobs = [
        StudyJob(
            study(n),
            f"PATIENT-{n}",
            f"20{10 + n % 3}0515" if n != 1 else "",
            "SR\\CT" if n % 2 else "MR",
            6 if n == 4 else None,
            rank=n,
        )
        for n in range(1, STUDIES + 1)
    ]
    await ledger.add(batch.id, jobs, now - 9000)
    claimed = await ledger.claim(batch.id, OWNER, len(OUTCOMES) + 1, 60.0, now - 10)
    for minute, (each, (number, came)) in enumerate(zip(claimed, OUTCOMES, strict=False)):
        at = now - 1200 + 60 * minute
        await ledger.record(instances(each, number, known=minute != 2), at)
        assert await ledger.finish(each, came, at)
    await ledger.here(batch.id, OWNER, "MIG1", 2, now - 10)
    await ledger.event(batch.id, "migrate.suffering", "no more than 3 moves at once", now - 500)
    await ledger.event(batch.id, "operator.pause", "Begin nothing more until `resume`.", now - 400)
    return batch
