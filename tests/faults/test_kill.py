"""G-B2, F12: killed at any byte, it leaves no file under its final name that is not whole, and all it acknowledged."""

from __future__ import annotations

import errno
import signal
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.faults.forks import Forked, Forks
from tests.faults.listening import UID, FaultyListener, listening
from tests.faults.senders import Objects, Senders, sending
from tests.faults.shim import EVER, Kind, Plan
from tests.faults.watching import Watcher
from tests.integration.embedded import embedded_pacs
from tests.integration.retrieving import Retrieving

pytestmark = pytest.mark.lane("gcc")

OBJECTS: Final = Objects(500, 200_000)
ASSOCIATIONS: Final = 4
MOST_BYTES: Final = 4_000_000
"""That are sent before it is killed: some forty objects."""

SYNC_MS: Final = 5
KILLS: Final = 10
NIGHTLY_KILLS: Final = 250


class Mode(NamedTuple):
    """A way to store."""

    options: tuple[str, ...]
    named: bool = False
    """What is unfinished has a name."""


MODES: Final = {
    "durable": Mode(()),
    "fast": Mode(("--no-durable",)),
    "durable, no unnamed files": Mode((), named=True),
    "fast, no unnamed files": Mode(("--no-durable",), named=True),
}


@pytest.mark.parametrize("mode", MODES)
async def test_F12_killed_at_any_byte_it_leaves_whole_files_and_all_that_it_acknowledged(
    mode: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    await kill_again_and_again(forks, plan, tmp_path / "stored", MODES[mode], Random(mode), KILLS)


@pytest.mark.nightly
@pytest.mark.parametrize("mode", MODES)
async def test_F12_killed_a_thousand_times(mode: str, forks: Forks, plan: Plan, tmp_path: Path) -> None:
    await kill_again_and_again(forks, plan, tmp_path / "stored", MODES[mode], Random(), NIGHTLY_KILLS)


def number_of(path: Path) -> int:
    """Of the object of a file."""
    return int(path.name.removeprefix(UID + ".").removesuffix(".dcm"))


def is_whole(path: Path) -> bool:
    """Whether a file is what its name says."""
    return OBJECTS.is_whole(number_of(path), path)


def tree(folder: Path) -> dict[str, tuple[int, int, int]]:
    """The objects of a folder: names, with inode, size and time."""
    found = [(path.name, path.stat()) for path in folder.glob("*.dcm")]
    return {name: (status.st_ino, status.st_size, status.st_mtime_ns) for name, status in found}


async def kill_again_and_again(forks: Forks, plan: Plan, folder: Path, mode: Mode, random: Random, kills: int) -> None:
    """One folder, one listener after the other: each is killed, the next finds what it left."""
    folder.mkdir()
    numbers = count()
    acknowledged: set[int] = set()
    judged, swept = 0, 0
    with ExitStack() as stack:
        if mode.named:
            stack.enter_context(plan.rule("tmpfile", str(folder), Kind.FAIL, errno.EOPNOTSUPP, 1, EVER))
            # However quick the disk is: most of the time something is in the making.
            stack.enter_context(plan.rule("fdatasync", str(folder), Kind.DELAY, SYNC_MS, 1, EVER))
        for _ in range(kills):
            left = unfinished(folder)
            async with listening(forks, plan, folder, *mode.options) as listener:
                swept += recovered(listener, left)
                senders = Senders(listener.port, OBJECTS, lambda: next(numbers))
                senders.at(random.randrange(1, MOST_BYTES), lambda: listener.program.signal(signal.SIGKILL))
                with Watcher(folder, is_whole) as watcher:
                    async with sending(senders, ASSOCIATIONS, lost=True):
                        assert await listener.program.ended() == -signal.SIGKILL
            assert not (watcher.bad or senders.refused)
            judged += watcher.looked_at
            acknowledged.update(senders.acknowledged)
            present = {number_of(path): path for path in folder.glob("*.dcm")}
            assert acknowledged <= present.keys(), "what was acknowledged is there"
            assert all(OBJECTS.is_whole(number, path) for number, path in present.items())
        assert judged >= len(present) and acknowledged
        await recovers_for_good(forks, plan, folder, mode)
    if mode.named:
        assert swept, "it was not killed in the middle of an object"
    assert mode.named == bool(swept)


def unfinished(folder: Path) -> int:
    """Files in the making."""
    return len(list(folder.glob(".fm-*")))


def recovered(listener: FaultyListener, left: int) -> int:
    """What it says of what it found: how many files it removed."""
    assert not unfinished(listener.folder)
    said = listener.program.seen("recover.swept")
    assert [event["files"] for event in said] == ([left] if left else [])
    return left


async def test_F12_object_of_a_killed_retrieve_counts_when_its_name_is_durable(
    forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    async with embedded_pacs(Spec(studies=1, series=1, instances=1, size=20_000)) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, tmp_path / "to", port, "--no-manifest")
            with plan.rule("fsync", str(run.folder), Kind.KILL_BEFORE, first=2):
                async with Forked(forks, plan, *run.command) as program:
                    assert await program.ended() == -signal.SIGKILL
            await run.settled()
            assert len(run.whole()) == 1 and not pacs.sent, "it has its name, and nobody was told so"
            with plan.rule("fsync", str(run.folder), Kind.FAIL, errno.EIO) as rule:
                async with Forked(forks, plan, *run.command) as program:
                    assert await program.ended() == 45, "what cannot be made durable does not count"
                assert rule.met
                async with Forked(forks, plan, *run.command) as program:
                    assert await program.ended() == 0
                assert rule.seen == 2 and not pacs.sent, "it was synced, and not fetched"


async def recovers_for_good(forks: Forks, plan: Plan, folder: Path, mode: Mode) -> None:
    """A start after the last kill clears up, another finds nothing to do."""
    left = unfinished(folder)
    whole = tree(folder)
    for expected in (left, 0):
        async with listening(forks, plan, folder, *mode.options) as listener:
            recovered(listener, expected)
            assert await listener.program.stopped() == 0
        assert tree(folder) == whole
