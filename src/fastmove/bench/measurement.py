"""What is measured in one run: counts, rates over time, latencies, and what our side took for it."""

from __future__ import annotations

import resource
import time
from collections import Counter
from typing import Any, Final

from fastmove.bench.latency import Latency
from fastmove.bench.load import NOT_BEGUN, TIMED_OUT, Load, Performed
from fastmove.values import Value

INTERVAL_S: Final = 1.0
"""Of a series over time."""

FAILED: Final = "_failed"
"""What failed has latencies of its own: a refusal is quick, and would flatter those of what was done."""

OUT_OF_TIME: Final = frozenset({NOT_BEGUN, TIMED_OUT})
"""What was waited for in vain took so long at least: left out, it would flatter the others."""


class Usage(Value):
    """What this process has used up to now."""

    at: float
    cpu_s: float
    """User and system, of all its threads."""

    @classmethod
    def now(cls) -> Usage:
        """At this moment."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return cls(time.monotonic(), used.ru_utime + used.ru_stime)


def peak_rss_bytes() -> int:
    """The most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


class Group:
    """Operations of one kind."""

    def __init__(self) -> None:
        self.operations = self.objects = self.nbytes = 0
        self.latency = Latency()


class Measurement:
    """Collects what operations and objects tell of the time from the warm-up's end to the end of the load.

    Objects count by when they came.  Operations count by when they ended, or, in an open loop, by when they were due:
    what was due then and took longer is what an open loop is for.  Without a duration the time ends with the last
    thing that counts.
    """

    def __init__(self, began_at: float, load: Load) -> None:
        self.counts_from = began_at + load.warm_up_s
        self.until = None if load.duration_s is None else began_at + load.duration_s
        self._by_due = load.rate_per_s is not None
        self._ended = 0
        self._last_at = self.counts_from
        self.operations = self.objects = self.nbytes = 0
        self.failed_suboperations = self.unstored_objects = 0
        self.statuses: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()
        """Those of operations that failed; a Success after which objects are missing is among them."""
        self.details: dict[str, str] = {}
        """Status of failures → the first detail that came with it."""
        self.latencies: dict[str, Latency] = {}
        self.groups: dict[str, Group] = {}
        self._series: dict[str, Counter[int]] = {"objects": Counter(), "bytes": Counter(), "operations": Counter()}
        self._usage: Usage | None = None

    def end(self, now: float) -> None:
        """Nothing counts after that: what is under way is being cancelled."""
        self.until = now

    def close(self, now: float) -> None:
        """The load is over; if that is before the duration, the time ends as without one."""
        if self.until is not None and now < self.until:
            self.until = None

    def counts(self, at: float) -> bool:
        """True for a moment that is measured."""
        if self._usage is None and at >= self.counts_from:
            self._usage = Usage.now()
        return at >= self.counts_from and (self.until is None or at <= self.until)

    @property
    def failed_operations(self) -> int:
        """How many have failed."""
        return self.failures.total()

    def latency(self, name: str, seconds: float) -> None:
        """Take in one of these."""
        known = self.latencies.get(name)
        if known is None:
            known = self.latencies[name] = Latency()
        known.record(seconds)

    def object(self, at: float, nbytes: int) -> bool:
        """An object came, or was sent; True if it counts."""
        if not self.counts(at):
            return False
        self._last_at = max(self._last_at, at)
        self.objects += 1
        self.nbytes += nbytes
        self._tick(at, objects=1, bytes=nbytes)
        return True

    def operation(self, name: str, performed: Performed) -> bool:
        """An operation has ended; True if it counts."""
        ended = self.counts(performed.ended_at)
        if ended:  # a rate is of what ended in that time, whenever it was due
            self._last_at = max(self._last_at, performed.ended_at)
            self._tick(performed.ended_at, operations=1)
            self._ended += performed.succeeded
        if not (self.counts(performed.due_at) if self._by_due else ended):
            return False
        self.operations += 1
        self.failed_suboperations += performed.failed_suboperations
        self.unstored_objects += performed.unstored
        self.statuses[performed.status] += 1
        if not performed.succeeded:
            self.failures[performed.status] += 1
            if performed.detail:
                self.details.setdefault(performed.status, performed.detail)
        known = performed.succeeded or performed.status in OUT_OF_TIME
        self.latency(name if known else f"{name}{FAILED}", performed.latency_s)
        if performed.associated_s is not None:
            self.latency("association", performed.associated_s)
        if performed.kind:
            group = self.groups.setdefault(performed.kind, Group())
            group.operations += 1
            group.objects += performed.objects
            group.nbytes += performed.nbytes
            group.latency.record(performed.latency_s)
        return True

    def lately(self, name: str, seconds: int) -> list[int]:
        """Objects, bytes or operations of each of the last intervals that are over, at most so many seconds."""
        over = int((time.monotonic() - self.counts_from) / INTERVAL_S)
        return [self._series[name][i] for i in range(max(over - int(seconds / INTERVAL_S), 0), over)]

    def _tick(self, at: float, **counts: int) -> None:
        interval = int((at - self.counts_from) / INTERVAL_S)
        for name, count in counts.items():
            self._series[name][interval] += count

    @property
    def seconds(self) -> float:
        """The time that is measured, so far."""
        return (self._last_at if self.until is None else self.until) - self.counts_from

    def finished(self) -> dict[str, Any]:
        """All of it, as a report has it."""
        seconds, usage = self.seconds, Usage.now()
        used = self._usage or usage
        per_s = 1.0 / seconds if seconds > 0 else 0.0
        intervals = max((max(counts, default=-1) for counts in self._series.values()), default=-1) + 1
        return {
            "seconds": round(seconds, 6),
            "operations": self.operations,
            "failed_operations": self.failed_operations,
            "objects": self.objects,
            "bytes": self.nbytes,
            "failed_suboperations": self.failed_suboperations,
            "unstored_objects": self.unstored_objects,
            "operations_per_s": round(self._ended * per_s, 6),
            "objects_per_s": round(self.objects * per_s, 6),
            "bytes_per_s": round(self.nbytes * per_s, 3),
            "statuses": dict(self.statuses),
            "failures": dict(self.failures),
            "details": self.details,
            "latencies_ms": {name: latency.as_json() for name, latency in sorted(self.latencies.items())},
            "kinds": {
                kind: {
                    "operations": group.operations,
                    "objects": group.objects,
                    "bytes": group.nbytes,
                    "latency_ms": group.latency.as_json(),
                }
                for kind, group in sorted(self.groups.items())
            },
            "over_time": {
                "interval_s": INTERVAL_S,
                **{name: [counts[i] for i in range(intervals)] for name, counts in self._series.items()},
            },
            "our_side": {
                "cpu_s": round(usage.cpu_s - used.cpu_s, 6),
                "cpu_cores": round((usage.cpu_s - used.cpu_s) / max(usage.at - used.at, 1e-9), 4),
                "peak_rss_bytes": peak_rss_bytes(),
            },
        }
