"""When a peer has been silent, slow or unwilling for too long: at the limit, and neither a moment nor a byte before."""

from __future__ import annotations

from typing import Final

import pytest

from fastmove.limits import Limits
from fastmove.net.watchdog import LOOKS_PER_LIMIT, Seen, Watchdog

LIMITS: Final = Limits(idle_s=600.0, message_s=60.0, rate_s=60.0, min_rate=1024)
NOTHING: Final = Seen(0.0, 0.0, 0, 0, 0, under_way=False)
BEGUN: Final = NOTHING._replace(received=100, under_way=True)


def event(watchdog: Watchdog, seen: Seen) -> str | None:
    wrong = watchdog.look(seen)
    return None if wrong is None else wrong[0]


def test_it_looks_several_times_within_the_shortest_limit() -> None:
    assert Watchdog(LIMITS).interval_s == 60.0 / LOOKS_PER_LIMIT
    assert Watchdog(LIMITS.replace(idle_s=8.0)).interval_s == 1.0
    assert Watchdog(LIMITS.replace(idle_s=8.0), may_be_idle=True).interval_s == 60.0 / LOOKS_PER_LIMIT


@pytest.mark.parametrize(
    ("first", "limit_s", "expected"),
    [(NOTHING, 600.0, "assoc.idle"), (BEGUN, 60.0, "conn.stalled")],
    ids=["between messages", "within a message"],
)
def test_silence_ends_at_its_limit(first: Seen, limit_s: float, expected: str) -> None:
    watchdog = Watchdog(LIMITS.replace(min_rate=0))
    assert event(watchdog, first) is None
    assert event(watchdog, first._replace(now=limit_s - 0.001)) is None
    assert watchdog.look(first._replace(now=limit_s)) == (expected, f"{limit_s:.0f} s")
    assert event(watchdog, first._replace(now=limit_s + 0.001)) == expected


@pytest.mark.parametrize("sign", [{"received": 101}, {"writes": 1}])
def test_each_sign_of_life_starts_the_silence_anew(sign: dict[str, int]) -> None:
    watchdog = Watchdog(LIMITS.replace(min_rate=0))
    assert event(watchdog, BEGUN) is None
    assert event(watchdog, BEGUN._replace(now=59.0, **sign)) is None
    assert event(watchdog, BEGUN._replace(now=118.9, **sign)) is None
    assert event(watchdog, BEGUN._replace(now=119.0, **sign)) == "conn.stalled"


def test_who_may_be_idle_is_not_asked_between_messages_and_is_within_one() -> None:
    watchdog = Watchdog(LIMITS, may_be_idle=True)
    assert event(watchdog, NOTHING) is None
    assert event(watchdog, NOTHING._replace(now=1e6)) is None
    assert event(watchdog, BEGUN._replace(now=1e6)) is None
    assert event(watchdog, BEGUN._replace(now=1e6 + 60)) == "conn.stalled"


@pytest.mark.parametrize(
    ("nbytes", "expected"),
    [(60 * 1024 - 1, "conn.too_slow"), (60 * 1024, None), (60 * 1024 + 1, None)],
    ids=["limit - 1", "limit", "limit + 1"],
)
def test_T04_rate_is_an_average_over_its_time(nbytes: int, expected: str | None) -> None:
    watchdog = Watchdog(LIMITS)
    assert event(watchdog, BEGUN) is None
    for second in range(1, 60):  # a trickle, so that it is not silent
        assert event(watchdog, BEGUN._replace(now=float(second), received=100 + second)) is None
    assert event(watchdog, BEGUN._replace(now=60.0, received=100 + nbytes)) == expected


def test_T04_rate_is_told() -> None:
    watchdog = Watchdog(LIMITS)
    watchdog.look(BEGUN)
    watchdog.look(BEGUN._replace(now=30.0, received=200))
    assert watchdog.look(BEGUN._replace(now=60.0, received=700)) == (
        "conn.too_slow",
        "10 bytes a second, at least 1024",
    )


def test_T04_after_a_quick_beginning_it_still_counts() -> None:
    watchdog = Watchdog(LIMITS)
    assert event(watchdog, BEGUN) is None
    assert event(watchdog, BEGUN._replace(now=60.0, received=1 << 30)) is None
    assert event(watchdog, BEGUN._replace(now=90.0, received=(1 << 30) + 1)) is None
    assert event(watchdog, BEGUN._replace(now=120.0, received=(1 << 30) + 2)) == "conn.too_slow"


def test_T04_each_message_has_its_own_time() -> None:
    watchdog = Watchdog(LIMITS)
    for look in range(100):  # one small message after the other, and it is in the midst of one at each look
        seen = BEGUN._replace(now=30.0 * look, received=100 * look, messages=look)
        assert event(watchdog, seen) is None


def test_T04_what_lies_between_messages_does_not_count() -> None:
    watchdog = Watchdog(LIMITS)
    assert event(watchdog, BEGUN) is None
    assert event(watchdog, BEGUN._replace(now=50.0, received=200, under_way=False)) is None
    assert event(watchdog, BEGUN._replace(now=100.0, received=300)) is None
    assert event(watchdog, BEGUN._replace(now=159.9, received=400)) is None
    assert event(watchdog, BEGUN._replace(now=160.0, received=500)) == "conn.too_slow"


def test_T04_no_rate_is_asked_for_on_request() -> None:
    watchdog = Watchdog(LIMITS.replace(min_rate=0))
    assert all(event(watchdog, BEGUN._replace(now=30.0 * n, received=100 + n)) is None for n in range(100))


@pytest.mark.parametrize("held_s", [1.0, 1e6])
def test_time_in_which_it_was_not_read_is_not_the_peers(held_s: float) -> None:
    watchdog = Watchdog(LIMITS)
    assert event(watchdog, BEGUN) is None
    held = BEGUN._replace(held_s=held_s)
    assert event(watchdog, held._replace(now=held_s + 59.9)) is None
    assert event(watchdog, held._replace(now=held_s + 60.0)) == "conn.stalled"


def test_held_up_peer_is_not_slow() -> None:
    watchdog = Watchdog(LIMITS)
    assert event(watchdog, BEGUN) is None
    enough = BEGUN._replace(received=100 + 60 * 1024)
    assert event(watchdog, BEGUN._replace(now=300.0, held_s=270.0, received=101)) is None
    assert event(watchdog, enough._replace(now=330.0, held_s=270.0)) is None


def test_T08_what_is_not_taken_is_waited_for_until_the_limit_although_it_is_not_read() -> None:
    watchdog = Watchdog(LIMITS)
    full = BEGUN._replace(unsent=5000)
    assert event(watchdog, BEGUN) is None
    assert event(watchdog, full._replace(now=10.0, held_s=0.0)) is None
    assert event(watchdog, full._replace(now=69.9, held_s=59.9)) is None
    assert watchdog.look(full._replace(now=70.0, held_s=60.0)) == ("conn.write_stalled", "60 s")


@pytest.mark.parametrize("unsent", [None, 4999])
def test_T08_each_byte_that_is_taken_starts_it_anew(unsent: int | None) -> None:
    watchdog = Watchdog(LIMITS)
    full = BEGUN._replace(unsent=5000)
    assert event(watchdog, full) is None
    assert event(watchdog, full._replace(now=59.0, held_s=59.0, unsent=unsent)) is None
    assert event(watchdog, full._replace(now=60.0, held_s=60.0)) is None
    assert event(watchdog, full._replace(now=119.9, held_s=119.9)) is None
    assert event(watchdog, full._replace(now=120.0, held_s=120.0)) == "conn.write_stalled"
