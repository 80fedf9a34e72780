"""C-FINDs one after the other, over an association that is opened when it is first needed, and anew when it is lost."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence

from fastmove.dimse import identifier
from fastmove.errors import AssociationError
from fastmove.limits import Limits
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.notices import Observer
from fastmove.services.query_scu import find_contexts, texts
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import propose
from fastmove.ul.pdu import AAssociateRQ


class Finder:
    """Asks a PACS; one that has answered before may be away, or too busy, for a while.

    Raises AssociationError, ConfigurationError for keys that cannot be asked for, and DimseError after what came if
    the final status is not success.
    """

    def __init__(
        self, peer: PeerAddress, ae_title: str, model: str, limits: Limits, notify: Observer | None = None
    ) -> None:
        self._peer = peer
        self._ae_title = ae_title
        self._model = model
        self._limits = limits
        self._notify = notify
        self._association: AssociationHandle | None = None
        self._answered = False
        self._unanswered = False

    async def __call__(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
        """Each match of a query as text by keyword; relational where keys leave out a level."""
        if self._association is None or not self._association.idle:
            await self.close()
            request = propose(self._ae_title, self._peer.ae_title, find_contexts(self._model))
            self._association = await self._open(request)
            self._unanswered = False
        query = identifier.query(keys, model=self._model, level=level, relational=True)
        try:
            async for match in texts(self._association, query, self._model):
                yield match
        except (GeneratorExit, asyncio.CancelledError):
            self._unanswered = True
            raise

    async def _open(self, request: AAssociateRQ) -> AssociationHandle:
        """Associate; a PACS that has answered before may be away, or too busy, for a while."""
        limits, since = self._limits, time.monotonic()
        for attempts in itertools.count():
            try:
                association = await open_association(self._peer, request, limits, self._notify)
            except AssociationError:
                delay = limits.back_off_s(attempts)
                if not self._answered or time.monotonic() + delay > since + limits.away_s:
                    raise
                await asyncio.sleep(delay)
            else:
                self._answered = True
                return association
        raise AssertionError

    async def close(self) -> None:
        """No more of them."""
        association, self._association = self._association, None
        if association is not None:
            try:
                if self._unanswered:
                    association.abort("the query is not waited for")
                else:
                    await association.release()
            except AssociationError:
                pass  # everything has been answered
            finally:
                association.connection.cut()
                await association.close()
