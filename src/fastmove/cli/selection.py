"""The options that say what is to be retrieved, and the selection that they make together."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Final

import click

from fastmove.cli.keys_file import keys_file_option, keys_of
from fastmove.cli.options import all_of
from fastmove.dimse.identifier import parse_key
from fastmove.errors import ConfigurationError
from fastmove.limits import MAX_WORKLIST_BYTES
from fastmove.services.selection.cells import KINDS, UIDS, check, wanted
from fastmove.services.selection.extent import parse_dates
from fastmove.services.selection.selection import Query, Selection, Wanted, Worklist
from fastmove.services.selection.worklist import contents

_KINDS: Final = {keyword: kind for kind, (keyword, _) in KINDS.items() if kind != "date"}
_MODALITIES: Final = "ModalitiesInStudy"
_MODALITY: Final = re.compile(r"[A-Z0-9_ ]{1,16}")  # PS3.5 6.2, VR CS
_STDIN: Final = "-"

selection_options: Final = all_of(
    click.option("--study", multiple=True, metavar="UID", help="Study Instance UID; may be given often, or A,B,C."),
    click.option("--series", multiple=True, metavar="UID", help="Series Instance UID, best with its --study."),
    click.option("--image", multiple=True, metavar="UID", help="SOP Instance UID, best with --study and --series."),
    click.option("--accession", multiple=True, metavar="NUMBER", help="Accession number; the PACS is asked for it."),
    click.option("--patient", multiple=True, metavar="ID", help="All studies of a patient, or whose the rest is."),
    click.option(
        "--from",
        "files",
        multiple=True,
        type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path),
        metavar="FILE",
        help="Table (CSV, TSV, text from Excel) with a header, or list of study UIDs; - is standard input.",
    ),
    click.option(
        "--column",
        "columns",
        multiple=True,
        metavar="KIND=NAME",
        help=f"Which column of the table, by name or number, is what: {', '.join(KINDS)}. KIND alone: a list of these.",
    ),
    click.option(
        "--date",
        "dates",
        metavar="DATES",
        help="Studies of a day, month, year or range: 2024-01-31, 2024-01, 2024-01-01..2024-03-31, 2024.., today-7d..",
    ),
    click.option("--modality", "modalities", multiple=True, metavar="CT", help="Studies with one of these: CT,MR."),
    click.option("--description", metavar="TEXT", help="Studies of this description; * and ? are wild cards."),
    click.option(
        "-k",
        "--key",
        "keys",
        multiple=True,
        metavar="KEY=VALUE",
        help="Any other key of a study: keyword or gggg,eeee.",
    ),
    keys_file_option,
)
"""A verb with the options that say what is to be retrieved; `selection_from` takes their values by name."""


def selection_from(
    study: Sequence[str] = (),
    series: Sequence[str] = (),
    image: Sequence[str] = (),
    accession: Sequence[str] = (),
    patient: Sequence[str] = (),
    files: Sequence[Path] = (),
    columns: Sequence[str] = (),
    dates: str | None = None,
    modalities: Sequence[str] = (),
    description: str | None = None,
    keys: Sequence[str] = (),
    key_files: Sequence[Path] = (),
    *,
    today: date | None = None,
) -> Selection:
    """What the options select together; files are read, and checked to their ends.

    With UIDs, numbers or files the filters choose among these; alone they select.  ConfigurationError names what
    cannot be understood, or cannot be said together.
    """
    named = {"study": study, "series": series, "image": image, "accession": accession, "patient": patient}
    values = {kind: _parts(texts) for kind, texts in named.items()}
    filters = _Filters()
    for text in (*keys, *keys_of(key_files)):
        key = parse_key(text)
        if not key.value:
            raise ConfigurationError("--key", f"{text} selects nothing: say {key.keyword}=VALUE")
        if key.keyword in _KINDS and not set(key.value) & set("*?"):
            values[_KINDS[key.keyword]] += _parts([key.value])
        else:
            filters.add(key.keyword, key.value)
    if dates:
        filters.add("StudyDate", parse_period(dates, today or date.today()))
    filters.add(_MODALITIES, "\\".join(_parts(modalities)))
    filters.add("StudyDescription", description or "")
    for kind, texts in values.items():
        values[kind] = [_checked(kind, text) for text in dict.fromkeys(texts)]
    if columns and not files:
        raise ConfigurationError("--column", "says which column of a table is what: give the table by --from FILE")
    found = _entries(values, filters.keys)
    worklists = _worklists(files, tuple(columns), filters.keys)
    if not found and not worklists and filters.keys:
        found = [Query(filters.keys)]
    return Selection(
        tuple(entry for entry in found if isinstance(entry, Wanted)),
        tuple(entry for entry in found if isinstance(entry, Query)),
        worklists,
    )


class _Filters:
    """Keys that each study must match."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}

    @property
    def keys(self) -> tuple[str, ...]:
        return tuple(f"{keyword}={value}" for keyword, value in self._values.items())

    def add(self, keyword: str, value: str) -> None:
        """Take in one; several values of a modality are alternatives, of anything else an error."""
        if not value:
            return
        if keyword in ("Modality", _MODALITIES):  # that of a series: its study is meant
            keyword, value = _MODALITIES, value.upper()
            if wrong := next((each for each in value.split("\\") if not _MODALITY.fullmatch(each)), None):
                raise ConfigurationError("--modality", f"{wrong!r} is no modality, such as CT")
        if keyword == "QueryRetrieveLevel":
            raise ConfigurationError("--key", "the level follows from what is selected")
        if keyword == "StudyDate":
            parse_dates(value)
        if keyword == _MODALITIES and keyword in self._values:
            value = f"{self._values[keyword]}\\{value}"
        elif keyword in self._values:
            raise ConfigurationError("--key", f"{keyword} is given twice")
        self._values[keyword] = value


