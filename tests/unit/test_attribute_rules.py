"""Rules as values: what they make of texts, and what is no rule."""

from __future__ import annotations

import pytest
from tests.ruled import PLANNED, rules_of

from fastmove.errors import ConfigurationError, StorageError
from fastmove.storage.attribute_rules import (
    Mapped,
    Missing,
    Rule,
    attribute,
    attribute_rules,
    composed,
    fixed,
    mapped,
    removed,
)
from fastmove.storage.text_values import TEXT_VRS, objection

PATIENT_ID, NAME, ISSUER, ACCESSION_NUMBER = 0x00100020, 0x00100010, 0x00100021, 0x00080050
TEXTS = {PATIENT_ID: "12", NAME: "Doe^Jane", ISSUER: "", ACCESSION_NUMBER: "-12"}
ROWS = [(2, "12", ("A-12", "Roe^Jane")), (3, "13", ("A-13", ""))]


def made_of(rule: Rule) -> dict[str, str | None]:
    return {of.keyword: text for of, text in rule.changes(TEXTS)}


def patients(missing: Missing = Missing.REFUSE) -> Mapped:
    return mapped("PatientID", ("PatientID", "PatientName"), ROWS, missing)


# What they make of texts


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (fixed("InstitutionName", "Hospital"), {"InstitutionName": "Hospital"}),
        (fixed("0008,0080", ""), {"InstitutionName": ""}),
        (removed("(0010,1000)"), {"OtherPatientIDs": None}),
        (composed("PatientID", "{PatientID}@HOSPITAL"), {"PatientID": "12@HOSPITAL"}),
        (composed("PatientID", "H{PatientID:08}"), {"PatientID": "H00000012"}),
        (composed("StudyID", "{AccessionNumber:08}"), {"StudyID": "00000-12"}),
        (composed("PatientID", "{0010,0020:04}-{name:upper}"), {"PatientID": "0012-DOE^JANE"}),
        (composed("PatientName", "{PatientName:lower}"), {"PatientName": "doe^jane"}),
        (composed("PatientComments", "{PatientName:012,upper}"), {"PatientComments": "0000DOE^JANE"}),
        (patients(), {"PatientID": "A-12", "PatientName": "Roe^Jane"}),
    ],
)
def test_rule_makes_of_texts(rule: Rule, expected: dict[str, str | None]) -> None:
    assert made_of(rule) == expected


@pytest.mark.parametrize("missing", Missing)
def test_what_a_map_does_not_have_is_kept_emptied_or_refused(missing: Missing) -> None:
    for texts, lacking in (({PATIENT_ID: "14"}, {PATIENT_ID, NAME}), ({PATIENT_ID: "13"}, {NAME})):
        if missing is Missing.REFUSE:
            with pytest.raises(StorageError) as refused:
                list(patients(missing).changes(texts))
            assert (refused.value.key, refused.value.status) == ("store.rule_unmapped", 0xC000)
            assert "14" not in refused.value.error_comment
            continue
        found = {of.tag: text for of, text in patients(missing).changes(texts)}
        for tag in lacking:
            assert found.get(tag) == ("" if missing is Missing.EMPTY else None)


@pytest.mark.parametrize("missing", Missing)
def test_empty_field_of_a_template_is_kept_emptied_or_refused(missing: Missing) -> None:
    rule = composed("PatientID", "{PatientID}@{IssuerOfPatientID}", missing)
    if missing is Missing.REFUSE:
        with pytest.raises(StorageError, match="IssuerOfPatientID is empty"):
            made_of(rule)
    else:
        assert made_of(rule) == ({"PatientID": ""} if missing is Missing.EMPTY else {})


def test_rules_go_by_what_was_there_before_any_of_them() -> None:
    made = rules_of(fixed("PatientID", "X"), composed("AccessionNumber", "{PatientID}"))
    assert [(of.keyword, text) for of, text in made.changes(TEXTS).items()] == [
        ("AccessionNumber", "12"),
        ("PatientID", "X"),
    ]


def test_rows_of_a_map_are_not_shown() -> None:
    assert "Roe" not in repr(rules_of(patients()))


# What is no rule


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("PatientIDD", "do you mean PatientID"),
        ("Rows", "its VR is US"),
        ("ReferencedStudySequence", "its VR is SQ"),
        ("PixelData", "is no text"),
        ("0010,9999", "no attribute that is known"),
        ("0009,0010", "private"),
        ("TransferSyntaxUID", "not of the data set itself"),
        ("source", "not of the data set itself"),
        ("StudyInstanceUID", "is not changed"),
        ("SeriesInstanceUID", "is not changed"),
        ("SOPInstanceUID", "is not changed"),
        ("SOPClassUID", "is not changed"),
        ("SpecificCharacterSet", "is not changed"),
        ("PhotometricInterpretation", "describes the pixels"),
    ],
)
def test_attribute_that_is_not_changed_is_refused_with_the_reason(name: str, why: str) -> None:
    for make in (removed, lambda each: fixed(each, "1"), lambda each: mapped("PatientID", (each,), ())):
        with pytest.raises(ConfigurationError, match=why):
            make(name)


