"""Worklists, as spreadsheets, databases and people write them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmove.errors import ConfigurationError
from fastmove.services.selection.cells import check, is_uid
from fastmove.services.selection.selection import Query, Wanted, Worklist
from fastmove.services.selection.worklist import Contents, Entry, contents, entries


def read(data: str | bytes, *columns: str, filters: Iterable[str] = ()) -> list[Entry]:
    return list(entries(worklist(data, *columns, filters=filters)))


def worklist(data: str | bytes, *columns: str, filters: Iterable[str] = ()) -> Worklist:
    return Worklist("list.csv", data if isinstance(data, bytes) else data.encode(), columns, tuple(filters))


STUDIES = [Wanted("1.2.3"), Wanted("1.2.4")]

# ---------------------------------------------------------------------- bytes to cells


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252", "latin-1"], ids=str
)
@pytest.mark.parametrize("delimiter", ",;\t|")
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"], ids=["lf", "crlf", "cr"])
def test_table_is_read_whatever_program_wrote_it(encoding: str, delimiter: str, newline: str) -> None:
    lines = [("Name", "Study Instance UID"), ("Müller", "1.2.3"), ("Grün", "1.2.4")]
    text = "".join(delimiter.join(line) + newline for line in lines)
    assert read(text.encode(encoding)) == STUDIES


def test_text_beyond_ascii_is_decoded_by_what_it_is() -> None:
    for encoding in ("utf-8", "cp1252", "utf-16"):
        assert read("MRN\nMüller\n".encode(encoding)) == [Query(("PatientID=Müller",))]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ('"00123"', "00123"),
        ('="00123"', "00123"),
        ('"=""00123"""', "00123"),
        ("'00123", "00123"),
        ("  00123\t", "00123"),
        ("00123\u00a0", "00123"),
        ('"A ""1"""', 'A "1"'),
        ('"A\n1"', None),
    ],
)
def test_cell_is_what_a_person_sees(cell: str, number: str | None) -> None:
    table = f"Accession,Name\n{cell},x\n"
    if number is None:
        with pytest.raises(ConfigurationError, match="row 2"):
            read(table)
    else:
        assert read(table) == [Query((f"AccessionNumber={number}",))]


def test_blank_lines_and_empty_rows_are_passed_over() -> None:
    assert read("\n\nStudyInstanceUID,Name\n\n1.2.3,x\n,\n  ,\n1.2.4\n\n") == STUDIES


def test_delimiter_that_a_first_line_for_excel_tells_is_taken() -> None:
    assert read("sep=;\nStudyInstanceUID;Name, first\n1.2.3;a,b,c,d\n1.2.4;\n") == STUDIES


def test_last_line_needs_no_end() -> None:
    assert read("1.2.3\n1.2.4") == STUDIES


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"PK\x03\x04\x14\x00", "export the sheet as CSV"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "export the sheet as CSV"),
        (b"\x1f\x8b\x08\x00", "unpack"),
        (b"%PDF-1.7", "CSV"),
        (b"StudyInstanceUID\n1.2\x00.3\n", "is no text"),
        (b"", "no rows"),
        (b"\n \n", "no rows"),
        (b"StudyInstanceUID\n", "no rows"),
        (b'StudyInstanceUID\n"1.2.3\n' + b"1.2.4\n" * 40_000, "row 2: .*quotation mark"),
    ],
)
def test_what_is_no_table_is_refused_with_advice(data: bytes, what: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^list\.csv: .*{what}"):
        contents(worklist(data))


# ---------------------------------------------------------------------- which column says what


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *((name, Wanted("1.2.3")) for name in ("StudyInstanceUID", "Study Instance UID", "study_uid", "STUDYUID")),
        *(
            (name, Wanted("1.2.3"))
            for name in ("0020000D", "(0020,000D)", "0020,000d", "Study-UID", "study.instance.uid")
        ),
        *((name, Query(("SeriesInstanceUID=1.2.3",), "SERIES")) for name in ("Series UID", "(0020,000E)")),
        *((name, Query(("SOPInstanceUID=1.2.3",), "IMAGE")) for name in ("SOP Instance UID", "sop_uid", "00080018")),
        *((name, Query(("AccessionNumber=1.2.3",))) for name in ("Acc#", "Acc. No.", "Accession No.", "ACCESSION")),
        *((name, Query(("PatientID=1.2.3",))) for name in ("MRN", "Patient ID", "pat_id", "(0010,0020)")),
    ],
)
def test_header_is_recognised_in_many_spellings(name: str, expected: Entry) -> None:
    assert read(f'Comment;"{name}";Station\nx;1.2.3;CT1\n') == [expected]


