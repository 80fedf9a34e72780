"""`fastmove listen --processes 2`: connections spread over the workers, one end for all."""

from __future__ import annotations

import os
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.integration import raw
from tests.integration.programs import Program, listen_program, refuses_connections
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


async def test_four_associations_are_spread_evenly_and_nothing_is_lost(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", str(WORKERS), "--no-durable") as program:
        port = await started(program)
        async with AsyncExitStack() as stack:
            requestors = await associated(stack, port, 4)
            assert [connections(pid, port) for pid in program.children()] == [2, 2]
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
