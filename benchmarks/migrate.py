"""What a migration takes beside a plain retrieve of the same studies: ledger, digests, manifests, and the pulse.

All are run twice: the second time there is nothing to be moved, and that is what the start costs, which is taken off.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from benchmarks import peers
from benchmarks.objects import Mismatch, compare
from benchmarks.results import Column, Goal, Run, rotated
from benchmarks.studies import Archive, archive

STUDIES, INSTANCES, SIZE = 30, 200, 526_000
"""So many that what comes with the first study alone, as modules that are loaded then, does not count."""

REFERENCE, MIGRATE, NOT_GENTLE = "retrieve", "migrate run", "migrate run --no-gentle"
"""Of the three the last one has ledger, digests and manifests, and no pulse, which begins with one move at a time."""

COLUMNS = (
    Column("CPU x retrieve", "cpu_us_per_object", 2, REFERENCE),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("start, CPU s", "start_cpu_s", 2),
    Column("MB/s", "mb_per_s", 0),
    Column("seconds", "seconds", 1),
    Column("peak RSS MiB", "peak_rss_mib", 0),
    Column("objects", "objects", 0, spread=False),
)


def setting(studies: int, instances: int, size: int) -> str:
    return f"{studies:,} studies of {instances} x {size:,} bytes"


GOALS = (
    Goal(
        "CPU of ledger, digests and manifests",
        setting(STUDIES, INSTANCES, SIZE),
        NOT_GENTLE,
        "cpu_us_per_object",
        "<=",
        1.15,
        REFERENCE,
    ),
)


def programs() -> list[peers.Program]:
    """All, to a folder, without a sync for each object."""
    pacs = f"{peers.SYNTHETIC_AET}@127.0.0.1:{{port}}"
    here = ("--aet", peers.DESTINATION_AET, "--port", "{destination_port}", "--to", "{dir}", "--no-durable")
    return [
        peers.Program(REFERENCE, (peers.fastmove(), "retrieve", pacs, *here, "--layout", "series", "--from", "{list}")),
        peers.Program(MIGRATE, (peers.fastmove(), "migrate", "run", "{ledger}", pacs, *here)),
        peers.Program(NOT_GENTLE, (peers.fastmove(), "migrate", "run", "{ledger}", pacs, *here, "--no-gentle")),
    ]


def run(program: peers.Program, source: Archive, result: Run, folder: Path) -> Run:
    """All studies by one command, and that once more; every byte compared."""
    target, log, ledger = folder / "target", folder / "log", folder / "a.ledger"
    target.mkdir()
    values = {
        "dir": target,
        "list": source.uids,
        "ledger": ledger,
        "port": source.server.port,
        "destination_port": source.destination_port,
    }
    pacs = f"{peers.SYNTHETIC_AET}@127.0.0.1:{{port}}"
    plan = (peers.fastmove(), "migrate", "plan", "{ledger}", pacs, "--aet", peers.DESTINATION_AET, "--date", "1990..")
    if program.name != REFERENCE:
        peers.complete(peers.Program("plan", plan), log, **values)
    done = peers.complete(program, log, **values)
    compare(target, source.stored)
    again = peers.complete(program, log, **values)
    result.start_cpu_s = again.cpu_s
    result.seconds, result.cpu_s = done.seconds - again.seconds, done.cpu_s - again.cpu_s
    result.peak_rss_bytes = done.peak_rss_bytes
    return result


def cell(studies: int, instances: int, size: int, rounds: int, folder: Path) -> list[Run]:
    """All, round by round, in rotating order."""
    runs: list[Run] = []
    for number in range(rounds):
        for program in rotated(programs(), number):
            objects = studies * instances
            result = Run(program.name, setting(studies, instances, size), number, objects, objects * size)
            own = Path(tempfile.mkdtemp(dir=folder))
            try:
                with archive(studies, instances, size, own) as source:
                    run(program, source, result, own)
            except (peers.ProgramFailed, Mismatch) as failure:
                result.error = f"FAILED: {failure}"
            finally:
                shutil.rmtree(own)
            runs.append(result)
    return runs
