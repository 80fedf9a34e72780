"""One study of a retrieve: its parts, its rounds, its verdict; and the verdicts of many together."""

from __future__ import annotations

import itertools
from collections.abc import Set
from typing import Any

import pytest

from fastmove.cli.exit_codes import ExitCode, for_retrieve
from fastmove.dimse.move import Evidence, Judgement, Loss, MoveOutcome, Verdict
from fastmove.errors import AssociationError
from fastmove.notices import InstanceStored
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.listing import NOTHING, UNASKED, Listing
from fastmove.services.retrieve.part import Part, part_size
from fastmove.services.retrieve.reckoning import MAX_KEPT, Reckoning
from fastmove.services.retrieve.unit import Unit, UnitResult
from fastmove.services.retrieve.work import MAX_UNCLAIMED, Work
from fastmove.services.selection.selection import Wanted
from fastmove.storage.options import Placing
from fastmove.types import PeerAddress

STUDY = Wanted("1.2", patient_id="P1")


def uids(count: int, series: int = 1) -> frozenset[str]:
    return frozenset(f"1.2.{series}.{n}" for n in range(1, count + 1))


def listing(*counts: int, certain: bool = True) -> Listing:
    return Listing({f"1.2.{n}": uids(count, n) for n, count in enumerate(counts, 1)}, certain)


def unit(*counts: int, present: frozenset[str] = frozenset(), certain: bool = True, **wanted: Any) -> Unit:
    return Unit(STUDY.replace(**wanted), "study", listing(*counts, certain=certain), present)


def went(part: Part, *, lost: frozenset[str] = frozenset(), status: int = 0, **evidence: Any) -> Evidence:
    """The PACS has sent what a part asks for, but for some."""
    stored = (part.covers or frozenset()) - lost
    outcome = MoveOutcome(status, completed=len(stored), failed=len(lost))
    values = {"outcome": outcome, "stored": stored, "expected": part.uids, "arrivals": len(stored)}
    return Evidence(**(values | evidence))


def parts(of: Unit, size: int, finest: str = "IMAGE") -> list[Part]:
    found = []
    while of.remaining:
        found.append(of.part(size, finest))
    return found


def test_study_of_which_nothing_is_there_is_moved_as_a_whole() -> None:
    (part,) = parts(unit(3, 4), 100)
    assert (part.level, part.keys) == ("STUDY", ("StudyInstanceUID=1.2",))
    assert part.uids == part.covers == uids(3, 1) | uids(4, 2)


def test_study_is_divided_by_series_and_by_lists_of_uids() -> None:
    divided = parts(unit(3, 40), 10)
    assert [part.level for part in divided] == ["SERIES", "IMAGE", "IMAGE", "IMAGE", "IMAGE"]
    assert divided[0].uids == uids(3)
    assert frozenset[str]().union(*(part.uids or () for part in divided[1:])) == uids(40, 2)
    assert all(len(part.uids or ()) == 10 for part in divided[1:])


@pytest.mark.parametrize(("finest", "levels"), [("SERIES", ["SERIES", "SERIES"]), ("STUDY", ["STUDY"])])
def test_pacs_that_takes_no_lists_is_asked_at_the_level_that_it_takes(finest: str, levels: list[str]) -> None:
    some = uids(2, 1) | uids(2, 2)
    divided = parts(unit(10, 10, present=some), 3, finest)
    assert [part.level for part in divided] == levels
    assert frozenset[str]().union(*(part.uids or () for part in divided)) == (uids(10, 1) | uids(10, 2)) - some


def test_images_that_are_wanted_are_asked_for_one_by_one_where_lists_are_not_taken() -> None:
    wanted = tuple(sorted(uids(3)))
    divided = parts(unit(3, series_instance_uid="1.2.1", sop_instance_uids=wanted), 100, "SERIES")
    assert [(part.level, len(part.uids or ())) for part in divided] == [("IMAGE", 1)] * 3


