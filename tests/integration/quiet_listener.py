"""`fastmove listen` as a child process that tells nobody of its port, its streams wherever a test wants them."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tests.integration.programs import COMMAND, EXIT_S
from tests.integration.retrieving import until


def port_of(pid: int) -> int | None:
    """The TCP port that a process listens on, as the kernel knows it: it has nobody to tell."""
    listening = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_, inode = line.split()[:10]
        if state == "0A":
            listening[f"socket:[{inode}]"] = int(local.rpartition(":")[2], 16)
    descriptors = Path(f"/proc/{pid}/fd")
    for link in descriptors.iterdir() if descriptors.exists() else ():
        with suppress(FileNotFoundError):  # closed meanwhile
            if (target := str(link.readlink())) in listening:
                return listening[target]
    return None


@asynccontextmanager
async def listening_quietly(
    folder: Path, *options: str | Path, out: int | None = None, err: int, env: Mapping[str, str] | None = None
) -> AsyncIterator[int]:
    """The port of `fastmove listen` with these for its streams; after SIGTERM it must end well."""
    arguments = ("listen", "--port", "0", "--host", "127.0.0.1", "--to", str(folder), *map(str, options))
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *arguments, stdin=asyncio.subprocess.DEVNULL, stdout=out, stderr=err, env=env
    )
    try:
        await until(lambda: process.returncode is not None or port_of(process.pid))
        port = port_of(process.pid)
        assert port is not None
        yield port
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(EXIT_S):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
