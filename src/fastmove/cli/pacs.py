"""`fastmove pacs`: the embedded test PACS."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click

from fastmove.bench.corpus import MAX_STUDIES, Corpus, written
from fastmove.bench.profiles import PROFILES
from fastmove.bench.spec import Spec
from fastmove.cli.log import WARNINGS
from fastmove.cli.options import (
    PORT,
    AETitle,
    Peer,
    as_defaults,
    json_option,
    no_durable_option,
    options_by_key,
    reports_errors,
)
from fastmove.cli.output import json_lines
from fastmove.cli.tls import TlsOptions, serves_options
from fastmove.errors import ConfigurationError
from fastmove.limits import Limits
from fastmove.net.loop import run
from fastmove.notices import Observer, PacsStarted
from fastmove.observe.lines import Stream
from fastmove.observe.log import Log
from fastmove.pacs.attributes import LEVELS
from fastmove.pacs.faults import FAULTS, Faults
from fastmove.pacs.index import Index
from fastmove.pacs.misconduct import FaultyConduct
from fastmove.pacs.scenario import Change, parse
from fastmove.pacs.server import serve_pacs
from fastmove.pacs.synthetic import SyntheticArchive
from fastmove.services.archive import StoringArchive
from fastmove.services.query_retrieve_scp import QueryRetrieveOptions
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress


@contextlib.contextmanager
def _folder(folder: Path | None, keep: Path | None) -> Iterator[Path]:
    """Where the objects are: the user's folder, or a temporary one."""
    chosen = folder or keep
    if chosen is not None:
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="fastmove-pacs-") as temporary:
        yield Path(temporary)


