"""Table S of the fault catalogue: a listener with TLS, and peers that do it wrong; named by row."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Certificates, Issued
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw, tls
from tests.integration.conftest import LIMITS
from tests.integration.listener import KEPT, NEXT, half_object
from tests.integration.scripted import ScriptedRequestor
from tests.integration.tls import TlsListener, client_context, client_hello, echoes, listening, refused

pytestmark = pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

Change = Callable[[Certificates], dict[str, Any]]


@pytest.fixture
def listener(tls_listener: TlsListener) -> TlsListener:
    """That of this file has TLS."""
    return tls_listener


# ------------------------------------------------------------------ what goes well


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize("who", ["client", "elliptic", "client_only"])
async def test_object_is_stored_over_tls(
    listener: TlsListener, certificates: Certificates, version: ssl.TLSVersion, who: str
) -> None:
    shown: Issued = getattr(certificates, who)
    async with listener.connect(client_context(certificates, shown, version=version)) as peer:
        assert isinstance(peer, tls.TlsRequestor) and peer.tls.version() == version.name.replace("_", ".")
        await peer.associate()
        await peer.store(KEPT, raw.dataset(KEPT))
        await peer.release()
    opened = await listener.event("tls.opened")
    assert (opened["fingerprint"], opened["version"]) == (shown.fingerprint, peer.tls.version())
    assert opened["cipher"] in ("ECDHE-RSA-AES128-GCM-SHA256", "TLS_AES_256_GCM_SHA384")
    listener.holds(KEPT)
    await listener.event("assoc.closed")
    assert not [event for event in listener.events if event["event"].startswith(("tls.t", "conn."))]


async def test_object_in_records_of_one_byte_is_stored(listener: TlsListener) -> None:
    async with listener.connect() as peer:
        await peer.associate()
        await peer.send_pieces(raw.message(1, raw.c_store_rq(KEPT, 1), raw.dataset(KEPT, pixel_bytes=32)))
        await peer.expect_status(0, 1)
        await peer.release()
    assert len(listener.files()) == 1


async def test_object_of_many_records_is_stored_as_it_came(listener: TlsListener) -> None:
    dataset = raw.dataset(KEPT, pixel_bytes=3_000_000)
    async with listener.connect() as peer:
        await peer.associate()
        await peer.store(KEPT, dataset)
        await peer.release()
    assert listener.stored() == [dataset]


# ------------------------------------------------------------------ S01 to S04: hellos


async def test_S01_plain_dicom_to_a_tls_port(listener: TlsListener) -> None:
    async with listener.plain() as peer:
        await peer.send(raw.associate_rq())
        assert await tls.answer(peer) is None
    assert "DICOM without TLS" in (await listener.event("tls.not_tls"))["detail"]


@pytest.mark.parametrize("first", [b"GET / HTTP/1.0\r\n\r\n", bytes(65536), b"\x80\x2e\x01\0\x02"])
async def test_S01_anything_else_to_a_tls_port(listener: TlsListener, first: bytes) -> None:
    async with listener.plain() as peer:
        await peer.send(first)
        assert await tls.answer(peer) is None
    await listener.event("tls.not_tls")


@contextlib.asynccontextmanager
async def half_hellos(listener: TlsListener, count: int) -> AsyncIterator[list[ScriptedRequestor]]:
    """So many peers that have sent a part of a ClientHello, or nothing."""
    hello = client_hello()
    async with contextlib.AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(listener.plain()) for _ in range(count)]
        for number, peer in enumerate(peers):
            await peer.send(hello[: number * 4])
        yield peers


async def test_S02_half_a_hello_is_cut_off(listener: TlsListener) -> None:
    async with half_hellos(listener, 20) as peers:
        for peer in peers:
            assert await tls.answer(peer) is None
    await listener.event("tls.timeout")
    assert len(listener.seen("tls.timeout")) == len(peers)


async def test_S02_half_hellos_stop_nobody(runner: asyncio.Runner, tmp_path: Path, certificates: Certificates) -> None:
    limits = LIMITS.replace(tls_s=3600.0)
    async with listening(tmp_path / "in", certificates, limits) as listener, half_hellos(listener, 100):
        await echoes(listener)
        assert not listener.seen("tls.timeout")


async def test_S02_half_hellos_are_connections_without_an_association(
    runner: asyncio.Runner, tmp_path: Path, certificates: Certificates
) -> None:
    limits = LIMITS.replace(tls_s=3600.0, max_pending_per_host=10)
    async with listening(tmp_path / "in", certificates, limits) as listener, half_hellos(listener, 15):
        await listener.event("assoc.prebuffer")
        await echoes(listener)
        assert len(listener.seen("assoc.prebuffer")) == 6


async def test_S02_a_byte_now_and_then_does_not_prolong_the_handshake(listener: TlsListener) -> None:
    async with listener.plain() as peer:
        sending = asyncio.create_task(peer.send_pieces(client_hello(), 1, pause_s=0.02))
        assert await tls.answer(peer) is None
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await sending
    await listener.event("tls.timeout")


@pytest.mark.parametrize("version", [tls.SSL3, tls.TLS1, tls.TLS1_1], ids=["SSL 3.0", "TLS 1.0", "TLS 1.1"])
async def test_S03_old_versions(listener: TlsListener, version: int) -> None:
    alert = tls.HANDSHAKE_FAILURE if version == tls.SSL3 else tls.PROTOCOL_VERSION  # SSL 3.0 has no such alert
    async with listener.plain() as peer:
        await peer.send(client_hello(version))
        assert await tls.answer(peer) == (tls.ALERT, bytes((2, alert)))
    await listener.event("tls.version")


@pytest.mark.parametrize(
    "suite",
    [tls.RC4, tls.TRIPLE_DES, tls.NULL_SHA, tls.ANONYMOUS, tls.CBC_SHA1, tls.EXPORT],
    ids=["RC4", "3DES", "NULL", "anonymous", "CBC with SHA-1", "export"],
)
async def test_S04_weak_cipher_suites(listener: TlsListener, suite: int) -> None:
    async with listener.plain() as peer:
        await peer.send(client_hello(suites=[suite]))
        assert await tls.answer(peer) == (tls.ALERT, bytes((2, tls.HANDSHAKE_FAILURE)))
    await listener.event("tls.cipher")


async def test_N02_a_connection_that_is_closed_in_the_handshake_is_everyday_life(listener: TlsListener) -> None:
    async with listener.plain() as peer:
        await peer.send(client_hello())
        await tls.answer(peer)
    await listener.event("tls.closed")


# ------------------------------------------------------------------ S10 to S12: cut off, and too much


@pytest.mark.parametrize("ended", [False, True], ids=["FIN alone", "close_notify and FIN"])
async def test_S10_end_in_the_middle_of_an_object(listener: TlsListener, ended: bool) -> None:
    async with listener.associated() as peer:
        assert isinstance(peer, tls.TlsRequestor)
        await peer.send(half_object())
        if ended:
            await peer.send_end()
    await listener.event("conn.eof_mid_object")
    assert bool(listener.seen("tls.truncated")) is not ended
    listener.holds(KEPT)


async def test_S10_reset_in_the_middle_of_an_object(listener: TlsListener) -> None:
    async with listener.associated() as peer:
        await peer.send(half_object())
        peer.reset()
    await listener.event("conn.reset")
    assert not listener.seen("tls.truncated")
    listener.holds(KEPT)


async def test_S10_record_that_was_tampered_with_ends_the_connection(listener: TlsListener) -> None:
    async with listener.associated() as peer:
        assert isinstance(peer, tls.TlsRequestor)
        await peer.send_record(raw.message(1, raw.c_store_rq(NEXT, 2), raw.dataset(NEXT)), spoil=True)
        with pytest.raises(ssl.SSLError, match="(?i)bad.record.mac"):
            await peer.read_pdu()
    await listener.event("tls.failed")
    listener.holds(KEPT)


async def test_S11_compression_is_not_agreed_on(listener: TlsListener) -> None:
    async with listener.plain() as peer:
        await peer.send(client_hello(compressions=b"\1\0"))
        kind, hello = await tls.answer(peer) or (0, b"")
    assert kind == tls.HANDSHAKE and hello[0] == 2  # ServerHello: version, random, session, suite, compression
    assert hello[39 + hello[38] + 2] == 0


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
async def test_S11_no_ticket_is_given_for_a_session_to_be_resumed_with(
    listener: TlsListener, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    async with listener.connect(client_context(certificates, certificates.client, version=version)) as peer:
        assert isinstance(peer, tls.TlsRequestor)
        await peer.associate()
        await peer.release()
        assert peer.tls.session is None or not peer.tls.session.has_ticket


async def test_S11_renegotiation_is_refused(listener: TlsListener, certificates: Certificates) -> None:
    client = certificates.client
    process = await asyncio.create_subprocess_exec(
        *("openssl", "s_client", "-connect", f"{listener.host}:{listener.port}", "-tls1_2"),
        *("-cert", str(client.certificate), "-key", str(client.key)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    await listener.event("tls.opened")
    output, _ = await asyncio.wait_for(process.communicate(b"R\n"), 10)
    assert b"no renegotiation" in output


async def test_S12_hello_in_records_of_one_byte_with_a_hundred_extensions(listener: TlsListener) -> None:
    async with listener.plain() as peer:
        await peer.send(client_hello(extensions=100, fragment=1))
        kind, _ = await tls.answer(peer) or (0, b"")
    assert kind == tls.HANDSHAKE


async def test_S12_chain_of_two_megabytes(listener: TlsListener, certificates: Certificates, tmp_path: Path) -> None:
    client = certificates.client
    chain = tmp_path / "chain.pem"
    chain.write_bytes(client.certificate.read_bytes() + certificates.authority.certificate.read_bytes() * 2500)
    context = client_context(certificates, None)
    context.load_cert_chain(chain, client.key)
    assert await refused(listener, context)
    await listener.event("tls.limit")


# ------------------------------------------------------------------ S16: many


async def test_S16_half_open_and_reset_connections_cost_no_memory(listener: TlsListener) -> None:
    hello = client_hello()

    async def strangers(count: int) -> None:
        for number in range(count):
            async with listener.plain() as peer:
                await peer.send(hello[: number % len(hello)])
                peer.reset()

    await strangers(100)
    before = resident_bytes()
    await strangers(300)
    assert resident_bytes() - before < 2 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
