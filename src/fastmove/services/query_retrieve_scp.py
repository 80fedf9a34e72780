"""Query/Retrieve SCP: C-FIND and C-MOVE over an archive (PS3.4 C.4.1, C.4.2; PS3.7 9.1.2, 9.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
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
    StatusClass,
    describe,
)
from fastmove.errors import (
    AssociationError,
    ConfigurationError,
    DimseError,
    NoAcceptedContext,
    ProtocolError,
    RemoteProtocolError,
    TimedOut,
)
from fastmove.limits import ERROR_COMMENT_CHARS, Limits
from fastmove.net.connection import Connection
from fastmove.net.mailbox import Received, WholeMessages
from fastmove.notices import MoveAnswered, Notice, QueryAnswered
from fastmove.services.conduct import Conduct, Correct, MovePlan
from fastmove.services.scp import send_response
from fastmove.services.storage_scu import StorageSCU
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


@dataclass(slots=True, eq=False)
class _Operation:
    """The C-FIND or C-MOVE under way on an association."""

    request: CFindRQ | CMoveRQ
    context: PresentationContext
    cancelled: bool = False
    alone: bool = False
    """It goes on without the association."""


@dataclass(slots=True, eq=False)
class _Move:
    """A C-MOVE that can be carried out: what is sent, and where to."""

    operation: _Operation
    request: CMoveRQ
    destination: PeerAddress
    files: Sequence[DicomFile]
    plan: MovePlan
    suboperations: SubOperations
    why: str = ""
    """Why sub-operations failed, if it is known."""

    def record(self, file: DicomFile, status_class: StatusClass, name: str) -> None:
        """One sub-operation is over; `name` says how."""
        self.suboperations.record(file, status_class)
        if status_class is not StatusClass.SUCCESS:
            self.why = name

    def counters(self, status: int) -> dict[str, int]:
        """What a response says of the sub-operations."""
        counters = self.suboperations.counters(status)
        return counters if self.plan.told is None else self.plan.told(counters)


class QueryRetrieveSCP(WholeMessages):
    """C-FIND, C-MOVE and C-CANCEL of one association; one operation at a time (PS3.7 D.3.3.3).

    Operations run as tasks, which are in `tasks` while they do: who stops the PACS waits for them.
    """

    def __init__(
        self, connection: Connection, archive: Archive, options: QueryRetrieveOptions, tasks: set[asyncio.Task[None]]
    ) -> None:
        super().__init__(connection)
        self._archive = archive
        self._options = options
        self._tasks = tasks
        self._storage = StorageAssociations(
            options.ae_title, options.limits, connection.notify, tasks, options.storage_idle_s
        )
        self._responses: list[bytes] = []  # those that have not been sent yet: many go in one write
        self._operation: _Operation | None = None
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
        self._tasks.add(task)
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
        self._tasks.discard(task)
        del self._running[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            self.connection.abort("internal error")
            context = {"message": "a query or retrieve failed", "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    def _notify(self, notice: Notice) -> None:
        if self.connection.notify is not None:
            self.connection.notify(notice)

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
            response = request.response(
                error.status,
                error_comment=error.error_comment or None,
                offending_element=error.offending_elements or None,
            )
            self._finish(operation, response)

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
        if self.connection.association.may_send_data:
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
        unique = keys.get(identifier.UNIQUE_KEYS[level], "")
        if isinstance(request, CMoveRQ) and (not unique or set(unique) & set("*?")):
            why = f"a retrieve needs values of {identifier.UNIQUE_KEYS[level]}"
            raise DimseError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, why)
        return keys

    async def _find(self, operation: _Operation, keys: dict[str, str]) -> None:
        if delay_s := self._options.conduct.find(keys):
            await asyncio.sleep(delay_s)
        level, transfer_syntax = keys["QueryRetrieveLevel"], operation.context.transfer_syntax
        status = PENDING if self._archive.supports(keys) else PENDING_WITH_WARNING
        pending = operation.request.response(status, has_dataset=True).encode()
        ours = {"QueryRetrieveLevel": level, "RetrieveAETitle": self._options.ae_title}
        encode = identifier.encoder((), transfer_syntax)
        keywords: Collection[str] = ()
        matches, waiting, final = 0, 0, SUCCESS
        for match in self._archive.find(keys):
            if operation.cancelled:
                final = CANCEL
                break
            matches += 1
            answer = {**match, **ours}
            if answer.keys() != keywords:
                keywords = answer.keys()
                encode = identifier.encoder(keywords, transfer_syntax)
            waiting += self._respond(operation, pending, encode(answer))
            if waiting >= RESPONSES_BYTES:
                waiting = 0
                self._send_responses()
                await self._sent()
        self._notify(QueryAnswered(self.connection.number, level, final, matches))
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
            move = _Move(operation, request, destination, files, plan, SubOperations(len(files)))
            operation.alone = plan.answer_first
            if plan.answer_first:
                self._answer(move, SubOperations(0, len(files)))
            if files:
                await self._send(move)
            if not plan.answer_first:
                self._answer(move, move.suboperations)

    def _answer(self, move: _Move, counted: SubOperations) -> None:
        """The final response, with the Failed SOP Instance UID List if there is one."""
        operation, request = move.operation, move.request
        status = counted.status
        self._notify(
            MoveAnswered(
                self.connection.number,
                request.move_destination or "",
                status,
                counted.remaining,
                counted.completed,
                len(counted.failed_uids),
                counted.warning,
            )
        )
        data: bytes | None = None
        if counted.failed_uids:
            failed = {"FailedSOPInstanceUIDList": "\\".join(counted.failed_uids)}
            data = identifier.encode(identifier.from_text(failed), operation.context.transfer_syntax)
        counters = counted.counters(status)
        if move.plan.told is not None:
            counters = move.plan.told(counters)
        comment = move.why[:ERROR_COMMENT_CHARS] if status != SUCCESS else ""
        response = request.response(status, has_dataset=data is not None, error_comment=comment or None, **counters)
        self._finish(operation, response, data)

    async def _send(self, move: _Move) -> None:
        """Perform the sub-operations; those fail that are left when the destination is lost."""
        operation, suboperations = move.operation, move.suboperations
        try:
            await self._perform_all(move)
        except (AssociationError, ProtocolError, ConfigurationError, EOFError) as error:
            if not suboperations.remaining:  # a release that goes wrong changes nothing
                return
            move.why = str(error)
            self.connection.misbehaved("move.destination_lost", f"{move.destination}: {move.why}")
        if not operation.cancelled:
            for file in move.files[len(move.files) - suboperations.remaining :]:
                suboperations.record(file, StatusClass.FAILURE)

    async def _perform_all(self, move: _Move) -> None:
        operation, plan, files, suboperations = move.operation, move.plan, move.files, move.suboperations
        pairs = [(file.sop_class_uid, file.transfer_syntax_uid) for file in files]
        scu: StorageSCU | None = None
        async with AsyncExitStack() as storage:
            if plan.first_delay_s:
                await asyncio.sleep(plan.first_delay_s)
            for number, file in enumerate(files):
                if number == plan.break_after and not self._break(move):
                    return
                if operation.cancelled:
                    return
                if plan.delay_s:
                    await asyncio.sleep(plan.delay_s)
                if file.sop_instance_uid in plan.unsent:
                    move.record(file, StatusClass.SUCCESS, "")
                elif file.sop_instance_uid in plan.failing:
                    move.record(file, StatusClass.FAILURE, "the sub-operation failed")
                else:
                    if scu is None:
                        association = self._storage.to(move.destination, pairs, keep=not plan.association_per_object)
                        scu = await storage.enter_async_context(association)
                    try:
                        status_class, name = describe(await scu.store(file, plan.originator), "C-STORE")
                    except (NoAcceptedContext, OSError) as error:
                        status_class, name = StatusClass.FAILURE, str(error)
                    move.record(file, status_class, name)
                    if status_class is not StatusClass.FAILURE:
                        self._options.conduct.stored(file)
                    if plan.association_per_object:
                        scu = None
                        await storage.aclose()
                if (number + 1) % self._options.suboperations_per_response == 0 and not plan.answer_first:
                    pending = move.request.response(PENDING, **move.counters(PENDING))
                    self._respond(operation, pending.encode())
                    if suboperations.remaining:  # else the final response comes at once
                        self._send_responses()
                        await self._sent()
            if plan.break_after is not None and plan.break_after >= len(files):
                self._break(move)

    def _break(self, move: _Move) -> bool:
        """End the association as planned; True if the move goes on."""
        move.operation.alone = move.plan.goes_on
        if move.plan.break_by_closing:
            self.connection.cut()
        else:
            self.connection.abort("as planned")
        return move.plan.goes_on