class _PacsCommand(click.Command):
    """Its help ends with the faults."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """One row for each."""
        with formatter.section("Faults"):
            formatter.write_dl([(name + fault.spelling, fault.help) for name, fault in FAULTS.items()])


_CHANGES: Final = "fastmove.pacs.changes"


def _scenario(ctx: click.Context, param: click.Parameter, path: Path | None) -> None:
    """What a scenario says are the defaults of the options."""
    if path is None:
        return
    try:
        scenario = parse(path.read_text())
        known = options_by_key(ctx.command)
        if unknown := sorted(scenario.options.keys() - known.keys()):
            raise ConfigurationError("scenario", f"{unknown[0]!r} is no option of fastmove pacs")
    except (ConfigurationError, OSError, UnicodeDecodeError) as error:
        raise click.BadParameter(str(error), ctx, param) from None
    ctx.meta[_CHANGES] = scenario.changes
    ctx.default_map = {**(ctx.default_map or {}), **as_defaults(ctx.command, dict(scenario.options))}


@click.command("pacs", cls=_PacsCommand)
@click.option("--port", type=PORT, required=True, metavar="P", help="TCP port; 0 takes a free one and says which.")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Serve the DICOM files below this folder; what is sent to the PACS is stored there too.",
)
@click.option(
    "--profile",
    type=click.Choice(list(PROFILES)),
    help="Serve synthetic studies of this kind, or a hospital's mixture; they are made when they are asked for.",
)
@click.option(
    "--studies",
    type=click.IntRange(1, MAX_STUDIES),
    default=100,
    show_default=True,
    metavar="N",
    help="How many studies of the profile.",
)
@click.option(
    "--synthetic",
    metavar="SPEC",
    help="Serve synthetic studies that are all alike: studies=1,series=2,instances=50,size=526k,modality=CT,"
    "transfer-syntax=ExplicitVRLittleEndian,seed=1 in any part; series are per study, instances per series, "
    "modality is CT, MR or SR.",
)
@click.option(
    "--keep",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Write synthetic studies into this folder, and serve them from there.",
)
@click.option(
    "--move-destination",
    "destinations",
    type=Peer(),
    multiple=True,
    metavar="AE@HOST:PORT",
    help="Where a C-MOVE may send to, and reports on storage commitment go. Can be repeated.",
)
@click.option("--aet", type=AETitle(), default="FASTPACS", show_default=True, metavar="AE", help="Our own AE title.")
@click.option("--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="Address to listen on.")
@click.option(
    "--pending-every",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="A pending C-MOVE response after every N objects.",
)
@click.option(
    "--storage-idle",
    "storage_idle_s",
    type=click.FloatRange(min=0.0),
    default=QueryRetrieveOptions.storage_idle_s,
    show_default=True,
    metavar="SECONDS",
    help="So long an association to a move destination is kept for the next C-MOVE of the same peer; 0: not at all.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME[=VALUE][:P%]",
    help="Misbehave, always or in P% of the operations; the faults are listed below. Can be repeated.",
)
@click.option(
    "--fault-seed",
    type=click.IntRange(min=0),
    default=1,
    show_default=True,
    metavar="N",
    help="What faults leave to chance follows from it.",
)
@click.option(
    "--scenario",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    is_eager=True,
    expose_value=False,
    callback=_scenario,
    help="Take options from this file (TOML), and faults that change with time: see docs/how-to/test-pacs.md.",
)
@no_durable_option
@serves_options
@json_option
@reports_errors
def command(
    port: int,
    folder: Path | None,
    profile: str | None,
    studies: int,
    synthetic: str | None,
    keep: Path | None,
    destinations: tuple[PeerAddress, ...],
    aet: str,
    host: str,
    pending_every: int,
    storage_idle_s: float,
    faults: tuple[str, ...],
    fault_seed: int,
    durable: bool,
    tls: TlsOptions,
    as_json: bool,
) -> None:
    """Run a PACS for tests: C-ECHO, C-FIND, C-MOVE, C-STORE, storage commitment; a folder or synthetic studies.

    It answers whatever AE title it is called by, and asks nobody who he is: do not put it on a
    hospital's network.  SIGTERM or Ctrl-C stops it with exit code 0.

    \b
    Examples: a PACS with 500 CT images, and a study out of it; a hospital's archive; one that loses an object in ten
      fastmove pacs --port 11112 --synthetic instances=250 --move-destination ME@127.0.0.1:11113
      fastmove find FASTPACS@127.0.0.1:11112
      fastmove retrieve FASTPACS@127.0.0.1:11112 --aet ME --port 11113 --study UID --to DIR
      fastmove pacs --port 11112 --profile hospital --studies 100000 --move-destination ME@127.0.0.1:11113
      fastmove pacs --port 11112 --synthetic studies=9 --move-destination ME@127.0.0.1:11113 --fault drop=10%
    """
    if [folder, profile, synthetic].count(None) != 2:
        raise ConfigurationError("folder", "give one of --folder, --profile and --synthetic")
    if keep is not None and folder is not None:
        raise ConfigurationError("keep", "only synthetic studies can be kept")
    if folder is not None and not folder.is_dir():
        raise ConfigurationError("folder", f"{folder} is no folder")
    corpus = None if synthetic is None else Spec.parse(synthetic).corpus()
    if profile is not None:
        corpus = Corpus.of_profile(profile, studies)
    options = QueryRetrieveOptions(
        ae_title=aet,
        move_destinations={peer.ae_title: tls.send_to(peer) for peer in destinations},
        suboperations_per_response=pending_every,
        storage_idle_s=storage_idle_s,
        limits=Limits(),
    )
    secured = tls.listener()
    changes: tuple[Change, ...] = click.get_current_context().meta.get(_CHANGES, ())
    lots = Faults.parse(faults).replace(seed=fault_seed) if faults or changes else None

    async def main() -> None:
        with Log(Stream(), only=WARNINGS) as log:
            await serving(json_lines if as_json else log)

    async def serving(report: Observer) -> None:
        conduct = None if lots is None else FaultyConduct(lots, report)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        with _folder(folder, keep) as directory:
            archive, skipped = _load(directory, corpus, keep=keep is not None)
            with StorageTarget(directory, WriteOptions(durable=durable)) as target:
                async with serve_pacs(host, port, archive, target, options, report, conduct, secured) as acceptor:
                    patients, studies, series, instances = (archive.count(level) for level in LEVELS)
                    started = PacsStarted(
                        aet,
                        acceptor.host,
                        acceptor.port,
                        patients,
                        studies,
                        series,
                        instances,
                        skipped,
                        tuple(map(str, destinations)),
                    )
                    if as_json:
                        json_lines(started)
                    else:
                        click.echo(_ready_line(started))
                    if conduct is not None:
                        for change in changes:
                            loop.call_later(change.after_s, conduct.change, change.faults)
                    await stop.wait()

    run(main())


def _load(directory: Path, corpus: Corpus | None, *, keep: bool) -> tuple[StoringArchive, int]:
    """What the PACS holds, and how many files were skipped."""
    if corpus is not None and not keep:
        return SyntheticArchive(corpus), 0
    index = Index()
    try:
        if corpus is None:
            return index, len(index.scan(directory))
        for file, texts in written(corpus, directory):
            index.add_instance(file, texts)
        return index, 0
    except OSError as error:
        raise ConfigurationError("folder", f"{directory} cannot be used: {error}") from error


def _ready_line(started: PacsStarted) -> str:
    patients, studies, series, instances = (
        f"{count:,} {name if count != 1 else one}"
        for count, name, one in (
            (started.patients, "patients", "patient"),
            (started.studies, "studies", "study"),
            (started.series, "series", "series"),
            (started.instances, "instances", "instance"),
        )
    )
    skipped = f" ({started.skipped:,} other files skipped)" if started.skipped else ""
    moves = f"; moves to {', '.join(started.move_destinations)}" if started.move_destinations else ""
    address = PeerAddress(started.ae_title, started.host, started.port)
    return f"{address} is ready: {patients}, {studies}, {series}, {instances}{skipped}{moves}"
