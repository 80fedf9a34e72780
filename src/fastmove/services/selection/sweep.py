"""All that matches a query, of a PACS that gives only so many matches at once.

A PACS that has more than it gives either fails, or leaves the rest out without a word.  Its cap is not known, but it
has given as many as it ever gave: an answer with fewer matches is whole.  One with as many, or one that fails, is asked
for in parts: by date down to a day, by time down to a second, then by patient ID.  Ranges do not find what has no date
or no time (PS3.4 C.2.2.2.5), so where a whole without dates or a whole day was too much, its parts by patient ID are
asked for as well.  A study is not found if it lacks a patient ID, too: then nothing tells it from the others.
"""

from __future__ import annotations

import string
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date, timedelta
from typing import Final, Generic, NamedTuple, TypeVar

from fastmove.dimse.identifier import UNIQUE_KEYS, parse_key
from fastmove.errors import DimseError, QueryIncomplete
from fastmove.limits import MIN_FIND_CAP, SWEEP_FAILURES, SWEEP_QUERIES, SWEEP_QUERIES_PER_MATCH
from fastmove.services.selection.cells import LONG_STRING_CHARS
from fastmove.services.selection.extent import Extent, parse_dates, plain_date
from fastmove.services.selection.selection import Query

T = TypeVar("T")

Match = Mapping[str, str]
"""Values as text by keyword."""

Find = Callable[[Sequence[str], str], AsyncIterator[Match]]
"""One C-FIND by keys and level, never two at once; DimseError after what came if its final status is not success."""

# Statuses of a query that was too much (PS3.4 Table C.4-1, PS3.7 C): with others, a narrower one fails as well.
_TOO_MUCH: Final = (
    (0xA700, 0xA7FF),
    (0xB000, 0xBFFF),
    (0xC000, 0xCFFF),
    (0xFE00, 0xFE00),
    (0x0110, 0x0110),
    (0x0213, 0x0213),
)

_TOLD: Final = ("StudyDate", "StudyTime", "PatientID", "StudyInstanceUID")
_WILD_CARDS: Final = frozenset("*?\\")
_CHARACTERS: Final = frozenset(string.printable) - frozenset(string.whitespace) - _WILD_CARDS | {" "}
_EARLIEST: Final = date(1900, 1, 1)  # hardly anything is dated before: ranges that go further are parted here
_PROBED_DAYS: Final = (0, 1, 8, 64, 512, 4096)


class Cap:
    """How many matches the PACS gives at most, as far as it is known; one for all queries of a run.

    `told` is what a profile says: None if nobody knows, 0 if there is no cap.
    """

    def __init__(self, told: int | None = None, least: int = MIN_FIND_CAP) -> None:
        self.told = told
        self.most = 0
        """In one answer so far: the cap is not lower."""

        self.probed = 0
        """That many were tried to be exceeded, in vain."""

        self._least = least

    def given(self, count: int) -> None:
        """An answer had so many."""
        self.most = max(self.most, count)

    @property
    def is_told(self) -> bool:
        """True if what the profile says has not proved wrong."""
        return self.told is not None and (self.told == 0 or self.most <= self.told)

    def may_have_cut(self, count: int) -> bool:
        """True if the PACS may have had more than it gave."""
        if self.told is not None and self.is_told:
            return count >= self.told > 0
        return count >= max(self.most, self._least)


class _Frame:
    """An extent while its parts are asked for; UIDs are kept as long."""

    def __init__(self, extent: Extent) -> None:
        self.extent = extent
        self.delivered: set[str] = set()
        self.identified: set[str] = set()
        """Those that have a patient ID: they are found by it."""

        self.unconfirmed: set[str] = set()
        """Those of its own answer that no part has brought again."""

        self.strays = False
        """The answer had what was not asked for: the PACS does not go by one of these keys."""


class _Step(NamedTuple):
    extent: Extent
    asked: bool = False
    """It is too much, as is known already: only its parts are asked for."""


