"""What movescu does once its command line is understood: listen, associate, move, release."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from fastmove.cli.exit_codes import ExitCode, for_error, for_outcome, gravest, of_movescu
from fastmove.cli.movescu import conditions, messages
from fastmove.cli.movescu.console import Console
from fastmove.cli.movescu.log import DCMNET, MOVESCU, Log
from fastmove.cli.movescu.options import Arguments
from fastmove.cli.movescu.query import BadQueryFile, EmptyQuery, NotConvertible, Query
from fastmove.dictionary import Dictionary
from fastmove.dimse.move import Loss, judge
from fastmove.errors import (
    AssociationAborted,
    AssociationError,
    AssociationRejected,
    ConfigurationError,
    ConnectionLost,
    ListenFailed,
    NoAcceptedContext,
    ReleasedByPeer,
    RemoteProtocolError,
    TimedOut,
    TlsUnusable,
)
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import AssociationHandle, open_association
from fastmove.notices import InstanceStored, Notice
from fastmove.services.listener import listen
from fastmove.services.move_scu import Move
from fastmove.services.receipts import Receipts
from fastmove.storage.dcmtk_classes import DCMTK_STORAGE_SOP_CLASSES
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress, PresentationContext
from fastmove.uids import QUERY_RETRIEVE, TRANSFER_SYNTAXES, VERIFICATION
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose

if TYPE_CHECKING:
    from fastmove.cli.movescu.debugging import DebuggingConsole
    from fastmove.credentials import TlsSettings

PATIENCE_S: Final = 6 * 3600.0
"""Without -td a PACS may be silent for that long: it may be fetching from tape, but not for ever."""

LATE_OBJECTS_S: Final = 10.0
"""How long to wait for objects that the PACS says it sent."""

UNCOUNTED_S: Final = 0.5
"""The same where it says nothing of the kind, and no storage association is open."""

FAMILIES: Final = {
    "ipv4": (socket.AF_INET, "0.0.0.0"),
    "ipv6": (socket.AF_INET6, "::"),
    "auto": (socket.AF_UNSPEC, ""),
}
"""Of the address of the peer, and where to listen."""

Queries = tuple[Callable[[], Query], ...]
"""Each reads what a C-MOVE is to ask for; BadQueryFile if that cannot be done."""


def limits_of(arguments: Arguments) -> Limits:
    """The time limits of a command line, in the places where they belong."""
    silence = float(arguments.dimse_timeout_s or 0)
    acse = float(arguments.acse_timeout_s)
    defaults = Limits()
    return Limits(
        max_pdu_length=arguments.max_pdu_length & ~1,
        connect_s=float(arguments.connect_timeout_s or defaults.connect_s * 4),
        associate_s=acse,
        artim_s=acse,
        release_s=acse,
        response_s=silence or PATIENCE_S,
        progress_s=PATIENCE_S,
        message_s=silence or defaults.message_s,
        drain_s=LATE_OBJECTS_S,
        uncounted_s=UNCOUNTED_S,
        folder_look_s=0.0,
    )


def policy_of(arguments: Arguments) -> AcceptPolicy:
    """Whom the listener lets in: as DCMTK's, everybody, for the SOP classes that it knows."""
    return AcceptPolicy(
        arguments.calling_ae_title,
        any_called_ae_title=True,
        any_names=True,
        abstract_syntaxes=DCMTK_STORAGE_SOP_CLASSES | {VERIFICATION},
        any_storage_sop_class=False,
        any_transfer_syntax=False,
        preferred_transfer_syntaxes=arguments.preferred_transfer_syntaxes,
        answer_roles=False,
        max_pdu_length=arguments.max_pdu_length & ~1,
    )


