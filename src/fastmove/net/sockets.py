"""Socket options, addresses, and the listening socket."""

from __future__ import annotations

import asyncio
import fcntl
import socket
import struct
import sys
from typing import Final

from fastmove._codec import send_now
from fastmove.errors import SERVICE_PROVIDER
from fastmove.limits import Limits
from fastmove.ul.pdu import AAbort

BACKLOG: Final = 1024

_ABORT: Final = AAbort(SERVICE_PROVIDER, 0).encode()

IPV4_MAPPED: Final = "::ffff:"
"""How a socket for both families names an IPv4 peer (RFC 4291 2.5.5.2)."""

SOCKET_OPTIONS: Final = (
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
)
"""Of every connection, whatever its limits."""

_TIOCOUTQ: Final = 0x5411
"""ioctl: bytes that have been sent, and not been acknowledged (tcp(7), SIOCOUTQ)."""

_MIN_RTT: Final = struct.Struct("=I")
_MIN_RTT_AT: Final = 148
"""tcpi_min_rtt in struct tcp_info, in microseconds; it is there since Linux 4.6."""


def timers(limits: Limits) -> tuple[tuple[int, int, int], ...]:
    """How soon a host that has vanished is noticed: not after the kernel's two hours."""
    return (
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, limits.keepalive_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, limits.keepalive_interval_s),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, limits.keepalive_probes),
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(limits.user_timeout_s * 1000)),
    )


def abort_at_once(fd: int) -> None:
    """A-ABORT of the service-provider, through a socket that is about to be closed; it takes no memory."""
    if fd >= 0:
        send_now(fd, _ABORT)


def peer_address(transport: asyncio.BaseTransport) -> tuple[str, int]:
    """Host and port of the peer, an IPv4 one in its own form."""
    host, port, *_ = transport.get_extra_info("peername") or ("", 0)
    return host.removeprefix(IPV4_MAPPED), port


def set_options(connection: socket.socket, limits: Limits) -> None:
    """What every connection gets; nothing where it is no TCP connection."""
    if connection.family != socket.AF_UNIX:
        for level, option, value in (*timers(limits), *SOCKET_OPTIONS):
            connection.setsockopt(level, option, value)


def unacknowledged(connection: socket.socket) -> int:
    """Bytes that the peer's host has not taken yet, of those that the kernel has taken from us."""
    answer = fcntl.ioctl(connection.fileno(), _TIOCOUTQ, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def round_trip_s(connection: socket.socket) -> float:
    """The shortest round trip that the kernel has seen on a TCP connection, in seconds; 0.0 where it does not tell.

    From the handshake on, and without the time that anybody's program takes (tcp(7), TCP_INFO).
    """
    if connection.family == socket.AF_UNIX:
        return 0.0
    known = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _MIN_RTT_AT + _MIN_RTT.size)
    return _MIN_RTT.unpack_from(known, _MIN_RTT_AT)[0] / 1e6 if len(known) >= _MIN_RTT_AT + _MIN_RTT.size else 0.0


def bound_socket(host: str, port: int, *, reuse_port: bool = False) -> socket.socket:
    """A socket bound to the address; an empty host is every address, of IPv4 and IPv6 alike. OSError, UnicodeError."""
    dual = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if dual else socket.AF_INET
    if host:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, reuse_port)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not dual)
        bound.bind((host, port))
    except BaseException:
        bound.close()
        raise
    bound.setblocking(False)
    return bound