def test_what_is_there_is_not_asked_for() -> None:
    (part,) = parts(unit(5, present=uids(3)), 100)
    assert (part.level, part.uids) == ("IMAGE", uids(5) - uids(3))
    complete = unit(5, present=uids(5))
    assert complete.settled and complete.result().judgement == Judgement(Verdict.COMPLETE)


def test_list_that_may_be_cut_off_is_moved_as_a_whole_although_all_of_it_is_there() -> None:
    doubtful = unit(5, present=uids(5), certain=False)
    assert not doubtful.settled
    (part,) = parts(doubtful, 2)
    assert (part.level, part.uids) == ("STUDY", None)
    doubtful.record(part, went(part), None)
    assert doubtful.result().judgement.verdict is Verdict.COMPLETE, "the PACS has sent as many"


def counted_three_of_two(*, lost: frozenset[str] = frozenset()) -> Unit:
    """A study with a list of two instances, of which a move has announced three."""
    study = unit(2)
    (part,) = parts(study, 100)
    assert not study.outgrown
    study.record(part, went(part, lost=lost, status=0xB000, announced=3), None)
    assert study.outgrown, "the list is asked for once more"
    return study


def test_list_that_is_shorter_than_what_a_move_counts_does_not_prove_that_all_is_there() -> None:
    study = counted_three_of_two(lost=frozenset(("1.2.1.2",)))
    study.relist(NOTHING)
    assert study.worth_another_round(5)
    study.next_round()
    (again,) = parts(study, 100)
    assert again.level == "STUDY", "what is on no list comes only with all the rest"
    study.record(again, went(again, announced=3), None)
    result = study.result()
    assert (result.judgement.verdict, dict(result.missing)) == (Verdict.INCOMPLETE, {})
    assert "list.uncertain" in result.judgement.reasons


def test_what_is_missing_of_a_list_that_is_too_short_is_named_as_far_as_it_goes() -> None:
    study = counted_three_of_two(lost=frozenset(("1.2.1.2",)))
    study.relist(NOTHING)
    result = study.result()
    assert (result.judgement.verdict, result.missing.keys()) == (Verdict.INCOMPLETE, {"1.2.1.2"})
    assert "list.uncertain" in result.judgement.reasons


def test_list_that_is_as_long_as_the_study_by_its_count_is_trusted_whatever_a_move_counts() -> None:
    study = counted_three_of_two()
    study.relist(Listing({"1.2.1": uids(2)}, certain=True, number=2))
    assert not study.worth_another_round(5)
    assert study.result().judgement.verdict is Verdict.COMPLETE


def test_list_that_the_pacs_has_confirmed_is_not_doubted_again() -> None:
    study = counted_three_of_two(lost=frozenset(("1.2.1.2",)))
    study.relist(Listing({"1.2.1": uids(2)}, certain=True, number=2))
    study.next_round()
    (again,) = parts(study, 100)
    assert again.uids == {"1.2.1.2"}
    study.record(again, went(again, announced=2), None)
    assert not study.outgrown
    assert study.result().judgement.verdict is Verdict.COMPLETE


def test_doubt_in_the_middle_changes_nothing_of_what_is_under_way() -> None:
    study = unit(20, present=uids(2))
    first, second = study.part(8), study.part(4)
    study.record(first, went(first, announced=9), None)
    third = study.part(100)
    assert third.level == "IMAGE" and not third.uids & second.uids
    study.record(second, went(second), None)
    study.record(third, went(third), None)
    assert study.settled and study.outgrown


def test_pacs_that_sends_the_whole_series_for_some_of_it_is_not_doubted() -> None:
    study = unit(20, present=uids(2))
    part = study.part(8)
    study.record(part, went(part, stored=uids(20), arrivals=20, announced=20), None)
    assert not study.outgrown


