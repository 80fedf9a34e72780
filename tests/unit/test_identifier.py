from __future__ import annotations

import struct
import warnings
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from fastmove import uids
from fastmove.cli.find import DEFAULT_KEYS
from fastmove.dimse import identifier
from fastmove.dimse.identifier import Identifier
from fastmove.dimse.keys import KEYS
from fastmove.errors import ConfigurationError, DimseError
from fastmove.limits import MAX_IDENTIFIER_BYTES

SYNTAXES = [
    uids.IMPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_LITTLE_ENDIAN,
    uids.EXPLICIT_VR_BIG_ENDIAN,
    uids.DEFLATED_EXPLICIT_VR_LITTLE_ENDIAN,
]
IMPLICIT, EXPLICIT, _, DEFLATED = SYNTAXES
syntaxes = pytest.mark.parametrize("syntax", SYNTAXES, ids=["implicit", "explicit", "big endian", "deflated"])


def implicit(tag: int, value: bytes) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value)) + value


def written_by_pydicom(dataset: Dataset, syntax: str) -> bytes:
    stream = DicomBytesIO()
    stream.is_little_endian = uids.TRANSFER_SYNTAXES[syntax].little_endian
    stream.is_implicit_VR = uids.TRANSFER_SYNTAXES[syntax].implicit_vr
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a long value becomes UN
        write_dataset(stream, dataset)
    data: bytes = stream.getvalue()
    if uids.TRANSFER_SYNTAXES[syntax].deflated:
        deflate = zlib.compressobj(wbits=-15)
        data = deflate.compress(data) + deflate.flush()
    return data


@pytest.mark.parametrize("key", ["PatientID=123", "(0010,0020)=123", "0010,0020=123", " PatientID =123"])
def test_key_is_a_keyword_or_a_tag(key: str) -> None:
    element = identifier.parse_key(key)
    assert element == (0x00100020, "PatientID", "LO", "123")


def test_value_of_a_key_may_hold_an_equals_sign() -> None:
    assert identifier.parse_key("PatientName=A=B").value == "A=B"


@pytest.mark.parametrize("key", ["StudyInstanceUID", "StudyInstanceUID="])
def test_key_without_value_is_universal(key: str) -> None:
    assert identifier.parse_key(key).value == ""


@pytest.mark.parametrize("keyword", sorted({*KEYS, *(name for names in DEFAULT_KEYS.values() for name in names)}))
def test_everyday_key_is_known_as_the_data_dictionary_has_it(keyword: str) -> None:
    tag = tag_for_keyword(keyword)
    assert tag is not None
    assert KEYS[keyword] == (tag, keyword, dictionary_VR(tag), "")
    assert identifier.parse_key(f"{tag >> 16:04x},{tag & 0xFFFF:04X}") == KEYS[keyword]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("BitsStored", (0x00280101, "BitsStored", "US", "")),
        ("0028,0101", (0x00280101, "BitsStored", "US", "")),
        ("PixelPaddingValue", (0x00280120, "PixelPaddingValue", "US", "")),
        ("0028,0400", (0x00280400, "TransformLabel", "LO", "")),
    ],
)
def test_any_other_key_comes_from_the_data_dictionary(name: str, key: tuple[int, str, str, str]) -> None:
    assert identifier.parse_key(name) == key


@pytest.mark.parametrize(
    "key",
    [
        "Nonsense=1",
        "=1",
        "0009,0010=x",
        "00100020=1",
        "Rows=many",
        "Rows=1.5",
        "Rows=65536",
        "Rows=1\\",
        "SeriesNumber=one",
        "PatientSize=tall",
        "SelectorAttribute=first",
        "PixelPaddingValue=-1",
        "RecommendedDisplayFrameRateInFloat=1e99",
        "RequestAttributesSequence=1",
        "PixelData=1",
    ],
)
def test_key_that_is_none_is_a_configuration_error(key: str) -> None:
    with pytest.raises(ConfigurationError, match="key"):
        identifier.parse_key(key)


