"""The pulse of a PACS: a small question every few seconds, and fewer moves as long as the answers come late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fastmove.errors import AssociationError, AssociationRejected, DimseError, ProtocolError
from fastmove.limits import Limits
from fastmove.migrate.canary import LEARNT, Canary
from fastmove.services.finder import Finder
from fastmove.services.retrieve.config import RetrieveConfig

EVERY_S: Final = 2.0

MOST: Final = 64
"""With more than these at once nothing is limited."""

LEARNING_S: Final = 0.6
"""The same until it is known what is usual."""


AGAIN_S: Final = 30.0
"""A PACS that suffers for so long yet gives up half of what is left."""

STEP: Final = 4
"""Once it does not suffer any more, a part of what is under way is added with each question, or one."""


class Pulse:
    """Asks for a study that is being moved (C-FIND), over an association of its own.

    `study` says for which, empty: none is being moved, and nothing is asked; `limit` how many moves there may be;
    `changed` is told why the PACS suffers, or with an empty text that it does not any more.
    """

    def __init__(
        self,
        config: RetrieveConfig,
        study: Callable[[], str],
        limit: Callable[[], int],
        changed: Callable[[str], None],
    ) -> None:
        self.canary = Canary()
        self.most: int | None = None
        """Moves that it takes well at once; None: nobody knows of a limit."""
        self.asked = 0
        """Questions so far."""
        self._study = study
        self._limit = limit
        self._changed = changed
        self._complaint = ""
        self._cut_at = 0.0
        limits: Limits = config.limits.replace(away_s=0.0)
        self._find = Finder(config.peer, config.ae_title, config.model, limits)

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(EVERY_S if self.asked > LEARNT else LEARNING_S)
                if study := self._study():
                    await self._ask(study)
                    self.asked += 1
                self._judge()
        finally:
            await self._find.close()

    async def _ask(self, study: str) -> None:
        began = time.monotonic()
        try:
            async for _ in self._find((f"StudyInstanceUID={study}",), "STUDY"):
                pass
        except AssociationRejected as error:
            if error.transient:
                self.canary.rejected(time.monotonic())
        except (AssociationError, ProtocolError):
            self.canary.failed(time.monotonic())
        except DimseError:  # a refusal is an answer, too
            self.canary.answered(time.monotonic(), time.monotonic() - began)
        else:
            self.canary.answered(time.monotonic(), time.monotonic() - began)

    def _judge(self) -> None:
        now = time.monotonic()
        before, self._complaint = self._complaint, self.canary.suffering(now)
        if self._complaint and (not before or now - self._cut_at >= AGAIN_S):
            self.most, self._cut_at = max(1, self._limit() // 2), now
        elif not self._complaint and self.most is not None:
            self.most += max(1, self.most // STEP)
            if self.most > MOST:
                self.most = None
        if bool(before) != bool(self._complaint):
            self._changed(self._complaint)
