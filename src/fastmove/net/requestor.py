"""The requestor: connect, negotiate, exchange messages, release."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Final

from fastmove.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConnectFailed,
    ConnectionLost,
    LocalProtocolError,
    ReleasedByPeer,
    RemoteProtocolError,
    TimedOut,
)
from fastmove.limits import MAX_PDU_LENGTH, Limits
from fastmove.net.connection import Connection
from fastmove.net.mailbox import Mailbox, Received
from fastmove.net.resolving import addresses
from fastmove.net.service import OTHER_COMMANDS, Service
from fastmove.notices import Observer
from fastmove.types import PeerAddress, PresentationContext
from fastmove.ul.association import (
    AbortIndication,
    AssociateConfirmation,
    AssociateRequest,
    Association,
    AssociationEvent,
    ConnectionLostIndication,
    ReleaseConfirmation,
    ReleaseIndication,
    ReleaseResponse,
    Role,
)
from fastmove.ul.items import UserIdentityRQ
from fastmove.ul.negotiation import accepted_contexts, find_context, max_length_to_send, operations_window
from fastmove.ul.pdu import PROTOCOL_VERSION, AAssociateAC, AAssociateRJ, AAssociateRQ

if TYPE_CHECKING:
    from fastmove.credentials import TlsSettings, UserIdentity

SHORT_READ_BYTES: Final = 64 << 10
"""What is read at once where TLS brings responses: they are short."""

Through = Callable[[memoryview, Callable[[memoryview], None]], Awaitable[None]]
"""Given a piece of a message, and what writes it."""

MAX_MESSAGE_ID: Final = 65535
"""Message IDs are US."""


class RequestedConnection(Connection):
    """A connection that we opened."""

    only_listens = True  # to one pending response after the other
    may_be_idle = True  # a PACS may be silent for long, and whoever awaits a response has a deadline

    def __init__(
        self, request: AAssociateRQ, limits: Limits, notify: Observer | None, unproposed: frozenset[str] = frozenset()
    ) -> None:
        window_bytes = limits.small_window_bytes  # responses are short
        super().__init__(Association(Role.REQUESTOR), self._mailboxes, limits, notify, window_bytes=window_bytes)
        self.mailbox = Mailbox(self)
        self.request = request
        self._unproposed = unproposed
        self.identity_required = False
        self.released = False
        self.answer: AAssociateAC | None = None
        self.confirmed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.reached = asyncio.Event()
        """Set when the transport connection is there, or will never be."""
        self.association.send(AssociateRequest(request))

    def _mailboxes(self, _: Connection) -> Mapping[int, Service]:
        return {OTHER_COMMANDS: self.mailbox}

    def indicate(self, event: AssociationEvent) -> None:
        """Settle what is awaited."""
        if isinstance(event, AssociateConfirmation):
            self._confirm(event.pdu)
        elif isinstance(event, AbortIndication):
            why = f"{event.why}: {event.detail}" if event.detail else event.why
            self.over(AssociationAborted(event.source, event.reason, by_peer=event.by_peer, why=why))
        elif isinstance(event, ConnectionLostIndication):
            self.over(ConnectionLost("the peer closed the connection"))
        elif isinstance(event, ReleaseIndication):
            self.over(ReleasedByPeer("the peer released the association"))
            self._apply(self.association.send(ReleaseResponse()))
        elif isinstance(event, ReleaseConfirmation):
            self.released = True
            self.over(ConnectionLost("the association was released"))

    def abort(self, why: str = "") -> None:
        """Whoever waits for the peer need not any more, and is told why."""
        super().abort(why)
        self.over(AssociationAborted(0, 0, by_peer=False, why=why))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for the association."""
        super().connection_made(transport)
        self.reached.set()

    def _confirm(self, answer: AAssociateAC | AAssociateRJ) -> None:
        if isinstance(answer, AAssociateRJ):
            self.over(AssociationRejected(answer.result, answer.source, answer.reason))
            return
        self.answer = answer
        contexts, notes = accepted_contexts(self.request, answer, self._unproposed)
        for key, detail in notes:
            self.misbehaved(key, detail)
        try:
            if not answer.protocol_version & PROTOCOL_VERSION:
                raise RemoteProtocolError("ac.version", f"{answer.protocol_version:#06x}")
            length = max_length_to_send(answer.user_information, MAX_PDU_LENGTH)
            self._check_identity(answer)
        except RemoteProtocolError as error:
            self.misbehaved(error.key, error.detail)
            self.abort(error.key)
            return
        self.calling_ae_title = self.request.calling_ae_title
        self.called_ae_title = self.request.called_ae_title
        self.establish(contexts, length)
        if not self.confirmed.done():
            self.confirmed.set_result(None)

    def _check_identity(self, answer: AAssociateAC) -> None:
        """A positive response that was asked for, and did not come: nobody knows as whom we are here."""
        asked = self.request.user_information.user_identity_rq
        if asked is None or not asked.positive_response_requested or answer.user_information.user_identity_ac:
            return
        if self.identity_required:
            raise RemoteProtocolError("userid.no_response", "the peer does not say that it knows the user")
        self.misbehaved("userid.no_response", "accepted all the same")

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing may be left waiting."""
        try:
            super().connection_lost(exc)
        finally:
            self.over(ConnectionLost("the peer closed the connection"))

    def over(self, error: AssociationError) -> None:
        """Nothing is to be waited for any more, and this is why."""
        self.mailbox.close(error)
        self.reached.set()
        if not self.confirmed.done():
            self.confirmed.set_exception(error)


def _unasked(message: Received) -> None:
    raise RemoteProtocolError("dimse.unexpected_rsp", f"command field {message.command.command_field:04X}H")


class MessageIDs:
    """Message IDs, 1 to 65535, round and round (PS3.7 9.1.1.1); associations may share them."""

    def __init__(self) -> None:
        self.last = 0

    def __next__(self) -> int:
        self.last = self.last % MAX_MESSAGE_ID + 1
        return self.last


class AssociationHandle:
    """An established association, as its requestor sees it."""

    def __init__(self, connection: RequestedConnection, message_ids: MessageIDs | None = None) -> None:
        self._connection = connection
        self._message_ids = message_ids or MessageIDs()

    @property
    def contexts(self) -> Mapping[int, PresentationContext]:
        """The accepted presentation contexts by ID."""
        return self._connection.contexts

    @property
    def connection(self) -> RequestedConnection:
        """The connection underneath."""
        return self._connection

    def context(self, abstract_syntax: str, transfer_syntax: str | None = None) -> PresentationContext:
        """The accepted context for an abstract (and transfer) syntax; NoAcceptedContext if there is none."""
        return find_context(self._connection.contexts, abstract_syntax, transfer_syntax)

    def next_message_id(self) -> int:
        """A Message ID that no outstanding operation has."""
        return next(self._message_ids)

    @property
    def last_message_id(self) -> int:
        """The one that was given last; 0 before the first."""
        return self._message_ids.last

    @property
    def operations_window(self) -> int:
        """How many operations we may have outstanding, as the peer has agreed (PS3.7 D.3.3.3); at least 1."""
        return operations_window(self._connection.request, self._connection.answer)

    @property
    def idle(self) -> bool:
        """True if it stands, and nothing has come that nobody asked for: another operation may begin."""
        mailbox = self._connection.mailbox
        return self._connection.association.may_send_data and not mailbox.waiting and mailbox.over is None

    def send(self, context_id: int, command: bytes, dataset: bytes | None = None) -> None:
        """Send a message from memory; the AssociationError that ended the association if it is over."""
        self.write(self._connection.writer.message(context_id, command, dataset))

    def write(self, data: bytes | memoryview) -> None:
        """Send a piece of a message; the AssociationError that ended the association if it is over."""
        try:
            self._connection.write(data)
        except LocalProtocolError:
            raise self._connection.mailbox.over or ConnectionLost("the association is over") from None

    async def send_file(
        self,
        context_id: int,
        command: bytes,
        fd: int,
        offset: int,
        nbytes: int,
        before: bytes = b"",
        through: Through | None = None,
    ) -> None:
        """Send a message whose data set is from a file, as `PDataWriter.begin` has it; OSError or EOFError aborts.

        Each piece goes `through` that, if it is given: whoever is to send slowly.
        """
        connection = self._connection
        writer = connection.writer
        writer.begin(context_id, command, fd, offset, nbytes, before)
        try:
            while (chunk := writer.next_chunk()) is not None:
                if through is None:
                    self.write(chunk)
                else:
                    await through(chunk, self.write)
                if not connection.writable:
                    await connection.drained()
        except (OSError, EOFError):
            # Half a data set is on the wire, and nothing but an abort ends it.
            connection.abort("the file cannot be read")
            raise

    async def receive(self, timeout_s: float | None = None, timer: str = "response_s") -> Received:
        """The next message of the peer; `timeout_s` None is the limit for responses."""
        return await self._connection.mailbox.receive(timeout_s or self._connection.limits.response_s, timer)

    def abort(self, why: str = "") -> None:
        """A-ABORT."""
        self._connection.abort(why)

    async def release(self, unasked: Callable[[Received], object] = _unasked) -> bool:
        """A-RELEASE; True if it was answered, TimedOut if not within `release_s` (the peer is then aborted).

        Nothing is awaited any more: `unasked` says what is wrong with a message that comes all the same, by a
        RemoteProtocolError, and it is aborted too.
        """
        connection = self._connection
        if not connection.association.may_send_data:
            return False
        if not connection.mailbox.waiting:
            connection.release()
        try:
            unasked(await connection.mailbox.receive(connection.limits.release_s, "release_s"))
        except TimedOut:
            connection.misbehaved("assoc.release_timeout")
            connection.abort("no A-RELEASE-RP")
            raise
        except RemoteProtocolError as error:
            connection.misbehaved(error.key, error.detail)
            connection.abort(error.key)
        except AssociationError:
            pass  # released; or lost, which comes to the same for all but the strictest
        return connection.released

    async def close(self) -> None:
        """Wait until the connection is gone; after an abort at most ARTIM."""
        await self._connection.closed


def _identified(request: AAssociateRQ, user: UserIdentity) -> AAssociateRQ:
    identity = UserIdentityRQ(user.kind, user.primary, user.secondary, user.response)
    return request.replace(user_information=request.user_information.replace(user_identity_rq=identity))


def _over_tls(connection: RequestedConnection, settings: TlsSettings, host: str) -> asyncio.BaseProtocol:
    from fastmove.net.tls import client_context  # for those who have TLS: it loads OpenSSL
    from fastmove.net.tls_transport import TlsTransport

    return TlsTransport(
        connection,
        client_context(settings),
        memoryview(bytearray(SHORT_READ_BYTES)),
        server_name=(settings.server_name or host) if settings.indicate_name else None,
        pinned=settings.pinned,
        failed=connection.over,
    )


async def open_association(
    peer: PeerAddress,
    request: AAssociateRQ,
    limits: Limits | None = None,
    notify: Observer | None = None,
    family: int = socket.AF_UNSPEC,
    unproposed: frozenset[str] = frozenset(),
    message_ids: MessageIDs | None = None,
) -> AssociationHandle:
    """Connect and negotiate; the caller releases and closes.

    `family` is that of the address; `unproposed` are transfer syntaxes that the peer may choose all the same;
    `message_ids` are shared with other associations.

    Raises ConnectFailed, TlsFailed, TlsUnusable, AssociationRejected, AssociationAborted, ConnectionLost, TimedOut.
    """
    limits = limits or Limits()
    if peer.user is not None:
        request = _identified(request, peer.user)
    connection = RequestedConnection(request, limits, notify, unproposed)
    connection.identity_required = peer.user is not None and peer.user.required
    connection.host = peer.host
    try:
        await _establish(connection, peer, limits, family)
    except ConnectFailed as error:
        connection.misbehaved("conn.failed", str(error))
        raise
    except TimedOut as error:
        connection.misbehaved("conn.failed" if error.timer == "connect_s" else "assoc.timeout", str(error))
        raise
    except AssociationRejected as error:
        connection.misbehaved("assoc.rejected", error.values)
        raise
    return AssociationHandle(connection, message_ids)


async def _connect(protocol: asyncio.BaseProtocol, peer: PeerAddress, family: int) -> None:
    failed: OSError | None = None
    for address in await addresses(peer.host, family):
        try:
            await asyncio.get_running_loop().create_connection(lambda: protocol, address, peer.port, family=family)
        except OSError as error:
            failed = failed or error
        else:
            return
    raise failed or OSError(f"{peer.host} has no address")


async def _establish(connection: RequestedConnection, peer: PeerAddress, limits: Limits, family: int) -> None:
    protocol = connection if peer.tls is None else _over_tls(connection, peer.tls, peer.host)
    try:
        async with asyncio.timeout(limits.connect_s):
            await _connect(protocol, peer, family)
    except TimeoutError:
        raise TimedOut("connect_s", limits.connect_s) from None
    except (OSError, UnicodeError) as error:
        raise ConnectFailed(peer.host, peer.port, error) from error
    try:
        await connection.reached.wait()  # TLS has a timer of its own
        async with asyncio.timeout(limits.associate_s):
            await connection.confirmed
    except TimeoutError:
        connection.abort("no answer to A-ASSOCIATE-RQ")
        connection.cut()
        raise TimedOut("associate_s", limits.associate_s) from None
    except BaseException:
        connection.cut()
        raise


@contextlib.asynccontextmanager
async def associate(
    peer: PeerAddress, request: AAssociateRQ, limits: Limits | None = None, notify: Observer | None = None
) -> AsyncIterator[AssociationHandle]:
    """An association for the length of a block: released at its end, aborted if the block raises."""
    handle = await open_association(peer, request, limits, notify)
    try:
        yield handle
    except BaseException:
        handle.abort()
        handle.connection.cut()
        await handle.close()
        raise
    try:
        await handle.release()
    finally:
        handle.connection.cut()
        await handle.close()
