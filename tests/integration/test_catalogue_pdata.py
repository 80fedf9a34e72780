"""Catalogue of faults, table P: P-DATA-TF PDUs, presentation data values, release and abort (P01-P27).

The `listener` fixture asserts of every row that the listener goes on serving and leaves nothing behind.
"""

from __future__ import annotations

import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest

from tests.integration import raw
from tests.integration.listener import KEPT, LOST, NEXT, Listener, half_object
from tests.integration.raw import COMMAND, CT_IMAGE, LAST, VERIFICATION, context_rq, p_data, pdv, release_rq
from tests.integration.scripted import Closed, Recv, ScriptedAcceptor, ScriptedRequestor, Send, Step

Associate = Callable[[str, int], Awaitable[Any]]

fast_and_durable = pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])

NEXT_RQ = raw.c_store_rq(NEXT, 2)
NEXT_DATA = raw.dataset(NEXT)


async def aborted_in_mid_object(listener: Listener, bad: bytes, abort: tuple[int, int], key: str) -> None:
    """Bad bytes behind half an object: this A-ABORT, this event, and only what was stored before is there."""
    async with listener.associated() as peer:
        await peer.send(half_object(), bad)
        await peer.expect_abort(*abort)
        await peer.expect_closed()
    await listener.event(key)
    listener.holds(KEPT)


async def aborted_between_messages(listener: Listener, bad: bytes, abort: tuple[int, int], key: str) -> None:
    """The same with no message under way."""
    async with listener.associated() as peer:
        await peer.send(bad)
        await peer.expect_abort(*abort)
        await peer.expect_closed()
    await listener.event(key)
    listener.holds(KEPT)


async def stored(listener: Listener, peer: ScriptedRequestor, data: bytes) -> None:
    """These bytes are the C-STORE of NEXT as message 2: it is answered Success and there."""
    await peer.send(data)
    await peer.expect_status(0, 2)
    listener.holds(KEPT, NEXT)


@pytest.mark.parametrize("pdu_type", [0x00, 0x08, 0x99, 0xFF])
async def test_P01_unknown_pdu_type_is_aborted(listener: Listener, pdu_type: int) -> None:
    await aborted_in_mid_object(listener, raw.pdu(pdu_type, bytes(4)), (2, 1), "pdu.unknown_type")


async def test_P02_p_data_of_4_gib_is_aborted_at_its_header(listener: Listener) -> None:
    await aborted_in_mid_object(listener, p_data(length=0xFFFFFFFF), (2, 6), "pdu.too_long")


async def test_P02_p_data_beyond_the_announced_maximum_is_aborted_at_its_header(listener: Listener) -> None:
    async with listener.associated() as peer:
        announced = int.from_bytes(peer.user_items[0x51], "big")
        await peer.send(half_object(), p_data(length=announced + 1))
        await peer.expect_abort(2, 6)
        await peer.expect_closed()
    await listener.event("pdu.too_long")
    listener.holds(KEPT)


async def test_P02_p_data_of_the_announced_maximum_is_accepted(listener: Listener) -> None:
    async with listener.associated() as peer:
        announced = int.from_bytes(peer.user_items[0x51], "big")
        dataset = raw.dataset(NEXT, pixel_bytes=announced)
        await peer.send(raw.message(1, NEXT_RQ, dataset, fragment=announced - 6))
        await peer.expect_status(0, 2)
    assert dataset in listener.stored()


@pytest.mark.parametrize("length", range(6))
async def test_P03_p_data_without_room_for_a_pdv_is_aborted(listener: Listener, length: int) -> None:
    await aborted_in_mid_object(listener, p_data(bytes(length)), (2, 6), "pdu.short")


@pytest.mark.parametrize("length", [0, 1])
async def test_P04_pdv_without_room_for_its_header_is_aborted(listener: Listener, length: int) -> None:
    await aborted_in_mid_object(listener, p_data(pdv(1, 0, length=length)), (2, 6), "pdv.length")


async def test_P05_1000_empty_fragments_in_a_row_are_accepted(listener: Listener) -> None:
    async with listener.associated() as peer:
        command = p_data(pdv(1, COMMAND | LAST, NEXT_RQ))
        await stored(listener, peer, command + p_data(pdv(1, 0)) * 1000 + p_data(pdv(1, LAST, NEXT_DATA)))


async def test_P05_more_than_1000_empty_fragments_in_a_row_are_aborted(listener: Listener) -> None:
    await aborted_in_mid_object(listener, p_data(pdv(1, 0)) * 1001, (2, 6), "pdv.empty_flood")


async def test_P06_empty_last_fragment_completes_the_object(listener: Listener) -> None:
    async with listener.associated() as peer:
        pdvs = (pdv(1, COMMAND | LAST, NEXT_RQ), pdv(1, 0, NEXT_DATA), pdv(1, LAST))
        await stored(listener, peer, b"".join(p_data(one) for one in pdvs))