@pytest.mark.parametrize(
    ("keywords", "model", "level"),
    [
        (["PatientID"], "patient", "PATIENT"),
        (["PatientID"], "study", "STUDY"),
        ([], "patient", "PATIENT"),
        (["StudyInstanceUID"], "patient", "STUDY"),
        (["StudyInstanceUID", "SeriesInstanceUID"], "study", "SERIES"),
        (["SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"], "study", "IMAGE"),
        (["StudyInstanceUID", "SeriesInstanceUID"], "patient-study", "STUDY"),
    ],
)
def test_level_is_the_deepest_whose_unique_key_is_given(keywords: list[str], model: str, level: str) -> None:
    assert identifier.query_retrieve_level(keywords, model) == level


def test_models_and_levels_are_those_of_the_sop_classes() -> None:
    assert identifier.LEVELS.keys() == uids.QUERY_RETRIEVE.keys()


def test_query_asks_for_the_unique_key_of_its_level() -> None:
    dataset = identifier.query(["PatientName=Doe*"])
    assert dataset.level == "STUDY"
    assert dataset["StudyInstanceUID"] == ""


def test_level_may_be_given_as_a_key() -> None:
    dataset = identifier.query(["QueryRetrieveLevel=SERIES", "StudyInstanceUID=1.2"])
    assert dataset.level == "SERIES"
    assert "SeriesInstanceUID" in dataset


@pytest.mark.parametrize(
    ("keys", "model", "level"),
    [
        (["SeriesInstanceUID=1.3"], "study", None),
        (["StudyInstanceUID", "SeriesInstanceUID=1.3"], "study", None),
        (["StudyInstanceUID=1.2\\1.4", "SeriesInstanceUID=1.3"], "study", None),
        (["StudyInstanceUID=1.*", "SeriesInstanceUID=1.3"], "study", None),
        (["StudyInstanceUID=1.2"], "patient", None),
        (["StudyInstanceUID=1.2"], "study", "IMAGE"),
    ],
)
def test_unique_key_above_the_level_needs_one_value(keys: list[str], model: str, level: str | None) -> None:
    for build in (identifier.query, identifier.retrieve):
        with pytest.raises(ConfigurationError, match="needs one value of"):
            build(keys, model=model, level=level)


def test_retrieve_needs_the_unique_key_of_its_level() -> None:
    with pytest.raises(ConfigurationError, match="needs StudyInstanceUID"):
        identifier.retrieve(["PatientID=1"])


def test_retrieve_takes_a_list_of_uids_at_its_level() -> None:
    dataset = identifier.retrieve(["StudyInstanceUID=1.2", "SeriesInstanceUID=1.3\\1.4"])
    assert dataset.level == "SERIES"
    assert dataset["SeriesInstanceUID"] == "1.3\\1.4"


def test_retrieve_at_patient_level_names_the_patient() -> None:
    assert identifier.retrieve(["PatientID=1"], model="patient").level == "PATIENT"


@pytest.mark.parametrize(("model", "level"), [("study", "PATIENT"), ("patient-study", "IMAGE"), ("study", "FRAME")])
def test_level_that_the_model_lacks_is_a_configuration_error(model: str, level: str) -> None:
    with pytest.raises(ConfigurationError, match="level"):
        identifier.query(["PatientID=1"], model=model, level=level)


def test_unknown_model_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match="model"):
        identifier.query([], model="worklist")


@syntaxes
def test_identifier_survives_encoding(syntax: str) -> None:
    dataset = identifier.query(
        [
            "PatientName=Müller^Jörg",
            "ModalitiesInStudy=CT\\MR",
            "Rows=512",
            "StudyDate=20200101-",
            "StudyInstanceUID=1.2",
        ]
    )
    data = identifier.encode(dataset, syntax)
    assert len(data) % 2 == 0
    assert identifier.text_values(identifier.decode(data, syntax)) == dict(dataset)
    assert dict(dataset) == {
        "SpecificCharacterSet": "ISO_IR 192",
        "StudyDate": "20200101-",
        "QueryRetrieveLevel": "STUDY",
        "ModalitiesInStudy": "CT\\MR",
        "PatientName": "Müller^Jörg",
        "StudyInstanceUID": "1.2",
        "Rows": "512",
    }


def test_identifier_is_encoded_to_the_bytes_of_the_standard() -> None:
    data = identifier.encode(identifier.retrieve(["StudyInstanceUID=1.2.3"]), IMPLICIT)
    assert data == implicit(0x00080052, b"STUDY ") + implicit(0x0020000D, b"1.2.3\0")


