"""C-STOREs as a load: studies are sent to a PACS, each over an association of its own or one after the other over one.

What is sent comes from memory or from files that are in memory soon, so that the PACS is measured and not our disk.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

from fastmove.bench.corpus import Corpus
from fastmove.bench.load import Load
from fastmove.bench.measurement import FAILED, Measurement
from fastmove.bench.runner import Exchange, Operated, Runner, Setting, Target
from fastmove.services.scu import AssociationHandle
from fastmove.services.storage_scu import StorageSCU, is_stored
from fastmove.storage.filemeta import DicomFile
from fastmove.types import ProposedContext

CUT: Final = "stopped"
"""The status of a study that was not sent to its end, since the time was over."""


class Sending(NamedTuple):
    """A study to be sent: its modalities, and its objects, which may be made as they are sent."""

    kind: str
    files: Iterable[DicomFile]


class Storing(Exchange[Sending]):
    """A worker that sends one study after the other."""

    name = "study"

    def __init__(self, target: Target, contexts: Sequence[ProposedContext], measurement: Measurement) -> None:
        super().__init__(target, contexts, measurement)
        self._scu: StorageSCU | None = None
        self._of: AssociationHandle | None = None
        self._over = False

    async def operate(self, association: AssociationHandle, item: Sending) -> Operated:
        """All objects of a study, or those until the time is over; the first status that is no success counts."""
        if self._scu is None or self._of is not association:
            self._scu, self._of = StorageSCU(association), association
        sent = _Sent(self._measurement)
        scu, window, outstanding = self._scu, self._scu.window, sent.outstanding
        cut = False
        for file in item.files:
            if self._over:
                cut = True
                break
            began = time.monotonic()
            outstanding[await scu.begin(file)] = (began, file.nbytes)
            if len(outstanding) >= window:
                sent.answered(*await scu.answer(outstanding))
        while outstanding:
            sent.answered(*await scu.answer(outstanding))
        status, succeeded = (CUT, False) if cut else (f"{sent.status:04X}", is_stored(sent.status))
        return Operated(status, succeeded, sent.stored, sent.nbytes, sent.refused, kind=item.kind)

    def over(self, now: float) -> bool:
        """After the object that is on its way."""
        self._over = True
        return False

    def cancel(self) -> bool:
        """The same."""
        return self.over(0.0)


class _Sent:
    """What became of the objects of a study."""

    def __init__(self, measurement: Measurement) -> None:
        self.outstanding: dict[int, tuple[float, int]] = {}
        """Message ID → when it was begun, and the bytes of its data set."""
        self.status = 0
        """The first of an object that is not stored, or else the first that is no success, if there is one."""
        self.stored = self.refused = self.nbytes = 0
        self._measurement = measurement

    def answered(self, message_id: int, status: int) -> None:
        """The peer has an answer."""
        began, nbytes = self.outstanding.pop(message_id)
        now = time.monotonic()
        if is_stored(status):
            self.stored += 1
            self.nbytes += nbytes
            self._measurement.object(now, nbytes)
        else:
            self.refused += 1
        if self._measurement.counts(now):
            name = "store" if is_stored(status) else f"store{FAILED}"
            self._measurement.latency(name, now - began)
        if not self.status or (is_stored(self.status) and not is_stored(status)):
            self.status = status


class StoreBench(Runner[Sending]):
    """C-STOREs of studies; `contexts` are those of all that may be sent."""

    kind = "store"
    operations = "studies"

    def __init__(self, target: Target, contexts: Sequence[ProposedContext]) -> None:
        super().__init__(target)
        self._contexts = contexts

    async def run(self, load: Load, items: Iterable[Sending], setting: Setting) -> dict[str, Any]:
        """One run over these studies."""
        target = self.target.announcing(setting.max_pdu_length)

        def operator(measurement: Measurement) -> Storing:
            return Storing(target, self._contexts, measurement)

        return (await self._measured(load, items, "study", operator)).finished()


def of_corpus(corpus: Corpus, first: int = 1) -> Iterator[Sending]:
    """The studies of an archive, from one on."""
    for number in range(first, corpus.studies + 1):
        study = corpus.study(number)
        kinds = "+".join(sorted({series.modality for series in study.examination.series}))
        yield Sending(kinds, _instances(corpus, number, study.instances))


def _instances(corpus: Corpus, study: int, counts: Sequence[int]) -> Iterator[DicomFile]:
    for series, count in enumerate(counts, 1):
        for instance in range(1, count + 1):
            yield corpus.file(study, series, instance)


def at_most(studies: Iterable[Sending], count: int | None) -> Iterator[Sending]:
    """So many of them, or all."""
    return islice(studies, count)
