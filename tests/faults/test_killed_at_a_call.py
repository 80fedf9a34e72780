"""G-B2: killed at each call that stores an object, before it and after it (in the middle, if it writes)."""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.faults.forks import Forks
from tests.faults.listening import FaultyListener, listening
from tests.faults.nth_call import Case
from tests.faults.shim import EVER, Kind, Plan
from tests.faults.test_nth_call import AFTER, KEPT, MODES, OBJECTS, Mode

pytestmark = pytest.mark.lane("gcc")

DURABLE: Final = [(name, op) for name, mode in MODES.items() for op in mode.ops if name.startswith("durable")]
FAST: Final = [(name, op) for name, mode in MODES.items() for op in mode.ops if name.startswith("fast")]


def kills(op: str) -> Iterator[Case]:
    """Before the first call, after the second, and so on without end."""
    for nth in count(1):
        yield Case(op, nth, Kind.KILL_AFTER if nth % 2 == 0 else Kind.KILL_BEFORE)


@pytest.mark.parametrize(("mode", "op"), DURABLE)
async def test_F12_killed_at_each_call_it_has_all_that_it_acknowledged(
    mode: str, op: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    await killed_at_each(forks, plan, tmp_path, mode, op)


@pytest.mark.nightly
@pytest.mark.parametrize(("mode", "op"), FAST)
async def test_F12_killed_at_each_call_it_has_all_that_it_acknowledged_without_syncs_too(
    mode: str, op: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    await killed_at_each(forks, plan, tmp_path, mode, op)


async def killed_at_each(forks: Forks, plan: Plan, directory: Path, mode: str, op: str) -> None:
    """The first, the second, until it lives."""
    for case in kills(op):
        try:
            if not await one_kill(forks, plan, directory / str(case.nth), MODES[mode], case):
                break
        except BaseException as failed:
            failed.add_note(f"{mode}: {case}")
            raise
    assert case.nth > (1 if op in MODES[mode].once else len(OBJECTS)), f"only {case.nth - 1} calls of {op}"


async def one_kill(forks: Forks, plan: Plan, folder: Path, mode: Mode, case: Case) -> bool:
    """Three objects with a kill among them, and a start on what is left; False if it was not killed."""
    with ExitStack() as stack:
        if mode.named:
            stack.enter_context(plan.rule("tmpfile", str(folder), Kind.FAIL, errno.EOPNOTSUPP, 1, EVER))
        async with listening(forks, plan, folder, *mode.options) as listener, listener.connect() as peer:
            await peer.associate()
            assert await listener.store(peer, KEPT) == 0
            with plan.rule(case.op, str(folder), case.kind, 0, case.nth) as rule:
                with suppress(EOFError, OSError):
                    for number in OBJECTS:
                        await listener.store(peer, number)
                killed = rule.met > 0
            code = await (listener.program.ended() if killed else listener.program.stopped())
            assert code == (-signal.SIGKILL if killed else 0)
        left = len(list(folder.rglob(".fm-*")))
        async with listening(forks, plan, folder, *mode.options) as again, again.connect() as peer:
            assert [event["files"] for event in again.program.seen("recover.swept")] == ([left] if left else [])
            holds_what_was_acknowledged(again, listener)
            await peer.associate()
            assert await again.store(peer, AFTER) == 0
            assert await again.program.stopped() == 0
            holds_what_was_acknowledged(again, listener)
    return killed


def holds_what_was_acknowledged(listener: FaultyListener, before: FaultyListener) -> None:
    """All of it, and nothing that is not whole; what was not answered may be there."""
    assert {number for number, status in before.answered.items() if status == 0} <= listener.whole().keys()
