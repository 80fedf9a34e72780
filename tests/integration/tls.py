"""TLS peers that share nothing with fastmove's: Python's ssl over the scripted link, and ClientHellos made by hand."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

import pytest

from fastmove.credentials import TlsSettings
from fastmove.limits import Limits
from fastmove.notices import Notice, as_dict
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy
from tests.certificates import Certificates, Issued
from tests.integration import raw
from tests.integration.listener import Listener
from tests.integration.scripted import ScriptedRequestor

CLOSE_NOTIFY, UNEXPECTED_MESSAGE, RECORD_OVERFLOW = 0, 10, 22
HANDSHAKE_FAILURE, BAD_CERTIFICATE, CERTIFICATE_REVOKED, CERTIFICATE_EXPIRED = 40, 42, 44, 45
UNKNOWN_CA, PROTOCOL_VERSION, NO_RENEGOTIATION, CERTIFICATE_REQUIRED = 48, 70, 100, 116
"""Alerts (RFC 8446 6)."""

SERVER_S: Final = 5.0

HANDSHAKE, ALERT = 0x16, 0x15

SSL3, TLS1, TLS1_1, TLS1_2 = 0x0300, 0x0301, 0x0302, 0x0303
AES128_GCM, AES256_GCM = 0xC02F, 0xC030  # TLS_ECDHE_RSA_WITH_...
RC4, TRIPLE_DES, NULL_SHA, ANONYMOUS, CBC_SHA1, EXPORT = 0x0005, 0x000A, 0x0002, 0x0034, 0xC013, 0x0003


def settings_for(certificates: Certificates, ours: Issued | None, **change: object) -> TlsSettings:
    """Settings with this certificate of ours, that trust the authority of the tests."""
    fields: dict[str, object] = {"trusted": (certificates.authority.certificate,)}
    if ours is not None:
        fields |= {"certificate": ours.certificate, "key": ours.key}
    return TlsSettings(**{**fields, **change})


def client_context(
    certificates: Certificates, shown: Issued | None, *, version: ssl.TLSVersion | None = None, weak: bool = False
) -> ssl.SSLContext:
    """That of a peer which shows this certificate, in this version of TLS only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(certificates.authority.certificate)
    context.check_hostname = False
    if weak:
        context.set_ciphers("ALL:@SECLEVEL=0")
    if shown is not None:
        context.load_cert_chain(shown.certificate, shown.key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def server_context(certificates: Certificates, shown: Issued, *, demands: bool = True) -> ssl.SSLContext:
    """That of a server with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(shown.certificate, shown.key)
    if demands:
        context.load_verify_locations(certificates.authority.certificate)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsRequestor(ScriptedRequestor):
    """A scripted requestor over TLS."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, deadline: float = 2.0) -> None:
        super().__init__(host, port, deadline)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        try:
            async with asyncio.timeout(self.deadline):
                await self._shake_hands()
        except BaseException:
            self.close()
            raise
        return self

    async def _shake_hands(self) -> None:
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._read()
            else:
                await self._flush()
                return

    async def _flush(self) -> None:
        if data := self._outgoing.read():
            await self._loop.sock_sendall(self.sock, data)

    async def _read(self) -> None:
        data = await self._loop.sock_recv(self.sock, 65536)
        if not data:
            raise EOFError("the peer closed the connection")
        self._incoming.write(data)

    async def send(self, *chunks: bytes) -> None:
        """Send all chunks glued together."""
        self.tls.write(b"".join(chunks))
        async with asyncio.timeout(self.deadline):
            await self._flush()

    async def send_record(self, data: bytes, *, spoil: bool) -> None:
        """Send it as a record; one that was changed on its way if it is to be spoiled."""
        self.tls.write(data)
        record = bytearray(self._outgoing.read())
        record[-1] ^= spoil
        await self._loop.sock_sendall(self.sock, record)

    async def send_pieces(self, data: bytes, size: int = 1, pause_s: float = 0.0) -> None:
        """Send `size` bytes at a time, each in a record and a segment of its own."""
        for start in range(0, len(data), size):
            await self.send(data[start : start + size])
            await asyncio.sleep(pause_s)

    async def send_end(self) -> None:
        """End TLS, not TCP: close_notify."""
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            await self._flush()

    async def _fill(self, count: int) -> None:
        while len(self._unread) < count:
            try:
                data = self.tls.read(65536)
            except ssl.SSLWantReadError:
                await self._read()
                continue
            if not data:
                raise EOFError(f"the peer ended TLS after {self._unread[:64].hex(' ')!r}")
            self._unread += data


@dataclass
class TlsListener(Listener):
    """A listener that is spoken to by TLS, unless a test wants it otherwise."""

    context: ssl.SSLContext | None = None

    def connect(self, context: ssl.SSLContext | None = None) -> ScriptedRequestor:
        """A connection without an association."""
        chosen = context or self.context
        assert chosen is not None
        return TlsRequestor(self.host, self.port, chosen)

    def plain(self) -> ScriptedRequestor:
        """A TCP connection on which nothing is encrypted."""
        return ScriptedRequestor(self.host, self.port)


@asynccontextmanager
async def listening(
    directory: Path, certificates: Certificates, limits: Limits, **change: Any
) -> AsyncIterator[TlsListener]:
    """A storage listener with TLS, some fields of its TlsSettings changed."""
    under_test = TlsListener(directory, context=client_context(certificates, certificates.client))
    settings = settings_for(certificates, certificates.server, **change)

    def notify(notice: Notice) -> None:
        under_test.record(as_dict(notice))

    with StorageTarget(directory, WriteOptions(durable=False)) as target:
        policy = AcceptPolicy(under_test.ae_title)
        async with listen(under_test.host, 0, target, policy, limits, notify, tls=settings) as acceptor:
            under_test.port = acceptor.port
            yield under_test


async def echoes(listener: TlsListener, context: ssl.SSLContext | None = None) -> None:
    """A new association over TLS answers C-ECHO."""
    async with listener.connect(context) as peer:
        await peer.associate(raw.associate_rq(contexts=[raw.context_rq(3, raw.VERIFICATION)]))
        await peer.echo()
        await peer.release()


async def refused(listener: TlsListener, context: ssl.SSLContext) -> str:
    """The alert that a peer with this context gets, in the handshake or, with TLS 1.3, right after it."""
    with pytest.raises(ssl.SSLError) as caught:
        await echoes(listener, context)
    return str(caught.value.reason)


def client_hello(
    version: int = TLS1_2,
    suites: Iterable[int] = (AES128_GCM,),
    *,
    compressions: bytes = b"\0",
    extensions: int = 0,
    fragment: int = 1 << 14,
) -> bytes:
    """A ClientHello (RFC 5246 7.4.1.2) in records of at most `fragment` bytes, with so many unknown extensions."""
    listed = b"".join(struct.pack(">H", suite) for suite in suites)
    known = _extension(10, struct.pack(">HHH", 4, 29, 23)) + _extension(11, b"\1\0")  # groups, point formats
    known += _extension(13, struct.pack(">HHH", 4, 0x0804, 0x0401))  # signatures: rsa_pss_rsae_sha256, rsa_pkcs1_sha256
    known += b"".join(_extension(0x4000 + n, b"x" * 8) for n in range(extensions))
    body = struct.pack(">H", version) + os.urandom(32) + b"\0"
    body += struct.pack(">H", len(listed)) + listed + bytes((len(compressions),)) + compressions
    body += struct.pack(">H", len(known)) + known
    message = b"\1" + len(body).to_bytes(3, "big") + body
    pieces = (message[start : start + fragment] for start in range(0, len(message), fragment))
    return b"".join(struct.pack(">BHH", HANDSHAKE, min(version, TLS1), len(piece)) + piece for piece in pieces)


def _extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">HH", kind, len(data)) + data


