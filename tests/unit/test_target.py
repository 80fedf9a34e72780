from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.unit.receivers import fill_up, stored

from fastmove._sink import FileSink
from fastmove.errors import ConfigurationError, StorageError
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import OnDuplicate, Placing, WriteOptions
from fastmove.storage.target import StorageTarget, Stored

UID = b"1.2.3"
NAME = UID + b".dcm"
META = FileMeta("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2", "MODALITY")
SOP_CLASS = b"1.2.840.10008.5.1.4.1.1.2\0"
DATA = bytes(range(256)) * 10_000  # more than one block of the comparison


@pytest.fixture(params=[True, False], ids=["unnamed", "named"])
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[StorageTarget]:
    """A target that waits for the disk; on a file system with unnamed files and as if on one without."""
    with StorageTarget(tmp_path) as made:
        made.has_unnamed_files = request.param
        yield made


def sink_of(target: StorageTarget, data: bytes = DATA) -> FileSink:
    sink = target.template(META, SOP_CLASS).open(UID)
    stored(sink, data)
    return sink


def commit(target: StorageTarget, data: bytes = DATA, name: bytes = NAME) -> Stored:
    return target.commit(sink_of(target, data), name)


def names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, list[str]]]:
    """What os.fsync was called on, and what was there at that time."""
    calls: list[tuple[str, list[str]]] = []

    def fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        calls.append((str(path), names(path)))

    monkeypatch.setattr(os, "fsync", fsync)
    return calls


# The directory


def test_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    StorageTarget(tmp_path / "a" / "b").close()
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700


def test_probe_leaves_nothing(tmp_path: Path) -> None:
    StorageTarget(tmp_path).close()
    assert names(tmp_path) == []


def test_file_in_the_place_of_the_directory_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="cannot use") as caught:
            StorageTarget(path)
        assert caught.value.field == "directory"


def test_directory_that_takes_no_files_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="cannot write to /proc/self"):
        StorageTarget(Path("/proc/self"))


def test_closed_target_may_be_closed_again(tmp_path: Path) -> None:
    target = StorageTarget(tmp_path)
    target.close()
    target.close()


@pytest.mark.parametrize("durable", [True, False])
def test_closed_target_takes_nothing(tmp_path: Path, durable: bool) -> None:
    target = StorageTarget(tmp_path, WriteOptions(durable=durable))
    target.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        sink_of(target).write_out()


def test_directory_that_is_moved_away_keeps_its_objects(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with StorageTarget(tmp_path / "here") as target:
        (tmp_path / "here").rename(tmp_path / "there")
        (tmp_path / "here").symlink_to("/nowhere")
        commit(target)
    assert names(tmp_path / "there") == ["1.2.3.dcm"]


# Commit


def test_committed_file_is_file_meta_and_data_set(target: StorageTarget, tmp_path: Path) -> None:
    assert commit(target) == Stored(NAME, Placing.NEW)
    assert names(tmp_path) == ["1.2.3.dcm"]
    assert (tmp_path / "1.2.3.dcm").read_bytes() == META.head(UID) + DATA
    assert Path(target.path(NAME)) == tmp_path / "1.2.3.dcm"


def test_durable_commit_syncs_the_directory_once_the_name_is_there(
    target: StorageTarget, tmp_path: Path, synced: list[tuple[str, list[str]]]
) -> None:
    stored = commit(target)
    assert synced == []
    assert target.settle([(stored, 0)]) == [None]
    assert synced == [(str(tmp_path), ["1.2.3.dcm"])]


def test_file_that_cannot_be_synced_gets_no_name(target: StorageTarget, tmp_path: Path) -> None:
    sink = sink_of(target)
    sink.write_out()
    read, write = os.pipe()  # cannot be synced
    os.dup2(write, sink.file_descriptor, inheritable=False)
    try:
        with pytest.raises(StorageError, match="EINVAL: Invalid argument") as caught:
            target.commit(sink, NAME)
        assert caught.value.key == "fs.fsync"
        assert target.unsynced is caught.value
    finally:
        os.close(read)
        os.close(write)
    assert names(tmp_path) == []


def test_commit_without_durability_waits_for_no_disk(tmp_path: Path, synced: list[tuple[str, list[str]]]) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable=False)) as target:
        assert commit(target) == Stored(NAME, Placing.NEW)
    assert synced == []
    assert (tmp_path / "1.2.3.dcm").read_bytes() == META.head(UID) + DATA


