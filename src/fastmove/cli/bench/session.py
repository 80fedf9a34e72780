"""The runs of a benchmark, one after the other, and how they are stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from http.client import HTTPException
from typing import Any, Generic, TypeVar

from fastmove.bench.knee import flat, steps
from fastmove.bench.load import Load
from fastmove.bench.result import RATES, Document, Result
from fastmove.bench.runner import UNREACHED, Runner, Setting
from fastmove.cli.bench.plan import Plan, Point, transfer_syntax_uid
from fastmove.cli.bench.shown import Shown
from fastmove.cli.exit_codes import ExitCode, for_error
from fastmove.cli.metrics import of_bench, serve_metrics
from fastmove.cli.output import say
from fastmove.errors import FastmoveError
from fastmove.net.loop import interruptions
from fastmove.types import PeerAddress

Item = TypeVar("Item")


class Session(Generic[Item]):
    """The runs of one command; a context manager in the loop, at whose end signals are no longer heeded."""

    def __init__(
        self,
        runner: Runner[Item],
        plan: Plan,
        scenario: Mapping[str, Any],
        *,
        as_json: bool,
        also: Sequence[PeerAddress] = (),
    ) -> None:
        self._runner = runner
        self._target = runner.target
        self._peers = {str(peer): peer for peer in also}
        self._plan = plan
        self._result = Result(runner.kind, scenario)
        self._as_json = as_json
        self._error: FastmoveError | None = None

    async def run(self, items: Callable[[Point], Iterable[Item]]) -> Document:
        """All runs of the plan, over what `items` gives for a point; what was measured until a signal, or all."""
        loop = asyncio.get_running_loop()
        for number in interruptions():
            loop.add_signal_handler(number, self._interrupt)
        with ExitStack() as opened, Shown(self._runner, quiet=self._as_json) as shown:
            metrics = serve_metrics(opened, self._plan.metrics_at, partial(say, err=True))
            if metrics is not None:
                of_bench(metrics, self._runner)
            for point, repetition in self._points():
                if self._runner.stopped:
                    break
                shown.begin(point, self._plan.points, repetition)
                before = await self._theirs()
                self._runner.target = self._target.replace(peer=self._peers.get(point.peer, self._target.peer))
                setting = Setting(point.max_pdu_length, transfer_syntax_uid(point.transfer_syntax))
                try:
                    measured = await self._runner.run(self._load(point), items(point), setting)
                except FastmoveError as error:
                    if not self._result.runs:
                        raise
                    self._error = error  # what was measured before is not lost with it
                    say(f"no further runs: {error}", err=True)
                    break
                if self._runner.stopped and not measured["operations"]:
                    break
                after = await self._theirs()
                changed = {name: [old, after[name]] for name, old in before.items() if after.get(name, old) != old}
                self._result.add(vars(point), repetition, measured | {"pacs_metrics": changed})
                shown.end(measured)
        return self._result.finished(self._runner.peer, complete=not self._runner.stopped and self._error is None)

    async def _theirs(self) -> dict[str, float]:
        """What the PACS says of itself; nothing if it is not asked, or does not say."""
        url = self._plan.pacs_metrics
        if url is None:
            return {}
        from fastmove.observe.scrape import scraped

        try:
            return await asyncio.to_thread(scraped, url)
        except (OSError, ValueError, HTTPException) as error:
            say(f"the PACS's metrics cannot be had: {error}", err=True)
            return {}

    def exit_code(self, document: Document) -> ExitCode:
        """What the shell is told."""
        if self._error is not None:
            return for_error(self._error, established=False)
        if self._runner.stopped:
            return ExitCode.UNKNOWN
        runs = document["runs"]
        statuses = {status for run in runs for status in run["statuses"]}
        if statuses and statuses <= UNREACHED:
            return ExitCode.CANNOT_ASSOCIATE
        if any(run["unstored_objects"] for run in runs):
            return ExitCode.STORAGE_FAILED
        return ExitCode.REFUSED if any(run["failed_operations"] for run in runs) else ExitCode.SUCCESS

    def _points(self) -> Iterator[tuple[Point, int]]:
        """One repetition of all points after the other, so that what changes with time changes all of them."""
        plan = self._plan
        if plan.ramp_to is None:
            yield from ((point, number) for number in range(1, plan.repetitions + 1) for point in plan.points)
            return
        rates: list[float] = []
        for at_once in steps(plan.ramp_to):
            point = plan.points[0].replace(parallel=at_once)
            for number in range(1, plan.repetitions + 1):
                yield point, number
            found = next(filter(any, (self._result.rates(vars(point), name) for name in RATES)), [0.0])
            rates.append(sum(found) / len(found))
            if flat(rates):
                return

    def _load(self, point: Point) -> Load:
        plan = self._plan
        return Load(
            parallel=point.parallel,
            rate_per_s=point.rate_per_s,
            duration_s=plan.duration_s,
            warm_up_s=plan.warm_up_s,
            seed=plan.seed,
        )

    def _interrupt(self) -> None:
        cancelled = self._runner.stop()
        say(f"stopping{': C-CANCEL sent, once more to abort' if cancelled else ''}", err=True)
