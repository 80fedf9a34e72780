"""What a PACS says of studies that are named by UID, however it takes lists of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any, Final

import pytest
from tests.unit.answering import Answering, study

from fastmove.services.profile import PacsProfile
from fastmove.services.selection.lookup import TOGETHER
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Query, Selection, Wanted

KNOWN: Final = [study(n, f"202401{n % 28 + 1:02}", patient=f"P{n}", ModalitiesInStudy="CT") for n in range(120)]


def uid(number: int) -> str:
    return f"1.2.840.{number}"


def pacs(**habits: Any) -> Answering:
    return Answering(list(KNOWN), **habits)


async def told(
    pacs: Answering, wanted: Sequence[Wanted], profile: PacsProfile | None = None
) -> tuple[list[Wanted], list[Unresolved]]:
    unknown: list[Unresolved] = []
    found = resolve(
        Selection(tuple(wanted), (Query(("PatientID=P3",)),)),
        pacs.find,
        unknown.append,
        today=date(2024, 6, 1),
        profile=profile or PacsProfile(),
        telling=("StudyDate",),
    )
    return [each async for each in found], unknown


def asked_by_uid(pacs: Answering) -> list[int]:
    """How many UIDs each query had."""
    return [len(keys["StudyInstanceUID"].split("\\")) for keys in pacs.keys_asked if "StudyInstanceUID" in keys]


async def test_listed_studies_are_looked_up_many_at_once_and_stay_in_their_order() -> None:
    quiet = pacs()
    found, unknown = await told(quiet, [Wanted(uid(n)) for n in reversed(range(120))])
    expected = [Wanted(uid(n), patient_id=f"P{n}", told=(("StudyDate", f"202401{n % 28 + 1:02}"),)) for n in range(120)]
    assert found == expected[::-1], "and what a query finds as well is not wanted twice"
    assert asked_by_uid(quiet) == [TOGETHER, TOGETHER, 20]
    assert not unknown


@pytest.mark.parametrize(
    "habits",
    [{"uid_lists": False}, {"cap": 7}, {"cap": 7, "status": 0xA700}, {"ignores": frozenset(("StudyInstanceUID",))}],
    ids=["goes by the first", "cuts off", "fails", "gives everything"],
)
async def test_all_are_found_however_a_pacs_takes_lists(habits: dict[str, Any]) -> None:
    wanted = [Wanted(uid(n)) for n in range(60)]
    poor = pacs(**habits)
    if "ignores" in habits:  # what is asked for alone is given alone
        find = poor.find

        def picky(keys: Sequence[str], level: str) -> Any:
            poor.ignores = frozenset(("StudyInstanceUID",) if any("\\" in key for key in keys) else ())
            return find(keys, level)

        poor.find = picky  # type: ignore[method-assign]
    found, unknown = await told(poor, wanted)
    assert {each.study_instance_uid for each in found if each.told} == {uid(n) for n in range(60)}
    assert not unknown
    assert not poor.answering, "no query may begin while another one is being answered"


@pytest.mark.parametrize("habits", [{"uid_lists": False}, {"status": 0xC000, "cap": 7}])
async def test_pacs_that_takes_no_lists_is_not_given_another_one(habits: dict[str, Any]) -> None:
    poor = pacs(**habits)
    await told(poor, [Wanted(uid(n)) for n in range(120)])
    assert [count for count in asked_by_uid(poor) if count > 1] == [TOGETHER]


async def test_profile_that_says_no_lists_is_believed() -> None:
    quiet = pacs()
    found, _ = await told(quiet, [Wanted(uid(n)) for n in range(3)], PacsProfile(find_uid_lists=False))
    assert all(each.told for each in found)
    assert asked_by_uid(quiet) == [1, 1, 1]


async def test_study_that_the_pacs_does_not_know_is_wanted_all_the_same_and_told() -> None:
    nobody = Wanted("1.2.3.4", patient_id="X")
    found, unknown = await told(pacs(), [Wanted(uid(0)), nobody, Wanted(uid(1))])
    assert nobody in found
    assert unknown == [Unresolved(Query(("StudyInstanceUID=1.2.3.4",)), "nothing matches", named=True)]


async def test_study_that_the_pacs_fails_for_is_told_with_its_answer() -> None:
    found, unknown = await told(pacs(fails_for=uid(5)), [Wanted(uid(n)) for n in range(4, 7)])
    assert [each.study_instance_uid for each in found if not each.told] == [uid(5)]
    assert [(each.query.keys, each.named) for each in unknown] == [((f"StudyInstanceUID={uid(5)}",), True)]
    assert "cannot be encoded" in unknown[0].reason


async def test_series_are_wanted_as_they_are_named() -> None:
    quiet = pacs()
    series = Wanted(uid(1), "1.9")
    found, unknown = await told(quiet, [series])
    assert series in found
    assert not unknown
    assert not asked_by_uid(quiet)
