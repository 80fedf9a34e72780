"""C-MOVEs as a load: studies are moved to our own listener, which measures how they come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastmove.bench.load import Load, Performed
from fastmove.bench.measurement import Measurement
from fastmove.bench.runner import BACK_OFF_S, UNANSWERED, Operator, Runner, Setting, Target, ending
from fastmove.bench.stalls import Breakdown, MoveStalls
from fastmove.credentials import TlsSettings
from fastmove.errors import AssociationError, ConfigurationError, RemoteProtocolError
from fastmove.notices import InstanceStored, Observer
from fastmove.services.arrivals import Arrival
from fastmove.services.move_scu import Move, move_contexts
from fastmove.services.receiver import Receiver, receiver
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.values import Value


class Study(Value):
    """What one C-MOVE asks for."""

    keys: tuple[str, ...]
    level: str = "STUDY"
    kind: str = ""
    """Its modalities, where they are known."""

    instances: int | None = None
    """As the PACS counts them."""


def _detail(error: Exception | None, unstored: int, short: int, comment: str) -> str:
    if error is not None:
        return str(error)
    if unstored:  # whatever the PACS says of it, it was not its fault
        return f"{unstored} objects could not be stored on this host: its disk is full, or failed"
    return f"{short} objects were counted as sent, and did not come" if short else comment


class Mover(Operator[Study]):
    """A worker that moves one study after the other over its own association."""

    def __init__(
        self,
        target: Target,
        receiver: Receiver,
        measurement: Measurement,
        breakdown: Breakdown,
        *,
        echo_s: float,
        keep: bool,
    ) -> None:
        super().__init__(target, move_contexts(target.model), measurement, receiver.message_ids)
        self._receiver = receiver
        self._breakdown = breakdown
        self._echo_s = echo_s
        self._keep = keep
        self._move: Move | None = None
        self._stalls: MoveStalls | None = None
        self._asked_at = 0.0

    async def perform(self, item: Study, due_at: float) -> None:
        """One C-MOVE, to its final response and the last object."""
        target, began = self._target, time.monotonic()
        stalls = self._stalls = MoveStalls(self._echo_s, keep=self._keep)

        def came(notice: InstanceStored, arrival: Arrival) -> None:
            first, follows = stalls.empty, stalls.add(arrival)
            if self._measurement.object(arrival.ended_at, notice.nbytes):
                self._measurement.latency("store", arrival.ended_at - arrival.began_at)
                if follows:
                    self._measurement.latency("gap", arrival.gap_s)
                if first:
                    self._measurement.latency("first_object", arrival.ended_at - self._asked_at)

        move, receipts = self._receiver.move(target.limits, came)
        self._move = move
        associated_s: float | None = None
        self._asked_at = began
        error: Exception | None = None
        try:
            fresh = not self.requestor.stands
            association = await self.requestor.association()
            associated_s = self.requestor.associated_s if fresh else None
            self._asked_at = time.monotonic()
            await move.ask(association, target.model, item.level, item.keys, target.ae_title)
            responded = time.monotonic()
            if target.new_associations:
                await self.requestor.close()
        except (AssociationError, RemoteProtocolError, ConfigurationError) as failed:
            error, responded = failed, time.monotonic()
            await self.requestor.lose()
        await move.drain()
        self._receiver.end(move)
        self._move = None
        ended = max(responded, receipts.last_at)
        outcome = move.outcome
        short, unstored = 0, receipts.refusals["storage_failures"]
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
            associated_s,
            item.kind,
            _detail(error, unstored, short, "" if outcome is None else outcome.error_comment),
            unstored,
        )
        self._measurement.operation("move", performed)
        if self._measurement.counts(ended) or self._measurement.counts(due_at):
            self.account(ended)
        if status in UNANSWERED:
            await asyncio.sleep(BACK_OFF_S)

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
        super().stop()

    def over(self, now: float) -> bool:
        """The PACS need not go on with what does not count any more."""
        self.account(now)
        return self.cancel()


class RetrieveBench(Runner[Study]):
    """C-MOVEs of studies.

    Objects come to our listener on `host` and `port` and are discarded, or kept in a `folder`, those of each run in one
    of its own; no more than `max_bytes_per_s` are taken.
    """

    kind = "retrieve"
    operations = "moves"

    def __init__(
        self,
        target: Target,
        *,
        host: str = "",
        port: int = 0,
        folder: Path | None = None,
        durable: bool = True,
        listener_tls: TlsSettings | None = None,
        max_bytes_per_s: float | None = None,
        notify: Observer | None = None,
    ) -> None:
        super().__init__(target)
        self._max_bytes_per_s = max_bytes_per_s
        self._listener_tls = listener_tls
        self._address = host, port
        self._folder = folder
        self._durable = durable
        self._notify = notify
        self._runs = 0
        self._receiver: Receiver | None = None
        self._breakdown = Breakdown()

    def stalls(self) -> dict[str, float]:
        """As for all."""
        return {stall.value: seconds for stall, seconds in self._breakdown.stalls().items()}

    async def run(self, load: Load, items: Iterable[Study], setting: Setting) -> dict[str, Any]:
        """One run; raises ListenFailed and DirectoryUnusable, too."""
        target = self.target.announcing(setting.max_pdu_length)
        self._runs += 1
        echo_s = await self._echoed()
        breakdown, keep = Breakdown(), self._folder is not None
        self._breakdown = breakdown
        with ExitStack() as opened:
            storage = opened.enter_context(self._storage(opened))
            async with receiver(
                target.ae_title,
                *self._address,
                storage,
                target.limits,
                self._notify,
                self._listener_tls,
                self._max_bytes_per_s,
                frozenset((setting.transfer_syntax,)) if setting.transfer_syntax else None,
            ) as receiving:
                self._receiver = receiving

                def mover(measurement: Measurement) -> Mover:
                    return Mover(target, receiving, measurement, breakdown, echo_s=echo_s, keep=keep)

                try:
                    measurement = await self._measured(load, items, "move", mover)
                finally:
                    self._receiver = None
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

    def stop(self) -> bool:
        """As for all; a second call aborts what comes, too."""
        cancelled = super().stop()
        if self._stops > 1 and self._receiver is not None:
            self._receiver.abort("stopped")
        return cancelled
