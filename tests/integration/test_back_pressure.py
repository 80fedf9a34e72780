"""Peers that do not take what we send: we wait for them, not without end, and nobody else does (catalogue T08)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove._codec import CommandReceived, DatasetComplete, SinkFailed, send_now, store_request
from fastmove.errors import TimedOut
from fastmove.limits import Limits
from fastmove.net import sockets
from fastmove.net.accepted import AcceptedConnection
from fastmove.net.acceptor import Acceptor, serve
from fastmove.net.connection import Connection
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.net.service import OTHER_COMMANDS
from fastmove.notices import InstanceStored, Notice, Observer, PeerMisbehaved
from fastmove.pacs.index import Index
from fastmove.services.archive import serve_archive
from fastmove.services.listener import listen
from fastmove.services.query_retrieve_scp import QueryRetrieveOptions
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from tests.conftest import LOOP_FACTORIES
from tests.integration import raw
from tests.integration.objects import write_object
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, ScriptedRequestor, Send

pytestmark = pytest.mark.parametrize("loop_factory", LOOP_FACTORIES)

HOST: Final = "127.0.0.1"
WINDOW_BYTES: Final = 1 << 16
PATIENT: Final = Limits(window_bytes=WINDOW_BYTES, artim_s=0.3, idle_s=5.0, message_s=5.0, stop_s=1.0)
IMPATIENT: Final = Limits(artim_s=0.3, idle_s=5.0, message_s=0.3, stop_s=1.0)
SMALL: Final = ((socket.SOL_SOCKET, socket.SO_SNDBUF, 4096), (socket.SOL_SOCKET, socket.SO_RCVBUF, 16384))
OBJECTS: Final = 400
DEADLINE_S: Final = 10.0


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little of what we send is on its way: a peer that does not read is soon noticed."""
    monkeypatch.setattr(sockets, "SOCKET_OPTIONS", (*sockets.SOCKET_OPTIONS, *SMALL))


def reluctant(port: int) -> ScriptedRequestor:
    """A peer whose socket takes little while it does not read."""
    peer = ScriptedRequestor(HOST, port, DEADLINE_S)
    for option in SMALL:
        peer.sock.setsockopt(*option)
    return peer


