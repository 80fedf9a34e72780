"""From selections to what is wanted, at a PACS that answers well, badly, or too much."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Final

import pytest
from tests.unit.answering import Answering, Study, study

from fastmove.errors import ConfigurationError, ConnectionLost, DimseError
from fastmove.services.profile import PacsProfile
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Query, Selection, Wanted, Worklist

TODAY: Final = date(2024, 6, 1)
CT_CHEST: Final = study(
    1, "20240103", "101500", "P1", AccessionNumber="A1", ModalitiesInStudy="CT\\SR", StudyDescription="CHEST ct"
)
MR_HEAD: Final = study(
    2, "20240104", "101500", "P2", AccessionNumber="A2", ModalitiesInStudy="MR", StudyDescription="Head"
)
CT_HEAD: Final = study(
    3, "20240105", "101500", "P1", AccessionNumber="A12", ModalitiesInStudy="CT", StudyDescription="HEAD"
)
STUDIES: Final = [CT_CHEST, MR_HEAD, CT_HEAD]
SERIES: Final = [
    {**each, "SeriesInstanceUID": each["StudyInstanceUID"] + f".{number}", "Modality": modality}
    for each in STUDIES
    for number, modality in enumerate(each["ModalitiesInStudy"].split("\\"))
]
IMAGES: Final = [{**each, "SOPInstanceUID": each["SeriesInstanceUID"] + f".{n}"} for each in SERIES for n in range(2)]


def pacs(*studies: Study, **habits: object) -> Answering:
    return Answering(list(studies or STUDIES), below={"SERIES": SERIES, "IMAGE": IMAGES}, **habits)  # type: ignore[arg-type]


async def resolved(
    pacs: Answering, selection: Selection, profile: PacsProfile | None = None
) -> tuple[list[Wanted], list[Unresolved]]:
    told: list[Unresolved] = []
    known = profile or PacsProfile()
    found = resolve(selection, pacs.find, told.append, today=TODAY, profile=known)
    return [wanted async for wanted in found], told


async def asked(pacs: Answering, *keys: str, level: str = "STUDY") -> tuple[list[str], list[Unresolved]]:
    """The studies that one query finds."""
    found, told = await resolved(pacs, Selection(queries=(Query(keys, level),)))
    return [wanted.study_instance_uid for wanted in found], told


# ---------------------------------------------------------------------- named by UID


async def test_what_is_named_by_uid_needs_no_query() -> None:
    quiet = pacs()
    wanted = (Wanted("1.1"), Wanted("1.2", "1.2.1"), Wanted("1.3", "1.3.1", ("1.3.1.1",)))
    assert await resolved(quiet, Selection(wanted)) == (list(wanted), [])
    assert not quiet.asked


async def test_nothing_is_wanted_twice() -> None:
    table = Worklist(
        "t", b"StudyUID,SeriesUID,SOPUID\n1.1,,\n1.1,1.2,\n1.5,1.6,1.7\n1.5,1.6,1.8\n1.5,1.6,\n1.9,1.9.1,1.9.2\n"
    )
    wanted = (Wanted("1.9", "1.9.1", ("1.9.2", "1.9.3")), Wanted("1.1"), Wanted("1.1"))
    found, told = await resolved(pacs(), Selection(wanted, worklists=(table, table)))
    assert found == [Wanted("1.1"), Wanted("1.5", "1.6"), Wanted("1.9", "1.9.1", ("1.9.2", "1.9.3"))]
    assert not told


async def test_whole_studies_come_before_series_of_others() -> None:
    table = Worklist("t", b"StudyUID,SeriesUID\n1.1,1.2\n1.3,\n1.1,\n")
    assert (await resolved(pacs(), Selection(worklists=(table,))))[0] == [Wanted("1.3"), Wanted("1.1")]


async def test_what_queries_find_is_not_wanted_again() -> None:
    quiet = pacs()
    queries = (Query(("AccessionNumber=A1",)), Query(("PatientID=P1",)), Query(("AccessionNumber=A1",)))
    found, _ = await resolved(quiet, Selection((Wanted("1.2.840.3"),), queries))
    assert [wanted.study_instance_uid for wanted in found] == ["1.2.840.3", "1.2.840.1"]
    assert len(quiet.asked) == 2


async def test_worklist_that_is_wrong_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="row 2"):
        await resolved(pacs(), Selection(worklists=(Worklist("t", b"StudyUID\nabc\n"),)))


# ---------------------------------------------------------------------- found by queries


async def test_rows_of_a_worklist_are_asked_for_one_by_one() -> None:
    table = Worklist("t", b"Accession\nA1\nA2\nA2\nnone\n")
    found, told = await resolved(pacs(), Selection(worklists=(table,)))
    assert found == [Wanted("1.2.840.1", patient_id="P1"), Wanted("1.2.840.2", patient_id="P2")]
    assert told == [Unresolved(Query(("AccessionNumber=none",)), "nothing matches")]
    assert str(told[0]) == "AccessionNumber=none: nothing matches"


async def test_match_that_is_not_what_was_asked_for_is_left_out() -> None:
    assert await asked(pacs(ignores=frozenset(("AccessionNumber",))), "AccessionNumber=A1") == (["1.2.840.1"], [])
    found, told = await asked(pacs(ignores=frozenset(("AccessionNumber",))), "AccessionNumber=A7")
    assert not found
    assert "matches that do not have this: 3" in told[0].reason


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("StudyDate=20240104-", ["1.2.840.2", "1.2.840.3"]),
        ("StudyDate=20240104", ["1.2.840.2"]),
        ("PatientID=p1", ["1.2.840.1", "1.2.840.3"]),
        ("StudyInstanceUID=1.2.840.1\\1.2.840.2", ["1.2.840.1", "1.2.840.2"]),
        ("StudyDescription=head", ["1.2.840.2", "1.2.840.3"]),
        ("StudyDescription=*CT", ["1.2.840.1"]),
        ("StudyDescription=H??D", ["1.2.840.2", "1.2.840.3"]),
        ("StudyDescription=[H]*", []),
        ("PatientName=whoever", ["1.2.840.1", "1.2.840.2", "1.2.840.3"]),  # not compared here
    ],
)
async def test_answers_are_checked_whatever_the_case(key: str, expected: list[str]) -> None:
    found, _ = await asked(pacs(ignores=frozenset((key.partition("=")[0],))), key)
    assert found == expected


async def test_study_without_a_proper_uid_is_told_of() -> None:
    found, told = await asked(pacs({**CT_CHEST, "StudyInstanceUID": "*"}, MR_HEAD), "StudyDate=20240101-")
    assert found == ["1.2.840.2"]
    assert "matches that lack the UIDs which a retrieve needs: 1" in told[0].reason
    assert told[0].found == 1


async def test_query_that_fails_does_not_keep_the_others_from_being_asked() -> None:
    class Choosy(Answering):
        async def find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
            if keys[0] == "AccessionNumber=A1":
                raise DimseError(0xA900, "cannot")
            async for match in super().find(keys, level):
                yield match

    queries = tuple(Query((f"AccessionNumber={number}",)) for number in ("A1", "A2"))
    found, told = await resolved(Choosy(STUDIES), Selection(queries=queries))
    assert [wanted.study_instance_uid for wanted in found] == ["1.2.840.2"]
    assert [(each.query, each.reason) for each in told] == [(queries[0], "status A900: cannot")]


async def test_lost_connection_ends_it() -> None:
    async def find(keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
        raise ConnectionLost("gone")
        yield {}

    with pytest.raises(ConnectionLost):
        async for _ in resolve(Selection(queries=(Query(("PatientID=1",)),)), find, lambda _: None, today=TODAY):
            pass


async def test_what_a_cap_hides_is_told_of_with_what_was_found() -> None:
    capped = pacs(*(study(n, "20240103", "101500", "P1") for n in range(30)), cap=20)
    found, told = await asked(capped, "StudyDate=20240103")
    assert len(found) == told[0].found == 20
    assert "at most 20 studies" in told[0].reason


async def test_cap_of_a_profile_is_gone_by() -> None:
    uncapped = pacs(*(study(n, "20240103", "101500", "P1") for n in range(30)))
    query = Selection(queries=(Query(("StudyDate=20240103",)),))
    assert len((await resolved(uncapped, query, PacsProfile(find_cap=0)))[0]) == 30
    assert len(uncapped.asked) == 1


# ---------------------------------------------------------------------- by modality


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [("CT", ["1.2.840.1", "1.2.840.3"]), ("sr", ["1.2.840.1"]), ("MR\\SR", ["1.2.840.2", "1.2.840.1"]), ("US", [])],
)
async def test_studies_of_modalities_are_found_one_modality_at_a_time(modalities: str, expected: list[str]) -> None:
    quiet = pacs()
    assert (await asked(quiet, f"ModalitiesInStudy={modalities}"))[0] == expected
    assert [keys["ModalitiesInStudy"] for keys in quiet.keys_asked] == modalities.upper().split("\\")


async def test_pacs_that_does_not_go_by_modality_is_asked_once_and_its_answers_are_sorted_out() -> None:
    careless = pacs(ignores=frozenset(("ModalitiesInStudy",)))
    assert (await asked(careless, "ModalitiesInStudy=MR\\SR"))[0] == ["1.2.840.1", "1.2.840.2"]
    assert len(careless.asked) == 1


async def test_pacs_that_does_not_tell_modalities_is_asked_for_series() -> None:
    unknown = frozenset(("ModalitiesInStudy",))
    silent = pacs(ignores=unknown, hides=unknown)
    assert (await asked(silent, "ModalitiesInStudy=SR\\MR"))[0] == ["1.2.840.1", "1.2.840.2"]
    assert [level for _, level in silent.asked if level == "SERIES"] == ["SERIES"] * 3


async def test_study_whose_series_cannot_be_told_is_told_of_and_the_others_come() -> None:
    class Choosy(Answering):
        async def find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
            if level == "SERIES" and "StudyInstanceUID=1.2.840.1" in keys:
                raise DimseError(0xC001, "cannot")
            async for match in super().find(keys, level):
                yield match

    hidden = frozenset(("ModalitiesInStudy",))
    choosy = Choosy(STUDIES, hides=hidden, ignores=hidden, below={"SERIES": SERIES})
    found, told = await asked(choosy, "ModalitiesInStudy=CT")
    assert found == ["1.2.840.3"]
    assert "fails (status C001: cannot) for the series of study 1.2.840.1" in told[0].reason


async def test_answer_of_studies_has_ended_before_series_are_asked_for() -> None:
    class Single(Answering):
        async def find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
            assert self.answering == 0
            async for match in super().find(keys, level):
                yield match

    hidden = frozenset(("ModalitiesInStudy",))
    single = Single(STUDIES, hides=hidden, ignores=hidden, below={"SERIES": SERIES})
    assert len((await asked(single, "ModalitiesInStudy=CT"))[0]) == 2


async def test_cap_met_by_one_modality_leaves_the_others() -> None:
    studies = [study(n, "20240103", "101500", "P1", ModalitiesInStudy="CT") for n in range(30)]
    studies.append(study(99, "20240103", "101500", "P1", ModalitiesInStudy="MR"))
    found, told = await asked(pacs(*studies, cap=20), "ModalitiesInStudy=CT\\MR")
    assert len(found) == 21 and "1.2.840.99" in found
    assert "at most 20" in told[0].reason


# ---------------------------------------------------------------------- series and images


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (Query(("SeriesInstanceUID=1.2.840.1.1",), "SERIES"), Wanted("1.2.840.1", "1.2.840.1.1", (), "P1")),
        (
            Query(("SOPInstanceUID=1.2.840.1.1.0",), "IMAGE"),
            Wanted("1.2.840.1", "1.2.840.1.1", ("1.2.840.1.1.0",), "P1"),
        ),
    ],
)
async def test_study_of_a_series_or_an_image_is_found_by_a_relational_query(query: Query, expected: Wanted) -> None:
    assert await resolved(pacs(), Selection(queries=(query,))) == ([expected], [])


async def test_image_whose_study_is_known_is_looked_for_series_by_series() -> None:
    quiet = pacs()
    query = Query(("StudyInstanceUID=1.2.840.1", "SOPInstanceUID=1.2.840.1.1.0"), "IMAGE")
    found, told = await resolved(quiet, Selection(queries=(query,)), PacsProfile(relational=False))
    assert found == [Wanted("1.2.840.1", "1.2.840.1.1", ("1.2.840.1.1.0",), "P1")]
    assert not told
    images = [keys for keys, level in quiet.asked if level == "IMAGE"]
    assert images and all(any(key.startswith("SeriesInstanceUID=") for key in keys) for keys in images)


@pytest.mark.parametrize("status", [None, 0xA900, 0xC000])
async def test_pacs_without_relational_queries_leads_to_the_advice_to_give_the_study(status: int | None) -> None:
    async def find(keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
        if status:
            raise DimseError(status, "no")
        return
        yield {}

    told: list[Unresolved] = []
    selection = Selection(queries=(Query(("SeriesInstanceUID=1.2",), "SERIES"),))
    assert [each async for each in resolve(selection, find, told.append, today=TODAY)] == []
    assert told[0].reason.endswith("the PACS may not look for a series by its UID alone: give the study UID, too")


async def test_pacs_that_is_known_to_have_no_relational_queries_is_not_asked() -> None:
    quiet = pacs()
    selection = Selection(queries=(Query(("SOPInstanceUID=1.2",), "IMAGE"),))
    found, told = await resolved(quiet, selection, PacsProfile(relational=False))
    assert not found and not quiet.asked
    assert told[0].reason == "the PACS may not look for an image by its UID alone: give the study UID, too"


async def test_series_that_the_pacs_does_not_place_in_a_study_is_told_of() -> None:
    found, told = await asked(
        pacs(hides=frozenset(("StudyInstanceUID",))), "SeriesInstanceUID=1.2.840.1.1", level="SERIES"
    )
    assert not found
    assert "that lack the UIDs" in told[0].reason and "give the study UID" in told[0].reason
