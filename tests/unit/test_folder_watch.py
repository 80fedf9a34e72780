"""U11, U12: the folder of the objects is looked after while it is in use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fastmove.storage.folder_watch import FolderWatch, Odd
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming


def watch(target: StorageTarget, big: int = 100) -> FolderWatch:
    return target.watch(big)


def test_folder_as_it_should_be_is_nothing_to_tell_of(tmp_path: Path) -> None:
    with StorageTarget(tmp_path / "to") as target:
        looked = watch(target)
        assert looked.look(0) == looked.look(10) == []


@pytest.mark.parametrize("then", ["gone", "symlink", "another"])
def test_U11_folder_that_is_another_one_is_told_of_once(tmp_path: Path, then: str) -> None:
    to = tmp_path / "to"
    with StorageTarget(to) as target:
        looked = watch(target)
        assert looked.look(0) == []
        to.rename(tmp_path / "there")
        if then == "symlink":
            (tmp_path / "other").mkdir()
            to.symlink_to(tmp_path / "other")
        elif then == "another":
            to.mkdir()
        detail = f"{to} is another folder now; objects go where the first one is"
        assert looked.look(0) == [Odd("fs.dir_changed", detail)]
        assert looked.look(0) == []


def test_U11_symlink_to_the_same_folder_is_the_same_folder(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "to").symlink_to(tmp_path / "real")
    with StorageTarget(tmp_path / "to") as target:
        assert watch(target).look(0) == []


@pytest.mark.parametrize(
    ("mode", "told"), [(0o700, False), (0o2775, False), (0o777, True), (0o1777, False), (0o702, True)]
)
def test_U11_folder_that_others_may_change_is_told_of_at_the_start(tmp_path: Path, mode: int, told: bool) -> None:
    to = tmp_path / "to"
    to.mkdir()
    to.chmod(mode)
    with StorageTarget(to) as target:
        looked = watch(target)
        found = looked.look(0)
        assert [odd.event for odd in found] == ["fs.dir_changed"] * told
        assert all(f"may be changed by others: mode {mode:04o}, owner {os.geteuid()}" in odd.detail for odd in found)
        assert looked.look(0) == []


@pytest.mark.lane("root")
def test_U11_folder_of_somebody_else_is_told_of_at_the_start(tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir(mode=0o700)
    os.chown(to, 12345, 12345)
    with StorageTarget(to) as target:
        (odd,) = watch(target).look(0)
    assert odd.detail.endswith("mode 0700, owner 12345")


def test_U12_folder_of_many_files_is_told_of_once(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / f"{number}").touch()
    with StorageTarget(tmp_path) as target:
        looked = watch(target, big=10)
        assert looked.look(0) == looked.look(3) == []
        (odd,) = looked.look(4)
        assert odd.event == "fs.dir_big"
        assert odd.detail.startswith(f"{tmp_path} has 10 files or more: folders by study or series (--layout)")
        assert looked.look(5) == looked.look(500) == []


def test_U12_folder_that_is_full_at_the_start_is_told_of_at_once(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number}").touch()
    with StorageTarget(tmp_path) as target:
        assert [odd.event for odd in watch(target, big=10).look(0)] == ["fs.dir_big"]


def test_U12_objects_in_folders_are_not_in_one(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(naming=naming("series"))) as target:
        assert watch(target, big=10).look(1000) == []
