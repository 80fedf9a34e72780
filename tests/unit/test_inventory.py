"""What is there already: by the manifest, by the names, by the files themselves; and never by what is not there."""

from __future__ import annotations

import gc
import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Final

import pytest
from tests.integration import raw
from tests.unit.receivers import directory
from tests.unit.test_manifest import notice, read

from fastmove._sink import FileSink
from fastmove.errors import ConfigurationError, DirectoryUnusable
from fastmove.storage.entries import Entry
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.inventory import Inventory
from fastmove.storage.manifest import Manifest
from fastmove.storage.template import naming

META: Final = FileMeta(raw.CT_IMAGE, raw.IMPLICIT_LE, "PACS")
LAYOUT: Final = naming("patient")


def write(path: Path, uid: str, pixel_bytes: int = 64) -> int:
    """An object; the length of its file."""
    content = META.head(uid.encode()) + raw.dataset(uid, pixel_bytes=pixel_bytes)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return len(content)


def listed(path: str, uid: str, nbytes: int) -> str:
    values = dict.fromkeys(Entry.fields, "x") | {"path": path, "sop_instance_uid": uid, "bytes": nbytes}
    return json.dumps(values) + "\n"


# Without a manifest


def test_flat_folder_is_known_by_one_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"1.2.3.{number}.dcm").write_bytes(b"anything")
    (tmp_path / "1.2.3.6.dcm").touch()
    opened: list[object] = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda path, *how, **more: (opened.append(path), real(path, *how, **more))[1])
    inventory = Inventory.of(tmp_path)
    assert opened == [tmp_path]
    assert len(inventory) == 5
    assert "1.2.3.4" in inventory and "1.2.3.5" not in inventory
    assert "1.2.3.6" not in inventory, "it is empty, as after a power cut"


def test_name_that_may_be_anybodys_is_not_trusted(tmp_path: Path) -> None:
    for name in ("1.dcm", "1.2.dcm", "IM0001", "1.2.3.4", "1.2.3.x.dcm", "1.2.3.dup1.dcm", "1.2..3.dcm"):
        write(tmp_path / name, f"1.9.{len(name)}.{name[0]}")
    assert "1" not in Inventory.of(tmp_path)
    assert "1.2.3.4" not in Inventory.of(tmp_path)
    assert "1.9.5.1" in Inventory.of(tmp_path)
    assert "1.9.6.I" in Inventory.of(tmp_path)


@pytest.mark.parametrize("layout", [LAYOUT, None])
def test_objects_in_folders_are_found_by_what_they_hold(tmp_path: Path, layout: object) -> None:
    write(tmp_path / "a/b/c.dcm", "1.2.3.1")
    write(tmp_path / "a/1.2.3.4.5.dcm", "1.2.3.2")
    assert {uid for uid in ("1.2.3.1", "1.2.3.2", "1.2.3.4.5") if uid in Inventory.of(tmp_path, naming=LAYOUT)} == {
        "1.2.3.1",
        "1.2.3.2",
    }


def test_only_objects_count(tmp_path: Path) -> None:
    write(tmp_path / "outside" / "object", "1.2.3.1")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "notes.txt").write_text("hello")
    (inside / "cut.dcm").write_bytes(META.head(b"1.2.3.2")[:200])
    (inside / "head.dcm").write_bytes(META.head(b"1.2.3.3"))
    (inside / "empty").touch()
    (inside / "link.dcm").symlink_to(tmp_path / "outside" / "object")
    (inside / "folder").symlink_to(tmp_path / "outside")
    os.mkfifo(inside / "fifo")
    (inside / "manifest.jsonl").write_text(listed("object", "1.2.3.4", 1))
    assert len(Inventory.of(inside, naming=LAYOUT)) == 0


def test_folder_that_is_not_there_holds_nothing(tmp_path: Path) -> None:
    assert len(Inventory.of(tmp_path / "gone", tmp_path / "gone" / "manifest.jsonl")) == 0


def test_folder_that_cannot_be_read_is_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DirectoryUnusable, match="Not a directory"):
        Inventory.of(tmp_path / "file")

    def refused(path: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(DirectoryUnusable, match=f"cannot read {tmp_path}: Permission denied"):
        Inventory.of(tmp_path)


def test_what_is_stored_meanwhile_is_added() -> None:
    inventory = Inventory()
    inventory.add("1.2.3")
    inventory.add("1.2.3")
    assert "1.2.3" in inventory and len(inventory) == 1


# With a manifest


def test_line_counts_if_its_file_is_there_and_as_long_as_it_says(tmp_path: Path) -> None:
    length = write(tmp_path / "a/there", "1.2.3.1")
    write(tmp_path / "short", "1.2.3.2")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("a/there")
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(
        listed("a/there", "1.2.3.1", length)
        + listed("short", "1.2.3.9", 7)
        + listed("gone", "1.2.3.8", 7)
        + listed("folder", "1.2.3.7", (tmp_path / "folder").stat().st_size)
        + listed("link", "1.2.3.6", (tmp_path / "link").lstat().st_size)
        + "rubbish\n"
        + listed("../a/there", "1.2.3.5", length)
    )
    inventory = Inventory.of(tmp_path, manifest, LAYOUT)
    assert (inventory.listed, inventory.stale, inventory.damaged) == (1, 4, 2)
    assert "1.2.3.1" in inventory
    assert "1.2.3.2" not in inventory, "it is not the file that was stored"
    assert len(inventory) == 1


def test_file_that_was_cut_since_is_neither_there_nor_listed_anew(tmp_path: Path) -> None:
    length = write(tmp_path / "cut", "1.2.3.1")
    os.truncate(tmp_path / "cut", length - 1)
    (tmp_path / "manifest.jsonl").write_text(listed("cut", "1.2.3.1", length))
    told: list[tuple[str, int]] = []
    inventory = Inventory.of(
        tmp_path, tmp_path / "manifest.jsonl", LAYOUT, lambda path, nbytes: told.append((path, nbytes))
    )
    assert (len(inventory), told) == (0, [])


def test_listed_file_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "object").write_bytes(b"no object at all")
    (tmp_path / "manifest.jsonl").write_text(listed("a/object", "1.2.3.1", 16))
    assert "1.2.3.1" in Inventory.of(tmp_path, tmp_path / "manifest.jsonl", LAYOUT)


