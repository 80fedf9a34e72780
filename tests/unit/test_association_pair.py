"""Two associations played against each other, exchanging what they would write."""

from __future__ import annotations

import pytest
from tests.unit.associations import AC, RQ, at, sent, wire

from fastmove.errors import LocalProtocolError
from fastmove.types import TransportClosed, TransportOpened
from fastmove.ul.association import (
    AbortRequest,
    AssociateConfirmation,
    AssociateIndication,
    AssociateRequest,
    AssociateResponse,
    Association,
    AssociationEvent,
    ReleaseConfirmation,
    ReleaseIndication,
    ReleaseRequest,
    ReleaseResponse,
    Role,
)
from fastmove.ul.pdu import AAbort
from fastmove.ul.states import State


def exchange(one: Association, other: Association) -> tuple[list[AssociationEvent], list[AssociationEvent]]:
    """Deliver to both sides what both had sent; the bytes cross on the way."""
    to_other, to_one = sent(one), sent(other)
    events_one = [event for received in to_one for event in one.receive(received)]
    events_other = [event for received in to_other for event in other.receive(received)]
    return events_one, events_other


def established() -> tuple[Association, Association]:
    one, other = Association(Role.REQUESTOR), Association(Role.ACCEPTOR)
    one.send(AssociateRequest(RQ))
    one.receive(TransportOpened())
    other.receive(TransportOpened())
    assert exchange(one, other) == ([], [AssociateIndication(RQ)])
    other.send(AssociateResponse(AC))
    assert exchange(one, other) == ([AssociateConfirmation(AC)], [])
    assert (one.state, other.state) == (State.STA6, State.STA6)
    return one, other


@pytest.mark.parametrize("acceptor_releases", [False, True])
def test_either_side_may_release(acceptor_releases: bool) -> None:
    one, other = reversed(established()) if acceptor_releases else established()
    one.send(ReleaseRequest())
    assert exchange(one, other) == ([], [ReleaseIndication()])
    other.send(ReleaseResponse())
    assert exchange(one, other) == ([ReleaseConfirmation()], [])
    assert one.wants_close
    assert not other.wants_close
    assert other.artim_running
    other.receive(TransportClosed())
    assert (one.state, other.state) == (State.STA1, State.STA1)


def test_release_collision_is_settled_by_the_requestor_answering_first() -> None:
    requestor_side, acceptor_side = established()
    requestor_side.send(ReleaseRequest())
    acceptor_side.send(ReleaseRequest())
    indication: list[AssociationEvent] = [ReleaseIndication(collision=True)]
    assert exchange(requestor_side, acceptor_side) == (indication, indication)
    assert (requestor_side.state, acceptor_side.state) == (State.STA9, State.STA10)
    with pytest.raises(LocalProtocolError):
        acceptor_side.send(ReleaseResponse())
    requestor_side.send(ReleaseResponse())
    assert exchange(requestor_side, acceptor_side) == ([], [ReleaseConfirmation()])
    assert (requestor_side.state, acceptor_side.state) == (State.STA11, State.STA12)
    acceptor_side.send(ReleaseResponse())
    assert exchange(requestor_side, acceptor_side) == ([ReleaseConfirmation()], [])
    assert (requestor_side.state, acceptor_side.state) == (State.STA1, State.STA13)
    assert requestor_side.wants_close
    acceptor_side.receive(TransportClosed())
    assert acceptor_side.state is State.STA1


def test_aborts_that_cross_end_both_sides() -> None:
    one, other = established()
    one.send(AbortRequest())
    other.send(AbortRequest())
    assert exchange(one, other) == ([], [])
    assert one.wants_close
    assert other.wants_close


def test_parrot_that_echoes_our_request_is_aborted() -> None:
    one = at(State.STA4)
    one.receive(TransportOpened())
    (echo,) = sent(one)
    one.receive(echo)
    assert sent(one) == [wire(AAbort(2, 2))]
