"""SIGTERM in the middle of objects, once and twice, to the listener and to a retrieve (catalogue T24, goal G-D5)."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.embedded import LIMITS, embedded_pacs
from tests.integration.listener import KEPT, LOST, half_object
from tests.integration.programs import EXIT_S, Program, listen_program, refuses_connections
from tests.integration.retrieving import Retrieving
from tests.integration.scripted import ScriptedRequestor

REST: Final = raw.p_data(raw.pdv(1, raw.LAST, raw.dataset(LOST)[200:]))
SOON_S: Final = 1.0


def stored(directory: Path) -> dict[str, bytes]:
    """The data sets by SOP Instance UID; nothing else may be there."""
    return {path.stem: raw.part10_dataset(path.read_bytes()) for path in directory.iterdir() if path.suffix == ".dcm"}


async def started(program: Program) -> tuple[str, int]:
    """Where it listens."""
    event = await program.event("listen.started")
    return event["host"], event["port"]


async def until_read(where: tuple[str, int]) -> None:
    """What others have sent before has been read when a C-ECHO is answered."""
    async with ScriptedRequestor(*where) as peer:
        await peer.associate()
        await peer.echo()
        await peer.release()


async def test_T24_listener_that_is_stopped_takes_the_object_in_flight_to_its_end_and_no_other(tmp_path: Path) -> None:
    async with listen_program(tmp_path / "stored", "--processes", "1") as program:
        where = await started(program)
        async with ScriptedRequestor(*where) as busy, ScriptedRequestor(*where) as idle:
            for peer in (busy, idle):
                await peer.associate()
            await idle.store(KEPT, raw.dataset(KEPT))
            await busy.send(half_object())
            await idle.echo()  # what came before it has been read
            program.signal(signal.SIGTERM)
            await idle.expect_abort(0, 0)
            await refuses_connections(*where)
            assert program.process.returncode is None
            await busy.send(REST)
            await busy.expect_status(0, 2)
            await busy.expect_abort(0, 0)
        assert await program.ended() == 0
    held = {uid: raw.dataset(uid) for uid in (KEPT, LOST)}
    assert stored(tmp_path / "stored") == held
    assert [event["signal"] for event in program.seen("signal.received")] == ["SIGTERM"]


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_T24_second_signal_aborts_the_object_in_flight(tmp_path: Path, processes: str) -> None:
    async with listen_program(tmp_path / "stored", "--processes", processes) as program:
        where = await started(program)
        async with ScriptedRequestor(*where) as busy:
            await busy.associate()
            await busy.store(KEPT, raw.dataset(KEPT))
            await busy.send(raw.message(3, raw.c_echo_rq(3)), half_object())
            await busy.expect_status(0, 3)  # what came with it has been read
            program.signal(signal.SIGTERM)
            await program.event("signal.received", int(processes))
            with pytest.raises(TimeoutError):
                await busy.read_pdu(0.2)
            program.signal(signal.SIGTERM)
            await busy.expect_abort(0, 0)
            async with asyncio.timeout(SOON_S):
                await program.process.wait()
        assert await program.ended() == 0
    assert stored(tmp_path / "stored") == {KEPT: raw.dataset(KEPT)}
    assert not list((tmp_path / "stored").glob(".fm-*.part"))


async def test_T24_object_that_does_not_come_to_its_end_is_not_waited_for_longer_than_stop_s(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    async with listen_program(tmp_path / "stored", "--limit", "stop_s=0.5") as program:
        where = await started(program)
        async with ScriptedRequestor(*where, deadline=0.5 + SOON_S) as busy:
            await busy.associate()
            await busy.send(half_object())
            await until_read(where)
            program.signal(signal.SIGTERM)
            began = loop.time()
            await busy.expect_abort(0, 0)
            assert 0.4 < loop.time() - began < 0.5 + SOON_S
        assert await program.ended() == 0
    assert not stored(tmp_path / "stored")


SPEC: Final = Spec(studies=1, series=1, instances=20, size=20_000)
IN_THE_FOURTH: Final = 70_000
"""Bytes of the storage association, some of which are of the fourth object."""


async def test_T24_retrieve_that_is_stopped_ends_with_whole_objects_and_says_so(tmp_path: Path) -> None:
    async with embedded_pacs(SPEC, faults=("delay=0.02",)) as pacs:
        with reserved_port() as port:
            retrieving = Retrieving(pacs, tmp_path / "stored", port, "--parallel", "1")
            async with retrieving.running() as (program, _):
                await program.event("store.stored", 3)
                program.signal(signal.SIGTERM)
                assert await program.ended() == 72
                assert program.seen("move.cancel_sent")
        assert 3 <= len(retrieving.whole()) < 20
        assert retrieving.whole().keys() == pacs.sent.keys()


async def test_T24_second_signal_aborts_a_retrieve_in_the_middle_of_an_object(tmp_path: Path) -> None:
    async with embedded_pacs(SPEC, limits=LIMITS.replace(stop_s=0.2)) as pacs:
        with reserved_port() as port:
            retrieving = Retrieving(pacs, tmp_path / "stored", port, "--parallel", "1")
            async with retrieving.running(IN_THE_FOURTH) as (program, proxy):
                async with asyncio.timeout(EXIT_S):
                    await proxy.limit_reached.wait()
                program.signal(signal.SIGTERM)
                await program.event("move.cancel_sent")
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(program.process.wait(), 0.3)
                program.signal(signal.SIGTERM)
                async with asyncio.timeout(SOON_S):
                    await program.process.wait()
                assert await program.ended() == 72
        assert len(retrieving.whole()) == 3
        assert not list((tmp_path / "stored").rglob(".fm-*.part"))
