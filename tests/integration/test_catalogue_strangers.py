"""Catalogue of faults, T20, T21, R01, R03, R07, R08: many who say nothing, too many, and those that end anywhere."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import time
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.limits import Limits
from fastmove.net.accepted import AcceptedConnection
from fastmove.net.acceptor import Acceptor
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy
from tests.certificates import Certificates
from tests.integration import raw
from tests.integration.conftest import LIMITS, goes_on_serving
from tests.integration.listener import KEPT, Listener, listening
from tests.integration.programs import Program, listen_program
from tests.integration.scripted import ScriptedRequestor
from tests.integration.tls import TlsListener, client_context, client_hello, settings_for

HALF_RQ: Final = raw.associate_rq()[:50]
MEGABYTE: Final = 1 << 20
QUICK: Final = ("--no-durable", "--limit", "artim_s=10")


async def connected(stack: AsyncExitStack, port: int, says: Sequence[bytes], deadline: float = 10.0) -> list[Any]:
    """A connection for each of these first words."""
    found = []
    for words in says:
        peer = await stack.enter_async_context(ScriptedRequestor("127.0.0.1", port, deadline))
        await peer.send(words)
        found.append(peer)
    return found


async def store_one(port: int, uid: str) -> float:
    """One object by an association of its own: how long it took to be accepted."""
    async with ScriptedRequestor("127.0.0.1", port, 10.0) as peer:
        began = time.perf_counter()
        await peer.associate()
        seconds = time.perf_counter() - began
        await peer.store(uid, raw.dataset(uid))
        await peer.release()
    return seconds


@asynccontextmanager
async def program(directory: Path, *options: str) -> AsyncIterator[tuple[Program, int]]:
    """`fastmove listen`, and its port."""
    async with listen_program(directory, *QUICK, *options) as running:
        yield running, (await running.event("listen.started"))["port"]
        assert await running.stopped() == 0


def rss_bytes(running: Program) -> int:
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{running.process.pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


# ---------------------------------------------------------------------- those who say nothing


async def test_T20_beside_200_silent_strangers_a_good_association_is_accepted_at_once(tmp_path: Path) -> None:
    uids = [f"1.2.3.{n}" for n in range(100)]
    async with program(tmp_path) as (running, port), AsyncExitStack() as stack:
        await connected(stack, port, [b""] * 100 + [HALF_RQ] * 100)
        # G-D2; of three series the best counts: this machine has others to serve.
        series = [[await store_one(port, uid) for uid in uids[part::3]] for part in range(3)]
        assert min(map(max, series)) <= 0.1
        assert not running.seen("assoc.prebuffer")
    assert {path.stem for path in tmp_path.glob("*.dcm")} == set(uids)


async def test_T20_beside_100_silent_strangers_and_100_half_hellos_tls_is_there_at_once(
    tmp_path: Path, certificates: Certificates
) -> None:
    uids = [f"1.2.3.{n}" for n in range(60)]
    under_test = TlsListener(tmp_path, context=client_context(certificates, certificates.client))
    settings = settings_for(certificates, certificates.server)
    patient = LIMITS.replace(artim_s=60.0, tls_s=60.0)
    with StorageTarget(tmp_path, WriteOptions(durable=False)) as target:
        async with (
            listen(under_test.host, 0, target, AcceptPolicy("FASTMOVE"), patient, tls=settings) as acceptor,
            AsyncExitStack() as stack,
        ):
            under_test.port = acceptor.port
            hello = client_hello()
            await connected(stack, acceptor.port, [b""] * 100 + [hello[: n + 1] for n in range(100)])
            series: list[list[float]] = [[], [], []]  # G-D2, as above
            for n, uid in enumerate(uids):
                began = time.perf_counter()
                async with under_test.connect() as peer:
                    await peer.associate()
                    series[n % 3].append(time.perf_counter() - began)
                    await peer.store(uid, raw.dataset(uid))
                    await peer.release()
            assert min(map(max, series)) <= 0.1
            assert len(acceptor.pending) == 200
    under_test.holds(*uids)


async def test_T20_each_silent_stranger_is_closed_at_artim(tmp_path: Path) -> None:
    async with listening(tmp_path, LIMITS) as (listener, acceptor), AsyncExitStack() as stack:
        found = await connected(stack, listener.port, [b""] * 100 + [HALF_RQ] * 100)
        for peer in found:
            await peer.expect_closed()
        assert (len(listener.seen("assoc.artim")), len(acceptor.pending)) == (200, 0)
        await goes_on_serving(listener)


# ---------------------------------------------------------------------- too many


@pytest.mark.parametrize(
    "limits",
    [LIMITS.replace(max_associations=3), LIMITS.replace(max_associations_per_host=3)],
    ids=["in all", "per host"],
)
async def test_R01_one_association_too_many_is_rejected_for_now(tmp_path: Path, limits: Limits) -> None:
    async with listening(tmp_path, limits) as (listener, _), AsyncExitStack() as stack:
        standing = await connected(stack, listener.port, [raw.associate_rq()] * 3)
        for peer in standing:
            await peer.expect_accept()
        async with listener.connect() as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(2, 3, 2)
            await peer.expect_closed()
        assert "more than 3 associations" in (await listener.event("assoc.limit"))["detail"]
        await standing[0].store(KEPT, raw.dataset(KEPT))
        await standing[0].release()
        await goes_on_serving(listener)
        listener.holds(KEPT)


async def test_R01_one_host_with_too_many_associations_keeps_no_other_out(tmp_path: Path) -> None:
    limits = LIMITS.replace(max_associations_per_host=2)
    async with listening(tmp_path, limits) as (listener, _), AsyncExitStack() as stack:
        for peer in await connected(stack, listener.port, [raw.associate_rq()] * 2):
            await peer.expect_accept()
        other = ScriptedRequestor(listener.host, listener.port)
        other.sock.bind(("127.0.0.2", 0))
        async with other:
            await other.associate()
            await other.store(KEPT, raw.dataset(KEPT))
            await other.release()


async def test_T21_flood_of_requests_is_rejected_and_what_stands_goes_on(tmp_path: Path) -> None:
    limits = LIMITS.replace(max_associations=20, artim_s=5.0)
    async with listening(tmp_path, limits) as (listener, acceptor), AsyncExitStack() as stack:
        found = await connected(stack, listener.port, [raw.associate_rq()] * 300)
        answers = [await peer.next_type() for peer in found]
        assert answers.count(raw.ASSOCIATE_AC) == 20
        assert answers.count(raw.ASSOCIATE_RJ) == 280
        assert len(listener.seen("assoc.limit")) == 280
        await found[0].expect_accept()
        await found[0].store(KEPT, raw.dataset(KEPT))
        for peer in found:
            peer.close()
        await until_gone(acceptor)
        await goes_on_serving(listener)


async def test_T21_flood_of_connections_drives_out_its_oldest_without_an_answer(tmp_path: Path) -> None:
    limits = LIMITS.replace(max_pending=50, artim_s=5.0)
    async with listening(tmp_path, limits) as (listener, acceptor), AsyncExitStack() as stack:
        found = await connected(stack, listener.port, [b""] * 300)
        for peer in found[:250]:
            await peer.expect_closed()
        assert len(acceptor.pending) == 50
        assert len(listener.seen("assoc.prebuffer")) == 250
        async with listener.connect() as peer:
            await peer.associate()
            await peer.store(KEPT, raw.dataset(KEPT))
            await peer.release()
        await found[-1].associate()  # who came last is still welcome


async def until_gone(acceptor: Acceptor) -> None:
    async with asyncio.timeout(5):
        while acceptor.connections:
            await asyncio.sleep(0.001)


@pytest.mark.rss
async def test_R03_half_requests_of_a_megabyte_do_not_take_all_memory(tmp_path: Path) -> None:
    half = raw.pdu(raw.ASSOCIATE_RQ, bytes(MEGABYTE - 1), length=MEGABYTE)
    async with program(tmp_path) as (running, port), AsyncExitStack() as stack:
        await store_one(port, "1.2.3.1")
        before = rss_bytes(running)
        for _ in range(200):
            peer = await stack.enter_async_context(ScriptedRequestor("127.0.0.1", port, 10.0))
            with contextlib.suppress(ConnectionError):  # it is cut off while it sends
                await peer.send(half)
        await running.event("assoc.prebuffer")
        assert rss_bytes(running) - before < 64 * MEGABYTE, "200 MiB were sent"
        assert (await store_one(port, "1.2.3.2")) < 5
    assert {path.stem for path in tmp_path.glob("*.dcm")} == {"1.2.3.1", "1.2.3.2"}


# ---------------------------------------------------------------------- those that end anywhere

EXCHANGE: Final = raw.associate_rq() + raw.message(1, raw.c_store_rq("1.2.3"), raw.dataset("1.2.3")) + raw.release_rq()
"""Sent in one piece: data is taken before the answer."""


async def aborted_anywhere(port: int, number: int) -> None:
    """Associations that end by RST, each after another part of an exchange."""
    for n in range(number):
        async with ScriptedRequestor("127.0.0.1", port, 10.0) as peer:
            await peer.send(EXCHANGE[: n * 7919 % len(EXCHANGE)])
            peer.reset()


@pytest.mark.rss
@pytest.mark.parametrize(
    ("number", "grows_bytes"),
    [(300, MEGABYTE), pytest.param(10_000, MEGABYTE, marks=[pytest.mark.nightly, pytest.mark.timeout(600)])],
)
async def test_R07_associations_aborted_at_any_byte_cost_no_memory(
    tmp_path: Path, number: int, grows_bytes: int
) -> None:
    async with program(tmp_path) as (running, port):
        await aborted_anywhere(port, 300)
        await store_one(port, "1.2.4")
        before = rss_bytes(running)
        await aborted_anywhere(port, number)
        await store_one(port, "1.2.4")
        assert rss_bytes(running) - before < grows_bytes


async def one_of_each(listener: Listener) -> None:
    """Associations that end in every way."""
    async with listener.connect() as peer:
        await peer.associate()
        await peer.store(KEPT, raw.dataset(KEPT))
        await peer.echo(2)
        await peer.release()
    for words in (raw.associate_rq(called="OTHER"), raw.release_rq(), b"GET / HTTP/1.1\r\n\r\n", HALF_RQ, b""):
        async with listener.connect() as peer:
            await peer.send(words)
            await peer.expect_closed() if not words else peer.close()
    for words in (raw.abort(), raw.release_rp(), raw.message(1, raw.c_store_rq("1.2"), raw.dataset("1.2"))[:-9]):
        async with listener.connect() as peer:
            await peer.associate()
            await peer.send(words)
            peer.close()


async def test_R08_no_association_leaves_a_cycle_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[AcceptedConnection]] = []
    opened = Acceptor.opened

    def noted(self: Acceptor, connection: AcceptedConnection) -> None:
        made.append(weakref.ref(connection))
        opened(self, connection)

    monkeypatch.setattr(Acceptor, "opened", noted)
    async with listening(tmp_path, LIMITS) as (listener, acceptor):
        await one_of_each(listener)
        await until_gone(acceptor)
        gc.collect()
        gc.disable()
        try:
            del made[:]
            for _ in range(3):
                await one_of_each(listener)
            await until_gone(acceptor)
            assert len(made) == 27
            async with asyncio.timeout(5):  # the loop holds the last ones for a moment; the collector does nothing
                while any(ref() is not None for ref in made):
                    await asyncio.sleep(0.001)
        finally:
            gc.enable()
