"""A manifest held against the disk: whatever became of a file is found, and nothing else."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from tests.unit.test_manifest import notice, write

from fastmove.errors import ConfigurationError
from fastmove.storage import verify as module
from fastmove.storage.digest import sha256_of
from fastmove.storage.manifest import Manifest
from fastmove.storage.options import Placing
from fastmove.storage.verify import Fault, Finding, Verification

OBJECTS = 12


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Objects in folders, and their manifest."""
    with Manifest(tmp_path / "manifest.jsonl", tmp_path) as manifest:
        for number in range(OBJECTS):
            write(tmp_path, f"s{number % 3}/{number}.dcm", f"1.2.{number}")
            manifest.record(notice(tmp_path / f"s{number % 3}/{number}.dcm", f"1.2.{number}"))
    return tmp_path


def verified(folder: Path, *, quick: bool = False, jobs: int = 3) -> tuple[Verification, list[Finding]]:
    found: list[Finding] = []
    verification = Verification(folder, folder / "manifest.jsonl", found.append)
    verification.run(jobs, quick=quick)
    return verification, sorted(found, key=lambda finding: finding.path)


def flip(path: Path, at: int = -1) -> None:
    """Another byte at this place, and the same length."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("jobs", [1, 2, 16])
@pytest.mark.parametrize("quick", [True, False])
def test_what_is_as_it_was_is_sound(folder: Path, jobs: int, quick: bool) -> None:
    verification, found = verified(folder, quick=quick, jobs=jobs)
    assert (found, verification.damaged) == ([], 0)
    assert verification.objects == verification.total == OBJECTS
    assert verification.nbytes == sum(path.stat().st_size for path in folder.rglob("*.dcm"))


@pytest.mark.parametrize("at", [0, 131, 700, -1])
def test_flipped_byte_is_found_wherever_it_is(folder: Path, at: int) -> None:
    """F22."""
    flip(folder / "s1/4.dcm", at)
    _, found = verified(folder)
    assert found == [Finding(Fault.DIGEST, "s1/4.dcm", "1.2.4")]
    assert verified(folder, quick=True)[1] == []


def test_every_kind_of_fault_is_told_apart(folder: Path) -> None:
    """F15."""
    (folder / "s0/0.dcm").unlink()
    with (folder / "s1/1.dcm").open("ab") as file:
        file.write(b"more")
    flip(folder / "s2/2.dcm")
    (folder / "s0/3.dcm").unlink()
    (folder / "s0/3.dcm").mkdir()
    (folder / "s1/4.dcm").rename(folder / "s1/moved.dcm")
    (folder / "s1/4.dcm").symlink_to("moved.dcm")
    (folder / "s2/5.dcm").unlink()
    os.mkfifo(folder / "s2/5.dcm")
    write(folder, "s2/new.dcm", "1.9")
    (folder / "s2/notes.txt").write_text("no object")
    verification, found = verified(folder)
    size = (folder / "s1/1.dcm").stat().st_size
    assert [(finding.fault, finding.path, finding.sop_instance_uid) for finding in found] == [
        (Fault.MISSING, "s0/0.dcm", "1.2.0"),
        (Fault.UNREADABLE, "s0/3.dcm", "1.2.3"),
        (Fault.SIZE, "s1/1.dcm", "1.2.1"),
        (Fault.UNREADABLE, "s1/4.dcm", "1.2.4"),
        (Fault.UNLISTED, "s1/moved.dcm", "1.2.4"),
        (Fault.DIGEST, "s2/2.dcm", "1.2.2"),
        (Fault.UNREADABLE, "s2/5.dcm", "1.2.5"),
        (Fault.UNLISTED, "s2/new.dcm", "1.9"),
    ]
    assert found[2].detail == f"{size} bytes, they were {size - 4}"
    assert verification.faults == {
        Fault.MISSING: 1,
        Fault.SIZE: 1,
        Fault.DIGEST: 1,
        Fault.UNREADABLE: 3,
        Fault.UNLISTED: 2,
    }
    assert verification.objects == OBJECTS


def test_object_that_was_never_read_back_is_told(folder: Path) -> None:
    with Manifest(folder / "manifest.jsonl", folder) as manifest:
        manifest.record(notice(folder / "s0/late.dcm", "1.2.99"))
        manifest.close()
    write(folder, "s0/late.dcm", "1.2.99")
    for quick in (True, False):
        assert verified(folder, quick=quick)[1] == [Finding(Fault.UNDIGESTED, "s0/late.dcm", "1.2.99")]


def test_of_two_lines_for_one_path_the_last_counts(folder: Path) -> None:
    write(folder, "s0/0.dcm", "1.2.0", pixel_bytes=900)
    assert [finding.fault for finding in verified(folder)[1]] == [Fault.SIZE]
    with Manifest(folder / "manifest.jsonl", folder) as manifest:
        manifest.record(notice(folder / "s0/0.dcm", "1.2.0", Placing.REPLACED))
    verification, found = verified(folder)
    assert (found, verification.total) == ([], OBJECTS)


def test_line_that_cannot_be_read_is_counted(folder: Path) -> None:
    with (folder / "manifest.jsonl").open("a") as file:
        file.write("rubbish\n")
    verification, found = verified(folder)
    assert (verification.damaged, found) == (1, [])


def test_file_that_cannot_be_read_through_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bad = (folder / "s0/0.dcm").stat().st_ino

    def digest(fd: int) -> tuple[str, int]:
        if os.fstat(fd).st_ino == bad:
            raise OSError(5, "Input/output error")
        return sha256_of(fd)

    monkeypatch.setattr(module, "sha256_of", digest)
    assert verified(folder)[1] == [Finding(Fault.UNREADABLE, "s0/0.dcm", "1.2.0", "Input/output error")]


def test_verification_that_is_stopped_ends_soon(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def digest(fd: int) -> tuple[str, int]:
        begun.set()
        go_on.wait()
        return sha256_of(fd)

    monkeypatch.setattr(module, "sha256_of", digest)
    verification = Verification(folder, folder / "manifest.jsonl", lambda _: None)
    thread = threading.Thread(target=verification.run, args=(1,))
    thread.start()
    begun.wait()
    verification.stop()
    go_on.set()
    thread.join()
    assert verification.objects == 1


def test_bug_of_a_thread_is_raised(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> tuple[str, int]:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "sha256_of", broken)
    with pytest.raises(ZeroDivisionError):
        verified(folder)


def test_what_is_no_manifest_or_folder_is_an_error(tmp_path: Path) -> None:
    for manifest, error in ((tmp_path / "m.txt", ConfigurationError), (tmp_path / "m.jsonl", FileNotFoundError)):
        with pytest.raises(error):
            Verification(tmp_path, manifest, lambda _: None).run(1)
