"""What a whole C-MOVE takes: from a stock Orthanc, a stock dcmqrscp and our own PACS, to disk, every byte compared.

movescu stalls for 40 ms and more per object, so that a whole study may take minutes. It first gets a study of one
object and one of a part; if the whole would take longer than the patience asked for, its time is extrapolated from
these two, and the result says so. Nothing else is ever extrapolated.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, peers, yardstick
from benchmarks.objects import Mismatch, Template, Workload, verify
from benchmarks.results import Column, Goal, Run, rotated

STOCK = "movescu"
WHOLE_STUDY, PART_STUDY, ONE_OBJECT_STUDY = 1, 2, 3

COLUMNS = (
    Column("times faster than movescu", "seconds", 1, STOCK, inverse=True),
    Column("than movescu tuned", "seconds", 2, "movescu tuned", inverse=True),
    Column("seconds", "seconds", 2),
    Column("ms/object", "ms_per_object", 2),
    Column("MB/s", "mb_per_s", 0),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("peak RSS MiB", "peak_rss_mib", 0, spread=False),
    Column("objects", "objects", 0, spread=False),
)


def setting(workload: str, pacs: str) -> str:
    return f"{workload} from {pacs}"


STRANGERS = ("Orthanc", "dcmqrscp")
GOALS = (
    *(
        Goal(f"{row}, times faster", setting(workload, pacs), row, "seconds", ">=", bound, reference, True)
        for row in ("fastmove", "fastmove movescu")
        for workload, against_stock in (("C", 40), ("D", 100))
        for pacs in STRANGERS
        for reference, bound in ((STOCK, against_stock), ("movescu tuned", 1.0), ("movescu tuned +B", 1.0))
    ),
    *(
        Goal("fastmove movescu, seconds", setting("A", p), "fastmove movescu", "seconds", "<=", 0.150)
        for p in STRANGERS
    ),
)


@dataclass(frozen=True)
class Study:
    """A study that the PACS holds: templates, one a series, and which objects are made of each."""

    contents: tuple[tuple[Template, range], ...]

    @property
    def uid(self) -> str:
        return self.contents[0][0].study

    @property
    def objects(self) -> int:
        return sum(len(numbers) for _, numbers in self.contents)

    @property
    def bytes(self) -> int:
        return sum(len(numbers) * subject.size for subject, numbers in self.contents)

    @classmethod
    def of(cls, workload: Workload, study: int, objects: int) -> Study:
        series = min(workload.series, objects)
        firsts = [n * objects // series for n in range(series + 1)]
        subjects = [workload.template(workload.size, study, n + 1) for n in range(series)]
        return cls(tuple(zip(subjects, map(range, firsts, firsts[1:]), strict=True)))


@dataclass(frozen=True)
class Studies:
    """The same images as a whole study, as a part of it, and as a study of one."""

    whole: Study
    part: Study
    one: Study

    def __iter__(self) -> Iterator[Study]:
        return iter((self.whole, self.part, self.one))

    @classmethod
    def of(cls, workload: Workload, objects: int, part: int) -> Studies:
        sizes = {WHOLE_STUDY: objects, PART_STUDY: min(part, objects), ONE_OBJECT_STUDY: 1}
        return cls(*(Study.of(workload, study, n) for study, n in sizes.items()))


@dataclass(frozen=True)
class Source:
    """A running PACS: where it is called, and where it calls us."""

    pacs: peers.Pacs
    port: int
    destination_port: int


@contextmanager
def loaded(pacs: peers.Pacs, studies: Studies, folder: Path) -> Iterator[Source]:
    """The PACS, started as shipped, with the studies in it. They are sent so that no stall slows the loading down."""
    stored, scratch = folder / "stored", folder / "scratch"
    stored.mkdir()
    scratch.mkdir()
    if pacs.reads_folder:
        for study in studies:
            for subject, numbers in study.contents:
                subject.write_files(stored, numbers)
    port, destination_port = machine.free_port(), machine.free_port()
    values = {"dir": stored, "scratch": scratch, "destination_port": destination_port}
    with peers.Server(pacs.program, port, scratch / "log", **values):
        for study in studies if not pacs.reads_folder else ():
            for subject, numbers in study.contents:
                which = {"first": numbers.start, "objects": len(numbers)}
                yardstick.send(port, subject, **which, quickack=True, called=pacs.ae_title)
        yield Source(pacs, port, destination_port)


def move(program: peers.Program, source: Source, study: Study, folder: Path) -> peers.Finished:
    """One study by one command; Mismatch unless every object arrived, every byte the same."""
    target = Path(tempfile.mkdtemp(dir=folder))
    try:
        done = peers.complete(
            program,
            folder / "retriever.log",
            called=source.pacs.ae_title,
            port=source.port,
            destination_port=source.destination_port,
            study=study.uid,
            dir=target,
        )
        verify(target, list(study.contents), study.objects)
    finally:
        shutil.rmtree(target)
    return done


def extrapolated(program: peers.Program, source: Source, studies: Studies, folder: Path) -> tuple[peers.Finished, str]:
    """What the whole would take, by what one object takes and each further one; and the words to say so."""
    whole, part = studies.whole.objects, studies.part.objects
    one, more = (move(program, source, study, folder) for study in (studies.one, studies.part))
    factor = (whole - 1) / (part - 1)
    seconds = one.seconds + factor * (more.seconds - one.seconds)
    cpu_s = one.cpu_s + factor * (more.cpu_s - one.cpu_s)
    words = f"{program.name} extrapolated per object to {whole} from 1 and {part} objects"
    return peers.Finished(seconds, cpu_s, more.peak_rss_bytes), words


def run(program: peers.Program, source: Source, studies: Studies, patience_s: float, result: Run, folder: Path) -> Run:
    """One retriever, once."""
    if not program.is_installed:
        result.error = peers.NOT_INSTALLED
        return result
    whole = studies.whole
    result.objects, result.bytes = whole.objects, whole.bytes
    try:
        done = None
        if program.may_stall and 1 < studies.part.objects < whole.objects:
            done, result.estimated = extrapolated(program, source, studies, folder)
        if done is None or done.seconds <= patience_s:
            done, result.estimated = move(program, source, whole, folder), ""
        result.seconds, result.cpu_s, result.peak_rss_bytes = done.seconds, done.cpu_s, done.peak_rss_bytes
    except (peers.ProgramFailed, Mismatch) as failure:
        result.error = f"FAILED: {failure}"
    return result


def cell(
    programs: list[peers.Program],
    pacs: peers.Pacs,
    name: str,
    studies: Studies,
    patience_s: float,
    rounds: int,
    folder: Path,
) -> list[Run]:
    """All retrievers from one PACS, round by round, in rotating order."""
    where = setting(name, pacs.program.name)
    if not pacs.program.is_installed:
        return [Run(pacs.program.name, where, 0, error=peers.NOT_INSTALLED)]
    own = Path(tempfile.mkdtemp(dir=folder))
    try:
        with loaded(pacs, studies, own) as source:
            machine.touch(own, studies.whole.bytes)
            return [
                run(program, source, studies, patience_s, Run(program.name, where, number), own)
                for number in range(rounds)
                for program in rotated(programs, number)
                if number == 0 or program.is_installed
            ]
    except (peers.ProgramFailed, yardstick.SendFailed) as failure:
        return [Run(pacs.program.name, where, 0, error=f"FAILED: {failure}")]
    finally:
        shutil.rmtree(own)