@pytest.mark.parametrize(
    "other",
    [{"arrivals": 3}, {"strays": 1}, {"rejected": 1}, {"policy_refusals": 1}],
    ids=["twice", "stray", "rejected", "refused"],
)
def test_what_came_twice_or_is_something_else_is_no_reason_to_doubt_a_list(other: dict[str, int]) -> None:
    study = unit(2)
    (part,) = parts(study, 100)
    study.record(part, went(part, announced=3, **other), None)
    assert not study.outgrown


def test_study_that_grew_and_cannot_be_listed_any_more_is_moved_as_a_whole() -> None:
    study = unit(10)
    (part,) = parts(study, 100)
    study.record(part, went(part, stored=uids(12), arrivals=12), None)
    study.relist(Listing(number=15))
    assert study.worth_another_round(5)
    study.next_round()
    (again,) = parts(study, 100)
    assert again.level == "STUDY"


def test_study_that_has_more_by_its_count_than_on_its_list_is_moved_once_more() -> None:
    study = counted_three_of_two()
    study.relist(Listing(number=3))
    assert study.worth_another_round(5)
    study.next_round()
    (again,) = parts(study, 100)
    assert again.level == "STUDY"
    third = uids(2) | {"1.2.2.1"}
    study.record(again, went(again, stored=third, announced=3, outcome=MoveOutcome(0, completed=3)), None)
    result = study.result()
    assert (result.judgement.verdict, result.stored, dict(result.missing)) == (Verdict.COUNTED, 3, {})


def test_what_did_not_come_is_asked_for_again_and_named_with_its_reason() -> None:
    study = unit(10)
    (part,) = parts(study, 100)
    study.record(part, went(part, lost=uids(2), status=0xB000), None)
    assert study.settled and study.worth_another_round(5)
    study.next_round()
    again = parts(study, 100)
    assert [(part.level, part.uids) for part in again] == [("IMAGE", {"1.2.1.1"}), ("IMAGE", {"1.2.1.2"})]
    for part in again:
        study.record(part, went(part, lost=uids(1)), None)
    assert dict(study.result().missing) == {"1.2.1.1": "never sent, though the PACS said success"}
    assert study.result().judgement.verdict is Verdict.INCOMPLETE


def test_rounds_that_bring_nothing_come_to_an_end() -> None:
    study = unit(4)
    for _ in range(2):
        for part in parts(study, 100):
            study.record(part, went(part, lost=uids(4)), None)
        again = study.worth_another_round(9)
        study.next_round()
    assert not again


def broke(part: Part, unreadable: Set[str]) -> Evidence:
    """The PACS has sent what a part asks for, up to an object that it cannot read."""
    asked = sorted(part.covers or ())
    came = frozenset(itertools.takewhile(lambda uid: uid not in unreadable, asked))
    if len(came) == len(asked):
        return went(part)
    return went(part, stored=came, arrivals=len(came), outcome=MoveOutcome(0xC000, completed=0, failed=0))


def moved(study: Unit, unreadable: Set[str], most: int = 5) -> list[int]:
    """Move a study of such a PACS, round by round: the number of moves of each."""
    moves = []
    while True:
        asked = parts(study, 10_000)
        moves.append(len(asked))
        for part in asked:
            study.record(part, broke(part, unreadable), None)
        if not study.worth_another_round(most):
            return moves
        study.next_round()


def test_one_object_that_cannot_be_read_keeps_nothing_else_away_from_us() -> None:
    study = unit(5000)
    broken = {"1.2.1.2500"}
    assert moved(study, broken) == [1, 16, 53, 4, 1]
    result = study.result()
    assert dict(result.missing) == {"1.2.1.2500": "C000H Unable to process"}
    assert result.stored == 4999


