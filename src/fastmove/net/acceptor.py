"""The acceptor: a listening port, and the association that each connection becomes."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections import Counter
from collections.abc import Callable, Container, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from fastmove.errors import ListenFailed
from fastmove.limits import Limits
from fastmove.net.accepted import AcceptedConnection
from fastmove.net.connection import Services
from fastmove.net.descriptors import fitted
from fastmove.net.pending import Pending
from fastmove.net.sockets import BACKLOG, bound_socket
from fastmove.net.workers import Share
from fastmove.notices import HostStrained, Observer, PeerMisbehaved
from fastmove.types import Readiness, first_objection
from fastmove.ul.negotiation import AcceptPolicy, Rejection
from fastmove.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ

if TYPE_CHECKING:
    from fastmove.credentials import TlsSettings
    from fastmove.net.tls_listener import ListenerTls

RESOURCES_RETRY_S = 1.0

Meter = Callable[[AcceptedConnection, asyncio.BufferedProtocol], None]
"""Told of a connection and of the protocol that the loop feeds, which is another one with TLS."""

_OUT_OF_RESOURCES = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))


class Acceptor:
    """A listening port; made by `serve`."""

    def __init__(
        self, policy: AcceptPolicy, services: Services, limits: Limits | None = None, notify: Observer | None = None
    ) -> None:
        self.policy = policy
        self.services = services
        self.limits = limits or Limits()
        self.notify = notify
        self.permits: Callable[[str], bool] | None = None
        """Asked for the address of each host that connects, in a thread; None: all may."""
        self.on_established: Callable[[AAssociateRQ, AAssociateAC, bytes], None] | None = None
        """Told of each negotiation that came to an association: request, answer, and the request as it came."""
        self.ready: Sequence[Readiness] = ()
        """Asked before each association is accepted; with an objection it is rejected for now, others go on."""
        self.on_rejected: Callable[[AAssociateRQ, Rejection, str], None] | None = None
        """Told of each request that was refused: request, answer, and the address of its host."""
        self.meter: Meter | None = None
        """Shown each connection before anything is read of it."""
        self.tls: ListenerTls | None = None
        """None: connections are without TLS."""
        self.at_once: int | None = None
        """So many connections are accepted at once: others wait unanswered; None: all are."""
        self.connections: set[AcceptedConnection] = set()
        self.pending = Pending(self.limits)
        """Those of them that have no association yet."""
        self.host = ""
        self.port = 0
        self._objects = 0
        self._nbytes = 0
        self._received = 0
        self._server: asyncio.Server | None = None
        self._share: Share | None = None
        self._accepting: list[asyncio.Task[None]] = []
        self._one_ended = asyncio.Event()

    async def start(self, host: str, port: int, share: Share | None = None) -> None:
        """Listen; port 0 takes a free one. ListenFailed if the address cannot be bound."""
        try:
            port = port if share is None else share.port
            listening = bound_socket(host, port, reuse_port=share is not None)
            listening.listen(BACKLOG)
        except (OSError, UnicodeError) as error:
            failed = ListenFailed(host, port, error)
            if self.notify is not None:
                self.notify(HostStrained("listen.failed", str(failed)))
            raise failed from error
        self.host, self.port = listening.getsockname()[:2]
        self.limits = fitted(self.limits, self.notify)
        self.pending = Pending(self.limits)
        self._share = share
        if share is None and self.at_once is None:
            loop = asyncio.get_running_loop()
            self._server = await loop.create_server(self._protocol, sock=listening, backlog=BACKLOG)
            return
        self._accepting = [asyncio.create_task(self._accept(listening, share))]
        if share is not None:
            self._accepting.append(asyncio.create_task(self._take_over(share)))

    def _protocol(self) -> asyncio.BaseProtocol:
        connection = AcceptedConnection(self)
        protocol: asyncio.BufferedProtocol = connection if self.tls is None else self.tls.transport(connection)
        if self.meter is not None:
            self.meter(connection, protocol)
        return protocol

    async def _accept(self, listening: socket.socket, share: Share | None) -> None:
        loop = asyncio.get_running_loop()
        with listening:
            while True:
                while self.at_once is not None and len(self.connections) >= self.at_once:
                    self._one_ended.clear()
                    await self._one_ended.wait()
                try:
                    connection, _ = await loop.sock_accept(listening)
                except OSError as error:  # out of descriptors, or the peer has gone again
                    await self._recover(error)
                    continue
                if share is None or not share.hand_on(connection):
                    await self._welcome(connection)

    async def _take_over(self, share: Share) -> None:
        loop = asyncio.get_running_loop()
        waiting = asyncio.Event()
        loop.add_reader(share.door, waiting.set)
        try:
            while True:
                await waiting.wait()
                waiting.clear()
                try:
                    while (connection := share.take()) is not None:
                        await self._welcome(connection)
                except OSError as error:
                    await self._recover(error)
                    waiting.set()
        finally:
            loop.remove_reader(share.door)

    async def _welcome(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        welcome = loop.create_task(loop.connect_accepted_socket(self._protocol, connection))
        try:
            await asyncio.shield(welcome)
        except asyncio.CancelledError:
            await asyncio.wait([welcome])  # uvloop would not tell one that is given up half made that it is gone
            raise
        except (OSError, MemoryError) as error:
            connection.close()
            self._tell(error)

    async def _recover(self, error: OSError) -> None:
        self._tell(error)
        if error.errno in _OUT_OF_RESOURCES:
            await asyncio.sleep(RESOURCES_RETRY_S)  # until some association has ended

    def _tell(self, error: BaseException) -> None:
        if self.notify is not None:
            self.notify(PeerMisbehaved(0, "", "listen.accept_failed", str(error)))

    def opened(self, connection: AcceptedConnection) -> None:
        """A connection was made."""
        self.connections.add(connection)
        self.pending.add(connection)
        if self._share is not None:
            self._share.count(len(self.connections))

    def ended(self, connection: AcceptedConnection) -> None:
        """A connection is gone."""
        self.connections.discard(connection)
        self.pending.remove(connection)
        self._one_ended.set()
        self._objects += connection.objects
        self._nbytes += connection.nbytes
        self._received += connection.receiver.received
        if self._share is not None:
            self._share.count(len(self.connections))

    @property
    def objects(self) -> int:
        """Objects stored so far, over all associations."""
        return self._objects + sum(connection.objects for connection in self.connections)

    @property
    def nbytes(self) -> int:
        """Their bytes, data sets alone."""
        return self._nbytes + sum(connection.nbytes for connection in self.connections)

    def arriving(self, associations: Container[int]) -> int:
        """Bytes read by those of these on which a message is under way: while it changes, somebody is sending."""
        chosen = [c for c in self.connections if c.number in associations]
        waits_for_us = any(c.suspended for c in chosen) * int(time.monotonic())  # changes as long as it does
        return sum(c.receiver.received for c in chosen if c.receiver.mid_message) + waits_for_us

    @property
    def received(self) -> int:
        """Bytes read so far, over all connections."""
        return self._received + sum(connection.receiver.received for connection in self.connections)

    def admit(self, connection: AcceptedConnection) -> Rejection | None:
        """None, or the answer to one association too many (PS3.8 9.3.4: local limit exceeded, for now)."""
        limits = self.limits
        here = Counter(c.host for c in self.connections if c.established)
        if here.total() >= limits.max_associations:
            detail = f"more than {limits.max_associations} associations"
        elif here[connection.host] >= limits.max_associations_per_host:
            detail = f"more than {limits.max_associations_per_host} associations of {connection.host}"
        else:
            return None
        return Rejection(AAssociateRJ(result=2, source=3, reason=2), "assoc.limit", detail)

    def unready(self) -> Rejection | None:
        """None, or the answer while something of ours stands in the way (temporary congestion)."""
        why = first_objection(self.ready)
        return None if why is None else Rejection(AAssociateRJ(result=2, source=3, reason=1), why.key, why.detail)

    async def stop(self) -> None:
        """Stop accepting, let objects in flight come to their end for `limits.stop_s`, then abort."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        while self._share is not None and (waiting := self._share.take()) is not None:
            waiting.close()  # handed to us, and never welcomed
        open_connections = list(self.connections)
        for connection in open_connections:
            connection.finish()
        if open_connections:
            await asyncio.wait([c.closed for c in open_connections], timeout=self.limits.stop_s)
        self.abort("stopping")
        if open_connections:
            await asyncio.wait([c.closed for c in open_connections])

    def abort(self, why: str) -> None:
        """Abort all associations, whatever is under way."""
        for connection in list(self.connections):
            connection.abort(why)
            connection.cut()

    async def __aenter__(self) -> Acceptor:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.stop()


async def serve(
    host: str,
    port: int,
    policy: AcceptPolicy,
    services: Services,
    limits: Limits | None = None,
    notify: Observer | None = None,
    share: Share | None = None,
    permits: Callable[[str], bool] | None = None,
    at_once: int | None = None,
    ready: Sequence[Readiness] = (),
    tls: TlsSettings | None = None,
) -> Acceptor:
    """Listen for associations; the acceptor is an async context manager that stops at its end.

    `permits` is asked, in a thread, whether a host may connect; more connections than `at_once` wait until one ends.
    What is `ready` is asked before each association is accepted: with an objection it is rejected for now.
    Raises ListenFailed if the port cannot be had, TlsUnusable if `tls` cannot be.
    """
    acceptor = Acceptor(policy, services, limits, notify)
    if tls is not None:
        from fastmove.net.tls_listener import ListenerTls  # for those who have TLS: it loads OpenSSL

        acceptor.tls = ListenerTls(tls, notify)
    acceptor.permits = permits
    acceptor.at_once = at_once
    acceptor.ready = ready
    await acceptor.start(host, port, share)
    return acceptor
