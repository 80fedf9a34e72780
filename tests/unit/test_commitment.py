"""The data sets of storage commitment: what is written, what is read, and what is broken, long or hostile."""

from __future__ import annotations

import random
import struct
import time
from io import BytesIO
from typing import Final

import pytest
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from fastmove.dimse import commitment, identifier
from fastmove.dimse.commitment import ALL_COMMITTED, FAILURES_EXIST, Information, Reference
from fastmove.dimse.status import INVALID_ARGUMENT_VALUE, PROCESSING_FAILURE
from fastmove.errors import DimseError
from fastmove.limits import MAX_IDENTIFIER_BYTES
from fastmove.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

CT: Final = "1.2.840.10008.5.1.4.1.1.2"
ASKED: Final = Information("2.25.1", (Reference(CT, "1.2.3"), Reference(CT, "1.2.34")))
REPORTED: Final = Information(
    "2.25.1", (Reference(CT, "1.2.3"),), (Reference(CT, "1.2.34", 0x0112), Reference("1.2.4", "1.2.5", 0x0213))
)
PLAIN: Final = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)


def many(_: str) -> int:
    return 100_000


def read(data: bytes, transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> Information:
    return commitment.decode(data, transfer_syntax, many)


def refused(data: bytes, transfer_syntax: str = IMPLICIT_VR_LITTLE_ENDIAN) -> DimseError:
    with pytest.raises(DimseError) as caught:
        read(data, transfer_syntax)
    return caught.value


# ---------------------------------------------------------------------- the bytes

IMPLICIT: Final = """
    0800 9511 06000000  322e32352e31
    0800 9811 2e000000
      feff 00e0 26000000
        0800 5011 06000000  312e322e3400
        0800 5511 06000000  312e322e3334
        0800 9711 02000000  1201
    0800 9911 20000000
      feff 00e0 18000000
        0800 5011 04000000  312e3200
        0800 5511 04000000  312e3300
"""
EXPLICIT: Final = """
    0800 9511 5549 0600  322e32352e31
    0800 9911 5351 0000 20000000
      feff 00e0 18000000
        0800 5011 5549 0400  312e3200
        0800 5511 5549 0400  312e3300
"""


def test_report_in_implicit_vr_is_these_bytes() -> None:
    data = bytes.fromhex(IMPLICIT)
    said = Information("2.25.1", (Reference("1.2", "1.3"),), (Reference("1.2.4", "1.2.34", 0x0112),))
    assert commitment.encode(said, IMPLICIT_VR_LITTLE_ENDIAN) == data
    assert read(data) == said


def test_request_in_explicit_vr_is_these_bytes() -> None:
    data = bytes.fromhex(EXPLICIT)
    asked = Information("2.25.1", (Reference("1.2", "1.3"),))
    assert commitment.encode(asked, EXPLICIT_VR_LITTLE_ENDIAN) == data
    assert read(data, EXPLICIT_VR_LITTLE_ENDIAN) == asked


@pytest.mark.parametrize("syntax", TRANSFER_SYNTAXES)
@pytest.mark.parametrize("said", [ASKED, REPORTED, Information("2.25.1", (), REPORTED.failed)])
def test_what_is_written_is_read_in_every_transfer_syntax(said: Information, syntax: str) -> None:
    data = commitment.encode(said, syntax)
    assert len(data) % 2 == 0
    assert read(data, syntax) == said


def test_event_type_says_whether_anything_failed() -> None:
    assert (ASKED.event_type_id, REPORTED.event_type_id) == (ALL_COMMITTED, FAILURES_EXIST)


@pytest.mark.parametrize(
    ("number", "words"),
    [(0x0112, "no such object instance (0112H)"), (0xABCD, "undefined reason (ABCDH)"), (0, "no reason given")],
)
def test_failure_reason_has_words(number: int, words: str) -> None:
    assert commitment.reason(number) == words


# ---------------------------------------------------------------------- against pydicom


def dataset(said: Information) -> Dataset:
    def items(references: tuple[Reference, ...], *, failed: bool) -> list[Dataset]:
        made = []
        for each in references:
            item = Dataset()
            item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = each[:2]
            if failed:
                item.FailureReason = each.failure_reason
            made.append(item)
        return made

    made = Dataset()
    made.RetrieveAETitle = "ARCHIVE"
    made.TransactionUID = said.transaction_uid
    made.StorageMediaFileSetID = "TAPE 1"
    made.ReferencedSOPSequence = items(said.referenced, failed=False)
    made.FailedSOPSequence = items(said.failed, failed=True)
    made.ReferencedSOPSequence[0].RetrieveAETitle = "ARCHIVE"
    return made


def written(made: Dataset, syntax: str) -> bytes:
    implicit, little = syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN
    file = DicomBytesIO()
    file.is_implicit_VR, file.is_little_endian = implicit, little
    write_dataset(file, made)
    return file.getvalue()


@pytest.mark.parametrize("syntax", PLAIN)
def test_pydicom_reads_what_we_write(syntax: str) -> None:
    data = commitment.encode(REPORTED, syntax)
    found = read_dataset(
        BytesIO(data), syntax == IMPLICIT_VR_LITTLE_ENDIAN, syntax != EXPLICIT_VR_BIG_ENDIAN, len(data)
    )
    assert found.TransactionUID == "2.25.1"
    assert [item.ReferencedSOPInstanceUID for item in found.ReferencedSOPSequence] == ["1.2.3"]
    assert [(i.ReferencedSOPInstanceUID, i.FailureReason) for i in found.FailedSOPSequence] == [
        ("1.2.34", 0x0112),
        ("1.2.5", 0x0213),
    ]


@pytest.mark.parametrize("undefined", [False, True], ids=["defined lengths", "undefined lengths"])
@pytest.mark.parametrize("syntax", PLAIN)
def test_we_read_what_pydicom_writes(syntax: str, undefined: bool) -> None:
    made = dataset(REPORTED)
    for keyword in ("ReferencedSOPSequence", "FailedSOPSequence"):
        made[keyword].is_undefined_length = undefined
        for item in made[keyword].value:
            item.is_undefined_length_sequence_item = undefined
    assert read(written(made, syntax), syntax) == REPORTED


@pytest.mark.parametrize("syntax", PLAIN)
def test_sequences_within_items_and_beside_them_are_passed_over(syntax: str) -> None:
    made, code = dataset(REPORTED), Dataset()
    code.CodeValue = "1"
    code.ConceptCodeSequence = [Dataset()]
    for holder in (made, made.ReferencedSOPSequence[0]):
        holder.PurposeOfReferenceCodeSequence = [code]
        holder["PurposeOfReferenceCodeSequence"].is_undefined_length = True
    assert read(written(made, syntax), syntax) == REPORTED


# ---------------------------------------------------------------------- what is broken


@pytest.mark.parametrize("syntax", PLAIN)
@pytest.mark.parametrize("said", [ASKED, REPORTED])
def test_data_set_that_ends_anywhere_is_refused_or_means_less(said: Information, syntax: str) -> None:
    data = commitment.encode(said, syntax)
    for end in range(len(data)):
        try:
            found = read(data[:end], syntax)
        except DimseError as error:
            assert error.status == PROCESSING_FAILURE
        else:  # it ends before a whole sequence
            assert found.transaction_uid == said.transaction_uid
            assert set(found.referenced) < set(said.referenced) or not found.referenced
            assert set(found.failed) <= set(said.failed)


@pytest.mark.parametrize("syntax", PLAIN)
def test_any_bytes_are_read_or_refused(syntax: str) -> None:
    chance, data = random.Random(7), commitment.encode(REPORTED, syntax)
    for _ in range(5_000):
        changed = bytearray(data)
        for _ in range(chance.randrange(1, 5)):
            changed[chance.randrange(len(changed))] = chance.choice((0, 1, 0xFE, 0xFF, chance.randrange(256)))
        try:
            read(bytes(changed), syntax)
        except DimseError as error:
            assert error.status == PROCESSING_FAILURE


def element(tag: int, value: bytes, length: int | None = None) -> bytes:
    return struct.pack("<HHI", tag >> 16, tag & 0xFFFF, len(value) if length is None else length) + value


UID: Final = element(0x00081195, b"2.25.1")
INSTANCE: Final = element(0x00081150, b"1.2\0") + element(0x00081155, b"1.3\0")
ITEM: Final = element(0xFFFEE000, INSTANCE)
UNDEFINED: Final = 0xFFFFFFFF
BROKEN: Final = {
    "nothing": b"",
    "no transaction": element(0x00081199, ITEM),
    "transaction behind the lists": element(0x00081199, ITEM) + UID,
    "transaction that is too long": element(0x00081195, b"1" * 65),
    "list twice": UID + 2 * element(0x00081199, ITEM),
    "list without items": UID + element(0x00081199, INSTANCE),
    "item without an instance": UID + element(0x00081199, element(0xFFFEE000, element(0x00081150, b"1.2\0"))),
    "instance that is too long": UID + element(0x00081199, element(0xFFFEE000, element(0x00081155, b"1" * 66))),
    "list without an end": UID + element(0x00081199, ITEM, UNDEFINED),
    "list that is too long": UID + element(0x00081199, ITEM, 1 << 30),
    "item that leaves its list": UID + element(0x00081199, element(0xFFFEE000, INSTANCE, 999)) + bytes(999),
    "half an element": UID + b"\x08\0\x99",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_data_set_is_a_processing_failure(data: bytes) -> None:
    error = refused(data)
    assert error.status == PROCESSING_FAILURE
    assert error.error_comment.startswith("data set cannot be read")


@pytest.mark.parametrize(
    "data", [b"\x08\0\x95\x11\0\0\x06\0002.25.1", identifier.deflated(bytes(MAX_IDENTIFIER_BYTES + 1)), b"\xff"]
)
def test_what_is_no_explicit_vr_or_cannot_be_inflated_is_a_processing_failure(data: bytes) -> None:
    for syntax in ("1.2.840.10008.1.2.1.99", EXPLICIT_VR_LITTLE_ENDIAN, "1.2.3"):
        assert refused(data, syntax).status == PROCESSING_FAILURE


def test_failure_reason_that_is_none_is_no_reason() -> None:
    item = element(0xFFFEE000, INSTANCE + element(0x00081197, b"\x12"))
    assert read(UID + element(0x00081198, item)).failed == (Reference("1.2", "1.3", commitment.NO_REASON),)


# ---------------------------------------------------------------------- bounds


def test_who_decides_how_many_is_asked_before_any_list_is_looked_at() -> None:
    def nobody(transaction_uid: str) -> int:
        raise DimseError(INVALID_ARGUMENT_VALUE, transaction_uid)

    with pytest.raises(DimseError) as caught:
        commitment.decode(UID + b"broken", IMPLICIT_VR_LITTLE_ENDIAN, nobody)
    assert (caught.value.status, caught.value.error_comment) == (INVALID_ARGUMENT_VALUE, "2.25.1")


@pytest.mark.parametrize("number", [2, 3, 4])
def test_list_may_have_so_many_and_no_more(number: int) -> None:
    data = UID + element(0x00081199, ITEM * number)
    if number > 3:
        with pytest.raises(DimseError, match="more than 3 instances"):
            commitment.decode(data, IMPLICIT_VR_LITTLE_ENDIAN, lambda _: 3)
    else:
        assert len(commitment.decode(data, IMPLICIT_VR_LITTLE_ENDIAN, lambda _: 3).referenced) == number


def test_data_set_far_too_long_for_its_instances_is_not_gone_through() -> None:
    data = UID + element(0x00081199, ITEM * (MAX_IDENTIFIER_BYTES // len(ITEM)))
    began = time.monotonic()
    with pytest.raises(DimseError, match="too long for 1,000 instances"):
        commitment.decode(data, IMPLICIT_VR_LITTLE_ENDIAN, lambda _: 1000)
    assert time.monotonic() - began < 0.1


def test_nesting_of_any_depth_is_passed_over() -> None:
    deep = b"".join(element(0x0040A730, element(0xFFFEE000, b"", UNDEFINED), UNDEFINED) for _ in range(50_000))
    deep += (element(0xFFFEE00D, b"") + element(0xFFFEE0DD, b"")) * 50_000
    assert read(UID + element(0x00081199, ITEM) + deep).referenced == (Reference("1.2", "1.3"),)
