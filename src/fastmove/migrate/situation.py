"""How a migration stands, by its ledger: which windows hold, which hosts run it, and how its two peers are.

What a run has noted counts until something came of it: it waits for a peer from when it says so until an object comes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from fastmove.errors import ConfigurationError, FastmoveError, StorageNotReady
from fastmove.ledger.model import Batch, Event, Host, JobState, Progress, Summary, Wish
from fastmove.ledger.sharing import FORGOTTEN_S, GONE_S, Sharing
from fastmove.migrate.windows import Windows, parse_window
from fastmove.values import Value

WAITING: Final = "migrate.waiting"
"""The event of a run that waits for what has no kind of its own: the source, or the ledger."""

_OBJECTIONS: Final = {
    "destination.away": "migrate.destination_away",
    "s3.away": "migrate.destination_away",
    "fs.low": "migrate.disk_low",
}
"""An objection to more → the event of a run that waits until nobody has it: it is the destination's."""

NOTES: Final = (
    "migrate.began",
    WAITING,
    *_OBJECTIONS.values(),
    "migrate.suffering",
    "migrate.recovered",
)
"""Kinds of events that say how a peer is."""

NOTED: Final = 50
"""Events of these kinds that are looked at."""

OF_LATE: Final = 60
"""Minutes that a rate of late goes by."""

LEFT: Final = (JobState.READY, JobState.MOVING, JobState.WAITING)
"""States of studies that have not ended."""

DESTINATIONS: Final = ("to", "forward", "third-party")
"""Settings of a batch that say where everything goes."""

UNDELIVERED: Final = "undelivered"
"""The class of reasons for which the destination has to answer."""


class Peer(Value):
    """One of the two: `state` is one of STATES, `text` what more is known, `since` when that was noted."""

    role: str
    name: str
    state: str
    text: str = ""
    since: float | None = None
    until: datetime | None = None
    """When the next window opens."""


STATES: Final = {
    "running": "running",
    "sparing": "running, and spared",
    "behind": "running, and behind",
    "closed": "no window is open",
    "paused": "held up: paused",
    "held-up": "held up",
    "idle": "nobody is at it",
    "ended": "ended",
}
"""Those of a peer, in words."""


