"""Another PACS as the destination of a migration: objects are spooled, sent on by C-STORE, and proved to be there.

The proof is storage commitment (PS3.4 J), where the destination offers it, or else its own list of the study's
instances (C-FIND): every one has to be on it.  What is proved leaves the spool.  Both go by UIDs: that what is there is
what was sent, byte by byte, nothing in DICOM says.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Final, Self

from fastmove.errors import (
    AssociationError,
    AssociationRejected,
    DatasetError,
    DimseError,
    FastmoveError,
    NoAcceptedContext,
    ProtocolError,
    TlsUnusable,
)
from fastmove.ledger.model import Instance
from fastmove.limits import MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.migrate.destination import Delivery, Proved, Write, in_words
from fastmove.migrate.presence import Unreached
from fastmove.migrate.spool import Answer, Carrier, NoRoom, Spooled
from fastmove.notices import Observer
from fastmove.services import verification
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import find_contexts
from fastmove.services.retrieve.listing import Lister
from fastmove.services.scu import AssociationHandle, Requestor
from fastmove.services.selection.selection import Wanted
from fastmove.services.storage_commitment import CONTEXTS, CommitmentReceiver, commit
from fastmove.services.storage_scu import StorageSCU, contexts_of, is_stored
from fastmove.storage.entries import Entry
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.options import WriteOptions
from fastmove.types import PeerAddress, ProposedContext

ATTEMPTS: Final = 3
"""At an object whose association ends; then it is left to another attempt at its study."""

AGAIN_S: Final = 1.0
"""Before the destination is tried again after that."""

NO_ROOM: Final = 60
"""How often a destination that takes objects from us, and no further association, is asked for one to prove them."""


class Proof(Enum):
    """What proves that the destination has a study."""

    COMMIT = "commit"
    """Storage commitment alone."""

    FIND = "find"
    """Its list of instances."""

    AUTO = "auto"
    """Storage commitment; where the destination accepts no context for it, its list."""

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
        self._senders: list[_Sender] = []
        self._warnings: dict[str, Counter[int]] = defaultdict(Counter)
        """Study → statuses of objects that were taken with a warning."""
        super().__init__(spool, options, write, name=peer.ae_title, answer=answer, reserve=reserve, notify=notify)

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        await self.presence.found()  # if it is away, nothing is moved before it is there
        return self

    def _carriers(self) -> Sequence[Carrier]:
        pairs: dict[tuple[str, str], None] = {}
        self._senders += [
            _Sender(self._peer, self._ae_title, self.spool, self._limits, pairs, self, self._notify)
            for _ in range(self._parallel)
        ]
        return self._senders

    def warned(self, study: str, status: int) -> None:
        """An object was taken with a warning."""
        self._warnings[study][status] += 1

    @property
    def taking(self) -> bool:
        """True if an association of ours stands: it is there."""
        return any(each.stands for each in self._senders)

    async def _look(self) -> None:
        """By C-ECHO; whoever accepts an association, and refuses that, is there."""
        requestor = Requestor(self._peer, self._ae_title, verification.CONTEXTS, self._limits)
        try:
            association = await requestor.association()
            with contextlib.suppress(NoAcceptedContext, DimseError):
                await verification.echo_on(association)
        except (AssociationError, ProtocolError, TlsUnusable) as error:
            raise Unreached(str(error)) from None
        finally:
            await requestor.close()

    # ------------------------------------------------------------------ the proof

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """Does it have all of a study?  If it is proved, the study leaves the spool."""
        asked = {each.sop_instance_uid: each.sop_class_uid for each in instances}
        delivery = await self.presence.unless_stopped(self._delivery(study, asked), self._limits.stop_s)
        if delivery is None:
            return Delivery(f"we stopped before {self._peer.ae_title} had proved that it has it")
        if delivery.lacking:
            return delivery
        if left := await self._leave(study, asked):
            return Delivery(left)
        warnings = self._warnings.pop(study, Counter())
        told = ", ".join(f"{status:04X} x {number:,}" for status, number in sorted(warnings.items()))
        return delivery.replace(remark=f"{self._peer.ae_title} warned: {told}" if told else "")

    async def _delivery(self, study: str, asked: Mapping[str, str]) -> Delivery:
        """What it answers for, by the proof that is wished."""
        if self._proof is Proof.NONE or not asked:
            return Delivery(proof=Proved.TAKEN)
        no_room = 0
        while True:
            try:
                return await self._proved(study, asked)
            except Unreached as unreached:
                if self.taking and no_room < NO_ROOM:
                    no_room += 1
                    await asyncio.sleep(AGAIN_S)
                elif not await self.presence.lost(str(unreached)):
                    return Delivery(f"{self._peer.ae_title} cannot be asked what it has: {unreached}")

    async def _proved(self, study: str, asked: Mapping[str, str]) -> Delivery:
        """Unreached if it cannot be asked."""
        if self._proof is not Proof.FIND:
            try:
                return self._lacking(await self._uncommitted(asked), Proved.COMMITTED)
            except NoAcceptedContext as error:
                if self._proof is Proof.COMMIT:
                    return Delivery(f"{self._peer.ae_title} offers no storage commitment: {error}")
            except FastmoveError as error:  # whatever it is, the weaker proof is none for it
                return Delivery(f"{self._peer.ae_title} gave no storage commitment: {error}")
        try:
            return self._lacking(await self._unlisted(study, asked), Proved.LISTED)
        except FastmoveError as error:
            return Delivery(f"{self._peer.ae_title} cannot be asked what it has: {error}")

    def _lacking(self, lacking: Mapping[str, str] | str, proof: Proved) -> Delivery:
        """Of what it does not answer for, and why; or why nobody knows."""
        if isinstance(lacking, str):
            return Delivery(lacking)
        if lacking:
            return Delivery(in_words(lacking, "are not proved to be there"), frozenset(lacking))
        return Delivery(proof=proof)

    async def _uncommitted(self, asked: Mapping[str, str]) -> Mapping[str, str]:
        async with self._association(CONTEXTS) as association:
            commitments = await commit(association, asked, self._reports, self._notify)
        return {uid: why for each in commitments for uid, why in each.uncommitted.items()}

    async def _unlisted(self, study: str, asked: Mapping[str, str]) -> Mapping[str, str] | str:
        """Those that are not on its list; or why it has none."""
        async with self._association(find_contexts("study")) as association:
            listing = await Lister("study", PacsProfile()).list(association, Wanted(study))
        if listing.series is None:
            return f"{self._peer.ae_title} gives no list of the study's instances"
        there = frozenset().union(*listing.series.values())
        return dict.fromkeys(sorted(asked.keys() - there), "not on its list")

    @contextlib.asynccontextmanager
    async def _association(self, contexts: Sequence[ProposedContext]) -> AsyncIterator[AssociationHandle]:
        """One for the length of a block; Unreached."""
        requestor = Requestor(self._peer, self._ae_title, contexts, self._limits)
        try:
            yield await _reached(requestor)
        finally:
            await requestor.close()


async def _reached(requestor: Requestor) -> AssociationHandle:
    """The association that stands, or a new one; Unreached."""
    try:
        return await requestor.association()
    except (AssociationError, TlsUnusable) as error:
        raise Unreached(str(error)) from error


class _Sender:
    """One association, made anew where its contexts do not serve any more; `pairs` are those that all have needed."""

    def __init__(
        self,
        peer: PeerAddress,
        ae_title: str,
        spool: Path,
        limits: Limits,
        pairs: dict[tuple[str, str], None],
        forward: Forward,
        notify: Observer | None,
    ) -> None:
        self._to = peer, ae_title
        self._spool = spool
        self._limits = limits
        self._pairs = pairs
        self._forward = forward
        self._notify = notify
        self._offered: frozenset[tuple[str, str]] = frozenset()
        self._requestor: Requestor | None = None

    @property
    def stands(self) -> bool:
        """True if it has an association."""
        return self._requestor is not None and self._requestor.stands

    async def carry(self, entry: Entry) -> Entry | str:
        """Send an object, as often as it takes; or why it was not taken."""
        why = ""
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_S)
            try:
                return await self._store(entry)
            except NoAcceptedContext as error:
                return str(error)
            except (AssociationError, ProtocolError) as error:
                why = str(error)
                await self._lose()
            except (DatasetError, OSError, EOFError) as error:
                await self._lose()  # something of it may have been sent
                return f"it cannot be read from the spool: {error}"
        return why

    async def _store(self, entry: Entry) -> Entry | str:
        """Raises what `StorageSCU.store` does, and for what cannot be proposed at all; Unreached, NoRoom."""
        ae_title = self._to[0].ae_title
        file = await asyncio.to_thread(read_file_meta, self._spool / entry.path)
        scu = StorageSCU(await self._association(file), self._notify)
        status = await scu.store(file)
        if not is_stored(status):
            return f"{ae_title} refused it ({status:04X}H)"
        if scu.affected not in ("", file.sop_instance_uid):
            return f"{ae_title} has answered for another object, {scu.affected}"
        if status:
            self._forward.warned(entry.study_instance_uid, status)
        return entry.replace(path=f"{ae_title}/{entry.sop_instance_uid}.dcm")

    async def _association(self, file: DicomFile) -> AssociationHandle:
        pair = file.sop_class_uid, file.transfer_syntax_uid
        if self._requestor is None or pair not in self._offered:
            await self.close()
            self._pairs.pop(pair, None)
            self._pairs[pair] = None
            offered = list(self._pairs)[-MAX_PRESENTATION_CONTEXTS:]
            try:
                self._requestor = Requestor(*self._to, contexts_of(offered), self._limits, self._notify)
            except FastmoveError:
                del self._pairs[pair]  # or nobody could propose anything any more
                raise
            self._offered = frozenset(offered)
        try:
            return await _reached(self._requestor)
        except Unreached as unreached:
            if isinstance(unreached.__cause__, AssociationRejected) and self._forward.taking:
                raise NoRoom from None
            raise

    async def _lose(self) -> None:
        """Give up the association: an operation on it failed."""
        if self._requestor is not None:
            await self._requestor.lose()

    async def close(self) -> None:
        """Release it."""
        requestor, self._requestor = self._requestor, None
        if requestor is not None:
            await requestor.close()