def test_hundred_objects_that_cannot_be_read_keep_nothing_else_away_from_us() -> None:
    study = unit(2500, 2500)
    broken = {f"1.2.{series}.{number}" for series in (1, 2) for number in range(7, 2500, 50)}
    moves = moved(study, broken)
    assert study.result().missing.keys() == broken
    assert moves[:2] == [1, 17] and max(moves) <= 258, "a part is of one series"


@pytest.mark.parametrize("level", ["IMAGE", "SERIES"])
def test_first_object_that_cannot_be_read_keeps_nothing_else_away_from_us(level: str) -> None:
    study = unit(20) if level == "IMAGE" else unit(10, 10)
    assert broke(unit(20).part(100), {"1.2.1.1"}).stored == frozenset()
    moved(study, {"1.2.1.1"})
    assert study.result().missing.keys() == {"1.2.1.1"}


def test_study_that_is_refused_in_all_of_its_parts_is_refused() -> None:
    study = unit(5000)
    assert moved(study, study.missing) == [1, 16], "no third time"
    assert study.result().judgement.verdict is Verdict.REFUSED


@pytest.mark.parametrize(
    "evidence",
    [
        {"outcome": MoveOutcome(0xA702, completed=8, failed=2)},
        {"outcome": None, "loss": Loss.ASSOCIATION_LOST},
        {"outcome": MoveOutcome(0, completed=10)},
        {"outcome": MoveOutcome(0xFE00, completed=8, remaining=2)},
    ],
    ids=["busy", "lost", "said to be sent", "cancelled"],
)
def test_what_the_pacs_has_not_failed_over_is_asked_for_as_a_whole(evidence: dict[str, Any]) -> None:
    study = unit(10)
    (part,) = parts(study, 100)
    study.record(part, went(part, lost=uids(2), **evidence), None)
    assert study.worth_another_round(5)
    study.next_round()
    (again,) = parts(study, 100)
    assert again.uids == uids(2)


@pytest.mark.parametrize(("status", "again"), [(0xC000, True), (0x0110, True), (0xA900, False), (0x0122, False)])
def test_refusal_is_asked_in_parts_if_it_may_be_for_one_object(status: int, again: bool) -> None:
    study = unit(10)
    (part,) = parts(study, 100)
    study.record(part, went(part, lost=uids(10), outcome=MoveOutcome(status)), None)
    assert study.worth_another_round(5) is again


def test_only_what_a_part_has_asked_for_gets_its_reason() -> None:
    study = unit(4)
    (part,) = parts(study, 100)
    study.record(part, broke(part, {"1.2.1.2"}), None)
    study.next_round()
    first, second, third = parts(study, 100)
    study.record(first, broke(first, {"1.2.1.2"}), None)
    study.record(second, went(second, lost=uids(4), outcome=MoveOutcome(0, completed=1)), None)
    study.record(third, went(third), None)
    result = study.result()
    assert dict(result.missing) == {
        "1.2.1.2": "C000H Unable to process",
        "1.2.1.3": "never sent, though the PACS said success",
    }
    assert result.evidence is not None and result.evidence.outcome is not None
    assert result.evidence.outcome.status == 0xC000, "the last one said Success"


def test_study_over_which_the_pacs_has_failed_before_is_asked_for_in_parts_at_once() -> None:
    sizes = [[len(part.uids or ()) for part in parts(unit(640, failures=n), 1000)] for n in (0, 1, 2)]
    assert sizes == [[640], [40] * 16, [10] * 64]
    (part,) = parts(unit(1, failures=1), 100)
    assert part.level == "STUDY", "there is nothing to divide"


def test_lost_association_is_not_held_against_what_is_missing() -> None:
    study = unit(4)
    for _ in range(4):
        (part,) = parts(study, 100)
        study.record(part, went(part, lost=uids(4), outcome=None), AssociationError("gone"))
        assert study.worth_another_round(9)
        study.next_round()
    (part,) = parts(study, 100)
    study.record(part, went(part, outcome=None, loss=Loss.ASSOCIATION_LOST), AssociationError("gone"))
    assert study.result().judgement.verdict is Verdict.COMPLETE, "the list decides"


