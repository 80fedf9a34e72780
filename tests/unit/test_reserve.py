"""The reserve of a disk: how much it is, when there is an objection, and that asking never waits (F17)."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Final, NamedTuple

import pytest

from fastmove.limits import RESERVE_BYTES
from fastmove.storage import reserve as reserve_module
from fastmove.storage.reserve import Reserve
from fastmove.types import Objection, first_objection

BLOCK: Final = 4096


class Disk(NamedTuple):
    """What statvfs says."""

    f_blocks: int
    f_bavail: int
    f_frsize: int = BLOCK


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[Disk]:
    """The last one is what is asked."""
    disks = [Disk(0, 0)]
    monkeypatch.setattr(os, "statvfs", lambda _: disks[-1])
    return disks


def blocks(nbytes: int) -> int:
    return nbytes // BLOCK


@pytest.mark.parametrize(
    ("wanted", "total", "reserve"),
    [
        (None, 1 << 40, RESERVE_BYTES),  # a large disk: 1 GiB
        (None, 50 << 20, (50 << 20) // 50),  # a small one: 2 %
        (10 << 20, 50 << 20, 10 << 20),
        (10 << 20, 1 << 40, 10 << 20),
    ],
)
def test_F17_less_than_the_reserve_is_an_objection(
    tmp_path: Path, disk: list[Disk], wanted: int | None, total: int, reserve: int
) -> None:
    for free, low in ((reserve // BLOCK - 1, True), (-(-reserve // BLOCK), False), (blocks(reserve) + 2, False)):
        disk.append(Disk(blocks(total), free))
        objection = Reserve(tmp_path, wanted).objection()
        assert (objection is not None) == low, free
    assert objection is None


def test_F17_objection_says_what_is_free_and_what_is_kept(tmp_path: Path, disk: list[Disk]) -> None:
    disk.append(Disk(blocks(1 << 40), blocks(10**6)))
    objection = Reserve(tmp_path, 2 * 10**9).objection()
    assert objection == Objection("fs.low", f"999 kB free in {tmp_path}, 2.00 GB are kept in reserve")


def test_no_reserve_is_no_objection_on_a_full_disk(tmp_path: Path, disk: list[Disk]) -> None:
    disk.append(Disk(blocks(1 << 40), 0))
    with Reserve(tmp_path, 0) as reserve:
        assert reserve.objection() is None


@pytest.mark.parametrize("wanted", [None, 1 << 30])
def test_file_system_that_does_not_count_is_no_objection(tmp_path: Path, disk: list[Disk], wanted: int | None) -> None:
    assert Reserve(tmp_path, wanted).objection() is None


def test_folder_that_is_gone_leaves_what_was_known(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    full, empty = Reserve(folder, 1 << 62), Reserve(folder, 1)
    folder.rmdir()
    for reserve in (full, empty):
        reserve.measure()
    assert (full.objection() is None, empty.objection()) == (False, None)


def test_it_is_looked_again_and_again(tmp_path: Path, disk: list[Disk], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reserve_module, "RESERVE_LOOK_S", 0.001)
    looked = threading.Semaphore(0)
    measure = Reserve.measure

    def counted(self: Reserve) -> None:
        measure(self)
        looked.release()

    monkeypatch.setattr(Reserve, "measure", counted)
    disk.append(Disk(1000, 1000))
    with Reserve(tmp_path) as reserve:
        assert reserve.objection() is None
        disk.append(Disk(1000, 19))
        while looked.acquire(blocking=False):
            """What was looked at before."""
        for _ in range(3):  # one may have begun before
            assert looked.acquire(timeout=5)
        assert reserve.objection() is not None


def test_asking_does_not_wait_for_a_file_system_that_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reserve_module, "RESERVE_LOOK_S", 0.001)
    asked, answer = threading.Event(), threading.Event()
    statvfs = os.statvfs

    def hangs(path: Path) -> os.statvfs_result:
        if threading.current_thread() is not threading.main_thread():
            asked.set()
            answer.wait()
        return statvfs(path)

    monkeypatch.setattr(os, "statvfs", hangs)
    with Reserve(tmp_path, 1) as reserve:
        assert asked.wait(5)
        assert reserve.objection() is None
        answer.set()


def test_first_objection_counts() -> None:
    low, bad = Objection("fs.low", ""), Objection("fs.fsync", "")
    assert first_objection(()) is None
    assert first_objection((lambda: None, lambda: low, lambda: bad)) is low
