"""Random plans of faults: exit 0 only where everything is there, and the report names what is missing, no more no less.

A plan that fails is made smaller and printed; put it into FOUND once what it found is mended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import pytest

from tests.integration.fault_plans import Plan, fails, shrunk

AT_ONCE: Final = 8
"""Plans in one loop: most of the time each waits for a timer."""

FOUND: Final[Sequence[Plan]] = tuple(map(Plan.drawn, (2349, 3468, 5348)))
"""Plans that found something: lists cut off without a word, and moves that counted more; a list that came too late."""


async def good(plans: Sequence[Plan]) -> None:
    """Run them, some at a time; the first that fails is made smaller."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(plan: Plan) -> BaseException | None:
        async with room:
            return await fails(plan)

    errors = await asyncio.gather(*map(one, plans))
    for plan, error in zip(plans, errors, strict=True):
        if error is not None:
            smallest, found = await shrunk(plan, error)
            raise AssertionError(f"seed {plan.seed}, and without what does not matter:\n{smallest}") from found


@pytest.mark.parametrize("first", range(0, 40, 20))
async def test_forty_plans(first: int) -> None:
    await good([Plan.drawn(seed) for seed in range(first, first + 20)])


async def test_plans_that_found_something() -> None:
    await good(FOUND)


@pytest.mark.nightly
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(1_000, 11_000, 500))
async def test_ten_thousand_plans(first: int) -> None:
    await good([Plan.drawn(seed) for seed in range(first, first + 500)])


def test_plan_is_made_smaller_fault_by_fault() -> None:
    plan = next(plan for plan in map(Plan.drawn, range(100)) if plan.pacs and plan.asking and plan.storing)
    seen, smallest = 0, plan
    while (smaller := next(smallest.smaller(), None)) is not None:
        smallest, seen = smaller, seen + 1
        assert seen < 100
    assert (smallest.pacs, smallest.asking, smallest.storing, smallest.rounds) == ((), (), (), 0)


async def test_success_that_is_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle itself: an engine that believes every final status is seen through by one of a few plans."""
    monkeypatch.setattr("fastmove.dimse.move.Evidence.missing", frozenset())
    monkeypatch.setattr("fastmove.services.retrieve.unit.Unit.missing", frozenset())
    errors = await asyncio.gather(*(fails(Plan.drawn(seed)) for seed in range(8)))
    assert any(errors)
