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
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.multival import MultiValue

from fastmove.errors import DatasetError
from fastmove.pacs.matching import Matches, matcher
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.quarantine import QUARANTINE

# Level → the attributes that are kept of it, its unique key first (PS3.4 C.6.1.1, C.6.2.1).
KEYS: Final[dict[str, tuple[str, ...]]] = {
    "PATIENT": (
        "PatientID",
        "PatientName",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientBirthTime",
        "PatientSex",
        "OtherPatientIDs",
        "EthnicGroup",
        "PatientComments",
    ),
    "STUDY": (
        "StudyInstanceUID",
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "StudyID",
        "StudyDescription",
        "ReferringPhysicianName",
        "NameOfPhysiciansReadingStudy",
        "AdmittingDiagnosesDescription",
        "PatientAge",
        "PatientSize",
        "PatientWeight",
        "Occupation",
        "AdditionalPatientHistory",
    ),
    "SERIES": (
        "SeriesInstanceUID",
        "Modality",
        "SeriesNumber",
        "SeriesDescription",
        "SeriesDate",
        "SeriesTime",
        "BodyPartExamined",
        "Laterality",
        "ProtocolName",
        "PatientPosition",
        "InstitutionName",
        "StationName",
        "Manufacturer",
        "ManufacturerModelName",
        "OperatorsName",
        "PerformingPhysicianName",
        "PerformedProcedureStepStartDate",
        "PerformedProcedureStepStartTime",
        "FrameOfReferenceUID",
    ),
    "IMAGE": (
        "SOPInstanceUID",
        "SOPClassUID",
        "InstanceNumber",
        "ImageType",
        "ContentDate",
        "ContentTime",
        "AcquisitionDate",
        "AcquisitionTime",
        "AcquisitionNumber",
        "Rows",
        "Columns",
        "BitsAllocated",
        "NumberOfFrames",
        "SliceLocation",
    ),
}
LEVELS: Final = tuple(KEYS)
_UNIQUE_KEYS: Final = tuple(keywords[0] for keywords in KEYS.values())
_STUDY: Final = LEVELS.index("STUDY")

# About the query itself and not keys (PS3.4 C.4.1.1.3.1).
_NOT_KEYS: Final = frozenset(("QueryRetrieveLevel", "RetrieveAETitle", "SpecificCharacterSet", "TimezoneOffsetFromUTC"))

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
        while entity is not None and entity.depth > _DEPTHS[keyword]:
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


# What no file says: keyword → level, how it is found out (PS3.4 C.3.4).
_ADDITIONAL: Final[dict[str, tuple[str, Callable[[Entity], str]]]] = {
    "NumberOfPatientRelatedStudies": ("PATIENT", _count("STUDY")),
    "NumberOfPatientRelatedSeries": ("PATIENT", _count("SERIES")),
    "NumberOfPatientRelatedInstances": ("PATIENT", _count("IMAGE")),
    "NumberOfStudyRelatedSeries": ("STUDY", _count("SERIES")),
    "NumberOfStudyRelatedInstances": ("STUDY", _count("IMAGE")),
    "ModalitiesInStudy": ("STUDY", _distinct("SERIES", "Modality")),
    "SOPClassesInStudy": ("STUDY", _distinct("IMAGE", "SOPClassUID")),
    "NumberOfSeriesRelatedInstances": ("SERIES", _count("IMAGE")),
    "AvailableTransferSyntaxUID": ("IMAGE", lambda entity: entity.file.transfer_syntax_uid if entity.file else ""),
    "InstanceAvailability": ("PATIENT", lambda _: "ONLINE"),
}
_DERIVED: Final = {keyword: derive for keyword, (_, derive) in _ADDITIONAL.items()}
_DEPTHS: Final = {keyword: depth for depth, level in enumerate(LEVELS) for keyword in KEYS[level]} | {
    keyword: LEVELS.index(level) for keyword, (level, _) in _ADDITIONAL.items()
}


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


_VRS: Final = {keyword: dictionary_VR(_tag(keyword)) for keyword in _DEPTHS}
_TAGS: Final = sorted(_tag(keyword) for keywords in KEYS.values() for keyword in keywords)


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
        return all(keyword in _NOT_KEYS or _supported(keyword, keys) for keyword in keys)

    def find(self, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        """The requested attributes of every entity of the Query/Retrieve Level that matches (PS3.4 C.4.1)."""
        level = keys["QueryRetrieveLevel"]
        wanted = [keyword for keyword in keys if _supported(keyword, keys)]
        wanted = list(dict.fromkeys((*wanted, KEYS[level][0])))
        for entity in self._matching(keys, level):
            yield {keyword: entity.value(keyword) for keyword in wanted}

    def instances(self, keys: Mapping[str, str]) -> list[DicomFile]:
        """The files of every instance below the entities that match (PS3.4 C.4.2)."""
        entities = self._matching(keys, keys["QueryRetrieveLevel"])
        return [image.file for entity in entities for image in entity.below("IMAGE") if image.file is not None]

    def _matching(self, keys: Mapping[str, str], level: str) -> Iterator[Entity]:
        matchers: list[list[tuple[str, Matches]]] = [[] for _ in LEVELS]
        for keyword, key in keys.items():
            if _supported(keyword, keys) and (matches := matcher(_VRS[keyword], key)) is not None:
                matchers[_DEPTHS[keyword]].append((keyword, matches))
        depth = LEVELS.index(level)
        for start in range(depth, 0, -1):  # a Patient ID is no UID: it may have wild cards
            if uids := keys.get(_UNIQUE_KEYS[start], "").strip("* "):
                return _descend(self._with_uid(start, uids, matchers), depth, matchers)
        return _descend(tuple(self._patients.values()), depth, matchers)

    def _with_uid(self, depth: int, uids: str, matchers: list[list[tuple[str, Matches]]]) -> Iterator[Entity]:
        """Those with one of these UIDs whose levels above match."""
        for uid in dict.fromkeys(uids.split("\\")):
            for entity in self._by_uid[depth].get(uid, ()):
                above = entity.parent
                while above is not None and _matches(above, matchers):
                    above = above.parent
                if above is None:
                    yield entity


def _descend(entities: Iterable[Entity], depth: int, matchers: list[list[tuple[str, Matches]]]) -> Iterator[Entity]:
    # Level by level with what matches: that is the hierarchical search, and the relational one as well.
    for entity in entities:
        if not _matches(entity, matchers):
            continue
        if entity.depth == depth:
            yield entity
        else:
            # A copy, as objects may be stored while a query is answered.
            yield from _descend(tuple(entity.children.values()), depth, matchers)


def _matches(entity: Entity, matchers: list[list[tuple[str, Matches]]]) -> bool:
    return all(matches(entity.value(keyword)) for keyword, matches in matchers[entity.depth])


def _supported(keyword: str, keys: Mapping[str, str]) -> bool:
    return _DEPTHS.get(keyword, len(LEVELS)) <= LEVELS.index(keys["QueryRetrieveLevel"])


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
            dataset = dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
        except _UNREADABLE as error:
            raise DatasetError(f"{path}: {error}") from error
        for tag in sorted(dataset.keys()):
            keyword = keyword_for_tag(tag)
            if keyword in _DEPTHS:
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
