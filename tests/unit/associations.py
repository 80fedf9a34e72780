"""Associations brought into any state, and what they would write: shared by the tests."""

from __future__ import annotations

import struct
from collections.abc import Callable

from fastmove.types import ControlPdu, TransportOpened
from fastmove.ul.association import (
    AbortRequest,
    AssociateRequest,
    AssociateResponse,
    Association,
    Received,
    ReleaseRequest,
    ReleaseResponse,
    Role,
)
from fastmove.ul.pdu import AAssociateAC, AAssociateRJ, AAssociateRQ, AReleaseRP, AReleaseRQ, Pdu, PresentationContextRQ
from fastmove.ul.states import State

RQ = AAssociateRQ("CALLED", "CALLING", (PresentationContextRQ(1, ("1.2.840.10008.1.1",), ("1.2.840.10008.1.2",)),))
AC = AAssociateAC("CALLED", "CALLING", ())
RJ = AAssociateRJ(1, 1, 7)


def wire(value: Pdu) -> ControlPdu:
    """The PDU as the compiled receiver reports it."""
    return ControlPdu(value.pdu_type, value.encode()[6:])


def sent(association: Association) -> list[ControlPdu]:
    """What the shell would write; drains `outbound`."""
    pdus = []
    data = bytes(association.outbound)
    association.outbound.clear()
    while data:
        pdu_type, length = struct.unpack_from(">BxI", data)
        pdus.append(ControlPdu(pdu_type, data[6 : 6 + length]))
        data = data[6 + length :]
    return pdus


def acceptor(*steps: Received) -> Association:
    association = Association(Role.ACCEPTOR)
    for step in (TransportOpened(), *steps):
        association.receive(step)
    return association


def requestor() -> Association:
    association = Association(Role.REQUESTOR)
    association.send(AssociateRequest(RQ))
    return association


def in_sta1() -> Association:
    return Association(Role.REQUESTOR)


def in_sta2() -> Association:
    return acceptor()


def in_sta3() -> Association:
    return acceptor(wire(RQ))


def in_sta4() -> Association:
    return requestor()


def in_sta5() -> Association:
    association = requestor()
    association.receive(TransportOpened())
    return association


def in_sta6() -> Association:
    association = in_sta5()
    association.receive(wire(AC))
    return association


def accepting_in_sta6() -> Association:
    association = in_sta3()
    association.send(AssociateResponse(AC))
    return association


def in_sta7() -> Association:
    association = in_sta6()
    association.send(ReleaseRequest())
    return association


def in_sta8() -> Association:
    association = in_sta6()
    association.receive(wire(AReleaseRQ()))
    return association


def in_sta9() -> Association:
    association = in_sta7()
    association.receive(wire(AReleaseRQ()))
    return association


def in_sta10() -> Association:
    association = accepting_in_sta6()
    association.send(ReleaseRequest())
    association.receive(wire(AReleaseRQ()))
    return association


def in_sta11() -> Association:
    association = in_sta9()
    association.send(ReleaseResponse())
    return association


def in_sta12() -> Association:
    association = in_sta10()
    association.receive(wire(AReleaseRP()))
    return association


def in_sta13() -> Association:
    association = in_sta3()
    association.send(AssociateResponse(RJ))
    return association


IN_STATE: dict[State, Callable[[], Association]] = {
    State.STA1: in_sta1,
    State.STA2: in_sta2,
    State.STA3: in_sta3,
    State.STA4: in_sta4,
    State.STA5: in_sta5,
    State.STA6: in_sta6,
    State.STA7: in_sta7,
    State.STA8: in_sta8,
    State.STA9: in_sta9,
    State.STA10: in_sta10,
    State.STA11: in_sta11,
    State.STA12: in_sta12,
    State.STA13: in_sta13,
}


def accepting_in_sta7() -> Association:
    association = accepting_in_sta6()
    association.send(ReleaseRequest())
    return association


def accepting_in_sta8() -> Association:
    association = accepting_in_sta6()
    association.receive(wire(AReleaseRQ()))
    return association


def requesting_in_sta13() -> Association:
    association = in_sta6()
    association.send(AbortRequest())
    return association


REQUESTING: dict[State, Callable[[], Association]] = {
    State.STA1: in_sta1,
    State.STA4: in_sta4,
    State.STA5: in_sta5,
    State.STA6: in_sta6,
    State.STA7: in_sta7,
    State.STA8: in_sta8,
    State.STA9: in_sta9,
    State.STA11: in_sta11,
    State.STA13: requesting_in_sta13,
}
"""The states that a requestor comes to."""

ACCEPTING: dict[State, Callable[[], Association]] = {
    State.STA1: lambda: Association(Role.ACCEPTOR),
    State.STA2: in_sta2,
    State.STA3: in_sta3,
    State.STA6: accepting_in_sta6,
    State.STA7: accepting_in_sta7,
    State.STA8: accepting_in_sta8,
    State.STA10: in_sta10,
    State.STA12: in_sta12,
    State.STA13: in_sta13,
}
"""Those that an acceptor comes to."""


def at(state: State) -> Association:
    association = IN_STATE[state]()
    association.outbound.clear()
    assert association.state is state
    return association
