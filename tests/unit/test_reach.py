"""A PACS that takes no association: how long the pauses are, and how long it is waited for."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import pytest

from fastmove.errors import AssociationError, AssociationRejected, ConnectFailed
from fastmove.limits import Limits
from fastmove.services.retrieve import reach
from fastmove.services.retrieve.parallelism import Parallelism
from fastmove.services.retrieve.reach import Reach

LIMITS: Final = Limits(retry_s=1.0, max_back_off_s=5.0, away_s=100.0)


class Clock:
    """The monotonic clock, as the test has it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """As `time.monotonic`."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(reach, "time", clock)
    return clock


class Door:
    """Opens an association, or fails to for a reason."""

    def __init__(self) -> None:
        self.shut: AssociationError | None = None

    async def open(self) -> None:
        """As `Mover.open`."""
        if self.shut is not None:
            raise self.shut


GONE: Final = ConnectFailed("pacs.example", 104, OSError("refused"))


def opened(reached: Reach, door: Door) -> bool:
    """One attempt."""
    mover: Any = door
    return asyncio.run(reached.open(mover, lambda: 0))


@pytest.mark.parametrize(("attempts", "pause_s"), [(0, 1.0), (1, 2.0), (2, 4.0), (3, 5.0), (4, 5.0), (50, 5.0)])
def test_pause_doubles_from_retry_s_up_to_max_back_off_s(attempts: int, pause_s: float) -> None:
    assert LIMITS.back_off_s(attempts) == pause_s


@pytest.mark.parametrize(("most_s", "pauses"), [(3.999, [2.0, 3.999]), (4.0, [2.0, 4.0]), (4.001, [2.0, 4.0])])
def test_max_back_off_s_cuts_what_is_longer(most_s: float, pauses: list[float]) -> None:
    limits = LIMITS.replace(max_back_off_s=most_s)
    assert [limits.back_off_s(attempts) for attempts in (1, 2)] == pauses


def test_T16_each_attempt_waits_for_its_pause(clock: Clock) -> None:
    reached, door = Reach(LIMITS, Parallelism()), Door()
    assert opened(reached, door)
    door.shut = GONE
    for pause_s in (1.0, 2.0, 4.0, 5.0):
        assert not opened(reached, door)
        assert (reached.not_before - clock.now, reached.away) == (pause_s, True)
        clock.now = reached.not_before
    door.shut = None
    assert opened(reached, door) and not reached.away
    door.shut = GONE
    assert not opened(reached, door)
    assert reached.not_before - clock.now == 1.0, "it was there meanwhile"


@pytest.mark.parametrize(("over_s", "waits"), [(-0.001, True), (0.0, False), (0.001, False)])
def test_T16_pacs_is_away_until_its_limit(clock: Clock, over_s: float, waits: bool) -> None:
    reached, door = Reach(LIMITS.replace(max_back_off_s=1.0), Parallelism()), Door()
    assert opened(reached, door)
    door.shut = GONE
    assert not opened(reached, door)
    clock.now += LIMITS.away_s - 1.0 + over_s  # the next attempt would be a second later
    if waits:
        assert not opened(reached, door)
    else:
        with pytest.raises(ConnectFailed):
            opened(reached, door)


@pytest.mark.parametrize(("result", "waits"), [(1, False), (2, True)], ids=["for good", "for now"])
def test_N36_who_was_never_there_is_waited_for_only_if_it_says_for_now(clock: Clock, result: int, waits: bool) -> None:
    reached, door = Reach(LIMITS, Parallelism()), Door()
    door.shut = AssociationRejected(result, 3, 2)
    if waits:
        assert not opened(reached, door)
    else:
        with pytest.raises(AssociationRejected):
            opened(reached, door)