class Session:
    """One run of movescu; `exit_code` grows graver as things go wrong."""

    def __init__(
        self,
        arguments: Arguments,
        log: Log,
        queries: Queries,
        dictionary: Dictionary,
        target: StorageTarget | None,
        tls: TlsSettings | None = None,
        *,
        dcmtk_exit_codes: bool = False,
    ) -> None:
        self.arguments = arguments
        self._tls = tls
        self.log = log
        self.limits = limits_of(arguments)
        self.console = Console(log, arguments)
        self._debugging: DebuggingConsole | None = None
        if log.debugging:
            from fastmove.cli.movescu.debugging import DebuggingConsole  # seldom wanted

            self.console = self._debugging = DebuggingConsole(log, arguments, dictionary)
        self._queries = queries
        self._dictionary = dictionary
        self._target = target
        self._receipts: Receipts | None = None
        self._acceptor: Acceptor | None = None
        self._association: AssociationHandle | None = None
        self._move_under_way: Move | None = None
        self._codes: list[ExitCode] = [ExitCode.SUCCESS]
        self._dcmtk_exit_codes = dcmtk_exit_codes
        self._said = False

    async def run(self) -> ExitCode:
        """Everything, from the listener to the last release."""
        arguments = self.arguments
        async with contextlib.AsyncExitStack() as stack:
            if self._target is not None and arguments.listen_port is not None:
                self._receipts = Receipts(self.console.notify, self.console.stored)
                try:
                    listening = self._listening(self._target, arguments.listen_port)
                    self._acceptor = await stack.enter_async_context(listening)
                    acceptor = self._acceptor
                    self._receipts.arriving = acceptor.arriving
                except ListenFailed as error:
                    text = messages.CANNOT_CREATE_NETWORK + conditions.condition(error, established=False)
                    self.log.fatal(MOVESCU, text)
                    return ExitCode.CANNOT_LISTEN
                except TlsUnusable as error:
                    self.log.fatal(MOVESCU, messages.CANNOT_START_TLS + str(error))
                    return ExitCode.CANNOT_START_TLS
            return await self._associated()

    def _listening(self, target: StorageTarget, port: int) -> contextlib.AbstractAsyncContextManager[Acceptor]:
        permits = None
        if self.arguments.host_access_control:
            from fastmove.net.hosts_access import UNKNOWN, Host, look_up, permitted

            find_name = look_up if self.arguments.look_up_hosts else lambda _: UNKNOWN

            def permits(address: str) -> bool:
                return permitted("movescu", Host(address, find_name))

        return listen(
            FAMILIES[self.arguments.address_family][1],
            port,
            target,
            policy_of(self.arguments),
            self.limits,
            self._noticed,
            self._stored,
            permits=permits,
            watch=self._debugging,
            tls=self._tls,
        )

    def abort(self) -> None:
        """Abort all associations, and wait for nothing any more."""
        if self._move_under_way is not None:
            self._move_under_way.stop()
        if self._association is not None:
            self._association.abort("interrupted")
        if self._acceptor is not None:
            self._acceptor.abort("interrupted")

    def _noticed(self, notice: Notice) -> None:
        if self._receipts is not None:  # those of the move under way
            self._receipts(notice)

    def _stored(self, notice: InstanceStored) -> None:
        if self._receipts is not None:
            self._receipts.on_stored(notice)

    # ------------------------------------------------------------------ the outgoing association

    async def _associated(self) -> ExitCode:
        arguments, log = self.arguments, self.log
        model = QUERY_RETRIEVE[arguments.model]
        titles = (("Called", arguments.called_ae_title), ("Calling", arguments.calling_ae_title))
        for which, title in titles:
            if not title.strip(" "):
                text = f"Illegal service parameter: {which} AP Title"
                log.error(DCMNET, text)
                log.fatal(MOVESCU, messages.REQUEST_FAILED + f"0006:030c {text}")
                return ExitCode.CANNOT_ASSOCIATE
        contexts = contexts_for([model.find, model.move], arguments.proposed_transfer_syntaxes)
        try:
            request = propose(
                arguments.calling_ae_title,
                arguments.called_ae_title,
                contexts,
                max_pdu_length=arguments.max_pdu_length & ~1,
            )
        except ConfigurationError as error:
            log.fatal(MOVESCU, messages.REQUEST_FAILED + f"0006:030c Illegal service parameter: {error}")
            return ExitCode.CANNOT_ASSOCIATE
        self.console.requesting(request)
        peer = PeerAddress(arguments.called_ae_title, arguments.peer, arguments.port, self._tls)
        family = FAMILIES[arguments.address_family][0]
        try:
            association = await open_association(
                peer, request, self.limits, family=family, unproposed=frozenset(TRANSFER_SYNTAXES)
            )
        except AssociationRejected as error:
            for text in messages.invalid_rejection(error):
                log.error(DCMNET, text)
            log.fatal(MOVESCU, messages.association_rejected(error))
            return ExitCode.CANNOT_ASSOCIATE
        except (AssociationError, RemoteProtocolError) as error:
            log.fatal(MOVESCU, messages.REQUEST_FAILED + conditions.condition(error, established=False))
            return ExitCode.CANNOT_ASSOCIATE
        self._association = association
        try:
            if not association.contexts:
                log.fatal(MOVESCU, messages.NO_CONTEXT)
                return ExitCode.NO_PRESENTATION_CONTEXT
            self.console.accepted(association)
            return await self._moved(association)
        finally:
            association.connection.cut()
            await association.close()

    async def _moved(self, association: AssociationHandle) -> ExitCode:
        """The moves, and the end of their association."""
        log = self.log
        try:
            await self._moves(association)
        except (AssociationError, RemoteProtocolError) as error:
            self._failed(association, error)
            self._fell_through(for_error(error, established=True))
            return gravest(self._codes)
        except (BadQueryFile, NotConvertible) as error:
            if isinstance(error, BadQueryFile):
                log.error(MOVESCU, str(error))
            else:
                self.console.odd(f"sendMessage: {error}")
            self._failed(association, error)
            self._fell_through(ExitCode.UNKNOWN)
            return gravest(self._codes)
        if self.arguments.abort:
            log.info(MOVESCU, messages.ABORTING)
            association.abort("--abort")
            await association.close()
            return gravest(self._codes)
        log.info(MOVESCU, messages.RELEASING)
        try:
            if await association.release():
                return gravest(self._codes)
            text = conditions.PEER_ABORTED
        except TimedOut as error:
            text = conditions.condition(error, established=True)
        log.fatal(MOVESCU, messages.RELEASE_FAILED + text)
        return ExitCode.CANNOT_RELEASE

    def _fell_through(self, code: ExitCode) -> None:
        """Something went wrong that movescu of DCMTK forgets when it ends."""
        if not self._dcmtk_exit_codes:
            self._codes.append(code)

    def _failed(self, association: AssociationHandle, error: Exception) -> None:
        """Say what ended the association, once, and end it for the peer as well."""
        log = self.log
        if self._said:
            return
        self._said = True
        text = (
            conditions.INAPPROPRIATE_DATA
            if isinstance(error, BadQueryFile | NotConvertible)
            else conditions.condition(error, established=True)
        )
        if not isinstance(error, BadQueryFile | NoAcceptedContext):
            log.error(MOVESCU, messages.MOVE_REQUEST_FAILED + text)
        if isinstance(error, ReleasedByPeer):
            log.error(MOVESCU, messages.PEER_REQUESTED_RELEASE)
        elif isinstance(error, ConnectionLost) or (isinstance(error, AssociationAborted) and error.by_peer):
            log.info(MOVESCU, messages.PEER_ABORTED)
        else:
            log.error(MOVESCU, messages.MOVE_SCU_FAILED + text)
        log.info(MOVESCU, messages.ABORTING)
        association.abort(text)

    # ------------------------------------------------------------------ the moves

    async def _moves(self, association: AssociationHandle) -> None:
        arguments = self.arguments
        context = association.context(QUERY_RETRIEVE[arguments.model].move)
        for query in self._queries:
            for _ in range(arguments.repeat):
                await self._move(association, context, query())

    async def _move(self, association: AssociationHandle, context: PresentationContext, query: Query) -> None:
        arguments = self.arguments
        destination = arguments.calling_ae_title if arguments.move_destination is None else arguments.move_destination
        level = arguments.compression_level
        data = query.identifier(context.transfer_syntax, self._dictionary, *(() if level is None else (level,)))
        if not data:
            raise EmptyQuery
        if self._receipts is not None:
            self._receipts = self._receipts.next(arguments.calling_ae_title)
        move = self._move_under_way = Move(
            self._receipts,
            self.limits,
            self.console.notify,
            cancel_after=arguments.cancel_after,
            trusting=True,
            on_message=None if self._debugging is None else self._debugging.message,
        )
        self.console.moving(association.last_message_id + 1, query, self._dictionary)
        try:
            self.console.moved(await move.exchange(association, context, destination.strip(" "), data))
        except (AssociationError, RemoteProtocolError) as error:
            if isinstance(error, RemoteProtocolError):
                move.loss = Loss.PROTOCOL
            if isinstance(error, TimedOut):
                move.stop()  # there was no sign of life, and nothing is on its way
            self._failed(association, error)
            raise
        finally:
            await move.drain()
            status = None if move.outcome is None else move.outcome.status
            self._codes.append(of_movescu(status))
            if self._codes[-1] is ExitCode.SUCCESS and not self._dcmtk_exit_codes:
                # What was replaced counts as it does with DCMTK: it was meant to be.
                evidence = move.evidence().replace(differing=0)
                judgement = judge(evidence)
                self._fell_through(for_outcome(judgement))
                self.console.judged(judgement, evidence, self._codes[-1])
