"""Another PACS as the destination of a migration: objects are spooled, sent on by C-STORE, and proved to be there.

The proof is storage commitment (PS3.4 J), where the destination offers it, or else its own list of the study's
instances (C-FIND): every one has to be on it.  What is proved leaves the spool.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final

from fastmove.errors import AssociationError, DatasetError, DimseError, NoAcceptedContext, ProtocolError
from fastmove.ledger.model import Instance
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.migrate.destination import Delivery, Write, in_words
from fastmove.migrate.spool import Answer, Carrier, Spooled
from fastmove.notices import Observer
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import find_contexts
from fastmove.services.retrieve.listing import Lister
from fastmove.services.scu import Requestor
from fastmove.services.selection.selection import Wanted
from fastmove.services.storage_commitment import CONTEXTS, CommitmentReceiver, commit
from fastmove.services.storage_scu import StorageSCU, contexts_of, is_stored
from fastmove.storage.entries import Entry
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.options import WriteOptions
from fastmove.types import PeerAddress

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


class Forward(Spooled):
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
        answer: Answer = Answer.DISK,
        reserve: int | None = None,
        notify: Observer | None = None,
    ) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._parallel = parallel
        self._proof = proof
        self._limits = limits
        self._reports = reports
        super().__init__(spool, options, write, answer=answer, reserve=reserve, notify=notify)

    def _carriers(self) -> Sequence[Carrier]:
        pairs: dict[tuple[str, str], None] = {}
        return [
            _Sender(self._peer, self._ae_title, self.spool, self._limits, pairs, self._notify)
            for _ in range(self._parallel)
        ]

    # ------------------------------------------------------------------ the proof

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """Does it have all of a study?  If it is proved, the study leaves the spool."""
        lacking = await self._lacking(study, {each.sop_instance_uid: each.sop_class_uid for each in instances})
        if isinstance(lacking, str):
            return Delivery(lacking)
        if lacking:
            return Delivery(in_words(lacking, "are not proved to be there"), frozenset(lacking))
        await self._remove(study)
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
        spool: Path,
        limits: Limits,
        pairs: dict[tuple[str, str], None],
        notify: Observer | None,
    ) -> None:
        self._to = peer, ae_title
        self._spool = spool
        self._limits = limits
        self._pairs = pairs
        self._notify = notify
        self._offered: frozenset[tuple[str, str]] = frozenset()
        self._requestor: Requestor | None = None

    async def carry(self, entry: Entry) -> Entry | str:
        """Send an object, as often as it takes; or why it was not taken."""
        ae_title, why = self._to[0].ae_title, ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_S)
            try:
                status = await self._store(await asyncio.to_thread(read_file_meta, self._spool / entry.path))
            except NoAcceptedContext as error:
                return str(error)
            except (AssociationError, ProtocolError) as error:
                why = str(error)
                await self._lose()
            except (DatasetError, OSError, EOFError) as error:
                await self._lose()  # something of it may have been sent
                return f"it cannot be read from the spool: {error}"
            else:
                if is_stored(status):
                    return entry.replace(path=f"{ae_title}/{entry.sop_instance_uid}.dcm")
                return f"{ae_title} refused it ({status:04X}H)"
        return why

    async def _store(self, file: DicomFile) -> int:
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

    async def _lose(self) -> None:
        """Give up the association: an operation on it failed."""
        if self._requestor is not None:
            await self._requestor.lose()

    async def close(self) -> None:
        """Release it."""
        if self._requestor is not None:
            await self._requestor.close()
