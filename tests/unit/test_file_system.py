"""U13: what a file system makes of names is found out at the start, and nothing is left behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fastmove.errors import DirectoryUnusable
from fastmove.storage.file_system import LEAST_NAME, FileSystem, probed
from fastmove.storage.folders import Folder
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import StorageTarget

SOP_CLASS = b"1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Folder]:
    folder = Folder(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield folder
    folder.close()


def shorter(monkeypatch: pytest.MonkeyPatch, longest: int) -> None:
    """A file system that says 255, and takes no more than so many bytes."""
    real = os.open

    def limited(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_CREAT and len(os.fsencode(path)) > longest:
            raise OSError(36, "File name too long")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", limited)


def test_U13_usual_file_system_takes_any_name_of_ours(root: Folder, tmp_path: Path) -> None:
    assert probed(root, tmp_path) == FileSystem(255, folds_case=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("longest", "found"), [(255, 255), (254, 143), (143, 143), (142, 80), (80, 80)])
def test_U13_names_are_as_long_as_can_be_had(
    root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int, found: int
) -> None:
    shorter(monkeypatch, longest)
    assert probed(root, tmp_path).longest_name == found
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("said", [True, False], ids=["it says so", "it does not"])
def test_U13_file_system_without_room_for_a_uid_is_unusable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bool
) -> None:
    if said:
        monkeypatch.setattr(os, "fpathconf", lambda fd, name: LEAST_NAME - 1)
    else:
        shorter(monkeypatch, LEAST_NAME - 1)
    with pytest.raises(DirectoryUnusable, match=r"names of 80 letters.* cannot be had in .*\(fs\.probe\)") as caught:
        StorageTarget(tmp_path)
    assert caught.value.key == "fs.probe"
    assert list(tmp_path.iterdir()) == []


def test_U13_names_that_differ_in_case_alone_stay_two_where_case_does_not_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def folding(path: Any, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        if dir_fd is not None:
            names = {name.upper(): name for name in os.listdir(dir_fd)}  # noqa: PTH208
            path = names.get(os.fsdecode(path).upper(), path)
        return real(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)

    monkeypatch.setattr(os, "stat", folding)
    with StorageTarget(tmp_path, WriteOptions(durable=False, on_duplicate=OnDuplicate.REPLACE)) as target:
        names = [target.name(SOP_CLASS, uid) for uid in (b"1.2.A", b"1.2.a", b"1.2.3")]
        remarks = [target.remark(uid) for uid in (b"1.2.A", b"1.2.a", b"1.2.3")]
    assert (names[0], names[2]) == (b"1.2.A.dcm", b"1.2.3.dcm")
    assert names[1].startswith(b"1.2.a~")
    assert remarks == ["store.uid_syntax", "store.name_alias", ""]
    assert list(tmp_path.iterdir()) == []
