"""Catalogue of faults, T03, T04, T07, T08 and N03: peers that are silent, slow or unwilling, on either side."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.errors import AssociationAborted
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.notices import Notice, PeerMisbehaved
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import contexts_for, propose
from tests.integration import raw
from tests.integration.conftest import LIMITS, goes_on_serving
from tests.integration.listener import KEPT, LOST, NEXT, half_object, listening
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, Send

IMPATIENT: Final = LIMITS.replace(message_s=0.3)
FLOOR: Final = LIMITS.replace(rate_s=0.4, min_rate=200)
"""A trickle of 20 bytes a second is far below, one of some thousand far above, however busy the machine is."""

COMMAND: Final = raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(LOST, 2)))
BEGINNINGS: Final = {
    "in a PDU header": raw.release_rq()[:3],
    "in an A-RELEASE-RQ": raw.release_rq()[:8],
    "in a command set": COMMAND[:-10],
    "after a command set": COMMAND,
    "in an object": half_object(),
    "in a PDV": half_object() + raw.p_data(raw.pdv(1, 0, bytes(100)))[:50],
}
"""What a peer sends before it falls silent."""


# ---------------------------------------------------------------------- the listener


@pytest.mark.parametrize("beginning", BEGINNINGS.values(), ids=list(BEGINNINGS))
async def test_T03_peer_that_falls_silent_is_aborted_and_leaves_nothing(tmp_path: Path, beginning: bytes) -> None:
    async with listening(tmp_path, IMPATIENT) as (listener, _):
        async with listener.associated() as peer:
            await peer.send(beginning)
            await peer.expect_abort(0, 0)
            await peer.expect_closed()
        assert (await listener.event("conn.stalled"))["detail"] == "0 s"
        assert not listener.seen("assoc.idle")
        listener.holds(KEPT)
        await goes_on_serving(listener)


TRICKLES: Final = {
    "of an A-RELEASE-RQ": raw.release_rq(bytes(200)),
    "of a command set": COMMAND,
    "of an object": raw.p_data(raw.pdv(1, 0, raw.dataset(LOST))),
}


@pytest.mark.parametrize("trickling", TRICKLES)
async def test_T04_trickle_below_the_least_rate_is_aborted(tmp_path: Path, trickling: str) -> None:
    async with listening(tmp_path, FLOOR) as (listener, _):
        async with listener.associated() as peer:
            if trickling == "of an object":
                await peer.send(COMMAND)
            trickle = asyncio.create_task(peer.send_pieces(TRICKLES[trickling], pause_s=0.05))
            try:
                await peer.expect_abort(0, 0)
            finally:
                trickle.cancel()
                await asyncio.gather(trickle, return_exceptions=True)
            await peer.expect_closed()
        assert "bytes a second, at least 200" in (await listener.event("conn.too_slow"))["detail"]
        listener.holds(KEPT)
        await goes_on_serving(listener)


async def test_T04_trickle_above_the_least_rate_is_stored(tmp_path: Path) -> None:
    async with listening(tmp_path, FLOOR.replace(min_rate=100)) as (listener, _), listener.associated() as peer:
        data = raw.message(1, raw.c_store_rq(NEXT, 2), raw.dataset(NEXT, pixel_bytes=6000))
        began = time.monotonic()
        await peer.send_pieces(data, size=60, pause_s=0.01)
        assert time.monotonic() - began > FLOOR.rate_s, "it was judged"
        await peer.expect_status(0, 2)
        await peer.release()
        assert not listener.seen("conn.too_slow")


async def test_T04_peer_that_we_keep_waiting_is_not_slow(tmp_path: Path) -> None:
    limits = FLOOR.replace(message_s=0.3)
    async with listening(tmp_path, limits) as (listener, acceptor), listener.associated() as peer:
        (connection,) = acceptor.connections
        await peer.send(half_object())
        connection.suspend()
        await asyncio.sleep(3 * limits.rate_s)  # it is the time that passes which is tested
        connection.resume()
        await peer.send(raw.p_data(raw.pdv(1, raw.LAST, raw.dataset(LOST)[200:])))
        await peer.expect_status(0, 2)
        await peer.release()
        listener.holds(KEPT, LOST)


async def test_message_after_message_however_small_is_not_slow(tmp_path: Path) -> None:
    async with listening(tmp_path, FLOOR.replace(min_rate=100_000)) as (listener, _), listener.connect() as peer:
        await peer.associate()
        ends = time.monotonic() + 3 * FLOOR.rate_s
        number = 0
        while time.monotonic() < ends:
            number += 1
            await peer.send_pieces(raw.message(3, raw.c_echo_rq(number)), size=20, pause_s=0.002)
            await peer.expect_status(0, number)
        await peer.release()


async def test_idle_association_is_aborted_at_its_limit_and_not_before(tmp_path: Path) -> None:
    limits = LIMITS.replace(idle_s=0.6, message_s=0.1)
    async with listening(tmp_path, limits) as (listener, _), listener.associated() as peer:
        began = time.monotonic()
        await peer.expect_abort(0, 0)
        assert time.monotonic() - began > limits.idle_s - 0.1
        await listener.event("assoc.idle")


async def test_T07_peer_that_keeps_its_socket_after_our_abort_is_closed_at_artim(tmp_path: Path) -> None:
    async with listening(tmp_path, LIMITS) as (listener, acceptor):
        async with listener.associated() as peer:
            began = time.monotonic()
            await peer.send(raw.release_rp())
            await peer.expect_abort(2, 2)
            await peer.expect_closed()
            assert time.monotonic() - began > LIMITS.artim_s - 0.05
        assert (await listener.event("assoc.artim"))["detail"] == "in Sta13"
        assert not acceptor.connections
        await goes_on_serving(listener)


# ---------------------------------------------------------------------- the requestor


@asynccontextmanager
async def associated(
    notices: list[Notice], act: Callable[[Link], Awaitable[None]], **limits: float
) -> AsyncIterator[AssociationHandle]:
    """An association to a peer that then does this."""

    class Act:
        async def run(self, link: Link, received: list[Pdu]) -> None:
            await act(link)

    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()), Act()]]) as acceptor:
        request = propose("FASTMOVE", "SCRIPTED", contexts_for([raw.CT_IMAGE], [raw.IMPLICIT_LE]))
        peer = PeerAddress("SCRIPTED", acceptor.host, acceptor.port)
        association = await open_association(peer, request, LIMITS.replace(**limits), notices.append)
        try:
            yield association
            await acceptor.finished()
        finally:
            association.connection.cut()
            await association.close()


RESPONSE: Final = raw.message(1, raw.c_store_rsp(1, "1.2.3"))


@pytest.mark.parametrize("beginning", [RESPONSE[:3], RESPONSE[:30], raw.release_rq()[:7]])
async def test_T03_peer_that_falls_silent_in_a_response_is_aborted_by_the_requestor(beginning: bytes) -> None:
    async def act(link: Link) -> None:
        await link.send(beginning)
        await link.expect_abort(0, 0)
        await link.expect_closed()

    notices: list[Notice] = []
    async with associated(notices, act, message_s=0.3) as association:
        with pytest.raises(AssociationAborted, match=r"by us .*conn.stalled: 0 s"):
            await association.receive(5.0)
    assert [notice.event for notice in notices if isinstance(notice, PeerMisbehaved)][0] == "conn.stalled"


async def test_T04_response_that_comes_too_slowly_is_aborted_by_the_requestor() -> None:
    async def act(link: Link) -> None:
        trickle = asyncio.create_task(link.send_pieces(RESPONSE, pause_s=0.05))
        try:
            await link.expect_abort(0, 0)
        finally:
            trickle.cancel()
            await asyncio.gather(trickle, return_exceptions=True)

    async with associated([], act, rate_s=FLOOR.rate_s, min_rate=FLOOR.min_rate) as association:
        with pytest.raises(AssociationAborted, match="conn.too_slow"):
            await association.receive(5.0)


async def test_peer_may_be_silent_between_its_responses_for_as_long_as_is_waited_for_them() -> None:
    async def act(link: Link) -> None:
        await asyncio.sleep(0.8)  # it is the time that passes which is tested
        await link.send(RESPONSE)

    async with associated([], act, message_s=0.1, idle_s=0.1, rate_s=0.1) as association:
        assert (await association.receive(5.0)).command.status == 0


async def test_M16_data_set_that_a_pending_response_announces_and_that_never_comes_is_no_silence() -> None:
    pending = raw.c_move_rsp(1, 0xFF00, (1, 0, 0, 0), {raw.DATA_SET_TYPE: raw.us(1)})

    async def act(link: Link) -> None:
        await link.send(raw.message(1, pending))
        await asyncio.sleep(0.8)  # it is the time that passes which is tested
        await link.send(raw.message(1, raw.c_move_rsp(1, 0, (0, 1, 0, 0))))

    async with associated([], act, message_s=0.2, rate_s=0.2) as association:
        assert [(await association.receive(5.0)).command.status for _ in range(2)] == [0xFF00, 0]


async def test_T07_peer_that_keeps_its_socket_after_the_abort_of_the_requestor_is_closed_at_artim() -> None:
    async def act(link: Link) -> None:
        await link.expect_abort(0, 0)
        began = time.monotonic()
        await link.expect_closed()
        assert time.monotonic() - began > LIMITS.artim_s - 0.1

    notices: list[Notice] = []
    async with associated(notices, act) as association:
        association.abort("had enough")
        await association.close()
    assert [notice.event for notice in notices if isinstance(notice, PeerMisbehaved)] == ["assoc.artim"]
