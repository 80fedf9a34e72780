"""What each cell of PS3.8 Table 9-10 has to do, read from one file: `state_table.csv`, and Tables 9-6 to 9-9 below.

It shares no row with `fastmove.ul.states`; bytes are those of the builders that share no code with fastmove.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from tests.integration import raw

TRANSCRIPTION: Final = Path(__file__).with_name("state_table.csv")

REQUESTOR, ACCEPTOR = "requestor", "acceptor"
ROLES: Final = (REQUESTOR, ACCEPTOR)

ONE_ROLE: Final = {"Evt1": REQUESTOR, "Evt2": REQUESTOR, "Evt5": ACCEPTOR}
"""Events that only one of the roles knows: who asks for the transport connection, and who is told of one."""

STARTED, STOPPED, KEPT = "started", "stopped", "kept"


class Effect(NamedTuple):
    """What an action does, as far as anybody can see it (PS3.8 Tables 9-6 to 9-9)."""

    sends: bytes = b""
    artim: str = KEPT
    closes: bool = False
    tells: tuple[str, ...] = ()


class Cell(NamedTuple):
    """A cell of the table for one role."""

    role: str
    event: str
    state: str
    action: str
    following: str
    effect: Effect

    def __str__(self) -> str:
        return f"{self.role}-{self.state}-{self.event}"


RQ: Final = raw.associate_rq(called="CALLED", calling="CALLING")
OTHER_VERSION: Final = raw.associate_rq(called="CALLED", calling="CALLING", version=2)
AC: Final = raw.associate_ac(called="CALLED", calling="CALLING")
RJ: Final = raw.associate_rj(1, 1, 7)
UNKNOWN: Final = raw.pdu(0x99, bytes(4))
PEER_ABORTS: Final = raw.abort(2, 6)
C_ECHO: Final = raw.message(3, raw.c_echo_rq())

RECEIVED: Final[dict[str, bytes]] = {
    "Evt3": AC,
    "Evt4": RJ,
    "Evt6": RQ,
    "Evt10": C_ECHO,
    "Evt12": raw.release_rq(),
    "Evt13": raw.release_rp(),
    "Evt16": PEER_ABORTS,
    "Evt19": UNKNOWN,
}
"""The bytes by which an event comes."""

UNEXPECTED, UNRECOGNIZED = 2, 1  # reasons of the provider's A-ABORT (PS3.8 Table 9-26)


def provider_abort(event: str) -> bytes:
    """A-ABORT by the service-provider, for what this event is."""
    return raw.abort(2, UNRECOGNIZED if event == "Evt19" else UNEXPECTED)


EFFECTS: Final[dict[str, Callable[[str, str], Effect]]] = {  # (event, role)
    "AE-1": lambda event, role: Effect(tells=("ConnectWanted",)),
    "AE-2": lambda event, role: Effect(RQ),
    "AE-3": lambda event, role: Effect(tells=("AssociateConfirmation",)),
    "AE-4": lambda event, role: Effect(closes=True, tells=("AssociateConfirmation",)),
    "AE-5": lambda event, role: Effect(artim=STARTED),
    "AE-6": lambda event, role: Effect(artim=STOPPED, tells=("AssociateIndication",)),
    "AE-7": lambda event, role: Effect(AC),
    "AE-8": lambda event, role: Effect(RJ, artim=STARTED),
    "DT-1": lambda event, role: Effect(C_ECHO),
    "DT-2": lambda event, role: Effect(tells=("CommandReceived",)),
    "AR-1": lambda event, role: Effect(raw.release_rq()),
    "AR-2": lambda event, role: Effect(tells=("ReleaseIndication",)),
    "AR-3": lambda event, role: Effect(closes=True, tells=("ReleaseConfirmation",)),
    "AR-4": lambda event, role: Effect(raw.release_rp(), artim=STARTED),
    "AR-5": lambda event, role: Effect(artim=STOPPED, closes=True),
    "AR-6": lambda event, role: Effect(tells=("CommandReceived",)),
    "AR-7": lambda event, role: Effect(C_ECHO),
    "AR-8": lambda event, role: Effect(tells=("ReleaseIndication",)),
    "AR-9": lambda event, role: Effect(raw.release_rp()),
    "AR-10": lambda event, role: Effect(tells=("ReleaseConfirmation",)),
    # By the local user nobody has to be told; what a peer did he hears.
    "AA-1": lambda event, role: Effect(
        raw.abort(0, 0), artim=STARTED, tells=() if event == "Evt15" else ("AbortIndication",)
    ),
    "AA-2": lambda event, role: Effect(artim=STOPPED, closes=True),
    "AA-3": lambda event, role: Effect(closes=True, tells=("AbortIndication",)),
    "AA-4": lambda event, role: Effect(closes=True, tells=("ConnectionLostIndication",)),
    "AA-5": lambda event, role: Effect(artim=STOPPED, closes=True),
    "AA-6": lambda event, role: Effect(),
    "AA-7": lambda event, role: Effect(provider_abort(event)),
    "AA-8": lambda event, role: Effect(provider_abort(event), artim=STARTED, tells=("AbortIndication",)),
}

TOLD_BESIDES: Final = {("Evt16", "Sta2"): ("AbortIndication",)}
"""More than the standard asks: an A-ABORT before any association is worth a line in the log."""

NEXT: Final = {  # where the table gives two: by the role, or if all is well
    ("Sta9 or Sta10", REQUESTOR): "Sta9",
    ("Sta9 or Sta10", ACCEPTOR): "Sta10",
    ("Sta3 or Sta13", REQUESTOR): "Sta3",
    ("Sta3 or Sta13", ACCEPTOR): "Sta3",
}


def cells() -> Iterator[tuple[str, str, str, str]]:
    """Event, state, action and next state of each cell that the table fills."""
    with TRANSCRIPTION.open(newline="") as file:
        (_, *states), *rows = csv.reader(file)
    for event, *row in rows:
        for state, text in zip(states, row, strict=True):
            if text:
                action, _, following = text.partition(" ")
                yield event, state, action, following


def cells_of(role: str) -> Iterator[Cell]:
    """Those that this role can come to, with what has to happen."""
    for event, state, action, following in cells():
        if ONE_ROLE.get(event, role) == role:
            effect = EFFECTS[action](event, role)
            effect = effect._replace(tells=TOLD_BESIDES.get((event, state), effect.tells))
            yield Cell(role, event, state, action, NEXT.get((following, role), following), effect)


ALL: Final = tuple(cell for role in ROLES for cell in cells_of(role))
EMPTY: Final = frozenset(
    (f"Evt{event}", f"Sta{state}") for event in range(1, 20) for state in range(1, 14)
) - frozenset((event, state) for event, state, _, _ in cells())
