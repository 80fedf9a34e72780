"""What a person sees of a retrieve: where it stands, what became of it, what to do; and the same for programs."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.log import WARNINGS
from fastmove.cli.output import Tally, megabytes, say, table, write_json
from fastmove.cli.retrieve_advice import UNLISTED, for_result
from fastmove.dimse.move import Verdict
from fastmove.dimse.status import describe
from fastmove.notices import (
    InstanceStored,
    ListenerStarted,
    Notice,
    level,
)
from fastmove.observe.log import Log
from fastmove.services.retrieve.config import RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.retrieve.unit import UnitResult
from fastmove.storage.options import Placing

SHOWN_REASONS: Final = 5
SHOWN_UIDS: Final = 3
"""Of each reason."""

SHOWN_QUERIES: Final = 10
SHOWN_UNITS: Final = 20
SHOWN_PATHS: Final = 3
SHOWN_WARNINGS: Final = 3
"""Of each event."""

_BY_THE_PACS: Final = "the PACS counted it as failed: "

_SUCCESSES: Final = frozenset((Verdict.COMPLETE, Verdict.COUNTED, Verdict.UNVERIFIED))

_STOPPED: Final = frozenset(("move.cancelled", "stop.signal"))

_PLACINGS: Final = {
    Placing.BESIDE.value: "another object was here under the same UID, and both are kept",
    Placing.REPLACED.value: "another object was here under the same UID, and is replaced",
    Placing.SKIPPED.value: "another object was here under the same UID, and is kept; the one of the PACS is not stored",
}


class Warnings:
    """An observer that says on standard error what went wrong, as long as that is news."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._said: Counter[str] = Counter()

    def __call__(self, notice: Notice) -> None:
        """Say it, unless it has been said often enough."""
        if type(notice) not in WARNINGS or level(notice.event) == "I":
            return
        self._said[notice.event] += 1
        if self._said[notice.event] <= SHOWN_WARNINGS:
            self._log(notice)
        elif self._said[notice.event] == SHOWN_WARNINGS + 1:
            self._log.say(f"{level(notice.event)} event={notice.event} and so on (all of them with --json)")


class RetrieveTally(Tally):
    """Where a retrieve stands."""

    def __init__(self, retrieve: Retrieve) -> None:
        super().__init__()
        self.source = retrieve
        self.quarantine = ""
        """The folder of objects that nobody asked for."""
        self.port: int | None = None
        """That we listen on."""
        self.placed: Counter[str] = Counter()
        """Objects that differ from what was here under their UIDs, by what became of them."""
        self.paths: dict[str, list[str]] = {}
        """The first of these."""
        self.empty: list[UnitResult] = []
        """Units of which the PACS has nothing, though it calls that a success."""
        self.stopping = False
        self._retrieve = retrieve

    def observe(self, notice: Notice) -> None:
        """An observer that counts what was refused, and learns the port."""
        super().observe(notice)
        if type(notice) is ListenerStarted:
            self.port = notice.port
        elif type(notice) is InstanceStored:  # and set aside: of the others `stored` is told
            self.quarantine = os.path.dirname(notice.path)  # noqa: PTH120

    def stored(self, notice: InstanceStored) -> None:
        """An object is in place."""
        if notice.placing in _PLACINGS:
            self.placed[notice.placing] += 1
            paths = self.paths.setdefault(notice.placing, [])
            if len(paths) < SHOWN_PATHS:
                paths.append(notice.path)

    def ended(self, unit: UnitResult) -> None:
        """No more is asked for of a unit."""
        if unit.judgement.verdict in _SUCCESSES and "move.empty" in unit.judgement.reasons:
            self.empty.append(unit)

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
        beside, *below = self.live(verb)
        return f"{verb} {', '.join((beside, *below))}"

    def live(self, verb: str) -> tuple[str, ...]:
        """How far and how long yet; how fast; and what is wrong, if anything is."""
        self.refresh()
        retrieve, work = self._retrieve, self._retrieve.work
        objects_per_s, bytes_per_s = self.rates()
        guessed = "" if work.fed and work.done + work.under_way == work.known else "~"
        of = f"/{guessed}{self.total:,}" if self.total else ""
        before = f"{work.present:,} were here" if work.present else ""
        far = [self.left(objects_per_s), f"{self.objects:,}{of} instances", before]
        fast = [
            f"{work.done:,}/{work.known:,}{'' if work.fed else '+'} studies",
            megabytes(self.nbytes),
            f"{bytes_per_s / 1e6:,.1f} MB/s",
            f"{objects_per_s:,.0f}/s",
            counted(retrieve.under_way, "move", "moves"),
        ]
        return ", ".join(filter(None, far)), ", ".join(fast), *filter(None, [", ".join(self._troubles())])

    def _troubles(self) -> Iterator[str]:
        retrieve, work = self._retrieve, self._retrieve.work
        if self.stopping:
            yield "stopping: what is on its way is waited for"
        elif retrieve.away:
            yield "the PACS takes no association now: trying again"
        elif not retrieve.established:
            yield f"connecting to {retrieve.config.peer}"
        if work.retrying and not self.objects and self.port is not None:
            yield f"nothing has come yet: does the PACS reach port {self.port} of this host?"
        elif work.retrying:
            yield f"asking again for what is missing of {counted(work.retrying, 'study', 'studies')}"
        if self.refused:
            yield f"{counted(self.refused, 'object', 'objects')} refused"
        if self.placed:
            yield f"{self.placed.total():,} differ from what was here"