@pytest.mark.parametrize("data", ["1.2.3\n1.2.4\n", "UIDs\n1.2.3\n1.2.4\n", "x,1.2.3,03.01.2024\ny,1.2.4,04.01.2024\n"])
def test_study_uids_that_stand_alone_are_evident(data: str) -> None:
    assert read(data) == STUDIES


@pytest.mark.parametrize(
    ("data", "columns", "expected"),
    [
        ("A1\nA2\n", ["accession"], [Query(("AccessionNumber=A1",)), Query(("AccessionNumber=A2",))]),
        ("4711\n", ["patient"], [Query(("PatientID=4711",))]),
        ("Accession\nA1\n", ["accession"], [Query(("AccessionNumber=A1",))]),
        ("Foo;Bar\n1.2.3;A1\n", ["accession=Bar"], [Query(("AccessionNumber=A1",))]),
        ("Foo;Bar\n1.2.3;A1\n", ["bar", "study=foo"], None),
        ("Foo;Bar\n1.2.3;A1\n", ["Foo"], [Wanted("1.2.3")]),
        ("Foo;Bar\n1.2.3;A1\n", ["STUDY=1"], [Wanted("1.2.3")]),
        ("1.2.3;A1\n", ["accession=2"], [Query(("AccessionNumber=A1",))]),
        ("1.2.3;1.2.4\n", ["study=2"], [Wanted("1.2.4")]),
        ("StudyUID,Accession,MRN\n1.2.3,A1,P\n", ["Accession"], [Query(("AccessionNumber=A1",))]),
        ("Acc1,Acc No,Accession\nA1,A2,A3\n", ["accession=Acc No"], [Query(("AccessionNumber=A2",))]),
    ],
)
def test_columns_are_what_the_user_says_and_no_others_count(
    data: str, columns: list[str], expected: list[Entry] | None
) -> None:
    if expected is None:
        with pytest.raises(ConfigurationError, match="say what 'bar' is"):
            read(data, *columns)
    else:
        assert read(data, *columns) == expected


