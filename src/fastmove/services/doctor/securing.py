"""The probe of TLS: a handshake by itself, which certificate the PACS shows, and what to do if there is no TLS."""

from __future__ import annotations

import asyncio
import hashlib
import socket
import ssl
import time
from typing import Any, Final

from fastmove.credentials import TlsSettings
from fastmove.errors import TlsFailed, TlsUnusable
from fastmove.net.tls import SOON_S, client_context, looking_context, own_certificate, read_files
from fastmove.net.tls_failure import RECORDS, failure, not_tls
from fastmove.services.doctor.findings import Advice, Finding, Numbers, at_pacs, here, note, ok, problem
from fastmove.services.doctor.visit import Visit

READ_BYTES: Final = 65536
DAY_S: Final = 86400

Certificate = dict[str, Any]
"""As `ssl` has it."""


async def handshake(visit: Visit) -> Finding:
    """Whether there is TLS with it, as our settings want it."""
    settings = visit.config.peer.tls
    assert settings is not None
    try:
        context = client_context(settings)
        against = own_certificate(read_files(settings), server_side=False) if settings.certificate else ""
    except TlsUnusable as error:
        visit.tls_failed = True
        return problem(str(error), here("see to our certificate and key: --tls-cert, --tls-key, --tls-ca"), cause=error)
    name = settings.server_name or visit.config.peer.host
    try:
        tls = await _shake_hands(visit, context, name)
        certificate = await _described(visit, settings, tls)
        if settings.pinned and (digest := _digest(tls)) not in settings.pinned:
            raise TlsFailed("tls.pin", f"its certificate is not a pinned one, but has SHA256:{digest}")
    except TlsFailed as error:
        return await failed(visit, error)
    version, cipher = tls.version() or "", (tls.cipher() or ("",))[0]
    numbers: Numbers = {"version": version, "cipher": cipher, "fingerprint": _digest(tls)}
    words = f"{version}, {cipher}; {_shown(certificate, _digest(tls))}"
    if against:
        return note(f"{words}; but our own certificate: {against}", here("have it renewed"), **numbers)
    left_s = _left_s(certificate)
    if left_s is not None and left_s < SOON_S:
        renew = at_pacs("have its certificate renewed: when it has expired, nothing goes any more")
        return note(f"{words}, in {left_s / DAY_S:.0f} days", renew, **numbers)
    return ok(words, **numbers)


async def failed(visit: Visit, error: TlsFailed) -> Finding:
    """Why there is no TLS with the PACS, with the certificate that it shows, if that is the matter."""
    visit.tls_failed = True
    settings = visit.config.peer.tls
    assert settings is not None
    words, names, digest = str(error.detail), "", ""
    if error.key in ("tls.cert", "tls.name", "tls.pin"):
        try:
            tls = await _shake_hands(visit, looking_context(settings), "")
            certificate, digest = await _described(visit, settings, tls), _digest(tls)
        except TlsFailed:
            pass  # it does not even show one
        else:
            words += f"; it shows {_shown(certificate, digest)}"
            names = " or ".join(_names(certificate))
    reason = error.detail.partition(":")[0].removeprefix("reason=")
    rows = _ADVICE.get(reason if error.key == "tls.cert" else error.key, _UNSAID)
    advice = (Advice(each.side, each.text.format(names=names or "the name in it", digest=digest)) for each in rows)
    return problem(f"no TLS: {words}", *advice, cause=error)


def of_sender(event: str) -> tuple[Advice, ...]:
    """What to do when our listener's TLS was not that of the PACS, by the log event."""
    return _OF_SENDER.get(event, ())


_UNSAID: Final = (at_pacs("its log may say more of the TLS handshake"),)
_RENEW: Final = (at_pacs("it needs a certificate that is valid now"), here("is the clock of this host right?"))
_TRUST: Final = (
    here("give the certificate of its authority: --tls-ca FILE"),
    here("or believe this one, if you know that it is its: --tls-pin SHA256:{digest}"),
)
_STRONG: Final = (at_pacs("it needs a certificate with RSA of 2048 bits or an elliptic curve, signed with SHA-256"),)
_LIST: Final = (here("fetch the revocation list of its authority anew, and give it with --tls-crl"),)