def counted(number: int, one: str, several: str) -> str:
    """A number of things."""
    return f"{number:,} {one if number == 1 else several}"


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
            "empty": len(tally.empty),
            "missing": result.missing,
            "unsolicited": result.unsolicited,
            "quarantined": result.quarantined,
            "unsolicited_refused": result.unsolicited_refused,
            "seconds": round(result.seconds, 6),
            "first_object_s": None if result.first_object_s is None else round(result.first_object_s, 6),
            "error": None if result.error is None else str(result.error),
        }
    )


def report(
    result: RetrieveResult,
    tally: RetrieveTally,
    code: ExitCode,
    texts: Mapping[str, str],
    *,
    stopped: bool,
    unlisted: int = 0,
) -> None:
    """The closing words: what came, the units that need some, the verdict, and what to do."""
    say(_sum(result, tally))
    several = sum(result.verdicts.values()) > 1
    if several:
        say("studies: " + ", ".join(f"{count:,} {verdict.name}" for verdict, count in result.verdicts.items()))
    odd = [unit for unit in result.units if unit.judgement.verdict not in (Verdict.COMPLETE, Verdict.COUNTED)]
    # What was cancelled is no wonder: somebody has stopped it, or the disk is full.
    told = [u for u in odd if not u.judgement.reasons or not _STOPPED.issuperset(u.judgement.reasons)]
    if several and told:
        header = ("study", "verdict", "stored", "listed", "missing", "why")
        table(map(_row, told[:SHOWN_UNITS]), header, cut_last=True)
        if len(told) > SHOWN_UNITS:
            say(f"... and {len(told) - SHOWN_UNITS:,} more (all of them with --json)", err=True)
    for line in (*_details(result, tally, told), *_not_found(result, tally), *_missing(told), *_differing(tally)):
        say(line, err=True)
    why = f" ({', '.join(result.judgement.reasons)})" if result.judgement.reasons else ""
    verdict = result.judgement.verdict
    say(f"verdict: {verdict.name}: {verdict.value}{why}", err=code != ExitCode.SUCCESS)
    nothing_came = tally.to_us and bool(odd) and not (tally.objects or tally.present or tally.refused)
    for advice in for_result(result, odd, nothing_came=nothing_came, stopped=stopped):
        say(f"{'stopped' if stopped else 'hint'}: {advice.format_map(texts)}", err=True)
        stopped = False
    if unlisted:
        say(
            f"hint: {counted(unlisted, 'object lacks its', 'objects lack their')} line in the manifest: {UNLISTED}",
            err=True,
        )


