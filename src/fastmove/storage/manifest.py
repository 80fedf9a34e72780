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
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

from fastmove.errors import ConfigurationError
from fastmove.notices import InstanceStored, ManifestFailed, Observer
from fastmove.storage.entries import Entries, Entry
from fastmove.storage.folders import refuse_full_disk, sync_folder
from fastmove.storage.modes import PRIVATE, Modes, make_folder, opened
from fastmove.storage.unfinished import unfinished_name

DEFAULT_NAME: Final = "manifest.jsonl"
"""In the folder of the objects; no layout makes a file or folder of that name."""

_SUFFIXES: Final = {".jsonl": False, ".json": False, ".csv": True}


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
        self._notify = notify
        self._lock = threading.Lock()
        self._torn = False
        try:
            self._fd = opened(path, os.O_RDWR | os.O_APPEND, modes)
            try:
                self._begin()
                self._entries = Entries(directory, self._append, self._fail)
            except BaseException:
                os.close(self._fd)
                raise
        except OSError as error:
            refuse_full_disk(error, f"cannot write {path}")
            raise ConfigurationError("manifest", f"cannot write {path}: {error.strerror}") from error

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
        try:
            self._entries.close()
        finally:
            fd, self._fd = self._fd, -1
            for ends in (os.fsync, os.close):  # NFS tells of a full disk when a file is closed
                try:
                    ends(fd)
                except OSError as error:
                    self._fail(str(self.path), error)

    def record(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in place, its line follows; if a future comes back, there should be no more before it is done.

        Takes no time, whatever the digest does; made to be called for each object that a listener stores.
        """
        return self._entries.record(notice)

    def found(self, path: str, nbytes: int) -> Future[None] | None:
        """A file of so many bytes is there that no line lists, by its path below the directory; as `record`."""
        return self._entries.found(path, nbytes)

    # ------------------------------------------------------------------ lines

    def _append(self, entry: Entry) -> None:
        line = _csv_line(entry.values()) if self._csv else json_line(entry)
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


def json_line(entry: Entry) -> bytes:
    """An entry as a line of a manifest."""
    import json

    return json.dumps(dict(zip(Entry.fields, entry.values(), strict=True))).encode("ascii") + b"\n"


def _csv_line(values: Iterable[object]) -> bytes:
    import csv

    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue().encode("utf-8", "surrogateescape")


def write_manifest(path: Path, entries: Iterable[Entry], modes: Modes = PRIVATE) -> None:
    """Write a manifest of JSON lines at once, whole or not at all, on stable storage; OSError."""
    unfinished = path.with_name(unfinished_name(path.name))
    make_folder(path.parent, modes)
    try:
        fd = opened(unfinished, os.O_WRONLY | os.O_TRUNC, modes)
        with os.fdopen(fd, "wb") as lines:
            lines.writelines(map(json_line, entries))
            lines.flush()
            os.fsync(fd)
        unfinished.rename(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)
