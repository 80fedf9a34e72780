"""`fastmove retrieve`: have a PACS send studies here, all of them, once, and say truly what came."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final

import click

from fastmove.cli.audit import Auditing, AuditPlan, audit_options
from fastmove.cli.exit_codes import ExitCode, for_retrieve, gravest
from fastmove.cli.exit_codes import for_error as error_code
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.log import LogPlan, Reporting, log_options, tell_errors
from fastmove.cli.options import (
    AUTO,
    PORT,
    AETitle,
    accept_from_option,
    accept_host_option,
    aet_option,
    given,
    group_readable_option,
    host_option,
    json_option,
    layout_option,
    max_object_option,
    max_pdu_option,
    modes,
    no_durable_option,
    on_duplicate_option,
    peer_argument,
    peer_profile,
    reserve_option,
    sanitize_option,
    strict_option,
    timeout_option,
    unsolicited_option,
)
from fastmove.cli.output import Progress, json_lines, observers, patience, say
from fastmove.cli.retrieve_advice import AGAIN, for_error, texts
from fastmove.cli.retrieve_output import RetrieveTally, Warnings, finished_event, report
from fastmove.cli.selection import selection_from, selection_options
from fastmove.cli.tls import TlsOptions, retrieves_options
from fastmove.dimse.identifier import LEVELS
from fastmove.errors import ConfigurationError, FastmoveError
from fastmove.limits import Limits
from fastmove.net.loop import interruptions, run
from fastmove.notices import InstanceStored, Notice, Observer
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.retrieve.unit import UnitResult
from fastmove.services.selection.selection import Selection
from fastmove.storage.collection import Collection
from fastmove.storage.options import OnDuplicate, Unsolicited, WriteOptions
from fastmove.storage.reserve import Reserve
from fastmove.storage.template import naming
from fastmove.types import PeerAddress, Readiness

DEFAULTS: Final = Limits()
MAX_PARALLEL: Final = 64

RELEASE_S: Final = 5.0
"""All that an association was to bring is there, whatever becomes of its release: nobody should wait long for that."""


class Parallel(click.ParamType[int]):
    """A number of moves at once, or `auto`: 0."""

    name = "n|auto"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number; 0 for `auto`."""
        if value in (AUTO, 0):
            return 0
        text = str(value)
        if not (text.isascii() and text.isdigit() and 1 <= int(text) <= MAX_PARALLEL):
            self.fail(f"{value!r} is neither {AUTO} nor a number from 1 to {MAX_PARALLEL}", param, ctx)
        return int(text)


