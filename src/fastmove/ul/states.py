"""The Upper Layer state machine as data: PS3.8 9.2 with Table 9-10, and nothing but its lookup."""

from __future__ import annotations

from enum import Enum
from typing import Final, TypeAlias

from fastmove.errors import InternalError


class _Labelled(Enum):
    """A member that has the standard's label and its definition."""

    def __init__(self, label: str, text: str) -> None:
        self.label = label
        self.text = text

    def __str__(self) -> str:
        return self.label


class State(_Labelled):
    """The states (PS3.8 9.2.1, Tables 9-1 to 9-5)."""

    STA1 = ("Sta1", "idle")
    STA2 = ("Sta2", "transport connection open, awaiting A-ASSOCIATE-RQ")
    STA3 = ("Sta3", "awaiting local A-ASSOCIATE response")
    STA4 = ("Sta4", "awaiting transport connection opening to complete")
    STA5 = ("Sta5", "awaiting A-ASSOCIATE-AC or A-ASSOCIATE-RJ")
    STA6 = ("Sta6", "association established and ready for data transfer")
    STA7 = ("Sta7", "awaiting A-RELEASE-RP")
    STA8 = ("Sta8", "awaiting local A-RELEASE response")
    STA9 = ("Sta9", "release collision, requestor: awaiting local A-RELEASE response")
    STA10 = ("Sta10", "release collision, acceptor: awaiting A-RELEASE-RP")
    STA11 = ("Sta11", "release collision, requestor: awaiting A-RELEASE-RP")
    STA12 = ("Sta12", "release collision, acceptor: awaiting local A-RELEASE response")
    STA13 = ("Sta13", "awaiting transport connection close; the association no longer exists")


class Event(_Labelled):
    """The events (PS3.8 9.2.3, first column of Table 9-10)."""

    EVT1 = ("Evt1", "A-ASSOCIATE request (local user)")
    EVT2 = ("Evt2", "transport connection confirmed")
    EVT3 = ("Evt3", "A-ASSOCIATE-AC received")
    EVT4 = ("Evt4", "A-ASSOCIATE-RJ received")
    EVT5 = ("Evt5", "transport connection indication")
    EVT6 = ("Evt6", "A-ASSOCIATE-RQ received")
    EVT7 = ("Evt7", "A-ASSOCIATE response, accept (local user)")
    EVT8 = ("Evt8", "A-ASSOCIATE response, reject (local user)")
    EVT9 = ("Evt9", "P-DATA request (local user)")
    EVT10 = ("Evt10", "P-DATA-TF received")
    EVT11 = ("Evt11", "A-RELEASE request (local user)")
    EVT12 = ("Evt12", "A-RELEASE-RQ received")
    EVT13 = ("Evt13", "A-RELEASE-RP received")
    EVT14 = ("Evt14", "A-RELEASE response (local user)")
    EVT15 = ("Evt15", "A-ABORT request (local user)")
    EVT16 = ("Evt16", "A-ABORT received")
    EVT17 = ("Evt17", "transport connection closed")
    EVT18 = ("Evt18", "ARTIM timer expired")
    EVT19 = ("Evt19", "unrecognized or invalid PDU received")


class Action(_Labelled):
    """The actions (PS3.8 9.2.2, Tables 9-6 to 9-9)."""

    AE_1 = ("AE-1", "issue transport connect request")
    AE_2 = ("AE-2", "send A-ASSOCIATE-RQ")
    AE_3 = ("AE-3", "issue A-ASSOCIATE confirmation (accept)")
    AE_4 = ("AE-4", "issue A-ASSOCIATE confirmation (reject), close transport connection")
    AE_5 = ("AE-5", "issue transport connection response, start ARTIM")
    AE_6 = ("AE-6", "stop ARTIM; issue A-ASSOCIATE indication, or send A-ASSOCIATE-RJ and start ARTIM")
    AE_7 = ("AE-7", "send A-ASSOCIATE-AC")
    AE_8 = ("AE-8", "send A-ASSOCIATE-RJ, start ARTIM")
    DT_1 = ("DT-1", "send P-DATA-TF")
    DT_2 = ("DT-2", "issue P-DATA indication")
    AR_1 = ("AR-1", "send A-RELEASE-RQ")
    AR_2 = ("AR-2", "issue A-RELEASE indication")
    AR_3 = ("AR-3", "issue A-RELEASE confirmation, close transport connection")
    AR_4 = ("AR-4", "send A-RELEASE-RP, start ARTIM")
    AR_5 = ("AR-5", "stop ARTIM")
    AR_6 = ("AR-6", "issue P-DATA indication (release requested)")
    AR_7 = ("AR-7", "send P-DATA-TF (release indicated)")
    AR_8 = ("AR-8", "issue A-RELEASE indication (release collision)")
    AR_9 = ("AR-9", "send A-RELEASE-RP")
    AR_10 = ("AR-10", "issue A-RELEASE confirmation")
    AA_1 = ("AA-1", "send A-ABORT (service-user source), start or restart ARTIM")
    AA_2 = ("AA-2", "stop ARTIM if running, close transport connection")
    AA_3 = ("AA-3", "issue A-ABORT or A-P-ABORT indication, close transport connection")
    AA_4 = ("AA-4", "issue A-P-ABORT indication")
    AA_5 = ("AA-5", "stop ARTIM (idle)")
    AA_6 = ("AA-6", "ignore PDU")
    AA_7 = ("AA-7", "send A-ABORT")
    AA_8 = ("AA-8", "send A-ABORT (service-provider source), issue A-P-ABORT indication, start ARTIM")