class Situation(Value):
    """How a batch stands at a moment."""

    at: float
    batch: Batch
    summary: Summary
    windows: Windows
    hosts: Sequence[Host]
    """The one that was heard of last first; those are gone that are not `here`."""

    notes: Mapping[str, Event]
    """The last one of each kind of NOTES, if there is one."""

    came_at: float
    """When something came or was under way last, as far as is known; 0: never."""

    @property
    def here(self) -> list[Host]:
        """Hosts that run it."""
        return [host for host in self.hosts if self.is_here(host)]

    def is_here(self, host: Host) -> bool:
        """True if it was heard of lately."""
        return host.seen_at > self.at - GONE_S

    @property
    def moves(self) -> int:
        """Those under way."""
        return sum(host.moves for host in self.here)

    def peers(self) -> list[Peer]:
        """The source, and the destination if a run has said which it is."""
        return [self._source(), *map(self._destination, self._destinations())]

    def _destinations(self) -> list[str]:
        settings = self.batch.settings
        return [str(settings[name]) for name in DESTINATIONS if name in settings]

    def _source(self) -> Peer:
        peer = Peer("source", self.batch.source, "running", self._pace())
        now = datetime.fromtimestamp(self.at, self.windows.timezone)
        if state := self._nobody():
            return peer.replace(state=state, text="")
        if self.batch.wish is Wish.PAUSE:
            return peer.replace(state="paused", text="by an operator")
        if self.windows.at(now).closed:
            return peer.replace(state="closed", text="", until=self.windows.next_change(now))
        if (noted := self._waiting()) is not None and noted.kind == WAITING:
            return peer.replace(state="held-up", text=noted.text, since=noted.at)
        if (noted := self._last("migrate.suffering", "migrate.recovered")) is not None:
            return peer.replace(state="sparing", text=noted.text, since=noted.at)
        return peer

    def _destination(self, name: str) -> Peer:
        peer = Peer("destination", name, "running")
        if state := self._nobody():
            return peer.replace(state=state)
        if (noted := self._waiting()) is not None and noted.kind != WAITING:
            return peer.replace(state="held-up", text=noted.text, since=noted.at)
        if behind := self.summary.waiting.get(UNDELIVERED, 0):
            which = "1 study waits" if behind == 1 else f"{behind:,} studies wait"
            return peer.replace(state="behind", text=f"{which} for its proof")
        return peer

    def _nobody(self) -> str:
        """Why nothing is asked of a peer at all; empty if somebody is at it."""
        if self.here:
            return ""
        return "idle" if self.left or not self.summary.total.studies else "ended"

    @property
    def left(self) -> int:
        """Studies that have not ended."""
        return sum(self.summary.states[state].studies for state in LEFT)

    def _pace(self) -> str:
        ceiling = self.windows.at(datetime.fromtimestamp(self.at, self.windows.timezone))
        moves = "1 move under way" if self.moves == 1 else f"{self.moves:,} moves under way"
        return f"{moves}; window: {ceiling}" if self.windows.windows else moves

    def _last(self, kind: str, *ends: str) -> Event | None:
        """The last one of a kind, unless a run has begun since, or one of other kinds has ended it."""
        noted = self.notes.get(kind)
        after = [self.notes[each].at for each in ("migrate.began", *ends) if each in self.notes]
        return noted if noted is not None and all(noted.at >= each for each in after) else None

    def _waiting(self) -> Event | None:
        """Why nothing is moved for now, unless something has come since."""
        noted = filter(None, map(self._last, (WAITING, *_OBJECTIONS.values())))
        last = max(noted, key=lambda each: each.at, default=None)
        return last if last is not None and last.at >= self.came_at else None


async def situation(
    ledger: Sharing, batch: Batch, summary: Summary, progress: Sequence[Progress], now: float, zone: tzinfo
) -> Situation:
    """That of a batch now; `zone` is the clock that windows go by if no run has said another one."""
    heard = await ledger.hosts(batch.id)
    notes = await ledger.events(batch.id, kinds=NOTES, limit=NOTED)
    # A minute in which something came has begun when it came, at the latest.
    came = [*(each.minute * 60.0 for each in progress[-1:]), *(host.seen_at for host in heard if host.moves)]
    return Situation(
        now,
        batch,
        summary,
        windows(batch, zone),
        [host for host in heard if host.seen_at > now - FORGOTTEN_S],
        {event.kind: event for event in reversed(notes)},
        max(came, default=0.0),
    )


def waiting_for(error: FastmoveError | None) -> str:
    """The event of a run that waits until this has passed."""
    return _OBJECTIONS.get(error.key, WAITING) if isinstance(error, StorageNotReady) else WAITING


def windows(batch: Batch, zone: tzinfo) -> Windows:
    """Those in the settings of a batch; always open if there are none, or none that can be read."""
    given = batch.settings.get("windows") or ()
    try:
        known = [parse_window(str(each)) for each in given]
        name = batch.settings.get("timezone")
        return Windows(known, ZoneInfo(str(name)) if name else zone)
    except (ConfigurationError, ValueError, LookupError, TypeError, OSError):
        return Windows((), zone)


def of_late(progress: Sequence[Progress], now: float) -> dict[str, float] | None:
    """What came a minute within the last hour, which is the only one that is looked at; None if nothing did."""
    recent = [each for each in progress if each.minute >= int(now / 60) - OF_LATE]
    if not recent:
        return None
    minutes = max(now / 60 - recent[0].minute, 1.0)
    return {name: sum(getattr(each, name) for each in recent) / minutes for name in ("studies", "instances", "nbytes")}
