"""C-MOVEs as a load: studies are moved to our own listener, which measures how they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from fastmove.bench.load import Drive, Load, Performed
from fastmove.bench.measurement import Measurement
from fastmove.bench.stalls import Breakdown, MoveStalls
from fastmove.credentials import TlsSettings
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
from fastmove.notices import InstanceStored, Observer
from fastmove.services.arrivals import Arrival
from fastmove.services.move_scu import Move, move_contexts
from fastmove.services.receiver import Receiver, receiver
from fastmove.services.scu import Requestor
from fastmove.services.verification import shortest_echo
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.values import Value

ENDINGS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (AssociationRejected, "rejected"),
    (AssociationAborted, "aborted"),
    (ConnectFailed, "not-connected"),
    (NoAcceptedContext, "no-context"),
    (TimedOut, "timed-out"),
    (ConnectionLost, "lost"),
    (AssociationError, "lost"),
    (RemoteProtocolError, "protocol"),
    (ConfigurationError, "not-asked"),
)
"""What ended an operation without a status: the first class that fits."""


def ending(error: Exception) -> str:
    """A word for what ended an operation without a status."""
    return next(word for kind, word in ENDINGS if isinstance(error, kind))


class Study(Value):
    """What one C-MOVE asks for."""

    keys: tuple[str, ...]
    level: str = "STUDY"
    kind: str = ""
    """Its modalities, where they are known."""

    instances: int | None = None
    """As the PACS counts them."""


class RetrieveTarget(Value):
    """Whom is asked, by whom, and where objects go."""

    peer: PeerAddress
    ae_title: str
    model: str = "study"
    limits: Limits = Limits()
    listener_tls: TlsSettings | None = None
    new_associations: bool = False
    """Each C-MOVE has an association of its own, as movescu makes it."""


def _detail(error: Exception | None, short: int, comment: str) -> str:
    if error is not None:
        return str(error)
    return f"{short} objects were counted as sent, and did not come" if short else comment


class Mover:
    """A worker that moves one study after the other over its own association."""

    def __init__(
        self,
        target: RetrieveTarget,
        receiver: Receiver,
        measurement: Measurement,
        breakdown: Breakdown,
        *,
        echo_s: float,
        keep: bool,
    ) -> None:
        self._target = target
        self._receiver = receiver
        self._measurement = measurement
        self._breakdown = breakdown
        self._echo_s = echo_s
        self._keep = keep
        contexts = move_contexts(target.model)
        self._requestor = Requestor(
            target.peer, target.ae_title, contexts, target.limits, message_ids=receiver.message_ids
        )
        self._move: Move | None = None
        self._stalls: MoveStalls | None = None
        self._asked_at = 0.0

    async def perform(self, item: Study, due_at: float) -> Performed:
        """One C-MOVE, to its final response and the last object."""
        target, began = self._target, time.monotonic()
        stalls = self._stalls = MoveStalls(self._echo_s, keep=self._keep)

        def came(notice: InstanceStored, arrival: Arrival) -> None:
            follows = stalls.add(arrival)
            if self._measurement.object(arrival.ended_at, notice.nbytes):
                self._measurement.latency("store", arrival.ended_at - arrival.began_at)
                if follows:
                    self._measurement.latency("gap", arrival.gap_s)

        move, receipts = self._receiver.move(target.limits, came)
        self._move = move
        associated_s: float | None = None
        self._asked_at = began
        error: Exception | None = None
        try:
            fresh = not self._requestor.stands
            association = await self._requestor.association()
            associated_s = self._requestor.associated_s if fresh else None
            self._asked_at = time.monotonic()
            await move.ask(association, target.model, item.level, item.keys, target.ae_title)
            responded = time.monotonic()
            if target.new_associations:
                await self._requestor.close()
        except (AssociationError, RemoteProtocolError, ConfigurationError) as failed:
            error, responded = failed, time.monotonic()
            await self._requestor.lose()
        await move.drain()
        self._receiver.end(move)
        self._move = None
        asked = self._asked_at
        ended = max(responded, receipts.last_at)
        outcome = move.outcome
        short = 0
        if outcome is None:
            status, succeeded = ending(error) if error is not None else "lost", False
        else:
            status = "none" if outcome.status is None else f"{outcome.status:04X}"
            said = (outcome.completed or 0) + (outcome.warning or 0)
            short = max(0, said - receipts.objects - receipts.refused)
            succeeded = outcome.status == 0 and not short
        performed = Performed(
            due_at,
            began,
            ended,
            status,
            succeeded,
            receipts.objects,
            receipts.nbytes,
            0 if outcome is None else outcome.failed or 0,
            receipts.first_at - asked if receipts.objects else None,
            associated_s,
            item.kind,
            _detail(error, short, "" if outcome is None else outcome.error_comment),
        )
        self._measurement.operation("move", performed)
        if self._measurement.counts(ended) or self._measurement.counts(due_at):
            self.account(ended)
        return performed

    def account(self, until: float) -> None:
        """What the move under way went into until then, unless that is known already."""
        stalls, self._stalls = self._stalls, None
        if stalls is not None:
            self._breakdown.add(stalls.spent(self._asked_at, until))

    def cancel(self) -> bool:
        """C-CANCEL of the move under way; True if one was sent."""
        return self._move is not None and self._move.cancel()

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._move is not None:
            self._move.stop()
        self._requestor.abort("stopped")

    async def close(self) -> None:
        """Release the association."""
        await self._requestor.close()

    @property
    def answer(self) -> Mapping[str, Any]:
        """What the peer said of itself in its A-ASSOCIATE-AC."""
        return self._requestor.described


class RetrieveBench:
    """Measures one load after the other on a PACS; `stop` may be called at any time.

    Objects come to our listener on `host` and `port` and are discarded, or kept in a `folder`, those of each run in one
    of its own.
    """

    def __init__(
        self,
        target: RetrieveTarget,
        *,
        host: str = "",
        port: int = 0,
        folder: Path | None = None,
        durable: bool = True,
        notify: Observer | None = None,
    ) -> None:
        self.target = target
        self.measurement: Measurement | None = None
        """That of the run under way."""
        self.drive: Drive[Study] | None = None
        self.peer: dict[str, Any] = {}
        """What is known of the PACS."""
        self._address = host, port
        self._folder = folder
        self._durable = durable
        self._notify = notify
        self._movers: list[Mover] = []
        self._runs = 0
        self._stops = 0
        self._abort: Callable[[str], None] | None = None

    async def run(self, load: Load, studies: Iterable[Study], max_pdu_length: int) -> dict[str, Any]:
        """One run over these studies: what was measured, as a report has it; `max_pdu_length` is announced.

        Raises ListenFailed, DirectoryUnusable, AssociationError if the PACS could not be reached at all.
        """
        target = self.target
        target = target.replace(limits=target.limits.replace(max_pdu_length=max_pdu_length))
        self._runs += 1
        echo_s = await self._echoed()
        breakdown, keep = Breakdown(), self._folder is not None
        with ExitStack() as opened:
            storage = opened.enter_context(self._storage(opened))
            async with receiver(
                target.ae_title, *self._address, storage, target.limits, self._notify, target.listener_tls
            ) as receiving:
                self._abort = receiving.abort
                began = time.monotonic()
                measurement = self.measurement = Measurement(began, load)

                def mover() -> Mover:
                    made = Mover(target, receiving, measurement, breakdown, echo_s=echo_s, keep=keep)
                    self._movers.append(made)
                    return made

                self.drive = Drive(load, iter(studies), mover, partial(measurement.operation, "move"))
                ending: asyncio.TimerHandle | None = None
                if load.duration_s is not None and load.rate_per_s is None:
                    ending = asyncio.get_running_loop().call_later(load.duration_s, self._over)
                try:
                    await self.drive.run()
                finally:
                    if ending is not None:
                        ending.cancel()
                    self._abort, self.drive = None, None
                    self.peer |= next((each.answer for each in self._movers if each.answer), {})
                    self._movers.clear()
        return {
            **measurement.finished(),
            "echo_ms": round(echo_s * 1e3, 4),
            "stalls_s": {stall.value: round(seconds, 6) for stall, seconds in breakdown.stalls().items()},
            "pacs_thinks_s": {name: round(seconds, 6) for name, seconds in breakdown.thinking().items()},
            "received_bytes": receiving.received,
            "unclaimed_objects": receiving.unclaimed,
            "loop_busy_s": round(receiving.busy_s, 6),
        }

    def _storage(self, opened: ExitStack) -> StorageTarget:
        """Where the objects of this run go."""
        if self._folder is None:
            scratch = Path(opened.enter_context(TemporaryDirectory(prefix="fastmove-bench-")))
            return StorageTarget(scratch, WriteOptions(durable=False, keep=False))
        folder = self._folder / f"{self._runs:03}"
        folder.mkdir(parents=True, exist_ok=True)
        return StorageTarget(folder, WriteOptions(durable=self._durable))

    async def _echoed(self) -> float:
        """The shortest of a few C-ECHOs, in seconds; 0.0 if the PACS takes none."""
        try:
            return await shortest_echo(self.target.peer, self.target.ae_title, self.target.limits)
        except (NoAcceptedContext, DimseError):
            return 0.0

    def _over(self) -> None:
        """The time is over: what is under way is not measured any more, and the PACS need not go on with it."""
        now = time.monotonic()
        for mover in self._movers:
            mover.account(now)
            mover.cancel()

    def stop(self) -> bool:
        """Ask for nothing more, and C-CANCEL what is under way, True if one was sent; a second call aborts."""
        self._stops += 1
        if self.drive is not None:
            self.drive.stop()
        if self._stops == 1:
            return bool(sum([mover.cancel() for mover in self._movers]))
        for mover in self._movers:
            mover.stop()
        if self._abort is not None:
            self._abort("stopped")
        return False

    @property
    def stopped(self) -> bool:
        """True if `stop` was called."""
        return self._stops > 0
