"""`fastmove listen` as a process that calls of files fail in, and what has to hold of it whatever happens."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.forks import Forked, Forks
from tests.faults.shim import Plan
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

HOST: Final = "127.0.0.1"
UID: Final = "1.2.826.0.1.3680043.10.9999.7"
PIXEL_BYTES: Final = 150_000
"""More than one read of a socket: two or three writes an object."""

LARGE: Final = 100_000
"""Objects from this number on have LARGE_BYTES of pixels: several reads and writes, whatever the sockets do."""

LARGE_BYTES: Final = 3_500_000

HUGE: Final = 200_000
HUGE_BYTES: Final = 12_000_000
"""From here on still more: twelve windows."""

CONGESTION: Final = (2, 3, 1)

GROWTH_KIB: Final = 1024
"""Of resident memory by one fault (G-C2)."""

IDLE_SHARE: Final = 0.02
IDLE_S: Final = 0.25
"""G-D4: a process with nothing to do takes no more of a processor."""


def uid(number: int) -> str:
    """Of the n-th object of a test."""
    return f"{UID}.{number}"


def object_bytes(number: int) -> bytes:
    """Its data set."""
    pixel_bytes = HUGE_BYTES if number >= HUGE else LARGE_BYTES if number >= LARGE else PIXEL_BYTES
    return raw.dataset(uid(number), pixel_bytes=pixel_bytes)


class FaultyListener:
    """A running `fastmove listen`, its folder, and the statuses that it gave."""

    def __init__(self, program: Forked, folder: Path, port: int) -> None:
        self.program = program
        self.folder = folder
        self.port = port
        self.answered: dict[int, int] = {}
        """Status of each object that was answered, by its number."""

    def connect(self, deadline: float = 5.0) -> ScriptedRequestor:
        """A connection without an association."""
        return ScriptedRequestor(HOST, self.port, deadline)

    async def store(self, peer: ScriptedRequestor, number: int) -> int:
        """Send an object: the status."""
        message_id = number % 0xFFFF + 1
        await peer.send(raw.message(1, raw.c_store_rq(uid(number), message_id), object_bytes(number)))
        reply = await peer.read_reply()
        assert reply.responded_to == message_id
        self.answered[number] = reply.status
        return reply.status

    async def echoes(self) -> float:
        """A C-ECHO on a new association: how long that took, in seconds."""
        begun = time.monotonic()
        async with self.connect() as peer:
            await peer.associate(raw.associate_rq(contexts=[raw.context_rq(3, raw.VERIFICATION)]))
            await peer.echo()
            await peer.release()
        return time.monotonic() - begun

    async def rejects(self) -> None:
        """A new association is rejected for now: the disk is not to be trusted any more."""
        async with self.connect() as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(*CONGESTION)

    def whole(self) -> dict[int, Path]:
        """What has a final name, by number; all of it must be whole, and nothing be half made."""
        found: dict[int, Path] = {}
        assert not list(self.folder.rglob(".fm-*")), "left behind"
        for path in self.folder.rglob("*.dcm"):
            number = int(path.name.removeprefix(UID + ".").split(".")[0])
            assert raw.part10_dataset(path.read_bytes()) == object_bytes(number), f"not whole: {path}"
            found[number] = path
        return found

    def is_honest(self) -> None:
        """What was answered 0000 is there, and what was refused is not."""
        assert set(self.whole()) == {number for number, status in self.answered.items() if status == 0}, self.answered

    def resident_kib(self) -> int:
        """Memory that it holds."""
        return kib_of(self.program.process.pid)


def kib_of(pid: int) -> int:
    """Resident memory of a process in KiB (VmRSS of /proc/PID/status)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:"))


def seconds_of(pid: int) -> float:
    """What a process took of the processor, all of its threads, in seconds."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@asynccontextmanager
async def unharmed(listener: FaultyListener) -> AsyncIterator[None]:
    """What happens inside costs the process no memory and no rest, and it still answers (G-C2, G-D4)."""
    resident = listener.resident_kib()
    yield
    pid = listener.program.process.pid
    assert listener.resident_kib() - resident <= GROWTH_KIB, "memory is gone"
    await listener.echoes()
    spent, begun = seconds_of(pid), time.monotonic()
    await asyncio.sleep(IDLE_S)
    share = (seconds_of(pid) - spent) / (time.monotonic() - begun)
    assert share <= IDLE_SHARE, f"{share:.1%} of a processor with nothing to do"


@asynccontextmanager
async def listening(
    forks: Forks,
    plan: Plan | None,
    folder: Path,
    *options: str,
    limits: Mapping[str, int] | None = None,
    log: Path | None = None,
) -> AsyncIterator[FaultyListener]:
    """A listener of its own, killed at the end unless it has ended."""
    where = ("--port", "0", "--host", HOST, "--to", folder)
    async with Forked(forks, plan, "listen", *where, *options, limits=limits, log=log) as program:
        started = await program.event("listen.started")
        yield FaultyListener(program, folder, started["port"])
