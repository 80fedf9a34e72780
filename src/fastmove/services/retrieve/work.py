"""What a retrieve has still to do: units to be listed, units moved part by part, and those to be asked for again."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections import deque
from collections.abc import AsyncGenerator, Callable, Container, Iterator
from datetime import date
from typing import Final

from fastmove.dimse import identifier
from fastmove.dimse.move import Evidence
from fastmove.notices import InstanceStored, Observer, QueryUnresolved
from fastmove.services.finder import Finder
from fastmove.services.receipts import DIFFERS
from fastmove.services.retrieve.config import RetrieveConfig
from fastmove.services.retrieve.listing import Listing
from fastmove.services.retrieve.part import Part, part_size
from fastmove.services.retrieve.unit import LEVELS, Unit
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Once, Query, Selection, Wanted

AHEAD: Final = 256
"""Units that are found and wait: more are not looked for."""

AHEAD_LISTED: Final = 32
"""Units that are listed and wait for their turn: more are not listed."""

LINGER_S: Final = 1.0
"""How long an association waits for something to do before it is released."""

MAX_UNCLAIMED: Final = 10_000
"""Objects on nobody's list that are kept in mind: the list, asked for once more, may have them."""

Source = Callable[[], AsyncGenerator[Wanted, None]]
"""Gives units one by one, each when it may be taken up; the same study may come again when it is finished."""

MANY: Final = 4
"""UIDs in a list of which only the first came: that is no accident, even where nobody counts."""


