"""`fastmove verify`: a manifest held against the disk."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from pathlib import Path
from typing import Final

import click

from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.options import json_option, reports_errors
from fastmove.cli.output import Progress, Tally, megabytes, table, write_json
from fastmove.errors import ConfigurationError, DirectoryUnusable
from fastmove.net.loop import run
from fastmove.storage.manifest import DEFAULT_NAME, Manifest, manifest_in
from fastmove.storage.verify import Fault, Finding, Verification

# Fault → what it is called, and what to do about it.
FAULTS: Final[dict[Fault, tuple[str, str]]] = {
    Fault.MISSING: ("missing", "run the same `fastmove retrieve` again: it fetches what is not there"),
    Fault.SIZE: ("of another length", "move these files away, then run the same `fastmove retrieve` again"),
    Fault.DIGEST: ("of other content", "check the disk; move these files away, then run `fastmove retrieve` again"),
    Fault.UNREADABLE: ("unreadable", "look at their permissions, and check the disk"),
    Fault.UNDIGESTED: ("never read back", "move these files away, then run the same `fastmove retrieve` again"),
    Fault.UNLISTED: ("not in the manifest", "`fastmove verify --add` lists them; a run that was killed could not"),
}

SHOWN: Final = 20
"""Objects that are named for each fault; `--json` names all."""


@click.command("verify")
@click.argument("path", type=click.Path(path_type=Path, exists=True), metavar="DIR|MANIFEST")
@click.option(
    "--folder",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder of the objects.  [default: that of the manifest]",
)
@click.option("--quick", is_flag=True, help="Whether files are there and as long as they were; no digests.")
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help="Files that are read at once.  [default: one for each processor]",
)
@click.option("--add", is_flag=True, help="Add objects that are not in the manifest to it, or make one.")
@json_option
@reports_errors
def command(path: Path, folder: Path | None, quick: bool, jobs: int | None, add: bool, as_json: bool) -> None:
    """Hold a manifest against the disk: is every object there, and as it was stored?

    Looks at each file that the manifest lists, and at each object in the folder that it does not list.
    DIR is a folder with a manifest.jsonl or manifest.csv in it. Ends with 0 if all is well, with 71 if not.

    \b
    Examples:
      fastmove verify /data/study
      fastmove verify /data/lists/2026.csv --folder /data/study --quick
    """
    manifest = manifest_in(path) if path.is_dir() else path
    if manifest is None and add:
        manifest = path / DEFAULT_NAME
    if manifest is None:
        raise ConfigurationError("manifest", f"there is none in {path}; `--add` makes one of what is there")
    directory = folder or (path if path.is_dir() else path.parent)
    shown: list[Finding] = []

    def report(finding: Finding) -> None:
        if lines is not None and finding.fault is Fault.UNLISTED and (busy := lines.found(finding.path, 0)):
            busy.result()
        if as_json:
            write_json(
                {
                    "event": "verify.found",
                    "fault": finding.fault.value,
                    "path": finding.path,
                    "sop_instance_uid": finding.sop_instance_uid,
                    "detail": finding.detail,
                }
            )
        elif verification.faults[finding.fault] <= SHOWN:
            shown.append(finding)

    verification = Verification(directory, manifest, report)
    started = time.monotonic()
    with Manifest(manifest, directory) if add else contextlib.nullcontext() as lines:
        try:
            run(_watched(verification, jobs or len(os.sched_getaffinity(0)), quick=quick, as_json=as_json))
        except OSError as error:
            raise DirectoryUnusable(f"cannot read {error.filename or path}: {error.strerror}") from error
    seconds = time.monotonic() - started
    wrong = set(verification.faults)
    if lines is not None and not lines.failures:
        wrong.discard(Fault.UNLISTED)
    sound = not wrong and not verification.damaged
    if as_json:
        write_json(
            {
                "event": "verify.finished",
                "manifest": str(manifest),
                "folder": str(directory),
                "quick": quick,
                "objects": verification.objects,
                "nbytes": verification.nbytes,
                "faults": {fault.value: verification.faults[fault] for fault in Fault},
                "damaged_lines": verification.damaged,
                "added": verification.faults[Fault.UNLISTED] if add else 0,
                "seconds": round(seconds, 3),
            }
        )
    else:
        _show(verification, shown, seconds, quick=quick, added=add, sound=sound)
    if not sound:
        raise click.exceptions.Exit(ExitCode.INCOMPLETE)


async def _watched(verification: Verification, jobs: int, *, quick: bool, as_json: bool) -> None:
    tally = Tally()
    tally.source = verification
    with Progress(tally, "looked at" if quick else "verified", quiet=as_json):
        looking = asyncio.get_running_loop().run_in_executor(None, lambda: verification.run(jobs, quick=quick))
        try:
            await asyncio.shield(looking)
        finally:
            verification.stop()  # interrupted: nobody waits for the rest


def _show(
    verification: Verification, shown: list[Finding], seconds: float, *, quick: bool, added: bool, sound: bool
) -> None:
    faults = verification.faults
    rows = []
    for fault, (name, advice) in FAULTS.items():
        if not faults[fault]:
            continue
        if added and fault is Fault.UNLISTED:
            name, advice = "added to the manifest", ""
        rows.append((name, f"{faults[fault]:,}", advice))
        for finding in shown:
            if finding.fault is fault:
                detail = f" ({finding.detail})" if finding.detail else ""
                click.echo(f"{name}: {_printable(finding.path)}{detail}")
        if faults[fault] > SHOWN:
            click.echo(f"{name}: {faults[fault] - SHOWN:,} more, which `--json` names")
    if verification.damaged:
        rows.append(("unreadable lines", f"{verification.damaged:,}", "what they listed counts as not in the manifest"))
    good = verification.objects - faults.total() + faults[Fault.UNLISTED]
    table(
        [("there, and as long as it was" if quick else "as it was stored", f"{good:,}", ""), *rows], ("", "objects", "")
    )
    ended = "all is well" if sound else "not all is well"
    click.echo(
        f"{ended}: {verification.objects:,} objects, {megabytes(verification.nbytes)}, {seconds:.1f} s", err=True
    )


def _printable(path: str) -> str:
    """A name that is not ours must not drive a terminal."""
    return path if path.isascii() and path.isprintable() else ascii(path)[1:-1]