@pytest.mark.parametrize(
    ("data", "columns", "words"),
    [
        ("Name,Weight\nx,70\n", [], ["'Name', 'Weight'", "StudyInstanceUID", "AccessionNumber", "--column"]),
        ("A1\nA2\n", [], ["'A1'", "--column accession"]),
        ("1.2.3,1.2.4\n", [], ["2 columns have UIDs", "--column study=NUMBER"]),
        ("Accession,Acc No\nA1,A2\n", [], ["both 'Accession' and 'Acc No'", "--column accession=NAME"]),
        ("Name,Weight\nx,70\n", ["accession=Number"], ["no column 'Number'", "'Name', 'Weight'"]),
        ("Name,Weight\nx,70\n", ["accession=3"], ["no column '3'"]),
        ("Name,Weight\nx,70\n", ["length=Weight"], ["'length' is none of study, series"]),
    ],
)
def test_table_without_a_usable_column_says_what_there_is_and_what_was_looked_for(
    data: str, columns: list[str], words: list[str]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read(data, *columns)
    assert all(word in str(caught.value) for word in words)


# ---------------------------------------------------------------------- rows to what is wanted


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("1.1,1.2,1.3,A,P,20240103", Wanted("1.1", "1.2", ("1.3",), "P")),
        ("1.1,1.2,,A,P,", Wanted("1.1", "1.2", (), "P")),
        ("1.1,,,A,P,20240103", Wanted("1.1", patient_id="P")),
        ("1.1,,1.3,,,", Query(("StudyInstanceUID=1.1", "SOPInstanceUID=1.3"), "IMAGE")),
        (",1.2,1.3,,,", Query(("SeriesInstanceUID=1.2", "SOPInstanceUID=1.3"), "IMAGE")),
        (",1.2,,A,P,", Query(("SeriesInstanceUID=1.2",), "SERIES")),
        (",,1.3,,,", Query(("SOPInstanceUID=1.3",), "IMAGE")),
        (",,,A,P,20240103", Query(("AccessionNumber=A", "PatientID=P"))),
        (",,,A,,20240103", Query(("AccessionNumber=A",))),
        (",,,,P,2024-01-03", Query(("PatientID=P", "StudyDate=20240103"))),
        (",,,,P,", Query(("PatientID=P",))),
        (",,,,,3.1.2024", Query(("StudyDate=20240103",))),
    ],
)
def test_deepest_uid_of_a_row_wins_with_those_above_it(row: str, expected: Entry) -> None:
    assert read(f"StudyUID,SeriesUID,SOPInstanceUID,Accession,MRN,StudyDate\n{row}\n") == [expected]


def test_instances_of_a_series_that_follow_each_other_are_wanted_together() -> None:
    table = "StudyUID,SeriesUID,SOPUID\n1.1,1.2,1.3\n1.1,1.2,1.4\n1.1,1.2,1.3\n1.1,1.5,1.6\n1.1,1.2,1.7\n"
    assert read(table) == [
        Wanted("1.1", "1.2", ("1.3", "1.4")),
        Wanted("1.1", "1.5", ("1.6",)),
        Wanted("1.1", "1.2", ("1.7",)),
    ]


def test_filters_make_queries_of_studies() -> None:
    assert read("StudyUID,MRN\n1.1,P\n,P2\n", filters=["ModalitiesInStudy=CT"]) == [
        Query(("StudyInstanceUID=1.1", "PatientID=P", "ModalitiesInStudy=CT")),
        Query(("PatientID=P2", "ModalitiesInStudy=CT")),
    ]


