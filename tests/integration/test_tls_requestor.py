"""Associations that we request over TLS: what servers may show, and what is made of it (rows S08 and S09)."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.credentials import PeerCertificates, TlsProfile
from fastmove.errors import TlsFailed, TlsUnusable
from fastmove.limits import Limits
from fastmove.notices import Notice, as_dict
from fastmove.services.listener import listen
from fastmove.services.verification import echo
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy
from tests.certificates import Certificates, Issued
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw
from tests.integration.scripted import ScriptedAcceptor, Send
from tests.integration.tls import server_context, settings_for, tls_server

pytestmark = pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)

LIMITS: Final = Limits(
    connect_s=2.0, associate_s=2.0, tls_s=2.0, artim_s=0.5, release_s=2.0, response_s=2.0, stop_s=1.0
)
TLS_1_2: Final = ssl.TLSVersion.TLSv1_2


def peer(port: int, certificates: Certificates, ours: Issued | None = None, **change: Any) -> PeerAddress:
    """A server on this host, and how we speak to it."""
    return PeerAddress("SERVER", "127.0.0.1", port, settings_for(certificates, ours or certificates.client, **change))


async def failure(address: PeerAddress, events: list[str] | None = None) -> TlsFailed:
    """Why there is no TLS with it."""
    told: list[str] = [] if events is None else events
    with pytest.raises(TlsFailed) as caught:
        await echo(address, limits=LIMITS, notify=lambda notice: told.append(notice.event))
    assert told[-1] == caught.value.key
    return caught.value


@pytest.mark.parametrize("profile", TlsProfile)
@pytest.mark.parametrize("who", ["client", "elliptic"])
async def test_both_sides_are_ours(
    runner: asyncio.Runner, tmp_path: Path, certificates: Certificates, who: str, profile: TlsProfile
) -> None:
    events: list[dict[str, Any]] = []

    def notify(notice: Notice) -> None:
        events.append(as_dict(notice))

    shown: Issued = getattr(certificates, who)
    with StorageTarget(tmp_path / "in", WriteOptions(durable=False)) as target:
        policy = AcceptPolicy("SERVER")
        settings = settings_for(certificates, certificates.server, profile=profile)
        async with listen("127.0.0.1", 0, target, policy, LIMITS, notify, tls=settings) as acceptor:
            for name in ("localhost", "127.0.0.1"):
                tls = settings_for(certificates, shown, profile=profile)
                await echo(PeerAddress("SERVER", name, acceptor.port, tls), limits=LIMITS)
    opened = [event for event in events if event["event"] == "tls.opened"]
    assert [each["fingerprint"] for each in opened] == [shown.fingerprint] * 2
    assert {each["version"] for each in opened} == {"TLSv1.3"}


async def test_S08_certificate_for_another_name(runner: asyncio.Runner, certificates: Certificates) -> None:
    with tls_server(server_context(certificates, certificates.elsewhere)) as port:
        error = await failure(peer(port, certificates))
        assert (error.key, "'127.0.0.1'" in str(error)) == ("tls.name", True)
        # Under the name that it has, without a look at the name, and as the one that is pinned it is all right.
        for change in (
            {"server_name": "pacs.example"},
            {"check_name": False},
            {"pinned": (certificates.elsewhere.fingerprint,)},
            {"peers": PeerCertificates.IGNORED},
        ):
            with pytest.raises(Exception, match="no answer within 0.2 s"):
                await echo(peer(port, certificates, **change), limits=LIMITS.replace(associate_s=0.2))


async def test_S08_certificate_that_is_not_the_pinned_one(runner: asyncio.Runner, certificates: Certificates) -> None:
    with tls_server(server_context(certificates, certificates.server)) as port:
        error = await failure(peer(port, certificates, pinned=(certificates.client.fingerprint,)))
    assert error.key == "tls.pin" and certificates.server.fingerprint in str(error)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1], ids=["1.0", "1.1"])
async def test_S09_server_of_old_versions(
    runner: asyncio.Runner, certificates: Certificates, version: ssl.TLSVersion
) -> None:
    context = server_context(certificates, certificates.server)
    with pytest.warns(DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    with tls_server(context) as port:
        assert (await failure(peer(port, certificates))).key == "tls.version"


async def test_server_of_weak_cipher_suites(runner: asyncio.Runner, certificates: Certificates) -> None:
    context = server_context(certificates, certificates.server)
    context.maximum_version = TLS_1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    with tls_server(context) as port:
        assert (await failure(peer(port, certificates))).key == "tls.cipher"


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ("expired", "expired"),
        ("not_yet_valid", "not_yet_valid"),
        ("unknown_ca", "unknown_ca"),
        ("self_signed", "self_signed"),
        ("client_only", "purpose"),
        ("weak_key", "weak_key"),
        ("weak_signature", "weak_signature"),
    ],
)
async def test_server_with_a_bad_certificate(
    runner: asyncio.Runner, certificates: Certificates, who: str, reason: str
) -> None:
    with tls_server(server_context(certificates, getattr(certificates, who))) as port:
        error = await failure(peer(port, certificates))
    assert error.key == "tls.cert" and error.detail.startswith(f"reason={reason}:")


async def test_server_whose_certificate_was_revoked(runner: asyncio.Runner, certificates: Certificates) -> None:
    with tls_server(server_context(certificates, certificates.revoked)) as port:
        error = await failure(peer(port, certificates, revoked=(certificates.revocations,)))
    assert error.detail.startswith("reason=revoked:")


@pytest.mark.parametrize("version", [TLS_1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(
    ("who", "said"),
    [("unknown_ca", "does not know the authority"), ("expired", "has expired"), (None, "certificate")],
)
async def test_server_that_refuses_our_certificate(
    runner: asyncio.Runner, certificates: Certificates, who: str | None, said: str, version: ssl.TLSVersion
) -> None:
    context = server_context(certificates, certificates.server)
    context.minimum_version = context.maximum_version = version
    with tls_server(context) as port:
        shown = {} if who is None else {"certificate": getattr(certificates, who).certificate}
        settings = {"certificate": None, "key": None, **shown}
        if who is not None:
            settings["key"] = getattr(certificates, who).key
        error = await failure(peer(port, certificates, **settings))
    # TLS 1.2 has no alert of its own for a certificate that is missing.
    assert error.key == ("tls.cipher" if who is None and version is TLS_1_2 else "tls.refused"), str(error)
    assert said in str(error) or error.key == "tls.cipher"


async def test_server_that_speaks_dicom_without_tls(runner: asyncio.Runner, certificates: Certificates) -> None:
    async with ScriptedAcceptor([[Send(raw.abort())]]) as server:
        error = await failure(peer(server.port, certificates))
    assert error.key == "tls.not_tls" and "DICOM without TLS" in str(error)


async def test_server_that_closes_in_the_handshake(runner: asyncio.Runner, certificates: Certificates) -> None:
    async with await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0) as server:
        error = await failure(peer(server.sockets[0].getsockname()[1], certificates))
    assert error.key == "tls.closed"


async def test_server_that_is_silent_in_the_handshake(runner: asyncio.Runner, certificates: Certificates) -> None:
    async with ScriptedAcceptor([[]]) as server:
        with pytest.raises(TlsFailed, match="no handshake within 0.2 s") as caught:
            await echo(peer(server.port, certificates), limits=LIMITS.replace(tls_s=0.2))
        assert caught.value.key == "tls.timeout"


async def test_nothing_is_sent_in_plain_after_tls_failed(runner: asyncio.Runner, certificates: Certificates) -> None:
    """However TLS fails, there is one connection, and no PDU on it."""
    seen: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.read(65536))
        writer.write(b"\x15\x03\x03\x00\x02\x02\x28")
        writer.close()

    async with await asyncio.start_server(record, "127.0.0.1", 0) as server:
        await failure(peer(server.sockets[0].getsockname()[1], certificates))
    assert [first[0] for first in seen] == [0x16]


async def test_authority_of_the_system_does_not_know_ours(runner: asyncio.Runner, certificates: Certificates) -> None:
    with tls_server(server_context(certificates, certificates.server, demands=False)) as port:
        error = await failure(peer(port, certificates, trusted=()))
    assert error.detail.startswith("reason=unknown_ca:")


async def test_our_own_files_are_looked_at_first(
    runner: asyncio.Runner, certificates: Certificates, tmp_path: Path
) -> None:
    with pytest.raises(TlsUnusable, match=r"no\.crt: No such file"):
        await echo(peer(1, certificates, certificate=tmp_path / "no.crt"), limits=LIMITS)
