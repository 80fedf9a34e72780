"""Folders below that of the objects: made once, kept for a while, never entered through a link."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import open_descriptors

from fastmove.errors import StorageError
from fastmove.storage.folders import Folder, Folders


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY))
    yield made
    made.close()


@pytest.fixture
def folders(root: Folder) -> Iterator[Folders]:
    made = Folders(root, durable=False, kept=3)
    yield made
    made.close()


def is_at(folder: Folder, path: Path) -> bool:
    return os.path.samestat(os.fstat(folder.fd), path.stat())


def test_folder_is_made_with_those_above_it_for_its_owner_alone(folders: Folders, tmp_path: Path) -> None:
    assert is_at(folders.get(b"a/b/c"), tmp_path / "a/b/c")
    for path in ("a", "a/b", "a/b/c"):
        assert (tmp_path / path).stat().st_mode & 0o777 == 0o700


def test_empty_path_is_the_root(folders: Folders, root: Folder) -> None:
    assert folders.get(b"") is root


def test_folder_that_is_there_is_used_as_it_is(folders: Folders, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir(mode=0o750)
    (tmp_path / "a" / "object").touch()
    assert is_at(folders.get(b"a"), tmp_path / "a")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o750


def test_recent_folders_stay_open_and_others_are_closed(folders: Folders) -> None:
    before = len(open_descriptors())
    first = folders.get(b"1")
    for name in (b"2", b"3", b"1", b"4"):
        folders.get(name)
    assert len(open_descriptors()) == before + 3
    assert folders.get(b"1") is first
    folders.get(b"5")
    folders.get(b"6")
    folders.get(b"7")
    assert os.fstat(first.fd), "who has it still has it open"
    assert folders.get(b"1") is not first


@pytest.mark.parametrize("depth", [0, 1, 2])
@pytest.mark.parametrize("what", ["link to a folder", "dangling link", "file"])
def test_what_is_no_folder_is_not_entered(folders: Folders, tmp_path: Path, depth: int, what: str) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    parts = ["a", "b", "c"]
    place = tmp_path.joinpath(*parts[: depth + 1])
    place.parent.mkdir(parents=True, exist_ok=True)
    if what == "file":
        place.write_bytes(b"mine")
    else:
        place.symlink_to(outside if what == "link to a folder" else tmp_path / "nowhere")
    with pytest.raises(StorageError) as caught:
        folders.get(b"a/b/c")
    assert (caught.value.key, caught.value.status) == ("fs.occupied" if what == "file" else "fs.symlink", 0xA700)
    assert list(outside.iterdir()) == []
    assert not (tmp_path / "nowhere").exists()


def test_folder_that_was_removed_is_made_anew_once_it_is_forgotten(folders: Folders, tmp_path: Path) -> None:
    gone = folders.get(b"a/b")
    (tmp_path / "a" / "b").rmdir()
    (tmp_path / "a").rmdir()
    assert folders.get(b"a/b") is gone
    folders.forget(b"a/b")
    assert is_at(folders.get(b"a/b"), tmp_path / "a/b")


@pytest.mark.parametrize("durable", [True, False])
def test_durable_folder_is_synced_into_the_one_above_before_it_is_given_out(
    root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool
) -> None:
    (tmp_path / "a").mkdir()  # by somebody who may not have synced it
    synced: list[tuple[str, list[str]]] = []

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        synced.append((str(path.relative_to(tmp_path)), sorted(os.listdir(fd))))

    monkeypatch.setattr(os, "fsync", fsync)
    folders = Folders(root, durable=durable)
    folders.get(b"a/b")
    assert synced == ([(".", ["a"]), ("a", ["b"])] if durable else [])
    folders.get(b"a/b")
    folders.get(b"a/c")
    assert synced[2:] == ([("a", ["b", "c"])] if durable else [])
    folders.close()


def test_folder_whose_sync_fails_is_made_anew(root: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    folders = Folders(root, durable=True)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", broken)
        for _ in range(2):
            with pytest.raises(StorageError, match="Input/output") as refused:
                folders.get(b"a")
            assert refused.value.key == "fs.dirsync"
            assert not (tmp_path / "a").exists(), "the next sync would have nothing to do"
    folders.get(b"a")
    folders.close()


def test_threads_that_want_one_folder_at_once_all_get_it(folders: Folders, tmp_path: Path) -> None:
    start = threading.Barrier(8)
    got: list[bool] = []

    def ask() -> None:
        start.wait()
        for number in range(50):
            got.append(is_at(folders.get(b"a/%d" % number), tmp_path / f"a/{number}"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [True] * 400


def test_folder_that_two_threads_open_at_once_is_one_folder(folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the later took the place of the earlier, the descriptor that somebody works with would be closed."""
    real, others = os.open, []

    def open_while_another_does(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == b"a" and not others:
            others.append(None)
            others[0] = folders.get(b"a")
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr("fastmove.storage.folders.os.open", open_while_another_does)
    assert folders.get(b"a") is others[0]
    assert folders.get(b"a") is others[0]


def test_folder_that_is_forgotten_while_it_is_opened_is_not_kept(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be the one that was removed; who asks after that needs the new one."""
    real = os.open

    def open_as_it_is_removed(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        fd = real(path, flags, mode, dir_fd=dir_fd)
        folders.forget(b"a")
        return fd

    with monkeypatch.context() as patched:
        patched.setattr("fastmove.storage.folders.os.open", open_as_it_is_removed)
        removed = folders.get(b"a")
    assert folders.get(b"a") is not removed