NextState: TypeAlias = State | tuple[State, State]

NEXT_STATE: Final[dict[Action, NextState]] = {  # the action alone decides (PS3.8 Tables 9-6 to 9-9)
    Action.AE_1: State.STA4,
    Action.AE_2: State.STA5,
    Action.AE_3: State.STA6,
    Action.AE_4: State.STA1,
    Action.AE_5: State.STA2,
    Action.AE_6: (State.STA3, State.STA13),  # acceptable to the service-provider, or not
    Action.AE_7: State.STA6,
    Action.AE_8: State.STA13,
    Action.DT_1: State.STA6,
    Action.DT_2: State.STA6,
    Action.AR_1: State.STA7,
    Action.AR_2: State.STA8,
    Action.AR_3: State.STA1,
    Action.AR_4: State.STA13,
    Action.AR_5: State.STA1,
    Action.AR_6: State.STA7,
    Action.AR_7: State.STA8,
    Action.AR_8: (State.STA9, State.STA10),  # association-requestor, or acceptor
    Action.AR_9: State.STA11,
    Action.AR_10: State.STA12,
    Action.AA_1: State.STA13,
    Action.AA_2: State.STA1,
    Action.AA_3: State.STA1,
    Action.AA_4: State.STA1,
    Action.AA_5: State.STA1,
    Action.AA_6: State.STA13,
    Action.AA_7: State.STA13,
    Action.AA_8: State.STA13,
}

# PS3.8 Table 9-10, row for row and column for column; "." is a cell that the table leaves empty.
_TABLE_9_10: Final = """
        Sta1   Sta2   Sta3   Sta4   Sta5   Sta6   Sta7   Sta8   Sta9   Sta10  Sta11  Sta12  Sta13
Evt1    AE-1   .      .      .      .      .      .      .      .      .      .      .      .
Evt2    .      .      .      AE-2   .      .      .      .      .      .      .      .      .
Evt3    .      AA-1   AA-8   .      AE-3   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-6
Evt4    .      AA-1   AA-8   .      AE-4   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-6
Evt5    AE-5   .      .      .      .      .      .      .      .      .      .      .      .
Evt6    .      AE-6   AA-8   .      AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-7
Evt7    .      .      AE-7   .      .      .      .      .      .      .      .      .      .
Evt8    .      .      AE-8   .      .      .      .      .      .      .      .      .      .
Evt9    .      .      .      .      .      DT-1   .      AR-7   .      .      .      .      .
Evt10   .      AA-1   AA-8   .      AA-8   DT-2   AR-6   AA-8   AA-8   AA-8   AA-8   AA-8   AA-6
Evt11   .      .      .      .      .      AR-1   .      .      .      .      .      .      .
Evt12   .      AA-1   AA-8   .      AA-8   AR-2   AR-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-6
Evt13   .      AA-1   AA-8   .      AA-8   AA-8   AR-3   AA-8   AA-8   AR-10  AR-3   AA-8   AA-6
Evt14   .      .      .      .      .      .      .      AR-4   AR-9   .      .      AR-4   .
Evt15   .      .      AA-1   AA-2   AA-1   AA-1   AA-1   AA-1   AA-1   AA-1   AA-1   AA-1   .
Evt16   .      AA-2   AA-3   .      AA-3   AA-3   AA-3   AA-3   AA-3   AA-3   AA-3   AA-3   AA-2
Evt17   .      AA-5   AA-4   AA-4   AA-4   AA-4   AA-4   AA-4   AA-4   AA-4   AA-4   AA-4   AR-5
Evt18   .      AA-2   .      .      .      .      .      .      .      .      .      .      AA-2
Evt19   .      AA-1   AA-8   .      AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-8   AA-7
"""


def _cells(grid: str) -> dict[tuple[Event, State], tuple[Action, NextState]]:
    events = {event.label: event for event in Event}
    states = {state.label: state for state in State}
    actions = {action.label: action for action in Action}
    columns, *rows = (line.split() for line in grid.strip().splitlines())
    return {
        (events[row[0]], states[column]): (actions[cell], NEXT_STATE[actions[cell]])
        for row in rows
        for column, cell in zip(columns, row[1:], strict=True)
        if cell != "."
    }


TABLE: Final[dict[tuple[Event, State], tuple[Action, NextState]]] = _cells(_TABLE_9_10)


def transition(event: Event, state: State) -> tuple[Action, NextState]:
    """The action and the next state, or the two to choose from; InternalError for an empty cell."""
    try:
        return TABLE[event, state]
    except KeyError:
        raise InternalError(f"{event} ({event.text}) cannot happen in {state} ({state.text})") from None


def possible(event: Event, state: State) -> bool:
    """True if Table 9-10 has an action for the event in this state."""
    return (event, state) in TABLE


def data_allowed(state: State) -> bool:
    """True if a P-DATA-TF PDU may be received now."""
    return possible(Event.EVT10, state) and TABLE[Event.EVT10, state][0] in (Action.DT_2, Action.AR_6)
