"""What earlier runs, and other hosts, have left of a study: what is there already is not moved again."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from fastmove.ledger.model import Batch
from fastmove.ledger.store import Ledger
from fastmove.migrate.claims import Claims
from fastmove.migrate.destination import Destination, Standing
from fastmove.migrate.recorder import Recorder
from fastmove.services.selection.selection import Wanted


async def taken_on(
    ledger: Ledger, claims: Claims, recorder: Recorder, destination: Destination
) -> AsyncGenerator[Wanted, None]:
    """Studies as they are to be moved; what an earlier run has left of one on its way is brought to its end first.

    What is recorded then is not moved again, unless another host has it in a place of its own.  LedgerError.
    """
    async with aclosing(claims()) as wanted:
        async for each in wanted:
            study = each.study_instance_uid
            if await destination.begin(study, claims.held(study)):
                await recorder.flush()
                await claims.look(study)
            if claims.held(study):
                claimed = claims.in_hand[study]
                recorded = [instance async for instance in ledger.instances(claimed.id)]
                if absent := await destination.elsewhere(recorded):
                    await ledger.forget(claimed, absent)
                    await claims.look(study)
            yield each


async def standing(ledger: Ledger, batch: Batch, study: str) -> Standing:
    """How a study stands of which something is on its way."""
    job = await ledger.job(batch.id, study)
    return Standing() if job is None else Standing(job.state, frozenset(await ledger.held(job.id)))
