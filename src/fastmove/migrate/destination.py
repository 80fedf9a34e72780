"""Where the objects of a migration go: what the engine asks of files, an object store, another PACS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, Protocol, Self

from fastmove.ledger.model import Instance
from fastmove.notices import InstanceStored
from fastmove.storage.entries import Entry
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness
from fastmove.values import Value

Write = Callable[[Entry], None]
"""Told of each object that is where it is to be, by some thread; its path is its place there."""


class Delivery(Value):
    """Whether a destination has a study, as far as it says."""

    lacking: str = ""
    """Why that is not proved, as a sentence with figures; empty if it is."""

    uids: frozenset[str] = frozenset()
    """SOP Instance UIDs of those that it does not have, or does not answer for: they have to come once more."""


SHOWN: Final = 2
"""Objects that are named in a sentence."""


def in_words(why: Mapping[str, str], what: str) -> str:
    """How many objects `are not there`, and why: SOP Instance UID → reason; empty without any."""
    if not why:
        return ""
    some = (f"{uid} ({reason})" for uid, reason in list(why.items())[:SHOWN])
    return f"{len(why):,} objects {what}, such as {' and '.join(some)}"


class Destination(Protocol):
    """A context manager in the loop; what it cannot be without is looked for when it is made."""

    @property
    def target(self) -> StorageTarget | None:
        """That our listener stores into: the place itself, or a spool on the way there; None: nothing comes to us."""

    @property
    def ready(self) -> Sequence[Readiness]:
        """What may stand in the way of more."""

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in `target`; if a future comes back, there should be no more before it is done."""

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Wait until all of a study is where it is to be, or known not to be: why some is not, empty if all is."""

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """A study is whole, and this is all of it: is it proved that the destination has it?"""

    async def __aenter__(self) -> Self:
        """It is open."""

    async def __aexit__(self, *_: object) -> None:
        """Wait until all that is due is done."""
