from __future__ import annotations

import struct
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmove.dimse import command
from fastmove.errors import RemoteProtocolError


def element(number: int, value: bytes, group: int = 0) -> bytes:
    return struct.pack("<HHI", group, number, len(value)) + value


def us(number: int, value: int) -> bytes:
    return element(number, struct.pack("<H", value))


def with_group_length(body: bytes) -> bytes:
    return element(0, struct.pack("<I", len(body))) + body


def refusal(data: bytes) -> RemoteProtocolError:
    with pytest.raises(RemoteProtocolError) as caught:
        command.decode(data)
    return caught.value


C_ECHO_RQ = with_group_length(
    element(0x0002, b"1.2.840.10008.1.1\0") + us(0x0100, 0x30) + us(0x0110, 7) + us(0x0800, 0x0101)
)


def test_c_echo_rq_is_encoded_to_the_bytes_of_the_standard() -> None:
    values: dict[str, command.Value] = {
        "affected_sop_class_uid": "1.2.840.10008.1.1",
        "command_field": 0x30,
        "message_id": 7,
        "command_data_set_type": 0x0101,
    }
    assert command.encode(values) == C_ECHO_RQ
    assert command.decode(C_ECHO_RQ) == command.CommandSet(values)


def test_elements_are_encoded_in_ascending_order_whatever_the_order_of_the_names() -> None:
    assert command.encode({"message_id": 7, "command_field": 0x30}) == command.encode(
        {"command_field": 0x30, "message_id": 7}
    )


def test_elements_of_the_table_ascend() -> None:
    numbers = [number for number, _, _ in command.ELEMENTS]
    assert numbers == sorted(set(numbers))


def test_none_leaves_an_element_out() -> None:
    assert command.encode({"message_id": 7, "priority": None}) == command.encode({"message_id": 7})


def test_unknown_name_is_no_element() -> None:
    with pytest.raises(KeyError):
        command.encode({"patient_name": "x"})


@pytest.mark.parametrize(
    ("name", "value", "data"),
    [
        ("move_destination", "STORE", b"STORE "),
        ("error_comment", "disk full", b"disk full "),
        ("offending_element", (0x00080018, 0x0020000D), bytes.fromhex("08001800 20000d00")),
        ("affected_sop_instance_uid", "1.2.3", b"1.2.3\0"),
        ("status", 0xA700, b"\x00\xa7"),
    ],
)
def test_value_is_padded_and_ordered_by_its_vr(name: str, value: command.Value, data: bytes) -> None:
    encoded = command.encode({name: value})
    assert encoded[20:] == data
    assert command.decode(encoded).values == {name: value}


# D01
@pytest.mark.parametrize(
    "group_length", [b"", element(0, struct.pack("<I", 99)), element(0, b"\1\0")], ids=["missing", "wrong", "short"]
)
def test_d01_missing_or_wrong_group_length_is_accepted_and_noted(group_length: bytes) -> None:
    decoded = command.decode(group_length + us(0x0110, 7))
    assert decoded.values == {"message_id": 7}
    assert decoded.notes == ("dimse.group_length",)


# D02
@pytest.mark.parametrize("length", [3, 0xFFFFFFFF, 2164260863, 0x80000000])
def test_d02_element_beyond_the_end_is_malformed(length: int) -> None:
    error = refusal(us(0x0110, 7) + struct.pack("<HHI", 0, 0x0100, length) + b"\x01\x00")
    assert (error.key, error.source, error.reason, error.offset) == ("dimse.malformed", 0, 0, 10)


@pytest.mark.parametrize("cut", range(1, 8))
def test_d02_half_an_element_header_is_malformed(cut: int) -> None:
    assert refusal(us(0x0110, 7) + us(0x0100, 1)[:cut]).key == "dimse.malformed"


# D03
@pytest.mark.parametrize("size", [1, 4])
def test_d03_command_field_of_another_length_is_none(size: int) -> None:
    error = refusal(element(0x0100, bytes(size)))
    assert (error.key, error.source) == ("dimse.no_command", 0)


