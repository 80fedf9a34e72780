"""Every time limit to the millisecond: what comes just before it is in time, and just after it all is over.

The clock is that of the loop under test (`virtual_time`), so that nobody waits, and no busy machine spoils it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import pytest

from fastmove.errors import CommitmentOverdue, TimedOut
from fastmove.limits import RANGES, Limits
from fastmove.net import lag, requestor
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.notices import HostStrained, Notice
from fastmove.services import disk
from fastmove.services.listener import listen
from fastmove.services.storage_commitment import CONTEXTS, commit
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from tests.certificates import Certificates
from tests.integration import commitments, raw
from tests.integration.listener import LOST, Listener, half_object, listening
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, ScriptedRequestor, Send, Step
from tests.integration.tls import TlsRequestor, client_context, settings_for
from tests.integration.virtual_time import EDGES, LIMIT_S, OTHERS, STEP_S, VirtualTimeLoop, only

LOOKS_S: Final = LIMIT_S / 8
"""A watchdog notices no later than at its next look (`LOOKS_PER_LIMIT`)."""

pytestmark = pytest.mark.parametrize("loop_factory", [VirtualTimeLoop])


class Pause:
    """A step of a script: so long nothing happens."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    async def run(self, link: Link, received: list[Pdu]) -> None:
        await asyncio.sleep(self.seconds)


# ---------------------------------------------------------------------- a requestor waits

ECHO_RSP: Final = raw.message(3, raw.response(0x8030, 1, raw.VERIFICATION, 0))
ACCEPT: Final = (Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac([raw.context_ac(1), raw.context_ac(3)])))


async def associated(acceptor: ScriptedAcceptor, limits: Limits) -> AssociationHandle:
    request = propose("FASTMOVE", "SCRIPTED", contexts_for([raw.CT_IMAGE, raw.VERIFICATION], [raw.IMPLICIT_LE]))
    return await open_association(PeerAddress("SCRIPTED", "peer.example", acceptor.port), request, limits)


async def nothing(association: AssociationHandle) -> None:
    """The association stands: that was it."""


async def receives(association: AssociationHandle) -> None:
    association.send(3, raw.c_echo_rq(1))
    await association.receive()


async def releases(association: AssociationHandle) -> None:
    assert await association.release()


WAITS: Final[dict[str, tuple[Callable[[float], list[Step]], Callable[[AssociationHandle], Awaitable[None]]]]] = {
    # limit: what the peer does, that many seconds late; what we do once the association stands
    "connect_s": (lambda _: [*ACCEPT], nothing),
    "associate_s": (lambda late_s: [ACCEPT[0], Pause(late_s), ACCEPT[1]], nothing),
    "response_s": (lambda late_s: [*ACCEPT, Recv(raw.P_DATA), Pause(late_s), Send(ECHO_RSP)], receives),
    "release_s": (lambda late_s: [*ACCEPT, Recv(raw.RELEASE_RQ), Pause(late_s), Send(raw.release_rp())], releases),
}


