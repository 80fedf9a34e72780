"""Random plans of faults, one PACS and one retrieve each, and what must be true of the end (catalogue, rank 13).

A plan says what the PACS does wrong, what the network does to which connection, and how the retrieve is asked for. All
of it follows from a seed, and the plan itself is printed: it can be run again, also without some of its faults.
"""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from fastmove.bench.spec import Spec
from fastmove.errors import AssociationError, ProtocolError
from tests.integration.embedded import embedded_pacs
from tests.integration.faults import End, Fate, Toxics
from tests.integration.honesty import Retrieved, retrieve_here
from tests.integration.proxied import SHORT, proxied

DEADLINE_S: Final = 30.0
"""Of one plan: all rounds with all timers, and then some."""

MOST_BYTES: Final = 60_000

PACS_FAULTS: Final[Mapping[str, tuple[str, ...]]] = {
    "drop": ("drop=1", "drop=30%", "drop=2:50%"),
    "fail": ("fail=1", "fail=30%"),
    "nothing": ("nothing:50%",),
    "early-success": ("early-success", "early-success=0.05", "early-success=0.5:50%"),
    "counters": ("counters=none", "counters=zero", "counters=low", "counters=high", "counters=frozen"),
    "association-per-object": ("association-per-object",),
    "abort-after": ("abort-after=0:50%", "abort-after=2", "abort-after=1:50%"),
    "close-after": ("close-after=1:50%", "close-after=3"),
    "go-on": ("go-on",),
    "refuse-moves": ("refuse-moves=A701:50%", "refuse-moves=A702:50%", "refuse-moves=C000:30%"),
    "refuse-finds": ("refuse-finds=A700:30%", "refuse-finds=C000:30%"),
    "move-limit": ("move-limit=1", "move-limit=2:A701"),
    "association-limit": ("association-limit=2",),
    "delay": ("delay=0.002",),
    "first-delay": ("first-delay=0.05",),
    "find-delay": ("find-delay=0.02",),
    "find-cap": ("find-cap=2", "find-cap=1:A700"),
    "no-image-level": ("no-image-level",),
    "no-relational": ("no-relational",),
    "no-uid-list": ("no-uid-list",),
    "duplicate-answers": ("duplicate-answers",),
    "growing": ("growing=2",),
    "originator": ("originator=none", "originator=wrong"),
}

NO_TRUE_LIST: Final = frozenset(("find-cap", "no-image-level", "growing", "refuse-finds"))
"""With one of these the verdict may have to rest on counters: a PACS that lies in both cannot be seen through."""


