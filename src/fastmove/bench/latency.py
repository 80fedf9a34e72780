"""Latencies, as HdrHistogram keeps them: from a microsecond to an hour, to three digits, however many there are."""

from __future__ import annotations

from typing import Any, Final, Self

from hdrh.histogram import HdrHistogram

HIGHEST_US: Final = 3_600_000_000
DIGITS: Final = 3

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}
"""As a summary names them."""

CURVE: Final = (0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.9, 99.95, 99.99)
"""What a plot needs."""


class Latency:
    """A distribution of times."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, HIGHEST_US, DIGITS)
        self._sum_s = 0.0

    def record(self, seconds: float) -> None:
        """Take in one; what is below or beyond counts as the shortest or the longest."""
        self._histogram.record_value(min(max(round(seconds * 1e6), 1), HIGHEST_US))
        self._sum_s += seconds

    def add(self, other: Latency) -> None:
        """Take in all of another one."""
        self._histogram.add(other._histogram)
        self._sum_s += other._sum_s

    @property
    def count(self) -> int:
        """How many."""
        return int(self._histogram.get_total_count())

    def percentile_ms(self, percentile: float) -> float:
        """So many percent are no longer than this, in milliseconds; 0.0 if there is none."""
        return self._histogram.get_value_at_percentile(percentile) / 1e3 if self.count else 0.0

    def summary(self) -> dict[str, float | int]:
        """Count, and in milliseconds least, mean, percentiles and most; the count alone if there is none.

        A percentile is left out that no value is beyond: of eight values the largest is no 99th percentile.
        """
        if not self.count:
            return {"count": 0}
        histogram = self._histogram
        found: dict[str, float | int] = {"count": self.count, "min": histogram.get_min_value() / 1e3}
        found["mean"] = round(self._sum_s / self.count * 1e3, 3)
        found |= {name: self.percentile_ms(each) for name, each in PERCENTILES.items() if self._has(each)}
        found["max"] = histogram.get_max_value() / 1e3
        return found

    def curve(self) -> list[tuple[float, float]]:
        """Percentiles and milliseconds, as far as there are enough values that something is beyond them."""
        return [(each, self.percentile_ms(each)) for each in CURVE if self._has(each)]

    def _has(self, percentile: float) -> bool:
        """True if there are so many values that one is beyond it; the median needs no more than itself."""
        return percentile <= 50 or self.count * (1 - percentile / 100) >= 1 - 1e-9

    def as_json(self) -> dict[str, Any]:
        """Summary, curve, and the whole in HdrHistogram's compressed form (V2, base64), which others read, too."""
        if not self.count:
            return {"count": 0}
        return {**self.summary(), "curve": self.curve(), "hdr": self._histogram.encode().decode("ascii")}

    @classmethod
    def from_json(cls, known: dict[str, Any]) -> Self:
        """What `as_json` made."""
        latency = cls()
        if known["count"]:
            latency._histogram.decode_and_add(known["hdr"].encode("ascii"))
            latency._sum_s = known["mean"] * known["count"] / 1e3
        return latency
