"""What a run of a benchmark shows while it is under way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from fastmove.bench.measurement import Measurement
from fastmove.bench.runner import Runner
from fastmove.cli.output import Tally
from fastmove.observe.result_words import STALLS

COLUMNS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "retrieve": (("first_object", "p50"), ("gap", "p50"), ("move", "p50"), ("move", "p99")),
    "store": (("store", "p50"), ("store", "p99"), ("store", "p99.9"), ("association", "p50")),
    "find": (("first_match", "p50"), ("find", "p50"), ("find", "p99"), ("find", "max")),
    "self": (("gap", "p50"), ("gap", "p99"), ("store", "p50"), ("store", "p99")),
    "echo": (("echo", "p50"), ("echo", "p99"), ("echo", "p99.9"), ("echo", "max")),
}
"""Kind of benchmark → the latencies that are shown of it, while it runs and at the end."""

VERBS: Final = {"store": "stored", "find": "found"}
"""Kind of benchmark → what happens to objects; they are received in others."""

SERIES_S: Final = 60
"""So much of the time that has gone by is drawn."""

LATENCIES_EVERY_S: Final = 1.0
"""To look them up takes a millisecond, which is the benchmark's own processor."""

LEVELS: Final = "▁▂▃▄▅▆▇█"


class Live(Tally):
    """The run under way, as a tally; rates, latencies, and what the time goes into below it."""

    def __init__(self, runner: Runner[Any]) -> None:
        super().__init__()
        self._runner = runner
        self.title = ""
        self._latencies = ""
        self._latencies_at = 0.0

    def begin(self, title: str) -> None:
        """Another run: its rates are its own."""
        self.__init__(self._runner)  # type: ignore[misc]
        self.title = title

    def refresh(self) -> None:
        """Take over what is measured."""
        if (measured := self._runner.measurement) is not None:
            self.objects, self.nbytes = measured.objects, measured.nbytes

    def line(self, verb: str) -> str:
        """The state as text."""
        return f"{', '.join([f'{self.title}: {super().line(verb)}', *self._counts()])}"

    def live(self, verb: str) -> tuple[str, ...]:
        """What has been done; and below it how fast, how long it took, what the time went into, and what failed."""
        beside = ", ".join([self.title, *self._counts()])
        measured = self._runner.measurement
        return (beside,) if measured is None else (beside, *self._below(measured, super().line(verb)))

    def _counts(self) -> Iterator[str]:
        measured, drive = self._runner.measurement, self._runner.drive
        if measured is None or drive is None:
            return
        now = time.monotonic()
        if now < measured.counts_from:
            yield f"warming up for {measured.counts_from - now:.0f} s"
        elif measured.until is not None and now < measured.until:
            yield f"{measured.until - now:.0f} s left"
        yield f"{measured.operations:,} {self._runner.operations} ended, {drive.under_way} under way"
        if drive.waiting:
            yield f"{drive.waiting} due and waiting"
        if measured.failed_operations:
            yield f"{measured.failed_operations:,} failed"

    def _below(self, measured: Measurement, rates: str) -> Iterator[str]:
        lately = measured.lately("bytes" if measured.nbytes else "operations", SERIES_S)
        if not measured.objects:
            rates = f"{lately[-1] if lately else 0:,} {self._runner.operations}/s"
        yield f"{rates}  {sparkline(lately)}"
        now = time.monotonic()
        if now >= self._latencies_at + LATENCIES_EVERY_S:
            self._latencies, self._latencies_at = _latencies(measured, COLUMNS[self._runner.kind]), now
        yield from filter(None, [self._latencies, _spent(self._runner.stalls()), _failures(measured.failures)])


def sparkline(values: Sequence[float]) -> str:
    """A character for each, from none to the most of them."""
    most = max(values, default=0)
    return "".join(LEVELS[round(value / most * (len(LEVELS) - 1))] for value in values) if most else ""


def _latencies(measured: Measurement, columns: Sequence[tuple[str, str]]) -> str:
    summaries = {name: latency.summary() for name, latency in measured.latencies.items()}
    known = [(name, percentile) for name, percentile in columns if percentile in summaries.get(name, {})]
    return ", ".join(f"{name.replace('_', ' ')} {of} {summaries[name][of]:,.1f} ms" for name, of in known)


def _spent(stalls: Mapping[str, float]) -> str:
    total = sum(stalls.values())
    shares = sorted(((seconds / total, name) for name, seconds in stalls.items() if seconds), reverse=True)
    return ", ".join(f"{STALLS[name]} {share:.0%}" for share, name in shares if share >= 0.005)


def _failures(failures: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} x {status}" for status, count in failures.items())
