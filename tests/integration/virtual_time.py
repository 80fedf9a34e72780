"""An event loop whose clock goes on only when nothing else happens: an hour passes in no time, and exactly.

What is under test and its peer share the loop; no thread may have anything to say, as nobody would wait for it.
"""

from __future__ import annotations

import asyncio
import selectors
from typing import Any, Final

import pytest

from fastmove.limits import Limits

SETTLE_S: Final = 0.005
"""For so long, in real seconds, the kernel may take to hand a byte from one socket of ours to the other."""


class _Selector(selectors.DefaultSelector):
    """Instead of waiting, it puts the clock on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready, or nothing, `timeout` seconds later by our clock."""
        ready = super().select(SETTLE_S if timeout is None or timeout > 0 else 0)
        if ready or timeout is None or timeout <= 0:
            return ready
        self.now += timeout
        return []


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """asyncio's own loop, with that clock, which begins at 0."""

    def __init__(self) -> None:
        self._virtual = _Selector()
        super().__init__(self._virtual)
        self._clock_resolution = 1e-9  # no timer is due before its time

    def time(self) -> float:
        """Seconds, as far as anybody has waited for them."""
        return self._virtual.now


LIMIT_S: Final = 100.0
STEP_S: Final = 0.001
EDGES: Final = pytest.mark.parametrize("over_s", [-STEP_S, STEP_S], ids=["just under", "just over"])
LONG: Final = dict.fromkeys(
    (
        *("connect_s", "tls_s", "associate_s", "release_s", "idle_s", "message_s", "rate_s"),
        *("response_s", "progress_s", "drain_s", "uncounted_s", "commit_s"),
    ),
    1e5,
)
OTHERS: Final = Limits(artim_s=1.0, stop_s=1.0, min_rate=0, folder_look_s=0.0).replace(**LONG)
"""What is not under test does not come into it; and no thread looks after the folder."""


def only(name: str) -> Limits:
    """That limit, and no other."""
    return OTHERS.replace(**{name: LIMIT_S})
