"""Where the time of moves went, as far as the receiving side can tell: of every second, what it was spent on.

A move is a chain on the PACS's side: it thinks, it opens an association, and for each object it sends and waits for
our answer.  Each link is told apart by what `services/arrivals.py` has measured:

- nothing came, and no message was under way: one round trip is the network's, the rest is what the PACS thought;
- nothing came in the middle of a message for about 40 ms, again and again: Nagle's algorithm on its side waits for an
  acknowledgement that our kernel delays;
- nothing came in the middle of a message for short whiles: that is the pace of the network;
- the disk's threads had an object, or our thread stood still while it wrote: our disk;
- our thread worked, or was busy with another association: our CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from fastmove.services.arrivals import Arrival


class Stall(Enum):
    """What a second of a move may be spent on."""

    PACS = "pacs"
    NETWORK = "network"
    NAGLE = "nagle"
    DISK = "disk"
    CPU = "cpu"
    LIMIT = "limit"
    """Our own: no more was to come."""


DELAYED_ACK_S: Final = ((0.037, 0.048), (0.195, 0.215))
"""How long kernels delay an acknowledgement that nothing carries: Linux 40 ms, Windows 200 ms."""

PAUSE_ROUND_TRIPS: Final = 1.5
"""A pause of up to so many round trips is one of the network: a window that was full, or a segment sent again."""

LEAST_DELAYED_ACKS: Final = 5
"""A pattern is something that happens again and again."""

SET_UP_ROUND_TRIPS: Final = 2
"""Of a storage association: TCP, and A-ASSOCIATE."""


class Spent(NamedTuple):
    """What one move went into; the seconds add up to its length."""

    stalls: dict[Stall, float]
    """Without those of `delayed_s`."""

    before_s: float = 0.0
    """Of what the PACS took: before the first object..."""

    between_s: float = 0.0
    """... between objects..."""

    after_s: float = 0.0
    """... and after the last one, before the final response."""

    delayed_s: float = 0.0
    """Pauses in the middle of messages that are as long as acknowledgements are delayed..."""

    delayed: int = 0
    """... how many..."""

    paused: int = 0
    """... and how many others, which are the PACS's."""


class MoveStalls:
    """What one move spends its time on; `echo_s` is what a C-ECHO took, and counts if the kernel knows a shorter way.

    With `keep` objects go to a disk, which else cannot be to blame.
    """

    def __init__(self, echo_s: float, *, keep: bool) -> None:
        self._keep = keep
        self._spent = dict.fromkeys(Stall, 0.0)
        self._round_trip_s = self._echo_s = echo_s
        self._between_s = self._delayed_s = 0.0
        self._delayed = self._paused = 0
        self._began_at: float | None = None
        self._ended_at = 0.0
        self._associations: set[int] = set()
        self._set_up = 0

    @property
    def empty(self) -> bool:
        """True before the first object."""
        return self._began_at is None

    def add(self, arrival: Arrival) -> bool:
        """An object of it came; True if another one of this move came before over the same association."""
        spent = self._spent
        round_trip = self._round_trip_s = max(self._echo_s, arrival.round_trip_s)
        follows = arrival.association in self._associations
        if follows:
            network = min(arrival.gap_s, round_trip)
            spent[Stall.NETWORK] += network
            spent[Stall.PACS] += arrival.gap_s - network
            self._between_s += arrival.gap_s - network
        else:  # the association may have been there, and idle, long before this move
            self._associations.add(arrival.association)
            self._set_up += arrival.first
        spent[Stall.NETWORK] += arrival.waits_s
        for pause in arrival.pauses_s:
            if pause <= PAUSE_ROUND_TRIPS * round_trip:
                spent[Stall.NETWORK] += pause
            elif any(low <= pause <= high for low, high in DELAYED_ACK_S):
                self._delayed_s += pause
                self._delayed += 1
            else:
                spent[Stall.PACS] += pause
                self._paused += 1
        spent[Stall.CPU] += arrival.late_s + arrival.cpu_s
        spent[Stall.LIMIT] += arrival.limited_s
        spent[Stall.DISK if self._keep else Stall.CPU] += arrival.blocked_s + arrival.held_s
        self._began_at = arrival.began_at if self._began_at is None else self._began_at
        self._ended_at = arrival.ended_at
        return follows

    def spent(self, began_at: float, ended_at: float) -> Spent:
        """What a move from then to then went into.

        Where several associations brought its objects at once, each of their seconds counts for its share.
        """
        total = ended_at - began_at
        covered = sum(self._spent.values()) + self._delayed_s
        share = min(1.0, total / covered) if covered else 1.0
        stalls = {stall: seconds * share for stall, seconds in self._spent.items()}
        left = max(0.0, total - covered)
        network = min(left, self._round_trip_s * (1 + SET_UP_ROUND_TRIPS * self._set_up))
        stalls[Stall.NETWORK] += network
        thought = left - network
        stalls[Stall.PACS] += thought
        after = 0.0 if self._began_at is None else min(max(0.0, ended_at - self._ended_at), thought)
        between, delayed = self._between_s * share, self._delayed_s * share
        return Spent(stalls, thought - after, between, after, delayed, self._delayed, self._paused)


