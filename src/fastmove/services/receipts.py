"""Receipts of a move: what our own listener has got of it (PS3.4 C.4.2)."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable, Set

from fastmove.notices import (
    AssociationClosed,
    AssociationOpened,
    InstanceRefused,
    InstanceStored,
    Notice,
    Observer,
)
from fastmove.storage.options import Placing

DIFFERS = frozenset((Placing.BESIDE.value, Placing.REPLACED.value, Placing.SKIPPED.value))

_OUR_RULES = frozenset(
    ("store.uid_empty", "store.uid_length", "store.uid_chars", "store.duplicate_differs")
    + ("store.rule_dataset", "store.rule_unmapped", "store.rule_value")
)
"""Refusals by what we take for a name, and by what the user said of duplicates and of attributes to change."""


def _counted_as(refusal: str) -> str:
    """The field of `Evidence` that counts this log event; what is neither the disk's fault nor ours is the object's."""
    if refusal.startswith(("fs.", "internal")):
        return "storage_failures"
    if refusal == "store.too_big":
        return "oversized"
    return "policy_refusals" if refusal in _OUR_RULES else "rejected"


class Receipts:
    """What our own listener has got: an observer of its notices."""

    def __init__(
        self, notify: Observer | None = None, on_stored: Callable[[InstanceStored], None] | None = None
    ) -> None:
        self._notify = notify
        self._tell = on_stored
        self._waiter: asyncio.Future[None] | None = None
        self.stored: set[str] = set()
        self.objects = 0
        self.nbytes = 0
        self.differing = 0
        self._refused: dict[str, str] = {}
        self.associations: set[int] = set()
        """Storage associations that may still bring something, by their number."""
        self.first_at = 0.0
        self.last_at = 0.0
        self.closed_at = 0.0
        self.arriving: Callable[[Set[int]], int] | None = None
        """What changes while objects are on their way on some associations (`Acceptor.arriving`)."""
        self._arriving = 0
        self._bytes_at = 0.0
        self.originator = ""
        """AE title that asked for what is counted here; an object that names another one is somebody else's..."""
        self.expected: Set[str] = frozenset()
        """... unless it is one of these: not every PACS names the right one."""
        self.study = ""
        """Study Instance UID of what is moved..."""
        self.strays = 0
        """... and how many objects this move brought that are of another one, or on the list of another move."""

    def __call__(self, notice: Notice) -> None:
        """Take note, and pass the notice on."""
        if isinstance(notice, InstanceRefused):
            if self._counts(notice):
                self._refused[notice.sop_instance_uid] = notice.event
        elif isinstance(notice, AssociationOpened):
            self.associations.add(notice.association)
        elif isinstance(notice, AssociationClosed):
            self.without(notice.association)
        self.wake()
        if self._notify is not None:
            self._notify(notice)

    def without(self, association: int) -> None:
        """Nothing comes over this association any more."""
        if association in self.associations:
            self.associations.discard(association)
            self.closed_at = time.monotonic()
            self.wake()

    def _counts(self, notice: InstanceStored | InstanceRefused) -> bool:
        ours = notice.move_originator_ae_title in ("", self.originator)
        return ours or notice.sop_instance_uid in self.expected

    @property
    def pace_s(self) -> float | None:
        """From one object to the next, on average; None while there is no next one."""
        return (self.last_at - self.first_at) / (self.objects - 1) if self.objects > 1 else None

    @property
    def refused(self) -> int:
        """Objects that were refused and not put right by coming again, or are not what is moved."""
        return len(self._refused) + self.strays

    @property
    def refusals(self) -> Counter[str]:
        """How many objects were refused and not put right by coming again, by the field of `Evidence`."""
        return Counter(map(_counted_as, self._refused.values()))

    def next(self, originator: str) -> Receipts:
        """Those of the next move on the same listener; what is still open stays open."""
        following = Receipts(self._notify, self._tell)
        following.originator = originator
        following.associations = self.associations
        following.arriving = self.arriving
        return following

    @property
    def alive_at(self) -> float:
        """When the last object came, or was last seen to grow: to be asked again before it counts as silent."""
        arriving = 0 if self.arriving is None else self.arriving(self.associations)
        if arriving != self._arriving:
            self._arriving = arriving
            self._bytes_at = time.monotonic()
        return max(self.last_at, self._bytes_at)

    def wake(self) -> None:
        """Something has changed for whoever waits for news."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def on_stored(self, notice: InstanceStored) -> None:
        """Take note of an object."""
        if self._counts(notice):
            self.last_at = time.monotonic()
            if not self.stored:
                self.first_at = self.last_at
            self.stored.add(notice.sop_instance_uid)
            self._refused.pop(notice.sop_instance_uid, None)
            self.objects += 1
            self.nbytes += notice.nbytes
            self.differing += notice.placing in DIFFERS
            self.wake()
        if self._tell is not None:
            self._tell(notice)

    async def news(self, timeout_s: float) -> None:
        """Wait for the next notice, at most so long."""
        self._waiter = asyncio.get_running_loop().create_future()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._waiter
        self._waiter = None
