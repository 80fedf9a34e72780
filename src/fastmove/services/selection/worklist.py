"""Worklists: tables and lists, as people and spreadsheets write them, row by row to what is wanted.

Bytes in, values out.  A table is read as often as it is walked through, and never held as rows: it may have millions.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from fastmove.errors import ConfigurationError
from fastmove.services.selection.cells import KINDS, UIDS, Entry, check, is_uid, wanted
from fastmove.services.selection.selection import Once, Query, Wanted, Worklist
from fastmove.values import Value

_NAMES: Final = {name: kind for kind, (keyword, more) in KINDS.items() for name in (keyword.lower(), *more.split())}

_DATE_WITH_DOTS: Final = re.compile(r"\d\d?\.\d\d?\.(\d\d|\d{4})")  # which is a UID, too, if it stands alone
_FORMULA: Final = re.compile(r'="(.*)"', re.S)
_BLANKS: Final = " \t\r\n\0\u00a0\u200b\ufeff"
_DELIMITERS: Final = "\t;,|"

_MAGIC: Final = {
    b"PK\x03\x04": "an Excel workbook (.xlsx) or another archive: export the sheet as CSV",
    b"\xd0\xcf\x11\xe0": "an Excel workbook (.xls): export the sheet as CSV",
    b"%PDF": "a PDF: export the table as CSV",
    b"\x1f\x8b": "compressed: unpack it",
}
_BOMS: Final = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_CHUNK_BYTES: Final = 64 << 10

SHOWN_ROWS: Final = 5
"""Rows with errors that a message names."""


class Contents(Value):
    """What there is in a worklist."""

    rows: int
    """With something in them."""

    wanted: int
    """Studies, series and instances named by UID, each once."""

    queries: int
    """To find out what is meant, each once."""

    duplicates: int
    """Rows that say what another row says."""


def entries(worklist: Worklist) -> Iterator[Entry]:
    """What each row wants, as often as the table says it; instances of a series in rows that follow are one.

    ConfigurationError if it is no table or list, at the first row that cannot be understood.
    """
    for series, rows in itertools.groupby(_checked(worklist), _series):
        if series is None:
            yield from rows
            continue
        images = [row for row in rows if isinstance(row, Wanted)]
        uids = dict.fromkeys(uid for image in images for uid in image.sop_instance_uids)
        yield images[0].replace(sop_instance_uids=tuple(uids))


def contents(worklist: Worklist) -> Contents:
    """Read all of it once; ConfigurationError that names the first rows that cannot be understood."""
    seen = Once()
    wrong: list[str] = []
    rows = named = queries = bad = 0
    for entry in _rows(worklist):
        rows += 1
        if isinstance(entry, str):
            bad += 1
            if bad <= SHOWN_ROWS:
                wrong.append(entry)
        elif isinstance(entry, Query):
            queries += seen.is_new(entry.level, *entry.keys)
        else:
            named += seen.is_new(entry.study_instance_uid, entry.series_instance_uid, *entry.sop_instance_uids)
    if bad > SHOWN_ROWS:
        wrong.append(f"and {bad - SHOWN_ROWS:,} more rows")
    if wrong:
        raise ConfigurationError(worklist.name, "; ".join(wrong))
    if not rows:
        raise ConfigurationError(worklist.name, "there are no rows")
    return Contents(rows, named, queries, rows - named - queries)


def _series(entry: Entry) -> tuple[str, str] | None:
    """What instances of one series have in common."""
    if isinstance(entry, Wanted) and entry.sop_instance_uids:
        return entry.study_instance_uid, entry.series_instance_uid
    return None


def _checked(worklist: Worklist) -> Iterator[Entry]:
    for entry in _rows(worklist):
        if isinstance(entry, str):
            raise ConfigurationError(worklist.name, entry)
        yield entry


# ---------------------------------------------------------------------- bytes to cells


def _rows(worklist: Worklist) -> Iterator[Entry | str]:
    """What each row wants, or what is wrong with it; ConfigurationError if it is no table."""
    table = table_rows(worklist)
    head = list(itertools.islice(table, 2))
    if not head:
        return
    layout = _layout(worklist, [cells for _, cells in head])
    for number, cells in itertools.chain(head[layout.header :], table):
        yield _entry(number, cells, layout.columns, worklist.filters)


def table_rows(worklist: Worklist) -> Iterator[tuple[int, list[str]]]:
    """The cells of each row that has any, with its number as a spreadsheet shows it; ConfigurationError if it is none.

    Whoever looks for other columns than those of a worklist may read them here, too.
    """
    data = worklist.data
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            raise ConfigurationError(worklist.name, f"is {what}")
    encoding = _encoding(data)
    if not encoding.startswith("utf-16") and b"\0" in data:
        raise ConfigurationError(worklist.name, "is no text")
    text = io.TextIOWrapper(io.BytesIO(data), encoding, errors="replace", newline="")
    first = text.readline()
    told = re.fullmatch(r"sep=(.)", first.strip(), re.I)  # a line for Excel
    text.seek(0)
    number = 0
    try:
        for number, row in enumerate(csv.reader(text, delimiter=told[1] if told else _delimiter(first)), 1):
            cells = [_cell(cell) for cell in row]
            if any(cells) and not (told and number == 1):
                yield number, cells
    except csv.Error as error:
        raise ConfigurationError(worklist.name, f"row {number + 1}: {error}; is a quotation mark unclosed?") from None


def _encoding(data: bytes) -> str:
    """UTF-16 by its mark or its zeros, UTF-8 if it is, else what Windows calls ANSI."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    if b"\0" in data[:2]:
        return "utf-16-be" if data[:1] == b"\0" else "utf-16-le"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        for start in range(0, len(data), _CHUNK_BYTES):
            decoder.decode(data[start : start + _CHUNK_BYTES], start + _CHUNK_BYTES >= len(data))
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8"


