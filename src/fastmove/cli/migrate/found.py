"""What an inventory has found, and how it is shown."""

from __future__ import annotations

import itertools
from typing import Any

from fastmove.bench.sampling import Amount, Lots, Sampled, kind_of
from fastmove.cli.migrate.sampling import SEED
from fastmove.cli.output import Tally, megabytes, say, table
from fastmove.ledger.model import Added, StudyJob
from fastmove.services.selection.resolution import Unresolved

SHOWN_UNRESOLVED = 10


class Expected:
    """Whose studies come first."""

    def __init__(self) -> None:
        self.patients: frozenset[str] = frozenset()
        self.unresolved: list[Unresolved] = []
        """Of whom the PACS does not say who they are."""


class Found(Tally):
    """What an inventory has found so far; a sample of `most` studies is drawn of it."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.studies = self.instances = self.uncounted = self.undated = 0
        self.years: dict[str, list[int]] = {}
        self.unresolved: list[Unresolved] = []
        self.unknown: set[str] = set()
        """Listed studies that the PACS does not know."""

        self._kinds: dict[str, list[int]] = {}
        self._lots: Lots[StudyJob] | None = Lots(most, SEED) if most else None

    def missed(self, unresolved: Unresolved) -> None:
        """A query found nothing, or not all."""
        self.unresolved.append(unresolved)
        if unresolved.named:
            self.unknown.add(unresolved.query.keys[0].partition("=")[2])

    def add(self, job: StudyJob) -> None:
        """A study."""
        self.studies += 1
        self.instances += job.instances or 0
        self.uncounted += job.instances is None
        self.undated += not job.study_date
        year = self.years.setdefault(job.study_date[:4] or "no date", [0, 0])
        year[0] += 1
        year[1] += job.instances or 0
        if job.study_instance_uid in self.unknown:
            return
        sums = self._kinds.setdefault(kind := kind_of(job.modalities), [0, 0, 0])
        for place, number in enumerate((1, job.instances is not None, job.instances or 0)):
            sums[place] += number
        if self._lots is not None:
            self._lots.add(kind, job)

    @property
    def amounts(self) -> dict[str, Amount]:
        """By kind, what the PACS knows of."""
        return {kind: Amount(*sums) for kind, sums in self._kinds.items()}

    def drawn(self) -> dict[str, list[StudyJob]]:
        """What a sample may be taken of, by kind."""
        return {} if self._lots is None else self._lots.drawn()

    def line(self, verb: str) -> str:
        """The state as text."""
        return f"{verb} {self.studies:,} studies with {self.instances:,} instances"


def as_json_of(found: Found, expected: Expected | None, added: Added | None, sampled: Sampled | None) -> dict[str, Any]:
    """For programs: what was found, what of it was written down, and what became of a sample."""
    return {
        "event": "migrate.planned",
        "studies": found.studies,
        "instances": found.instances,
        "uncounted": found.uncounted,
        "undated": found.undated,
        "years": {year: {"studies": n, "instances": i} for year, (n, i) in sorted(found.years.items())},
        "unresolved": [str(each) for each in found.unresolved],
        "unknown": sorted(found.unknown),
        **({} if expected is None else {"expected_patients": len(expected.patients)}),
        **({} if added is None else vars(added)),
        **({} if sampled is None else {"sample": _sample_as_json(sampled)}),
    }


def _sample_as_json(sampled: Sampled) -> dict[str, Any]:
    return {
        "studies": sampled.studies,
        "instances": sampled.instances,
        "bytes": sampled.nbytes,
        "seconds": sampled.seconds,
        "failures": dict(sampled.failures),
    }


def show(found: Found) -> None:
    """For people: what was found, and what was not."""
    if found.years:
        rows = ([year, f"{n:,}", f"{i:,}"] for year, (n, i) in sorted(found.years.items()))
        table(rows, ["year", "studies", "instances"])
    say(found.line("found"))
    if uncounted := found.uncounted - len(found.unknown):
        say(f"of {uncounted:,} studies the PACS does not say how many instances they have")
    if found.unknown:
        say(
            f"{len(found.unknown):,} listed studies are not there; they are planned all the same, and reported",
            err=True,
        )
    for each in itertools.islice(found.unresolved, SHOWN_UNRESOLVED):
        say(f"not all was found: {each}", err=True)


def show_expected(expected: Expected) -> None:
    """For people: the patients who come first."""
    say(f"first come the studies of {len(expected.patients):,} patients")
    for each in itertools.islice(expected.unresolved, SHOWN_UNRESOLVED):
        say(f"who is expected is not known in full: {each}", err=True)


def show_sampled(sampled: Sampled, parallel: int) -> None:
    """For people: what became of a sample, of which so many studies were moved at once."""
    rate = megabytes(round(sampled.nbytes / sampled.seconds)) if sampled.seconds else "nothing"
    came = f"{sampled.studies:,} studies, {sampled.instances:,} instances, {megabytes(sampled.nbytes)}"
    say(f"the sample: {came} in {sampled.seconds:,.1f} s, {rate} a second with {parallel} at once")
    for status, detail in sampled.failures.items():
        say(f"of the sample not all came: {status} {detail}".rstrip(), err=True)
