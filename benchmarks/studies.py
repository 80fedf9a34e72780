"""What a list of many small studies takes, from our own PACS, in one command: the cost of a study, not of its bytes.

The PACS is started anew for each run, so that its CPU time and its associations are those of that run.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, peers
from benchmarks.objects import Mismatch, compare
from benchmarks.results import Column, Goal, Run, rotated

ASSOCIATION_OPENED = "assoc.opened"
COLUMNS = (
    Column("studies/s", "studies_per_s", 0),
    Column("seconds", "seconds", 1),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("of the PACS", "sender_cpu_us_per_object", 0),
    Column("peak RSS MiB", "peak_rss_mib", 0),
    Column("last third / first", "memory_growth", 2),
    Column("associations", "associations", 0, spread=False),
    Column("objects", "objects", 0, spread=False),
)


def setting(studies: int, instances: int) -> str:
    return f"{studies:,} studies of {instances}"


STUDIES, INSTANCES, SIZE = 10_000, 3, 12_000
WHOLE = setting(STUDIES, INSTANCES)
GOALS = tuple(
    goal
    for row in ("fastmove", "fastmove durable")
    for goal in (
        Goal(f"{row}, studies/s", WHOLE, row, "studies_per_s", ">=", 200),
        Goal(f"{row}, peak RSS, MiB", WHOLE, row, "peak_rss_mib", "<=", 150),
        Goal(f"{row}, memory in the last third to that in the first", WHOLE, row, "memory_growth", "<=", 1.1),
        Goal(f"{row}, associations, both ways", WHOLE, row, "associations", "<=", 100),
    )
)


@dataclass(frozen=True)
class Archive:
    """A running PACS: its process, what it holds, the list of that."""

    server: peers.Server
    stored: Path
    destination_port: int
    uids: Path

    def associations(self) -> int:
        """How many it has accepted so far, as it says, and opened to us, within a minute."""
        told = [json.loads(line)["event"] for line in self.server.log.read_text().splitlines()]
        return told.count(ASSOCIATION_OPENED) + machine.recent_connections(self.destination_port)


@contextmanager
def archive(studies: int, instances: int, size: int, folder: Path) -> Iterator[Archive]:
    """The PACS, with so many studies; their UIDs are asked of it."""
    stored = folder / "stored"
    destination_port, uids = machine.free_port(), folder / "studies.txt"
    spec = {"studies": studies, "instances": instances, "size": size}
    values = {"dir": stored, "destination_port": destination_port, **spec}
    with peers.Server(peers.synthetic_archive(), machine.free_port(), folder / "pacs.log", **values) as server:
        argv = [str(peers.fastmove()), "find", f"{peers.SYNTHETIC_AET}@127.0.0.1:{server.port}", "--format", "json"]
        found = subprocess.run(argv, capture_output=True, text=True)
        lines = found.stdout.splitlines()
        if found.returncode or len(lines) != studies:
            raise peers.ProgramFailed(f"{len(lines)} of {studies} studies listed: {found.stderr.strip()[-200:]}")
        uids.write_text("".join(f"{json.loads(line)['StudyInstanceUID']}\n" for line in lines))
        yield Archive(server, stored, destination_port, uids)


def run(program: peers.Program, source: Archive, result: Run, folder: Path) -> Run:
    """One command for the whole list; every byte compared."""
    target = folder / "target"
    target.mkdir()
    cpu_s, associations = machine.cpu_s(source.server.pid), source.associations()
    ports = {"port": source.server.port, "destination_port": source.destination_port}
    done = peers.complete(program, folder / "retriever.log", dir=target, list=source.uids, **ports)
    result.sender_cpu_s = machine.settled_cpu_s(source.server.pid) - cpu_s  # then it has written its log, too
    result.associations = source.associations() - associations
    result.seconds, result.cpu_s, result.peak_rss_bytes = done.seconds, done.cpu_s, done.peak_rss_bytes
    result.memory_growth = done.memory_growth
    compare(target, source.stored)
    return result


def cell(
    programs: list[peers.Program], studies: int, instances: int, size: int, rounds: int, folder: Path
) -> list[Run]:
    """All rows, round by round, in rotating order."""
    runs: list[Run] = []
    for number in range(rounds):
        for program in rotated(programs, number):
            objects = studies * instances
            result = Run(program.name, setting(studies, instances), number, objects, objects * size, studies=studies)
            own = Path(tempfile.mkdtemp(dir=folder))
            try:
                with archive(studies, instances, size, own) as source:
                    runs.append(run(program, source, result, own))
            except (peers.ProgramFailed, Mismatch) as failure:
                result.error = f"FAILED: {failure}"
                runs.append(result)
            finally:
                shutil.rmtree(own)
    return runs
