"""`python -m benchmarks` lists the benchmarks, `python -m benchmarks NAME` runs one."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click

from benchmarks import (
    fleet,
    ingest,
    ledger,
    machine,
    migrate,
    movescu,
    peers,
    receive,
    results,
    retrieve,
    send,
    studies,
    transcode,
    wan,
    yardstick,
)
from benchmarks.certificates import certificate
from benchmarks.load import Load
from benchmarks.objects import DISTANT, MOVE, NORMAL, STORE, Workload

STORE_SECONDS, MOVE_SECONDS = 5.0, 60.0
"""About how long a run takes at most, if nothing is asked for."""

STALL_S = 0.045
"""What movescu loses per object: one delayed acknowledgement, 40 ms, and its work."""

STALL_ROUND_TRIPS = 3
"""And so many round trips from afar: for the object, its answer, and the second piece of each."""

MOVED_PER_S = 500
"""What a retriever without stalls does about, to fit a study into --seconds."""

MOST_PART_OBJECTS = 100


def several(kind: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str], list[Any]]:
    """A callback for options with comma-separated values."""

    def split(context: click.Context, option: click.Parameter, text: str) -> list[Any]:
        try:
            return [kind(word) for word in text.split(",") if word]
        except (KeyError, ValueError) as error:
            raise click.BadParameter(f"{text!r}: {error} is not possible") from None

    return split


def common(workloads: dict[str, Workload], default: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that all benchmarks have."""
    names = "; ".join(f"{name}: {w.what}" for name, w in workloads.items())
    options = (
        click.option("--seconds", type=click.FloatRange(min=0.1), help="About how long each run takes at most."),
        click.option(
            "--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each program."
        ),
        click.option(
            "--workload", default=default, show_default=True, callback=several(workloads.__getitem__), help=names
        ),
        click.option("--only", default="", callback=several(str.strip), help="Programs to run, by name."),
        click.option(
            "--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there."
        ),
        click.option(
            "--target",
            type=click.Path(exists=True, file_okay=False, path_type=Path),
            help="Where the files go. [default: /dev/shm if it has room, else the temporary directory]",
        ),
    )

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


def chosen(programs: Sequence[peers.Program], only: Sequence[str]) -> list[peers.Program]:
    """The rows named, in their order."""
    unknown = set(only) - {p.name for p in programs}
    if unknown:
        raise click.BadParameter(f"no program {sorted(unknown)}; there are: {', '.join(p.name for p in programs)}")
    return [p for p in programs if not only or p.name in only]


def finish(
    name: str,
    environment: dict[str, object],
    runs: list[results.Run],
    titles: dict[str, str],
    columns: Sequence[results.Column],
    goals: Sequence[results.Goal],
    path: Path | None,
) -> None:
    """Print and write everything; exit code 1 if a program failed."""
    settings = dict.fromkeys(r.setting for r in runs)
    tables = [(f"{name}: {s} ({titles[s]})", s, columns) for s in settings]
    results.publish(name, environment, runs, tables, goals, path)
    failed = [r for r in runs if r.error and r.error != peers.NOT_INSTALLED]
    sys.exit(1 if failed else 0)


@click.group(invoke_without_command=True)
@click.pass_context
def main(context: click.Context) -> None:
    """Benchmarks of fastmove beside the programs it replaces."""
    if context.invoked_subcommand is None:
        for name, command in main.commands.items():
            click.echo(f"{name:10}{command.get_short_help_str(100)}")


def store_benchmark(
    module: Any,
    name: str,
    programs: list[peers.Program],
    workload: list[Workload],
    associations: list[int],
    seconds: float | None,
    rounds: int,
    one_core: bool,
    path: Path | None,
    target: Path | None,
) -> None:
    """`receive`, `send` and `movescu` differ in the programs and in what a run is."""
    if one_core:
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    runs: list[results.Run] = []
    titles: dict[str, str] = {}
    environment: dict[str, object] = {}
    for w in workload:
        for n in associations:
            needed = Load(w, n, 0, one_core, Path()).needed_bytes
            with machine.fresh_folder(target, needed) as folder:
                environment = environment or machine.environment(folder, peers.versions())
                load = Load(w, n, seconds or STORE_SECONDS, one_core, folder)
                titles[load.setting] = f"{w.what}, at most, on {machine.filesystem(folder)}; median (min-max)"
                runs += module.cell(programs, load, rounds)
    finish(name, environment, runs, titles, module.COLUMNS, module.GOALS, path)


