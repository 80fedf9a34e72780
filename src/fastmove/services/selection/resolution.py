"""From a selection to what is wanted: everything once, what is named by UID first, then what queries find.

What a PACS answers is not taken on trust: a match that does not have what was asked for is left out.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from datetime import date
from typing import Final

from fastmove.dimse.identifier import LEVELS, parse_key
from fastmove.dimse.keys import Key
from fastmove.errors import DimseError, QueryIncomplete
from fastmove.limits import UID_BYTES
from fastmove.services.profile import PacsProfile
from fastmove.services.selection.extent import parse_date, parse_dates
from fastmove.services.selection.lookup import Lookup
from fastmove.services.selection.selection import Once, Query, Selection, Wanted
from fastmove.services.selection.sweep import Cap, Find, Match, Sweep
from fastmove.services.selection.worklist import entries
from fastmove.values import Value

_MODALITIES: Final = "ModalitiesInStudy"
_UIDS: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
_TEXT: Final = frozenset(("AE", "AS", "CS", "LO", "LT", "SH", "ST", "UC", "UI", "UT"))
_SAFE_UID: Final = re.compile(rf"[0-9A-Za-z._-]{{1,{UID_BYTES}}}")  # PACS have more than PS3.5 9.1 allows


UNKNOWN: Final = PacsProfile()


class Unresolved(Value):
    """A query that did not find all it should, or nothing."""

    query: Query
    reason: str
    found: int = 0
    """What it found nevertheless."""

    named: bool = False
    """It was asked for a study that is named by its UID, and is wanted all the same."""

    def __str__(self) -> str:
        return f"{' '.join(self.query.keys)}: {self.reason}"


async def resolve(
    selection: Selection,
    find: Find,
    unresolved: Callable[[Unresolved], None],
    *,
    today: date,
    profile: PacsProfile = UNKNOWN,
    telling: Sequence[str] = (),
) -> AsyncGenerator[Wanted, None]:
    """What a selection wants, each study, series and instance once, as it is found.

    Whole studies come first.  A query that finds nothing, or not all, is told of by `unresolved`, and the next one is
    asked; `today` is where most ranges of dates end that are open.  What the PACS has to say by the keywords `telling`
    is in `Wanted.told` of studies: then it is asked for those that are named by UID, too, and where it does not know
    one, `unresolved` is told, and it is wanted as it is.  Raises ConfigurationError for a worklist or key that cannot
    be understood, and what `find` raises, but for DimseError.
    """
    once = _Wanted()
    named = (new for wanted in _named(selection) if (new := once.new(wanted)) is not None)
    if not telling:
        for wanted in named:
            yield wanted
    else:

        def unknown(uid: str, reason: str) -> None:
            unresolved(Unresolved(Query((f"{_UIDS[0]}={uid}",)), reason, named=True))

        async with aclosing(Lookup(find, unknown, telling, profile).told(named)) as looked_up:
            async for wanted in looked_up:
                yield wanted
    asked = Once()
    cap = Cap(profile.find_cap)
    for query in _queries(selection):
        if not asked.is_new(query.level, *query.keys):
            continue
        resolving = _Resolving(query, find, cap, today, profile, telling)
        try:
            async with aclosing(resolving.found()) as found:
                async for wanted in found:
                    if (new := once.new(wanted)) is not None:
                        yield new
            reason = resolving.reason()
        except (DimseError, QueryIncomplete) as error:
            reason = f"{error}{resolving.advice}"
        if reason:
            unresolved(Unresolved(query, reason, resolving.count))


def _named(selection: Selection) -> Iterator[Wanted]:
    """What is named by UID, whole studies first: then nothing of them is wanted once more."""
    levels = list(LEVELS["study"])
    for level in tuple(levels):
        if level not in levels:
            continue
        seen = set()
        for wanted in _all_named(selection):
            seen.add(wanted.level)
            if wanted.level == level:
                yield wanted
        levels = [each for each in levels if each in seen]  # a table is not read again for what it has not


def _all_named(selection: Selection) -> Iterator[Wanted]:
    yield from selection.wanted
    for worklist in selection.worklists:
        yield from (entry for entry in entries(worklist) if isinstance(entry, Wanted))


def _queries(selection: Selection) -> Iterator[Query]:
    yield from selection.queries
    for worklist in selection.worklists:
        yield from (entry for entry in entries(worklist) if isinstance(entry, Query))


class _Wanted:
    """What has been wanted so far."""

    def __init__(self) -> None:
        self._once = Once()

    def new(self, wanted: Wanted) -> Wanted | None:
        """What of it has not been wanted before; None if all has."""
        study, series = wanted.study_instance_uid, wanted.series_instance_uid
        if series and ((study,) in self._once or (wanted.sop_instance_uids and (study, series) in self._once)):
            return None
        if not wanted.sop_instance_uids:
            return wanted if self._once.is_new(*filter(None, (study, series))) else None
        new = tuple(uid for uid in wanted.sop_instance_uids if self._once.is_new(study, series, uid))
        return wanted.replace(sop_instance_uids=new) if new else None


class _Resolving:
    """One query, and what became of it."""

    def __init__(
        self, query: Query, find: Find, cap: Cap, today: date, profile: PacsProfile, telling: Sequence[str]
    ) -> None:
        self.count = 0
        named = {parse_key(key).keyword for key in query.keys}
        self._query = query.replace(keys=(*query.keys, *(keyword for keyword in telling if keyword not in named)))
        self._keys = {key.keyword: key for key in map(parse_key, query.keys) if key.value}
        self._telling = telling
        self._find = find
        self._cap = cap
        self._today = today
        self._relational = query.level != "STUDY" and "StudyInstanceUID" not in self._keys
        self._refused = self._relational and profile.relational is False
        self._others = 0
        """Matches that do not have what was asked for."""

        self._nameless = 0
        """Matches without the UIDs that a retrieve needs."""

    async def found(self) -> AsyncGenerator[Wanted, None]:
        """What it finds, perhaps more than once."""
        if self._refused:
            return
        async with aclosing(self._studies() if self._query.level == "STUDY" else self._below_studies()) as found:
            async for wanted in found:
                self.count += 1
                yield wanted

    def reason(self) -> str:
        """Why it did not find anything, or not all; empty if it did."""
        if self._refused:
            return self.advice.removeprefix("; ")
        if self._nameless:
            return f"matches that lack the UIDs which a retrieve needs: {self._nameless:,}{self.advice}"
        if self.count:
            return ""
        if self._others:
            return f"matches that do not have this: {self._others:,}; the PACS does not go by it, or does not tell"
        return f"nothing matches{self.advice}"

    @property
    def advice(self) -> str:
        """What may help, where the study is not known."""
        what = {"SERIES": "a series", "IMAGE": "an image"}.get(self._query.level, "")
        return (
            f"; the PACS may not look for {what} by its UID alone: give the study UID, too" if self._relational else ""
        )

    def _value(self, keyword: str) -> str:
        return self._keys[keyword].value if keyword in self._keys else ""

    def _wanted(self, match: Match) -> Wanted | None:
        """What a match is a match of; None if it does not have what was asked for, or lacks a UID."""
        if not all(_agrees(key, match.get(key.keyword, "")) for key in self._keys.values()):
            self._others += 1
            return None
        depth = LEVELS["study"].index(self._query.level)
        uids = [match.get(keyword, "") or self._value(keyword) for keyword in _UIDS[: depth + 1]]
        if not all(map(_SAFE_UID.fullmatch, uids)):
            self._nameless += 1
            return None
        study, series, image = (*uids, "", "")[:3]
        patient = match.get("PatientID", "") or self._value("PatientID")
        told = tuple((keyword, match.get(keyword, "")) for keyword in self._telling)
        return Wanted(study, series, (image,) if image else (), patient, told)

    # ------------------------------------------------------------------ studies

    async def _studies(self) -> AsyncGenerator[Wanted, None]:
        """Studies that have what was asked for; one modality at a time, as it is no list (PS3.4 C.2.2.2.1)."""
        modalities = self._value(_MODALITIES).upper().split("\\")
        untold: dict[str, Wanted] = {}
        gaps: list[str] = []
        ignored = False

        def take(match: Match) -> Wanted | None:
            nonlocal ignored
            wanted = self._wanted(match)
            told = match.get(_MODALITIES, "").upper().split("\\")
            if wanted is None or modalities == [""] or not set(modalities).isdisjoint(told):
                return wanted
            if told == [""]:
                untold[wanted.study_instance_uid] = wanted
            else:
                ignored = True
                self._others += 1
            return None

        keys = [key for key in self._query.keys if parse_key(key).keyword != _MODALITIES]
        for modality in modalities:
            query = Query((*keys, f"{_MODALITIES}={modality}"))
            try:
                async with aclosing(Sweep(self._find, query, self._cap, self._today, take).matches()) as studies:
                    async for study in studies:
                        yield study
            except QueryIncomplete as incomplete:
                gaps += incomplete.gaps
            if ignored:
                break  # it has told all studies already
        for uid, study in untold.items():
            try:
                has_one = await self._has_series_of(uid, modalities)
            except DimseError as error:
                gaps.append(f"the PACS fails ({error}) for the series of study {uid}")
                continue
            if has_one:
                yield study
            else:
                self._others += 1
        if gaps:
            raise QueryIncomplete(gaps)

    async def _has_series_of(self, study: str, modalities: Sequence[str]) -> bool:
        """True if a series of the study is of one of these, or if the PACS does not tell of any."""
        series = [match async for match in self._find((f"StudyInstanceUID={study}", "Modality", _UIDS[1]), "SERIES")]
        told = {match.get("Modality", "").upper() for match in series} - {""}
        return not told or not told.isdisjoint(modalities)

    # ------------------------------------------------------------------ series and instances

    async def _below_studies(self) -> AsyncGenerator[Wanted, None]:
        """A series or an instance; by a relational query (PS3.4 C.4.1.2.2.1) if its study is not known."""
        above = [""]
        if self._query.level == "IMAGE" and not self._relational and not self._value(_UIDS[1]):
            study = (f"{_UIDS[0]}={self._value(_UIDS[0])}", _UIDS[1])
            above = [match.get(_UIDS[1], "") async for match in self._find(study, "SERIES")]
        given = {keyword: key.value for keyword, key in self._keys.items()}
        for series in above:
            known = given | ({_UIDS[1]: series} if series else {})
            names = (name for name in (*_UIDS, "PatientID") if name not in known)
            keys = (*(f"{keyword}={value}" for keyword, value in known.items()), *names)
            answer = [match async for match in self._find(keys, self._query.level)]
            for match in answer:
                wanted = self._wanted(known | {name: text for name, text in match.items() if text})
                if wanted is not None:
                    yield wanted


def _agrees(key: Key, value: str) -> bool:
    """True if a match with this value has what was asked for, as far as that can be told from here."""
    if key.keyword == _MODALITIES:  # which is looked at by itself
        return True
    if key.vr == "DA":
        first, last = parse_dates(key.value)
        day = parse_date(value)
        return day is not None and first <= day <= last
    if key.vr not in _TEXT:
        return True
    values = [each.strip().casefold() for each in value.split("\\")]
    wanted = [each.strip().casefold() for each in key.value.split("\\")]
    return any(_like(each, pattern) for pattern in wanted for each in values)


def _like(value: str, pattern: str) -> bool:
    return not pattern.strip("*") or re.match(fnmatch.translate(pattern.replace("[", "[[]")), value) is not None