def test_other_content_of_an_earlier_round_is_still_a_warning() -> None:
    study = unit(4)
    (part,) = parts(study, 100)
    study.record(part, went(part, lost=uids(1), differing=1), None)
    assert study.worth_another_round(5)
    study.next_round()
    (again,) = parts(study, 100)
    study.record(again, went(again), None)
    judgement = study.result().judgement
    assert (judgement.verdict, judgement.reasons) == (Verdict.WARNING, ("store.duplicate_differs",))


def test_third_party_is_said_to_miss_nothing() -> None:
    study = unit(4)
    (part,) = parts(study, 100)
    study.record(part, went(part, stored=None, arrivals=0), None)
    result = study.result()
    assert (result.judgement.verdict, dict(result.missing), result.stored) == (Verdict.COUNTED, {}, None)


@pytest.mark.parametrize(
    ("of", "verdict"), [(UNASKED, Verdict.UNKNOWN), (NOTHING, Verdict.COUNTED)], ids=["failed", "not served"]
)
def test_nothing_is_no_success_where_the_list_has_failed(of: Listing, verdict: Verdict) -> None:
    study = Unit(STUDY, "study", of, frozenset())
    (part,) = parts(study, 3)
    study.record(part, went(part), None)
    assert study.result().judgement.verdict is verdict


def test_study_that_has_instances_by_its_count_alone_and_of_which_none_came_is_incomplete() -> None:
    study = Unit(STUDY, "study", Listing(number=3), frozenset())
    (part,) = parts(study, 3)
    study.record(part, went(part), None)
    study.relist(Listing(number=3))
    judgement = study.result().judgement
    assert (judgement.verdict, judgement.reasons[0]) == (Verdict.INCOMPLETE, "move.incomplete"), "no list has failed"


def test_unit_without_a_list_is_one_part() -> None:
    study = Unit(STUDY, "patient", NOTHING, frozenset())
    (part,) = parts(study, 3)
    assert (part.uids, part.keys) == (None, ("PatientID=P1", "StudyInstanceUID=1.2"))


@pytest.mark.parametrize(
    ("remaining", "others", "shares", "pace_s", "size"),
    [
        (500, 20, 4, 0.02, 500),  # others keep them busy
        (500, 0, 1, 0.02, 500),
        (500, 0, 16, None, 32),
        (40, 0, 16, None, 16),
        (400, 0, 4, 0.001, 400),  # it is soon over
        (500, 0, 4, 0.1, 100),  # ten seconds are long enough
        (400, 0, 4, 0.05, 100),
        (48, 0, 16, 0.1, 8),
    ],
)
def test_part_is_a_share_that_one_can_wait_for(
    remaining: int, others: int, shares: int, pace_s: float | None, size: int
) -> None:
    assert part_size(remaining, others, shares, pace_s) == size


def test_part_is_worth_its_beginning() -> None:
    assert part_size(100, 0, 16, 0.1, first_object_s=0.7) == 11


def test_two_units_that_meet_the_same_refusal_are_both_asked_at_another_level() -> None:
    work = Work(RetrieveConfig(PeerAddress("P", "h", 104)), frozenset())
    for number in range(2):
        study = unit(10, present=uids(2))
        (part,) = parts(study, 100)
        refusal = went(part, lost=uids(10), outcome=MoveOutcome(0xA900), stored=frozenset(), arrivals=0)
        assert work.learn(part, refusal), number


def test_object_that_cannot_be_read_is_no_reason_to_ask_at_another_level() -> None:
    work = Work(RetrieveConfig(PeerAddress("P", "h", 104)), frozenset())
    study = unit(10, failures=1)
    part = study.part(8)
    assert not work.learn(part, broke(part, {"1.2.1.1"}))
    assert study.part(8, work._finest).level == "IMAGE"


