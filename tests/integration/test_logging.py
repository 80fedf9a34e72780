"""The log of a running command: signals, places that take nothing, floods."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

import pytest

from tests.integration import raw
from tests.integration.peers import HOST
from tests.integration.programs import Program, listen_program
from tests.integration.quiet_listener import listening_quietly
from tests.integration.retrieving import until
from tests.integration.scripted import ScriptedRequestor

UID: Final = "1.2.826.0.1.3680043.10.9999.700"
STRANGER: Final = raw.associate_rq(called="NOBODY", calling="STRANGER")


async def refused(port: int) -> None:
    """One more stranger."""
    async with ScriptedRequestor(HOST, port) as peer:
        await peer.send(STRANGER)
        await peer.expect_reject(1, 1, 7)


async def stores(port: int) -> None:
    """An object is stored."""
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.associate()
        assert (await peer.store(UID, raw.dataset(UID))).status == 0
        await peer.release()


def lines(path: Path, event: str) -> list[str]:
    """Those of an event."""
    return [line for line in path.read_text().splitlines() if f"event={event} " in line] if path.exists() else []


async def test_L05_flood_of_strangers_is_ten_lines_and_a_sum(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with listen_program(tmp_path / "stored", "--log-file", str(log)) as program:
        port = (await program.event("listen.started"))["port"]
        for _ in range(50):
            await refused(port)
        await program.event("rq.called_ae", 50)
        assert await program.stopped() == 0
    told = lines(log, "rq.called_ae")
    assert len(told) == 11
    assert told[0].endswith("detail=\"called 'NOBODY' calling 'STRANGER'\"")
    assert 'aet="STRANGER"' in told[0]
    assert told[-1].endswith("peer=127.0.0.1 repeated=40")


async def test_R10_listener_whose_standard_error_nobody_reads_goes_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        os.write(writing, bytes(1 << 20))  # as much as fits
        os.set_blocking(writing, True)
        async with listening_quietly(tmp_path / "stored", err=writing) as port:
            for _ in range(3):
                await refused(port)
            await stores(port)
    finally:
        os.close(reading)
        os.close(writing)


@pytest.mark.parametrize("place", ["/dev/full", "deleted"])
async def test_R10_listener_whose_log_cannot_be_written_goes_on(tmp_path: Path, place: str) -> None:
    log = Path(place) if place.startswith("/") else tmp_path / "log"
    options = ("--log-file", str(log), "--log-level", "debug")
    async with listen_program(tmp_path / "stored", *options) as program:
        port = (await program.event("listen.started"))["port"]
        if place == "deleted":
            await until(lambda: lines(log, "listen.started"))
            log.unlink()
        await stores(port)
        assert await program.stopped() == 0


async def test_T25_listener_whose_reader_has_gone_goes_on(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        async with listening_quietly(tmp_path / "stored", "--json", out=writing, err=writing) as port:
            await stores(port)
    finally:
        os.close(writing)


@pytest.mark.parametrize("processes", [1, 2])
async def test_T25_hangup_begins_the_log_file_anew_and_the_listener_goes_on(tmp_path: Path, processes: int) -> None:
    log, old = tmp_path / "log", tmp_path / "log.1"
    options = ("--log-file", str(log), "--log-level", "info", "--processes", str(processes))
    async with listen_program(tmp_path / "stored", *options) as program:
        port = (await program.event("listen.started", processes))["port"]
        await until(lambda: len(lines(log, "listen.started")) == processes)
        log.rename(old)
        program.signal(signal.SIGHUP)
        await program.event("signal.received", processes)
        await stores(port)
        await until(lambda: lines(log, "assoc.closed"))
        assert await program.stopped() == 0
    assert len(lines(log, "listen.stopped")) == processes
    assert not lines(old, "assoc.closed")


async def test_T25_interrupt_stops_the_listener_as_termination_does(tmp_path: Path) -> None:
    async with listen_program(tmp_path / "stored") as program:
        await program.event("listen.started")
        program.signal(signal.SIGINT)
        assert await program.ended() == 0
        assert program.seen("listen.stopped")


async def test_debug_has_a_line_for_each_object_with_hashes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("--log-file", str(log), "--log-level", "debug", "--no-durable")
    async with listen_program(tmp_path / "stored", *options) as program:
        await stores((await program.event("listen.started"))["port"])
        assert await program.stopped() == 0
    (line,) = lines(log, "store.stored")
    assert " sop=#" in line
    assert UID not in log.read_text()


async def test_uids_are_in_the_log_if_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "log"
    options = ("--log-file", str(log), "--log-level", "debug", "--log-uids")
    async with listen_program(tmp_path / "stored", *options) as program:
        await stores((await program.event("listen.started"))["port"])
        assert await program.stopped() == 0
    (line,) = lines(log, "store.stored")
    assert f'sop="{UID}"' in line


async def test_log_that_cannot_be_made_is_told_before_anything_is_done(tmp_path: Path) -> None:
    arguments = ("listen", "--port", "0", "--to", tmp_path / "stored", "--log-file", tmp_path / "no" / "log")
    async with Program(*arguments) as program:
        assert await program.ended() == 1
    assert "cannot write" in program.errors
    assert not (tmp_path / "stored").exists()
