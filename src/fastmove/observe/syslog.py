"""Where audit messages go: a file, or a collector by syslog (RFC 5424 over UDP, TCP, TLS or a local socket)."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import ssl
import time
from pathlib import Path
from typing import Final, Protocol

from fastmove.errors import ConfigurationError
from fastmove.limits import AUDIT_SINK_S
from fastmove.values import Value

PRIORITY: Final = 10 * 8 + 5
"""Facility 10, security; severity 5, normal but significant (PS3.15 A.6)."""

MESSAGE_ID: Final = "DICOM+RFC3881"
"""That of PS3.15 A.6."""

_ADDRESS: Final = re.compile(r"(?:(udp|tcp|tls):)?(\[[^\]]+\]|[^:\[\]]+):(\d{1,5})")


class Sink(Protocol):
    """Takes messages, each a line without its newline; may block, for a while."""

    @property
    def name(self) -> str:
        """As a person knows it."""

    def open(self) -> None:
        """Be ready to take messages, or see whether that is still so; OSError."""

    def send(self, message: str) -> None:
        """Take one; OSError if it was not taken."""

    def close(self) -> None:
        """No more come."""


class AuditFile:
    """A file that is added to, mode 0600; a message counts as written when the disk has it."""

    def __init__(self, path: Path) -> None:
        self.name = str(path)
        self._path = path
        self._fd = -1
        self._size = 0

    def open(self) -> None:
        """By its name, if it is not open, or has another name now."""
        if self._fd >= 0:
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(self._fd), self._path.stat()):
                    return
            self.close()
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY
        self._fd = os.open(self._path, flags, 0o600)

    def send(self, message: str) -> None:
        """A line; what is left of a torn one is ended first."""
        self.open()
        size = os.fstat(self._fd).st_size
        torn = size > 0 and os.pread(self._fd, 1, size - 1) != b"\n"
        data = (b"\n" if torn else b"") + message.encode("ascii") + b"\n"
        if os.write(self._fd, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(self._fd)

    def close(self) -> None:
        """Close it."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Collector(Value):
    """Where a syslog collector is: udp, tcp or tls with host and port, or unix with the path of a socket."""

    transport: str
    host: str
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Collector:
        """`[udp:|tcp:|tls:]HOST:PORT`, TLS where nothing is said, or `unix:/PATH`; ConfigurationError."""
        if text.startswith("unix:/"):
            return cls("unix", text.removeprefix("unix:"))
        found = _ADDRESS.fullmatch(text)
        if found is None or not 0 < int(found[3]) < 65536:
            raise ConfigurationError("syslog", f"{text!r} is not [udp:|tcp:|tls:]HOST:PORT or unix:/PATH")
        return cls(found[1] or "tls", found[2].strip("[]"), int(found[3]))

    def __str__(self) -> str:
        if self.transport == "unix":
            return f"unix:{self.host}"
        return f"{self.transport}:{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def tls_context(ca_file: Path | None, certificate_file: Path | None) -> ssl.SSLContext:
    """For a collector (RFC 5425): its certificate is verified, ours is shown if there is one; ConfigurationError."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate_file is not None:
            context.load_cert_chain(certificate_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError("audit certificate", f"{ca_file or certificate_file}: {error}") from error
    return context


class Syslog:
    """A collector that is reached by syslog; on a stream each message has its length before it (RFC 5425, RFC 6587)."""

    def __init__(self, collector: Collector, context: ssl.SSLContext | None = None) -> None:
        self.name = str(collector)
        self._collector = collector
        self._context = context
        self._socket: socket.socket | None = None

    def open(self) -> None:
        """Connect, or see whether the collector has gone."""
        if self._socket is None:
            self._socket = self._connected()
        elif self._collector.transport in ("tcp", "tls"):
            self._look(self._socket)

    def _connected(self) -> socket.socket:
        where = self._collector
        if where.transport == "unix":
            local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                local.settimeout(AUDIT_SINK_S)
                local.connect(where.host)
            except BaseException:
                local.close()
                raise
            return local
        if where.transport == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(where.host, where.port, type=socket.SOCK_DGRAM)[0]
            datagrams = socket.socket(family, kind, protocol)
            datagrams.settimeout(AUDIT_SINK_S)
            datagrams.connect(address)
            return datagrams
        stream = socket.create_connection((where.host, where.port), timeout=AUDIT_SINK_S)
        if where.transport == "tcp":
            return stream
        context = self._context or tls_context(None, None)
        try:
            return context.wrap_socket(stream, server_hostname=where.host)
        except BaseException:
            stream.close()
            raise

    def _look(self, stream: socket.socket) -> None:
        """A collector never says anything but that it goes: what is sent after that is lost without a word."""
        stream.settimeout(0)
        try:
            gone = not stream.recv(4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            gone = False
        except OSError:
            self.close()
            raise
        if gone:
            self.close()
            raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        stream.settimeout(AUDIT_SINK_S)

    def send(self, message: str) -> None:
        """One message of RFC 5424."""
        self.open()
        assert self._socket is not None
        data = framed(message)
        if self._collector.transport in ("tcp", "tls"):
            data = b"%d %s" % (len(data), data)
        try:
            self._socket.sendall(data)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Hang up."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def framed(message: str) -> bytes:
    """A message with its header (RFC 5424 6.2): all of it is ASCII, so that there is no BOM."""
    now = time.time()
    when = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}Z"
    host = "".join(c for c in os.uname().nodename if "!" <= c <= "~")[:255] or "-"
    header = f"<{PRIORITY}>1 {when} {host} fastmove {os.getpid()} {MESSAGE_ID} - "
    return (header + message).encode("ascii")