def test_commit_that_fails_discards_the_sink(target: StorageTarget, tmp_path: Path) -> None:
    sink = target.template(META, SOP_CLASS).open(UID)
    sink.write_out()
    fill_up(sink.file_descriptor)
    stored(sink, DATA[:100])
    with pytest.raises(StorageError, match="ENOSPC: No space left") as caught:
        target.commit(sink, NAME)
    assert (caught.value.key, sink.file_descriptor) == ("fs.write", -1)
    assert target.unsynced is None
    assert names(tmp_path) == []


def test_directory_that_cannot_be_synced_is_an_error(
    target: StorageTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fsync(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fsync)
    first, same = commit(target), commit(target)
    assert same.placing is Placing.SAME
    failures = target.settle([(first, 0), (same, 0)])
    assert [failure and failure.key for failure in failures] == ["fs.dirsync", "fs.dirsync"]
    assert names(tmp_path) == []
    assert target.unsynced is failures[0]
    target.probe()
    assert target.unsynced is not None
    monkeypatch.undo()
    target.probe()
    assert target.unsynced is None
    assert names(tmp_path) == []


def test_what_had_its_name_when_a_sync_failed_is_not_settled_by_the_next_one(
    target: StorageTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel reports a block that it could not write once, and then goes on as if nothing had been."""
    failing = [OSError(errno.EIO, "Input/output error")]

    def fsync(_: int) -> None:
        if failing:
            raise failing.pop()

    monkeypatch.setattr(os, "fsync", fsync)
    before = target.failed_syncs
    first, waiting = commit(target), commit(target, name=b"1.2.4.dcm")
    assert target.settle([(first, before)]) != [None]
    (failure,) = target.settle([(waiting, before)])
    assert failure is not None
    assert failure.key == "fs.dirsync"
    assert names(tmp_path) == []
    later = commit(target, name=b"1.2.5.dcm")
    assert target.settle([(later, target.failed_syncs)]) == [None]
    assert names(tmp_path) == ["1.2.5.dcm"]


@pytest.mark.parametrize(("number", "broken"), [(errno.EIO, True), (errno.ENOSPC, False)])
def test_disk_that_does_not_sync_is_remembered_unless_it_is_full(
    target: StorageTarget, monkeypatch: pytest.MonkeyPatch, number: int, broken: bool
) -> None:
    def fsync(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    target.settle([(commit(target), 0)])
    assert (target.unsynced is not None) is broken


def test_publishing_is_for_new_names_only(target: StorageTarget, tmp_path: Path) -> None:
    target.publish(sink_of(target), NAME)
    again = sink_of(target)
    with pytest.raises(FileExistsError):
        target.publish(again, NAME)
    assert target.commit(again, NAME) == Stored(NAME, Placing.SAME)
    assert names(tmp_path) == ["1.2.3.dcm"]


# Duplicates


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
def test_same_object_again_changes_nothing(tmp_path: Path, on_duplicate: OnDuplicate) -> None:
    with StorageTarget(tmp_path, WriteOptions(on_duplicate=on_duplicate)) as target:
        commit(target)
        before = (tmp_path / "1.2.3.dcm").stat()
        assert commit(target) == Stored(NAME, Placing.SAME)
    assert (tmp_path / "1.2.3.dcm").stat().st_ino == before.st_ino
    assert names(tmp_path) == ["1.2.3.dcm"]


def other(at: int) -> bytes:
    """As DATA, but for one byte."""
    changed = bytearray(DATA)
    changed[at] ^= 1
    return bytes(changed)


DIFFERENT = {"last byte": other(-1), "first byte": other(0), "shorter": DATA[:-2], "longer": DATA + b"\0\0"}


@pytest.mark.parametrize("data", DIFFERENT.values(), ids=DIFFERENT)
def test_other_object_of_the_same_name_is_kept_beside_it(target: StorageTarget, tmp_path: Path, data: bytes) -> None:
    commit(target)
    assert commit(target, data) == Stored(b"1.2.3.dup1.dcm", Placing.BESIDE)
    assert (tmp_path / "1.2.3.dcm").read_bytes() == META.head(UID) + DATA
    assert (tmp_path / "1.2.3.dup1.dcm").read_bytes() == META.head(UID) + data


def test_third_object_of_the_same_name_gets_the_next_number(target: StorageTarget, tmp_path: Path) -> None:
    found = [commit(target, data)[:2] for data in (DATA, other(0), other(1), other(0), DATA)]
    assert found == [
        (b"1.2.3.dcm", Placing.NEW),
        (b"1.2.3.dup1.dcm", Placing.BESIDE),
        (b"1.2.3.dup2.dcm", Placing.BESIDE),
        (b"1.2.3.dup1.dcm", Placing.SAME),
        (b"1.2.3.dcm", Placing.SAME),
    ]
    assert names(tmp_path) == ["1.2.3.dcm", "1.2.3.dup1.dcm", "1.2.3.dup2.dcm"]


def test_other_object_of_the_same_name_replaces_it_if_told_to(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(on_duplicate=OnDuplicate.REPLACE)) as target:
        commit(target)
        assert commit(target, other(0)) == Stored(NAME, Placing.REPLACED)
    assert names(tmp_path) == ["1.2.3.dcm"]
    assert (tmp_path / "1.2.3.dcm").read_bytes() == META.head(UID) + other(0)


def test_other_object_of_the_same_name_is_refused_if_told_to(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(on_duplicate=OnDuplicate.FAIL)) as target:
        commit(target)
        sink = sink_of(target, other(0))
        with pytest.raises(StorageError) as caught:
            target.commit(sink, NAME)
        assert (caught.value.status, caught.value.key) == (0x0111, "store.duplicate_differs")
        assert sink.file_descriptor == -1
    assert names(tmp_path) == ["1.2.3.dcm"]
    assert (tmp_path / "1.2.3.dcm").read_bytes() == META.head(UID) + DATA


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
@pytest.mark.parametrize("dangling", [True, False], ids=["dangling", "to the same bytes"])
def test_symlink_under_the_name_is_never_followed(tmp_path: Path, on_duplicate: OnDuplicate, dangling: bool) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    inside.mkdir()
    (inside / "1.2.3.dcm").symlink_to(outside)
    if not dangling:
        outside.write_bytes(META.head(UID) + DATA)
    with StorageTarget(inside, WriteOptions(on_duplicate=on_duplicate)) as target:
        sink = sink_of(target)
        with pytest.raises(StorageError) as caught:
            target.commit(sink, NAME)
        assert caught.value.key == "fs.symlink"
    if dangling:
        assert not outside.exists()
    else:
        assert outside.read_bytes() == META.head(UID) + DATA
    assert (inside / "1.2.3.dcm").is_symlink()


def test_directory_under_the_name_is_left_alone(target: StorageTarget, tmp_path: Path) -> None:
    (tmp_path / "1.2.3.dcm").mkdir()
    assert commit(target) == Stored(b"1.2.3.dup1.dcm", Placing.BESIDE)


def test_objects_of_different_names_do_not_meet(target: StorageTarget, tmp_path: Path) -> None:
    for number in range(5):
        assert commit(target, name=b"1.2.%d.dcm" % number)[1] is Placing.NEW
    assert len(names(tmp_path)) == 5


def test_sink_that_is_dropped_leaves_nothing(target: StorageTarget, tmp_path: Path) -> None:
    sink_of(target).discard()
    assert names(tmp_path) == []
