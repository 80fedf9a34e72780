"""The end of an attempt at a study: what came is recorded and delivered, and then it is said what came of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial

from fastmove.ledger.model import Claimed, Instance, JobState, Outcome
from fastmove.ledger.store import Ledger
from fastmove.migrate.claims import Claims
from fastmove.migrate.destination import Delivery, Destination
from fastmove.migrate.facts import Facts
from fastmove.migrate.recorder import Recorder
from fastmove.migrate.retry import Decision, decide
from fastmove.services.retrieve.unit import UnitResult


class Conclusions:
    """Concludes attempts at studies in hand; `concluded` is told of each, `taken_over` of what others have now."""

    def __init__(
        self,
        ledger: Ledger,
        claims: Claims,
        recorder: Recorder,
        facts: Facts,
        now: Callable[[], float],
        concluded: Callable[[str, UnitResult, Decision, Outcome], None],
        taken_over: Callable[[list[str]], None],
        *,
        require_proof: bool,
    ) -> None:
        self._ledger = ledger
        self._claims = claims
        self._recorder = recorder
        self._facts = facts
        self._now = now
        self._concluded = concluded
        self._taken_over = taken_over
        self._require_proof = require_proof

    async def conclude(self, destination: Destination, unit: UnitResult) -> None:
        """The verdict on a study, once all that came of it is recorded; LedgerError."""
        study, insist = unit.wanted.study_instance_uid, self._facts.insist
        claimed = self._claims.in_hand.get(study)
        if claimed is None:  # another host has taken it over
            await destination.discard(study)
            return
        undelivered = await destination.settled(study, claimed.job.patient_id)
        await insist(self._recorder.flush)
        recorded = await insist(lambda: _all(self._ledger.instances(claimed.id)))
        held = len(recorded)
        if unit.stored is None and not undelivered:
            unit = unit.proved(held)  # what went to a third party is on both lists
        judge = partial(
            decide,
            unit,
            attempts=claimed.attempts + 1,
            unrecorded=_unrecorded(unit, recorded),
            require_proof=self._require_proof,
        )
        decision = judge(undelivered=undelivered, progressed=held > claimed.stored, stopped=self._facts.stopping)
        delivery = Delivery()
        if decision.state is JobState.COMPLETE:
            delivery = await destination.finish(study, recorded)
            if delivery.lacking:
                await insist(lambda: self._ledger.forget(claimed, delivery.uids))
                held -= len(delivery.uids)  # what was forgotten is no progress
                decision = judge(
                    undelivered=delivery.lacking, progressed=held > claimed.stored, stopped=self._facts.stopping
                )
        if delivery.remark:
            decision = decision.replace(reason=f"{decision.reason}; {delivery.remark}")
            await self._facts.remember("migrate.warned", delivery.remark, claimed.id)
        state = await self._write_down(claimed, unit, decision, held, delivery.proof)
        if state is JobState.PARKED or (state is None and study not in self._claims.in_hand):
            await destination.discard(study)

    async def _write_down(
        self, claimed: Claimed, unit: UnitResult, decision: Decision, held: int, proof: str
    ) -> JobState | None:
        """What the study is then: READY if it has grown meanwhile, None if others have it."""
        now = self._now()
        outcome = _outcome(unit, decision, held, proof, now)
        state = await self._facts.insist(lambda: self._ledger.finish(claimed, outcome, now))
        if state is None:
            self._taken_over(self._claims.lost({(claimed.id, claimed.fence)}))
            return None
        self._claims.over(claimed)
        self._concluded(claimed.job.study_instance_uid, unit, decision.replace(state=state), outcome)
        return state


async def _all(instances: AsyncIterator[Instance]) -> list[Instance]:
    return [each async for each in instances]


def _unrecorded(unit: UnitResult, recorded: Sequence[Instance]) -> int:
    """Objects that came, or were there, and are not in the ledger: by UID, as far as they are known."""
    came = None if unit.evidence is None else unit.evidence.stored
    uids = {each.sop_instance_uid for each in recorded}
    return max(0, len((came or frozenset()) - uids), (unit.stored or 0) - len(recorded))


def _outcome(unit: UnitResult, decision: Decision, held: int, proof: str, now: float) -> Outcome:
    """What came of an attempt, after which the destination has so many; what did not come on to it is missing, too."""
    evidence = unit.evidence
    return Outcome(
        state=decision.state,
        verdict=unit.judgement.verdict.name.lower(),
        reason_class=decision.reason_class,
        reason=decision.reason,
        status=None if evidence is None or evidence.outcome is None else evidence.outcome.status,
        listed=unit.listed,
        missing=max(len(unit.missing), (unit.listed or 0) - held),
        seconds=unit.seconds,
        due_at=now + decision.delay_s if decision.state is JobState.WAITING else None,
        attempts=None if decision.state is JobState.COMPLETE else decision.attempts,
        proof=proof,
    )
