"""What receiving costs: the yardstick sends from memory into each receiver in turn."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, peers, yardstick
from benchmarks.objects import STORE, Mismatch, Template, Workload, template, verify
from benchmarks.results import Column, Goal, Run, rotated

COMPARED_FILES = 16
WARM_UP_OBJECTS = {"T": 20, "S": 5, "L": 1}
WARM_UP_SIZE = 16 << 20
WARM_UP_SHARE = 0.05
"""Of the time of a run, at least: what is faster is not yet known well enough to say how many objects fit."""

COLUMNS = (
    Column("CPU x yardstick", "cpu_s_per_gb", 2, "yardstick"),
    Column("CPU s/GB", "cpu_s_per_gb", 2),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("objects/s", "objects_per_s", 0),
    Column("MB/s", "mb_per_s", 0),
    Column("response us, p50", "response_us", 0),
    Column("peak RSS MiB", "peak_rss_mib", 0),
    Column("objects", "objects", 0),
)


def setting(workload: str, associations: int, *, one_core: bool = False) -> str:
    plural = "s" if associations > 1 else ""
    return f"{workload}, {associations} association{plural}" + (", one core" if one_core else "")


T1, S1, L1, S4, S16 = (setting(w, n) for w, n in (("T", 1), ("S", 1), ("L", 1), ("S", 4), ("S", 16)))
TUNED_B = "storescp tuned +B"
GOALS = (
    Goal("CPU s/GB", S1, "fastmove", "cpu_s_per_gb", "<=", 1.10, "yardstick"),
    Goal("CPU s/GB", L1, "fastmove", "cpu_s_per_gb", "<=", 1.10, "yardstick"),
    Goal("CPU per object", T1, "fastmove", "cpu_us_per_object", "<=", 1.5, "yardstick"),
    Goal("CPU per object", T1, "fastmove", "cpu_us_per_object", "<=", 0.5, TUNED_B),
    Goal("objects/s", setting("T", 1, one_core=True), "fastmove", "objects_per_s", ">=", 0.85, "yardstick"),
    Goal("CPU s/GB with 16 KiB PDUs", S1, "fastmove 16 KiB PDUs", "cpu_s_per_gb", "<=", 1.10, "fastmove"),
    Goal("peak RSS, MiB", S1, "fastmove", "peak_rss_mib", "<=", 64),
    Goal("peak RSS, MiB", L1, "fastmove", "peak_rss_mib", "<=", 64),
    Goal("peak RSS, MiB", S4, "fastmove", "peak_rss_mib", "<=", 64 + 0.5 * 3),
    Goal("peak RSS, MiB", S16, "fastmove", "peak_rss_mib", "<=", 64 + 0.5 * 15),
    *(
        goal
        for where in (setting("T", 4), S4)
        for goal in (
            Goal("rate of 2 processes", where, "fastmove 2 processes", "objects_per_s", ">=", 1.4, "fastmove"),
            Goal("rate of 2 processes", where, "fastmove 2 processes", "objects_per_s", ">=", 1.0, f"{TUNED_B} --fork"),
        )
    ),
    Goal("durable, rate", S16, "fastmove durable", "objects_per_s", ">=", 0.9, "fastmove"),
)
"""Section by section what the engine promised; a goal whose setting was not run says nothing."""


@dataclass(frozen=True)
class Load:
    """What every run of a cell shares."""

    workload: Workload
    associations: int
    seconds: float
    one_core: bool
    folder: Path

    @property
    def setting(self) -> str:
        return setting(self.workload.name, self.associations, one_core=self.one_core)


def warm_up(port: int, load: Load) -> tuple[list[tuple[Template, range]], int, int]:
    """Send ever more objects until their rate is known; what was sent, then objects and size for the run to come."""
    workload, least = load.workload, load.associations
    count = max(WARM_UP_OBJECTS[workload.name], least)
    warm = template(workload.kind, min(workload.size, WARM_UP_SIZE))
    most = max(count, int(workload.objects * workload.size / warm.size) // 10)
    sent: list[tuple[Template, range]] = []
    first = 0
    while True:
        report = yardstick.send(port, warm, first=first, objects=count, associations=least)
        sent.append((warm, range(first, first + count)))
        first += count
        if report["seconds"] >= WARM_UP_SHARE * load.seconds or count >= most:
            break
        count = min(most, count * 10)
    budget = load.seconds * report["bytes"] / report["seconds"] / workload.size
    return sent, *workload.within(budget, least)


def run(program: peers.Program, load: Load, number: int) -> Run:
    """One receiver, freshly started: warm-up, the timed transfer, the check of every file; `error` if any failed."""
    result = Run(program.name, load.setting, number)
    if not program.is_installed:
        result.error = peers.NOT_INSTALLED
        return result
    folder = Path(tempfile.mkdtemp(dir=load.folder))
    stored, scratch = folder / "stored", folder / "scratch"
    stored.mkdir()
    scratch.mkdir()
    try:
        server = peers.Server(program, machine.free_port(), scratch / "log", dir=stored, scratch=scratch)
        with server:
            measure(server, load, result, stored)
    except (peers.StartFailed, yardstick.SendFailed, Mismatch) as failure:
        result.error = f"FAILED: {failure}"
    finally:
        shutil.rmtree(folder)
    return result


def measure(server: peers.Server, load: Load, result: Run, stored: Path) -> None:
    sent, objects, size = warm_up(server.port, load)
    subject = template(load.workload.kind, size)
    first = sent[-1][1].stop
    machine.touch(stored, objects * subject.size)
    before, busy_before = machine.settled_cpu_s(server.pid), machine.machine_busy_s()
    with machine.PeakRss(server.pid) as peak:
        report = yardstick.send(
            server.port,
            subject,
            first=first,
            objects=objects,
            associations=load.associations,
            spin_us=0 if load.one_core or load.associations > 1 else load.workload.spin_us,
        )
    busy = machine.machine_busy_s() - busy_before
    used_at_end = machine.cpu_s(server.pid) - before
    result.cpu_s = machine.settled_cpu_s(server.pid) - before
    result.objects, result.bytes, result.seconds = objects, report["bytes"], report["seconds"]
    result.response_us, result.sender_cpu_s = report["response_us"]["p50"], report["cpu_s"]
    result.others_cpu_s = max(0.0, busy - used_at_end - report["cpu_s"])
    result.peak_rss_bytes = peak.bytes
    verify(stored, [*sent, (subject, range(first, first + objects))], COMPARED_FILES)


def cell(programs: list[peers.Program], load: Load, rounds: int) -> list[Run]:
    """All receivers, round by round, in rotating order; a missing one is noted once."""
    fit = [p for p in programs if p.least_associations <= load.associations <= p.most_associations]
    return [
        run(program, load, number)
        for number in range(rounds)
        for program in rotated(fit, number)
        if number == 0 or program.is_installed
    ]


def needed_bytes(workloads: list[str]) -> int:
    """The most that a run leaves in its folder, warm-up included."""
    return max(STORE[w].objects * STORE[w].size for w in workloads) * 5 // 4
