"""What a whole C-MOVE takes from a PACS that is a round trip away.

Our association to the PACS and its storage associations to us go through the relay of `benchmarks.link`, which is a
process of its own; without distance there is no relay. movescu is extrapolated from a part, as in `retrieve`.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from benchmarks import machine, peers, retrieve, yardstick
from benchmarks.results import Column, Goal, Run, rotated
from benchmarks.retrieve import STOCK, Source, Studies

OURS, ONE_MOVE, SIXTEEN_MOVES = "fastmove", "fastmove --parallel 1", "fastmove --parallel 16"
COLUMNS = (
    Column("times faster than movescu", "seconds", 1, STOCK, inverse=True),
    Column("than one move", "seconds", 2, ONE_MOVE, inverse=True),
    Column("seconds", "seconds", 2),
    Column("ms/object", "ms_per_object", 2),
    Column("MB/s", "mb_per_s", 0),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("relay CPU s/GB", "link_cpu_s_per_gb", 2, spread=False),
    Column("peak RSS MiB", "peak_rss_mib", 0, spread=False),
    Column("objects", "objects", 0, spread=False),
)
ROOT = Path(__file__).parents[1]


def setting(workload: str, pacs: str, rtt_ms: float) -> str:
    return f"{workload} from {pacs}, RTT {rtt_ms:g} ms"


GOALS = (
    *(
        Goal(f"{row}, times faster", setting(workload, pacs, rtt_ms), row, "seconds", ">=", bound, STOCK, True)
        for workload in ("C", "C5")
        for row, pacs, rtt_ms, bound in (
            (OURS, "Orthanc", 20, 6.0),
            (OURS, "Orthanc", 100, 3.5),
            (OURS, "fastmove pacs", 100, 12.0),
            (SIXTEEN_MOVES, "fastmove pacs", 100, 12.0),
        )
    ),
    *(
        Goal("time of auto", setting(workload, pacs, 0), OURS, "seconds", "<=", 1.05, ONE_MOVE)
        for workload in ("C", "C5")
        for pacs in ("Orthanc", "dcmqrscp", "fastmove pacs")
    ),
)


@contextmanager
def distant(source: Source, program: peers.Program, rtt_ms: float, folder: Path) -> Iterator[tuple[Source, int]]:
    """The PACS as this program sees it from so far away, and the process that makes it so."""
    port, destination_port = machine.free_port(), machine.free_port()
    near, far = ":near" * program.nagle, ":far" * source.pacs.program.nagle
    there = f"{{port}}:{source.port}{near}{far}"
    near, far = ":near" * source.pacs.program.nagle, ":far" * program.nagle
    back = f"{source.destination_port}:{destination_port}{near}{far}"
    argv = (sys.executable, "-m", "benchmarks.link", "--rtt", f"{rtt_ms}", back, there)
    link = peers.Program("link", argv, {"PYTHONPATH": str(ROOT)})
    with peers.Server(link, port, folder / "link.log") as server:
        yield replace(source, port=port, destination_port=destination_port), server.pid


def run(
    program: peers.Program,
    source: Source,
    rtt_ms: float,
    studies: Studies,
    patience_s: float,
    result: Run,
    folder: Path,
) -> Run:
    """One retriever, once, from so far away."""
    if not rtt_ms or not program.is_installed:
        return retrieve.run(program, source, studies, patience_s, result, folder)
    with distant(source, program, rtt_ms, folder) as (seen, link):
        before = machine.cpu_s(link)
        result = retrieve.run(program, seen, studies, patience_s, result, folder)
        if not result.estimated:
            result.link_cpu_s = machine.cpu_s(link) - before
    return result


def cell(
    programs: list[peers.Program],
    pacs: peers.Pacs,
    name: str,
    rtts_ms: list[float],
    studies: Studies,
    patience_s: float,
    rounds: int,
    folder: Path,
) -> list[Run]:
    """All retrievers from one PACS at each distance, round by round, in rotating order."""
    where = setting(name, pacs.program.name, rtts_ms[0])
    if not pacs.program.is_installed:
        return [Run(pacs.program.name, where, 0, error=peers.NOT_INSTALLED)]
    own = Path(tempfile.mkdtemp(dir=folder))
    runs: list[Run] = []
    try:
        with retrieve.loaded(pacs, studies, own) as source:
            machine.touch(own, studies.whole.bytes)
            for rtt_ms in rtts_ms:
                where = setting(name, pacs.program.name, rtt_ms)
                for number in range(rounds):
                    for program in rotated(programs, number):
                        if number == 0 or program.is_installed:
                            result = Run(program.name, where, number)
                            runs.append(run(program, source, rtt_ms, studies, patience_s, result, own))
    except (peers.ProgramFailed, yardstick.SendFailed) as failure:
        runs.append(Run(pacs.program.name, where, 0, error=f"FAILED: {failure}"))
    finally:
        shutil.rmtree(own)
    return runs