@pytest.mark.parametrize("length", [13, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 0x80000006])
async def test_P07_pdv_beyond_the_end_of_its_pdu_is_aborted(listener: Listener, length: int) -> None:
    await aborted_in_mid_object(listener, p_data(pdv(1, 0, bytes(10), length=length)), (2, 6), "pdv.overrun")


@pytest.mark.parametrize("count", range(1, 6))
async def test_P08_bytes_behind_the_last_pdv_are_aborted(listener: Listener, count: int) -> None:
    await aborted_in_mid_object(listener, p_data(pdv(1, 0, bytes(10)), bytes(count)), (2, 6), "pdv.trailing")


async def test_P09_odd_fragments_are_accepted_and_noted_once(listener: Listener) -> None:
    async with listener.associated() as peer:
        await stored(listener, peer, raw.message(1, NEXT_RQ, NEXT_DATA, fragment=33))
    await listener.event("pdv.odd")
    assert len(listener.seen("pdv.odd")) == 1


async def test_P09_object_of_odd_length_is_stored_as_it_came(listener: Listener) -> None:
    dataset = raw.dataset(NEXT, pixel_bytes=511)
    async with listener.associated() as peer:
        await peer.send(raw.message(1, NEXT_RQ, dataset))
        await peer.expect_status(0, 2)
    assert dataset in listener.stored()
    await listener.event("store.odd")


@pytest.mark.parametrize("context_id", [2, 0, 255, 5], ids=["even", "zero", "not proposed", "rejected"])
async def test_P10_pdv_of_a_context_that_was_not_accepted_is_aborted(listener: Listener, context_id: int) -> None:
    contexts = [context_rq(1, CT_IMAGE), context_rq(3, VERIFICATION), context_rq(5, CT_IMAGE, ["not a uid"])]
    async with listener.associated(raw.associate_rq(contexts=contexts)) as peer:
        await peer.send(half_object(context_id))
        await peer.expect_abort(2, 5)
        await peer.expect_closed()
    await listener.event("pdv.context")
    listener.holds(KEPT)


async def test_P11_bits_2_to_7_of_the_message_control_header_are_not_tested(listener: Listener) -> None:
    async with listener.associated() as peer:
        pdvs = (pdv(1, COMMAND | LAST | 0xFC, NEXT_RQ), pdv(1, LAST | 0xFC, NEXT_DATA))
        await stored(listener, peer, b"".join(p_data(one) for one in pdvs))
    await listener.event("pdv.mch")


async def test_P12_data_fragment_where_a_command_is_due_is_aborted(listener: Listener) -> None:
    await aborted_between_messages(listener, p_data(pdv(1, LAST, NEXT_DATA)), (2, 5), "pdv.order")


async def test_P13_command_fragment_in_a_data_set_is_aborted(listener: Listener) -> None:
    await aborted_in_mid_object(listener, p_data(pdv(1, COMMAND | LAST, NEXT_RQ)), (2, 5), "pdv.order")


async def test_P14_data_set_on_another_context_than_its_command_is_aborted(listener: Listener) -> None:
    await aborted_in_mid_object(listener, p_data(pdv(3, LAST, bytes(10))), (2, 5), "pdv.context_switch")


@pytest.mark.parametrize("count", [200, len(NEXT_RQ)], ids=["200 fragments", "single bytes"])
async def test_P15_command_in_many_fragments_is_accepted(listener: Listener, count: int) -> None:
    single, rest = NEXT_RQ[: count - 1], NEXT_RQ[count - 1 :]
    fragments = [pdv(1, COMMAND, bytes((byte,))) for byte in single] + [pdv(1, COMMAND | LAST, rest)]
    async with listener.associated() as peer:
        await stored(listener, peer, b"".join(p_data(one) for one in (*fragments, pdv(1, LAST, NEXT_DATA))))


async def test_P16_command_that_never_ends_is_aborted(listener: Listener) -> None:
    fragments = p_data(pdv(1, COMMAND, bytes(16384))) * 4 + p_data(pdv(1, COMMAND, bytes(1)))
    await aborted_between_messages(listener, fragments, (0, 0), "dimse.cmd_too_long")


async def test_P17_command_and_data_set_in_one_pdu_are_accepted(listener: Listener) -> None:
    async with listener.associated() as peer:
        await stored(listener, peer, p_data(pdv(1, COMMAND | LAST, NEXT_RQ), pdv(1, LAST, NEXT_DATA)))


@fast_and_durable
async def test_P17_two_messages_in_one_pdu_are_accepted_in_order(listener: Listener) -> None:
    other = raw.dataset(LOST)
    async with listener.associated() as peer:
        pdvs = [pdv(1, COMMAND | LAST, NEXT_RQ), pdv(1, LAST, NEXT_DATA)]
        pdvs += [pdv(1, COMMAND | LAST, raw.c_store_rq(LOST, 3)), pdv(1, LAST, other)]
        await peer.send(p_data(*pdvs))
        await peer.expect_status(0, 2)
        await peer.expect_status(0, 3)
    listener.holds(KEPT, NEXT, LOST)


