"""Audit messages: what is in them, against golden files and the schema; and their way through spool and syslog."""

from __future__ import annotations

import base64
import errno
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final
from xml.dom import minidom

import pytest
from tests.audit_schema import brief, checked

from fastmove.errors import ConfigurationError
from fastmove.limits import LOG_BURST, MAX_AUDIT_STUDIES, MAX_AUDITED_REFUSALS
from fastmove.notices import (
    AssociationClosed,
    AssociationOpened,
    InstanceRefused,
    InstanceStored,
    Notice,
    PeerMisbehaved,
)
from fastmove.observe.audit import AuditTrail, Source
from fastmove.observe.spool import AuditWriter, Spool
from fastmove.observe.syslog import AuditFile, Collector, Syslog, framed

GOLDEN: Final = Path(__file__).with_name("audit")
CT: Final = "1.2.840.10008.5.1.4.1.1.2"
MR: Final = "1.2.840.10008.5.1.4.1.1.4"
STUDY: Final = "1.2.826.0.1.3680043.10.9999.1"
OPENED: Final = AssociationOpened(7, "10.0.0.9", 51544, "CT1", "ARCHIVE", 3)
CLOSED: Final = AssociationClosed(7, "released", 3)
SOURCE: Final = Source("ARCHIVE", "host.example", "ARCHIVE@host.example")


def stored(number: int = 1, sop_class: str = CT, placing: str = "new", originator: str = "") -> InstanceStored:
    return InstanceStored(7, sop_class, f"{STUDY}.{number}", "", 512, "x.dcm", placing, "CT1", originator, 0)


def refused(number: int, event: str = "store.uid_chars") -> InstanceRefused:
    return InstanceRefused(7, CT, f"{STUDY}.{number}", 0xA700, event, "why")


class Trail:
    """An audit trail, and its messages."""

    def __init__(self, source: Source = SOURCE) -> None:
        self.messages: list[str] = []
        self.trail = AuditTrail(self.messages.append, source, lambda: 1796083200.5)

    def tell(self, *told: Notice) -> Trail:
        for notice in told:
            if isinstance(notice, InstanceStored):
                self.trail.stored(notice, STUDY)
            else:
                self.trail(notice)
        return self

    @property
    def brief(self) -> list[tuple[str, str, str, str, dict[str, int]]]:
        return list(map(brief, self.messages))


# ---------------------------------------------------------------------- what is in them

SCENES: Final[dict[str, tuple[Source, tuple[Notice, ...]]]] = {
    "listen": (SOURCE, (OPENED, stored(1), stored(2), stored(3, MR), CLOSED)),
    "retrieve": (SOURCE.replace(we_ask=True), (OPENED, stored(1, originator="ARCHIVE"), CLOSED)),
    "third-party": (SOURCE, (OPENED, stored(1, originator="WORKSTATION"), CLOSED)),
    "refused": (SOURCE, (OPENED, refused(1), refused(2, "fs.write"), CLOSED)),
    "alert": (SOURCE, (PeerMisbehaved(0, "10.0.0.66", "rq.host", "10.0.0.66", 40000, "EVIL"),)),
}


