"""TLS with the programs of others: DCMTK on either side of us, Orthanc as a PACS; files byte-equal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.credentials import TlsProfile
from fastmove.errors import TlsFailed
from fastmove.limits import Limits
from fastmove.services.storage_scu import send
from fastmove.types import PeerAddress
from tests.certificates import Certificates, Issued
from tests.corpus import BASIC_TEXT_SR, Corpus, CorpusFile
from tests.integration import peers, raw
from tests.integration.objects import data_sets, read_files
from tests.integration.peers import DcmtkStoreScp, Orthanc, free_port
from tests.integration.programs import Ended, fastmove
from tests.integration.tls import client_context, listening, settings_for

HOST: Final = "127.0.0.1"
LIMITS: Final = Limits(connect_s=2.0, associate_s=5.0, response_s=10.0, release_s=2.0, artim_s=0.5, tls_s=5.0)


def dcmtk(certificates: Certificates, shown: Issued) -> tuple[str, ...]:
    """TLS of a program of DCMTK with this certificate, which trusts the authority of the tests."""
    return ("+tls", str(shown.key), str(shown.certificate), "+cf", str(certificates.authority.certificate))


def ours(certificates: Certificates, shown: Issued) -> tuple[str, ...]:
    """The same of a verb of ours."""
    return (
        *("--tls", "--tls-cert", str(shown.certificate), "--tls-key", str(shown.key)),
        *("--tls-ca", str(certificates.authority.certificate)),
    )


def unchanged(files: list[CorpusFile]) -> dict[str, bytes]:
    """The data sets of those that DCMTK, and Orthanc with it, does not write anew: they have no sequences."""
    plain = data_sets({file.sop_instance: file.path for file in files if file.sop_class != BASIC_TEXT_SR})
    assert len(plain) > 3
    return plain


# ------------------------------------------------------------------ DCMTK sends to us


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("profile", TlsProfile, ids=[each.value for each in TlsProfile])
async def test_storescu_and_echoscu(
    certificates: Certificates, corpus: Corpus, tmp_path: Path, profile: TlsProfile
) -> None:
    options = dcmtk(certificates, certificates.client)
    async with listening(tmp_path / "in", certificates, LIMITS, profile=profile) as listener:
        to = peers.Address(listener.ae_title, HOST, listener.port)
        code, output = await peers.echoscu(to, *options)
        assert code == 0, output
        code, output = await peers.storescu(to, *corpus.paths, options=options)
        assert code == 0, output
        assert {each["fingerprint"] for each in listener.seen("tls.opened")} == {certificates.client.fingerprint}
        stored = data_sets({path.stem: path for path in listener.files()})
    assert set(stored) == {file.sop_instance for file in corpus.files}
    explicit = [file for file in corpus.files if file.transfer_syntax != raw.IMPLICIT_LE]  # as which storescu sends it
    assert unchanged(explicit).items() <= stored.items()


@pytest.mark.peer("dcmtk")
async def test_extended_profile_of_dcmtk(certificates: Certificates, corpus: Corpus, tmp_path: Path) -> None:
    async with listening(tmp_path / "in", certificates, LIMITS, profile=TlsProfile.MODIFIED) as listener:
        to = peers.Address(listener.ae_title, HOST, listener.port)
        code, output = await peers.storescu(
            to, corpus.paths[0], options=(*dcmtk(certificates, certificates.elliptic), "+pz")
        )
        assert code == 0, output
        assert len(listener.files()) == 1


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize(
    ("options", "event"),
    [
        ((), "tls.not_tls"),
        (("+tla", "-ic"), "tls.no_cert"),
        (("unknown_ca",), "tls.cert"),
        (("expired",), "tls.cert"),
        (("client", "+pn"), "tls.cipher"),
    ],
    ids=["plain", "anonymous", "unknown authority", "expired", "without encryption"],
)
async def test_storescu_that_is_not_let_in(
    certificates: Certificates, corpus: Corpus, tmp_path: Path, options: tuple[str, ...], event: str
) -> None:
    if options and not options[0].startswith("+"):
        options = (*dcmtk(certificates, getattr(certificates, options[0])), *options[1:])
    async with listening(tmp_path / "in", certificates, LIMITS) as listener:
        to = peers.Address(listener.ae_title, HOST, listener.port)
        code, output = await peers.storescu(to, corpus.paths[0], options=options)
        assert code != 0, output
        await listener.event(event)
        assert listener.files() == []
        code, output = await peers.echoscu(to, *dcmtk(certificates, certificates.client))
        assert code == 0, output


# ------------------------------------------------------------------ we send to DCMTK


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("who", ["client", "elliptic"])
async def test_storescp(certificates: Certificates, corpus: Corpus, who: str) -> None:
    shown: Issued = getattr(certificates, who)
    scp = DcmtkStoreScp(options=("+B", "+xa", *dcmtk(certificates, certificates.server)))
    scp.context = client_context(certificates, certificates.client)
    async with scp as peer:
        address = PeerAddress(peer.ae_title, peer.host, peer.port, settings_for(certificates, shown))
        outcome = await send(address, read_files(corpus.paths), parallel=2, limits=LIMITS)
        assert (outcome.sent, outcome.failures, outcome.warnings) == (len(corpus.files), [], [])
        assert data_sets(peer.stored()) == data_sets({file.sop_instance: file.path for file in corpus.files})


@pytest.mark.peer("dcmtk")
async def test_storescp_that_does_not_believe_us(certificates: Certificates, corpus: Corpus) -> None:
    scp = DcmtkStoreScp(options=("+B", "+xa", *dcmtk(certificates, certificates.server)))
    scp.context = client_context(certificates, certificates.client)
    async with scp as peer:
        settings = settings_for(certificates, certificates.unknown_ca)
        with pytest.raises(TlsFailed, match="does not know the authority of our certificate"):
            await send(
                PeerAddress(peer.ae_title, peer.host, peer.port, settings), read_files(corpus.paths), limits=LIMITS
            )
        assert peer.stored() == {}


# ------------------------------------------------------------------ Orthanc


@asynccontextmanager
async def orthanc(certificates: Certificates, corpus: Corpus, port: int) -> AsyncIterator[Orthanc]:
    """Orthanc with TLS, that holds the corpus: it sends to ME by TLS, to PLAIN without, both of them this port."""
    server = certificates.server
    pacs = Orthanc(
        settings={
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(server.certificate),
            "DicomTlsPrivateKey": str(server.key),
            "DicomTlsTrustedCertificates": str(certificates.authority.certificate),
            "DicomTlsRemoteCertificateRequired": True,
            "DicomModalities": {
                ae: {"AET": ae, "Host": HOST, "Port": port, "UseDicomTls": ae == "ME"} for ae in ("ME", "PLAIN")
            },
        }
    )
    pacs.context = client_context(certificates, certificates.client)
    async with pacs as running:
        code, output = await peers.storescu(running, *corpus.paths, options=dcmtk(certificates, certificates.client))
        assert code == 0, output
        yield running


async def done(*words: str) -> Ended:
    ended = await fastmove(*words, env={"FASTMOVE_CONFIG": "/dev/null"})
    assert ended.code == 0, f"{words}\n{ended.out}\n{ended.err}"
    return ended


@pytest.mark.peer("dcmtk", "orthanc")
async def test_orthanc(certificates: Certificates, corpus: Corpus, tmp_path: Path) -> None:
    """Echo, find, retrieve and movescu: what comes by TLS is what comes without, and what was sent."""
    port, study = free_port(), corpus.studies[0]
    tls = ours(certificates, certificates.elliptic)
    async with orthanc(certificates, corpus, port) as pacs:
        there = f"{pacs.ae_title}@{HOST}:{pacs.port}"
        echo, find = await asyncio.gather(
            done("echo", there, *tls), done("find", there, *tls, "--format", "json", "--study", study)
        )
        assert "answered in" in echo.out
        assert {line["StudyInstanceUID"] for line in find.lines} == {study}

        came = {}
        for name, title, more in (("tls", "ME", ()), ("plain", "PLAIN", ("--no-tls-receive",))):
            here = ("--aet", title, "--port", str(port), "--host", HOST, "--to", str(tmp_path / name), "--no-durable")
            await done("retrieve", there, "--study", study, *here, *tls, *more)
            came[name] = data_sets({path.stem: path for path in (tmp_path / name).rglob("*.dcm")})

        (tmp_path / "movescu").mkdir()
        keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
        to = ("-aet", "ME", "-aec", pacs.ae_title, "+P", str(port), "+B", "-od", str(tmp_path / "movescu"))
        await done("movescu", *dcmtk(certificates, certificates.elliptic), *keys, *to, HOST, str(pacs.port))
        files = (tmp_path / "movescu").iterdir()
        came["movescu"] = data_sets({path.name.partition(".")[2]: path for path in files})

        # Who has no certificate, or one that the PACS does not know, gets nothing.
        stranger = await fastmove("echo", there, *ours(certificates, certificates.unknown_ca))
        assert stranger.code == 61, stranger.err
    files_of_study = corpus.of_study(study)
    assert set(came["tls"]) == {file.sop_instance for file in files_of_study}
    assert came["tls"] == came["plain"] == came["movescu"]
    explicit = [file for file in files_of_study if file.transfer_syntax == raw.EXPLICIT_LE]
    assert unchanged(explicit).items() <= came["tls"].items()
