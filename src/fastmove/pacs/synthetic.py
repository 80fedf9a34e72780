"""A synthetic archive as a PACS has it: queried by computing what would be there, and sent as if it were.

Nothing of it is kept in memory, so that it may hold millions of studies.  What others store in the PACS is in an index
beside it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Final, Protocol

from fastmove.pacs.attributes import DEPTHS, LEVELS, UNIQUE_KEYS, is_key, matchers, supports, wanted
from fastmove.pacs.index import Index
from fastmove.pacs.matching import Matches
from fastmove.storage.filemeta import DicomFile

EXACT_COUNTS: Final = 20_000
"""Of more studies series and instances are not counted, but reckoned from so many."""

_STUDY, _SERIES, _IMAGE = LEVELS.index("STUDY"), LEVELS.index("SERIES"), LEVELS.index("IMAGE")
_DATES: Final = re.compile(r"(\d{8})?(-?)(\d{8})?")
_NUMBERED: Final = {"PatientID": re.compile(r"SYN(\d{8,})"), "AccessionNumber": re.compile(r"ACC(\d{8,})")}


class Examined(Protocol):
    """A study: how many instances each of its series has."""

    @property
    def instances(self) -> tuple[int, ...]:
        """By series."""


class Holdings(Protocol):
    """What `bench/corpus.py` makes; studies, series and instances have numbers from 1 on."""

    studies: int

    @property
    def patients(self) -> int:
        """How many there are."""

    def study(self, number: int) -> Examined:
        """A study."""

    def patient(self, study: int) -> int:
        """The patient of a study."""

    def of_patient(self, patient: int) -> range:
        """The studies of a patient."""

    def between(self, first: date, last: date) -> range:
        """The studies of these days."""

    def place(self, uid: str) -> tuple[int, ...] | None:
        """The numbers that a UID stands for."""

    def texts(self, study: int, series: int = 1, instance: int = 1) -> dict[str, str]:
        """Attributes as text by keyword."""

    def file(self, study: int, series: int, instance: int) -> DicomFile:
        """An instance, to be sent."""


class _Match:
    """A patient, study, series or instance, by the numbers of the first study, series and instance of it."""

    __slots__ = ("_holdings", "_texts", "depth", "numbers")

    def __init__(self, holdings: Holdings, depth: int, *numbers: int) -> None:
        self._holdings = holdings
        self.depth = depth
        self.numbers = numbers
        self._texts = holdings.texts(*numbers)

    def value(self, keyword: str) -> str:
        """The value of a key of this level or one above, empty if it has none."""
        if DEPTHS[keyword] > self.depth:
            return ""
        derive = _DERIVED.get(keyword)
        return self._texts.get(keyword, "") if derive is None else derive(self._holdings, self.numbers)

    def matches(self, matching: Sequence[Sequence[tuple[str, Matches]]], *depths: int) -> bool:
        """True if the keys of these levels do."""
        return all(match(self.value(keyword)) for depth in depths for keyword, match in matching[depth])


def _studies_of(holdings: Holdings, numbers: Sequence[int]) -> list[Examined]:
    return [holdings.study(each) for each in holdings.of_patient(holdings.patient(numbers[0]))]


def _distinct(keyword: str) -> Callable[[Holdings, Sequence[int]], str]:
    def derived(holdings: Holdings, numbers: Sequence[int]) -> str:
        series = range(1, len(holdings.study(numbers[0]).instances) + 1)
        return "\\".join(sorted({holdings.texts(numbers[0], each)[keyword] for each in series}))

    return derived


_DERIVED: Final[dict[str, Callable[[Holdings, Sequence[int]], str]]] = {
    "NumberOfPatientRelatedStudies": lambda holdings, at: str(len(_studies_of(holdings, at))),
    "NumberOfPatientRelatedSeries": lambda holdings, at: str(sum(len(s.instances) for s in _studies_of(holdings, at))),
    "NumberOfPatientRelatedInstances": lambda holdings, at: str(
        sum(sum(study.instances) for study in _studies_of(holdings, at))
    ),
    "NumberOfStudyRelatedSeries": lambda holdings, at: str(len(holdings.study(at[0]).instances)),
    "NumberOfStudyRelatedInstances": lambda holdings, at: str(sum(holdings.study(at[0]).instances)),
    "ModalitiesInStudy": _distinct("Modality"),
    "SOPClassesInStudy": _distinct("SOPClassUID"),
    "NumberOfSeriesRelatedInstances": lambda holdings, at: str(holdings.study(at[0]).instances[at[1] - 1]),
    "AvailableTransferSyntaxUID": lambda holdings, at: holdings.file(*at).transfer_syntax_uid,
    "InstanceAvailability": lambda *_: "ONLINE",
}
"""How what no object says is found out."""


class SyntheticArchive:
    """Studies that are computed, and an index of what was stored beside them."""

    def __init__(self, holdings: Holdings) -> None:
        self._holdings = holdings
        self._stored = Index()

    def add(self, path: Path) -> None:
        """Take in one file; as `Index.add`."""
        self._stored.add(path)

    def count(self, level: str) -> int:
        """How many entities of a level there are; of a large archive about how many."""
        holdings = self._holdings
        counted = min(holdings.studies, EXACT_COUNTS)
        if level in ("PATIENT", "STUDY"):
            number = holdings.patients if level == "PATIENT" else holdings.studies
        else:
            studies = (holdings.study(each).instances for each in range(1, counted + 1))
            number = sum(len(each) if level == "SERIES" else sum(each) for each in studies)
            number = number * holdings.studies // counted
        return number + self._stored.count(level)

    def supports(self, keys: Mapping[str, str]) -> bool:
        """True if every key is one that is kept of the Query/Retrieve Level or of a level above."""
        return supports(keys)

    def find(self, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The requested attributes of every entity of the Query/Retrieve Level that matches (PS3.4 C.4.1)."""
        asked = wanted(keys)
        for match in self._matching(keys):
            yield {keyword: match.value(keyword) for keyword in asked}
        yield from self._stored.find(keys)

    def instances(self, keys: Mapping[str, str]) -> list[DicomFile]:
        """Every instance below the entities that match (PS3.4 C.4.2)."""
        found = [self._holdings.file(*numbers) for match in self._matching(keys) for numbers in self._below(match)]
        return found + self._stored.instances(keys)

    def _below(self, match: _Match) -> Iterator[tuple[int, int, int]]:
        """The numbers of its instances."""
        holdings, (study, *rest) = self._holdings, match.numbers
        if match.depth == _IMAGE:
            yield study, rest[0], rest[1]
            return
        studies: Iterable[int] = (study,) if match.depth else holdings.of_patient(holdings.patient(study))
        for each in studies:
            counts = holdings.study(each).instances
            for series in rest if match.depth == _SERIES else range(1, len(counts) + 1):
                yield from ((each, series, instance) for instance in range(1, counts[series - 1] + 1))

    def _matching(self, keys: Mapping[str, str]) -> Iterator[_Match]:
        holdings, matching = self._holdings, matchers(keys)
        depth = LEVELS.index(keys["QueryRetrieveLevel"])
        places = _Places(holdings, keys, depth)
        patients: set[int] = set()
        for study in self._studies(keys, places):
            match = _Match(holdings, min(depth, _STUDY), study)
            if not depth:
                if (patient := holdings.patient(study)) in patients:
                    continue
                patients.add(patient)
            if not match.matches(matching, *range(match.depth + 1)):
                continue
            if depth <= _STUDY:
                yield match
            else:
                yield from self._in_study(study, matching, depth, places)

    def _in_study(
        self, study: int, matching: Sequence[Sequence[tuple[str, Matches]]], depth: int, places: _Places
    ) -> Iterator[_Match]:
        counts = self._holdings.study(study).instances
        for series in places.below(_SERIES, (study,), len(counts)):
            match = _Match(self._holdings, _SERIES, study, series)
            if not match.matches(matching, _SERIES):
                continue
            if depth == _SERIES:
                yield match
                continue
            for instance in places.below(_IMAGE, (study, series), counts[series - 1]):
                image = _Match(self._holdings, _IMAGE, study, series, instance)
                if image.matches(matching, _IMAGE):
                    yield image

    def _studies(self, keys: Mapping[str, str], places: _Places) -> Iterable[int]:
        """The studies that may match: as few as the keys allow."""
        holdings = self._holdings
        if places.studies is not None:
            return places.studies
        keys = {keyword: value for keyword, value in keys.items() if is_key(keyword, keys)}
        if (number := _numbered("PatientID", keys)) is not None:
            return holdings.of_patient(number)
        if (number := _numbered("AccessionNumber", keys)) is not None:
            return range(number, number + 1) if 1 <= number <= holdings.studies else ()
        dates = _DATES.fullmatch(keys.get("StudyDate", "").strip())
        if dates is not None and (dates[1] or dates[3]):
            first, last = dates[1] or "19000101", dates[3] or ("99991231" if dates[2] else dates[1])
            try:
                return holdings.between(date.fromisoformat(first), date.fromisoformat(last))
            except ValueError:
                return ()  # no such day
        return range(1, holdings.studies + 1)


