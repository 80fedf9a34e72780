"""What the PACS holds: patients, studies, series and instances, found by the keys of PS3.4 C.6.

An index in memory over Part-10 files that stay where they are.  All that is known of an entity is text by
keyword, several values joined by a backslash.
"""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from pydicom import dcmread
from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue

from fastmove.errors import DatasetError
from fastmove.pacs.attributes import DEPTHS, KEYS, LEVELS, TAGS, UNIQUE_KEYS, matchers, supports, wanted
from fastmove.pacs.matching import Matches
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.quarantine import QUARANTINE

_STUDY: Final = LEVELS.index("STUDY")

# All that pydicom raises over bytes that are no data set.
_UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    BytesLengthException,
    EOFError,
    InvalidDicomError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(slots=True, eq=False)
class Entity:
    """A patient, study, series or instance; `file` is there for instances only."""

    depth: int
    attributes: dict[str, str]
    parent: Entity | None
    children: dict[str, Entity] = field(default_factory=dict)
    file: DicomFile | None = None

    def value(self, keyword: str) -> str:
        """The value of a key of this level or one above, empty if it has none."""
        entity: Entity | None = self
        while entity is not None and entity.depth > DEPTHS[keyword]:
            entity = entity.parent
        if entity is None:
            return ""
        derive = _DERIVED.get(keyword)
        return derive(entity) if derive is not None else entity.attributes.get(keyword, "")

    def below(self, level: str) -> Iterator[Entity]:
        """The entities of a level that belong to this one."""
        if LEVELS[self.depth] == level:
            yield self
            return
        for child in tuple(self.children.values()):
            yield from child.below(level)


def _count(level: str) -> Callable[[Entity], str]:
    return lambda entity: str(sum(1 for _ in entity.below(level)))


def _distinct(level: str, keyword: str) -> Callable[[Entity], str]:
    return lambda entity: "\\".join(sorted({below.value(keyword) for below in entity.below(level)} - {""}))


_DERIVED: Final[dict[str, Callable[[Entity], str]]] = {
    "NumberOfPatientRelatedStudies": _count("STUDY"),
    "NumberOfPatientRelatedSeries": _count("SERIES"),
    "NumberOfPatientRelatedInstances": _count("IMAGE"),
    "NumberOfStudyRelatedSeries": _count("SERIES"),
    "NumberOfStudyRelatedInstances": _count("IMAGE"),
    "ModalitiesInStudy": _distinct("SERIES", "Modality"),
    "SOPClassesInStudy": _distinct("IMAGE", "SOPClassUID"),
    "NumberOfSeriesRelatedInstances": _count("IMAGE"),
    "AvailableTransferSyntaxUID": lambda entity: entity.file.transfer_syntax_uid if entity.file else "",
    "InstanceAvailability": lambda _: "ONLINE",
}
"""How what no file says is found out."""


