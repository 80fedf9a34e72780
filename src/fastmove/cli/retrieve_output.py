"""What a person sees of a retrieve: where it stands, what became of it, what to do; and the same for programs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final

import click

from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.output import Tally, megabytes, table, write_json
from fastmove.dimse.move import Verdict
from fastmove.dimse.status import describe
from fastmove.services.retrieve_scu import Retrieve, RetrieveResult
from fastmove.services.unit import UnitResult

SHOWN_MISSING: Final = 10
SHOWN_UNITS: Final = 20

# What to do about it, in words of the person who has to.
AGAIN: Final = "run the same command again: what is here is not fetched once more"
ADVICE: Final[dict[int | str, str]] = {
    0xA801: "the PACS does not know the move destination {destination!r}: enter this AE title with the address of this "
    "host and port {port} in the PACS, or choose another with --aet or --destination",
    0xA702: "the PACS could not send: it may not reach {destination!r} on port {port} of this host (firewall, "
    "address, or another port entered in the PACS); `fastmove doctor` finds out",
    "move.incomplete": AGAIN,
    "move.association_lost": AGAIN,
    "move.timeout": AGAIN,
    "move.cancelled": AGAIN,
    "stop.signal": AGAIN,
    "move.storage_failed": "make room on the disk, or mend it, and " + AGAIN,
    "move.empty": "nothing matched: are the keys right?",
    "move.stalled": "the PACS goes on saying that it is about to send; ask its administrator, then " + AGAIN,
    "store.duplicate_differs": "the PACS sent another object under a UID that is here already: see --on-duplicate",
}
NOTHING_CAME: Final = (
    "nothing came in at all: can the PACS reach port {port} of this host (firewall, address, or another port entered "
    "for {destination!r} in the PACS)? `fastmove doctor` finds out"
)


class RetrieveTally(Tally):
    """Where a retrieve stands."""

    def __init__(self, retrieve: Retrieve) -> None:
        super().__init__()
        self.source = retrieve
        self._retrieve = retrieve

    @property
    def to_us(self) -> bool:
        """True if the objects come here, not to a third party."""
        return self._retrieve.to_us

    @property
    def sent(self) -> int:
        """Objects that the PACS says it sent."""
        return self._retrieve.sent

    @property
    def present(self) -> int:
        """Instances that were here before."""
        return self._retrieve.work.present

    def refresh(self) -> None:
        """Take over what the retrieve has counted, and guess how much there is to do."""
        super().refresh()
        work = self._retrieve.work
        to_come = work.listed - work.present
        taken_up = work.done + work.under_way
        if to_come and taken_up:  # what is not listed yet is about as large
            self.total = max(round(to_come / taken_up * work.known), self.objects)

    def line(self, verb: str) -> str:
        """The state as text."""
        self.refresh()
        retrieve, work = self._retrieve, self._retrieve.work
        seconds = max(time.monotonic() - self.started, 1e-6)
        of = f"/{self.total:,}" if self.total else ""
        more = "" if work.fed else "+"
        parts = [
            f"{verb} {work.done:,}/{work.known:,}{more} studies",
            f"{self.objects:,}{of} instances",
            megabytes(self.nbytes),
            f"{self.nbytes / 1e6 / seconds:,.1f} MB/s",
            f"{self.objects / seconds:,.0f}/s",
            f"{retrieve.under_way} at once",
        ]
        if work.present:
            parts.insert(2, f"{work.present:,} there before")
        if work.retrying:
            parts.append(f"asking again for {work.retrying:,}")
        if self.refused:
            parts.append(f"{self.refused:,} refused")
        if retrieve.away:
            parts.append("waiting for the PACS")
        return ", ".join(parts)


def finished_event(result: RetrieveResult, tally: RetrieveTally, code: ExitCode) -> None:
    """The last JSON line."""
    write_json(
        {
            "event": "retrieve.finished",
            "verdict": result.judgement.verdict.name,
            "reasons": list(result.judgement.reasons),
            "exit_code": int(code),
            "studies": {verdict.name: count for verdict, count in result.verdicts.items()},
            "unattempted": result.unattempted,
            "unresolved": [{"keys": list(each.query.keys), "reason": each.reason} for each in result.unresolved],
            "objects": tally.objects,
            "bytes": tally.nbytes,
            "present": tally.present,
            "sent": tally.sent,
            "missing": sum(len(unit.missing) for unit in result.units),
            "unsolicited": result.unsolicited,
            "seconds": round(result.seconds, 6),
            "first_object_s": None if result.first_object_s is None else round(result.first_object_s, 6),
            "error": None if result.error is None else str(result.error),
        }
    )


def report(result: RetrieveResult, tally: RetrieveTally, code: ExitCode, where: dict[str, object]) -> None:
    """The closing words: what came, the units that need some, the verdict, and what to do."""
    seconds = max(result.seconds, 1e-6)
    if tally.to_us:
        rate = f"{tally.nbytes / 1e6 / seconds:,.1f} MB/s, {tally.objects / seconds:,.0f} objects/s"
        before = f", {tally.present:,} were here before" if tally.present else ""
        click.echo(f"{tally.objects:,} objects, {megabytes(tally.nbytes)} in {result.seconds:.2f} s ({rate}){before}")
    else:
        click.echo(f"the PACS reports {tally.sent:,} sent")
    counts = ", ".join(f"{count:,} {verdict.name}" for verdict, count in result.verdicts.items())
    if sum(result.verdicts.values()) > 1:
        click.echo(f"studies: {counts}")
    odd = [unit for unit in result.units if unit.judgement.verdict not in (Verdict.COMPLETE, Verdict.COUNTED)]
    if sum(result.verdicts.values()) > 1 and odd:
        table((_row(unit) for unit in odd[:SHOWN_UNITS]), ("study", "verdict", "stored", "listed", "missing", "why"))
        if len(odd) > SHOWN_UNITS:
            click.echo(f"... and {len(odd) - SHOWN_UNITS:,} more (all of them with --json)", err=True)
    for line in _details(result, odd):
        click.echo(line, err=True)
    why = f" ({', '.join(result.judgement.reasons)})" if result.judgement.reasons else ""
    verdict = result.judgement.verdict
    click.echo(f"verdict: {verdict.name}: {verdict.value}{why}", err=code != ExitCode.SUCCESS)
    for hint in _hints(result, tally, odd):
        click.echo(f"hint: {hint.format(**where)}", err=True)


def _row(unit: UnitResult) -> tuple[str, ...]:
    study = unit.wanted.study_instance_uid
    name = f"{study} series {unit.wanted.series_instance_uid}" if unit.wanted.series_instance_uid else study
    numbers = ("?" if number is None else f"{number:,}" for number in (unit.stored, unit.listed))
    reasons = dict.fromkeys(unit.missing.values())
    why = next(iter(reasons), "") or unit.error or ", ".join(unit.judgement.reasons)
    return name, unit.judgement.verdict.name, *numbers, f"{len(unit.missing):,}", why


def _details(result: RetrieveResult, odd: list[UnitResult]) -> Iterator[str]:
    outcome = None if not odd or odd[0].evidence is None else odd[0].evidence.outcome
    if outcome is not None and outcome.status:
        comment = f": {outcome.error_comment}" if outcome.error_comment else ""
        yield f"status {outcome.status:04X}H {describe(outcome.status, 'C-MOVE')[1]}{comment}"
    if result.error is not None:
        yield str(result.error)
    for query in result.unresolved[:SHOWN_MISSING]:
        yield f"not found: {query}"
    if len(result.unresolved) > SHOWN_MISSING:
        yield f"... and {len(result.unresolved) - SHOWN_MISSING:,} more queries (all of them with --json)"
    if result.unattempted:
        yield f"not taken up: {result.unattempted:,} studies"
    missing = [(uid, why) for unit in odd for uid, why in unit.missing.items()]
    for uid, why in missing[:SHOWN_MISSING]:
        yield f"missing: {uid}: {why}"
    if len(missing) > SHOWN_MISSING:
        yield f"... and {len(missing) - SHOWN_MISSING:,} more (all of them with --json)"
    if result.unsolicited:
        yield f"{result.unsolicited:,} objects came that belong to none of these moves, and were stored as well"


def _hints(result: RetrieveResult, tally: RetrieveTally, odd: list[UnitResult]) -> Iterator[str]:
    if result.judgement.verdict is Verdict.COMPLETE:
        return
    statuses = (unit.evidence.outcome.status for unit in odd if unit.evidence and unit.evidence.outcome)
    keys: list[Any] = [status for status in statuses if status] + list(result.judgement.reasons)
    for key in keys:
        if key in ADVICE:
            yield ADVICE[key]
            return
    if tally.to_us and odd and not tally.objects and not tally.present:
        yield NOTHING_CAME
    elif result.unattempted:
        yield AGAIN