def _sum(result: RetrieveResult, tally: RetrieveTally) -> str:
    if not tally.to_us:
        return f"the PACS reports {tally.sent:,} sent"
    before = f", {tally.present:,} were here before" if tally.present else ""
    if not tally.objects:
        return f"0 objects came{before}"
    seconds = max(result.seconds, 1e-6)
    rates = f"{tally.nbytes / 1e6 / seconds:,.1f} MB/s, {tally.objects / seconds:,.0f} objects/s"
    return f"{tally.objects:,} objects, {megabytes(tally.nbytes)} in {result.seconds:.2f} s ({rates}){before}"


def _name(unit: UnitResult) -> str:
    wanted = unit.wanted
    series = f" series {wanted.series_instance_uid}" if wanted.series_instance_uid else ""
    return wanted.study_instance_uid + series


def _row(unit: UnitResult) -> tuple[str, ...]:
    numbers = ("?" if number is None else f"{number:,}" for number in (unit.stored, unit.listed))
    reasons = [why.removeprefix(_BY_THE_PACS) for why in unit.missing.values()]
    why = next(iter(reasons), "") or unit.error or ", ".join(unit.judgement.reasons)
    return _name(unit), unit.judgement.verdict.name, *numbers, f"{len(unit.missing):,}", why


def _details(result: RetrieveResult, tally: RetrieveTally, odd: list[UnitResult]) -> Iterator[str]:
    outcome = None if not odd or odd[0].evidence is None else odd[0].evidence.outcome
    if outcome is not None and outcome.status:
        comment = f": {outcome.error_comment}" if outcome.error_comment else ""
        yield f"status {outcome.status:04X}H {describe(outcome.status, 'C-MOVE')[1]}{comment}"
    if result.error is not None:
        yield str(result.error)
    if result.unattempted:
        yield f"not taken up: {counted(result.unattempted, 'study', 'studies')}"
    if result.quarantined:
        told = counted(result.quarantined, "object", "objects")
        yield f"set aside: {told} of studies that were not asked for, in {tally.quarantine}"
    if result.unsolicited_refused:
        told = counted(result.unsolicited_refused, "object", "objects")
        yield f"refused: {told} of studies that were not asked for"
    if result.unsolicited:
        yield f"stored as well: {counted(result.unsolicited, 'object', 'objects')} that belong to none of these moves"


def _not_found(result: RetrieveResult, tally: RetrieveTally) -> Iterator[str]:
    told = [*map(str, result.unresolved), *(f"{_name(unit)}: the PACS has nothing of it" for unit in tally.empty)]
    for each in told[:SHOWN_QUERIES]:
        yield f"not found: {each}"
    if len(told) > SHOWN_QUERIES:
        yield f"not found: {len(told) - SHOWN_QUERIES:,} more (all of them with --json)"


def _missing(odd: Iterable[UnitResult]) -> Iterator[str]:
    """How many did not come, by reason, with the first of them by name."""
    reasons: dict[str, list[str]] = {}
    for unit in odd:
        for uid, why in unit.missing.items():
            reasons.setdefault(why, []).append(uid)
    by_number = sorted(reasons.items(), key=lambda each: -len(each[1]))
    for why, uids in by_number[:SHOWN_REASONS]:
        yield f"missing: {counted(len(uids), 'instance', 'instances')}: {why}"
        yield from (f"    {uid}" for uid in uids[:SHOWN_UIDS])
        if len(uids) > SHOWN_UIDS:
            yield f"    ... and {len(uids) - SHOWN_UIDS:,} more (all of them with --json)"
    if len(by_number) > SHOWN_REASONS:
        rest = sum(len(uids) for _, uids in by_number[SHOWN_REASONS:])
        yield f"missing: {counted(rest, 'instance', 'instances')} for other reasons (all of them with --json)"


def _differing(tally: RetrieveTally) -> Iterator[str]:
    for placing, count in tally.placed.items():
        yield f"{count:,} differ: {_PLACINGS[placing]}"
        yield from (f"    {path}" for path in tally.paths[placing])
        if count > SHOWN_PATHS:
            yield f"    ... and {count - SHOWN_PATHS:,} more (all of them in the manifest)"