async def answer(peer: ScriptedRequestor) -> tuple[int, bytes] | None:
    """The first record that comes on a connection without TLS of its own: type and contents; None if it is closed."""
    loop = asyncio.get_running_loop()
    data = b""
    async with asyncio.timeout(peer.deadline):
        while len(data) < 5 or len(data) < 5 + int.from_bytes(data[3:5], "big"):
            try:
                more = await loop.sock_recv(peer.sock, 65536)
            except ConnectionResetError:
                return None
            if not more:
                return None
            data += more
    return data[0], data[5 : 5 + int.from_bytes(data[3:5], "big")]


@contextmanager
def tls_server(context: ssl.SSLContext, host: str = "127.0.0.1") -> Iterator[int]:
    """A server that shakes hands, or sends its alert, and then says nothing: its port."""

    def serve() -> None:
        while True:
            try:
                accepted, _ = listening.accept()
            except OSError:
                return  # the end
            accepted.settimeout(SERVER_S)
            try:
                with context.wrap_socket(accepted, server_side=True) as connection:
                    while connection.recv(65536):
                        pass
            except OSError:
                accepted.close()

    with socket.create_server((host, 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join()


def write_secret(path: Path, contents: bytes | str) -> Path:
    """A file that only its owner may read."""
    path.touch(mode=0o600)
    path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    return path
