from __future__ import annotations

import errno
import os
import socket

import pytest

from fastmove.cli.movescu import conditions, dumps, messages
from fastmove.cli.movescu.log import (
    DCMNET,
    DEBUG,
    ERROR,
    FATAL,
    INFO,
    LEVELS,
    MOVESCU,
    PROGRESS,
    WARN,
    ConsoleAppender,
    Log,
    Logger,
    Progress,
    log_at,
)
from fastmove.cli.movescu.uid_names import shown
from fastmove.dimse.messages import CMoveRSP
from fastmove.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    ListenFailed,
    NoAcceptedContext,
    ReleasedByPeer,
    RemoteProtocolError,
    TimedOut,
)
from fastmove.ul.items import UserIdentityRQ, UserInformation
from fastmove.ul.pdu import AAssociateRQ

Captured = pytest.CaptureFixture[str]


def test_line_has_the_letter_of_its_level_on_standard_error(capfd: Captured) -> None:
    log = log_at("trace")
    for write in (log.trace, log.debug, log.info, log.warn, log.error, log.fatal):
        write(MOVESCU, "text")
    assert capfd.readouterr() == ("", "".join(f"{letter}: text\n" for letter in "TDIWEF"))


def test_every_line_of_a_message_has_the_letter(capfd: Captured) -> None:
    log_at(None).fatal(MOVESCU, "one\n\nthree")
    assert capfd.readouterr().err == "F: one\nF: \nF: three\n"


@pytest.mark.parametrize(("name", "lowest"), LEVELS.items())
def test_nothing_below_the_level_is_written(name: str, lowest: int, capfd: Captured) -> None:
    log = log_at(name.upper())
    for level in (DEBUG, INFO, WARN, ERROR, FATAL):
        log.write(MOVESCU, level, "text")
        assert bool(capfd.readouterr().err) is (level >= lowest)


def test_warnings_are_written_unless_told_otherwise(capfd: Captured) -> None:
    log = log_at(None)
    log.info(MOVESCU, "no")
    log.warn(DCMNET, "yes")
    assert capfd.readouterr().err == "W: yes\n"


def test_forced_message_is_written_at_any_level(capfd: Captured) -> None:
    log_at("off").force(messages.calling("movescu", ["--quiet", "", "localhost"]))
    assert capfd.readouterr().err == "I: calling 'movescu' with 3 arguments: '--quiet' 'localhost' \nI: \n"


def test_name_that_is_no_utf8_is_written_as_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    log_at(None).error(MOVESCU, messages.CANNOT_WRITE + os.fsdecode(b"\xff"))
    assert capfdbinary.readouterr().err == b"E: cannot write DICOM file: \xff\n"


def test_line_that_cannot_be_written_is_lost_and_nothing_else() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        Log(Logger(WARN, (ConsoleAppender(writer),))).warn(MOVESCU, "text")
    finally:
        os.close(writer)


def test_logger_without_a_level_has_that_of_its_parent(capfd: Captured) -> None:
    console = ConsoleAppender()
    log = Log(Logger(ERROR, (console,)), {"dcmtk.apps": Logger(INFO), MOVESCU: Logger(None)})
    log.info(MOVESCU, "movescu")
    log.info(DCMNET, "dcmnet")
    assert capfd.readouterr().err == "I: movescu\n"


def test_logger_that_is_not_additive_keeps_its_lines_to_itself(capfd: Captured) -> None:
    log = Log(Logger(INFO, (ConsoleAppender(2),)), {MOVESCU: Logger(None, (ConsoleAppender(1),), additive=False)})
    log.info(MOVESCU, "mine")
    log.info(DCMNET, "root's")
    assert capfd.readouterr() == ("I: mine\n", "I: root's\n")


@pytest.mark.parametrize(("name", "shows"), [("debug", False), ("info", True), ("warn", False)])
def test_progress_is_shown_at_info_exactly(name: str, shows: bool) -> None:
    assert log_at(name).shows_progress is shows


def test_progress_can_be_switched_on_alone() -> None:
    assert Log(Logger(WARN), {PROGRESS: Logger(INFO)}).shows_progress


def test_progress_is_a_dot_for_every_fragment_on_standard_output(capfd: Captured) -> None:
    progress = Progress()
    progress.begin()
    progress.fragments(3)
    progress.end()
    assert capfd.readouterr() == ("RECV: ...\n", "")


# ---------------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (0xA801, "Refused: MoveDestinationUnknown"),
        (0xC123, "Failed: UnableToProcess"),
        (0x0124, "Unknown Status: 0x124"),
        (0xFF01, "Unknown Status: 0xff01"),
    ],
)
def test_error_status_is_warned_of(status: int, text: str) -> None:
    assert messages.bad_status(status) == f"Move response with error status ({text})"


def test_warning_status_is_warned_of() -> None:
    text = "Move response with warning status (Warning: SubOperationsCompleteOneOrMoreFailures)"
    assert messages.bad_status(0xB000) == text


@pytest.mark.parametrize("status", [0x0000, 0xFE00])
def test_success_and_cancel_are_not_warned_of(status: int) -> None:
    assert messages.bad_status(status) is None


@pytest.mark.parametrize(("announced", "shown"), [(16384, 16372), (0, 131060), (None, 131060), (1 << 20, 131060)])
def test_fragments_are_as_long_as_the_peer_takes_but_not_longer_than_dcmtks(announced: int | None, shown: int) -> None:
    assert messages.association_accepted(announced) == f"Association Accepted (Max Send PDV: {shown})"


