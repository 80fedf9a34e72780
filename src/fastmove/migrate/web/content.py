"""What is stored of a study, series by series: read once, for all who look at it."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, NamedTuple

from fastmove.ledger.model import Job, JobState
from fastmove.ledger.reading import Reading
from fastmove.migrate.digests import StudyDigest, StudyHash

MAX_INSTANCES: Final = 50_000
"""Of a study: of more its series are not counted."""

KEPT: Final = 32
"""Studies."""

TIMES_KEPT: Final = 10.0
"""What is read of a study that is being moved is shown for so many times as long as it took to read it."""


class Series(NamedTuple):
    """Instances of one SOP class in a series."""

    series_instance_uid: str
    sop_class_uid: str
    instances: int
    nbytes: int


class Content(NamedTuple):
    """All that is stored of a study, and its digest as the report has it."""

    series: list[Series]
    digest: StudyDigest


class _Read(NamedTuple):
    of: Hashable
    until: float
    content: Content


class Contents:
    """Those of the studies that were looked at last."""

    def __init__(self, ledger: Reading) -> None:
        self._ledger = ledger
        self._read: OrderedDict[int, _Read] = OrderedDict()
        self._reading = asyncio.Lock()

    async def of(self, job: Job) -> Content | None:
        """None if nothing is stored, or too much to count it."""
        if not 0 < job.stored <= MAX_INSTANCES:
            return None
        async with self._reading:
            state = (job.stored, job.nbytes, job.ended_at)
            found, began = self._read.get(job.id), time.monotonic()
            if found is None or (found.of != state and not (job.state is JobState.MOVING and began < found.until)):
                content = await self._content(job.id)
                ended = time.monotonic()
                found = self._read[job.id] = _Read(state, ended + TIMES_KEPT * (ended - began), content)
            self._read.move_to_end(job.id)
            if len(self._read) > KEPT:
                self._read.popitem(last=False)
            return found.content

    async def _content(self, job_id: int) -> Content:
        sums: dict[tuple[str, str], list[int]] = {}
        hashed = StudyHash()
        async for each in self._ledger.instances(job_id):
            of = sums.setdefault((each.series_instance_uid, each.sop_class_uid), [0, 0])
            of[0] += 1
            of[1] += each.nbytes
            hashed.add(each.sop_instance_uid, each.digest)
        series = [Series(*key, *of) for key, of in sorted(sums.items())]
        return Content(series, hashed.digest())
