"""A connection that a peer opened, and the association that it becomes if it may."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from fastmove.limits import MAX_PDU_LENGTH
from fastmove.net.connection import Connection
from fastmove.net.sockets import round_trip_s, unacknowledged
from fastmove.notices import AssociationClosed, AssociationOpened
from fastmove.ul.association import (
    AbortIndication,
    AssociateIndication,
    AssociateRefused,
    AssociateResponse,
    Association,
    AssociationEvent,
    ConnectionLostIndication,
    ReleaseIndication,
    ReleaseResponse,
    Role,
)
from fastmove.ul.negotiation import Acceptance, Rejection, max_length_to_send, negotiate
from fastmove.ul.pdu import AAssociateRQ
from fastmove.ul.states import State

if TYPE_CHECKING:
    from fastmove.net.acceptor import Acceptor

MID_MESSAGE: Final = "in the middle of a message"
"""In the detail of how an association ended."""


class AcceptedConnection(Connection):
    """A connection that a peer opened."""

    def __init__(self, acceptor: Acceptor) -> None:
        limits = acceptor.limits
        few = len(acceptor.connections) < limits.large_windows
        window_bytes = limits.window_bytes if few else limits.small_window_bytes
        association = Association(Role.ACCEPTOR)
        super().__init__(association, acceptor.services, limits, acceptor.notify, window_bytes=window_bytes)
        self._acceptor = acceptor
        self._window_bytes = window_bytes
        self._how = "lost"
        self.established = False
        self.receiver.wanted = True  # each read is told of, until the association stands

    @property
    def buffered(self) -> int:
        """Bytes of memory that what has come takes up: in the window, and as far as it is a request, once more."""
        received = self.receiver.received
        gathered = received if self.association.state is State.STA2 else 0
        return gathered + min(received, self._window_bytes)

    def turn_away(self, why: str) -> None:
        """Close without an answer: there is no room for it."""
        self.misbehaved("assoc.prebuffer", why)
        self.cut()

    def pause_writing(self) -> None:
        """The peer does not take our responses: it gets no more of them before it has."""
        super().pause_writing()
        self.suspend()

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        self.resume()

    def unsent(self) -> int | None:
        """Of our responses, while they do not all find room: no further request is read then."""
        if self.writable or self._transport is None:
            return None
        return self._transport.get_write_buffer_size() + unacknowledged(self._transport.get_extra_info("socket"))

    @property
    def round_trip_s(self) -> float:
        """The shortest that the kernel has seen, in seconds; 0.0 where it does not tell."""
        return 0.0 if self._transport is None else round_trip_s(self._transport.get_extra_info("socket"))

    def transport_opened(self, transport: asyncio.Transport) -> None:
        """Count it, and go on once it is known that this host may connect."""
        super().transport_opened(transport)
        self._acceptor.opened(self)
        if self._acceptor.permits is not None and not transport.is_closing():
            self.suspend()  # host names may have to be looked up: nobody else is to wait for that
            asking = asyncio.get_running_loop().run_in_executor(None, self._acceptor.permits, self.host)
            asking.add_done_callback(self._permitted)

    def _permitted(self, asking: asyncio.Future[bool]) -> None:
        if asking.cancelled() or asking.exception() is not None or not asking.result():
            self.misbehaved("conn.denied")
            self.cut()
        else:
            self.resume()

    def connection_lost(self, exc: Exception | None) -> None:
        """Uncount it."""
        try:
            super().connection_lost(exc)
        finally:
            self._acceptor.ended(self)
        if self.established and self.notify is not None:
            self.notify(AssociationClosed(self.number, self._how, self.objects))

    def indicate(self, event: AssociationEvent) -> None:
        """Answer the peer's requests."""
        if isinstance(event, AssociateIndication):
            self._answer(event)
        elif isinstance(event, AssociateRefused):
            self.misbehaved(event.why, event.detail)
        elif isinstance(event, ReleaseIndication):
            if self.receiver.mid_message:
                # An unfinished message would be lost without a word: the service user aborts.
                self.misbehaved("assoc.release_mid_object")
                self.abort("release in the middle of a message")
                return
            self._how = "released"
            self._apply(self.association.send(ReleaseResponse()))
        elif isinstance(event, AbortIndication):
            self._how = "aborted"
            if event.by_peer:
                self.misbehaved("assoc.aborted", f"source {event.source}, reason {event.reason}{self._where}")
        elif isinstance(event, ConnectionLostIndication):
            self.misbehaved(self.loss, self._where.removeprefix(", "))

    @property
    def loss(self) -> str:
        """The log event of a connection that ended without release or abort."""
        if self._reset:
            return "conn.reset"
        return "conn.eof_mid_object" if self.receiver.mid_message else "conn.lost"

    @property
    def _where(self) -> str:
        return f", {MID_MESSAGE}" if self.receiver.mid_message else ""

    def _on_read(self) -> None:
        super()._on_read()
        if not self.established:
            self._acceptor.pending.grew(self)

    def _unbound(self, request: AAssociateRQ) -> Rejection | None:
        tls, transport = self._acceptor.tls, self._transport
        if tls is None or transport is None:
            return None
        return tls.admit(request.calling_ae_title, transport.get_extra_info("ssl_object"))

    def _answer(self, event: AssociateIndication) -> None:
        acceptor = self._acceptor
        answer = acceptor.admit(self) or self._unbound(event.pdu) or negotiate(event.pdu, acceptor.policy, self.host)
        if isinstance(answer, Acceptance):
            answer = acceptor.unready() or answer
        self.calling_ae_title = event.pdu.calling_ae_title
        self.called_ae_title = event.pdu.called_ae_title
        if not isinstance(answer, Acceptance):
            self.misbehaved(answer.key, answer.detail)
            if acceptor.on_rejected is not None:
                acceptor.on_rejected(event.pdu, answer, self.host)
            self._apply(self.association.send(AssociateResponse(answer.pdu)))
            return
        for key, detail in answer.notes:
            self.misbehaved(key, detail)
        if self.receiver.unread:
            self.misbehaved("rq.early_data")
        self.established = True
        acceptor.pending.remove(self)
        self.receiver.wanted = self._finishing
        self.establish(answer.contexts, max_length_to_send(event.pdu.user_information, MAX_PDU_LENGTH))
        self._apply(self.association.send(AssociateResponse(answer.pdu)))
        if acceptor.on_established is not None:
            acceptor.on_established(event.pdu, answer.pdu, self.association.associate_pdu)
        self.association.associate_pdu = b""  # up to a megabyte
        if self.notify is not None:
            self.notify(
                AssociationOpened(
                    self.number,
                    self.host,
                    self.port,
                    self.calling_ae_title,
                    self.called_ae_title,
                    len(self.contexts),
                    event.pdu.user_information.maximum_length,
                )
            )
