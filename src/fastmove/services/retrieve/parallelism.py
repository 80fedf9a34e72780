"""How many moves to have under way at once: more while that pays, half as many when the PACS has had enough.

Additive increase and multiplicative decrease, as TCP does it, with a quick start; no I/O, time is passed in.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

GAIN: Final = 1.15
"""A step up has paid if the rate has grown by this factor."""

LOSS: Final = 0.9
"""It has harmed if the rate has fallen below this one."""

HOLD_S: Final = 5.0
"""After a step that did not pay, or a halving, none for so long."""

RAISE_S: Final = 30.0
"""How long it holds that the PACS serves no more than so many: then one more is tried."""

SLOW_PACE_S: Final = 0.005
"""An object that takes longer than this from a PACS that is near waits for something else than the two of us."""

MEASURE_S: Final = 0.1
"""The shortest time over which a rate is measured..."""

MEASURE_INSTANCES: Final = 3
"""... and how many instances, at the pace of one move, it has to be good for."""

SLOWER: Final = 3.0
"""A first object that takes so many times as long as it used to, and..."""

SLOW_S: Final = 2.0
"""... longer than this, is a PACS that has had enough."""

BEGIN: Final = 2
"""Moves while nobody knows how far away the PACS is."""

DISTANT_S: Final = 0.01
"""A round trip from which on it is clear that several moves at once pay."""

BEGINNINGS: Final = ((0.05, 8), (DISTANT_S, 4), (0.0, 1))
"""From this round trip on, moves to begin with: an object takes some of them, whatever the PACS does."""


class Parallelism:
    """`limit` moves may be under way; `fixed` says how many, 0: as many as pay, up to `ceiling`.

    Whatever that is, `allow` may take it back at any time.
    """

    def __init__(self, fixed: int = 0, *, ceiling: int = 16, known: int | None = None) -> None:
        self._fixed = fixed > 0
        self.ceiling = self._own_ceiling = max(1, fixed or min(ceiling, known or ceiling))
        self._limit = self.ceiling if self._fixed else min(BEGIN, self.ceiling)
        self._closed = False
        self.changes = 0
        """How often the limit has changed."""
        self._quick = True
        self._near = False
        self._rate = 0.0  # the best so far, and with how many moves
        self._rate_limit = 0
        self._since: float | None = None
        self._bytes = 0
        self._hold_until = 0.0
        self._most = self.ceiling
        self._raise_at = 0.0
        self.first_object_s: float | None = None
        """How long it usually takes to the first object of a move."""

    @property
    def limit(self) -> int:
        """How many moves may be under way."""
        return 0 if self._closed else self._limit

    def allow(self, now: float, most: int | None) -> None:
        """No more than `most` from now on, 0: none; None: as many as without this."""
        self._closed = most == 0
        allowed = self._own_ceiling if most is None else max(1, min(most, self._own_ceiling))
        if allowed == self._most:
            return
        if allowed > self._most:  # nobody knows what so many would do
            self._quick, self._hold_until = True, now
        self.ceiling = self._most = allowed
        self._rate, self._rate_limit = 0.0, 0  # that of another number
        self._set(allowed if self._fixed else min(self._limit, allowed))

    def shares(self, pace_s: float | None) -> int:
        """Among how many moves to divide what there is to do: those that there are, or may soon be.

        A PACS that is near is not asked for parts unless it is known to be slow: to some a list of UIDs is dear.
        """
        if self._fixed:
            return self._limit
        if self._near and (pace_s is None or pace_s < SLOW_PACE_S):
            return 1
        return self.ceiling if self._quick else self._limit

    def round_trip(self, seconds: float) -> None:
        """How long a round trip takes, as the first association shows."""
        self._near = seconds < DISTANT_S
        if not self._fixed and self._limit == BEGIN:
            self._set(min(next(moves for beyond, moves in BEGINNINGS if seconds >= beyond), self.ceiling))

    def measure(self, now: float, nbytes: int, busy: int, pace_s: float | None) -> None:
        """Bytes received so far, with `busy` moves under way that have all brought something."""
        if self.ceiling < self._most and now >= self._raise_at:
            self.ceiling += 1
            self._raise_at = now + RAISE_S
            if self._fixed:
                self._set(self.ceiling)
        if self._fixed or busy < self._limit or pace_s is None:
            self._since = None
            return
        if self._since is None:
            self._since, self._bytes = now, nbytes
            return
        elapsed = now - self._since
        if elapsed < max(MEASURE_S, MEASURE_INSTANCES * pace_s):
            return
        rate = (nbytes - self._bytes) / elapsed
        self._since, self._bytes = now, nbytes
        if now < self._hold_until:
            return
        if self._limit == self._rate_limit:  # nothing was tried since: the rate is as it is now
            self._rate = rate
            self._step(now)
        elif rate >= self._rate * GAIN:
            self._rate, self._rate_limit = rate, self._limit
            self._step(now)
        else:
            back = self._rate_limit if rate < self._rate * LOSS or self._quick else self._limit
            self._quick = False
            self._rate, self._rate_limit = max(rate, self._rate * LOSS), back
            self._hold_until = now + HOLD_S
            self._set(back)

    def _step(self, now: float) -> None:
        if self._limit < self.ceiling:
            self._set(min(self.ceiling, self._limit * 2 if self._quick else self._limit + 1))

    def congested(self, now: float) -> None:
        """The PACS refused for now, aborted, or took too long: half as many."""
        self._quick = False
        if self._fixed or now < self._hold_until:
            return
        self._hold_until = now + HOLD_S
        self._rate = 0.0
        self._rate_limit = 0
        self._set(max(1, self._limit // 2))

    def served(self, now: float, associations: int) -> None:
        """The PACS serves no more associations of ours than these at once, for now."""
        self.ceiling = max(1, min(self.ceiling, associations))
        self._raise_at = now + RAISE_S
        self._quick = False
        if self._limit > self.ceiling:
            self._rate, self._rate_limit = 0.0, 0  # that of more
            self._set(self.ceiling)

    def began(self, now: float, seconds: float, limit: int) -> None:
        """How long a move took to its first object, that began while this was the limit."""
        usual = self.first_object_s
        slow = usual is not None and seconds > max(SLOW_S, SLOWER * usual)
        if slow and limit <= self._limit:  # else that has been seen to
            self.congested(now)
        if usual is None or not slow:
            self.first_object_s = seconds if usual is None else 0.8 * usual + 0.2 * seconds

    def waiting(self, now: float, seconds: Collection[float]) -> None:
        """How long each move under way has waited for its first object, 0 if it has it: some may stand in a queue."""
        if self._fixed or self.first_object_s is None:
            return
        patience = max(SLOW_S, SLOWER * self.first_object_s)
        served = sum(each < patience for each in seconds)
        if 0 < served < min(len(seconds), self._limit):
            self._hold_until = now + HOLD_S
            self.served(now, served)

    def _set(self, limit: int) -> None:
        if limit != self._limit:
            self._limit = limit
            self.changes += 1
            self._since = None
