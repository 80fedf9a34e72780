"""Runs of a benchmark: a load on a peer by workers, one measurement for each run; what all kinds of them share."""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar

from fastmove.bench.load import TIMED_OUT, Drive, Load, Performed
from fastmove.bench.measurement import Measurement
from fastmove.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConfigurationError,
    ConnectFailed,
    ConnectionLost,
    DimseError,
    NoAcceptedContext,
    RemoteProtocolError,
    TimedOut,
)
from fastmove.limits import Limits
from fastmove.services.scu import AssociationHandle, MessageIDs, Requestor
from fastmove.services.verification import shortest_echo
from fastmove.types import PeerAddress, ProposedContext
from fastmove.values import Value

Item = TypeVar("Item")

REJECTED: Final = "rejected"
NOT_CONNECTED: Final = "not-connected"

UNREACHED: Final = frozenset({REJECTED, NOT_CONNECTED})
"""Of operations for which there was no association."""

UNANSWERED: Final = UNREACHED | {"aborted", "lost", "no-context", "protocol"}
"""Of operations that the peer ended without an answer."""

BACK_OFF_S: Final = 0.1
"""After that: who does not take us in, or throws us out, is not to be asked ten thousand times a second."""

ENDINGS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (AssociationRejected, REJECTED),
    (AssociationAborted, "aborted"),
    (ConnectFailed, NOT_CONNECTED),
    (NoAcceptedContext, "no-context"),
    (TimedOut, TIMED_OUT),
    (ConnectionLost, "lost"),
    (AssociationError, "lost"),
    (RemoteProtocolError, "protocol"),
    (ConfigurationError, "not-asked"),
    (OSError, "unreadable"),
    (EOFError, "unreadable"),
)
"""What ended an operation without a status: the first class that fits."""

ENDS: Final = (AssociationError, RemoteProtocolError, ConfigurationError, DimseError, OSError, EOFError)


def ending(error: Exception) -> str:
    """A status, or a word for what ended an operation without one."""
    if isinstance(error, DimseError):
        return f"{error.status:04X}"
    return next(word for kind, word in ENDINGS if isinstance(error, kind))


class Target(Value):
    """Whom is asked, and by whom."""

    peer: PeerAddress
    ae_title: str
    model: str = "study"
    limits: Limits = Limits()
    new_associations: bool = False
    """Each operation has an association of its own."""

    operations: int = 1
    """That we should like to have outstanding on an association."""

    def announcing(self, max_pdu_length: int) -> Target:
        """The same with this maximum length of PDUs."""
        return self.replace(limits=self.limits.replace(max_pdu_length=max_pdu_length))


class Setting(Value):
    """What may differ between two runs beside their load."""

    max_pdu_length: int = Limits().max_pdu_length
    """That we announce."""

    transfer_syntax: str = ""
    """The UID of the only one that we take objects in; empty: all of them."""


class Operated(NamedTuple):
    """What became of an operation that was answered."""

    status: str = "0000"
    succeeded: bool = True
    objects: int = 0
    nbytes: int = 0
    refused: int = 0
    """Objects."""

    first_s: float | None = None
    """To the first of several answers."""

    kind: str = ""
    detail: str = ""


class Operator(ABC, Generic[Item]):
    """A worker that performs operations over an association of its own, made anew when it is lost."""

    def __init__(
        self,
        target: Target,
        contexts: Sequence[ProposedContext],
        measurement: Measurement,
        message_ids: MessageIDs | None = None,
    ) -> None:
        self._target = target
        self._measurement = measurement
        self.requestor = Requestor(
            target.peer,
            target.ae_title,
            contexts,
            target.limits,
            message_ids=message_ids,
            operations=target.operations,
        )

    @abstractmethod
    async def perform(self, item: Item, due_at: float) -> None:
        """One operation, which is measured whatever becomes of it."""

    def over(self, now: float) -> bool:
        """The time of a closed loop is over: what is under way does not count any more; True if it was cancelled."""
        return False

    def cancel(self) -> bool:
        """What is under way need not go on; True if that was said."""
        return False

    def stop(self) -> None:
        """Wait for nothing any more."""
        self.requestor.abort("stopped")

    async def close(self) -> None:
        """Release the association."""
        await self.requestor.close()


