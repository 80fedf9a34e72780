"""The options that say what is to be retrieved: what they select together, and what they refuse."""

from __future__ import annotations

import io
import sys
from datetime import date
from pathlib import Path
from typing import Any, Final

import click
import pytest
from click.testing import CliRunner

from fastmove.cli.selection import parse_period, selection_from, selection_options
from fastmove.errors import ConfigurationError
from fastmove.services.selection.selection import Query, Selection, Wanted, Worklist

TODAY: Final = date(2024, 3, 15)


@click.command()
@selection_options
def command(**selected: Any) -> None:
    """A verb that takes nothing else."""
    try:
        selections.append(selection_from(**selected, today=TODAY))
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error


selections: Final[list[Selection]] = []


def selected(*arguments: str) -> Selection:
    """What a command line selects."""
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    return selections.pop()


def refused(*arguments: str) -> str:
    """What a command line is refused with."""
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == click.UsageError.exit_code, result.output
    return " ".join(result.output.split())


def queries(*keys: str, level: str = "STUDY") -> Selection:
    return Selection(queries=(Query(keys, level),))


# ---------------------------------------------------------------------- what is named


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Selection()),
        ("--study 1.1 --study 1.2,1.3 --study 1.1", Selection(tuple(map(Wanted, ("1.1", "1.2", "1.3"))))),
        (r"--study 1.1\1.2", Selection((Wanted("1.1"), Wanted("1.2")))),
        ("--study 1.1 --series 1.2,1.3", Selection((Wanted("1.1", "1.2"), Wanted("1.1", "1.3")))),
        ("--study 1.1 --series 1.2 --image 1.3,1.4", Selection((Wanted("1.1", "1.2", ("1.3", "1.4")),))),
        ("--study 1.1 --patient P", Selection((Wanted("1.1", patient_id="P"),))),
        ("--series 1.2", queries("SeriesInstanceUID=1.2", level="SERIES")),
        ("--image 1.3", queries("SOPInstanceUID=1.3", level="IMAGE")),
        ("--study 1.1 --image 1.3", queries("StudyInstanceUID=1.1", "SOPInstanceUID=1.3", level="IMAGE")),
        ("--accession A1 --patient P", queries("AccessionNumber=A1", "PatientID=P")),
        ("--patient P", queries("PatientID=P")),
        ("--patient P,Q", Selection(queries=(Query(("PatientID=P",)), Query(("PatientID=Q",))))),
        ("--study 1.1 --accession A1", Selection((Wanted("1.1"),), (Query(("AccessionNumber=A1",)),))),
        ("-k StudyInstanceUID=1.1 -k 0020,000E=1.2", Selection((Wanted("1.1", "1.2"),))),
    ],
)
def test_uids_and_numbers_are_wanted_each_with_what_is_above_it(line: str, expected: Selection) -> None:
    assert selected(*line.split()) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--date 2024-01", queries("StudyDate=20240101-20240131")),
        ("--modality ct,MR --modality SR", queries("ModalitiesInStudy=CT\\MR\\SR")),
        ("-k Modality=ct", queries("ModalitiesInStudy=CT")),
        ("--description CHEST*", queries("StudyDescription=CHEST*")),
        ("-k InstitutionName=X -k 0008,0050=A*", queries("InstitutionName=X", "AccessionNumber=A*")),
        ("--patient P --date 2024-01-03", queries("PatientID=P", "StudyDate=20240103")),
        ("--study 1.1 --modality CT", queries("StudyInstanceUID=1.1", "ModalitiesInStudy=CT")),
        (
            "--accession A1 --date 2024 --modality CT",
            queries("AccessionNumber=A1", "StudyDate=20240101-20241231", "ModalitiesInStudy=CT"),
        ),
    ],
)
def test_filters_select_or_choose_among_what_is_named(line: str, expected: Selection) -> None:
    assert selected(*line.split()) == expected


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--study abc", "--study: 'abc' is no UID"),
        ("--accession A*", "--accession: 'A*' would mean several"),
        ("--accession 1.2E+15", "a spreadsheet makes of a long number"),
        ("--study 1.1,1.2 --series 1.3", "--study: give one, whose --series is wanted"),
        ("--series 1.1,1.2 --image 1.3", "--series: give one, whose --image is wanted"),
        ("--patient P,Q --study 1.1", "--patient: give one, whose --study is wanted"),
        ("--study 1.1 --series 1.2 --modality CT", "--series: filters choose studies"),
        ("--column study=UID", "--column: says which column of a table"),
        ("--from /nonexistent.csv", "/nonexistent.csv"),
        ("-k PatientName", "--key: PatientName selects nothing"),
        ("-k NoSuchKeyword=1", "NoSuchKeyword"),
        ("-k QueryRetrieveLevel=SERIES", "the level follows from what is selected"),
        ("-k StudyDate=2024-01", "'2024-01' is neither a date nor a range"),
        ("-k StudyDate=20240101 --date 2024", "StudyDate is given twice"),
        ("--modality C*", "'C*' is no modality"),
        ("--date sometime", "--date: 'sometime' is no day, month, year or range"),
    ],
)
def test_what_cannot_be_understood_or_said_together_is_refused(line: str, words: str) -> None:
    assert words in refused(*line.split())


