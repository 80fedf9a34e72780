"""Certificates for the tests of TLS: an authority, those that it signed, and every kind of bad one."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

DAY: Final = datetime.timedelta(days=1)
BOTH: Final = (Usage.SERVER_AUTH, Usage.CLIENT_AUTH)
HERE: Final = ("localhost", "127.0.0.1", "::1")
SHA256_WITH_RSA, SHA1_WITH_RSA = (bytes.fromhex("2a864886f70d0101") + last for last in (b"\x0b", b"\x05"))
PASSWORD: Final = "correct horse"


@dataclass(frozen=True)
class Issued:
    """A certificate and its private key, as files, and as they are."""

    certificate: Path
    key: Path
    x509: x509.Certificate
    private: Key

    @property
    def fingerprint(self) -> str:
        return self.x509.fingerprint(hashes.SHA256()).hex()


class Authority:
    """Issues certificates into a folder; a key is used for many of them, as making one takes time."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self.folder = folder
        self.name = name
        self._rsa = rsa.generate_private_key(65537, 2048)
        self.root = self._sign("root-" + name.split()[0].lower(), name, name, self._rsa, self._rsa, authority=True)
        self.certificate = self.root.certificate

    def issue(
        self,
        common_name: str,
        names: Iterable[str] = HERE,
        *,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 90 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = BOTH,
        private: Key | None = None,
        self_signed: bool = False,
        file: str | None = None,
    ) -> Issued:
        """A certificate, of RSA 2048 for both sides unless it is wanted otherwise."""
        private = private or self._rsa
        signer, issuer = (private, common_name) if self_signed else (self._rsa, self.name)
        return self._sign(
            file or common_name,
            common_name,
            issuer,
            private,
            signer,
            names=names,
            begins=begins,
            ends=ends,
            usages=usages,
        )

    def _sign(
        self,
        file: str,
        subject: str,
        issuer: str,
        private: Key,
        signer: Key,
        *,
        names: Iterable[str] = (),
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = 90 * DAY,
        usages: Sequence[x509.ObjectIdentifier] = (),
        authority: bool = False,
    ) -> Issued:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(private.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + begins)
            .not_valid_after(now + ends)
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if names := list(names):
            builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general, names))), critical=False)
        if usages:
            builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        return self._write(file, builder.sign(signer, hashes.SHA256()), private)

    def _write(self, file: str, certificate: x509.Certificate, private: Key) -> Issued:
        paths = self.folder / f"{file}.crt", self.folder / f"{file}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].touch(mode=0o600)
        paths[1].write_bytes(pem_key(private))
        return Issued(*paths, certificate, private)

    def sign_with_sha1(self, issued: Issued, file: str) -> Issued:
        """The same with a signature that `cryptography` does not make any more: both identifiers are of one length."""
        contents = issued.x509.tbs_certificate_bytes.replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
        signature = self._rsa.sign(contents, padding.PKCS1v15(), hashes.SHA1())
        whole = issued.x509.public_bytes(serialization.Encoding.DER).replace(SHA256_WITH_RSA, SHA1_WITH_RSA)
        return self._write(file, x509.load_der_x509_certificate(whole[: -len(signature)] + signature), issued.private)

    def revoke(self, *revoked: Issued, ends: datetime.timedelta = 7 * DAY, file: str = "revoked") -> Path:
        """A revocation list."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.x509.subject)
            .last_update(now - 2 * DAY)
            .next_update(now + ends)
        )
        for each in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(each.x509.serial_number).revocation_date(now - DAY)
            builder = builder.add_revoked_certificate(entry.build())
        path = self.folder / f"{file}.crl"
        path.write_bytes(builder.sign(self._rsa, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        return path


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def pem_key(private: Key, password: str | None = None) -> bytes:
    """A private key in PKCS#8, encrypted if there is a password."""
    encryption = serialization.BestAvailableEncryption(password.encode()) if password else serialization.NoEncryption()
    return private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


class Certificates:
    """Everything that the tests need, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = authority = Authority(folder)
        self.other_authority = Authority(folder, "Other authority")
        self.server = authority.issue("SERVER")
        self.client = authority.issue("CLIENT", ("client.example",))
        self.elliptic = authority.issue("ELLIPTIC", private=ec.generate_private_key(ec.SECP256R1()))
        self.elsewhere = authority.issue("ELSEWHERE", ("pacs.example", "192.0.2.1"))
        self.expired = authority.issue("EXPIRED", begins=-20 * DAY, ends=-DAY)
        self.not_yet_valid = authority.issue("EARLY", begins=DAY)
        self.soon = authority.issue("SOON", ends=5 * DAY)
        self.unknown_ca = self.other_authority.issue("UNKNOWN")
        self.self_signed = authority.issue("SELF", self_signed=True)
        self.revoked = authority.issue("REVOKED")
        self.server_only = authority.issue("SERVERONLY", usages=(Usage.SERVER_AUTH,))
        self.client_only = authority.issue("CLIENTONLY", usages=(Usage.CLIENT_AUTH,))
        self.weak_key = authority.issue("WEAK", private=rsa.generate_private_key(65537, 1024))
        self.weak_signature = authority.sign_with_sha1(authority.issue("SHA1"), "SHA1")
        self.revocations = authority.revoke(self.revoked)
        self.stale_revocations = authority.revoke(self.revoked, ends=-DAY, file="stale")
