"""Attribute matching, PS3.4 C.2.2.2."""

from __future__ import annotations

import pytest

from fastmove.pacs.matching import matcher


def matches(vr: str, key: str, value: str) -> bool:
    found = matcher(vr, key)
    assert found is not None, "universal"
    return found(value)


@pytest.mark.parametrize("key", ["", "*", "**", " "])
@pytest.mark.parametrize("vr", ["LO", "PN", "DA", "UI"])
def test_empty_key_and_lone_star_match_everything(vr: str, key: str) -> None:
    assert matcher(vr, key) is None


@pytest.mark.parametrize(
    ("vr", "key", "value", "expected"),
    [
        ("LO", "PAT1", "PAT1", True),
        ("LO", "PAT1", "PAT10", False),
        ("LO", "pat1", "PAT1", False),
        ("CS", "CT", "CT", True),
        ("IS", "7", "007", True),
        ("IS", "7", "8", False),
        ("IS", "x", "7", False),
        ("US", "64", "64", True),
        ("UI", "1.2.3", "1.2.3", True),
        ("UI", "1.2.*", "1.2.3", False),
    ],
)
def test_single_value_matches_exactly(vr: str, key: str, value: str, expected: bool) -> None:
    assert matches(vr, key, value) is expected


def test_one_uid_of_a_list_is_enough() -> None:
    assert matches("UI", "1.2.3\\1.2.4", "1.2.4")
    assert not matches("UI", "1.2.3\\1.2.4", "1.2.34")


def test_one_of_several_stored_values_is_enough() -> None:
    assert matches("CS", "SR", "CT\\SR")
    assert not matches("CS", "MR", "CT\\SR")


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("P*1", "PAT1", True),
        ("P*1", "P1", True),
        ("P?1", "PA1", True),
        ("P?1", "P1", False),
        ("*AT*", "PAT1", True),
        ("[P]*", "PAT1", False),
        ("[P]*", "[P]AT1", True),
        ("p*", "PAT1", False),
        ("P.T*", "PAT1", False),
    ],
)
def test_wild_cards_stand_for_any_and_for_one_character(key: str, value: str, expected: bool) -> None:
    assert matches("LO", key, value) is expected


def test_many_stars_do_not_take_forever() -> None:
    assert not matches("LO", "*a" * 30 + "b", "a" * 64)


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("smith^john", "Smith^John", True),
        ("SMITH*", "Smith^John", True),
        ("Smith^John", "Smith^John^^^", True),
        ("GRÜN*", "Grün^Anna", True),
        ("Yamada^Tarou", "Yamada^Tarou=山田^太郎", True),
        ("山田*", "Yamada^Tarou=山田^太郎", True),
        ("Smith", "Smith^John", False),
    ],
)
def test_person_names_match_whatever_their_case(key: str, value: str, expected: bool) -> None:
    assert matches("PN", key, value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("20240102", "20240102", True),
        ("20240102", "20240103", False),
        ("20240101-20240131", "20240101", True),
        ("20240101-20240131", "20240131", True),
        ("20240101-20240131", "20240201", False),
        ("-20240131", "19700101", True),
        ("-20240131", "20240201", False),
        ("20240101-", "20990101", True),
        ("20240101-", "20231231", False),
        ("20240101-20240131", "2024.01.15", True),
    ],
)
def test_date_ranges_include_their_ends_and_may_be_open(key: str, value: str, expected: bool) -> None:
    assert matches("DA", key, value) is expected


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("12", "123015", True),
        ("1230", "123015.25", True),
        ("1000-1100", "110059", True),
        ("1000-1100", "110100", False),
        ("1000-", "095959.999999", False),
        ("-1000", "0930", True),
        ("10:00-11:00", "103000", True),
    ],
)
def test_times_of_less_precision_stand_for_all_that_they_contain(key: str, value: str, expected: bool) -> None:
    assert matches("TM", key, value) is expected


@pytest.mark.parametrize(("vr", "key"), [("LO", "A*"), ("DA", "20240101-"), ("PN", "A"), ("IS", "1"), ("LO", "?")])
def test_nothing_but_universal_matching_matches_an_empty_value(vr: str, key: str) -> None:
    assert not matches(vr, key, "")
