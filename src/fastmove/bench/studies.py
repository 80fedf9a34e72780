"""What a benchmark asks a PACS to send: the studies of a selection, or a sample of them, as the PACS lists them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from datetime import date
from itertools import cycle, islice
from random import Random

from fastmove.bench.retrieve import Study
from fastmove.bench.runner import Target
from fastmove.errors import ConfigurationError, DimseError
from fastmove.services.query_scu import ask, find_contexts
from fastmove.services.scu import Requestor
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Selection, Wanted

LEVELS = ("STUDY", "SERIES", "IMAGE")
_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_COUNTS = {"STUDY": "NumberOfStudyRelatedInstances", "SERIES": "NumberOfSeriesRelatedInstances", "IMAGE": ""}


class Finding:
    """The queries that a benchmark makes before it measures."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._requestor = Requestor(target.peer, target.ae_title, find_contexts(target.model), target.limits)

    async def studies(
        self, selection: Selection, *, today: date, sample: int | None = None, seed: int = 1, most: int = 10_000
    ) -> list[Study]:
        """The studies of a selection, or so many of them drawn at random.

        ConfigurationError if there is none, or if there are more than `most`; AssociationError, DimseError.
        """
        unresolved: list[Unresolved] = []
        wanted: list[Wanted] = []
        async with aclosing(resolve(selection, self._find, unresolved.append, today=today)) as found:
            async for each in found:
                wanted.append(each)
                if len(wanted) > most:
                    raise ConfigurationError("selection", f"more than {most:,} studies: narrow it down, by --date say")
        if not wanted:
            why = f" ({unresolved[0]})" if unresolved else ""
            raise ConfigurationError("selection", f"the PACS has nothing of it{why}")
        if sample is not None and sample < len(wanted):
            wanted = Random(seed).sample(wanted, sample)
        return [await self._described(each) for each in wanted]

    async def at_level(self, studies: Sequence[Study], level: str) -> list[Study]:
        """The same as moves at this level: a study as its series, a series as its images."""
        units = list(studies)
        for deeper in LEVELS[: LEVELS.index(level) + 1]:
            units = [part for unit in units async for part in self._parts(unit, deeper)]
        return units

    async def close(self) -> None:
        """No more of them."""
        await self._requestor.close()

    async def _find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
        association = await self._requestor.association()
        async for match in ask(association, keys, self._target.model, level):
            yield match

    async def _described(self, wanted: Wanted) -> Study:
        """What is known of it; a PACS that does not say has all the same to be measured."""
        uids = (wanted.study_instance_uid, wanted.series_instance_uid, "\\".join(wanted.sop_instance_uids))
        keys = [f"{keyword}={uid}" for keyword, uid in zip(_UIDS, uids, strict=True) if uid]
        if wanted.patient_id:
            keys.insert(0, f"PatientID={wanted.patient_id}")
        study = Study(tuple(keys), wanted.level)
        if wanted.level != "STUDY":
            return study
        try:
            answers = [answer async for answer in self._find([*keys, "ModalitiesInStudy", _COUNTS["STUDY"]], "STUDY")]
        except DimseError:
            return study
        if not answers:
            raise ConfigurationError("selection", f"the PACS has no study {wanted.study_instance_uid}")
        modalities = answers[0].get("ModalitiesInStudy", "")
        return study.replace(kind=modalities.replace("\\", "+"), instances=_count(answers[0], "STUDY"))

    async def _parts(self, unit: Study, level: str) -> AsyncIterator[Study]:
        if LEVELS.index(unit.level) >= LEVELS.index(level):
            yield unit
            return
        keyword = _UIDS[LEVELS.index(level)]
        asked = [*unit.keys, keyword, *filter(None, (_COUNTS[level], "Modality" if level == "SERIES" else ""))]
        async for answer in self._find(asked, level):
            keys = (*unit.keys, f"{keyword}={answer.get(keyword, '')}")
            kind = answer.get("Modality", "") or unit.kind
            yield Study(keys, level, kind, 1 if level == "IMAGE" else _count(answer, level))


def _count(answer: Mapping[str, str], level: str) -> int | None:
    text = answer.get(_COUNTS[level], "").strip()
    return int(text) if text.isascii() and text.isdigit() else None


def asked_for(studies: Sequence[Study], count: int | None, *, seed: int) -> Iterator[Study]:
    """So many of them, or without end, in a random order that is the same for each pass and each run."""
    order = list(studies)
    Random(seed).shuffle(order)
    return islice(cycle(order), count) if count is not None else cycle(order)
