"""One association without I/O: PDUs and primitives in, events and bytes to write out (PS3.8 9.2).

The shell feeds `receive` with what the compiled receiver and the transport report, and `send` with
what the services want; then it writes and empties `outbound`, arms one timer from `artim_running`,
and closes the transport if `wants_close`.  P-DATA-TF never comes through here while it is legal.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, Final, TypeAlias

from fastmove.errors import SERVICE_PROVIDER, SERVICE_USER, InternalError, LocalProtocolError, RemoteProtocolError
from fastmove.limits import MAX_ITEMS
from fastmove.types import ControlPdu, InvalidPdu, TimerExpired, TransportClosed, TransportOpened, UnexpectedData
from fastmove.ul import pdu, states
from fastmove.ul.pdu import AAbort, AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ
from fastmove.ul.states import Action, Event, State
from fastmove.values import Value


class Role(Enum):
    """Who asked for the association (PS3.8 3.3)."""

    REQUESTOR = "requestor"
    ACCEPTOR = "acceptor"


# Primitives that the local user sends (PS3.8 7).


class AssociateRequest(Value):
    """A-ASSOCIATE request."""

    pdu: AAssociateRQ


class AssociateResponse(Value):
    """A-ASSOCIATE response: accept or reject."""

    pdu: AAssociateAC | AAssociateRJ


class ReleaseRequest(Value):
    """A-RELEASE request."""


class ReleaseResponse(Value):
    """A-RELEASE response."""


class AbortRequest(Value):
    """A-ABORT request."""


Primitive: TypeAlias = AssociateRequest | AssociateResponse | ReleaseRequest | ReleaseResponse | AbortRequest
Received: TypeAlias = ControlPdu | InvalidPdu | UnexpectedData | TransportOpened | TransportClosed | TimerExpired


# What the local user is told (PS3.8 7).


class ConnectWanted(Value):
    """The transport connection is to be opened (AE-1)."""


class AssociateIndication(Value):
    """The peer asks for an association: answer with AssociateResponse."""

    pdu: AAssociateRQ


class AssociateRefused(Value):
    """An A-ASSOCIATE-RQ was rejected here, without asking the user; `why` is the log event (AE-6)."""

    pdu: AAssociateRJ
    why: str
    detail: str


class AssociateConfirmation(Value):
    """The peer's answer to our request: accept or reject."""

    pdu: AAssociateAC | AAssociateRJ


class ReleaseIndication(Value):
    """The peer asks for release: answer with ReleaseResponse; `collision` if we had asked too."""

    collision: bool = False


class ReleaseConfirmation(Value):
    """The peer answered our release request."""


class AbortIndication(Value):
    """A-ABORT came from the peer, or went to it because it broke the rule that `why` names (a log event)."""

    source: int
    reason: int
    by_peer: bool
    why: str = ""
    detail: str = ""
    offset: int = -1


class ConnectionLostIndication(Value):
    """The transport connection ended under the association (AA-4)."""


AssociationEvent: TypeAlias = (
    ConnectWanted
    | AssociateIndication
    | AssociateRefused
    | AssociateConfirmation
    | ReleaseIndication
    | ReleaseConfirmation
    | AbortIndication
    | ConnectionLostIndication
)

_EVENT_OF_PDU: Final[dict[int, Event]] = {
    AAssociateAC.pdu_type: Event.EVT3,
    AAssociateRJ.pdu_type: Event.EVT4,
    AAssociateRQ.pdu_type: Event.EVT6,
    AReleaseRQ.pdu_type: Event.EVT12,
    AReleaseRP.pdu_type: Event.EVT13,
    AAbort.pdu_type: Event.EVT16,
}

# Actions that do not ask what is in the PDU: it is enough that it came now.
_PDU_UNREAD: Final = frozenset((Action.AA_1, Action.AA_6, Action.AA_7, Action.AA_8))

