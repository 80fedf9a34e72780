"""Query/Retrieve SCP: C-FIND and C-MOVE over an archive (PS3.4 C.4.1, C.4.2; PS3.7 9.1.2, 9.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

from fastmove.dimse import identifier
from fastmove.dimse.messages import CCancelRQ, CFindRQ, CMoveRQ, Response, decode
from fastmove.dimse.status import (
    CANCEL,
    IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS,
    MOVE_DESTINATION_UNKNOWN,
    OUT_OF_RESOURCES,
    PENDING,
    PENDING_WITH_WARNING,
    SOP_CLASS_NOT_SUPPORTED,
    SUCCESS,
    UNABLE_TO_PERFORM_SUBOPERATIONS,
    UNABLE_TO_PROCESS,
)
from fastmove.errors import (
    AssociationError,
    ConfigurationError,
    DimseError,
    ProtocolError,
    RemoteProtocolError,
    TimedOut,
)
from fastmove.limits import ERROR_COMMENT_CHARS, Limits
from fastmove.net.connection import Connection
from fastmove.net.mailbox import Received, WholeMessages
from fastmove.notices import MoveAnswered, MoveRequested, QueryAnswered
from fastmove.services.conduct import Conduct, Correct, MovePlan
from fastmove.services.scp import send_response
from fastmove.services.suboperations import StorageAssociations, SubOperations
from fastmove.storage.filemeta import DicomFile
from fastmove.types import PeerAddress, PresentationContext
from fastmove.uids import QUERY_RETRIEVE, TRANSFER_SYNTAXES
from fastmove.values import Value

QUERY_RETRIEVE_LEVEL: Final = 0x00080052

RESPONSES_BYTES: Final = 16 << 10
"""Matches are sent together that come to so much: a hundred or so."""

# Which information model a context is for: request → SOP class → model.
_MODELS: Final[dict[type, dict[str, str]]] = {
    CFindRQ: {row.find: model for model, row in QUERY_RETRIEVE.items()},
    CMoveRQ: {row.move: model for model, row in QUERY_RETRIEVE.items()},
}
SOP_CLASSES: Final = frozenset(uid for models in _MODELS.values() for uid in models)
"""What a PACS with this service accepts contexts for."""

_REFUSED: Final[dict[type, int]] = {CFindRQ: OUT_OF_RESOURCES, CMoveRQ: UNABLE_TO_PERFORM_SUBOPERATIONS}


class Archive(Protocol):
    """What is queried and retrieved from; keys and values are text by keyword, QueryRetrieveLevel is one of them."""

    def supports(self, keys: Mapping[str, str]) -> bool:
        """True if it knows all of these keys."""

    def find(self, keys: Mapping[str, str]) -> Iterator[Mapping[str, str]]:
        """What was asked for of each match; others may use the archive between two of them."""

    def instances(self, keys: Mapping[str, str]) -> Sequence[DicomFile]:
        """The files that a retrieve with these keys covers."""


class QueryRetrieveOptions(Value):
    """Who we are, and where we send to."""

    ae_title: str
    """Ours: Retrieve AE Title of matches, and calling AE title of sub-operations."""

    move_destinations: Mapping[str, PeerAddress] = field(default_factory=dict)
    """By the AE title that a C-MOVE-RQ names."""

    suboperations_per_response: int = 1
    """A pending response after every so many sub-operations."""

    storage_idle_s: float = 0.1
    """So long an association to a destination is kept for the next C-MOVE on the same association; 0: not at all."""

    conduct: Conduct = Correct()
    """How operations are carried out."""

    limits: Limits = Limits()


_NONE: Final = SubOperations((), MovePlan(None))


@dataclass(slots=True, eq=False)
class _Operation:
    """The C-FIND or C-MOVE under way on an association."""

    request: CFindRQ | CMoveRQ
    context: PresentationContext
    level: str = ""
    matches: int = 0
    cancelled: bool = False
    alone: bool = False
    """It goes on without the association."""


@dataclass(slots=True, eq=False)
class _Move:
    """A C-MOVE that can be carried out."""

    operation: _Operation
    request: CMoveRQ
    destination: PeerAddress
    suboperations: SubOperations


class UnderWay:
    """The tasks of all associations: who stops the PACS waits for them."""

    def __init__(self) -> None:
        self.operations: set[asyncio.Task[None]] = set()
        self.releases: set[asyncio.Task[None]] = set()

    async def end(self, timeout_s: float) -> None:
        """Once the associations are closed: cancel what goes on without one; releases have so long."""
        for operation in self.operations:
            operation.cancel()
        if self.releases:
            await asyncio.wait(self.releases, timeout=timeout_s)
        for release in self.releases:
            release.cancel()
        if left := self.operations | self.releases:
            await asyncio.wait(left)


class QueryRetrieveSCP(WholeMessages):
    """C-FIND, C-MOVE and C-CANCEL of one association; one operation at a time (PS3.7 D.3.3.3)."""

    def __init__(
        self, connection: Connection, archive: Archive, options: QueryRetrieveOptions, under_way: UnderWay
    ) -> None:
        super().__init__(connection)
        self._archive = archive
        self._options = options
        self._operations = under_way.operations
        self._storage = StorageAssociations(
            options.ae_title, options.limits, connection.notify, under_way.releases, options.storage_idle_s
        )
        self._responses: list[bytes] = []  # those that have not been sent yet: many go in one write
        self._operation: _Operation | None = None
        self._broken = False  # we have ended the association, as a plan had it
        self._running: dict[asyncio.Task[None], _Operation] = {}

    # ------------------------------------------------------------------ the association

    def message_received(self, message: Received) -> None:
        """Begin the operation, or take note that it is cancelled."""
        connection = self.connection
        try:
            request = decode(message.command.data)
        except RemoteProtocolError as error:
            connection.misbehaved(error.key, error.detail)
            connection.abort(error.key)
            return
        if isinstance(request, CCancelRQ):
            self._cancel(request)
            return
        assert isinstance(request, (CFindRQ, CMoveRQ))
        context = connection.contexts[message.command.pc_id]
        if self._operation is not None:
            connection.misbehaved("dimse.window", "an operation is under way")
            response = request.response(_REFUSED[type(request)], error_comment="an operation is under way")
            send_response(connection, context.context_id, response)
            return
        self._operation = operation = _Operation(request, context)
        task = asyncio.get_running_loop().create_task(self._perform(operation, message.dataset))
        self._running[task] = operation
        self._operations.add(task)
        task.add_done_callback(self._ended)

    def _cancel(self, cancel: CCancelRQ) -> None:
        operation = self._operation
        if operation is None or operation.request.message_id != cancel.message_id_being_responded_to:
            # It crossed our final response, which is no fault (PS3.7 9.3.2.3).
            self.connection.misbehaved("dimse.cancel_ignored")
            return
        operation.cancelled = True

    def closed(self) -> None:
        """The association is over: so is its operation, and the association of its sub-operations."""
        super().closed()
        self._storage.close()
        for task, operation in self._running.items():
            if not operation.alone:
                task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._operations.discard(task)
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.connection.abort("internal error")
            context = {"message": "a query or retrieve failed", "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    # ------------------------------------------------------------------ the operation

    async def _perform(self, operation: _Operation, dataset: bytes | None) -> None:
        request = operation.request
        try:
            keys = self._keys(operation, dataset)
            if isinstance(request, CMoveRQ):
                await self._move(operation, request, keys)
            else:
                await self._find(operation, keys)
        except DimseError as error:
            self._tell(operation, error.status)
            response = request.response(
                error.status,
                error_comment=error.error_comment or None,
                offending_element=error.offending_elements or None,
            )
            self._finish(operation, response)

    def _tell(self, operation: _Operation, status: int, counted: SubOperations = _NONE) -> None:
        """Tell observers that an operation is about to have its final response."""
        if self.connection.notify is None:
            return
        number, request = self.connection.number, operation.request
        if isinstance(request, CMoveRQ):
            counts = counted.remaining, counted.completed, len(counted.failed_uids), counted.warning
            self.connection.notify(MoveAnswered(number, request.move_destination or "", status, *counts))
        else:
            self.connection.notify(QueryAnswered(number, operation.level, status, operation.matches))

    def _finish(self, operation: _Operation, response: Response, data: bytes | None = None) -> None:
        """The final response."""
        if self._operation is operation:
            self._operation = None  # before the peer can know: its next request may come at once
        self._respond(operation, response.encode(), data)
        self._send_responses()

    def _respond(self, operation: _Operation, command: bytes, data: bytes | None = None) -> int:
        """Have a response sent with those that follow, or by `_send_responses`; the bytes of it."""
        message = self.connection.writer.message(operation.context.context_id, command, data)
        self._responses.append(message)
        return len(message)

    def _send_responses(self) -> None:
        if self.connection.association.may_send_data and not self._broken:
            self.connection.write(b"".join(self._responses))
        self._responses.clear()

    def _keys(self, operation: _Operation, dataset: bytes | None) -> dict[str, str]:
        """The keys of a request that can be carried out; DimseError otherwise."""
        request, context = operation.request, operation.context
        model = _MODELS[type(request)].get(context.abstract_syntax)
        if model is None or request.affected_sop_class_uid != context.abstract_syntax:
            raise DimseError(SOP_CLASS_NOT_SUPPORTED, "SOP class is not that of the context")
        if dataset is None:
            raise DimseError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, "no identifier")
        if context.transfer_syntax not in TRANSFER_SYNTAXES:
            raise DimseError(UNABLE_TO_PROCESS, "unknown transfer syntax")
        keys = identifier.texts(dataset, context.transfer_syntax)
        level = keys.get("QueryRetrieveLevel", "")
        if level not in identifier.LEVELS[model]:
            why = f"the {model} model has no level {level[:16]!r}"
            raise DimseError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, why, (QUERY_RETRIEVE_LEVEL,))
        operation.level = level
        unique = keys.get(identifier.UNIQUE_KEYS[level], "")
        if isinstance(request, CMoveRQ) and (not unique or set(unique) & set("*?")):
            why = f"a retrieve needs values of {identifier.UNIQUE_KEYS[level]}"
            raise DimseError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, why)
        return keys

    async def _find(self, operation: _Operation, keys: dict[str, str]) -> None:
        if delay_s := self._options.conduct.find(keys):
            await asyncio.sleep(delay_s)
        transfer_syntax = operation.context.transfer_syntax
        status = PENDING if self._archive.supports(keys) else PENDING_WITH_WARNING
        pending = operation.request.response(status, has_dataset=True).encode()
        ours = {"QueryRetrieveLevel": operation.level, "RetrieveAETitle": self._options.ae_title}
        encode = identifier.encoder((), transfer_syntax)
        keywords: Collection[str] = ()
        waiting, final = 0, SUCCESS
        for match in self._archive.find(keys):
            if operation.cancelled:
                final = CANCEL
                break
            operation.matches += 1
            answer = {**match, **ours}
            if answer.keys() != keywords:
                keywords = answer.keys()
                encode = identifier.encoder(keywords, transfer_syntax)
            waiting += self._respond(operation, pending, encode(answer))
            if waiting >= RESPONSES_BYTES:
                waiting = 0
                self._send_responses()
                await self._sent()
        self._tell(operation, final)
        self._finish(operation, operation.request.response(final))

    async def _sent(self) -> None:
        """Wait until the socket has taken what we wrote, and at least until a C-CANCEL could have been read."""
        await asyncio.sleep(0)
        if not self.connection.writable:
            with suppress(TimedOut):  # it is cut, and `closed` ends the operation
                await self.connection.drained()

    async def _move(self, operation: _Operation, request: CMoveRQ, keys: dict[str, str]) -> None:
        options = self._options
        title = request.move_destination or ""
        destination = options.move_destinations.get(title)
        if destination is None:
            raise DimseError(MOVE_DESTINATION_UNKNOWN, f"move destination {title[:16]!r} is unknown")
        files = self._archive.instances(keys)
        originator = self.connection.calling_ae_title, request.message_id
        with options.conduct.move(keys, files, originator) as plan:
            if self.connection.notify is not None:
                study, number = keys.get("StudyInstanceUID", ""), self.connection.number
                self.connection.notify(MoveRequested(number, title, operation.level, study, len(files)))
            move = _Move(operation, request, destination, SubOperations(files, plan))
            operation.alone = plan.answer_first
            if plan.answer_first:
                self._answer(move, move.suboperations.foretold())
            if files:
                await self._perform_suboperations(move)
            if (unread := move.suboperations.unread) and not (plan.answer_first or self._broken):
                raise DimseError(UNABLE_TO_PROCESS, f"{unread} cannot be read"[:ERROR_COMMENT_CHARS])
            if not plan.answer_first:
                self._answer(move, move.suboperations)

    def _answer(self, move: _Move, counted: SubOperations) -> None:
        """The final response, with the Failed SOP Instance UID List if there is one."""
        operation, request, status = move.operation, move.request, counted.status
        if self._broken:
            return
        self._tell(operation, status, counted)
        data: bytes | None = None
        if counted.failed_uids:
            failed = {"FailedSOPInstanceUIDList": "\\".join(counted.failed_uids)}
            data = identifier.encode(identifier.from_text(failed), operation.context.transfer_syntax)
        comment = counted.why[:ERROR_COMMENT_CHARS] if status != SUCCESS else ""
        counters = counted.counters(status)
        response = request.response(status, has_dataset=data is not None, error_comment=comment or None, **counters)
        self._finish(operation, response, data)

    async def _perform_suboperations(self, move: _Move) -> None:
        """Perform the sub-operations; those fail that are left when the destination is lost."""
        suboperations = move.suboperations

        async def goes_on(number: int) -> bool:
            return await self._between(move, number)

        try:
            await suboperations.perform(self._storage, move.destination, goes_on, self._options.conduct.stored)
        except (AssociationError, ProtocolError, ConfigurationError, EOFError) as error:
            if not suboperations.remaining:  # a release that goes wrong changes nothing
                return
            self.connection.misbehaved("move.destination_lost", f"{move.destination}: {error}")
            if not move.operation.cancelled:
                suboperations.fail(str(error))

    async def _between(self, move: _Move, number: int) -> bool:
        """So many sub-operations are over: a response if one is due; False if there are to be no more."""
        plan, suboperations, operation = move.suboperations.plan, move.suboperations, move.operation
        if number and number % self._options.suboperations_per_response == 0 and not plan.answer_first:
            pending = move.request.response(PENDING, **suboperations.counters(PENDING))
            self._respond(operation, pending.encode())
            if suboperations.remaining:  # else the final response comes at once
                self._send_responses()
                await self._sent()
        if plan.break_after is not None and number == min(plan.break_after, len(suboperations.files)):
            operation.alone, self._broken = plan.goes_on, True
            if plan.break_by_closing:
                self.connection.cut()
            else:
                self.connection.abort("as planned")
            return plan.goes_on
        return not operation.cancelled
