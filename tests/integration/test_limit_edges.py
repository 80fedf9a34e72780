"""Limits at their edges: one less, as much, and one more than each allows (deadlines are in test_deadlines.py)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from fastmove.errors import AssociationAborted
from fastmove.limits import MAX_PDU_LENGTH, PDV_HEADER_BYTES, Limits
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import contexts_for, propose
from tests.integration import raw
from tests.integration.conftest import LIMITS
from tests.integration.listener import NEXT, Listener, listening
from tests.integration.scripted import Recv, ScriptedAcceptor, ScriptedRequestor, Send, Step

EDGES = pytest.mark.parametrize("over", [-1, 0, 1], ids=["limit - 1", "limit", "limit + 1"])
ROOM: Final = 4096


def request_of(nbytes: int) -> bytes:
    """An A-ASSOCIATE-RQ whose PDU-length is so many bytes."""
    left = nbytes - (len(raw.associate_rq()) - 6) - 4
    rq = raw.associate_rq(extra_items=raw.item(0x99, bytes(left)))
    assert len(rq) == 6 + nbytes
    return rq


def request_of_items(number: int) -> bytes:
    """An A-ASSOCIATE-RQ of so many items."""
    return raw.associate_rq(extra_items=raw.item(0x99) * (number - 4))


def request_of_user_items(number: int) -> bytes:
    """An A-ASSOCIATE-RQ whose user information has so many sub-items."""
    return raw.associate_rq(user_items=raw.DEFAULT_USER_ITEMS + raw.item(0x7F) * (number - 2))


REQUESTS: Final[dict[str, tuple[Limits, int, Callable[[int], bytes], str]]] = {
    "max_control_pdu_length": (LIMITS.replace(max_control_pdu_length=ROOM), ROOM, request_of, "pdu.too_long"),
    "max_items": (LIMITS.replace(max_items=200), 200, request_of_items, "rq.items"),
    "max_user_items": (LIMITS.replace(max_user_items=20), 20, request_of_user_items, "rq.items"),
}


@EDGES
@pytest.mark.parametrize("name", REQUESTS)
async def test_request_is_taken_up_to_its_limit_and_aborted_beyond(tmp_path: Path, name: str, over: int) -> None:
    limits, most, request, key = REQUESTS[name]
    async with listening(tmp_path, limits) as (listener, _), listener.connect() as peer:
        if over > 0:
            await peer.send(request(most + over))
            await peer.expect_abort(0, 0)
            await listener.event(key)
            return
        await peer.associate(request(most + over))
        await peer.echo()
        await peer.release()


def echo_of(nbytes: int) -> bytes:
    """A C-ECHO-RQ whose command set has so many bytes."""
    command = raw.c_echo_rq(1, {0x5110: bytes(nbytes - len(raw.c_echo_rq()) - 8)})
    assert len(command) == nbytes
    return raw.message(3, command)


def echo_in_a_pdu_of(nbytes: int) -> bytes:
    """The same, as one PDU whose length is so many bytes."""
    return echo_of(nbytes - 6)


def echo_behind_empty_pdvs(number: int) -> bytes:
    """A C-ECHO-RQ after so many PDVs without data."""
    return raw.p_data(*[raw.pdv(3, raw.COMMAND)] * number) + raw.message(3, raw.c_echo_rq(1))


MESSAGES: Final[dict[str, tuple[Limits, int, Callable[[int], bytes], str]]] = {
    "max_command_bytes": (LIMITS.replace(max_command_bytes=2048), 2048, echo_of, "dimse.cmd_too_long"),
    "max_pdu_length": (LIMITS.replace(max_pdu_length=ROOM), ROOM, echo_in_a_pdu_of, "pdu.too_long"),
    "max_empty_pdvs": (LIMITS.replace(max_empty_pdvs=5), 5, echo_behind_empty_pdvs, "pdv.empty_flood"),
}


@EDGES
@pytest.mark.parametrize("name", MESSAGES)
async def test_message_is_taken_up_to_its_limit_and_aborted_beyond(tmp_path: Path, name: str, over: int) -> None:
    limits, most, message, key = MESSAGES[name]
    async with listening(tmp_path, limits) as (listener, _), listener.connect() as peer:
        await peer.associate()
        await peer.send(message(most + over))
        if over > 0:
            await peer.expect_abort(*((0, 0) if key.startswith("dimse") else (2, 6)))
            await listener.event(key)
            return
        await peer.expect_status(0)
        await peer.release()


def sized_dataset(nbytes: int) -> bytes:
    """A data set of so many bytes, odd ones too."""
    head = raw.dataset(NEXT, pixel_bytes=0)[:-8]
    data = head + raw.element(0x7FE00010, bytes(nbytes - len(head) - 8))
    assert len(data) == nbytes
    return data


LARGE: Final = {"window_bytes": 1 << 22, "artim_s": 5.0}


@EDGES
async def test_object_is_stored_up_to_its_limit_and_refused_beyond(tmp_path: Path, over: int) -> None:
    data = sized_dataset(ROOM + over)
    async with listening(tmp_path, LIMITS.replace(max_object_bytes=ROOM)) as (listener, _), listener.connect() as peer:
        await peer.associate()
        await peer.send(raw.message(1, raw.c_store_rq(NEXT), data))
        await peer.expect_status(0xA700 if over > 0 else 0)
        await peer.release()
        assert listener.stored() == ([] if over > 0 else [data])
        assert len(listener.seen("store.too_big")) == max(over, 0)


@EDGES
async def test_P02_p_data_of_sixteen_mebibytes_is_the_longest_whatever_was_announced(tmp_path: Path, over: int) -> None:
    data = sized_dataset(MAX_PDU_LENGTH - PDV_HEADER_BYTES + over)
    pdu = raw.p_data(raw.pdv(1, raw.LAST, data))
    assert len(pdu) == 6 + MAX_PDU_LENGTH + over
    async with listening(tmp_path, LIMITS.replace(max_pdu_length=MAX_PDU_LENGTH, **LARGE)) as (listener, _):
        async with listener.connect() as peer:
            peer.deadline = 10.0
            await peer.associate()
            await peer.send(raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(NEXT))))
            if over > 0:
                await peer.send(pdu[:6])  # the header is enough
                await peer.expect_abort(2, 6)
                await listener.event("pdu.too_long")
                return
            await peer.send(pdu)
            await peer.expect_status(0)
            await peer.release()
        assert listener.stored() == [data]


@EDGES
async def test_windows_are_large_up_to_their_number_and_small_beyond(tmp_path: Path, over: int) -> None:
    limits = LIMITS.replace(window_bytes=1 << 17, small_window_bytes=1 << 16, large_windows=3)
    async with listening(tmp_path, limits) as (listener, acceptor), AsyncExitStack() as stack:
        for _ in range(limits.large_windows + over):
            await (await stack.enter_async_context(listener.connect())).associate()
        sizes = [len(connection.receiver.get_buffer(-1)) for connection in acceptor.connections]
        small = max(over, 0)
        assert sorted(sizes) == [1 << 16] * small + [1 << 17] * (len(sizes) - small)


@EDGES
@pytest.mark.parametrize("name", ["max_associations", "max_associations_per_host"])
async def test_R01_associations_are_taken_up_to_their_limit(tmp_path: Path, name: str, over: int) -> None:
    limits = LIMITS.replace(**{name: 3})
    async with listening(tmp_path, limits) as (listener, _):
        await opened(listener, 3 + over, rejected=max(over, 0))


async def opened(listener: Listener, number: int, *, rejected: int) -> None:
    """So many associations at once, the last of which are rejected."""
    peers: list[ScriptedRequestor] = []
    try:
        for n in range(number):
            peers.append(await listener.connect().__aenter__())
            await peers[-1].send(raw.associate_rq())
            if n < number - rejected:
                await peers[-1].expect_accept()
            else:
                await peers[-1].expect_reject(2, 3, 2)
    finally:
        for peer in peers:
            peer.close()


# ---------------------------------------------------------------------- what comes to a requestor


async def associated(acceptor: ScriptedAcceptor, limits: Limits) -> AssociationHandle:
    request = propose("FASTMOVE", "SCRIPTED", contexts_for([raw.CT_IMAGE], [raw.IMPLICIT_LE]))
    return await open_association(PeerAddress("SCRIPTED", acceptor.host, acceptor.port), request, limits)


@EDGES
async def test_identifier_is_taken_up_to_its_limit_and_aborted_beyond(over: int) -> None:
    response = raw.response(0x8020, 1, raw.STUDY_ROOT_FIND, 0xFF00, {raw.DATA_SET_TYPE: raw.us(1)})
    identifier = bytes(ROOM + over)
    steps: list[Step] = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()), Send(raw.message(1, response, identifier))]
    async with ScriptedAcceptor([steps]) as acceptor:
        association = await associated(acceptor, LIMITS.replace(max_identifier_bytes=ROOM))
        try:
            if over > 0:
                with pytest.raises(AssociationAborted, match="identifier too long"):
                    await association.receive(5.0)
            else:
                assert (await association.receive(5.0)).dataset == identifier
        finally:
            association.connection.cut()
            await association.close()