class Sweep(Generic[T]):
    """One query, asked in as many parts as it takes; `today` is where most ranges end that are open.

    Of each match `take` makes what is kept until its answer has ended; None: nothing.
    """

    def __init__(self, find: Find, query: Query, cap: Cap, today: date, take: Callable[[Match], T | None]) -> None:
        self.queries = 0
        self._take = take
        self._find = find
        self._level = query.level
        self._unique = UNIQUE_KEYS[query.level]
        self._cap = cap
        self._today = today
        keys = {key.keyword: key.value for key in map(parse_key, query.keys)}
        given = {keyword: value for keyword, value in keys.items() if value}
        dates = given.pop("StudyDate", "")
        self._cuts = (_EARLIEST, today + timedelta(2))  # it may be tomorrow already where the PACS is
        self._root = Extent(parse_dates(dates) if dates else None)
        self._given = tuple(f"{keyword}={value}" for keyword, value in given.items())
        self._told = tuple(name for name in dict.fromkeys((*keys, *_TOLD, self._unique)) if name not in given)
        self._by_time = "StudyTime" not in given
        self._by_patient = "PatientID" not in given
        self._what = {"STUDY": "studies", "SERIES": "series", "IMAGE": "instances"}[query.level]
        self._failures = 0
        self._delivered = 0
        self._frames: list[_Frame] = []
        self._gaps: list[tuple[int, str]] = []
        self._characters: dict[int, dict[str, bool]] = {}
        self._alphabet = set(_CHARACTERS)
        """The characters that patient IDs may have: those of ASCII, and all that have been seen."""

    async def matches(self) -> AsyncGenerator[T, None]:
        """What is made of each match, once, as it is found.

        At the end QueryIncomplete, if there is more than can be had, with the ranges where it is; DimseError if the
        PACS cannot answer this query at all.
        """
        steps: list[_Step | None] = [_Step(self._root)]
        while steps:
            step = steps.pop()
            if step is None:
                self._close()
                continue
            frame = self._open(step)
            count, error = 0, None
            if not step.asked:
                taken: list[T] = []
                try:
                    async with self._ask(*self._given, *step.extent.keys()) as answer:
                        async for match in answer:
                            count += 1
                            if self._is_new(match) and (one := self._take(match)) is not None:
                                taken.append(one)
                except DimseError as failed:
                    if not self._was_too_much(failed):
                        raise
                    error = failed
                for one in taken:  # now only: nobody who takes his time keeps the PACS waiting in its answer
                    yield one
                taken.clear()
                self._cap.given(count)
                if error is None and await self._is_whole(step.extent, count):
                    frame.unconfirmed.clear()
                    self._close()
                    continue
            parts = await self._parts(frame, count if error is None else 0)
            if not parts:
                self._give_up(frame, count, error)
            steps.append(None)
            steps.extend(reversed(parts))
        gaps = [text for count, text in self._gaps if not 0 < count < self._cap.most]
        if gaps:
            raise QueryIncomplete(gaps)

    # ------------------------------------------------------------------ one answer

    @asynccontextmanager
    async def _ask(self, *keys: str) -> AsyncIterator[AsyncIterator[Match]]:
        """An answer to keys; DimseError if it ends with a failure, QueryIncomplete if there were too many queries."""
        self.queries += 1
        if self.queries > SWEEP_QUERIES + SWEEP_QUERIES_PER_MATCH * self._delivered:
            raise QueryIncomplete([f"given up after {self.queries:,} queries", *(text for _, text in self._gaps)])
        named = {key.partition("=")[0] for key in keys}
        answer = self._find([*keys, *(name for name in self._told if name not in named)], self._level)
        try:
            yield answer
            self._failures = 0
        except DimseError:
            self._failures += 1
            raise

    def _was_too_much(self, error: DimseError) -> bool:
        """True if the PACS may answer a narrower query."""
        return self._failures <= SWEEP_FAILURES and any(low <= error.status <= high for low, high in _TOO_MUCH)

    def _is_new(self, match: Match) -> bool:
        """True if a match is to be delivered; takes note that it came."""
        *around, frame = self._frames
        uid = match.get(self._unique, "")
        for each in around:
            each.unconfirmed.discard(uid)
        held = frame.extent.holds(match)
        if held is not None:
            frame.unconfirmed.add(uid)
            frame.strays = frame.strays or not held
        if patient := match.get("PatientID"):
            frame.identified.add(uid)
            self._alphabet.update(set(patient) - _WILD_CARDS)
        dated = plain_date(match.get("StudyDate", "")) is not None
        if dated and frame.extent.dates is None and frame.extent.patient is not None:
            return False  # it has been found by its date, and is too long ago to be remembered
        if any(uid in each.delivered for each in self._frames):
            return False
        (frame if dated else self._frames[0]).delivered.add(uid)
        self._delivered += 1
        return True

    async def _is_whole(self, extent: Extent, count: int) -> bool:
        """True if an answer of so many matches is known to be all there is."""
        if not self._cap.may_have_cut(count):
            return True
        if self._cap.is_told or (extent.halves() is not None and not extent.is_day):
            return False  # to ask for two halves costs no more than to find out
        return await self._exceeds(extent, count)

    async def _exceeds(self, extent: Extent, count: int) -> bool:
        """True if the PACS gives more than so many for days around, whatever else was asked for."""
        if count == self._cap.probed:
            return False
        first, last = extent.dates or (self._today, self._today)
        for days in _PROBED_DAYS if self._given or not extent.is_day else _PROBED_DAYS[1:]:
            begin = max(date.min.toordinal(), first.toordinal() - days)
            end = min(date.max.toordinal(), last.toordinal() + days)
            around = date.fromordinal(begin), date.fromordinal(end)
            found = 0
            try:
                async with self._ask(*Extent(around).keys()) as answer:
                    async for _ in answer:
                        found += 1
            except DimseError:
                break
            finally:
                self._cap.given(found)
            if found > count:
                return True
        self._cap.probed = count
        return self._cap.most > count

    # ------------------------------------------------------------------ parts of it

    def _open(self, step: _Step) -> _Frame:
        frame = _Frame(step.extent)
        if step.asked:  # what has come by date and time must come by patient ID as well
            frame.unconfirmed |= self._frames[-1].identified
        self._frames.append(frame)
        return frame

    def _close(self) -> None:
        """The parts of an extent have been asked for: it must have been found once more, in them."""
        frame = self._frames.pop()
        if frame.unconfirmed:
            self._gaps.append(
                (0, f"{len(frame.unconfirmed):,} of the {self._what} that {frame.extent} are in none of its parts")
            )
        if self._frames and (frame.extent.times is not None or frame.extent.patient is not None):
            self._frames[-1].delivered |= frame.delivered
            self._frames[-1].identified |= frame.identified

    async def _parts(self, frame: _Frame, count: int) -> list[_Step]:
        """What an extent is asked for in, as its answer of so many was not whole; nothing if it cannot be parted."""
        extent = frame.extent
        if extent.patient is not None:
            return [] if frame.strays else await self._by_patient_id(extent)
        if frame.strays and extent.times is None:
            return []
        if frame.strays:
            self._by_time, extent = False, extent.replace(times=None)
        if extent.dates is None:
            before, after = (cut - timedelta(1) for cut in self._cuts)
            days = ((date.min, before), (self._cuts[0], after), (self._cuts[1], date.max))
            ranges: Sequence[Extent] = [Extent(each) for each in days]
        else:
            several = extent.dates[0] < extent.dates[1]
            ranges = (extent.halves(*self._cuts) if several or self._by_time else None) or ()
        steps = [_Step(each) for each in ranges]
        if steps and extent.dates is not None and not extent.is_day:
            return steps
        if self._by_patient:
            return [*steps, _Step(extent.replace(patient=""), asked=True)]
        if steps:
            lacking = "have no date" if extent.dates is None else f"{extent} and have no time"
            self._gaps.append((count, f"{self._may_have_more(count)} {lacking}"))
        return steps

    async def _by_patient_id(self, extent: Extent) -> list[_Step]:
        begins = extent.patient or ""
        if extent.exact or not (following := await self._characters_at(len(begins))):
            return []
        own = [_Step(extent.replace(exact=True))] if begins else []
        return own + [_Step(extent.replace(patient=begins + each)) for each in following]

    async def _characters_at(self, position: int) -> list[str]:
        """The characters that patient IDs have at a position, counted from 0; each is asked for once."""
        if position >= LONG_STRING_CHARS:
            return []
        # A space in front is of no significance (PS3.5 6.2, VR LO): it would leave a star alone.
        known = self._characters.setdefault(position, {} if position else {" ": False})
        while untried := self._alphabet - known.keys():
            for character in sorted(untried):
                known[character] = await self._has(position, character)
        return [character for character, is_there in known.items() if is_there]

    async def _has(self, position: int, character: str) -> bool:
        pattern = f"PatientID={'?' * position}{character}*"
        found = False
        try:
            async with self._ask(*self._given, *self._root.keys(), pattern) as answer:
                async for match in answer:
                    patient = match.get("PatientID", "")
                    self._alphabet.update(set(patient) - _WILD_CARDS)
                    # Where case does not matter to the PACS, one of both is enough.
                    found = found or patient[position : position + 1] in (character, "")
        except DimseError as error:
            if not self._was_too_much(error):
                raise
            return True
        return found

    def _give_up(self, frame: _Frame, count: int, error: DimseError | None) -> None:
        frame.unconfirmed.clear()
        if frame.strays:
            text = f"asked for {self._what} that {frame.extent}, the PACS gives others, too"
        elif error is not None:
            text = f"the PACS fails ({error}) for {self._what} that {frame.extent}"
        elif count:
            text = f"{self._may_have_more(count)} {frame.extent}"
        else:
            text = f"the PACS finds no {self._what} by part of a patient ID: there may be more that {frame.extent}"
        self._gaps.append((0 if error else count, text))

    def _may_have_more(self, count: int) -> str:
        gives = f"gives at most {count:,} {self._what}, and " if count else ""
        return f"the PACS {gives}may have more that"
