"""The embedded PACS as an adversary: commits the faults that `pacs/faults.py` names.

What is random follows from the seed, from what it is drawn for and from how often: not from what else goes on.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from random import Random
from typing import Any, Final

from fastmove.errors import DimseError
from fastmove.notices import FaultCommitted, Observer
from fastmove.pacs.attributes import KEYS
from fastmove.pacs.faults import Amount, Faults
from fastmove.pacs.pace import Pace
from fastmove.services.conduct import CommitmentPlan, MovePlan, Originator
from fastmove.services.query_retrieve_scp import Archive
from fastmove.storage.filemeta import DicomFile

Counters = dict[str, int]
Told = Callable[[Counters], Counters]

_STRANGER: Final = ("STRANGER", 65535)
_UNIQUE_KEYS: Final = {level: keywords[0] for level, keywords in KEYS.items()}
_NEEDED: Final = {"SERIES": ("StudyInstanceUID",), "IMAGE": ("StudyInstanceUID", "SeriesInstanceUID")}
"""What a hierarchical query names above its level (PS3.4 C.4.1.2.1), the patient left aside."""


class Lots:
    """Decides when a fault is committed; random numbers are drawn by what they are for."""

    def __init__(self, faults: Faults, notify: Observer | None = None) -> None:
        self.faults = faults
        """May be changed at any time."""

        self._notify = notify
        self._drawn: Counter[tuple[str, str]] = Counter()

    def draw(self, field: str, what: str) -> float:
        """From 0 to 1; another each time."""
        self._drawn[field, what] += 1
        return Random(f"{self.faults.seed} {field} {what} {self._drawn[field, what]}").random()

    def strikes(self, field: str, keys: Mapping[str, str]) -> Any:
        """The value of a fault if this operation commits it, else None."""
        value = getattr(self.faults, field)
        if value == getattr(Faults, field):
            return None
        probability = self.faults.shares.get(field)
        if probability is not None and self.draw(field, _identity(keys)) >= probability:
            return None
        return value

    def chosen(self, field: str, amount: Amount | None, uids: Iterable[str]) -> frozenset[str]:
        """Those of these SOP Instance UIDs that a fault strikes."""
        if amount is None:
            return frozenset()
        drawn = {uid: self.draw(field, uid) for uid in dict.fromkeys(uids)}
        if amount.objects:
            return frozenset(sorted(drawn, key=drawn.__getitem__)[: amount.objects])
        return frozenset(uid for uid, number in drawn.items() if number < amount.probability)

    def certain(self, field: str, uids: Iterable[str]) -> frozenset[str]:
        """Those of these SOP Instance UIDs that a fault strikes each time."""
        named, probability = getattr(self.faults, field)
        if not (named or probability):
            return frozenset()
        seed = self.faults.seed
        return frozenset(uid for uid in uids if uid in named or Random(f"{seed} {field} {uid}").random() < probability)

    def tell(self, name: str, detail: str) -> None:
        """A fault is committed."""
        if self._notify is not None:
            self._notify(FaultCommitted(name, detail))


def _identity(keys: Mapping[str, str]) -> str:
    return " ".join(keys.get(keyword, "") for keyword in ("QueryRetrieveLevel", *_UNIQUE_KEYS.values()))


class FaultyArchive:
    """An archive that does not say all it knows."""

    def __init__(self, archive: Archive, lots: Lots) -> None:
        self._archive = archive
        self._lots = lots
        self._withheld: dict[str, list[str]] = {}

    def supports(self, keys: Mapping[str, str]) -> bool:
        """As the archive has it."""
        return self._archive.supports(keys)

    def find(self, keys: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """What is asked for of each match, and of more or fewer; DimseError in place of an answer."""
        level, strikes = keys["QueryRetrieveLevel"], self._lots.strikes
        lacking = any(not keys.get(keyword) for keyword in _NEEDED.get(level, ()))
        for field, holds in (("refuse_finds", True), ("no_image_level", level == "IMAGE"), ("no_relational", lacking)):
            if holds and (status := strikes(field, keys)) is not None:
                self._lots.tell(name := field.replace("_", "-"), f"{status:04X}H")
                raise DimseError(status, f"{name}, as it was asked for")
        matches = self._archive.find(self._one_uid(keys))
        if self._lots.faults.growing and level == "IMAGE":
            matches = self._grown(keys, list(matches))
        if strikes("duplicate_answers", keys):
            matches = itertools.chain.from_iterable((match, match) for match in matches)
        if (cap := strikes("find_cap", keys)) is None:
            yield from matches
            return
        yield from itertools.islice(matches, cap.number)
        if next(matches, None) is not None:
            self._lots.tell("find-cap", str(cap.number))
            if cap.status is not None:
                raise DimseError(cap.status, f"more than {cap.number} matches")

    def instances(self, keys: Mapping[str, str]) -> Sequence[DicomFile]:
        """The files that a retrieve covers, and that are there already."""
        withheld = set(itertools.chain.from_iterable(self._withheld.values()))
        files = self._archive.instances(self._one_uid(keys))
        return [file for file in files if file.sop_instance_uid not in withheld] if withheld else files

    def _one_uid(self, keys: Mapping[str, str]) -> Mapping[str, str]:
        if keys["QueryRetrieveLevel"] != "IMAGE" or not self._lots.strikes("no_uid_list", keys):
            return keys
        return {**keys, "SOPInstanceUID": keys.get("SOPInstanceUID", "").partition("\\")[0]}

    def _grown(self, keys: Mapping[str, str], matches: list[Mapping[str, str]]) -> Iterator[Mapping[str, str]]:
        uids = [match["SOPInstanceUID"] for match in matches]
        withheld = self._withheld.setdefault(_identity(keys), uids[-self._lots.faults.growing :])
        hidden = frozenset(withheld)
        if withheld:
            del withheld[0]  # from now on it is there
        return (match for match in matches if match["SOPInstanceUID"] not in hidden)


class FaultyConduct:
    """How a PACS carries out its operations that was told to misbehave."""

    def __init__(self, faults: Faults, notify: Observer | None = None) -> None:
        self.lots = Lots(faults, notify)
        self._pace = Pace()
        self.dropped: set[str] = set()
        """SOP Instance UIDs that were said to be sent, and have not been, until now."""

        self.sent: Counter[str] = Counter()
        """How often each object was stored by a destination."""

        self.moves = 0
        """Under way."""

        self.most_moves = 0
        """Under way at once, at most."""

    def change(self, faults: Faults) -> None:
        """Commit these from now on, and no others; what is left to chance goes on from the same seed."""
        self.lots.faults = faults.replace(seed=self.lots.faults.seed)
        self.lots.tell("change", ", ".join(name for name in Faults.fields if faults.differs(name)) or "none")

    def find(self, keys: Mapping[str, str]) -> float:
        """The seconds before the first response to a query."""
        return self.lots.strikes("find_delay_s", keys) or 0.0

    @contextmanager
    def move(self, keys: Mapping[str, str], files: Sequence[DicomFile], originator: Originator) -> Iterator[MovePlan]:
        """The plan of a move; DimseError if it is refused."""
        if (status := self.lots.strikes("refuse_moves", keys)) is not None:
            self.lots.tell("refuse-moves", f"{status:04X}H")
            raise DimseError(status, "refused, as it was asked for")
        limit = self.lots.faults.move_limit
        if limit is not None and self.moves >= limit.number:
            self.lots.tell("move-limit", f"{limit.status:04X}H")
            raise DimseError(limit.status, f"more than {limit.number} moves at once")
        plan = self._plan(keys, files, originator)
        self.dropped |= plan.unsent - self.sent.keys()
        self.moves += 1
        self.most_moves = max(self.most_moves, self.moves)
        try:
            yield plan
        finally:
            self.moves -= 1

    def stored(self, file: DicomFile) -> None:
        """An object has arrived."""
        self.sent[file.sop_instance_uid] += 1
        self.dropped.discard(file.sop_instance_uid)

    def commit(self, sop_instance_uids: Sequence[str]) -> CommitmentPlan:
        """The plan of a request for storage commitment."""
        keys = {"SOPInstanceUID": "\\".join(sop_instance_uids)}

        def strikes(field: str) -> Any:
            return self.lots.strikes(field, keys)

        failing = self.lots.chosen("commit_fails", strikes("commit_fails"), sop_instance_uids)
        for uid in sorted(failing):
            self.lots.tell("commit-fails", uid)
        if never := bool(strikes("commit_never")):
            self.lots.tell("commit-never", f"{len(sop_instance_uids)}")
        return CommitmentPlan(
            failing,
            reports=not never,
            delay_s=strikes("commit_late_s") or 0.0,
            same_association=bool(strikes("commit_same_association")),
        )

    def _plan(self, keys: Mapping[str, str], files: Sequence[DicomFile], originator: Originator) -> MovePlan:
        def strikes(field: str) -> Any:
            return self.lots.strikes(field, keys)

        def chosen(name: str) -> frozenset[str]:
            uids = self.lots.chosen(name, strikes(name), (file.sop_instance_uid for file in files))
            for uid in sorted(uids):
                self.lots.tell(name, uid)
            return uids

        unreadable = self.lots.certain("unreadable", (file.sop_instance_uid for file in files))
        for file in files:
            if file.sop_instance_uid in unreadable:
                self.lots.tell("unreadable", file.sop_instance_uid)
                break  # no other one is reached
        nothing = strikes("nothing")
        unsent = frozenset(file.sop_instance_uid for file in files) if nothing else chosen("drop")
        early, abort, close = strikes("early_success_s"), strikes("abort_after"), strikes("close_after")
        break_after = min((number for number in (abort, close) if number is not None), default=None)
        for name, committed in (("nothing", nothing), ("early-success", early is not None)):
            if committed:
                self.lots.tell(name, _identity(keys))
        by_closing = break_after is not None and break_after == close
        if break_after is not None:
            self.lots.tell("close-after" if by_closing else "abort-after", str(break_after))
        counters = strikes("counters")
        round_trip = self.lots.faults.round_trip_s
        bandwidth, stall = strikes("bandwidth"), strikes("stall_s")
        return MovePlan(
            _ORIGINATORS[strikes("originator") or ""](originator),
            unsent=unsent,
            failing=chosen("fail"),
            unreadable=unreadable,
            told=None if counters is None else _TOLD[counters](),
            answer_first=early is not None,
            first_delay_s=(early or 0.0) + (strikes("first_delay_s") or 0.0),
            turn=self._pace.turn(
                delay_s=(strikes("delay_s") or 0.0) + round_trip,
                rate_per_s=strikes("rate_per_s"),
                served=strikes("served"),
            ),
            set_up_s=2 * round_trip,
            through=self._pace.through(bandwidth=bandwidth, stall_s=stall or 0.0) if bandwidth or stall else None,
            association_per_object=bool(strikes("association_per_object")),
            break_after=break_after,
            break_by_closing=by_closing,
            goes_on=self.lots.faults.go_on,
        )


_ORIGINATORS: Final[dict[str, Callable[[Originator], Originator | None]]] = {
    "": lambda originator: originator,
    "none": lambda _: None,
    "wrong": lambda _: _STRANGER,
}


def _every(change: Callable[[str, int], int]) -> Callable[[], Told]:
    return lambda: lambda counters: {name: change(name, number) for name, number in counters.items()}


def _completed_by(number: int) -> Callable[[], Told]:
    return _every(lambda name, count: max(0, count + number) if "completed" in name else count)


def _frozen() -> Told:
    first: Counters = {}

    def told(counters: Counters) -> Counters:
        for name, number in counters.items():
            first.setdefault(name, number)
        return {name: first[name] for name in counters}

    return told


_TOLD: Final[dict[str, Callable[[], Told]]] = {
    "none": lambda: lambda _: {},
    "zero": _every(lambda name, number: 0),
    "low": _completed_by(-1),
    "high": _completed_by(1),
    "frozen": _frozen,
}
