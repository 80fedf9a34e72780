"""G-B4: each call that writes three objects fails once, with each errno that it can have."""

from __future__ import annotations

import errno
from contextlib import ExitStack
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from tests.faults.forks import Forks
from tests.faults.listening import FaultyListener, listening
from tests.faults.nth_call import NO_ROOM, TRANSIENT, Case, cases
from tests.faults.shim import EVER, Kind, Plan

pytestmark = pytest.mark.lane("gcc")

KEPT, FIRST, AFTER = 0, 1, 4
OBJECTS: Final = range(FIRST, AFTER)

SYNCS: Final = frozenset(("fdatasync", "fsync"))

UNNAMED: Final = ("tmpfile", "write", "link", "close")
NAMED: Final = ("create", "write", "rename_new", "close")


class Mode(NamedTuple):
    """A way to store, with the calls that it makes for each object or (`once`) at least once."""

    options: tuple[str, ...]
    calls: tuple[str, ...]
    once: tuple[str, ...] = ()
    named: bool = False

    @property
    def ops(self) -> tuple[str, ...]:
        """All of these calls."""
        return self.calls + self.once


FOLDERS: Final = "{SOPInstanceUID}/{SOPInstanceUID}.dcm"

MODES: Final = {
    "durable": Mode((), (*UNNAMED, "fdatasync"), ("fsync",)),
    "fast": Mode(("--no-durable",), UNNAMED),
    "durable, no unnamed files": Mode((), (*NAMED, "fdatasync"), ("fsync",), named=True),
    "fast, no unnamed files": Mode(("--no-durable",), NAMED, named=True),
    "durable, folders": Mode(("--layout", FOLDERS), ("link", "fdatasync", "mkdir", "open", "fsync")),
}


async def one_case(forks: Forks, plan: Plan, folder: Path, mode: Mode, case: Case) -> bool:
    """Three objects with one fault, and what has to hold then; False if no call failed."""
    with ExitStack() as stack:
        if mode.named:
            stack.enter_context(plan.rule("tmpfile", str(folder), Kind.FAIL, errno.EOPNOTSUPP, 1, EVER))
        async with listening(forks, plan, folder, *mode.options) as listener:
            async with listener.connect() as peer:
                await peer.associate()
                assert await listener.store(peer, KEPT) == 0
                before = {path: path.stat() for path in listener.whole().values()}
                with plan.rule(case.op, str(folder), case.kind, case.error, case.nth) as rule:
                    for number in OBJECTS:
                        await listener.store(peer, number)
                await listener.store(peer, AFTER)
                await peer.release()
            listener.is_honest()
            assert all(path.stat() == status for path, status in before.items()), "what was there is untouched"
            refused = [status for status in listener.answered.values() if status]
            if rule.met:
                await proper(listener, case, refused)
            else:
                assert not refused
                await listener.echoes()
            assert await listener.program.stopped() == 0
            assert listener.program.errors == "" or rule.met
        listener.is_honest()
        return rule.met > 0


async def proper(listener: FaultyListener, case: Case, refused: list[int]) -> None:
    """What was refused was refused for want of resources, in so many words, and the listener goes on."""
    if case.kind is Kind.SHORT or case.error in TRANSIENT:
        assert not refused, "it was worth another try"
    assert set(refused) <= {0xA700}
    told = [
        event
        for event in listener.program.events
        if event["event"].startswith("fs.") and event["event"] != "fs.fallback"
    ]
    assert len(told) == len(refused) and all(event["status"] == 0xA700 for event in told)
    if case.op in SYNCS:
        assert refused, "a sync that failed is no success"
        if case.error in NO_ROOM:
            await listener.echoes()
        else:
            await listener.rejects()
    else:
        assert len(refused) <= 1 and listener.answered[AFTER] == 0
        await listener.echoes()


PAIRS: Final = [(name, op) for name, mode in MODES.items() for op in mode.ops]


@pytest.mark.parametrize(("mode", "op"), PAIRS)
async def test_each_call_of_three_objects_fails_once_and_nothing_is_said_that_is_not_so(
    mode: str, op: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    await every_call_fails(forks, plan, tmp_path, mode, op)


@pytest.mark.nightly
@pytest.mark.parametrize(("mode", "op"), PAIRS)
async def test_each_call_of_three_objects_fails_in_every_way(
    mode: str, op: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    await every_call_fails(forks, plan, tmp_path, mode, op, all_ways=True)


async def every_call_fails(
    forks: Forks, plan: Plan, directory: Path, mode: str, op: str, *, all_ways: bool = False
) -> None:
    """The first, the second, until none is left to fail."""
    for number, case in enumerate(cases(op, all_ways=all_ways)):
        try:
            failed = await one_case(forks, plan, directory / str(number), MODES[mode], case)
        except BaseException as error:
            error.add_note(f"{mode}: {case}")
            raise
        if not failed:
            break
    expected = 1 if op in MODES[mode].once else len(OBJECTS)
    assert case.nth > expected, f"only {case.nth - 1} calls of {op}"
