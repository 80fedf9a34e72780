"""TLS by the profiles of PS3.15: settings to `ssl.SSLContext`, and what fails in it to log events.

The versions are TLS 1.2 and 1.3, and nothing below.  There is no renegotiation, no compression, no early data (Python
offers none), and no session is resumed by a ticket: a peer shows its certificate in every handshake.
"""

from __future__ import annotations

import base64
import os
import re
import ssl
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from fastmove.credentials import PeerCertificates, Revocation, TlsProfile, TlsSettings
from fastmove.errors import TlsUnusable
from fastmove.net.tls_failure import failure
from fastmove.values import Value

SUITES: Final[dict[TlsProfile, tuple[str, ...]]] = {
    # Those that RFC 9325 4.2 recommends; the first counts, and AES-128 is the faster.
    TlsProfile.BCP195: (
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
    ),
    # Those of PS3.15 B.13 that OpenSSL has.  None with DHE: nobody could see to it that its key has 2048 bits.
    TlsProfile.MODIFIED: (
        "ECDHE-ECDSA-AES256-GCM-SHA384",
        "ECDHE-RSA-AES256-GCM-SHA384",
        "ECDHE-ECDSA-CHACHA20-POLY1305",
        "ECDHE-RSA-CHACHA20-POLY1305",
        "ECDHE-ECDSA-AES256-CCM",
        "ECDHE-ECDSA-AES128-GCM-SHA256",
        "ECDHE-RSA-AES128-GCM-SHA256",
        "ECDHE-ECDSA-AES128-CCM",
    ),
}
"""The suites for TLS 1.2, the preferred first; for TLS 1.3 they are OpenSSL's, all of which both profiles allow."""

NAMES: Final[dict[str, str]] = {
    "TLS_AES_128_GCM_SHA256": "",
    "TLS_AES_256_GCM_SHA384": "",
    "TLS_CHACHA20_POLY1305_SHA256": "",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CCM": "ECDHE-ECDSA-AES128-CCM",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CCM": "ECDHE-ECDSA-AES256-CCM",
}
"""All suites that may be offered, by the names of the standard: as OpenSSL calls them; empty: in TLS 1.3, always."""

SECURITY_LEVEL: Final = 2
"""Of OpenSSL: 112 bits.  RSA and DH of 2048 bits, curves of 224 and more (no smaller one is offered), no SHA-1."""

NOT_PRIVATE: Final = stat.S_IWGRP | stat.S_IRWXO
"""What the mode of a file with a secret must not have; a group may read it, as Debian's `ssl-cert`."""

PEM: Final = b"-----BEGIN "
"""How PEM begins (RFC 7468); what has it nowhere is taken for DER."""

NO_CHECK_TIME: Final = ssl.VerifyFlags(0x200000)
"""X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""

SOON_S: Final = 30 * 86400
"""Before the end of our own certificate there is a warning."""

CERTIFICATE_SUFFIXES: Final = (".pem", ".crt", ".cer", ".der")
"""Of the files in a folder that are read as certificates."""

REHASHED: Final = re.compile(r"[0-9a-f]{8}\.[0-9]+")
"""Others that are: what `openssl rehash` names them."""


OWN: Final = {
    "KEY_VALUES_MISMATCH": "the private key is not that of the certificate",
    "NO_CERTIFICATE_ASSIGNED": "the private key is not that of the certificate",
    "EE_KEY_TOO_SMALL": "its key is too short: RSA needs 2048 bits",
    "CA_KEY_TOO_SMALL": "the key of its authority is too short: RSA needs 2048 bits",
    "CA_MD_TOO_WEAK": "it is signed with SHA-1 or something as weak",
}
"""Reasons of OpenSSL for not taking a certificate with its key."""


class TlsFiles(Value):
    """What the files of some settings hold, in PEM, at one time."""

    secret = frozenset(("certificate", "key"))

    settings: TlsSettings
    certificate: bytes
    key: bytes
    trusted: tuple[tuple[Path, bytes], ...]
    revoked: tuple[tuple[Path, bytes], ...]


def read_files(settings: TlsSettings) -> TlsFiles:
    """Read them; TlsUnusable if one cannot be read, or a secret one be read by others."""
    certificate = key = b""
    if settings.certificate is not None:
        certificate = _as_pem(_read(settings.certificate, "tls.key"), "CERTIFICATE")
        file = settings.key or settings.certificate
        key = _read(file, "tls.key")
        if wrong := exposed(file):
            raise TlsUnusable("tls.key", f"{file}: {wrong}")
        key = _as_pem(key, _key_label(key))
    trusted = [(file, _read(file, "tls.trust")) for path in settings.trusted for file in _certificate_files(path)]
    revoked = [(file, _read(file, "tls.crl")) for file in settings.revoked]
    return TlsFiles(
        settings,
        certificate,
        key,
        tuple((file, _as_pem(contents, "CERTIFICATE")) for file, contents in trusted),
        tuple((file, _as_pem(contents, "X509 CRL")) for file, contents in revoked),
    )


def _read(path: Path, event: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise TlsUnusable(event, f"{path}: {error.strerror}") from None


def exposed(path: Path) -> str:
    """What is wrong with the mode of a file that holds a secret; empty if nothing is.  OSError."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) or not mode & NOT_PRIVATE:
        return ""
    return f"others may read or change it (mode {mode & 0o777:04o}): chmod 600 it"


