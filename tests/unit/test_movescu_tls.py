"""The TLS options of movescu: what a line may say, and what settings it comes to."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from tests.certificates import PASSWORD, Certificates, Issued, pem_key
from tests.integration.tls import write_secret

from fastmove.cli.movescu import help, log, tls, tls_rows
from fastmove.cli.movescu.argv import parse
from fastmove.cli.movescu.options import Arguments, CommandLineError
from fastmove.credentials import KEY_PASSWORD, PeerCertificates, Revocation, TlsProfile, TlsSettings
from fastmove.errors import TlsFailed, TlsUnusable
from fastmove.net.tls import NAMES, SUITES, client_context, read_files, server_context
from fastmove.net.tls_failure import failure

LINE: Final = ("pacs", "104", "-k", "0008,0052=STUDY")
EVERYTHING: Final = "+tls k c +cf a +cf b +cd d +crl l +pm +pg -ic -vc +rs s +ws +wf w +pz +cra -pw"
ROWS: Final = [row for section in tls_rows.SECTIONS for row in section.rows]


def parsed(*words: str, shown: Callable[..., None] = lambda _: None) -> Arguments | str:
    return parse([*LINE, *words], set_up_log=lambda *_: None, show_arguments=shown, check_key=lambda _: None)


def refusal(*words: str) -> str:
    with pytest.raises(CommandLineError) as caught:
        parsed(*words)
    return caught.value.text


@pytest.fixture(autouse=True)
def no_password_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_PASSWORD, raising=False)


def settings(
    certificates: Certificates, *words: str, shown: Issued | None = None, trusting: bool = True
) -> TlsSettings:
    """What a line with our certificate, and the authority of the tests, comes to."""
    ours = shown or certificates.client
    trust = ("+cf", str(certificates.authority.certificate)) if trusting else ()
    arguments = parsed("+tls", str(ours.key), str(ours.certificate), *trust, *words)
    assert isinstance(arguments, Arguments) and arguments.tls is not None
    return tls.settings(arguments, arguments.tls)


def unusable(certificates: Certificates, *words: str, trusting: bool = True) -> str:
    with pytest.raises(TlsUnusable) as caught:
        settings(certificates, *words, trusting=trusting)
    return str(caught.value)


# ------------------------------------------------------------------ the line

DEPENDENT: Final = [row for row in ROWS if row.only_with and row.long not in ("--write-seed", "--write-seed-file")]


@pytest.mark.parametrize("row", DEPENDENT, ids=lambda row: row.long)
def test_option_says_nothing_without_tls(row: tls_rows.Row) -> None:
    operands = ["x"] * row.operands
    assert refusal(row.long, *operands) == f"{row.long} only allowed with --enable-tls"
    assert refusal("+tls", "k", "c", "-tls", row.long, *operands) == f"{row.long} only allowed with --enable-tls"


def test_everything_of_tls_is_said_to_be_an_extension() -> None:
    assert {row.since for row in ROWS} == {"movescu 3.7"}


@pytest.mark.parametrize("name", ["+pb", "+pa", "+pn", "--profile-basic", "--profile-aes", "--profile-null"])
def test_profile_below_tls_1_2_is_refused(name: str) -> None:
    text = refusal("+tls", "k", "c", name)
    assert text.startswith("--profile-") and "not possible: there is nothing below TLS 1.2" in text


def test_parameters_for_diffie_hellman_are_refused() -> None:
    assert refusal("+tls", "k", "c", "+dp", "x").startswith("--dhparam not possible: no cipher suite with DH")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--no-sni", "--request-sni", "a"), "--no-sni not allowed with --request-sni"),
        (("--expect-sni", "a", "--no-sni"), "--no-sni not allowed with --expect-sni"),
        (("+pz", "+cs", "x"), "--cipher not allowed with --profile-bcp195-ex"),
        (("+ws",), "--write-seed only allowed with --seed"),
        (("+wf", "x"), "--write-seed-file only allowed with --seed"),
    ],
)
def test_options_that_do_not_go_together(words: tuple[str, ...], said: str) -> None:
    assert refusal("+tls", "k", "c", *words) == said


def test_rightmost_of_a_group_counts_and_lists_are_kept_whole() -> None:
    arguments = parsed(*EVERYTHING.split())
    assert isinstance(arguments, Arguments)
    assert (arguments.tls, arguments.trusted_files, arguments.trusted_folders) == (("k", "c"), ("a", "b"), ("d",))
    assert (arguments.tls_profile, arguments.peer_certificates) == ("bcp195-modified", "optional")
    assert (arguments.seed_file, arguments.new_seed, arguments.revocation) == ("s", "w", "chain")
    assert (arguments.key_password, arguments.revocation_lists) == ("", ("l",))


def test_password_is_neither_shown_nor_in_the_text_of_the_arguments() -> None:
    words: list[str] = []
    arguments = parsed("--arguments", "+tls", "k", "c", "+pw", PASSWORD, shown=words.extend)
    assert isinstance(arguments, Arguments) and arguments.key_password == PASSWORD
    assert words[-2:] == ["--use-passwd", "***"] and PASSWORD not in repr(arguments)


@pytest.mark.parametrize(("name", "shown"), [("+cc", "ciphers"), ("+ph", "profiles")])
def test_lists_need_nothing_else(name: str, shown: str) -> None:
    assert parse([name], set_up_log=print, show_arguments=print, check_key=print) == shown


def test_list_of_ciphers_is_what_both_profiles_may_offer() -> None:
    shown = help.ciphers().partition("are:\n")[2].split()
    assert shown == list(NAMES)
    assert {name for suites in SUITES.values() for name in suites} <= set(NAMES.values())
    assert help.profiles().count("TLS Profile") == 5 and "NULL" not in help.profiles()


# ------------------------------------------------------------------ the settings


def test_default_is_mutual_by_the_profile_of_the_standard(certificates: Certificates) -> None:
    made = settings(certificates)
    assert (made.peers, made.profile) == (PeerCertificates.REQUIRED, TlsProfile.BCP195)
    assert not made.check_name and not made.indicate_name and made.revocation is None
    assert client_context(made).minimum_version == ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize(
    ("option", "profile"),
    [("+pg", "bcp195"), ("+py", "bcp195"), ("+px", "bcp195"), ("+pm", "bcp195-modified"), ("+pz", "bcp195-modified")],
)
def test_profiles(certificates: Certificates, option: str, profile: str) -> None:
    assert settings(certificates, option).profile.value == profile


def test_who_is_believed_must_be_said(certificates: Certificates) -> None:
    assert "nobody says whose certificates" in unusable(certificates, trusting=False)
    assert settings(certificates, "-ic", trusting=False).peers is PeerCertificates.IGNORED


def test_file_that_cannot_be_read_is_not_left_out(certificates: Certificates, tmp_path: Path) -> None:
    assert "none: No such file" in unusable(certificates, "+cf", str(tmp_path / "none"))
    assert "no certificate that can be read" in unusable(certificates, "+cf", str(certificates.client.key))
    assert "in this folder" in unusable(certificates, "+cd", str(tmp_path))
    assert "no certificate revocation list" in unusable(certificates, "+crl", str(certificates.client.certificate))


def test_folder_of_names_by_rehash_with_its_lists(certificates: Certificates, tmp_path: Path) -> None:
    (tmp_path / "0a1b2c3d.0").write_bytes(certificates.authority.certificate.read_bytes())
    (tmp_path / "0a1b2c3d.r0").write_bytes(certificates.revocations.read_bytes())
    plain = settings(certificates, "+cd", str(tmp_path), trusting=False)
    assert plain.trusted == (tmp_path,) and not plain.revoked
    for option, kind in (("+crv", Revocation.LEAF), ("+cra", Revocation.CHAIN)):
        made = settings(certificates, "+cd", str(tmp_path), option, trusting=False)
        assert (made.revoked, made.revocation) == ((tmp_path / "0a1b2c3d.r0",), kind)
    context = client_context(made)
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_CHAIN == ssl.VERIFY_CRL_CHECK_CHAIN
    assert len(context.get_ca_certs()) == 1


def test_cipher_suite_is_added_behind_those_of_the_profile(certificates: Certificates) -> None:
    name = "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"
    made = settings(certificates, "+cs", name, "+cs", "TLS_AES_128_GCM_SHA256")
    offered = [each["name"] for each in client_context(made).get_ciphers() if each["protocol"] == "TLSv1.2"]
    assert offered == [*SUITES[TlsProfile.BCP195], "ECDHE-RSA-CHACHA20-POLY1305"]
    text = unusable(certificates, "+cs", "TLS_RSA_WITH_AES_128_CBC_SHA")
    assert "TLS_RSA_WITH_AES_128_CBC_SHA is none of the cipher suites" in text


@pytest.mark.parametrize("option", ["--request-sni", "--expect-sni"])
@pytest.mark.parametrize("name", ["192.0.2.1", "::1", ".", "", "ü" * 80])
def test_what_is_no_server_name_is_refused(certificates: Certificates, option: str, name: str) -> None:
    if not name:
        assert settings(certificates, option, name).server_name == ""  # as without it
    else:
        assert "is no server name" in unusable(certificates, option, name)


def handshake(client: TlsSettings, server: TlsSettings, name: str | None) -> str:
    """What becomes of it: the version of TLS, or why the server refuses, and how the client takes that."""
    refused: list[TlsFailed] = []
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client_context(client).wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server_context(read_files(server)).wrap_bio(to_server, to_client, server_side=True)
    for _ in range(4):
        for side in (ours, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                refused.append(failure(error))
    return " ".join(each.key for each in refused) or str(theirs.version())


def test_who_asks_for_another_name_is_refused(certificates: Certificates) -> None:
    server = settings(certificates, "--expect-sni", "me.example", shown=certificates.server)
    client = settings(certificates, "--request-sni", "me.example")
    assert client.indicate_name and client.server_name == "me.example"
    for name in ("me.example", "ME.example", None):
        assert handshake(client, server, name) == "TLSv1.3"
    assert handshake(client, server, "you.example").startswith("tls.name tls.refused")


# ------------------------------------------------------------------ the password


@pytest.fixture
def encrypted(certificates: Certificates, tmp_path: Path) -> Issued:
    """A certificate whose key is."""
    key = write_secret(tmp_path / "encrypted.key", pem_key(certificates.client.private, PASSWORD))
    client = certificates.client
    return Issued(client.certificate, key, client.x509, client.private)


def test_password_of_the_line_or_of_the_environment(
    certificates: Certificates, encrypted: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings(certificates, "+pw", PASSWORD, shown=encrypted).key_password == PASSWORD
    for words in (("-pw",), ("+pw", "wrong")):
        with pytest.raises(TlsUnusable, match="this is not its password"):
            settings(certificates, *words, shown=encrypted)
    monkeypatch.setenv(KEY_PASSWORD, PASSWORD)
    assert settings(certificates, "+ps", shown=encrypted).key_password == PASSWORD


def test_password_is_asked_for_where_it_is_needed(
    certificates: Certificates, encrypted: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def answer(prompt: str) -> str:
        asked.append(prompt)
        return PASSWORD

    monkeypatch.setattr("getpass.getpass", answer)
    assert settings(certificates).key_password is None and not asked
    assert settings(certificates, shown=encrypted).key_password == PASSWORD
    assert asked == ["Enter PEM pass phrase:"]


def test_nobody_there_to_type_it(
    certificates: Certificates, encrypted: Issued, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: str) -> str:
        raise EOFError

    monkeypatch.setattr("getpass.getpass", nobody)
    with pytest.raises(TlsUnusable, match="it is encrypted, and there is no password for it"):
        settings(certificates, shown=encrypted)


# ------------------------------------------------------------------ the seed


def test_seed_is_read_and_a_new_one_written(
    certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mixed: list[bytes] = []
    monkeypatch.setattr(ssl, "RAND_add", lambda data, entropy: mixed.append(data))
    old, new = tmp_path / "old", tmp_path / "new"
    old.write_bytes(b"seed")
    settings(certificates, "+rs", str(old), "+wf", str(new))
    assert mixed == [b"seed"]
    assert "No such file" in unusable(certificates, "+rs", str(tmp_path / "none"))
    tls.write_seed(str(new), log.log_at("error"))
    assert len(new.read_bytes()) == tls.SEED_BYTES and new.stat().st_mode & 0o777 == 0o600


def test_seed_that_cannot_be_written_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tls.write_seed(str(tmp_path), log.log_at(None))
    assert "W: cannot write random seed file" in capfd.readouterr().err


def test_nothing_of_openssl_is_loaded_without_tls() -> None:
    import subprocess

    code = "import sys; import fastmove.cli.movescu.command, fastmove.cli.movescu.argv; assert 'ssl' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
