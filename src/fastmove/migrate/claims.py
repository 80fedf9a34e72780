"""The studies that this host has taken on: a source of units for a retrieve, and what is held of them already."""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Collection
from typing import Final

from fastmove.errors import LedgerError
from fastmove.ledger.model import Batch, Claimed
from fastmove.ledger.store import Ledger
from fastmove.migrate.retry import failed_over
from fastmove.services.selection.selection import Wanted

LEASE_S: Final = 40.0
"""A host that has not been heard of for so long has lost what it had taken on."""

LOOK_S: Final = 5.0
"""How often it is looked whether there is something to be done, at least."""

LATELY: Final = 4096
"""Studies that are over, of which something may still come."""


class Claims:
    """Takes on studies of a batch for an owner, no more than `ahead()` at once; called, it gives them one by one.

    It ends when nothing of the batch is left to be done, or after `drain`.  `uid in claims` is true for an instance
    that is recorded of a study in hand.  `now` is the time in seconds since 1970.
    """

    def __init__(
        self, ledger: Ledger, batch: Batch, owner: str, ahead: Callable[[], int], now: Callable[[], float]
    ) -> None:
        self.in_hand: dict[str, Claimed] = {}
        """By Study Instance UID."""
        self.ended = False
        """Nothing of the batch is left to be done."""
        self.error: LedgerError | None = None
        """Why the ledger could not be asked for more; it is asked again."""
        self._ledger = ledger
        self._batch = batch
        self._owner = owner
        self._ahead = ahead
        self._now = now
        self._new: list[Claimed] = []
        self._moved: set[str] = set()
        self._held: dict[str, frozenset[str]] = {}
        self._all_held: set[str] = set()
        self._lately: OrderedDict[str, Claimed] = OrderedDict()
        self._open = True
        self._draining = False
        self._changed = asyncio.Event()

    def __contains__(self, sop_instance_uid: object) -> bool:
        return sop_instance_uid in self._all_held

    async def __call__(self) -> AsyncGenerator[Wanted, None]:
        """Studies as they may be begun; a ledger that cannot be asked is asked again."""
        while not self._draining or self.in_hand:
            self._changed.clear()
            try:
                taken = await self._taken_on()
                self.ended = not taken and not await self._wait()
                self.error = None
            except LedgerError as error:
                self.error = error
                await self._pause(LOOK_S)
                continue
            for each in taken:
                self._moved.add(each.job.study_instance_uid)
                failures = failed_over(each.reason_class, each.attempts)
                yield Wanted(each.job.study_instance_uid, patient_id=each.job.patient_id, failures=failures)
            if self.ended:
                return

    @property
    def _room(self) -> int:
        """How many more may be taken on now."""
        return self._ahead() - len(self.in_hand) if self._open and not self._draining else 0

    async def _taken_on(self) -> list[Claimed]:
        if (room := self._room) > 0:
            await self._claim(room)
        new, self._new = self._new, []
        try:
            for each in new:
                if each.stored:
                    await self.look(each.job.study_instance_uid)
        except LedgerError:
            for each in new:  # nobody is told of them
                self._drop(each.job.study_instance_uid)
                with contextlib.suppress(LedgerError):  # then they are others' when the lease is over
                    await self._ledger.release(each, self._now())
            raise
        return new

    async def _claim(self, room: int) -> list[Claimed]:
        """What is claimed is taken, whether an error comes after it or not; LedgerError."""
        found = await self._ledger.claim(self._batch.id, self._owner, room, LEASE_S, self._now())
        for claimed in found:
            self._take(claimed)
        return found

    def _take(self, claimed: Claimed) -> None:
        """It is in hand: from now on it is moved, or given back; one that was lost while it was moved goes on."""
        if claimed.job.study_instance_uid not in self._moved:
            self._all_held -= self._held.pop(claimed.job.study_instance_uid, frozenset())  # by an older claim
            self._new.append(claimed)
        self.in_hand[claimed.job.study_instance_uid] = claimed

    def held(self, study: str) -> frozenset[str]:
        """What is recorded of a study in hand, by SOP Instance UID, as far as it was looked at."""
        return self._held.get(study, frozenset())

    async def look(self, study: str) -> None:
        """See what is recorded of a study in hand; LedgerError."""
        claimed = self.in_hand.get(study)
        if claimed is not None:
            held = frozenset(await self._ledger.held(claimed.id))
            if self.in_hand.get(study) is not claimed:  # others have it by now
                return
            self._all_held -= self._held.get(study, frozenset())
            self._held[study] = held
            self._all_held |= held

    async def _wait(self) -> bool:
        """Until there may be something to be done; False if nothing is left."""
        if self.in_hand and self._room <= 0 and self.error is None:  # whatever is due may not be begun now
            await self._pause(LOOK_S)
            return True
        due = await self._ledger.next_due(self._batch.id)
        if due is None and not self.in_hand and not await self._ledger.unfinished(self._batch.id):
            return False
        # What is due and may not be begun now is looked at again once something has changed.
        await self._pause(LOOK_S if due is None or self._room <= 0 else max(0.0, min(due - self._now(), LOOK_S)))
        return True

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def hold(self, closed: bool) -> None:
        """Take on nothing more while it is closed."""
        if self._open == closed:
            self._open = not closed
            self._changed.set()

    def drain(self) -> None:
        """Take on nothing more at all."""
        self._draining = True
        self._changed.set()

    def claimed(self, study: str) -> Claimed | None:
        """A study in hand, or one that was until lately."""
        return self.in_hand.get(study) or self._lately.get(study)

    def moved(self, study: str) -> None:
        """What was given of it has been moved, as far as it could be."""
        self._moved.discard(study)

    def over(self, claimed: Claimed) -> None:
        """It is not in hand any more by this claim; what still comes of it is its all the same."""
        study = claimed.job.study_instance_uid
        if (claim := self.in_hand.get(study)) is None or claim.fence != claimed.fence:
            return
        self._drop(study)
        self._lately[study] = claimed
        if len(self._lately) > LATELY:
            self._lately.popitem(last=False)
        self._changed.set()

    def _drop(self, study: str) -> Claimed | None:
        self._all_held -= self._held.pop(study, frozenset())
        return self.in_hand.pop(study, None)

    def lost(self, void: Collection[tuple[int, int]]) -> list[str]:
        """Claims by these ids and fences are not ours any more: which studies are not in hand any more.

        One that we have claimed again meanwhile is, by another fence.
        """
        lost = [claimed for claimed in self.in_hand.values() if (claimed.id, claimed.fence) in void]
        for claimed in lost:
            self.over(claimed)
            del self._lately[claimed.job.study_instance_uid]
        return [claimed.job.study_instance_uid for claimed in lost]

    async def renew(self) -> None:
        """Say that we are still at what is in hand, and take away what others, or we, have not been heard of for."""
        if self.in_hand:
            ours = [claimed.id for claimed in self.in_hand.values()]
            await self._ledger.renew(self._owner, LEASE_S, self._now(), only=ours)
        await self._ledger.recover(self._now(), batch_id=self._batch.id)

    async def give_back(self, studies: Collection[str]) -> None:
        """Leave studies in hand to others, that were not begun; LedgerError: they get them when the lease ends."""
        given = [claimed for study in studies if (claimed := self.in_hand.get(study)) is not None]
        for claimed in given:
            self.moved(claimed.job.study_instance_uid)
            self.over(claimed)
        for claimed in given:
            await self._ledger.release(claimed, self._now())

    async def release(self) -> None:
        """Give back what is in hand, as if it had not been taken on: nothing is moved any more.  LedgerError."""
        self._moved.clear()
        self._new.clear()
        for claimed in list(self.in_hand.values()):
            await self._ledger.release(claimed, self._now())
            self.over(claimed)


MakeClaims = Callable[[Ledger, Batch, str, Callable[[], int], Callable[[], float]], Claims]
"""Makes claims for an engine: of what is in the ledger, or of a queue of it."""
