"""A target whose names are chosen when the object is there; and what counts as the same object."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tests.encoded import DEFLATED, EXPLICIT, IMPLICIT, LITTLE, deflate
from tests.integration import raw
from tests.unit.receivers import stored

from fastmove._sink import FileSink
from fastmove.errors import DirectoryUnusable, StorageError
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import OnDuplicate, Placing, Reencoding, WriteOptions
from fastmove.storage.target import Received, StorageTarget, Stored
from fastmove.storage.template import naming

SOP_CLASS = b"1.2.840.10008.5.1.4.1.1.2\0"
LAYOUT = naming("patient")
PLACE = b"SCRIPTED/1.2.3/1.2.3.1/1.2.9.dcm"


def received(data: bytes, uid: bytes = b"1.2.9", syntax: str = IMPLICIT, source: str = "PACS") -> Received:
    return Received(SOP_CLASS.rstrip(b"\0"), uid, syntax, source, len(data))


def sink_of(target: StorageTarget, data: bytes, syntax: str = IMPLICIT, source: str = "PACS") -> FileSink:
    sink = target.template(FileMeta(SOP_CLASS.rstrip(b"\0").decode(), syntax, source), SOP_CLASS).open(b"1.2.9")
    stored(sink, data)
    return sink


def commit(target: StorageTarget, data: bytes, **of: str) -> Stored:
    return target.commit(sink_of(target, data, **of), b"", received(data, **of))


def files(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if not found.is_dir())


OBJECT = raw.dataset("1.2.9")
OTHER = raw.dataset("1.2.9", pixel_bytes=600)


# Places


@pytest.mark.parametrize("durable", [True, False])
@pytest.mark.parametrize("unnamed", [True, False])
def test_object_goes_where_its_values_say(tmp_path: Path, durable: bool, unnamed: bool) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable, naming=LAYOUT)) as target:
        target.has_unnamed_files = unnamed
        assert commit(target, OBJECT) == Stored(PLACE, Placing.NEW)
        assert Path(target.path(PLACE)).read_bytes().endswith(OBJECT)
        target.withdraw(PLACE)
    assert files(tmp_path) == []


def test_object_is_published_where_its_values_say_too(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable=False, naming=LAYOUT)) as target:
        assert target.publish(sink_of(target, OBJECT), b"", received(OBJECT)) == PLACE
        again = sink_of(target, OBJECT)
        with pytest.raises(FileExistsError):
            target.publish(again, b"", received(OBJECT))
        assert target.commit(again, b"", received(OBJECT)) == Stored(PLACE, Placing.SAME)
    assert files(tmp_path) == [PLACE.decode()]


def test_values_are_read_behind_much_else_and_in_any_transfer_syntax(tmp_path: Path) -> None:
    head = LITTLE.element(0x00080016, "UI", SOP_CLASS) + LITTLE.element(0x00080018, "UI", b"1.2.9\0")
    late = head + LITTLE.element(0x00091010, "OB", bytes(50_000)) + LITTLE.element(0x00100020, "LO", b"LATE")
    options = WriteOptions(durable=False, naming=naming("{patient}/{syntax}/{source}/{class}/{sop}"))
    with StorageTarget(tmp_path, options) as target:
        for data, syntax in ((late, EXPLICIT), (deflate(late), DEFLATED)):
            name = commit(target, data, syntax=syntax, source="../EVIL").name
            assert name.startswith(b"LATE/%s/_.._EVIL~" % syntax.encode())
            assert name.endswith(b"/1.2.840.10008.5.1.4.1.1.2/1.2.9")


def test_missing_values_are_underscores(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable=False, naming=LAYOUT)) as target:
        assert commit(target, b"rubbish" * 2).name == b"_/_/_/1.2.9.dcm"


def test_data_set_without_file_meta_information_is_placed_too(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(naming=LAYOUT, file_meta=False)) as target:
        assert commit(target, OBJECT) == Stored(PLACE, Placing.NEW)
    assert (tmp_path / PLACE.decode()).read_bytes() == OBJECT


def test_data_set_that_is_written_anew_is_placed_too(tmp_path: Path) -> None:
    data = LITTLE.head + LITTLE.element(0x00100020, "LO", b"PAT")
    options = WriteOptions(
        naming=naming("{patient}/{sop}"), reencoding=Reencoding(transfer_syntax=IMPLICIT), checked=False
    )
    with StorageTarget(tmp_path, options) as target:
        sink = sink_of(target, data, syntax=EXPLICIT)
        name = target.commit(sink, b"", received(data, b"1.2.3.4", EXPLICIT)).name
    assert name == b"PAT/1.2.3.4"
    assert raw.part10_dataset((tmp_path / "PAT/1.2.3.4").read_bytes()) != data


def test_other_object_of_the_same_name_is_kept_beside_it_in_its_folder(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(naming=LAYOUT)) as target:
        commit(target, OBJECT)
        assert commit(target, OTHER) == Stored(PLACE.replace(b".dcm", b".dup1.dcm"), Placing.BESIDE)
        assert commit(target, OTHER).placing is Placing.SAME


@pytest.mark.parametrize("of", ["SCRIPTED", "SCRIPTED/1.2.3", "SCRIPTED/1.2.3/1.2.3.1"])
@pytest.mark.parametrize("link", [True, False])
def test_file_or_link_in_the_place_of_a_folder_is_a_storage_error(tmp_path: Path, of: str, link: bool) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    outside.mkdir()
    (inside / of).parent.mkdir(parents=True)
    (inside / of).symlink_to(outside) if link else (inside / of).touch()
    with StorageTarget(inside, WriteOptions(naming=LAYOUT)) as target:
        for _ in range(2):
            sink = sink_of(target, OBJECT)
            with pytest.raises(StorageError) as caught:
                target.commit(sink, b"", received(OBJECT))
            assert (caught.value.key, sink.file_descriptor) == ("fs.symlink" if link else "fs.occupied", -1)
    assert files(outside) == []


def test_folder_that_was_removed_is_made_anew(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(durable=False, naming=LAYOUT)) as target:
        for publish in (target.publish, target.commit):
            publish(sink_of(target, OBJECT), b"", received(OBJECT))
            (tmp_path / PLACE.decode()).unlink()
            for folder in ("SCRIPTED/1.2.3/1.2.3.1", "SCRIPTED/1.2.3", "SCRIPTED"):
                (tmp_path / folder).rmdir()
        assert commit(target, OBJECT).placing is Placing.NEW
    assert files(tmp_path) == [PLACE.decode()]


def test_durable_object_has_its_folders_on_stable_storage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(Path(f"/proc/self/fd/{fd}").readlink().name))
    with StorageTarget(tmp_path, WriteOptions(naming=LAYOUT)) as target:
        first = commit(target, OBJECT)
        assert synced == [tmp_path.name, "SCRIPTED", "1.2.3"]
        synced.clear()
        target.settle([(first, 0), (commit(target, OTHER), 0)])
        assert synced == ["1.2.3.1"]


def test_folder_stays_open_while_it_is_synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its descriptor would be nobody's, or another's: the sync would fail, or be of something else."""
    with StorageTarget(tmp_path, WriteOptions(naming=LAYOUT)) as target:
        first, real = commit(target, OBJECT), os.fsync

        def sync_while_others_need_folders(fd: int) -> None:
            target._folders.forget(b"SCRIPTED/1.2.3/1.2.3.1")
            real(fd)

        monkeypatch.setattr(os, "fsync", sync_while_others_need_folders)
        assert target.settle([(first, 0)]) == [None]


