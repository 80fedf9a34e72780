"""Objects that are in place, described by what their files say, each with the digest of its file.

Digests are made by threads of their own: nobody who stores waits for them, unless many are due.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from queue import SimpleQueue
from typing import Final, NamedTuple

from fastmove.errors import DatasetError
from fastmove.notices import InstanceStored
from fastmove.storage.digest import sha256_of
from fastmove.storage.filemeta import file_meta_of
from fastmove.storage.folders import Folder
from fastmove.storage.head import study_and_series
from fastmove.storage.options import Placing
from fastmove.values import Value

FOUND: Final = "found"
"""Status of an object that was there, and that no line listed."""

UNREADABLE: Final = "unreadable"
"""Status of an object whose file could not be read back: it has no digest."""

_STATUS: Final = {each.value: each.value for each in Placing} | {Placing.NEW.value: "stored"}

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


class _Job(NamedTuple):
    """An object that is to get its line; UIDs are those of the request, empty where nobody has said them."""

    time: str
    status: str
    path: str
    nbytes: int
    transfer_syntax_uid: str = ""
    sop_instance_uid: str = ""
    sop_class_uid: str = ""


class Entries:
    """Describes objects of a directory; `write` is told of each, and `failed` of a file that cannot be read back.

    Both are called by some thread of several, in no order; an exception of `write` is raised by `close`.  OSError if
    the directory cannot be opened.
    """

    def __init__(self, directory: Path, write: Callable[[Entry], None], failed: Callable[[str, OSError], None]) -> None:
        # As StorageTarget has it.
        self._prefix = os.path.join(directory, "") if directory != Path() else ""  # noqa: PTH118
        self._write = write
        self._failed = failed
        self._lock = threading.Lock()
        self._jobs: SimpleQueue[tuple[int, _Job] | None] = SimpleQueue()
        self._numbers = itertools.count()
        self._waiting: dict[int, None] = {}
        """The numbers of those that are due, in their order."""
        self._waiting_bytes = 0
        self._settling: list[tuple[int, Future[None]]] = []
        self._held_up: list[Future[None]] = []
        self._bug: BaseException | None = None
        # What is written down is in this folder, whatever its path leads to later.
        self._root = Folder(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        self._threads = [
            threading.Thread(target=self._work, name=f"digest-{n}", daemon=True) for n in range(DIGEST_THREADS)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Wait until all are described; again is no harm."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._jobs.put(None)
        for thread in threads:
            thread.join()
        self._root.close()
        if self._bug is not None:
            raise self._bug

    def record(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in place; if a future comes back, there should be no more before it is done.

        Takes no time, whatever the digest does; made to be called for each object that a listener stores.
        """
        return self._add(
            _Job(
                timestamp(),
                _STATUS[notice.placing],
                notice.path.removeprefix(self._prefix),
                notice.nbytes,
                notice.transfer_syntax_uid,
                notice.sop_instance_uid,
                notice.sop_class_uid,
            )
        )

    def found(self, path: str, nbytes: int) -> Future[None] | None:
        """A file of so many bytes is there that nobody has recorded, by its path below the directory; as `record`."""
        return self._add(_Job(timestamp(), FOUND, path, nbytes))

    # ------------------------------------------------------------------ the backlog

    def _add(self, job: _Job) -> Future[None] | None:
        busy: Future[None] | None = None
        with self._lock:
            number = next(self._numbers)
            self._waiting[number] = None
            self._waiting_bytes += job.nbytes
            if len(self._waiting) > BACKLOG or self._waiting_bytes > BACKLOG_BYTES:
                busy = Future()
                self._held_up.append(busy)
        self._jobs.put((number, job))
        return busy

    def settled(self) -> Future[None]:
        """Done, by some thread, when all that were recorded until now are written."""
        done: Future[None] = Future()
        with self._lock:
            if self._waiting:
                self._settling.append((next(self._numbers), done))
                return done
        done.set_result(None)
        return done

    def _work(self) -> None:
        while (due := self._jobs.get()) is not None:
            number, job = due
            try:
                self._write(self._described(job))
            except Exception as error:  # noqa: BLE001  a bug of ours: close() raises it, in a thread that is listened to
                self._bug = error
            released: list[Future[None]] = []
            with self._lock:
                del self._waiting[number]
                self._waiting_bytes -= job.nbytes
                if len(self._waiting) <= BACKLOG // 2 and self._waiting_bytes <= BACKLOG_BYTES // 2:
                    released, self._held_up = self._held_up, released
                if self._settling:
                    oldest = next(iter(self._waiting), number)
                    released += [done for before, done in self._settling if before < oldest or not self._waiting]
                    self._settling = [each for each in self._settling if each[1] not in released]
            for each in released:
                if each.set_running_or_notify_cancel():  # or nobody waits for it any more
                    each.set_result(None)

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
            self._failed(path, error)
            status = UNREADABLE
        return Entry(time, status, path, nbytes, digest, syntax, study, series, instance, sop_class)


def timestamp() -> str:
    """This moment, as entries have it."""
    now = time.time()
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
