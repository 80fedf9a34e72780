"""TLS and user identity as a user meets them: options, configuration, messages, exit codes; two processes."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner, Result
from tests.certificates import PASSWORD, Certificates, Issued, pem_key
from tests.integration import raw
from tests.integration.peers import free_port
from tests.integration.programs import Program, fastmove
from tests.integration.scripted import Recv, ScriptedAcceptor, Send
from tests.integration.tls import write_secret

from fastmove.cli import verbs

HOST: Final = "127.0.0.1"


@pytest.fixture(autouse=True)
def no_configuration_of_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        if name.startswith("FASTMOVE_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str | Path, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(verbs.main, list(map(str, arguments)), env=env)


async def ran(*words: str, env: dict[str, str] | None = None) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a process."""
    ended = await fastmove(*words, env=env)
    return ended.code, ended.out, ended.err


def ours(certificates: Certificates, shown: Issued | None = None) -> tuple[str, ...]:
    """The options of one side."""
    shown = shown or certificates.client
    paths = {
        "--tls-cert": shown.certificate,
        "--tls-key": shown.key,
        "--tls-ca": certificates.authority.certificate,
    }
    return ("--tls", *(str(word) for pair in paths.items() for word in pair))


@asynccontextmanager
async def listening(certificates: Certificates, to: Path, *more: str | Path) -> AsyncIterator[tuple[Program, int]]:
    """`fastmove listen --tls`, and its port."""
    words = ("listen", "--port", "0", "--host", HOST, "--to", to, "--no-durable")
    async with Program(*words, *ours(certificates, certificates.server), *more) as program:
        yield program, (await program.event("listen.started"))["port"]


async def test_echo_and_send_over_tls(certificates: Certificates, tmp_path: Path) -> None:
    file = tmp_path / "one.dcm"
    file.write_bytes(part10("1.2.3.4"))
    async with listening(certificates, tmp_path / "in") as (program, port):
        code, output, errors = await ran("echo", f"FASTMOVE@{HOST}:{port}", *ours(certificates))
        assert (code, "answered in" in output) == (0, True), errors
        code, output, errors = await ran("send", f"FASTMOVE@{HOST}:{port}", str(file), *ours(certificates))
        assert code == 0, errors
        opened = await program.event("tls.opened")
        assert opened["fingerprint"] == certificates.client.fingerprint
        await program.event("store.stored")


def part10(uid: str) -> bytes:
    """A file with a small image."""
    import struct

    def explicit(number: int, vr: bytes, value: bytes) -> bytes:
        return struct.pack("<HH2sH", 2, number, vr, len(value)) + value

    meta = b"".join(
        explicit(number, b"UI", raw.uid(value))
        for number, value in ((2, raw.CT_IMAGE), (3, uid), (0x10, raw.IMPLICIT_LE), (0x12, "1.2.3"))
    )
    return bytes(128) + b"DICM" + explicit(0, b"UL", struct.pack("<I", len(meta))) + meta + raw.dataset(uid)


async def test_listener_says_who_was_turned_away(certificates: Certificates, tmp_path: Path) -> None:
    async with listening(certificates, tmp_path / "in") as (program, port):
        to = f"FASTMOVE@{HOST}:{port}"
        code, _, errors = await ran("echo", to)
        assert code == 61
        await program.event("tls.not_tls")
        code, _, errors = await ran("echo", to, "--tls", "--tls-ca", str(certificates.authority.certificate))
        assert code == 61 and "the peer demands a certificate of ours (tls.refused)" in errors
        await program.event("tls.no_cert")
        code, _, errors = await ran("echo", to, *ours(certificates, certificates.expired))
        assert code == 61 and "our certificate has expired, says the peer (tls.refused)" in errors
        assert (await program.event("tls.cert"))["detail"].startswith("reason=expired")
        code, _, errors = await ran("echo", to, "--tls")
        assert code == 61 and "reason=self_signed" in errors or "reason=unknown_ca" in errors


