"""The table of deviations names what there is, and the harness sees differences."""

from __future__ import annotations

from collections import Counter

from tests.compat import test_association, test_move, test_output, test_storage
from tests.compat.deviations import DEVIATIONS, unexplained
from tests.compat.harness import differences

NAMES = [
    scenario.name
    for module in (test_association, test_move, test_output, test_storage)
    for scenario in module.SCENARIOS
]


def test_every_witness_is_a_scenario() -> None:
    assert {name for entry in DEVIATIONS for name in entry.witness} <= set(NAMES)


def test_scenarios_have_names_of_their_own() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


def test_there_are_more_than_three_hundred_scenarios() -> None:
    assert len(NAMES) > 300


def test_an_unknown_difference_is_reported() -> None:
    assert unexplained("status/0000", ["exit: 0 -> 1"])[0] == ["exit: 0 -> 1"]


def test_a_deviation_that_does_not_show_in_its_witness_is_reported() -> None:
    witnessed = DEVIATIONS[0].witness[0]
    assert DEVIATIONS[0] in unexplained(witnessed, [])[1]


def test_a_printed_line_is_compared_by_itself() -> None:
    assert differences({"stderr": "a\nb\n"}, {"stderr": "a\nc\n"}) == ["stderr: -b", "stderr: +c"]


def test_details_of_what_only_one_did_are_left_out() -> None:
    judge = {"move 1": "C-MOVE-RQ", "move 1 C-MOVE-RQ context": "3"}
    assert differences(judge, {"move 1": "A-ABORT"}) == ["move 1: C-MOVE-RQ -> A-ABORT"]
