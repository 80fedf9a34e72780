"""Catalogue of faults, table D: DIMSE command sets (D01-D23).

The `listener` fixture asserts of every row that the listener goes on serving and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pytest

from fastmove.limits import MESSAGES_AT_ONCE
from fastmove.notices import Notice
from fastmove.services.verification import echo
from fastmove.types import PeerAddress
from tests.integration import raw
from tests.integration.listener import KEPT, LOST, NEXT, Listener
from tests.integration.raw import COMMAND, CT_IMAGE, LAST, VERIFICATION, element, message, p_data, pdv, uid, us
from tests.integration.scripted import Closed, Recv, ScriptedAcceptor, ScriptedRequestor, Send, Step

fast_and_durable = pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])

Change = Mapping[int, bytes | None]

NEXT_DATA = raw.dataset(NEXT)
LOST_DATA = raw.dataset(LOST)
FIELDS = (
    element(raw.AFFECTED_SOP_CLASS, uid(CT_IMAGE)),
    element(raw.COMMAND_FIELD, us(1)),
    element(raw.MESSAGE_ID, us(2)),
    element(raw.PRIORITY, us(0)),
    element(raw.DATA_SET_TYPE, us(1)),
    element(raw.AFFECTED_SOP_INSTANCE, uid(NEXT)),
)
"""The elements of the C-STORE-RQ of NEXT as message 2, to be put together wrongly."""


async def stored(listener: Listener, command: bytes) -> None:
    """This command is the C-STORE-RQ of NEXT as message 2: Success, and the object is there."""
    async with listener.associated() as peer:
        await peer.send(message(1, command, NEXT_DATA))
        await peer.expect_status(0, 2)
        await peer.release()
    listener.holds(KEPT, NEXT)


async def aborted(listener: Listener, data: bytes, key: str, abort: tuple[int, int] = (0, 0)) -> None:
    """These bytes get this A-ABORT, the log this event, and only what was stored before is there."""
    async with listener.associated() as peer:
        await peer.send(data)
        await peer.expect_abort(*abort)
        await peer.expect_closed()
    await listener.event(key)
    listener.holds(KEPT)


async def answered(listener: Listener, data: bytes, status: int, key: str) -> dict[int, bytes]:
    """Message 2 gets this status, the log this event; the association goes on: the fields of the response."""
    async with listener.associated() as peer:
        await peer.send(data)
        reply = await peer.expect_status(status, 2)
        await goes_on(listener, peer)
    await listener.event(key)
    return reply.fields


async def goes_on(listener: Listener, peer: ScriptedRequestor) -> None:
    """The association still stores, and nothing but NEXT has come to KEPT."""
    await peer.store(NEXT, NEXT_DATA, message_id=9)
    await peer.release()
    listener.holds(KEPT, NEXT)


@pytest.mark.parametrize("group_length", [None, 0, 7, 0xFFFFFFFF])
async def test_D01_missing_or_wrong_group_length_is_accepted(listener: Listener, group_length: int | None) -> None:
    await stored(listener, raw.command_set(b"".join(FIELDS), group_length))
    await listener.event("dimse.group_length")


@pytest.mark.parametrize("length", [100, 0xFFFFFFFF, 2164260863])
async def test_D02_element_beyond_the_end_of_the_command_set_is_aborted(listener: Listener, length: int) -> None:
    command = raw.command_set(b"".join(FIELDS[:-1]) + element(raw.AFFECTED_SOP_INSTANCE, uid(LOST), length=length))
    await aborted(listener, message(1, command, LOST_DATA), "dimse.malformed")


@pytest.mark.parametrize("field", [None, b"\x01", b"\x01\0\0\0"], ids=["missing", "1 byte", "4 bytes"])
async def test_D03_command_without_a_valid_command_field_is_aborted(listener: Listener, field: bytes | None) -> None:
    command = raw.c_store_rq(LOST, 2, change={raw.COMMAND_FIELD: field})
    await aborted(listener, message(1, command, LOST_DATA), "dimse.no_command")


async def test_D04_unknown_request_is_answered_unrecognized_operation(listener: Listener) -> None:
    fields = await answered(listener, message(1, raw.request(0x0123, 2, CT_IMAGE)), 0x0211, "dimse.unknown_op")
    assert fields[raw.COMMAND_FIELD] == us(0x8123)


@pytest.mark.parametrize(
    "command",
    [raw.request(0x0123, 2, CT_IMAGE, {raw.MESSAGE_ID: None}), raw.request(0x8123, 2, CT_IMAGE)],
    ids=["no message ID", "response bit"],
)
async def test_D04_unknown_operation_that_cannot_be_answered_is_aborted(listener: Listener, command: bytes) -> None:
    await aborted(listener, message(1, command), "dimse.unknown_op")


@pytest.mark.parametrize(
    "field",
    [0x0010, 0x0020, 0x0021, 0x0100, 0x0110, 0x0120, 0x0130, 0x0140, 0x0150],
    ids=["C-GET", "C-FIND", "C-MOVE", "N-EVENT-REPORT", "N-GET", "N-SET", "N-ACTION", "N-CREATE", "N-DELETE"],
)
async def test_D05_other_service_is_drained_and_answered_unrecognized_operation(listener: Listener, field: int) -> None:
    request = raw.request(field, 2, CT_IMAGE, {raw.DATA_SET_TYPE: us(1)})
    fields = await answered(listener, message(1, request, LOST_DATA), 0x0211, "dimse.not_supported")
    assert fields[raw.COMMAND_FIELD] == us(0x8000 | field)


async def test_D06_response_that_nobody_asked_for_is_aborted(listener: Listener) -> None:
    await aborted(listener, message(1, raw.c_store_rsp(2, LOST)), "dimse.unexpected_rsp")


async def test_D06_response_that_comes_instead_of_the_release_is_aborted_by_the_requestor() -> None:
    """What was asked for has been answered: the echo is a success all the same."""
    answer = raw.response(0x8030, 1, VERIFICATION, 0)
    script: list[Step] = [
        Recv(raw.ASSOCIATE_RQ),
        Send(raw.associate_ac()),
        Recv(raw.P_DATA),
        Send(message(1, answer)),
        Recv(raw.RELEASE_RQ),
        Send(message(1, answer)),
        Recv(raw.ABORT),
        Closed(),
    ]
    notices: list[Notice] = []
    async with ScriptedAcceptor([script]) as acceptor:
        await echo(PeerAddress("SCRIPTED", acceptor.host, acceptor.port), notify=notices.append)
        await acceptor.finished()
    assert acceptor.received[0][-1].data == bytes(4), "A-ABORT(0,0) expected"
    assert [notice.event for notice in notices] == ["dimse.unexpected_rsp"]


async def test_D07_cancel_request_is_ignored(listener: Listener) -> None:
    fields = {raw.COMMAND_FIELD: us(0x0FFF), raw.RESPONDED_TO: us(1), raw.DATA_SET_TYPE: us(raw.NO_DATA_SET)}
    async with listener.associated() as peer:
        await peer.send(message(1, raw.command(fields)))
        await goes_on(listener, peer)
    await listener.event("dimse.cancel_ignored")


async def test_D08_c_store_without_message_id_is_aborted(listener: Listener) -> None:
    command = raw.c_store_rq(LOST, change={raw.MESSAGE_ID: None})
    await aborted(listener, message(1, command, LOST_DATA), "dimse.no_msgid")


async def test_D09_c_store_without_sop_class_is_answered_missing_attribute(listener: Listener) -> None:
    command = raw.c_store_rq(LOST, 2, change={raw.AFFECTED_SOP_CLASS: None})
    await answered(listener, message(1, command, LOST_DATA), 0x0120, "store.no_class")


async def test_D10_c_store_without_sop_instance_is_answered_missing_attribute(listener: Listener) -> None:
    command = raw.c_store_rq(LOST, 2, change={raw.AFFECTED_SOP_INSTANCE: None})
    await answered(listener, message(1, command, LOST_DATA), 0x0120, "store.no_instance")


async def test_D11_sop_class_of_another_context_is_answered_class_not_supported(listener: Listener) -> None:
    command = raw.c_store_rq(LOST, 2, raw.MR_IMAGE)
    await answered(listener, message(1, command, raw.dataset(LOST, raw.MR_IMAGE)), 0x0122, "store.class_context")


async def test_D12_c_store_without_data_set_is_answered_cannot_understand(listener: Listener) -> None:
    command = raw.c_store_rq(LOST, 2, change={raw.DATA_SET_TYPE: us(raw.NO_DATA_SET)})
    await answered(listener, message(1, command), 0xC000, "store.no_dataset")


async def test_D13_command_where_a_data_set_is_due_is_aborted(listener: Listener) -> None:
    commands = message(1, raw.c_store_rq(LOST, 2)) + message(1, raw.c_store_rq(NEXT, 3), NEXT_DATA)
    await aborted(listener, commands, "pdv.order", (2, 5))


@fast_and_durable
async def test_D14_message_id_used_twice_at_once_is_aborted_or_served_in_order(listener: Listener) -> None:
    """Outstanding it is AB(0,0); a listener that answers each message before it reads the next finds D15."""
    async with listener.associated() as peer:
        again = message(1, raw.c_store_rq(NEXT, 2), NEXT_DATA)
        await peer.send(message(1, raw.c_store_rq(LOST, 2), LOST_DATA), again)
        first = await peer.read_pdu()
        if first.pdu_type == raw.ABORT:
            assert first.data == bytes(4)
            await listener.event("dimse.async")
            assert raw.dataset(KEPT) in listener.stored()
            return
        assert raw.decode_command(first.data[6:])[raw.STATUS] == us(0)
        await peer.expect_status(0, 2)
    listener.holds(KEPT, LOST, NEXT)


@fast_and_durable
async def test_D15_message_id_used_again_after_the_answer_is_accepted(listener: Listener) -> None:
    await stored_twice(listener, (2, 2), glued=False)


@fast_and_durable
async def test_D16_pipelined_requests_are_served_in_order(listener: Listener) -> None:
    await stored_twice(listener, (2, 3), glued=True)
    await listener.event("dimse.pipelined")


async def stored_twice(listener: Listener, message_ids: tuple[int, int], *, glued: bool) -> None:
    """LOST and NEXT are stored in this order, the second sent before or after the answer to the first."""
    first = message(1, raw.c_store_rq(LOST, message_ids[0]), LOST_DATA)
    second = message(1, raw.c_store_rq(NEXT, message_ids[1]), NEXT_DATA)
    async with listener.associated() as peer:
        await peer.send(first, second if glued else b"")
        assert (await peer.expect_status(0, message_ids[0])).fields[raw.AFFECTED_SOP_INSTANCE] == uid(LOST)
        await peer.send(b"" if glued else second)
        assert (await peer.expect_status(0, message_ids[1])).fields[raw.AFFECTED_SOP_INSTANCE] == uid(NEXT)
        await peer.release()
    listener.holds(KEPT, LOST, NEXT)


@pytest.mark.parametrize("priority", [us(3), us(65535), None], ids=["3", "65535", "missing"])
async def test_D17_undefined_priority_is_accepted(listener: Listener, priority: bytes | None) -> None:
    await stored(listener, raw.c_store_rq(NEXT, 2, change={raw.PRIORITY: priority}))
    await listener.event("dimse.priority")


async def test_D18_of_an_element_sent_twice_the_first_wins(listener: Listener) -> None:
    await stored(listener, raw.command_set(b"".join((*FIELDS, element(raw.AFFECTED_SOP_INSTANCE, uid(LOST))))))
    await listener.event("dimse.order")


async def test_D18_elements_in_descending_order_are_accepted(listener: Listener) -> None:
    await stored(listener, raw.command_set(b"".join(reversed(FIELDS))))
    await listener.event("dimse.order")


async def test_D18_element_of_another_group_is_aborted(listener: Listener) -> None:
    command = raw.command_set(b"".join((*FIELDS, element(0x00080018, uid(LOST)))))
    await aborted(listener, message(1, command, LOST_DATA), "dimse.order")


async def test_D19_explicit_vr_command_set_is_aborted(listener: Listener) -> None:
    fields = (
        (raw.AFFECTED_SOP_CLASS, b"UI", uid(CT_IMAGE)),
        (raw.COMMAND_FIELD, b"US", us(1)),
        (raw.MESSAGE_ID, b"US", us(2)),
        (raw.DATA_SET_TYPE, b"US", us(1)),
        (raw.AFFECTED_SOP_INSTANCE, b"UI", uid(LOST)),
    )
    command = b"".join(struct.pack("<HH2sH", 0, tag, vr, len(value)) + value for tag, vr, value in fields)
    await aborted(listener, message(1, command, LOST_DATA), "dimse.malformed")


@pytest.mark.parametrize(
    "originator",
    [
        {raw.ORIGINATOR_AE: raw.ae("STRANGER"), raw.ORIGINATOR_ID: us(77)},
        {raw.ORIGINATOR_AE: raw.ae("STRANGER")},
        {raw.ORIGINATOR_ID: us(77)},
        {raw.ORIGINATOR_AE: b"", raw.ORIGINATOR_ID: b""},
    ],
    ids=["unknown job", "no ID", "no AE title", "empty"],
)
async def test_D20_move_originator_does_not_matter(listener: Listener, originator: Change) -> None:
    await stored(listener, raw.c_store_rq(NEXT, 2, change=originator))


async def test_D21_uid_padded_by_a_space_is_echoed_as_received(listener: Listener) -> None:
    padded = uid(NEXT, b" ")
    assert padded.endswith(b" ")
    async with listener.associated() as peer:
        await peer.send(message(1, raw.c_store_rq(NEXT, 2, change={raw.AFFECTED_SOP_INSTANCE: padded}), NEXT_DATA))
        assert (await peer.expect_status(0, 2)).fields[raw.AFFECTED_SOP_INSTANCE] == padded
    listener.holds(KEPT, NEXT)
    await listener.event("store.uid_pad")


async def test_D22_echo_storm_does_not_starve_a_storing_association(listener: Listener) -> None:
    echoes = 10_000
    async with listener.connect() as stormer, listener.associated() as peer:
        await stormer.associate()

        async def storm() -> None:
            for message_id in range(echoes):
                await stormer.echo(message_id)

        storming = asyncio.create_task(storm())
        for message_id in range(2, 22):
            await peer.store(NEXT, NEXT_DATA, message_id)
        stored_within_the_storm = not storming.done()
        await storming
        assert stored_within_the_storm
        await stormer.release()
    listener.holds(KEPT, NEXT)


async def test_D22_requests_that_come_at_once_are_answered_in_turns(listener: Listener) -> None:
    """Nobody who does not wait for answers has the loop to himself for as long as his requests last."""
    loop, turn, turns = asyncio.get_running_loop(), 0, list[int]()
    record = listener.record

    def next_turn() -> None:
        nonlocal turn
        turn += 1
        counting[0] = loop.call_soon(next_turn)

    def recorded(event: dict[str, Any]) -> None:
        record(event)
        if event["event"] == "echo.received":
            turns.append(turn)

    counting = [loop.call_soon(next_turn)]
    listener.record = recorded  # type: ignore[method-assign]
    async with listener.connect() as peer:
        await peer.associate()
        await peer.send(b"".join(raw.message(3, raw.c_echo_rq(number)) for number in range(1, 2001)))
        for number in range(1, 2001):
            await peer.expect_status(0, number)
        await peer.release()
    counting[0].cancel()
    assert max(Counter(turns).values()) <= MESSAGES_AT_ONCE


async def test_D23_command_set_of_5000_unknown_elements_is_accepted(listener: Listener) -> None:
    unknown = dict.fromkeys(range(24576, 24576 + 5000), b"\x00\x00\x00\x00")
    await stored(listener, raw.c_store_rq(NEXT, 2, change=unknown))


async def test_D23_is_cut_into_fragments_too(listener: Listener) -> None:
    command = raw.c_store_rq(NEXT, 2, change=dict.fromkeys(range(24576, 24576 + 5000), b"\x00\x00\x00\x00"))
    pdvs = [pdv(1, COMMAND, command[:30_000]), pdv(1, COMMAND | LAST, command[30_000:]), pdv(1, LAST, NEXT_DATA)]
    async with listener.associated() as peer:
        await peer.send(b"".join(p_data(one) for one in pdvs))
        await peer.expect_status(0, 2)
    listener.holds(KEPT, NEXT)
