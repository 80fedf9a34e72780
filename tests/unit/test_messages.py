from __future__ import annotations

from typing import Any

import pytest

from fastmove.dimse import command, messages
from fastmove.dimse.messages import (
    CCancelRQ,
    CEchoRSP,
    CFindRQ,
    CGetRSP,
    CMoveRQ,
    CMoveRSP,
    CStoreRQ,
    CStoreRSP,
    Message,
    NActionRQ,
    NActionRSP,
    NEventReportRQ,
    NEventReportRSP,
    NSetRQ,
    UnknownCommand,
    decode,
)
from fastmove.errors import RemoteProtocolError

SAMPLE: dict[str, Any] = {
    "US": 5,
    "UI": "1.2.3",
    "AE": "STORE",
    "LO": "no",
    "AT": (0x00080018,),
}
VR = {name: vr for _, name, vr in command.ELEMENTS}


def sample(message: type[Message]) -> Message:
    return message(**{name: SAMPLE[VR[name]] for name in message.elements})


@pytest.mark.parametrize("message", messages.MESSAGES.values(), ids=lambda m: m.__name__)
def test_message_with_every_field_is_decoded_to_itself(message: type[Message]) -> None:
    full = sample(message)
    assert decode(full.encode()) == full
    assert type(decode(full.encode())) is message


@pytest.mark.parametrize("message", messages.MESSAGES.values(), ids=lambda m: m.__name__)
def test_every_field_but_the_common_two_is_an_element(message: type[Message]) -> None:
    assert set(message.fields) - VR.keys() == {"has_dataset", "notes"}


def test_message_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="cannot be changed"):
        CEchoRSP(message_id_being_responded_to=1, status=0).status = 1  # type: ignore[misc]


@pytest.mark.parametrize("values", [{"status": 0}, {"message_id_being_responded_to": 1, "status": 0, "priority": 1}])
def test_message_takes_its_own_fields_and_needs_those_without_default(values: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="missing or unknown"):
        CEchoRSP(**values)


def test_messages_are_equal_by_class_and_fields_and_hash_alike() -> None:
    one, same = (CEchoRSP(message_id_being_responded_to=1, status=0) for _ in range(2))
    other = CEchoRSP(message_id_being_responded_to=1, status=1)
    assert one == same
    assert {one, same, other} == {one, other}
    assert UnknownCommand(operation=1) != UnknownCommand(operation=2)


def test_command_fields_of_responses_have_the_high_bit() -> None:
    for number, message in messages.MESSAGES.items():
        assert issubclass(message, messages.Response) == bool(number & 0x8000)


@pytest.mark.parametrize("has_dataset", [True, False])
def test_command_data_set_type_tells_whether_a_data_set_follows(has_dataset: bool) -> None:
    rsp = CMoveRSP(message_id_being_responded_to=1, status=0xB000, has_dataset=has_dataset)
    data_set_type = command.decode(rsp.encode()).values["command_data_set_type"]
    assert (data_set_type != 0x0101) is has_dataset
    assert decode(rsp.encode()).has_dataset is has_dataset


def test_requests_that_carry_a_data_set_say_so_by_themselves() -> None:
    move = CMoveRQ(message_id=1, affected_sop_class_uid="1.2", move_destination="STORE")
    find = CFindRQ(message_id=1, affected_sop_class_uid="1.2")
    store = CStoreRQ(message_id=1, affected_sop_class_uid="1.2", affected_sop_instance_uid="1.3")
    n_set = NSetRQ(message_id=1, requested_sop_class_uid="1.2", requested_sop_instance_uid="1.3")
    assert all(m.has_dataset for m in (move, find, store, n_set))


@pytest.mark.parametrize("data_set_type", [0x0000, 0x0001, 0x0102, 0xFEFE])
def test_any_data_set_type_but_0101_announces_a_data_set(data_set_type: int) -> None:
    data = command.encode({"command_field": 0x30, "message_id": 1, "command_data_set_type": data_set_type})
    assert decode(data).has_dataset


