"""The disk's threads: whatever fails in them, whoever waits is told, and the next one is served."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, cast

import pytest

from fastmove._sink import FileSink
from fastmove.errors import StorageError
from fastmove.services.disk import Disk, Outcome
from fastmove.storage.options import Placing, WriteOptions
from fastmove.storage.target import Received, StorageTarget, Stored

RECEIVED: Final = Received(b"1.2", b"1.2.3", "1.2.840.10008.1.2", "AE", 4)


class Target:
    """Stores nothing; `errors` are raised by the calls to come, one each."""

    def __init__(self) -> None:
        self.options = WriteOptions()
        self.failed_syncs = 0
        self.commits: list[Exception] = []
        self.settles: list[Exception] = []

    def commit(self, sink: FileSink, name: bytes, received: Received) -> Stored:
        if self.commits:
            raise self.commits.pop()
        return Stored(name, Placing.NEW)

    def settle(self, group: Sequence[tuple[Stored, int]]) -> list[StorageError | None]:
        if self.settles:
            raise self.settles.pop()
        return [None] * len(group)


@pytest.fixture
def complaints(runner: asyncio.Runner) -> Iterator[list[dict[str, Any]]]:
    """What the loop is told that it should report."""
    loop, found = runner.get_loop(), list[dict[str, Any]]()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(before)


async def outcome(disk: Disk) -> Outcome:
    """Of one commit."""
    told = asyncio.get_running_loop().create_future()
    disk.commit(cast(FileSink, None), b"1.2.3.dcm", RECEIVED, told.set_result)
    async with asyncio.timeout(10):
        return cast(Outcome, await told)


@pytest.mark.parametrize("where", ["commits", "settles"])
async def test_a_bug_refuses_one_object_and_the_next_is_stored(where: str, complaints: list[dict[str, Any]]) -> None:
    target = Target()
    getattr(target, where).append(RuntimeError("a bug"))
    with Disk(cast(StorageTarget, target)) as disk:
        refused, stored = await outcome(disk), await outcome(disk)
    assert isinstance(refused, StorageError)
    assert (refused.key, refused.status) == ("internal", 0x0110)
    assert isinstance(stored, Stored)
    assert [str(each["exception"]) for each in complaints] == ["a bug"]


async def test_folder_that_is_none_any_more_when_it_is_to_be_synced_loses_its_objects_only(tmp_path: Path) -> None:
    with StorageTarget(tmp_path) as target:
        (tmp_path / "place").write_bytes(b"")
        gone, there = Stored(b"place/1.2.3.dcm", Placing.NEW), Stored(b"1.2.4.dcm", Placing.SAME)
        failure, none = target.settle([(gone, 0), (there, 0)])
    assert failure is not None
    assert failure.key == "fs.occupied"
    assert none is None


async def test_each_group_begins_anew_and_so_a_disk_that_is_busy_is_not_called_slow() -> None:
    """The thread that makes names durable goes on for as long as there are any."""
    begun: list[float | None] = []

    class Busy(Target):
        def settle(self, group: Sequence[tuple[Stored, int]]) -> list[StorageError | None]:
            begun.append(disk._begun[0])
            if len(begun) < 3:
                disk._unsettled.append((Stored(b"1.2.4.dcm", Placing.NEW), 0, lambda _: None))
            return [None] * len(group)

    with Disk(cast(StorageTarget, Busy())) as disk:
        await outcome(disk)
    assert len(set(begun)) == 3
