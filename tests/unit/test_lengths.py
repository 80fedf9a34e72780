"""How long files are, of many at once; and what is told of what is no file, or not there."""

from __future__ import annotations

import os
import socket
import threading
from pathlib import Path

import pytest

from fastmove._sink import lengths
from fastmove.storage.folders import ABSENT, NO_FILE, lengths_below


def test_each_file_has_its_length_in_the_order_asked_for(tmp_path: Path) -> None:
    sizes = {f"a/{n}": n % 7 for n in range(1000)}  # more than are looked for at once
    (tmp_path / "a").mkdir()
    for name, size in sizes.items():
        (tmp_path / name).write_bytes(bytes(size))
    assert lengths_below(tmp_path, reversed(sizes)) == list(reversed(sizes.values()))


def test_file_of_more_than_four_gibibytes_has_all_of_them(tmp_path: Path) -> None:
    with (tmp_path / "x").open("wb") as file:
        file.truncate((5 << 30) + 1)
    assert lengths_below(tmp_path, ["x"]) == [(5 << 30) + 1]


def test_what_is_not_there_or_no_file_has_no_length(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("empty")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(tmp_path / "socket"))
    found = lengths_below(tmp_path, ["empty", "folder", "link", "pipe", "socket", "nothing", "empty/below", "folder/x"])
    assert found == [0, NO_FILE, NO_FILE, NO_FILE, NO_FILE, ABSENT, ABSENT, ABSENT]


def test_names_that_are_no_text_are_found(tmp_path: Path) -> None:
    name = os.fsdecode(b"\xff\xfe")
    (tmp_path / name).write_bytes(b"xy")
    assert lengths_below(tmp_path, [name]) == [2]


def test_nothing_asked_for_is_nothing_found(tmp_path: Path) -> None:
    assert lengths_below(tmp_path, []) == []


def test_failure_names_the_file_that_it_is_of(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="too long") as failure:
        lengths_below(tmp_path, [*["x"] * 200, "y" * 300, "x"])
    assert failure.value.filename == "y" * 300
    with pytest.raises(OSError, match="descriptor"):
        lengths(-1, [b"x"])


def test_folder_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        lengths_below(tmp_path / "gone", ["x"])


@pytest.mark.parametrize(("path", "error"), [(b"a\0b", ValueError), (None, ValueError), ("text", TypeError)])
def test_path_that_is_none_is_refused(tmp_path: Path, path: object, error: type[Exception]) -> None:
    folder = os.open(tmp_path, os.O_RDONLY)
    try:
        with pytest.raises(error):
            lengths(folder, [path])  # type: ignore[list-item]
    finally:
        os.close(folder)


def test_list_that_others_empty_meanwhile_is_looked_for_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"123")
    folder = os.open(tmp_path, os.O_RDONLY)
    paths, done = [b"x"] * 100_000, threading.Event()

    def emptied() -> None:
        paths.clear()
        done.set()

    threading.Thread(target=emptied).start()
    try:
        found = lengths(folder, paths)
    finally:
        os.close(folder)
    assert done.wait(10)
    assert set(found) <= {3}
