"""F16: one program at a time stores into a folder."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastmove.errors import DirectoryLocked, DirectoryUnusable
from fastmove.notices import HostStrained, Notice
from fastmove.storage.collection import Collection
from fastmove.storage.lock import LOCK_NAME, FolderLock
from fastmove.storage.modes import GROUP_READABLE

HOLD = """
import sys
from pathlib import Path
from fastmove.storage.lock import FolderLock
FolderLock(Path(sys.argv[1]), "fastmove listen")
print("held", flush=True)
sys.stdin.read()
"""


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_F16_second_program_is_told_who_stores_there(tmp_path: Path) -> None:
    with FolderLock(tmp_path / "to", "fastmove listen"):
        with pytest.raises(DirectoryLocked) as caught:
            FolderLock(tmp_path / "to", "fastmove retrieve")
        who = f"fastmove listen, process {os.getpid()} on {os.uname().nodename}"
        assert str(caught.value) == (
            f"directory: {tmp_path}/to is in use by {who}: one program at a time stores there (fs.locked)"
        )
        FolderLock(tmp_path / "other", "fastmove listen").close()
    assert names(tmp_path / "to") == []
    FolderLock(tmp_path / "to", "fastmove retrieve").close()


def test_F16_lock_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        with pytest.raises(DirectoryLocked, match=f"fastmove listen, process {process.pid} on "):
            FolderLock(tmp_path, "fastmove retrieve")
        process.kill()
        process.wait()
    assert names(tmp_path) == [LOCK_NAME]
    with FolderLock(tmp_path, "fastmove retrieve"):
        assert "fastmove retrieve, process" in (tmp_path / LOCK_NAME).read_text()
    assert names(tmp_path) == []


def test_F16_children_share_the_lock(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path, "fastmove listen")
    waits, ends = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ends)
        os.read(waits, 1)
        os._exit(0)
    os.close(waits)
    os.close(lock._fd)  # as if the parent were killed
    try:
        with pytest.raises(DirectoryLocked):
            FolderLock(tmp_path, "fastmove retrieve")
    finally:
        os.close(ends)
        os.waitpid(child, 0)
    lock._fd = -1
    FolderLock(tmp_path, "fastmove retrieve").close()
    lock.close()


def test_F16_collection_is_that_of_one_program(tmp_path: Path) -> None:
    with Collection(tmp_path, holder="one"):
        with pytest.raises(DirectoryLocked, match="in use by one, process"):
            Collection(tmp_path)
        assert names(tmp_path) == [LOCK_NAME, "manifest.jsonl"]
    with Collection(tmp_path):
        pass
    assert names(tmp_path) == ["manifest.jsonl"]


def test_collection_that_cannot_be_opened_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / "manifest.jsonl").mkdir()
    with pytest.raises(ValueError, match="manifest"):
        Collection(tmp_path)
    assert names(tmp_path) == ["manifest.jsonl"]


def test_lock_that_was_given_up_while_it_was_waited_for_is_not_taken_for_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, raced = fcntl.flock, []

    def flock(fd: int, operation: int) -> None:
        if not raced:  # between open and flock the holder takes the file away
            raced.append(fd)
            (tmp_path / LOCK_NAME).unlink()
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with FolderLock(tmp_path, "one"):
        assert raced
        assert (tmp_path / LOCK_NAME).read_text().startswith("one, process")
        with pytest.raises(DirectoryLocked):
            FolderLock(tmp_path, "two")


def test_file_system_without_locks_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(fd: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    told: list[Notice] = []
    with FolderLock(tmp_path, "one", told.append), FolderLock(tmp_path, "two"):
        assert told == [HostStrained("fs.unlocked", f"{tmp_path} cannot be locked: Operation not supported")]
    assert names(tmp_path) == []


def test_symlink_in_the_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.write_text("mine")
    to.mkdir()
    (to / LOCK_NAME).symlink_to(outside)
    with pytest.raises(DirectoryUnusable, match=LOCK_NAME):
        FolderLock(to, "one")
    assert outside.read_text() == "mine"


def test_what_the_file_says_is_bounded_and_printable(tmp_path: Path) -> None:
    with FolderLock(tmp_path, "one"):
        (tmp_path / LOCK_NAME).write_bytes(b"\x1b[2J\n" + b"x" * 10_000)
        with pytest.raises(DirectoryLocked) as caught:
            FolderLock(tmp_path, "two")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 400 + len(str(tmp_path))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_lock_is_for_the_owner_or_the_group(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with FolderLock(tmp_path / "a", "one"), FolderLock(tmp_path / "b", "one", modes=GROUP_READABLE):
            found = [
                oct((tmp_path / name).stat().st_mode & 0o777) for name in ("a", f"a/{LOCK_NAME}", "b", f"b/{LOCK_NAME}")
            ]
    finally:
        os.umask(before)
    assert found == ["0o700", "0o600", "0o750", "0o640"]
