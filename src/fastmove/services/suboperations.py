"""The sub-operations of C-MOVEs: what became of each, and the associations that they are performed over."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from fastmove.dimse.status import (
    CANCEL,
    PENDING,
    SUBOPERATIONS_COMPLETE_WITH_FAILURES,
    SUCCESS,
    UNABLE_TO_PERFORM_SUBOPERATIONS,
    StatusClass,
    describe,
)
from fastmove.errors import AssociationError, NoAcceptedContext
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import Observer
from fastmove.services.conduct import MovePlan
from fastmove.services.storage_scu import StorageSCU
from fastmove.storage.filemeta import DicomFile
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import number_contexts, propose

MAX_COUNTER: Final = 0xFFFF
"""Counters of sub-operations are US (PS3.7 E.1); beyond this they stand still."""


@dataclass(slots=True, eq=False)
class SubOperations:
    """The C-STOREs of a C-MOVE by what became of them (PS3.4 C.4.2.1.6 to C.4.2.1.9)."""

    files: Sequence[DicomFile]
    plan: MovePlan
    completed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)
    why: str = ""
    """Why one failed, if it is known."""

    unread: str = ""
    """The SOP Instance UID of the object that could not be read, and ended all."""

    @property
    def remaining(self) -> int:
        """Those that are not over."""
        return len(self.files) - self.completed - self.warning - len(self.failed_uids)

    @property
    def status(self) -> int:
        """The final status; what remains was cancelled."""
        if self.remaining:
            return CANCEL
        if not self.failed_uids and not self.warning:
            return SUCCESS
        if self.completed or self.warning:
            return SUBOPERATIONS_COMPLETE_WITH_FAILURES
        return UNABLE_TO_PERFORM_SUBOPERATIONS

    def counters(self, status: int) -> dict[str, int]:
        """As response fields, as the plan has them; what remains is told while something does (PS3.4 C.4.2.1.6)."""
        counters = {
            "number_of_completed_suboperations": min(self.completed, MAX_COUNTER),
            "number_of_failed_suboperations": min(len(self.failed_uids), MAX_COUNTER),
            "number_of_warning_suboperations": min(self.warning, MAX_COUNTER),
        }
        if status in (PENDING, CANCEL):
            counters["number_of_remaining_suboperations"] = min(self.remaining, MAX_COUNTER)
        return counters if self.plan.told is None else self.plan.told(counters)

    def foretold(self) -> SubOperations:
        """As if all had been completed."""
        return SubOperations(self.files, self.plan, completed=len(self.files))

    def fail(self, why: str) -> None:
        """Nothing becomes of those that remain."""
        self.why = why
        self.failed_uids += [file.sop_instance_uid for file in self.files[len(self.files) - self.remaining :]]

    async def perform(
        self,
        associations: StorageAssociations,
        to: PeerAddress,
        goes_on: Callable[[int], Awaitable[bool]],
        stored: Callable[[DicomFile], None],
    ) -> None:
        """One after the other; `goes_on` is asked before each, and at the end, with the number of those that are over.

        `stored` is told of those that the destination took.  AssociationError, ProtocolError, ConfigurationError,
        EOFError if the destination is lost.
        """
        plan, files = self.plan, self.files
        turn = plan.turn or contextlib.nullcontext
        kinds = dict.fromkeys((file.sop_class_uid, file.transfer_syntax_uid) for file in files)
        scu: StorageSCU | None = None
        async with contextlib.AsyncExitStack() as association:
            if plan.first_delay_s:
                await asyncio.sleep(plan.first_delay_s)
            for number, file in enumerate(files):
                if not await goes_on(number):
                    return
                if file.sop_instance_uid in plan.unreadable:
                    self.unread = file.sop_instance_uid
                    return
                if file.sop_instance_uid in plan.unsent | plan.failing:
                    async with turn():
                        unsent = file.sop_instance_uid in plan.unsent
                        why = "" if unsent else "the sub-operation failed"
                        self._record(file, StatusClass.SUCCESS if unsent else StatusClass.FAILURE, why)
                    continue
                if scu is None:
                    if plan.set_up_s:
                        await asyncio.sleep(plan.set_up_s)
                    opened = associations.to(to, kinds, keep=not plan.association_per_object)
                    scu = await association.enter_async_context(opened)
                try:
                    async with turn():
                        through = None if plan.through is None else plan.through()
                        status = await scu.store(file, plan.originator, through)
                    status_class, name = describe(status, "C-STORE")
                except (NoAcceptedContext, OSError) as error:
                    status_class, name = StatusClass.FAILURE, str(error)
                self._record(file, status_class, name)
                if status_class is not StatusClass.FAILURE:
                    stored(file)
                if plan.association_per_object:
                    scu = None
                    await association.aclose()
            await goes_on(len(files))

    def _record(self, file: DicomFile, status_class: StatusClass, name: str = "") -> None:
        if status_class is StatusClass.SUCCESS:
            self.completed += 1
            return
        self.why = name
        if status_class is StatusClass.WARNING:
            self.warning += 1
        else:
            self.failed_uids.append(file.sop_instance_uid)


Kind = tuple[str, str]
"""SOP class and transfer syntax: a file is sent as it is, or not at all."""


@dataclass(slots=True, eq=False)
class _Open:
    """An association to a move destination, what it was proposed for, and what ends it."""

    association: AssociationHandle
    scu: StorageSCU
    kinds: frozenset[Kind]
    end: contextlib.AsyncExitStack
    idle: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        """True if the destination has not ended it meanwhile."""
        return self.association.connection.mailbox.over is None


class StorageAssociations:
    """Associations to move destinations; each is kept for the next C-MOVE for a while, as PS3.4 C.4.2.2.2 allows.

    Releases that nobody waits for run as tasks, which are in `releases` while they do.
    """

    def __init__(
        self,
        ae_title: str,
        limits: Limits,
        notify: Observer | None,
        releases: set[asyncio.Task[None]],
        idle_s: float,
    ) -> None:
        self._ae_title = ae_title
        self._limits = limits
        self._notify = notify
        self._releases = releases
        self._idle_s = idle_s
        self._kept: dict[PeerAddress, _Open] = {}

    @contextlib.asynccontextmanager
    async def to(self, peer: PeerAddress, kinds: Iterable[Kind], *, keep: bool = True) -> AsyncIterator[StorageSCU]:
        """One for files of these kinds; aborted if the block raises, else kept, or released.

        Of more than 128 kinds the first are proposed.  AssociationError, ConfigurationError.
        """
        used = await self._take(peer, tuple(kinds)[:MAX_PRESENTATION_CONTEXTS])
        try:
            yield used.scu
        except BaseException as error:
            await used.end.__aexit__(type(error), error, error.__traceback__)
            raise
        if keep and self._idle_s and used.usable and peer not in self._kept:
            used.idle = asyncio.get_running_loop().call_later(self._idle_s, self._release, peer)
            self._kept[peer] = used
        else:
            await used.end.aclose()

    async def _take(self, peer: PeerAddress, kinds: Sequence[Kind]) -> _Open:
        kept = self._kept.pop(peer, None)
        if kept is not None:
            assert kept.idle is not None
            kept.idle.cancel()
            if kept.usable and kept.kinds.issuperset(kinds):
                return kept
            await self._end(kept)
            kinds = tuple(dict.fromkeys((*kinds, *kept.kinds)))[:MAX_PRESENTATION_CONTEXTS]
        contexts = number_contexts((sop_class, (transfer_syntax,)) for sop_class, transfer_syntax in kinds)
        request = propose(self._ae_title, peer.ae_title, contexts, max_pdu_length=self._limits.max_pdu_length)
        async with contextlib.AsyncExitStack() as end:
            association = await end.enter_async_context(associate(peer, request, self._limits, self._notify))
            # Observers are told of the whole: MoveAnswered.
            return _Open(association, StorageSCU(association), frozenset(kinds), end.pop_all())

    def _release(self, peer: PeerAddress) -> None:
        kept = self._kept.pop(peer)
        assert kept.idle is not None
        kept.idle.cancel()
        task = asyncio.get_running_loop().create_task(self._end(kept))
        self._releases.add(task)
        task.add_done_callback(self._releases.discard)

    async def _end(self, kept: _Open) -> None:
        with contextlib.suppress(AssociationError):  # a release that goes wrong changes nothing
            await kept.end.aclose()

    def close(self) -> None:
        """Release those that are kept."""
        self._idle_s = 0.0
        for peer in tuple(self._kept):
            self._release(peer)