def test_ascii_identifier_has_no_character_set_and_a_given_one_is_kept() -> None:
    assert "SpecificCharacterSet" not in identifier.query(["PatientName=Doe"])
    dataset = identifier.query(["PatientName=Müller", "SpecificCharacterSet=ISO_IR 100"])
    assert dataset["SpecificCharacterSet"] == "ISO_IR 100"
    assert b"M\xfcller" in identifier.encode(dataset, IMPLICIT)


def test_character_set_that_is_only_asked_for_does_not_count_as_given() -> None:
    dataset = identifier.query(["PatientName=Müller", "SpecificCharacterSet"])
    assert dataset["SpecificCharacterSet"] == "ISO_IR 192"


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO_IR 144", "ISO 2022 IR 6\\ISO 2022 IR 100", "KLINGON"])
@pytest.mark.parametrize("key", ["PatientName=検査", "StudyDescription=検査"])
def test_text_that_its_character_set_lacks_is_a_configuration_error(character_set: str, key: str) -> None:
    dataset = identifier.query([key, f"SpecificCharacterSet={character_set}"])
    with pytest.raises(ConfigurationError, match="key"):
        identifier.encode(dataset, IMPLICIT)


def test_last_of_a_key_given_twice_counts() -> None:
    assert identifier.query(["PatientID=1", "0010,0020=2"])["PatientID"] == "2"


# Our writer against pydicom's: any values of any VR that can be matched.

NUMBERS = {
    "US": st.integers(0, 0xFFFF),
    "SS": st.integers(-0x8000, 0x7FFF),
    "UL": st.integers(0, 0xFFFFFFFF),
    "SL": st.integers(-(2**31), 2**31 - 1),
    "UV": st.integers(0, 2**64 - 1),
    "SV": st.integers(-(2**63), 2**63 - 1),
    "FL": st.floats(width=32, allow_nan=False),
    "FD": st.floats(allow_nan=False),
    "AT": st.integers(0, 0xFFFFFFFF),
    "IS": st.integers(-(2**31), 2**31 - 1),
    "DS": st.integers(-(2**31), 2**31 - 1),
}
BY_VR = {
    "AE": "RetrieveAETitle",
    "AS": "PatientAge",
    "AT": "SelectorAttribute",
    "CS": "ModalitiesInStudy",
    "DA": "StudyDate",
    "DS": "PatientWeight",
    "DT": "AcquisitionDateTime",
    "FD": "SelectorFDValue",
    "FL": "SelectorFLValue",
    "IS": "SeriesNumber",
    "LO": "OtherPatientIDs",
    "LT": "PatientComments",
    "PN": "PatientName",
    "SH": "AccessionNumber",
    "SL": "SelectorSLValue",
    "SQ": "RequestAttributesSequence",
    "SS": "SelectorSSValue",
    "ST": "InstitutionAddress",
    "SV": "SelectorSVValue",
    "TM": "StudyTime",
    "UC": "LongCodeValue",
    "UI": "FailedSOPInstanceUIDList",
    "UL": "SelectorULValue",
    "UR": "RetrieveURL",
    "US": "Rows",
    "UT": "SelectorUTValue",
    "UV": "SelectorUVValue",
}
TEXT = st.text("abcXYZ019.^* ", max_size=9).map(str.strip)
INTERNATIONAL = st.text("aZ9^ äß検", max_size=9).map(str.strip)


def values_of(vr: str) -> st.SearchStrategy[list[object]]:
    if vr == "SQ":
        return st.just([])
    value: st.SearchStrategy[object] = NUMBERS.get(vr, INTERNATIONAL if vr in ("LO", "PN", "UT") else TEXT)
    single = vr in ("LT", "ST", "UR", "UT")
    return st.lists(value, max_size=1 if single else 3).filter(lambda values: values != [""])


