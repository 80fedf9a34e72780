"""G-F1: whatever peers call their objects, nothing is written outside of the folder, and no symlink is followed.

Objects are really stored, between symlinks that wait for them; the kernel is asked as a second oracle where they are
(openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS).
"""

from __future__ import annotations

import ctypes
import os
import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.errors import StorageError
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import Received, StorageTarget
from fastmove.storage.template import naming
from tests.integration import raw
from tests.unit.receivers import stored

OPENAT2: Final = 437
RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x04, 0x08
SOP_CLASS: Final = raw.CT_IMAGE.encode() + b"\0"
LAYOUTS: Final = ("flat", "{patient}/{study}/{sop}.dcm", "x{patient}^_{source}/{sop}_{study}")
TRAPS: Final = ("a", "1", "_", "a.dcm", "1.dcm", "_.dcm", "0.dcm", "x^_", "xa^_")
"""Symlinks that lead out of the folder, under names that come up."""

ALPHABETS: Final = (
    bytes(range(256)),
    b"0123456789.",
    b"./\\-\0\n .:%1a_",
    b"01a_",
    b"0123456789.ABCxyz-_" * 4 + bytes(range(0, 256, 5)),
)
LENGTHS: Final = (0, 1, 1, 2, 3, 5, 9, 30, 64, 65, 66)

IN_MEMORY: Final = Path("/dev/shm")

_libc: Final = ctypes.CDLL(None, use_errno=True)


class OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def opened_beneath(folder: int, path: bytes) -> int:
    """A descriptor of what is at this path without leaving the folder or following a link; OSError."""
    how = OpenHow(os.O_RDONLY | os.O_CLOEXEC, 0, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS)
    fd = _libc.syscall(OPENAT2, folder, path, ctypes.byref(how), ctypes.sizeof(how))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(fd)


class Place:
    """A folder with traps, and what is beside it."""

    def __init__(self, around: Path, layout: str, *, sanitize: bool) -> None:
        self.inside, self.outside = around / "in" / "side", around / "outside"
        self.inside.mkdir(parents=True)
        self.outside.mkdir()
        for name in TRAPS:
            (self.inside / name).symlink_to(self.outside / name)
            (self.outside / name).mkdir() if "." not in name else (self.outside / name).write_bytes(b"mine")
        names = naming(layout, sanitize=sanitize)
        self.target = StorageTarget(self.inside, WriteOptions(False, OnDuplicate.REPLACE, naming=names))
        self.template = self.target.template(FileMeta(raw.CT_IMAGE, raw.IMPLICIT_LE), SOP_CLASS)
        self.folder = os.open(self.inside, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self.folder)
        self.target.close()

    def store(self, uid: bytes, patient: bytes, study: bytes, source: str) -> str:
        """Store an object, see that it is where it should be, and take it away; what became of it."""
        target = self.target
        data = raw.element(0x00100020, patient) + raw.element(0x0020000D, study)
        received = Received(SOP_CLASS.rstrip(b"\0"), uid, raw.IMPLICIT_LE, source, len(data))
        try:
            name = target.name(received.sop_class_uid, uid)
        except StorageError as error:
            return error.key
        sink = self.template.open(uid)
        stored(sink, data)
        try:
            path = target.commit(sink, name, received).name
        except StorageError as error:
            return error.key
        fd = opened_beneath(self.folder, path)
        try:
            assert os.path.samestat(os.fstat(fd), os.lstat(target.path(path)))
            assert os.pread(fd, 1 << 20, 0).endswith(data)
        finally:
            os.close(fd)
        target.withdraw(path)
        return "stored"

    def is_untouched(self) -> None:
        """Nothing has gone astray."""
        assert sorted(os.listdir(self.outside)) == sorted(TRAPS)  # noqa: PTH208
        for name in TRAPS:
            trap, beyond = self.inside / name, self.outside / name
            assert trap.is_symlink()
            assert list(beyond.iterdir()) == [] if beyond.is_dir() else beyond.read_bytes() == b"mine"
        assert sorted(path.name for path in self.inside.parents[1].iterdir()) == ["in", "outside"]


@contextmanager
def place(layout: str, *, sanitize: bool) -> Iterator[Place]:
    with TemporaryDirectory(dir=IN_MEMORY if IN_MEMORY.is_dir() else None) as around:
        made = Place(Path(around), layout, sanitize=sanitize)
        try:
            yield made
            made.is_untouched()
        finally:
            made.close()


def values(chance: random.Random) -> tuple[bytes, bytes, bytes, str]:
    """What a peer might say."""

    def value() -> bytes:
        return bytes(chance.choices(chance.choice(ALPHABETS), k=chance.choice(LENGTHS)))

    return value(), value(), value(), value()[:16].decode("latin-1")


def store_many(count: int, seed: int) -> Counter[str]:
    """So many objects, over all layouts, each refusing and sanitising."""
    found: Counter[str] = Counter()
    chance = random.Random(seed)
    kinds: Sequence[tuple[str, bool]] = [(layout, sanitize) for layout in LAYOUTS for sanitize in (False, True)]
    for layout, sanitize in kinds:
        with place(layout, sanitize=sanitize) as made:
            found.update(made.store(*values(chance)) for _ in range(count // len(kinds)))
    return found


def every_outcome(found: Iterable[str]) -> None:
    assert set(found) == {"stored", "store.uid_chars", "store.uid_length", "store.uid_empty", "fs.symlink"}


def test_20000_objects_stay_in_their_folder() -> None:
    found = store_many(20_000, 20240229)
    every_outcome(found)
    assert found["stored"] > 8000
    assert found["fs.symlink"] > 100


@pytest.mark.nightly
def test_million_objects_stay_in_their_folder() -> None:
    every_outcome(store_many(1_000_000, random.randrange(1 << 32)))


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(LAYOUTS),
    st.booleans(),
    st.lists(st.tuples(st.binary(max_size=70), st.binary(max_size=20), st.binary(max_size=20)), max_size=20),
)
def test_any_objects_stay_in_their_folder(layout: str, sanitize: bool, named: list[tuple[bytes, bytes, bytes]]) -> None:
    with place(layout, sanitize=sanitize) as made:
        for uid, patient, study in named:
            made.store(uid, patient, study, "PACS")


def test_second_oracle_sees_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to("/etc")
    folder = os.open(tmp_path / "in", os.O_PATH | os.O_DIRECTORY)
    try:
        for path in (b"../x", b"/etc/passwd", b"link/passwd"):
            with pytest.raises(OSError):
                opened_beneath(folder, path)
    finally:
        os.close(folder)