async def test_aet_map_binds_titles(certificates: Certificates, tmp_path: Path) -> None:
    bound = tmp_path / "titles.toml"
    bound.write_text(f'KNOWN = "SHA256:{certificates.client.fingerprint}"\n')
    async with listening(certificates, tmp_path / "in", "--tls-aet-map", bound) as (program, port):
        to = f"FASTMOVE@{HOST}:{port}"
        assert (await ran("echo", to, "--aet", "KNOWN", *ours(certificates)))[0] == 0
        code, _, errors = await ran("echo", to, "--aet", "OTHER", *ours(certificates))
        assert code == 61 and "calling AE title not recognized" in errors
        await program.event("tls.aet_binding")


async def test_sighup_reads_the_certificate_anew(certificates: Certificates, tmp_path: Path) -> None:
    cert, key = tmp_path / "server.crt", write_secret(tmp_path / "server.key", certificates.server.key.read_bytes())
    cert.write_bytes(certificates.server.certificate.read_bytes())
    files = ("--tls-cert", str(cert), "--tls-key", str(key))
    async with listening(certificates, tmp_path / "in", *files) as (program, port):
        echo = ("echo", f"FASTMOVE@{HOST}:{port}", *ours(certificates), "--tls-pin")
        assert (await ran(*echo, certificates.server.fingerprint))[0] == 0
        cert.write_bytes(certificates.elliptic.certificate.read_bytes())
        program.signal(signal.SIGHUP)
        await program.event("tls.reload_failed")
        assert (await ran(*echo, certificates.server.fingerprint))[0] == 0
        key.write_bytes(certificates.elliptic.key.read_bytes())
        program.signal(signal.SIGHUP)
        await program.event("tls.reloaded")
        code, _, errors = await ran(*echo, certificates.server.fingerprint)
        assert code == 61 and "tls.pin" in errors and certificates.elliptic.fingerprint in errors
        assert (await ran(*echo, certificates.elliptic.fingerprint))[0] == 0


async def test_workers_read_it_anew_too(certificates: Certificates, tmp_path: Path) -> None:
    async with listening(certificates, tmp_path / "in", "--processes", "2") as (program, port):
        await program.event("listen.started", 2)
        assert (await ran("echo", f"FASTMOVE@{HOST}:{port}", *ours(certificates)))[0] == 0
        program.signal(signal.SIGHUP)
        await program.event("tls.reloaded", 2)


@pytest.mark.parametrize("receive", ["--tls-receive", "--no-tls-receive"])
async def test_retrieve_by_tls_both_ways_or_one(certificates: Certificates, tmp_path: Path, receive: str) -> None:
    port = free_port()
    sending = receive.replace("receive", "send")
    pacs = ("pacs", "--port", "0", "--synthetic", "studies=1,series=1,instances=5,size=200k", sending)
    pacs += ("--move-destination", f"ME@{HOST}:{port}", *ours(certificates, certificates.server))
    async with Program(*pacs) as program:
        there = f"FASTPACS@{HOST}:{(await program.event('pacs.ready'))['port']}"
        code, output, errors = await ran("find", there, "--format", "json", *ours(certificates))
        assert code == 0, errors
        study = json.loads(output)["StudyInstanceUID"]
        here = ("--aet", "ME", "--port", str(port), "--host", HOST, "--to", str(tmp_path / "in"), "--no-durable")
        retrieve = (
            "retrieve",
            there,
            "--study",
            study,
            *here,
            *ours(certificates, certificates.elliptic),
            receive,
            "--json",
        )
        code, output, errors = await ran(*retrieve)
        assert code == 0, errors
    events = [json.loads(line) for line in output.splitlines()]
    seen = [event for event in events if event["event"] == "tls.opened"]
    from_pacs = [event for event in seen if event["fingerprint"] == certificates.server.fingerprint]
    assert from_pacs and len([event for event in events if event["event"] == "store.stored"]) == 5
    storage = next(e for e in events if e["event"] == "assoc.opened" and e["called_ae_title"] == "ME")
    assert any(e["association"] == storage["association"] for e in seen) is (receive == "--tls-receive")


