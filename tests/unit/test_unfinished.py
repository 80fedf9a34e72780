"""Files that a killed process left unfinished are removed; those of a live one are not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.receivers import directory, stored

from fastmove._sink import FileSink
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.storage.unfinished import is_unfinished, sweep

ABANDONED = ".fm-4194305-1.part"


@pytest.fixture
def place(tmp_path: Path) -> Iterator[int]:
    with directory(tmp_path) as fd:
        yield fd


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def test_only_files_in_the_making_are_removed(tmp_path: Path) -> None:
    kept = ["1.2.3.dcm", "fm-1-1.part", ".fmt.part", ".hidden", ".part"]
    for name in (*kept, ABANDONED, ".fm-4194305-case.part"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert sweep(tmp_path) == 2
    assert names(tmp_path) == sorted([*kept, "folder"])
    assert not any(map(is_unfinished, kept))


def test_file_of_a_live_process_stays_and_becomes_an_object(place: int, tmp_path: Path) -> None:
    sink = FileSink(place, b"head", False)
    (unfinished,) = names(tmp_path)
    assert is_unfinished(unfinished)
    assert sweep(tmp_path) == 0
    stored(sink, b"data")
    assert sweep(tmp_path) == 0
    sink.publish(b"object")
    assert sweep(tmp_path) == 0
    assert (tmp_path / "object").read_bytes() == b"headdata"


def test_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    program = """
import os, sys
from fastmove._sink import FileSink
fd = os.open(sys.argv[1], os.O_RDONLY)
sink = FileSink(fd, b"head", False)
sink.write_head()
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (unfinished,) = names(tmp_path)
        assert sweep(tmp_path) == 0
        process.kill()
        process.wait()
    assert (tmp_path / unfinished).read_bytes() == b"head"
    assert sweep(tmp_path) == 1
    assert names(tmp_path) == []


def test_target_sweeps_where_there_are_no_unnamed_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ABANDONED).touch()
    StorageTarget(tmp_path, WriteOptions(durable=False)).close()
    assert names(tmp_path) == [ABANDONED]
    monkeypatch.setattr(os, "O_TMPFILE", 0)  # to open a folder for writing fails as with a file system without them
    StorageTarget(tmp_path, WriteOptions(durable=False)).close()
    assert names(tmp_path) == []
