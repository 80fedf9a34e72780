"""A PACS without a network: studies as text by keyword, found as PS3.4 C.2.2.2 says, and never too many at once."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fastmove.errors import DimseError

Study = dict[str, str]

TOO_MANY: Final = 0xA700
RANGES: Final = {"StudyDate": ("00000101", "99991231"), "StudyTime": ("000000.000000", "235959.999999")}


def study(number: int, day: str = "", time: str = "", patient: str = "", **more: str) -> Study:
    """A study whose UID has this number."""
    uid = f"1.2.840.{number}"
    return {"StudyInstanceUID": uid, "StudyDate": day, "StudyTime": time, "PatientID": patient, **more}


@dataclass
class Answering:
    """What it holds, how much it gives, how it fails; `asked` has the keys of every query."""

    studies: list[Study]
    cap: int | None = None
    status: int | None = None
    """Of an answer that would be too long; None: it is cut off."""

    gives_before_failing: bool = True
    ignores: frozenset[str] = frozenset()
    """Keys that it does not go by."""

    hides: frozenset[str] = frozenset()
    """Attributes that it does not return."""

    folds_case: bool = False
    order: Callable[[Study], object] | None = None
    asked: list[tuple[tuple[str, ...], str]] = field(default_factory=list)

    async def find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
        self.asked.append((tuple(keys), level))
        found = [each for each in self.studies if self._matches(keys, each)]
        if self.order is not None:
            found.sort(key=self.order)  # type: ignore[arg-type]
        too_many = self.cap is not None and len(found) > self.cap
        if too_many:
            found = found[: self.cap if self.status is None or self.gives_before_failing else 0]
        names = [key.partition("=")[0] for key in keys]
        for each in found:
            yield {name: each.get(name, "") for name in names if name not in self.hides}
        if too_many and self.status is not None:
            raise DimseError(self.status, "too many matches")

    def _matches(self, keys: Iterable[str], each: Study) -> bool:
        for key in keys:
            name, _, wanted = key.partition("=")
            if name not in self.ignores and wanted and not self._match(name, wanted, each.get(name, "")):
                return False
        return True

    def _match(self, name: str, wanted: str, value: str) -> bool:
        if self.folds_case:
            wanted, value = wanted.casefold(), value.casefold()
        if name in RANGES:
            return value != "" and in_range(wanted, value, *RANGES[name])
        if name == "ModalitiesInStudy":
            return wanted in value.split("\\")
        if set(wanted) & set("*?"):
            pattern = fnmatch.translate(wanted.replace("[", "[[]"))
            return value != "" and re.match(pattern, value, re.S) is not None
        return value == wanted


def in_range(wanted: str, value: str, least: str, most: str) -> bool:
    """Both ends included; what a value or an end lacks in precision is filled up."""
    first, hyphen, last = wanted.partition("-")
    last = last if hyphen else first
    return first + least[len(first) :] <= value + least[len(value) :] <= last + most[len(last) :]
