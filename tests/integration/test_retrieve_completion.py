"""What a retrieve makes of a PACS that loses, fails, lies or stops: it is asked again, and the verdict is true."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.cli.exit_codes import for_outcome
from fastmove.dimse.move import Verdict
from fastmove.limits import Limits
from fastmove.notices import ListenerStarted, Notice, RoundStarted, StudyRetrieved
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.selection.selection import Selection, Wanted
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.objects import data_sets

LIMITS: Final = Limits(
    connect_s=5.0,
    associate_s=5.0,
    response_s=5.0,
    progress_s=5.0,
    drain_s=0.05,
    uncounted_s=0.05,
    retry_s=0.01,
    away_s=2.0,
    stop_s=1.0,
)
STUDY: Final = Spec(studies=1, series=2, instances=10, size=2_000)
STUDIES: Final = Spec(studies=20, series=1, instances=3, size=2_000)


class Run:
    """One retrieve of everything that the embedded PACS holds, or of some studies."""

    def __init__(self, pacs: EmbeddedPacs, directory: Path) -> None:
        self.pacs = pacs
        self.directory = directory
        self.notices: list[Notice] = []

    def _notify(self, notice: Notice) -> None:
        self.notices.append(notice)
        if isinstance(notice, ListenerStarted):
            self.pacs.destinations["FASTMOVE"] = PeerAddress("FASTMOVE", "127.0.0.1", notice.port)

    async def __call__(self, studies: Iterable[str] | None = None, **config: Any) -> RetrieveResult:
        wanted = tuple(Wanted(study) for study in (self.pacs.studies if studies is None else studies))
        request = RetrieveConfig(self.pacs.address, selection=Selection(wanted), **{"limits": LIMITS, **config})
        with StorageTarget(self.directory, WriteOptions(durable=False)) as target:
            session = Retrieve(request, target, host="127.0.0.1", notify=self._notify, inventory=frozenset(self.files))
            return await session.run()

    @property
    def files(self) -> dict[str, Path]:
        return {path.stem: path for path in self.directory.iterdir()} if self.directory.exists() else {}

    def has_everything(self) -> None:
        """Every data set that the PACS holds is there, byte by byte."""
        assert data_sets(self.files) == {uid: self.pacs.dataset(uid) for uid in self.pacs.files}

    def told(self, kind: type) -> list[Any]:
        return [notice for notice in self.notices if isinstance(notice, kind)]


def missing(result: RetrieveResult) -> set[str]:
    return {uid for unit in result.units for uid in unit.missing}


async def test_everything_arrives_from_a_pacs_that_does_as_it_says(tmp_path: Path) -> None:
    async with embedded_pacs(STUDIES) as pacs:
        run = Run(pacs, tmp_path / "stored")
        result = await run()
        run.has_everything()
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.COMPLETE, 0)
    assert result.verdicts == {Verdict.COMPLETE: 20}
    assert len(run.told(StudyRetrieved)) == 20
    assert pacs.associations < 20, "associations are used again"


async def test_report_names_exactly_what_was_dropped_in_200_trials(tmp_path: Path) -> None:
    for trial in range(200):
        async with embedded_pacs(
            Spec(studies=1, series=2, instances=4, size=2_000), faults=(f"drop={trial % 8 + 1}",), seed=trial
        ) as pacs:
            run = Run(pacs, tmp_path / str(trial))
            result = await run(rounds=0)
            assert missing(result) == pacs.dropped, trial
            assert set(run.files) == pacs.instances() - pacs.dropped, trial
            assert for_outcome(result.judgement) == (71 if pacs.dropped else 0)


async def test_what_was_dropped_is_asked_for_again(tmp_path: Path) -> None:
    async with embedded_pacs(STUDY, faults=("drop=30%",), seed=7) as pacs:
        run = Run(pacs, tmp_path / "stored")
        result = await run()
        run.has_everything()
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.COMPLETE, 0)
    assert run.told(RoundStarted)


async def test_thousand_objects_arrive_within_five_rounds_though_each_tenth_suboperation_fails(tmp_path: Path) -> None:
    spec = Spec(studies=4, series=5, instances=50, size=2_000)
    async with embedded_pacs(spec, faults=("fail=10%",), seed=3) as pacs:
        run = Run(pacs, tmp_path / "stored")
        result = await run()
        run.has_everything()
        assert len(pacs.files) == 1000
        assert pacs.objects_sent <= 1.25 * 1000
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.COMPLETE, 0)
    assert max(notice.round for notice in run.told(RoundStarted)) <= 5


async def unreadable(pacs: EmbeddedPacs, run: Run, broken: set[str], **config: Any) -> RetrieveResult:
    """Retrieve everything from a PACS that ends a move at one of these: all others come, and are not sent twice."""
    pacs.misbehave("unreadable=" + "\\".join(broken))
    result = await run(**config)
    assert run.files.keys() == pacs.instances() - broken
    assert missing(result) == broken
    assert {why for unit in result.units for why in unit.missing.values()} == {
        f"C000H Unable to process: {uid} cannot be read"[: len("C000H Unable to process: ") + 64] for uid in broken
    }
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.REFUSED, 69)
    return result


@pytest.mark.parametrize("places", [(0,), (7,), (19,), (0, 10), (3, 4, 5, 17)], ids=str)
async def test_object_that_cannot_be_read_is_all_that_is_missing(places: tuple[int, ...], tmp_path: Path) -> None:
    async with embedded_pacs(STUDY) as pacs:
        order = sorted(pacs.instances())
        await unreadable(pacs, Run(pacs, tmp_path / "stored"), {order[place] for place in places})
        assert set(pacs.sent.values()) == {1}


async def test_objects_that_cannot_be_read_in_many_studies_change_nothing_for_the_others(tmp_path: Path) -> None:
    async with embedded_pacs(Spec(studies=12, series=2, instances=20, size=2_000)) as pacs:
        broken = {
            sorted(pacs.instances(study))[place] for place, study in zip((0, 3, 39, 20), pacs.studies, strict=False)
        }
        result = await unreadable(pacs, Run(pacs, tmp_path / "stored"), broken)
        assert result.verdicts == {Verdict.REFUSED: 4, Verdict.COMPLETE: 8}
        assert pacs.objects_sent == 12 * 40 - 4


async def test_large_study_takes_few_moves_although_some_of_it_cannot_be_read(tmp_path: Path) -> None:
    async with embedded_pacs(Spec(studies=1, series=1, instances=900, size=2_000)) as pacs:
        order = sorted(pacs.instances())
        await unreadable(pacs, Run(pacs, tmp_path / "stored"), {order[10], order[450], order[451]})
        assert len(pacs.moves) <= 1 + 16 + 64 + 16
        assert set(pacs.sent.values()) == {1}


@pytest.mark.parametrize(
    "fault",
    [
        "early-success=0.02",
        "counters=none",
        "counters=low",
        "counters=frozen",
        "association-per-object",
        "originator=none",
        "originator=wrong",
        "abort-after=3:50%",
        "close-after=3:50%",
        "refuse-moves=A702:50%",
        "move-limit=1",
        "association-limit=3",
        "association-hang=3",
        "no-uid-list",
        "no-relational",
        "find-delay=0.001",
        "delay=0.001",
        "duplicate-answers",
    ],
)
async def test_odd_pacs_delivers_everything_all_the_same(fault: str, tmp_path: Path) -> None:
    for spec in (STUDY, STUDIES):
        async with embedded_pacs(spec, faults=(fault,), seed=5) as pacs:
            run = Run(pacs, tmp_path / str(spec.studies))
            result = await run(limits=LIMITS.replace(drain_s=0.3), rounds=10)
            run.has_everything()
        assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.COMPLETE, 0), result
