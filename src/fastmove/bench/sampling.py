"""How many bytes a PACS has to send, and how long it takes to: from a sample of its studies, by kind.

C-FIND does not tell sizes.  Within a kind of studies bytes and time go with the number of instances, so it is their
ratio that is measured (a ratio estimate, stratified by kind).  The range is that of Student's t for the ratio's
linearised residuals; what is not known at all may be half as much, or twice as much.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from random import Random
from typing import Final, Generic, NamedTuple, TypeVar

from fastmove.bench.confidence import Interval, mean
from fastmove.bench.load import Load
from fastmove.bench.retrieve import RetrieveBench, Study
from fastmove.bench.runner import Setting

Item = TypeVar("Item")

LEAST: Final = 2
"""Studies of each kind, if there are enough in the sample: one alone says nothing of how much they differ."""

UNKNOWN: Final = 2.0
"""By so much more, or less, what nobody has measured may be."""

_WITHOUT_IMAGES: Final = frozenset(("AU", "DOC", "KO", "PR", "SR"))


@lru_cache(maxsize=1024)
def kind_of(modalities: str) -> str:
    """Modalities of a study (`SR\\CT`) as a kind (`CT`): what has no images does not matter beside what has."""
    told = {each.strip().upper() for each in modalities.split("\\")} - {""}
    return "+".join(sorted(told - _WITHOUT_IMAGES or told)) or "?"


# ---------------------------------------------------------------------- drawing


class Lots(Generic[Item]):
    """Draws by chance what goes by, at most so many of each kind, each with the same chance."""

    def __init__(self, most: int, seed: int) -> None:
        self._most = most
        self._random = Random(seed)
        self._held: dict[str, list[Item]] = {}
        self._gone_by: dict[str, int] = {}

    def add(self, kind: str, item: Item) -> None:
        """One goes by."""
        held, number = self._held.setdefault(kind, []), self._gone_by.get(kind, 0) + 1
        self._gone_by[kind] = number
        if len(held) < self._most:
            held.append(item)
        elif (place := self._random.randrange(number)) < self._most:
            held[place] = item

    def drawn(self, sizes: Mapping[str, float]) -> list[Item]:
        """So many at most of all kinds together: of each `LEAST`, then the more the larger it is."""
        taken = dict.fromkeys(self._held, 0)
        for _ in range(self._most):
            left = [kind for kind, held in self._held.items() if taken[kind] < len(held)]
            if not left:
                break
            best = max(left, key=lambda kind: (taken[kind] < LEAST, sizes.get(kind, 0.0) / (taken[kind] + 1)))
            taken[best] += 1
        return [each for kind, count in taken.items() for each in self._random.sample(self._held[kind], count)]


# ---------------------------------------------------------------------- measuring


class Part(NamedTuple):
    """Studies of a kind that were measured."""

    studies: int
    instances: int
    nbytes: int
    seconds: float = 0.0
    """Of moves that were under way at the same time each counts."""

    def plus(self, other: Part) -> Part:
        """Both together."""
        return Part(
            self.studies + other.studies,
            self.instances + other.instances,
            self.nbytes + other.nbytes,
            self.seconds + other.seconds,
        )


class Sampled(NamedTuple):
    """What became of a sample."""

    parts: Mapping[str, Sequence[Part]]
    """By kind, each study one, those of which something came."""

    studies: int
    instances: int
    nbytes: int
    seconds: float
    failures: Mapping[str, str]
    """Status of moves that failed → what was said of it."""


async def measured(bench: RetrieveBench, studies: Mapping[str, Study], *, parallel: int) -> Sampled:
    """Have these moved, by their UIDs, so many at once; raises what the run of a benchmark raises."""
    # Each is a kind of its own: so it is measured by itself.
    units = [study.replace(kind=uid) for uid, study in studies.items()]
    run = await bench.run(Load(parallel=parallel), units, Setting())
    parts: dict[str, list[Part]] = {}
    for uid, group in run["kinds"].items():
        if group["objects"]:
            part = Part(1, group["objects"], group["bytes"], group["latency_ms"]["mean"] / 1e3)
            parts.setdefault(studies[uid].kind, []).append(part)
    came = sum(map(len, parts.values()))
    failures = {status: run["details"].get(status, "") for status in run["failures"]}
    return Sampled(parts, came, run["objects"], run["bytes"], run["seconds"], failures)


# ---------------------------------------------------------------------- reckoning


class Amount(NamedTuple):
    """Studies of a kind of which something is to be known; `instances` are those of the `counted` ones."""

    studies: int = 0
    counted: int = 0
    instances: int = 0

    def plus(self, other: Amount) -> Amount:
        """Both together."""
        return Amount(*map(sum, zip(self, other, strict=True)))


def total(amounts: Mapping[str, Amount], parts: Mapping[str, Sequence[Part]], of: str = "nbytes") -> Interval | None:
    """So many bytes, or `seconds`, with a range for 95 %; None if nothing was measured.

    A kind that was not measured is taken for the average of those that were.
    """
    everything = [part for several in parts.values() for part in several]
    if not any(getattr(part, of) for part in everything):
        return None
    sum_, unsure, below, above = 0.0, 0.0, 0.0, 0.0
    for kind, amount in amounts.items():
        several = parts.get(kind) or everything
        if amount.counted:
            size, weights = amount.instances * amount.studies / amount.counted, [part.instances for part in several]
        else:
            size, weights = float(amount.studies), [part.studies for part in several]
        values = _linearised([getattr(part, of) for part in several], weights)
        ratio, low, high = mean(values)
        sum_ += size * ratio
        if kind not in parts or low is None or high is None:
            unsure += size * ratio
        else:
            below += (size * (ratio - low)) ** 2
            above += (size * (high - ratio)) ** 2
    least = sum_ - unsure * (1 - 1 / UNKNOWN) - math.sqrt(below)
    return Interval(sum_, max(least, 0.0), sum_ + unsure * (UNKNOWN - 1) + math.sqrt(above))


def _linearised(values: Sequence[float], weights: Sequence[int]) -> list[float]:
    """Numbers whose mean is the ratio of the sums, and as uncertain as that is."""
    ratio, average = sum(values) / sum(weights), sum(weights) / len(weights)
    return [ratio + (value - ratio * weight) / average for value, weight in zip(values, weights, strict=True)]


def together(*several: Mapping[str, Iterable[Part]]) -> dict[str, list[Part]]:
    """All that was measured, by kind."""
    found: dict[str, list[Part]] = {}
    for each in several:
        for kind, parts in each.items():
            found.setdefault(kind, []).extend(parts)
    return found
