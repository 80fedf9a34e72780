"""Where the objects of a migration go: what the engine asks of files, an object store, another PACS."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from enum import StrEnum
from typing import Final, Protocol, Self

from fastmove.ledger.model import Instance, JobState
from fastmove.notices import InstanceStored
from fastmove.storage.entries import Entry
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness
from fastmove.values import Value

Write = Callable[[Entry], None]
"""Told of each object that is where it is to be, by some thread; its path is its place there."""


class Proved(StrEnum):
    """What proves that a destination has a study; the ledger has the value, PROOFS what it means."""

    FILE = "file"
    CHECKSUM = "checksum"
    READ_BACK = "read-back"
    COMMITTED = "committed"
    LISTED = "listed"
    TAKEN = "taken"
    BOTH_LISTS = "both-lists"


PROOFS: Final[Mapping[str, str]] = {
    Proved.FILE: "its files were written whole, and hashed",
    Proved.CHECKSUM: "the object store gave the checksum of what was sent, for each object",
    Proved.READ_BACK: "each object was read back from the object store, and is what was sent",
    Proved.COMMITTED: "the destination took storage commitment for each object: by UID, not by content",
    Proved.LISTED: "each object is on the list of the destination: by UID, not by content",
    Proved.TAKEN: "the destination answered each object with Success, and was not asked again",
    Proved.BOTH_LISTS: "all that the source lists, the destination lists: by UID, not by content",
}
"""What each proof says, in words."""


class Delivery(Value):
    """Whether a destination has a study, as far as it says."""

    lacking: str = ""
    """Why that is not proved, as a sentence with figures; empty if it is."""

    uids: frozenset[str] = frozenset()
    """SOP Instance UIDs of those that it does not have, or does not answer for: they have to come once more."""

    proof: str = ""
    """What proves it: one of PROOFS."""

    remark: str = ""
    """What people should know of it all the same, such as warnings."""


SHOWN: Final = 2
"""Objects that are named in a sentence."""


def in_words(why: Mapping[str, str], what: str) -> str:
    """How many objects `are not there`, and why: SOP Instance UID → reason; empty without any."""
    if not why:
        return ""
    some = (f"{uid} ({reason})" for uid, reason in list(why.items())[:SHOWN])
    return f"{len(why):,} objects {what}, such as {' and '.join(some)}"


class Standing(Value):
    """A study in the ledger: its state (None: there is none of it), and what is recorded of it, by SOP Instance UID."""

    state: JobState | None = None
    recorded: frozenset[str] = frozenset()


class Destination(Protocol):
    """A context manager in the loop; what it cannot be without is looked for when it is made."""

    @property
    def target(self) -> StorageTarget | None:
        """That our listener stores into: the place itself, or a spool on the way there; None: nothing comes to us."""

    @property
    def ready(self) -> Sequence[Readiness]:
        """What may stand in the way of more."""

    @property
    def working(self) -> Sequence[asyncio.Task[None]]:
        """What goes on as long as it is open: the end of one of these is the end of the run."""

    async def resume(self, standing: Callable[[str], Awaitable[Standing]]) -> str:
        """Before anything is moved: see what an earlier run has left; what people should know of it, as a sentence."""

    async def begin(self, study: str, recorded: Collection[str]) -> bool:
        """An attempt begins: bring to an end what is here of a study, and not recorded; True if some is now."""

    async def elsewhere(self, instances: Sequence[Instance]) -> frozenset[str]:
        """SOP Instance UIDs of those that are recorded, and are not in this destination: they are to come once more."""

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in `target`; if a future comes back, there should be no more before it is done."""

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Wait until all of a study is where it is to be, or known not to be: why some is not, empty if all is."""

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """A study is whole, and this is all of it: is it proved that the destination has it?"""

    async def discard(self, study: str) -> None:
        """A study is not tried any more here: nothing that is kept of it on the way is needed."""

    def stop(self) -> None:
        """Wait no longer for what only others can bring about; a second call: for nothing."""

    async def __aenter__(self) -> Self:
        """It is open."""

    async def __aexit__(self, *_: object) -> None:
        """Wait until all that is due is done."""


class Direct:
    """What a destination has not to do that keeps nothing on the way; derive from it."""

    working: Sequence[asyncio.Task[None]] = ()

    async def resume(self, standing: Callable[[str], Awaitable[Standing]]) -> str:
        """Nothing is left."""
        return ""

    async def begin(self, study: str, recorded: Collection[str]) -> bool:
        """Nothing is here."""
        return False

    async def elsewhere(self, instances: Sequence[Instance]) -> frozenset[str]:
        """All hosts have the same one."""
        return frozenset()

    async def discard(self, study: str) -> None:
        """Nothing is kept."""

    def stop(self) -> None:
        """Nothing is waited for."""