class Index:
    """The archive of the test PACS."""

    def __init__(self) -> None:
        self._patients: dict[str, Entity] = {}
        # Depth → UID → its entities: one, but for what should not be.
        self._by_uid: tuple[dict[str, tuple[Entity, ...]], ...] = tuple({} for _ in LEVELS)

    # ------------------------------------------------------------------ what it holds

    def scan(self, folder: Path) -> list[tuple[Path, str]]:
        """Take in every DICOM file below a folder; the files that were left out, and why.  OSError."""
        skipped: list[tuple[Path, str]] = []
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.name.startswith(".") and QUARANTINE not in path.parts:
                try:
                    self.add(path)
                except DatasetError as error:
                    skipped.append((path, str(error)))
        return skipped

    def add(self, path: Path) -> None:
        """Take in one file, in place of the instance of the same UID; DatasetError if it is none, OSError."""
        file = read_file_meta(path)
        self.add_instance(file, _read(path))

    def add_instance(self, file: DicomFile, texts: Mapping[str, str]) -> None:
        """The same where its attributes are known; DatasetError if it is of no study or series."""
        study_uid, series_uid = texts.get("StudyInstanceUID"), texts.get("SeriesInstanceUID")
        if not study_uid or not series_uid:
            raise DatasetError(f"{file.path}: no {'SeriesInstanceUID' if study_uid else 'StudyInstanceUID'}")
        texts = {**texts, "SOPInstanceUID": file.sop_instance_uid, "SOPClassUID": file.sop_class_uid}
        known = self._by_uid[_STUDY].get(study_uid)
        if known is None:
            # Without a Patient ID nothing says that two studies are of one patient.
            patient_id = texts.get("PatientID") or study_uid
            patient = self._patients.get(patient_id)
            if patient is None:
                patient = self._patients[patient_id] = _entity(0, texts, None)
            known = (self._enter(study_uid, _entity(_STUDY, texts, patient)),)
        series = known[0].children.get(series_uid)
        if series is None:
            series = self._enter(series_uid, _entity(_STUDY + 1, texts, known[0]))
        instance = series.children.get(file.sop_instance_uid)
        if instance is None:
            instance = self._enter(file.sop_instance_uid, _entity(_STUDY + 2, texts, series))
        else:
            instance.attributes = _attributes(_STUDY + 2, texts)
        instance.file = file

    def _enter(self, uid: str, entity: Entity) -> Entity:
        assert entity.parent is not None
        entity.parent.children[uid] = entity
        by_uid = self._by_uid[entity.depth]
        by_uid[uid] = (*by_uid.get(uid, ()), entity)
        return entity

    def count(self, level: str) -> int:
        """How many entities of a level it holds."""
        return sum(1 for patient in self._patients.values() for _ in patient.below(level))

    # ------------------------------------------------------------------ what is found in it

    def supports(self, keys: Mapping[str, str]) -> bool:
        """True if every key is one that is kept of the Query/Retrieve Level or of a level above."""
        return supports(keys)

    def find(self, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The requested attributes of every entity of the Query/Retrieve Level that matches (PS3.4 C.4.1)."""
        asked = wanted(keys)
        for entity in self._matching(keys, keys["QueryRetrieveLevel"]):
            yield {keyword: entity.value(keyword) for keyword in asked}

    def instances(self, keys: Mapping[str, str]) -> list[DicomFile]:
        """The files of every instance below the entities that match (PS3.4 C.4.2)."""
        entities = self._matching(keys, keys["QueryRetrieveLevel"])
        return [image.file for entity in entities for image in entity.below("IMAGE") if image.file is not None]

    def _matching(self, keys: Mapping[str, str], level: str) -> Iterator[Entity]:
        matching = matchers(keys)
        depth = LEVELS.index(level)
        for start in range(depth, 0, -1):  # a Patient ID is no UID: it may have wild cards
            if uids := keys.get(UNIQUE_KEYS[start], "").strip("* "):
                return _descend(self._with_uid(start, uids, matching), depth, matching)
        return _descend(tuple(self._patients.values()), depth, matching)

    def _with_uid(self, depth: int, uids: str, matching: list[list[tuple[str, Matches]]]) -> Iterator[Entity]:
        """Those with one of these UIDs whose levels above match."""
        for uid in dict.fromkeys(uids.split("\\")):
            for entity in self._by_uid[depth].get(uid, ()):
                above = entity.parent
                while above is not None and _matches(above, matching):
                    above = above.parent
                if above is None:
                    yield entity


def _descend(entities: Iterable[Entity], depth: int, matching: list[list[tuple[str, Matches]]]) -> Iterator[Entity]:
    # Level by level with what matches: that is the hierarchical search, and the relational one as well.
    for entity in entities:
        if not _matches(entity, matching):
            continue
        if entity.depth == depth:
            yield entity
        else:
            # A copy, as objects may be stored while a query is answered.
            yield from _descend(tuple(entity.children.values()), depth, matching)


def _matches(entity: Entity, matching: list[list[tuple[str, Matches]]]) -> bool:
    return all(matches(entity.value(keyword)) for keyword, matches in matching[entity.depth])


def _entity(depth: int, texts: Mapping[str, str], parent: Entity | None) -> Entity:
    return Entity(depth, _attributes(depth, texts), parent)


def _attributes(depth: int, texts: Mapping[str, str]) -> dict[str, str]:
    return {keyword: texts[keyword] for keyword in KEYS[LEVELS[depth]] if texts.get(keyword)}


def _read(path: Path) -> dict[str, str]:
    """The attributes of a file that are keys, as text by keyword; values that are none of their VR are left out."""
    texts: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=TAGS)
        except _UNREADABLE as error:
            raise DatasetError(f"{path}: {error}") from error
        for tag in sorted(dataset.keys()):
            keyword = keyword_for_tag(tag)
            if keyword in DEPTHS:
                texts[keyword] = _text(dataset, tag)
    return texts


def _text(dataset: Dataset, tag: Any) -> str:
    try:
        value = dataset[tag].value
    except _UNREADABLE:
        return ""
    if value is None:
        return ""
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)
