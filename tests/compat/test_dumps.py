"""Dumps at DEBUG, judged by DCMTK's movescu: what it prints of an exchange, and what we make of the same bytes."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.movescu import dumps, messages
from fastmove.dimse import messages as dimse
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ
from tests.compat.harness import OURS, reserved_port
from tests.compat.judged import (
    ACCEPT,
    BOTH,
    JUDGE,
    STATUSES,
    WAIT_S,
    Heard,
    Script,
    Wire,
    c_move_rsp,
    hear,
    of_level,
    sends,
)
from tests.encoded import LITTLE
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")

LIBRARY: Final = re.compile(r"T: |D: (Dcm|setting network|Constructing|Parsing|Association Received)")
NAMED: Final = re.compile(r"^D: (Our Implementation [A-Za-z ]+:|\$).*")
"""Lines that name the program."""


def without_ids(lines: Sequence[str]) -> list[str]:
    """Without what names the program."""
    return [NAMED.sub(r"D: \1", line) for line in lines]


def said(heard: Heard) -> list[str]:
    """What a program itself said, without its library's remarks."""
    return without_ids([line for line in heard.lines if not LIBRARY.match(line)])


def command_of(pdu: bytes) -> dimse.Message:
    """The message of a P-DATA-TF PDU with one command PDV."""
    return dimse.decode(pdu[6:])


OBJECT_RQ: Final = raw.associate_rq(
    contexts=[
        raw.context_rq(1, raw.CT_IMAGE, ["1.2.840.10008.1.2.4.70", raw.IMPLICIT_LE]),
        raw.context_rq(3, raw.VERIFICATION),
        raw.context_rq(5, "1.2.3.4", ["1.2.3.5"]),
        raw.context_rq(7, raw.MR_IMAGE, ["1.2.840.10008.1.2.4.50"]),
    ],
    user_items=raw.DEFAULT_USER_ITEMS
    + raw.role(raw.CT_IMAGE, 1, 1)
    + raw.role(raw.MR_IMAGE, 0, 1)
    + raw.item(0x56, struct.pack(">H", len(raw.CT_IMAGE)) + raw.CT_IMAGE.encode() + bytes(20))
    + raw.user_identity(3, b"ticket"),
)
C_STORE_RQ: Final = raw.c_store_rq(
    "1.2.3.9", 7, change={raw.PRIORITY: raw.us(1), raw.ORIGINATOR_AE: raw.ae("MOVESCU"), raw.ORIGINATOR_ID: raw.us(1)}
)
PENDING: Final = raw.c_move_rsp(1, 0xFF00, (3, 1, 0, 0))
FAILED: Final = LITTLE.element(0x00080058, "UI", b"1.2.3.7\\1.2.3.8\0")
FINAL: Final = raw.c_move_rsp(
    1,
    0xB000,
    (None, 1, 2, 0),
    {
        raw.DATA_SET_TYPE: raw.us(1),
        0x0901: struct.pack("<4H", 8, 0x16, 8, 0x18),
        0x0902: b"too bad ",
        0x0903: raw.us(5),
    },
)


def talk(port: int) -> Script:
    """A sender that is curious, sends an object, and two responses."""

    def act(wire: Wire) -> None:
        sub = Wire(socket.create_connection(("127.0.0.1", port), WAIT_S))
        try:
            sub.send(OBJECT_RQ)
            sub.read()
            for request in (raw.message(3, raw.c_echo_rq(5)), raw.message(1, C_STORE_RQ, raw.dataset("1.2.3.9"))):
                sub.send(request)
                sub.read()
            sub.send(raw.release_rq())
            sub.read()
        finally:
            sub.close()
        wire.send(raw.message(3, PENDING))
        wire.send(raw.message(3, FINAL, FAILED))

    return act


@pytest.mark.parametrize(
    "options", [["-d"], ["-d", "--ignore"], ["-ll", "trace"], ["-d", "--cancel", "1"]], ids=" ".join
)
def test_all_that_is_said_at_debug_is_what_movescu_says(options: list[str], tmp_path: Path) -> None:
    heard = []
    for program in ((JUDGE,), OURS):
        with reserved_port() as port:
            words = *options, "+P", str(port), "-od", str(tmp_path)
            heard.append(said(hear(ACCEPT, talk(port), *words, program=program)))
        for file in tmp_path.iterdir():
            file.unlink()
    theirs, ours = heard
    assert len(theirs) > 100
    assert ours == theirs


def test_dump_of_a_received_pdu_is_that_of_movescu() -> None:
    heard = hear(ACCEPT, sends(c_move_rsp(0)), "-d")
    expected = of_level("D", dumps.received_pdu(ACCEPT[0], ACCEPT[6:]))
    start = heard.lines.index(expected[0])
    assert heard.lines[start : start + len(expected)] == expected


@pytest.mark.parametrize("result", range(1, 6))
def test_refused_context_is_dumped_as_by_movescu(result: int) -> None:
    accept = raw.associate_ac(
        [raw.context_ac(1, result), BOTH[1]],
        called="ANY-SCP",
        calling="MOVESCU",
        user_items=raw.max_length(0)
        + raw.item(0x55, "NAME")
        + raw.role(raw.STUDY_ROOT_MOVE, result % 2, result // 2 % 2),
    )
    heard = hear(accept, sends(c_move_rsp(0)), "-d")
    request = AAssociateRQ.decode(heard.wire[0][1])
    text = messages.PARAMETERS_NEGOTIATED + dumps.negotiated(request, AAssociateAC.decode(accept[6:]))
    expected = without_ids(of_level("D", text))
    start = heard.lines.index(expected[0])
    assert without_ids(heard.lines[start : start + len(expected)]) == expected


DUMPED_STATUSES: Final = (
    *STATUSES,
    0x0107,
    0x0210,
    0x0212,
    0x0213,
    0xAA00,
    0xAA01,
    0xAA02,
    0xAA03,
    0xAA04,
    0xFE01,
    0x8000,
)


@pytest.mark.parametrize("status", DUMPED_STATUSES, ids="{:04X}".format)
def test_status_is_dumped_as_by_movescu(status: int) -> None:
    heard = hear(ACCEPT, sends(c_move_rsp(status)), "-d")
    expected = of_level("D", dumps.message(dimse.decode(raw.c_move_rsp(1, status)), 3))
    start = heard.lines.index(expected[0])
    assert heard.lines[start : start + len(expected)] == expected