@pytest.mark.parametrize(
    ("table", "filters", "words"),
    [
        ("StudyUID,SeriesUID\n1.1,1.2\n", ["ModalitiesInStudy=CT"], "row 2: filters choose studies"),
        ("MRN,StudyDate\nP,20240103\n", ["StudyDate=2024"], "row 2: StudyDate is given already"),
    ],
)
def test_filters_that_go_against_the_table_are_refused(table: str, filters: list[str], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read(table, filters=filters)


def test_row_without_anything_in_the_usable_columns_is_no_row_to_pass_over() -> None:
    with pytest.raises(ConfigurationError, match="row 3: nothing says what is wanted"):
        read("Name,Accession\nx,A1\ny,\n")


@pytest.mark.parametrize(
    ("kind", "cell", "words"),
    [
        ("study", "abc", "'abc' is no UID"),
        ("study", "1.2.3abc", "is no UID"),
        ("study", "1.2.3\n", "is no UID"),
        ("study", "1..2", "is no UID"),
        ("study", "123", "is no UID"),
        ("study", "1." * 40 + "1", "is no UID"),
        ("study", "1.2E+15", "a spreadsheet makes of a long number"),
        ("accession", "1,2E+15", "a spreadsheet makes of a long number"),
        ("accession", "1.20E+09", "format Text"),
        ("accession", "123456.0", "written with decimals"),
        ("accession", "#N/A", "an error of the spreadsheet"),
        ("accession", "#NAME?", "an error of the spreadsheet"),
        ("accession", "#####", "an error of the spreadsheet"),
        ("accession", "A*", "would mean several"),
        ("patient", "A?", "would mean several"),
        ("patient", "A\\B", "would mean several"),
        ("patient", "x" * 65, "too long"),
        ("patient", "a\x1bb", "cannot be printed"),
        ("date", "01/02/2024", "write it as 2024-01-31"),
        ("date", "20241301", "is no date"),
        ("date", "2024-1-1", "is no date"),
        ("date", "31.02.2024", "is no date"),
        ("date", "yesterday", "is no date"),
    ],
)
def test_cell_that_says_nothing_useful_is_refused_with_the_reason(kind: str, cell: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?").replace("*", r"\*")):
        check(kind, cell)


@pytest.mark.parametrize("text", ["A123", "1E5", "#123", "12E10", "1234567890123456", "Müller 7", "0", "1.5"])
def test_identifiers_that_look_strange_are_let_pass(text: str) -> None:
    assert check("accession", text) == check("patient", text) == text


@pytest.mark.parametrize(
    "text", ["20240103", "2024-01-03", "2024/01/03", "2024.01.03", "03.01.2024", "3.1.2024", "2024-01-03 00:00:00"]
)
def test_dates_are_read_where_they_mean_one_day(text: str) -> None:
    assert check("date", text) == "20240103"


def test_error_names_row_column_and_cell() -> None:
    with pytest.raises(ConfigurationError, match=r"^list.csv: row 4, column 'Study UID': 'abc' is no UID$"):
        contents(worklist("Study UID;x\n1.2.3;\n\nabc;\n"))


def test_all_of_a_table_is_checked_and_the_first_errors_are_told() -> None:
    table = "Study UID\n" + "".join(f"bad{number}\n" for number in range(20))
    with pytest.raises(ConfigurationError) as caught:
        contents(worklist(table))
    assert "row 2" in str(caught.value) and "row 6" in str(caught.value) and "row 7" not in str(caught.value)
    assert "and 15 more rows" in str(caught.value)


def test_contents_are_counted_and_duplicates_too() -> None:
    table = "StudyUID,Accession\n1.1,A\n1.2,B\n1.1,C\n,A\n,A\n,B\n"
    assert contents(worklist(table)) == Contents(rows=6, wanted=2, queries=2, duplicates=2)


def test_reading_a_large_table_takes_no_memory_for_its_rows() -> None:
    data = ("StudyUID,MRN\n" + "".join(f"1.2.840.113619.2.55.{n},P{n}\n" for n in range(20_000))).encode()
    large = worklist(data)
    tracemalloc.start()
    try:
        assert sum(1 for _ in entries(large)) == 20_000
        assert tracemalloc.get_traced_memory()[1] < 500_000
    finally:
        tracemalloc.stop()


def test_data_of_a_worklist_is_not_shown() -> None:
    assert "1.2.3" not in repr(worklist("1.2.3\n"))


@given(st.binary(max_size=300), st.lists(st.sampled_from(["study", "accession=1", "x", "=", "study=2"]), max_size=2))
def test_any_bytes_are_a_table_or_a_configuration_error(data: bytes, columns: list[str]) -> None:
    try:
        for entry in entries(Worklist("x", data, tuple(columns))):
            assert not isinstance(entry, Wanted) or is_uid(entry.study_instance_uid)
    except ConfigurationError:
        pass


@given(st.lists(st.from_regex(r"\A[0-9]{1,9}(\.[0-9]{1,9}){1,5}\Z"), min_size=1, max_size=20))
def test_uids_are_read_as_they_were_written(uids: list[str]) -> None:
    table = "StudyInstanceUID\n" + "\n".join(uids)
    assert [entry.study_instance_uid for entry in read(table) if isinstance(entry, Wanted)] == uids
