"""What moves are said to have spent their time on, from arrivals whose story is known."""

from __future__ import annotations

from typing import Any

import pytest

from fastmove.bench.stalls import Breakdown, MoveStalls, Spent, Stall, dominant
from fastmove.services.arrivals import Arrival

NOTHING = Arrival(1, 0.0, 0.0, False, 0.0, 0.0, (), 0.0, 0.0, 0.0, 0.0, 0.0)


def spent(objects: int, lasting_s: float, *, echo_s: float = 0.0005, keep: bool = True, **each: Any) -> Spent:
    """A move of so many objects that all came in this way."""
    move = MoveStalls(echo_s, keep=keep)
    per_object = lasting_s / objects
    for number in range(objects):
        began = 100.0 + number * per_object
        move.add(NOTHING._replace(first=number == 0, began_at=began, ended_at=began + 0.9 * per_object, **each))
    return move.spent(100.0, 100.0 + lasting_s)


def shares(*moves: Spent) -> dict[Stall, float]:
    breakdown = Breakdown()
    for move in moves:
        breakdown.add(move)
    found = breakdown.stalls()
    total = sum(found.values())
    return {stall: seconds / total for stall, seconds in found.items()}


@pytest.mark.parametrize(
    ("stall", "each"),
    [
        (Stall.PACS, {"gap_s": 0.03, "cpu_s": 0.0005}),
        (Stall.NETWORK, {"gap_s": 0.0212, "round_trip_s": 0.02, "waits_s": 0.004}),
        (Stall.NETWORK, {"gap_s": 0.001, "waits_s": 0.02}),
        (Stall.NETWORK, {"gap_s": 0.001, "pauses_s": (0.041, 0.042), "round_trip_s": 0.04}),
        (Stall.NAGLE, {"gap_s": 0.0005, "pauses_s": (0.0412,)}),
        (Stall.NAGLE, {"gap_s": 0.0005, "pauses_s": (0.2031,)}),
        (Stall.DISK, {"gap_s": 0.0005, "held_s": 0.02}),
        (Stall.DISK, {"gap_s": 0.0005, "blocked_s": 0.02}),
        (Stall.CPU, {"gap_s": 0.0005, "cpu_s": 0.02}),
        (Stall.CPU, {"gap_s": 0.0005, "late_s": 0.02, "cpu_s": 0.001}),
        (Stall.PACS, {"gap_s": 0.0005, "pauses_s": (0.06,)}),
    ],
)
def test_what_takes_most_is_named(stall: Stall, each: dict[str, Any]) -> None:
    took = sum(sum(value) if isinstance(value, tuple) else value for name, value in each.items() if name[:5] != "round")
    found = shares(spent(50, 50 * took, **each))
    assert dominant(found) is stall
    assert found[stall] > 0.8


def test_seconds_add_up_to_those_of_the_move() -> None:
    move = spent(10, 2.0, gap_s=0.01, waits_s=0.01, cpu_s=0.001, pauses_s=(0.04,))
    assert sum(move.stalls.values()) + move.delayed_s == pytest.approx(2.0)


def test_several_associations_at_once_share_the_seconds_of_their_move() -> None:
    move = spent(11, 0.2, gap_s=0.08)
    assert sum(move.stalls.values()) == pytest.approx(0.2)
    assert move.stalls[Stall.PACS] > 0.19


def test_move_without_an_object_is_the_pacs_but_for_a_round_trip() -> None:
    move = MoveStalls(0.02, keep=False).spent(5.0, 6.0)
    assert move.stalls[Stall.NETWORK] == pytest.approx(0.02)
    assert move.stalls[Stall.PACS] == pytest.approx(0.98)
    assert move.before_s == pytest.approx(0.98)


def test_without_a_disk_our_thread_is_kept_waiting_by_the_processor() -> None:
    assert dominant(shares(spent(10, 0.3, keep=False, blocked_s=0.03))) is Stall.CPU


def test_few_pauses_as_long_as_a_delayed_acknowledgement_are_no_pattern() -> None:
    assert dominant(shares(spent(4, 0.2, pauses_s=(0.041,)))) is Stall.PACS


def test_pauses_of_all_lengths_are_no_pattern() -> None:
    moves = [spent(1, 0.01 + 0.005 * n, pauses_s=(0.01 + 0.005 * n,)) for n in range(30)]
    assert shares(*moves)[Stall.NAGLE] == 0.0


def test_pattern_is_seen_over_many_moves_of_one_object() -> None:
    assert dominant(shares(*(spent(1, 0.045, pauses_s=(0.0405,)) for _ in range(10)))) is Stall.NAGLE


def test_thinking_is_told_apart_by_where_in_a_move() -> None:
    move = MoveStalls(0.0, keep=False)
    assert not move.add(NOTHING._replace(began_at=3.0, ended_at=3.5, gap_s=900.0, cpu_s=0.5)), "idle before this move"
    assert move.add(NOTHING._replace(began_at=4.5, ended_at=5.0, gap_s=1.0, cpu_s=0.5))
    breakdown = Breakdown()
    breakdown.add(move.spent(0.0, 9.0))
    assert breakdown.thinking() == pytest.approx({"before": 3.0, "between": 1.0, "after": 4.0})
