"""A listener's TLS: its context, which can be made anew, and which certificates go with which AE titles."""

from __future__ import annotations

import ssl
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from fastmove.credentials import PeerCertificates, TlsSettings, fingerprint
from fastmove.errors import ConfigurationError, TlsUnusable
from fastmove.net.connection import Connection
from fastmove.net.tls import own_certificate, read_files, server_context
from fastmove.net.tls_transport import TlsTransport, ciphertext_room, peer_fingerprint
from fastmove.notices import Notice, Observer, PeerMisbehaved, TlsReloaded
from fastmove.types import ae_title
from fastmove.ul.negotiation import Rejection
from fastmove.ul.pdu import AAssociateRJ

MAX_SESSIONS: Final = 64
"""Sessions of TLS 1.2 that OpenSSL keeps in a context, 6 KiB each and more, before there is a new one without any."""

FINGERPRINT: Final = "SHA256:"
COMMON_NAME: Final = "CN="
ALTERNATIVE_NAMES: Final = {"DNS:": "DNS", "IP:": "IP Address", "URI:": "URI", "email:": "email"}
"""How a binding begins → kind of subject alternative name, as `ssl` calls it."""


class ListenerTls:
    """TLS of one listener.  TlsUnusable says what is wrong with its files."""

    def __init__(self, settings: TlsSettings, notify: Observer | None = None) -> None:
        self._settings = settings
        self._notify = notify
        self._ciphertext = ciphertext_room()
        self._load()

    def _load(self) -> None:
        files = read_files(self._settings)
        context = server_context(files)
        bindings = None if self._settings.ae_titles is None else _bindings(self._settings.ae_titles)
        if bindings is not None and self._settings.peers is PeerCertificates.IGNORED:
            raise TlsUnusable("tls.aet_binding", "nobody is asked for a certificate that AE titles could be bound to")
        against = own_certificate(files, server_side=True)
        self._files, self._context, self._bindings = files, context, bindings
        if against:
            self._tell(PeerMisbehaved(0, "", "tls.own_certificate", f"{against}: {self._settings.certificate}"))

    def reload(self) -> None:
        """Read the files anew, for connections to come; what is wrong with them is told, and then nothing changes."""
        try:
            self._load()
        except TlsUnusable as error:
            self._tell(PeerMisbehaved(0, "", "tls.reload_failed", f"all stays as it was: {error}"))
        else:
            self._tell(TlsReloaded(str(self._settings.certificate)))

    def transport(self, connection: Connection) -> TlsTransport:
        """The protocol of a TCP connection, with a Connection on top of it."""
        return TlsTransport(connection, self.context, self._ciphertext)

    @property
    def context(self) -> ssl.SSLContext:
        """For the next connection."""
        if self._context.session_stats()["number"] >= MAX_SESSIONS:
            self._context = server_context(self._files)
        return self._context

    def admit(self, calling_ae_title: str, tls: ssl.SSLObject) -> Rejection | None:
        """None, or the answer to a peer that calls by an AE title which its certificate is not bound to."""
        if self._bindings is None:
            return None
        bound, names = self._bindings.get(calling_ae_title), list(names_of(tls))
        if bound is not None and any(name.casefold() in bound for name in names):
            return None
        why = "is bound to no certificate" if bound is None else f"is not bound to {', '.join(names) or 'none'}"
        return Rejection(AAssociateRJ(result=1, source=1, reason=3), "tls.aet_binding", f"{calling_ae_title!r} {why}")

    def _tell(self, notice: Notice) -> None:
        if self._notify is not None:
            self._notify(notice)


def _bindings(path: Path) -> Mapping[str, frozenset[str]]:
    """AE title → what a certificate may have to call by it, from a TOML file; TlsUnusable if it is no such file."""
    try:
        table = tomllib.loads(path.read_text("utf-8"))
        return {ae_title(title): frozenset(map(str.casefold, _names(value))) for title, value in table.items()}
    except OSError as error:
        raise TlsUnusable("tls.aet_binding", f"{path}: {error.strerror}") from None
    except ValueError as error:  # TOMLDecodeError, UnicodeDecodeError and ConfigurationError are such
        raise TlsUnusable("tls.aet_binding", f"{path}: {error}") from None


def _names(value: Any) -> Iterable[str]:
    names = value if isinstance(value, list) else [value]
    for name in names:
        if not isinstance(name, str):
            raise ValueError(f"{name!r} is no string")
        if name.upper().startswith(FINGERPRINT):
            yield FINGERPRINT + fingerprint(name)
        elif name.startswith((COMMON_NAME, *ALTERNATIVE_NAMES)):
            yield name
        else:
            kinds = ", ".join((FINGERPRINT, COMMON_NAME, *ALTERNATIVE_NAMES))
            raise ConfigurationError("AE title", f"{name!r} begins with none of {kinds}")


def names_of(tls: ssl.SSLObject) -> Iterable[str]:
    """Everything that a binding may name the certificate of the peer by."""
    if digest := peer_fingerprint(tls):
        yield FINGERPRINT + digest
    certificate: Mapping[str, Any] = tls.getpeercert() or {}
    for part in certificate.get("subject", ()):
        yield from (COMMON_NAME + value for kind, value in part if kind == "commonName")
    for kind, value in certificate.get("subjectAltName", ()):
        yield from (prefix + value for prefix, name in ALTERNATIVE_NAMES.items() if name == kind)
