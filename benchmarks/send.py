"""What sending costs: each sender in turn sends a folder of files to the yardstick, which counts and drops the data.

A program's start is not its sending: it first sends one small object, which is stored and compared, and what that took
is subtracted from what the folder took. The yardstick's own sender reads no files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, peers, yardstick
from benchmarks.load import Load, calibrate
from benchmarks.objects import Mismatch, Template, template, verify
from benchmarks.results import Column, Goal, Run, rotated

SMALL_BYTES = 8 << 10

COLUMNS = (
    Column("CPU x yardstick", "cpu_s_per_gb", 2, "yardstick"),
    Column("CPU s/GB", "cpu_s_per_gb", 2),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("objects/s", "objects_per_s", 0),
    Column("MB/s", "mb_per_s", 0),
    Column("start, CPU s", "start_cpu_s", 2, spread=False),
    Column("peak RSS MiB", "peak_rss_mib", 0, spread=False),
    Column("objects", "objects", 0, spread=False),
)
GOALS: tuple[Goal, ...] = ()
"""No number to reach is set for the sender."""

OUT_OF_MEMORY = peers.Program("yardstick", ("yardstick",))


def transfer(program: peers.Program, load: Load, subject: Template, objects: int, *, stores: bool = False) -> Run:
    """One freshly started receiver, one command, one folder; Mismatch unless all of it arrived."""
    folder = Path(tempfile.mkdtemp(dir=load.folder))
    files, stored = folder / "files", folder / "stored"
    files.mkdir()
    stored.mkdir()
    result = Run(program.name, load.setting, 0, objects, objects * subject.size)
    try:
        receiver = peers.yardstick_receiver(*([] if stores else ["--null"]))
        with peers.Server(receiver, machine.free_port(), folder / "receiver.log", dir=stored) as server:
            if program is OUT_OF_MEMORY:
                report = yardstick.send(server.port, subject, objects=objects, associations=load.associations)
                result.seconds, result.cpu_s = report["seconds"], report["cpu_s"]
            else:
                subject.write_files(files, range(objects))
                busy = machine.machine_busy_s()
                before = machine.cpu_s(server.pid)
                values = {"port": server.port, "dir": files, "parallel": load.associations}
                done = peers.complete(program, folder / "sender.log", **values)
                busy = machine.machine_busy_s() - busy - (machine.cpu_s(server.pid) - before)
                result.seconds, result.cpu_s, result.peak_rss_bytes = done.seconds, done.cpu_s, done.peak_rss_bytes
                result.others_cpu_s = max(0.0, busy - done.cpu_s)
        if stores:
            verify(stored, [(subject, range(objects))], objects)
        else:
            got = json.loads(server.log.read_text())
            if (got["objects"], got["bytes"]) != (objects, result.bytes):
                raise Mismatch(f"{got['objects']} of {objects} objects, {got['bytes']} of {result.bytes} bytes arrived")
    finally:
        shutil.rmtree(folder)
    return result


def run(program: peers.Program, load: Load, number: int) -> Run:
    """One sender: its start, the calibration, the timed folder; `error` if any failed."""
    if not program.is_installed:
        return Run(program.name, load.setting, number, error=peers.NOT_INSTALLED)
    try:
        small = template(load.workload.kind, min(load.workload.size, SMALL_BYTES))
        start = transfer(program, replace(load, associations=1), small, 1, stores=True)
        if program is OUT_OF_MEMORY:
            start.seconds = start.cpu_s = 0.0
        objects, subject = calibrate(load, lambda t, n: transfer(program, load, t, n).seconds - start.seconds)
        result = transfer(program, load, subject, objects)
    except (peers.ProgramFailed, yardstick.SendFailed, Mismatch) as failure:
        return Run(program.name, load.setting, number, error=f"FAILED: {failure}")
    result.round, result.start_cpu_s = number, start.cpu_s
    result.seconds, result.cpu_s = max(1e-6, result.seconds - start.seconds), max(1e-6, result.cpu_s - start.cpu_s)
    return result


def programs() -> list[peers.Program]:
    return [OUT_OF_MEMORY, *peers.senders()]


def cell(chosen: list[peers.Program], load: Load, rounds: int) -> list[Run]:
    """All senders, round by round, in rotating order; a missing one is noted once."""
    fit = [p for p in chosen if load.associations <= p.most_associations]
    return [
        run(program, load, number)
        for number in range(rounds)
        for program in rotated(fit, number)
        if number == 0 or program.is_installed
    ]
