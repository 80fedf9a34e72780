"""The list of instances that a retrieve is to bring, asked for before it (C-FIND, PS3.4 C.4.1).

Level by level with one unique key each, as a PACS without relational queries wants it; whether it has those is tried
once, on a study of several series, and from then on a study takes one question less for each series.

Many a PACS cuts long answers off and says nothing.  What it counts itself shows that, and where it does not count,
an answer as long as the longest so far is not taken for the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from fastmove.dimse import identifier
from fastmove.errors import ConfigurationError, DimseError, NoAcceptedContext
from fastmove.net.requestor import AssociationHandle
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import texts
from fastmove.services.selection.selection import Wanted
from fastmove.services.selection.sweep import Cap
from fastmove.values import Value

SERIES_UID = "SeriesInstanceUID"
INSTANCE_UID = "SOPInstanceUID"
COUNT = "NumberOfSeriesRelatedInstances"
STUDY_COUNT = "NumberOfStudyRelatedInstances"

MAX_FAILURES: Final = 3
"""Associations that ended over the same list, in a row, before no more lists are asked for."""


class Listing(Value):
    """What there is of a unit, as far as the PACS tells."""

    series: Mapping[str, frozenset[str]] | None = None
    """Series Instance UID → its SOP Instance UIDs; None if it cannot list all of them."""

    certain: bool = True
    """It cannot have been cut off; if it may have been, only what a move of everything brings is everything."""

    number: int | None = None
    """Of instances, as the PACS counts them; None if it does not."""

    empty: bool = False
    """It answered, and with nothing: a PACS that has studies without instances, or cannot tell, does the same."""


NOTHING: Final = Listing()
"""What a PACS says that cannot list instances."""

UNASKED: Final = Listing(certain=False)
"""What is known where it could not be asked."""


class Truncated(Exception):
    """The PACS says that there are more instances than it lists."""


class Lister:
    """Asks one PACS for lists, and learns how it answers."""

    def __init__(self, model: str, profile: PacsProfile) -> None:
        self._model = model
        self._relational = profile.relational
        self._cap = Cap(profile.find_cap)
        self.unable = profile.image_level is False or identifier.LEVELS[model][-1] != "IMAGE"
        """The PACS has shown that it cannot list instances."""
        self._gave_up = False
        self._failures = 0
        self._failed_over: Wanted | None = None

    async def list(self, association: AssociationHandle, wanted: Wanted, *, doubted: bool = False) -> Listing:
        """What is wanted, by series, as far as the PACS can tell.  AssociationError, ProtocolError.

        If it is `doubted` that a list is whole, it counts only if the PACS counts as many instances.
        """
        if self.unable:
            return UNASKED if self._gave_up else NOTHING
        if wanted.sop_instance_uids:
            return Listing({wanted.series_instance_uid: frozenset(wanted.sop_instance_uids)})
        try:
            listing = await self._list(association, wanted, doubted=doubted)
            self._failures = 0
        except NoAcceptedContext:
            self.unable = True
            return NOTHING
        except (DimseError, ConfigurationError):  # or a key that cannot be asked for, as a patient ID with wild cards
            return NOTHING
        # Nothing is proved by what is empty.
        return listing if listing.series is None or any(listing.series.values()) else Listing(empty=True)

    def failed(self, wanted: Wanted) -> None:
        """The association ended over a list: some PACS abort where they should refuse."""
        self._failures = self._failures + 1 if wanted == self._failed_over else 1
        self._failed_over = wanted
        if self._failures >= MAX_FAILURES:
            self.unable = self._gave_up = True

    async def _list(self, association: AssociationHandle, wanted: Wanted, *, doubted: bool) -> Listing:
        above = unique_keys(wanted, self._model)
        counts: dict[str, str] = {}
        series = f"{SERIES_UID}={wanted.series_instance_uid}"
        study_keys = above[:-1] if wanted.series_instance_uid else above
        async for match in texts(association, self._query([*study_keys, series, COUNT], "SERIES"), self._model):
            counts[match.get(SERIES_UID, "") or wanted.series_instance_uid] = match.get(COUNT, "").strip()
        counts.pop("", None)
        certain = not self._may_have_cut(len(counts)) or bool(wanted.series_instance_uid)
        number = sum(map(int, counts.values())) if counts and all(map(str.isdigit, counts.values())) else None
        try:
            found = await self._instances(association, study_keys, counts)
        except Truncated:
            return Listing(number=number)
        if number is None:
            certain = certain and not any(self._may_have_cut(len(uids)) for uids in found.values())
        if doubted or not certain:
            if not wanted.series_instance_uid:
                number = await self._number(association, study_keys)
            total = sum(map(len, found.values()))
            if number is not None and number > total:
                return Listing(number=number)
            certain = number == total
        return Listing(found, certain, number)

    async def _number(self, association: AssociationHandle, study_keys: Sequence[str]) -> int | None:
        """How many instances the PACS says that a study has; None if it does not say."""
        count = ""
        try:
            async for match in texts(association, self._query([*study_keys, STUDY_COUNT], "STUDY"), self._model):
                count = match.get(STUDY_COUNT, "").strip()
        except DimseError:
            return None
        return int(count) if count.isdigit() else None

    async def _instances(
        self, association: AssociationHandle, study_keys: Sequence[str], counts: dict[str, str]
    ) -> dict[str, frozenset[str]]:
        """Those of each series; Truncated."""
        if len(counts) > 1 and self._relational is not False:
            found = await self._study_at_once(association, study_keys, counts)
            if found is not None and self._relational:
                return found
            by_series = await self._series_by_series(association, study_keys, counts)
            if found is not None:
                self._relational = found == by_series
            return by_series
        return await self._series_by_series(association, study_keys, counts)

    async def _study_at_once(
        self, association: AssociationHandle, study_keys: Sequence[str], counts: dict[str, str]
    ) -> dict[str, frozenset[str]] | None:
        found: dict[str, set[str]] = {uid: set() for uid in counts}
        try:
            query = self._query([*study_keys, SERIES_UID, INSTANCE_UID], "IMAGE", relational=True)
            async for match in texts(association, query, self._model):
                found.setdefault(match.get(SERIES_UID, ""), set()).add(match.get(INSTANCE_UID, ""))
            whole = {uid: self._whole(uids, counts.get(uid, "")) for uid, uids in found.items()}
        except (DimseError, Truncated):
            self._relational = False
            return None
        cut = self._may_have_cut(sum(map(len, whole.values()))) and not all(counts.get(uid) for uid in whole)
        return None if cut else whole  # series by series it may be shorter than what is cut off

    async def _series_by_series(
        self, association: AssociationHandle, study_keys: Sequence[str], counts: dict[str, str]
    ) -> dict[str, frozenset[str]]:
        listing: dict[str, frozenset[str]] = {}
        for uid, count in counts.items():
            query = self._query([*study_keys, f"{SERIES_UID}={uid}", INSTANCE_UID], "IMAGE")
            found = {match.get(INSTANCE_UID, "") async for match in texts(association, query, self._model)}
            listing[uid] = self._whole(found, count)
        return listing

    def _may_have_cut(self, matches: int) -> bool:
        """True if the PACS may have had more than it gave."""
        self._cap.given(matches)
        return self._cap.may_have_cut(matches)

    def _query(self, keys: Sequence[str], level: str, *, relational: bool = False) -> identifier.Identifier:
        return identifier.query(keys, model=self._model, level=level, relational=relational)

    def _whole(self, found: set[str], count: str) -> frozenset[str]:
        """The UIDs of a series; Truncated if the PACS says that it has more, or none: no series is without."""
        found.discard("")
        if not found or (count.isdigit() and int(count) > len(found)):
            raise Truncated
        return frozenset(found)


def unique_keys(wanted: Wanted, model: str) -> list[str]:
    """The unique keys of a study, or of a series, from the top of the model down (PS3.4 C.6.1.1, C.6.2.1)."""
    values = (
        ("PatientID", wanted.patient_id if model == "patient" else ""),
        ("StudyInstanceUID", wanted.study_instance_uid),
        (SERIES_UID, wanted.series_instance_uid),
    )
    return [f"{keyword}={value}" for keyword, value in values if value]


def instances(listing: Mapping[str, frozenset[str]]) -> Iterator[tuple[str, str]]:
    """Each SOP Instance UID with its Series Instance UID, series by series."""
    for series, uids in listing.items():
        for uid in sorted(uids):
            yield uid, series