async def until(condition: Callable[[], object]) -> None:
    """Wait until it is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


# ---------------------------------------------------------------------- requests whose answers are not read


@asynccontextmanager
async def listening(
    directory: Path,
    on_stored: Callable[[InstanceStored], None] | None = None,
    limits: Limits = PATIENT,
    notify: Observer | None = None,
) -> AsyncIterator[Acceptor]:
    """A listener into this directory."""
    with StorageTarget(directory, WriteOptions(durable=False)) as target:
        async with listen(HOST, 0, target, AcceptPolicy("FASTMOVE"), limits, notify, on_stored) as acceptor:
            yield acceptor


UIDS: Final = {number: f"1.2.{number}" for number in range(1, OBJECTS + 1)}
"""By Message ID."""

STORES: Final = b"".join(raw.message(1, raw.c_store_rq(uid, number), raw.dataset(uid)) for number, uid in UIDS.items())


@asynccontextmanager
async def unread(acceptor: Acceptor) -> AsyncIterator[tuple[ScriptedRequestor, AcceptedConnection, asyncio.Task[None]]]:
    """A peer that sends STORES and reads nothing, its connection, and its sending, once that has come to a halt."""
    async with reluctant(acceptor.port) as peer:
        await peer.associate()
        (connection,) = acceptor.connections
        sending = asyncio.create_task(peer.send(STORES))
        try:
            async with ScriptedRequestor(HOST, acceptor.port) as other, asyncio.timeout(DEADLINE_S):
                await other.associate()
                received = -1
                while not connection.receiver.suspended or connection.receiver.received != received:
                    assert not sending.done(), "all of it was taken"
                    received = connection.receiver.received
                    await other.echo()
                await other.release()
            yield peer, connection, sending
        finally:
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


@pytest.mark.parametrize("told", [False, True], ids=["answered by the receiver", "answered by the service"])
async def test_peer_that_does_not_read_its_answers_is_read_no_further_and_loses_nothing(
    tmp_path: Path, told: bool
) -> None:
    notices: list[InstanceStored] = []
    async with (
        listening(tmp_path, notices.append if told else None) as acceptor,
        unread(acceptor) as (peer, connection, sending),
    ):
        assert not sending.done()
        assert connection.receiver.unread <= WINDOW_BYTES
        assert 0 < connection.objects < OBJECTS
        for number, uid in UIDS.items():
            reply = await peer.expect_status(0, number)
            assert reply.fields[raw.AFFECTED_SOP_INSTANCE] == raw.uid(uid)
        await sending
        await peer.release()
    assert acceptor.objects == OBJECTS
    assert len(notices) == (OBJECTS if told else 0)
    stored = {path.name: raw.part10_dataset(path.read_bytes()) for path in tmp_path.iterdir()}
    assert stored == {f"{uid}.dcm": raw.dataset(uid) for uid in UIDS.values()}


@pytest.mark.parametrize("at_once", [0, 7, 50])
async def test_answer_that_the_socket_takes_in_part_arrives_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr("fastmove.net.connection.send_now", lambda fd, data: send_now(fd, data[:at_once]))
    async with listening(tmp_path, lambda _: None) as acceptor, ScriptedRequestor(HOST, acceptor.port) as peer:
        await peer.associate()
        for number in range(1, 4):
            await peer.store(UIDS[number], raw.dataset(UIDS[number]), number)
        await peer.release()


async def test_others_are_served_while_a_peer_does_not_read_its_answers(tmp_path: Path) -> None:
    async with listening(tmp_path) as acceptor, unread(acceptor), ScriptedRequestor(HOST, acceptor.port) as other:
        await other.associate()
        for message_id in range(1, 11):
            uid = f"1.3.{message_id}"
            await other.store(uid, raw.dataset(uid), message_id)
        await other.release()


async def test_peer_that_is_gone_with_its_answers_unread_leaves_no_connection(tmp_path: Path) -> None:
    async with listening(tmp_path) as acceptor, unread(acceptor) as (peer, connection, sending):
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        peer.reset()
        async with asyncio.timeout(DEADLINE_S):
            await connection.closed
        assert not acceptor.connections


async def test_T08_peer_that_never_reads_its_answers_is_cut_off_by_the_kernel(tmp_path: Path) -> None:
    limits = PATIENT.replace(user_timeout_s=0.3)
    async with listening(tmp_path, limits=limits) as acceptor, unread(acceptor) as (_, connection, _):
        async with asyncio.timeout(DEADLINE_S):
            await connection.closed


async def test_T08_peer_that_never_reads_its_answers_is_cut_off_by_us(tmp_path: Path) -> None:
    notices: list[Notice] = []
    limits = PATIENT.replace(message_s=1.0)
    async with (
        listening(tmp_path, limits=limits, notify=notices.append) as acceptor,
        unread(acceptor) as (_, connection, _),
        asyncio.timeout(DEADLINE_S),
    ):
        await connection.closed
    assert stalls(notices) == ["1 s"]


async def test_peer_that_reads_its_answers_slowly_loses_nothing(tmp_path: Path) -> None:
    notices: list[Notice] = []
    limits = PATIENT.replace(message_s=1.0)
    async with (
        listening(tmp_path, limits=limits, notify=notices.append) as acceptor,
        unread(acceptor) as (peer, connection, sending),
    ):
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        while not sending.done() or connection.suspended or loop.time() - began < 2 * limits.message_s:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(loop.sock_recv(peer.sock, 4000), 0.2)
            await asyncio.sleep(0.1)  # that is what slowly means
        assert acceptor.objects == OBJECTS
    assert stalls(notices) == []


# ---------------------------------------------------------------------- what a peer takes nothing of


def stalls(notices: list[Notice]) -> list[str]:
    """What peers did not take, as observers are told."""
    told = [notice for notice in notices if isinstance(notice, PeerMisbehaved)]
    return [notice.detail for notice in told if notice.event == "conn.write_stalled"]


@asynccontextmanager
async def associated(notices: list[Notice], *steps: Any) -> AsyncIterator[AssociationHandle]:
    """An association to a peer that then does this."""
    accept = (Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()))
    async with ScriptedAcceptor([[SmallBuffers(), *accept, *steps]]) as acceptor:
        request = propose("FASTMOVE", "SCRIPTED", contexts_for([raw.CT_IMAGE], [raw.IMPLICIT_LE]))
        peer = PeerAddress("SCRIPTED", acceptor.host, acceptor.port)
        association = await open_association(peer, request, IMPATIENT, notices.append)
        try:
            yield association
        finally:
            association.connection.cut()
            await association.close()


class SmallBuffers:
    """A step of a script: take little while nothing is read."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        for option in SMALL:
            link.sock.setsockopt(*option)


class ReadSlowly:
    """A step of a script: read some bytes again and again, with pauses, until the end."""

    def __init__(self, size: int, pause_s: float) -> None:
        self.size = size
        self.pause_s = pause_s

    async def run(self, link: Link, received: list[Pdu]) -> None:
        while await asyncio.get_running_loop().sock_recv(link.sock, self.size):
            await asyncio.sleep(self.pause_s)


@pytest.fixture
def large_file(tmp_path: Path) -> Iterator[int]:
    """1 MiB."""
    path = tmp_path / "large"
    path.write_bytes(bytes(1 << 20))
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)


COMMAND: Final = store_request(raw.CT_IMAGE.encode(), b"1.2.3", 1)


