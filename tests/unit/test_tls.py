"""Files and contexts of TLS: what is refused (row S13), what is offered, what is read anew."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from tests.certificates import PASSWORD, Certificates, pem_key
from tests.integration.tls import settings_for, write_secret

from fastmove.credentials import PeerCertificates, TlsProfile, TlsSettings, fingerprint
from fastmove.errors import ConfigurationError, TlsUnusable
from fastmove.net.tls import client_context, own_certificate, read_files, server_context
from fastmove.net.tls_listener import MAX_SESSIONS, ListenerTls
from fastmove.notices import Notice, PeerMisbehaved, TlsReloaded


def refusal(settings: TlsSettings) -> TlsUnusable:
    """Why a listener cannot be made."""
    with pytest.raises(TlsUnusable) as caught:
        server_context(read_files(settings))
    return caught.value


# ------------------------------------------------------------------ S13


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o620, 0o602, 0o640 | 0o001], ids=oct)
def test_S13_key_that_others_may_read_or_change(certificates: Certificates, tmp_path: Path, mode: int) -> None:
    key = write_secret(tmp_path / "key.pem", certificates.server.key.read_bytes())
    key.chmod(mode)
    error = refusal(settings_for(certificates, certificates.server, key=key))
    assert str(error) == f"tls.key: {key}: others may read or change it (mode {mode:04o}): chmod 600 it"


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640], ids=oct)
def test_key_that_its_owner_and_group_may_read(certificates: Certificates, tmp_path: Path, mode: int) -> None:
    key = write_secret(tmp_path / "key.pem", certificates.server.key.read_bytes())
    key.chmod(mode)
    server_context(read_files(settings_for(certificates, certificates.server, key=key)))


def test_S13_encrypted_key(certificates: Certificates, tmp_path: Path) -> None:
    key = write_secret(tmp_path / "key.pem", pem_key(certificates.server.private, PASSWORD))
    settings = settings_for(certificates, certificates.server, key=key)
    assert str(refusal(settings)).endswith("key.pem: it is encrypted, and there is no password for it")
    assert str(refusal(settings.replace(key_password="x"))).endswith("it is encrypted, and this is not its password")
    server_context(read_files(settings.replace(key_password=PASSWORD)))


def test_S13_key_of_another_certificate(certificates: Certificates) -> None:
    error = refusal(settings_for(certificates, certificates.server, key=certificates.elliptic.key))
    assert str(error).endswith("SERVER.crt: the private key is not that of the certificate")


@pytest.mark.parametrize(
    ("who", "said"),
    [
        ("weak_key", "its key is too short: RSA needs 2048 bits"),
        ("weak_signature", "it is signed with SHA-1 or something as weak"),
    ],
)
def test_S13_weak_certificate_of_ours(certificates: Certificates, who: str, said: str) -> None:
    assert str(refusal(settings_for(certificates, getattr(certificates, who)))).endswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda c, empty: {"certificate": empty.parent / "none"}, "none: No such file or directory"),
        (lambda c, empty: {"certificate": empty}, "SERVER.key: no certificate and key to be read"),
        (lambda c, empty: {"key": empty}, "empty: no certificate and key to be read"),
        (lambda c, empty: {"certificate": None}, "a listener needs a certificate and its private key"),
        (lambda c, empty: {"trusted": ()}, "those of every public authority will not do"),
        (lambda c, empty: {"trusted": (empty,)}, "empty: no certificate that can be read"),
        (lambda c, empty: {"trusted": (c.server.key,)}, "SERVER.key: no certificate that can be read"),
        (lambda c, empty: {"trusted": (c.revocations,)}, "revoked.crl: no certificate that can be read"),
        (lambda c, empty: {"trusted": (empty.parent,)}, "no .pem, .crt, .cer, .der in this folder"),
        (lambda c, empty: {"revoked": (empty,)}, "empty: no certificate revocation list that can be read"),
        (lambda c, empty: {"revoked": (c.server.certificate,)}, "no certificate revocation list that can be read"),
    ],
)
def test_S13_files_that_are_something_else(
    certificates: Certificates, tmp_path: Path, change: Callable[[Certificates, Path], dict[str, Any]], said: str
) -> None:
    empty = write_secret(tmp_path / "empty", b"")
    error = refusal(settings_for(certificates, certificates.server, **change(certificates, empty)))
    assert str(error).endswith(said)


def test_password_is_not_shown(certificates: Certificates) -> None:
    settings = settings_for(certificates, certificates.server, key_password=PASSWORD)
    assert PASSWORD not in repr(settings) and "PRIVATE" not in repr(read_files(settings))


# ------------------------------------------------------------------ what is taken


@pytest.mark.parametrize("form", ["PKCS8", "TraditionalOpenSSL"])
@pytest.mark.parametrize("who", ["server", "elliptic"])
def test_der_is_taken_too(certificates: Certificates, tmp_path: Path, who: str, form: str) -> None:
    issued = getattr(certificates, who)
    der = serialization.Encoding.DER
    key = issued.private.private_bytes(der, getattr(serialization.PrivateFormat, form), serialization.NoEncryption())
    (tmp_path / "server.cer").write_bytes(issued.x509.public_bytes(der))
    (tmp_path / "ca.cer").write_bytes(certificates.authority.root.x509.public_bytes(der))
    (tmp_path / "list.crl").write_bytes(ssl.PEM_cert_to_DER_cert(_as_certificate(certificates.revocations)))
    settings = TlsSettings(
        tmp_path / "server.cer",
        write_secret(tmp_path / "server.key", key),
        trusted=(tmp_path / "ca.cer",),
        revoked=(tmp_path / "list.crl",),
    )
    context = server_context(read_files(settings))
    assert context.cert_store_stats() == {"x509": 1, "crl": 1, "x509_ca": 1}
    assert context.verify_flags & ssl.VERIFY_CRL_CHECK_LEAF


def _as_certificate(crl: Path) -> str:
    return crl.read_text().replace("X509 CRL", "CERTIFICATE")


def test_folder_of_authorities(certificates: Certificates, tmp_path: Path) -> None:
    for number, authority in enumerate((certificates.authority, certificates.other_authority)):
        (tmp_path / f"{number}.crt").write_bytes(authority.certificate.read_bytes())
    (tmp_path / "README").write_text("no certificate")
    context = server_context(read_files(settings_for(certificates, certificates.server, trusted=(tmp_path,))))
    assert context.cert_store_stats()["x509"] == 2


@pytest.mark.parametrize("profile", TlsProfile)
def test_profiles_offer_what_they_should(certificates: Certificates, profile: TlsProfile) -> None:
    settings = settings_for(certificates, certificates.server, profile=profile)
    for context in (server_context(read_files(settings)), client_context(settings)):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        suites = context.get_ciphers()
        assert {suite["protocol"] for suite in suites} == {"TLSv1.2", "TLSv1.3"}
        assert all(suite["aead"] and suite["strength_bits"] >= 128 for suite in suites)
        assert all(suite["kea"] in ("kx-ecdhe", "kx-any") for suite in suites)
        for option in (ssl.OP_NO_COMPRESSION, ssl.OP_NO_RENEGOTIATION, ssl.OP_NO_TICKET):
            assert context.options & option


def test_fingerprints() -> None:
    digits = "0123456789abcdef" * 4
    colons = ":".join(digits.upper()[at : at + 2] for at in range(0, 64, 2))
    assert fingerprint(digits) == fingerprint(f" SHA256:{digits} ") == fingerprint(colons) == digits
    for wrong in ("", digits[:-1], digits + "0", "x" * 64):
        with pytest.raises(ConfigurationError, match="is not the SHA-256 of a certificate"):
            fingerprint(wrong)


# ------------------------------------------------------------------ our own certificate


@pytest.mark.parametrize(
    ("who", "server_side", "said"),
    [
        ("server", True, ""),
        ("client", False, ""),
        ("server_only", True, ""),
        ("client_only", False, ""),
        ("expired", True, "it has expired"),
        ("not_yet_valid", False, "it is not valid yet"),
        ("soon", True, "it expires on"),
        ("client_only", True, "it is not made for this"),
        ("server_only", False, "it is not made for this"),
    ],
)
def test_what_peers_will_have_against_our_certificate(
    certificates: Certificates, who: str, server_side: bool, said: str
) -> None:
    files = read_files(settings_for(certificates, getattr(certificates, who)))
    against = own_certificate(files, server_side=server_side)
    assert said in against and bool(against) == bool(said)


def test_listener_warns_of_an_expired_certificate_and_goes_on(certificates: Certificates) -> None:
    told: list[Notice] = []
    ListenerTls(settings_for(certificates, certificates.expired), told.append)
    (warning,) = told
    assert isinstance(warning, PeerMisbehaved) and warning.event == "tls.own_certificate"
    assert "it has expired" in warning.detail


# ------------------------------------------------------------------ reading anew


def test_reload_takes_new_files_and_keeps_the_old_where_the_new_are_no_good(
    certificates: Certificates, tmp_path: Path
) -> None:
    told: list[Notice] = []
    certificate = tmp_path / "server.crt"
    key = write_secret(tmp_path / "server.key", certificates.server.key.read_bytes())
    certificate.write_bytes(certificates.server.certificate.read_bytes())
    listener = ListenerTls(settings_for(certificates, None, certificate=certificate, key=key), told.append)

    def shown() -> str:
        return meet(listener, certificates)

    assert shown() == certificates.server.fingerprint
    certificate.write_bytes(certificates.elliptic.certificate.read_bytes())  # half of the change
    listener.reload()
    assert isinstance(told[-1], PeerMisbehaved) and told[-1].event == "tls.reload_failed"
    assert shown() == certificates.server.fingerprint
    key.write_bytes(certificates.elliptic.key.read_bytes())
    listener.reload()
    assert told[-1] == TlsReloaded(str(certificate))
    assert shown() == certificates.elliptic.fingerprint


def meet(listener: ListenerTls, certificates: Certificates, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> str:
    """The fingerprint of the certificate that a peer sees."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = context.maximum_version = version
    context.load_cert_chain(certificates.client.certificate, certificates.client.key)
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    us = listener.context.wrap_bio(to_us, to_them, server_side=True)
    them = context.wrap_bio(to_them, to_us)
    for _ in range(4):
        for side in (them, us):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
    for side in (us, them):
        try:
            side.unwrap()
        except ssl.SSLWantReadError:
            pass
    return fingerprint(certificate_digest(them))


