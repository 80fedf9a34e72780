"""What an archive keeps of patients, studies, series and instances, and which keys of a query are about that.

The keys of PS3.4 C.6; all values are text by keyword, several joined by a backslash.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydicom.datadict import dictionary_VR, tag_for_keyword

from fastmove.pacs.matching import Matches, matcher

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
UNIQUE_KEYS: Final = tuple(keywords[0] for keywords in KEYS.values())

# About the query itself and not keys (PS3.4 C.4.1.1.3.1).
_NOT_KEYS: Final = frozenset(("QueryRetrieveLevel", "RetrieveAETitle", "SpecificCharacterSet", "TimezoneOffsetFromUTC"))

ADDITIONAL: Final = {
    "NumberOfPatientRelatedStudies": "PATIENT",
    "NumberOfPatientRelatedSeries": "PATIENT",
    "NumberOfPatientRelatedInstances": "PATIENT",
    "InstanceAvailability": "PATIENT",
    "NumberOfStudyRelatedSeries": "STUDY",
    "NumberOfStudyRelatedInstances": "STUDY",
    "ModalitiesInStudy": "STUDY",
    "SOPClassesInStudy": "STUDY",
    "NumberOfSeriesRelatedInstances": "SERIES",
    "AvailableTransferSyntaxUID": "IMAGE",
}
"""What no file says: keyword → level (PS3.4 C.3.4)."""

DEPTHS: Final = {keyword: depth for depth, level in enumerate(LEVELS) for keyword in KEYS[level]} | {
    keyword: LEVELS.index(level) for keyword, level in ADDITIONAL.items()
}
"""Keyword → its level, counted from that of patients."""


def _tag(keyword: str) -> int:
    tag = tag_for_keyword(keyword)
    assert tag is not None, keyword
    return tag


_VRS: Final = {keyword: dictionary_VR(_tag(keyword)) for keyword in DEPTHS}
TAGS: Final = sorted(_tag(keyword) for keywords in KEYS.values() for keyword in keywords)
"""Those that a file has."""


def is_key(keyword: str, keys: Mapping[str, str]) -> bool:
    """True if it is kept of the Query/Retrieve Level of these keys, or of a level above."""
    return DEPTHS.get(keyword, len(LEVELS)) <= LEVELS.index(keys["QueryRetrieveLevel"])


def supports(keys: Mapping[str, str]) -> bool:
    """True if all of them are."""
    return all(keyword in _NOT_KEYS or is_key(keyword, keys) for keyword in keys)


def wanted(keys: Mapping[str, str]) -> list[str]:
    """What is asked for of each match: the keys that are kept, and the unique one of the level."""
    kept = [keyword for keyword in keys if is_key(keyword, keys)]
    return list(dict.fromkeys((*kept, KEYS[keys["QueryRetrieveLevel"]][0])))


def matchers(keys: Mapping[str, str]) -> list[list[tuple[str, Matches]]]:
    """What has to match, level by level: keyword, and whether a value does."""
    found: list[list[tuple[str, Matches]]] = [[] for _ in LEVELS]
    for keyword, key in keys.items():
        if is_key(keyword, keys) and (matches := matcher(_VRS[keyword], key)) is not None:
            found[DEPTHS[keyword]].append((keyword, matches))
    return found
