"""Log lines, judged by DCMTK's movescu: what it prints of an exchange, and what we print of the same."""

from __future__ import annotations

import socket
import struct
from contextlib import suppress
from typing import Final

import pytest

from fastmove.cli.movescu import conditions, messages
from fastmove.errors import AssociationAborted, AssociationRejected, ConnectionLost, ReleasedByPeer
from tests.compat.harness import reserved_port
from tests.compat.judged import ACCEPT, STATUSES, WAIT_S, Wire, c_move_rsp, hear, of_level, sends
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")


def words(value: object) -> str:
    """Names of tests without bytes."""
    return value if isinstance(value, str) else ""


# ---------------------------------------------------------------------- -v and statuses


@pytest.mark.parametrize("status", STATUSES, ids="{:04X}".format)
def test_status_is_told_as_by_movescu(status: int) -> None:
    heard = hear(ACCEPT, sends(c_move_rsp(status)), "-v")
    warning = messages.bad_status(status)
    response = messages.received_move_response(1, 0 if status == messages.PENDING else status, debugging=False)
    expected = [*of_level("I", response), *of_level("I", messages.RELEASING)]
    assert heard.lines[-len(expected) :] == expected
    assert heard.at("W") == ([f"W: {warning}"] if warning else [])


def test_verbose_lines_are_those_of_movescu() -> None:
    pending = c_move_rsp(messages.PENDING)
    heard = hear(ACCEPT, sends(pending, pending, c_move_rsp(0)), "-v", "--cancel", "2", "--abort")
    lines = [line for line in heard.lines if line != "I: " and not line.startswith(("I: #", "I: ("))]
    assert lines == [
        f"I: {text}"
        for text in (
            messages.REQUESTING_ASSOCIATION,
            messages.association_accepted(65536),
            messages.sending_move_request(1, debugging=False),
            messages.REQUEST_IDENTIFIERS.rstrip("\n"),
            messages.received_move_response(1, messages.PENDING, debugging=False),
            messages.received_move_response(2, messages.PENDING, debugging=False),
            messages.sending_cancel_request(1, 3),
            messages.received_move_response(3, 0, debugging=False),
            messages.ABORTING,
        )
    ]


# ---------------------------------------------------------------------- failures


@pytest.mark.parametrize(
    ("result", "source", "reason"),
    [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 7), (1, 2, 1), (1, 2, 2), (2, 3, 1), (2, 3, 2), (9, 9, 9), (1, 3, 9)],
)
def test_rejection_is_told_as_by_movescu(result: int, source: int, reason: int) -> None:
    rejection = AssociationRejected(result, source, reason)
    expected = [f"E: {text}" for text in messages.invalid_rejection(rejection)]
    expected += of_level("F", messages.association_rejected(rejection))
    assert hear(raw.associate_rj(result, source, reason)).lines == expected


def aborted(why: str) -> AssociationAborted:
    return AssociationAborted(0, 0, by_peer=False, why=why)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", aborted("pdu.unknown_type: 48")),
        (raw.abort(), AssociationAborted(0, 0, by_peer=True)),
    ],
)
def test_failed_request_is_told_as_by_movescu(answer: bytes, error: Exception) -> None:
    text = messages.REQUEST_FAILED + conditions.condition(error, established=False)
    assert hear(answer).lines == of_level("F", text)


OTHER_ID: Final = raw.message(3, raw.c_move_rsp(7, 0))
OTHER_COMMAND: Final = raw.message(3, raw.response(0x8020, 1, raw.STUDY_ROOT_MOVE, 0))


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (raw.pdu(0x48, bytes(10)), aborted("pdu.unknown_type: 48")),
        (raw.pdu(raw.P_DATA, length=20000), aborted("pdu.too_long: 20000.  Max expected 16384")),
        (OTHER_ID, aborted("move.protocol: MsgId: 7 (expected: 1)")),
        (OTHER_COMMAND, aborted("move.protocol: Command Field: 0x8020")),
        (raw.p_data(raw.pdv(3, 3, b"abc")), aborted("dimse.no_command")),
        (raw.p_data(raw.pdv(9, 3, raw.c_move_rsp(1, 0))), aborted("pdv.context")),
    ],
)
def test_broken_move_is_told_as_by_movescu(data: bytes, error: Exception) -> None:
    text = conditions.condition(error, established=True)
    expected = of_level("E", messages.MOVE_REQUEST_FAILED + text) + of_level("E", messages.MOVE_SCU_FAILED + text)
    assert hear(ACCEPT, sends(data)).lines == expected


@pytest.mark.parametrize(
    ("data", "error", "then"),
    [
        (raw.abort(), AssociationAborted(0, 0, by_peer=True), []),
        (raw.release_rq(), ReleasedByPeer("released"), [f"E: {messages.PEER_REQUESTED_RELEASE}"]),
    ],
)
def test_end_of_the_association_in_mid_move_is_told_as_by_movescu(
    data: bytes, error: ConnectionLost | AssociationAborted, then: list[str]
) -> None:
    expected = of_level("E", messages.MOVE_REQUEST_FAILED + conditions.condition(error, established=True))
    assert hear(ACCEPT, sends(data)).lines == expected + then


