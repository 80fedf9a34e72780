"""What is planned, and in which order: at a PACS that needs no network."""

from __future__ import annotations

from datetime import date
from typing import Any, Final

import pytest

from fastmove.errors import ConfigurationError
from fastmove.ledger.model import StudyJob
from fastmove.migrate.plan import EVERYTHING, inventory, patients_of, seen_since
from fastmove.services.profile import PacsProfile
from fastmove.services.selection.resolution import Unresolved
from fastmove.services.selection.selection import Query, Selection, Wanted, Worklist
from tests.unit.answering import Answering, study

TODAY: Final = date(2024, 6, 1)

OLD, PRIOR, LAST, CURRENT, NOBODYS, UNDATED = HELD = (
    study(1, "20100101", patient="A", ModalitiesInStudy="CT\\SR", NumberOfStudyRelatedInstances="100"),
    study(2, "20200101", patient="B", ModalitiesInStudy="MR", NumberOfStudyRelatedInstances="10"),
    study(3, "20240101", patient="A", ModalitiesInStudy="CR", NumberOfStudyRelatedInstances="2"),
    study(4, "20240530", patient="B", ModalitiesInStudy="MR", AccessionNumber="B4", StudyDescription="HEAD"),
    study(5, "20231231", ModalitiesInStudy="US", StudyDescription="ABDOMEN"),
    study(6, "", patient="B", ModalitiesInStudy="CT", StudyDescription="HEAD CT"),
)

ALL: Final = Selection(queries=(Query(("ModalitiesInStudy=CT\\MR\\CR\\US",)),))


def uids(*studies: dict[str, str]) -> list[str]:
    return [each["StudyInstanceUID"] for each in studies]


async def planned(
    selection: Selection = ALL, pacs: Answering | None = None, **options: Any
) -> tuple[list[StudyJob], list[Unresolved]]:
    """In the order in which they would be moved."""
    told: list[Unresolved] = []
    held = pacs or Answering(list(HELD))
    jobs = [job async for job in inventory(selection, held.find, told.append, today=TODAY, **options)]
    return sorted(jobs, key=lambda job: (-job.priority, job.rank)), told


async def order(**options: Any) -> list[str]:
    return [job.study_instance_uid for job in (await planned(**options))[0]]


async def test_newest_come_first_or_oldest_and_those_without_a_date_last() -> None:
    assert await order() == uids(CURRENT, LAST, NOBODYS, PRIOR, OLD, UNDATED)
    assert await order(order="oldest") == uids(OLD, PRIOR, NOBODYS, LAST, CURRENT, UNDATED)


async def test_priors_of_those_who_are_expected_come_before_all_others_each_newest_first() -> None:
    expected = frozenset("B")
    assert await order(order="priors", expected=expected) == uids(CURRENT, PRIOR, UNDATED, LAST, NOBODYS, OLD)
    assert await order(order="priors") == await order(order="newest")


async def test_those_who_are_expected_do_not_matter_to_another_order() -> None:
    assert await order(order="newest", expected=frozenset("B")) == await order()


async def test_listed_study_is_planned_by_its_date_and_with_what_the_pacs_counts() -> None:
    table = Worklist("list.txt", "\n".join(["StudyInstanceUID", *uids(OLD, LAST, PRIOR)]).encode())
    jobs, told = await planned(Selection(worklists=(table,)))
    assert [(job.study_date, job.modalities, job.instances, job.patient_id) for job in jobs] == [
        ("20240101", "CR", 2, "A"),
        ("20200101", "MR", 10, "B"),
        ("20100101", "CT\\SR", 100, "A"),
    ]
    assert not told


async def test_listed_study_that_the_pacs_does_not_know_is_planned_last_and_told() -> None:
    jobs, told = await planned(Selection((Wanted("1.2.3"), Wanted(uids(OLD)[0]))))
    assert [job.study_instance_uid for job in jobs] == [*uids(OLD), "1.2.3"]
    assert [(each.query.keys, each.named) for each in told] == [(("StudyInstanceUID=1.2.3",), True)]


