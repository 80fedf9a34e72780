"""Answers to C-STORE-RQs that wait for somebody who is told of the object (`Withheld`)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.errors import StorageError
from fastmove.limits import Limits
from fastmove.notices import InstanceRefused, InstanceStored, Notice
from fastmove.services.listener import listen
from fastmove.services.withheld import Withheld
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

HOST: Final = "127.0.0.1"
LIMITS: Final = Limits(artim_s=0.3, idle_s=5.0, message_s=5.0, stop_s=1.0)
SILENCE_S: Final = 0.1
ERROR_COMMENT: Final = 0x00000902
REFUSAL: Final = StorageError("store.undelivered", 0xA700, "the destination has not taken it")

pytestmark = [
    pytest.mark.parametrize("loop_factory", LOOP_FACTORIES),
    pytest.mark.parametrize("durable", [True, False], ids=["durable", "at once"]),
]


class Withholding:
    """A listener that withholds each answer until `decide`."""

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[tuple[InstanceStored, Withheld]] = asyncio.Queue()
        self.notices: list[Notice] = []
        self.port = 0

    def stored(self, notice: InstanceStored) -> Withheld:
        withheld = Withheld()
        self.waiting.put_nowait((notice, withheld))
        return withheld

    async def told(self) -> tuple[InstanceStored, Withheld]:
        async with asyncio.timeout(2):
            return await self.waiting.get()


@asynccontextmanager
async def withholding(directory: Path, durable: bool, limits: Limits = LIMITS) -> AsyncIterator[Withholding]:
    made = Withholding()
    with StorageTarget(directory, WriteOptions(durable=durable)) as target:
        policy = AcceptPolicy("FASTMOVE")
        async with listen(HOST, 0, target, policy, limits, made.notices.append, made.stored) as acceptor:
            made.port = acceptor.port
            yield made


async def silent(peer: ScriptedRequestor) -> None:
    """Nothing comes for a while."""
    with pytest.raises(TimeoutError):
        await peer.next_type(SILENCE_S)


def request(number: int) -> bytes:
    uid = f"1.2.{number}"
    return raw.message(1, raw.c_store_rq(uid, number), raw.dataset(uid))


async def test_no_response_comes_before_it_is_decided(tmp_path: Path, durable: bool) -> None:
    async with withholding(tmp_path, durable) as made, ScriptedRequestor(HOST, made.port) as peer:
        await peer.associate()
        for number in (1, 2):
            await peer.send(request(number))
            notice, withheld = await made.told()
            assert notice.sop_instance_uid == f"1.2.{number}"
            await silent(peer)
            await asyncio.to_thread(withheld.set_result, None)
            await peer.expect_status(0, number)
        await peer.release()


async def test_failure_is_answered_with_its_status_and_told(tmp_path: Path, durable: bool) -> None:
    async with withholding(tmp_path, durable) as made, ScriptedRequestor(HOST, made.port) as peer:
        await peer.associate()
        for number, failure, status in ((1, REFUSAL, 0xA700), (2, RuntimeError("a bug"), 0x0110), (3, None, 0)):
            await peer.send(request(number))
            _, withheld = await made.told()
            if failure is None:
                withheld.set_result(None)
            else:
                withheld.set_exception(failure)
            reply = await peer.expect_status(status, number)
            assert (ERROR_COMMENT in reply.fields) is (failure is not None)
        await peer.release()
        refused = [notice for notice in made.notices if isinstance(notice, InstanceRefused)]
        assert [(each.sop_instance_uid, each.status, each.event) for each in refused] == [
            ("1.2.1", 0xA700, "store.undelivered"),
            ("1.2.2", 0x0110, "internal"),
        ]
        assert refused[0].path == str(tmp_path / "1.2.1.dcm")
        assert (tmp_path / "1.2.1.dcm").exists()  # it may be needed yet


async def test_requests_that_are_sent_meanwhile_wait_their_turn(tmp_path: Path, durable: bool) -> None:
    async with withholding(tmp_path, durable) as made, ScriptedRequestor(HOST, made.port) as peer:
        await peer.associate()
        await peer.send(b"".join(map(request, range(1, 6))))
        for number in range(1, 6):
            _, withheld = await made.told()
            await silent(peer)
            assert made.waiting.empty()
            withheld.set_result(None)
            await peer.expect_status(0, number)
        await peer.release()


async def test_other_associations_go_on_meanwhile(tmp_path: Path, durable: bool) -> None:
    async with (
        withholding(tmp_path, durable) as made,
        ScriptedRequestor(HOST, made.port) as peer,
        ScriptedRequestor(HOST, made.port) as other,
    ):
        await peer.associate()
        await other.associate()
        await peer.send(request(1))
        _, first = await made.told()
        await other.send(request(2))
        _, second = await made.told()
        second.set_result(None)
        await other.expect_status(0, 2)
        await other.release()
        await silent(peer)
        first.set_result(None)
        await peer.expect_status(0, 1)
        await peer.release()


async def test_peer_that_has_gone_meanwhile_costs_nothing(tmp_path: Path, durable: bool) -> None:
    async with withholding(tmp_path, durable) as made:
        for failure in (None, REFUSAL):
            async with ScriptedRequestor(HOST, made.port) as peer:
                await peer.associate()
                await peer.send(request(1))
                _, withheld = await made.told()
                peer.reset()
            await asyncio.sleep(SILENCE_S)
            if failure is None:
                withheld.set_result(None)
            else:
                withheld.set_exception(failure)
        async with ScriptedRequestor(HOST, made.port) as peer:
            await peer.associate()
            await peer.send(request(3))
            (await made.told())[1].set_result(None)
            await peer.expect_status(0, 3)
            await peer.release()


async def test_peer_that_has_to_wait_is_not_taken_for_an_idle_one(tmp_path: Path, durable: bool) -> None:
    limits = LIMITS.replace(idle_s=0.2, message_s=0.2)
    async with withholding(tmp_path, durable, limits) as made, ScriptedRequestor(HOST, made.port) as peer:
        await peer.associate()
        await peer.send(request(1))
        _, withheld = await made.told()
        with pytest.raises(TimeoutError):
            await peer.next_type(4 * limits.idle_s)
        withheld.set_result(None)
        await peer.expect_status(0, 1)
        await peer.release()
