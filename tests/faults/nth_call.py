"""The faults of G-B4: each call of a kind fails once, each in another way, or each in all ways."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from itertools import count
from typing import Final, NamedTuple

from tests.faults.shim import Kind

SPACE: Final = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)
ACCESS: Final = (*SPACE, errno.EACCES)
OPENING: Final = (*ACCESS, errno.EMFILE)
NAMING: Final = (*ACCESS, errno.EXDEV, errno.ENOENT)

ERRORS: Final[dict[str, tuple[int, ...]]] = {
    # what the call can end in, and not be done
    "tmpfile": OPENING,
    "create": OPENING,
    "open": OPENING,
    "mkdir": ACCESS,
    "write": SPACE,
    "fdatasync": SPACE,
    "fsync": SPACE,
    "link": NAMING,
    "rename_new": NAMING,
    "close": SPACE,
}

TRANSIENT: Final = (errno.EINTR, errno.EAGAIN)

NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT))
"""Why a sync may fail although the disk is in order."""


class Case(NamedTuple):
    """A call that meets a fault."""

    op: str
    nth: int
    kind: Kind
    error: int = 0

    def __str__(self) -> str:
        return f"{self.op} {self.nth} {self.kind.name} {errno.errorcode.get(self.error, '')}"


def ways(op: str) -> tuple[tuple[Kind, int], ...]:
    """What may happen to a call."""
    failing = tuple((Kind.FAIL, error) for error in ERRORS[op])
    if op == "write":
        failing += ((Kind.SHORT, 0), *((Kind.FAIL, error) for error in TRANSIENT))
    if op in ("tmpfile", "create"):
        failing += ((Kind.FAIL, errno.EINTR),)
    return failing


def cases(op: str, *, all_ways: bool = False) -> Iterator[Case]:
    """Faults of the first call, of the second, and so on without end."""
    known = ways(op)
    for nth in count(1):
        for kind, error in known if all_ways else (known[nth % len(known)],):
            yield Case(op, nth, kind, error)
