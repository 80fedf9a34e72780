"""An association with a PACS over which lists are asked for and moves are made, one after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import NamedTuple

from fastmove.dimse.move import Evidence, Loss
from fastmove.errors import AssociationError, ConfigurationError, ProtocolError, RemoteProtocolError
from fastmove.net.requestor import AssociationHandle, MessageIDs, open_association
from fastmove.notices import Observer
from fastmove.services.move_scu import Move, move_contexts
from fastmove.services.receipts import Receipts
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.retrieve.correlation import Correlation
from fastmove.services.retrieve.listing import NOTHING, Lister, Listing
from fastmove.services.retrieve.part import Part
from fastmove.services.retrieve.unit import Unit
from fastmove.services.selection.selection import Wanted
from fastmove.ul.negotiation import propose

Lost = AssociationError | RemoteProtocolError | ConfigurationError
"""What ends a move without a final response."""


class Moved(NamedTuple):
    """How a move went, once nothing more of it is to come."""

    evidence: Evidence
    error: Lost | None
    first_object_s: float | None
    """From the C-MOVE-RQ to the first stored object."""

    started: float
    """When the C-MOVE-RQ went out, by the monotonic clock."""


class Ending:
    """The end of a move: what it was, and what of it may still come."""

    def __init__(self, move: Move, correlation: Correlation | None, error: Lost | None, started: float) -> None:
        self._move = move
        self._correlation = correlation
        self._error = error
        self._started = started

    async def open(self) -> bool:
        """Wait while anything is open that may bring more; True if more is due all the same: then it may come late."""
        return not await self._move.drain(while_open=True)

    async def last(self) -> Moved:
        """Wait until nothing more is to come."""
        move = self._move
        await move.drain()
        if self._correlation is not None and move.operation is not None:
            self._correlation.end(move.operation.message_id)
        receipts = move.receipts
        first = receipts.first_at - self._started if receipts is not None and receipts.objects else None
        return Moved(move.evidence(), self._error, first, self._started)

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._move.stop()


class Mover:
    """One association and what is under way on it; `correlation` is that of our listener, None for a third party."""

    def __init__(
        self,
        config: RetrieveConfig,
        correlation: Correlation | None,
        lister: Lister,
        message_ids: MessageIDs,
        notify: Observer | None,
    ) -> None:
        self._config = config
        self._correlation = correlation
        self._lister = lister
        self._message_ids = message_ids
        self._notify = notify
        self._association: AssociationHandle | None = None
        self._move: Move | None = None
        self.ramped = False
        """Something has come by a move of this association."""
        self.closing = False
        """It takes up nothing more."""
        self.limit = 0
        """How many moves there might be when the one under way began."""
        self._pace_s: float | None = None
        self._moving_since = 0.0

    async def open(self) -> None:
        """Associate; AssociationError."""
        config = self._config
        contexts = move_contexts(config.model, with_find=config.prove)
        request = propose(config.ae_title, config.peer.ae_title, contexts, max_pdu_length=config.limits.max_pdu_length)
        self._association = await open_association(
            config.peer, request, config.limits, self._notify, message_ids=self._message_ids
        )

    @property
    def opened(self) -> bool:
        """True from the association's beginning to its end."""
        return self._association is not None

    @property
    def host(self) -> str:
        """The address at which the PACS answers; empty without an association."""
        return "" if self._association is None else self._association.connection.host

    @property
    def usable(self) -> bool:
        """True if another operation may begin."""
        return self._association is not None and self._association.idle

    async def list(self, wanted: Wanted, *, doubted: bool = False) -> Listing:
        """What is wanted, by series, as far as the PACS can tell, as `Lister.list`; AssociationError, ProtocolError."""
        assert self._association is not None
        if not self._config.prove:
            return NOTHING
        return await self._lister.list(self._association, wanted, doubted=doubted)

    async def move(self, part: Part, is_last: Callable[[], bool]) -> Ending:
        """One C-MOVE to its final response; then the association is released if `is_last` and all is there."""
        config, association = self._config, self._association
        assert association is not None
        receipts = None if self._correlation is None else Receipts()
        if receipts is not None:
            receipts.expected = part.uids or frozenset()
            receipts.study = part.unit.wanted.study_instance_uid
        move = self._move = Move(receipts, config.limits, self._notify, on_started=self._started)
        move.expected = part.uids
        error: Lost | None = None
        started = self._moving_since = time.monotonic()
        try:
            destination = config.move_destination or config.ae_title
            await move.ask(association, config.model, part.level, part.keys, destination)
            asked_again = receipts is not None and (part.asks_more(move.evidence()) or part.unit.outgrown)
            if is_last() and not asked_again:
                await association.release(move.update)
        except (RemoteProtocolError, ConfigurationError) as lost:  # the latter of keys that cannot be asked for
            error, move.loss = lost, Loss.PROTOCOL
        except AssociationError as lost:
            # With a final response in hand, a release that goes wrong changes nothing (T06).
            error = lost
        if error is not None:
            await self._cut()
        return Ending(move, self._correlation, error, started)

    def ended(self) -> None:
        """The move is over, or no longer waited for by this association."""
        receipts = None if self._move is None else self._move.receipts
        self._move = None
        if receipts is not None and receipts.objects:
            self.ramped = True
            self._pace_s = receipts.pace_s or self._pace_s

    def _started(self, message_id: int) -> None:
        if self._correlation is not None and self._move is not None and self._move.receipts is not None:
            self._correlation.begin(message_id, self._move.receipts)

    @property
    def waiting_s(self) -> float:
        """How long the move under way has been without its first object; 0 if it has it."""
        receipts = None if self._move is None else self._move.receipts
        return 0.0 if receipts is None or receipts.objects else time.monotonic() - self._moving_since

    @property
    def unwritten(self) -> int:
        """Objects of the move under way that came and could not be written."""
        receipts = None if self._move is None else self._move.receipts
        return receipts.refusals["storage_failures"] if receipts is not None and receipts.refused else 0

    @property
    def bringing(self) -> bool:
        """True if the move under way has brought something; between two moves, if one before has."""
        receipts = None if self._move is None else self._move.receipts
        return self.ramped if receipts is None else receipts.objects > 0

    @property
    def pace_s(self) -> float | None:
        """From one object to the next, of the move under way or of the last one."""
        receipts = None if self._move is None else self._move.receipts
        return (None if receipts is None else receipts.pace_s) or self._pace_s

    @property
    def moving(self) -> bool:
        """True while a move is under way."""
        return self._move is not None

    def cancel(self) -> bool:
        """C-CANCEL of the move under way, True if it was sent."""
        return self._move is not None and self._move.cancel()

    def stop(self) -> None:
        """Abort: what is under way ends now, and is not waited for."""
        if self._move is not None:
            self._move.loss = Loss.STOPPED
            self._move.stop()
        if self._association is not None:
            self._association.abort("stopped")

    async def close(self) -> None:
        """Release the association, or what is left of it: a busy PACS may take its time."""
        self.closing = True
        association, self._association = self._association, None
        if association is None:
            return
        try:
            await association.release()
        except AssociationError:
            pass  # all that was to come has come
        finally:
            association.connection.cut()
            await association.close()

    async def _cut(self) -> None:
        association, self._association = self._association, None
        if association is not None:
            association.abort()
            association.connection.cut()
            await association.close()


async def list_again(unit: Unit, mover: Mover | None, another: Callable[[], Mover]) -> None:
    """Ask for the list of a unit once more, over an association of its own where the verdict depends on it."""
    listing = None
    with contextlib.suppress(AssociationError, ProtocolError):  # then it is asked for again without one
        if mover is not None and mover.usable:
            listing = await mover.list(unit.wanted, doubted=unit.doubted)
        elif unit.in_doubt:
            own = another()
            try:
                await own.open()
                listing = await own.list(unit.wanted, doubted=True)
            finally:
                await own.close()
    if listing is not None or unit.in_doubt:
        unit.relist(listing or NOTHING)