class Breakdown:
    """What all moves of a run went into."""

    def __init__(self) -> None:
        self._stalls = dict.fromkeys(Stall, 0.0)
        self._thinking = {"before": 0.0, "between": 0.0, "after": 0.0}
        self._delayed_s = 0.0
        self._delayed = self._paused = 0

    def add(self, spent: Spent) -> None:
        """Take in one."""
        for stall in Stall:
            self._stalls[stall] += spent.stalls[stall]
        for name in self._thinking:
            self._thinking[name] += getattr(spent, f"{name}_s")
        self._delayed_s += spent.delayed_s
        self._delayed += spent.delayed
        self._paused += spent.paused

    def stalls(self) -> dict[Stall, float]:
        """The seconds of all of them by what they went into.

        Pauses are Nagle's if there are several, and most of all pauses are as long as acknowledgements are delayed.
        """
        nagle = self._delayed >= LEAST_DELAYED_ACKS and self._delayed > self._paused
        whose = Stall.NAGLE if nagle else Stall.PACS
        return {**self._stalls, whose: self._stalls[whose] + self._delayed_s}

    def thinking(self) -> dict[str, float]:
        """The seconds that the PACS took, by where in a move."""
        return dict(self._thinking)


def dominant(stalls: Mapping[Stall, float]) -> Stall | None:
    """What took most; None if nothing took any time."""
    worst = max(stalls, key=stalls.__getitem__, default=None)
    return worst if worst is not None and stalls[worst] > 0 else None


ASSOCIATIONS: Final = (
    "Most of the time goes into making associations, before there is anything to move: keep them (leave out "
    "--new-associations), or find out what is slow about them, such as a TLS handshake, or a PACS that looks up the "
    "name of each host that connects."
)
"""What to do about those, if they take longer than `MOST`."""

MOST: Final = 0.5
"""Of all time."""

UNSTORED: Final = (
    "This host did not store all that came: its disk was full, or failed. The PACS is not to blame for that. Make "
    "room, or leave out --to, and measure again."
)
"""What to do about our own disk."""

ADVICE: Final[dict[Stall, str]] = {
    Stall.PACS: (
        "The PACS itself takes most of the time: it looks for objects, reads them from its disks, or waits for "
        "something. More moves at once help as long as throughput grows with them (--ramp finds out); beyond that "
        "look at its database, its storage tier and its limit of associations."
    ),
    Stall.NETWORK: (
        "Most of the time bytes are on their way. C-STORE waits for an answer after each object, so a long round "
        "trip costs every object one: use more moves at once, and receive near the PACS. On a short way it is "
        "bandwidth: look at the slowest link, at duplex settings, and at what else uses it."
    ),
    Stall.NAGLE: (
        "The sender waits for acknowledgements that are delayed: Nagle's algorithm is on at the PACS, or at a proxy "
        "between. fastmove acknowledges at once where it runs on Linux; if the pattern shows all the same, something "
        "between delays it. Have TCP_NODELAY set at the sender (for DCMTK: TCP_NODELAY=1 in its environment)."
    ),
    Stall.DISK: (
        "Our disk takes most of the time. Measure the PACS with --discard, and receive on a faster disk; with "
        "--no-durable nothing is synced before Success is sent."
    ),
    Stall.CPU: (
        "This host is the limit, not the PACS: its processor is busy. `fastmove bench self` says what it can do at "
        "most; run the benchmark on a host of its own, with faster cores."
    ),
    Stall.LIMIT: (
        "The benchmark itself holds the PACS back, as --max-rate asks it to: what was measured is how it behaves at "
        "that rate, and not what it can do."
    ),
}
"""What to do about each."""