def _certificate_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = sorted(
        each
        for each in path.iterdir()
        if each.suffix.lower() in CERTIFICATE_SUFFIXES or REHASHED.fullmatch(each.name) is not None
    )
    if not files:
        raise TlsUnusable("tls.trust", f"{path}: no {', '.join(CERTIFICATE_SUFFIXES)} in this folder")
    return files


def _key_label(der: bytes) -> str:
    """PKCS#8, PKCS#1 or SEC 1, by how it begins."""
    head = der[:16]
    if b"\x02\x01\x00\x02" in head:
        return "RSA PRIVATE KEY"
    return "EC PRIVATE KEY" if b"\x02\x01\x01\x04" in head else "PRIVATE KEY"


def _as_pem(contents: bytes, label: str) -> bytes:
    if PEM in contents:
        return contents
    lines = base64.encodebytes(contents)
    return b"-----BEGIN %b-----\n%b-----END %b-----\n" % (label.encode(), lines, label.encode())


@contextmanager
def _file(contents: bytes) -> Iterator[str]:
    """A path to contents in memory: OpenSSL reads keys and revocation lists from files only."""
    number = os.memfd_create("fastmove-tls")
    with os.fdopen(number, "wb") as file:
        file.write(contents)
        file.flush()
        yield f"/proc/self/fd/{number}"


# ------------------------------------------------------------------ contexts


def server_context(files: TlsFiles) -> ssl.SSLContext:
    """For a listener; TlsUnusable says what is wrong with the files."""
    settings = files.settings
    if not files.certificate:
        raise TlsUnusable("tls.key", "a listener needs a certificate and its private key")
    if settings.peers is not PeerCertificates.IGNORED and not files.trusted:
        raise TlsUnusable(
            "tls.trust", "nobody says whose certificates peers must have: those of every public authority will not do"
        )
    context = _context(ssl.PROTOCOL_TLS_SERVER, files)
    context.num_tickets = 0
    context.verify_mode = _VERIFY[settings.peers]
    if settings.expected_name:
        context.sni_callback = _only(settings.expected_name)
    return context


def _only(expected: str) -> Callable[[ssl.SSLObject, str | None, ssl.SSLContext], int | None]:
    """Whoever asks for another name is refused (RFC 6066 3); who asks for none is not."""

    def look(_: ssl.SSLObject, name: str | None, __: ssl.SSLContext) -> int | None:
        if name is None or name.casefold() == expected.casefold():
            return None
        return int(ssl.AlertDescription.ALERT_DESCRIPTION_UNRECOGNIZED_NAME)

    return look


_VERIFY: Final = {
    PeerCertificates.REQUIRED: ssl.CERT_REQUIRED,
    PeerCertificates.OPTIONAL: ssl.CERT_OPTIONAL,
    PeerCertificates.IGNORED: ssl.CERT_NONE,
}