# D03
def test_d03_message_without_command_field_is_refused() -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(command.encode({"message_id": 7}))
    assert (caught.value.key, caught.value.source) == ("dimse.no_command", 0)


# D04
def test_d04_unknown_request_is_answered_with_its_own_command_field() -> None:
    request = decode(command.encode({"command_field": 0x0123, "message_id": 9, "affected_sop_class_uid": "1.2"}))
    assert isinstance(request, UnknownCommand)
    assert (request.command_field, request.message_id) == (0x0123, 9)
    values = command.decode(request.response(0x0211).encode()).values
    assert values == {
        "affected_sop_class_uid": "1.2",
        "command_field": 0x8123,
        "message_id_being_responded_to": 9,
        "command_data_set_type": 0x0101,
        "status": 0x0211,
    }


@pytest.mark.parametrize("values", [{"command_field": 0x0123}, {"command_field": 0x8123, "message_id": 9}])
def test_d04_unknown_command_that_cannot_be_answered_is_a_protocol_error(values: dict[str, command.Value]) -> None:
    request = decode(command.encode(values))
    assert isinstance(request, UnknownCommand)
    with pytest.raises(RemoteProtocolError) as caught:
        request.response(0x0211)
    assert (caught.value.key, caught.value.source) == ("dimse.unknown_op", 0)