def store_options(command: Callable[..., None]) -> Callable[..., None]:
    for option in (
        click.option("--one-core", is_flag=True, help="Sender and receiver on the same CPU."),
        click.option("--associations", default="1", show_default=True, callback=several(int), help="In parallel."),
        common(STORE, "T,S,L"),
    ):
        command = option(command)
    return command


@main.command("receive")
@store_options
@click.option("--processes", default="1", show_default=True, callback=several(int), help="Of fastmove listen.")
@click.option("--tls", is_flag=True, help="Receive by TLS as well, in rows of their own.")
def receive_command(processes: list[int], tls: bool, only: list[str], **options: Any) -> None:
    """C-STORE SCPs: CPU per GB and per object, rates, memory."""
    with certificate() if tls else nullcontext() as shown:
        store_benchmark(receive, "receive", chosen(peers.receivers(processes, shown), only), **options)


@main.command("send")
@store_options
def send_command(only: list[str], **options: Any) -> None:
    """C-STORE SCUs: CPU per GB and per object, rates, memory."""
    store_benchmark(send, "send", chosen(send.programs(), only), **options)


def moved(workload: Workload, objects: int | None, patience_s: float, stall_s: float, whole: bool) -> retrieve.Studies:
    """What a PACS is to hold: a study for the patience, and the part that movescu gets of it, with its stalls."""
    count = min(workload.objects, objects or workload.objects, max(2, int(patience_s * MOVED_PER_S)))
    part = min(MOST_PART_OBJECTS, max(2, int(patience_s / stall_s)))
    return retrieve.Studies.of(workload, count, count if whole else part)


@main.command("retrieve")
@common(MOVE, "A,C,D")
@click.option("--objects", type=click.IntRange(min=1), help="At most so many objects a study.")
@click.option("--whole", is_flag=True, help="Never extrapolate: movescu takes minutes.")
def retrieve_command(
    seconds: float | None,
    rounds: int,
    workload: list[Workload],
    only: list[str],
    path: Path | None,
    target: Path | None,
    objects: int | None,
    whole: bool,
) -> None:
    """Whole C-MOVEs from Orthanc, dcmqrscp and fastmove pacs: wall time."""
    programs = chosen(peers.retrievers(), only)
    runs: list[results.Run] = []
    titles: dict[str, str] = {}
    environment: dict[str, object] = {}
    patience_s = seconds or MOVE_SECONDS
    for w in workload:
        studies = moved(w, objects, patience_s, STALL_S, whole)
        with machine.fresh_folder(target, 3 * studies.whole.bytes) as folder:
            environment = environment or machine.environment(folder, peers.versions())
            for pacs in peers.archives():
                where = retrieve.setting(w.name, pacs.program.name)
                titles[where] = (
                    f"{studies.whole.objects} of {w.what}, on {machine.filesystem(folder)}; median (min-max)"
                )
                runs += retrieve.cell(programs, pacs, w.name, studies, patience_s, rounds, folder)
    finish("retrieve", environment, runs, titles, retrieve.COLUMNS, retrieve.GOALS, path)


@main.command("wan")
@common(DISTANT, "C,C5")
@click.option("--objects", type=click.IntRange(min=1), help="At most so many objects a study.")
@click.option("--whole", is_flag=True, help="Never extrapolate: movescu takes minutes.")
@click.option("--rtt", default="0,20,100", show_default=True, callback=several(float), help="Milliseconds.")
@click.option("--pacs", default="", callback=several(str.strip), help="PACS to retrieve from, by name.")
def wan_command(
    seconds: float | None,
    rounds: int,
    workload: list[Workload],
    only: list[str],
    path: Path | None,
    target: Path | None,
    objects: int | None,
    whole: bool,
    rtt: list[float],
    pacs: list[str],
) -> None:
    """Whole C-MOVEs from a PACS that is a round trip away: wall time."""
    programs = chosen(peers.distant_retrievers(), only)
    archives = {archive.program.name: archive for archive in peers.archives()}
    if set(pacs) - archives.keys():
        raise click.BadParameter(f"there are these PACS: {', '.join(archives)}")
    runs: list[results.Run] = []
    titles: dict[str, str] = {}
    environment: dict[str, object] = {}
    patience_s = seconds or MOVE_SECONDS
    for w in workload:
        studies = moved(w, objects, patience_s, STALL_S + STALL_ROUND_TRIPS * max(rtt) / 1e3, whole)
        with machine.fresh_folder(target, 3 * studies.whole.bytes) as folder:
            environment = environment or machine.environment(folder, peers.versions())
            title = f"{studies.whole.objects} of {w.what}, on {machine.filesystem(folder)}; median (min-max)"
            for name in pacs or archives:
                titles |= {wan.setting(w.name, name, rtt_ms): title for rtt_ms in rtt}
                runs += wan.cell(programs, archives[name], w.name, rtt, studies, patience_s, rounds, folder)
    finish("wan", environment, runs, titles, wan.COLUMNS, wan.GOALS, path)


