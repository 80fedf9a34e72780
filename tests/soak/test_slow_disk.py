"""A disk that is slow for good: memory stays flat, as reading pauses, and others are answered (goal G-E5, F18).

strace makes the calls late: it sees those of compiled code as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.soak.listening import Listening, listening
from tests.soak.load import Stream, Template, uids
from tests.soak.test_soak import BASE, MIB, OF_EACH

pytestmark = pytest.mark.lane("strace")

OBJECT_BYTES: Final = 64_000
ECHO_S: Final = 0.05
"""How soon a C-ECHO on another association is answered; nearly always."""
PAUSE_S: Final = 0.01


def late(**calls: float) -> Sequence[str]:
    """A command that makes these system calls of another one late, by so many seconds."""
    injected = [word for call, s in calls.items() for word in ("-e", f"inject={call}:delay_enter={int(s * 1e6)}")]
    return (
        "strace",
        "-D",
        "-f",
        "-qq",
        "-o",
        "/dev/null",
        "--seccomp-bpf",
        "-e",
        f"trace={','.join(calls)}",
        *injected,
    )


@asynccontextmanager
async def echoing(listener: Listening) -> AsyncIterator[list[float]]:
    """Seconds that C-ECHOs took, one after the other on an association of their own, as long as the block lasts."""
    loop = asyncio.get_running_loop()
    took: list[float] = []

    async def echo() -> None:
        async with listener.connect() as peer:
            await peer.associate()
            while True:
                began = loop.time()
                await peer.echo()
                took.append(loop.time() - began)
                await asyncio.sleep(PAUSE_S)

    running = asyncio.create_task(echo())
    try:
        yield took
        assert not running.done(), running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def stored_slowly(directory: Path, associations: int, each: int, **calls: float) -> list[float]:
    """So many objects over so many associations onto such a disk; how long C-ECHOs took meanwhile."""
    template = Template(OBJECT_BYTES)
    async with listening(directory, within=late(**calls)) as listener, AsyncExitStack() as stack:
        streams = [await Stream.opened(listener, template, stack) for _ in range(associations)]
        numbers = uids()
        async with echoing(listener) as took:
            await asyncio.gather(*(stream.store(iter([next(numbers) for _ in range(each)])) for stream in streams))
        assert listener.most_rss <= BASE + OF_EACH * associations, f"{listener.most_rss / MIB:.1f} MiB"
    print(f"{len(took)} C-ECHOs, median {sorted(took)[len(took) // 2] * 1e3:.1f} ms, longest {max(took) * 1e3:.1f} ms")
    return sorted(took)


async def test_GE5_F18_disk_that_takes_a_second_holds_up_nobody_but_who_waits_for_it(tmp_path: Path) -> None:
    took = await stored_slowly(tmp_path / "stored", associations=8, each=2, fdatasync=1.0, writev=0.2)
    assert took[len(took) * 9 // 10] <= ECHO_S
    assert took[-1] < 0.2, "less than one late call"


@pytest.mark.nightly
async def test_GE5_sixteen_associations_into_a_megabyte_a_second_take_no_more_memory(tmp_path: Path) -> None:
    await stored_slowly(tmp_path / "stored", associations=16, each=30, fdatasync=1.0)