# D08
@pytest.mark.parametrize("command_field", [0x0001, 0x0020, 0x0021, 0x8001, 0x8021, 0x0FFF])
def test_d08_message_without_message_id_is_refused(command_field: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        decode(command.encode({"command_field": command_field, "status": 0}))
    assert (caught.value.key, caught.value.source) == ("dimse.no_msgid", 0)


# D09, D10, D17, D20
def test_d09_d10_d17_d20_c_store_rq_without_optional_elements_says_none() -> None:
    rq = decode(command.encode({"command_field": 1, "message_id": 7, "command_data_set_type": 0}))
    assert rq == CStoreRQ(
        message_id=7, affected_sop_class_uid=None, affected_sop_instance_uid=None, priority=None, has_dataset=True
    )


# D12
def test_d12_c_store_rq_that_announces_no_data_set_says_so() -> None:
    rq = decode(command.encode({"command_field": 1, "message_id": 7, "command_data_set_type": 0x0101}))
    assert not rq.has_dataset


# D01
def test_d01_oddities_of_the_command_set_are_notes_of_the_message() -> None:
    rsp = CEchoRSP(message_id_being_responded_to=1, status=0)
    decoded = decode(rsp.encode()[12:])
    assert decoded == rsp
    assert decoded.notes == ("dimse.group_length",)


# D21
def test_d21_response_echoes_a_padded_uid_exactly() -> None:
    rq = CStoreRQ(message_id=7, affected_sop_class_uid="1.2.8", affected_sop_instance_uid="1.2.3")
    received = decode(rq.encode().replace(b"1.2.3\0", b"1.2.3 "))
    assert isinstance(received, CStoreRQ)
    assert received == rq
    assert b"1.2.3 " in received.response(0).encode()


def test_response_has_the_ids_of_its_request_and_the_error_fields_given() -> None:
    rq = CStoreRQ(message_id=7, affected_sop_class_uid="1.2.8", affected_sop_instance_uid="1.2.3")
    assert rq.response(0xA700, error_comment="disk full") == CStoreRSP(
        message_id_being_responded_to=7,
        status=0xA700,
        affected_sop_class_uid="1.2.8",
        affected_sop_instance_uid="1.2.3",
        error_comment="disk full",
    )


def test_response_to_an_n_service_turns_requested_uids_into_affected_ones() -> None:
    rq = NActionRQ(message_id=7, requested_sop_class_uid="1.2.8", requested_sop_instance_uid="1.2.3", action_type_id=1)
    assert rq.response(0x0211) == NActionRSP(
        message_id_being_responded_to=7,
        status=0x0211,
        affected_sop_class_uid="1.2.8",
        affected_sop_instance_uid="1.2.3",
    )


def test_response_without_status_says_none() -> None:
    rsp = decode(command.encode({"command_field": 0x8021, "message_id_being_responded_to": 1}))
    assert isinstance(rsp, CMoveRSP)
    assert rsp.status is None


def test_c_get_rsp_and_c_move_rsp_are_different_messages() -> None:
    get = CGetRSP(message_id_being_responded_to=1, status=0)
    assert get != CMoveRSP(message_id_being_responded_to=1, status=0)


def test_c_cancel_rq_names_the_request_it_cancels() -> None:
    values = command.decode(CCancelRQ(message_id_being_responded_to=3).encode()).values
    assert values == {"command_field": 0x0FFF, "message_id_being_responded_to": 3, "command_data_set_type": 0x0101}


# The commands of storage commitment (PS3.4 J.3; PS3.7 10.3.4, 10.3.1)

COMMITMENT = {"sop_class_uid": "1.2.840.10008.1.20.1", "sop_instance_uid": "1.2.840.10008.1.20.1.1"}
_CLASS_BYTES = "14000000 312e322e3834302e31303030382e312e32302e31"
_INSTANCE_BYTES = "16000000 312e322e3834302e31303030382e312e32302e312e31"


def affected(prefix: str = "affected") -> dict[str, Any]:
    return {f"{prefix}_{name}": uid for name, uid in COMMITMENT.items()}


VECTORS: dict[str, tuple[Message, str]] = {
    "N-ACTION-RQ": (
        NActionRQ(message_id=7, action_type_id=1, has_dataset=True, **affected("requested")),
        f"""0000 0000 04000000 62000000
        0000 0300 {_CLASS_BYTES}
        0000 0001 02000000 3001
        0000 1001 02000000 0700
        0000 0008 02000000 0100
        0000 0110 {_INSTANCE_BYTES}
        0000 0810 02000000 0100""",
    ),
    "N-ACTION-RSP": (
        NActionRSP(message_id_being_responded_to=7, status=0x0123, action_type_id=1, **affected()),
        f"""0000 0000 04000000 6c000000
        0000 0200 {_CLASS_BYTES}
        0000 0001 02000000 3081
        0000 2001 02000000 0700
        0000 0008 02000000 0101
        0000 0009 02000000 2301
        0000 0010 {_INSTANCE_BYTES}
        0000 0810 02000000 0100""",
    ),
    "N-EVENT-REPORT-RQ": (
        NEventReportRQ(message_id=9, event_type_id=2, has_dataset=True, **affected()),
        f"""0000 0000 04000000 62000000
        0000 0200 {_CLASS_BYTES}
        0000 0001 02000000 0001
        0000 1001 02000000 0900
        0000 0008 02000000 0100
        0000 0010 {_INSTANCE_BYTES}
        0000 0210 02000000 0200""",
    ),
    "N-EVENT-REPORT-RSP": (
        NEventReportRSP(message_id_being_responded_to=9, status=0, event_type_id=2, **affected()),
        f"""0000 0000 04000000 6c000000
        0000 0200 {_CLASS_BYTES}
        0000 0001 02000000 0081
        0000 2001 02000000 0900
        0000 0008 02000000 0101
        0000 0009 02000000 0000
        0000 0010 {_INSTANCE_BYTES}
        0000 0210 02000000 0200""",
    ),
}


@pytest.mark.parametrize(("message", "vector"), VECTORS.values(), ids=VECTORS)
def test_message_of_storage_commitment_is_these_bytes(message: Message, vector: str) -> None:
    data = bytes.fromhex(vector)
    assert message.encode() == data
    assert decode(data) == message


def test_response_to_an_event_report_names_its_event_type() -> None:
    rq = NEventReportRQ(message_id=9, event_type_id=2, has_dataset=True, **affected())
    rsp = NEventReportRSP(message_id_being_responded_to=9, status=0x0115, event_type_id=2, **affected())
    assert rq.response(0x0115, event_type_id=rq.event_type_id) == rsp
