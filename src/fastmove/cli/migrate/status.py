"""`fastmove migrate status` and `export`: how far it is, and what became of each study."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import click

from fastmove.cli.migrate.ledger import of_a_batch, opened
from fastmove.cli.migrate.windows import local_zone
from fastmove.cli.options import json_option, reports_errors
from fastmove.cli.output import csv_rows, megabytes, say, table, write_json
from fastmove.cli.retrieve_output import counted
from fastmove.ledger.model import Batch, Host, Job, JobState, Progress, Summary
from fastmove.ledger.store import Ledger
from fastmove.migrate.report import REASON_WORDS
from fastmove.migrate.situation import LEFT, OF_LATE, Situation, of_late, situation
from fastmove.migrate.situation import STATES as STATES_OF_PEERS
from fastmove.net.loop import run

STATES: Final[dict[JobState, str]] = {
    JobState.READY: "to be moved",
    JobState.MOVING: "being moved",
    JobState.WAITING: "to be tried again",
    JobState.COMPLETE: "complete",
    JobState.PARKED: "parked",
}

PAGE: Final = 1000


@click.command("status")
@of_a_batch
@json_option
@reports_errors
def status_command(where: str, batch: str | None, as_json: bool) -> None:
    """Say how far a migration is, what failed, and who is at it.

    Also how fast it goes, how both peers are, and what is waited for.  The windows of the week are those of the last
    run.  A run may go on meanwhile.

    \b
    Examples:
      fastmove migrate status archive.ledger
      watch fastmove migrate status archive.ledger
    """
    now = time.time()

    async def main() -> tuple[Situation, list[Progress]]:
        async with opened(where, batch, read_only=True) as (ledger, known):
            summary = await ledger.summary(known.id)
            progress = list(await ledger.progress(known.id, int(now // 60) - OF_LATE))
            return await situation(ledger, known, summary, progress, now, local_zone()), progress

    stands, progress = run(main())
    known, summary = stands.batch, stands.summary
    if as_json:
        told = as_json_of(summary) | _situation_json(stands)
        write_json({"event": "migrate.status", "batch": known.name, "wish": known.wish.value, **told})
        return
    say(f"{known.name}, from {known.source}" + ("" if known.wish.value == "run" else f": {known.wish.value}"))
    rows = []
    for state, words in STATES.items():
        total = summary.states[state]
        rows.append([words, f"{total.studies:,}", f"{total.expected:,}", f"{total.stored:,}", megabytes(total.nbytes)])
    table(rows, ["", "studies", "instances expected", "stored", "bytes"])
    for reason_class, count in sorted(summary.reasons.items(), key=lambda each: -each[1]):
        say(f"{count:,} x {reason_class}: {REASON_WORDS.get(reason_class, reason_class)}")
    say(_rate(summary, progress, now))
    for peer in stands.peers():
        since = "" if peer.since is None else f", since {_clock(peer.since, stands)}"
        until = "" if peer.until is None else f" until {_clock(peer.until.timestamp(), stands)}"
        detail = f": {peer.text}" if peer.text else ""
        say(f"{peer.role} {peer.name}: {STATES_OF_PEERS[peer.state]}{until}{detail}{since}")
    if stands.windows.windows:
        say(f"windows, by the clock of {stands.windows.timezone}:")
        for line in stands.windows.picture():
            say(line)
    if stands.hosts:
        table([_host(host, stands) for host in stands.hosts], ["host and process", "AE title", "moves", "heard of"])


def _host(host: Host, stands: Situation) -> list[str]:
    if not stands.is_here(host):
        return [host.owner, host.ae_title, "", f"not since {_clock(host.seen_at, stands)}"]
    return [host.owner, host.ae_title, f"{host.moves:,}", f"{stands.at - host.seen_at:.0f} s ago"]


def _clock(at: float, stands: Situation) -> str:
    return datetime.fromtimestamp(at, stands.windows.timezone).strftime("%a %d %b %H:%M")


def _situation_json(stands: Situation) -> dict[str, Any]:
    """How a batch stands, for programs; times are seconds since 1970."""
    return {
        "settings": dict(stands.batch.settings),
        "peers": [
            {**vars(peer), "until": None if peer.until is None else peer.until.timestamp()} for peer in stands.peers()
        ],
        "hosts": [{**vars(host), "here": stands.is_here(host)} for host in stands.hosts],
    }


def _rate(summary: Summary, progress: list[Progress], now: float) -> str:
    """How fast of late, and how long it takes yet at that rate."""
    rate = of_late(progress, now)
    if rate is None:
        return "nothing was moved within the last hour"
    came = f"{rate['instances']:,.0f} instances, {megabytes(int(rate['nbytes']))}"
    text = f"of late {rate['studies']:,.1f} studies, {came} a minute"
    left = sum(summary.states[state].studies for state in LEFT)
    if not left or not rate["studies"]:
        return text
    hours = left / rate["studies"] / 60
    return f"{text}; {counted(left, 'study is', 'studies are')} left, {hours:,.1f} hours at this rate"


def as_json_of(summary: Summary) -> dict[str, Any]:
    """A summary for programs."""
    return {
        "states": {
            state.value: {name: getattr(total, name) for name in total.fields}
            for state, total in summary.states.items()
        },
        "verdicts": dict(summary.verdicts),
        "reasons": dict(summary.reasons),
    }


# ---------------------------------------------------------------------- study by study

COLUMNS: Final = (
    "study_instance_uid",
    "study_date",
    "modalities",
    "expected",
    "state",
    "verdict",
    "proof",
    "reason_class",
    "reason",
    "listed",
    "stored",
    "missing",
    "bytes",
    "attempts",
    "ended_at",
)


@click.command("export")
@of_a_batch
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice([state.value for state in JobState]),
    help="Studies in this state; may be given often.  [default: all]",
)
@click.option(
    "--class",
    "reason_class",
    metavar="CLASS",
    help="Studies that failed for this class of reasons, as `status` names it.",
)
@click.option("--patients", is_flag=True, help="With patient IDs, which else are left out.")
@json_option
@reports_errors
def export_command(
    where: str, batch: str | None, states: tuple[str, ...], reason_class: str | None, patients: bool, as_json: bool
) -> None:
    """Write a line for each study, as CSV or as JSON lines.

    A run may go on meanwhile.  In CSV text that a spreadsheet would take for a formula has a ' before it.

    \b
    Examples:
      fastmove migrate export archive.ledger > studies.csv
      fastmove migrate export archive.ledger --state parked --json
    """
    columns = (*COLUMNS, "patient_id") if patients else COLUMNS

    async def main() -> None:
        async with opened(where, batch, read_only=True) as (ledger, known):
            write = write_json if as_json else csv_rows(sys.stdout, columns)
            async for job in every_job(ledger, known, tuple(map(JobState, states)), reason_class):
                row = _row(job)
                write({name: row[name] for name in columns})

    run(main())


async def every_job(
    ledger: Ledger, batch: Batch, states: tuple[JobState, ...] = (), reason_class: str | None = None
) -> AsyncIterator[Job]:
    """All studies of a batch, page by page."""
    after = 0
    while page := await ledger.jobs(batch.id, states=states, reason_class=reason_class, after_id=after, limit=PAGE):
        for job in page:
            yield job
        after = page[-1].id


def _row(job: Job) -> Mapping[str, Any]:
    ended = None if job.ended_at is None else datetime.fromtimestamp(job.ended_at, UTC).isoformat(timespec="seconds")
    return {
        **vars(job.job),
        **vars(job),
        "expected": job.job.instances,
        "state": job.state.value,
        "bytes": job.nbytes,
        "ended_at": ended,
    }
