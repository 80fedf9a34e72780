from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom import dcmread
from tests.corpus import Corpus

from fastmove.errors import DatasetError
from fastmove.storage.filemeta import PREAMBLE, FileMeta, read_file_meta
from fastmove.types import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DATASET = b"\x08\x00\x60\x00\x02\x00\x00\x00CT"  # Modality, implicit VR

# No component with a leading zero: pydicom warns.
uids = st.lists(st.integers(0, 10**9 - 1), min_size=1, max_size=6).map(lambda parts: ".".join(map(str, parts)))


def element(number: int, vr: bytes, value: bytes) -> bytes:
    if vr == b"OB":
        return struct.pack("<HH2sHI", 2, number, vr, 0, len(value)) + value
    return struct.pack("<HH2sH", 2, number, vr, len(value)) + value


def head(*elements: bytes, preamble: bytes = bytes(128), prefix: bytes = b"DICM") -> bytes:
    return preamble + prefix + b"".join(elements)


VERSION = element(0x0001, b"OB", b"\0\1")
SOP_CLASS = element(0x0002, b"UI", CT_IMAGE.encode() + b"\0")
SOP_INSTANCE = element(0x0003, b"UI", b"1.2.3\0")
TRANSFER_SYNTAX = element(0x0010, b"UI", IMPLICIT_LE.encode() + b"\0")


# Writing


@pytest.mark.parametrize("length", range(1, 65))
def test_group_length_is_right_for_a_uid_of_any_length(length: int) -> None:
    uid = ("1." * 32)[: length - 1] + "9"
    written = FileMeta(CT_IMAGE, IMPLICIT_LE, "PEER").head(uid.encode())
    assert written[:132] == bytes(128) + b"DICM"
    (group_length,) = struct.unpack_from("<I", written, 140)
    assert len(written) == 144 + group_length
    assert len(written) % 2 == 0


@settings(max_examples=150, deadline=None)
@given(uids, uids, uids, st.text("ABCDEFGHIJ_ 0123456789", max_size=16).map(str.strip))
def test_pydicom_reads_what_was_written(sop_class: str, sop_instance: str, transfer_syntax: str, source: str) -> None:
    written = FileMeta(sop_class, transfer_syntax, source).head(sop_instance.encode())
    meta = dcmread(BytesIO(written), force=False, stop_before_pixels=True).file_meta
    assert meta.FileMetaInformationGroupLength == len(written) - 144
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.MediaStorageSOPClassUID == sop_class
    assert meta.MediaStorageSOPInstanceUID == sop_instance
    assert meta.TransferSyntaxUID == transfer_syntax
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert meta.get("SourceApplicationEntityTitle", "") == source
    assert [e.tag.element for e in meta] == sorted(e.tag.element for e in meta)


def test_preamble_is_zeros() -> None:
    assert bytes(128) == PREAMBLE
    assert FileMeta(CT_IMAGE, IMPLICIT_LE).head(b"1.2.3").startswith(bytes(128) + b"DICM")


def test_file_meta_without_a_source_has_no_source_element() -> None:
    assert b"AE" not in FileMeta(CT_IMAGE, IMPLICIT_LE).head(b"1.2.3")


def test_source_that_is_not_ascii_does_no_harm() -> None:
    assert b"AE\2\0? " in FileMeta(CT_IMAGE, IMPLICIT_LE, "ä").head(b"1.2.3")


def test_heads_of_one_context_differ_in_the_instance_only() -> None:
    meta = FileMeta(CT_IMAGE, IMPLICIT_LE)
    assert meta.head(b"1.2.3").replace(b"1.2.3\0", b"9.8.7\0") == meta.head(b"9.8.7")
    assert meta.head(b"1.2.3") == FileMeta(CT_IMAGE, IMPLICIT_LE).head(b"1.2.3")


# Reading


def test_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "object.dcm"
    written = FileMeta(CT_IMAGE, IMPLICIT_LE, "PEER").head(b"1.2.3")
    path.write_bytes(written + DATASET)
    found = read_file_meta(path)
    assert (found.path, found.sop_class_uid, found.sop_instance_uid) == (path, CT_IMAGE, "1.2.3")
    assert (found.transfer_syntax_uid, found.dataset_offset, found.nbytes) == (IMPLICIT_LE, len(written), len(DATASET))


def test_every_file_of_the_corpus_is_read_as_pydicom_reads_it(corpus: Corpus) -> None:
    for file in corpus.files:
        found = read_file_meta(file.path)
        assert found.sop_class_uid == file.sop_class
        assert found.sop_instance_uid == file.sop_instance
        assert found.transfer_syntax_uid == file.transfer_syntax
        group_length = dcmread(file.path).file_meta.FileMetaInformationGroupLength
        assert found.dataset_offset == 144 + group_length
        assert found.dataset_offset + found.nbytes == file.path.stat().st_size


