"""The pulse of a PACS: a small question every few seconds, and fewer moves as long as the answers come late."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fastmove.errors import AssociationError, AssociationRejected, DimseError, ProtocolError, TlsUnusable
from fastmove.limits import Limits
from fastmove.migrate.canary import LEARNT, Canary
from fastmove.services.finder import Finder
from fastmove.services.retrieve.config import RetrieveConfig

EVERY_S: Final = 2.0

MOST: Final = 64
"""With more than these at once nothing is limited."""

LEARNING_S: Final = 0.6
"""The same until it is known what is usual."""

LEARNING: Final = 2 * LEARNT
"""Questions after which it is not waited any more for that to be known..."""

LEARNING_MOVES: Final = 1
"""... and moves at once until then: under our own load its answers would show that load, and not what is usual."""

PATIENCE: Final = 5
"""Times as long as usual an answer is waited for..."""

LEAST_PATIENCE_S: Final = 2.0
"""... or this long..."""

FIRST_PATIENCE_S: Final = 10.0
"""... and this long until it is known what is usual: who asks for minutes notices too late."""

AGAIN_S: Final = 30.0
"""A PACS that suffers for so long yet gives up half of what is left."""

STEP: Final = 4
"""Once it does not suffer any more, a part of what is under way is added with each question, or one."""


class Pulse:
    """Asks for a study that is being moved (C-FIND), over an association of its own.

    `study` says for which, empty: none is being moved, and nothing is asked; `limit` how many moves there may be;
    `changed` is told why the PACS suffers, or with an empty text that it does not any more.  One that does not `ask` is
    never run.
    """

    def __init__(
        self,
        config: RetrieveConfig,
        study: Callable[[], str],
        limit: Callable[[], int],
        changed: Callable[[str], None],
        *,
        ask: bool = True,
    ) -> None:
        self.canary = Canary()
        self.asked = 0
        """Questions so far."""
        self._most: int | None = None
        self._learning = 0
        self._study = study
        self._limit = limit
        self._changed = changed
        self._asks = ask
        self._complaint = ""
        self._cut_at = 0.0
        limits: Limits = config.limits.replace(away_s=0.0)
        self._find = Finder(config.peer, config.ae_title, config.model, limits)

    @property
    def learns(self) -> bool:
        """True while it is not known yet what is usual, and may still be found out."""
        return self._asks and self._usual_s() is None and self._learning < LEARNING

    @property
    def most(self) -> int | None:
        """Moves that it takes well at once; None: nobody knows of a limit."""
        return LEARNING_MOVES if self.learns else self._most

    @property
    def suffers(self) -> bool:
        """True while the PACS is spared."""
        return self._most is not None

    def _usual_s(self) -> float | None:
        return self.canary.usual_s(time.monotonic())

    async def run(self) -> None:
        """Until it is cancelled."""
        try:
            while True:
                await asyncio.sleep(LEARNING_S if self.learns else EVERY_S)
                if study := self._study():
                    await self._ask(study)
                    self.asked += 1
                    self._learning = 0 if self._usual_s() is not None else self._learning + 1
                self._judge()
        finally:
            await self._find.close()

    async def _ask(self, study: str) -> None:
        began, usual = time.monotonic(), self._usual_s()
        patience = FIRST_PATIENCE_S if usual is None else max(LEAST_PATIENCE_S, PATIENCE * usual)
        try:
            async with asyncio.timeout(patience):
                async for _ in self._find((f"StudyInstanceUID={study}",), "STUDY"):
                    pass
        except TimeoutError:
            self.canary.failed(time.monotonic())
            await self._find.close()
        except AssociationRejected as error:
            if error.transient:
                self.canary.rejected(time.monotonic())
        except (AssociationError, ProtocolError, TlsUnusable):
            self.canary.failed(time.monotonic())
        except DimseError:  # a refusal is an answer, too
            self.canary.answered(time.monotonic(), time.monotonic() - began)
        else:
            self.canary.answered(time.monotonic(), time.monotonic() - began)

    def _judge(self) -> None:
        now = time.monotonic()
        before, self._complaint = self._complaint, self.canary.suffering(now)
        if self._complaint and (not before or now - self._cut_at >= AGAIN_S):
            self._most, self._cut_at = max(1, self._limit() // 2), now
        elif not self._complaint and self._most is not None:
            self._most += max(1, self._most // STEP)
            if self._most > MOST:
                self._most = None
        if bool(before) != bool(self._complaint):
            self._changed(self._complaint)
