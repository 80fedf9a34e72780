from __future__ import annotations

import pytest

from fastmove.dimse import status
from fastmove.dimse.status import StatusClass, describe

S, P, C, W, F = (
    StatusClass.SUCCESS,
    StatusClass.PENDING,
    StatusClass.CANCEL,
    StatusClass.WARNING,
    StatusClass.FAILURE,
)


@pytest.mark.parametrize(
    ("code", "service", "expected"),
    [
        (0x0000, "C-STORE", S),
        (0xA700, "C-STORE", F),
        (0xA7FF, "C-STORE", F),
        (0xA9AB, "C-STORE", F),
        (0xC123, "C-STORE", F),
        (0xB000, "C-STORE", W),
        (0xB006, "C-STORE", W),
        (0xB007, "C-STORE", W),
        (0x0111, "C-STORE", F),
        (0x0107, "C-STORE", W),
        (0x0116, "", W),
        (0x0001, "", W),
        (0xFF00, "C-FIND", P),
        (0xFF01, "C-FIND", P),
        (0xFE00, "C-FIND", C),
        (0xFF00, "C-MOVE", P),
        (0xFE00, "C-MOVE", C),
        (0xB000, "C-MOVE", W),
        (0xA701, "C-MOVE", F),
        (0xA702, "C-GET", F),
        (0xA801, "C-MOVE", F),
        (0x1234, "C-MOVE", F),
        (0xBEEF, "C-MOVE", W),
        (0x0211, "C-ECHO", F),
    ],
)
def test_status_has_the_class_of_the_standard(code: int, service: str, expected: StatusClass) -> None:
    assert describe(code, service)[0] is expected


@pytest.mark.parametrize(
    ("code", "service", "name"),
    [
        (status.OUT_OF_RESOURCES, "C-STORE", "Refused: out of resources"),
        (status.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "C-STORE", "Error: data set does not match SOP Class"),
        (status.IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, "C-FIND", "Identifier does not match SOP Class"),
        (status.COERCION_OF_DATA_ELEMENTS, "C-STORE", "Coercion of data elements"),
        (
            status.SUBOPERATIONS_COMPLETE_WITH_FAILURES,
            "C-MOVE",
            "Sub-operations complete, one or more failures or warnings",
        ),
        (status.MOVE_DESTINATION_UNKNOWN, "C-MOVE", "Refused: move destination unknown"),
        (status.SOP_CLASS_NOT_SUPPORTED, "C-MOVE", "Refused: SOP Class not supported"),
    ],
)
def test_same_status_is_named_by_its_service(code: int, service: str, name: str) -> None:
    assert describe(code, service)[1] == name


def test_move_destination_unknown_is_no_status_of_c_get() -> None:
    assert describe(status.MOVE_DESTINATION_UNKNOWN, "C-GET")[1] == "Unknown status A801H"


@pytest.mark.parametrize("service", ["", *status.BY_SERVICE])
def test_every_16_bit_status_has_a_class(service: str) -> None:
    for code in range(0, 0x10000, 7):
        assert describe(code, service)[1]


@pytest.mark.parametrize("code", [-1, 0x10000])
def test_more_than_16_bits_are_no_status(code: int) -> None:
    with pytest.raises(ValueError, match="16 bits"):
        describe(code)


@pytest.mark.parametrize("rows", [status.GENERAL, *status.BY_SERVICE.values()])
def test_ranges_of_a_table_do_not_overlap(rows: tuple[status.Row, ...]) -> None:
    ranges = sorted((first, last) for first, last, _, _ in rows)
    assert all(first <= last for first, last in ranges)
    assert all(before[1] < after[0] for before, after in zip(ranges, ranges[1:], strict=False))
