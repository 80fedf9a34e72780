"""A listener as from far away: what comes is read later than it comes, so that every answer is late."""

from __future__ import annotations

import asyncio

from fastmove.net.accepted import AcceptedConnection
from fastmove.net.acceptor import Meter


def distant(round_trip_s: float, handshake_s: float = 0.0) -> Meter:
    """For `Acceptor.meter`: all that comes is read so much later, and the first of a TLS handshake so much more."""

    def delay(connection: AcceptedConnection, protocol: asyncio.BufferedProtocol) -> None:
        loop, inner = asyncio.get_running_loop(), protocol.buffer_updated
        waits = handshake_s > 0 and protocol is not connection

        def read(nbytes: int) -> None:
            if nbytes and round_trip_s:
                connection.suspend()
                loop.call_later(round_trip_s, connection.resume)
            inner(nbytes)

        def updated(nbytes: int) -> None:
            nonlocal waits
            if not waits:
                read(nbytes)
                return
            waits = False  # nothing more comes before the handshake is answered
            loop.call_later(handshake_s, read, nbytes)

        protocol.buffer_updated = updated  # type: ignore[method-assign]

    return delay