def test_brackets_are_left_out_where_dumps_follow() -> None:
    assert messages.received_store_request(7, "CT", debugging=False) == "Received Store Request (MsgID 7, CT)"
    assert messages.received_store_request(7, "CT", debugging=True) == "Received Store Request"
    assert messages.received_move_response(2, 0xFF00, debugging=False) == "Received Move Response 2 (Pending)"
    assert messages.received_move_response(2, 0, debugging=True) == "Received Final Move Response"


def test_rejection_with_unknown_values_is_taken_for_a_permanent_one_of_the_user() -> None:
    rejection = AssociationRejected(9, 9, 9)
    assert messages.invalid_rejection(rejection) == [
        "Received invalid A-ASSOCIATE-RJ reject result 0x0009, using default.",
        "Received invalid A-ASSOCIATE-RJ reject source 0x0009, using default.",
        "Received invalid A-ASSOCIATE-RJ reject reason 0x0909, using default.",
    ]
    text = "Association Rejected:\nResult: Rejected Permanent, Source: Service User\nReason: No Reason"
    assert messages.association_rejected(rejection) == text


REFUSED = ConnectionRefusedError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 104)")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectFailed("pacs", 104, REFUSED), "0006:031c TCP Initialization Error: Connection refused"),
        (
            ConnectFailed("nowhere", 104, socket.gaierror(-2, "Name or service not known")),
            "0006:0320 Attempt to connect to unknown host: nowhere",
        ),
        (
            TimedOut("connect_s", 1.0),
            "0006:031c TCP Initialization Error: Operation now in progress (Timeout)",
        ),
        (TimedOut("associate_s", 1.0), "0006:031a DUL network read timeout"),
        (ConnectionLost("gone"), conditions.PEER_ABORTED),
        (AssociationAborted(0, 0, by_peer=True), conditions.PEER_ABORTED),
        (AssociationAborted(0, 0, by_peer=False, why="pdu.unknown_type: 48"), "0006:0321 Unrecognized PDU type: 48"),
        (AssociationAborted(0, 0, by_peer=False, why="pdu.unknown_type"), "0006:0321 Unrecognized PDU type"),
        (
            ListenFailed("", 104, OSError(errno.EADDRINUSE, "in use")),
            "0006:031c TCP Initialization Error: Address already in use",
        ),
    ],
)
def test_condition_before_the_association(error: Exception, text: str) -> None:
    assert conditions.condition(error, established=False) == text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ReleasedByPeer("released"), "0006:0319 DUL Peer Requested Release"),
        (TimedOut("move.timeout", 1.0), conditions.NO_DATA),
        (NoAcceptedContext("1.2.3"), "0006:0208 DIMSE No valid Presentation Context ID"),
        (
            AssociationAborted(2, 1, by_peer=False, why="pdu.too_long: length=20000, at most 16384"),
            "0006:020d DIMSE Failed to receive message\n0006:020c DIMSE Read PDV failed\n"
            "0006:0308 DUL Illegal PDU Length 20000.  Max expected 16384",
        ),
        (
            RemoteProtocolError("move.protocol", "response to message 7, not 1"),
            "0006:0211 DIMSE: Unexpected Response MsgId: 7 (expected: 1)",
        ),
    ],
)
def test_condition_of_an_established_association(error: Exception, text: str) -> None:
    assert conditions.condition(error, established=True) == text


def test_connection_that_never_became_an_association_has_a_condition() -> None:
    assert conditions.of_caller("conn.closed_early") == "0006:0110 No presentation context proposed"
    assert conditions.of_caller("pdu.unknown_type", "type=0x47") == "0006:0321 Unrecognized PDU type: 47"
    assert conditions.of_caller("rq.version", "version=0x0002") == (
        "0006:0322 DUL Unsupported peer protocol 0002; expected 0001 in parseAssociate"
    )


# ---------------------------------------------------------------------- dumps


@pytest.mark.parametrize(
    ("uid", "text"),
    [
        ("1.2.840.10008.1.2", "=LittleEndianImplicit"),
        ("1.2.840.10008.5.1.4.1.1.2", "=CTImageStorage"),
        ("1.2.840.10008.5.1.4.1.1.6", "=RETIRED_UltrasoundImageStorage"),
        ("1.2.840.10008.5.1.4.1.1.501.1", "=DICOS_CTImageStorage"),
        ("1.2.840.10008.5.1.4.1.2.2.2", "=MOVEStudyRootQueryRetrieveInformationModel"),
        ("1.2.3", "1.2.3"),
    ],
)
def test_uid_is_shown_by_its_name(uid: str, text: str) -> None:
    assert shown(uid) == text


def test_secret_of_a_user_is_not_dumped() -> None:
    identity = UserIdentityRQ(2, b"user", b"secret")
    request = AAssociateRQ("ME", "YOU", (), UserInformation(user_identity_rq=identity))
    text = dumps.asked(request, 16384)
    assert "  Username: [user]\n  Password (not dumped) length: 6\n" in text
    assert "secret" not in text


def test_status_without_detail_has_no_detail() -> None:
    assert dumps.status_detail(CMoveRSP(message_id_being_responded_to=1, status=0)) is None


def test_received_pdu_is_dumped_up_to_512_bytes() -> None:
    lines = dumps.received_pdu(1, bytes(1000)).split("\n")
    assert lines[0] == "PDU Type: Associate Request, PDU Length: 1000 + 6 bytes PDU header"
    assert lines[1] == "Only dumping 512 bytes."
    assert lines[2] == "  01  00  00  00  03  e8" + "  00" * 10
    assert len(lines) == 2 + 512 // 16 + 1
