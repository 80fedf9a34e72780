"""What it takes to load a storage SCP: `fastmove bench store` beside DCMTK's storescu, into the same tuned storescp.

storescu reads its objects from files in memory; `bench store` makes them as it sends them. A program's start is not its
load: each first sends one object, and what that took is subtracted.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, peers
from benchmarks.results import Column, Goal, Run, rotated
from fastmove.bench.spec import Spec, write

RECEIVER = "storescp tuned +B"
OURS, THEIRS = "fastmove bench store", "storescu tuned"

COLUMNS = (
    Column("objects/s", "objects_per_s", 0),
    Column("x storescu", "seconds", 2, THEIRS, inverse=True),
    Column("MB/s", "mb_per_s", 0),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("objects per CPU second x storescu", "cpu_us_per_object", 2, THEIRS, inverse=True),
    Column("start, CPU s", "start_cpu_s", 2, spread=False),
    Column("peak RSS MiB", "peak_rss_mib", 0, spread=False),
)


@dataclass(frozen=True)
class Kind:
    """What is sent: so many objects of a size."""

    name: str
    objects: int
    spec: str
    bytes: int

    def synthetic(self, objects: int) -> str:
        """For --synthetic."""
        return f"series=1,instances={objects},{self.spec}"


KINDS = {
    "T": Kind("T", 10_000, "size=8k,modality=SR", 8_000),
    "S": Kind("S", 3_000, "size=526k,modality=CT", 526_000),
}

GOALS = tuple(
    goal
    for kind in KINDS.values()
    for goal in (
        Goal("rate of bench store", kind.name, OURS, "seconds", ">=", 1.0, THEIRS, inverse=True),
        Goal("objects per CPU second", kind.name, OURS, "cpu_us_per_object", ">=", 2.0, THEIRS, inverse=True),
    )
)


def programs() -> list[peers.Program]:
    """Both senders; {spec} is what ours makes, {dir} what the other reads."""
    storescu = (peers.dcmtk("storescu"), "-pdu", "131072", "+sd", "+r", "-R", "127.0.0.1", "{port}", "{dir}")
    ours = (peers.fastmove(), "bench", "store", "ANY-SCP@127.0.0.1:{port}", "--synthetic", "{spec}", "--count", "1")
    return [peers.Program(OURS, ours), peers.Program(THEIRS, storescu, peers.NODELAY)]


def once(program: peers.Program, kind: Kind, objects: int, folder: Path) -> Run:
    """One freshly started receiver, one command; ProgramFailed unless every object has arrived."""
    own = Path(tempfile.mkdtemp(dir=folder))
    files, stored = own / "files", own / "stored"
    files.mkdir()
    stored.mkdir()
    result = Run(program.name, kind.name, 0, objects, objects * kind.bytes)
    receiver = next(each for each in peers.receivers([1]) if each.name == RECEIVER)
    try:
        if program.name == THEIRS:
            write(Spec.parse(kind.synthetic(objects)), files)
        with peers.Server(receiver, machine.free_port(), own / "receiver.log", dir=stored) as server:
            values = {"port": server.port, "dir": files, "spec": kind.synthetic(objects)}
            done = peers.complete(program, own / "sender.log", **values)
        arrived = sum(1 for _ in stored.iterdir())
        if arrived != objects:
            raise peers.ProgramFailed(f"{arrived} of {objects} objects arrived")
    finally:
        shutil.rmtree(own)
    result.seconds, result.cpu_s, result.peak_rss_bytes = done.seconds, done.cpu_s, done.peak_rss_bytes
    return result


def run(program: peers.Program, kind: Kind, objects: int, number: int, folder: Path) -> Run:
    """One sender: its start, and the load without it."""
    if not program.is_installed:
        return Run(program.name, kind.name, number, error=peers.NOT_INSTALLED)
    try:
        start = once(program, kind, 1, folder)
        result = once(program, kind, objects, folder)
    except peers.ProgramFailed as failure:
        return Run(program.name, kind.name, number, error=f"FAILED: {failure}")
    result.round, result.start_cpu_s = number, start.cpu_s
    result.seconds, result.cpu_s = max(1e-6, result.seconds - start.seconds), max(1e-6, result.cpu_s - start.cpu_s)
    return result


def cell(chosen: list[peers.Program], kind: Kind, objects: int, rounds: int, folder: Path) -> list[Run]:
    """Both, round by round, in rotating order."""
    return [
        run(program, kind, objects, number, folder) for number in range(rounds) for program in rotated(chosen, number)
    ]