class Plan(NamedTuple):
    """What goes wrong, and how the retrieve is asked for."""

    seed: int
    spec: Spec
    pacs: tuple[str, ...] = ()
    asking: tuple[Fate, ...] = ()
    """Of the connections that we open, in their order."""
    storing: tuple[Fate, ...] = ()
    """Of those that the PACS opens."""
    rounds: int = 5
    parallel: int = 0
    prove: bool = True

    @classmethod
    def drawn(cls, seed: int) -> Plan:
        """The plan of this seed."""
        random = Random(seed)
        names = random.sample(list(PACS_FAULTS), random.choice((0, 1, 1, 2, 3)))
        prove = random.random() < 0.85
        if "counters" in names and (not prove or NO_TRUE_LIST & set(names)):
            names.remove("counters")
        spec = Spec(
            studies=random.randint(1, 3),
            series=random.randint(1, 3),
            instances=random.randint(1, 6),
            size=random.choice((1_200, 2_000, 2_000, 20_000)),
            seed=seed,
        )
        return cls(
            seed,
            spec,
            tuple(random.choice(PACS_FAULTS[name]) for name in names),
            tuple(_fate(random, 1_500) for _ in range(random.choice((0, 0, 1, 2)))),
            tuple(_fate(random, MOST_BYTES) for _ in range(random.choice((0, 1, 1, 2, 4)))),
            rounds=random.choice((0, 1, 5, 5)),
            parallel=random.choice((0, 0, 1, 3)),
            prove=prove,
        )

    def smaller(self) -> Iterator[Plan]:
        """The same with one fault less, or less to move."""
        for at in range(len(self.pacs)):
            yield self._replace(pacs=self.pacs[:at] + self.pacs[at + 1 :])
        for name in ("asking", "storing"):
            fates: tuple[Fate, ...] = getattr(self, name)
            for at, fate in enumerate(fates):
                rest = fates[at + 1 :]
                if not rest:
                    yield self._replace(**{name: fates[:at]})
                for less in _less(fate):
                    yield self._replace(**{name: (*fates[:at], less, *rest)})
        for field in ("studies", "series", "instances"):
            if (number := getattr(self.spec, field)) > 1:
                yield self._replace(spec=dataclasses.replace(self.spec, **{field: number - 1}))
        if self.rounds:
            yield self._replace(rounds=0)

    async def run(self) -> None:
        """Retrieve, and hold what is said against what is true: AssertionError."""
        config: dict[str, Any] = {"rounds": self.rounds, "parallel": self.parallel, "prove": self.prove}
        maker = partial(embedded_pacs, self.spec, faults=self.pacs, seed=self.seed, limits=SHORT)
        with tempfile.TemporaryDirectory(prefix="fault-plan-") as folder:
            async with proxied(maker, asking=self.asking, storing=self.storing, seed=self.seed) as pacs:
                to = Path(folder) / "stored"
                async with asyncio.timeout(DEADLINE_S):
                    try:
                        came = await retrieve_here(pacs, to, limits=SHORT, **config)
                    except (AssociationError, ProtocolError):
                        return  # an exit code of its own, and nothing is claimed
                growing = any(fault.startswith("growing") for fault in self.pacs)
                came.is_true(pacs, tuple(pacs.studies), answers_lost=True, growing=growing)
                _says_no_less(came)


def _says_no_less(came: Retrieved) -> None:
    """Each study whose verdict is no success says why."""
    for said in came.verdicts.values():
        assert said["verdict"] == "COMPLETE" or said["reasons"] or said["verdict"] == "COUNTED", said


def _fate(random: Random, most_bytes: int) -> Fate:
    return Fate(_toxics(random, most_bytes), _toxics(random, most_bytes), duplicated=random.random() < 0.05)


def _toxics(random: Random, most_bytes: int) -> Toxics:
    toxics = Toxics()
    if random.random() < 0.6:
        kind = random.choice(list(End))
        at = {"limit_bytes": int(most_bytes ** random.uniform(0.2, 1))}
        if random.random() < 0.25:
            at = {"after_s": random.uniform(0, 0.2)}
        toxics = dataclasses.replace(toxics, end=kind, stall_s=random.choice((0.1, 0.5)), **at)
    if random.random() < 0.2:
        toxics = dataclasses.replace(toxics, slice_bytes=random.choice((3, 100, 1500)))
    if random.random() < 0.2:
        toxics = dataclasses.replace(toxics, latency_s=random.choice((0.001, 0.02)), jitter_s=0.02)
    if random.random() < 0.1:
        toxics = dataclasses.replace(toxics, coalesce_s=0.01)
    return toxics


def _less(fate: Fate) -> Iterator[Fate]:
    if fate.duplicated:
        yield dataclasses.replace(fate, duplicated=False)
    for way in ("outgoing", "incoming"):
        toxics = getattr(fate, way)
        if toxics == Toxics():
            continue
        yield dataclasses.replace(fate, **{way: Toxics()})
        for field in dataclasses.fields(Toxics):
            if getattr(toxics, field.name) != field.default and field.name not in ("end", "stall_s"):
                yield dataclasses.replace(fate, **{way: dataclasses.replace(toxics, **{field.name: field.default})})


AGAIN: Final = 3
"""How often a smaller plan is tried before it counts as good: not everything follows from the seed."""


async def fails(plan: Plan) -> BaseException | None:
    """What is wrong with the end of a plan."""
    try:
        await plan.run()
    except (AssertionError, TimeoutError) as error:
        return error
    return None


async def shrunk(plan: Plan, error: BaseException) -> tuple[Plan, BaseException]:
    """The smallest plan that one comes to by leaving things out, and that still fails."""
    for smaller in plan.smaller():
        for _ in range(AGAIN):
            if (found := await fails(smaller)) is not None:
                return await shrunk(smaller, found)
    return plan, error
