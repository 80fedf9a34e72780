"""Runs the targets, two at a time: `python -m tests.fuzz --seconds 60 --least 1000000`.

The compiled modules are those of build/fuzz. Each target runs for so many seconds, and on until it has so many
executions, at most for `--at-most` seconds. It starts from the seeds and from what earlier runs have left in
build/fuzz-corpus. Exit code 1 if anything was found, or if a target had fewer executions: then it has not been fuzzed.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Final, NamedTuple

from tests.fuzz import seeds

CORPUS: Final = Path("build/fuzz-corpus")
ARTIFACTS: Final = Path("build/fuzz-findings")
MODULES: Final = Path("build/fuzz")
WORKERS: Final = 2

ASAN: Final = "detect_leaks=0:max_allocation_size_mb=40"
FAST: Final = (
    ":malloc_context_size=0:max_malloc_fill_size=0:quarantine_size_mb=1"
    ":detect_stack_use_after_return=0:intercept_tls_get_addr=0"
)
"""Where memory came from is only of interest once something is found; what was freed is not given out again during the
few inputs that fit into 1 MiB, which stay in the cache of the processor."""

SPOOL: Final = "/dev/shm"
"""For what the product keeps in files without a name while it inflates."""
OPTIONS: Final = (
    *("-rss_limit_mb=1024", "-timeout=5", "-detect_leaks=0", "-print_final_stats=1"),
    f"-dict={CORPUS / 'dicom.dict'}",
)
LONGEST: Final = {"fuzz_pdu": 1024, "fuzz_dimse": 1024, "fuzz_peek": 1024, "fuzz_path": 1024}

_EDGES: Final = re.compile(r"^#\d+\s+(?:INITED|DONE)\s+cov: (\d+)", re.MULTILINE)
_EXECUTED: Final = re.compile(r"^stat::number_of_executed_units:\s*(\d+)", re.MULTILINE)
_FOUND: Final = re.compile(r"Test unit written to (\S+)")


class Result(NamedTuple):
    """What became of one target."""

    target: str
    executions: int
    seconds: float
    edges: tuple[int, int]
    finding: str
    output: str


def environment(target: str, options: str, scratch: str) -> dict[str, str]:
    """That in which a target runs: AddressSanitizer and libFuzzer come with atheris, in one library.

    What it leaves in the folder `scratch` is the caller's to take away: libFuzzer ends the process without its leave.
    A target without compiled modules has nothing for AddressSanitizer to see.
    """
    if target in seeds.PURE:
        return os.environ | {"TMPDIR": scratch, "PYTHONPATH": os.pathsep.join((".", os.environ.get("PYTHONPATH", "")))}
    spec = find_spec("atheris")
    if spec is None or spec.origin is None:
        raise SystemExit("atheris is missing: `make fuzz` installs it")
    library = Path(spec.origin).parent.parent / "asan_with_fuzzer.so"
    return os.environ | {
        "LD_PRELOAD": str(library),
        "ASAN_OPTIONS": options,
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONMALLOC": "malloc",
        "TMPDIR": scratch,
        "PYTHONPATH": os.pathsep.join((str(MODULES), ".", os.environ.get("PYTHONPATH", ""))),
    }


def command(target: str, *options: str) -> list[str]:
    """The command of a target."""
    return [sys.executable, "-m", f"tests.fuzz.{target}", *options]


def fuzz(target: str, asked: Namespace) -> Result:
    """One target, until it has had its time and its executions."""
    corpus = CORPUS / "grown" / target
    corpus.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    executions, edges, finding, output, limit = 0, (0, 0), "", "", f"-max_total_time={asked.seconds}"
    while not finding:
        run = subprocess.run(
            command(target, *OPTIONS, f"-max_len={LONGEST[target]}", limit, f"-artifact_prefix={ARTIFACTS / target}-")
            + [str(corpus), str(CORPUS / target)],
            env=environment(target, ASAN + FAST, asked.scratch),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
        output = run.stdout
        executions += sum(map(int, _EXECUTED.findall(output)))
        counted = [int(count) for count in _EDGES.findall(output)]
        edges = (edges[0] or counted[0], counted[-1]) if counted else edges
        written = _FOUND.search(output)
        if written or run.returncode:
            finding = written[1] if written else f"exit code {run.returncode}"
        left = asked.at_most - (time.monotonic() - started)
        if executions >= asked.least or left <= 1:
            break
        limit = f"-max_total_time={min(int(left), asked.seconds)}"
    return Result(target, executions, time.monotonic() - started, edges, finding, output)


def explained(result: Result, scratch: str) -> str:
    """The finding once more, with all that the sanitizers know."""
    if not Path(result.finding).is_file():
        return result.output[-4000:]
    again = subprocess.run(
        command(result.target, result.finding),
        env=environment(result.target, ASAN, scratch),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return again.stdout[-6000:] + f"\nKeep it as a test: cp {result.finding} {seeds.FINDINGS / result.target}/\n"


def main() -> int:
    """Fuzz, and tell."""
    parser = ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(seeds.TARGETS))
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--least", type=int, default=1_000_000)
    parser.add_argument("--at-most", type=int, default=300)
    asked = parser.parse_args()
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    seeds.write(CORPUS)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=SPOOL if os.access(SPOOL, os.W_OK) else None) as asked.scratch:
        return _main(asked)


def _main(asked: Namespace) -> int:
    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(lambda target: fuzz(target, asked), asked.targets or seeds.TARGETS))
    failed = False
    for result in results:
        (before, after), rate = result.edges, result.executions / result.seconds
        print(
            f"{result.target:10}  {result.executions:>11,} executions in {result.seconds:5.0f} s ({rate:6,.0f}/s), "
            f"{before} -> {after} edges, {'FOUND: ' + result.finding if result.finding else '0 findings'}",
            flush=True,
        )
        if result.finding:
            print(explained(result, asked.scratch))
        elif result.executions < asked.least:
            print(f"{result.target}: fewer than {asked.least:,} executions")
        failed = failed or bool(result.finding) or result.executions < asked.least
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
