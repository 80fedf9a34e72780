"""How much may be asked of a PACS now: by the clock, the operator, how it bears it, and our share among all hosts."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from fastmove.ledger.sharing import Place, Slots
from fastmove.migrate.throttle import Throttle
from fastmove.migrate.windows import OPEN, Ceiling, Windows
from fastmove.values import Value

MOST: Final = 16
"""Moves at once of all hosts together, where a window says nothing."""


class Policy(Value):
    """When, how fast and how often."""

    windows: Windows
    closing_s: float = 60.0
    """Moves that are under way when a window closes have so long; then they are cancelled."""

    require_proof: bool = False
    gentle: bool = True
    """Ask the PACS a small question every few seconds, and take half as many moves while the answers come late."""


class Allowance:
    """What holds now; `moves` is how many are under way, `endured` what the PACS bears (None: nobody knows of a limit).

    With `slots` what a window allows is for all hosts together, and nothing is allowed before they are divided; `begun`
    says whether a study is in the midst of its moves.
    """

    def __init__(
        self,
        windows: Windows,
        slots: Slots | None,
        moves: Callable[[], int],
        endured: Callable[[], int | None],
        now: Callable[[], float],
        begun: Callable[[], bool] = lambda: False,
    ) -> None:
        self.throttle = Throttle()
        self.paused = False
        """An operator wishes that nothing be begun."""
        self.hindrance = ""
        """Why nothing can be begun, in words."""
        self.closed_at: float | None = None
        """Since when nothing may be begun, by the monotonic clock; None: something may."""
        self._windows = windows
        self._slots = slots
        self._moves, self._begun = moves, begun
        self._endured = endured
        self._now = now
        self._place = Place(1, 0)
        self._share = None if slots is None else 0
        self.crowded_out = False
        """No slot is ours, as there are more hosts than slots: what is begun is ended, and nothing more taken on."""
        self._held = 0
        self.ceiling: Ceiling = self._windows.at(self._moment())

    def _moment(self) -> datetime:
        return datetime.fromtimestamp(self._now(), UTC)

    @property
    def shut(self) -> bool:
        """True if nothing may be begun."""
        return self.paused or self.ceiling.closed or bool(self.hindrance)

    @property
    def most(self) -> int | None:
        """Moves at once; None: as many as pay."""
        if self.shut:
            return 0
        bounds = (self.ceiling.parallel, self._endured(), self._share)
        return min((each for each in bounds if each is not None), default=None)

    def look(self) -> bool:
        """See what the clock allows; True if another window holds."""
        before, self.ceiling = self.ceiling, self._windows.at(self._moment())
        rates = (each and each / self._place.hosts for each in (self.ceiling.bytes_per_s, self.ceiling.objects_per_s))
        self.throttle.limit(time.monotonic(), *rates)
        if not self.shut:
            self.closed_at = None
        elif self.closed_at is None:
            self.closed_at = time.monotonic()
        return self.ceiling != before

    async def divide(self, place: Place, allow: Callable[[], None]) -> None:
        """Have our share of what all hosts together may ask for; LedgerError: none, as it may be somebody else's now.

        `allow` is called before anything is given back: nothing is begun then that would be too much.
        """
        if self._slots is None:
            return
        self._place = place
        most = MOST if self.ceiling.parallel is None else self.ceiling.parallel
        ours = place.share(most)
        self.crowded_out = ours == 0
        ours = max(ours, min(self._held, self._begun()))  # nobody else goes on with a study that we have in hand
        self._share = min(ours, self._share or 0)
        allow()
        self._share = 0
        # Moves that are too many by now go on, and are still ours, until they have ended.
        self._held = await self._slots.hold(max(ours, min(self._moves(), self._held)), most)
        self._share = min(ours, self._held)

    @property
    def divided(self) -> bool:
        """True if there may be other hosts, with which it has to be divided."""
        return self._slots is not None

    def lose(self) -> None:
        """Nobody knows any more what our share is."""
        if self._slots is not None:
            self._share = 0

    @property
    def words(self) -> str:
        """Why nothing is begun, or what the window allows; empty if that is everything."""
        if self.paused:
            return "paused"
        if self.ceiling.closed:
            return "no window is open"
        return self.hindrance or ("" if self.ceiling == OPEN else f"window: {self.ceiling}")
