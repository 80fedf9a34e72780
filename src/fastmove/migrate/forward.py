"""Another PACS as the destination of a migration: objects are spooled, sent on by C-STORE, and proved to be there.

The proof is storage commitment (PS3.4 J), where the destination offers it, or else its own list of the study's
instances (C-FIND): every one has to be on it.  What is proved leaves the spool.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Final, Self

from fastmove.errors import AssociationError, DatasetError, DimseError, NoAcceptedContext, ProtocolError
from fastmove.ledger.model import Instance
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.migrate.destination import Delivery, Write, in_words
from fastmove.notices import InstanceStored, ManifestFailed, Observer
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import find_contexts
from fastmove.services.retrieve.listing import Lister
from fastmove.services.scu import Requestor
from fastmove.services.selection.selection import Wanted
from fastmove.services.storage_commitment import CONTEXTS, CommitmentReceiver, commit
from fastmove.services.storage_scu import StorageSCU, contexts_of, is_stored
from fastmove.storage.entries import Entries, Entry
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.lock import FolderLock
from fastmove.storage.options import Placing, WriteOptions
from fastmove.storage.reserve import Reserve
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming
from fastmove.types import PeerAddress, Readiness

LAYOUT: Final = "study"
"""Of the spool: a study leaves it as a whole."""

SPOOLED: Final = 2000
"""Objects that may wait to be sent on before what comes has to wait, too; and it goes on with half as many."""

ATTEMPTS: Final = 3
"""At an object whose association ends; then it is left to another attempt at its study."""

AGAIN_S: Final = 1.0
"""Before the destination is tried again that takes no association."""


class Proof(Enum):
    """What proves that the destination has a study."""

    COMMIT = "commit"
    """Storage commitment alone."""

    FIND = "find"
    """Its list of instances."""

    AUTO = "auto"
    """Storage commitment where it is offered, or else its list."""

    NONE = "none"
    """Its Success to each object."""


class Forward:
    """A PACS, as a `Destination`: `parallel` associations send on what is in the spool.

    Reports of storage commitment come to `reports`, which the listener of the run takes them for, or over the
    association that asked for them.  Raises DirectoryUnusable, DirectoryLocked.
    """

    def __init__(
        self,
        peer: PeerAddress,
        ae_title: str,
        spool: Path,
        options: WriteOptions,
        write: Write,
        *,
        parallel: int = 4,
        proof: Proof = Proof.AUTO,
        limits: Limits,
        reports: CommitmentReceiver | None = None,
        reserve: int | None = None,
        notify: Observer | None = None,
    ) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._spool = spool
        self._write = write
        self._parallel = parallel
        self._proof = proof
        self._limits = limits
        self._reports = reports
        self._notify = notify
        self._queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._pairs: dict[tuple[str, str], None] = {}
        self._waiting: dict[str, int] = defaultdict(int)
        """Study → objects that are to be sent."""
        self._failed: dict[str, dict[str, str]] = defaultdict(dict)
        """Study → SOP Instance UID → why it was not taken."""
        self._changed = asyncio.Condition()
        self._held_up: list[Future[None]] = []
        self._spooled = 0
        self._senders: list[asyncio.Task[None]] = []
        with ExitStack() as opened:
            opened.enter_context(FolderLock(spool, "fastmove migrate", notify, options.modes))
            self.target = opened.enter_context(StorageTarget(spool, options.replace(naming=naming(LAYOUT))))
            self.ready: tuple[Readiness, ...] = (opened.enter_context(Reserve(spool, reserve)).objection,)
            self._entries = Entries(spool, self._described, self._unreadable)
            opened.callback(self._entries.close)
            self._opened = opened.pop_all()

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._senders = [asyncio.create_task(self._send()) for _ in range(self._parallel)]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._entries.close)
        for sender in self._senders:
            sender.cancel()
        ended = await asyncio.gather(*self._senders, return_exceptions=True)
        await asyncio.to_thread(self._opened.close)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    # ------------------------------------------------------------------ into the spool

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in the spool; if a future comes back, there should be no more before it is done."""
        if notice.placing == Placing.QUARANTINED.value:
            return None
        self._spooled += 1
        busy = self._entries.record(notice)
        if busy is None and self._spooled > SPOOLED:
            busy = Future()
            self._held_up.append(busy)
        return busy

    def _described(self, entry: Entry) -> None:
        self._loop.call_soon_threadsafe(self._put, entry)

    def _put(self, entry: Entry) -> None:
        self._waiting[entry.study_instance_uid] += 1
        self._failed[entry.study_instance_uid].pop(entry.sop_instance_uid, None)
        self._queue.put_nowait(entry)

    def _unreadable(self, path: str, error: OSError) -> None:
        if self._notify is not None:
            self._notify(ManifestFailed(path, error.strerror or str(error)))

    # ------------------------------------------------------------------ out of it

    async def _send(self) -> None:
        """Send one object after the other."""
        sender = _Sender(self._peer, self._ae_title, self._limits, self._pairs, self._notify)
        try:
            while True:
                entry = await self._queue.get()
                await self._sent(entry, await self._tried(sender, entry))
        finally:
            await sender.close()

    async def _tried(self, sender: _Sender, entry: Entry) -> str:
        """Why an object was not taken; empty if it was."""
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_S)
            try:
                status = await sender.store(await asyncio.to_thread(read_file_meta, self._spool / entry.path))
                return "" if is_stored(status) else f"{self._peer.ae_title} refused it ({status:04X}H)"
            except NoAcceptedContext as error:
                return str(error)
            except (AssociationError, ProtocolError) as error:
                why = str(error)
                await sender.lose()
            except (DatasetError, OSError, EOFError) as error:
                await sender.lose()  # something of it may have been sent
                return f"it cannot be read from the spool: {error}"
        return why

    async def _sent(self, entry: Entry, why: str) -> None:
        study = entry.study_instance_uid
        if why:
            self._failed[study][entry.sop_instance_uid] = why
        else:
            self._write(entry.replace(path=f"{self._peer.ae_title}/{entry.sop_instance_uid}.dcm"))
        self._spooled -= 1
        if self._spooled <= SPOOLED // 2:
            held_up, self._held_up = self._held_up, []
            for each in held_up:
                each.set_result(None)
        async with self._changed:
            self._waiting[study] -= 1
            self._changed.notify_all()

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Once all that is in the spool of a study has been sent, or refused."""
        await asyncio.wrap_future(self._entries.settled())
        await asyncio.sleep(0)  # what the threads have told last
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting[study])
        del self._waiting[study]
        return in_words(self._failed.pop(study, {}), "were not taken")

    # ------------------------------------------------------------------ the proof

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """Does it have all of a study?  If it is proved, the study leaves the spool."""
        lacking = await self._lacking(study, {each.sop_instance_uid: each.sop_class_uid for each in instances})
        if isinstance(lacking, str):
            return Delivery(lacking)
        if lacking:
            return Delivery(in_words(lacking, "are not proved to be there"), frozenset(lacking))
        await asyncio.to_thread(shutil.rmtree, self._spool / study, True)
        return Delivery()

    async def _lacking(self, study: str, instances: Mapping[str, str]) -> Mapping[str, str] | str:
        """What it does not answer for, and why; or why nobody knows."""
        if self._proof is Proof.NONE or not instances:
            return {}
        if self._proof is not Proof.FIND:
            try:
                return await self._uncommitted(instances)
            except (AssociationError, ProtocolError, DimseError) as error:
                if self._proof is Proof.COMMIT:
                    return f"{self._peer.ae_title} gave no storage commitment: {error}"
        try:
            return await self._unlisted(study, instances)
        except (AssociationError, ProtocolError, DimseError) as error:
            return f"{self._peer.ae_title} cannot be asked what it has: {error}"

    async def _uncommitted(self, instances: Mapping[str, str]) -> Mapping[str, str]:
        requestor = Requestor(self._peer, self._ae_title, CONTEXTS, self._limits)
        try:
            commitments = await commit(await requestor.association(), instances, self._reports, self._notify)
        finally:
            await requestor.close()
        return {uid: why for each in commitments for uid, why in each.uncommitted.items()}

    async def _unlisted(self, study: str, instances: Mapping[str, str]) -> Mapping[str, str] | str:
        """Those that are not on its list; or why it has none."""
        requestor = Requestor(self._peer, self._ae_title, find_contexts("study"), self._limits)
        try:
            listing = await Lister("study", PacsProfile()).list(await requestor.association(), Wanted(study))
        finally:
            await requestor.close()
        if listing.series is None:
            return f"{self._peer.ae_title} gives no list of the study's instances"
        there = frozenset().union(*listing.series.values())
        return dict.fromkeys(sorted(instances.keys() - there), "not on its list")


class _Sender:
    """One association, made anew where its contexts do not serve any more; `pairs` are those that all have needed."""

    def __init__(
        self,
        peer: PeerAddress,
        ae_title: str,
        limits: Limits,
        pairs: dict[tuple[str, str], None],
        notify: Observer | None,
    ) -> None:
        self._to = peer, ae_title
        self._limits = limits
        self._pairs = pairs
        self._notify = notify
        self._offered: frozenset[tuple[str, str]] = frozenset()
        self._requestor: Requestor | None = None

    async def store(self, file: DicomFile) -> int:
        """The status; raises what `StorageSCU.store` does, and AssociationError."""
        pair = file.sop_class_uid, file.transfer_syntax_uid
        if self._requestor is None or pair not in self._offered:
            await self.close()
            self._pairs.pop(pair, None)
            self._pairs[pair] = None
            offered = list(self._pairs)[-MAX_PRESENTATION_CONTEXTS:]
            self._offered = frozenset(offered)
            self._requestor = Requestor(*self._to, contexts_of(offered), self._limits, self._notify)
        return await StorageSCU(await self._requestor.association(), self._notify).store(file)

    async def lose(self) -> None:
        """Give up the association: an operation on it failed."""
        if self._requestor is not None:
            await self._requestor.lose()

    async def close(self) -> None:
        """Release it."""
        if self._requestor is not None:
            await self._requestor.close()
