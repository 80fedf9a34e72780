"""What DCMTK calls a UID in its dumps: mostly the standard's name without blanks and signs."""

from __future__ import annotations

import re
from typing import Final

from fastmove.uids import QUERY_RETRIEVE, STORAGE_SOP_CLASSES, TRANSFER_SYNTAXES, VERIFICATION

_MODELS: Final = {
    "patient": "PatientRoot",
    "study": "StudyRoot",
    "patient-study": "PatientStudyOnly",
}

_OTHERWISE: Final[dict[str, str]] = {
    "1.2.840.10008.1.2": "LittleEndianImplicit",
    "1.2.840.10008.1.2.1": "LittleEndianExplicit",
    "1.2.840.10008.1.2.1.99": "DeflatedLittleEndianExplicit",
    "1.2.840.10008.1.2.2": "BigEndianExplicit",
    "1.2.840.10008.1.2.4.50": "JPEGBaseline",
    "1.2.840.10008.1.2.4.51": "JPEGExtended:Process2+4",
    "1.2.840.10008.1.2.4.52": "JPEGExtended:Process3+5",
    "1.2.840.10008.1.2.4.53": "JPEGSpectralSelection:Non-hierarchical:Process6+8",
    "1.2.840.10008.1.2.4.54": "JPEGSpectralSelection:Non-hierarchical:Process7+9",
    "1.2.840.10008.1.2.4.55": "JPEGFullProgression:Non-hierarchical:Process10+12",
    "1.2.840.10008.1.2.4.56": "JPEGFullProgression:Non-hierarchical:Process11+13",
    "1.2.840.10008.1.2.4.57": "JPEGLossless:Non-hierarchical:Process14",
    "1.2.840.10008.1.2.4.58": "JPEGLossless:Non-hierarchical:Process15",
    "1.2.840.10008.1.2.4.59": "JPEGExtended:Hierarchical:Process16+18",
    "1.2.840.10008.1.2.4.60": "JPEGExtended:Hierarchical:Process17+19",
    "1.2.840.10008.1.2.4.61": "JPEGSpectralSelection:Hierarchical:Process20+22",
    "1.2.840.10008.1.2.4.62": "JPEGSpectralSelection:Hierarchical:Process21+23",
    "1.2.840.10008.1.2.4.63": "JPEGFullProgression:Hierarchical:Process24+26",
    "1.2.840.10008.1.2.4.64": "JPEGFullProgression:Hierarchical:Process25+27",
    "1.2.840.10008.1.2.4.65": "JPEGLossless:Hierarchical:Process28",
    "1.2.840.10008.1.2.4.66": "JPEGLossless:Hierarchical:Process29",
    "1.2.840.10008.1.2.4.70": "JPEGLossless:Non-hierarchical-1stOrderPrediction",
    "1.2.840.10008.1.2.4.81": "JPEGLSLossy",
    "1.2.840.10008.1.2.4.90": "JPEG2000LosslessOnly",
    "1.2.840.10008.1.2.4.92": "JPEG2000MulticomponentLosslessOnly",
    "1.2.840.10008.1.2.4.93": "JPEG2000Multicomponent",
    "1.2.840.10008.1.2.4.100": "MPEG2MainProfile@MainLevel",
    "1.2.840.10008.1.2.4.101": "MPEG2MainProfile@HighLevel",
    "1.2.840.10008.1.2.4.102": "MPEG4HighProfile/Level4.1",
    "1.2.840.10008.1.2.4.103": "MPEG4BDcompatibleHighProfile/Level4.1",
    "1.2.840.10008.1.2.4.104": "MPEG4HighProfile/Level4.2For2DVideo",
    "1.2.840.10008.1.2.4.105": "MPEG4HighProfile/Level4.2For3DVideo",
    "1.2.840.10008.1.2.4.106": "MPEG4StereoHighProfile/Level4.2",
    "1.2.840.10008.1.2.4.107": "HEVCMainProfile/Level5.1",
    "1.2.840.10008.1.2.4.108": "HEVCMain10Profile/Level5.1",
    VERIFICATION: "VerificationSOPClass",
    "1.2.840.10008.5.1.4.1.1.9.1": "DRAFT_WaveformStorage",
    "1.2.840.10008.5.1.4.1.1.9.1.1": "TwelveLeadECGWaveformStorage",
    "1.2.840.10008.5.1.4.1.1.77.1": "RETIRED_VLImageStorage",
    "1.2.840.10008.5.1.4.1.1.77.2": "RETIRED_VLMultiframeImageStorage",
    "1.2.840.10008.5.1.4.1.1.79.1": "MacularGridThicknessAndVolumeReportStorage",
    "1.2.840.10008.5.1.4.1.1.88.1": "DRAFT_SRTextStorage",
    "1.2.840.10008.5.1.4.1.1.88.2": "DRAFT_SRAudioStorage",
    "1.2.840.10008.5.1.4.1.1.88.3": "DRAFT_SRDetailStorage",
    "1.2.840.10008.5.1.4.1.1.88.4": "DRAFT_SRComprehensiveStorage",
    "1.2.840.10008.5.1.4.1.1.88.70": "ImplantationPlanSRDocumentStorage",
    "1.2.840.10008.5.1.4.1.1.501.6": "DICOS_QuadrupoleResonanceStorage",
    "1.2.840.10008.5.1.4.34.1": "DRAFT_RTBeamsDeliveryInstructionStorage",
}

_RETIRED: Final = frozenset(
    f"1.2.840.10008.5.1.{last}"
    for last in (
        *("1.27", "1.29", "1.30", "4.1.1.3", "4.1.1.5", "4.1.1.6", "4.1.1.8", "4.1.1.9", "4.1.1.10", "4.1.1.11"),
        *("4.1.1.12.3", "4.1.1.129", "4.1.2.3.1", "4.1.2.3.2", "4.1.2.3.3"),
    )
)
_PREFIXES: Final = {"1.2.840.10008.5.1.4.1.1.501.": "DICOS_", "1.2.840.10008.5.1.4.1.1.601.": "DICONDE_"}


def uid_name(uid: str) -> str | None:
    """The name of a transfer syntax or SOP class; None for a UID that is neither."""
    if uid in _OTHERWISE:
        return _OTHERWISE[uid]
    name = STORAGE_SOP_CLASSES.get(uid) or _model_name(uid)
    if name is None:
        syntax = TRANSFER_SYNTAXES.get(uid)
        return None if syntax is None else syntax.keyword
    keyword = re.sub(r"[^A-Za-z0-9]", "", name)
    if uid in _RETIRED:
        return f"RETIRED_{keyword}"
    prefix = next((text for start, text in _PREFIXES.items() if uid.startswith(start)), "")
    return prefix + keyword.removeprefix(prefix.rstrip("_"))


def _model_name(uid: str) -> str | None:
    for model, root in _MODELS.items():
        classes = QUERY_RETRIEVE[model]
        for verb, known in (("FIND", classes.find), ("MOVE", classes.move), ("GET", classes.get)):
            if uid == known:
                return f"{verb}{root}QueryRetrieveInformationModel"
    return None


def shown(uid: str) -> str:
    """`=Name`, or the UID itself."""
    name = uid_name(uid)
    return uid if name is None else f"={name}"
