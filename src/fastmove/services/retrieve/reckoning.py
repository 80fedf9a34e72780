"""The verdicts on the units of a run, and the one that they make together."""

from __future__ import annotations

import time
from typing import Final

from fastmove.dimse.move import GRAVEST_FIRST, Judgement, Loss, Verdict
from fastmove.errors import FastmoveError, NoAcceptedContext
from fastmove.notices import StudyRetrieved
from fastmove.services.retrieve.config import RetrieveResult
from fastmove.services.retrieve.unit import UnitResult
from fastmove.services.retrieve.work import Work

NO_INBOUND_UNITS: Final = 3
"""After so many units of which nothing came, and nothing at all has come, it is no use to go on."""

MAX_KEPT: Final = 1000
"""Of each verdict: there may be many thousand units."""

_WELL: Final = frozenset((Verdict.COMPLETE, Verdict.COUNTED))


class Reckoning:
    """What a run comes to: its verdicts, its times, and what ended it before its time.

    Of the units that went well only the first is kept, of the others MAX_KEPT of each verdict.
    """

    def __init__(self) -> None:
        self.started: float | None = None
        """When the first C-MOVE-RQ went out..."""
        self.first_at: float | None = None
        """... when the first object was stored..."""
        self.last_at = 0.0
        """... and when the last move was over."""
        self.error: Exception | None = None
        """What ended the run before its time."""
        self.lost: Exception | None = None
        """Why the first move without a final response had none."""
        self.selection_failed = False
        self.unsolicited = 0
        self.quarantined = 0
        self.unsolicited_refused = 0
        self.verdicts: dict[Verdict, int] = {}
        self.kept: list[UnitResult] = []
        self.missing = 0
        """Instances, of all units."""
        self._fruitless_units = 0

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

    def unreached(self, result: UnitResult) -> bool:
        """A unit has ended, and nothing at all has come until now; True if it is no use to go on."""
        if result.listed and result.nobody_may_reach_us:
            self._fruitless_units += 1
        return self._fruitless_units >= NO_INBOUND_UNITS

    @property
    def judgement(self) -> Judgement | None:
        """That of the first unit with the gravest verdict; None without any."""
        for verdict in GRAVEST_FIRST:
            if verdict in self.verdicts:
                return next(unit.judgement for unit in self.kept if unit.judgement.verdict is verdict)
        return None

    def result(self, work: Work, *, stopped: bool) -> RetrieveResult:
        """Everything together; raises what ended the run before there was anything to judge."""
        error, judgement = self.error, self.judgement
        if error is not None and not isinstance(error, FastmoveError):
            raise error  # our own bug
        if error is not None and (judgement is None or isinstance(error, NoAcceptedContext)):
            raise error
        if judgement is None:
            if work.unresolved:
                judgement = Judgement(Verdict.INCOMPLETE, ("select.unresolved",))
            elif self.started is None and not stopped:
                judgement = Judgement(Verdict.COUNTED, ("move.empty",))
            else:
                judgement = Judgement(Verdict.UNKNOWN, (Loss.STOPPED.value,))
        started = self.started or time.monotonic()
        return RetrieveResult(
            judgement=judgement,
            verdicts=self.verdicts,
            units=tuple(self.kept),
            seconds=max(self.last_at - started, 0.0),
            first_object_s=None if self.first_at is None else self.first_at - started,
            error=error or (None if judgement.verdict is Verdict.COMPLETE else self.lost),
            unsolicited=self.unsolicited,
            quarantined=self.quarantined,
            unsolicited_refused=self.unsolicited_refused,
            selection_failed=self.selection_failed,
            unattempted=work.known - work.done,
            unresolved=tuple(work.unresolved),
            missing=self.missing,
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
