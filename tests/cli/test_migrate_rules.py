"""`fastmove migrate rules` as a user meets it: what is right, what is wrong, and what would be changed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.encoded import DEFLATED, EXPLICIT, LITTLE, SOP_CLASS, SOP_INSTANCE

from fastmove.cli.verbs import main
from fastmove.storage.filemeta import FileMeta

PATIENTS = "old;new;name\n'0012;A-12;Dóe^Jane\n13;A-13;\n"
RULES = """
reason = "CORRECT"
source = "OLD PACS"
system = "MOVER"

[[change]]
attribute = "PatientID"
map = "patients.csv"
from = "old"
to = { PatientID = "new", PatientName = "NAME" }
missing = "refuse"

[[change]]
attribute = "InstitutionName"
value = "General Hospital"

[[change]]
attribute = "0010,1000"
remove = true

[[change]]
attribute = "AccessionNumber"
template = "A{AccessionNumber:08}"
missing = "keep"
"""


def rules(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["migrate", "rules", *map(str, arguments)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Rules, and the table that they name, as Excel writes it in Windows."""
    (tmp_path / "patients.csv").write_bytes(PATIENTS.encode("cp1252"))
    path = tmp_path / "rules.toml"
    path.write_text(RULES)
    return path


def dicom(path: Path, patient: bytes, *, character_set: bytes = b"ISO_IR 100", syntax: str = EXPLICIT) -> Path:
    """A DICOM file of a patient."""
    meta = FileMeta(SOP_CLASS.rstrip(b"\0").decode(), syntax, "PACS")
    data = LITTLE.element(0x00080005, "CS", character_set) + LITTLE.head
    data += LITTLE.element(0x00100010, "PN", b"Doe^J\xe4ne") + LITTLE.element(0x00100020, "LO", patient)
    path.write_bytes(meta.head(SOP_INSTANCE.rstrip(b"\0")) + data)
    return path


def test_rules_that_are_right_are_said_to_be(file: Path) -> None:
    result = rules(file)
    assert result.exit_code == 0, result.output
    assert "4 rules, for AccessionNumber, InstitutionName, PatientName, PatientID, OtherPatientIDs" in result.output
    assert "reason CORRECT" in result.output


def test_what_would_be_changed_is_shown_and_nothing_is(file: Path, tmp_path: Path) -> None:
    objects = [dicom(tmp_path / "a.dcm", b"0012"), dicom(tmp_path / "b.dcm", b"14")]
    before = [path.read_bytes() for path in objects]
    result = rules(file, "--try", *objects)
    assert result.exit_code == 1
    lines = [line.split() for line in result.output.splitlines()]
    assert ["PatientID", "0012", "A-12"] in lines
    assert ["PatientName", "Doe^Jäne", "Dóe^Jane"] in lines
    assert ["InstitutionName", "-", "General", "Hospital"] in lines
    assert f"{objects[1]}: would be refused: PatientID is not in the map" in result.output
    assert [path.read_bytes() for path in objects] == before


def test_object_that_would_be_stored_is_success(file: Path, tmp_path: Path) -> None:
    assert rules(file, "--try", dicom(tmp_path / "a.dcm", b"0012")).exit_code == 0
    file.write_text('[[change]]\nattribute = "PatientID"\nvalue = "12"\n')
    result = rules(file, "--try", dicom(tmp_path / "a.dcm", b"12"))
    assert result.exit_code == 0
    assert "nothing is changed" in result.output


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"syntax": DEFLATED}, "not changed in this transfer syntax"),
        ({"character_set": b"ISO_IR 6"}, "PatientName has letters that the object cannot have"),
    ],
)
def test_object_that_would_be_refused_is_said_to_be(
    file: Path, tmp_path: Path, more: dict[str, str | bytes], why: str
) -> None:
    result = rules(file, "--try", dicom(tmp_path / "a.dcm", b"0012", **more))
    assert result.exit_code == 1
    assert why in result.output


def test_what_is_no_dicom_file_would_be_refused(file: Path, tmp_path: Path) -> None:
    result = rules(file, "--try", file, tmp_path / "nowhere.dcm")
    assert result.exit_code == 1
    assert "not a DICOM file" in result.output
    assert "No such file" in result.output


