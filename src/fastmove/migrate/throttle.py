"""No more bytes and objects a second than a peer is to give: how long the next has to wait; time is passed in."""

from __future__ import annotations

import math
from typing import Final

BURST_S: Final = 1.0
"""What was not taken up is kept for so long: after idle time no more than this comes at once."""


class _Account:
    """What has come beyond a rate, and is waited for; below 0: what may come at once."""

    def __init__(self, rate: float | None) -> None:
        self.rate = rate
        self.debt = 0.0

    def pass_time(self, seconds: float) -> None:
        if self.rate is not None:
            self.debt = max(self.debt - seconds * self.rate, -BURST_S * self.rate)

    def take(self, amount: float) -> float:
        if self.rate is None:
            return 0.0
        self.debt += amount
        return max(0.0, self.debt / self.rate)


class Throttle:
    """In any time there come no more than what the ceilings allow for it and `BURST_S`, and the last object.

    None: as much as comes.  ValueError for a ceiling of nothing, which nobody could wait for.
    """

    def __init__(self, bytes_per_s: float | None = None, objects_per_s: float | None = None) -> None:
        _check(bytes_per_s, objects_per_s)
        self._bytes = _Account(bytes_per_s)
        self._objects = _Account(objects_per_s)
        self._now_s: float | None = None

    def wait_s(self, now_s: float, nbytes: int, objects: int = 1) -> float:
        """How long to wait before the next, now that so much comes; of nothing that is what is still to be waited."""
        if self._bytes.rate is self._objects.rate is None:
            return 0.0
        self._pass_time(now_s)
        return max(self._bytes.take(nbytes), self._objects.take(objects))

    def limit(self, now_s: float, bytes_per_s: float | None, objects_per_s: float | None) -> None:
        """Other ceilings from now on; what came too soon is waited for by these, once somebody asks again."""
        _check(bytes_per_s, objects_per_s)
        self._pass_time(now_s)
        for account, rate in ((self._bytes, bytes_per_s), (self._objects, objects_per_s)):
            if account.rate is None or rate is None:
                account.debt = 0.0  # without a ceiling nothing was counted
            account.rate = rate

    def _pass_time(self, now_s: float) -> None:
        since = now_s if self._now_s is None else self._now_s
        self._now_s = max(now_s, since)
        for account in (self._bytes, self._objects):
            account.pass_time(self._now_s - since)


def _check(*rates: float | None) -> None:
    if any(rate is not None and not 0 < rate < math.inf for rate in rates):
        raise ValueError("a ceiling is a number a second, more than 0, or None")