@EDGES
@pytest.mark.parametrize("name", WAITS)
async def test_requestor_waits_until_its_limit_and_no_longer(
    name: str, over_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    script, act = WAITS[name]
    loop = asyncio.get_running_loop()

    async def addresses(host: str, family: int) -> list[str]:
        """How long a connection takes is up to the network; here it is the name that takes as long."""
        await asyncio.sleep(LIMIT_S + over_s if name == "connect_s" else 0)
        return ["127.0.0.1"]

    monkeypatch.setattr(requestor, "addresses", addresses)
    made: list[requestor.RequestedConnection] = []
    monkeypatch.setattr(
        requestor, "AssociationHandle", lambda *given: made.append(given[0]) or AssociationHandle(*given)
    )
    async with ScriptedAcceptor([script(LIMIT_S + over_s)]) as acceptor:
        began = loop.time()
        try:
            if over_s > 0:
                with pytest.raises(TimedOut) as caught:
                    await act(await associated(acceptor, only(name)))
                assert (caught.value.timer, caught.value.seconds) == (name, LIMIT_S)
            else:
                await act(await associated(acceptor, only(name)))
            assert loop.time() - began == pytest.approx(LIMIT_S + min(over_s, 0), abs=STEP_S / 10)
        finally:
            for connection in made:
                connection.cut()
                await connection.closed


@EDGES
async def test_commit_s_is_how_long_a_report_is_waited_for(over_s: float) -> None:
    loop, taken = asyncio.get_running_loop(), commitments.TakeRequest()
    script = [*commitments.ACCEPT, taken, Pause(LIMIT_S + over_s), Send(lambda _: commitments.report(taken.dataset))]
    async with ScriptedAcceptor([script]) as acceptor:
        request = propose("FASTMOVE", "SCRIPTED", CONTEXTS)
        peer = PeerAddress("SCRIPTED", acceptor.host, acceptor.port)
        association = await open_association(peer, request, only("commit_s"))
        began = loop.time()
        try:
            if over_s > 0:
                with pytest.raises(CommitmentOverdue):
                    await commit(association, {"1.2.3": raw.CT_IMAGE})
            else:
                (said,) = await commit(association, {"1.2.3": raw.CT_IMAGE})
                assert said.committed == {"1.2.3"}
            assert loop.time() - began == pytest.approx(LIMIT_S + min(over_s, 0), abs=STEP_S / 10)
        finally:
            association.connection.cut()
            await association.close()


# ---------------------------------------------------------------------- a listener waits


@asynccontextmanager
async def met(tmp_path: Path, name: str) -> AsyncIterator[tuple[Listener, ScriptedRequestor]]:
    """A listener with that limit, and a peer that has not said anything yet."""
    async with listening(tmp_path, only(name)) as (listener, _), listener.connect() as peer:
        peer.deadline = 10 * LIMIT_S
        yield listener, peer


@EDGES
async def test_artim_s_is_how_long_a_connection_may_have_no_association(tmp_path: Path, over_s: float) -> None:
    async with met(tmp_path, "artim_s") as (listener, peer):
        await asyncio.sleep(LIMIT_S + over_s)
        if over_s > 0:
            await peer.expect_closed()
            assert [event["detail"] for event in listener.seen("assoc.artim")] == ["in Sta2"]
        else:
            await peer.associate()
            await peer.release()
            assert not listener.seen("assoc.artim")


class LateToGreet(TlsRequestor):
    """Connects, and says nothing for a while; `greet` is the handshake."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, late_s: float) -> None:
        super().__init__(host, port, context, deadline=10 * LIMIT_S)
        self.late_s = late_s

    async def _shake_hands(self) -> None:
        await asyncio.sleep(self.late_s)

    async def greet(self) -> None:
        """TLS at last."""
        await super()._shake_hands()

    async def expect_closed(self, deadline: float | None = None) -> None:
        """The other side has had enough."""
        assert await self._loop.sock_recv(self.sock, 1) == b""


@EDGES
async def test_tls_s_is_how_long_the_handshake_may_take(
    tmp_path: Path, over_s: float, certificates: Certificates
) -> None:
    told: list[Notice] = []
    settings = settings_for(certificates, certificates.server)
    with StorageTarget(tmp_path, WriteOptions(durable=False)) as target:
        policy = AcceptPolicy("FASTMOVE")
        async with listen("127.0.0.1", 0, target, policy, only("tls_s"), told.append, tls=settings) as acceptor:
            context = client_context(certificates, certificates.client)
            async with LateToGreet("127.0.0.1", acceptor.port, context, LIMIT_S + over_s) as peer:
                if over_s > 0:
                    await peer.expect_closed()
                else:
                    await peer.greet()
                    await peer.associate()
                    await peer.release()
    assert [notice.event for notice in told].count("tls.timeout") == (over_s > 0)


@EDGES
@pytest.mark.parametrize("name", ["idle_s", "message_s"])
async def test_silence_is_borne_until_its_limit(tmp_path: Path, name: str, over_s: float) -> None:
    key = {"idle_s": "assoc.idle", "message_s": "conn.stalled"}[name]
    async with met(tmp_path, name) as (listener, peer):
        await peer.associate()
        await peer.echo()
        await asyncio.sleep(LOOKS_S)  # the silence of what is before does not count
        if name == "message_s":
            await peer.send(half_object())
        began = asyncio.get_running_loop().time()
        if over_s > 0:
            await peer.expect_abort(0, 0)
            took_s = asyncio.get_running_loop().time() - began
            assert LIMIT_S - LOOKS_S <= took_s <= LIMIT_S + LOOKS_S
            assert len(listener.seen(key)) == 1
            return
        await asyncio.sleep(LIMIT_S - LOOKS_S + over_s)
        if name == "message_s":
            await peer.send(raw.p_data(raw.pdv(1, raw.LAST, raw.dataset(LOST)[200:])))
            await peer.expect_status(0, 2)
        else:
            await peer.echo(2)
        await peer.release()
        assert not listener.seen(key)


@EDGES
async def test_stop_s_is_how_long_an_object_in_flight_is_waited_for(tmp_path: Path, over_s: float) -> None:
    loop = asyncio.get_running_loop()
    async with listening(tmp_path, only("stop_s")) as (listener, acceptor), listener.connect() as peer:
        peer.deadline = 10 * LIMIT_S
        await peer.associate()
        await peer.send(half_object())
        await peer.send(raw.p_data(raw.pdv(1, 0, raw.dataset(LOST)[200:400])))
        async with listener.connect() as other:  # what was sent before has been read
            await other.associate()
            await other.echo()
            await other.release()
        began = loop.time()
        stopping = asyncio.create_task(acceptor.stop())
        await asyncio.sleep(LIMIT_S + over_s)
        if over_s > 0:
            await peer.expect_abort(0, 0)
            await stopping
            assert LIMIT_S <= loop.time() - began <= LIMIT_S + 2 * STEP_S
            listener.holds()
            return
        assert not stopping.done()
        await peer.send(raw.p_data(raw.pdv(1, raw.LAST, raw.dataset(LOST)[400:])))
        await peer.expect_status(0, 2)
        await peer.expect_abort(0, 0)
        await stopping
        listener.holds(LOST)


# ---------------------------------------------------------------------- the loop itself is late


@EDGES
async def test_T19_lag_s_is_how_late_the_loop_may_be(over_s: float, monkeypatch: pytest.MonkeyPatch) -> None:
    loop, told = asyncio.get_running_loop(), list[Notice]()
    stopped_s = 0.0
    monkeypatch.setattr(lag, "time", SimpleNamespace(monotonic=lambda: loop.time() + stopped_s))
    with lag.lag_told(Limits(lag_s=5.0), told.append):
        await asyncio.sleep(10.0)
        stopped_s = 5.0 + over_s
        await asyncio.sleep(10.0)
    assert told == ([HostStrained("loop.lag", "5.0 s")] if over_s > 0 else [])


@EDGES
async def test_F18_slow_disk_s_is_how_long_a_call_of_the_disk_may_take(
    over_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, told = asyncio.get_running_loop(), list[Notice]()
    begun, free = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        assert free.wait(10)

    monkeypatch.setattr(disk, "time", SimpleNamespace(monotonic=loop.time))
    with StorageTarget(tmp_path) as target, disk.Disk(target, Limits(slow_disk_s=5.0), told.append) as threads:
        threads.run(call, lambda error: None)
        assert begun.wait(10)
        await asyncio.sleep(5.0 + over_s)
        free.set()
    slow = HostStrained("fs.slow", "a call of the disk has been under way for 5.0 s")
    assert told == ([slow] if over_s > 0 else [])


async def test_F18_disk_that_is_stuck_is_told_of_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop, told = asyncio.get_running_loop(), list[Notice]()
    begun, free = threading.Barrier(3), threading.Event()

    def call() -> None:
        begun.wait(10)
        assert free.wait(10)

    monkeypatch.setattr(disk, "time", SimpleNamespace(monotonic=loop.time))
    with StorageTarget(tmp_path) as target, disk.Disk(target, Limits(slow_disk_s=5.0), told.append) as threads:
        for _ in range(2):
            threads.run(call, lambda error: None)
        begun.wait(10)
        await asyncio.sleep(30.0)
        free.set()
    assert told == [
        HostStrained("fs.slow", f"2 calls of the disk have been under way for {taken}.0 s") for taken in (5, 15, 25)
    ]


# ---------------------------------------------------------------------- the kernel waits

TIMERS: Final = {
    # limit: the option of TCP, and what its value is multiplied by
    "user_timeout_s": (socket.TCP_USER_TIMEOUT, 1000),
    "keepalive_s": (socket.TCP_KEEPIDLE, 1),
    "keepalive_interval_s": (socket.TCP_KEEPINTVL, 1),
    "keepalive_probes": (socket.TCP_KEEPCNT, 1),
}


def options_of(fd: int) -> dict[str, float]:
    """What is really set."""
    with socket.socket(fileno=os.dup(fd)) as sock:
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        return {name: sock.getsockopt(socket.IPPROTO_TCP, option) / unit for name, (option, unit) in TIMERS.items()}


@pytest.mark.parametrize("end", [0, 1], ids=["least", "most"])
@pytest.mark.parametrize("step", [0, 1], ids=["limit", "limit and one"])
async def test_both_roles_set_the_timers_of_tcp(tmp_path: Path, end: int, step: int) -> None:
    """From the least value that a user may set to the greatest."""
    wanted: dict[str, Any] = {name: RANGES[name][end] + (step, -step)[end] for name in TIMERS}
    async with listening(tmp_path, OTHERS.replace(**wanted)) as (listener, acceptor):
        request = propose("ME", listener.ae_title, contexts_for([raw.CT_IMAGE], [raw.IMPLICIT_LE]))
        address = PeerAddress(listener.ae_title, listener.host, listener.port)
        association = await open_association(address, request, acceptor.limits)
        try:
            (accepted,) = acceptor.connections
            assert options_of(accepted.receiver.fd) == options_of(association.connection.receiver.fd) == wanted
            assert await association.release()
        finally:
            association.connection.cut()
            await association.close()


@pytest.mark.parametrize("name", TIMERS)
def test_ranges_of_the_keepalive_are_those_of_the_kernel(name: str) -> None:
    option, unit = TIMERS[name]
    with socket.socket() as sock:
        for value in RANGES[name]:
            sock.setsockopt(socket.IPPROTO_TCP, option, int(value * unit))
        if name != "user_timeout_s":  # that takes all there is
            for value in (RANGES[name][0] - 1, RANGES[name][1] + 1):
                with pytest.raises(OSError):
                    sock.setsockopt(socket.IPPROTO_TCP, option, int(value))
