"""The manifest: a line for each object, with a digest that is made elsewhere; nothing is dropped, nothing half said."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.encoded import EXPLICIT, LITTLE
from tests.integration import raw

from fastmove.errors import ConfigurationError
from fastmove.notices import InstanceStored, ManifestFailed, Notice
from fastmove.storage import entries as module
from fastmove.storage.digest import BLOCK_BYTES, sha256_of
from fastmove.storage.entries import Entry
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.manifest import Manifest, manifest_in, read
from fastmove.storage.options import Placing

SUFFIXES = pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
META: Final = FileMeta(raw.CT_IMAGE, raw.IMPLICIT_LE, "PACS")


def write(directory: Path, name: str, uid: str = "1.2.9", pixel_bytes: int = 512) -> bytes:
    """An object in this directory, and its bytes."""
    content = META.head(uid.encode()) + raw.dataset(uid, pixel_bytes=pixel_bytes)
    (directory / name).parent.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(content)
    return content


def notice(path: Path, uid: str = "1.2.9", placing: Placing = Placing.NEW, nbytes: int = 600) -> InstanceStored:
    return InstanceStored(1, raw.CT_IMAGE, uid, raw.IMPLICIT_LE, nbytes, str(path), placing.value, "PACS", "", 0)


def entry(path: str = "1.2.9.dcm", **changes: object) -> Entry:
    values: dict[str, object] = dict.fromkeys(Entry.fields, "x") | {"path": path, "bytes": 10}
    return Entry(**values | changes)


def line(of: Entry) -> str:
    return json.dumps({name: getattr(of, name) for name in Entry.fields}) + "\n"


# Lines


@SUFFIXES
def test_line_says_what_the_object_is_and_what_its_file_holds(tmp_path: Path, suffix: str) -> None:
    content = write(tmp_path, "a/b.dcm")
    path = tmp_path / f"list{suffix}"
    with Manifest(path, tmp_path) as manifest:
        assert manifest.record(notice(tmp_path / "a/b.dcm")) is None
    (made,) = read(path)
    assert made == Entry(
        time=made.time,
        status="stored",
        path="a/b.dcm",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        transfer_syntax_uid=raw.IMPLICIT_LE,
        study_instance_uid="1.2.3",
        series_instance_uid="1.2.3.1",
        sop_instance_uid="1.2.9",
        sop_class_uid=raw.CT_IMAGE,
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(made.time) == 24 and made.time[10] == "T" and made.time.endswith("Z")


@pytest.mark.parametrize(
    ("placing", "status"),
    [
        (Placing.NEW, "stored"),
        (Placing.SAME, "same"),
        (Placing.BESIDE, "beside"),
        (Placing.REPLACED, "replaced"),
        (Placing.SKIPPED, "skipped"),
    ],
)
def test_status_says_how_the_object_got_its_place(tmp_path: Path, placing: Placing, status: str) -> None:
    write(tmp_path, "1.dcm")
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        manifest.record(notice(tmp_path / "1.dcm", placing=placing))
    assert [each.status for each in read(tmp_path / "m.jsonl")] == [status]


def test_line_describes_the_file_that_is_there_and_not_the_object_that_was_skipped(tmp_path: Path) -> None:
    data = LITTLE.head + LITTLE.element(0x0020000D, "UI", b"1.9\0")
    (tmp_path / "1.dcm").write_bytes(FileMeta(raw.MR_IMAGE, EXPLICIT).head(b"1.2.9") + data)
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        manifest.record(notice(tmp_path / "1.dcm", placing=Placing.SKIPPED))
    (made,) = read(tmp_path / "m.jsonl")
    assert (made.transfer_syntax_uid, made.sop_class_uid, made.study_instance_uid) == (EXPLICIT, raw.MR_IMAGE, "1.9")


def test_data_set_without_file_meta_information_is_described_by_its_notice(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(raw.dataset("1.2.9"))
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        manifest.record(notice(tmp_path / "1"))
    (made,) = read(tmp_path / "m.jsonl")
    assert (made.sop_instance_uid, made.study_instance_uid, made.transfer_syntax_uid) == (
        "1.2.9",
        "1.2.3",
        raw.IMPLICIT_LE,
    )


def test_object_that_was_there_is_found(tmp_path: Path) -> None:
    content = write(tmp_path, "a/1.dcm", "1.2.7")
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        manifest.found("a/1.dcm", len(content))
    (made,) = read(tmp_path / "m.jsonl")
    assert (made.status, made.path, made.sop_instance_uid, made.study_instance_uid) == (
        "found",
        "a/1.dcm",
        "1.2.7",
        "1.2.3",
    )


def test_paths_are_below_the_directory_however_that_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "out/1.dcm")
    for directory, path in (
        (Path("out"), "out/1.dcm"),
        (Path("out/"), "out/1.dcm"),
        (tmp_path, f"{tmp_path}/out/1.dcm"),
    ):
        with Manifest(tmp_path / "m.jsonl", directory) as manifest:
            manifest.record(notice(Path(path)))
    monkeypatch.chdir(tmp_path / "out")
    with Manifest(tmp_path / "m.jsonl", Path()) as manifest:
        manifest.record(notice(Path("1.dcm")))
    assert [each.path for each in read(tmp_path / "m.jsonl")] == ["1.dcm", "1.dcm", "out/1.dcm", "1.dcm"]


@SUFFIXES
def test_names_of_any_bytes_come_back_as_they_were(tmp_path: Path, suffix: str) -> None:
    name = os.fsdecode(b'\xff, "x" \xc3\xa4.dcm')
    content = write(tmp_path, name)
    with Manifest(tmp_path / f"m{suffix}", tmp_path) as manifest:
        manifest.found(name, len(content))
    (made,) = read(tmp_path / f"m{suffix}")
    assert (made.path, made.bytes) == (name, len(content))


def test_csv_has_a_header_once_and_is_what_spreadsheets_read(tmp_path: Path) -> None:
    write(tmp_path, "1.dcm")
    path = tmp_path / "m.csv"
    for _ in range(2):
        with Manifest(path, tmp_path) as manifest:
            manifest.record(notice(tmp_path / "1.dcm"))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sop_instance_uid"] for row in rows] == ["1.2.9", "1.2.9"]
    assert list(rows[0]) == list(Entry.fields)


# Digests


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 7])
def test_digest_is_that_of_all_bytes(tmp_path: Path, size: int) -> None:
    content = (bytes(range(256)) * (size // 256 + 1))[:size]
    (tmp_path / "file").write_bytes(content)
    with (tmp_path / "file").open("rb") as file:
        assert sha256_of(file.fileno()) == (hashlib.sha256(content).hexdigest(), size)


def test_file_that_cannot_be_read_back_is_reported_and_not_dropped(tmp_path: Path) -> None:
    told: list[Notice] = []
    (tmp_path / "link.dcm").symlink_to(write(tmp_path, "1.dcm") and tmp_path / "1.dcm")
    with Manifest(tmp_path / "m.jsonl", tmp_path, told.append) as manifest:
        manifest.record(notice(tmp_path / "gone.dcm"))
        manifest.record(notice(tmp_path / "link.dcm", "1.2.8"))
        manifest.record(notice(tmp_path / "1.dcm"))
    assert sorted(told) == [
        ManifestFailed("gone.dcm", os.strerror(errno.ENOENT)),
        ManifestFailed("link.dcm", os.strerror(errno.ELOOP)),
    ]
    assert manifest.failures == 2
    by_path = {each.path: each for each in read(tmp_path / "m.jsonl")}
    assert (by_path["gone.dcm"].status, by_path["gone.dcm"].sha256, by_path["gone.dcm"].sop_instance_uid) == (
        "unreadable",
        "",
        "1.2.9",
    )
    assert by_path["1.dcm"].status == "stored"


def test_bug_of_a_digest_thread_is_raised_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(fd: int) -> tuple[str, int]:
        raise ZeroDivisionError

    monkeypatch.setattr(module, "sha256_of", broken)
    write(tmp_path, "1.dcm")
    manifest = Manifest(tmp_path / "m.jsonl", tmp_path)
    manifest.record(notice(tmp_path / "1.dcm"))
    with pytest.raises(ZeroDivisionError):
        manifest.close()
    manifest.close()


# The backlog


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Semaphore]:
    """Digests are made one for each release."""
    permits = threading.Semaphore(0)

    def slowly(fd: int) -> tuple[str, int]:
        permits.acquire()
        return sha256_of(fd)

    monkeypatch.setattr(module, "sha256_of", slowly)
    yield permits
    permits.release(1 << 20)


def test_backlog_of_objects_is_bounded(
    tmp_path: Path, gate: threading.Semaphore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BACKLOG", 10)
    write(tmp_path, "1.dcm")
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        told = [manifest.record(notice(tmp_path / "1.dcm")) for _ in range(12)]
        assert [busy is None for busy in told] == [True] * 10 + [False] * 2
        waiting = [busy for busy in told if busy is not None]
        gate.release(6)
        first = manifest.record(notice(tmp_path / "1.dcm"))
        assert not any(busy.done() for busy in waiting)
        gate.release(8)
        for busy in (*waiting, first):
            assert busy is None or busy.result(5) is None
        assert manifest.record(notice(tmp_path / "1.dcm")) is None
        gate.release(100)
    assert len(list(read(tmp_path / "m.jsonl"))) == 14


def test_backlog_of_bytes_is_bounded(tmp_path: Path, gate: threading.Semaphore) -> None:
    write(tmp_path, "1.dcm")
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        assert manifest.record(notice(tmp_path / "1.dcm", nbytes=1 << 30)) is None
        busy = manifest.record(notice(tmp_path / "1.dcm", nbytes=1))
        assert busy is not None and not busy.done()
        gate.release(2)
        assert busy.result(5) is None


def test_manifest_closes_when_every_line_is_written(tmp_path: Path) -> None:
    for number in range(100):
        write(tmp_path, f"{number}.dcm", f"1.2.{number}")
    with Manifest(tmp_path / "m.jsonl", tmp_path) as manifest:
        for number in range(100):
            manifest.record(notice(tmp_path / f"{number}.dcm", f"1.2.{number}"))
    assert {each.sop_instance_uid for each in read(tmp_path / "m.jsonl")} == {f"1.2.{n}" for n in range(100)}


# What killed runs and full disks leave


@pytest.mark.parametrize("torn", ["{", '{"time": "2026', line(entry("2.dcm"))[:-1], "x" * 20_000])
def test_torn_line_is_cut_off_at_the_next_start(tmp_path: Path, torn: str) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(line(entry("1.dcm")) + torn)
    Manifest(path, tmp_path).close()
    assert path.read_text() == line(entry("1.dcm"))


@pytest.mark.parametrize("torn", ["{", '{"time": "20', ""])
def test_manifest_that_is_nothing_but_a_torn_line_begins_anew(tmp_path: Path, torn: str) -> None:
    (tmp_path / "m.jsonl").write_text(torn)
    Manifest(tmp_path / "m.jsonl", tmp_path).close()
    assert (tmp_path / "m.jsonl").read_text() == ""


def test_torn_line_of_csv_is_cut_off_and_a_torn_header_written_anew(tmp_path: Path) -> None:
    header = ",".join(Entry.fields) + "\n"
    for torn, kept in ((header + "2026-01-01,stor", header), (header[:10], header), (header, header)):
        (tmp_path / "m.csv").write_text(torn)
        Manifest(tmp_path / "m.csv", tmp_path).close()
        assert (tmp_path / "m.csv").read_text() == kept


def test_line_that_somebody_else_is_writing_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_text(line(entry("1.dcm")))
    with Manifest(path, tmp_path):
        with path.open("a") as file:
            file.write('{"time": ')
        Manifest(path, tmp_path).close()
        assert path.read_text().endswith('{"time": ')


def test_two_processes_add_whole_lines_to_one_manifest(tmp_path: Path) -> None:
    write(tmp_path, "1.dcm")
    with Manifest(tmp_path / "m.csv", tmp_path) as one, Manifest(tmp_path / "m.csv", tmp_path) as other:
        for _ in range(50):
            one.record(notice(tmp_path / "1.dcm"))
            other.record(notice(tmp_path / "1.dcm"))
    damaged: list[int] = []
    assert len(list(read(tmp_path / "m.csv", damaged.append))) == 100
    assert damaged == []


@SUFFIXES
def test_line_that_the_disk_takes_in_part_spoils_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    told: list[Notice] = []
    write(tmp_path, "1.dcm")
    path = tmp_path / f"m{suffix}"
    real = os.write
    with Manifest(path, tmp_path, told.append) as manifest:
        for write_line in (lambda fd, data: real(fd, data[:20]), refuse, real):
            monkeypatch.setattr(os, "write", write_line)
            before = manifest.failures
            manifest.record(notice(tmp_path / "1.dcm"))
            finished(manifest)
            assert manifest.failures == before + (write_line is not real)
    assert told == [ManifestFailed(str(path), "No space left on device")] * 2
    damaged: list[int] = []
    assert [each.path for each in read(path, damaged.append)] == ["1.dcm"]
    assert len(damaged) == 1


def refuse(fd: int, data: bytes) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def finished(manifest: Manifest) -> None:
    """Wait until nothing waits."""
    while manifest._entries._waiting:
        os.sched_yield()


def test_rubbish_among_the_lines_is_told_and_left_out(tmp_path: Path) -> None:
    rubbish = [
        "\0\0\0",
        "[]",
        "{}",
        "[" * 100_000,
        "7",
        '"text"',
        line(entry(bytes="x"))[:-1],
        line(entry(time=1))[:-1],
    ]
    outside = [line(entry(path))[:-1] for path in ("/etc/passwd", "../x", "a/../b", "", "a\0b")]
    path = tmp_path / "m.jsonl"
    path.write_text(line(entry("1.dcm")) + "\n".join([*rubbish, *outside, ""]) + "\n" + line(entry("2.dcm")))
    damaged: list[int] = []
    assert [each.path for each in read(path, damaged.append)] == ["1.dcm", "2.dcm"]
    assert damaged == list(range(2, 2 + len(rubbish) + len(outside)))
    assert len(list(read(path))) == 2


def test_rubbish_in_csv_is_told_and_left_out(tmp_path: Path) -> None:
    with Manifest(tmp_path / "m.csv", tmp_path):
        pass
    with (tmp_path / "m.csv").open("a") as file:
        file.write("a,b\n\n" + "x" * 200_000 + "\n" + ",".join(["x", "stored", "1.dcm", "10", *"xxxxxx"]) + "\n")
    damaged: list[int] = []
    assert [each.path for each in read(tmp_path / "m.csv", damaged.append)] == ["1.dcm"]
    assert damaged == [2, 4]


# What is no manifest


@pytest.mark.parametrize("name", ["m.txt", "manifest", "m.xlsx"])
def test_suffix_says_what_is_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"\.jsonl or \.csv"):
        Manifest(tmp_path / name, tmp_path)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.jsonl", '{"some": "thing"}\n'),
        ("m.jsonl", "hello"),
        ("m.json", '[{"time": "x"}]'),
        ("m.csv", "StudyInstanceUID\n1.2.3\n"),
        ("m.csv", "time"[:1] + "x"),
    ],
)
def test_file_that_is_no_manifest_is_left_alone(tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match="another file"):
        Manifest(tmp_path / name, tmp_path)
    assert (tmp_path / name).read_text() == content


def test_manifest_that_cannot_be_opened_is_a_configuration_error(tmp_path: Path) -> None:
    for path in (tmp_path / "gone" / "m.csv", Path("/proc/m.jsonl")):
        with pytest.raises(ConfigurationError, match="cannot write"):
            Manifest(path, tmp_path)


def test_manifest_of_a_folder_is_found_by_its_name(tmp_path: Path) -> None:
    assert manifest_in(tmp_path) is None
    for name in ("manifest.csv", "manifest.jsonl"):
        (tmp_path / name).touch()
        assert manifest_in(tmp_path) == tmp_path / name
