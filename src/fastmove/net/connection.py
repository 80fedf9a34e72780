"""One association's connection: transport ⇄ compiled receiver ⇄ Association, and the services above.

The receiver is fed by the loop directly. What it cannot settle by itself comes here as an event: commands and completed
data sets go to the service that their command field names, PDUs to the state machine.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from typing import Final, cast

from fastmove._codec import (
    REMARKS,
    CommandReceived,
    DatasetComplete,
    PDataWriter,
    PduReceiver,
    SinkFailed,
    WriteDue,
    send_now,
)
from fastmove.errors import ABORT_REASON, LocalProtocolError, TimedOut
from fastmove.limits import MESSAGES_AT_ONCE, Limits
from fastmove.net.service import OTHER_COMMANDS, Service
from fastmove.net.sockets import abort_at_once, peer_address, set_options
from fastmove.net.watchdog import Watch
from fastmove.notices import Observer, PeerMisbehaved
from fastmove.types import (
    ControlPdu,
    InvalidPdu,
    PresentationContext,
    TimerExpired,
    TransportClosed,
    TransportOpened,
    UnexpectedData,
)
from fastmove.ul.association import (
    AbortIndication,
    AbortRequest,
    Association,
    AssociationEvent,
    Received,
    ReleaseRequest,
)
from fastmove.ul.states import State

_association_numbers = itertools.count(1)

_RECEIVER_BOUNDS: Final = ("max_pdu_length", "max_control_pdu_length", "max_command_bytes", "max_empty_pdvs")

Event = ControlPdu | CommandReceived | DatasetComplete | SinkFailed | WriteDue | InvalidPdu | UnexpectedData
"""What the receiver tells."""

Services = Callable[["Connection"], Mapping[int, Service]]
"""Makes the services of a new association: command field → service, OTHER_COMMANDS → that for all others."""


def _no_services(_: Connection) -> Mapping[int, Service]:
    return {}


class Connection(asyncio.BufferedProtocol):
    """Bytes in both directions for one association; the two roles derive from it."""

    only_listens = False
    """True if what comes is not answered, so that no response carries the ACK of its last byte."""

    may_be_idle = False
    """True if somebody else has a deadline for what is to come between messages."""

    def __init__(
        self,
        association: Association,
        services: Services,
        limits: Limits,
        notify: Observer | None = None,
        *,
        window_bytes: int,
    ) -> None:
        self.association = association
        self.limits = limits
        self.notify = notify
        self.number = next(_association_numbers)
        self.host = ""
        self.port = 0
        self.contexts: dict[int, PresentationContext] = {}
        self.calling_ae_title = ""
        self.called_ae_title = ""
        self.writer = PDataWriter(0)
        self._remarked = 0
        self._reset = False
        self.receiver = PduReceiver(window=window_bytes, **{name: getattr(limits, name) for name in _RECEIVER_BOUNDS})
        association.max_items, association.max_user_items = limits.max_items, limits.max_user_items
        self.receiver.on_event = self._on_event
        self.receiver.on_read = self._on_read
        self.receiver.only_listens = self.only_listens
        # The loop calls the receiver: no Python frame for what it settles by itself.
        self.get_buffer = self.receiver.get_buffer  # type: ignore[method-assign]
        self.buffer_updated = self.receiver.buffer_updated  # type: ignore[method-assign]
        self.attach = self.receiver.attach
        self.write_due: Callable[[WriteDue], None] | None = None
        """Whose sinks are deferred writes them by this."""
        self._make_services = services
        self._services: Mapping[int, Service] = {}
        self._service: Service | None = None
        self._transport: asyncio.Transport | None = None
        self._fd = -1
        self._suspended = 0  # how many wait for something: the socket is not read before the last is done
        self._finishing = False
        self._writable = True
        self._drain_waiters: list[asyncio.Future[None]] = []
        self._artim: asyncio.TimerHandle | None = None
        self._artim_generation = -1
        self._watch: Watch | None = None
        self._held_since = 0.0
        self._held_s = 0.0
        self.writes = 0
        """How often something was sent."""
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # ------------------------------------------------------------------ transport

    def transport_opened(self, transport: asyncio.Transport) -> None:
        """The TCP connection is there; with TLS its handshake comes next."""
        self._transport = transport
        self.host, self.port = peer_address(transport)
        set_options(transport.get_extra_info("socket"), self.limits)
        transport.set_write_buffer_limits(high=0)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The transport connection is there: TCP, or TLS on it."""
        if self._transport is None:
            self.transport_opened(cast(asyncio.Transport, transport))
        if transport.get_extra_info("ssl_object") is None:
            self._fd = self.receiver.fd = transport.get_extra_info("socket").fileno()
        self._drive(TransportOpened())

    def _on_event(self, event: Event) -> None:
        kind = type(event)
        if self.receiver.remarks != self._remarked:  # before what comes of it, however the bytes were cut
            self._remark()
        if kind is DatasetComplete or kind is SinkFailed:
            if event.request is not None:  # type: ignore[union-attr]
                self._service = self._services[event.request.command_field]  # type: ignore[union-attr]
            if kind is DatasetComplete:
                self._service.dataset_complete(event)  # type: ignore[union-attr, arg-type]
            else:
                self._service.sink_failed(event)  # type: ignore[union-attr, arg-type]
        elif kind is CommandReceived:
            services = self._services
            self._service = service = services.get(event.command_field) or services[OTHER_COMMANDS]  # type: ignore[union-attr]
            service.command_received(event)  # type: ignore[arg-type]
            if self.receiver.messages % MESSAGES_AT_ONCE == 0:  # a window may hold ten thousand: now the others
                self.suspend()
                self._loop.call_soon(self.resume)
        elif kind is WriteDue:
            self.write_due(event)  # type: ignore[misc, arg-type]
        else:
            self._drive(cast("ControlPdu | InvalidPdu | UnexpectedData", event))

    def _on_read(self) -> None:
        if self.receiver.remarks != self._remarked:
            self._remark()
        if self._finishing and not self._suspended:
            self.finish()

    def _remark(self) -> None:
        # What is odd, but taken: once per association.
        new = self.receiver.remarks & ~self._remarked
        self._remarked |= new
        for key in (key for bit, key in REMARKS.items() if new & bit):
            self.misbehaved(key)

    def eof_received(self) -> None:
        """The peer closed its side: a DICOM association cannot go on in one direction."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The TCP connection is gone; with an error that is none of the network's, it goes now."""
        self._abort_if_starved(exc)
        self._fd = self.receiver.fd = -1
        self._transport = None
        self._reset = isinstance(exc, ConnectionResetError)
        try:
            self._tell_end()
        finally:
            self._clean_up()

    def _abort_if_starved(self, error: BaseException | None) -> None:
        if isinstance(error, MemoryError) and self._writable and self.association.may_abort:
            abort_at_once(self._fd)

    def _tell_end(self) -> None:
        if self.association.state is State.STA2:
            self.misbehaved("conn.closed_early")
        if self.receiver.dropped:
            self.misbehaved("assoc.sta13_drop", f"{self.receiver.dropped} bytes")
        if self.association.state is not State.STA1:  # there is nothing to end before the handshake of TLS
            self._drive(TransportClosed())

    def _clean_up(self) -> None:
        for timer in (self._artim, self._watch):
            if timer is not None:
                timer.cancel()
        self._artim = self._watch = None
        if not self._writable:
            self.resume_writing()
        for service in dict.fromkeys(self._services.values()):
            service.closed()
        self._services, self._service = {}, None
        self._make_services = _no_services
        # Bound methods and services that know us are cycles: none may outlive us.
        self.receiver.attach(None)
        self.receiver.on_event = self.receiver.on_read = None
        self.write_due = None
        if not self.closed.done():
            self.closed.set_result(None)

    # ------------------------------------------------------------------ suspending

    def suspend(self) -> None:
        """Stop reading events: something must be waited for. `resume` goes on."""
        if not self._suspended:
            self._held_since = self._loop.time()
        self._suspended += 1
        self.receiver.suspended = True
        if self._transport is not None:
            self._transport.pause_reading()

    @property
    def suspended(self) -> bool:
        """True while something of ours must be waited for."""
        return self._suspended > 0

    def held_s(self, now: float) -> float:
        """For so long all in all, in seconds, it has been suspended by this time of the loop's clock."""
        return self._held_s + (now - self._held_since if self._suspended else 0.0)

    def resume(self) -> None:
        """Go on after `suspend`, first with what lies in the window."""
        self._suspended -= 1
        if self._suspended or self._transport is None:
            return
        self._held_s += self._loop.time() - self._held_since
        self.receiver.suspended = False
        if not self.receiver.reading:
            try:
                self.buffer_updated(0)
            except BaseException as error:
                self._abort_if_starved(error)
                self.cut()  # as the loop does when a read fails: nobody else would
                raise
        if not self._suspended and self._transport is not None:
            self._transport.resume_reading()

    # ------------------------------------------------------------------ writing

    def write(self, data: bytes | memoryview) -> None:
        """Send, at once if the socket takes it; LocalProtocolError if no data may be sent now."""
        transport = self._transport
        if transport is None or not self.association.may_send_data:
            raise LocalProtocolError("no data can be sent: the association is not established")
        self.writes += 1
        if self._writable and self._fd >= 0:
            # One send() straight from here: no queue, no turn of the loop.
            sent = send_now(self._fd, data)
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
        transport.write(data)

    def pause_writing(self) -> None:
        """The socket is full."""
        self._writable = False

    def resume_writing(self) -> None:
        """Everything given to `write` has left."""
        self._writable = True
        for waiter in self._drain_waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._drain_waiters.clear()

    @property
    def writable(self) -> bool:
        """False while something given to `write` has not left yet."""
        return self._writable

    async def drained(self) -> None:
        """Wait until everything given to `write` has left, or the connection is gone.

        TimedOut, and the connection is cut, if the peer takes nothing for `message_s`.
        """
        while not self._writable and (transport := self._transport) is not None:
            left = transport.get_write_buffer_size()
            waiter = self._loop.create_future()
            self._drain_waiters.append(waiter)
            try:
                async with asyncio.timeout(self.limits.message_s):
                    await waiter
            except TimeoutError:
                if transport.get_write_buffer_size() < left:
                    continue  # slowly, but it takes something
                self.misbehaved("conn.write_stalled", f"{self.limits.message_s:g} s")
                self.cut()
                raise TimedOut("message_s", self.limits.message_s) from None

    # ------------------------------------------------------------------ association

    def abort(self, why: str = "") -> None:
        """A-ABORT by the service user (PS3.8 7.3.1), and give the peer ARTIM to close."""
        if self.association.may_abort:
            self._apply(self.association.send(AbortRequest()))

    def finish(self) -> None:
        """Abort as soon as no message is under way: we are stopping."""
        self._finishing = self.receiver.wanted = True
        if not self.receiver.mid_message and not self._suspended and self._transport is not None:
            self.abort("stopping")
            self._transport.close()

    def cut(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    def release(self) -> None:
        """A-RELEASE-RQ (PS3.8 7.2)."""
        self._apply(self.association.send(ReleaseRequest()))

    def establish(self, contexts: dict[int, PresentationContext], peer_max_pdu_length: int) -> None:
        """The association stands: these contexts are usable, PDUs of that length may be sent."""
        self.contexts = contexts
        self.receiver.accept(contexts)
        self.writer = self.receiver.writer = PDataWriter(peer_max_pdu_length)
        self._services = self._make_services(self)
        self._watch = Watch(self)

    def unsent(self) -> int | None:
        """What the peer is to take before anything else is done, in bytes; None: nothing waits for that."""
        return None

    @property
    def objects(self) -> int:
        """Objects stored so far."""
        return self.receiver.stored

    @property
    def nbytes(self) -> int:
        """Their bytes, data sets alone."""
        return self.receiver.stored_bytes

    def misbehaved(self, key: str, detail: str = "") -> None:
        """Tell observers what the peer did."""
        if self.notify is not None:
            self.notify(PeerMisbehaved(self.number, self.host, key, detail, self.port, self.calling_ae_title))

    def _drive(self, event: Received) -> None:
        if type(event) is InvalidPdu and event.reason not in ABORT_REASON and self.association.data_allowed:
            # What breaks PS3.7, not PS3.8, is the service user's to abort.
            self.misbehaved(event.reason, f"{event.detail} at byte {event.offset}".lstrip())
            self.abort(f"{event.reason}: {event.detail}" if event.detail else event.reason)
            return
        self._apply(self.association.receive(event))

    def _apply(self, events: list[AssociationEvent]) -> None:
        """Carry out what the association wants: send, time, tell the user, close."""
        association = self.association
        self.receiver.allow_data(association.data_allowed)
        if association.outbound and self._transport is not None:
            data = bytes(association.outbound)
            association.outbound.clear()
            self._transport.write(data)
        if association.artim_generation != self._artim_generation or not association.artim_running:
            if self._artim is not None:
                self._artim.cancel()
                self._artim = None
            self._artim_generation = association.artim_generation
            if association.artim_running and self._transport is not None:
                self._artim = self._loop.call_later(self.limits.artim_s, self._artim_expired)
        for event in events:
            if type(event) is AbortIndication and not event.by_peer:
                self.misbehaved(event.why, event.detail)
            self.indicate(event)
        if association.wants_close and self._transport is not None:
            if self._writable:
                self._transport.close()
            else:
                self._transport.abort()  # close() would wait for a peer that takes nothing any more

    def indicate(self, event: AssociationEvent) -> None:
        """What the association tells its user; the two roles differ here."""
        raise NotImplementedError

    def _artim_expired(self) -> None:
        self._artim = None
        self.misbehaved("assoc.artim", f"in {self.association.state}")
        self._drive(TimerExpired())