def test_everything_is_there_as_json(file: Path, tmp_path: Path) -> None:
    result = rules(file, "--json", "--try", dicom(tmp_path / "a.dcm", b"0012"))
    summary, tried = map(json.loads, result.output.splitlines())
    assert summary["event"] == "migrate.rules"
    assert summary["attributes"] == ["AccessionNumber", "InstitutionName", "PatientName", "PatientID"] + [
        "OtherPatientIDs"
    ]
    assert (tried["event"], tried["refused"]) == ("migrate.rule_tried", "")
    assert {"attribute": "PatientID", "before": "0012", "after": "A-12"} in tried["changes"]
    assert {"attribute": "InstitutionName", "before": None, "after": "General Hospital"} in tried["changes"]


def test_objects_without_try_and_try_without_objects_are_refused(file: Path, tmp_path: Path) -> None:
    assert rules(file, dicom(tmp_path / "a.dcm", b"12")).exit_code == 1
    assert rules(file, "--try").exit_code == 1


CHANGE = '[[change]]\nattribute = "PatientID"\n'


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "says of no attribute how to change it, as in [[change]]"),
        ("change = 5", "says of no attribute"),
        ("change = [5]", "change 1: must be a table"),
        ("x = [", "not TOML"),
        ("\xff", "is not UTF-8"),
        ("colour = 1\n" + CHANGE + "remove = true", "colour is not known; known are reason, source, system, change"),
        ("[[change]]\nremove = true", "change 1: says not which attribute"),
        (CHANGE, "change 1 (PatientID): says not what to do: value = "),
        (CHANGE + 'value = "1"\nremove = true', "change 1 (PatientID): says more than one thing to do"),
        (CHANGE + 'value = "1"\nmissing = "keep"', "missing does not go with value, which looks so: value = "),
        (CHANGE + "value = 1", "change 1 (PatientID): value: must be text"),
        (CHANGE + "remove = false", "remove: must be true"),
        (CHANGE + 'template = "{PatienID}"', "change 1 (PatientID): PatienID: is no attribute; do you mean PatientID?"),
        (CHANGE + 'template = "{PatientID}"\nmissing = "drop"', "missing: must be keep, refuse, empty"),
        (CHANGE + 'value = "' + "x" * 65 + '"', "has more than 64 characters, the most of LO"),
        (CHANGE + 'map = "patients.csv"', "to: must be a column, or several"),
        (CHANGE + 'map = "patients.csv"\nto = "new"', "from: is not there"),
        (CHANGE + 'map = "patients.csv"\nfrom = "id"\nto = "new"', "no column 'id'; there are 'old', 'new', 'name'"),
        (CHANGE + 'map = "none.csv"\nfrom = "id"\nto = "new"', "none.csv: cannot be read: No such file"),
        (CHANGE + 'map = "empty.csv"\nfrom = "id"\nto = "new"', "no column 'id'; there are no columns at all"),
        (CHANGE + 'map = "twice.csv"\nfrom = "a"\nto = "b"', "twice.csv: row 3: another row has the same PatientID"),
        (CHANGE + 'map = "twice.csv"\nfrom = "a"\nto = "c"', "2 columns 'c'"),
        (CHANGE + 'map = "book.csv"\nfrom = "a"\nto = "b"', "an Excel workbook"),
        (CHANGE + 'map = "twice.csv"\nfrom = "a"\nto = { PatientSex = "b" }', "the new PatientSex does not look as CS"),
        (2 * (CHANGE + "remove = true\n"), "rules.toml: PatientID: is changed twice"),
        ('reason = "WHY"\n' + CHANGE + "remove = true", "reason: must be COERCE or CORRECT"),
        ('source = "Süd"\n' + CHANGE + "remove = true", "source: has to be one ASCII value"),
    ],
)
def test_file_that_is_wrong_names_the_rule_and_how_it_should_look(file: Path, text: str, why: str) -> None:
    (file.parent / "empty.csv").write_text("")
    (file.parent / "twice.csv").write_text("a,b,c,c\n1,x,1,1\n1,y,1,1\n")
    (file.parent / "book.csv").write_bytes(b"PK\x03\x04")
    file.write_bytes(text.encode("latin-1" if text == "\xff" else "utf-8"))
    result = rules(file)
    assert result.exit_code == 1
    assert why in " ".join(result.output.split()), result.output
    assert "rules.toml" in result.output


def test_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    result = rules(tmp_path / "none.toml")
    assert result.exit_code == 1
    assert "cannot be read: No such file" in result.output


def test_rules_do_not_go_with_objects_that_do_not_come_here(file: Path) -> None:
    peers = ["OLD@localhost:104", "--third-party", "NEW@localhost:104"]
    result = CliRunner().invoke(main, ["migrate", "run", "a.ledger", *peers, "--rules", str(file)])
    assert result.exit_code == 1
    assert "--rules: cannot change what the PACS sends straight to a --third-party" in result.output
