"""Objects of several moves on one listener (PS3.7 9.1.1.1)."""

from __future__ import annotations

import pytest

from fastmove.notices import AssociationClosed, AssociationOpened, InstanceRefused, InstanceStored
from fastmove.services.receipts import Receipts
from fastmove.services.retrieve.correlation import Correlation


def stored(uid: str, association: int = 1, originator: str = "ME", message_id: int = 0) -> InstanceStored:
    return InstanceStored(
        association, "1.2", uid, "1.2.840.10008.1.2", 10, "/nowhere", "new", "PACS", originator, message_id
    )


def refused(uid: str, association: int = 1, originator: str = "ME", message_id: int = 0) -> InstanceRefused:
    return InstanceRefused(
        association, "1.2", uid, 0xA700, "fs.write", "", originator, move_originator_message_id=message_id
    )


def opened(association: int) -> AssociationOpened:
    return AssociationOpened(association, "127.0.0.1", 1, "PACS", "ME", 1)


class Moves:
    """A correlation with moves by Message ID, and what it told of each object: whether it is ours."""

    def __init__(self) -> None:
        self.told: list[tuple[str, bool]] = []
        self.correlation = Correlation("ME", None, self._tell)
        self.receipts: dict[int, Receipts] = {}

    def _tell(self, notice: InstanceStored, ours: bool) -> None:
        self.told.append((notice.sop_instance_uid, ours))

    def begin(self, message_id: int, *uids: str) -> Receipts:
        receipts = self.receipts[message_id] = Receipts()
        receipts.expected = frozenset(uids)
        self.correlation.begin(message_id, receipts)
        return receipts


@pytest.fixture
def moves() -> Moves:
    return Moves()


def test_originator_and_message_id_say_which_move_it_is(moves: Moves) -> None:
    one, two = moves.begin(1), moves.begin(2)
    moves.correlation.stored(stored("1.1", message_id=2))
    moves.correlation.stored(stored("1.2", message_id=1))
    assert (one.stored, two.stored) == ({"1.2"}, {"1.1"})
    assert moves.correlation.originators_given


@pytest.mark.parametrize("originator", ["", "ME", "SOMEBODY"])
def test_uid_of_a_list_says_it_where_the_originator_does_not(moves: Moves, originator: str) -> None:
    one, two = moves.begin(1, "1.1"), moves.begin(2, "1.2")
    moves.correlation.stored(stored("1.2", originator=originator, message_id=77))
    assert (one.stored, two.stored) == (set(), {"1.2"})
    assert not moves.correlation.originators_given


def test_object_that_names_nobody_belongs_to_the_only_move_there_is(moves: Moves) -> None:
    one = moves.begin(1)
    moves.correlation.stored(stored("1.1", originator=""))
    assert one.stored == {"1.1"}


def test_object_that_names_nobody_belongs_to_the_only_move_without_a_list(moves: Moves) -> None:
    one, two = moves.begin(1, "1.1"), moves.begin(2)
    moves.correlation.stored(stored("1.9", originator=""))
    assert (one.stored, two.stored) == (set(), {"1.9"})


def test_object_that_could_belong_to_two_moves_belongs_to_none(moves: Moves) -> None:
    one, two = moves.begin(1), moves.begin(2)
    moves.correlation.stored(stored("1.9", originator=""))
    assert (one.stored, two.stored) == (set(), set())
    assert moves.told == [("1.9", False)]


def test_object_of_somebody_elses_move_is_not_ours(moves: Moves) -> None:
    one = moves.begin(1)
    moves.correlation.stored(stored("1.9", originator="SOMEBODY", message_id=1))
    assert one.stored == set() and moves.told == [("1.9", False)]


def test_late_object_of_a_move_that_is_over_is_not_that_of_another(moves: Moves) -> None:
    moves.begin(1)
    moves.correlation.end(1)
    two = moves.begin(2)
    moves.correlation.stored(stored("1.9", message_id=1))
    assert two.stored == set()


def test_association_that_has_brought_something_is_no_longer_waited_for_by_others(moves: Moves) -> None:
    one, two = moves.begin(1), moves.begin(2)
    moves.correlation(opened(5))
    assert one.associations == two.associations == {5}
    moves.correlation.stored(stored("1.1", 5, message_id=1))
    assert (one.associations, two.associations) == ({5}, set())
    moves.correlation.stored(stored("1.2", 5, message_id=2))  # it is used again
    assert (one.associations, two.associations) == (set(), {5})
    moves.correlation(AssociationClosed(5, "released", 2))
    assert two.associations == set()


def test_move_that_begins_waits_for_associations_that_nobody_owns(moves: Moves) -> None:
    moves.begin(1)
    moves.correlation(opened(5))
    moves.correlation(opened(6))
    moves.correlation.stored(stored("1.1", 5, message_id=1))
    assert moves.begin(2).associations == {6}


def test_refused_object_counts_for_its_move(moves: Moves) -> None:
    one, two = moves.begin(1), moves.begin(2)
    moves.correlation(refused("1.1", message_id=2))
    assert (one.refused, two.refused) == (0, 1)


def test_what_is_told_of_an_object_is_given_back(moves: Moves) -> None:
    future = object()
    correlation = Correlation("ME", None, lambda *_: future)  # type: ignore[arg-type, return-value]
    correlation.begin(1, Receipts())
    assert correlation.stored(stored("1.1", message_id=1)) is future


def test_ended_moves_leave_nothing_behind(moves: Moves) -> None:
    for message_id in range(1, 2000):
        moves.begin(message_id, f"1.{message_id}")
        moves.correlation.stored(stored(f"1.{message_id}", message_id, message_id=message_id))
        moves.correlation.end(message_id)
    correlation = moves.correlation
    assert not correlation._moves and not correlation._by_uid and not correlation._owners
    assert len(correlation._ended) <= 256