@pytest.mark.parametrize("scene", SCENES)
def test_GF10_messages_are_those_of_the_golden_file(scene: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    source, told = SCENES[scene]
    messages = Trail(source).tell(*told).messages
    for message in messages:
        checked(message)
    text = "".join(minidom.parseString(message).documentElement.toprettyxml("  ") for message in messages)
    golden = GOLDEN / f"{scene}.xml"
    if os.environ.get("WRITE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_beginning_is_told_at_the_first_object_and_the_sum_at_the_end() -> None:
    trail = Trail().tell(OPENED, stored(1), stored(2))
    assert trail.brief == [("110102", "E", "0", STUDY, {CT: 1})]
    trail.tell(stored(3, MR), CLOSED)
    assert trail.brief[1:] == [("110104", "C", "0", STUDY, {CT: 2, MR: 1})]


@pytest.mark.parametrize(
    ("placing", "action"), [("new", "C"), ("beside", "C"), ("same", "R"), ("skipped", "R"), ("replaced", "U")]
)
def test_action_says_what_became_of_the_copies_that_are_held(placing: str, action: str) -> None:
    assert Trail().tell(OPENED, stored(placing=placing), CLOSED).brief[1] == ("110104", action, "0", STUDY, {CT: 1})


def test_what_succeeded_and_what_failed_are_not_in_one_message() -> None:
    told = Trail().tell(OPENED, stored(1), refused(2), refused(3, "fs.write"), CLOSED).brief
    assert [each[:4] for each in told[1:]] == [
        ("110104", "C", "0", STUDY),
        ("110104", "C", "4", "unknown"),
        ("110104", "C", "8", "unknown"),
    ]


def test_association_without_objects_is_no_transfer() -> None:
    assert Trail().tell(OPENED, CLOSED).messages == []


def test_object_that_was_durable_when_its_association_had_gone_is_told() -> None:
    assert [each[0] for each in Trail().tell(stored(1)).brief] == ["110102", "110104"]
    assert [each[2] for each in Trail().tell(refused(1)).brief] == ["4"]


def test_end_of_the_program_ends_what_is_open() -> None:
    trail = Trail().tell(OPENED, stored(1))
    trail.trail.close()
    assert [each[0] for each in trail.brief] == ["110102", "110104"]


def test_studies_without_end_are_told_before_the_association_is_over() -> None:
    trail = Trail()
    trail.trail(OPENED)
    for number in range(MAX_AUDIT_STUDIES + 1):
        trail.trail.stored(stored(number), f"1.2.{number}")
    assert sum(each[0] == "110104" for each in trail.brief) == MAX_AUDIT_STUDIES


def test_message_of_any_number_of_refusals_fits_into_a_syslog_message() -> None:
    trail = Trail().tell(OPENED, *(refused(10**30 + number) for number in range(2000)), CLOSED)
    (message,) = trail.messages
    assert brief(message)[4] == {CT: 2000}
    assert message.count("<Instance ") == MAX_AUDITED_REFUSALS
    assert len(framed(message)) < 32768


def test_patient_is_not_named_unless_asked_for() -> None:
    trail = Trail().tell(OPENED)
    trail.trail.stored(stored(1), STUDY)
    trail.trail.stored(stored(2), f"{STUDY}.2", "PAT^ID-1")
    patients = [re.findall(r'ParticipantObjectID="([^"]*)" ParticipantObjectTypeCode="1"', m) for m in trail.messages]
    assert patients == [["not recorded"], ["PAT^ID-1"]]


def test_what_a_peer_wrote_makes_no_message_that_is_none() -> None:
    wild = "".join(map(chr, range(256))) + '\u2028\ud800<&">'
    trail = Trail().tell(OPENED._replace(calling_ae_title=wild, host=wild))
    trail.trail.stored(stored(sop_class=wild, originator=wild), wild, wild)
    trail.tell(refused(1)._replace(sop_class_uid=wild, sop_instance_uid=wild), CLOSED)
    trail.tell(PeerMisbehaved(0, wild, "rq.host", wild, 1, wild))
    assert len(trail.messages) == 4
    for message in trail.messages:
        checked(message)
        assert message.isascii() and message.isprintable()
    assert all('ParticipantObjectID="unknown"' in message for message in trail.messages[:3]), "no UID"


@pytest.mark.parametrize("event", ["rq.host", "rq.calling_ae", "conn.denied", "tls.no_cert", "tls.cert"])
def test_N16_S05_whoever_is_turned_away_is_a_security_alert(event: str) -> None:
    (message,) = Trail().tell(PeerMisbehaved(0, "10.0.0.66", event, "why", 1, "EVIL")).messages
    alert = checked(message)
    assert [e.get("csd-code") for e in alert[0]] == ["110113", "110126"]
    said = next(alert.iter("ParticipantObjectDetail")).get("value", "")
    assert base64.b64decode(said) == f"{event}: why".encode()


def test_what_is_no_matter_of_security_is_no_alert() -> None:
    assert Trail().tell(PeerMisbehaved(0, "h", "rq.called_ae"), PeerMisbehaved(0, "h", "pdu.too_long")).messages == []


def test_flood_of_alerts_is_ten_and_a_sum() -> None:
    trail = Trail().tell(*[PeerMisbehaved(0, "10.0.0.66", "rq.host", "why")] * 5000)
    assert len(trail.messages) == LOG_BURST
    trail.trail.tick(float("inf"))
    said = next(checked(trail.messages[-1]).iter("ParticipantObjectDetail")).get("value", "")
    assert base64.b64decode(said) == f"rq.host: {5000 - LOG_BURST} more".encode()


def test_loss_of_messages_is_a_security_alert() -> None:
    alert = checked(Trail().trail.lost(3))
    assert [e.get("csd-code") for e in alert[0]] == ["110113", "110133"]


# ---------------------------------------------------------------------- the spool


class Collecting:
    """A sink that can be down."""

    name = "sink"

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.down = False
        self.news = threading.Event()

    def open(self) -> None:
        if self.down:
            raise ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused")

    def send(self, message: str) -> None:
        self.open()
        self.messages.append(message)
        self.news.set()

    def close(self) -> None:
        pass

    def until(self, number: int) -> None:
        while len(self.messages) < number:
            assert self.news.wait(5), self.messages
            self.news.clear()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("lines", "spool"):
        monkeypatch.setattr(f"fastmove.observe.{module}.LOG_RETRY_S", 0.01)


@pytest.fixture
def told() -> list[Notice]:
    return []


@pytest.fixture
def write(tmp_path: Path, told: list[Notice]) -> Callable[..., AuditWriter]:
    """Makes a writer with a spool."""

    def make(sink: Collecting, spool: bool = True, watch: bool = False) -> AuditWriter:
        path = tmp_path / "state" / "audit-spool"
        return AuditWriter(sink, Spool(path) if spool else None, told.append, 1.0, watch=watch)

    return make


def events(told: list[Notice]) -> list[str]:
    return [notice.event for notice in told]


def test_L06_messages_are_spooled_while_the_sink_is_down_with_one_alarm(
    write: Callable[..., AuditWriter], told: list[Notice], tmp_path: Path
) -> None:
    sink = Collecting()
    sink.down = True
    writer = write(sink)
    for number in range(5):
        writer.send(f"message {number}")
    writer.close()
    assert events(told) == ["audit.failed"]
    spool = tmp_path / "state" / "audit-spool"
    assert spool.read_text() == "".join(f"message {number}\n" for number in range(5))
    assert spool.stat().st_mode & 0o777 == 0o600


def test_L06_what_was_spooled_is_sent_in_order_when_the_sink_is_back(
    write: Callable[..., AuditWriter], told: list[Notice], tmp_path: Path
) -> None:
    sink = Collecting()
    sink.down = True
    writer = write(sink)
    writer.send("one")
    writer.send("two")
    while "audit.failed" not in events(told):
        threading.Event().wait(0.001)
    sink.down = False
    sink.until(2)
    writer.send("three")
    sink.until(3)
    writer.close()
    assert sink.messages == ["one", "two", "three"]
    assert events(told) == ["audit.failed", "audit.restored"]
    assert not (tmp_path / "state" / "audit-spool").exists()


def test_L06_what_a_killed_process_has_left_is_sent_by_the_next(
    write: Callable[..., AuditWriter], tmp_path: Path
) -> None:
    spool = tmp_path / "state" / "audit-spool"
    spool.parent.mkdir()
    spool.write_text("one\ntwo\ntorn mess")
    sink = Collecting()
    writer = write(sink)
    sink.until(2)
    writer.send("three")
    sink.until(3)
    writer.close()
    assert sink.messages == ["one", "two", "three"]


def test_without_a_spool_messages_wait_in_memory(write: Callable[..., AuditWriter], told: list[Notice]) -> None:
    sink = Collecting()
    sink.down = True
    writer = write(sink, spool=False)
    writer.send("one")
    while not told:
        threading.Event().wait(0.001)
    sink.down = False
    sink.until(1)
    writer.close()
    assert events(told) == ["audit.failed", "audit.restored"]


def test_L06_objection_stands_as_long_as_the_sink_is_down(write: Callable[..., AuditWriter]) -> None:
    sink = Collecting()
    sink.down = True
    writer = write(sink, watch=True)
    while writer.objection() is None:
        threading.Event().wait(0.001)
    sink.down = False
    while writer.objection() is not None:
        threading.Event().wait(0.001)
    writer.close()


def test_spool_that_is_full_takes_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastmove.observe.spool.MAX_SPOOL_BYTES", 10)
    spool = Spool(tmp_path / "spool")
    spool.add("12345678")
    with pytest.raises(OSError, match="No space"):
        spool.add("9")
    assert list(spool.waiting()) == ["12345678"]
    spool.close()


def test_spool_holds_long_messages(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    messages = ["x" * 200_000, "y", "z" * 70_000]
    for message in messages:
        spool.add(message)
    assert list(spool.waiting()) == messages
    spool.close()


# ---------------------------------------------------------------------- sinks


def test_file_has_a_line_for_each_message_and_ends_a_torn_one(tmp_path: Path) -> None:
    path = tmp_path / "audit.xml"
    path.write_bytes(b"<torn")
    sink = AuditFile(path)
    sink.send("<one/>")
    path.rename(tmp_path / "old")
    sink.send("<two/>")
    sink.close()
    assert (tmp_path / "old").read_text() == "<torn\n<one/>\n"
    assert path.read_text() == "<two/>\n"
    assert path.stat().st_mode & 0o777 == 0o600


def test_file_on_a_full_disk_is_an_error() -> None:
    sink = AuditFile(Path("/dev/full"))
    with pytest.raises(OSError, match="No space"):
        sink.send("<one/>")
    sink.close()


def test_header_is_that_of_rfc_5424_and_ps3_15() -> None:
    header = r"<85>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z \S+ fastmove \d+ DICOM\+RFC3881 - <x/>"
    assert re.fullmatch(header, framed("<x/>").decode())


@pytest.fixture
def stream() -> Iterator[socket.socket]:
    """A collector that listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        yield listening


def received(connection: socket.socket) -> bytes:
    """One message, by the length before it."""
    length = b""
    while not length.endswith(b" "):
        length += connection.recv(1)
    return connection.recv(int(length), socket.MSG_WAITALL)


def test_message_of_any_length_goes_by_tcp_with_its_length_before_it(stream: socket.socket) -> None:
    sink = Syslog(Collector.parse(f"tcp:127.0.0.1:{stream.getsockname()[1]}"))
    sink.open()
    connection, _ = stream.accept()
    with connection:
        connection.settimeout(5)
        for message in ("<one/>", "x" * 40_000):
            sink.send(message)
            assert received(connection).endswith(b" - " + message.encode())
    sink.close()


def test_collector_that_has_hung_up_is_noticed_before_the_message_is_lost(stream: socket.socket) -> None:
    sink = Syslog(Collector.parse(f"tcp:127.0.0.1:{stream.getsockname()[1]}"))
    sink.open()
    stream.accept()[0].close()
    with pytest.raises(ConnectionError):
        for _ in range(100):
            sink.open()
            threading.Event().wait(0.01)
    sink.send("<two/>")
    connection, _ = stream.accept()
    with connection:
        assert received(connection).endswith(b"<two/>")
    sink.close()


def test_message_goes_by_udp() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as collector:
        collector.bind(("127.0.0.1", 0))
        collector.settimeout(5)
        sink = Syslog(Collector.parse(f"udp:127.0.0.1:{collector.getsockname()[1]}"))
        sink.send("<x/>")
        assert collector.recv(65536).endswith(b" - <x/>")
        sink.close()


def test_message_goes_to_a_local_socket(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as collector:
        collector.bind(str(tmp_path / "log"))
        collector.settimeout(5)
        sink = Syslog(Collector.parse(f"unix:{tmp_path / 'log'}"))
        sink.send("x" * 40_000)
        assert collector.recv(65536).endswith(b"x" * 40_000)
        sink.close()


@pytest.mark.parametrize(
    ("text", "collector"),
    [
        ("10.0.0.8:6514", Collector("tls", "10.0.0.8", 6514)),
        ("tls:log.example:6514", Collector("tls", "log.example", 6514)),
        ("udp:[fe80::1]:514", Collector("udp", "fe80::1", 514)),
        ("tcp:log:601", Collector("tcp", "log", 601)),
        ("unix:/dev/log", Collector("unix", "/dev/log")),
    ],
)
def test_collector_is_read_and_shown(text: str, collector: Collector) -> None:
    assert Collector.parse(text) == collector
    assert str(collector) == (text if ":" in text.partition(":")[2] or text.startswith("unix") else f"tls:{text}")


@pytest.mark.parametrize("text", ["", "log", "log:0", "log:65536", "smtp:log:25", "unix:log", "fe80::1:514", "a:b:c:1"])
def test_what_is_no_collector_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError):
        Collector.parse(text)
