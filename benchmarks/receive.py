"""What receiving costs: the yardstick sends out of memory into each receiver in turn."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import machine, peers, yardstick
from benchmarks.load import Load, calibrate, setting
from benchmarks.objects import Mismatch, Template, verify
from benchmarks.results import Column, Goal, Run, rotated

COMPARED_FILES = 16
COLUMNS = (
    Column("CPU x yardstick", "cpu_s_per_gb", 2, "yardstick"),
    Column("CPU s/GB", "cpu_s_per_gb", 2),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("objects/s", "objects_per_s", 0),
    Column("MB/s", "mb_per_s", 0),
    Column("response us, p50", "response_us", 0, spread=False),
    Column("peak RSS MiB", "peak_rss_mib", 0, spread=False),
    Column("objects", "objects", 0, spread=False),
)


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
    Goal("first object answered, ms after connect()", T1, "fastmove", "first_ms", "<=", 10),
    Goal("rate with TLS", S1, "fastmove TLS", "objects_per_s", ">=", 0.5, "fastmove"),
    Goal("durable, rate", S16, "fastmove durable", "objects_per_s", ">=", 0.9, "fastmove"),
)
"""What a receiver has to reach; a goal whose setting or rows were not run says nothing."""


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
    except (peers.ProgramFailed, yardstick.SendFailed, Mismatch) as failure:
        result.error = f"FAILED: {failure}"
    finally:
        shutil.rmtree(folder)
    return result


def measure(server: peers.Server, load: Load, result: Run, stored: Path) -> None:
    """Calibration, which warms the receiver up, then the transfer whose figures go into `result`, then the check."""
    sent: list[tuple[Template, range]] = []

    def send(subject: Template, objects: int, spin_us: int = 0) -> dict[str, Any]:
        first = sent[-1][1].stop if sent else 0
        sent.append((subject, range(first, first + objects)))
        return yardstick.send(
            server.port,
            subject,
            first=first,
            objects=objects,
            associations=load.associations,
            spin_us=spin_us,
            tls=server.program.tls,
        )

    objects, subject = calibrate(load, lambda subject, objects: float(send(subject, objects)["seconds"]))
    machine.touch(stored, objects * subject.size)
    alone = load.associations == 1 and not load.one_core
    transfer(server.pid, result, lambda: send(subject, objects, load.workload.spin_us if alone else 0))
    verify(stored, sent, COMPARED_FILES)


def transfer(pid: int, result: Run, send: Callable[[], dict[str, Any]]) -> None:
    """What the receiver uses while the yardstick sends, and what that reports, go into `result`."""
    before, busy_before = machine.settled_cpu_s(pid), machine.machine_busy_s()
    with machine.Memory(pid) as memory:
        report = send()
    busy = machine.machine_busy_s() - busy_before
    used_at_end = machine.cpu_s(pid) - before
    result.cpu_s = machine.settled_cpu_s(pid) - before
    result.objects, result.bytes, result.seconds = report["objects"], report["bytes"], report["seconds"]
    result.response_us, result.sender_cpu_s = report["response_us"]["p50"], report["cpu_s"]
    result.first_ms = report["first_ms"]
    result.others_cpu_s = max(0.0, busy - used_at_end - report["cpu_s"])
    result.peak_rss_bytes = memory.peak_bytes


def cell(programs: list[peers.Program], load: Load, rounds: int) -> list[Run]:
    """All receivers, round by round, in rotating order; a missing one is noted once."""
    fit = [p for p in programs if p.least_associations <= load.associations <= p.most_associations]
    return [
        run(program, load, number)
        for number in range(rounds)
        for program in rotated(fit, number)
        if number == 0 or program.is_installed
    ]
