"""`fastmove migrate pause`, `resume`, `drain`, `stop`, `retry`, `park`, `prioritise`: what an operator wishes."""

from __future__ import annotations

import time
from typing import Final

import click

from fastmove.cli.migrate.ledger import of_a_batch, opened
from fastmove.cli.options import reports_errors
from fastmove.cli.output import say
from fastmove.errors import ConfigurationError
from fastmove.ledger.model import Wish
from fastmove.net.loop import run

# Verb → the wish, its help, and what is said then.
_WISHES: Final[dict[str, tuple[Wish, str, str]]] = {
    "pause": (Wish.PAUSE, "Begin nothing more until `resume`.", "nothing more is begun"),
    "resume": (Wish.RUN, "Go on after `pause`, or let a run begin after `drain` or `stop`.", "it may go on"),
    "drain": (Wish.DRAIN, "Let the run end with what is in hand.", "the run ends with what is in hand"),
    "stop": (Wish.STOP, "Let the run end now: moves under way are cancelled.", "moves under way are cancelled"),
}


def _wish(name: str) -> click.Command:
    wish, text, said = _WISHES[name]

    def command(where: str, batch: str | None) -> None:
        async def main() -> None:
            async with opened(where, batch) as (ledger, known):
                await ledger.wish(known.id, wish)
                await ledger.event(known.id, f"operator.{name}", text, time.time())
                say(f"{known.name}: {said}")

        run(main())

    command.__doc__ = f"{text}  A run that goes on, on whatever host, does so within seconds."
    return click.command(name)(of_a_batch(reports_errors(command)))


pause, resume, drain, stop = map(_wish, _WISHES)


@click.command("retry")
@of_a_batch
@click.option("--class", "reason_class", metavar="CLASS", help="Those of this class, as `status` names it.")
@click.option("--study", metavar="UID", help="This study alone.")
@click.option("--all", "everything", is_flag=True, help="All that are parked, or wait to be tried again.")
@reports_errors
def retry(where: str, batch: str | None, reason_class: str | None, study: str | None, everything: bool) -> None:
    """Try parked studies again, and those that wait, from the beginning of their attempts.

    \b
    Examples:
      fastmove migrate retry archive.ledger --class network
      fastmove migrate retry archive.ledger --study 1.2.3
    """
    if (reason_class is not None) + (study is not None) + everything != 1:
        raise ConfigurationError("retry", "say which: --class CLASS, --study UID, or --all")

    async def main() -> None:
        async with opened(where, batch) as (ledger, known):
            count = await ledger.retry(known.id, reason_class=reason_class, study=study, now=time.time())
            await ledger.event(known.id, "operator.retry", f"{count} studies are tried again", time.time())
            say(f"{count:,} studies are tried again")

    run(main())


@click.command("park")
@of_a_batch
@click.option("--study", required=True, metavar="UID", help="Which.")
@click.option("--reason", default="an operator parked it", show_default=True, metavar="TEXT", help="For the report.")
@reports_errors
def park(where: str, batch: str | None, study: str, reason: str) -> None:
    """Do not try a study any more."""

    async def main() -> bool:
        async with opened(where, batch) as (ledger, known):
            return await ledger.park(known.id, study, reason, time.time())

    if not run(main()):
        raise ConfigurationError("--study", f"{study} is not in this batch, or is being moved, or complete")
    say(f"{study} is parked")


@click.command("prioritise")
@of_a_batch
@click.option("--study", metavar="UID", help="This study.")
@click.option("--patient", metavar="ID", help="All studies of this patient.")
@click.option("--priority", type=int, required=True, metavar="N", help="Those of a higher number come first.")
@reports_errors
def prioritise(where: str, batch: str | None, study: str | None, patient: str | None, priority: int) -> None:
    """Move some studies sooner, or later, than others.

    \b
    Example:
      fastmove migrate prioritise archive.ledger --patient 12345 --priority 10
    """
    if (study is None) == (patient is None):
        raise ConfigurationError("prioritise", "say which: --study UID or --patient ID")

    async def main() -> int:
        async with opened(where, batch) as (ledger, known):
            return await ledger.prioritise(known.id, study=study, patient_id=patient, priority=priority)

    say(f"{run(main()):,} studies have priority {priority}")
