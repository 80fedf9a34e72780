"""Names of files from a template: what it may be, and what becomes of the values of peers (U01-U13)."""

from __future__ import annotations

from typing import Final

import pytest

from fastmove.errors import ConfigurationError, StorageError
from fastmove.storage.template import (
    GIVEN,
    PRESETS,
    SHORTHANDS,
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    FileSystem,
    Layout,
    Naming,
    component,
    naming,
)

PATIENT, STUDY, SERIES = 0x00100020, 0x0020000D, 0x0020000E
EXT4: Final = FileSystem()
UID: Final = b"1.2.3.4.5"
VALUES: Final = {
    PATIENT: b"PAT1",
    STUDY: b"1.2.3\0",
    SERIES: b"1.2.3.4\0",
    SOP_INSTANCE_UID: UID,
    SOP_CLASS_UID: b"1.2",
}


def layout(template: str) -> Layout:
    made = naming(template)
    assert isinstance(made, Layout)
    return made


def path(template: str, values: dict[int, bytes] | None = None, file_system: FileSystem = EXT4) -> str:
    return layout(template).path(VALUES if values is None else VALUES | values, file_system).decode()


def named(value: bytes, file_system: FileSystem = EXT4) -> str:
    """What becomes of one value, alone in its component."""
    return component((b"", b""), (value,), file_system).decode()


# Templates


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("study", "1.2.3/1.2.3.4.5.dcm"),
        ("series", "1.2.3/1.2.3.4/1.2.3.4.5.dcm"),
        ("patient", "PAT1/1.2.3/1.2.3.4/1.2.3.4.5.dcm"),
        (PRESETS["patient"], "PAT1/1.2.3/1.2.3.4/1.2.3.4.5.dcm"),
        ("{patient}/{study}/{series}/{sop}.dcm", "PAT1/1.2.3/1.2.3.4/1.2.3.4.5.dcm"),
        ("{0010,0020}/{0020,000d}/{0008,0018}", "PAT1/1.2.3/1.2.3.4.5"),
        ("{PatientID}^{StudyInstanceUID}_{SOPInstanceUID}.dcm", "PAT1^1.2.3_1.2.3.4.5.dcm"),
        ("in/{SOPClassUID}/{SOPInstanceUID}/object.dcm", "in/1.2/1.2.3.4.5/object.dcm"),
    ],
)
def test_path_is_the_template_with_its_fields_filled_in(template: str, expected: str) -> None:
    assert path(template) == expected


@pytest.mark.parametrize("template", ["flat", "{SOPInstanceUID}.dcm", "{sop}.dcm", "{0008,0018}.dcm"])
def test_flat_template_is_the_naming_without_folders(template: str) -> None:
    assert naming(template) == Naming()


def test_every_shorthand_is_a_field_and_every_preset_a_template() -> None:
    for name, tag in SHORTHANDS.items():
        assert any(part.tags == (tag,) for part in layout(f"{{{name}}}/{{sop}}").parts)
    for name, template in PRESETS.items():
        assert naming(name) == naming(template) or (layout(name).parts == layout(template).parts)


def test_only_what_the_request_does_not_say_is_looked_for_in_the_data_set() -> None:
    made = layout("{patient}/{study}/{class}/{syntax}/{source}/{sop}.dcm")
    assert made.tags == {PATIENT, STUDY}
    assert not made.tags & GIVEN


@pytest.mark.parametrize(
    ("template", "suffix"), [("study", b".dcm"), ("{study}/{sop}", b""), ("{study}/x{sop}.y.IMA", b".IMA")]
)
def test_suffix_is_what_follows_the_last_dot(template: str, suffix: bytes) -> None:
    assert naming(template).suffix == suffix


WRONG: Final = {
    "{PatientsID}/{SOPInstanceUID}": "{PatientsID} is no field; do you mean {PatientID}?",
    "{Study}/{sop}": "{Study} is no field; do you mean {study}?",
    "{qqqqqqqq}/{sop}": "{qqqqqqqq} is no field",
    "{}/{sop}": "{} is no field",
    "": "a component is empty",
    "{study}//{sop}": "a component is empty",
    "{study}/{sop}/": "a component is empty",
    "/data/{sop}": "no / at the beginning",
    "../{sop}": "'..' is no good name",
    "{study}/./{sop}": "'.' is no good name",
    "{study}/.{sop}": "'.{sop}' is no good name",
    "-{study}/{sop}": "'-{study}' is no good name",
    "{study}./{sop}": "'{study}.' is no good name",
    "con/{sop}": "'con' is no good name",
    "manifest.jsonl/{sop}": "'manifest.jsonl' is no good name",
    "{study}/{series}.dcm": "{SOPInstanceUID} has to be in it",
    "{patient}{study}/{sop}": "something that parts them",
    "{study/{sop}": "without its other half",
    "study}/{sop}": "without its other half",
    "{study}/{sop}.d m": "has the character ' '",
    "{study}~/{sop}": "has the character '~'",
    "{study}/{sop}\n": r"has the character '\n'",
    "ü/{sop}": "has the character 'ü'",
    "{Rows}/{sop}": "{Rows} is no text: its VR is US",
    "{PixelData}/{sop}": "{PixelData} is no text: its VR is OW",
    "{ReferencedStudySequence}/{sop}": "its VR is SQ",
    "{0000,0002}/{sop}": "{0000,0002} is not in a data set",
    "{MediaStorageSOPClassUID}/{sop}": "is not in a data set",
    "a/b/c/d/e/f/g/h/{sop}": "more than 8",
}