# ---------------------------------------------------------------------- files


def test_table_is_read_with_its_columns_and_filters(tmp_path: Path) -> None:
    table = tmp_path / "studies.csv"
    table.write_bytes(b"Number,Name\nA1,x\nA2,y\nA1,z\n")
    result = CliRunner().invoke(command, ["--from", str(table), "--column", "accession=Number", "--modality", "CT"])
    assert result.exit_code == 0, result.output
    assert selections.pop() == Selection(
        worklists=(Worklist(str(table), table.read_bytes(), ("accession=Number",), ("ModalitiesInStudy=CT",)),)
    )
    assert result.stderr == f"{table}: 3 rows, 1 of them repeat others\n"


def test_list_is_read_from_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1.2.3\n1.2.4\n")))
    selection = selection_from(files=[Path("-"), Path("-")], today=TODAY)
    assert selection == Selection(worklists=(Worklist("standard input", b"1.2.3\n1.2.4\n"),))


def test_table_that_is_wrong_anywhere_is_refused_before_anything_is_done(tmp_path: Path) -> None:
    table = tmp_path / "studies.csv"
    table.write_text("StudyInstanceUID\n" + "1.2.3\n" * 1000 + "abc\n")
    assert "row 1002, column 'StudyInstanceUID': 'abc' is no UID" in refused("--from", str(table), "--study", "1.2")


def test_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: Is a directory"):
        selection_from(files=[tmp_path], today=TODAY)


def test_worklist_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.cli.selection.MAX_WORKLIST_BYTES", 10)
    table = tmp_path / "studies.csv"
    table.write_text("1.2.3\n1.2\n")
    assert selection_from(files=[table], today=TODAY).worklists
    table.write_text("1.2.3\n1.2.4\n")
    with pytest.raises(ConfigurationError, match="longer than 10 bytes"):
        selection_from(files=[table], today=TODAY)


# ---------------------------------------------------------------------- dates


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("20240131", "20240131"),
        ("2024-01-31", "20240131"),
        ("2024-02", "20240201-20240229"),
        ("202402", "20240201-20240229"),
        ("2024-12", "20241201-20241231"),
        ("2024", "20240101-20241231"),
        ("20240101-20240131", "20240101-20240131"),
        ("202401-202402", "20240101-20240229"),
        ("2023-2024", "20230101-20241231"),
        ("20240101-", "20240101-"),
        ("2024-", "20240101-"),
        ("-2024", "-20241231"),
        ("2024-01-01..2024-01-31", "20240101-20240131"),
        ("2024-01..2024-02", "20240101-20240229"),
        ("2024-01-01/2024-01-31", "20240101-20240131"),
        ("2024-01-01 to 2024-01-31", "20240101-20240131"),
        ("2024-02..", "20240201-"),
        ("..2024-02", "-20240229"),
        ("today", "20240315"),
        ("yesterday", "20240314"),
        ("today-7d", "20240308"),
        ("today-2w..", "20240301-"),
        ("today-7d..yesterday", "20240308-20240314"),
        ("2024-03..today", "20240301-20240315"),
    ],
)
def test_dates_are_given_as_people_write_them(text: str, value: str) -> None:
    assert parse_period(text, TODAY) == value


@pytest.mark.parametrize(
    "text",
    ["", "-", "..", "2024-13", "2024-02-30", "20240230", "01/02/2024", "31.01.2024", "2024-1", "tomorrow", "..x", "1.."]
    + ["2024-02..2024-01", "20240201-20240101", "today-99999d", "today..2024-01-01", "0000"],
)
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="--date"):
        parse_period(text, TODAY)