class Exchange(Operator[Item]):
    """Operations that are over with their answer."""

    name: ClassVar[str]
    """Of the latency of an operation."""

    first: ClassVar[str] = "first"
    """Of the latency to the first of several answers."""

    @abstractmethod
    async def operate(self, association: AssociationHandle, item: Item) -> Operated:
        """One operation; raises what ends it."""

    async def perform(self, item: Item, due_at: float) -> None:
        """One operation, which is measured whatever becomes of it."""
        began, associated_s = time.monotonic(), None
        try:
            fresh = not self.requestor.stands
            association = await self.requestor.association()
            associated_s = self.requestor.associated_s if fresh else None
            operated = await self.operate(association, item)
            ended = time.monotonic()
            if self._target.new_associations:
                await self.requestor.close()
        except ENDS as error:
            ended = time.monotonic()
            operated = Operated(ending(error), succeeded=False, detail=str(error))
            if not isinstance(error, DimseError):
                await self.requestor.lose()
        if operated.first_s is not None and self._measurement.counts(ended):
            self._measurement.latency(self.first, operated.first_s)
        self._measurement.operation(
            self.name,
            Performed(
                due_at,
                began,
                ended,
                operated.status,
                operated.succeeded,
                operated.objects,
                operated.nbytes,
                operated.refused,
                associated_s=associated_s,
                kind=operated.kind,
                detail=operated.detail,
            ),
        )
        if operated.status in UNANSWERED:
            await asyncio.sleep(BACK_OFF_S)


class Runner(ABC, Generic[Item]):
    """Measures one load after the other on a peer; `stop` may be called at any time."""

    kind: ClassVar[str]
    """As `fastmove bench` has it."""

    operations: ClassVar[str]
    """What is counted, in words."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.measurement: Measurement | None = None
        """That of the run under way."""
        self.drive: Drive[Item] | None = None
        self.peer: dict[str, Any] = {}
        """What is known of the peer."""
        self._operators: list[Operator[Item]] = []
        self._stops = 0

    @abstractmethod
    async def run(self, load: Load, items: Iterable[Item], setting: Setting) -> dict[str, Any]:
        """One run over these items: what was measured, as a report has it.

        Raises AssociationError if the peer could not be reached at all.
        """

    def stalls(self) -> dict[str, float]:
        """Seconds of the operations of the run under way that are over, by what they went into, where that is known."""
        return {}

    async def _measured(
        self, load: Load, items: Iterable[Item], name: str, operator: Callable[[Measurement], Operator[Item]]
    ) -> Measurement:
        """Apply the load by such operators, from now on; `name` is that of an operation's latency."""
        measurement = self.measurement = Measurement(time.monotonic(), load)

        def made() -> Operator[Item]:
            self._operators.append(operator(measurement))
            return self._operators[-1]

        self.drive = Drive(load, iter(items), made, partial(measurement.operation, name))
        if self._stops:  # while there was nothing yet to be stopped
            self.drive.stop()
        over: asyncio.TimerHandle | None = None
        if load.duration_s is not None and load.rate_per_s is None:
            over = asyncio.get_running_loop().call_later(load.duration_s, self._over)
        try:
            await self.drive.run()
        finally:
            if over is not None:
                over.cancel()
            measurement.close(time.monotonic())
            self.drive = None
            described: Iterable[Mapping[str, Any]] = (each.requestor.described for each in self._operators)
            self.peer |= next(filter(None, described), {})
            self._operators.clear()
        return measurement

    async def _echoed(self) -> float:
        """The shortest of a few C-ECHOs, in seconds; 0.0 if the peer takes none."""
        try:
            return await shortest_echo(self.target.peer, self.target.ae_title, self.target.limits)
        except (NoAcceptedContext, DimseError):
            return 0.0

    def _over(self) -> None:
        now = time.monotonic()
        if self.measurement is not None:
            self.measurement.end(now)
        for operator in self._operators:
            operator.over(now)

    def stop(self) -> bool:
        """Begin nothing more, and cancel what is under way, True if that was said; a second call aborts."""
        self._stops += 1
        if self.drive is not None:
            self.drive.stop()
        if self._stops == 1:
            return bool(sum([operator.cancel() for operator in self._operators]))
        for operator in self._operators:
            operator.stop()
        return False

    @property
    def stopped(self) -> bool:
        """True if `stop` was called."""
        return self._stops > 0
