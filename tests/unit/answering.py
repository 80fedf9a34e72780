"""A PACS without a network: studies as text by keyword, found as PS3.4 C.2.2.2 says, and never too many at once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

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
    fails_for: str = ""
    """Study Instance UID of a study that it cannot answer with."""

    ignores: frozenset[str] = frozenset()
    """Keys that it does not go by."""

    hides: frozenset[str] = frozenset()
    """Attributes that it does not return."""

    folds_case: bool = False
    compares_text: bool = False
    """Times of less precision are not filled up."""

    wild_cards: bool = True
    uid_lists: bool = True
    """Lists of UIDs match by each of them (PS3.4 C.2.2.2.2); else by the first one."""

    times_each: int = 1
    order: Callable[[Study], Any] | None = None
    below: dict[str, list[Study]] = field(default_factory=dict)
    """Level → what it has of it."""

    asked: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    answering: int = 0
    """Answers that have not ended."""

    async def find(self, keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
        self.asked.append((tuple(keys), level))
        held = self.studies if level == "STUDY" else self.below[level]
        matchers = self._matchers(keys)
        found = [each for each in held if all(matches(each.get(name, "")) for name, matches in matchers)]
        found = [each for each in found for _ in range(self.times_each)]
        if self.order is not None:
            found.sort(key=self.order)
        poisoned = [number for number, each in enumerate(found) if each["StudyInstanceUID"] == self.fails_for]
        too_many = self.cap is not None and len(found) > self.cap
        if poisoned:
            found = found[: poisoned[0]]
        elif too_many:
            found = found[: self.cap if self.status is None or self.gives_before_failing else 0]
        names = [key.partition("=")[0] for key in keys]
        self.answering += 1
        try:
            for each in found:
                yield {name: each.get(name, "") for name in names if name not in self.hides}
            if poisoned or (too_many and self.status is not None):
                raise DimseError(self.status or 0xC001, "too many matches" if too_many else "cannot be encoded")
        finally:
            self.answering -= 1

    @property
    def keys_asked(self) -> list[dict[str, str]]:
        """The keys with values, query by query."""
        return [dict(key.split("=", 1) for key in keys if "=" in key) for keys, _ in self.asked]

    def _matchers(self, keys: Iterable[str]) -> list[tuple[str, Callable[[str], bool]]]:
        """For each key that counts its name, and whether a value matches."""
        parted = [(name, text.strip()) for name, _, text in (key.partition("=") for key in keys)]
        return [
            (name, self._matcher(name, text)) for name, text in parted if text.strip("*") and name not in self.ignores
        ]

    def _matcher(self, name: str, wanted: str) -> Callable[[str], bool]:
        if name in RANGES:
            return in_range(wanted, *(("", "") if self.compares_text else RANGES[name]))
        if name == "ModalitiesInStudy":
            return lambda value: wanted in value.split("\\")
        if name.endswith("UID"):
            uids = wanted.split("\\")[: None if self.uid_lists else 1]
            return lambda value: value in uids
        pattern = re.escape(wanted)
        if self.wild_cards:
            pattern = pattern.replace(r"\*", ".*").replace(r"\?", ".")
        compiled = re.compile(pattern, re.S | (re.I if self.folds_case else 0))
        return lambda value: value != "" and compiled.fullmatch(value) is not None


def in_range(wanted: str, least: str, most: str) -> Callable[[str], bool]:
    """Both ends included; what a value or an end lacks in precision is filled up."""
    first, hyphen, last = wanted.partition("-")
    last = last if hyphen else first
    lowest, highest = first + least[len(first) :], last + most[len(last) :]

    def matches(value: str) -> bool:
        filled = value + least[len(value) :]
        return value != "" and lowest <= filled and (not highest or filled <= highest)

    return matches
