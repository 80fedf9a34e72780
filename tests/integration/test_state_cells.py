"""G-C1 over TCP: the cells of PS3.8 Table 9-10 that a connection can come to, in both roles, by the bytes on the wire.

The local user is the test: he does nothing by himself, so that every state can be stopped in. At the end the listener
and the requestor as they are, with their own users, are put into the states that they stay in.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import pytest

from fastmove._codec import CommandReceived, DatasetComplete, SinkFailed
from fastmove.errors import AssociationError
from fastmove.limits import Limits
from fastmove.net.connection import Connection
from fastmove.net.requestor import open_association
from fastmove.net.service import OTHER_COMMANDS
from fastmove.types import PeerAddress, PresentationContext
from fastmove.ul import pdu
from fastmove.ul.association import (
    AbortRequest,
    AssociateRequest,
    AssociateResponse,
    Association,
    AssociationEvent,
    Primitive,
    ReleaseRequest,
    ReleaseResponse,
    Role,
)
from fastmove.ul.negotiation import contexts_for, propose
from tests.integration import raw
from tests.integration.listener import Listener
from tests.integration.scripted import Link, ScriptedRequestor
from tests.unit.state_cells import (
    AC,
    ACCEPTOR,
    ALL,
    RECEIVED,
    REQUESTOR,
    RJ,
    RQ,
    STARTED,
    Cell,
)

LIMITS: Final = Limits(artim_s=0.05, idle_s=5.0, message_s=5.0)
DEADLINE_S: Final = 2.0
CONTEXTS: Final = {3: PresentationContext(3, raw.VERIFICATION, raw.IMPLICIT_LE)}

PATHS: Final[dict[str, dict[str, tuple[str, ...]]]] = {  # the events that lead a connection to a state
    REQUESTOR: {
        "Sta5": (),
        "Sta6": ("Evt3",),
        "Sta7": ("Evt3", "Evt11"),
        "Sta8": ("Evt3", "Evt12"),
        "Sta9": ("Evt3", "Evt11", "Evt12"),
        "Sta11": ("Evt3", "Evt11", "Evt12", "Evt14"),
        "Sta13": ("Evt3", "Evt12", "Evt14"),
    },
    ACCEPTOR: {
        "Sta2": (),
        "Sta3": ("Evt6",),
        "Sta6": ("Evt6", "Evt7"),
        "Sta7": ("Evt6", "Evt7", "Evt11"),
        "Sta8": ("Evt6", "Evt7", "Evt12"),
        "Sta10": ("Evt6", "Evt7", "Evt11", "Evt12"),
        "Sta12": ("Evt6", "Evt7", "Evt11", "Evt12", "Evt13"),
        "Sta13": ("Evt6", "Evt8"),
    },
}
AT_FIRST: Final = {REQUESTOR: ("Sta5", RQ), ACCEPTOR: ("Sta2", b"")}
"""The state of a connection that has just been made, and what it has sent."""

CELLS: Final = {(cell.role, cell.event, cell.state): cell for cell in ALL}
REACHED: Final = tuple(cell for cell in ALL if cell.state in PATHS[cell.role])


def decoded(wire: bytes) -> pdu.Pdu:
    """Without its header."""
    return pdu.decode(wire[0], wire[6:])


PRIMITIVES: Final[dict[str, Primitive]] = {
    "Evt7": AssociateResponse(decoded(AC)),  # type: ignore[arg-type]
    "Evt8": AssociateResponse(decoded(RJ)),  # type: ignore[arg-type]
    "Evt11": ReleaseRequest(),
    "Evt14": ReleaseResponse(),
    "Evt15": AbortRequest(),
}


class Recorder:
    """A service that takes note, and does not answer."""

    def __init__(self, told: list[str]) -> None:
        self._told = told

    def command_received(self, event: CommandReceived) -> None:
        """A message."""
        self._told.append("CommandReceived")

    def dataset_complete(self, event: DatasetComplete) -> None:
        """No message of these tests has a data set."""

    sink_failed: Callable[[SinkFailed], None] = dataset_complete  # type: ignore[assignment]

    def closed(self) -> None:
        """The association is over."""


class Manual(Connection):
    """A connection whose user is the test."""

    def __init__(self, role: Role) -> None:
        self.told: list[str] = []
        services = {OTHER_COMMANDS: Recorder(self.told)}
        super().__init__(Association(role), lambda _: services, LIMITS, window_bytes=65536)
        if role is Role.REQUESTOR:
            self.association.send(AssociateRequest(decoded(RQ)))  # type: ignore[arg-type]

    def indicate(self, event: AssociationEvent) -> None:
        """Take note; what the standard leaves to the user before data may come is done at once."""
        self.told.append(type(event).__name__)
        if self.told[-1] == "AssociateConfirmation":
            self.establish(CONTEXTS, 16384)

    def want(self, primitive: Primitive) -> None:
        """The user wants this."""
        if isinstance(primitive, AssociateResponse):
            self.establish(CONTEXTS, 16384)
        self._apply(self.association.send(primitive))

    @property
    def open(self) -> bool:
        """True until we, or the peer, have closed."""
        return self._transport is not None and not self._transport.is_closing()

    def close(self) -> None:
        """What is not sent yet is, then FIN."""
        if self._transport is not None:
            self._transport.close()


class Scene:
    """A connection of ours, and the peer at its other end."""

    def __init__(self, connection: Manual, peer: Link) -> None:
        self.connection = connection
        self.peer = peer
        self._sent = 0

    async def happen(self, event: str) -> None:
        """The event happens, and everything that follows from it has happened."""
        connection = self.connection
        if event in RECEIVED:
            await self.peer.send(RECEIVED[event])
            self._sent += len(RECEIVED[event])
            await until(lambda: connection.receiver.received == self._sent or not connection.open)
        elif event == "Evt9":
            connection.write(connection.writer.message(3, raw.c_echo_rq()))
        elif event == "Evt17":
            self.peer.half_close()
            await asyncio.wait_for(connection.closed, DEADLINE_S)
        elif event == "Evt18":
            await until(lambda: not connection.open)
        else:
            connection.want(PRIMITIVES[event])

    async def all_sent(self) -> bytes:
        """Everything that came to the peer, up to the end of the connection."""
        self.connection.close()
        return await everything(self.peer)


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until this is so."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():
            await asyncio.sleep(0)


async def everything(peer: Link) -> bytes:
    """What a peer is sent until the connection ends."""
    data = b""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(DEADLINE_S):
        while more := await loop.sock_recv(peer.sock, 65536):
            data += more
    return data


@asynccontextmanager
async def scene(role: str) -> AsyncIterator[Scene]:
    """A new connection in this role."""
    loop = asyncio.get_running_loop()
    made: asyncio.Queue[Manual] = asyncio.Queue()

    def factory() -> Manual:
        connection = Manual(Role.REQUESTOR if role == REQUESTOR else Role.ACCEPTOR)
        made.put_nowait(connection)
        return connection

    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        if role == ACCEPTOR:
            server = await loop.create_server(factory, sock=listening.dup())
            async with server, ScriptedRequestor(*listening.getsockname()) as peer:
                yield Scene(await made.get(), peer)
            return
        await loop.create_connection(factory, *listening.getsockname())
        accepted, _ = await loop.sock_accept(listening)
        async with Link(accepted) as peer:
            yield Scene(await made.get(), peer)


@pytest.mark.parametrize("cell", REACHED, ids=str)
async def test_cell_puts_its_pdu_on_the_wire(cell: Cell) -> None:
    state, sent = AT_FIRST[cell.role]
    async with scene(cell.role) as here:
        await until(lambda: str(here.connection.association.state) == state)
        for event in PATHS[cell.role][cell.state]:
            step = CELLS[cell.role, event, str(here.connection.association.state)]
            await here.happen(event)
            sent += step.effect.sends
        assert str(here.connection.association.state) == cell.state
        here.connection.told.clear()
        await here.happen(cell.event)
        assert str(here.connection.association.state) == cell.following
        assert tuple(here.connection.told) == cell.effect.tells
        assert here.connection.open is not cell.effect.closes
        if cell.effect.artim == STARTED:
            assert here.connection._artim is not None
        elif cell.effect.closes:
            assert here.connection._artim is None
        assert await here.all_sent() == sent + cell.effect.sends
        await asyncio.wait_for(here.connection.closed, DEADLINE_S)


OF_THE_LISTENER: Final = tuple(
    cell
    for cell in ALL
    if cell.role == ACCEPTOR
    and cell.state in ("Sta2", "Sta6", "Sta13")
    and (cell.event in RECEIVED or cell.event in ("Evt17", "Evt18"))
)
ANSWERS: Final = {  # of a user who is not the test, the type of the PDU: what is in it is tested elsewhere
    "AE-6": raw.ASSOCIATE_AC,
    "DT-2": raw.P_DATA,
    "AR-2": raw.RELEASE_RP,
}
"""What the action is followed by at once."""


@pytest.mark.parametrize("cell", OF_THE_LISTENER, ids=str)
async def test_cell_of_the_listener(cell: Cell, listener: Listener) -> None:
    async with listener.connect() as peer:
        if cell.state == "Sta6":
            await peer.associate()
        elif cell.state == "Sta13":
            await peer.send(raw.associate_rq(called="SOMEBODY"))
            await peer.expect_reject(1, 1, 7)
        await peer.send(raw.associate_rq() if cell.event == "Evt6" else RECEIVED.get(cell.event, b""))
        for expected in filter(None, (cell.effect.sends[:1], bytes([ANSWERS.get(cell.action, 0)]).strip(b"\0"))):
            received = await peer.read_pdu()
            assert received.pdu_type == expected[0]
            if cell.effect.sends:
                assert received.data == cell.effect.sends[6:]
        if cell.event == "Evt17" or (cell.event != "Evt18" and not cell.effect.closes):
            peer.half_close()
        await peer.expect_closed()


OF_THE_REQUESTOR: Final = tuple(
    cell
    for cell in ALL
    if cell.role == REQUESTOR and cell.state in ("Sta5", "Sta6", "Sta7") and cell.event in (*RECEIVED, "Evt17")
)
FIRST: Final = {"Sta5": (), "Sta6": (), "Sta7": (raw.RELEASE_RQ,)}
"""What the requestor has sent after its A-ASSOCIATE-RQ."""


@pytest.mark.parametrize("cell", OF_THE_REQUESTOR, ids=str)
async def test_cell_of_the_requestor(cell: Cell) -> None:
    request = propose("SCRIPTED", "FASTMOVE", contexts_for([raw.VERIFICATION], [raw.IMPLICIT_LE]))
    loop = asyncio.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        user = asyncio.create_task(used(cell.state, PeerAddress("SCRIPTED", *listening.getsockname()), request))
        accepted, _ = await loop.sock_accept(listening)
        async with Link(accepted) as peer:
            await peer.expect(raw.ASSOCIATE_RQ)
            if cell.state != "Sta5":
                await peer.send(AC)
            for pdu_type in FIRST[cell.state]:
                await peer.expect(pdu_type)
            await peer.send(raw.message(1, raw.c_echo_rq()) if cell.event == "Evt10" else RECEIVED.get(cell.event, b""))
            if cell.action == "AR-2" or cell.action == "AR-8":  # answered at once
                assert await peer.expect(raw.RELEASE_RP) == bytes(4)
            elif cell.effect.sends:
                assert (await peer.read_pdu()).data == cell.effect.sends[6:]
            if cell.action == "AR-6":  # a message that nobody asked for: the user aborts
                await peer.expect_abort(0, 0)
            if cell.event == "Evt17" or not cell.effect.closes:
                peer.half_close()
            await peer.expect_closed()
        await asyncio.wait_for(user, DEADLINE_S)


async def used(state: str, address: PeerAddress, request: pdu.AAssociateRQ) -> None:
    """An association that is opened and, for Sta7, released; it ends in one way or another."""
    try:
        handle = await open_association(address, request, LIMITS)
    except AssociationError:
        assert state == "Sta5"
        return
    with suppress(AssociationError):
        if state == "Sta7":
            await handle.release()
        else:
            await handle.receive(DEADLINE_S)
    handle.connection.cut()
    await handle.close()


def test_cells_over_tcp_are_those_of_states_with_a_connection() -> None:
    without = {"Sta1", "Sta4"}
    assert {cell.state for cell in REACHED} == {cell.state for cell in ALL} - without
    one_role_only = {REQUESTOR: {"Sta2", "Sta3", "Sta10", "Sta12"}, ACCEPTOR: {"Sta5", "Sta9", "Sta11"}}
    assert len(REACHED) == sum(cell.state not in without | one_role_only[cell.role] for cell in ALL)
