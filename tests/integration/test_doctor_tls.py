"""doctor and TLS: what it says of a PACS's certificate, of ours, and of a PACS that sends otherwise than we listen."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fastmove.bench.spec import Spec
from fastmove.errors import TlsFailed, TlsUnusable
from fastmove.services.doctor.examination import Examination
from fastmove.services.doctor.findings import Outcome, Side
from fastmove.types import PeerAddress
from tests.certificates import Certificates
from tests.integration.doctor import LIMITS, advice, examined
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.peers import free_port
from tests.integration.tls import server_context, settings_for, tls_server

HOST = "127.0.0.1"
SPEC = Spec(studies=1, series=1, instances=3, size=2_000)


def here_and_there(examination: Examination, probe: str) -> tuple[str, str]:
    """The advice of a finding."""
    finding = examination.findings[probe]
    return advice(finding, Side.HERE), advice(finding, Side.PACS)


def address(port: int, certificates: Certificates, **change: Any) -> PeerAddress:
    return PeerAddress("FASTPACS", HOST, port, settings_for(certificates, certificates.elliptic, **change))


@asynccontextmanager
async def pacs(certificates: Certificates, port: int, *, sends: bool = True) -> AsyncIterator[EmbeddedPacs]:
    """A PACS with TLS, that sends to us at this port by TLS, or without."""
    settings = settings_for(certificates, certificates.server)
    destinations = {"FASTMOVE": PeerAddress("FASTMOVE", HOST, port, settings if sends else None)}
    async with embedded_pacs(SPEC, destinations=destinations, tls=settings) as running:
        yield running


async def test_all_is_well_by_tls_both_ways(certificates: Certificates) -> None:
    port = free_port()
    async with pacs(certificates, port) as running:
        peer = address(running.acceptor.port, certificates)
        examination = await examined(peer, port=port, listener_tls=peer.tls)
    assert examination.problems == []
    finding = examination.findings["tls"]
    assert finding.outcome is Outcome.OK and "a certificate for localhost, 127.0.0.1" in finding.seen
    assert "'Test authority'" in finding.seen and finding.numbers["version"] == "TLSv1.3"
    assert "listen by TLS" in examination.findings["listen"].seen


async def test_pacs_that_sends_without_tls(certificates: Certificates) -> None:
    port = free_port()
    async with pacs(certificates, port, sends=False) as running:
        peer = address(running.acceptor.port, certificates)
        examination = await examined(peer, port=port, listener_tls=peer.tls)
    assert [each.probe for each in examination.problems] == ["arrival"]
    here, there = here_and_there(examination, "arrival")
    assert "--no-tls-receive" in here and "sends without TLS" in there


async def test_pacs_that_sends_by_tls_to_a_plain_port(certificates: Certificates) -> None:
    port = free_port()
    async with pacs(certificates, port) as running:
        examination = await examined(address(running.acceptor.port, certificates), port=port)
    here, there = here_and_there(examination, "arrival")
    assert "--tls-receive" in here and "send by TLS" in there


async def test_tls_port_that_is_asked_without_tls(certificates: Certificates) -> None:
    async with pacs(certificates, free_port()) as running:
        examination = await examined(PeerAddress("FASTPACS", HOST, running.acceptor.port))
    assert "tls" not in examination.findings
    assert "--tls" in here_and_there(examination, "dicom")[0]


@pytest.mark.parametrize(
    ("shown", "change", "said", "here", "there"),
    [
        ("elsewhere", {}, "for pacs.example, 192.0.2.1", "--tls-server-name pacs.example or 192.0.2.1", "this host"),
        ("unknown_ca", {}, "of 'Other authority'", "--tls-pin SHA256:", ""),
        ("self_signed", {}, "of 'SELF'", "--tls-ca", ""),
        ("expired", {}, "until", "clock", "valid now"),
        ("weak_key", {}, "its key is too short", "", "RSA of 2048 bits"),
        ("client_only", {}, "not made for this", "", "serverAuth"),
        ("server", {"pinned": ("0" * 64,)}, "not a pinned one", "somebody is in between", ""),
    ],
)
async def test_certificate_of_the_pacs_that_is_not_right(
    certificates: Certificates, shown: str, change: dict[str, Any], said: str, here: str, there: str
) -> None:
    with tls_server(server_context(certificates, getattr(certificates, shown))) as port:
        examination = await examined(address(port, certificates, **change))
    (problem,) = examination.problems
    assert (problem.probe, type(problem.cause)) == ("tls", TlsFailed)
    assert said in problem.seen, problem.seen
    advised = here_and_there(examination, "tls")
    assert here in advised[0] and there in advised[1], advised
    assert "not tried: see TLS" in examination.findings["dicom"].seen


async def test_certificate_of_the_pacs_that_ends_soon(certificates: Certificates) -> None:
    with tls_server(server_context(certificates, certificates.soon)) as port:
        examination = await examined(address(port, certificates), limits=LIMITS.replace(associate_s=0.2))
    finding = examination.findings["tls"]
    assert finding.outcome is Outcome.NOTE and "in 5 days" in finding.seen
    assert "renewed" in advice(finding, Side.PACS)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
async def test_pacs_that_does_not_trust_our_certificate(certificates: Certificates, version: ssl.TLSVersion) -> None:
    context = server_context(certificates, certificates.server)
    context.minimum_version = context.maximum_version = version
    ours = certificates.unknown_ca
    with tls_server(context) as port:
        examination = await examined(address(port, certificates, certificate=ours.certificate, key=ours.key))
    (problem,) = examination.problems
    assert problem.probe == ("tls" if version is ssl.TLSVersion.TLSv1_2 else "dicom")
    assert "does not know the authority of our certificate" in problem.seen
    assert "trust the authority" in advice(problem, Side.PACS)


@pytest.mark.parametrize(
    "change", [lambda c: {"key": c.server.key.parent / "none"}, lambda c: {"trusted": (c.server.key,)}]
)
async def test_files_of_ours_that_are_no_good(
    certificates: Certificates, change: Callable[[Certificates], dict[str, Any]]
) -> None:
    with tls_server(server_context(certificates, certificates.server)) as port:
        examination = await examined(address(port, certificates, **change(certificates)))
    (problem,) = examination.problems
    assert (problem.probe, type(problem.cause)) == ("tls", TlsUnusable)


async def test_port_without_tls(certificates: Certificates) -> None:
    async with embedded_pacs(SPEC) as running:
        examination = await examined(address(running.acceptor.port, certificates))
    (problem,) = examination.problems
    assert problem.probe == "tls" and "2762" in advice(problem, Side.HERE)
