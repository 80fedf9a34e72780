"""The plan of a migration: which studies a PACS has, and in which order they are to be moved."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping
from contextlib import aclosing
from datetime import date, timedelta
from itertools import chain
from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.ledger.model import StudyJob
from fastmove.services.profile import PacsProfile
from fastmove.services.selection.extent import date_range, plain_date
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Once, Query, Selection, Wanted
from fastmove.services.selection.sweep import Find
from fastmove.services.selection.worklist import entries

TOLD: Final = ("StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
"""What is asked of each study beside its UID and patient."""

_LAST: Final = date.max.toordinal()

UNDATED: Final = _LAST + 1
"""The rank of a study without a date: behind all others..."""

UNEXPECTED: Final = UNDATED + 1
"""... of its kind: studies of patients who are not expected come behind all of those who are, by so much."""


def _newest(day: int) -> int:
    return _LAST - day


def _oldest(day: int) -> int:
    return day


PRIORS: Final = "priors"
"""Studies of patients who are expected come first: what a radiologist will want to compare with."""

ORDERS: Final[dict[str, Callable[[int], int]]] = {"newest": _newest, "oldest": _oldest, PRIORS: _newest}
"""The rank of a study by the day that it was made, as a number: what is lower is moved first."""


EVERYTHING: Final = Selection(queries=(Query(()),))
"""All studies that there are, those without a date as well."""

_DATED: Final = Selection(queries=(Query(("StudyDate=18000101-",)),))


async def inventory(
    selection: Selection,
    find: Find,
    unresolved: Callable[[Unresolved], None],
    *,
    today: date,
    order: str = "newest",
    expected: Collection[str] = (),
    priority: int = 0,
    profile: PacsProfile | None = None,
) -> AsyncGenerator[StudyJob, None]:
    """The studies of a selection as they are found, each once; `expected` are patient IDs, for the order PRIORS.

    A study that is named by its UID, and that the PACS does not know, is among them, and `unresolved` is told: so the
    migration has to answer for it.  ConfigurationError for what is no whole study, and what `resolve` raises.
    """
    known = profile or PacsProfile()
    if selection == EVERYTHING and known.find_cap is None:
        found = _everything(find, unresolved, today, known)
    else:
        found = resolve(selection, find, unresolved, today=today, profile=known, telling=TOLD)
    async with aclosing(found) as studies:
        async for wanted in studies:
            yield _job(wanted, order, expected, priority)


async def _everything(
    find: Find, unresolved: Callable[[Unresolved], None], today: date, profile: PacsProfile
) -> AsyncGenerator[Wanted, None]:
    """All studies of a PACS of which nobody knows how many matches it gives at once.

    By their dates they are found piece by piece.  One query without a key brings the others: it is whole if it has no
    fewer studies than have a date.  Only if it is cut off does it take queries by patient ID.
    """

    def partly(missed: Unresolved) -> None:
        if missed.found:  # else it is the next query that has to find something
            unresolved(missed)

    once = Once()
    for selection, trusted in ((_DATED, False), (EVERYTHING, True), (EVERYTHING, False)):
        before, count = len(once), 0
        cap = profile.replace(find_cap=0) if trusted else profile
        told = partly if selection is _DATED else unresolved
        found = resolve(selection, find, told, today=today, profile=cap, telling=TOLD)
        async with aclosing(found) as studies:
            async for wanted in studies:
                count += 1
                if once.is_new(wanted.study_instance_uid):
                    yield wanted
        if trusted and count >= before:
            return


def _job(wanted: Wanted, order: str, expected: Collection[str], priority: int) -> StudyJob:
    if wanted.level != "STUDY":
        raise ConfigurationError("selection", "whole studies are migrated, no series or images: name their studies")
    told: Mapping[str, str] = dict(wanted.told)
    day = plain_date(told.get("StudyDate", ""))
    count = told.get("NumberOfStudyRelatedInstances", "").strip()
    rank = UNDATED if day is None else ORDERS[order](day.toordinal())
    return StudyJob(
        study_instance_uid=wanted.study_instance_uid,
        patient_id=wanted.patient_id,
        study_date="" if day is None else day.strftime("%Y%m%d"),
        modalities=told.get("ModalitiesInStudy", ""),
        instances=int(count) if count.isascii() and count.isdigit() else None,
        priority=priority,
        rank=rank if order != PRIORS or wanted.patient_id in expected else rank + UNEXPECTED,
    )


# ---------------------------------------------------------------------- who is expected


def seen_since(days: int, today: date) -> Selection:
    """The studies of the last days: their patients may well come again."""
    since = date_range(today - timedelta(days), date.max)
    return Selection(queries=(Query((f"StudyDate={since}",)),))


async def patients_of(
    selection: Selection,
    find: Find,
    unresolved: Callable[[Unresolved], None],
    *,
    today: date,
    profile: PacsProfile | None = None,
) -> frozenset[str]:
    """The IDs of the patients of a selection; what says whose it is need not be asked for.

    Raises what `resolve` raises.
    """
    patients: set[str] = set()
    wanted: list[Wanted] = []
    queries: list[Query] = []
    for entry in chain(selection.wanted, selection.queries, *map(entries, selection.worklists)):
        if patient := _patient(entry):
            patients.add(patient)
        elif isinstance(entry, Query):
            queries.append(entry)
        else:
            wanted.append(Wanted(entry.study_instance_uid))
    asked = Selection(tuple(wanted), tuple(queries))
    found = resolve(asked, find, unresolved, today=today, profile=profile or PacsProfile(), telling=("StudyDate",))
    async with aclosing(found) as studies:
        async for study in studies:
            patients.add(study.patient_id)
    return frozenset(patients - {""})


def _patient(entry: Wanted | Query) -> str:
    if isinstance(entry, Wanted):
        return entry.patient_id
    given = dict(key.split("=", 1) for key in entry.keys if "=" in key)
    return given.get("PatientID", "")
