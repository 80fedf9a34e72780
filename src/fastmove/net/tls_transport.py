"""TLS between a TCP transport and a Connection: it is the protocol of the one, and the transport of the other.

What asyncio and uvloop have for that sends no alert when a handshake fails, and tells nobody why it did.  Here the peer
gets its alert, and the Connection a TlsFailed.
"""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import socket
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, cast

from fastmove._codec import send_now
from fastmove.errors import TlsFailed
from fastmove.net.tls_failure import RECORDS, failure, not_tls
from fastmove.notices import TlsOpened

if TYPE_CHECKING:
    from fastmove.net.connection import Connection

CIPHERTEXT_BYTES: Final = 128 << 10
"""What is read from the socket at once: more would leave the caches of the CPU before it is decrypted."""

PLAINTEXT_BYTES: Final = 64 << 10
"""What is encrypted at once, and sent before more is, for the same reason."""

QUICK_ACK: Final = getattr(socket, "TCP_QUICKACK", None)


def ciphertext_room() -> memoryview:
    """Where ciphertext is read into: from the beginning of a page, as some CPUs copy to elsewhere much more slowly."""
    return memoryview(mmap.mmap(-1, CIPHERTEXT_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def peer_fingerprint(tls: ssl.SSLObject) -> str:
    """SHA-256 of the peer's certificate, in hexadecimal; empty if it showed none."""
    certificate = tls.getpeercert(binary_form=True)
    return "" if certificate is None else hashlib.sha256(certificate).hexdigest()


class TlsTransport(asyncio.BufferedProtocol, asyncio.Transport):
    """One connection's TLS; made before its TCP connection is, which it then is the protocol of.

    `ciphertext` is where the loop reads into.  Each read leaves it empty, so all connections of a loop may share one.
    `failed` is told why there is no TLS with the peer, or why it broke.
    """

    def __init__(
        self,
        connection: Connection,
        context: ssl.SSLContext,
        ciphertext: memoryview,
        *,
        server_name: str | None = None,
        pinned: tuple[str, ...] = (),
        failed: Callable[[TlsFailed], None] | None = None,
    ) -> None:
        super().__init__()
        self._connection: Connection | None = connection
        self._ciphertext = ciphertext
        self._server_name = server_name or ""
        self._pinned = pinned
        self._failed = failed
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        server_side = context.protocol == ssl.PROTOCOL_TLS_SERVER
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side, server_name or None)
        self._tcp: asyncio.Transport | None = None
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._fd = -1
        self._begun = False
        self._handshaking = True
        self._paused = self._held = self._pumping = self._closing = self._ended = False

    # ------------------------------------------------------------------ the protocol of the TCP transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TCP connection is there: shake hands."""
        assert self._connection is not None
        self._tcp = cast(asyncio.Transport, transport)
        self._socket = transport.get_extra_info("socket")
        self._fd = self._socket.fileno() if self._socket is not None else -1
        limit_s = self._connection.limits.tls_s
        self._timer = asyncio.get_running_loop().call_later(limit_s, self._timed_out, limit_s)
        self._connection.transport_opened(self)
        self._shake_hands()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where ciphertext goes."""
        return self._ciphertext

    def buffer_updated(self, nbytes: int) -> None:
        """Ciphertext came."""
        if self._closing:
            return
        if not self._begun:
            self._begun = True
            if self._ciphertext[0] not in RECORDS:
                self._fail(not_tls(self._ciphertext[0]))
                return
        self._incoming.write(self._ciphertext[:nbytes])
        if self._handshaking:
            self._shake_hands()
        if not self._handshaking:
            self._pump()
        if nbytes < len(self._ciphertext):
            self._acknowledge()

    def eof_received(self) -> None:
        """The peer closed TCP: if it did not end TLS before, something may be cut off (RFC 8446 6.1)."""
        connection = self._connection
        if connection is not None and not self._handshaking and not self._ended and not self._closing:
            if connection.association.data_allowed:
                connection.misbehaved("tls.truncated")
            connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone."""
        connection, self._connection = self._connection, None
        self._stop_timer()
        if connection is None:
            return
        if self._handshaking and not self._closing:
            how = "reset" if isinstance(exc, ConnectionResetError) else "closed"
            self._tell(connection, TlsFailed("tls.closed", f"the peer {how} the connection in the handshake"))
        elif isinstance(exc, OSError) and not self._closing and (error := self._last_words()) is not None:
            self._tell(connection, error)
        self._closing = True
        self._tcp = self._socket = self._failed = None
        connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket is full."""
        if self._connection is not None:
            self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It is not any more."""
        if self._connection is not None:
            self._connection.resume_writing()

    # ------------------------------------------------------------------ handshake

    def _shake_hands(self) -> None:
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # the alert, which says why
            self._fail(failure(error, self._server_name))
            return
        self._flush()
        self._stop_timer()
        digest = peer_fingerprint(self._tls)
        if self._pinned and digest not in self._pinned:
            self._fail(TlsFailed("tls.pin", f"its certificate is not a pinned one, but has SHA256:{digest}"))
            return
        self._handshaking = False
        connection = self._connection
        if connection is None:
            return
        if connection.notify is not None:
            version, cipher = self._tls.version() or "", (self._tls.cipher() or ("",))[0]
            connection.notify(TlsOpened(connection.number, connection.host, version, cipher, digest))
        connection.connection_made(self)

    def _timed_out(self, limit_s: float) -> None:
        self._timer = None
        self._fail(TlsFailed("tls.timeout", f"no handshake within {limit_s:g} s (tls_s)"))
        self.abort()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _last_words(self) -> TlsFailed | None:
        """The alert of a peer that has reset the connection: with TLS 1.3 it refuses us when we have begun to send."""
        try:
            while data := os.read(self._fd, len(self._ciphertext)):
                self._incoming.write(data)
        except OSError:
            pass  # that was all
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            return failure(error)
        return None

    def _fail(self, error: TlsFailed) -> None:
        """Tell it, and close when the alert has left."""
        self._closing = True
        self._stop_timer()
        if self._connection is not None:
            self._tell(self._connection, error)
        if self._tcp is not None:
            self._tcp.close()

    def _tell(self, connection: Connection, error: TlsFailed) -> None:
        connection.misbehaved(error.key, error.detail)
        if self._failed is not None:
            self._failed(error)

    # ------------------------------------------------------------------ reading

    def _pump(self) -> None:
        """Decrypt what is there into the window of the connection, as much of it at once as fits; read on."""
        if self._pumping:
            return
        self._pumping = True
        try:
            more = not self._handshaking
            while more and not self._paused and not self._closing and self._connection is not None:
                more = self._fill(self._connection)
        finally:
            self._pumping = False
        if self._outgoing.pending:
            self._flush()
        if self._held and not self._paused and not self._closing and self._tcp is not None:
            self._held = False
            self._tcp.resume_reading()

    def _fill(self, connection: Connection) -> bool:
        """One window; False if there is no more to decrypt."""
        receiver = connection.receiver
        window = receiver.get_buffer(-1)
        room, filled, read = len(window), 0, self._tls.read
        error: ssl.SSLError | None = None
        try:
            while filled < room:
                count: int = read(room - filled, window[filled:] if filled else window)  # type: ignore[assignment]
                if not count:
                    raise ssl.SSLZeroReturnError
                filled += count
        except ssl.SSLError as stopped:
            error = stopped
        if filled:
            connection.buffer_updated(filled)
        if error is None:
            return True
        if isinstance(error, ssl.SSLZeroReturnError):
            self._ended = True
            connection.eof_received()
            self.close()
        elif not isinstance(error, ssl.SSLWantReadError) and not self._closing:
            self._flush()
            self._fail(failure(error))
        return False

    def _acknowledge(self) -> None:
        """Acknowledge at once what may be waited for (ADR 18): a part of a record or a message, or all that comes."""
        connection, receiving = self._connection, self._socket
        if QUICK_ACK is None or connection is None or receiving is None or self._closing:
            return
        if self._handshaking or self._incoming.pending or connection.only_listens or connection.receiver.receiving:
            receiving.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, 1)

    # ------------------------------------------------------------------ the transport of the connection

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of TCP; and `ssl_object`, by which others know that this is TLS."""
        if name == "ssl_object":
            return self._tls
        return default if self._tcp is None else self._tcp.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """Give no more to the connection."""
        self._paused = True
        if self._tcp is not None and not self._closing and not self._held:
            self._held = True
            self._tcp.pause_reading()

    def resume_reading(self) -> None:
        """Go on, first with what is here already, and not within whoever says so."""
        self._paused = False
        if not self._pumping:
            asyncio.get_running_loop().call_soon(self._resume)

    def _resume(self) -> None:
        try:
            self._pump()
        except BaseException:
            self.abort()  # as the loop does when a read fails
            raise

    def is_reading(self) -> bool:
        """False while paused."""
        return not self._paused and not self._closing

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send, at once as far as the socket takes it."""
        if self._closing or self._tcp is None:
            return
        rest = memoryview(data)
        while rest:
            rest = rest[self._tls.write(rest[:PLAINTEXT_BYTES]) :]
            self._flush()

    def _flush(self) -> None:
        data = self._outgoing.read()
        tcp = self._tcp
        if not data or tcp is None:
            return
        if self._fd >= 0 and not tcp.get_write_buffer_size():
            sent = send_now(self._fd, data)
            if sent == len(data):
                return
            data = memoryview(data)[sent:]  # type: ignore[assignment]
        tcp.write(data)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of TCP."""
        if self._tcp is not None:
            self._tcp.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """What is encrypted, and has not left."""
        return 0 if self._tcp is None else self._tcp.get_write_buffer_size()

    def is_closing(self) -> bool:
        """True once it is over for us."""
        return self._closing

    def close(self) -> None:
        """End TLS, and then TCP, when everything has left; in the middle of the handshake at once."""
        if self._closing or self._tcp is None:
            return
        if self._handshaking:
            self.abort()
            return
        self._closing = True
        try:
            self._tls.unwrap()
        except ssl.SSLError:
            pass  # the peer's end is not waited for (RFC 8446 6.1)
        self._flush()
        self._tcp.close()

    def abort(self) -> None:
        """Close at once."""
        self._closing = True
        if self._tcp is not None:
            self._tcp.abort()