def certificate_digest(tls: ssl.SSLObject) -> str:
    import hashlib

    return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def test_sessions_that_openssl_remembers_are_bounded(certificates: Certificates) -> None:
    """Those of TLS 1.2 that ended well stay in the context, with the certificate of the peer; up to 20,480."""
    listener = ListenerTls(settings_for(certificates, certificates.server))
    most = 0
    for _ in range(3 * MAX_SESSIONS):
        meet(listener, certificates, ssl.TLSVersion.TLSv1_2)
        most = max(most, listener.context.session_stats()["number"])
    assert most <= MAX_SESSIONS


# ------------------------------------------------------------------ AE titles


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("AE = 1", "1 is no string"),
        ("AE = 'me'", "'me' begins with none of SHA256:, CN=, DNS:, IP:, URI:, email:"),
        ("AE = 'SHA256:12'", "is not the SHA-256 of a certificate"),
        ("'SEVENTEEN LETTERS' = 'CN=x'", "must have 1 to 16 characters"),
        ("AE =", "Invalid value"),
    ],
)
def test_bindings_that_say_nothing(certificates: Certificates, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "titles.toml"
    path.write_text(text)
    with pytest.raises(TlsUnusable, match="titles.toml") as caught:
        ListenerTls(settings_for(certificates, certificates.server, ae_titles=path))
    assert said in str(caught.value)


def test_bindings_need_certificates(certificates: Certificates, tmp_path: Path) -> None:
    path = tmp_path / "titles.toml"
    path.write_text("AE = 'CN=x'")
    settings = settings_for(certificates, certificates.server, ae_titles=path, peers=PeerCertificates.IGNORED)
    with pytest.raises(TlsUnusable, match="nobody is asked for a certificate"):
        ListenerTls(settings)