async def test_P18_10000_pdvs_in_one_pdu_are_accepted(listener: Listener) -> None:
    dataset = raw.dataset(NEXT, pixel_bytes=70_000 - (len(NEXT_DATA) - 512))
    assert len(dataset) == 70_000
    pdvs = [pdv(1, LAST if at == 69_993 else 0, dataset[at : at + 7]) for at in range(0, 70_000, 7)]
    async with listener.associated() as peer:
        await peer.send(p_data(pdv(1, COMMAND | LAST, NEXT_RQ)), p_data(*pdvs))
        await peer.expect_status(0, 2)
    assert dataset in listener.stored()


@fast_and_durable
async def test_P19_every_byte_in_a_segment_of_its_own_gives_the_same(listener: Listener) -> None:
    async with listener.connect() as peer:
        await peer.send_pieces(raw.associate_rq())
        await peer.expect_accept()
        await peer.send_pieces(raw.message(1, raw.c_store_rq(NEXT), NEXT_DATA, fragment=100))
        await peer.expect_status(0)
        await peer.send_pieces(release_rq())
        await peer.expect(raw.RELEASE_RP)
    listener.holds(NEXT)


@fast_and_durable
async def test_P20_release_request_in_a_data_set_is_aborted_by_the_service_user(listener: Listener) -> None:
    await aborted_in_mid_object(listener, release_rq(), (0, 0), "assoc.release_mid_object")


async def test_P21_p_data_after_release_request_is_never_answered_as_a_message(listener: Listener) -> None:
    """In Sta8 it is AB(2,2); a listener that has answered the release by then is in Sta13 and ignores it (AA-6)."""
    async with listener.associated() as peer:
        await peer.send(release_rq(), raw.message(1, NEXT_RQ, NEXT_DATA))
        answer = await peer.read_pdu()
        assert (answer.pdu_type, answer.data) in (
            (raw.ABORT, bytes((0, 0, 2, 2))),
            (raw.RELEASE_RP, bytes(4)),
        )
        await peer.expect_closed()
    listener.holds(KEPT)


async def test_P22_release_response_without_request_is_aborted(listener: Listener) -> None:
    await aborted_in_mid_object(listener, raw.release_rp(), (2, 2), "pdu.unexpected")


async def test_P23_release_collision_is_resolved_by_the_requestor(associate: Associate) -> None:
    """The requestor answers first, then waits (AR-8, AR-9, AR-3); our acceptor never asks for a release."""
    script: list[Step] = [
        Recv(raw.ASSOCIATE_RQ),
        Send(raw.associate_ac([raw.context_ac(1)])),
        Recv(raw.RELEASE_RQ),
        Send(release_rq()),
        Recv(raw.RELEASE_RP),
        Send(raw.release_rp()),
        Closed(),
    ]
    async with ScriptedAcceptor([script]) as acceptor:
        association = await associate(acceptor.host, acceptor.port)
        await association.release()
        await acceptor.finished()


@pytest.mark.parametrize(
    ("bad", "key"),
    [
        (release_rq(b""), "pdu.length"),
        (release_rq(b"\0\0\0\0rubbish"), "pdu.length"),
        (release_rq(length=0x80000000), "pdu.too_long"),
    ],
    ids=["0", "4 + rubbish", "2 GiB"],
)
async def test_P24_release_request_of_wrong_length_is_aborted(listener: Listener, bad: bytes, key: str) -> None:
    await aborted_between_messages(listener, bad, (2, 6), key)


@pytest.mark.parametrize(
    "data", [b"", bytes(8), b"\0\0\x01\0", b"\xff\xff\xff\xff"], ids=["empty", "8 bytes", "reserved source", "ones"]
)
async def test_P25_malformed_abort_is_an_abort(listener: Listener, data: bytes) -> None:
    async with listener.associated() as peer:
        await peer.send(half_object(), raw.abort(data=data))
        await peer.expect_closed()
    await listener.event("assoc.aborted")
    listener.holds(KEPT)


async def test_P26_rubbish_after_our_abort_is_dropped_until_artim(listener: Listener) -> None:
    async with listener.associated() as peer:
        await peer.send(half_object(), raw.pdu(0x99))
        await peer.expect_abort(2, 1)
        with suppress(ConnectionError):
            await peer.send(struct.pack(">BxI", 0x99, 0) * 170_000)
        await peer.expect_closed()
    await listener.event("assoc.sta13_drop")
    listener.holds(KEPT)


@fast_and_durable
async def test_P27_bytes_after_the_release_response_are_ignored(listener: Listener) -> None:
    async with listener.associated() as peer:
        await peer.send(release_rq())
        await peer.expect(raw.RELEASE_RP)
        with suppress(ConnectionError):
            await peer.send(raw.message(1, NEXT_RQ, NEXT_DATA), b"rubbish")
        await peer.expect_closed()
    listener.holds(KEPT)