_VERSION_NOT_SUPPORTED: Final = AAssociateRJ(result=1, source=2, reason=2)


class Association:
    """The Upper Layer state machine of one connection."""

    def __init__(self, role: Role) -> None:
        self.role: Final = role
        self.state = State.STA1
        self.outbound = bytearray()
        """Bytes to write; the shell drains it."""
        self.data_allowed = False
        """True if a P-DATA-TF PDU may be received now; follows the state, as `may_send_data` does."""
        self.may_send_data = False
        """True if a P-DATA-TF PDU may be sent now."""
        self.artim_running = False
        self.artim_generation = 0
        """Grows with every start of ARTIM, so that a restart can be told."""
        self.wants_close = False
        """The association is over: all that is left is to close the transport, if it is still open."""
        self.max_items = self.max_user_items = MAX_ITEMS
        """Of an A-ASSOCIATE PDU of the peer, and of its user information."""
        self.associate_pdu = b""
        """A-ASSOCIATE-RQ or -AC of the peer as it came, without the header that all PDUs have."""
        self._request = b""
        self._abort_sent = False
        self._events: list[AssociationEvent] = []

    @property
    def may_abort(self) -> bool:
        """True if there is something to abort."""
        return not self.wants_close and states.possible(Event.EVT15, self.state)

    def receive(self, received: Received) -> list[AssociationEvent]:
        """What the peer, the transport or the timer did; nothing counts any more once the association is over."""
        if self.wants_close:
            return []
        match received:
            case ControlPdu():
                return self._perform(*self._read(received))
            case InvalidPdu():
                return self._perform(
                    Event.EVT19, RemoteProtocolError(received.reason, received.detail, offset=received.offset)
                )
            case UnexpectedData():
                return self._perform(Event.EVT10, self._unexpected("P-DATA-TF", received.offset))
            case TransportOpened():
                return self._perform(Event.EVT2 if self.role is Role.REQUESTOR else Event.EVT5, received)
            case TransportClosed():
                return self._perform(Event.EVT17, received)
            case TimerExpired():
                return self._perform(Event.EVT18, received)

    def send(self, primitive: Primitive) -> list[AssociationEvent]:
        """What the local user wants; LocalProtocolError if it is illegal in this state."""
        match primitive:
            case AssociateRequest():
                event = Event.EVT1
            case AssociateResponse(pdu=AAssociateAC()):
                event = Event.EVT7
            case AssociateResponse():
                event = Event.EVT8
            case ReleaseRequest():
                event = Event.EVT11
            case ReleaseResponse():
                event = Event.EVT14
            case AbortRequest():
                event = Event.EVT15
        acceptor_asks = event is Event.EVT1 and self.role is Role.ACCEPTOR
        if self.wants_close or acceptor_asks or not states.possible(event, self.state):
            raise LocalProtocolError(f"{event.text} is not possible in {self.state} ({self.state.text})")
        return self._perform(event, primitive)

    def _read(self, received: ControlPdu) -> tuple[Event, object]:
        event = _EVENT_OF_PDU.get(received.pdu_type, Event.EVT19)
        action, _ = states.transition(event, self.state)
        if event is not Event.EVT19 and action in _PDU_UNREAD:
            return event, self._unexpected(f"type={received.pdu_type:#04x}")
        if received.pdu_type in (AAssociateRQ.pdu_type, AAssociateAC.pdu_type):
            self.associate_pdu = received.data
        try:
            return event, pdu.decode(received.pdu_type, received.data, self.max_items, self.max_user_items)
        except RemoteProtocolError as error:
            return Event.EVT19, error

    def _unexpected(self, what: str, offset: int = -1) -> RemoteProtocolError:
        return RemoteProtocolError("pdu.unexpected", f"{what} sta={self.state.label[3:]}", offset=offset)

    def _perform(self, event: Event, cause: object) -> list[AssociationEvent]:
        action, following = states.transition(event, self.state)
        perform = _METHODS.get(action)
        if perform is None:
            raise InternalError(f"{action} ({action.text}) is the compiled codec's")
        chosen = perform(self, cause)
        if isinstance(following, State):
            self.state = following
        elif chosen in following:
            self.state = chosen
        else:
            raise InternalError(f"{action} chose {chosen}")
        self.data_allowed = states.data_allowed(self.state)
        self.may_send_data = states.possible(Event.EVT9, self.state)
        self.wants_close = self.state is State.STA1  # every way back to Sta1 ends the connection
        if self.state is State.STA13:
            self.associate_pdu = b""  # up to a megabyte, which nobody will read any more
        events, self._events = self._events, []
        return events

    def _start_artim(self) -> None:
        self.artim_running = True
        self.artim_generation += 1

    def _send_abort(self, source: int, reason: int) -> None:
        self.outbound += AAbort(source, reason).encode()
        self._abort_sent = True

    # Association establishment (PS3.8 Table 9-6).

    def ae_1_issue_transport_connect(self, request: AssociateRequest) -> None:
        """Ask for the connection; the PDU waits until it is there."""
        self._request = request.pdu.encode()
        self._events.append(ConnectWanted())

    def ae_2_send_associate_rq(self, _: TransportOpened) -> None:
        """The connection is there."""
        self.outbound += self._request

    def ae_3_confirm_associate(self, answer: AAssociateAC | AAssociateRJ) -> None:
        """The association is established; or, as AE-4, it is not."""
        self._events.append(AssociateConfirmation(answer))

    def ae_5_await_associate_rq(self, _: TransportOpened) -> None:
        """A peer has connected."""
        self._start_artim()

    def ae_6_indicate_associate_rq(self, rq: AAssociateRQ) -> State:
        """The service-provider itself judges the protocol version, and nothing else (PS3.8 9.3.2)."""
        self.artim_running = False
        if rq.protocol_version & pdu.PROTOCOL_VERSION:
            self._events.append(AssociateIndication(rq))
            return State.STA3
        detail = f"version={rq.protocol_version:#06x}"
        self._events.append(AssociateRefused(_VERSION_NOT_SUPPORTED, "rq.version", detail))
        self.ae_8_send_associate_rj(AssociateResponse(_VERSION_NOT_SUPPORTED))
        return State.STA13

    def ae_7_send_associate_ac(self, response: AssociateResponse) -> None:
        """The association is established."""
        self.outbound += response.pdu.encode()

    def ae_8_send_associate_rj(self, response: AssociateResponse) -> None:
        """The association is not established."""
        self.outbound += response.pdu.encode()
        self._start_artim()

    # Release (PS3.8 Table 9-8).

    def ar_1_send_release_rq(self, _: ReleaseRequest) -> None:
        """Nothing more will be asked of the peer."""
        self.outbound += AReleaseRQ().encode()

    def ar_2_indicate_release(self, _: AReleaseRQ) -> None:
        """The peer wants to end; data may still be sent to it."""
        self._events.append(ReleaseIndication())

    def ar_3_confirm_release(self, _: AReleaseRP) -> None:
        """The association ended in order; or, as AR-10, the peer's own request is still to be answered."""
        self._events.append(ReleaseConfirmation())

    def ar_4_send_release_rp(self, _: ReleaseResponse) -> None:
        """The requestor of the release closes the connection."""
        self.outbound += AReleaseRP().encode()
        self._start_artim()

    def ar_5_stop_artim(self, _: TransportClosed) -> None:
        """The connection that was to end has ended; or, as AA-5, the peer went without having asked for anything."""
        self.artim_running = False

    def ar_8_indicate_release_collision(self, _: AReleaseRQ) -> State:
        """Both sides asked: the association-requestor answers first."""
        self._events.append(ReleaseIndication(collision=True))
        return State.STA9 if self.role is Role.REQUESTOR else State.STA10

    def ar_9_send_release_rp(self, _: ReleaseResponse) -> None:
        """Collision: our request is still to be answered."""
        self.outbound += AReleaseRP().encode()

    # Abort (PS3.8 Table 9-9).

    def aa_1_abort_as_user(self, cause: AbortRequest | RemoteProtocolError) -> None:
        """The user gives up, or the first thing a peer sent was no A-ASSOCIATE-RQ."""
        self._send_abort(SERVICE_USER, 0)
        self._start_artim()
        if isinstance(cause, RemoteProtocolError):
            self._indicate_abort(SERVICE_USER, 0, cause)

    def aa_2_close(self, cause: AAbort | AbortRequest | TimerExpired) -> None:
        """There is no association to speak of; an A-ABORT before it is still worth a line in the log."""
        self.artim_running = False
        if isinstance(cause, AAbort) and self.state is State.STA2:
            self.aa_3_indicate_abort(cause)

    def aa_3_indicate_abort(self, abort: AAbort) -> None:
        """The peer gave up."""
        self._events.append(AbortIndication(abort.source, abort.reason, by_peer=True))

    def aa_4_indicate_connection_lost(self, _: TransportClosed) -> None:
        """A-P-ABORT without a PDU."""
        self._events.append(ConnectionLostIndication())

    def aa_6_ignore(self, _: RemoteProtocolError) -> None:
        """The association no longer exists."""

    def aa_7_abort_again(self, fault: RemoteProtocolError) -> None:
        """Once is enough: a peer that floods a dead association must not make `outbound` grow."""
        if not self._abort_sent:
            self._send_abort(SERVICE_PROVIDER, fault.reason)

    def aa_8_abort_as_provider(self, fault: RemoteProtocolError) -> None:
        """The peer broke a rule."""
        self._send_abort(SERVICE_PROVIDER, fault.reason)
        self._start_artim()
        self._indicate_abort(SERVICE_PROVIDER, fault.reason, fault)

    def _indicate_abort(self, source: int, reason: int, fault: RemoteProtocolError) -> None:
        self._events.append(AbortIndication(source, reason, False, fault.key, fault.detail, fault.offset))


