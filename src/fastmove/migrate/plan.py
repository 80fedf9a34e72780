"""The plan of a migration: which studies a PACS has, and in which order they are to be moved."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from datetime import date
from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.ledger.model import StudyJob
from fastmove.services.profile import PacsProfile
from fastmove.services.selection.extent import plain_date
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Selection, Wanted
from fastmove.services.selection.sweep import Find

TOLD: Final = ("StudyDate", "ModalitiesInStudy", "NumberOfStudyRelatedInstances")
"""What is asked of each study beside its UID and patient."""

_LAST: Final = date.max.toordinal()

ORDERS: Final[dict[str, Callable[[int], int]]] = {"newest": lambda day: _LAST - day, "oldest": lambda day: day}
"""The rank of a study by the day that it was made, as a number: what is lower is moved first."""

UNDATED: Final = _LAST + 1
"""The rank of a study without a date: behind all others."""


async def inventory(
    selection: Selection,
    find: Find,
    unresolved: Callable[[Unresolved], None],
    *,
    today: date,
    order: str = "newest",
    priority: int = 0,
    profile: PacsProfile | None = None,
) -> AsyncGenerator[StudyJob, None]:
    """The studies of a selection as they are found, each once.

    ConfigurationError for what is no whole study, and what `resolve` raises.
    """
    found = resolve(selection, find, unresolved, today=today, profile=profile or PacsProfile(), telling=TOLD)
    async with aclosing(found) as studies:
        async for wanted in studies:
            yield _job(wanted, order, priority)


def _job(wanted: Wanted, order: str, priority: int) -> StudyJob:
    if wanted.level != "STUDY":
        raise ConfigurationError("selection", "whole studies are migrated, no series or images: name their studies")
    told: Mapping[str, str] = dict(wanted.told)
    day = plain_date(told.get("StudyDate", ""))
    count = told.get("NumberOfStudyRelatedInstances", "").strip()
    return StudyJob(
        study_instance_uid=wanted.study_instance_uid,
        patient_id=wanted.patient_id,
        study_date="" if day is None else day.strftime("%Y%m%d"),
        modalities=told.get("ModalitiesInStudy", ""),
        instances=int(count) if count.isascii() and count.isdigit() else None,
        priority=priority,
        rank=UNDATED if day is None else ORDERS[order](day.toordinal()),
    )
