"""`fastmove listen --processes 2`: connections spread over the workers, one end for all."""

from __future__ import annotations

import asyncio
import copy
import os
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor, serve
from fastmove.net.sockets import bound_socket
from fastmove.net.workers import Share
from fastmove.notices import Notice, PeerMisbehaved
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import raw
from tests.integration.programs import Program, fastmove, listen_program, refuses_connections
from tests.integration.scripted import ScriptedRequestor

WORKERS: Final = 2
ESTABLISHED: Final = "01"


async def started(program: Program) -> int:
    """The port, once all workers listen."""
    port: int = (await program.event("listen.started", WORKERS))["port"]
    assert len(program.children()) == WORKERS
    return port


def connections(pid: int, port: int) -> int:
    """How many established connections of this port the process holds."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {row[9] for row in rows if row[3] == ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port}
    links = [str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return sum(f"socket:[{inode}]" in links for inode in inodes)


async def associated(stack: AsyncExitStack, port: int, count: int) -> list[ScriptedRequestor]:
    """So many associations, all open at once."""
    opened = []
    for _ in range(count):
        requestor = await stack.enter_async_context(ScriptedRequestor("127.0.0.1", port, deadline=5.0))
        await requestor.associate()
        opened.append(requestor)
    return opened


STARTING: Final = """
import asyncio, os, signal
from fastmove.net.workers import run_workers

async def main(share):
    stop = asyncio.Event()
    os.write(1, b"starts\\n")
    os.read(0, 1)  # until the test says so
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    share.heed_signals()
    await stop.wait()
    os.write(1, b"stopped\\n")
    return 0

raise SystemExit(run_workers("127.0.0.1", 0, 2, main))
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_worker_that_is_stopped_while_it_starts_stops_in_order_and_is_no_failure(number: signal.Signals) -> None:
    pipe = asyncio.subprocess.PIPE
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", STARTING, stdin=pipe, stdout=pipe)
    assert parent.stdin is not None
    assert parent.stdout is not None
    async with asyncio.timeout(10.0):
        for _ in range(WORKERS):
            assert await parent.stdout.readline() == b"starts\n"
        parent.send_signal(number)
        parent.stdin.write(b"!" * WORKERS)
        parent.stdin.close()
        assert await parent.stdout.read() == b"stopped\n" * WORKERS
        assert await parent.wait() == 0


async def test_four_associations_are_spread_evenly_and_nothing_is_lost(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS), "--no-durable") as program:
        port = await started(program)
        async with AsyncExitStack() as stack:
            requestors = await associated(stack, port, 4)
            async with asyncio.timeout(10):  # that by which it was seen to listen may not be gone yet
                while [connections(pid, port) for pid in program.children()] != [2, 2]:
                    await asyncio.sleep(0.02)
            for number, requestor in enumerate(requestors):
                for message_id in range(1, 11):
                    uid = f"1.2.3.{number}.{message_id}"
                    await requestor.store(uid, raw.dataset(uid), message_id)
            for requestor in requestors:
                await requestor.release()
        assert await program.stopped() == 0
        assert sum(event["objects"] for event in program.seen("listen.stopped")) == 40
        assert len(program.seen("store.stored")) == 40
    expected = {f"1.2.3.{number}.{message_id}.dcm" for number in range(4) for message_id in range(1, 11)}
    assert {path.name for path in tmp_path.iterdir()} == expected


async def test_worker_that_becomes_free_gets_the_next_association(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS)) as program:
        port = await started(program)
        async with AsyncExitStack() as stack:
            requestors = await associated(stack, port, 4)
            await program.event("assoc.opened", 4)
            events = program.seen("assoc.opened")
            assert sorted(event["association"] for event in events) == [1, 1, 2, 2], "each worker counts its own"
            for requestor in requestors[::2]:
                await requestor.release()
            await program.event("assoc.closed", 2)
            await associated(stack, port, 2)
            assert [connections(pid, port) for pid in program.children()] == [2, 2]
        assert await program.stopped() == 0


async def test_signal_to_the_parent_stops_all_workers(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS)) as program:
        port = await started(program)
        workers = program.children()
        program.signal(signal.SIGINT)
        assert await program.ended() == 0
        await refuses_connections("127.0.0.1", port)
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
        assert len(program.seen("listen.stopped")) == WORKERS


async def test_killed_worker_ends_the_others_with_status_1(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS)) as program:
        port = await started(program)
        async with ScriptedRequestor("127.0.0.1", port) as requestor:
            await requestor.associate()
            await requestor.store("1.2.3.1", raw.dataset("1.2.3.1"))
            await requestor.release()
        workers = program.children()
        os.kill(workers[0], signal.SIGKILL)
        assert await program.ended() == 1
        await refuses_connections("127.0.0.1", port)
        assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]
    assert [path.name for path in tmp_path.iterdir()] == ["1.2.3.1.dcm"]


