"""User information items, right and wrong (faults N20-N26)."""

from __future__ import annotations

import struct

import pytest
from tests.unit.pdu_bytes import context, fault_of, item, request, user

from fastmove.ul import pdu
from fastmove.ul.items import (
    AsynchronousOperationsWindow,
    RoleSelection,
    SOPClassExtendedNegotiation,
    UserIdentityRQ,
    UserInformation,
)
from fastmove.ul.pdu import AAssociateRQ

CT = "1.2.840.10008.5.1.4.1.1.2"


def information(*sub_items: bytes) -> UserInformation:
    rq = pdu.decode(1, request(user(*sub_items)))
    assert isinstance(rq, AAssociateRQ)
    return rq.user_information


def role(uid: bytes, roles: bytes = b"\1\0", length: int | None = None) -> bytes:
    return item(0x54, struct.pack(">H", len(uid) if length is None else length) + uid + roles)


def identity(kind: int, primary: bytes, secondary: bytes = b"", lengths: tuple[int, int] | None = None) -> bytes:
    first, second = lengths or (len(primary), len(secondary))
    return item(0x58, struct.pack(">BBH", kind, 0, first) + primary + struct.pack(">H", second) + secondary)


def test_request_without_user_information_has_an_empty_one() -> None:
    rq = pdu.decode(1, request(context()))
    assert isinstance(rq, AAssociateRQ)
    assert rq.user_information == UserInformation()


@pytest.mark.parametrize("length", [1, 2, 3])
def test_user_information_too_short_for_an_item_is_short(length: int) -> None:
    assert fault_of(request(item(0x50, bytes(length)))) == "rq.item_short"


@pytest.mark.parametrize("length", [0, 3, 5, 8])
def test_maximum_length_has_four_bytes(length: int) -> None:
    assert fault_of(request(user(item(0x51, bytes(length))))) == "rq.maxlen_item"


@pytest.mark.parametrize("length", [0, 1, 6, 0xFFFFFFFF])
def test_any_maximum_length_is_read(length: int) -> None:
    assert information(item(0x51, struct.pack(">I", length))).maximum_length == length


@pytest.mark.parametrize("length", [0, 3, 5])
def test_operations_window_has_four_bytes(length: int) -> None:
    assert fault_of(request(user(item(0x53, bytes(length))))) == "rq.item_short"


@pytest.mark.parametrize(
    "sub_item", [role(CT.encode(), length=200), role(CT.encode(), b""), item(0x54), role(b"1", b"\1\0?")]
)
def test_role_selection_whose_lengths_do_not_add_up_is_a_fault(sub_item: bytes) -> None:
    padding = item(0x7F, bytes(300))
    assert fault_of(request(user(sub_item, padding))) == "rq.role_item"


@pytest.mark.parametrize(
    "sub_item",
    [
        identity(1, b"name", lengths=(5, 0)),
        identity(1, b"name", lengths=(3, 0)),
        identity(2, b"name", b"word", lengths=(4, 5)),
        identity(2, b"name", b"word", lengths=(4, 3)),
        identity(2, b"name", b"word", lengths=(0xFFFF, 0xFFFF)),
        item(0x58, b"\1"),
    ],
)
def test_user_identity_whose_lengths_do_not_add_up_is_a_fault(sub_item: bytes) -> None:
    assert fault_of(request(user(sub_item, item(0x7F, bytes(300))))) == "rq.userid"


@pytest.mark.parametrize("kind", [0, 1, 2, 3, 4, 5, 6, 255])
def test_any_type_of_user_identity_is_read(kind: int) -> None:
    assert information(identity(kind, b"name", b"word")).user_identity_rq == UserIdentityRQ(kind, b"name", b"word")


def test_user_identity_of_64_kib_is_read() -> None:
    token = bytes(65535 - 10)
    assert information(identity(5, token)).user_identity_rq == UserIdentityRQ(5, token)


@pytest.mark.parametrize("body", [b"", b"\0", b"\0\x09" + b"1.2", b"\0\3" + b"1.2" + b"\0\2" + b"1"])
def test_common_extended_negotiation_that_runs_over_is_a_fault(body: bytes) -> None:
    assert fault_of(request(user(item(0x57, body), item(0x7F, bytes(30))))) == "rq.item_overrun"


def test_related_sop_class_longer_than_its_list_is_a_fault() -> None:
    body = b"\0\0" + b"\0\0" + struct.pack(">H", 4) + struct.pack(">H", 9) + b"1.2.3.4.5"
    assert fault_of(request(user(item(0x57, body)))) == "rq.item_overrun"


def test_first_of_two_items_wins() -> None:
    found = information(
        role(b"1.2", b"\1\1"),
        role(b"1.2", b"\0\0"),
        item(0x53, b"\0\1\0\1"),
        item(0x53, b"\0\2\0\2"),
        identity(1, b"first"),
        identity(1, b"second"),
        item(0x51, b"\0\0\x40\0"),
        item(0x51, b"\0\0\x40\0"),
        item(0x56, b"\0\3" + b"1.2" + b"a"),
        item(0x56, b"\0\3" + b"1.2" + b"b"),
    )
    assert found.role_selections == (RoleSelection("1.2", True, True),)
    assert found.asynchronous_operations_window == AsynchronousOperationsWindow(1, 1)
    assert found.user_identity_rq == UserIdentityRQ(1, b"first")
    assert found.sop_class_extended_negotiations == (SOPClassExtendedNegotiation("1.2", b"a"),)
    assert found.duplicate_items == (0x54, 0x53, 0x58, 0x51, 0x56)


def test_second_user_information_adds_only_what_the_first_lacks() -> None:
    rq = pdu.decode(1, request(user(item(0x51, b"\0\0\x40\0")), user(item(0x51, b"\0\0\0\x20"), item(0x52, b"1.2"))))
    assert isinstance(rq, AAssociateRQ)
    assert rq.user_information == UserInformation(16384, "1.2", duplicate_items=(0x51,))
