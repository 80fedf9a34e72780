"""A disk that takes its time keeps waiting who waits for it, and nobody else (catalogue F18, G-B5)."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Final

import pytest

from fastmove._sink import FileSink
from fastmove.limits import DISK_THREADS
from fastmove.storage.target import Received, StorageTarget, Stored
from tests.integration import raw
from tests.integration.listener import Listener
from tests.integration.scripted import ScriptedRequestor

pytestmark = pytest.mark.parametrize("durable", [True])

MORE_THAN_ANY_BUFFER: Final = 64 << 20


class Gate:
    """os.fsync that waits until it is let through; `calls` counts those that have been begun."""

    def __init__(self) -> None:
        self.calls = 0
        self.open = threading.Event()
        self.error: OSError | None = None
        self._sync = os.fsync

    def __call__(self, fd: int) -> None:
        self.calls += 1
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        self._sync(fd)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate()
    monkeypatch.setattr(os, "fsync", made)
    yield made
    made.open.set()


async def send(peer: ScriptedRequestor, number: int) -> None:
    uid = f"1.2.3.{number}"
    await peer.send(raw.message(1, raw.c_store_rq(uid, 2), raw.dataset(uid)))


async def associated(listener: Listener, stack: AsyncExitStack, count: int) -> list[ScriptedRequestor]:
    peers = [await stack.enter_async_context(listener.connect()) for _ in range(count)]
    for peer in peers:
        await peer.associate(raw.associate_rq())
    return peers


async def echoes(listener: Listener) -> None:
    async with listener.connect() as other:
        await other.associate(raw.associate_rq(contexts=[raw.context_rq(3, raw.VERIFICATION)]))
        await other.echo()
        await other.release()


async def is_accepted(listener: Listener) -> bool:
    async with listener.connect() as peer:
        await peer.send(raw.associate_rq())
        return await peer.next_type() == raw.ASSOCIATE_AC


async def begun(listener: Listener, gate: Gate) -> None:
    """The disk is at it; others are answered meanwhile."""
    while not gate.calls:
        await echoes(listener)


async def test_F18_others_are_served_while_a_sync_takes_its_time(listener: Listener, gate: Gate) -> None:
    async with AsyncExitStack() as stack:
        (peer,) = await associated(listener, stack, 1)
        await send(peer, 1)
        await begun(listener, gate)
        await echoes(listener)
        gate.open.set()
        await peer.expect_status(0, 2)


async def test_names_of_all_that_wait_become_durable_by_one_sync_of_the_folder(listener: Listener, gate: Gate) -> None:
    async with AsyncExitStack() as stack:
        first, *others = await associated(listener, stack, 9)
        await send(first, 0)
        await begun(listener, gate)
        for number, peer in enumerate(others, 1):
            await send(peer, number)
        while len(listener.stored()) < 9:  # they have their names, and wait
            await echoes(listener)
        gate.open.set()
        for peer in (first, *others):
            await peer.expect_status(0, 2)
        assert gate.calls == 2
    assert len(listener.stored()) == 9


async def test_F04_objects_whose_folder_cannot_be_synced_are_refused_and_taken_away(
    listener: Listener, gate: Gate
) -> None:
    gate.error = OSError(5, "Input/output error")
    gate.open.set()
    async with AsyncExitStack() as stack:
        (peer,) = await associated(listener, stack, 1)
        await send(peer, 1)
        await peer.expect_status(0xA700, 2)
        assert listener.stored() == []
    refused = await listener.event("fs.dirsync")
    assert refused["status"] == 0xA700
    async with listener.connect() as other:  # nobody is let in before the disk syncs again
        await other.send(raw.associate_rq())
        await other.expect_reject(2, 3, 1)
    gate.error = None
    async with asyncio.timeout(10):
        while not await is_accepted(listener):
            pass


async def test_association_that_ends_while_the_disk_is_busy_is_forgotten(listener: Listener, gate: Gate) -> None:
    """Its object has its name by then, and stays: nobody was told that it is there."""
    async with AsyncExitStack() as stack:
        (peer,) = await associated(listener, stack, 1)
        await send(peer, 1)
        await begun(listener, gate)
        peer.reset()
        await echoes(listener)
        gate.open.set()
    assert len(listener.stored()) == 1


async def test_R06_more_objects_than_threads_wait_for_the_disk_and_nobody_else_does(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    most_at_once = at_once = 0
    counting, open_again = threading.Lock(), threading.Event()
    commit = StorageTarget.commit

    def slowly(self: StorageTarget, sink: FileSink, name: bytes, received: Received) -> Stored:
        nonlocal at_once, most_at_once
        with counting:
            at_once += 1
            most_at_once = max(at_once, most_at_once)
        assert open_again.wait(10)
        try:
            return commit(self, sink, name, received)
        finally:
            with counting:
                at_once -= 1

    monkeypatch.setattr(StorageTarget, "commit", slowly)
    async with AsyncExitStack() as stack:
        peers = await associated(listener, stack, DISK_THREADS + 8)
        for number, peer in enumerate(peers):
            await send(peer, number)
        while at_once < DISK_THREADS:
            await echoes(listener)
        # Whoever has an object that waits is read no further than what the kernel and one window hold.
        endless = asyncio.create_task(peers[0].send(bytes(MORE_THAN_ANY_BUFFER)))
        await echoes(listener)
        with pytest.raises(TimeoutError):
            await endless
        await echoes(listener)
        assert "under way for" in (await listener.event("fs.slow"))["detail"]
        open_again.set()
        for peer in peers[1:]:
            await peer.expect_status(0, 2)
    assert most_at_once == DISK_THREADS
    assert len(listener.stored()) == len(peers)