# DT-1, DT-2, AR-6 and AR-7 move P-DATA-TF PDUs, which the compiled codec does by itself.
_METHODS: Final[dict[Action, Callable[[Association, Any], State | None]]] = {
    Action.AE_1: Association.ae_1_issue_transport_connect,
    Action.AE_2: Association.ae_2_send_associate_rq,
    Action.AE_3: Association.ae_3_confirm_associate,
    Action.AE_4: Association.ae_3_confirm_associate,
    Action.AE_5: Association.ae_5_await_associate_rq,
    Action.AE_6: Association.ae_6_indicate_associate_rq,
    Action.AE_7: Association.ae_7_send_associate_ac,
    Action.AE_8: Association.ae_8_send_associate_rj,
    Action.AR_1: Association.ar_1_send_release_rq,
    Action.AR_2: Association.ar_2_indicate_release,
    Action.AR_3: Association.ar_3_confirm_release,
    Action.AR_4: Association.ar_4_send_release_rp,
    Action.AR_5: Association.ar_5_stop_artim,
    Action.AR_8: Association.ar_8_indicate_release_collision,
    Action.AR_9: Association.ar_9_send_release_rp,
    Action.AR_10: Association.ar_3_confirm_release,
    Action.AA_1: Association.aa_1_abort_as_user,
    Action.AA_2: Association.aa_2_close,
    Action.AA_3: Association.aa_3_indicate_abort,
    Action.AA_4: Association.aa_4_indicate_connection_lost,
    Action.AA_5: Association.ar_5_stop_artim,
    Action.AA_6: Association.aa_6_ignore,
    Action.AA_7: Association.aa_7_abort_again,
    Action.AA_8: Association.aa_8_abort_as_provider,
}