@given(st.fixed_dictionaries({}, optional={vr: values_of(vr) for vr in BY_VR}), st.sampled_from(SYNTAXES))
def test_identifier_is_encoded_as_pydicom_writes_it(values: dict[str, list[object]], syntax: str) -> None:
    keys, dataset = [], Dataset()
    for vr, several in values.items():
        shown = "\\".join(f"{value:08x}" if vr == "AT" else str(value) for value in several)
        keys.append(f"{BY_VR[vr]}={shown}")
        tag = tag_for_keyword(BY_VR[vr])
        assert tag is not None
        typed = several if vr in identifier.BINARY or vr == "SQ" else "\\".join(map(str, several))
        dataset.add(DataElement(tag, vr, typed, validation_mode=IGNORE))
    ours = Identifier(map(identifier.parse_key, keys))
    if "SpecificCharacterSet" in ours:
        dataset.SpecificCharacterSet = "ISO_IR 192"
    theirs = written_by_pydicom(dataset, syntax)
    assert identifier.encode(ours, syntax) == theirs + bytes(len(theirs) % 2)


@pytest.mark.parametrize("character_set", ["ISO_IR 100", "ISO_IR 192", "ISO_IR 101", "\\ISO 2022 IR 100", "GB18030"])
def test_character_sets_are_encoded_as_pydicom_writes_them(character_set: str) -> None:
    dataset = Dataset()
    dataset.SpecificCharacterSet = character_set.split("\\")
    dataset.StudyDescription = "für"
    dataset.PatientName = "Müller^Jörg"
    ours = identifier.from_text(
        {
            "SpecificCharacterSet": character_set,
            "PatientName": "Müller^Jörg",
            "StudyDescription": "für",
        }
    )
    assert identifier.encode(ours, EXPLICIT) == written_by_pydicom(dataset, EXPLICIT)


@syntaxes
def test_value_beyond_64_kib_is_encoded_as_pydicom_writes_it(syntax: str) -> None:
    failed = [f"1.2.840.{n}" for n in range(10_000)]
    dataset = Dataset()
    dataset.FailedSOPInstanceUIDList = failed
    ours = identifier.from_text({"FailedSOPInstanceUIDList": "\\".join(failed)})
    data = identifier.encode(ours, syntax)
    theirs = written_by_pydicom(dataset, syntax)
    assert data == theirs + bytes(len(theirs) % 2)
    assert identifier.failed_sop_instance_uids(data, syntax) == tuple(failed)


@pytest.mark.parametrize(("charset", "name"), [(b"ISO_IR 100", b"M\xfcller"), (b"ISO_IR 192", b"M\xc3\xbcller ")])
def test_text_is_decoded_by_the_character_set_of_the_response(charset: bytes, name: bytes) -> None:
    data = implicit(0x00080005, charset) + implicit(0x00100010, name)
    assert identifier.text_values(identifier.decode(data, IMPLICIT))["PatientName"] == "Müller"


def test_values_that_are_none_of_their_vr_are_shown_as_they_came() -> None:
    data = implicit(0x00080020, b"yesterday ") + implicit(0x00201208, b"12 items") + implicit(0x0020000D, b"not a uid ")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        values = identifier.text_values(identifier.decode(data, IMPLICIT))
    assert values == {
        "StudyDate": "yesterday",
        "NumberOfStudyRelatedInstances": "12 items",
        "StudyInstanceUID": "not a uid",
    }


@pytest.mark.parametrize("value", [b"", b"1.2.3\0"])
def test_value_of_a_vr_that_does_not_exist_is_shown_as_it_came(value: bytes) -> None:
    data = struct.pack("<HH2sH", 0x0020, 0x000D, b"WI", len(value)) + value
    assert identifier.text_values(identifier.decode(data, EXPLICIT)) == {"StudyInstanceUID": value.decode().strip("\0")}


def test_empty_values_sequences_and_private_elements_have_a_text() -> None:
    dataset = Dataset()
    dataset.PatientID = None
    dataset.RequestAttributesSequence = [Dataset(), Dataset()]
    dataset.add_new(0x00091001, "UN", b"\x01\xff")
    values = identifier.text_values(identifier.decode(written_by_pydicom(dataset, EXPLICIT), EXPLICIT))
    assert values == {"0009,1001": "01ff", "PatientID": "", "RequestAttributesSequence": "2 items"}


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, DEFLATED], ids=["implicit", "explicit", "deflated"])
def test_truncated_identifier_is_a_dimse_error(syntax: str) -> None:
    whole = identifier.encode(identifier.retrieve(["StudyInstanceUID=1.2.3.4.5.6"]), syntax)
    with pytest.raises(DimseError) as caught:
        identifier.decode(whole[:-4], syntax)
    assert caught.value.status == 0xC000
    assert len(caught.value.error_comment) <= 64