async def test_workers_do_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS)) as program:
        port = await started(program)
        program.signal(signal.SIGKILL)
        assert await program.ended() == -signal.SIGKILL
        await refuses_connections("127.0.0.1", port)
        assert len(program.seen("listen.stopped")) == WORKERS


# ---------------------------------------------------------------------- a port that is taken


@pytest.mark.parametrize("processes", [1, WORKERS])
async def test_second_listener_does_not_share_the_port_of_the_first(tmp_path: Path, processes: int) -> None:
    async with listen_program(tmp_path / "first", "--processes", str(WORKERS)) as first:
        port = await started(first)
        there = ("--host", "127.0.0.1", "--port", str(port), "--to", tmp_path / "second")
        second = await fastmove("listen", "--processes", str(processes), *there)
        assert second.code == 60
        assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in second.err
        async with AsyncExitStack() as stack:
            for requestor in await associated(stack, port, 4):
                await requestor.release()
        assert await first.stopped() == 0
        assert len(first.seen("assoc.opened")) == 4


# ---------------------------------------------------------------------- no descriptors left


def limit_descriptors(pid: int, limit: int) -> int:
    """Let a process open no descriptor of this number or above; the limit before."""
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
    return soft


async def test_workers_without_descriptors_accept_again_once_they_have_some(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS)) as program:
        port = await started(program)
        async with AsyncExitStack() as stack:
            (before,) = await associated(stack, port, 1)
            limits = {pid: limit_descriptors(pid, 0) for pid in program.children()}
            waiting = await stack.enter_async_context(ScriptedRequestor("127.0.0.1", port, deadline=5.0))
            await waiting.send(raw.associate_rq())
            failed = await program.event("listen.accept_failed")
            assert "Too many open files" in failed["detail"]
            await before.echo()
            for pid, limit in limits.items():
                limit_descriptors(pid, limit)
            await waiting.expect_accept()
            assert len(program.seen("listen.accept_failed")) < 10, "it tries again after a second, not at once"
            await associated(stack, port, 2)
            async with asyncio.timeout(10):  # one that has ended may not be gone yet
                while [connections(pid, port) for pid in program.children()] != [2, 2]:
                    await asyncio.sleep(0.02)
        assert await program.stopped() == 0


@contextmanager
def no_more_descriptors() -> Iterator[None]:
    """Nothing can be opened."""
    limit = limit_descriptors(os.getpid(), 0)
    try:
        yield
    finally:
        limit_descriptors(os.getpid(), limit)


@asynccontextmanager
async def first_of_two(notices: list[Notice]) -> AsyncIterator[tuple[Acceptor, Share]]:
    """The first of two workers in the loop of the test, and the other one's part."""
    with closing(Share(WORKERS, bound_socket("127.0.0.1", 0, reuse_port=True))) as share:
        other = copy.copy(share)
        other.index = 1
        other.count(1000)
        policy, limits = AcceptPolicy("FASTMOVE"), Limits(artim_s=0.3, stop_s=1.0)
        acceptor = await serve("127.0.0.1", 0, policy, lambda _: {}, limits, notices.append, share)
        try:
            yield acceptor, other
        finally:
            async with asyncio.timeout(5.0):
                await acceptor.stop()


def give(share: Share) -> socket.socket:
    """Hand a connection on; its other end."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        peer = socket.create_connection(listening.getsockname())
        assert share.hand_on(listening.accept()[0])
        return peer


async def test_worker_that_had_no_descriptor_for_a_connection_takes_over_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("fastmove.net.acceptor.RESOURCES_RETRY_S", 0.01)
    notices: list[Notice] = []
    async with first_of_two(notices) as (acceptor, other), asyncio.timeout(5.0):
        with give(other) as lost:
            with no_more_descriptors():
                while not notices:
                    await asyncio.sleep(0)
            assert isinstance(notices[0], PeerMisbehaved)
            assert notices[0].event == "listen.accept_failed"
            lost.settimeout(1.0)
            assert lost.recv(1) == b"", "nobody has it any more"
        with give(other):
            while not acceptor.connections:
                await asyncio.sleep(0)
    events = [notice.event for notice in notices if isinstance(notice, PeerMisbehaved)]
    assert events == ["listen.accept_failed", "conn.closed_early"]


async def test_worker_that_stops_while_it_takes_a_connection_over_leaves_none() -> None:
    async with first_of_two([]) as (acceptor, other):
        with give(other):
            async with asyncio.timeout(5.0):
                while not acceptor.connections:
                    await asyncio.sleep(0)
                await acceptor.stop()
            assert not acceptor.connections
