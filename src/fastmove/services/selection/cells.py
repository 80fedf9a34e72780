"""What a text says is wanted, be it the cell of a worklist or the value of an option: its kind, its check, its sum."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from typing import Final

from fastmove.limits import UID_BYTES
from fastmove.services.selection.selection import Query, Wanted

Entry = Wanted | Query

# Kind of a column → its keyword, and other names that exports give it, without case, spaces and punctuation.  Names
# that may as well be those of something else (study, patient, date) are not among them.
KINDS: Final[dict[str, tuple[str, str]]] = {
    "study": ("StudyInstanceUID", "studyuid studyiuid studyinstanceuids studyuids 0020000d"),
    "series": ("SeriesInstanceUID", "seriesuid seriesiuid seriesinstanceuids seriesuids 0020000e"),
    "image": ("SOPInstanceUID", "sopuid sopiuid instanceuid imageuid objectuid sopinstanceuids 00080018"),
    "accession": (
        "AccessionNumber",
        "accession acc accno accnr accnum accnumber accessionno accessionnr accessionnum accessionid accessionnumbers "
        "00080050",
    ),
    "patient": ("PatientID", "mrn pid patid patientnumber patientmrn medicalrecordnumber patientids 00100020"),
    "date": ("StudyDate", "examdate dateofstudy dateofexam examinationdate 00080020"),
}
UIDS: Final = ("study", "series", "image")

_UID: Final = re.compile(r"[0-9]+(\.[0-9]+)+")  # zeros in front of a component are let pass, as PACS do

_DATES: Final = (
    re.compile(r"(?P<year>\d{4})(?P<separator>[-./]?)(?P<month>\d\d)(?P=separator)(?P<day>\d\d)(?:[T ][\d:.]+)?"),
    re.compile(r"(?P<day>\d\d?)\.(?P<month>\d\d?)\.(?P<year>\d{4})(?: [\d:.]+)?"),
)
_SLASHES: Final = re.compile(r"\d\d?/\d\d?/\d{2,4}")
_RUINED: Final = re.compile(r"\d([.,]\d+)?E[+-]\d\d+", re.I)
_ERROR_VALUE: Final = re.compile(r"#(\w[\w/]*[!?]|N/A|NV|#+)")
_DECIMALS: Final = re.compile(r"\d+\.0+")

SHOWN_CHARS: Final = 64
"""Of a cell in a message."""

LONG_STRING_CHARS: Final = 64
"""PS3.5 6.2, VR LO; accession numbers are shorter, but PACS have longer ones."""


def wanted(values: Mapping[str, str], filters: tuple[str, ...] = ()) -> Entry:
    """What checked values by kind want: the deepest UID with those above it, or a query for studies.

    ValueError if they want nothing, or if filters are to choose among instances.
    """
    study, series, image = (values.get(kind, "") for kind in UIDS)
    if filters and (series or image):
        raise ValueError("filters choose studies, not a series or an image")
    if study and not filters and (series or not image):
        return Wanted(study, series, (image,) if image else (), values.get("patient", ""))
    # The date beside an accession number or a UID may be that of the order.
    given = [kind for kind in KINDS if kind in values and (kind != "date" or values.keys() <= {"patient", "date"})]
    if not given:
        raise ValueError("nothing says what is wanted")
    twice = {KINDS[kind][0] for kind in given} & {key.partition("=")[0] for key in filters}
    if twice:
        raise ValueError(f"{', '.join(sorted(twice))} is given already, by an option that holds for all")
    if series or image:
        given = [kind for kind in given if kind in UIDS]
    level = "IMAGE" if image else "SERIES" if series else "STUDY"
    return Query((*(f"{KINDS[kind][0]}={values[kind]}" for kind in given), *filters), level)


def check(kind: str, text: str) -> str:
    """The value of a cell as a query needs it; ValueError says what is wrong with it."""
    return _CHECKS[kind](text)


def is_uid(text: str) -> bool:
    """True if the text has the form of a UID (PS3.5 9.1)."""
    return len(text) <= UID_BYTES and _UID.fullmatch(text) is not None


def _uid(text: str) -> str:
    if is_uid(text):
        return text
    raise ValueError(_spoilt(text) or f"{text[:SHOWN_CHARS]!r} is no UID")


def _identifier(text: str) -> str:
    if spoilt := _spoilt(text):
        raise ValueError(spoilt)
    if set(text) & set("*?\\"):
        raise ValueError(f"{text[:SHOWN_CHARS]!r} would mean several: it has one of * ? \\")
    if len(text) > LONG_STRING_CHARS or not text.isprintable():
        raise ValueError(f"{text[:SHOWN_CHARS]!r} is too long, or has characters that cannot be printed")
    return text


def _spoilt(text: str) -> str:
    """What a spreadsheet or another program has made of it, if it has."""
    if _RUINED.fullmatch(text):
        return (
            f"{text!r} is what a spreadsheet makes of a long number, and digits of it are lost: "
            "give the column the format Text, and fill it anew"
        )
    if _DECIMALS.fullmatch(text):
        return f"{text!r} is a number that a program has written with decimals: zeros in front may be lost"
    return f"{text!r} is an error of the spreadsheet" if _ERROR_VALUE.fullmatch(text) else ""


def _date(text: str) -> str:
    if _SLASHES.fullmatch(text):
        raise ValueError(f"{text!r} may be a day of two months: write it as 2024-01-31")
    for pattern in _DATES:
        if found := pattern.fullmatch(text):
            try:
                return date(*(int(found[part]) for part in ("year", "month", "day"))).isoformat().replace("-", "")
            except ValueError:
                break
    raise ValueError(f"{text[:SHOWN_CHARS]!r} is no date: write it as 2024-01-31")


_CHECKS: Final[dict[str, Callable[[str], str]]] = {
    "study": _uid,
    "series": _uid,
    "image": _uid,
    "accession": _identifier,
    "patient": _identifier,
    "date": _date,
}