@lru_cache(maxsize=16)
def client_context(settings: TlsSettings) -> ssl.SSLContext:
    """For associations that we request; its files are read once.  TlsUnusable says what is wrong with them."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, read_files(settings))
    unverified = bool(settings.pinned) or settings.peers is PeerCertificates.IGNORED
    context.check_hostname = settings.check_name and not unverified
    context.verify_mode = ssl.CERT_NONE if unverified else ssl.CERT_REQUIRED
    if not settings.trusted and not unverified:
        context.load_default_certs(ssl.Purpose.SERVER_AUTH)
    return context


def looking_context(settings: TlsSettings, der: bytes | None = None) -> ssl.SSLContext:
    """For a look at the certificate of a server, whatever it is; with this one it is verified, but for its dates."""
    context = _context(ssl.PROTOCOL_TLS_CLIENT, read_files(settings.replace(trusted=(), revoked=(), revocation=None)))
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if der is not None:
        context.load_verify_locations(cadata=der)
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= NO_CHECK_TIME
    return context


def _context(protocol: int, files: TlsFiles) -> ssl.SSLContext:
    settings = files.settings
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_TICKET
    context.options |= ssl.OP_CIPHER_SERVER_PREFERENCE | ssl.OP_SINGLE_ECDH_USE
    context.set_ciphers(f"{':'.join(_suites(settings))}:@SECLEVEL={SECURITY_LEVEL}")
    # What is trusted is trusted as it is: the certificate of a peer or of an authority below another one, too.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if files.certificate:
        _load_own(context, files)
    for path, contents in files.trusted:
        _load(path, "tls.trust", "certificate", b"CERTIFICATE-----", context, contents)
    for path, contents in files.revoked:
        _load(path, "tls.crl", "certificate revocation list", b"X509 CRL-----", context, contents)
    if files.revoked or settings.revocation is not None:
        chain = settings.revocation is Revocation.CHAIN
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_CHAIN if chain else ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _suites(settings: TlsSettings) -> Iterable[str]:
    """For TLS 1.2, as OpenSSL calls them."""
    for name in settings.suites:
        if name not in NAMES:
            raise TlsUnusable("tls.cipher", f"{name} is none of the cipher suites that are offered here")
    return dict.fromkeys((*SUITES[settings.profile], *filter(None, map(NAMES.__getitem__, settings.suites))))


def _load_own(context: ssl.SSLContext, files: TlsFiles) -> None:
    settings = files.settings
    password, asked = settings.key_password, False

    def give() -> str:  # and not whoever sits at the terminal: nobody may be there
        nonlocal asked
        asked = True
        return password or ""

    try:
        with _file(files.certificate) as certificate, _file(files.key) as key:
            context.load_cert_chain(certificate, key, give)
    except ssl.SSLError as error:
        file = settings.key or settings.certificate
        why = OWN.get(error.reason or "")
        if why is not None:
            raise TlsUnusable("tls.key", f"{settings.certificate}: {why}") from None
        if not asked:
            raise TlsUnusable("tls.key", f"{settings.certificate}, {file}: no certificate and key to be read") from None
        no_password = "it is encrypted, and there is no password for it"
        wrong = "it is encrypted, and this is not its password"
        raise TlsUnusable("tls.key", f"{file}: {no_password if password is None else wrong}") from None


def _load(path: Path, event: str, kind: str, marker: bytes, context: ssl.SSLContext, contents: bytes) -> None:
    try:
        if marker not in contents:
            raise ssl.SSLError
        with _file(contents) as name:
            context.load_verify_locations(name)
    except ssl.SSLError:
        raise TlsUnusable(event, f"{path}: no {kind} that can be read") from None


# ------------------------------------------------------------------ our own certificate


def own_certificate(files: TlsFiles, *, server_side: bool) -> str:
    """What peers will have against our certificate; empty if nothing: we show it to ourselves, and look as they do."""
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT if server_side else ssl.PROTOCOL_TLS_SERVER)
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    ours.check_hostname = theirs.check_hostname = False
    ours.verify_mode = ssl.CERT_NONE
    theirs.verify_mode = ssl.CERT_REQUIRED
    theirs.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    for each in (ours, theirs):
        each.minimum_version = each.maximum_version = ssl.TLSVersion.TLSv1_2  # both sides see the end of the handshake
        each.set_ciphers("ECDHE")
        _load_own(each, files)
    _load(Path(), "tls.key", "certificate", b"CERTIFICATE-----", theirs, files.certificate)
    shown = _meet(ours, theirs)
    if isinstance(shown, ssl.SSLError):
        return failure(shown).detail
    left_s = ssl.cert_time_to_seconds(str(shown["notAfter"])) - time.time()
    return f"it expires on {shown['notAfter']}" if left_s < SOON_S else ""


def _meet(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> dict[str, Any] | ssl.SSLError:
    """What they see of our certificate."""
    to_us, to_them = ssl.MemoryBIO(), ssl.MemoryBIO()
    us = ours.wrap_bio(to_us, to_them, server_side=ours.protocol == ssl.PROTOCOL_TLS_SERVER)
    them = theirs.wrap_bio(to_them, to_us, server_side=theirs.protocol == ssl.PROTOCOL_TLS_SERVER)
    for _ in range(4):
        for side in (us, them):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError as error:
                return error
    return them.getpeercert() or {}