LIBERAL = {
    "no group length": head(VERSION, SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX),
    "wrong group length": head(element(0, b"UL", b"\1\0\0\0"), VERSION, SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX),
    "preamble of another format": head(SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX, preamble=b"II*\0" + bytes(124)),
    "private information": head(
        SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX, element(0x0100, b"UI", b"1.2\0"), element(0x0102, b"OB", bytes(9000))
    ),
    "padded with a space": head(SOP_CLASS, element(0x0003, b"UI", b"1.2.3 "), TRANSFER_SYNTAX),
    "any order": head(TRANSFER_SYNTAX, SOP_INSTANCE, SOP_CLASS),
}


@pytest.mark.parametrize("meta", LIBERAL.values(), ids=LIBERAL)
def test_odd_file_meta_is_read(tmp_path: Path, meta: bytes) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(meta + DATASET)
    found = read_file_meta(path)
    assert (found.sop_class_uid, found.sop_instance_uid, found.transfer_syntax_uid) == (CT_IMAGE, "1.2.3", IMPLICIT_LE)
    assert (found.dataset_offset, found.nbytes) == (len(meta), len(DATASET))


GOOD = head(VERSION, SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX)
DAMAGED = {
    "empty": (b"", "not a DICOM file"),
    "short": (bytes(131), "not a DICOM file"),
    "no prefix": (head(SOP_CLASS, SOP_INSTANCE, TRANSFER_SYNTAX, prefix=b"MCID") + DATASET, "not a DICOM file"),
    "nothing but the prefix": (head(), "no valid Media Storage SOP Class UID"),
    "no class": (head(SOP_INSTANCE, TRANSFER_SYNTAX) + DATASET, "no valid Media Storage SOP Class UID"),
    "no instance": (head(SOP_CLASS, TRANSFER_SYNTAX) + DATASET, "no valid Media Storage SOP Instance UID"),
    "no transfer syntax": (head(SOP_CLASS, SOP_INSTANCE) + DATASET, "no valid Transfer Syntax UID"),
    "empty instance": (head(SOP_CLASS, element(3, b"UI", b""), TRANSFER_SYNTAX) + DATASET, "Instance UID"),
    "instance of spaces": (head(SOP_CLASS, element(3, b"UI", b"  "), TRANSFER_SYNTAX) + DATASET, "Instance UID"),
    "no data set": (GOOD, "no data set"),
    "cut in a tag": (GOOD + b"\2\0", "does not end"),
    "cut in a header": (GOOD[: -len(TRANSFER_SYNTAX) + 7], "does not end"),
    "cut in a value": (GOOD[:-3], "does not end"),
    "length beyond the end": (head(SOP_CLASS, b"\2\0\3\0UI\xff\xff1.2.3"), "does not end"),
    "long length beyond the end": (head(SOP_CLASS, b"\2\0\1\0OB\0\0\xff\xff\xff\xff"), "does not end"),
    "attack of 128 KiB": (head(SOP_CLASS, element(0x0102, b"OB", bytes(1 << 17))) + DATASET, "does not end"),
}


@pytest.mark.parametrize(("content", "why"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_file_is_a_data_set_error_that_names_the_file(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=why) as caught:
        read_file_meta(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("uid", [b"1.2.\xe4 ", b"1" * 66], ids=["not ASCII", "66 characters"])
def test_uid_that_cannot_be_sent_is_a_data_set_error(tmp_path: Path, uid: bytes) -> None:
    path = tmp_path / "object.dcm"
    path.write_bytes(head(SOP_CLASS, element(0x0003, b"UI", uid), TRANSFER_SYNTAX) + DATASET)
    with pytest.raises(DatasetError, match="Instance UID"):
        read_file_meta(path)


@settings(max_examples=300, deadline=None)
@given(st.integers(132, len(GOOD) - 1), st.integers(0, 255), st.integers(0, len(GOOD) + len(DATASET)))
def test_any_damage_is_read_or_a_data_set_error(
    tmp_path_factory: pytest.TempPathFactory, at: int, value: int, cut: int
) -> None:
    content = bytearray(GOOD + DATASET)
    content[at] = value
    path = tmp_path_factory.getbasetemp() / "damaged.dcm"
    path.write_bytes(content[:cut])
    try:
        found = read_file_meta(path)
    except DatasetError:
        return
    assert 132 < found.dataset_offset < found.dataset_offset + found.nbytes == cut


def test_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_file_meta(tmp_path / "nothing.dcm")
