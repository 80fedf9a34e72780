"""What comes to our listener while it is open for a test move: who connects, what is proposed, which objects, when."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

from fastmove._codec import CommandReceived
from fastmove.dimse.move import Evidence, MoveOutcome
from fastmove.errors import FastmoveError
from fastmove.notices import AssociationOpened, InstanceRefused, InstanceStored, Notice, Observer, PeerMisbehaved
from fastmove.services.receipts import Receipts
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ
from fastmove.values import Value


class Arrived(NamedTuple):
    """An object that came, and when (`time.perf_counter`)."""

    at: float
    object: InstanceStored


class Arrivals:
    """Takes down what the listener tells; `receipts` are those of the move under way."""

    def __init__(self, notify: Observer | None = None) -> None:
        self.receipts = Receipts(notify)
        self.forget()

    def forget(self) -> None:
        """Another move begins."""
        self.receipts = self.receipts.next(self.receipts.originator)
        self.opened: list[AssociationOpened] = []
        self.requests: list[AAssociateRQ] = []
        self.stored: list[Arrived] = []
        self.refused: list[InstanceRefused] = []
        self.oddities: list[PeerMisbehaved] = []
        self.unlisted = 0

    def __call__(self, notice: Notice) -> None:
        """Take note of anything but an object that is stored."""
        if isinstance(notice, AssociationOpened):
            self.opened.append(notice)
        elif isinstance(notice, InstanceRefused):
            self.refused.append(notice)
        elif isinstance(notice, PeerMisbehaved):
            self.oddities.append(notice)
        self.receipts(notice)

    def on_stored(self, notice: InstanceStored) -> None:
        """Take note of an object: of this move if it is listed, or if nothing is, whatever it names as its origin."""
        expected = self.receipts.expected
        if expected and notice.sop_instance_uid not in expected:
            self.unlisted += 1
        else:
            self.stored.append(Arrived(time.perf_counter(), notice))
            self.receipts.on_stored(notice._replace(move_originator_ae_title=self.receipts.originator))

    def established(self, request: AAssociateRQ, answer: AAssociateAC, encoded: bytes) -> None:
        """Take note of what was proposed."""
        self.requests.append(request)

    def requested(self, command: CommandReceived) -> None:
        """Objects are told of when they are stored."""


class MoveRecord(Value):
    """A test move that is over."""

    message_id: int
    evidence: Evidence
    started: float
    """When the C-MOVE-RQ went out (`time.perf_counter`)."""

    ended: float | None
    """When the final response came."""

    error: FastmoveError | None = None
    """Why none came."""

    arrived: tuple[Arrived, ...] = ()
    """The objects of this move, in the order in which they came."""

    opened: tuple[AssociationOpened, ...] = ()
    """Storage associations since it began."""

    requests: tuple[AAssociateRQ, ...] = ()
    """What was proposed for them."""

    refused: tuple[InstanceRefused, ...] = ()
    oddities: tuple[PeerMisbehaved, ...] = ()
    unlisted: int = 0
    """Objects that were not on the list of what should come."""

    @property
    def outcome(self) -> MoveOutcome | None:
        """The final response."""
        return self.evidence.outcome

    @property
    def by_association(self) -> Counter[int]:
        """Objects of each storage association."""
        return Counter(each.object.association for each in self.arrived)

    @property
    def nbytes(self) -> int:
        """Of all data sets."""
        return sum(each.object.nbytes for each in self.arrived)
