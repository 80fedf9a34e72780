"""How many bytes a PACS has to send, and how long it takes to: from a sample of its studies, by kind.

C-FIND does not tell sizes.  Within a kind of studies bytes and time go with the number of instances, so it is their
ratio that is measured (a ratio estimate, stratified by kind).  The range is that of Student's t for the ratio's
linearised residuals; what is not known at all may be half as much, or twice as much.  Half of a sample goes by the
number of instances, the other half goes where the first one has left most in doubt (Neyman).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from random import Random
from statistics import fmean, stdev
from typing import Final, Generic, NamedTuple, TypeVar

from fastmove.bench.confidence import Interval, sum_of_means
from fastmove.bench.load import Load
from fastmove.bench.retrieve import RetrieveBench, Study
from fastmove.bench.runner import Setting

Item = TypeVar("Item")

LEAST: Final = 3
"""Studies of each kind, if the sample is large enough: one alone says nothing of how much they differ, two little."""

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

    def drawn(self) -> dict[str, list[Item]]:
        """What was drawn of each kind, in an order that is left to chance, too."""
        return {kind: self._random.sample(held, len(held)) for kind, held in self._held.items()}


def shares(
    number: int, held: Mapping[str, int], taken: Mapping[str, int], weights: Mapping[str, float], least: int
) -> list[str]:
    """The kinds of so many studies beside those `taken`: of each the least, then the more the more it weighs."""
    counts = dict.fromkeys(held, 0) | dict(taken)
    chosen: list[str] = []
    while len(chosen) < number and (left := [kind for kind in held if counts[kind] < held[kind]]):
        best = max(left, key=lambda kind: (counts[kind] < least, weights.get(kind, 0.0) / (counts[kind] + 1)))
        counts[best] += 1
        chosen.append(best)
    return chosen


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


async def measured(
    bench: RetrieveBench,
    drawn: Mapping[str, Sequence[Study]],
    amounts: Mapping[str, Amount],
    *,
    number: int,
    parallel: int,
) -> Sampled:
    """Have so many of these moved, `parallel` at once: first as there are instances, then where that says most.

    The `kind` of each is its UID.  Raises what the run of a benchmark raises.
    """
    parts: dict[str, list[Part]] = {}
    taken = dict.fromkeys(drawn, 0)
    held = {kind: len(studies) for kind, studies in drawn.items()}
    instances, nbytes, seconds, failures = 0, 0, 0.0, dict[str, str]()
    least = min(LEAST, number // max(len(drawn), 1))
    for until in (max((number + 1) // 2, least * len(drawn)), number):
        weights = {kind: _weight(amount, parts.get(kind), parts) for kind, amount in amounts.items()}
        units: dict[str, tuple[str, Study]] = {}
        for kind in shares(until - sum(taken.values()), held, taken, weights, least):
            study = drawn[kind][taken[kind]]
            units[study.kind] = kind, study
            taken[kind] += 1
        if not units:
            break
        run = await bench.run(Load(parallel=parallel), [study for _, study in units.values()], Setting())
        for uid, group in run["kinds"].items():
            if group["objects"]:
                part = Part(1, group["objects"], group["bytes"], group["latency_ms"]["mean"] / 1e3)
                parts.setdefault(units[uid][0], []).append(part)
        instances, nbytes, seconds = instances + run["objects"], nbytes + run["bytes"], seconds + run["seconds"]
        failures |= {status: run["details"].get(status, "") for status in run["failures"]}
    return Sampled(parts, sum(map(len, parts.values())), instances, nbytes, seconds, failures)


def _weight(amount: Amount, parts: Sequence[Part] | None, everything: Mapping[str, Sequence[Part]]) -> float:
    """How much it would help to know more of a kind: its bytes, as far as they are not known."""
    known = parts or [part for several in everything.values() for part in several]
    if not known:
        return float(amount.instances or amount.studies)
    size, values = _scaled(amount, known, "nbytes")
    return size * (stdev(values) if parts and len(values) > 1 else fmean(values))


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
    terms: list[tuple[float, Sequence[float]]] = []
    unsure = 0.0
    for kind, amount in amounts.items():
        size, values = _scaled(amount, parts.get(kind) or everything, of)
        if len(parts.get(kind, ())) > 1:
            terms.append((size, values))
        else:
            unsure += size * fmean(values)
    estimate, low, high = sum_of_means(terms) if terms else Interval(0.0, 0.0, 0.0)
    least, most = (estimate if each is None else each for each in (low, high))
    return Interval(estimate + unsure, max(least, 0.0) + unsure / UNKNOWN, most + unsure * UNKNOWN)


def _scaled(amount: Amount, parts: Sequence[Part], of: str) -> tuple[float, Sequence[float]]:
    """How large an amount is, and what there is for 1 of it: an instance, or a study where nobody counts those."""
    values = [getattr(part, of) for part in parts]
    if not amount.counted:
        return float(amount.studies), _linearised(values, [part.studies for part in parts])
    size = amount.instances * amount.studies / amount.counted
    return size, _linearised(values, [part.instances for part in parts])


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