# ------------------------------------------------------------------ what does not go together


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("echo", "X@h:1", "--tls-ca", "x"), 1, "--tls-ca: says nothing without --tls"),
        (("listen", "--port", "0", "--to", "x", "--tls"), 70, "a listener needs a certificate and its private key"),
        (("retrieve", "X@h:1", "--study", "1.2", "--port", "0", "--to", "x", "--tls"), 1, "or say --no-tls-receive"),
        (("echo", "X@h:1", "--tls", "--tls-pin", "12"), 1, "64 hexadecimal digits"),
        (("echo", "X@h:1", "--tls", "--tls-profile", "bcp195-nd"), 1, "is not one of"),
        (("echo", "X@h:1", "--require-user-identity"), 1, "says nothing without --user-identity-file"),
        (("echo", "X@h:1", "--user-identity-file", "none"), 1, "none: cannot be read: No such file"),
    ],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], code: int, said: str) -> None:
    result = run(*words)
    assert (result.exit_code, said in result.output) == (code, True), result.output


def test_S13_key_that_others_may_read(certificates: Certificates, tmp_path: Path) -> None:
    key = write_secret(tmp_path / "key.pem", certificates.server.key.read_bytes())
    key.chmod(0o644)
    listen = ("listen", "--port", "0", "--to", tmp_path / "in", *ours(certificates, certificates.server))
    result = run(*listen, "--tls-key", key)
    assert result.exit_code == 70
    assert "tls.key: " in result.output and "chmod 600 it" in result.output


def test_S13_password_of_the_key_from_file_or_environment(certificates: Certificates, tmp_path: Path) -> None:
    key = write_secret(tmp_path / "key.pem", pem_key(certificates.client.private, PASSWORD))
    password = write_secret(tmp_path / "password", PASSWORD + "\n")
    echo = ("echo", f"X@{HOST}:{free_port()}", *ours(certificates), "--tls-key", key)
    assert "there is no password for it" in run(*echo).output
    assert run(*echo).exit_code == 70
    for more, env in ((("--tls-key-password-file", password), None), ((), {"FASTMOVE_TLS_KEY_PASSWORD": PASSWORD})):
        result = run(*echo, *more, env=env)
        assert result.exit_code == 61 and "Connection refused" in result.output
    password.chmod(0o644)
    result = run(*echo, "--tls-key-password-file", password)
    assert result.exit_code == 1 and "chmod 600" in result.output and PASSWORD not in result.output


# ------------------------------------------------------------------ the configuration


async def test_peer_of_the_configuration_has_its_tls(certificates: Certificates, tmp_path: Path) -> None:
    client = certificates.client
    async with listening(certificates, tmp_path / "in") as (_, port):
        (tmp_path / "fastmove.toml").write_text(
            f"""
            tls_cert = "{client.certificate}"
            tls_key = "{client.key}"

            [peers.archive]
            ae = "FASTMOVE"
            host = "{HOST}"
            port = {port}
            tls = true
            tls_ca = ["{certificates.authority.certificate}"]

            [peers.wrong]
            ae = "FASTMOVE"
            host = "{HOST}"
            port = {port}
            tls = true
            tls_ca = ["{certificates.authority.certificate}"]
            tls_server_name = "pacs.example"
            """
        )
        assert (await ran("echo", "archive"))[0] == 0
        code, _, errors = await ran("echo", "wrong")
        assert code == 61 and "its certificate is not for 'pacs.example' (tls.name)" in errors
        assert (await ran("echo", "wrong", "--tls-server-name", "localhost"))[0] == 0
        assert (await ran("echo", "archive", "--no-tls"))[0] == 61


# ------------------------------------------------------------------ user identity


async def asked(
    tmp_path: Path, identity: str | None, *more: str, response: bool = True, env: dict[str, str] | None = None
) -> tuple[int, str, bytes]:
    """What `fastmove echo` does with an identity, and the user identity item that the peer gets."""
    items = raw.DEFAULT_USER_ITEMS + (raw.item(0x59, b"\0\0") if response else b"")
    answer = raw.associate_ac([raw.context_ac(1)], user_items=items)
    echoed = raw.message(1, raw.response(0x8030, 1, raw.VERIFICATION, 0))
    steps = [Recv(raw.P_DATA), Send(echoed), Recv(raw.RELEASE_RQ), Send(raw.release_rp())]
    if "--require-user-identity" in more and not response:
        steps = [Recv(raw.ABORT)]
    options: tuple[str, ...] = ()
    if identity is not None:
        options = ("--user-identity-file", str(write_secret(tmp_path / "identity.toml", identity)))
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(answer), *steps]]) as peer:
        code, _, errors = await ran(
            "echo", f"PEER@{peer.host}:{peer.port}", *options, *more, env={**os.environ, **(env or {})}
        )
        await peer.finished()
        request = peer.received[0][0].data
    at = request.find(b"\x58\x00")
    return code, errors, request[at:] if at >= 0 else b""


