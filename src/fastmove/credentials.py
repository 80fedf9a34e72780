"""What we show to peers, and whom we believe: TLS (PS3.15 B) and user identity (PS3.7 D.3.3.7), as values."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.values import Value

KEY_PASSWORD: Final = "FASTMOVE_TLS_KEY_PASSWORD"
"""Environment variable: what our private key is encrypted with."""


class TlsProfile(Enum):
    """The secure transport connection profiles of PS3.15 that we speak."""

    BCP195 = "bcp195"
    """BCP 195 RFC 8996, 9325 (PS3.15 B.12)."""

    MODIFIED = "bcp195-modified"
    """Modified BCP 195 RFC 8996, 9325 (PS3.15 B.13)."""


class PeerCertificates(Enum):
    """What becomes of a peer without a certificate, or with one that cannot be verified."""

    REQUIRED = "required"
    """There is no connection: authentication is mutual."""

    OPTIONAL = "optional"
    """A peer that connects to us may show none; one that it shows has to be right."""

    IGNORED = "ignored"
    """There is one all the same, encrypted, with nobody knows whom."""


class Revocation(Enum):
    """Which certificates must be on no revocation list."""

    LEAF = "leaf"
    """That of the peer: there must be a list of its authority."""

    CHAIN = "chain"
    """And those above it: there must be a list of each authority."""


class TlsSettings(Value):
    """How TLS is spoken with a peer, or by a listener; certificates and keys are files in PEM (RFC 7468)."""

    secret = frozenset(("key_password",))

    certificate: Path | None = None
    """Ours, with those between it and its authority behind it; None: we show none."""

    key: Path | None = None
    """Its private key; None: it is in the same file."""

    key_password: str | None = None
    """What the private key is encrypted with; None: it is not."""

    trusted: tuple[Path, ...] = ()
    """Certificates, or folders of them, of the authorities (or peers) that we believe; empty: those of the system."""

    revoked: tuple[Path, ...] = ()
    """Certificate revocation lists."""

    revocation: Revocation | None = None
    """None: LEAF if there are lists."""

    profile: TlsProfile = TlsProfile.BCP195

    suites: tuple[str, ...] = ()
    """Cipher suites besides those of the profile, by the names of the standard (those of `net.tls.NAMES`)."""

    peers: PeerCertificates = PeerCertificates.REQUIRED

    server_name: str = ""
    """The name that the server's certificate must have; empty: the host that is connected to."""

    check_name: bool = True
    """Whether it must have that name."""

    indicate_name: bool = True
    """Whether a server is told by what name it is asked for (SNI, RFC 6066 3)."""

    expected_name: str = ""
    """The name that who connects to us must ask for, if for any; empty: whatever it likes."""

    pinned: tuple[str, ...] = ()
    """Fingerprints (SHA-256) of peers' certificates; with them nothing else counts: no authority, no name, no date."""

    ae_titles: Path | None = None
    """Which certificates may call by which AE title; None: each by any."""


FINGERPRINT_DIGITS: Final = 64


def fingerprint(text: str) -> str:
    """A SHA-256 fingerprint as 64 small hexadecimal digits; ConfigurationError if it is none.

    Colons between the digits, and `SHA256:` before them, are left out.
    """
    digits = text.strip().lower().removeprefix("sha256:").replace(":", "")
    if len(digits) != FINGERPRINT_DIGITS or not set(digits) <= set("0123456789abcdef"):
        raise ConfigurationError("fingerprint", f"{text!r} is not the SHA-256 of a certificate: 64 hexadecimal digits")
    return digits


USER_NAME, USER_NAME_AND_PASSCODE, KERBEROS_TICKET, SAML_ASSERTION, JSON_WEB_TOKEN = range(1, 6)
"""Kinds of user identity (PS3.7 Table D.3-14)."""


class UserIdentity(Value):
    """Who the user is, for peers that ask (PS3.7 D.3.3.7): never shown, never logged."""

    secret = frozenset(("primary", "secondary"))

    kind: int
    """One of the five above."""

    primary: bytes
    """The name, the ticket, the assertion, or the token."""

    secondary: bytes = b""
    """The passcode."""

    response: bool = False
    """Whether a positive response is asked for."""

    required: bool = False
    """Whether an association without that response is aborted."""

    in_plain: bool = False
    """Whether a secret may go without TLS."""

    @property
    def is_secret(self) -> bool:
        """True of all but a name."""
        return self.kind != USER_NAME
