"""Whether the loop runs: what keeps it from that keeps all associations waiting, and looks like their peers' fault."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from typing import Final

from fastmove.limits import Limits
from fastmove.notices import HostStrained, Observer

LOOK_S: Final = 1.0
"""From one look to the next, at most."""

QUIET_S: Final = 10.0
"""After it was told, it is told again no sooner: what happens meanwhile, all together."""


class _Lag:
    """A timer that sees how late it is, by a clock that goes on while the process is stopped."""

    def __init__(self, limits: Limits, notify: Observer) -> None:
        self._limit_s = limits.lag_s
        self._interval_s = min(limits.lag_s, LOOK_S)
        self._notify = notify
        self._loop = asyncio.get_running_loop()
        self._lags: list[float] = []
        self._quiet_until = 0.0
        self._again()

    def _again(self) -> None:
        self._due = time.monotonic() + self._interval_s
        self._timer = self._loop.call_later(self._interval_s, self._look)

    def _look(self) -> None:
        now = time.monotonic()
        if now - self._due >= self._limit_s:
            self._lags.append(now - self._due)
        if self._lags and now >= self._quiet_until:
            self.tell()
            self._quiet_until = now + QUIET_S
        self._again()

    def tell(self) -> None:
        """What has not been told yet."""
        if self._lags:
            often = f"{len(self._lags)} times, at most " if len(self._lags) > 1 else ""
            self._notify(HostStrained("loop.lag", f"{often}{max(self._lags):.1f} s"))
            self._lags.clear()

    def cancel(self) -> None:
        """It is not looked any more."""
        self._timer.cancel()
        self.tell()


@contextlib.contextmanager
def lag_told(limits: Limits, notify: Observer | None) -> Iterator[None]:
    """For the length of a block: `loop.lag` is told when the loop has not run for `lag_s`, or for longer."""
    if notify is None:
        yield
        return
    lag = _Lag(limits, notify)
    try:
        yield
    finally:
        lag.cancel()
