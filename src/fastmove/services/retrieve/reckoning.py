"""The verdicts on the units of a run, and the one that they make together."""

from __future__ import annotations

from typing import Final

from fastmove.dimse.move import GRAVEST_FIRST, Judgement, Loss, Verdict
from fastmove.notices import StudyRetrieved
from fastmove.services.retrieve.unit import UnitResult

MAX_KEPT: Final = 1000
"""Of each verdict: there may be many thousand units."""

_WELL: Final = frozenset((Verdict.COMPLETE, Verdict.COUNTED))


class Reckoning:
    """How many units came to which verdict; of those that went well only the first is kept, of the others MAX_KEPT."""

    def __init__(self) -> None:
        self.verdicts: dict[Verdict, int] = {}
        self.kept: list[UnitResult] = []
        self.missing = 0
        """Instances, of all units."""

    def add(self, result: UnitResult) -> None:
        """A unit has its verdict."""
        verdict = result.judgement.verdict
        before = self.verdicts.get(verdict, 0)
        if before < (1 if verdict in _WELL else MAX_KEPT):
            if self.kept and result.evidence is not None:  # the UIDs of one are enough
                result = result.replace(evidence=result.evidence.replace(stored=frozenset(), expected=None))
            self.kept.append(result)
        self.verdicts[verdict] = before + 1
        self.missing += len(result.missing)

    @property
    def judgement(self) -> Judgement | None:
        """That of the first unit with the gravest verdict; None without any."""
        for verdict in GRAVEST_FIRST:
            if verdict in self.verdicts:
                return next(unit.judgement for unit in self.kept if unit.judgement.verdict is verdict)
        return None

    def overall(self, *, unresolved: bool, idle: bool) -> Judgement:
        """The same; without any unit it rests on whether a query found nothing, or nothing was asked for at all."""
        if self.judgement is not None:
            return self.judgement
        if unresolved:
            return Judgement(Verdict.INCOMPLETE, ("select.unresolved",))
        return (
            Judgement(Verdict.COUNTED, ("move.empty",)) if idle else Judgement(Verdict.UNKNOWN, (Loss.STOPPED.value,))
        )


def as_notice(result: UnitResult) -> StudyRetrieved:
    """What observers are told of a unit."""
    wanted, outcome = result.wanted, None if result.evidence is None else result.evidence.outcome
    return StudyRetrieved(
        wanted.study_instance_uid,
        wanted.series_instance_uid,
        result.judgement.verdict.name,
        result.judgement.reasons,
        result.listed,
        result.stored,
        result.present,
        dict(result.missing),
        result.rounds,
        None if outcome is None else outcome.status,
        "" if outcome is None else outcome.error_comment,
        result.error,
    )
