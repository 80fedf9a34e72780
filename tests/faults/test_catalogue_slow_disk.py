"""Table F of the catalogue, F18: a disk that is slow on purpose keeps waiting who waits for it, and nobody else."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from tests.faults.forks import Forks
from tests.faults.listening import HUGE, HUGE_BYTES, LARGE, FaultyListener, listening
from tests.faults.shim import EVER, Kind, Plan
from tests.integration.scripted import ScriptedRequestor

pytestmark = pytest.mark.lane("gcc")


ECHO_P99_S: Final = 0.05
ECHO_PAUSE_S: Final = 0.01
ROUNDS: Final = 3
"""Of echoes, one of which has to be quick: the machine may have others to serve, the slow disk is slow each time."""

BUSY: Final = 2.0
"""Where a disk that is not slow has them wait as well, since the machine is busy: so many times as long."""

SENDERS: Final = 6
SLOW_GROWTH_KIB: Final = 24 << 10
"""Of six associations that send 12 MB each and wait for the disk: two windows each, and what threads take."""

SLOW: Final = {
    "sync": ("fdatasync", 1000),
    "write": ("write", 200),
    "folder": ("fsync", 1000),
    "open": ("tmpfile", 300),
}


@pytest.mark.parametrize("slow", SLOW)
async def test_F18_slow_disk_delays_its_own_answers_and_nobody_else(
    slow: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    op, delay_ms = SLOW[slow]
    async with listening(forks, plan, tmp_path / "to") as listener, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(listener.connect(30.0)) for _ in range(SENDERS)]
        for number, peer in enumerate(peers):
            await peer.associate()
            await listener.store(peer, number)
        other = await stack.enter_async_context(listener.connect())
        await other.associate()
        numbers = count(len(peers))
        as_usual, _ = await echoes_beside(listener, peers, other, numbers)
        with plan.rule(op, str(tmp_path / "to"), Kind.DELAY, delay_ms, 1, EVER) as rule:
            slow_echo, soonest = await echoes_beside(listener, peers, other, numbers)
        assert rule.met and soonest >= delay_ms / 1000, "an answer before the disk had it"
        assert slow_echo <= max(ECHO_P99_S, BUSY * as_usual), f"{slow_echo} s, and {as_usual} s beside a quick disk"
        assert set(listener.answered.values()) == {0}
        listener.is_honest()
        assert await listener.program.stopped() == 0


async def test_F18_slow_disk_fills_no_memory(forks: Forks, plan: Plan, tmp_path: Path) -> None:
    async with listening(forks, plan, tmp_path / "to") as listener, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(listener.connect(60.0)) for _ in range(SENDERS)]
        for number, peer in enumerate(peers):
            await peer.associate()
            await listener.store(peer, LARGE + number)
        most = resident = listener.resident_kib()
        with plan.rule("write", str(tmp_path / "to"), Kind.DELAY, 100, 1, EVER) as rule:
            storing = asyncio.gather(*(listener.store(peer, HUGE + n) for n, peer in enumerate(peers)))
            while not storing.done():
                await asyncio.wait([storing], timeout=0.02)
                most = max(most, listener.resident_kib())
        assert await storing == [0] * SENDERS and rule.met > 10 * SENDERS
        assert most - resident <= SLOW_GROWTH_KIB, f"{most - resident} KiB more, of {SENDERS * HUGE_BYTES >> 10}"
        listener.is_honest()
        assert await listener.program.stopped() == 0


async def echoes_beside(
    listener: FaultyListener, peers: Sequence[ScriptedRequestor], other: ScriptedRequestor, numbers: Iterator[int]
) -> tuple[float, float]:
    """C-ECHOs while others store, in seconds: the worst of the best round; and the quickest C-STORE."""
    measured = asyncio.Event()

    async def stores(peer: ScriptedRequestor) -> float:
        soonest = 1e9
        while not measured.is_set():
            begun = time.monotonic()
            await listener.store(peer, next(numbers))
            soonest = min(soonest, time.monotonic() - begun)
        return soonest

    storing = [asyncio.ensure_future(stores(peer)) for peer in peers]
    worst = [await worst_echo(other, 50, 1 + 50 * n) for n in range(ROUNDS)]
    measured.set()
    return min(worst), min(await asyncio.gather(*storing))


async def worst_echo(peer: ScriptedRequestor, times: int, message_id: int) -> float:
    """How long C-ECHO takes, in seconds, with a pause after each: p99 of fewer than a hundred is the worst."""
    worst = 0.0
    for number in range(times):
        begun = time.monotonic()
        await peer.echo(message_id + number)
        worst = max(worst, time.monotonic() - begun)
        await asyncio.sleep(ECHO_PAUSE_S)
    return worst