def test_of_two_lines_for_one_path_the_one_that_is_true_counts(tmp_path: Path) -> None:
    length = write(tmp_path / "x", "1.2.3.1")
    lines = [listed("x", "1.2.3.1", length + 1), listed("x", "1.2.3.1", length)]
    for several in (lines, lines[::-1]):
        (tmp_path / "m.jsonl").write_text("".join(several))
        assert "1.2.3.1" in Inventory.of(tmp_path, tmp_path / "m.jsonl", LAYOUT)


def test_manifest_of_a_suffix_that_says_nothing_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "m.txt").touch()
    with pytest.raises(ConfigurationError):
        Inventory.of(tmp_path, tmp_path / "m.txt")


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.csv"])
def test_what_a_killed_run_did_not_list_is_found_and_listed_by_the_next(tmp_path: Path, name: str) -> None:
    length = write(tmp_path / "a/1.dcm", "1.2.3.1")
    write(tmp_path / "a/2.dcm", "1.2.3.2")
    manifest = tmp_path / name
    with Manifest(manifest, tmp_path) as lines:
        lines.record(notice(tmp_path / "a/1.dcm", "1.2.3.1"))
    with manifest.open("a") as file:
        file.write('{"time": "2026-01-01T00:00')
    with Manifest(manifest, tmp_path) as lines:
        told: list[tuple[str, int]] = []

        def found(path: str, nbytes: int) -> None:
            told.append((path, nbytes))
            lines.found(path, nbytes)

        first = Inventory.of(tmp_path, manifest, LAYOUT, found)
    assert (first.listed, told) == (1, [("a/2.dcm", length)])
    assert [(each.status, each.path) for each in read(manifest)] == [("stored", "a/1.dcm"), ("found", "a/2.dcm")]
    told.clear()
    second = Inventory.of(tmp_path, manifest, LAYOUT, lambda path, nbytes: told.append((path, nbytes)))
    assert (second.listed, second.stale, second.damaged, told) == (2, 0, 0, [])
    assert "1.2.3.1" in second and "1.2.3.2" in second


# Unfinished files


def test_unfinished_files_are_no_objects_and_are_swept_if_nobody_is_at_them(tmp_path: Path) -> None:
    write(tmp_path / ".fm-4194305-7.part", "1.2.3.1")
    with directory(tmp_path) as place:
        alive = FileSink(place, META.head(b"1.2.3.2"), False)
        alive.write_head()
        inventory = Inventory.of(tmp_path, naming=LAYOUT)
        assert (len(inventory), inventory.swept) == (0, 1)
        assert [path.name.startswith(".fm-") for path in tmp_path.iterdir()] == [True]
        alive.discard()


# Size


def test_memory_is_what_is_said(tmp_path: Path) -> None:
    count = 3000
    uid = "1.2.840.113619.2.55.3.604688119.971.1217.{:06}"
    for number in range(count):
        (tmp_path / f"{uid.format(number)}.dcm").write_bytes(b"x")
    gc.collect()
    tracemalloc.start()
    try:
        inventory = Inventory.of(tmp_path)
        used, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(inventory) == count
    assert used / count < 256


@pytest.mark.parametrize("layout", ["flat", "nested"])
def test_GB6_ten_thousand_lines_are_read_again_within_a_second_and_twice_finds_the_same(
    tmp_path: Path, layout: str
) -> None:
    stored, manifest = tmp_path / "stored", tmp_path / "manifest.jsonl"
    paths = [f"{number % 100}/{number}.dcm" if layout == "nested" else f"{number}.dcm" for number in range(10_000)]
    with manifest.open("w") as lines:
        for number, path in enumerate(paths):
            nbytes = write(stored / path, f"1.2.3.{number}")
            lines.write(listed(path, f"1.2.3.{number}", nbytes))
    for number in range(100):
        (stored / f".fm-1-{number}.part").touch()
    began = time.process_time()
    inventory = Inventory.of(stored, manifest, durable=True)
    assert time.process_time() - began < 1.0
    assert (len(inventory), inventory.listed, inventory.swept) == (10_000, 10_000, 100)
    again = Inventory.of(stored, manifest, durable=True)
    assert (len(again), again.listed, again.swept) == (10_000, 10_000, 0)
