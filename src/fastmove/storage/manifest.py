"""The manifest: what is stored, a line for each object, with the digest of its file.

Digests are made by threads of its own once objects are in place; a line is one write, and what a killed run has left
of its last one is cut off when the next run starts.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import io
import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

from fastmove.errors import ConfigurationError, DatasetError
from fastmove.notices import InstanceStored, ManifestFailed, Observer
from fastmove.storage.digest import sha256_of
from fastmove.storage.filemeta import file_meta_of
from fastmove.storage.folders import Folder, refuse_full_disk
from fastmove.storage.head import study_and_series
from fastmove.storage.modes import PRIVATE, Modes, opened
from fastmove.storage.options import Placing
from fastmove.values import Value

DEFAULT_NAME: Final = "manifest.jsonl"
"""In the folder of the objects; no layout makes a file or folder of that name."""

FOUND: Final = "found"
"""Status of an object that was there, and that no line listed."""

UNREADABLE: Final = "unreadable"
"""Status of an object whose file could not be read back: it has no digest."""

_STATUS: Final = {each.value: each.value for each in Placing} | {Placing.NEW.value: "stored"}

_SUFFIXES: Final = {".jsonl": False, ".json": False, ".csv": True}

DIGEST_THREADS: Final = 2

BACKLOG: Final = 1024
"""Objects that may wait for their digests before what comes has to wait, too; and it goes on with half as many."""

BACKLOG_BYTES: Final = 1 << 30


class Entry(Value):
    """What a line says of an object; `path` is relative to the folder of the objects, `time` is ISO 8601 in UTC."""

    time: str
    status: str
    path: str
    bytes: int
    """Of the file."""

    sha256: str
    """Of the file, in hexadecimal; empty if it could not be read."""

    transfer_syntax_uid: str
    study_instance_uid: str
    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str

    def values(self) -> tuple[object, ...]:
        """In the order of the fields."""
        return self._compared()


def is_csv(manifest: Path) -> bool:
    """By its suffix: .csv, or else .jsonl or .json for JSON lines; ConfigurationError for any other."""
    try:
        return _SUFFIXES[manifest.suffix.lower()]
    except KeyError:
        raise ConfigurationError("manifest", f"{manifest}: its name has to end in .jsonl or .csv") from None


def manifest_in(directory: Path) -> Path | None:
    """The manifest that a folder of objects has by itself."""
    names = (DEFAULT_NAME, "manifest.json", "manifest.csv")
    return next((path for path in map(directory.joinpath, names) if path.is_file()), None)


# ---------------------------------------------------------------------- reading


def read(manifest: Path, damaged: Callable[[int], None] | None = None) -> Iterator[Entry]:
    """Its entries, in the order of its lines; `damaged` is told the numbers of lines that are neither that nor blank.

    ConfigurationError for a suffix that says nothing; OSError.
    """
    return (Entry(**values) for values in read_values(manifest, damaged))


def read_values(manifest: Path, damaged: Callable[[int], None] | None = None) -> Iterator[dict[str, Any]]:
    """The same, in half the time: the values of each entry by field."""
    rows = _csv_rows if is_csv(manifest) else _json_rows
    for number, row in rows(manifest):
        values = _values(row)
        if values is not None:
            yield values
        elif row != b"" and damaged is not None:
            damaged(number)


def _json_rows(manifest: Path) -> Iterator[tuple[int, object]]:
    with manifest.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            yield number, _parsed(line)


def _parsed(line: bytes) -> object:
    """What the line says; itself if that is nothing."""
    import json  # not needed before an object is there

    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(line)
    return line.strip()


def _csv_rows(manifest: Path) -> Iterator[tuple[int, object]]:
    import csv

    with manifest.open(newline="", encoding="utf-8", errors="surrogateescape") as lines:
        reader = csv.reader(lines)
        header: list[str] = []
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error:
                row = ["damaged"]
            if not header:
                header = row
            elif row:
                yield reader.line_num, dict(zip(header, row, strict=False))


_TEXTS: Final = tuple(name for name in Entry.fields if name != "bytes")


def _values(row: object) -> dict[str, Any] | None:
    """Those of an entry, if a row has them all."""
    if type(row) is not dict or set(map(type, map(row.get, _TEXTS))) != {str}:
        return None
    try:
        row["bytes"] = int(row["bytes"])
    except (KeyError, TypeError, ValueError):
        return None
    if len(row) != len(Entry.fields):  # somebody has added to it
        row = {name: row[name] for name in Entry.fields}
    return row if _is_below(row["path"]) and row["bytes"] >= 0 else None


def _is_below(path: str) -> bool:
    return bool(path) and not path.startswith("/") and "\0" not in path and ".." not in path.split("/")


# ---------------------------------------------------------------------- writing


class _Job(NamedTuple):
    """An object that is to get its line; UIDs are those of the request, empty where nobody has said them."""

    time: str
    status: str
    path: str
    nbytes: int
    transfer_syntax_uid: str = ""
    sop_instance_uid: str = ""
    sop_class_uid: str = ""


class Manifest:
    """A manifest that is added to, of the objects in a directory; several processes may add to one.

    `notify` is told, by some thread, of each file that could not be read back, and of lines that could not be written.
    ConfigurationError if it cannot be opened, or is no manifest; StorageNotReady if there is no room for it.
    """

    def __init__(self, path: Path, directory: Path, notify: Observer | None = None, modes: Modes = PRIVATE) -> None:
        self.path = path
        self.failures = 0
        """Lines without a digest, or not written at all."""
        self._csv = is_csv(path)
        # As StorageTarget has it.
        self._prefix = os.path.join(directory, "") if directory != Path() else ""  # noqa: PTH118
        self._notify = notify
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._waiting = 0
        self._waiting_bytes = 0
        self._held_up: list[Future[None]] = []
        self._torn = False
        self._bug: BaseException | None = None
        try:
            self._fd = opened(path, os.O_RDWR | os.O_APPEND, modes)
            try:
                self._begin()
                # What is written down is in this folder, whatever its path leads to later.
                self._root = Folder(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:
            refuse_full_disk(error, f"cannot write {path}")
            raise ConfigurationError("manifest", f"cannot write {path}: {error.strerror}") from error
        self._threads = [
            threading.Thread(target=self._work, name=f"digest-{n}", daemon=True) for n in range(DIGEST_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def _begin(self) -> None:
        # Whoever adds to a manifest holds a shared lock on it; who is alone cuts off what is left of a torn line.
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = True
        except OSError as error:
            alone = error.errno != errno.EWOULDBLOCK  # or nobody knows: a file system without locks
        if not self._is_manifest():
            raise ConfigurationError("manifest", f"{self.path} is another file, and no manifest")
        if alone:
            self._cut_torn_line()
            if self._csv and not os.fstat(self._fd).st_size:
                os.write(self._fd, _csv_line(Entry.fields))
        with contextlib.suppress(OSError):
            fcntl.flock(self._fd, fcntl.LOCK_SH)

    def _is_manifest(self) -> bool:
        beginning = os.pread(self._fd, 64 << 10, 0)
        expected = _csv_line(Entry.fields) if self._csv else b'{"time": "'
        if len(beginning) < len(expected) or not beginning.count(b"\n"):
            return beginning[: len(expected)] == expected[: len(beginning)]  # empty, or torn
        if self._csv:
            return beginning.startswith(expected)
        return any(_values(_parsed(line)) is not None for line in beginning.split(b"\n"))

    def _cut_torn_line(self) -> None:
        size = end = os.fstat(self._fd).st_size
        while end:
            start = max(end - io.DEFAULT_BUFFER_SIZE, 0)
            newline = os.pread(self._fd, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end != size:
            os.ftruncate(self._fd, end)

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until every line is written, and for the disk."""
        if self._fd < 0:
            return
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        fd, self._fd = self._fd, -1
        for ends in (os.fsync, os.close):  # NFS tells of a full disk when a file is closed
            try:
                ends(fd)
            except OSError as error:
                self._fail(str(self.path), error)
        self._root.close()
        if self._bug is not None:
            raise self._bug

    def record(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in place, its line follows; if a future comes back, there should be no more before it is done.

        Takes no time, whatever the digest does; made to be called for each object that a listener stores.
        """
        return self._add(
            _Job(
                _now(),
                _STATUS[notice.placing],
                notice.path.removeprefix(self._prefix),
                notice.nbytes,
                notice.transfer_syntax_uid,
                notice.sop_instance_uid,
                notice.sop_class_uid,
            )
        )

    def found(self, path: str, nbytes: int) -> Future[None] | None:
        """A file of so many bytes is there that no line lists, by its path below the directory; as `record`."""
        return self._add(_Job(_now(), FOUND, path, nbytes))

    # ------------------------------------------------------------------ the backlog

    def _add(self, job: _Job) -> Future[None] | None:
        busy: Future[None] | None = None
        with self._lock:
            self._waiting += 1
            self._waiting_bytes += job.nbytes
            if self._waiting > BACKLOG or self._waiting_bytes > BACKLOG_BYTES:
                busy = Future()
                self._held_up.append(busy)
        self._jobs.put(job)
        return busy

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                self._append(self._described(job))
            except Exception as error:  # noqa: BLE001  a bug of ours: close() raises it, in a thread that is listened to
                self._bug = error
            released: list[Future[None]] = []
            with self._lock:
                self._waiting -= 1
                self._waiting_bytes -= job.nbytes
                if self._waiting <= BACKLOG // 2 and self._waiting_bytes <= BACKLOG_BYTES // 2:
                    released, self._held_up = self._held_up, released
            for each in released:
                each.set_result(None)

    # ------------------------------------------------------------------ lines

    def _described(self, job: _Job) -> Entry:
        """What the file says of itself goes before what its sender said of it: it may be another one (`skip`)."""
        time, status, path, _, syntax, instance, sop_class = job
        nbytes, digest, study, series, offset = 0, "", "", "", 0
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._root.fd)
            try:
                digest, nbytes = sha256_of(fd)
                with contextlib.suppress(DatasetError):  # data sets alone
                    meta = file_meta_of(fd, Path())
                    offset, syntax = meta.dataset_offset, meta.transfer_syntax_uid
                    instance, sop_class = meta.sop_instance_uid, meta.sop_class_uid
                study, series = study_and_series(fd, offset, syntax)
            finally:
                os.close(fd)
        except OSError as error:
            self._fail(path, error)
            status = UNREADABLE
        return Entry(time, status, path, nbytes, digest, syntax, study, series, instance, sop_class)

    def _append(self, entry: Entry) -> None:
        line = _csv_line(entry.values()) if self._csv else _json_line(entry)
        failure: OSError | None = None
        with self._lock:
            line = b"\n" + line if self._torn else line
            try:
                self._torn = os.write(self._fd, line) < len(line)
            except OSError as error:
                failure = error
        if self._torn:
            failure = failure or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if failure is not None:
            self._fail(str(self.path), failure)

    def _fail(self, path: str, error: OSError) -> None:
        with self._lock:
            self.failures += 1
        if self._notify is not None:
            self._notify(ManifestFailed(path, error.strerror or str(error)))


def _json_line(entry: Entry) -> bytes:
    import json

    return json.dumps(dict(zip(Entry.fields, entry.values(), strict=True))).encode("ascii") + b"\n"


def _csv_line(values: Iterable[object]) -> bytes:
    import csv

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def _now() -> str:
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