def test_pending_with_a_data_set_is_told_as_by_movescu() -> None:
    level = struct.pack("<HH2sH6s", 8, 0x52, b"CS", 6, b"STUDY ")
    pending = raw.message(3, raw.c_move_rsp(1, 0xFF00, change={raw.DATA_SET_TYPE: raw.us(1)}), level)
    heard = hear(ACCEPT, sends(pending, c_move_rsp(0)), "-pr")
    texts = (messages.PENDING_WITH_DATASET, messages.PENDING_READ)
    assert heard.lines == [f"W: {messages.dimse_warning('MOVESCU', 'ANY-SCP', text)}" for text in texts]


# ---------------------------------------------------------------------- what senders do


def call(*data: bytes, associated: bool = True, answered: bool = True, hang_ups: int = 0) -> list[str]:
    """What the judge says of a sender that sends this, within an association or before there is one.

    Before it others may call and hang up at once: the judge serves one after the other.
    """

    def act(wire: Wire) -> None:
        for _ in range(hang_ups):
            socket.create_connection(("127.0.0.1", port), WAIT_S).close()
        sender = Wire(socket.create_connection(("127.0.0.1", port), WAIT_S))
        with suppress(ConnectionError):
            if associated:
                sender.send(raw.associate_rq(contexts=[raw.context_rq(1, raw.CT_IMAGE)]))
                sender.read()
            for each in data:
                sender.send(each)
            if answered:
                sender.read()
        sender.close()
        wire.send(c_move_rsp(0))

    with reserved_port() as port:
        return hear(ACCEPT, act, "-ta", "1", "+P", str(port)).lines


GARBAGE: Final = b"GET / HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "event", "detail"),
    [
        (GARBAGE, "pdu.unknown_type", "47"),
        (raw.associate_rq(version=2), "rq.version", "0002"),
        (raw.associate_rq(contexts=[]), "rq.no_context", ""),
        (raw.abort(), "assoc.aborted", ""),
        (raw.p_data(raw.pdv(1, 3, b"ab")), "pdu.unexpected", ""),
        (raw.pdu(1, bytes(20)), "rq.short", "Got 20 bytes of data. The minimum allowed size is 68."),
        (b"", "assoc.artim", ""),
    ],
    ids=words,
)
def test_caller_that_never_associates_is_told_of_as_by_movescu(data: bytes, event: str, detail: str) -> None:
    assert call(data, associated=False) == [f"E: {conditions.of_caller(event, detail)}"]


def test_caller_that_hangs_up_is_told_of_as_by_movescu() -> None:
    expected = f"E: {conditions.of_caller('conn.closed_early')}"
    assert call(GARBAGE, associated=False, hang_ups=2)[:2] == [expected] * 2


def test_request_that_is_too_long_is_told_of_as_by_movescu() -> None:
    expected = [messages.TOO_LARGE.format(2 << 20), conditions.of_caller("pdu.too_long")]
    assert call(raw.pdu(1, length=2 << 20), associated=False) == [f"E: {text}" for text in expected]


BEGUN: Final = (
    raw.p_data(raw.pdv(1, 3, raw.c_store_rq("1.2.3.9"))),
    raw.p_data(raw.pdv(1, 0, raw.dataset("1.2.3.9")[:100])),
)


@pytest.mark.parametrize(
    ("data", "event"),
    [(raw.abort(), "assoc.aborted"), (raw.release_rq(), "assoc.release_mid_object"), (b"", "conn.eof_mid_object")],
    ids=words,
)
def test_end_in_mid_object_is_told_as_by_movescu(data: bytes, event: str) -> None:
    expected = f"E: {messages.STORE_FAILED}{conditions.MID_OBJECT[event]}"
    assert call(*BEGUN, data, answered=event == "assoc.release_mid_object") == [expected]


@pytest.mark.parametrize(
    ("data", "event", "detail"),
    [
        (raw.pdv(1, 0, bytes(73)), "pdv.odd", "73"),
        (raw.pdv(3, 0, bytes(74)), "pdv.context_switch", ""),
        (raw.pdv(1, raw.COMMAND, bytes(74)), "pdv.order", ""),
    ],
    ids=words,
)
def test_fault_in_mid_object_is_told_as_by_movescu(data: bytes, event: str, detail: str) -> None:
    condition = conditions.fault(event, detail)
    expected = of_level("E", messages.STORE_FAILED + condition)
    expected += of_level("E", messages.SUB_ASSOCIATION_FAILED + condition)
    # What follows is told of the same association once more, after it is dead.
    assert call(BEGUN[0], raw.p_data(data))[: len(expected)] == expected
