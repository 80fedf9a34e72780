"""Whatever an archive holds, and however its PACS cuts answers off: a sweep finds all of it, or says what it misses."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import date
from typing import Final

from hypothesis import event, given, settings
from hypothesis import strategies as st

from fastmove.errors import QueryIncomplete
from fastmove.services.selection.selection import Query
from fastmove.services.selection.sweep import Cap, Match, Sweep
from tests.unit.answering import TOO_MANY, Answering, Study, study

TODAY: Final = date(2024, 3, 1)
LEAST: Final = 3
"""Smallest cap that is expected, here."""

days = st.one_of(
    st.just(""),
    st.sampled_from(["20240103", "20240103", "20240104", "19000101", "20240302", "29991231", "2024.01.03"]),
    st.dates(date(1900, 1, 1), date(2024, 3, 2)).map(lambda day: f"{day:%Y%m%d}"),
)
times = st.one_of(
    st.just(""),
    st.sampled_from(["000000", "101500", "101500", "101500.5", "1015", "10", "235959", "235959.999999", "120000"]),
    st.times().map(lambda time: f"{time:%H%M%S}"),
)
patients = st.text("01AZa-_ .", min_size=1, max_size=4).map(str.strip).filter(bool)
rows = st.tuples(days, times, patients, st.sampled_from(("CT", "MR")))
studies = st.one_of(st.lists(rows, max_size=12), st.lists(rows, min_size=30, max_size=60)).map(
    lambda rows: [study(number, *row[:3], ModalitiesInStudy=row[3]) for number, row in enumerate(rows)]
)
caps = st.one_of(st.none(), st.integers(LEAST, 20))
statuses = st.sampled_from([None, None, TOO_MANY, 0xC001, 0xB000, 0xFE00])
orders = st.sampled_from(
    [None, lambda each: each["StudyTime"] or "999999", lambda each: each["StudyDate"], lambda each: each["PatientID"]]
)
pacs = st.builds(
    Answering,
    studies,
    cap=caps,
    status=statuses,
    gives_before_failing=st.booleans(),
    folds_case=st.booleans(),
    order=orders,
)
queries = st.sampled_from(
    [(), ("ModalitiesInStudy=CT",), ("StudyDate=20240103",), ("StudyDate=20240101-",), ("StudyDate=-20240103",)]
)


async def sweep(pacs: Answering, keys: tuple[str, ...], cap: Cap) -> tuple[list[str], QueryIncomplete | None]:
    def uid(match: Match) -> str:
        return match["StudyInstanceUID"]

    found: list[str] = []
    try:
        async for each in Sweep(pacs.find, Query(keys), cap, TODAY, uid).matches():
            found.append(each)
    except QueryIncomplete as incomplete:
        return found, incomplete
    return found, None


async def all_of(studies: list[Study], keys: tuple[str, ...]) -> set[str]:
    whole = Answering(studies)
    return {match["StudyInstanceUID"] async for match in whole.find((*keys, "StudyInstanceUID"), "STUDY")}


def told(pacs: Answering, by_profile: bool) -> Cap:
    """What is known of the PACS beforehand."""
    return Cap((pacs.cap or 0) if by_profile else None, LEAST)


@settings(max_examples=200, deadline=None)
@given(pacs, queries, st.booleans())
def test_sweep_finds_everything_once_or_says_what_it_misses(
    pacs: Answering, keys: tuple[str, ...], by_profile: bool
) -> None:
    found, incomplete = asyncio.run(sweep(pacs, keys, told(pacs, by_profile)))
    wanted = asyncio.run(all_of(pacs.studies, keys))
    assert len(found) == len(set(found))
    assert set(found) <= wanted
    if incomplete is None:
        assert set(found) == wanted
    else:
        event("incomplete")
        # Only what nothing tells apart may be missed: as much of one patient as the cap, or as was ever given.
        most = max(Counter(each["PatientID"].casefold() for each in pacs.studies).values())
        assert most >= LEAST
