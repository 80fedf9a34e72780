"""Whether a PACS takes associations: how many at once, and how long to wait for it when it takes none."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from fastmove.errors import AssociationError, AssociationRejected, ProtocolError
from fastmove.limits import Limits
from fastmove.services.retrieve.mover import Mover
from fastmove.services.retrieve.parallelism import Parallelism

HANGING_S: Final = 2.0
"""An association that is not answered for longer than this, while others are open, waits for one of them to end..."""

HANGING: Final = 20.0
"""... if this is also so many times as long as the first one took."""


class Reach:
    """What is known of how a PACS takes associations; tells `parallelism` how many it serves."""

    def __init__(self, limits: Limits, parallelism: Parallelism) -> None:
        self.established = False
        """An association has stood."""
        self.not_before = 0.0
        """It is no use to try before this time of the monotonic clock."""
        self._limits = limits
        self._parallelism = parallelism
        self._opened_s: float | None = None
        self._away_since: float | None = None
        self._attempts = 0

    @property
    def away(self) -> bool:
        """True while it takes none, and is waited for."""
        return self._away_since is not None

    async def open(self, mover: Mover, others: Callable[[], int]) -> bool:
        """Associate; False if the PACS will not have it now, beside `others` that are open, or for a while.

        AssociationError, ProtocolError if it is no use to wait.
        """
        patience = max(HANGING_S, HANGING * self._opened_s) if others() and self._opened_s is not None else None
        began = time.monotonic()
        try:
            async with asyncio.timeout(patience):
                await mover.open()
        except TimeoutError:
            self._parallelism.served(time.monotonic(), max(others() - 1, 1))  # this one is among them
            return False
        except (AssociationError, ProtocolError) as error:
            if not self._may_come_back(error, others()):
                raise
            return False
        self.established = True
        self._away_since = None
        self._attempts = 0
        if self._opened_s is None:
            self._opened_s = time.monotonic() - began
            self._parallelism.round_trip(self._opened_s / 2)  # TCP and A-ASSOCIATE: one each
        return True

    def _may_come_back(self, error: AssociationError | ProtocolError, others: int) -> bool:
        now = time.monotonic()
        if others:  # it serves those, and no more
            self._parallelism.served(now, others)
            return True
        if self._away_since is None:
            self._away_since = now
        for_now = isinstance(error, AssociationRejected) and error.transient
        if not self.established and not for_now:
            return False
        self._parallelism.congested(now)
        self.not_before = now + self._limits.back_off_s(self._attempts)
        self._attempts += 1
        return self.not_before < self._away_since + self._limits.away_s