@click.command("retrieve")
@peer_argument
@selection_options
@aet_option
@click.option("--port", type=PORT, metavar="P", help="Our listening port, as the PACS knows it; 0 takes a free one.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for the objects.",
)
@layout_option
@sanitize_option
@click.option(
    "--destination",
    type=AETitle(),
    metavar="AE",
    help="Move destination, if it is not us: without --port and --to the PACS sends to that third party.",
)
@click.option("--model", type=click.Choice(list(LEVELS)), default="study", show_default=True)
@click.option(
    "--parallel",
    type=Parallel(),
    default=AUTO,
    show_default=True,
    metavar="N|auto",
    help="Moves at once. auto begins with few, adds while that pays, and takes half when the PACS has had enough.",
)
@click.option(
    "--rounds",
    type=click.IntRange(min=0),
    default=5,
    show_default=True,
    metavar="N",
    help="How often what is missing is asked for again.",
)
@click.option(
    "--prove/--no-prove",
    default=True,
    show_default=True,
    help="Ask for the list of instances first (C-FIND), so that the verdict rests "
    "on UIDs and not on the PACS's counters.",
)
@click.option("--require-proof", is_flag=True, help="Fail (71) where the PACS cannot give the list.")
@on_duplicate_option
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where to write down each object with its SHA-256, .jsonl or .csv.  [default: manifest.jsonl in --to]",
)
@click.option("--no-manifest", is_flag=True, help="Write none.")
@click.option("--refetch", is_flag=True, help="Fetch what is here already once more; --on-duplicate says what then.")
@unsolicited_option
@accept_host_option("the PACS alone")
@accept_from_option
@max_object_option
@strict_option
@max_pdu_option
@click.option(
    "--drain",
    type=click.FloatRange(min=0),
    default=DEFAULTS.drain_s,
    show_default=True,
    metavar="SECONDS",
    help="How long without an object to wait for those that the PACS says it sent.",
)
@timeout_option
@limit_option
@reserve_option
@no_durable_option
@group_readable_option
@host_option
@log_options
@audit_options
@retrieves_options
@json_option
def command(
    peer: PeerAddress,
    aet: str,
    port: int | None,
    directory: Path | None,
    layout: str,
    sanitize: bool,
    destination: str | None,
    model: str,
    parallel: int,
    rounds: int,
    prove: bool,
    require_proof: bool,
    on_duplicate: str,
    manifest: Path | None,
    no_manifest: bool,
    refetch: bool,
    unsolicited: str,
    accept_host: tuple[str, ...],
    accept_from: tuple[str, ...],
    max_object: int,
    strict: bool,
    max_pdu: int,
    drain: float,
    timeout: float,
    limits: tuple[Setting, ...],
    reserve: int | None,
    durable: bool,
    group_readable: bool,
    host: str,
    log_file: Path | None,
    log_level: str,
    log_uids: bool,
    log_key: Path | None,
    tls: TlsOptions,
    as_json: bool,
    **selected: Any,
) -> None:
    """Have a PACS send studies here (C-MOVE), store them, and say truly what came.

    Opens its own listener, asks for the list of instances, has them sent by several moves at once, asks again for
    what is missing, and gives a verdict.  Run it again at any time: what is here is not fetched once more.  The PACS
    must know our AE title with this host and port; `fastmove doctor` finds out.  PEER is AET@HOST:PORT, or a name
    from fastmove.toml.

    \b
    Exit codes: 0 complete   68 warning   69 refused or failed   71 objects or queries are
    missing   72 no final response, or stopped   73 an object could not be stored, or the disk is
    nearly full   74 no progress
    75 an object was refused by our rules   60 cannot listen   61 no association   1 usage

    \b
    Examples:
      fastmove retrieve PACS@10.0.0.5:104 --aet ME --port 11112 --study 1.2.3 --to /data/study
      fastmove retrieve pacs --from worklist.csv --to /data --layout patient
      fastmove retrieve pacs --date 20240101-20240131 --modality CT --to /data
      fastmove retrieve PACS@10.0.0.5:104 --aet ME --destination ARCHIVE --study 1.2.3
    """
    if given("destination") and not given("port", "directory"):
        port = directory = None  # those of the configuration are not meant
    runs: list[_Run] = []
    audited = {name: selected.pop(name) for name in AuditPlan.fields}
    try:
        audit = AuditPlan.of(**audited)
        if (port is None) != (directory is None):
            raise ConfigurationError("--port and --to", "to retrieve to this host give both, for a third party none")
        if port is None and destination is None:
            raise ConfigurationError("--to", "say where to store (--port P --to DIR), or a third party (--destination)")
        config = RetrieveConfig(
            tls.reach(peer),
            ae_title=aet,
            move_destination=destination or aet,
            model=model,
            prove=prove or require_proof,
            limits=limits_from(limits, release_s=RELEASE_S),
            selection=selection_from(**selected),
            parallel=parallel,
            rounds=rounds,
            profile=peer_profile(),
            accept_hosts=accept_host,
            accept_from=accept_from,
            listener_tls=tls.listener() if port is not None else None,
        )
        if config.selection == Selection():
            raise ConfigurationError("selection", "say what to retrieve: --study, --accession, --from, --date, ...")
        collection = None
        ready: tuple[Readiness, ...] = ()
        logging = LogPlan.of(log_file, log_level, log_uids, log_key)
        trail: Auditing | None = None
        with ExitStack() as opened:
            reporting = opened.enter_context(Reporting(logging))
            tell = observer(reporting, as_json=as_json)
            if directory is not None:
                options = WriteOptions(
                    durable=durable,
                    on_duplicate=OnDuplicate(on_duplicate),
                    naming=naming(layout, sanitize=sanitize),
                    modes=modes(group_readable=group_readable),
                    strict=strict,
                    unsolicited=Unsolicited(unsolicited),
                )
                with patience(f"looking through {directory} for what is there already", quiet=as_json):
                    collection = Collection(
                        directory,
                        options,
                        manifest=manifest,
                        with_manifest=not no_manifest,
                        refetch=refetch,
                        notify=tell,
                        holder="fastmove retrieve",
                    )
                opened.enter_context(collection)
                ready = (opened.enter_context(Reserve(directory, reserve)).objection,)
                if audit is not None:
                    trail = opened.enter_context(Auditing(audit, destination or aet, tell, we_ask=True))
                    ready += trail.ready
            runs.append(_Run(config, collection, host, port or 0, tell, ready, reporting, trail, as_json=as_json))
            result = run(runs[0]())
    except FastmoveError as error:
        say(f"fastmove: {error}", err=True)
        established = bool(runs) and runs[0].retrieve.established
        if advice := for_error(error, established=established):
            say(f"hint: {advice.format_map(texts(peer, aet, destination or aet, port))}", err=True)
        raise click.exceptions.Exit(error_code(error, established=established)) from None
    except KeyboardInterrupt:
        say(f"stopped: {AGAIN}", err=True)
        raise click.exceptions.Exit(ExitCode.UNKNOWN) from None
    tally, stopped = runs[0].tally, runs[0].stopped
    codes = [for_retrieve(result, require_proof=require_proof, interrupted=stopped)]
    if tally.empty:
        codes.append(ExitCode.INCOMPLETE)
    unlisted = 0 if collection is None else collection.failures
    if unlisted:
        codes.append(ExitCode.STORAGE_FAILED)
    code = gravest(codes)
    if as_json:
        finished_event(result, tally, code)
    else:
        words = texts(peer, aet, destination or aet, tally.port or port)
        report(result, tally, code, words, stopped=stopped, unlisted=unlisted)
    raise click.exceptions.Exit(code)


