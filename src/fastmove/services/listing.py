"""The list of instances that a retrieve is to bring, asked for before it (C-FIND, PS3.4 C.4.1).

Level by level with one unique key each, as a PACS without relational queries wants it; whether it has those is tried
once, on a study of several series, and from then on a study takes one question less for each series.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from fastmove.dimse import identifier
from fastmove.errors import DimseError, NoAcceptedContext
from fastmove.net.requestor import AssociationHandle
from fastmove.services.profile import PacsProfile
from fastmove.services.query_scu import texts
from fastmove.services.selection import Wanted

SERIES_UID = "SeriesInstanceUID"
INSTANCE_UID = "SOPInstanceUID"
COUNT = "NumberOfSeriesRelatedInstances"

MAX_FAILURES: Final = 3
"""Associations that ended over a list, in a row, before no more lists are asked for."""

Listing = dict[str, frozenset[str]]
"""Series Instance UID → its SOP Instance UIDs."""


class Truncated(Exception):
    """The PACS says that there are more instances than it lists."""


class Lister:
    """Asks one PACS for lists, and learns how it answers."""

    def __init__(self, model: str, profile: PacsProfile) -> None:
        self._model = model
        self._relational = profile.relational
        self._cap = profile.find_cap or 0
        self.unable = profile.image_level is False or identifier.LEVELS[model][-1] != "IMAGE"
        """The PACS has shown that it cannot list instances."""
        self._failures = 0

    async def list(self, association: AssociationHandle, wanted: Wanted) -> Listing | None:
        """What is wanted, by series; None if the PACS cannot tell all of it.  AssociationError, ProtocolError."""
        if self.unable:
            return None
        if wanted.sop_instance_uids:
            return {wanted.series_instance_uid: frozenset(wanted.sop_instance_uids)}
        try:
            listing = await self._list(association, wanted)
            self._failures = 0
        except NoAcceptedContext:
            self.unable = True
            return None
        except (DimseError, Truncated):
            return None
        # A PACS that has studies without instances, or cannot tell, says the same: nothing is proved by it.
        return listing if any(listing.values()) else None

    def failed(self) -> None:
        """The association ended over a list: some PACS abort where they should refuse."""
        self._failures += 1
        self.unable = self.unable or self._failures >= MAX_FAILURES

    async def _list(self, association: AssociationHandle, wanted: Wanted) -> Listing:
        above = unique_keys(wanted, self._model)
        counts: dict[str, str] = {}
        series = f"{SERIES_UID}={wanted.series_instance_uid}"
        study_keys = above[:-1] if wanted.series_instance_uid else above
        async for match in texts(association, self._query([*study_keys, series, COUNT], "SERIES"), self._model):
            counts[match.get(SERIES_UID, "") or wanted.series_instance_uid] = match.get(COUNT, "")
        counts.pop("", None)
        several = len(counts) > 1
        if several and self._relational is not False:
            listing = await self._study_at_once(association, study_keys, counts)
            if listing is not None and self._relational:
                return listing
            by_series = await self._series_by_series(association, study_keys, counts)
            self._relational = listing == by_series
            return by_series
        return await self._series_by_series(association, study_keys, counts)

    async def _study_at_once(
        self, association: AssociationHandle, study_keys: Sequence[str], counts: dict[str, str]
    ) -> Listing | None:
        found: dict[str, set[str]] = {uid: set() for uid in counts}
        try:
            query = self._query([*study_keys, SERIES_UID, INSTANCE_UID], "IMAGE", relational=True)
            async for match in texts(association, query, self._model):
                found.setdefault(match.get(SERIES_UID, ""), set()).add(match.get(INSTANCE_UID, ""))
            return {uid: self._whole(uids, counts.get(uid, "")) for uid, uids in found.items()}
        except (DimseError, Truncated):
            self._relational = False
            return None

    async def _series_by_series(
        self, association: AssociationHandle, study_keys: Sequence[str], counts: dict[str, str]
    ) -> Listing:
        listing: Listing = {}
        for uid, count in counts.items():
            query = self._query([*study_keys, f"{SERIES_UID}={uid}", INSTANCE_UID], "IMAGE")
            found = {match.get(INSTANCE_UID, "") async for match in texts(association, query, self._model)}
            listing[uid] = self._whole(found, count)
        return listing

    def _query(self, keys: Sequence[str], level: str, *, relational: bool = False) -> identifier.Identifier:
        return identifier.query(keys, model=self._model, level=level, relational=relational)

    def _whole(self, found: set[str], count: str) -> frozenset[str]:
        """The UIDs of a series; Truncated if the PACS says that it has more, or answered as many as it ever does."""
        found.discard("")
        capped = self._cap and len(found) >= self._cap
        if capped or (count.strip().isdigit() and int(count) > len(found)):
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


def instances(listing: Listing) -> Iterator[tuple[str, str]]:
    """Each SOP Instance UID with its Series Instance UID, series by series."""
    for series, uids in listing.items():
        for uid in sorted(uids):
            yield uid, series
