"""`fastmove find`: query a PACS."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from fastmove.cli.keys_file import keys_file_option, keys_of
from fastmove.cli.limits import Setting, limit_option, limits_from
from fastmove.cli.options import aet_option, peer_argument, reports_errors, timeout_option
from fastmove.cli.output import csv_rows, table, write_json
from fastmove.cli.tls import TlsOptions, requests_options
from fastmove.dimse.identifier import LEVELS, UNIQUE_KEYS
from fastmove.net.loop import run
from fastmove.services.query_scu import find
from fastmove.types import PeerAddress

# What a person wants to see of each level, where nothing is asked for.
DEFAULT_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "PATIENT": ("PatientID", "PatientName", "PatientBirthDate"),
    "STUDY": (
        "PatientID",
        "PatientName",
        "StudyDate",
        "AccessionNumber",
        "ModalitiesInStudy",
        "NumberOfStudyRelatedInstances",
        "StudyDescription",
        "StudyInstanceUID",
    ),
    "SERIES": (
        "Modality",
        "SeriesNumber",
        "NumberOfSeriesRelatedInstances",
        "SeriesDescription",
        "SeriesInstanceUID",
    ),
    "IMAGE": ("InstanceNumber", "SOPClassUID", "SOPInstanceUID"),
}

HIDDEN = ("QueryRetrieveLevel", "SpecificCharacterSet", "RetrieveAETitle", "InstanceAvailability")
"""Not in the table: they say the same in every row."""


@click.command("find")
@peer_argument
@aet_option
@click.option(
    "-k",
    "--key",
    "keys",
    multiple=True,
    metavar="KEY[=VALUE]",
    help="Match or return this attribute: a "
    "keyword or gggg,eeee; without a value it is returned. Wildcards * and ?, ranges 20260101-20260131.",
)
@keys_file_option
@click.option("--patient", metavar="ID", help="Same as --key PatientID=ID.")
@click.option("--study", metavar="UID", help="Same as --key StudyInstanceUID=UID.")
@click.option("--series", metavar="UID", help="Same as --key SeriesInstanceUID=UID.")
@click.option(
    "--level",
    type=click.Choice(list(UNIQUE_KEYS), case_sensitive=False),
    help="What to list.  [default: one below the deepest UID given, else STUDY]",
)
@click.option("--model", type=click.Choice(list(LEVELS)), default="study", show_default=True)
@click.option("--matches", type=click.IntRange(min=1), metavar="N", help="Cancel after N matches.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "json", "csv"]),
    default="table",
    show_default=True,
    help="json: one object per line. csv: what a spreadsheet would take for a formula has a ' before it.",
)
@timeout_option
@limit_option
@requests_options
@reports_errors
def command(
    peer: PeerAddress,
    aet: str,
    keys: tuple[str, ...],
    key_files: tuple[Path, ...],
    patient: str | None,
    study: str | None,
    series: str | None,
    level: str | None,
    model: str,
    matches: int | None,
    form: str,
    timeout: float,
    limits: tuple[Setting, ...],
    tls: TlsOptions,
) -> None:
    """Query a PACS (C-FIND) and list what matches.

    PEER is AET@HOST:PORT, or a name from fastmove.toml.

    \b
    Examples:
      fastmove find PACS@10.0.0.5:104 --key PatientName=DOE* --key StudyDate=20260101-
      fastmove find PACS@10.0.0.5:104 --study 1.2.3 --format csv > series.csv
    """
    keys += keys_of(key_files)
    level = (level or _level(patient, study, series, model)).upper()
    unique = {"PatientID": patient, "StudyInstanceUID": study, "SeriesInstanceUID": series}
    given = [*keys, *(f"{name}={value}" for name, value in unique.items() if value)]
    named = {key.partition("=")[0] for key in given}
    given += [name for name in DEFAULT_KEYS[level] if name not in named]

    bounds = limits_from(limits)
    node = tls.reach(peer)

    async def main() -> int:
        count = 0
        show = _Printer(form)
        async for match in find(node, given, aet, model=model, level=level, limit=matches, limits=bounds):
            show.match(match)
            count += 1
        show.end()
        return count

    count = run(main())
    if form == "table":
        click.echo(f"{count:,} {'match' if count == 1 else 'matches'}", err=True)


def _level(patient: str | None, study: str | None, series: str | None, model: str) -> str:
    if series:
        return "IMAGE"
    if study and "SERIES" in LEVELS[model]:
        return "SERIES"
    return "STUDY"


class _Printer:
    """Matches in one of three forms; JSON and CSV as they come, a table when its widths are known."""

    def __init__(self, form: str) -> None:
        self._form = form
        self._rows: list[dict[str, str]] = []
        self._csv: Callable[[dict[str, str]], object] | None = None

    def match(self, match: dict[str, str]) -> None:
        if self._form == "json":
            write_json(match)
        elif self._form == "csv":
            self._csv = self._csv or csv_rows(sys.stdout, list(match))
            self._csv(match)
        else:
            self._rows.append(match)

    def end(self) -> None:
        if self._form == "table" and self._rows:
            header = [name for name in dict.fromkeys(n for row in self._rows for n in row) if name not in HIDDEN]
            table(([row.get(name, "") for name in header] for row in self._rows), header)
