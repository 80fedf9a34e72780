"""`fastmove listen` as a child whose memory, descriptors, threads and tasks are read."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final, NamedTuple

from tests.integration.peers import free_port
from tests.integration.programs import cpu_s
from tests.integration.scripted import ScriptedRequestor
from tests.lanes import MEMORY_GROUPS

HOST: Final = "127.0.0.1"
PROJECT: Final = Path(__file__).parents[2]
PATIENCE_S: Final = 20.0
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Held(NamedTuple):
    """What a process holds at a time."""

    rss: int
    """Bytes of memory."""
    blocks: int
    """Of CPython's allocator."""
    descriptors: int
    threads: int
    tasks: int


class Listening:
    """The child."""

    def __init__(self, process: asyncio.subprocess.Process, tell: int, directory: Path, port: int) -> None:
        self.process = process
        self.pid = process.pid
        self.directory = directory
        self.where = (HOST, port)
        self._tell = tell

    def connect(self) -> ScriptedRequestor:
        """A connection to it."""
        return ScriptedRequestor(*self.where, deadline=PATIENCE_S)

    # ------------------------------------------------------------------ what the kernel tells

    def _status(self, key: str) -> int:
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

    @property
    def most_rss(self) -> int:
        """The most memory that it has had, in bytes."""
        return self._status("VmHWM") * 1024

    @property
    def cpu_s(self) -> float:
        """CPU seconds so far."""
        return cpu_s(self.pid)

    def left(self) -> list[str]:
        """What lies in its folder beside its lock."""
        return sorted(path.name for path in self.directory.iterdir() if "lock" not in path.name)

    # ------------------------------------------------------------------ what it tells itself

    async def held(self) -> Held:
        """Now."""
        told = await self._asked(signal.SIGUSR1)
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        descriptors = len(list(Path(f"/proc/{self.pid}/fd").iterdir()))
        return Held(pages * PAGE_BYTES, told["blocks"], descriptors, self._status("Threads"), told["tasks"])

    async def cyclic(self) -> int:
        """Objects that only the collector of cycles frees."""
        return (await self._asked(signal.SIGUSR2))["cyclic"]

    async def at_rest(self, descriptors: int) -> Held:
        """Once it holds no more descriptors than that: who has gone has been forgotten."""
        async with asyncio.timeout(PATIENCE_S):
            while (held := await self.held()).descriptors > descriptors:
                await asyncio.sleep(0.01)
        return held

    async def _asked(self, number: signal.Signals) -> dict[str, int]:
        loop = asyncio.get_running_loop()
        readable = asyncio.Event()
        loop.add_reader(self._tell, readable.set)
        try:
            self.process.send_signal(number)
            async with asyncio.timeout(PATIENCE_S):
                await readable.wait()
        finally:
            loop.remove_reader(self._tell)
        told: dict[str, int] = json.loads(os.read(self._tell, 4096))
        return told


@asynccontextmanager
async def listening(directory: Path, *options: str, within: Sequence[str] = ()) -> AsyncIterator[Listening]:
    """The child, which must end well; `within` is a command that is given the others."""
    ours, theirs = os.pipe()
    try:
        port = free_port()
        to = ("--host", HOST, "--port", str(port), "--to", str(directory), "--reserve", "0")
        counted = (sys.executable, "-m", "tests.soak.counted", str(theirs), "listen", *to, *options)
        with tempfile.TemporaryFile() as log:
            process = await asyncio.create_subprocess_exec(
                *within, *counted, stdin=asyncio.subprocess.DEVNULL, stderr=log, pass_fds=(theirs,), cwd=PROJECT
            )
            child = Listening(process, ours, directory, port)
            try:
                await _answers(child)
                yield child
                process.send_signal(signal.SIGTERM)
                async with asyncio.timeout(PATIENCE_S):
                    code = await process.wait()
                assert code == 0
            except BaseException as error:
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
                log.seek(0)
                error.add_note(f"--- {counted}\n{log.read()[-4000:].decode()}")
                raise
    finally:
        os.close(ours)
        os.close(theirs)


async def _answers(child: Listening) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while child.process.returncode is None:
            with suppress(ConnectionRefusedError):
                async with child.connect() as peer:
                    await peer.associate()
                    await peer.echo()
                    await peer.release()
                    return
            await asyncio.sleep(0.02)
    raise AssertionError("it has ended")


@contextmanager
def memory_group(nbytes: int) -> Iterator[Sequence[str]]:
    """A command that runs another one where there is no more memory than that; the cache of files counts too."""
    group = MEMORY_GROUPS / f"fastmove-{os.getpid()}"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(nbytes))
        yield ("sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh")
    finally:
        group.rmdir()
