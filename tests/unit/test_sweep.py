"""Sweeps: complete answers in spite of caps, in as few queries as can be, or an error that names what is missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from datetime import date, timedelta
from typing import Final

import pytest
from tests.unit.answering import TOO_MANY, Answering, Study, study

from fastmove.errors import DimseError, QueryIncomplete
from fastmove.services.selection import sweep as sweep_module
from fastmove.services.selection.selection import Query
from fastmove.services.selection.sweep import Cap, Sweep

TODAY: Final = date(2024, 6, 1)
CAPS: Final = [(None, True), (TOO_MANY, True), (TOO_MANY, False), (0xC001, False), (0xFE00, True), (0xB000, True)]

CUT_OR_FAILED: Final = [(None, True), (TOO_MANY, False)]


def uid(match: Mapping[str, str]) -> str:
    return match["StudyInstanceUID"]


async def swept(pacs: Answering, *keys: str, cap: Cap | None = None, level: str = "STUDY") -> list[str]:
    sweep = Sweep(pacs.find, Query(keys, level), cap or Cap(), TODAY, uid)
    return [each async for each in sweep.matches()]


def uids(studies: list[Study]) -> list[str]:
    return sorted(each["StudyInstanceUID"] for each in studies)


def practice(days: int = 12, a_day: int = 40) -> list[Study]:
    """Studies at all hours of days that follow, each of another patient."""
    begin = date(2024, 3, 1)
    return [
        study(
            day * a_day + number,
            f"{begin + timedelta(day):%Y%m%d}",
            f"{7 + number % 12:02}{number * 7 % 60:02}{number * 13 % 60:02}",
            f"P{(day * a_day + number) * 7919 % 10000:04}",
            AccessionNumber=f"A{day * a_day + number}",
        )
        for day in range(days)
        for number in range(a_day)
    ]


# ---------------------------------------------------------------------- without a cap


@pytest.mark.parametrize(
    ("keys", "queries", "matches"),
    [
        (["AccessionNumber=A7"], 1, 1),
        (["AccessionNumber=none"], 1, 0),
        (["StudyDate=20240301-20240312"], 3, 480),  # and both halves
        (["StudyDate=20240303"], 2, 40),  # and three days
        (["PatientID=P0*"], 6, 48),  # and days around today, until they are more
    ],
)
async def test_pacs_without_a_cap_is_asked_hardly_more_than_once(keys: list[str], queries: int, matches: int) -> None:
    pacs = Answering(practice())
    assert len(await swept(pacs, *keys)) == matches
    assert len(pacs.asked) == queries


async def test_where_it_is_known_that_there_is_no_cap_one_query_is_enough() -> None:
    pacs = Answering(practice())
    assert len(await swept(pacs, cap=Cap(0))) == 480
    assert len(pacs.asked) == 1


async def test_what_has_been_given_once_is_no_cap_in_other_queries() -> None:
    pacs = Answering(practice())
    cap = Cap()
    await swept(pacs, "StudyDate=20240301-20240312", cap=cap)
    pacs.asked.clear()
    for day in range(20240301, 20240313):
        assert len(await swept(pacs, f"StudyDate={day}", cap=cap)) == 40
    assert len(pacs.asked) == 12


# ---------------------------------------------------------------------- with one


@pytest.mark.parametrize(("status", "gives"), CAPS)
@pytest.mark.parametrize("keys", [(), ("StudyDate=20240301-20240312",), ("StudyDate=20240201-",)])
async def test_all_studies_are_found_once_in_spite_of_a_cap(
    status: int | None, gives: bool, keys: tuple[str, ...]
) -> None:
    pacs = Answering(practice(), 100, status, gives_before_failing=gives)
    assert sorted(await swept(pacs, *keys)) == uids(pacs.studies)
    assert len(pacs.asked) < 500


async def test_number_of_queries_is_that_of_the_answers_it_takes() -> None:
    pacs = Answering(practice(), 100)
    await swept(pacs, "StudyDate=20240301-20240312")
    assert len(pacs.asked) < 4 * len(pacs.studies) / 100 + 12


@pytest.mark.parametrize(("status", "gives"), CUT_OR_FAILED)
async def test_a_day_that_is_too_much_is_parted_by_time_and_never_over_midnight(
    status: int | None, gives: bool
) -> None:
    pacs = Answering(practice(days=3, a_day=200), 60, status, gives_before_failing=gives)
    assert sorted(await swept(pacs, "StudyDate=20240301-20240303")) == uids(pacs.studies)
    timed = [keys for keys in pacs.keys_asked if "StudyTime" in keys]
    assert timed
    for keys in timed:
        assert len(keys["StudyDate"]) == 8
        start, _, end = keys["StudyTime"].partition("-")
        assert start <= end


async def test_cap_that_a_profile_tells_is_believed() -> None:
    pacs = Answering(practice(), 100)
    assert len(await swept(pacs, "StudyDate=20240303", cap=Cap(100))) == 40
    assert len(pacs.asked) == 1


async def test_cap_that_a_profile_tells_and_that_is_too_low_is_not_believed_any_more() -> None:
    pacs = Answering(practice(), 300)
    cap = Cap(100)
    assert sorted(await swept(pacs, "StudyDate=20240301-20240312", cap=cap)) == uids(pacs.studies)
    assert not cap.is_told and cap.most == 300


# ---------------------------------------------------------------------- what ranges do not find


@pytest.mark.parametrize(("status", "gives"), CUT_OR_FAILED)
@pytest.mark.parametrize("wild", [(), ("StudyDate=20240301-20240303",)], ids=["all", "dated"])
async def test_studies_without_a_time_are_found_on_days_that_are_too_much(
    status: int | None, gives: bool, wild: tuple[str, ...]
) -> None:
    studies = [*practice(3, 150), *(study(9000 + n, "20240302", "", f"Q{n}") for n in range(15))]
    pacs = Answering(studies, 100, status, gives_before_failing=gives)
    assert sorted(await swept(pacs, *wild)) == uids(studies)


@pytest.mark.parametrize(("status", "gives"), CUT_OR_FAILED)
async def test_studies_without_a_date_are_found(status: int | None, gives: bool) -> None:
    studies = [*practice(10), *(study(9000 + n, "", "1015", f"Q{n}") for n in range(15))]
    studies += [study(9100 + n, "", "", f"äöü-{n}") for n in range(3)]  # of which one is in the answer that was cut
    pacs = Answering(studies[::-1], 100, status or None, gives_before_failing=gives)
    if status is not None and not gives:  # nobody has seen an umlaut: documented
        pacs.studies = [each for each in pacs.studies if each["PatientID"].isascii()]
    assert sorted(await swept(pacs)) == uids(pacs.studies)


async def test_what_has_no_date_is_not_looked_for_where_a_date_is_wanted() -> None:
    pacs = Answering([*practice(10), study(9000, "", "", "Q")], 100)
    assert "1.2.840.9000" not in await swept(pacs, "StudyDate=20240101-")
    assert all("StudyDate" in keys for keys in pacs.keys_asked)


@pytest.mark.parametrize("day", ["18980101", "20991231", "2024.03.03"])
async def test_strange_dates_are_found_where_none_is_asked_for(day: str) -> None:
    pacs = Answering([*practice(10), study(9000, day, "101500", "Q")], 100)
    assert "1.2.840.9000" in await swept(pacs)


async def test_times_to_the_minute_are_found_by_a_pacs_that_compares_text() -> None:
    studies = [study(n, "20240303", f"{n // 60:02}{n % 60:02}", f"P{n:04}") for n in range(0, 1440, 3)]
    pacs = Answering(studies, 100, compares_text=True)
    assert sorted(await swept(pacs, "StudyDate=20240303")) == uids(studies)


async def test_more_at_one_second_than_the_pacs_gives_are_told_apart_by_patient_id() -> None:
    studies = [study(n, "20240303", "000000", f"MRN{n:05}") for n in range(250)]
    pacs = Answering([*practice(5), *studies], 100)
    found = await swept(pacs, "StudyDate=20240303")
    assert set(uids(studies)) <= set(found)


async def test_pacs_for_which_case_does_not_matter_is_not_asked_for_both() -> None:
    studies = [study(n, "20240303", "", f"{'abcdefgh'[n % 8]}{n:05}") for n in range(250)]
    pacs = Answering(studies, 100, folds_case=True)
    assert sorted(await swept(pacs, "StudyDate=20240303")) == uids(studies)
    begins = [keys["PatientID"] for keys in pacs.keys_asked if "PatientID" in keys and "?" not in keys["PatientID"]]
    assert not {"A0*", "a0*"} <= set(begins)


# ---------------------------------------------------------------------- what cannot be had


async def test_error_names_the_range_that_cannot_be_parted() -> None:
    studies = [study(9000 + n, "20240103", "101500", "4711") for n in range(101)]
    pacs = Answering([*practice(), *studies], 100)
    found = []
    with pytest.raises(QueryIncomplete) as caught:
        async for each in Sweep(pacs.find, Query(("StudyDate=20240101-20240312",)), Cap(), TODAY, uid).matches():
            found.append(each)
    assert len(found) == len(set(found)) == 580
    assert (
        "the PACS gives at most 100 studies, and may have more that were made on 20240103 between 10:15:00 and"
        in str(caught.value)
    )
    assert "'4711'" in str(caught.value)


async def test_a_number_that_turns_out_to_be_no_cap_is_no_error() -> None:
    burst = [study(9000 + n, "20230103", "101500", "4711") for n in range(50)]
    days = ["20240103"] * 80 + ["20240203"] * 80
    later = [study(9100 + n, day, f"{10 + n % 10}0000", f"Q{n}") for n, day in enumerate(days)]
    pacs = Answering([*burst, *later], 100, TOO_MANY, gives_before_failing=False)
    assert len(await swept(pacs, "StudyDate=20230101-20240228")) == 50 + 160


@pytest.mark.parametrize("keys", [(), ("StudyDate=20240301-20240302",)])
async def test_studies_that_come_up_and_are_in_no_part_are_told_of(keys: tuple[str, ...]) -> None:
    studies = practice(2, 150)
    studies[7]["PatientID"] = "*7"  # no key finds it: with a star it would mean others as well
    with pytest.raises(QueryIncomplete, match="1 of the studies that .* are in none of its parts"):
        await swept(Answering(studies, 100), *keys)


async def test_study_that_has_gone_when_it_is_asked_for_again_is_told_of() -> None:
    class Forgetful(Answering):
        async def find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
            async for match in super().find(keys, level):
                yield match
            self.studies = [each for each in self.studies if each["PatientID"] != "P0000"]

    with pytest.raises(QueryIncomplete, match="1 of the studies that were made in 20240301-20240312 are in none"):
        await swept(Forgetful(practice(), 100), "StudyDate=20240301-20240312")


@pytest.mark.parametrize(
    ("status", "words"),
    [(None, "at most 100 studies, and may have more that have no date"), (TOO_MANY, "may have more that have no date")],
)
async def test_patient_with_more_studies_than_the_pacs_gives_is_told_of(status: int | None, words: str) -> None:
    studies = [study(n, f"{date(2020, 1, 1) + timedelta(n):%Y%m%d}", "101500", "4711") for n in range(150)]
    pacs = Answering(studies, 100, status)
    with pytest.raises(QueryIncomplete, match=words):
        await swept(pacs, "PatientID=4711")


async def test_study_that_the_pacs_cannot_tell_costs_no_other() -> None:
    pacs = Answering(practice(), fails_for="1.2.840.77")
    found = []
    with pytest.raises(QueryIncomplete, match=r"fails \(status C001: cannot be encoded\) for studies that were"):
        async for each in Sweep(pacs.find, Query(("StudyDate=20240301-20240312",)), Cap(), TODAY, uid).matches():
            found.append(each)
    assert sorted([*found, "1.2.840.77"]) == uids(pacs.studies)


class Broken(Answering):
    """Fails, whatever is asked for."""

    async def find(self, keys, level):  # type: ignore[no-untyped-def]
        self.asked.append((tuple(keys), level))
        if self.status:
            raise DimseError(self.status, "no")
        yield {}


@pytest.mark.parametrize(("status", "queries"), [(0xA900, 1), (0x0122, 1), (0x0124, 1), (0xA700, 60), (0xC000, 60)])
async def test_pacs_that_always_fails_is_not_asked_forever(status: int, queries: int) -> None:
    pacs = Broken([], status=status)
    with pytest.raises(DimseError) as caught:
        await swept(pacs)
    assert caught.value.status == status
    assert len(pacs.asked) <= queries


async def test_pacs_that_does_not_go_by_time_is_asked_by_patient_id() -> None:
    pacs = Answering(practice(2, 200), 100, ignores=frozenset(("StudyTime",)))
    assert sorted(await swept(pacs, "StudyDate=20240301-20240302")) == uids(pacs.studies)
    assert len(pacs.asked) < 1000


async def test_pacs_that_does_not_go_by_date_is_found_out() -> None:
    pacs = Answering(practice(2, 200), 100, ignores=frozenset(("StudyDate",)))
    with pytest.raises(QueryIncomplete, match="the PACS gives others, too"):
        await swept(pacs, "StudyDate=20240301-20240302")
    assert len(pacs.asked) < 300


@pytest.mark.parametrize("status", [None, TOO_MANY])
async def test_pacs_without_wild_cards_cannot_prove_that_nothing_lacks_a_time(status: int | None) -> None:
    pacs = Answering(practice(2, 200), 100, status, gives_before_failing=False, wild_cards=False)
    with pytest.raises(QueryIncomplete, match="made on 20240301"):
        await swept(pacs, "StudyDate=20240301-20240302")


async def test_pacs_that_goes_by_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep_module, "SWEEP_QUERIES", 200)
    hidden = frozenset(("StudyDate", "StudyTime", "PatientID"))
    pacs = Answering(practice(1, 200), 100, ignores=hidden, hides=hidden)
    with pytest.raises(QueryIncomplete, match="given up after"):
        await swept(pacs)
    assert len(pacs.asked) < 200 + 10 * 100 + 2


# ---------------------------------------------------------------------- how it is delivered


async def test_answer_has_ended_before_anything_of_it_is_delivered() -> None:
    pacs = Answering(practice(), 100)
    async for _ in Sweep(pacs.find, Query(()), Cap(), TODAY, uid).matches():
        assert pacs.answering == 0


async def test_sweep_that_is_broken_off_leaves_no_query_open() -> None:
    pacs = Answering(practice(), 100)
    async with aclosing(Sweep(pacs.find, Query(()), Cap(), TODAY, uid).matches()) as found:
        async for _ in found:
            break
    assert pacs.answering == 0


async def test_match_that_comes_twice_is_delivered_once() -> None:
    pacs = Answering(practice(3), 100, times_each=2)
    assert sorted(await swept(pacs)) == uids(pacs.studies)


async def test_series_and_instances_are_swept_by_their_own_uids() -> None:
    series = [study(1, "20240303", "101500", "P", SeriesInstanceUID=f"1.2.{n}") for n in range(5)]
    pacs = Answering([], below={"SERIES": series})
    sweep = Sweep(pacs.find, Query((), "SERIES"), Cap(), TODAY, lambda match: match["SeriesInstanceUID"])
    assert [each async for each in sweep.matches()] == [f"1.2.{n}" for n in range(5)]


async def test_keys_by_number_are_understood() -> None:
    pacs = Answering(practice())
    assert await swept(pacs, "0008,0050=A7") == ["1.2.840.7"]
    assert len(await swept(pacs, "(0008,0020)=20240303")) == 40
