"""Whether a peer still says something, and enough of it: a look now and then, no timer that each read starts anew."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, NamedTuple

from fastmove.limits import Limits

if TYPE_CHECKING:
    from fastmove.net.connection import Connection

LOOKS_PER_LIMIT: Final = 8
"""How often it is looked within a limit: an end may come so much too late."""


class Seen(NamedTuple):
    """What a connection shows at one look; counters are those since its beginning."""

    now: float
    """Seconds of any clock."""

    held_s: float
    """For so long it was not read: something of ours had to be waited for.  That is not the peer's time."""

    received: int
    """Bytes."""

    writes: int
    messages: int
    """Whole ones that came."""

    under_way: bool
    """A message or a PDU has begun, and has not ended."""

    unsent: int | None = None
    """Bytes that it has not taken; None while there is room for more."""


class Watchdog:
    """What is wrong with how a peer behaves, by the limits `message_s`, `idle_s`, `rate_s` and `min_rate`.

    Where `may_be_idle` it may be silent between messages for as long as it likes: somebody else waits for it.
    """

    def __init__(self, limits: Limits, *, may_be_idle: bool = False) -> None:
        self._limits = limits
        self._may_be_idle = may_be_idle
        bounds = (limits.message_s, limits.rate_s, limits.message_s if may_be_idle else limits.idle_s)
        self.interval_s: Final = min(bounds) / LOOKS_PER_LIMIT
        """From one look to the next."""
        self._signs = -1
        self._quiet_since = 0.0
        self._messages = -1
        self._window: tuple[float, int] | None = None
        self._unsent: int | None = None
        self._unsent_since = 0.0

    def look(self, seen: Seen) -> tuple[str, str] | None:
        """A log event and its detail if the peer has gone too far; None if all is well."""
        return self._takes_nothing(seen) or self._is_silent(seen) or self._is_slow(seen)

    def _takes_nothing(self, seen: Seen) -> tuple[str, str] | None:
        if seen.unsent != self._unsent:
            self._unsent, self._unsent_since = seen.unsent, seen.now
        stalled_s = seen.now - self._unsent_since
        if seen.unsent is None or stalled_s < self._limits.message_s:
            return None
        return "conn.write_stalled", f"{stalled_s:.0f} s"

    def _is_silent(self, seen: Seen) -> tuple[str, str] | None:
        # What is sent counts too: a peer that waits for us is not idle.
        now, signs = seen.now - seen.held_s, seen.received + seen.writes
        if signs != self._signs:
            self._signs, self._quiet_since = signs, now
        quiet_s = now - self._quiet_since
        if seen.under_way:
            return ("conn.stalled", f"{quiet_s:.0f} s") if quiet_s >= self._limits.message_s else None
        if self._may_be_idle or quiet_s < self._limits.idle_s:
            return None
        return "assoc.idle", f"{quiet_s:.0f} s"

    def _is_slow(self, seen: Seen) -> tuple[str, str] | None:
        now = seen.now - seen.held_s
        if not seen.under_way or seen.messages != self._messages:
            self._messages, self._window = seen.messages, None
        if not seen.under_way:
            return None
        if self._window is None:
            self._window = now, seen.received
        began, before = self._window
        seconds, nbytes = now - began, seen.received - before
        if seconds < self._limits.rate_s:
            return None
        self._window = now, seen.received
        if nbytes >= self._limits.min_rate * seconds:
            return None
        return "conn.too_slow", f"{nbytes / seconds:.0f} bytes a second, at least {self._limits.min_rate}"


class Watch:
    """Looks at a connection while its association stands, and ends it if it must; `cancel` when it has ended."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._watchdog = Watchdog(connection.limits, may_be_idle=connection.may_be_idle)
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._lag_s = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._look()

    def cancel(self) -> None:
        """It is not looked any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        connection, receiver, now = self._connection, self._connection.receiver, self._loop.time()
        self._lag_s += max(0.0, now - self._due)  # we were late: that is nobody's silence
        counts = receiver.received, connection.writes, receiver.messages
        seen = Seen(now - self._lag_s, connection.held_s(now), *counts, receiver.receiving, connection.unsent())
        if connection.association.data_allowed and (wrong := self._watchdog.look(seen)) is not None:
            key, detail = wrong
            connection.misbehaved(key, detail)
            if key == "conn.write_stalled":
                connection.cut()  # it would not take an A-ABORT either
            else:
                connection.abort(f"{key}: {detail}")
            return
        self._due = now + self._watchdog.interval_s
        self._timer = self._loop.call_at(self._due, self._look)