def test_uids_may_be_what_rules_go_by() -> None:
    assert attribute("StudyInstanceUID").vr == "UI"
    assert rules_of(composed("StudyID", "{StudyInstanceUID}")).sources.keys() == {0x0020000D}


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("none", "has no field"),
        ("{PatientID", "without its other half"),
        ("PatientID}", "without its other half"),
        ("{}", "is no attribute"),
        ("{PatienID}", "do you mean PatientID"),
        ("{PatientID:8}", "none of upper, lower"),
        ("{PatientID:title}", "none of upper, lower"),
        ("{Rows}", "its VR is US"),
        ("{PatientID}\n", "control character"),
    ],
)
def test_template_that_is_none_is_refused_with_the_reason(template: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        composed("PatientID", template)


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([(2, "", ("x",))], "row 2: there is no present PatientID"),
        ([(2, "1", ("x",)), (9, "1", ("y",))], "row 9: another row"),
        ([(3, "1", ("x" * 65,))], "row 3: the new PatientID has more than 64"),
        ([(3, "1", ("x\ufffd",))], "row 3: the new PatientID has a control character, or one that could not be read"),
    ],
)
def test_map_that_is_wrong_names_the_row(rows: list[tuple[int, str, tuple[str]]], why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        mapped("PatientID", ("PatientID",), rows)


def test_row_that_says_the_same_twice_is_no_contradiction() -> None:
    assert mapped("PatientID", ("PatientID",), [(2, "1", ("x",)), (3, "1", ("x",))]).rows == {"1": ("x",)}


def test_rules_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="PatientID: is changed twice"):
        rules_of(fixed("PatientID", "1"), composed("PatientID", "{PatientID}"))
    with pytest.raises(ConfigurationError, match="nothing is changed"):
        rules_of()
    with pytest.raises(ConfigurationError, match="COERCE or CORRECT"):
        rules_of(fixed("PatientID", "1"), reason="BECAUSE")
    for source in ("Süd", "a\\b", "x" * 65):
        with pytest.raises(ConfigurationError, match="source"):
            rules_of(fixed("PatientID", "1"), source=source)
    with pytest.raises(ConfigurationError, match="system: must not be empty"):
        rules_of(fixed("PatientID", "1"), modifying_system="")
    with pytest.raises(ConfigurationError, match="modified"):
        attribute_rules([fixed("PatientID", "1")], "yesterday")
    assert attribute_rules([fixed("PatientID", "1")], PLANNED).source == ""


# What a value may be (PS3.5 6.2)


@pytest.mark.parametrize(
    ("vr", "text"),
    [
        ("AE", "MY PACS"),
        ("AS", "042Y"),
        ("CS", "AXIAL_2\\M F"),
        ("DA", "20261231"),
        ("DS", "-1.5e3\\ .5 "),
        ("DT", "2026"),
        ("DT", "20261231235960.123456+0130"),
        ("IS", " -15"),
        ("LO", "Ä" * 64 + "\\" + "b" * 64),
        ("LT", "a\\b\r\n" + "x" * 10230),
        ("PN", "=".join(["^".join("abcde")] * 3) + "\\Roe^Jane"),
        ("PN", "a" * 64 + "=" + "b" * 64),
        ("SH", "x" * 16),
        ("ST", "x" * 1024),
        ("TM", "2359"),
        ("TM", "235960.1"),
        ("UC", "x" * 5000),
        ("UI", "1.2.840.0"),
        ("UR", "https://example.org/?a=b"),
        ("UT", "x\ty"),
    ],
)
def test_value_of_a_vr(vr: str, text: str) -> None:
    assert objection(vr, text) == ""


@pytest.mark.parametrize(
    ("vr", "text", "why"),
    [
        ("AE", "x" * 17, "more than 16"),
        ("AE", "Süd", "does not look as AE does"),
        ("AS", "42", "065Y"),
        ("CS", "axial", "does not look as CS does"),
        ("DA", "2026-12-31", "more than 8"),
        ("DA", "20261331", "20261231"),
        ("DS", "1,5", "-1.5"),
        ("DT", "202613", "does not look"),
        ("IS", "1.5", "does not look"),
        ("LO", "x" * 65, "more than 64 characters, the most of LO"),
        ("LO", "a\\" + "x" * 65, "more than 64"),
        ("LO", "a\nb", "control character"),
        ("LT", "x" * 10241, "more than 10240"),
        ("LT", "a\x1bb", "control character"),
        ("PN", "=".join("abcd"), "more than 3 component groups"),
        ("PN", "^".join("abcdef"), "more than 5 components"),
        ("PN", "a=" + "b" * 65, "more than 64"),
        ("SH", "x" * 17, "more than 16"),
        ("ST", "x" * 1025, "more than 1024"),
        ("TM", "2560", "does not look"),
        ("UI", "1.02", "does not look"),
        ("UI", "1." * 32 + "1", "more than 64"),
        ("UR", "a b", "does not look"),
    ],
)
def test_what_is_no_value_of_a_vr(vr: str, text: str, why: str) -> None:
    assert why in objection(vr, text)
    assert text not in objection(vr, text)


def test_empty_value_is_one_of_any_vr() -> None:
    assert {objection(vr, "") for vr in TEXT_VRS} == {""}


def test_fixed_value_that_is_none_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="PatientBirthDate: '31.12.2026' has more than 8"):
        fixed("PatientBirthDate", "31.12.2026")
    with pytest.raises(ConfigurationError, match="AccessionNumber"):
        fixed("AccessionNumber", "x" * 17)
