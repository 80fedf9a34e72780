"""`fastmove send`: files and folders to a DICOM node."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from fastmove.cli.commitment import Answer, committed, reports_taken
from fastmove.cli.exit_codes import ExitCode, gravest
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.log import WARNINGS
from fastmove.cli.options import PORT, aet_option, given, json_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import Progress, Tally, json_lines, megabytes, observers, patience, write_json
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.dimse.status import StatusClass, describe
from fastmove.errors import ConfigurationError, DatasetError
from fastmove.net.loop import run
from fastmove.notices import InstanceSent, Notice
from fastmove.observe.lines import Stream
from fastmove.observe.log import Log
from fastmove.services.storage_scu import SendOutcome, send
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.quarantine import QUARANTINE
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
@click.option(
    "--commit/--no-commit",
    default=False,
    help="Ask the peer to answer for what it has stored (storage commitment, PS3.4 J), and wait for its report.",
)
@click.option(
    "--commit-port",
    type=PORT,
    metavar="P",
    help="Where we listen for that report, as the peer knows it; without one it has to come over our own association.",
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
    commit: bool,
    commit_port: int | None,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
    as_json: bool,
) -> None:
    """Send DICOM files, and all that folders hold, to a DICOM node (C-STORE).

    PEER is AET@HOST:PORT, or a name from fastmove.toml.  Files are sent as they are, never
    converted.  The exit code is 0 if every one was stored, 68 if the peer warned about some, 69 if
    it refused some; with --commit 71 if it does not answer for some that it has stored, 74 if it did
    not report in time.

    \b
    Examples:
      fastmove send ORTHANC@localhost:4242 ~/studies --parallel 4
      fastmove send ORTHANC@localhost:4242 ~/studies --commit --commit-port 11112
    """
    if given("commit_port") and not commit:
        raise ConfigurationError("--commit-port", "says nothing without --commit")
    files, skipped = _files(paths)
    if not files:
        raise ConfigurationError("PATH", f"no DICOM file among {len(skipped)} files")
    bounds = limits_from(limits)
    node = tls.reach(peer)
    report_port = commit_port if commit else None
    reports_by = None if report_port is None else tls.listener()
    tally = Tally()
    tally.total = len(files)
    stored: set[str] = set()

    def observe(notice: Notice) -> None:
        if type(notice) is InstanceSent:
            if describe(notice.status, "C-STORE")[0] is StatusClass.FAILURE:
                tally.refused += 1
            else:
                tally.objects += 1
                tally.nbytes += notice.nbytes
                stored.add(notice.sop_instance_uid)

    async def main() -> tuple[SendOutcome, Answer | None]:
        with Log(Stream(), only=WARNINGS) as log:
            notify = observers(observe, json_lines if as_json else log)
            async with reports_taken(report_port, aet, bounds, notify, reports_by) as receiver:
                started = time.monotonic()
                with Progress(tally, "sent", quiet=as_json, tell=log.say):
                    outcome = await send(node, files, aet, parallel=parallel, limits=bounds, notify=notify)
                _report(outcome, skipped, time.monotonic() - started, as_json)
                if not commit or not stored:
                    return outcome, None
                asked = {file.sop_instance_uid: file.sop_class_uid for file in files if file.sop_instance_uid in stored}
                with patience("waiting for the report on storage commitment", quiet=as_json):
                    return outcome, await committed(node, asked, aet, receiver, bounds, notify)

    outcome, answer = run(main())
    codes = [ExitCode.REFUSED] if outcome.failures else [ExitCode.WARNING] if outcome.warnings else []
    if answer is not None:
        _report_answer(answer, files, as_json)
        codes.append(answer.exit_code)
    if code := gravest(codes):
        raise click.exceptions.Exit(code)


def _files(paths: tuple[Path, ...]) -> tuple[list[DicomFile], list[str]]:
    """The DICOM files, in a stable order; and why the others are none. A file named outright must be one."""
    files: list[DicomFile] = []
    skipped: list[str] = []
    for path in paths:
        if not path.is_dir():
            files.append(read_file_meta(path))
            continue
        for each in files_below(path):
            try:
                files.append(read_file_meta(each))
            except (DatasetError, OSError) as error:
                skipped.append(str(error))
    return files, skipped


def files_below(folder: Path) -> Iterator[Path]:
    """The files of a folder, and of those in it, but for what a retrieve has set aside."""
    for directory, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != QUARANTINE)
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
    _show("warning", outcome.warnings)
    _show("failed", outcome.failures)
    if skipped:
        click.echo(f"skipped {len(skipped):,} files that are not DICOM, such as: {skipped[0]}", err=True)
    rate = f"{outcome.nbytes / 1e6 / seconds:,.1f} MB/s, {outcome.sent / seconds:,.0f} objects/s"
    failed = f", {len(outcome.failures):,} failed" if outcome.failures else ""
    click.echo(f"sent {outcome.sent:,} objects{failed}, {megabytes(outcome.nbytes)} in {seconds:.2f} s ({rate})")


def _report_answer(answer: Answer, files: Iterable[DicomFile], as_json: bool) -> None:
    paths = {file.sop_instance_uid: file.path for file in files}
    rows = sorted((paths[uid], uid, why) for uid, why in answer.uncommitted.items())
    if as_json:
        write_json(
            {
                "event": "send.committed",
                "committed": len(answer.committed),
                "uncommitted": [[str(path), uid, why] for path, uid, why in rows],
            }
        )
        return
    _show("not committed", [(path, why) for path, _, why in rows])
    uncommitted = f", {len(rows):,} not committed" if rows else ""
    click.echo(f"the PACS answers for {len(answer.committed):,} objects{uncommitted}")


def _show(what: str, rows: Sequence[tuple[Path, str]]) -> None:
    for path, why in rows[:SHOWN_FAILURES]:
        click.echo(f"{what}: {path}: {why}", err=True)
    if len(rows) > SHOWN_FAILURES:
        click.echo(f"... and {len(rows) - SHOWN_FAILURES:,} more ({what})", err=True)
