"""`fastmove migrate pause`, `resume`, `drain`, `stop`, `retry`, `park`, `prioritise`: what an operator wishes."""

from __future__ import annotations

import time
from typing import Final

import click

from fastmove.cli.migrate.ledger import of_a_batch, opened
from fastmove.cli.options import reports_errors
from fastmove.cli.output import say
from fastmove.cli.retrieve_output import counted
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import Batch, Wish
from fastmove.ledger.store import OPERATOR, Ledger
from fastmove.migrate.report import REASON_WORDS, studies_are
from fastmove.net.loop import run

# Verb → the wish, its help in short, the rest of that, and what is said then.
_WISHES: Final[dict[str, tuple[Wish, str, str, str]]] = {
    "pause": (
        Wish.PAUSE,
        "Begin nothing more until `resume`.",
        "What is under way has the --closing seconds of its run, and is cancelled then.",
        "nothing more is begun",
    ),
    "resume": (
        Wish.RUN,
        "Let runs go on after `pause`, `drain` or `stop`.",
        "After `drain` and `stop` they have to be begun again; where the LEDGER is a file they need no `resume`.",
        "it may go on",
    ),
    "drain": (
        Wish.DRAIN,
        "Let runs end when what is in hand has ended.",
        "As by one Ctrl-C: nothing is cancelled.",
        "the run ends with what is in hand",
    ),
    "stop": (
        Wish.STOP,
        "Let runs end now, and cancel what is under way.",
        "As by two Ctrl-C: C-CANCEL is sent, and what is missing is asked for in the next run.",
        "moves under way are cancelled",
    ),
}


def _wish(name: str) -> click.Command:
    wish, short, more, said = _WISHES[name]

    def command(where: str, batch: str | None) -> None:
        async def main() -> None:
            async with opened(where, batch) as (ledger, known):
                await ledger.wish(known.id, wish)
                say(f"{known.name}: {await _noted(ledger, known, name, said)}")

        run(main())

    command.__doc__ = f"{short}\n\n{more}  Runs of the LEDGER heed it within seconds, on whatever host they are."
    return click.command(name)(of_a_batch(reports_errors(command)))


pause, resume, drain, stop = map(_wish, _WISHES)


@click.command("retry")
@of_a_batch
@click.option("--class", "reason_class", metavar="CLASS", help="Those that failed for this class of reasons.")
@click.option("--study", metavar="UID", help="This study alone.")
@click.option("--all", "everything", is_flag=True, help="All that are parked, or wait to be tried again.")
@reports_errors
def retry(where: str, batch: str | None, reason_class: str | None, study: str | None, everything: bool) -> None:
    """Try studies again at once that are parked, or wait.

    Their attempts are counted anew.  What is stored of them stays, and is not asked for again.  `status` names the
    classes.

    \b
    Examples:
      fastmove migrate retry archive.ledger --class network
      fastmove migrate retry archive.ledger --study 1.2.3
    """
    if (reason_class is not None) + (study is not None) + everything != 1:
        raise ConfigurationError("retry", "say which: --class CLASS, --study UID, or --all")

    async def main() -> str:
        async with opened(where, batch) as (ledger, known):
            count = await ledger.retry(known.id, reason_class=reason_class, study=study)
            if study is None:
                text = studies_are(count, reason_class, "tried again")
                return await _noted(ledger, known, "retry", text) if count else text
            if not count:
                raise ConfigurationError("--study", f"{study} is not in this batch, or is neither parked nor waiting")
            await _noted(ledger, known, "retry", "it is tried again", study)
            return f"{study} is tried again"

    say(run(main()))


@click.command("park")
@of_a_batch
@click.option(
    "--class", "reason_class", metavar="CLASS", help="All that wait, having failed for this class of reasons."
)
@click.option("--study", metavar="UID", help="This study alone.")
@click.option("--reason", default=REASON_WORDS[OPERATOR], show_default=True, metavar="TEXT", help="For the report.")
@reports_errors
def park(where: str, batch: str | None, reason_class: str | None, study: str | None, reason: str) -> None:
    """Do not try some studies any more; `retry` takes them back.

    One that is being moved at this moment cannot be parked.  What the
    destination has of a parked study stays there.

    \b
    Examples:
      fastmove migrate park archive.ledger --study 1.2.3 --reason "lost in 2014, ticket 4711"
      fastmove migrate park archive.ledger --class failed-objects --reason "their disk is gone, says the maker"
    """
    if (reason_class is None) == (study is None):
        raise ConfigurationError("park", "say which: --class CLASS or --study UID")

    async def main() -> str:
        async with opened(where, batch) as (ledger, known):
            if study is None:
                count = await ledger.park_class(known.id, str(reason_class), reason, time.time())
                text = studies_are(count, reason_class, "parked")
                if count:
                    await _noted(ledger, known, "park", f"{text}: {reason}")
                return text
            if not await ledger.park(known.id, study, reason, time.time()):
                raise ConfigurationError("--study", f"{study} is not in this batch, or is being moved, or has ended")
            await _noted(ledger, known, "park", f"parked: {reason}", study)
            return f"{study} is parked"

    say(run(main()))


@click.command("prioritise")
@of_a_batch
@click.option("--study", metavar="UID", help="This study.")
@click.option("--patient", metavar="ID", help="All studies of this patient.")
@click.option("--priority", type=int, required=True, metavar="N", help="Those of a higher number come first.")
@reports_errors
def prioritise(where: str, batch: str | None, study: str | None, patient: str | None, priority: int) -> None:
    """Move some studies sooner, or later, than others.

    Without that a study has the --priority with which it was planned: 0, unless told otherwise.

    \b
    Example:
      fastmove migrate prioritise archive.ledger --patient 12345 --priority 10
    """
    if (study is None) == (patient is None):
        raise ConfigurationError("prioritise", "say which: --study UID or --patient ID")

    async def main() -> str:
        async with opened(where, batch) as (ledger, known):
            count = await ledger.prioritise(known.id, study=study, patient_id=patient, priority=priority)
            if not count:
                given = "--patient" if study is None else "--study"
                raise ConfigurationError(given, "this batch has no such study")
            if study is not None:
                await _noted(ledger, known, "prioritise", f"its priority is {priority:,}", study)
                return f"{study} has priority {priority:,}"
            text = f"{counted(count, 'study has', 'studies have')} priority {priority:,}"
            return await _noted(ledger, known, "prioritise", text)  # whose they are is nobody's business

    say(run(main()))


async def _noted(ledger: Ledger, batch: Batch, verb: str, text: str, study: str | None = None) -> str:
    """Leave an event of the batch, or of a study in it, as a button on the pages does; what it says."""
    job = None if study is None else await ledger.job(batch.id, study)
    await ledger.event(batch.id, f"operator.{verb}", text, time.time(), job_id=None if job is None else job.id)
    return text
