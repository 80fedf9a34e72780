"""No wait without an end, and no end that is not waited for quietly (goals G-D1, G-D4)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.embedded import LIMITS, embedded_pacs
from tests.integration.honesty import retrieve_here
from tests.integration.listener import half_object
from tests.integration.programs import EXIT_S, cpu_s, listen_program
from tests.integration.proxied import SHORT
from tests.integration.retrieving import Retrieving
from tests.integration.scripted import ScriptedRequestor
from tests.integration.table_m.row import Row
from tests.integration.table_t import ROWS
from tests.soak.load import VISITS

MARGIN_S: Final = 1.0
TIMERS: Final = (
    *("connect_s", "associate_s", "artim_s", "release_s"),
    *("idle_s", "message_s", "response_s", "progress_s", "drain_s"),
)
LONGEST_S: Final = max(getattr(SHORT, timer) for timer in TIMERS)
TICK_S: Final = 0.01
IDLE_S: Final = 1.0
IDLE_SHARE: Final = 0.02


# ---------------------------------------------------------------------- in time


@asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """The block takes no longer than that, whatever else this machine does: when the loop is late, so is the end."""
    loop = asyncio.get_running_loop()
    late_s = 0.0

    async def watch() -> None:
        nonlocal late_s
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            late_s += max(0.0, loop.time() - due)

    watching = asyncio.create_task(watch())
    began = loop.time()
    try:
        yield
    finally:
        took_s = loop.time() - began
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    assert took_s - late_s <= seconds, f"{took_s:.2f} s, of which the machine {late_s:.2f} s"


@pytest.mark.parametrize("row", [row for row in ROWS if row.number != "T11"], ids=str)  # that takes as long as the way
async def test_GD1_retrieve_ends_within_its_longest_timer_and_a_second(row: Row, tmp_path: Path) -> None:
    async with row.pacs() as pacs:
        async with within(LONGEST_S + MARGIN_S):
            came = await retrieve_here(pacs, tmp_path / "stored", limits=SHORT, rounds=0)
        came.is_true(pacs, tuple(pacs.studies), answers_lost=True)


# ---------------------------------------------------------------------- quietly


async def is_idle(pid: int) -> None:
    """It waits, and does nothing else; what it was about to do may take it a moment."""
    shares = []
    for _ in range(3):
        before = cpu_s(pid)
        await asyncio.sleep(IDLE_S)
        shares.append((cpu_s(pid) - before) / IDLE_S)
        if shares[-1] <= IDLE_SHARE:
            return
    raise AssertionError(f"CPU second by second: {shares}")


async def test_GD4_listener_does_nothing_while_peers_that_misbehave_are_silent(tmp_path: Path) -> None:
    async with listen_program(tmp_path / "stored") as program, AsyncExitStack() as stack:
        event = await program.event("listen.started")
        where = event["host"], event["port"]

        async def connected(*bytes_sent: bytes) -> ScriptedRequestor:
            peer = await stack.enter_async_context(ScriptedRequestor(*where))
            await peer.send(*bytes_sent)
            return peer

        for number, does in enumerate(VISITS):
            async with ScriptedRequestor(*where) as peer:
                await does(peer, number)
        request = raw.associate_rq()
        await connected()
        await connected(request[:-1])
        await connected(request)
        await connected(request, half_object())
        await connected(request, half_object()[:-1])
        await connected(request, half_object(), raw.abort())
        await connected(request, raw.p_data(raw.pdv(1, 3, b"rubbish")))
        await connected(b"GET / HTTP/1.1\r\n\r\n")
        (await connected(request, half_object())).half_close()
        await connected(request, raw.message(3, raw.c_echo_rq()) * 100)
        async with ScriptedRequestor(*where) as peer:
            await peer.associate()
            await peer.echo()
            await is_idle(program.process.pid)


SPEC: Final = Spec(studies=3, series=1, instances=5, size=20_000)


@pytest.mark.parametrize("limit_bytes", [50_000, 100], ids=["in an object", "before there is an association"])
async def test_GD4_retrieve_does_nothing_while_nothing_comes(tmp_path: Path, limit_bytes: int) -> None:
    async with embedded_pacs(SPEC, limits=LIMITS.replace(stop_s=0.2)) as pacs:
        with reserved_port() as port:
            retrieving = Retrieving(pacs, tmp_path / "stored", port)
            async with retrieving.running(limit_bytes) as (program, proxy):
                async with asyncio.timeout(EXIT_S):
                    await proxy.limit_reached.wait()
                await is_idle(program.process.pid)
                assert program.process.returncode is None
