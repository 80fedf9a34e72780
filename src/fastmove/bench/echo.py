"""C-ECHOs as a load: what the way to the peer and its DICOM stack take when nothing else is to be done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

from fastmove.bench.load import Load
from fastmove.bench.measurement import Measurement
from fastmove.bench.runner import Exchange, Operated, Runner, Setting
from fastmove.services.scu import AssociationHandle
from fastmove.services.verification import CONTEXTS, echo_on


class Echoing(Exchange[None]):
    """A worker that asks whether anybody is there."""

    name = "echo"

    async def operate(self, association: AssociationHandle, item: None) -> Operated:
        """One C-ECHO."""
        await echo_on(association)
        return Operated()


class EchoBench(Runner[None]):
    """C-ECHOs."""

    kind = "echo"
    operations = "C-ECHOs"

    async def run(self, load: Load, items: Iterable[None], setting: Setting) -> dict[str, Any]:
        """One run."""
        target = self.target.announcing(setting.max_pdu_length)

        def operator(measurement: Measurement) -> Echoing:
            return Echoing(target, CONTEXTS, measurement)

        return (await self._measured(load, items, "echo", operator)).finished()


def echoes(count: int | None) -> Iterator[None]:
    """So many of them, or without end."""
    return repeat(None) if count is None else repeat(None, count)
