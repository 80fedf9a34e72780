"""`fastmove listen`: the storage listener."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import click

from fastmove.cli.audit import Auditing, AuditPlan, audit_options
from fastmove.cli.cores import forbid_core_dumps
from fastmove.cli.exit_codes import ExitCode, for_error
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.log import LogPlan, Reporting, log_options, tell_errors
from fastmove.cli.metrics import Address, metrics_option, of_listener, serve_metrics
from fastmove.cli.options import (
    PORT,
    accept_from_option,
    accept_host_option,
    aet_option,
    group_readable_option,
    host_option,
    json_option,
    layout_option,
    max_object_option,
    max_pdu_option,
    modes,
    no_durable_option,
    on_duplicate_option,
    reports_errors,
    reserve_option,
    sanitize_option,
    strict_option,
)
from fastmove.cli.output import (
    Progress,
    Tally,
    json_lines,
    megabytes,
    observers,
)
from fastmove.cli.tls import TlsOptions, listens_options
from fastmove.errors import ListenFailed
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.allowed_hosts import AllowedHosts
from fastmove.net.loop import run
from fastmove.net.workers import Share, run_workers
from fastmove.notices import HostStrained, InstanceStored, ListenerStarted, ListenerStopped, Notice, SignalReceived
from fastmove.services.listener import listen
from fastmove.services.storage_scp import OnStored
from fastmove.storage.lock import FolderLock
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.reserve import Reserve
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming
from fastmove.types import Readiness
from fastmove.ul.negotiation import AcceptPolicy

DEFAULTS = Limits()


def both(first: OnStored, then: OnStored) -> OnStored:
    """Tell both; what either wants to have waited for is waited for."""

    def on_stored(notice: InstanceStored) -> Future[None] | None:
        busy = first(notice)
        return then(notice) or busy

    return on_stored


@click.command("listen")
@click.option("--port", type=PORT, required=True, metavar="P", help="TCP port; 0 takes a free one and says which.")
@click.option(
    "--to",
    "directory",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    metavar="DIR",
    help="Folder for the objects, one file each.",
)
@layout_option
@sanitize_option
@click.option(
    "--manifest",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Add a line for each object to this file, .jsonl or .csv: `fastmove verify` goes by it.",
)
@aet_option
@click.option("--any-called-aet", is_flag=True, help="Accept associations that call another AE title than ours.")
@accept_from_option
@accept_host_option("from everywhere")
@max_object_option
@strict_option
@max_pdu_option
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Worker processes that share the port (SO_REUSEPORT).",
)
@click.option(
    "--max-associations",
    type=click.IntRange(min=1),
    default=DEFAULTS.max_associations,
    show_default=True,
    metavar="N",
    help="Associations at once, per process; one more is rejected for now.",
)
@limit_option
@reserve_option
@on_duplicate_option
@no_durable_option
@group_readable_option
@host_option
@click.option(
    "--allow-cores",
    is_flag=True,
    help="Let the kernel write core dumps, and debuggers attach: both show data of patients.",
)
@metrics_option
@log_options
@audit_options
@listens_options
@json_option
@reports_errors
def command(
    port: int,
    directory: Path,
    layout: str,
    sanitize: bool,
    manifest: Path | None,
    aet: str,
    any_called_aet: bool,
    accept_from: tuple[str, ...],
    accept_host: tuple[str, ...],
    max_object: int,
    strict: bool,
    max_pdu: int,
    processes: int,
    max_associations: int,
    limits: tuple[Setting, ...],
    reserve: int | None,
    on_duplicate: str,
    durable: bool,
    group_readable: bool,
    host: str,
    allow_cores: bool,
    metrics_at: Address | None,
    log_file: Path | None,
    log_level: str,
    log_uids: bool,
    log_key: Path | None,
    tls: TlsOptions,
    as_json: bool,
    **audited: Any,
) -> None:
    """Receive objects and store them: a storage listener (C-STORE and C-ECHO SCP).

    Objects are written bit for bit as they come.  A file has its name only when it is whole; Success
    is sent when it is on the disk.  SIGTERM or Ctrl-C stops accepting, lets objects in flight end,
    and exits 0 (73 if the manifest lacks a line); once more does not wait for them.  SIGHUP begins the
    log file anew, and reads certificates and keys anew.

    \b
    Examples:
      fastmove listen --port 11112 --to /data/incoming --aet ARCHIVE
      fastmove listen --port 11112 --to /data/incoming --accept-host 10.0.0.5 --accept-host 10.0.7.0/24
      fastmove listen --port 11112 --to /data/incoming --layout patient --manifest /data/incoming/manifest.jsonl
    """
    bounds = limits_from(limits)
    secured = tls.listener()
    hosts = AllowedHosts(accept_host) if accept_host else None
    policy = AcceptPolicy(
        aet,
        any_called_ae_title=any_called_aet,
        calling_ae_titles=frozenset(accept_from) or None,
        hosts=hosts,
        max_pdu_length=bounds.max_pdu_length,
    )
    options = WriteOptions(
        durable=durable,
        on_duplicate=OnDuplicate(on_duplicate),
        naming=naming(layout, sanitize=sanitize),
        modes=modes(group_readable=group_readable),
        strict=strict,
    )

    logging = LogPlan.of(log_file, log_level, log_uids, log_key)
    audit = AuditPlan.of(**audited)
    before: list[Notice] = []
    if not allow_cores:
        forbid_core_dumps()

    async def main(share: Share | None) -> int:
        tally = Tally()
        stop = asyncio.Event()
        running: list[Acceptor] = []
        with ExitStack() as stack:
            reporting = stack.enter_context(Reporting(logging))
            log = reporting.log if reporting.in_file or not as_json else None
            report = observers(json_lines if as_json else None, log)
            reloads: list[Callable[[], None]] = [reporting.reopen]
            tell_errors(report)
            for notice in before:
                report(notice)

            def reload() -> None:
                report(SignalReceived("SIGHUP"))
                for each in reloads:
                    each()

            def interrupt(number: signal.Signals) -> None:
                report(SignalReceived(number.name))
                if stop.is_set() and running:
                    running[0].abort("stopped by a second signal")
                stop.set()

            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, interrupt, number)
            loop.add_signal_handler(signal.SIGHUP, reload)
            if share is not None:
                share.heed_signals()
            if hosts is not None:
                await hosts.resolve()
            target = stack.enter_context(StorageTarget(directory, options))
            room = stack.enter_context(Reserve(directory, reserve))
            if (low := room.objection()) is not None:
                report(HostStrained(*low))
            told: OnStored | None = report if as_json or (log is not None and logging.tells_objects) else None
            if manifest is not None:
                from fastmove.storage.manifest import Manifest  # many do without

                lines = stack.enter_context(Manifest(manifest, directory, report, options.modes))
                told = lines.record if told is None else both(told, lines.record)
            ready: tuple[Readiness, ...] = (room.objection,)
            trail: Auditing | None = None
            if audit is not None:
                trail = stack.enter_context(Auditing(audit, aet, report, process=0 if share is None else share.index))
                told = trail.stored if told is None else both(told, trail.stored)
                ready += trail.ready
                reloads.append(trail.reopen)
            stack.enter_context(Progress(tally, "stored", quiet=as_json or processes > 1, tell=reporting.stderr.say))
            metrics = serve_metrics(stack, metrics_at, reporting.stderr.say, 0 if share is None else share.index)
            notify = observers(tally.observe, report, trail, metrics)
            async with listen(
                host, port, target, policy, bounds, notify, told, share, ready=ready, tls=secured
            ) as acceptor:
                tally.source = acceptor
                running.append(acceptor)
                if metrics is not None:
                    of_listener(metrics, acceptor)
                if acceptor.tls is not None:
                    reloads.append(acceptor.tls.reload)
                report(ListenerStarted(acceptor.host, acceptor.port, processes))
                if not as_json:
                    reporting.stderr.say(f"{aet} listens on {acceptor.host}:{acceptor.port}, storing in {directory}")
                await stop.wait()
            tally.refresh()
            report(ListenerStopped(tally.objects, tally.nbytes))
            if not as_json:
                reporting.stderr.say(f"stored {tally.objects:,} objects, {megabytes(tally.nbytes)}")
        return int(ExitCode.STORAGE_FAILED if manifest is not None and lines.failures else ExitCode.SUCCESS)

    with FolderLock(
        directory, "fastmove listen", before.append, options.modes
    ):  # also while there are several processes
        if processes == 1:
            status = run(main(None))
        else:
            try:
                status = run_workers(host, port, processes, main, partial(for_error, established=False))
            except OSError as error:
                raise ListenFailed(host, port, error) from error
    raise click.exceptions.Exit(status)
