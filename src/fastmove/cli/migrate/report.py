"""`fastmove migrate report` and `verify-report`: what is handed over at the end, signed if that is wished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from hashlib import file_digest
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import click

from fastmove.cli.exit_codes import ExitCode
from fastmove.cli.migrate.ledger import chosen_batch, of_a_batch
from fastmove.cli.options import reports_errors
from fastmove.cli.output import Progress, Tally, csv_rows, megabytes, say, table
from fastmove.errors import ConfigurationError
from fastmove.net.loop import run

if TYPE_CHECKING:
    from fastmove.migrate.report import Document, Reporting, Row

_FILE: Final = click.Path(path_type=Path, dir_okay=False)
_GIVEN: Final = click.Path(path_type=Path, exists=True, dir_okay=False)


class ReportTally(Tally):
    """How many studies have gone by."""

    def __init__(self, reporting: Reporting) -> None:
        super().__init__()
        self._reporting = reporting

    def line(self, verb: str) -> str:
        """The state as text."""
        self.refresh()
        asked = self._reporting.asked
        return f"{verb} {self._reporting.studies:,}" + ("" if asked is None else f" of {asked:,}") + " studies"

    def refresh(self) -> None:
        """For the bar of a terminal."""
        self.objects, self.total = self._reporting.studies, self._reporting.asked


@click.command("report")
@of_a_batch
@click.option("--html", "page", type=_FILE, metavar="FILE", help="Write it as a page with plots, for screen and paper.")
@click.option("--csv", "lines", type=_FILE, metavar="FILE", help="Write a line for each study.")
@click.option("--json", "out", type=_FILE, metavar="FILE", help="Write it for programs.")
@click.option(
    "--sign",
    "key_file",
    type=_FILE,
    metavar="KEY.pem",
    help="Sign each file that is written, by this Ed25519 key: FILE.sig.  Needs fastmove[sign].",
)
@click.option("--patients", is_flag=True, help="With patient IDs and study dates, which else are left out.")
@click.option(
    "--digests/--no-digests",
    default=True,
    show_default=True,
    help="With digests of each study and of everything: all instances are read for it, which takes minutes for "
    "millions of them.",
)
@reports_errors
def report_command(
    where: str,
    batch: str | None,
    page: Path | None,
    lines: Path | None,
    out: Path | None,
    key_file: Path | None,
    patients: bool,
    digests: bool,
) -> None:
    """Report what was asked, found, moved and proved.

    And why the rest was not: for those who have to accept it.  It names no patient.  A run may go on meanwhile: the
    report is of one moment.  Without a file it is shown in short.

    \b
    Exit codes: 0 it is made   73 the ledger cannot be read   1 usage

    \b
    Examples:
      fastmove migrate report archive.ledger
      fastmove migrate report archive.ledger --html report.html --csv studies.csv --sign key.pem
    """
    from fastmove.ledger.moment import at_one_moment  # what reads ledgers takes time to load
    from fastmove.migrate.report import Reporting
    from fastmove.migrate.signature import private_key, sign

    if key_file is not None and not (page or lines or out):
        raise ConfigurationError("--sign", "there is nothing to sign without --html, --csv or --json")
    key = None if key_file is None else private_key(key_file)

    async def main() -> Document:
        async with at_one_moment(where) as ledger:
            reporting = Reporting(ledger, await chosen_batch(ledger, batch), digests=digests, patients=patients)
            with Progress(ReportTally(reporting), "read"), _rows(lines, reporting.columns) as told:
                return await reporting.document(time.time(), told)

    document = run(main())
    document["files"] = [] if lines is None else [_described(lines)]
    if out is not None:
        with _written("--json", out) as file:
            json.dump(document, file, indent=1)
            file.write("\n")
    if page is not None:
        from fastmove.observe.migration_report import html

        with _written("--html", page) as file:
            file.write(html(document))
    _show(document)
    for path in filter(None, (page, lines, out)):
        try:
            beside = "" if key is None else f", signed in {sign(path, key)}"
        except OSError as error:
            raise ConfigurationError("--sign", f"the signature cannot be written: {error}") from error
        say(f"written: {path}{beside}")


@contextmanager
def _written(field: str, path: Path) -> Iterator[IO[str]]:
    """A file that is there whole, or not at all; ConfigurationError."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            yield file
        unfinished.replace(path)
    except OSError as error:
        raise ConfigurationError(field, f"{path} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _rows(path: Path | None, columns: tuple[str, ...]) -> Iterator[Callable[[Row], None]]:
    """What writes a study as a line of CSV."""
    with nullcontext() if path is None else _written("--csv", path) as file:
        if file is None:
            yield lambda _: None
            return
        yield csv_rows(file, columns)


def _described(path: Path) -> Mapping[str, Any]:
    with path.open("rb") as file:
        return {"name": path.name, "sha256": file_digest(file, "sha256").hexdigest(), "bytes": path.stat().st_size}


def _show(document: Document) -> None:
    studies = document["studies"]
    say(f"{document['batch']['name']}, from {document['batch']['source']}, as of {document['made_at']}")
    table(([name.replace("_", " "), f"{count:,}"] for name, count in studies.items()), ["studies", ""])
    for row in document["verdicts"]:
        say(f"{row['studies']:,} complete: {row['words']}")
    for row in document["proofs"]:
        say(f"{row['studies']:,} at the destination: {row['words']}")
    for row in document["reasons"]:
        say(f"{row['parked'] + row['waiting']:,} x {row['class']}: {row['words']}")
    say(f"{document['instances']['stored']:,} instances, {megabytes(document['bytes'])}")
    if document["digest"]:
        say(f"digest {document['digest']['sha256']}")


@click.command("verify-report")
@click.argument("path", type=_GIVEN, metavar="FILE")
@click.option(
    "--key", "key_file", type=_FILE, required=True, metavar="PUBLIC.pem", help="The public key of who signed."
)
@reports_errors
def verify_command(path: Path, key_file: Path) -> None:
    """Say whether a report is as it was when it was signed.

    FILE is one that `report --sign` has written; the signature is beside it, in FILE.sig.

    \b
    Exit codes: 0 it is   71 it is not, or somebody else has signed it   1 usage

    \b
    Example:
      fastmove migrate verify-report report.html --key public.pem
    """
    from fastmove.migrate.signature import is_signed, public_key, signature_file

    try:
        sound = is_signed(path, public_key(key_file))
    except OSError as error:
        raise ConfigurationError("FILE", f"{error.filename or path} cannot be read: {error.strerror}") from error
    if not sound:
        say(f"{path}: {signature_file(path)} is no signature of it by this key", err=True)
        raise click.exceptions.Exit(ExitCode.INCOMPLETE)
    say(f"{path} is what was signed by this key")