class Work:
    """The units of one run, from the selection, or another `source`, to the last round."""

    def __init__(self, config: RetrieveConfig, inventory: Container[str], source: Source | None = None) -> None:
        self.selection = selection_of(config)
        self.known = 0
        """Units found so far."""
        self.unresolved: list[Unresolved] = []
        self.fed = False
        """No more will be found."""
        self.done = 0
        self.listed = 0
        """Instances on lists so far, those that were there included."""
        self.present = 0
        """Of these, there before."""
        self.asked = Once()
        """Study Instance UIDs of the selection, as far as it has been found."""
        self.told_apart = False
        """Objects say which move they belong to: units without a list can be moved at the same time."""
        self._config = config
        self._inventory = inventory
        self._source = source
        self._queue: deque[Wanted] = deque()
        self._listing = 0
        self._room = asyncio.Event()
        self._news: asyncio.Event = asyncio.Event()
        self._dividing: deque[Unit] = deque()
        self._open: dict[Unit, None] = {}
        self._due: list[tuple[float, int, Unit]] = []
        self._come_late: list[Unit] = []
        self._numbers = itertools.count()
        self._awaited: dict[str, Unit] = {}
        self._unclaimed: dict[str, tuple[int, bool]] = {}
        self._refused_levels = set[str]() if config.profile.uid_lists is not False else {"IMAGE"}
        """At which the PACS is not to be asked..."""
        self._doubted_levels: set[str] = set()
        """... or perhaps not: it may have been unable to read what it was asked for."""
        self._served_levels: set[str] = set() if not config.profile.uid_lists else {"IMAGE"}
        """At which it has sent what it was asked for."""

    # ------------------------------------------------------------------ where it comes from

    async def feed(self, changed: Callable[[], None], notify: Observer | None) -> None:
        """Find what is wanted, not far ahead of what is worked on; AssociationError, DimseError, ConfigurationError."""
        config = self._config
        find = Finder(config.peer, config.ae_title, config.model, config.limits, notify)

        def unresolved(query: Unresolved) -> None:
            self.unresolved.append(query)
            if notify is not None:
                notify(QueryUnresolved(query.query.keys, query.reason, query.found))

        if self._source is not None:
            wanted_ones = self._source()
        else:
            wanted_ones = resolve(self.selection, find, unresolved, today=date.today(), profile=config.profile)
        try:
            async for wanted in wanted_ones:
                self.known += 1
                self.asked.is_new(wanted.study_instance_uid)
                self._queue.append(wanted)
                self._news.set()
                changed()
                while len(self._queue) >= AHEAD:
                    self._room.clear()
                    await self._room.wait()
        finally:
            await wanted_ones.aclose()
            self.fed = True
            self._news.set()
            changed()
            await find.close()

    # ------------------------------------------------------------------ what is to be done next

    @property
    def under_way(self) -> int:
        """Units that were taken up and are not finished."""
        return len(self._open)

    @property
    def retrying(self) -> int:
        """Units of which something is asked for again, now or when it is time."""
        return len({unit for unit in self._open if unit.rounds} | {unit for *_, unit in self._due})

    def waiting(self, now: float) -> int:
        """How many could do something at once."""
        self._revive(now)
        parts = sum(min(unit.remaining, 64) for unit in itertools.islice(self._movable(), 64))
        return parts + (len(self._queue) if self._takable else 0)

    @property
    def exhausted(self) -> bool:
        """Nothing is waiting or under way."""
        return not (self._queue or self._open or self._due)

    def is_last(self) -> bool:
        """True if, as far as one can see, no other part comes after those that are under way."""
        return self.fed and not (self._queue or self._dividing or self._due)

    def part(self, now: float, shares: int, pace_s: float | None, first_object_s: float) -> Part | None:
        """What the next C-MOVE is to ask for; None if a unit has to be taken up first, or nothing is left."""
        self._revive(now)
        unit = next(self._movable(), None)
        if unit is None:
            return None
        size = part_size(unit.remaining, len(self._queue) + len(self._dividing) - 1, shares, pace_s, first_object_s)
        part = unit.part(size, self._finest)
        if not unit.remaining:
            self._dividing.remove(unit)
        return part

    def _movable(self) -> Iterator[Unit]:
        """Units of which a part can be moved now: nothing would tell the objects of two that have no list apart."""
        alone: bool | None = None
        for unit in self._dividing:
            if unit.series is None and not self.told_apart:
                if alone is None:
                    alone = not any(u.out and u.series is None for u in self._open)
                if not alone:
                    continue
            yield unit

    def _revive(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            unit = heapq.heappop(self._due)[2]
            unit.next_round()
            if unit.settled:
                self._come_late.append(unit)
            else:
                self._dividing.append(unit)

    def come_late(self) -> Iterator[Unit]:
        """Units that were to be asked for again, of which everything has come meanwhile: they are to be finished."""
        while self._come_late:
            yield self._come_late.pop()

    @property
    def _takable(self) -> bool:
        return bool(self._queue) and len(self._dividing) < AHEAD_LISTED and len(self._due) < AHEAD

    def take(self) -> Wanted | None:
        """The next unit to be listed."""
        if not self._takable:
            return None
        wanted = self._queue.popleft()
        self._listing += 1
        self._room.set()
        return wanted

    def put_back(self, wanted: Wanted) -> None:
        """It could not be listed, as the association ended."""
        self._listing -= 1
        self._queue.appendleft(wanted)
        self._news.set()

    def withdraw(self) -> list[Wanted]:
        """What was found and is not taken up yet: it is not worked on."""
        withdrawn = list(self._queue)
        self._queue.clear()
        self.known -= len(withdrawn)
        self._room.set()
        return withdrawn

    async def news(self) -> bool:
        """Wait a little for something to do; False if nothing came."""
        while not self._takable and next(self._movable(), None) is None:
            if self.is_last() and not self._listing:
                return False
            self._news.clear()
            try:
                async with asyncio.timeout(LINGER_S):
                    await self._news.wait()
            except TimeoutError:
                return False
        return True

    # ------------------------------------------------------------------ units under way

    def begin(self, wanted: Wanted, listing: Listing) -> Unit:
        """Take up a unit, now that its list is there."""
        self._listing -= 1
        unit = Unit(wanted, self._config.model, listing, self._inventory)
        self._open[unit] = None
        if unit.series is not None:
            self.listed += len(unit.series)
            self.present += unit.present
            self._awaited.update(dict.fromkeys(unit.missing, unit))
        if unit.remaining:
            self._dividing.append(unit)
        self._news.set()
        return unit

    def again(self, unit: Unit, due: float) -> None:
        """Ask for what is missing of a unit once more, when it is time."""
        self._awaited.update(dict.fromkeys(unit.missing, unit))
        heapq.heappush(self._due, (due, next(self._numbers), unit))
        self._news.set()  # another may be moved meanwhile

    def finish(self, unit: Unit) -> None:
        """Nothing more is asked for of a unit."""
        self._open.pop(unit, None)
        self.done += 1
        self._news.set()
        for uid in unit.series or ():
            self._awaited.pop(uid, None)

    def unfinished(self) -> Iterator[Unit]:
        """Units that were taken up and not finished."""
        yield from tuple(self._open)

    def came(self, notice: InstanceStored, *, ours: bool) -> bool:
        """An object is in place; True if it is `ours`, of some move, or at least on the list of a unit under way."""
        uid, differs = notice.sop_instance_uid, notice.placing in DIFFERS
        unit = self._awaited.pop(uid, None)
        if unit is not None:
            unit.stored.add(uid)
            unit.differing += differs and not ours  # no move counts that
        elif not ours:  # the list, asked for once more, may have it
            self._unclaimed[uid] = notice.nbytes, differs
            if len(self._unclaimed) > MAX_UNCLAIMED:
                del self._unclaimed[next(iter(self._unclaimed))]
        return ours or unit is not None

    def claim(self, unit: Unit) -> list[int]:
        """Those that are on the list of a unit, now that it has been asked for once more, have come: their bytes."""
        claimed = unit.missing & self._unclaimed.keys()
        unit.stored |= claimed
        found = [self._unclaimed.pop(uid) for uid in claimed]
        unit.differing += sum(differs for _, differs in found)
        return [nbytes for nbytes, _ in found]

    def learn(self, part: Part, evidence: Evidence) -> bool:
        """True if a move shows that the PACS has to be asked at a higher level, or not for a list of UIDs."""
        uids, outcome = part.uids, evidence.outcome
        if evidence.arrivals > 1:
            self._served_levels.add(part.level)
        if uids is None or outcome is None or part.unit.wanted.sop_instance_uids:
            return False
        # With failures beside it the PACS has read the whole list, and one is what it could send of it.
        counted = (outcome.completed == 1 and not outcome.failed) or (outcome.completed is None and len(uids) >= MANY)
        one_of_many = len(uids) > 1 and counted and evidence.stored == {part.first} and evidence.fine
        refused = outcome.status is not None and 0xA900 <= outcome.status < 0xD000 and not evidence.arrivals
        if refused and evidence.unable and (part.unit.failures or part.level in self._served_levels):
            return False  # it is for what was asked, not for how
        ill_taken = (one_of_many and part.level == "IMAGE") or (refused and part.level != "STUDY")
        if ill_taken and part.level == self._finest:
            (self._doubted_levels if evidence.unable else self._refused_levels).add(part.level)
        return ill_taken and part.level != self._finest

    @property
    def _finest(self) -> str:
        """The level at which the PACS is asked for some of what there is."""
        not_served = self._refused_levels | (self._doubted_levels - self._served_levels)
        return next(level for level in reversed(LEVELS) if level == "STUDY" or level not in not_served)


def selection_of(config: RetrieveConfig) -> Selection:
    """The selection of a configuration, its keys included; ConfigurationError."""
    if not config.keys:
        return config.selection
    keys = identifier.query(config.keys, model=config.model, level=config.level, relational=True)
    values = {level: keys.get(keyword, "") for level, keyword in identifier.UNIQUE_KEYS.items()}
    plain = not any(set(value) & set("*?") for value in values.values())
    if plain and values["STUDY"] and keys.level != "PATIENT":
        identifier.retrieve(config.keys, model=config.model, level=config.level)  # ConfigurationError
        images = tuple(filter(None, values["IMAGE"].split("\\")))
        wanted = tuple(
            Wanted(study, series, images, values["PATIENT"])
            for study in values["STUDY"].split("\\")
            for series in values["SERIES"].split("\\")
        )
        return config.selection.replace(wanted=(*config.selection.wanted, *wanted))
    return config.selection.replace(queries=(*config.selection.queries, Query(config.keys, "STUDY")))
