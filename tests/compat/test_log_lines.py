"""Log lines, judged by DCMTK's movescu: what it prints of an exchange, and what we print of the same."""

from __future__ import annotations

import socket
import struct
import tempfile
from contextlib import suppress
from typing import Final

import pytest

from fastmove.cli.movescu import messages
from tests.compat.harness import OURS, reserved_port
from tests.compat.judged import ACCEPT, JUDGE, STATUSES, WAIT_S, Script, Wire, c_move_rsp, hear, of_level, sends
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")


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


def alike(answer: bytes, script: Script | None = None, *options: str) -> list[str]:
    """The lines that both programs write of the same exchange."""
    theirs = hear(answer, script, *options).lines
    assert theirs
    assert hear(answer, script, *options, program=OURS).lines == theirs
    return theirs


@pytest.mark.parametrize(
    ("result", "source", "reason"),
    [(1, 1, 1), (1, 1, 2), (1, 1, 3), (1, 1, 7), (1, 2, 1), (1, 2, 2), (2, 3, 1), (2, 3, 2), (9, 9, 9), (1, 3, 9)],
)
def test_rejection_is_told_as_by_movescu(result: int, source: int, reason: int) -> None:
    alike(raw.associate_rj(result, source, reason))


@pytest.mark.parametrize(
    "answer",
    [b"HTTP/1.1 400 Bad Request\r\n", raw.abort(), raw.pdu(raw.ASSOCIATE_AC, bytes(20))],
    ids=["HTTP", "A-ABORT", "short A-ASSOCIATE-AC"],
)
def test_failed_request_is_told_as_by_movescu(answer: bytes) -> None:
    alike(answer)


BROKEN: Final = {
    "a type that does not exist": raw.pdu(0x48, bytes(10)),
    "a PDU too long": raw.pdu(raw.P_DATA, length=20000),
    "another message ID": raw.message(3, raw.c_move_rsp(7, 0)),
    "another command": raw.message(3, raw.response(0x8020, 1, raw.STUDY_ROOT_MOVE, 0)),
    "no status": raw.message(3, raw.c_move_rsp(1, 0, change={raw.STATUS: None})),
    "no message ID": raw.message(3, raw.c_move_rsp(1, 0, change={raw.RESPONDED_TO: None})),
    "a context that was not accepted": raw.p_data(raw.pdv(9, 3, raw.c_move_rsp(1, 0))),
    "A-ABORT": raw.abort(),
    "A-RELEASE-RQ": raw.release_rq(),
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_broken_move_is_told_as_by_movescu(data: bytes) -> None:
    alike(ACCEPT, sends(data))


def test_pending_with_a_data_set_is_told_as_by_movescu() -> None:
    level = struct.pack("<HH2sH6s", 8, 0x52, b"CS", 6, b"STUDY ")
    pending = raw.message(3, raw.c_move_rsp(1, 0xFF00, change={raw.DATA_SET_TYPE: raw.us(1)}), level)
    assert len(alike(ACCEPT, sends(pending, c_move_rsp(0)), "-pr")) == 2


def test_ignored_data_set_is_warned_of_as_by_movescu() -> None:
    pending = raw.message(3, raw.c_move_rsp(1, 0xFF00, change={raw.DATA_SET_TYPE: raw.us(1)}))
    assert len(alike(ACCEPT, sends(pending, c_move_rsp(0)), "-pi")) == 2


def test_pending_with_a_status_detail_is_told_as_by_movescu() -> None:
    pending = raw.message(3, raw.c_move_rsp(1, 0xFF00, change={0x0902: b"odd "}))
    assert len(alike(ACCEPT, sends(pending, c_move_rsp(0)))) == 1


# ---------------------------------------------------------------------- what senders do


def call(*data: bytes, associated: bool = True, answered: bool = True, hang_ups: int = 0) -> list[str]:
    """What both programs say of a sender that sends this, within an association or before there is one.

    Before it others may call and hang up at once: the judge serves one after the other.  When an association has
    failed it reads from it once more, and says what comes of that: this we leave out.
    """

    def act(port: int) -> Script:
        def senders(wire: Wire) -> None:
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

        return senders

    heard = []
    for program in ((JUDGE,), OURS):
        with tempfile.TemporaryDirectory() as folder, reserved_port() as port:
            options = ("-ta", "1", "+P", str(port), "-od", folder)
            heard.append(hear(ACCEPT, act(port), *options, program=program).lines)
    theirs, ours = heard
    failures = [number for number, line in enumerate(theirs) if line.startswith("E: DIMSE failure")]
    del theirs[failures[1] if len(failures) > 1 else len(theirs) :]
    assert theirs
    assert ours == theirs
    return theirs


CALLS: Final = {
    "HTTP": b"GET / HTTP/1.0\r\n\r\n",
    "another version": raw.associate_rq(version=2),
    "no contexts": raw.associate_rq(contexts=[]),
    "A-ABORT": raw.abort(),
    "P-DATA-TF": raw.p_data(raw.pdv(1, 3, b"ab")),
    "a request that is too short": raw.pdu(1, bytes(20)),
    "a request that is too long": raw.pdu(1, length=2 << 20),
    "nothing": b"",
}


@pytest.mark.parametrize("data", CALLS.values(), ids=CALLS)
def test_caller_that_never_associates_is_told_of_as_by_movescu(data: bytes) -> None:
    call(data, associated=False)


def test_caller_that_hangs_up_is_told_of_as_by_movescu() -> None:
    assert len(call(CALLS["HTTP"], associated=False, hang_ups=2)) == 3


BEGUN: Final = (
    raw.p_data(raw.pdv(1, 3, raw.c_store_rq("1.2.3.9"))),
    raw.p_data(raw.pdv(1, 0, raw.dataset("1.2.3.9")[:100])),
)


@pytest.mark.parametrize("data", [raw.abort(), raw.release_rq(), b""], ids=["A-ABORT", "A-RELEASE-RQ", "nothing"])
def test_end_in_mid_object_is_told_as_by_movescu(data: bytes) -> None:
    call(*BEGUN, data, answered=data == raw.release_rq())


def test_command_in_mid_object_is_told_as_by_movescu() -> None:
    call(BEGUN[0], raw.p_data(raw.pdv(1, raw.COMMAND, bytes(74))))


BETWEEN: Final = {
    "a type that does not exist": raw.pdu(0x48, bytes(10)),
    "a PDU too long": raw.pdu(raw.P_DATA, length=70000),
    "a context that was not accepted": raw.p_data(raw.pdv(9, 3, raw.c_store_rq("1.2.3"))),
    "a response": raw.message(1, raw.c_move_rsp(1, 0)),
    "a request without message ID": raw.message(1, raw.c_store_rq("1.2.3", change={raw.MESSAGE_ID: None})),
}


@pytest.mark.parametrize("data", BETWEEN.values(), ids=BETWEEN)
def test_fault_between_objects_is_told_as_by_movescu(data: bytes) -> None:
    call(data)
