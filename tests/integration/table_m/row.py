"""A row of the table, and the PACS that it is about."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, Final, NamedTuple

from fastmove.bench.spec import Spec
from fastmove.limits import Limits
from tests.integration.embedded import embedded_pacs
from tests.integration.scripted_archive import Act, Held, ScriptedArchive, study

STUDY: Final = "1.2.3"
OTHER: Final = "1.2.4"
THREE: Final = study(STUDY, 3)
A, B, C = THREE[STUDY]
SIX: Final = Spec(studies=1, series=2, instances=3, size=2_000)

NEVER: Final = None
"""Instead of an exit code: it does not end."""

PacsMaker = Callable[[], AbstractAsyncContextManager[Any]]


class Run(NamedTuple):
    """What comes out of `fastmove retrieve`."""

    code: int
    verdict: str
    came: int
    """Objects on the disk afterwards, of those that the PACS holds."""

    options: str = ""
    interrupted: bool = False
    """By SIGINT, when the first object has come."""

    aside: int = 0
    """Objects in quarantine afterwards."""

    limits: Limits | None = None
    """What the command has no options for: then it is run through its Python API."""


class Contrast(NamedTuple):
    """What comes out of DCMTK's movescu."""

    code: int | None
    came: int
    options: str = ""
    deadline_s: float = 10.0


class Row(NamedTuple):
    """A row of table M, or a case of one."""

    number: str
    fault: str
    """What the PACS does."""

    pacs: PacsMaker
    held: int
    """Objects in the studies that are asked for."""

    movescu: Contrast | None
    """None where movescu has no part in it."""

    runs: tuple[Run, ...]
    """The first is what a user sees who gives no options, where it ends soon enough."""

    studies: tuple[str, ...] = ()
    """That are asked for; none: all."""

    answers_lost: bool = False
    """The PACS may not know of all that it has sent with success."""

    def __str__(self) -> str:
        return f"{self.number} {self.fault}"


def embedded(*faults: str, seed: int = 1, spec: Spec = SIX) -> PacsMaker:
    """`fastmove pacs` with these faults."""
    return partial(embedded_pacs, spec, faults=faults, seed=seed)


def scripted(act: Act, held: Held = THREE, **options: Any) -> PacsMaker:
    """A PACS that does this with each C-MOVE."""
    return lambda: ScriptedArchive(act, dict(held), **options)