def test_pacs_that_sends_by_a_list_takes_lists_whatever_it_has_refused() -> None:
    work = Work(RetrieveConfig(PeerAddress("P", "h", 104)), frozenset())
    study = unit(30)
    first, second = study.part(10), study.part(10)
    assert work.learn(first, broke(first, first.uids or frozenset()))
    assert work._finest == "SERIES"
    assert not work.learn(second, broke(second, {max(second.uids or ())}))
    assert work._finest == "IMAGE"
    assert not work.learn(first, broke(first, first.uids or frozenset()))
    assert work._finest == "IMAGE"


def result(verdict: Verdict, **values: Any) -> RetrieveResult:
    fixed: dict[str, Any] = {"units": (), "seconds": 1.0, "first_object_s": None}
    return RetrieveResult(judgement=Judgement(verdict), verdicts={verdict: 1}, **(fixed | values))


@pytest.mark.parametrize(
    ("of", "code"),
    [
        (result(Verdict.COMPLETE), ExitCode.SUCCESS),
        (result(Verdict.COMPLETE, unattempted=1), ExitCode.UNKNOWN),
        (result(Verdict.COMPLETE, selection_failed=True), ExitCode.UNKNOWN),
        (result(Verdict.CANCELLED), ExitCode.UNKNOWN),
        (result(Verdict.WARNING, unattempted=9), ExitCode.UNKNOWN),
        (result(Verdict.REFUSED, unattempted=9), ExitCode.REFUSED),
        (result(Verdict.STORAGE_FAILED, unattempted=9), ExitCode.STORAGE_FAILED),
    ],
)
def test_run_that_did_not_do_everything_is_no_success(of: RetrieveResult, code: ExitCode) -> None:
    assert for_retrieve(of) is code


def test_many_units_that_went_wrong_do_not_fill_the_memory() -> None:
    reckoning = Reckoning()
    for verdict in (Verdict.COMPLETE, Verdict.INCOMPLETE):
        for _ in range(3 * MAX_KEPT):
            evidence = Evidence(outcome=None, stored=uids(3), expected=uids(4))
            reckoning.add(UnitResult(STUDY, Judgement(verdict), 4, 3, missing={"1.2.1.4": "?"}, evidence=evidence))
    assert len(reckoning.kept) == MAX_KEPT + 1
    assert reckoning.missing == 6 * MAX_KEPT
    assert sum(len(each.evidence.stored or ()) for each in reckoning.kept if each.evidence) == 3
    assert reckoning.judgement == Judgement(Verdict.INCOMPLETE)


def stored(uid: str, nbytes: int, placing: Placing = Placing.NEW) -> InstanceStored:
    return InstanceStored(1, "1.2.840", uid, "1.2.840.1", nbytes, f"{uid}.dcm", placing.value, "PACS", "", 0)


def test_object_that_came_before_it_was_on_a_list_has_come_all_the_same() -> None:
    work = Work(RetrieveConfig(PeerAddress("PACS", "127.0.0.1", 104)), frozenset())
    assert not work.came(stored("1.2.1.1", 512, Placing.BESIDE), ours=False)
    study = unit(2)
    assert work.claim(study) == [512]
    assert (study.missing, study.differing) == ({"1.2.1.2"}, 1)
    assert work.claim(unit(2)) == [], "it is somebody's now"


def test_no_more_than_so_many_objects_on_no_list_are_kept_in_mind() -> None:
    work = Work(RetrieveConfig(PeerAddress("PACS", "127.0.0.1", 104)), frozenset())
    for number in range(MAX_UNCLAIMED + 1):
        work.came(stored(f"1.2.1.{number}", 1), ours=False)
    assert work.claim(unit(2)) == [1, 1], "1.2.1.0 is forgotten, and is not on this list"
    assert len(work._unclaimed) == MAX_UNCLAIMED - 2
