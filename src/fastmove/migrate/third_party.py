"""A third party as the destination of a migration: the PACS sends straight to it, and both are asked what they have.

Nothing comes to us.  After each attempt at a study the list of the PACS is held against that of the destination
(C-FIND); what is on both is recorded, without a digest, since nobody here has seen it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from typing import Final, Self

from fastmove.errors import AssociationError, ProtocolError, TlsUnusable
from fastmove.ledger.model import Instance
from fastmove.limits import Limits
from fastmove.migrate.destination import Delivery, Direct, Proved, Write, in_words
from fastmove.migrate.presence import Presence, Unreached
from fastmove.notices import InstanceStored
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import find_contexts
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.retrieve.listing import Lister, instances
from fastmove.services.scu import Requestor
from fastmove.services.selection.selection import Wanted
from fastmove.storage.entries import Entry, timestamp
from fastmove.types import PeerAddress, Readiness

_UNANSWERED: Final = (AssociationError, ProtocolError, TlsUnusable)
"""Why somebody who is asked gives no answer."""

AGAIN_S: Final = 1.0
"""Before a destination that lacks something is asked again: it may still be storing."""


class _Listed:
    """What a PACS has of a study, by an association that is kept."""

    def __init__(self, peer: PeerAddress, ae_title: str, model: str, profile: PacsProfile, limits: Limits) -> None:
        self.peer = peer
        self._how = model, profile
        self._lister = Lister(model, profile)
        self._requestor = Requestor(peer, ae_title, find_contexts(model), limits)
        self._turn = asyncio.Lock()

    async def of(self, wanted: Wanted) -> Mapping[str, str] | None:
        """SOP Instance UID → Series Instance UID; None if it gives no list.  What is _UNANSWERED."""
        async with self._turn:
            try:
                listing = await self._lister.list(await self._requestor.association(), wanted)
            except (AssociationError, ProtocolError):
                await self._requestor.lose()
                raise
        if listing.series is None:
            self._lister = Lister(*self._how)  # what it could not list now, it may be able to another time
            return {} if listing.empty else None
        return dict(instances(listing.series))

    async def reached(self) -> None:
        """An association stands, or is made; what is _UNANSWERED."""
        async with self._turn:
            await self._requestor.association()

    async def close(self) -> None:
        """No more of them."""
        await self._requestor.close()


class ThirdParty(Direct):
    """A PACS that the one which is migrated sends to, as a `Destination`; `config` is how that one is asked."""

    target: Final = None

    def __init__(self, peer: PeerAddress, config: RetrieveConfig, write: Write) -> None:
        limits = config.limits
        self._source = _Listed(config.peer, config.ae_title, config.model, config.profile, limits)
        self._there = _Listed(peer, config.ae_title, "study", PacsProfile(), limits)
        self._patience_s = limits.drain_s
        self._write = write
        self._lists = False
        """The destination has given a list."""
        self._unlisted = ""
        """The study of which it has answered last that it lists nothing."""
        self._undone: dict[str, str] = {}
        """Study → patient ID: what was on one list alone may be on both by now."""
        self.presence = Presence(peer.ae_title, self._look, lambda: True, lambda: None)
        self.ready: Sequence[Readiness] = (self.presence.objection,)

    async def __aenter__(self) -> Self:
        self.working = (asyncio.create_task(self.presence.run()),)
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self.working:
            task.cancel()
        await asyncio.wait(self.working)
        await self._source.close()
        await self._there.close()

    def stop(self) -> None:
        """A destination that gives no list is waited for no longer."""
        self.presence.stop()

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """Nothing comes to us."""
        raise AssertionError(notice)

    async def begin(self, study: str, recorded: Collection[str]) -> bool:
        """Compare the lists once more, if they did not agree: what has arrived late need not be moved again."""
        patient_id = self._undone.pop(study, None)
        if patient_id is None:
            return False
        await self.settled(study, patient_id)
        return True

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Both lists agree, or have not done so for a while; a destination that gives no list at all is waited for."""
        why = await self._compared(study, patient_id)
        if why:
            self._undone[study] = patient_id
        return why

    async def _compared(self, study: str, patient_id: str) -> str:
        try:
            wanted = await self._source.of(Wanted(study, patient_id=patient_id))
            if wanted is None:
                return f"{self._source.peer.ae_title} gives no list of the study's instances"
            there = await self._awaited(study, wanted)
        except (*_UNANSWERED, Unreached) as error:
            return f"the lists cannot be compared: {error}"
        for uid in wanted.keys() & there.keys():
            self._write(self._entry(study, wanted[uid], uid))
        return in_words(dict.fromkeys(sorted(wanted.keys() - there.keys()), "not on its list"), "are not there")

    async def _awaited(self, study: str, wanted: Mapping[str, str]) -> Mapping[str, str]:
        """The list of the destination, which may still be storing; Unreached if it gives none though it gives others.

        One that gives none at all could not prove anything of what is moved to it: nothing more is, until it does.  One
        that is there, and fails over this study alone, holds up nothing else.
        """
        until = time.monotonic() + self._patience_s
        came_back = False
        while True:
            late = self.presence.stopped or time.monotonic() >= until
            try:
                there = await self._asked(study)
                if late or wanted.keys() <= there.keys():
                    return there
            except Unreached as unreached:
                gone = not self._lists or unreached.__cause__ is not None
                if gone and await self.presence.lost(str(unreached)) and not came_back:
                    came_back = True  # and if it goes away over this study again, that is as if it failed
                    continue
                if late or self.presence.stopped:
                    raise
            await asyncio.sleep(AGAIN_S)

    async def _asked(self, study: str) -> Mapping[str, str]:
        """What the destination lists; Unreached."""
        try:
            there = await self._there.of(Wanted(study))
        except _UNANSWERED as error:
            raise Unreached(str(error)) from error
        if there is None:
            self._unlisted = study
            raise Unreached(f"{self._there.peer.ae_title} gives no list of the study's instances")
        self._lists = True
        return there

    async def _look(self) -> None:
        """By an association; and by a list, if it has answered that it has none, and has not given any yet."""
        try:
            await self._there.reached()
        except _UNANSWERED as error:
            raise Unreached(str(error)) from error
        if self._unlisted and not self._lists:
            await self._asked(self._unlisted)

    def _entry(self, study: str, series: str, uid: str) -> Entry:
        place = f"{self._there.peer.ae_title}/{uid}.dcm"
        return Entry(timestamp(), "stored", place, 0, "", "", study, series, uid, "")

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """It is proved by both lists already."""
        return Delivery(proof=Proved.BOTH_LISTS)
