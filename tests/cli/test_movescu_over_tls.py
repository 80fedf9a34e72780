"""`fastmove movescu +tls` as a script runs it: to a PACS with TLS that sends by TLS, and what goes wrong."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from tests.certificates import PASSWORD, Certificates, Issued, pem_key
from tests.integration.peers import free_port
from tests.integration.programs import Ended, Program, fastmove
from tests.integration.tls import write_secret

HOST: Final = "127.0.0.1"
INSTANCES: Final = 3


@pytest.fixture(autouse=True)
def no_configuration_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMOVE_CONFIG", "/dev/null")
    monkeypatch.delenv("FASTMOVE_TLS_KEY_PASSWORD", raising=False)


@asynccontextmanager
async def pacs(certificates: Certificates, port: int, *more: str) -> AsyncIterator[tuple[Program, str]]:
    """A test PACS with TLS whose move destination is us at this port; and its port."""
    server = certificates.server
    words = ("pacs", "--port", "0", "--synthetic", f"studies=1,series=1,instances={INSTANCES},size=20k", "--tls")
    files = ("--tls-cert", server.certificate, "--tls-key", server.key, "--tls-ca", certificates.authority.certificate)
    async with Program(*words, *files, "--move-destination", f"ME@{HOST}:{port}", *more) as program:
        yield program, str((await program.event("pacs.ready"))["port"])


async def moved(there: str, here: int, folder: Path, study: str, *tls: object) -> Ended:
    """A C-MOVE of a study to ourselves."""
    key = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study}")
    listening = ("-aet", "ME", "-aec", "FASTPACS", "+P", str(here), "-od", str(folder), "-td", "10")
    words = ("-v", *map(str, tls), *key, *listening, HOST, there)
    return await fastmove("movescu", *words, within=("setsid", "--wait"))  # away from a terminal that could be asked


def ours(certificates: Certificates, shown: Issued | None = None) -> tuple[object, ...]:
    shown = shown or certificates.elliptic
    return ("+tls", shown.key, shown.certificate, "+cf", certificates.authority.certificate)


async def found(there: str, certificates: Certificates) -> str:
    """The study that the PACS holds."""
    client = certificates.client
    files = (client.certificate, client.key, certificates.authority.certificate)
    options = (word for pair in zip(("--tls-cert", "--tls-key", "--tls-ca"), files, strict=True) for word in pair)
    ended = await fastmove("find", f"FASTPACS@{HOST}:{there}", "--format", "json", "--tls", *map(str, options))
    assert ended.code == 0, ended.err
    return str(ended.lines[0]["StudyInstanceUID"])


async def test_move_by_tls_both_ways(certificates: Certificates, tmp_path: Path) -> None:
    here, folder = free_port(), tmp_path / "in"
    folder.mkdir()
    async with pacs(certificates, here) as (program, there):
        study = await found(there, certificates)
        ended = await moved(there, here, folder, study, *ours(certificates), "-d")
        assert ended.code == 0, ended.err
        assert len(list(folder.iterdir())) == INSTANCES
        assert f"certificate of the peer: SHA256:{certificates.server.fingerprint}" in ended.err
        # Half of it without TLS is refused on the way in, or on the way out.
        refused = await moved(there, here, folder, study)
        assert refused.code == 61
        await program.event("tls.not_tls")


async def test_pacs_that_sends_without_tls_is_not_let_in(certificates: Certificates, tmp_path: Path) -> None:
    here = free_port()
    async with pacs(certificates, here, "--no-tls-send") as (_, there):
        study = await found(there, certificates)
        ended = await moved(there, here, tmp_path, study, *ours(certificates))
    assert ended.code == 69, ended.err
    assert "E: 0006:031e DUL secure transport layer: the peer speaks DICOM without TLS (tls.not_tls)" in ended.err
    assert list(tmp_path.iterdir()) == []


async def test_peers_without_the_right_certificate(certificates: Certificates, tmp_path: Path) -> None:
    here = free_port()
    async with pacs(certificates, here) as (program, there):
        ended = await moved(there, here, tmp_path, "1.2", *ours(certificates, certificates.unknown_ca))
        assert ended.code == 61
        assert "Association Request Failed:\nF: 0006:031e DUL secure transport layer: " in ended.err
        assert "the peer does not know the authority of our certificate (tls.refused)" in ended.err
        await program.event("tls.cert")
        other = ("+tls", certificates.elliptic.key, certificates.elliptic.certificate)
        trust = ("+cf", certificates.other_authority.certificate)
        ended = await moved(there, here, tmp_path, "1.2", *other, *trust)
        assert ended.code == 61 and "cannot be trusted" in ended.err, ended.err
        ended = await moved(there, here, tmp_path, await found(there, certificates), *other, "-ic")
        assert ended.code == 0, ended.err
    assert len(list(tmp_path.iterdir())) == INSTANCES


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("+cf", "none"), "tls.trust: none: No such file or directory"),
        (("+pw", "wrong"), "it is encrypted, and this is not its password"),
        ((), "it is encrypted, and there is no password for it"),
    ],
)
async def test_tls_that_cannot_be_started_ends_with_70(
    certificates: Certificates, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    key = write_secret(tmp_path / "key.pem", pem_key(certificates.client.private, PASSWORD))
    trust = ("+cf", certificates.authority.certificate)
    more = [word.format(key=key) for word in words]
    password = () if not words or "+pw" in words else ("+pw", PASSWORD)
    ended = await moved(
        "1", free_port(), tmp_path, "1.2", "+tls", key, certificates.client.certificate, *trust, *password, *more
    )
    assert ended.code == 70 and "F: cannot start TLS: " in ended.err and said in ended.err, ended.err
    assert PASSWORD not in ended.err


async def test_seed_is_written_back(certificates: Certificates, tmp_path: Path) -> None:
    seed = tmp_path / "seed"
    seed.write_bytes(b"x")
    ended = await moved("1", free_port(), tmp_path, "1.2", *ours(certificates), "+rs", seed, "+ws")
    assert ended.code == 61 and len(seed.read_bytes()) == 1024


async def test_lists() -> None:
    for option, line in (("+cc", "  TLS_AES_128_GCM_SHA256\n"), ("--list-profiles", "  BCP 195 RFC 8996 TLS Profile")):
        ended = await fastmove("movescu", option)
        assert (ended.code, line in ended.out, ended.err) == (0, True, "")
