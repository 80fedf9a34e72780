"""doctor on the way to an association: whatever is wrong there is said in words, and nothing hangs or raises."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from typing import Final

import pytest

from fastmove.errors import (
    AssociationAborted,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    NoAcceptedContext,
    TimedOut,
)
from fastmove.limits import Limits
from fastmove.services.doctor.examination import PROBES, Examination
from fastmove.services.doctor.findings import Outcome, Side
from fastmove.types import PeerAddress
from tests.integration import raw
from tests.integration.doctor import LIMITS, Script, accepted, advice, answering, examined, outcomes, scripted
from tests.integration.listener import Listener
from tests.integration.peers import free_port
from tests.integration.scripted import Recv, ScriptedAcceptor, Send

HOST: Final = "127.0.0.1"
IMPATIENT: Final = LIMITS.replace(associate_s=0.3, connect_s=0.5)


def ends_at(examination: Examination, probe: str, cause: type[Exception]) -> None:
    """This probe is the first problem, of this cause; nothing that needs it was tried."""
    names = [each.name for each in PROBES if each.name in examination.findings]
    behind = names[names.index(probe) + 1 :]
    assert [finding.probe for finding in examination.problems] == [probe], examination.findings
    assert isinstance(examination.findings[probe].cause, cause)
    assert {examination.findings[name].outcome for name in behind} == {Outcome.SKIPPED}
    assert examination.profile == type(examination.profile)()


# ---------------------------------------------------------------------- TCP


async def test_closed_port_is_named_and_nothing_else_is_tried() -> None:
    port = free_port()
    examination = await examined(PeerAddress("PACS", HOST, port))
    ends_at(examination, "tcp", ConnectFailed)
    finding = examination.findings["tcp"]
    assert "connection refused" in finding.seen and str(port) in finding.seen
    assert "is the port right?" in advice(finding, Side.HERE)
    assert "listen on this port" in advice(finding, Side.PACS)


async def test_name_that_nobody_knows_is_named() -> None:
    examination = await examined(PeerAddress("PACS", "no..where", 104))
    ends_at(examination, "name", ConnectFailed)
    assert "no..where" in examination.findings["name"].seen
    assert "IP address" in advice(examination.findings["name"], Side.HERE)


async def test_port_that_does_not_even_take_the_connection_is_a_matter_of_firewalls() -> None:
    with socket.socket() as full, socket.socket() as first, socket.socket() as second:
        full.bind((HOST, 0))
        full.listen(0)
        for waiting in (first, second):  # nobody accepts them, and there is no room for a third
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        examination = await examined(PeerAddress("PACS", *full.getsockname()), limits=IMPATIENT)
    ends_at(examination, "tcp", TimedOut)
    assert "packets get lost" in examination.findings["tcp"].seen
    assert "firewall" in advice(examination.findings["tcp"], Side.PACS)


# ---------------------------------------------------------------------- what speaks there


async def test_port_that_takes_the_connection_and_is_silent_is_said_to_be_so() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with answering(silent) as peer:
        examination = await examined(peer, limits=IMPATIENT)
    ends_at(examination, "dicom", TimedOut)
    assert "silent" in examination.findings["dicom"].seen


async def test_port_that_closes_at_once_hints_at_unknown_hosts_and_tls() -> None:
    async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)

    async with answering(closing) as peer:
        examination = await examined(peer, ae_title="ME")
    ends_at(examination, "dicom", ConnectionLost)
    finding = examination.findings["dicom"]
    assert "closes the connection at once" in finding.seen
    assert "'ME'" in advice(finding, Side.PACS) and HOST in advice(finding, Side.PACS)
    assert "TLS" in advice(finding, Side.HERE)


async def test_web_server_is_recognised() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\n")
        writer.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with answering(web) as peer:
        examination = await examined(peer, limits=IMPATIENT)
    ends_at(examination, "dicom", TimedOut)
    assert "speaks HTTP, not plain DICOM" in examination.findings["dicom"].seen
    assert "web server" in advice(examination.findings["dicom"], Side.HERE)


async def test_web_server_that_does_not_wait_for_a_line_is_recognised() -> None:
    async def web(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with answering(web) as peer:
        examination = await examined(peer)
    ends_at(examination, "dicom", AssociationAborted)
    assert "speaks HTTP, not plain DICOM" in examination.findings["dicom"].seen


async def test_tls_port_is_recognised() -> None:
    async def tls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Without a certificate no handshake succeeds: it is answered by an alert.
        received, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
        session = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(received, sent, server_side=True)
        received.write(await reader.read(4096))
        with contextlib.suppress(ssl.SSLError):
            session.do_handshake()
        writer.write(sent.read())
        await writer.drain()

    async with answering(tls) as peer:
        examination = await examined(peer)
    assert "speaks TLS, not plain DICOM" in examination.findings["dicom"].seen
    assert "plain DICOM port" in advice(examination.findings["dicom"], Side.HERE)
    assert [finding.probe for finding in examination.problems] == ["dicom"]


async def test_banner_of_something_else_is_shown_harmless() -> None:
    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-\x1b[31mOpen\r\n")
        await writer.drain()
        await reader.read()

    async with answering(banner) as peer:
        examination = await examined(peer)
    ends_at(examination, "dicom", AssociationAborted)
    assert r"it says 'SSH-2.0-\x1b[31mOpen\r\n'" in examination.findings["dicom"].seen


@pytest.mark.parametrize(
    "answer",
    [raw.pdu(raw.ASSOCIATE_AC, bytes(10)), raw.associate_ac(user_items=raw.max_length(5)), raw.release_rq(), b"\x02"],
    ids=["short", "maximum length of 5", "release", "one byte"],
)
async def test_answer_that_cannot_be_read_is_a_problem_in_words(answer: bytes) -> None:
    async with ScriptedAcceptor([[], [Recv(raw.ASSOCIATE_RQ), Send(answer)], []]) as acceptor:
        peer = PeerAddress("PACS", acceptor.host, acceptor.port)
        examination = await examined(peer, limits=IMPATIENT)
    assert [finding.probe for finding in examination.problems] == ["dicom"]


# ---------------------------------------------------------------------- the association


@pytest.mark.parametrize(
    ("refusal", "seen", "side", "told"),
    [
        ((1, 1, 3), "calling AE title not recognized", Side.PACS, "enter the AE title 'ME' with host 127.0.0.1"),
        ((1, 1, 7), "called AE title not recognized", Side.HERE, "'PACS' is not what the PACS calls itself"),
        ((1, 1, 1), "no reason given", Side.PACS, "mostly it does not know us"),
        ((2, 3, 2), "rejected for now: local limit exceeded", Side.HERE, "try again later"),
        ((2, 3, 1), "rejected for now: temporary congestion", Side.PACS, "raise the number of associations"),
        ((1, 2, 2), "protocol version", Side.PACS, "vendor"),
        ((7, 8, 9), "which the standard does not have", Side.PACS, "its log"),
    ],
)
async def test_rejection_is_told_with_what_to_do(
    refusal: tuple[int, int, int], seen: str, side: Side, told: str
) -> None:
    async with ScriptedAcceptor([[], [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(*refusal))]]) as acceptor:
        examination = await examined(PeerAddress("PACS", acceptor.host, acceptor.port), ae_title="ME")
    ends_at(examination, "association", AssociationRejected)
    assert examination.findings["dicom"].outcome is Outcome.OK
    assert seen in examination.findings["association"].seen
    assert told in advice(examination.findings["association"], side)


async def test_abort_is_told_as_a_pacs_that_does_not_know_us() -> None:
    async with ScriptedAcceptor([[], [Recv(raw.ASSOCIATE_RQ), Send(raw.abort(2, 0))]]) as acceptor:
        examination = await examined(PeerAddress("PACS", acceptor.host, acceptor.port), ae_title="ME")
    ends_at(examination, "association", AssociationAborted)
    assert "'ME'" in advice(examination.findings["association"], Side.PACS)


async def test_wrong_called_ae_title_is_told_by_a_real_listener(listener: Listener) -> None:
    examination = await examined(PeerAddress("NOBODY", listener.host, listener.port))
    ends_at(examination, "association", AssociationRejected)
    assert "'NOBODY' is not what the PACS calls itself" in advice(examination.findings["association"], Side.HERE)


async def test_node_without_c_move_is_told(listener: Listener) -> None:
    examination = await examined(PeerAddress(listener.ae_title, listener.host, listener.port))
    assert [finding.probe for finding in examination.problems] == ["contexts"]
    assert isinstance(examination.problems[0].cause, NoAcceptedContext)
    assert "no C-MOVE" in examination.findings["contexts"].seen
    assert examination.findings["echo"].outcome is Outcome.OK


async def test_c_move_without_c_find_is_noted_and_leaves_queries_out() -> None:
    async with scripted(Script(ac=accepted(1, 5))) as peer:
        examination = await examined(peer)
    assert "no C-FIND" in examination.findings["contexts"].seen
    assert outcomes(examination)[Outcome.NOTE] == ["contexts"]
    assert examination.findings["find_study"].seen == "it offers no C-FIND"


async def test_asynchronous_operations_and_short_pdus_are_told() -> None:
    window = raw.item(0x53, bytes((0, 5, 0, 1)))
    ac = raw.associate_ac([raw.context_ac(5)], user_items=raw.max_length(4096) + raw.item(0x52, "1.2.3") + window)
    async with scripted(Script(ac=ac)) as peer:
        examination = await examined(peer)
    assert "5 operations at a time" in examination.findings["asynchronous"].seen
    assert examination.findings["implementation"].outcome is Outcome.NOTE
    assert "4,096 bytes" in examination.findings["implementation"].seen
    assert examination.profile.max_pdu_length == 4096


# ---------------------------------------------------------------------- several associations


async def test_limit_of_associations_is_found_by_rejection() -> None:
    one = [Recv(raw.ASSOCIATE_RQ), Send(accepted(1, 5)), Script()]
    rejected = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(2, 3, 2))]
    # TCP, the association that is asked over, that of the window, three at once, and one too many.
    async with ScriptedAcceptor([[], one, one, one, one, one, rejected]) as acceptor:
        examination = await examined(PeerAddress("PACS", acceptor.host, acceptor.port))
    finding = examination.findings["parallel"]
    assert "3 associations at once; one more: association rejected for now: local limit exceeded" in finding.seen
    assert examination.profile.associations == 3
    assert "raise the number" in advice(finding, Side.PACS) and "--parallel 3 at most" in advice(finding, Side.HERE)


async def test_limit_of_associations_is_found_where_one_too_many_hangs() -> None:
    one = [Recv(raw.ASSOCIATE_RQ), Send(accepted(1, 5)), Script()]
    async with ScriptedAcceptor([[], one, one, one, one, []]) as acceptor:
        examination = await examined(PeerAddress("PACS", acceptor.host, acceptor.port), limits=IMPATIENT)
    assert "2 associations at once; one more: no answer within 0.3 s" in examination.findings["parallel"].seen
    assert examination.profile.associations == 2


async def test_no_more_associations_are_opened_than_allowed() -> None:
    one = [Recv(raw.ASSOCIATE_RQ), Send(accepted(1, 5)), Script()]
    async with ScriptedAcceptor([[], one]) as acceptor:
        peer = PeerAddress("PACS", acceptor.host, acceptor.port)
        examination = await examined(peer, associations=2, limits=Limits(release_s=0.5))
        assert len(acceptor.received) == 1 + 1 + 1 + 2
    assert examination.findings["parallel"].outcome is Outcome.OK
    assert examination.profile.associations == 2
