from __future__ import annotations

from datetime import date, timedelta

import pytest

from fastmove.errors import ConfigurationError
from fastmove.services.selection.extent import LAST_SECOND, Extent, date_range, parse_date, parse_dates

DAY = (date(2024, 1, 3), date(2024, 1, 3))
YEAR = (date(2024, 1, 1), date(2024, 12, 31))


@pytest.mark.parametrize(
    ("extent", "keys"),
    [
        (Extent(), []),
        (Extent(DAY), ["StudyDate=20240103"]),
        (Extent(YEAR), ["StudyDate=20240101-20241231"]),
        (Extent((date.min, date(1899, 12, 31))), ["StudyDate=-18991231"]),
        (Extent((date(2024, 1, 1), date.max)), ["StudyDate=20240101-"]),
        (Extent(DAY, (0, LAST_SECOND)), ["StudyDate=20240103", "StudyTime=0000-235959.999999"]),
        (Extent(DAY, (36900, 36900)), ["StudyDate=20240103", "StudyTime=1015-101500.999999"]),
        (Extent(DAY, (36901, 36959)), ["StudyDate=20240103", "StudyTime=101501-101559.999999"]),
        (Extent(DAY, patient="A"), ["StudyDate=20240103", "PatientID=A*"]),
        (Extent(patient="A1", exact=True), ["PatientID=A1"]),
    ],
)
def test_keys_match_what_is_in_an_extent(extent: Extent, keys: list[str]) -> None:
    assert extent.keys() == keys


def test_days_are_parted_down_to_single_ones_and_none_is_lost_or_there_twice() -> None:
    days, extents = [], [Extent((date(2024, 1, 1), date(2024, 3, 1)))]
    while extents:
        extent = extents.pop()
        assert extent.dates is not None
        if extent.is_day:
            days.append(extent.dates[0])
        else:
            extents += extent.halves() or ()
    assert sorted(days) == [date(2024, 1, 1) + timedelta(n) for n in range(61)]


def test_times_are_parted_down_to_seconds_and_never_beyond_midnight() -> None:
    seconds, extents = [], [Extent(DAY)]
    while extents:
        extent = extents.pop()
        assert extent.dates == DAY
        halves = extent.halves()
        if halves is None:
            assert extent.times is not None
            seconds.append(extent.times[0])
        extents += halves or ()
    assert sorted(seconds) == list(range(LAST_SECOND + 1))


def test_dates_are_parted_before_the_first_cut_that_is_among_them() -> None:
    cuts = date(1900, 1, 1), date(2024, 3, 3)
    whole = Extent((date.min, date.max))
    before, after = whole.halves(*cuts) or (whole, whole)
    assert before.keys() == ["StudyDate=-18991231"]
    assert [half.keys() for half in after.halves(*cuts) or ()] == [
        ["StudyDate=19000101-20240302"],
        ["StudyDate=20240303-"],
    ]


def test_what_begins_with_a_patient_id_or_has_no_date_has_no_halves() -> None:
    assert Extent().halves() is None
    assert Extent(DAY, patient="").halves() is None


@pytest.mark.parametrize(
    ("extent", "words"),
    [
        (Extent(), "have no date"),
        (Extent(YEAR), "were made in 20240101-20241231"),
        (Extent(DAY, (36900, 36900)), "were made on 20240103 between 10:15:00 and 10:15:00"),
        (Extent(DAY, patient="A"), "were made on 20240103 and have a patient ID that begins with 'A'"),
        (Extent(patient="A1", exact=True), "have a patient ID that is 'A1'"),
    ],
)
def test_extent_is_put_into_plain_words(extent: Extent, words: str) -> None:
    assert str(extent) == words


@pytest.mark.parametrize(
    ("match", "held"),
    [
        ({"StudyDate": "20240103", "StudyTime": "101500", "PatientID": "a1"}, True),
        ({"StudyDate": "20240103", "StudyTime": "1015"}, True),
        ({"StudyDate": "20240104", "StudyTime": "101500"}, False),
        ({"StudyDate": "20240103", "StudyTime": "101501"}, False),
        ({"StudyDate": "20240103", "StudyTime": "101500", "PatientID": "B1"}, False),
        ({"StudyDate": "2024.01.04", "StudyTime": "10:15:00"}, None),
        ({}, None),
    ],
)
def test_what_a_match_says_of_itself_is_inside_or_outside(match: dict[str, str], held: bool | None) -> None:
    assert Extent(DAY, (36900, 36900), "A").holds(match) is held


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("20240103", "20240103", "20240103"),
        ("2024.01.03", "20240103", "20240103"),
        ("20240101-20241231", "20240101", "20241231"),
        ("20240101-", "20240101", "99991231"),
        ("-20240131", "00010101", "20240131"),
    ],
)
def test_dates_of_a_key_are_read(text: str, first: str, last: str) -> None:
    assert parse_dates(text) == (parse_date(first), parse_date(last))


@pytest.mark.parametrize("text", ["", "-", "2024", "20241301", "20240131-20240101", "20240101\\20240102", "yesterday"])
def test_what_is_no_date_or_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="StudyDate"):
        parse_dates(text)


def test_years_before_1000_have_four_digits() -> None:
    assert date_range(date(987, 6, 5), date(987, 6, 6)) == "09870605-09870606"