def _parts(texts: Sequence[str]) -> list[str]:
    """Values that are given one by one, or several at once."""
    return [part.strip() for text in texts for part in re.split(r"[,\\]", text) if part.strip()]


def _checked(kind: str, text: str) -> str:
    try:
        return check(kind, text)
    except ValueError as error:
        raise ConfigurationError(f"--{kind}", str(error)) from None


def _entries(values: dict[str, list[str]], filters: tuple[str, ...]) -> list[Wanted | Query]:
    """What the options name, each with what is above it."""
    uids = [kind for kind in UIDS if values[kind]]
    for kind in uids[:-1]:
        if len(values[kind]) > 1:
            raise ConfigurationError(f"--{kind}", f"give one, whose --{uids[-1]} is wanted, or a table (--from)")
    rest = [*uids[-1:], *(["accession"] if values["accession"] else [])]
    if rest and len(values["patient"]) > 1:
        raise ConfigurationError("--patient", f"give one, whose --{rest[0]} is wanted, or a table (--from)")
    patient = {"patient": values["patient"][0]} if values["patient"] else {}
    above = {kind: values[kind][0] for kind in uids[:-1]}
    named = [{kind: value, **patient, **(above if kind in UIDS else {})} for kind in rest for value in values[kind]]
    if not rest:
        named = [{"patient": value} for value in values["patient"]]
    try:
        entries = [wanted(each, filters) for each in named]
    except ValueError as error:
        raise ConfigurationError(f"--{rest[0] if rest else 'patient'}", str(error)) from None
    images = [entry for entry in entries if isinstance(entry, Wanted) and entry.sop_instance_uids]
    if images:
        together = images[0].replace(sop_instance_uids=tuple(entry.sop_instance_uids[0] for entry in images))
        entries = [together, *(entry for entry in entries if entry not in images)]
    return entries


def _worklists(files: Sequence[Path], columns: tuple[str, ...], filters: tuple[str, ...]) -> tuple[Worklist, ...]:
    worklists = []
    for path in dict.fromkeys(files):
        name = "standard input" if str(path) == _STDIN else str(path)
        worklist = Worklist(name, _read(path, name), columns, filters)
        held = contents(worklist)
        if held.duplicates:
            click.echo(f"{name}: {held.rows:,} rows, {held.duplicates:,} of them repeat others", err=True)
        worklists.append(worklist)
    return tuple(worklists)


def _read(path: Path, name: str) -> bytes:
    try:
        if str(path) == _STDIN:
            data = sys.stdin.buffer.read(MAX_WORKLIST_BYTES + 1)
        else:
            with path.open("rb") as file:
                data = file.read(MAX_WORKLIST_BYTES + 1)
    except OSError as error:
        raise ConfigurationError(name, f"cannot be read: {error.strerror}") from None
    if len(data) > MAX_WORKLIST_BYTES:
        raise ConfigurationError(name, f"is longer than {MAX_WORKLIST_BYTES:,} bytes: part it")
    return data


# ---------------------------------------------------------------------- dates

_DAY: Final = re.compile(r"(\d{4})(-?)(\d\d)\2(\d\d)")
_MONTH: Final = re.compile(r"(\d{4})-?(\d\d)")
_RELATIVE: Final = re.compile(r"(today|yesterday)(?:-(\d{1,4})([dw]))?")
_RANGE: Final = re.compile(r"(.*?)\s*(?:\.\.+|/|\bto\b)\s*(.*)|(\d{4,8})?-(\d{4,8})?")


def parse_period(text: str, today: date) -> str:
    """The value of VR DA for a day, month, year, or a range of these that may be open; ConfigurationError."""
    told = text.strip().lower()
    period = _period(told, today)
    if period is None and (ends := _RANGE.fullmatch(told)):
        first, last = ((ends[one] or ends[two] or "") for one, two in ((1, 3), (2, 4)))
        begin, end = _period(first, today), _period(last, today)
        if (begin or not first) and (end or not last) and (begin or end):
            if begin and end and begin[0] > end[1]:
                raise ConfigurationError("--date", f"{text!r} ends before it begins")
            return f"{_da(begin[0]) if begin else ''}-{_da(end[1]) if end else ''}"
    if period is None:
        raise ConfigurationError(
            "--date",
            f"{text!r} is no day, month, year or range, such as 2024-01-31, 2024-01-01..2024-03-31, today-7d..",
        )
    return _da(period[0]) if period[0] == period[1] else f"{_da(period[0])}-{_da(period[1])}"


def _period(text: str, today: date) -> tuple[date, date] | None:
    """First and last day of what is no range."""
    try:
        if found := _RELATIVE.fullmatch(text):
            days = int(found[2] or 0) * (7 if found[3] == "w" else 1) + (found[1] == "yesterday")
            return (today - timedelta(days),) * 2
        if found := _DAY.fullmatch(text):
            return (date(int(found[1]), int(found[3]), int(found[4])),) * 2
        if found := _MONTH.fullmatch(text):
            year, month = int(found[1]), int(found[2])
            return date(year, month, 1), date(year + month // 12, month % 12 + 1, 1) - timedelta(1)
        if re.fullmatch(r"\d{4}", text):
            return date(int(text), 1, 1), date(int(text), 12, 31)
    except (ValueError, OverflowError):
        return None
    return None


def _da(day: date) -> str:
    return day.isoformat().replace("-", "")