def _delimiter(line: str) -> str:
    """The one that parts the first line into most cells."""
    outside = re.sub(r'"[^"]*"', "", line)
    return max(_DELIMITERS, key=outside.count) if any(map(outside.count, _DELIMITERS)) else ","


def _cell(text: str) -> str:
    """Its text as the person sees it who typed it: without what Excel needs so as not to make a number of it."""
    text = text.strip(_BLANKS)
    if text[:1] == "=" and (formula := _FORMULA.fullmatch(text)):
        return formula[1].replace('""', '"').strip(_BLANKS)
    return text[1:].strip(_BLANKS) if text[:1] == "'" else text


# ---------------------------------------------------------------------- which column says what


class _Layout(NamedTuple):
    columns: dict[str, tuple[int, str]]
    """Kind → where it is, and what it is called."""

    header: bool


def _layout(worklist: Worklist, head: Sequence[Sequence[str]]) -> _Layout:
    """What the columns are, by what the user says, by the header, or by UIDs that speak for themselves."""
    first = head[0]
    if worklist.columns:
        return _told(worklist, head)
    columns: dict[str, tuple[int, str]] = {}
    for place, name in enumerate(first):
        kind = _kind(name)
        if kind in columns:
            other = columns[kind][1]
            raise ConfigurationError(
                worklist.name, f"both {other!r} and {name!r} may be the {kind}: say --column {kind}=NAME"
            )
        if kind:
            columns[kind] = place, name
    if columns:
        return _Layout(columns, True)
    # Without a header, or with one that says nothing, a UID is evident: that of a study, if it is the only one.
    for cells in head:
        evident = [place for place, cell in enumerate(cells) if _is_evident(cell)]
        if len(evident) == 1:
            header = cells is not first
            name = first[evident[0]] if header and evident[0] < len(first) else f"column {evident[0] + 1}"
            return _Layout({"study": (evident[0], name)}, header)
        if evident:
            raise ConfigurationError(worklist.name, f"{len(evident)} columns have UIDs: say --column study=NUMBER, ...")
    keywords = ", ".join(keyword for keyword, _ in KINDS.values())
    raise ConfigurationError(
        worklist.name,
        f"no column says what is wanted; there are {_names(first)}, and looked for were {keywords} in any spelling: "
        f"say --column accession=NAME, or --column accession for a list without a header",
    )


def _told(worklist: Worklist, head: Sequence[Sequence[str]]) -> _Layout:
    """The columns that the user names: `kind=NAME`, `kind=NUMBER`, `NAME`, or `kind` of the only column."""
    first = head[0]
    names = [_folded(cell) for cell in first]
    columns: dict[str, tuple[int, str]] = {}
    header = any(map(_kind, first))
    for told in worklist.columns:
        before, equals, after = (part.strip() for part in told.partition("="))
        kind, name = (before.lower(), after) if equals else ("", before)
        if kind and kind not in KINDS:
            raise ConfigurationError("--column", f"{kind!r} is none of {', '.join(KINDS)}")
        if _folded(name) in names:
            place, header = names.index(_folded(name)), True
        elif kind and name.isdecimal() and 0 < int(name) <= len(first):
            place = int(name) - 1
        elif not kind and name.lower() in KINDS and len(first) == 1:
            place, kind = 0, name.lower()
        else:
            raise ConfigurationError(worklist.name, f"there is no column {name!r}, but {_names(first)}")
        kind = (
            kind or _kind(name) or ("study" if any(_is_evident(cell) for cell in head[-1][place : place + 1]) else "")
        )
        if not kind:
            raise ConfigurationError("--column", f"say what {name!r} is, as --column accession={name}")
        header = header or (kind in UIDS and not any(map(is_uid, first[place : place + 1])))
        columns[kind] = place, first[place] if header else f"column {place + 1}"
    return _Layout(columns, header)


def _kind(name: str) -> str:
    return _NAMES.get(_folded(name), "")


def _folded(name: str) -> str:
    """Without case, spaces and punctuation."""
    return re.sub(r"[\W_]", "", name).casefold()


def _is_evident(cell: str) -> bool:
    return is_uid(cell) and not _DATE_WITH_DOTS.fullmatch(cell) and cell.count(".") > 1


def _names(cells: Sequence[str]) -> str:
    return ", ".join(repr(cell[:64]) for cell in cells[:20] if cell) + (", ..." if len(cells) > 20 else "")


# ---------------------------------------------------------------------- cells to what is wanted


def _entry(
    number: int, cells: Sequence[str], columns: Mapping[str, tuple[int, str]], filters: tuple[str, ...]
) -> Entry | str:
    """What a row wants, or what is wrong with it."""
    values: dict[str, str] = {}
    for kind, (place, name) in columns.items():
        if place < len(cells) and (cell := cells[place]):
            try:
                values[kind] = check(kind, cell)
            except ValueError as error:
                return f"row {number}, column {name!r}: {error}"
    try:
        return wanted(values, filters)
    except ValueError as error:
        return f"row {number}: {error}"
