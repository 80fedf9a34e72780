"""The audit trail of running commands: what each leaves, and what happens when it cannot be written."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Self

import pytest

from tests.audit_schema import brief, checked
from tests.integration import raw
from tests.integration.peers import HOST, free_port
from tests.integration.programs import Program, listen_program
from tests.integration.retrieving import until
from tests.integration.scripted import ScriptedRequestor

UID: Final = "1.2.826.0.1.3680043.10.9999.700"
STUDY: Final = "1.2.826.0.1.3680043.10.9999.7"
CT: Final = raw.CT_IMAGE
PATIENT: Final = "SCRIPTED"
CALLER: Final = raw.associate_rq(calling="CT1")


def data_set(number: int) -> bytes:
    """The object with this number, in a study and of a patient."""
    return raw.dataset(f"{UID}.{number}", study=STUDY)


async def stores(port: int, *numbers: int) -> None:
    """An association that stores objects."""
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.associate(CALLER)
        for number in numbers:
            assert (await peer.store(f"{UID}.{number}", data_set(number))).status == 0
        await peer.release()


@asynccontextmanager
async def listening(tmp_path: Path, *options: str | Path) -> AsyncIterator[tuple[Program, int]]:
    """A listener with an audit trail."""
    async with listen_program(tmp_path / "stored", *map(str, options)) as program:
        yield program, (await program.event("listen.started"))["port"]


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


class CollectorThread:
    """A syslog collector on TCP: messages by their lengths (RFC 6587, RFC 5425)."""

    def __init__(self, port: int = 0, context: ssl.SSLContext | None = None) -> None:
        self.messages: list[str] = []
        self._context = context
        self._socket = socket.create_server((HOST, port))
        self.port: int = self._socket.getsockname()[1]
        self._connections: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        for connection in self._connections:
            with contextlib.suppress(OSError):  # gone already
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self._socket, *self._connections):
            each.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            if self._context is not None:
                try:
                    connection = self._context.wrap_socket(connection, server_side=True)
                except OSError:  # whoever does not trust us
                    continue
            self._connections.append(connection)
            self._threads.append(threading.Thread(target=self._read, args=(connection,)))
            self._threads[-1].start()

    def _read(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while length := self._length(stream.read):
                self.messages.append(stream.read(length).decode().partition(" - ")[2])

    def _length(self, read: object) -> int:
        digits = b""
        while not digits.endswith(b" "):
            try:
                byte = read(1)  # type: ignore[operator]
            except OSError:
                return 0
            if not byte:
                return 0
            digits += byte
        return int(digits)


async def test_GF10_listener_leaves_a_beginning_and_a_sum_for_each_study(tmp_path: Path) -> None:
    trail = tmp_path / "audit.xml"
    async with listening(tmp_path, "--audit-file", trail) as (program, port):
        await stores(port, 1, 2)
        await stores(port, 2, 3)
        assert await program.stopped() == 0
    assert [brief(line) for line in lines(trail)] == [
        ("110102", "E", "0", STUDY, {CT: 1}),
        ("110104", "C", "0", STUDY, {CT: 2}),
        ("110102", "E", "0", STUDY, {CT: 1}),
        ("110104", "R", "0", STUDY, {CT: 1}),
        ("110104", "C", "0", STUDY, {CT: 1}),
    ]
    assert PATIENT not in trail.read_text()
    assert 'AlternativeUserID="AETITLES=CT1" UserIsRequestor="true"' in trail.read_text()


async def test_patient_is_in_the_trail_if_asked_for(tmp_path: Path) -> None:
    trail = tmp_path / "audit.xml"
    async with listening(tmp_path, "--audit-file", trail, "--audit-patient") as (program, port):
        await stores(port, 1)
        assert await program.stopped() == 0
    assert all(f'ParticipantObjectID="{PATIENT}"' in line for line in lines(trail))


async def test_N16_caller_that_may_not_is_a_security_alert(tmp_path: Path) -> None:
    trail = tmp_path / "audit.xml"
    async with listening(tmp_path, "--audit-file", trail, "--accept-from", "CT1") as (program, port):
        async with ScriptedRequestor(HOST, port) as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(1, 1, 3)
        assert await program.stopped() == 0
    (alert,) = lines(trail)
    assert checked(alert)[0][0].get("csd-code") == "110113"
    assert "AETITLES=SCRIPTED" in alert


async def test_killed_listener_has_said_what_it_began(tmp_path: Path) -> None:
    trail = tmp_path / "audit.xml"
    async with (
        listening(tmp_path, "--audit-file", trail) as (program, port),
        ScriptedRequestor(HOST, port, deadline=5.0) as peer,
    ):
        await peer.associate(CALLER)
        await peer.store(f"{UID}.1", data_set(1))
        await until(lambda: lines(trail))
        program.signal(signal.SIGKILL)
        await program.ended()
    assert [brief(line)[0] for line in lines(trail)] == ["110102"]


async def test_L06_collector_that_is_away_costs_nothing_and_gets_all_when_it_is_back(tmp_path: Path) -> None:
    port_of_collector, spool = free_port(), tmp_path / "spool"
    options = ("--audit-syslog", f"tcp:{HOST}:{port_of_collector}", "--audit-spool", spool)
    async with listening(tmp_path, *options) as (program, port):
        await program.event("audit.failed")
        await stores(port, 1, 2)
        await until(lambda: len(lines(spool)) == 2)
        with CollectorThread(port_of_collector) as collector:
            await program.event("audit.restored")
            await until(lambda: len(collector.messages) == 2)
            assert await program.stopped() == 0
    assert [brief(message)[0] for message in collector.messages] == ["110102", "110104"]
    assert not spool.exists()


async def test_L06_with_audit_required_nobody_is_accepted_while_the_collector_is_away(tmp_path: Path) -> None:
    port_of_collector = free_port()
    options = ("--audit-syslog", f"tcp:{HOST}:{port_of_collector}", "--audit-spool", tmp_path / "spool")
    async with listening(tmp_path, *options, "--audit-required") as (program, port):
        await program.event("audit.failed")
        async with ScriptedRequestor(HOST, port) as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(2, 3, 1)
        with CollectorThread(port_of_collector) as collector:
            await program.event("audit.restored")
            await stores(port, 1)
            await until(lambda: len(collector.messages) == 2)
        await program.event("audit.failed", 2)
        async with ScriptedRequestor(HOST, port) as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(2, 3, 1)
        assert await program.stopped() == 0


async def test_L06_full_disk_of_the_trail_costs_no_object(tmp_path: Path) -> None:
    async with listening(tmp_path, "--audit-file", "/dev/full") as (program, port):
        await stores(port, 1)
        await program.event("audit.failed")
        await stores(port, 2)


@pytest.fixture
def certificate(tmp_path: Path) -> Iterator[Path]:
    """A certificate of the loopback with its key, which vouches for itself."""
    path = tmp_path / "collector.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    where = ["-days", "2", "-subj", "/CN=collector", "-addext", f"subjectAltName=IP:{HOST}"]
    subprocess.run([*command, *where, "-keyout", path, "-out", tmp_path / "crt"], check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "crt").read_text())
    yield path


async def test_collector_is_reached_by_tls_and_its_certificate_verified(tmp_path: Path, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with CollectorThread(context=context) as collector:
        options = ("--audit-syslog", f"{HOST}:{collector.port}", "--audit-spool", tmp_path / "spool")
        async with listening(tmp_path, *options, "--audit-ca", certificate) as (program, port):
            await stores(port, 1)
            await until(lambda: len(collector.messages) == 2)
            assert await program.stopped() == 0
    assert not program.seen("audit.failed")


async def test_collector_that_nobody_vouches_for_gets_nothing(tmp_path: Path, certificate: Path) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    with CollectorThread(context=context) as collector:
        options = ("--audit-syslog", f"{HOST}:{collector.port}", "--audit-spool", tmp_path / "spool")
        async with listening(tmp_path, *options) as (program, port):
            await program.event("audit.failed")
            await stores(port, 1)
            assert await program.stopped() == 0
    assert collector.messages == []
    assert len(lines(tmp_path / "spool")) == 2


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--audit-file", "/tmp/no/such/folder/audit"), "cannot write"),
        (("--audit-syslog", "smtp:x:25"), "is not"),
        (("--audit-syslog", "tcp:x:25", "--audit-file", "/dev/null"), "either"),
        (("--audit-required",), "say where"),
    ],
)
async def test_trail_that_cannot_be_is_told_at_once(tmp_path: Path, options: tuple[str, ...], complaint: str) -> None:
    async with listen_program(tmp_path / "stored", *options) as program:
        assert await program.ended() == 1
    assert complaint in program.errors


async def test_hangup_begins_the_trail_anew(tmp_path: Path) -> None:
    trail = tmp_path / "audit.xml"
    async with listening(tmp_path, "--audit-file", trail) as (program, port):
        await stores(port, 1)
        await until(lambda: len(lines(trail)) == 2)
        trail.rename(tmp_path / "old")
        program.signal(signal.SIGHUP)
        await program.event("signal.received")
        await stores(port, 2)
        assert await program.stopped() == 0
    assert len(lines(trail)) == 2
