"""One association without I/O: every cell of the table it owns, and two associations played against each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.associations import AC, RJ, RQ, at, sent, wire

from fastmove.errors import ABORT_REASON, InternalError, LocalProtocolError
from fastmove.types import ControlPdu, InvalidPdu, TimerExpired, TransportClosed, TransportOpened, UnexpectedData
from fastmove.ul.association import (
    AbortIndication,
    AbortRequest,
    AssociateConfirmation,
    AssociateIndication,
    AssociateRefused,
    AssociateRequest,
    AssociateResponse,
    Association,
    AssociationEvent,
    ConnectionLostIndication,
    ConnectWanted,
    ReleaseRequest,
    ReleaseResponse,
    Role,
)
from fastmove.ul.pdu import (
    AAbort,
    AAssociateRJ,
    AReleaseRP,
    AReleaseRQ,
    Pdu,
)
from fastmove.ul.states import TABLE, Action, Event, State

CAUSES: dict[Event, Callable[[Association], list[AssociationEvent]]] = {
    Event.EVT1: lambda a: a.send(AssociateRequest(RQ)),
    Event.EVT2: lambda a: a.receive(TransportOpened()),
    Event.EVT3: lambda a: a.receive(wire(AC)),
    Event.EVT4: lambda a: a.receive(wire(RJ)),
    Event.EVT5: lambda a: a.receive(TransportOpened()),
    Event.EVT6: lambda a: a.receive(wire(RQ)),
    Event.EVT7: lambda a: a.send(AssociateResponse(AC)),
    Event.EVT8: lambda a: a.send(AssociateResponse(RJ)),
    Event.EVT10: lambda a: a.receive(UnexpectedData()),
    Event.EVT11: lambda a: a.send(ReleaseRequest()),
    Event.EVT12: lambda a: a.receive(wire(AReleaseRQ())),
    Event.EVT13: lambda a: a.receive(wire(AReleaseRP())),
    Event.EVT14: lambda a: a.send(ReleaseResponse()),
    Event.EVT15: lambda a: a.send(AbortRequest()),
    Event.EVT16: lambda a: a.receive(wire(AAbort())),
    Event.EVT17: lambda a: a.receive(TransportClosed()),
    Event.EVT18: lambda a: a.receive(TimerExpired()),
    Event.EVT19: lambda a: a.receive(InvalidPdu("pdu.unknown_type")),
}
BY_THE_CODEC = {Action.DT_1, Action.DT_2, Action.AR_6, Action.AR_7}
LOCAL = {Event.EVT1, Event.EVT7, Event.EVT8, Event.EVT11, Event.EVT14, Event.EVT15}


@pytest.mark.parametrize(
    ("event", "state"), [cell for cell, (action, _) in TABLE.items() if action not in BY_THE_CODEC], ids=str
)
def test_every_cell_leads_to_its_next_state(event: Event, state: State) -> None:
    association = Association(Role.ACCEPTOR) if event is Event.EVT5 else at(state)
    CAUSES[event](association)
    following = TABLE[event, state][1]
    assert association.state in (following if isinstance(following, tuple) else (following,))


@pytest.mark.parametrize("state", State, ids=str)
@pytest.mark.parametrize("event", sorted(LOCAL, key=str), ids=str)
def test_primitive_in_an_empty_cell_is_a_local_error_and_changes_nothing(event: Event, state: State) -> None:
    if (event, state) in TABLE:
        return
    association = at(state)
    with pytest.raises(LocalProtocolError, match=f"is not possible in {state} "):
        CAUSES[event](association)
    assert (association.state, bytes(association.outbound)) == (state, b"")


@pytest.mark.parametrize("state", [State.STA6, State.STA7], ids=str)
def test_data_called_unexpected_where_it_is_legal_is_our_own_bug(state: State) -> None:
    with pytest.raises(InternalError):
        at(state).receive(UnexpectedData())


@pytest.mark.parametrize("state", State, ids=str)
def test_data_flags_follow_the_state(state: State) -> None:
    association = at(state)
    assert association.data_allowed == (state in (State.STA6, State.STA7))
    assert association.may_send_data == (state in (State.STA6, State.STA8))


@pytest.mark.parametrize("state", State, ids=str)
def test_artim_runs_only_before_the_request_and_after_the_end(state: State) -> None:
    assert at(state).artim_running == (state in (State.STA2, State.STA13))


# Establishment


def test_requestor_connects_then_asks() -> None:
    association = Association(Role.REQUESTOR)
    assert association.send(AssociateRequest(RQ)) == [ConnectWanted()]
    assert not association.outbound
    assert association.receive(TransportOpened()) == []
    assert sent(association) == [wire(RQ)]


def test_connection_that_is_never_there_is_lost() -> None:
    association = at(State.STA4)
    assert association.receive(TransportClosed()) == [ConnectionLostIndication()]


def test_abort_before_the_connection_is_there_sends_nothing() -> None:
    association = at(State.STA4)
    assert association.send(AbortRequest()) == []
    assert association.wants_close
    assert not association.outbound


def test_acceptance_is_confirmed() -> None:
    association = at(State.STA5)
    assert association.receive(wire(AC)) == [AssociateConfirmation(AC)]
    assert association.data_allowed


def test_rejection_is_confirmed_and_closes() -> None:
    association = at(State.STA5)
    assert association.receive(wire(RJ)) == [AssociateConfirmation(RJ)]
    assert association.wants_close


def test_request_is_indicated_and_answered() -> None:
    association = at(State.STA2)
    assert association.receive(wire(RQ)) == [AssociateIndication(RQ)]
    association.send(AssociateResponse(AC))
    assert sent(association) == [wire(AC)]


def test_rejecting_waits_for_the_peer_to_close() -> None:
    association = at(State.STA3)
    association.send(AssociateResponse(RJ))
    assert sent(association) == [wire(RJ)]
    assert association.artim_running
    assert not association.wants_close


@pytest.mark.parametrize("version", [0, 2, 0xFFFE])
def test_other_protocol_version_is_refused_by_the_provider(version: int) -> None:
    association = at(State.STA2)
    request = bytearray(RQ.encode()[6:])
    request[:2] = version.to_bytes(2, "big")
    (refused,) = association.receive(ControlPdu(1, bytes(request)))
    assert isinstance(refused, AssociateRefused)
    assert (refused.pdu, refused.why) == (AAssociateRJ(1, 2, 2), "rq.version")
    assert sent(association) == [wire(AAssociateRJ(1, 2, 2))]
    assert (association.state, association.artim_running) == (State.STA13, True)


def test_acceptor_cannot_ask_for_an_association() -> None:
    with pytest.raises(LocalProtocolError):
        Association(Role.ACCEPTOR).send(AssociateRequest(RQ))


def test_silence_before_the_request_ends_at_artim() -> None:
    association = at(State.STA2)
    generation = association.artim_generation
    assert association.receive(TimerExpired()) == []
    assert association.wants_close
    assert not association.outbound
    assert (association.artim_running, association.artim_generation) == (False, generation)


def test_early_close_is_nobodys_loss() -> None:
    association = at(State.STA2)
    assert association.receive(TransportClosed()) == []
    assert not association.artim_running


# Misbehaviour


@pytest.mark.parametrize("first", [AC, RJ, AReleaseRQ(), AReleaseRP()], ids=lambda value: type(value).__name__)
def test_first_pdu_that_is_no_request_is_aborted_as_user(first: Pdu) -> None:
    association = at(State.STA2)
    (indication,) = association.receive(wire(first))
    assert isinstance(indication, AbortIndication)
    assert (indication.source, indication.reason, indication.why) == (0, 0, "pdu.unexpected")
    assert indication.detail == f"type={first.pdu_type:#04x} sta=2"
    assert sent(association) == [wire(AAbort(0, 0))]


def test_data_before_the_request_is_aborted_as_user() -> None:
    association = at(State.STA2)
    (indication,) = association.receive(UnexpectedData(offset=0))
    assert isinstance(indication, AbortIndication)
    assert (indication.by_peer, indication.why) == (False, "pdu.unexpected")
    assert sent(association) == [wire(AAbort(0, 0))]


def test_malformed_request_is_aborted_as_user_and_says_why() -> None:
    association = at(State.STA2)
    (indication,) = association.receive(ControlPdu(1, bytes(67)))
    assert isinstance(indication, AbortIndication)
    assert (indication.source, indication.reason, indication.by_peer, indication.why) == (0, 0, False, "rq.short")
    assert sent(association) == [wire(AAbort(0, 0))]
    assert association.artim_running


@pytest.mark.parametrize("key", ABORT_REASON)
def test_invalid_bytes_before_the_request_are_aborted_as_user(key: str) -> None:
    association = at(State.STA2)
    association.receive(InvalidPdu(key, 0))
    assert sent(association) == [wire(AAbort(0, 0))]


@pytest.mark.parametrize("key", ABORT_REASON)
def test_invalid_bytes_are_aborted_as_provider_with_their_reason(key: str) -> None:
    association = at(State.STA6)
    indication = AbortIndication(2, ABORT_REASON[key], by_peer=False, why=key, offset=17)
    assert association.receive(InvalidPdu(key, 17)) == [indication]
    assert sent(association) == [wire(AAbort(2, ABORT_REASON[key]))]
    assert (association.state, association.artim_running) == (State.STA13, True)


@pytest.mark.parametrize("data", [b"", bytes(67), AC.encode()[6:] + b"\x21"])
def test_malformed_acceptance_is_an_invalid_parameter(data: bytes) -> None:
    association = at(State.STA5)
    (indication,) = association.receive(ControlPdu(2, data))
    assert isinstance(indication, AbortIndication)
    assert indication.why == "ac.malformed"
    assert sent(association) == [wire(AAbort(2, 6))]


@pytest.mark.parametrize("length", [0, 3, 5, 1000])
def test_release_request_of_another_length_is_an_invalid_parameter(length: int) -> None:
    association = at(State.STA6)
    (indication,) = association.receive(ControlPdu(5, bytes(length)))
    assert isinstance(indication, AbortIndication)
    assert indication.why == "pdu.length"
    assert sent(association) == [wire(AAbort(2, 6))]


@pytest.mark.parametrize("state", [State.STA5, State.STA6, State.STA8], ids=str)
@pytest.mark.parametrize("data", [RQ.encode()[6:], b"", bytes(1000)], ids=len)
def test_second_request_is_unexpected_whatever_is_in_it(state: State, data: bytes) -> None:
    association = at(state)
    (indication,) = association.receive(ControlPdu(1, data))
    assert isinstance(indication, AbortIndication)
    assert indication.why == "pdu.unexpected"
    assert sent(association) == [wire(AAbort(2, 2))]


def test_release_response_without_a_request_is_unexpected() -> None:
    association = at(State.STA6)
    association.receive(wire(AReleaseRP()))
    assert sent(association) == [wire(AAbort(2, 2))]


def test_data_after_the_peers_release_request_is_unexpected() -> None:
    association = at(State.STA8)
    indication = AbortIndication(2, 2, by_peer=False, why="pdu.unexpected", detail="P-DATA-TF sta=8", offset=99)
    assert association.receive(UnexpectedData(99)) == [indication]
    assert sent(association) == [wire(AAbort(2, 2))]


@pytest.mark.parametrize("pdu_type", [0, 8, 0x47, 0xFF])
def test_unknown_pdu_type_is_named_in_the_abort(pdu_type: int) -> None:
    association = at(State.STA6)
    association.receive(ControlPdu(pdu_type, b""))
    assert sent(association) == [wire(AAbort(2, 1))]


# Abort and the end


def test_users_abort_ends_in_sta13_and_then_nothing_counts() -> None:
    association = at(State.STA6)
    assert association.send(AbortRequest()) == []
    assert sent(association) == [wire(AAbort(0, 0))]
    for received in (
        wire(AC),
        wire(RQ),
        wire(AReleaseRQ()),
        UnexpectedData(),
        InvalidPdu("pdu.short"),
        ControlPdu(9, b""),
    ):
        assert association.receive(received) == []
    assert not association.outbound
    assert association.receive(TimerExpired()) == []
    assert association.wants_close


def test_release_request_can_be_answered_by_an_abort() -> None:
    association = at(State.STA8)
    association.send(AbortRequest())
    assert sent(association) == [wire(AAbort(0, 0))]


def test_invalid_bytes_after_a_rejection_are_aborted_once() -> None:
    association = at(State.STA13)
    for _ in range(3):
        association.receive(InvalidPdu("pdu.unknown_type"))
        association.receive(wire(RQ))
    assert sent(association) == [wire(AAbort(2, 1))]


@pytest.mark.parametrize(
    "state", [s for s in State if (Event.EVT16, s) in TABLE and s not in (State.STA2, State.STA13)], ids=str
)
def test_peers_abort_is_indicated_and_closes(state: State) -> None:
    association = at(state)
    assert association.receive(ControlPdu(7, b"\0\0\2\6")) == [AbortIndication(2, 6, by_peer=True)]
    assert association.wants_close
    assert not association.outbound


def test_abort_of_odd_length_is_an_abort() -> None:
    assert at(State.STA6).receive(ControlPdu(7, b"")) == [AbortIndication(0, 0, by_peer=True)]


def test_abort_instead_of_a_request_closes_and_is_told() -> None:
    association = at(State.STA2)
    assert association.receive(wire(AAbort(0, 0))) == [AbortIndication(0, 0, by_peer=True)]
    assert association.wants_close
    assert not association.artim_running


def test_abort_after_the_end_is_not_told_again() -> None:
    association = at(State.STA13)
    assert association.receive(wire(AAbort(0, 0))) == []
    assert association.wants_close


def test_connection_that_ends_under_the_association_is_lost() -> None:
    assert at(State.STA6).receive(TransportClosed()) == [ConnectionLostIndication()]


def test_connection_that_ends_after_the_end_is_not_lost() -> None:
    association = at(State.STA13)
    assert association.receive(TransportClosed()) == []
    assert not association.artim_running


def test_abort_restarts_artim() -> None:
    association = at(State.STA2)
    first = association.artim_generation
    association.receive(InvalidPdu("pdu.unknown_type"))
    assert association.artim_running
    assert association.artim_generation > first


def test_after_the_end_nothing_is_heard_and_nothing_can_be_sent() -> None:
    association = at(State.STA7)
    association.receive(wire(AReleaseRP()))
    assert association.wants_close
    for received in (wire(RQ), UnexpectedData(), InvalidPdu("pdu.short"), TimerExpired(), TransportClosed()):
        assert association.receive(received) == []
    for primitive in (AssociateRequest(RQ), AbortRequest(), ReleaseRequest()):
        with pytest.raises(LocalProtocolError):
            association.send(primitive)
    assert not association.outbound
