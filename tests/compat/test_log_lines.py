"""Log lines, judged by DCMTK's movescu: what it prints of an exchange, and what we make of the same bytes."""

from __future__ import annotations

import re
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from fastmove.cli.movescu import conditions, dumps, log_config, messages
from fastmove.cli.movescu.log import MOVESCU
from fastmove.dimse import messages as dimse
from fastmove.errors import AssociationAborted, AssociationRejected, ConnectionLost, ReleasedByPeer
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ
from tests.compat.harness import reserved_port
from tests.integration import raw

pytestmark = pytest.mark.peer("dcmtk")

JUDGE: Final = "/usr/bin/movescu"
KEYS: Final = ("-S", "-k", "0008,0052=STUDY", "-k", "0020,000D=1.2.3")
WAIT_S: Final = 10.0
BOTH: Final = [raw.context_ac(number, 0, raw.EXPLICIT_LE) for number in (1, 3)]
ACCEPT: Final = raw.associate_ac(BOTH, called="ANY-SCP", calling="MOVESCU")


class Wire:
    """A connection to the judge that keeps what came, PDU by PDU: type and bytes after the header."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT_S)
        self.sock = sock
        self.received: list[tuple[int, bytes]] = []
        self._stream = sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> int:
        """The type of the next PDU; 0 at the end."""
        with suppress(ConnectionError):
            header = self._stream.read(6)
            if len(header) == 6:
                self.received.append((header[0], self._stream.read(int.from_bytes(header[2:], "big"))))
                return header[0]
        return 0

    def read_message(self) -> None:
        """Up to the last fragment of a data set."""
        while self.read() == raw.P_DATA and self.received[-1][1][5] != raw.LAST:
            pass

    def close(self) -> None:
        self._stream.close()
        self.sock.close()


Script = Callable[[Wire], object]


@dataclass
class Heard:
    """What the judge printed and sent."""

    wire: list[tuple[int, bytes]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def at(self, letters: str) -> list[str]:
        """The lines of these levels."""
        return [line for line in self.lines if line[0] in letters]


def hear(answer: bytes, script: Script | None = None, *options: str) -> Heard:
    """Run the judge against a peer that answers its A-ASSOCIATE-RQ so, and its C-MOVE-RQ by the script."""
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        serving = threading.Thread(target=_serve, args=(server, answer, script, heard))
        serving.start()
        command = [JUDGE, *options, "127.0.0.1", str(server.getsockname()[1]), *KEYS]
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
        serving.join(WAIT_S)
    heard.lines = done.stderr.decode().splitlines()
    return heard


def _serve(server: socket.socket, answer: bytes, script: Script | None, heard: Heard) -> None:
    wire = Wire(server.accept()[0])
    heard.wire = wire.received
    try:
        wire.read()
        wire.send(answer)
        if script is not None:
            wire.read_message()
            script(wire)
        while (pdu_type := wire.read()) not in (0, raw.ABORT):
            if pdu_type == raw.RELEASE_RQ:
                wire.send(raw.release_rp())
    finally:
        wire.close()


def sends(*data: bytes) -> Script:
    return lambda wire: [wire.send(each) for each in data]


def c_move_rsp(status: int, **options: object) -> bytes:
    return raw.message(3, raw.c_move_rsp(1, status, **options))  # type: ignore[arg-type]


def of_level(letter: str, text: str) -> list[str]:
    return [f"{letter}: {line}" for line in text.split("\n")]


# ---------------------------------------------------------------------- -v and statuses

STATUSES: Final = (
    *(0x0000, 0xFE00, 0xB000, 0xA701, 0xA702, 0xA801, 0xA900, 0xA9FF, 0x0122, 0xC000, 0xC123, 0x0124, 0x0001, 0xFF01),
    *(0xA700, 0x0110, 0x0211, 0xB006),
)


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
NO_STATUS: Final = c_move_rsp(0, change={raw.STATUS: None})


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (raw.pdu(0x48, bytes(10)), aborted("pdu.unknown_type: 48")),
        (raw.pdu(raw.P_DATA, length=20000), aborted("pdu.too_long: 20000.  Max expected 16384")),
        (OTHER_ID, aborted("move.protocol: MsgId: 7 (expected: 1)")),
        (OTHER_COMMAND, aborted("move.protocol: Command Field: 0x8020")),
        (NO_STATUS, aborted("dimse.no_status")),
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


# ---------------------------------------------------------------------- -d

LIBRARY: Final = re.compile(
    r"D: (Dcm|setting network|Constructing|Parsing|PDU Type|Association Received|  [0-9a-f]{2}(  |$))"
)
OURS: Final = re.compile(r"^(D: Our Implementation [A-Za-z ]+:) .*")


def without_ids(lines: Sequence[str]) -> list[str]:
    """Without what names the program."""
    return [OURS.sub(r"\1", line) for line in lines]


def command_of(pdu: bytes) -> dimse.Message:
    """The message of a P-DATA-TF PDU with one command PDV."""
    return dimse.decode(pdu[6:])


OBJECT_RQ: Final = raw.associate_rq(
    contexts=[
        raw.context_rq(1, raw.CT_IMAGE, [raw.EXPLICIT_LE, "1.2.840.10008.1.2.4.70"]),
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
FINAL: Final = raw.c_move_rsp(
    1, 0xB000, (None, 1, 2, 3), {0x0901: struct.pack("<4H", 8, 0x16, 8, 0x18), 0x0902: b"too bad ", 0x0903: raw.us(5)}
)


def test_dumps_are_those_of_movescu(tmp_path: Path) -> None:
    storage: list[tuple[int, bytes]] = []

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
        storage.extend(sub.received)
        wire.send(raw.message(3, FINAL))

    with reserved_port() as port:
        heard = hear(ACCEPT, act, "-d", "--ignore", "+P", str(port), "-od", str(tmp_path))

    request = AAssociateRQ.decode(heard.wire[0][1])
    asked = AAssociateRQ.decode(OBJECT_RQ[6:])
    answer = AAssociateAC.decode(storage[0][1])
    detail = dumps.status_detail(command_of(raw.p_data(raw.pdv(3, 3, FINAL))[6:]))  # type: ignore[arg-type]
    shown = [
        ("D", messages.REQUEST_PARAMETERS + dumps.requested(request)),
        ("I", messages.REQUESTING_ASSOCIATION),
        ("D", messages.PARAMETERS_NEGOTIATED + dumps.negotiated(request, AAssociateAC.decode(ACCEPT[6:]))),
        ("I", messages.association_accepted(65536)),
        ("I", messages.sending_move_request(1, debugging=True)),
        ("D", dumps.message(command_of(heard.wire[1][1]), 3, outgoing=True)),
        ("I", messages.SUB_ASSOCIATION_RECEIVED),
        ("D", messages.SUB_ASSOCIATION_PARAMETERS + dumps.asked(asked, 16384)),
        ("I", messages.sub_association_acknowledged(65536)),
        ("D", dumps.answered(asked, answer)),
        ("I", messages.received_echo_request(5, debugging=True)),
        ("D", dumps.message(dimse.decode(raw.c_echo_rq(5)), 3)),
        ("I", messages.received_store_request(7, "CT", debugging=True)),
        ("D", dumps.message(dimse.decode(C_STORE_RQ), 1)),
        ("W", messages.bad_status(0xB000) or ""),
        ("I", messages.received_move_response(1, 0xB000, debugging=True)),
        ("D", dumps.message(dimse.decode(FINAL), 3)),
        ("D", messages.STATUS_DETAIL + (detail or "")),
        ("I", messages.RELEASING),
    ]
    expected = [line for letter, text in shown for line in of_level(letter, text)]
    start = heard.lines.index("D: Request Parameters:")
    theirs = [line for line in heard.lines[start:] if not LIBRARY.match(line) and not line.startswith("I: #")]
    theirs = [line for line in theirs if line not in ("I: ", "I: Request Identifiers:") and "I: (" not in line]
    assert without_ids(theirs) == without_ids(expected)


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
        user_items=raw.max_length(0) + raw.item(0x55, "NAME") + raw.role(raw.STUDY_ROOT_MOVE, result % 2, result // 2),
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


# ---------------------------------------------------------------------- --log-config

ROOT: Final = "log4cplus.rootLogger = INFO, c\nlog4cplus.appender.c = log4cplus::ConsoleAppender\n"
PATTERN: Final = ROOT + (
    "log4cplus.appender.c.layout = log4cplus::PatternLayout\nlog4cplus.appender.c.layout.ConversionPattern = "
)
CONFIGURATIONS: Final = (
    ROOT,
    ROOT.replace("INFO", "error"),
    ROOT + "log4cplus.appender.c.logToStdErr = true\n",
    ROOT + "log4cplus.appender.c.logToStderr = true\n",
    ROOT + "log4cplus.appender.c.Threshold = ERROR\n",
    ROOT + "log4cplus.appender.c.Threshold = NONE\n",
    ROOT + "log4cplus.appender.c.layout = log4cplus::Nothing\n",
    ROOT + "log4cplus.appender.c.layout = log4cplus::PatternLayout\n",
    ROOT + "log4cplus.logger.dcmtk.apps = FATAL\n",
    ROOT + "log4cplus.logger.dcmtk.apps = LOUD\n",
    ROOT + "log4cplus.logger.dcmtk.apps.movescu = INHERIT, c\nlog4cplus.additivity.dcmtk.apps.movescu = false\n",
    ROOT + "k = log4cplus.appender.c.Threshold\n${k} = FATAL\n",
    ROOT.replace("INFO, c", "INFO, , c, c,"),
    ROOT.replace("INFO, c", "INFO"),
    ROOT.replace("INFO, c", "INFO, d"),
    ROOT.replace("INFO, c", "INFO, c # d"),
    ROOT.replace("INFO, c", ""),
    ROOT.replace("ConsoleAppender", "NoAppender"),
    ROOT.replace("ConsoleAppender", "NullAppender"),
    ROOT.replace("ConsoleAppender", "FileAppender"),
    ROOT.replace("\n", "\r\n"),
    *(
        f"{PATTERN}{pattern}\n"
        for pattern in (
            *("%m%n", "%P: %m%n", "%p|%-7p|%7p|%.2p|%-7.3p|%5m|%.3m|%2.2P|%%%n", "%c|%c{1}|%c{2}|%c{0}|%c{99}|%c{x}%n"),
            *(
                "abc",
                "%",
                "a%",
                "%-",
                "%5",
                "%m %n  ",
                "%q|%z|%m%n",
                "%w{x}%n",
                "\\t%m\\n%n",
                "%x%X%h%n",
                "a=b # c %m%n",
            ),
            "a=b # c %m%n",
            *("${HOME}|${nothing}|${a${b}}|${}|${x|${appname}%n\nb = c\nac = yes", "${v}%n\nv = ${w}\nw = deep"),
        )
    ),
)


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_configured_log_is_that_of_movescu(
    text: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("log.cfg").write_text(text)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    command = [JUDGE, "-lc", "log.cfg", "127.0.0.1", port, *KEYS]
    judged = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    log = log_config.read("log.cfg")
    log.info(MOVESCU, messages.REQUESTING_ASSOCIATION)
    log.fatal(MOVESCU, messages.REQUEST_FAILED.rstrip("\n"))
    log.fatal(MOVESCU, conditions.TCP_INITIALIZATION + "Connection refused")
    log.close()
    assert capfd.readouterr() == (judged.stdout.decode(), judged.stderr.decode())


@pytest.mark.parametrize("text", ["", "# x\n", "nonsense\n", "a = b\n", "log4cplus.appender.c = x\n"])
def test_useless_configuration_is_refused_as_by_movescu(text: str, tmp_path: Path) -> None:
    path = tmp_path / "log.cfg"
    path.write_text(text)
    command = [JUDGE, "-lc", str(path), "127.0.0.1", "1", *KEYS]
    judged = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
    with pytest.raises(log_config.BadLogConfig) as refused:
        log_config.read(str(path))
    assert judged.stderr.decode().splitlines()[-1] == f"error: {refused.value}"
