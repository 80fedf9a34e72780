"""Catalogue of faults, T18 and T19: a loop that does not run is told of, and no peer is blamed for it."""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.limits import Limits
from fastmove.net import lag
from fastmove.net.lag import lag_told
from fastmove.notices import HostStrained, Notice
from tests.compat.harness import reserved_port
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw
from tests.integration.conftest import LIMITS
from tests.integration.embedded import embedded_pacs
from tests.integration.honesty import Retrieved, retrieve_program
from tests.integration.listener import KEPT, LOST, half_object, listening
from tests.integration.programs import Program, listen_program
from tests.integration.scripted import ScriptedRequestor

REST: Final = raw.p_data(raw.pdv(1, raw.LAST, raw.dataset(LOST)[200:]))
STOPPED_S: Final = 1.5


def block(seconds: float) -> None:
    """What must not be done in a loop."""
    time.sleep(seconds)


def lags(notices: list[Notice]) -> list[str]:
    return [notice.detail for notice in notices if isinstance(notice, HostStrained) and notice.event == "loop.lag"]


@pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)
async def test_T19_blocked_loop_is_told_of_at_once_and_what_follows_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "LOOK_S", 0.01)
    told: list[Notice] = []
    with lag_told(Limits(lag_s=0.2), told.append):
        for _ in range(4):
            block(0.5)
            await asyncio.sleep(0.1)  # some looks
            assert len(lags(told)) == 1
    (first, rest) = lags(told)
    assert 0.4 <= float(first.removesuffix(" s")) < 2
    assert rest.startswith("3 times, at most ")


@pytest.mark.parametrize("blocked_s", [0.0, 0.1])
async def test_T19_loop_that_runs_is_not_told_of(monkeypatch: pytest.MonkeyPatch, blocked_s: float) -> None:
    monkeypatch.setattr(lag, "LOOK_S", 0.01)
    told: list[Notice] = []
    with lag_told(Limits(lag_s=2.0), told.append):
        for _ in range(5):
            block(blocked_s)
            await asyncio.sleep(0.02)
    assert told == []


@pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)
async def test_T19_peers_are_not_blamed_for_a_blocked_loop(tmp_path: Path) -> None:
    limits = LIMITS.replace(message_s=0.4, idle_s=0.4, rate_s=0.4, lag_s=0.5)
    async with listening(tmp_path, limits) as (listener, _):
        async with listener.associated() as idle, listener.connect() as peer:
            await peer.associate()
            await peer.send(half_object())
            block(1.5)
            await peer.send(REST)
            await peer.expect_status(0, 2)
            await idle.echo(2)
            for each in (peer, idle):
                await each.release()
        await listener.event("loop.lag")
        listener.holds(KEPT, LOST)


def stop_for(program: Program, seconds: float) -> None:
    """SIGSTOP, and SIGCONT after a while."""
    program.signal(signal.SIGSTOP)
    asyncio.get_running_loop().call_later(seconds, program.signal, signal.SIGCONT)


async def test_T18_stopped_listener_goes_on_and_loses_nothing(tmp_path: Path) -> None:
    limits = [f"--limit={name}={STOPPED_S / 3}" for name in ("message_s", "idle_s", "rate_s", "lag_s")]
    async with listen_program(tmp_path, "--no-durable", *limits) as program:
        port = (await program.event("listen.started"))["port"]
        async with ScriptedRequestor("127.0.0.1", port, 10.0) as peer:
            await peer.associate()
            await peer.send(half_object())
            stop_for(program, STOPPED_S)
            await program.event("loop.lag")
            await peer.send(REST)
            await peer.expect_status(0, 2)
            await peer.release()
        assert await program.stopped() == 0
    assert [path.stem for path in tmp_path.glob("*.dcm")] == [LOST]


async def test_T18_stopped_retrieve_says_nothing_that_is_not_so(tmp_path: Path) -> None:
    spec = Spec(studies=2, series=1, instances=20, size=2_000)
    limits = [f"--limit={name}={STOPPED_S / 3}" for name in ("response_s", "progress_s", "drain_s", "lag_s")]
    async with embedded_pacs(spec, faults=("delay=0.02",)) as pacs:
        with reserved_port() as port:
            pacs.going_to("FASTMOVE", port)
            async with retrieve_program(pacs, tmp_path / "stored", port, "--rounds", "0", *limits) as program:
                await program.event("store.stored")
                stop_for(program, STOPPED_S)
                await program.event("loop.lag")
                came = Retrieved(await program.ended(), program.events, tmp_path / "stored", program.errors)
        came.is_true(pacs, tuple(pacs.studies), answers_lost=True)