@pytest.mark.parametrize(
    ("identity", "kind", "primary", "secondary"),
    [
        ('username = "alice"', 1, b"alice", b""),
        ('username = "alice"\npasscode = "s3cret"\nin_plain = true', 2, b"alice", b"s3cret"),
        ('kerberos = "AQID"\nin_plain = true', 3, b"\1\2\3", b""),
        ('saml = "<saml/>"\nin_plain = true', 4, b"<saml/>", b""),
        ('jwt = "a.b.c"\nin_plain = true', 5, b"a.b.c", b""),
    ],
)
async def test_user_identity_is_sent(
    tmp_path: Path, identity: str, kind: int, primary: bytes, secondary: bytes
) -> None:
    code, errors, item = await asked(tmp_path, identity, "--require-user-identity")
    assert code == 0, errors
    expected = bytearray(raw.user_identity(kind, primary, secondary))
    expected[5] = 1  # a positive response is asked for
    assert item == expected


async def test_user_identity_of_the_environment(tmp_path: Path) -> None:
    code, errors, item = await asked(tmp_path, None, env={"FASTMOVE_USER_NAME": "bob"})
    assert (code, item) == (0, raw.user_identity(1, b"bob")), errors


async def test_S14_no_response_to_a_user_identity_that_is_required(tmp_path: Path) -> None:
    code, errors, _ = await asked(tmp_path, 'username = "alice"', "--require-user-identity", response=False)
    assert code == 61 and "userid.no_response" in errors


async def test_no_response_to_a_user_identity_that_is_not_required(tmp_path: Path) -> None:
    code, errors, item = await asked(tmp_path, 'username = "alice"\nresponse = true', response=False)
    assert code == 0 and item[5] == 1


@pytest.mark.parametrize("option", ["--passcode", "--jwt", "--user-passcode", "--tls-key-password"])
def test_S15_secrets_are_not_taken_from_the_command_line(option: str) -> None:
    for words in ((option, "s3cret"), (f"{option}=s3cret",)):
        result = run("echo", f"X@{HOST}:1", *words)
        assert result.exit_code == 1
        assert "No such option" in result.output and "s3cret" not in result.output


def test_secret_does_not_go_without_tls(tmp_path: Path) -> None:
    file = write_secret(tmp_path / "identity.toml", 'username = "alice"\npasscode = "s3cret"')
    result = run("echo", f"X@{HOST}:1", "--user-identity-file", file)
    assert result.exit_code == 1 and "would go without TLS" in result.output and "s3cret" not in result.output


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("passcode = 's3cret'", "there has to be one of username, kerberos, saml, jwt"),
        ("username = 'a'\njwt = 's3cret'", "there has to be one of"),
        ("jwt = 's3cret'\npasscode = 's3cret'", "a passcode belongs to a username"),
        ("jwt = 's3cret", "is not TOML: at end of document"),
        ("token = 's3cret'", "token is not known"),
        ("jwt = 7", "jwt must be a string"),
        ("kerberos = 's3cret'", "identity.toml: "),
        ("jwt = '" + "s3cret" * 11000 + "'", "longer than 65535 bytes"),
    ],
)
def test_identity_that_says_nothing_is_told_without_its_secret(tmp_path: Path, text: str, said: str) -> None:
    file = write_secret(tmp_path / "identity.toml", text)
    result = run("echo", f"X@{HOST}:1", "--user-identity-file", file)
    assert result.exit_code == 1 and said in result.output and "s3cret" not in result.output, result.output


def test_identity_that_others_may_read(tmp_path: Path) -> None:
    file = write_secret(tmp_path / "identity.toml", 'username = "alice"')
    file.chmod(0o644)
    result = run("echo", f"X@{HOST}:1", "--user-identity-file", file)
    assert result.exit_code == 1 and "chmod 600 it" in result.output
