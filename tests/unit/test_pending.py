"""Connections without an association: one too many, or a byte too many, and the right one has to go (R03, T21)."""

from __future__ import annotations

from typing import Final

import pytest

from fastmove.limits import Limits
from fastmove.net.pending import CONNECTION_BYTES, Pending

MEGABYTE: Final = 1 << 20
LIMITS: Final = Limits(max_pending=6, max_pending_per_host=4, pending_bytes=16 * MEGABYTE)


class Stranger:
    """A connection that says how much it has sent, and is told to go."""

    def __init__(self, host: str = "a", buffered: int = 0) -> None:
        self.host = host
        self.buffered = buffered
        self.turned_away = ""

    def turn_away(self, why: str) -> None:
        assert not self.turned_away, "once"
        self.turned_away = why


def strangers(pending: Pending, *hosts: str) -> list[Stranger]:
    """One of each host, in this order."""
    found = [Stranger(host) for host in hosts]
    for each in found:
        pending.add(each)
    return found


def gone(found: list[Stranger]) -> list[int]:
    return [number for number, each in enumerate(found) if each.turned_away]


@pytest.mark.parametrize(
    ("number", "expected"),
    [(3, []), (4, []), (5, [0]), (7, [0, 1, 2])],
    ids=["limit - 1", "limit", "limit + 1", "limit + 3"],
)
def test_T21_oldest_of_a_host_with_too_many_has_to_go(number: int, expected: list[int]) -> None:
    pending = Pending(LIMITS)
    found = strangers(pending, *["a"] * number)
    assert gone(found) == expected
    assert len(pending) == min(number, LIMITS.max_pending_per_host)
    assert all("more than 4 connections" in found[n].turned_away and "from a" in found[n].turned_away for n in expected)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ("aaabb", []),
        ("aaabbb", []),
        ("aaabbc", []),
        ("baaabbc", [0]),  # of two that have three the one that came first
        ("bcdeaaf", [4]),  # the host that has most, not the oldest of all
        ("abcdefg", [0]),
    ],
)
def test_T21_of_too_many_in_all_the_oldest_of_the_host_that_has_most_has_to_go(hosts: str, expected: list[int]) -> None:
    pending = Pending(LIMITS)
    found = strangers(pending, *hosts)
    assert gone(found) == expected


@pytest.mark.parametrize("over", [-1, 0, 1], ids=["limit - 1", "limit", "limit + 1"])
def test_R03_largest_has_to_go_when_the_budget_is_spent(over: int) -> None:
    pending = Pending(LIMITS)
    found = strangers(pending, "a", "b", "c")
    budget = LIMITS.pending_bytes - 3 * CONNECTION_BYTES
    found[0].buffered, found[1].buffered, found[2].buffered = 5 * MEGABYTE, 6 * MEGABYTE, budget - 11 * MEGABYTE + over
    for each in found:
        pending.grew(each)
    assert gone(found) == ([1] if over > 0 else [])
    if over > 0:
        assert pending.nbytes == LIMITS.pending_bytes + over - CONNECTION_BYTES - 6 * MEGABYTE
        assert found[1].turned_away == "more than 16,777,216 bytes for connections without an association"
    else:
        assert pending.nbytes == LIMITS.pending_bytes + over


def test_R03_who_says_nothing_costs_something_too() -> None:
    pending = Pending(LIMITS.replace(max_pending=2000, max_pending_per_host=2000))
    found = strangers(pending, *["a"] * (LIMITS.pending_bytes // CONNECTION_BYTES))
    assert gone(found) == []
    assert gone([*found, *strangers(pending, "b")]) == [0]


def test_R03_newcomer_that_has_sent_little_stays_while_others_are_large() -> None:
    pending = Pending(LIMITS)
    large = Stranger("a", LIMITS.pending_bytes - CONNECTION_BYTES)
    pending.add(large)
    (small,) = strangers(pending, "b")
    assert (bool(large.turned_away), small.turned_away) == (True, "")
    assert (len(pending), pending.nbytes) == (1, CONNECTION_BYTES)


def test_who_has_got_an_association_or_is_gone_counts_no_more() -> None:
    pending = Pending(LIMITS)
    found = strangers(pending, *"aaabbb")
    for each in found:
        each.buffered = 1000
        pending.grew(each)
        pending.remove(each)
        pending.remove(each)
        pending.grew(each)
    assert (len(pending), pending.nbytes) == (0, 0)
    assert gone(strangers(pending, *"aaabbb")) == []
