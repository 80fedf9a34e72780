"""A manifest held against the disk: is everything there that it lists, and as it was stored?"""

from __future__ import annotations

import contextlib
import os
import stat
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple

from fastmove.storage.digest import sha256_of
from fastmove.storage.entries import Entry
from fastmove.storage.inventory import object_in, walk
from fastmove.storage.manifest import read, read_values


class Fault(Enum):
    """What may be wrong with an object."""

    MISSING = "missing"
    """It is listed, and its file is not there."""
    SIZE = "size"
    """Its file is longer or shorter than it was."""
    DIGEST = "digest"
    """Its file has other content than it had."""
    UNREADABLE = "unreadable"
    """Its file cannot be read, or what has its name is no file."""
    UNDIGESTED = "undigested"
    """Its file is there; it could not be read back when it was stored, so that nobody knows its digest."""
    UNLISTED = "unlisted"
    """It is there, and no line lists it."""


class Finding(NamedTuple):
    """Something wrong with an object; the path is that below the folder."""

    fault: Fault
    path: str
    sop_instance_uid: str
    detail: str = ""


class Verification:
    """One comparison; `report` is told of each finding, by one thread at a time.

    Takes 0.3 KiB of memory for each object.
    """

    def __init__(self, directory: Path, manifest: Path, report: Callable[[Finding], None]) -> None:
        self.directory = directory
        self.manifest = manifest
        self.total = 0
        """Objects that are listed; of two lines for one path the last counts."""
        self.objects = 0
        """Of these, looked at so far."""
        self.nbytes = 0
        """Bytes of their files."""
        self.faults: Counter[Fault] = Counter()
        self.damaged = 0
        """Lines that cannot be read."""
        self._report = report
        self._lock = threading.Lock()
        self._stopped = False
        self._bug: BaseException | None = None

    def run(self, jobs: int, *, quick: bool = False) -> None:
        """Look at every object, so many at once; `quick`: whether it is there and as long as it was, not what it holds.

        OSError if manifest or folder cannot be read, ConfigurationError if the manifest's name has no good suffix.
        """
        last = self._lines()
        self.total = len(last)
        entries = (entry for number, entry in enumerate(read(self.manifest)) if last.get(entry.path) == number)
        root = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with contextlib.closing(entries):
                threads = [threading.Thread(target=self._work, args=(root, entries, quick)) for _ in range(jobs)]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
        finally:
            os.close(root)
        if self._bug is not None:
            raise self._bug
        self._look_for_others(last)

    def stop(self) -> None:
        """End soon, with what has been found so far."""
        self._stopped = True

    def _lines(self) -> dict[str, int]:
        """Path → number of its last entry."""

        def damaged(_: int) -> None:
            self.damaged += 1

        return {values["path"]: number for number, values in enumerate(read_values(self.manifest, damaged))}

    def _work(self, root: int, entries: Iterator[Entry], quick: bool) -> None:
        try:
            while not self._stopped:
                with self._lock:
                    entry = next(entries, None)
                if entry is None:
                    return
                finding = _checked(root, entry, quick)
                with self._lock:
                    self.objects += 1
                    self.nbytes += entry.bytes
                    if finding is not None:
                        self._find(finding)
        except BaseException as error:  # noqa: BLE001  run() raises it, in a thread that is listened to
            self._bug = error
            self._stopped = True

    def _find(self, finding: Finding) -> None:
        self.faults[finding.fault] += 1
        self._report(finding)

    def _look_for_others(self, listed: dict[str, int]) -> None:
        for path, entry in walk(self.directory):
            if self._stopped:
                return
            if path not in listed and (file := object_in(entry)) is not None:
                with self._lock:
                    self._find(Finding(Fault.UNLISTED, path, file.sop_instance_uid))


def _checked(root: int, entry: Entry, quick: bool) -> Finding | None:
    def finding(fault: Fault, detail: str = "") -> Finding:
        return Finding(fault, entry.path, entry.sop_instance_uid, detail)

    try:
        fd = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
    except (FileNotFoundError, NotADirectoryError):
        return finding(Fault.MISSING)
    except OSError as error:
        return finding(Fault.UNREADABLE, error.strerror or str(error))
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return finding(Fault.UNREADABLE, "it is no file")
        if not entry.sha256:
            return finding(Fault.UNDIGESTED)
        if status.st_size != entry.bytes:
            return finding(Fault.SIZE, f"{status.st_size} bytes, they were {entry.bytes}")
        if not quick and sha256_of(fd)[0] != entry.sha256:
            return finding(Fault.DIGEST)
    except OSError as error:
        return finding(Fault.UNREADABLE, error.strerror or str(error))
    finally:
        os.close(fd)
    return None