# Log event, or for tls.cert its reason → what to do.
_ADVICE: Final[dict[str, tuple[Advice, ...]]] = {
    "tls.not_tls": (here("is this its plain port? Leave --tls out, or ask for its TLS port; 2762 is usual"),),
    "tls.closed": (
        here("is this its TLS port? Give --tls-cert and --tls-key, if it demands a certificate"),
        at_pacs("its log says why it closes; mostly it does not trust our certificate"),
    ),
    "tls.timeout": (here("is this its TLS port?"), at_pacs("does the service hang? Restart it, see its log")),
    "tls.version": (at_pacs("allow TLS 1.2 or 1.3: what is older is not spoken (PS3.15 B.12)"),),
    "tls.cipher": (
        at_pacs("allow ECDHE with AES-GCM for TLS 1.2 (PS3.15 B.12), or TLS 1.3"),
        here("or it demands a certificate: --tls-cert and --tls-key"),
    ),
    "tls.refused": (
        at_pacs("it has to trust the authority of our certificate, or our certificate itself"),
        here("give it the right one with --tls-cert and --tls-key"),
    ),
    "tls.name": (
        here("say under which name it goes: --tls-server-name {names}; or do not check it: --no-tls-check-name"),
        at_pacs("or have a certificate made that is for this host"),
    ),
    "tls.pin": (here("was its certificate renewed? Then --tls-pin SHA256:{digest}; if not, somebody is in between"),),
    "expired": _RENEW,
    "not_yet_valid": _RENEW,
    "unknown_ca": _TRUST,
    "self_signed": _TRUST,
    "weak_key": _STRONG,
    "weak_signature": _STRONG,
    "revoked": (at_pacs("its certificate was revoked: it needs another one"),),
    "purpose": (at_pacs("it needs a certificate for servers (extended key usage serverAuth)"),),
    "no_crl": _LIST,
    "crl_expired": _LIST,
}

_OF_SENDER: Final[dict[str, tuple[Advice, ...]]] = {
    "tls.not_tls": (
        at_pacs("it sends without TLS: enter us as a node that is sent to by TLS"),
        here("or receive without: --no-tls-receive"),
    ),
    "tls.no_cert": (
        at_pacs("it shows no certificate when it sends: give it one"),
        here("or do without, then anybody may send: --tls-client-cert ignored"),
    ),
    "tls.cert": (at_pacs("its certificate as a sender is none that we trust: see --tls-ca"),),
    "tls.version": _ADVICE["tls.version"],
    "tls.cipher": (at_pacs("allow ECDHE with AES-GCM for TLS 1.2 when it sends (PS3.15 B.12)"),),
    "tls.refused": (
        at_pacs(
            "it does not accept our certificate when it sends: it has to trust the authority, and to find the "
            "name or address of this host in it"
        ),
    ),
    "tls.closed": (at_pacs("it gives the handshake up: its log says why; mostly it does not trust our certificate"),),
}


# ------------------------------------------------------------------ looking


async def _shake_hands(visit: Visit, context: ssl.SSLContext, name: str) -> ssl.SSLObject:
    """TLS on a connection of its own, which is closed again.  TlsFailed."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=name or None)
    loop = asyncio.get_running_loop()
    first = True
    try:
        async with asyncio.timeout(visit.limits.tls_s):
            with await _connected(visit) as sock:
                while True:
                    try:
                        tls.do_handshake()
                    except ssl.SSLWantReadError:
                        await loop.sock_sendall(sock, outgoing.read())
                    except (ssl.SSLError, ssl.CertificateError) as error:
                        await loop.sock_sendall(sock, outgoing.read())
                        raise failure(error, name) from None
                    else:
                        await loop.sock_sendall(sock, outgoing.read())
                        return tls
                    data = await loop.sock_recv(sock, READ_BYTES)
                    if not data:
                        raise TlsFailed("tls.closed", "it closed the connection in the handshake")
                    if first and data[0] not in RECORDS:
                        raise not_tls(data[0])
                    first = False
                    incoming.write(data)
    except TimeoutError:
        limit = f"no handshake within {visit.limits.tls_s:g} s (tls_s)"
        raise TlsFailed("tls.timeout", limit) from None
    except OSError as error:
        raise TlsFailed("tls.closed", f"the connection broke in the handshake: {error.strerror or error}") from None


async def _connected(visit: Visit) -> socket.socket:
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for family, kind, protocol, _, where in visit.addresses:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, where)
        except OSError as error:
            sock.close()
            failed = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failed or OSError("no address")


async def _described(visit: Visit, settings: TlsSettings, tls: ssl.SSLObject) -> Certificate:
    """What is in the certificate of the peer; `ssl` tells it only of one that it has verified, by whatever."""
    if found := tls.getpeercert():
        return found
    der = tls.getpeercert(binary_form=True)
    try:
        again = await _shake_hands(visit, looking_context(settings, der), "")
    except TlsFailed:
        return {}
    return again.getpeercert() or {}


def _digest(tls: ssl.SSLObject) -> str:
    return hashlib.sha256(tls.getpeercert(binary_form=True) or b"").hexdigest()


def _shown(certificate: Certificate, digest: str) -> str:
    if not certificate:
        return f"a certificate with SHA256:{digest}"
    names = ", ".join(_names(certificate)) or _common_name(certificate, "subject")
    return f"a certificate for {names}, of {_common_name(certificate, 'issuer')}, until {certificate['notAfter']}"


def _names(certificate: Certificate) -> list[str]:
    return [str(value) for kind, value in certificate.get("subjectAltName", ()) if kind in ("DNS", "IP Address")]


def _common_name(certificate: Certificate, whose: str) -> str:
    parts = [value for part in certificate.get(whose, ()) for kind, value in part]
    named = [value for part in certificate.get(whose, ()) for kind, value in part if kind == "commonName"]
    return repr(str((named or parts or ["nobody"])[0]))


def _left_s(certificate: Certificate) -> float | None:
    if "notAfter" not in certificate:
        return None
    return ssl.cert_time_to_seconds(str(certificate["notAfter"])) - time.time()
