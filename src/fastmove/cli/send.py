"""`fastmove send`: files and folders to a DICOM node."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click

from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.log import WARNINGS
from fastmove.cli.options import aet_option, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import Progress, Tally, json_lines, megabytes, observers, write_json
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.dimse.status import StatusClass, describe
from fastmove.errors import ConfigurationError, DatasetError
from fastmove.net.loop import run
from fastmove.notices import InstanceSent, Notice
from fastmove.observe.lines import Stream
from fastmove.observe.log import Log
from fastmove.services.storage_scu import SendOutcome, send
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.types import PeerAddress

SHOWN_FAILURES = 20


@click.command("send")
@peer_argument
@click.argument("paths", nargs=-1, required=True, metavar="PATH...", type=click.Path(exists=True, path_type=Path))
@aet_option
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Associations at once; more than the PACS allows is refused by it.",
)
@timeout_option
@limit_option
@requests_options
@json_option
@reports_errors
def command(
    peer: PeerAddress,
    paths: tuple[Path, ...],
    aet: str,
    parallel: int,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
) -> None:
    """Send DICOM files, and all that folders hold, to a DICOM node (C-STORE).

    PEER is AET@HOST:PORT, or a name from fastmove.toml.  Files are sent as they are, never
    converted.  The exit code is 0 if every one was stored, 68 if the peer warned about some, 69 if
    it refused some.

    \b
    Example:
      fastmove send ORTHANC@localhost:4242 ~/studies --parallel 4
    """
    files, skipped = _files(paths)
    if not files:
        raise ConfigurationError("PATH", f"no DICOM file among {len(skipped)} files")
    bounds = limits_from(limits)
    node = tls.reach(peer)
    tally = Tally()
    tally.total = len(files)

    def observe(notice: Notice) -> None:
        if type(notice) is InstanceSent:
            if describe(notice.status, "C-STORE")[0] is StatusClass.FAILURE:
                tally.refused += 1
            else:
                tally.objects += 1
                tally.nbytes += notice.nbytes

    async def main() -> SendOutcome:
        with (
            Log(Stream(), only=WARNINGS) as log,
            Progress(tally, "sent", quiet=as_json, tell=log.say),
        ):
            notify = observers(observe, json_lines if as_json else log)
            return await send(node, files, aet, parallel=parallel, limits=bounds, notify=notify)

    started = time.monotonic()
    outcome = run(main())
    _report(outcome, skipped, time.monotonic() - started, as_json)
    if outcome.failures:
        raise click.exceptions.Exit(ExitCode.REFUSED)
    if outcome.warnings:
        raise click.exceptions.Exit(ExitCode.WARNING)


def _files(paths: tuple[Path, ...]) -> tuple[list[DicomFile], list[str]]:
    """The DICOM files, in a stable order; and why the others are none. A file named outright must be one."""
    files: list[DicomFile] = []
    skipped: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(read_file_meta(path))
            continue
        for each in _walk(path):
            try:
                files.append(read_file_meta(each))
            except (DatasetError, OSError) as error:
                skipped.append(str(error))
    return files, skipped


def _walk(folder: Path) -> Iterator[Path]:
    for directory, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(directory, name)
            if name != "DICOMDIR" and path.is_file():  # no FIFO, which would never end
                yield path


def _report(outcome: SendOutcome, skipped: list[str], seconds: float, as_json: bool) -> None:
    if as_json:
        write_json(
            {
                "event": "send.finished",
                "sent": outcome.sent,
                "bytes": outcome.nbytes,
                "seconds": round(seconds, 6),
                "warnings": [[str(path), why] for path, why in outcome.warnings],
                "failures": [[str(path), why] for path, why in outcome.failures],
                "skipped": skipped,
            }
        )
        return
    for what, rows in (("warning", outcome.warnings), ("failed", outcome.failures)):
        for path, why in rows[:SHOWN_FAILURES]:
            click.echo(f"{what}: {path}: {why}", err=True)
        if len(rows) > SHOWN_FAILURES:
            click.echo(f"... and {len(rows) - SHOWN_FAILURES:,} more ({what})", err=True)
    if skipped:
        click.echo(f"skipped {len(skipped):,} files that are not DICOM, such as: {skipped[0]}", err=True)
    rate = f"{outcome.nbytes / 1e6 / seconds:,.1f} MB/s, {outcome.sent / seconds:,.0f} objects/s"
    failed = f", {len(outcome.failures):,} failed" if outcome.failures else ""
    click.echo(f"sent {outcome.sent:,} objects{failed}, {megabytes(outcome.nbytes)} in {seconds:.2f} s ({rate})")