def observer(reporting: Reporting, *, as_json: bool) -> Observer:
    """Who is told what goes on: programs, the log, and people only of what goes wrong."""
    log: Observer | None = reporting.log if reporting.in_file else None if as_json else Warnings(reporting.stderr)
    return observers(json_lines if as_json else None, log)


class _Run:
    """The retrieve of one command, with what is shown of it, and how it is stopped."""

    def __init__(
        self,
        config: RetrieveConfig,
        collection: Collection | None,
        host: str,
        port: int,
        tell: Observer,
        ready: Sequence[Readiness],
        reporting: Reporting,
        trail: Auditing | None,
        *,
        as_json: bool,
    ) -> None:
        self.stopped = False
        self._tell = tell
        self._reporting = reporting
        self._trail = trail
        self._as_json = as_json
        self._collection = collection
        self.retrieve = Retrieve(
            config,
            None if collection is None else collection.target,
            host=host,
            port=port,
            notify=self._notify,
            on_stored=self._stored,
            on_unit=self._ended,
            inventory=() if collection is None else collection.inventory,
            ready=ready,
        )
        self.tally = RetrieveTally(self.retrieve)

    async def __call__(self) -> RetrieveResult:
        tell_errors(self._tell)
        for number in interruptions():
            asyncio.get_running_loop().add_signal_handler(number, self._interrupt)
        with Progress(self.tally, "retrieved", quiet=self._as_json, tell=self._reporting.stderr.say):
            result = await self.retrieve.run()
        self.tally.refresh()
        return result

    def _notify(self, notice: Notice) -> None:
        self.tally.observe(notice)
        self._tell(notice)
        if self._trail is not None:
            self._trail(notice)
            if type(notice) is InstanceStored:  # set aside, and on our disk all the same
                self._trail.stored(notice)

    def _stored(self, notice: InstanceStored) -> Future[None] | None:
        self.tally.stored(notice)
        if self._as_json:
            json_lines(notice)
        if self._reporting.in_file:
            self._reporting.log(notice)
        busy = None if self._trail is None else self._trail.stored(notice)
        return (None if self._collection is None else self._collection.record(notice)) or busy

    def _ended(self, unit: UnitResult) -> None:
        self.tally.ended(unit)

    def _interrupt(self) -> None:
        """Once: cancel; once more: abort; and then nothing is waited for."""
        loop = asyncio.get_running_loop()
        if self.stopped:
            for number in interruptions():
                loop.remove_signal_handler(number)
        self.stopped = self.tally.stopping = True
        cancelled = self.retrieve.cancel()
        if not self._as_json:
            how = "C-CANCEL sent, what is on its way is waited for; once more to abort" if cancelled else "at once"
            self._reporting.stderr.say(f"stopping: {how}")