async def test_description_and_modality_are_filters() -> None:
    jobs, told = await planned(Selection(queries=(Query(("StudyDescription=HEAD*", "ModalitiesInStudy=CT")),)))
    assert [job.study_instance_uid for job in jobs] == uids(UNDATED)
    assert not told


@pytest.mark.parametrize("habits", [{}, {"cap": 11}, {"cap": 11, "status": 0xA700}], ids=["whole", "cuts off", "fails"])
async def test_everything_is_found_those_without_a_date_as_well_whatever_the_pacs_gives_at_once(
    habits: dict[str, Any],
) -> None:
    dated = [study(n, f"20{n % 20:02}0{n % 9 + 1}15", patient=f"P{n % 40}") for n in range(100)]
    undated = [study(n, patient=f"Q{n}") for n in range(100, 110)]
    pacs = Answering([*dated, *undated], **habits)
    jobs, told = await planned(EVERYTHING, pacs)
    assert sorted(job.study_instance_uid for job in jobs) == sorted(uids(*dated, *undated))
    assert [job.study_date for job in jobs[-10:]] == [""] * 10
    assert not told
    if not habits:
        assert not any("PatientID" in keys for keys in pacs.keys_asked), (
            "that takes many queries, each of a long answer"
        )


async def test_everything_may_be_studies_without_a_date() -> None:
    assert [job.study_instance_uid for job in (await planned(EVERYTHING, Answering([UNDATED])))[0]] == uids(UNDATED)
    assert not (await planned(EVERYTHING, Answering([UNDATED])))[1]
    assert (await planned(EVERYTHING, Answering([])))[1], "nothing at all is told"


async def test_one_query_is_enough_for_everything_if_the_profile_says_that_nothing_is_cut_off() -> None:
    pacs = Answering(list(HELD))
    jobs, told = await planned(EVERYTHING, pacs, profile=PacsProfile(find_cap=0))
    assert (len(jobs), told, len(pacs.asked)) == (6, [], 1)


async def test_series_cannot_be_planned() -> None:
    with pytest.raises(ConfigurationError, match="whole studies"):
        await planned(Selection((Wanted("1.2.3", "1.2.3.4"),)))


# ---------------------------------------------------------------------- who is expected


async def expected(selection: Selection, pacs: Answering | None = None) -> tuple[frozenset[str], list[Unresolved]]:
    told: list[Unresolved] = []
    held = pacs or Answering(list(HELD))
    return await patients_of(selection, held.find, told.append, today=TODAY), told


async def test_who_was_there_within_the_last_days_is_expected() -> None:
    assert (await expected(seen_since(30, TODAY)))[0] == {"B"}
    assert (await expected(seen_since(180, TODAY)))[0] == {"A", "B"}
    assert (await expected(seen_since(1, TODAY)))[0] == frozenset()


async def test_patients_that_a_list_names_need_no_query() -> None:
    pacs = Answering(list(HELD))
    table = Worklist("w.csv", b"PatientID,AccessionNumber,StudyUID\nX,N1,\nY,,1.2.3\n")
    dated = Worklist("d.csv", b"Exam Date,MRN\n2024-06-02,Z\n")
    assert await expected(Selection(worklists=(table, dated)), pacs) == (frozenset("XYZ"), [])
    assert not pacs.asked


async def test_the_pacs_says_whose_the_studies_of_a_list_are() -> None:
    table = Worklist("w.csv", f"Accession,StudyUID\nB4,\n,{uids(OLD)[0]}\nT1,\n".encode())
    patients, told = await expected(Selection(worklists=(table,)))
    assert patients == {"A", "B"}
    assert [each.query.keys for each in told] == [("AccessionNumber=T1",)]


async def test_a_study_of_nobody_makes_nobody_expected() -> None:
    assert (await expected(Selection((Wanted(uids(NOBODYS)[0]),))))[0] == frozenset()
