"""The faults that `shim.c` commits: compiled once a session, and planned by rules in memory that both sides share.

plan = Plan(path)
with plan.fails("write", "/stored/", errno.ENOSPC, first=2):
    ...
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Final, Self

SOURCE: Final = Path(__file__).with_name("shim.c")
PLAN: Final = "FASTMOVE_FAULT_PLAN"
LOG: Final = "FASTMOVE_FAULT_LOG"

RULES: Final = 8
_RULE: Final = struct.Struct("16s80sIiIIII8x")
_KIND: Final = struct.Struct("I")
_COUNTS: Final = struct.Struct("II")
_KIND_AT: Final = 96
_COUNTS_AT: Final = 112
EVER: Final = 0xFFFFFFFF


class Kind(IntEnum):
    """What a rule does to the calls that it meets."""

    FAIL = 1
    """-1 with this errno, and nothing is done, but that close() does close."""
    SHORT = 2
    """Half of it is written."""
    DELAY = 3
    """It is done after so many milliseconds."""
    PRETEND = 4
    """0, and nothing is done: a disk that lies."""
    KILL_BEFORE = 5
    """SIGKILL instead of the call."""
    KILL_AFTER = 6
    """SIGKILL after it; in the middle of a write."""


def compiled(directory: Path) -> Path:
    """The library, made by gcc."""
    library = directory / "shim.so"
    flags = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC")
    subprocess.run(["gcc", *flags, "-o", library, SOURCE, "-ldl"], check=True)
    return library


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that is in force; its counters live on with the program."""

    plan: Plan
    number: int

    @property
    def seen(self) -> int:
        """Calls that fitted so far."""
        return self._counts()[0]

    @property
    def met(self) -> int:
        """Of these, those that it was applied to."""
        return self._counts()[1]

    def _counts(self) -> tuple[int, int]:
        seen, met = _COUNTS.unpack_from(self.plan.memory, self.number * _RULE.size + _COUNTS_AT)
        return seen, met


class Plan:
    """The rules of one program and of those that it starts, in a file that is mapped."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(RULES * _RULE.size))
        with path.open("r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.memory.close()

    def environment(self, library: Path) -> dict[str, str]:
        """What a program needs to go by this plan."""
        return os.environ | {"LD_PRELOAD": str(library), PLAN: str(self.path)}

    @contextmanager
    def rule(
        self, op: str, fragment: str, kind: Kind, value: int = 0, first: int = 1, last: int | None = None
    ) -> Iterator[Rule]:
        """Calls of `op` on paths with this part are met, from the first to the last (the first alone, if not said)."""
        number = next(n for n in range(RULES) if not _KIND.unpack_from(self.memory, n * _RULE.size + _KIND_AT)[0])
        at = number * _RULE.size
        last = first if last is None else last
        _RULE.pack_into(self.memory, at, op.encode(), os.fsencode(fragment), 0, value, first, last, 0, 0)
        _KIND.pack_into(self.memory, at + _KIND_AT, kind)  # last: it is in force now
        try:
            yield Rule(self, number)
        finally:
            _KIND.pack_into(self.memory, at + _KIND_AT, 0)