async def test_T08_file_to_a_peer_that_takes_nothing_is_given_up_and_the_connection_cut(large_file: int) -> None:
    notices: list[Notice] = []
    async with associated(notices) as association:
        with pytest.raises(TimedOut) as caught:
            await association.send_file(1, COMMAND, large_file, 0, 1 << 20)
        assert caught.value.timer == "message_s"
        assert stalls(notices) == ["0.3 s"]
        async with asyncio.timeout(1.0):
            await association.close()


async def test_file_to_a_peer_that_takes_it_slowly_goes_on(large_file: int) -> None:
    notices: list[Notice] = []
    async with associated(notices, ReadSlowly(1 << 15, 0.03)) as association:
        await association.send_file(1, COMMAND, large_file, 0, 1 << 20)
        assert stalls(notices) == []


class EndlessIndex(Index):
    """Has matches without end, and more instances than pending responses fit into a socket."""

    def __init__(self, file: DicomFile) -> None:
        super().__init__()
        self._file = file

    def find(self, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        while True:
            yield {"StudyInstanceUID": "1.2.3"}

    def instances(self, keys: Mapping[str, str]) -> list[DicomFile]:
        return [self._file] * 10_000


async def notices_of_an_operation(folder: Path, sop_class: str, change: dict[int, bytes], to: PeerAddress) -> list[str]:
    """A peer begins a C-FIND or C-MOVE and takes no response: what the PACS tells of peers until that one is gone."""
    notices: list[Notice] = []
    options = QueryRetrieveOptions(ae_title="FASTPACS", move_destinations={"TO": to}, limits=IMPATIENT)
    index = EndlessIndex(read_file_meta(write_object(folder, "1.2.3")))
    request = raw.request(0x0020, 1, sop_class, {raw.PRIORITY: raw.us(0), raw.DATA_SET_TYPE: raw.us(1), **change})
    keys = raw.element(0x00080052, b"STUDY ") + raw.element(0x0020000D, b"1.2.3\0")
    with StorageTarget(folder, WriteOptions(durable=False)) as target:
        async with (
            serve_archive(HOST, 0, index, target, options, notices.append) as acceptor,
            reluctant(acceptor.port) as peer,
        ):
            await peer.associate(raw.associate_rq(contexts=[raw.context_rq(1, sop_class)]))
            (connection,) = acceptor.connections
            await peer.send(raw.message(1, request, keys))
            async with asyncio.timeout(DEADLINE_S):
                await connection.closed
    return [notice.event for notice in notices if isinstance(notice, PeerMisbehaved)]


async def test_T08_find_for_a_peer_that_takes_nothing_ends_and_the_connection_is_cut(tmp_path: Path) -> None:
    nowhere = PeerAddress("TO", HOST, 1)
    events = await notices_of_an_operation(tmp_path, raw.STUDY_ROOT_FIND, {}, nowhere)
    assert events == ["conn.write_stalled", "conn.lost"]


async def test_T08_move_for_a_peer_that_takes_nothing_ends_and_nobody_else_is_blamed(tmp_path: Path) -> None:
    move = {raw.COMMAND_FIELD: raw.us(0x0021), raw.MOVE_DESTINATION: raw.ae("TO")}
    async with listening(tmp_path / "to") as destination:
        to = PeerAddress("FASTMOVE", HOST, destination.port)
        events = await notices_of_an_operation(tmp_path, raw.STUDY_ROOT_MOVE, move, to)
        assert events == ["conn.write_stalled", "conn.lost"]
        await until(lambda: not destination.connections)
        assert 0 < destination.objects < 10_000


# ---------------------------------------------------------------------- going on


class WaitsThenFails:
    """A service that suspends the connection at the first command, and fails at the next."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._commands = 0

    def command_received(self, event: CommandReceived) -> None:
        self._commands += 1
        if self._commands > 1:
            raise RuntimeError("no second command expected")
        self._connection.suspend()

    def dataset_complete(self, event: DatasetComplete) -> None:
        raise NotImplementedError

    def sink_failed(self, event: SinkFailed) -> None:
        raise NotImplementedError

    def closed(self) -> None:
        pass


async def test_error_in_what_waited_cuts_the_connection() -> None:
    def services(connection: Connection) -> dict[int, WaitsThenFails]:
        return {OTHER_COMMANDS: WaitsThenFails(connection)}

    async with (
        await serve(HOST, 0, AcceptPolicy("FASTMOVE"), services, PATIENT) as acceptor,
        ScriptedRequestor(HOST, acceptor.port) as peer,
    ):
        await peer.associate()
        (connection,) = acceptor.connections
        await peer.send(raw.message(3, raw.c_echo_rq(1)) + raw.message(3, raw.c_echo_rq(2)))
        await until(lambda: connection.receiver.suspended)
        with pytest.raises(RuntimeError, match="no second command"):
            connection.resume()
        await peer.expect_closed()
        await connection.closed
