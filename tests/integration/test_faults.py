"""The fault proxy does to the bytes what it says, and the listener bears it (catalogue T01, T02, T04, T11)."""

from __future__ import annotations

import asyncio

import pytest

from tests.integration import raw
from tests.integration.faults import End, FaultProxy, Toxics
from tests.integration.listener import KEPT, LOST, NEXT, Listener, half_object
from tests.integration.scripted import Closed, Recv, ScriptedAcceptor, ScriptedRequestor, Send


@pytest.mark.parametrize(
    "toxics",
    [
        Toxics(),
        Toxics(slice_bytes=7),
        Toxics(coalesce_s=0.05),
        Toxics(delay_s=0.02, jitter_s=0.02),
        Toxics(rate_bytes_per_s=20_000),
    ],
    ids=["clean", "sliced", "coalesced", "late", "slow"],
)
async def test_object_through_a_bad_network_is_stored_whole(listener: Listener, toxics: Toxics) -> None:
    async with (
        FaultProxy(listener.host, listener.port, outgoing=toxics, incoming=toxics, seed=1) as proxy,
        ScriptedRequestor(*proxy.address, deadline=5.0) as peer,
    ):
        await peer.associate()
        await peer.store(NEXT, raw.dataset(NEXT))
        await peer.release()
    listener.holds(NEXT)


@pytest.mark.parametrize("end", [End.CUT, End.RESET])
@pytest.mark.parametrize("rest", [3, 300], ids=["in a PDU header", "in a PDV"])
async def test_T01_T02_connection_ended_in_an_object_leaves_nothing_of_it(
    listener: Listener, end: End, rest: int
) -> None:
    whole = len(raw.associate_rq()) + len(raw.message(1, raw.c_store_rq(KEPT), raw.dataset(KEPT)))
    toxics = Toxics(limit_bytes=whole + len(half_object()) + rest, end=end)
    async with (
        FaultProxy(listener.host, listener.port, outgoing=toxics) as proxy,
        ScriptedRequestor(*proxy.address) as peer,
    ):
        await peer.associate()
        await peer.store(KEPT, raw.dataset(KEPT))
        await peer.send(half_object(), raw.p_data(raw.pdv(1, raw.LAST, raw.dataset(LOST))))
        await peer.expect_closed()
        await listener.event("conn.reset" if end is End.RESET else "conn.eof_mid_object")
    listener.holds(KEPT)


async def test_frozen_direction_passes_nothing_and_stays_open() -> None:
    toxics = Toxics(limit_bytes=10, end=End.FREEZE)
    async with (
        ScriptedAcceptor([[Send(raw.release_rq() * 2), Recv(raw.ABORT)]]) as acceptor,
        FaultProxy(acceptor.host, acceptor.port, incoming=toxics) as proxy,
        ScriptedRequestor(*proxy.address) as peer,
    ):
        await peer.expect(raw.RELEASE_RQ)
        with pytest.raises(TimeoutError):
            await peer.read_pdu(deadline=0.1)


@pytest.mark.parametrize(("end", "error"), [(End.CUT, EOFError), (End.RESET, ConnectionResetError)])
async def test_limit_ends_the_connection_at_that_byte(end: End, error: type[Exception]) -> None:
    async with (
        ScriptedAcceptor([[Send(raw.release_rq() * 2), Closed()]]) as acceptor,
        FaultProxy(acceptor.host, acceptor.port, incoming=Toxics(limit_bytes=13, end=end)) as proxy,
        ScriptedRequestor(*proxy.address) as peer,
    ):
        await peer.expect(raw.RELEASE_RQ)
        with pytest.raises(error):
            await peer.read_pdu()
        await acceptor.finished()


async def test_rate_is_kept() -> None:
    pdus = raw.release_rq() * 400
    toxics = Toxics(slice_bytes=500, rate_bytes_per_s=20_000)
    async with (
        ScriptedAcceptor([[Send(pdus)]]) as acceptor,
        FaultProxy(acceptor.host, acceptor.port, incoming=toxics) as proxy,
        ScriptedRequestor(*proxy.address) as peer,
    ):
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(400):
            await peer.expect(raw.RELEASE_RQ)
        assert loop.time() - started > 0.8 * len(pdus) / 20_000