def test_object_whose_folder_cannot_be_synced_is_not_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with StorageTarget(tmp_path, WriteOptions(naming=LAYOUT)) as target:
        commit(target, OBJECT)

        def broken(fd: int) -> None:
            raise OSError(5, "Input/output error")

        monkeypatch.setattr(os, "fsync", broken)
        (failure,) = target.settle([(commit(target, OTHER), 0)])
        assert failure is not None
        assert failure.key == "fs.dirsync"
    assert files(tmp_path) == [PLACE.decode()]


def test_names_fit_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fpathconf", lambda fd, name: 80)
    template = "{class}_{class}_{class}/{sop}.dcm"
    with StorageTarget(tmp_path, WriteOptions(durable=False, naming=naming(template))) as target:
        folder, name = commit(target, OBJECT).name.split(b"/")
    assert (len(folder), name) == (80 - 12, b"1.2.9.dcm")


def test_case_is_found_out_where_it_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = os.stat
    monkeypatch.setattr(os, "stat", lambda path, **how: there("/") if how else there(path))
    with StorageTarget(tmp_path, WriteOptions(durable=False, naming=naming("{source}/{sop}"))) as target:
        assert commit(target, OBJECT, source="PACS").name == b"PACS/1.2.9"
        assert commit(target, OBJECT, source="Pacs").name.startswith(b"Pacs~")


def test_folder_without_room_for_a_probe_is_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(fd: int, name: str) -> int:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "fpathconf", refused)
    with pytest.raises(DirectoryUnusable, match="Read-only"):
        StorageTarget(tmp_path, WriteOptions(naming=LAYOUT))


