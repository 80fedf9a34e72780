"""The fault proxy does to the bytes what it says, and the listener bears it (catalogue T01, T02, T04, T11)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import pytest

from tests.integration import raw
from tests.integration.faults import End, Fate, FaultProxy, Toxics
from tests.integration.listener import KEPT, LOST, NEXT, Listener, half_object
from tests.integration.scripted import Closed, Recv, ScriptedAcceptor, ScriptedRequestor, Send, Step

# ---------------------------------------------------------------------- what the listener bears


@pytest.mark.parametrize(
    "toxics",
    [
        Toxics(),
        Toxics(slice_bytes=7),
        Toxics(coalesce_s=0.05),
        Toxics(latency_s=0.02, jitter_s=0.02),
        Toxics(bandwidth_bytes_per_s=20_000),
        Toxics(limit_bytes=300, end=End.STALL, stall_s=0.1),
    ],
    ids=["clean", "sliced", "coalesced", "late", "slow", "halting"],
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


REST: Final = raw.dataset(LOST)[200:]
TWO_PDVS: Final = raw.p_data(raw.pdv(1, 0, REST[:100]), raw.pdv(1, raw.LAST, REST[100:]))
PLACES: Final = {
    "between PDUs": 0,
    "in a PDU header": 3,
    "in a PDV header": 6 + 4,
    "in a PDV": 6 + 6 + 50,
    "between PDVs": 6 + 6 + 100,
    "before the last byte": len(TWO_PDVS) - 1,
}
"""How much of TWO_PDVS, which would complete an object, arrives."""


@pytest.mark.parametrize("end", [End.CUT, End.RESET, End.HALF_CLOSE], ids=["FIN", "RST", "half close"])
@pytest.mark.parametrize("rest", PLACES.values(), ids=list(PLACES))
async def test_T01_T02_connection_ended_in_an_object_leaves_nothing_of_it(
    listener: Listener, end: End, rest: int
) -> None:
    before = len(raw.associate_rq()) + len(raw.message(1, raw.c_store_rq(KEPT), raw.dataset(KEPT)) + half_object())
    async with (
        FaultProxy(listener.host, listener.port, outgoing=Toxics(limit_bytes=before + rest, end=end)) as proxy,
        ScriptedRequestor(*proxy.address) as peer,
    ):
        await peer.associate()
        await peer.store(KEPT, raw.dataset(KEPT))
        await peer.send(half_object(), TWO_PDVS)
        await peer.expect_closed()
        await listener.event("conn.reset" if end is End.RESET else "conn.eof_mid_object")
    listener.holds(KEPT)


@pytest.mark.parametrize("durable", [True])
async def test_T09_object_whose_answer_is_lost_is_there_and_is_no_other_when_it_comes_again(
    listener: Listener, durable: bool
) -> None:
    async with listener.connect() as peer:
        await peer.associate()
        await peer.send(raw.message(1, raw.c_store_rq(NEXT), raw.dataset(NEXT)))
        await peer.next_type()  # the answer is on its way, and nobody reads it
        peer.reset()
    await listener.event("conn.reset")
    listener.holds(NEXT)
    (first,) = [path.stat() for path in listener.files()]
    async with listener.connect() as peer:
        await peer.associate()
        await peer.store(NEXT, raw.dataset(NEXT))
        await peer.release()
    listener.holds(NEXT)
    (second,) = [path.stat() for path in listener.files()]
    assert (first.st_ino, first.st_mtime_ns) == (second.st_ino, second.st_mtime_ns), "the first one stays"


async def test_object_that_comes_over_two_connections_at_once_is_stored_once(listener: Listener) -> None:
    async with (
        FaultProxy(listener.host, listener.port, plan=[Fate(duplicated=True)]) as proxy,
        ScriptedRequestor(*proxy.address) as peer,
    ):
        await peer.associate()
        await peer.store(NEXT, raw.dataset(NEXT))
        await peer.release()
    async with asyncio.timeout(5.0):
        while len(listener.seen("assoc.closed")) < 2:  # the twin may still be on its way
            await asyncio.sleep(0)
    assert [event["how"] for event in listener.seen("assoc.closed")] == ["released", "released"]
    listener.holds(NEXT)


# ---------------------------------------------------------------------- what the proxy does

PDU: Final = raw.release_rq()


@asynccontextmanager
async def link(*steps: Step, **proxy: Toxics) -> AsyncIterator[tuple[ScriptedRequestor, ScriptedAcceptor]]:
    """A peer that connects, by way of a proxy, to one who does these steps."""
    async with (
        ScriptedAcceptor([steps]) as acceptor,
        FaultProxy(acceptor.host, acceptor.port, **proxy) as between,
        ScriptedRequestor(*between.address) as peer,
    ):
        yield peer, acceptor


async def test_frozen_direction_passes_nothing_and_stays_open() -> None:
    toxics = Toxics(limit_bytes=10, end=End.FREEZE)
    async with link(Send(PDU * 2), Recv(raw.ABORT), incoming=toxics) as (peer, _):
        await peer.expect(raw.RELEASE_RQ)
        with pytest.raises(TimeoutError):
            await peer.read_pdu(deadline=0.1)


@pytest.mark.parametrize(("end", "error"), [(End.CUT, EOFError), (End.RESET, ConnectionResetError)])
async def test_limit_ends_the_connection_at_that_byte(end: End, error: type[Exception]) -> None:
    async with link(Send(PDU * 2), Closed(), incoming=Toxics(limit_bytes=13, end=end)) as (peer, acceptor):
        await peer.expect(raw.RELEASE_RQ)
        with pytest.raises(error):
            await peer.read_pdu()
        await acceptor.finished()


@pytest.mark.parametrize(("end", "error"), [(End.CUT, EOFError), (End.RESET, ConnectionResetError)])
async def test_time_ends_a_connection_on_which_nothing_happens(end: End, error: type[Exception]) -> None:
    async with link(Closed(), outgoing=Toxics(after_s=0.05, end=end)) as (peer, acceptor):
        with pytest.raises(error):
            await peer.read_pdu()
        await acceptor.finished()


async def test_half_closed_direction_is_over_and_the_other_goes_on() -> None:
    toxics = Toxics(limit_bytes=len(PDU), end=End.HALF_CLOSE)
    async with link(Send(PDU), Recv(raw.RELEASE_RQ), Closed(), incoming=toxics) as (peer, acceptor):
        await peer.expect(raw.RELEASE_RQ)
        with pytest.raises(EOFError):
            await peer.read_pdu()
        await peer.send(PDU)
        peer.close()
        await acceptor.finished()


async def test_direction_that_halts_goes_on_after_its_time() -> None:
    loop = asyncio.get_running_loop()
    toxics = Toxics(limit_bytes=len(PDU), end=End.STALL, stall_s=0.2)
    async with link(Send(PDU * 2), incoming=toxics) as (peer, _):
        await peer.expect(raw.RELEASE_RQ)
        began = loop.time()
        await peer.expect(raw.RELEASE_RQ)
        assert loop.time() - began > 0.15


async def test_bandwidth_is_kept() -> None:
    pdus = PDU * 400
    toxics = Toxics(slice_bytes=500, bandwidth_bytes_per_s=20_000)
    async with link(Send(pdus), incoming=toxics) as (peer, _):
        loop = asyncio.get_running_loop()
        started = loop.time()
        for _ in range(400):
            await peer.expect(raw.RELEASE_RQ)
        assert loop.time() - started > 0.8 * len(pdus) / 20_000


async def test_what_is_late_does_not_wait_for_what_is_before_it() -> None:
    loop = asyncio.get_running_loop()
    async with link(Recv(raw.RELEASE_RQ), Recv(raw.RELEASE_RQ), outgoing=Toxics(latency_s=0.5)) as (peer, acceptor):
        started = loop.time()
        await peer.send(PDU)
        await asyncio.sleep(0.25)
        await peer.send(PDU)
        await acceptor.finished()
        assert 0.749 <= loop.time() - started < 0.95, "one behind the other it would be a second"


async def test_each_connection_has_its_fate_and_those_after_them_none() -> None:
    plan = [Fate(incoming=Toxics(limit_bytes=3)), Fate(incoming=Toxics(limit_bytes=13, end=End.RESET))]
    ends: list[type[Exception] | None] = []
    async with (
        ScriptedAcceptor([[Send(PDU * 2)]]) as acceptor,
        FaultProxy(acceptor.host, acceptor.port, plan=plan) as proxy,
    ):
        for _ in range(3):
            async with ScriptedRequestor(*proxy.address) as peer:
                try:
                    for _ in range(2):
                        await peer.expect(raw.RELEASE_RQ)
                except (EOFError, ConnectionResetError) as error:
                    ends.append(type(error))
                else:
                    ends.append(None)
    assert ends == [EOFError, ConnectionResetError, None]


async def test_failure_says_how_to_have_the_same_again() -> None:
    fate = Fate(outgoing=Toxics(slice_bytes=7))
    with pytest.raises(AssertionError) as caught:
        async with FaultProxy("127.0.0.1", 1, seed=4711, plan=[fate]):
            raise AssertionError("what a test found")
    (note,) = caught.value.__notes__
    assert "seed=4711" in note and repr(fate) in note
