"""`fastmove retrieve` as a child process, against the embedded PACS: one command, run again and again."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from fastmove.storage.filemeta import read_file_meta
from fastmove.types import PeerAddress
from tests.integration.embedded import HOST, EmbeddedPacs
from tests.integration.faults import End, FaultProxy, Toxics
from tests.integration.programs import COMMAND, Ended, Program, fastmove

SETTLE_S: Final = 5.0
UNTIL_S: Final = 30.0

NAMED: Final = """
import os, sys
real = os.open
def without_unnamed_files(path, flags, *mode, **where):
    if flags & os.O_TMPFILE == os.O_TMPFILE:
        raise OSError(95, "no unnamed files here")
    return real(path, flags, *mode, **where)
os.open = without_unnamed_files
from fastmove.cli.main import program
program()
"""
"""fastmove on a file system that has no unnamed files: what is unfinished has a name."""


class Whole(NamedTuple):
    """A file that must not change any more."""

    path: Path
    inode: int
    mtime_ns: int
    sha256: str


class Retrieving:
    """One command, run again and again, and what the PACS and the disk show of it."""

    def __init__(
        self, pacs: EmbeddedPacs, folder: Path, port: int, *options: str | Path, studies: Sequence[str] | None = None
    ) -> None:
        self.pacs = pacs
        self.folder = folder
        self.port = port
        self.named = False
        """On a file system without unnamed files."""
        self.env: Mapping[str, str] | None = None
        """Of the command, if not ours."""

        wanted = [word for study in (pacs.studies if studies is None else studies) for word in ("--study", study)]
        where = ("--aet", "ME", "--port", str(port), "--host", HOST, "--to", folder)
        self.command = ("retrieve", f"FASTPACS@{HOST}:{pacs.address.port}", *where, *wanted, *options)
        self.goes_to(HOST, port)

    def goes_to(self, host: str, port: int) -> None:
        """Where the PACS takes us to be."""
        self.pacs.destinations["ME"] = PeerAddress("ME", host, port)

    @asynccontextmanager
    async def running(self, limit_bytes: int = -1) -> AsyncIterator[tuple[Program, FaultProxy]]:
        """The command as a child; a storage association comes to a halt in the middle after so many bytes."""
        async with FaultProxy(HOST, self.port, Toxics(limit_bytes=limit_bytes, end=End.FREEZE)) as proxy:
            self.goes_to(*proxy.address)
            program = Program(*self.command, env=self.env)
            if self.named:
                program.arguments[: len(COMMAND)] = [sys.executable, "-c", NAMED]
            async with program:
                yield program, proxy
        await self.settled()

    async def settled(self) -> None:
        """The PACS has seen that nobody is there any more."""
        async with asyncio.timeout(SETTLE_S):
            while self.pacs.conduct.moves or self.pacs.acceptor.connections:
                await asyncio.sleep(0.001)

    async def ends(self) -> Program:
        """The command, run to its end, which must be a good one."""
        async with self.running() as (program, _):
            assert await program.ended() == 0, program.errors
        return program

    async def shown(self, *more: str | Path) -> Ended:
        """What a person sees of it, without a terminal."""
        return await fastmove(*self.command, *more)

    def whole(self) -> dict[str, Whole]:
        """What has a final name, by SOP Instance UID; all of it must be as the PACS has it."""
        found: dict[str, Whole] = {}
        for path in self.folder.rglob("*.dcm"):
            file, content = read_file_meta(path), path.read_bytes()
            uid = file.sop_instance_uid
            assert (path.stem, uid in found) == (uid, False)
            assert content[file.dataset_offset :] == self.pacs.dataset(uid)
            status = path.stat()
            found[uid] = Whole(path, status.st_ino, status.st_mtime_ns, hashlib.sha256(content).hexdigest())
        return found


async def until(holds: Callable[[], object], seconds: float = UNTIL_S) -> None:
    """Wait for something that nobody tells of."""
    async with asyncio.timeout(seconds):
        while not holds():
            await asyncio.sleep(0.005)


@contextmanager
def file_system(folder: Path, options: str) -> Iterator[Path]:
    """A tmpfs of its own, with these mount options; for tests of the lane "mount"."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def remount(folder: Path, options: str) -> None:
    """The same with other options, such as more room."""
    subprocess.run(["mount", "-o", f"remount,{options}", folder], check=True)
