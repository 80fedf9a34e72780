"""The second proof of durability, without a disk: from the calls that were made, every state that a crash may leave.

The shim writes down each call below a folder, and each C-STORE-RSP in the moment it leaves.  Of a file only what was
written before a completed sync of it is sure to be there; of a folder only the names that were given before a completed
fsync of it.  The rest may be there or not, each by itself, and data may be cut off, or be zeros: no file system that
keeps to POSIX does worse, and each that is in use does better.  So this finds what ext4 and XFS would hide.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

from tests.integration import raw

_ENTRY: Final = struct.Struct("=IIIIIIqQQ16s")
BLOCK_BYTES: Final = 512
"""What a disk writes as a whole."""

STORED: Final = 0x8001


class Entry(NamedTuple):
    """A call, as struct entry of shim.c."""

    op: str
    done: bool
    thread: int
    result: int
    inode: int
    folder: int
    name: str
    name2: str
    data: bytes


def read_log(path: Path) -> list[Entry]:
    """All that was written down."""
    log, at, entries = path.read_bytes(), 0, []
    while at < len(log):
        size, phase, thread, name, name2, data, result, inode, folder, op = _ENTRY.unpack_from(log, at)
        texts, ends = [], at + _ENTRY.size
        for length in (name, name2):
            texts.append(log[ends : ends + length].decode())
            ends += length
        content = log[ends : ends + data]
        entries.append(Entry(op.rstrip(b"\0").decode(), phase == 1, thread, result, inode, folder, *texts, content))
        assert ends + data == at + size, "a torn log"
        at += size
    return entries


def acknowledged(data: bytes) -> Iterator[str]:
    """The SOP Instance UIDs of the C-STORE-RSPs with status 0000 in what is sent."""
    at = 0
    while at + 6 <= len(data):
        kind, length = struct.unpack_from(">BxI", data, at)
        pdu, at = data[at + 6 : at + 6 + length], at + 6 + length
        if kind != raw.P_DATA:
            continue
        fields = raw.decode_command(pdu[6:])
        if fields[raw.COMMAND_FIELD] == raw.us(STORED) and fields[raw.STATUS] == raw.us(0):
            yield fields[raw.AFFECTED_SOP_INSTANCE].rstrip(b"\0").decode()


class Tail(Enum):
    """What becomes of data that was not synced."""

    LOST = "lost"
    KEPT = "kept"
    CUT = "cut"
    ZEROS = "zeros"


@dataclass(eq=False)
class File:
    """What an inode is, until it is another's."""

    written: bytearray = field(default_factory=bytearray)
    durable: int = 0
    """Bytes from the beginning that are sure to be there."""

    def after(self, tail: Tail) -> bytes:
        """What a crash leaves of it."""
        content, sure = bytes(self.written), self.durable
        if tail is Tail.KEPT or sure == len(content):
            return content
        if tail is Tail.LOST:
            return content[:sure]
        cut = max(sure, (sure + len(content)) // 2 // BLOCK_BYTES * BLOCK_BYTES)
        return content[:cut] if tail is Tail.CUT else content[:sure] + bytes(len(content) - sure)


@dataclass
class Naming:
    """A change of a folder."""

    folder: int
    gone: str
    """A name that is no more."""

    name: str
    inode: int
    """What has it now."""

    durable: bool = False


@dataclass
class Machine:
    """What a run has done to the disk, up to a moment."""

    root: int
    files: dict[int, File] = field(default_factory=dict)
    namings: list[Naming] = field(default_factory=list)
    acknowledged: list[str] = field(default_factory=list)
    _begun: dict[tuple[int, int], int] = field(default_factory=dict)
    """Thread and inode of a sync that is under way → bytes or namings that it covers."""

    def take(self, entry: Entry) -> None:
        """The next call of the log."""
        if entry.op == "send":
            self.acknowledged += acknowledged(entry.data)
        elif entry.op in ("fsync", "fdatasync"):
            self._sync(entry)
        elif entry.op in ("tmpfile", "create"):
            self.files[entry.inode] = File()
            if entry.op == "create":
                self._name(entry, "", entry.name, entry.inode)
        elif entry.op == "write" and entry.inode in self.files:
            self.files[entry.inode].written += entry.data[: entry.result]
        elif entry.op in ("link", "mkdir"):
            if entry.op == "mkdir":
                self.files.pop(entry.inode, None)  # a file that never had a name is gone, its inode is another's
            self._name(entry, "", entry.name, entry.inode)
        elif entry.op == "rename":
            self._name(entry, entry.name, entry.name2, self._inode(entry.folder, entry.name))
        elif entry.op == "unlink":
            self._name(entry, entry.name, "", 0)

    def _sync(self, entry: Entry) -> None:
        key = entry.thread, entry.inode
        file = self.files.get(entry.inode)
        if not entry.done:
            self._begun[key] = len(self.namings) if file is None else len(file.written)
            return
        covered = self._begun.pop(key)
        if entry.result:
            return
        if file is not None:
            file.durable = max(file.durable, covered)
        for naming in self.namings[:covered] if file is None else ():
            naming.durable = naming.durable or naming.folder == entry.inode

    def _name(self, entry: Entry, gone: str, name: str, inode: int) -> None:
        self.namings.append(Naming(entry.folder, gone, name, inode))

    def _inode(self, folder: int, name: str) -> int:
        return next(n.inode for n in reversed(self.namings) if (n.folder, n.name) == (folder, name))

    def crash(self, kept: Mapping[int, bool]) -> dict[str, File]:
        """Path → file after a crash now; `kept`: whether the n-th naming is there although it need not be."""
        folders: dict[int, dict[str, int]] = {}
        for number, naming in enumerate(self.namings):
            if not (naming.durable or kept[number]):
                continue
            names = folders.setdefault(naming.folder, {})
            names.pop(naming.gone, None)
            if naming.name:
                names[naming.name] = naming.inode
        return dict(self._below(self.root, "", folders))

    def _below(self, folder: int, path: str, folders: Mapping[int, Mapping[str, int]]) -> Iterator[tuple[str, File]]:
        for name, inode in folders.get(folder, {}).items():
            if inode in self.files:
                yield path + name, self.files[inode]
            else:
                yield from self._below(inode, f"{path}{name}/", folders)

    def crashes(self, random: Random, subsets: int) -> Iterator[dict[str, File]]:
        """What a crash now may leave: nothing or everything that need not be there, and some mixtures."""
        count = len(self.namings)
        yield self.crash(dict.fromkeys(range(count), False))
        yield self.crash(dict.fromkeys(range(count), True))
        for _ in range(subsets):
            yield self.crash({n: random.random() < 0.5 for n in range(count)})