@pytest.mark.parametrize("template", WRONG)
def test_template_that_is_wrong_says_why(template: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        naming(template)
    assert caught.value.field == "layout"
    assert WRONG[template] in str(caught.value)


# UIDs of requests: what has no folders refuses is refused with them


@pytest.mark.parametrize("uid", [b"", b"..", b"../../etc/x", b"a/b", b"1.2\x003", b"1" * 65, b"\xc3\xa9", b"1.2\n"])
def test_sop_instance_uid_that_is_no_safe_name_is_refused(uid: bytes) -> None:
    with pytest.raises(StorageError) as caught:
        layout("patient").name(b"1.2", uid)
    assert caught.value.status == 0x0117
    assert layout("patient").name(b"1.2", UID) == b""


# Values


@pytest.mark.parametrize(
    "value", [b"1.2.840.113619.2.55", b"PAT_1", b"DOE^JOHN", b"A-1", b"20240131", b"a", b"^", b"__"]
)
def test_plain_value_is_its_own_name(value: bytes) -> None:
    assert named(value) == value.decode()


@pytest.mark.parametrize("value", [b"PAT1\0", b"PAT1 ", b"  PAT1", b" PAT1 \0 "])
def test_padding_is_no_part_of_a_value(value: bytes) -> None:
    assert named(value) == "PAT1"


@pytest.mark.parametrize("value", [b"", b" ", b"\0\0", None])
def test_empty_or_missing_value_is_an_underscore(value: bytes | None) -> None:
    assert named(value or b"") == "_"
    made = layout("{patient}/{sop}.dcm")
    assert made.path({SOP_INSTANCE_UID: UID}, EXT4) == b"_/1.2.3.4.5.dcm"


@pytest.mark.parametrize(
    ("value", "begins"),
    [
        (b"..", "_..~"),
        (b".", "_.~"),
        (b"../../etc/passwd", "_.._.._etc_passwd~"),
        (b"/abs", "_abs~"),
        (b"a/b", "a_b~"),
        (rb"\\srv\x", "__srv_x~"),
        (b"C:x", "C_x~"),
        (b"1.2\x00../x", "1.2_.._x~"),
        (b"M\xfcller", "M_ller~"),
        ("田中".encode(), "______~"),
        (b"a\nb\x1b[31m", "a_b__31m~"),
        (b"%s", "_s~"),
        (b"-rf", "_-rf~"),
        (b".hidden", "_.hidden~"),
        (b".fm-1-1.part", "_.fm-1-1.part~"),
        (b"CON", "_CON~"),
        (b"nul.dcm", "_nul.dcm~"),
        (b"manifest.jsonl", "_manifest.jsonl~"),
        (b"dot.", "dot.~"),
        (b"two words", "two_words~"),
        (b"_", "_~"),
        (b"PAT1~0123456789ab", "PAT1_0123456789ab~"),
        (b"x" * 300, "x" * 230 + "~"),
    ],
)
def test_value_that_is_no_name_becomes_one_with_a_digest(value: bytes, begins: str) -> None:
    made = named(value)
    assert made.startswith(begins)
    assert len(made) == len(begins) + 12
    assert len(made) <= 243
    assert named(value) == made


def test_values_that_would_look_alike_have_names_of_their_own() -> None:
    alike = [b"a/b", b"a_b", b"a b", b"a\\b", b"a\xffb", b"a:b", b"a\x00b"]
    assert len({named(value) for value in alike}) == len(alike)


def test_values_parted_by_what_one_of_them_contains_have_names_of_their_own() -> None:
    pairs = [(b"a_b", b"c"), (b"a", b"b_c"), (b"", b"_c"), (b"", b"c"), (b"_", b"c"), (b"a_", b"c"), (b"a", b"_c")]
    assert len({component((b"", b"_", b""), pair, EXT4) for pair in pairs}) == len(pairs)


def test_digest_goes_before_what_follows_the_last_field() -> None:
    assert path("x^{patient}.IMA/{sop}", {PATIENT: b"a b"}).startswith("x^a_b~")
    assert path("x^{patient}.IMA/{sop}", {PATIENT: b"a b"}).endswith(".IMA/1.2.3.4.5")


def test_name_is_no_longer_than_the_file_system_takes() -> None:
    short = FileSystem(longest_name=143)
    assert len(named(b"x" * 300, short)) == 143 - 12
    assert named(b"x" * 131, short) == "x" * 131
    uids = {PATIENT: b"1" * 64, STUDY: b"2" * 64, SOP_INSTANCE_UID: b"3" * 64}
    assert len(path("{patient}_{study}_{sop}.dcm", uids)) == 198
    cut = path("{patient}_{study}_{sop}.dcm", uids, short)
    assert len(cut) == 131
    assert cut.endswith(".dcm")
    assert cut != path("{patient}_{study}_{sop}.dcm", uids | {SOP_INSTANCE_UID: b"3" * 63 + b"4"}, short)


def test_letters_of_either_case_have_names_of_their_own_where_case_does_not_count() -> None:
    folding = FileSystem(folds_case=True)
    assert named(b"ABC", folding) == "ABC"
    assert named(b"1.2.3", folding) == "1.2.3"
    assert len({named(value, folding).upper() for value in (b"ABC", b"abc", b"Abc")}) == 3


def test_value_of_the_request_is_sanitised_like_any_other() -> None:
    assert path("{source}/{sop}", {0x00020016: b"../x"}).startswith("_.._x~")