@main.command("studies")
@click.option("--studies", "count", type=click.IntRange(min=1), default=studies.STUDIES, show_default=True)
@click.option("--instances", type=click.IntRange(min=1), default=studies.INSTANCES, show_default=True, help="Of each.")
@click.option("--size", type=click.IntRange(min=2000), default=studies.SIZE, show_default=True, help="Bytes of each.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row.")
@click.option("--only", default="", callback=several(str.strip), help="Rows to run, by name.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there.")
@click.option("--target", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the files go.")
def studies_command(
    count: int, instances: int, size: int, rounds: int, only: list[str], path: Path | None, target: Path | None
) -> None:
    """Many small studies from fastmove pacs in one command: studies a second, CPU, memory."""
    programs = chosen(peers.list_retrievers(), only)
    with machine.fresh_folder(target, 3 * count * instances * size) as folder:
        environment = machine.environment(folder, peers.versions())
        where = studies.setting(count, instances)
        titles = {where: f"{size:,} bytes each, on {machine.filesystem(folder)}; median (min-max)"}
        runs = studies.cell(programs, count, instances, size, rounds, folder)
    finish("studies", environment, runs, titles, studies.COLUMNS, studies.GOALS, path)


@main.command("migrate")
@click.option("--studies", "count", type=click.IntRange(min=1), default=migrate.STUDIES, show_default=True)
@click.option("--instances", type=click.IntRange(min=1), default=migrate.INSTANCES, show_default=True, help="Of each.")
@click.option("--size", type=click.IntRange(min=2000), default=migrate.SIZE, show_default=True, help="Bytes of each.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there.")
@click.option("--target", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the files go.")
def migrate_command(count: int, instances: int, size: int, rounds: int, path: Path | None, target: Path | None) -> None:
    """A migration beside a plain retrieve of the same: CPU of the ledger and of all that it records."""
    with machine.fresh_folder(target, 3 * count * instances * size) as folder:
        environment = machine.environment(folder, peers.versions())
        where = migrate.setting(count, instances, size)
        titles = {where: f"on {machine.filesystem(folder)}; median (min-max)"}
        runs = migrate.cell(count, instances, size, rounds, folder)
    finish("migrate", environment, runs, titles, migrate.COLUMNS, migrate.GOALS, path)


@main.command("fleet")
@click.option("--studies", "count", type=click.IntRange(min=1), default=fleet.STUDIES, show_default=True)
@click.option("--instances", type=click.IntRange(min=1), default=fleet.INSTANCES, show_default=True, help="Of each.")
@click.option("--size", type=click.IntRange(min=2000), default=fleet.SIZE, show_default=True, help="Bytes of each.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there.")
@click.option("--target", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the files go.")
def fleet_command(count: int, instances: int, size: int, rounds: int, path: Path | None, target: Path | None) -> None:
    """Three hosts with one PostgreSQL beside one, from a PACS that limits each association: wall time."""
    fleet.available()
    with machine.fresh_folder(target, 2 * count * instances * size) as folder:
        environment = machine.environment(folder, peers.versions())
        titles = {
            fleet.setting(count, instances): f"{size:,} bytes each, on {machine.filesystem(folder)}; median (min-max)"
        }
        runs = fleet.cell(count, instances, size, rounds, folder)
    finish("fleet", environment, runs, titles, fleet.COLUMNS, fleet.GOALS, path)


@main.command("ingest")
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Runs of each row.")
@click.option("--workload", default="T,S", show_default=True, callback=several(ingest.KINDS.__getitem__))
@click.option("--objects", type=click.IntRange(min=2), help="Of each run, instead of 10,000 small or 3,000 large.")
@click.option("--only", default="", callback=several(str.strip), help="Rows to run, by name.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there.")
@click.option("--target", type=click.Path(exists=True, file_okay=False, path_type=Path), help="Where the files go.")
def ingest_command(
    rounds: int,
    workload: list[ingest.Kind],
    objects: int | None,
    only: list[str],
    path: Path | None,
    target: Path | None,
) -> None:
    """`fastmove bench store` beside storescu, into the same storescp: rates, CPU."""
    programs = chosen(ingest.programs(), only)
    runs: list[results.Run] = []
    needed = max(2 * (objects or kind.objects) * kind.bytes for kind in workload)
    with machine.fresh_folder(target, needed) as folder:
        environment = machine.environment(folder, peers.versions())
        titles = {}
        for kind in workload:
            count = objects or kind.objects
            titles[kind.name] = f"{count:,} x {kind.bytes:,} bytes, on {machine.filesystem(folder)}; median (min-max)"
            runs += ingest.cell(programs, kind, count, rounds, folder)
    finish("ingest", environment, runs, titles, ingest.COLUMNS, ingest.GOALS, path)


@main.command("movescu")
@common(NORMAL, "T,S,SU,L,LU")
def movescu_command(only: list[str], **options: Any) -> None:
    """movescu's normal mode beside its bit-preserving mode: CPU, memory."""
    store_benchmark(movescu, "movescu", chosen(peers.movescus(), only), associations=[1], one_core=False, **options)


@main.command("transcode")
@click.option("--seconds", type=click.FloatRange(min=0.01), default=1.0, show_default=True, help="Each run.")
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each row.")
@click.option("--workload", default="CT,SR,MF", show_default=True, callback=several(str), help="CT, SR, MF.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there.")
def transcode_command(seconds: float, rounds: int, workload: list[str], path: Path | None) -> None:
    """Data sets examined and written anew: CPU per object, rates."""
    unknown = set(workload) - transcode.WORKLOADS.keys()
    if unknown:
        raise click.BadParameter(f"no workload {sorted(unknown)}")
    runs: list[results.Run] = []
    with machine.fresh_folder(None, transcode.NEEDED_BYTES) as folder:
        environment = machine.environment(folder, peers.versions())
        for name in workload:
            runs += transcode.cell(list(transcode.WAYS), name, seconds, rounds, folder)
        titles = {name: f"{transcode.WORKLOADS[name].what}, on {machine.filesystem(folder)}" for name in workload}
    finish("transcode", environment, runs, titles, transcode.COLUMNS, transcode.GOALS, path)


@main.command("ledger")
@click.option("--studies", "count", type=click.IntRange(min=1), default=ledger.STUDIES, show_default=True)
@click.option(
    "--instances-per-study", "instances", type=click.IntRange(min=1), default=ledger.INSTANCES, show_default=True
)
@click.option("--database", help="postgresql://..., instead of a SQLite file; what is made there stays.")
@click.option("--json", "path", type=click.Path(dir_okay=False, path_type=Path), help="Write all results there.")
@click.option(
    "--target",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Where the SQLite file goes. [default: the temporary directory, on a disk if that is on one]",
)
def ledger_command(count: int, instances: int, database: str | None, path: Path | None, target: Path | None) -> None:
    """The ledger of migrations: studies added and claimed, instances recorded, summaries."""
    with machine.fresh_folder(target or Path(tempfile.gettempdir()), 0) as folder:
        environment = machine.environment(folder, peers.versions())
        where = database or folder / "ledger.db"
        place = "PostgreSQL" if database else f"a file on {machine.filesystem(folder)}"
        runs = asyncio.run(ledger.cell(where, count, instances))
        titles = {runs[0].setting: f"{count:,} studies of {instances} instances, in {place}; median (min-max)"}
    finish("ledger", environment, runs, titles, ledger.COLUMNS, ledger.GOALS, path)


if __name__ == "__main__":
    try:
        main(prog_name="python -m benchmarks")
    except yardstick.Unavailable as missing:
        sys.exit(str(missing))
