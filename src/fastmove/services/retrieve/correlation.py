"""Which move an object belongs to, where several run at once on one listener (PS3.7 9.1.1.1).

By its UID, if it is on a list, else by Move Originator AE Title and Message ID, else by there being one move only that
it can belong to.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Container
from concurrent.futures import Future

from fastmove.notices import AssociationClosed, AssociationOpened, InstanceRefused, InstanceStored, Notice, Observer
from fastmove.services.receipts import Receipts
from fastmove.storage.options import Placing

Arriving = Callable[[Container[int]], int]

UNSOLICITED = "store.unsolicited"
"""The log event of an object of a study that nobody has asked for."""

_REMEMBERED = 256
"""Moves that are over, whose late objects are not taken for those of another."""


class Correlation:
    """Passes what the listener tells to the receipts of the move that it is about.

    `originator` is our AE title; `on_stored` is told of every object first, whosever it is, and of whether it is ours;
    `notify` of everything else.
    """

    def __init__(
        self,
        originator: str,
        notify: Observer | None = None,
        on_stored: Callable[[InstanceStored, bool], Future[None] | None] | None = None,
    ) -> None:
        self.arriving: Arriving | None = None
        """`Acceptor.arriving` of the listener."""
        self.originators_given = False
        """True once an object has said which move it belongs to: moves without a list can be told apart."""
        self._originator = originator
        self._notify = notify
        self._on_stored = on_stored
        self._moves: dict[int, Receipts] = {}
        self._by_uid: dict[str, Receipts] = {}
        self._open: set[int] = set()
        self._owners: dict[int, Receipts] = {}
        self._ended: deque[int] = deque(maxlen=_REMEMBERED)

    def begin(self, message_id: int, receipts: Receipts) -> None:
        """A move with this Message ID begins; its receipts know what it is to bring, if anybody does."""
        receipts.originator = self._originator
        receipts.arriving = self.arriving
        receipts.associations = {number for number in self._open if number not in self._owners}
        self._moves[message_id] = receipts
        self._by_uid.update(dict.fromkeys(receipts.expected, receipts))

    def end(self, message_id: int) -> None:
        """That move is over, and nothing more is counted for it."""
        receipts = self._moves.pop(message_id, None)
        if receipts is None:
            return
        self._ended.append(message_id)
        for uid in receipts.expected:
            if self._by_uid.get(uid) is receipts:
                del self._by_uid[uid]
        for number in [number for number, owner in self._owners.items() if owner is receipts]:
            del self._owners[number]  # it may be used again for another move

    def lists(self, sop_instance_uid: str) -> bool:
        """True for an object that is on the list of a move under way."""
        return sop_instance_uid in self._by_uid

    def __call__(self, notice: Notice) -> None:
        """An observer of the listener."""
        kind = type(notice)
        if kind is InstanceRefused:
            receipts = self._receipts_of(notice)  # type: ignore[arg-type]
            if receipts is not None and notice.event == UNSOLICITED:
                _stray(receipts)
            elif receipts is not None:
                self._own(notice.association, receipts)  # type: ignore[union-attr]
                receipts(notice)
        elif kind is AssociationOpened:
            self._open.add(notice.association)  # type: ignore[union-attr]
            self._tell_all(notice)
        elif kind is AssociationClosed:
            self._open.discard(notice.association)  # type: ignore[union-attr]
            self._owners.pop(notice.association, None)  # type: ignore[union-attr]
            self._tell_all(notice)
        if self._notify is not None:
            self._notify(notice)

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in place; what comes back is what `on_stored` gave back."""
        receipts = self._receipts_of(notice)
        if receipts is not None and _is_stray(notice, receipts):
            _stray(receipts)
            receipts = None
        busy = self._on_stored(notice, receipts is not None) if self._on_stored is not None else None
        if receipts is not None:
            self._own(notice.association, receipts)
            receipts.on_stored(notice)
        return busy

    def _tell_all(self, notice: Notice) -> None:
        for receipts in self._moves.values():
            receipts(notice)

    def _receipts_of(self, notice: InstanceStored | InstanceRefused) -> Receipts | None:
        title, message_id = notice.move_originator_ae_title, notice.move_originator_message_id
        ours = title == self._originator
        said = self._moves.get(message_id) if ours else None
        listed = self._by_uid.get(notice.sop_instance_uid)
        if said is not None and (listed is None or listed is said):
            self.originators_given = True
            return said
        if listed is not None and said is not None:  # that move brings it, and counts it
            _stray(said)
        if listed is not None or (title and not ours) or (ours and message_id in self._ended):
            return listed
        owner = self._owners.get(notice.association)
        if owner is not None:
            return owner
        # Nothing tells whose it is: that of the one move that can take it.
        takers = self._moves.values() if len(self._moves) == 1 else [r for r in self._moves.values() if not r.expected]
        return next(iter(takers)) if len(takers) == 1 else None

    def _own(self, association: int, receipts: Receipts) -> None:
        """What comes over this association belongs to that move, until it shows otherwise."""
        before = self._owners.get(association)
        if before is receipts:
            return
        self._owners[association] = receipts
        receipts.associations.add(association)
        for other in self._moves.values():
            if other is not receipts and association in other.associations:
                other.without(association)


def _stray(receipts: Receipts) -> None:
    """A move has brought something that is none of what it is to bring."""
    receipts.strays += 1
    receipts.wake()


def _is_stray(notice: InstanceStored, receipts: Receipts) -> bool:
    """True if an object is of another study than what is moved, whatever its sender says of it (M25)."""
    if notice.placing == Placing.QUARANTINED.value:
        return True
    listed = not receipts.study or notice.sop_instance_uid in receipts.expected
    return not listed and notice.study_instance_uid not in ("", receipts.study)
