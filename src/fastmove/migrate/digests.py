"""One digest for all that was stored, which anybody can make again from the files: in whichever order they come.

Of a study: SHA-256 over a line for each of its instances, by SOP Instance UID.  Of all: SHA-256 over a line for each
study of which something is stored, by Study Instance UID.  Sorted as bytes; hexadecimal, in small letters.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from contextlib import ExitStack
from hashlib import sha256
from tempfile import TemporaryFile
from typing import IO, Final, Self

from fastmove.values import Value

UNKNOWN: Final = "-"
"""In the line of an instance, if its digest was never recorded."""

CHUNK: Final = 100_000
"""Lines that are sorted in memory; what is more goes through temporary files."""


class StudyDigest(Value):
    """The digest of a study; empty without instances."""

    hexadecimal: str = ""
    instances: int = 0
    unknown: int = 0
    """Of these, how many have no digest."""


def line(uid: str, digest: str) -> bytes:
    """A line that is hashed: `UID DIGEST`, and a line feed."""
    return f"{uid} {digest}\n".encode()


class StudyHash:
    """The digest of a study in the making."""

    def __init__(self) -> None:
        self._hashed = sha256()
        self._instances = self._unknown = 0

    def add(self, sop_instance_uid: str, digest: bytes) -> None:
        """An instance, in the order of the UIDs; an empty digest is unknown."""
        self._hashed.update(line(sop_instance_uid, digest.hex() or UNKNOWN))
        self._instances += 1
        self._unknown += not digest

    def digest(self) -> StudyDigest:
        """That of all that were added."""
        return StudyDigest(self._hashed.hexdigest() if self._instances else "", self._instances, self._unknown)


class WholeDigest:
    """The digest of all studies, which come in any order, each once."""

    def __init__(self) -> None:
        self.studies = self.instances = self.unknown = 0
        self._lines: list[bytes] = []
        self._sorted: list[IO[bytes]] = []
        self._opened = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def add(self, study_instance_uid: str, digest: StudyDigest) -> None:
        """A study; one without instances does not count."""
        if not digest.instances:
            return
        self.studies += 1
        self.instances += digest.instances
        self.unknown += digest.unknown
        self._lines.append(line(study_instance_uid, digest.hexadecimal))
        if len(self._lines) == CHUNK:
            self._put_aside()

    def hexdigest(self) -> str:
        """The digest, once all have been added."""
        hashed = sha256()
        for each in self._in_order():
            hashed.update(each)
        return hashed.hexdigest()

    def _in_order(self) -> Iterable[bytes]:
        self._lines.sort()
        for file in self._sorted:
            file.seek(0)
        return heapq.merge(self._lines, *self._sorted)

    def _put_aside(self) -> None:
        self._lines.sort()
        file = self._opened.enter_context(TemporaryFile())  # noqa: SIM115  the stack closes it
        file.writelines(self._lines)
        self._sorted.append(file)
        self._lines.clear()
