"""Batches of what is stored: who asks for a flush waits for what was there, and for nothing else."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import pytest

from fastmove.errors import LedgerError
from fastmove.ledger.model import Claimed, Instance, StudyJob
from fastmove.ledger.store import Ledger
from fastmove.migrate.claims import Claims
from fastmove.migrate.recorder import MOST, Recorder
from fastmove.storage.entries import Entry

STUDY = "1.2.3"


class Written:
    """A ledger that takes a while, in which more comes; it fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.batches: list[list[str]] = []
        self.failures = failures
        self.meanwhile: Callable[[], None] = lambda: None

    async def record(self, instances: Sequence[Instance], now: float) -> frozenset[int]:
        self.meanwhile()
        if self.failures:
            self.failures -= 1
            raise LedgerError("record", "away")
        self.batches.append([each.sop_instance_uid for each in instances])
        return frozenset()


class InHand:
    def claimed(self, study: str) -> Claimed | None:
        return Claimed(1, 1, StudyJob(STUDY, rank=1), 0, 0) if study == STUDY else None


def recorder_of(ledger: Written) -> Recorder:
    return Recorder(cast(Ledger, ledger), cast(Claims, InHand()), lambda _: None, lambda: 0.0)


def entry(uid: str) -> Entry:
    return Entry("", "stored", f"{uid}.dcm", 1, "00" * 32, "1.2", STUDY, "1.2.3.4", uid, "1.2")


async def test_what_comes_while_a_batch_is_written_is_another_batch() -> None:
    ledger = Written()
    recorder = recorder_of(ledger)
    recorder.add(entry("1"))
    ledger.meanwhile = lambda: recorder.add(entry("2"))
    await recorder.flush()
    assert ledger.batches == [["1"]], "however much comes, the flush ends"
    ledger.meanwhile = lambda: None
    await recorder.flush()
    assert ledger.batches == [["1"], ["2"]]
    assert recorder.recorded == 2


async def test_more_than_a_transaction_takes_goes_into_several() -> None:
    ledger = Written()
    recorder = recorder_of(ledger)
    for number in range(2 * MOST + 1):
        recorder.add(entry(str(number)))
    await recorder.flush()
    assert [len(batch) for batch in ledger.batches] == [MOST, MOST, 1]


async def test_batch_that_failed_is_written_by_the_next_flush_in_its_order() -> None:
    ledger = Written(failures=1)
    recorder = recorder_of(ledger)
    for uid in "123":
        recorder.add(entry(uid))
    with pytest.raises(LedgerError):
        await recorder.flush()
    recorder.add(entry("4"))
    await recorder.flush()
    assert ledger.batches == [["1", "2", "3", "4"]]
    assert recorder.error is None


async def test_at_the_end_everything_is_recorded_also_what_comes_during_the_last_batch() -> None:
    ledger = Written()
    recorder = recorder_of(ledger)
    late = [entry("2"), entry("3")]
    ledger.meanwhile = lambda: recorder.add(late.pop()) if late else None
    async with recorder:
        recorder.add(entry("1"))
    assert ledger.batches == [["1"], ["3"], ["2"]]
