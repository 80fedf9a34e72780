"""What the PACS has to say of studies that are named by UID: many are asked for at once, where it takes lists of UIDs.

A list of UIDs is a matching of its own (PS3.4 C.2.2.2.2), which some PACS do not know: they fail, go by the first UID,
or give everything.  What a list does not bring is asked for by itself, so that nobody's word is taken for it.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

from fastmove.errors import DimseError
from fastmove.services.profile import PacsProfile
from fastmove.services.selection.selection import Wanted
from fastmove.services.selection.sweep import Find, Match

TOGETHER: Final = 50
"""UIDs of one query at most."""

_UID: Final = "StudyInstanceUID"
_PATIENT: Final = "PatientID"


class Lookup:
    """Asks one PACS, and learns whether it takes lists; `unknown` is told which UID brings nothing, and why."""

    def __init__(
        self, find: Find, unknown: Callable[[str, str], None], telling: Sequence[str], profile: PacsProfile
    ) -> None:
        self._find = find
        self._unknown = unknown
        self._telling = telling
        self._lists = profile.find_uid_lists
        """It takes lists; None: nobody knows."""

        self._together = min(TOGETHER, profile.find_cap or TOGETHER)

    async def told(self, named: Iterable[Wanted]) -> AsyncGenerator[Wanted, None]:
        """The same in their order, whole studies with what the PACS says of them; raises what `find` raises."""
        rest = iter(named)
        while some := list(islice(rest, self._together)):
            studies = {each.study_instance_uid: each for each in some if each.level == "STUDY"}
            known = await self._known(studies)
            for each in some:
                match = known.get(each.study_instance_uid) if each.level == "STUDY" else None
                yield each if match is None else self._of(each, match)

    async def _known(self, studies: Mapping[str, Wanted]) -> dict[str, Match]:
        """What is known of these, by UID."""
        known: dict[str, Match] = {}
        listed = len(studies) > 1 and self._lists is not False
        if listed:
            try:
                known = await self._answer((f"{_UID}=" + "\\".join(studies), _PATIENT), studies)
            except DimseError:
                self._lists = False
        by_list = len(known)
        for uid, wanted in studies.items():
            if uid in known:
                continue
            reason = "nothing matches"
            try:
                patient = f"{_PATIENT}={wanted.patient_id}" if wanted.patient_id else _PATIENT
                known |= await self._answer((f"{_UID}={uid}", patient), (uid,))
            except DimseError as error:
                reason = str(error)
            if uid not in known:
                self._unknown(uid, reason)
        if listed and by_list <= 1 and by_list < len(known):
            self._lists = False  # it went by one of them at most
        return known

    async def _answer(self, keys: Sequence[str], uids: Iterable[str]) -> dict[str, Match]:
        """What comes of these UIDs; a PACS that gives more than was asked for is not listened to any further."""
        wanted, found, others = frozenset(uids), dict[str, Match](), 0
        async with _ended(self._find((*keys, *self._telling), "STUDY")) as answer:
            async for match in answer:
                uid = match.get(_UID, "")
                if uid in wanted:
                    found[uid] = match
                else:
                    others += 1
                if others > len(wanted):
                    self._lists = False
                    break
        return found

    def _of(self, wanted: Wanted, match: Match) -> Wanted:
        told = tuple((keyword, match.get(keyword, "")) for keyword in self._telling)
        return wanted.replace(patient_id=match.get(_PATIENT, "") or wanted.patient_id, told=told)


@asynccontextmanager
async def _ended(answer: AsyncIterator[Match]) -> AsyncGenerator[AsyncIterator[Match]]:
    """An answer that is over with the block, as the next query needs the association."""
    try:
        yield answer
    finally:
        if isinstance(answer, AsyncGenerator):
            await answer.aclose()