class _Places:
    """Where the UIDs of a query lead to, so that nobody has to look everywhere."""

    def __init__(self, holdings: Holdings, keys: Mapping[str, str], depth: int) -> None:
        self._known: dict[int, frozenset[tuple[int, ...]]] = {}
        for at in range(1, depth + 1):
            uids = keys.get(UNIQUE_KEYS[at], "").strip("* ")
            if uids and not set(uids) & set("*?"):
                found = (holdings.place(uid) for uid in uids.split("\\"))
                self._known[at] = frozenset(place for place in found if place is not None and len(place) == at)

    @property
    def studies(self) -> list[int] | None:
        """Those that any of them is of; None if there is none of them."""
        if not self._known:
            return None
        sets = [{place[0] for place in places} for places in self._known.values()]
        return sorted(set.intersection(*sets))

    def below(self, depth: int, numbers: tuple[int, ...], count: int) -> Iterable[int]:
        """The numbers of what is below an entity: all of them, or those that are named."""
        named = [places for at, places in self._known.items() if at >= depth]
        if not named:
            return range(1, count + 1)
        at = len(numbers)
        sets = [{place[at] for place in places if place[:at] == numbers} for places in named]
        return sorted(set.intersection(*sets))


def _numbered(keyword: str, keys: Mapping[str, str]) -> int | None:
    found = _NUMBERED[keyword].fullmatch(keys.get(keyword, "").strip())
    return None if found is None else int(found[1])