def test_nested_sequences_without_end_are_a_dimse_error_or_a_data_set() -> None:
    opening = struct.pack("<HHI", 0x0008, 0x1115, 0xFFFFFFFF) + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)
    with pytest.raises(DimseError):
        identifier.decode(opening * 20_000, IMPLICIT)


def test_deflate_bomb_is_refused_at_the_limit() -> None:
    deflate = zlib.compressobj(wbits=-15)
    bomb = deflate.compress(bytes(MAX_IDENTIFIER_BYTES + 1)) + deflate.flush()
    with pytest.raises(DimseError):
        identifier.decode(bomb, DEFLATED)


@syntaxes
def test_failed_sop_instance_uids_are_read(syntax: str) -> None:
    dataset = Dataset()
    dataset.FailedSOPInstanceUIDList = ["1.2.3", "1.2.4", "1.2.5"]
    assert identifier.failed_sop_instance_uids(written_by_pydicom(dataset, syntax), syntax) == (
        "1.2.3",
        "1.2.4",
        "1.2.5",
    )


@syntaxes
def test_failed_sop_instance_uids_are_read_behind_a_sequence(syntax: str) -> None:
    item = Dataset()
    item.PatientID = "1"
    dataset = Dataset()
    dataset.FailedSOPInstanceUIDList = ["1.2.3"]
    dataset.add_new(0x00080051, "SQ", [item])
    dataset[0x00080051].is_undefined_length = True
    assert identifier.failed_sop_instance_uids(written_by_pydicom(dataset, syntax), syntax) == ("1.2.3",)


def test_identifier_without_failed_list_names_none() -> None:
    assert identifier.failed_sop_instance_uids(implicit(0x00080052, b"STUDY "), IMPLICIT) == ()
    assert identifier.failed_sop_instance_uids(implicit(0x00080058, b""), IMPLICIT) == ()


# M09
def test_m09_failed_list_beyond_64_kib_is_read_as_un_in_explicit_vr() -> None:
    uids_ = tuple(f"1.2.840.{n}" for n in range(10_000))
    value = "\\".join(uids_).encode()
    data = struct.pack("<HH2sHI", 0x0008, 0x0058, b"UN", 0, len(value)) + value
    assert identifier.failed_sop_instance_uids(data, EXPLICIT) == uids_


@pytest.mark.parametrize(
    "data",
    [
        implicit(0x00080058, b"1.2.3\\1.2.4")[:-3],
        b"\x08\x00\x58\x00\xff\xff\xff\x7f1.2",
    ],
    ids=["cut", "too long"],
)
def test_m09_malformed_failed_list_is_a_dimse_error(data: bytes) -> None:
    with pytest.raises(DimseError):
        identifier.failed_sop_instance_uids(data, IMPLICIT)


@given(st.binary(max_size=200), st.sampled_from(SYNTAXES))
def test_any_bytes_are_a_data_set_or_a_dimse_error(data: bytes, syntax: str) -> None:
    try:
        identifier.text_values(identifier.decode(data, syntax))
        identifier.failed_sop_instance_uids(data, syntax)
    except DimseError:
        pass


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
def test_everyday_identifier_needs_no_pydicom(syntax: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(identifier, "decode")
    values = {"QueryRetrieveLevel": "IMAGE", "StudyInstanceUID": "1.2", "PatientName": "Doe^J", "InstanceNumber": "3"}
    assert identifier.texts(identifier.encode(identifier.from_text(values), syntax), syntax) == values


@syntaxes
def test_texts_are_those_of_the_data_set(syntax: str) -> None:
    values = {
        "PatientName": "Doe^J=D",
        "Rows": "512\\256",
        "StudyDescription": "Grüße",
        "SelectorAttribute": "(0010,0020)",
    }
    data = identifier.encode(identifier.from_text(values), syntax)
    assert identifier.texts(data, syntax) == identifier.text_values(identifier.decode(data, syntax))


def test_value_of_half_a_number_is_shown_as_it_came() -> None:
    assert identifier.texts(implicit(0x00280010, b"\1"), IMPLICIT) == {"Rows": "\x01"}