# The same object


def place(tmp_path: Path, on_duplicate: OnDuplicate, *objects: tuple[bytes, dict[str, str]]) -> list[Placing]:
    with StorageTarget(tmp_path, WriteOptions(on_duplicate=on_duplicate)) as target:
        return [target.commit(sink_of(target, data, **of), b"1.2.9.dcm").placing for data, of in objects]


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
def test_object_that_comes_again_from_somebody_else_is_the_same(tmp_path: Path, on_duplicate: OnDuplicate) -> None:
    placed = place(tmp_path, on_duplicate, (OBJECT, {"source": "PACS"}), (OBJECT, {"source": "ARCHIVE"}))
    assert placed == [Placing.NEW, Placing.SAME]
    assert files(tmp_path) == ["1.2.9.dcm"]
    assert b"ARCHIVE" not in (tmp_path / "1.2.9.dcm").read_bytes()


def test_object_that_comes_again_from_somebody_else_is_another_where_file_meta_counts(tmp_path: Path) -> None:
    """DCMTK's movescu writes the file anew; then it has the AE title of the last one who sent it."""
    with StorageTarget(tmp_path, WriteOptions(on_duplicate=OnDuplicate.REPLACE, same_file_meta=True)) as target:
        placed = [target.commit(sink_of(target, OBJECT, source=source), b"1.2.9").placing for source in ("A", "B", "B")]
    assert placed == [Placing.NEW, Placing.REPLACED, Placing.SAME]


def test_same_bytes_in_another_transfer_syntax_are_another_object(tmp_path: Path) -> None:
    placed = place(tmp_path, OnDuplicate.KEEP_BOTH, (OBJECT, {"syntax": IMPLICIT}), (OBJECT, {"syntax": EXPLICIT}))
    assert placed == [Placing.NEW, Placing.BESIDE]


def test_object_that_differs_in_its_last_byte_is_another(tmp_path: Path) -> None:
    large = OBJECT + bytes(3 << 20)
    placed = place(tmp_path, OnDuplicate.KEEP_BOTH, (large, {}), (large[:-1] + b"x", {"source": "X"}), (large, {}))
    assert placed == [Placing.NEW, Placing.BESIDE, Placing.SAME]


def test_file_that_is_no_part_10_file_is_another_object(tmp_path: Path) -> None:
    (tmp_path / "1.2.9.dcm").write_bytes(OBJECT)
    assert place(tmp_path, OnDuplicate.KEEP_BOTH, (OBJECT, {})) == [Placing.BESIDE]


def test_data_sets_without_file_meta_information_are_compared_as_they_are(tmp_path: Path) -> None:
    with StorageTarget(tmp_path, WriteOptions(file_meta=False)) as target:
        placed = [target.commit(sink_of(target, data), b"1.2.9").placing for data in (OBJECT, OBJECT, OTHER)]
    assert placed == [Placing.NEW, Placing.SAME, Placing.BESIDE]


@pytest.mark.parametrize("durable", [True, False])
def test_skipped_object_leaves_the_one_that_is_there_alone(tmp_path: Path, durable: bool) -> None:
    options = WriteOptions(durable, OnDuplicate.SKIP, naming=LAYOUT)
    with StorageTarget(tmp_path, options) as target:
        assert commit(target, OBJECT).placing is Placing.NEW
        before = (tmp_path / PLACE.decode()).stat()
        sink = sink_of(target, OTHER)
        assert target.commit(sink, b"", received(OTHER)) == Stored(PLACE, Placing.SKIPPED)
        assert sink.file_descriptor == -1
        assert commit(target, OBJECT).placing is Placing.SAME
    now = (tmp_path / PLACE.decode()).stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert files(tmp_path) == [PLACE.decode()]


@pytest.mark.parametrize("what", ["folder", "fifo", "link"])
def test_object_is_not_skipped_for_what_is_no_file(tmp_path: Path, what: str) -> None:
    name = tmp_path / "1.2.9.dcm"
    {"folder": name.mkdir, "fifo": lambda: os.mkfifo(name), "link": lambda: name.symlink_to("/nowhere")}[what]()
    with StorageTarget(tmp_path, WriteOptions(on_duplicate=OnDuplicate.SKIP)) as target:
        sink = sink_of(target, OBJECT)
        with pytest.raises(StorageError) as caught:
            target.commit(sink, b"1.2.9.dcm")
        assert caught.value.key == ("fs.symlink" if what == "link" else "fs.occupied")
