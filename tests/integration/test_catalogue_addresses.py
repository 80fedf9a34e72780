"""Catalogue of faults, T22 and T23, R02 and F07: ports that are taken, addresses of both families, few descriptors."""

from __future__ import annotations

import asyncio
import itertools
import resource
import socket
from contextlib import AsyncExitStack, closing
from pathlib import Path

import pytest

from tests.integration import raw
from tests.integration.conftest import LIMITS, goes_on_serving
from tests.integration.listener import KEPT, NEXT, listening
from tests.integration.programs import fastmove, listen_program
from tests.integration.scripted import ScriptedRequestor

VERBS = {
    "listen": ("listen", "--host", "127.0.0.1"),
    "retrieve": ("retrieve", "NOBODY@127.0.0.1:1", "--host", "127.0.0.1", "--study", "1.2.3"),
}


@pytest.mark.parametrize("verb", VERBS)
async def test_T22_port_in_use_is_told_with_its_exit_code(tmp_path: Path, verb: str) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        ended = await fastmove(*VERBS[verb], "--port", str(port), "--to", tmp_path / "stored", "--json")
    assert ended.code == 60
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.err
    assert [line["event"] for line in ended.lines] == ["listen.failed"]


async def test_T22_port_whose_last_connections_linger_can_be_had_at_once(tmp_path: Path) -> None:
    async with listening(tmp_path, LIMITS) as (listener, _), listener.connect() as peer:
        await peer.associate()
        await peer.send(raw.release_rp())  # it is we who close, and have the TIME_WAIT
        await peer.expect_abort(2, 2)
        await peer.expect_closed()
    for _ in range(2):
        program = listen_program(tmp_path / "again")
        program.arguments[program.arguments.index("--port") + 1] = str(listener.port)
        async with program:
            assert (await program.event("listen.started"))["port"] == listener.port
            assert await program.stopped() == 0


@pytest.mark.parametrize(
    ("host", "by", "refused"),
    [("::1", "::1", "127.0.0.1"), ("127.0.0.1", "127.0.0.1", "::1"), ("", "::1", ""), ("", "127.0.0.1", "")],
    ids=["IPv6 alone", "IPv4 alone", "both, by IPv6", "both, by IPv4"],
)
async def test_T23_listener_takes_the_families_that_it_is_told_to(
    tmp_path: Path, host: str, by: str, refused: str
) -> None:
    async with listening(tmp_path, LIMITS, host=host) as (listener, acceptor):
        listener.host = by
        async with listener.associated() as peer:
            (connection,) = acceptor.connections
            assert connection.host == by, "an IPv4 address is told as one, whatever the socket is"
            await peer.release()
        listener.holds(KEPT)
        if refused:
            with pytest.raises(ConnectionRefusedError):
                async with ScriptedRequestor(refused, listener.port):
                    pass
        await goes_on_serving(listener)


async def test_T23_retrieve_and_echo_go_by_ipv6(tmp_path: Path) -> None:
    async with listening(tmp_path, LIMITS, host="::1") as (listener, _):
        ended = await fastmove("echo", f"FASTMOVE@[::1]:{listener.port}")
        assert ended.code == 0, ended.err


async def test_R02_few_descriptors_are_fewer_associations_and_a_warning(tmp_path: Path) -> None:
    program = listen_program(tmp_path, "--no-durable")
    program.arguments[:0] = ["prlimit", "--nofile=32:64"]
    async with program, AsyncExitStack() as stack:
        port = (await program.event("listen.started"))["port"]
        assert program.seen("limit.nofile")[0]["detail"] == (
            "64 file descriptors, 1176 are needed: at most 5 associations at once"
        )
        peers = []
        for _ in range(5):
            peers.append(await stack.enter_async_context(ScriptedRequestor("127.0.0.1", port, 5.0)))
            await peers[-1].associate()
        async with ScriptedRequestor("127.0.0.1", port, 5.0) as one_more:
            await one_more.send(raw.associate_rq())
            await one_more.expect_reject(2, 3, 2)
        strangers = [await stack.enter_async_context(ScriptedRequestor("127.0.0.1", port, 5.0)) for _ in range(40)]
        assert strangers
        uids = [f"1.2.3.{number}" for number in range(5)]
        await asyncio.gather(*(peer.store(uid, raw.dataset(uid)) for peer, uid in zip(peers, uids, strict=True)))
        for peer in peers:
            await peer.release()
        assert not program.seen("listen.accept_failed")
        assert await program.stopped() == 0
    assert sorted(path.stem for path in tmp_path.glob("*.dcm")) == uids


async def test_F07_no_association_comes_in_while_there_are_no_descriptors_for_its_files(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--no-durable") as program:
        port = (await program.event("listen.started"))["port"]

        def connect() -> ScriptedRequestor:
            return ScriptedRequestor("127.0.0.1", port, 5.0)

        async with connect() as standing:
            await standing.associate()
            used = {int(path.name) for path in Path(f"/proc/{program.process.pid}/fd").iterdir()}
            free = (number for number in itertools.count() if number not in used)
            for_a_socket, for_a_file, none = (next(free) for _ in range(3))
            before = resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE)
            resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, (none, before[1]))
            async with connect() as peer:
                await peer.send(raw.associate_rq())
                await peer.expect_reject(2, 3, 1)
            assert (await program.event("limit.nofile"))["detail"].startswith("Too many open files")
            await standing.store(KEPT, raw.dataset(KEPT))
            resource.prlimit(program.process.pid, resource.RLIMIT_NOFILE, before)
            async with connect() as peer:
                await peer.associate()
                await peer.store(NEXT, raw.dataset(NEXT), 2)
                await peer.release()
            await standing.release()
        assert for_a_socket < for_a_file < none
        assert await program.stopped() == 0
    assert sorted(path.stem for path in tmp_path.glob("*.dcm")) == sorted((KEPT, NEXT))