@pytest.mark.parametrize("number", [0x0110, 0x0800, 0x0900, 0x1020])
@pytest.mark.parametrize("size", [1, 3, 4])
def test_number_of_another_length_is_malformed(number: int, size: int) -> None:
    assert refusal(element(number, bytes(size))).key == "dimse.malformed"


def test_half_a_tag_is_malformed() -> None:
    assert refusal(element(0x0901, bytes(6))).key == "dimse.malformed"


def test_empty_number_is_absent_but_an_empty_uid_is_empty() -> None:
    assert command.decode(us(0x0110, 7) + element(0x1021, b"") + element(0x1000, b"")).values == {
        "message_id": 7,
        "affected_sop_instance_uid": "",
    }


# D18
def test_d18_first_of_two_equal_elements_wins_and_is_noted() -> None:
    decoded = command.decode(with_group_length(us(0x0110, 7) + us(0x0110, 8)))
    assert decoded == command.CommandSet({"message_id": 7}, ("dimse.order",))


def test_d18_descending_elements_are_accepted() -> None:
    assert command.decode(us(0x0110, 7) + us(0x0100, 1)).values == {"message_id": 7, "command_field": 1}


def test_d18_another_group_is_refused() -> None:
    error = refusal(us(0x0100, 1) + element(0x0018, b"1.2\0", group=8))
    assert (error.key, error.source, error.reason) == ("dimse.order", 0, 0)


# D19
def test_d19_explicit_vr_is_malformed() -> None:
    def explicit(number: int, vr: bytes, value: bytes) -> bytes:
        return struct.pack("<HH2sH", 0, number, vr, len(value)) + value

    data = (
        explicit(0, b"UL", bytes(4)) + explicit(0x0002, b"UI", b"1.2.840.10008.1.1\0") + explicit(0x0100, b"US", b"0\0")
    )
    assert refusal(data).key == "dimse.malformed"


# D21
@pytest.mark.parametrize("received", [b"1.2.3 ", b"1.2.34\0\0", b"1.2.3\0", b"1.2.34", b"1.2.34  ", b"  ", b"\0\0\0\0"])
def test_d21_uid_is_compared_bare_and_echoed_as_it_came(received: bytes) -> None:
    uid = command.decode(element(0x1000, received)).values["affected_sop_instance_uid"]
    assert uid == received.decode().rstrip("\0 ")
    assert command.encode({"affected_sop_instance_uid": uid})[20:] == received


def test_d21_only_odd_padding_makes_a_padded_uid() -> None:
    padded = [isinstance(command.decode(element(2, data)).values["affected_sop_class_uid"], command.PaddedUid)
              for data in (b"1.2\0", b"1.23", b"1.2 ")]  # fmt: skip
    assert padded == [False, False, True]


def test_uid_with_bytes_above_7f_keeps_them() -> None:
    uid = command.decode(element(0x1000, b"1.\xff\x00/\n")).values["affected_sop_instance_uid"]
    assert command.encode({"affected_sop_instance_uid": uid})[20:] == b"1.\xff\x00/\n"


# D23
def test_d23_5000_unknown_elements_are_skipped_in_linear_time() -> None:
    def seconds(count: int) -> float:
        data = b"".join(element(0x2001 + 2 * i, b"abcd") for i in range(count)) + us(0x0100, 1)
        best = 1.0
        for _ in range(5):
            start = time.perf_counter()
            assert command.decode(data).values == {"command_field": 1}
            best = min(best, time.perf_counter() - start)
        return best

    assert seconds(5000) < 40 * seconds(500)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_command_set_or_a_protocol_error(data: bytes) -> None:
    try:
        values = command.decode(data).values
    except RemoteProtocolError as error:
        assert error.key in {"dimse.malformed", "dimse.order", "dimse.no_command"}
    else:
        assert values.keys() <= {name for _, name, _ in command.ELEMENTS}


def test_dimse_modules_do_not_load_pydicom() -> None:
    code = (
        "import sys;"
        "from fastmove.dimse import command, messages, move, status;"
        "sys.exit('pydicom' in sys.modules or 'asyncio' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
