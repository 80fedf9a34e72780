"""C-FINDs as a load: how long queries take, and how fast matches come."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle, islice
from random import Random
from typing import Any

from fastmove.bench.load import Load
from fastmove.bench.measurement import Measurement
from fastmove.bench.runner import Exchange, Operated, Runner, Setting
from fastmove.services.query_scu import ask, find_contexts
from fastmove.services.scu import AssociationHandle
from fastmove.values import Value


class Question(Value):
    """A query."""

    keys: tuple[str, ...]
    level: str = "STUDY"


class Finding(Exchange[Question]):
    """A worker that asks one question after the other; an object is a match."""

    name = "find"
    first = "first_match"

    async def operate(self, association: AssociationHandle, item: Question) -> Operated:
        """One C-FIND, to its final response."""
        began, first_s, matches = time.monotonic(), None, 0
        async for _ in ask(association, item.keys, self._target.model, item.level):
            now = time.monotonic()
            if first_s is None:
                first_s = now - began
            matches += 1
            self._measurement.object(now, 0)
        return Operated(objects=matches, first_s=first_s, kind=item.level)


class FindBench(Runner[Question]):
    """C-FINDs."""

    kind = "find"
    operations = "queries"

    async def run(self, load: Load, items: Iterable[Question], setting: Setting) -> dict[str, Any]:
        """One run over these questions."""
        target = self.target.announcing(setting.max_pdu_length)

        def operator(measurement: Measurement) -> Finding:
            return Finding(target, find_contexts(target.model), measurement)

        return (await self._measured(load, items, "find", operator)).finished()


def questions(several: Sequence[Question], count: int | None, *, seed: int) -> Iterator[Question]:
    """So many of them, or without end, in a random order that is the same for each pass and each run."""
    order = list(several)
    Random(seed).shuffle(order)
    return islice(cycle(order), count)
