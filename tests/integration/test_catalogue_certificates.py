"""Table S of the fault catalogue: peers with the wrong certificate, or with the title of another; named by row."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fastmove.credentials import PeerCertificates
from tests.certificates import Certificates, Issued
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw
from tests.integration.conftest import LIMITS
from tests.integration.tls import TlsListener, client_context, echoes, listening, refused

pytestmark = pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)

TLS_1_2, TLS_1_3 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3

Change = Callable[[Certificates], dict[str, Any]]


@pytest.fixture
def listener(tls_listener: TlsListener) -> TlsListener:
    """That of this file has TLS."""
    return tls_listener


# ------------------------------------------------------------------ S05, S06: certificates


@pytest.mark.parametrize(
    ("version", "alert"),
    [(TLS_1_2, "SSLV3_ALERT_HANDSHAKE_FAILURE"), (TLS_1_3, "TLSV13_ALERT_CERTIFICATE_REQUIRED")],
    ids=["1.2", "1.3"],
)
async def test_S05_no_certificate(
    listener: TlsListener, certificates: Certificates, version: ssl.TLSVersion, alert: str
) -> None:
    assert await refused(listener, client_context(certificates, None, version=version)) == alert
    await listener.event("tls.no_cert")
    assert not listener.seen("tls.opened")


@pytest.mark.parametrize("version", [TLS_1_2, TLS_1_3], ids=["1.2", "1.3"])
@pytest.mark.parametrize(
    ("who", "reason", "alert"),
    [
        ("expired", "expired", "SSLV3_ALERT_CERTIFICATE_EXPIRED"),
        ("not_yet_valid", "not_yet_valid", "SSLV3_ALERT_BAD_CERTIFICATE"),
        ("unknown_ca", "unknown_ca", "TLSV1_ALERT_UNKNOWN_CA"),
        ("self_signed", "self_signed", "TLSV1_ALERT_UNKNOWN_CA"),
        ("server_only", "purpose", "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE"),
        ("weak_key", "weak_key", "SSLV3_ALERT_BAD_CERTIFICATE"),
        ("weak_signature", "weak_signature", "SSLV3_ALERT_BAD_CERTIFICATE"),
    ],
)
async def test_S06_bad_certificates(
    listener: TlsListener, certificates: Certificates, version: ssl.TLSVersion, who: str, reason: str, alert: str
) -> None:
    context = client_context(certificates, None, version=version, weak=True)
    shown: Issued = getattr(certificates, who)
    context.load_cert_chain(shown.certificate, shown.key)
    assert await refused(listener, context) == alert
    assert (await listener.event("tls.cert"))["detail"].startswith(f"reason={reason}:")
    assert not listener.seen("tls.opened")


@pytest.mark.parametrize("tls_change", [lambda c: {"revoked": (c.revocations,)}], ids=["with a list"])
async def test_S06_revoked_certificate(listener: TlsListener, certificates: Certificates) -> None:
    context = client_context(certificates, certificates.revoked)
    assert await refused(listener, context) == "SSLV3_ALERT_CERTIFICATE_REVOKED"
    assert (await listener.event("tls.cert"))["detail"].startswith("reason=revoked:")
    await echoes(listener)


@pytest.mark.parametrize("tls_change", [lambda c: {"revoked": (c.stale_revocations,)}], ids=["old list"])
async def test_S06_expired_revocation_list_lets_nobody_in(
    runner: asyncio.Runner, tmp_path: Path, certificates: Certificates, tls_change: Change
) -> None:
    async with listening(tmp_path / "stored", certificates, LIMITS, **tls_change(certificates)) as listener:
        await refused(listener, client_context(certificates, certificates.client))
        assert (await listener.event("tls.cert"))["detail"].startswith("reason=crl_expired:")


async def test_S06_peer_without_certificate_where_it_is_optional(
    runner: asyncio.Runner, tmp_path: Path, certificates: Certificates
) -> None:
    async with listening(tmp_path / "stored", certificates, LIMITS, peers=PeerCertificates.OPTIONAL) as listener:
        await echoes(listener, client_context(certificates, None))
        assert (await listener.event("tls.opened"))["fingerprint"] == ""
        await refused(listener, client_context(certificates, certificates.expired))
        await listener.event("tls.cert")


# ------------------------------------------------------------------ S07: AE titles


def bindings(certificates: Certificates, folder: Path) -> Path:
    """A file that binds AE titles to certificates."""
    path = folder / "ae-titles.toml"
    path.write_text(
        f"""
        SCRIPTED = "CN=CLIENT"
        "BY SAN" = ["DNS:Client.Example", "DNS:other.example"]
        DIGEST = "sha256:{certificates.client.fingerprint.upper()}"
        ANOTHER = "CN=ANOTHER"
        """
    )
    return path


@pytest.mark.parametrize("title", ["SCRIPTED", "BY SAN", "DIGEST"])
async def test_S07_ae_title_that_is_bound_to_this_certificate(
    runner: asyncio.Runner, tmp_path: Path, certificates: Certificates, title: str
) -> None:
    bound = bindings(certificates, tmp_path)
    async with (
        listening(tmp_path / "in", certificates, LIMITS, ae_titles=bound) as listener,
        listener.connect() as peer,
    ):
        await peer.associate(raw.associate_rq(calling=title))
        await peer.release()


@pytest.mark.parametrize("title", ["ANOTHER", "STRANGER"])
async def test_S07_ae_title_that_is_not(
    runner: asyncio.Runner, tmp_path: Path, certificates: Certificates, title: str
) -> None:
    async with listening(tmp_path / "in", certificates, LIMITS, ae_titles=bindings(certificates, tmp_path)) as listener:
        async with listener.connect() as peer:
            await peer.send(raw.associate_rq(calling=title))
            await peer.expect_reject(1, 1, 3)
        assert repr(title) in (await listener.event("tls.aet_binding"))["detail"]
