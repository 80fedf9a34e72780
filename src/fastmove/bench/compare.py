"""Two results held against each other: is the second one slower, and how sure is that?

Only what was measured in the same way is compared: points that both have.  A difference counts if it is larger than
what was asked for and if its 95 % confidence interval leaves no doubt which way it goes; one that is large and not
sure is told as such, and calls for more repetitions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from typing import Any, Final, NamedTuple

from fastmove.bench.confidence import Interval, ratio
from fastmove.errors import ConfigurationError

Document = Mapping[str, Any]

RATES: Final = {"bytes_per_s": "MB/s", "objects_per_s": "objects/s", "operations_per_s": "operations/s"}
"""What is compared where objects are moved is the first that both have; higher is better."""

INVERSE: Final = "inverse_latency_per_s"
"""One by the mean latency of an operation: what of an open loop is compared."""

OPERATIONS: Final = {"retrieve": "move", "store": "study", "find": "find", "echo": "echo"}
"""Kind of benchmark → the latency of its operations."""

WORDS: Final = {**RATES, INVERSE: "1/latency, 1/s"}
"""What is compared, in words."""

MATTERS: Final = (
    *("kind", "model", "duration_s", "warm_up_s", "count", "kept", "durable", "tls", "new_associations"),
    *("sent", "operations", "max_rate", "queries"),
)
"""Of a scenario: what makes two results different things if it differs."""

LIKE: Final = ("processor", "processors", "python", "fastmove")
"""Of the environment: what is worth a word if it differs."""


class Change(Enum):
    """What became of a rate."""

    SAME = "same"
    FASTER = "faster"
    SLOWER = "slower"
    UNSURE = "unsure"
    """It changed by more than the threshold, and chance may have done that."""


class Comparison(NamedTuple):
    """One point of both results."""

    point: dict[str, Any]
    rate: str
    before: float
    after: float
    ratio: Interval
    """After to before."""

    change: Change


def classify(found: Interval, threshold: float) -> Change:
    """What a ratio of rates says, where taking less than this share of time more, or less, is no difference."""
    slower, faster = found.estimate < 1 / (1 + threshold), found.estimate > 1 + threshold
    if not slower and not faster:
        return Change.SAME
    if found.low is None or found.high is None or found.low <= 1 <= found.high:
        return Change.UNSURE
    return Change.SLOWER if slower else Change.FASTER


def compare(before: Document, after: Document, threshold: float) -> list[Comparison]:
    """Each point that both have; ConfigurationError if there is none, or if they measured different things."""
    if before["kind"] != after["kind"]:
        raise ConfigurationError("result", f"bench {before['kind']} and bench {after['kind']} cannot be compared")
    compared = list(_compared(before, after, threshold))
    if not compared:
        raise ConfigurationError("result", "the two have no point in common at which something was moved")
    return compared


def _compared(before: Document, after: Document, threshold: float) -> Iterator[Comparison]:
    for point in [each["point"] for each in before["points"]]:
        runs = [[run for run in document["runs"] if run["point"] == point] for document in (before, after)]
        if not all(runs):
            continue
        # In an open loop the rate is the one that was asked for: how long it took is what tells.
        rates = (INVERSE,) if point.get("rate_per_s") is not None else RATES
        for rate in rates:
            old, new = ([_of(run, rate, before["kind"]) for run in of] for of in runs)
            if any(old):
                found = _ratio(new, old)
                change = classify(found, threshold) if any(new) else Change.SLOWER
                yield Comparison(dict(point), rate, sum(old) / len(old), sum(new) / len(new), found, change)
                break


def _of(run: Mapping[str, Any], rate: str, kind: str) -> float:
    if rate != INVERSE:
        return float(run[rate])
    latency = run["latencies_ms"].get(OPERATIONS[kind], {})
    return 1e3 / latency["mean"] if latency.get("mean") else 0.0


def _ratio(new: Sequence[float], old: Sequence[float]) -> Interval:
    """As `ratio`; where nothing was moved in some of the runs, that of the means, and nobody knows how sure it is."""
    if min(*new, *old) > 0:
        return ratio(new, old)
    return Interval(sum(new) / len(new) / (sum(old) / len(old)), None, None)


def differences(before: Document, after: Document) -> Iterator[str]:
    """What else differs between the two, and may be why."""
    for name in MATTERS:
        old, new = before["scenario"].get(name), after["scenario"].get(name)
        if old != new:
            yield f"{name.removesuffix('_s').replace('_', ' ')}: {old} before, {new} after"
    for name in LIKE:
        old, new = before["environment"].get(name), after["environment"].get(name)
        if old != new:
            yield f"{name}: {old} before, {new} after"
    for name in ("implementation_class_uid", "implementation_version_name"):
        old, new = before["peer"].get(name), after["peer"].get(name)
        if old != new:
            yield f"the PACS's {name.replace('_', ' ')}: {old} before, {new} after"
    for name, document in (("before", before), ("after", after)):
        failed = sum(run["failed_operations"] for run in document["runs"])
        if failed:
            yield f"{failed:,} operations failed {name}"
        if not document["complete"]:
            yield f"the run {name} was stopped"


def verdict(compared: Sequence[Comparison]) -> Change:
    """Of all points together: slower if one is, else unsure if one is, else faster if one is."""
    changes = {each.change for each in compared}
    return next((each for each in (Change.SLOWER, Change.UNSURE, Change.FASTER) if each in changes), Change.SAME)
