"""G-C1: all 123 cells of PS3.8 Table 9-10 in both roles, with the bytes that they send and the state that follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.integration import raw
from tests.unit.associations import ACCEPTING, REQUESTING
from tests.unit.state_cells import (
    AC,
    ACCEPTOR,
    ALL,
    C_ECHO,
    EMPTY,
    KEPT,
    ONE_ROLE,
    OTHER_VERSION,
    RECEIVED,
    REQUESTOR,
    RJ,
    ROLES,
    RQ,
    STARTED,
    Cell,
    cells,
)

from fastmove._codec import PDataWriter, PduReceiver
from fastmove.errors import InternalError, LocalProtocolError
from fastmove.types import ControlPdu, TimerExpired, TransportClosed, TransportOpened
from fastmove.ul import pdu
from fastmove.ul.association import (
    AbortRequest,
    AssociateRequest,
    AssociateResponse,
    Association,
    AssociationEvent,
    Primitive,
    Received,
    ReleaseRequest,
    ReleaseResponse,
    Role,
)
from fastmove.ul.states import Event, State, transition

STATE = {str(state): state for state in State}
ROLE = {REQUESTOR: Role.REQUESTOR, ACCEPTOR: Role.ACCEPTOR}
PATHS: dict[str, dict[State, Callable[[], Association]]] = {REQUESTOR: REQUESTING, ACCEPTOR: ACCEPTING}


def decoded(wire: bytes) -> pdu.Pdu:
    return pdu.decode(wire[0], wire[6:])


PRIMITIVES: dict[str, Primitive] = {
    "Evt1": AssociateRequest(decoded(RQ)),
    "Evt7": AssociateResponse(decoded(AC)),
    "Evt8": AssociateResponse(decoded(RJ)),
    "Evt11": ReleaseRequest(),
    "Evt14": ReleaseResponse(),
    "Evt15": AbortRequest(),
}
OCCURRENCES: dict[str, Received] = {
    "Evt2": TransportOpened(),
    "Evt5": TransportOpened(),
    "Evt17": TransportClosed(),
    "Evt18": TimerExpired(),
}
BY_THE_CODEC = ("Evt9", "Evt10")


def placed(role: str, state: str) -> Association:
    """An association in this state: led there, or put there if that role cannot come there."""
    lead = PATHS[role].get(STATE[state])
    if lead is None:
        association = Association(ROLE[role])
        association.state = STATE[state]
        association.data_allowed = state in ("Sta6", "Sta7")
        association.may_send_data = state in ("Sta6", "Sta8")
        association.artim_running = state in ("Sta2", "Sta13")
    else:
        association = lead()
        if state == "Sta4":
            association._request = RQ
    association.outbound.clear()
    assert (str(association.state), association.role) == (state, ROLE[role])
    return association


def receiver_of(association: Association) -> PduReceiver:
    """The compiled receiver of this association's connection."""
    receiver = PduReceiver(window=4096, max_pdu_length=16384)
    receiver.accept([1, 3])
    receiver.allow_data(association.data_allowed)
    return receiver


def happen(association: Association, event: str) -> list[str]:
    """The event happens; the names of what the user is told."""
    if event in PRIMITIVES:
        return names(association.send(PRIMITIVES[event]))
    if event in OCCURRENCES:
        return names(association.receive(OCCURRENCES[event]))
    if event == "Evt9":
        assert association.may_send_data
        association.outbound += PDataWriter(16384).message(3, raw.c_echo_rq())
        return []
    told: list[str] = []
    receiver = receiver_of(association)
    receiver.get_buffer(-1)[: len(RECEIVED[event])] = RECEIVED[event]
    receiver.advance(len(RECEIVED[event]))
    while (received := receiver.next_event()) is not None:
        if type(received).__name__ == "CommandReceived":
            told.append("CommandReceived")
        else:
            told += names(association.receive(received))  # type: ignore[arg-type]
            receiver.allow_data(association.data_allowed)
    return told


def names(events: list[AssociationEvent]) -> list[str]:
    return [type(event).__name__ for event in events]


@pytest.mark.parametrize("cell", ALL, ids=str)
def test_cell_sends_its_pdu_and_leads_to_its_state(cell: Cell) -> None:
    association = placed(cell.role, cell.state)
    ran, generation = association.artim_running, association.artim_generation
    if cell.state == "Sta13":
        association._abort_sent = False  # it came there without one
    told = happen(association, cell.event)
    sends, artim, closes, tells = cell.effect
    assert bytes(association.outbound) == sends
    assert str(association.state) == cell.following
    assert tuple(told) == tells
    assert association.wants_close == closes
    if artim == KEPT:
        assert (association.artim_running, association.artim_generation) == (ran, generation)
    else:
        assert association.artim_running == (artim == STARTED)
        assert (association.artim_generation > generation) == (artim == STARTED)


@pytest.mark.parametrize("role", ROLES)
def test_request_of_another_version_is_rejected_and_leads_to_sta13(role: str) -> None:
    association = placed(role, "Sta2")
    generation = association.artim_generation
    assert names(association.receive(ControlPdu(OTHER_VERSION[0], OTHER_VERSION[6:]))) == ["AssociateRefused"]
    assert bytes(association.outbound) == raw.associate_rj(1, 2, 2)
    assert (association.state, association.artim_generation > generation) == (State.STA13, True)


def test_every_cell_is_tested_in_both_roles() -> None:
    tested = {(cell.role, cell.event, cell.state) for cell in ALL}
    wanted = {(role, event, state) for role in ROLES for event, state, _, _ in cells()}
    assert len({(event, state) for _, event, state in wanted}) == 123
    assert {event for _, event, _ in wanted - tested} == set(ONE_ROLE)
    assert len(tested) == 2 * 123 - len(ONE_ROLE)


@pytest.mark.parametrize(("event", "state"), sorted(EMPTY), ids=str)
def test_empty_cell_cannot_happen(event: str, state: str) -> None:
    with pytest.raises(InternalError):
        transition(Event[event.upper()], STATE[state])
    for role in ROLES:
        association = placed(role, state)
        if event in PRIMITIVES:
            with pytest.raises(LocalProtocolError):
                association.send(PRIMITIVES[event])
        elif event == "Evt9":
            assert not association.may_send_data
        assert not association.outbound
        assert str(association.state) == state


def test_acceptor_cannot_ask_for_an_association() -> None:
    with pytest.raises(LocalProtocolError):
        Association(Role.ACCEPTOR).send(PRIMITIVES["Evt1"])


def test_message_is_written_as_the_peers_builder_writes_it() -> None:
    assert PDataWriter(16384).message(3, raw.c_echo_rq()) == C_ECHO


def test_transport_connection_is_an_indication_to_the_acceptor_alone() -> None:
    acceptor = Association(Role.ACCEPTOR)
    acceptor.receive(TransportOpened())
    assert acceptor.state is State.STA2
    requestor = placed(REQUESTOR, "Sta4")
    requestor.receive(TransportOpened())
    assert requestor.state is State.STA5
