"""G-B1 on the calls that were made: no order in which they may reach the disk loses what was acknowledged."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import pytest

from tests.faults.forks import Forks
from tests.faults.listening import UID, listening, uid
from tests.faults.replay import Entry, File, Machine, Tail, read_log
from tests.faults.senders import Objects, Senders, sending
from tests.faults.shim import EVER, Kind, Plan
from tests.integration import raw

pytestmark = pytest.mark.lane("gcc")

OBJECTS: Final = Objects(500, 20_000)
SENT: Final = 40
ASSOCIATIONS: Final = 6
SUBSETS: Final = 3
MATERIALISED: Final = 8
"""Crash states that a listener is started on."""


class Mode(NamedTuple):
    """A way to store."""

    options: tuple[str, ...] = ()
    lacking: dict[str, int] = {}
    """Calls that the file system does not know."""

    repeats: int = 1
    """How often each object is sent: the second has the name taken."""


MODES: Final = {
    "plain": Mode(),
    "no unnamed files": Mode(lacking={"tmpfile": errno.EOPNOTSUPP}),
    "NFS": Mode(lacking={"tmpfile": errno.EOPNOTSUPP, "rename_new": errno.EINVAL}),
    "folders": Mode(("--layout", "{SOPInstanceUID}/a/{SOPInstanceUID}.dcm")),
    "twice": Mode(repeats=2),
}


class Replay:
    """What the crashes of a run may leave."""

    def __init__(self, root: int, entries: Sequence[Entry], random: Random) -> None:
        self.machine = Machine(root)
        self.entries = entries
        self.random = random
        self.crashes = 0
        self.lost: set[str] = set()
        self.torn: set[str] = set()
        self.states: list[dict[str, bytes]] = []
        """A few of them."""
        self._whole: dict[tuple[File, int, int, Tail], bool] = {}

    def run(self) -> None:
        """Crash after every call."""
        for entry in self.entries:
            self.machine.take(entry)
            for state in self.machine.crashes(self.random, SUBSETS):
                for tail in Tail:
                    self.crashes += 1
                    self.judge(state, tail)
                if self.random.random() < MATERIALISED / len(self.entries) / SUBSETS:
                    tail = self.random.choice(list(Tail))
                    self.states.append({path: file.after(tail) for path, file in state.items()})

    def judge(self, state: dict[str, File], tail: Tail) -> None:
        """A state must have all that was acknowledged, and nothing under a final name that is not whole."""
        there = set()
        for path, file in state.items():
            name = path.rpartition("/")[2]
            if not name.endswith(".dcm"):
                continue  # unfinished, or the lock
            instance = name.removesuffix(".dcm").partition(".dup")[0]
            if self.is_whole(instance, file, tail):
                there.add(instance)
            else:
                self.torn.add(name)
        self.lost |= set(self.machine.acknowledged) - there

    def is_whole(self, instance: str, file: File, tail: Tail) -> bool:
        """Whether a crash leaves all of an object in a file."""
        key = file, file.durable, len(file.written), tail
        if key not in self._whole:
            content = file.after(tail)
            expected = OBJECTS.dataset(int(instance.removeprefix(UID + ".")))
            self._whole[key] = content[:132].endswith(b"DICM") and raw.part10_dataset(content) == expected
        return self._whole[key]


async def recorded(forks: Forks, plan: Plan, directory: Path, mode: Mode) -> Replay:
    """Objects come in on several associations: what was called meanwhile."""
    folder, log = directory / "stored", directory / "log"
    folder.mkdir()
    numbers = count()
    with ExitStack() as stack:
        for op, error in mode.lacking.items():
            stack.enter_context(plan.rule(op, str(folder), Kind.FAIL, error, 1, EVER))
        async with listening(forks, plan, folder, *mode.options, log=log) as listener:
            senders = Senders(listener.port, OBJECTS, lambda: next(numbers) // mode.repeats)
            async with sending(senders, ASSOCIATIONS):
                await senders.have_acknowledged(SENT)
            assert await listener.program.stopped() == 0
    replay = Replay(folder.stat().st_ino, read_log(log), Random(1))
    replay.run()
    assert not senders.refused
    assert sorted(replay.machine.acknowledged) == sorted(map(uid, senders.acknowledged))
    return replay


@pytest.mark.parametrize("mode", MODES)
async def test_F13_no_order_of_the_calls_loses_what_was_acknowledged(
    mode: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    replay = await recorded(forks, plan, tmp_path, MODES[mode])
    assert (replay.lost, replay.torn) == (set(), set())
    assert replay.crashes >= 20 * len(replay.entries) > 20 * SENT
    for number, state in enumerate(replay.states):
        folder = tmp_path / f"crash-{number}"
        for path, content in state.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        await is_recovered(forks, folder, state)


async def is_recovered(forks: Forks, folder: Path, state: dict[str, bytes]) -> None:
    """A start on what a crash has left removes what is unfinished, and nothing else."""
    async with listening(forks, None, folder) as listener:
        assert await listener.program.stopped() == 0
    assert not list(folder.rglob(".fm-*"))
    there = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.dcm")}
    assert there == {path: content for path, content in state.items() if path.endswith(".dcm")}


LIES: Final[dict[str, Callable[[Replay], set[str]]]] = {
    "fdatasync": lambda replay: replay.torn,
    "fsync": lambda replay: replay.lost,
}


@pytest.mark.parametrize("op", LIES)
async def test_replay_finds_each_sync_that_is_not_done(op: str, forks: Forks, plan: Plan, tmp_path: Path) -> None:
    with plan.rule(op, str(tmp_path / "stored"), Kind.PRETEND, 0, 1, EVER):
        replay = await recorded(forks, plan, tmp_path, MODES["plain"])
    assert LIES[op](replay)


def entry(op: str, *, inode: int, folder: int = 0, name: str = "", data: bytes = b"", done: bool = True) -> Entry:
    """A call of the only thread."""
    return Entry(op, done, 1, len(data) if op == "write" else 0, inode, folder, name, "", data)


def synced(op: str, inode: int) -> tuple[Entry, Entry]:
    return entry(op, inode=inode, done=False), entry(op, inode=inode)


def test_folder_may_have_the_inode_of_a_file_that_is_gone() -> None:
    root, again, file = 1, 2, 3
    machine = Machine(root)
    for call in (
        entry("tmpfile", inode=again),  # of an association that was aborted
        entry("mkdir", inode=again, folder=root, name="a"),
        *synced("fsync", root),
        entry("tmpfile", inode=file),
        entry("write", inode=file, data=b"object"),
        *synced("fdatasync", file),
        entry("link", inode=file, folder=again, name="1.dcm"),
        *synced("fsync", again),
    ):
        machine.take(call)
    assert {path: found.after(Tail.LOST) for path, found in machine.crash({}).items()} == {"a/1.dcm": b"object"}
