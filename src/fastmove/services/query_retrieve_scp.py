"""Query/Retrieve SCP: C-FIND and C-MOVE over an archive (PS3.4 C.4.1, C.4.2; PS3.7 9.1.2, 9.1.4)."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
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
    SUBOPERATIONS_COMPLETE_WITH_FAILURES,
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
from fastmove.limits import ERROR_COMMENT_CHARS, MAX_PRESENTATION_CONTEXTS, Limits
from fastmove.net.connection import Connection
from fastmove.net.mailbox import Received, WholeMessages
from fastmove.net.requestor import associate
from fastmove.notices import MoveAnswered, Notice, QueryAnswered
from fastmove.services.scp import send_response
from fastmove.services.storage_scu import StorageSCU, storage_contexts
from fastmove.storage.filemeta import DicomFile
from fastmove.types import PeerAddress, PresentationContext, ProposedContext
from fastmove.uids import QUERY_RETRIEVE, TRANSFER_SYNTAXES
from fastmove.ul.negotiation import propose
from fastmove.values import Value

QUERY_RETRIEVE_LEVEL: Final = 0x00080052

MAX_COUNTER: Final = 0xFFFF
"""Counters of sub-operations are US (PS3.7 E.1); beyond this they stand still."""

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

    limits: Limits = Limits()


@dataclass(slots=True, eq=False)
class _Operation:
    """The C-FIND or C-MOVE under way on an association."""

    request: CFindRQ | CMoveRQ
    context: PresentationContext
    cancelled: bool = False


@dataclass(slots=True, eq=False)
class _SubOperations:
    """The C-STOREs of a C-MOVE by what became of them (PS3.4 C.4.2.1.6 to C.4.2.1.9)."""

    remaining: int
    completed: int = 0
    warning: int = 0
    failed_uids: list[str] = field(default_factory=list)

    def record(self, file: DicomFile, status_class: StatusClass) -> None:
        """One sub-operation is over."""
        self.remaining -= 1
        if status_class is StatusClass.SUCCESS:
            self.completed += 1
        elif status_class is StatusClass.WARNING:
            self.warning += 1
        else:
            self.failed_uids.append(file.sop_instance_uid)

    @property
    def status(self) -> int:
        """The final status; what remains was cancelled."""
        if self.remaining:
            return CANCEL
        if not self.failed_uids and not self.warning:
            return SUCCESS
        if self.completed or self.warning:
            return SUBOPERATIONS_COMPLETE_WITH_FAILURES
        return UNABLE_TO_PERFORM_SUBOPERATIONS

    def counters(self, status: int) -> dict[str, int]:
        """As response fields: what remains is told while something does (PS3.4 C.4.2.1.6)."""
        counters = {
            "number_of_completed_suboperations": min(self.completed, MAX_COUNTER),
            "number_of_failed_suboperations": min(len(self.failed_uids), MAX_COUNTER),
            "number_of_warning_suboperations": min(self.warning, MAX_COUNTER),
        }
        if status in (PENDING, CANCEL):
            counters["number_of_remaining_suboperations"] = min(self.remaining, MAX_COUNTER)
        return counters


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
        self._operation: _Operation | None = None
        self._task: asyncio.Task[None] | None = None

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
        self._operation = _Operation(request, context)
        self._task = asyncio.get_running_loop().create_task(self._perform(self._operation, message.dataset))
        self._tasks.add(self._task)
        self._task.add_done_callback(self._ended)

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
        if self._task is not None:
            self._task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if self._task is task:
            self._task = None
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
        data: bytes | None = None
        response: Response
        try:
            keys = self._keys(operation, dataset)
            if isinstance(request, CMoveRQ):
                response, data = await self._move(operation, request, keys)
            else:
                response = await self._find(operation, keys)
        except DimseError as error:
            response = request.response(
                error.status,
                error_comment=error.error_comment or None,
                offending_element=error.offending_elements or None,
            )
        self._operation = None  # before the peer can know: its next request may come at once
        send_response(self.connection, operation.context.context_id, response, data)

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
        keys = identifier.text_values(identifier.decode(dataset, context.transfer_syntax))
        level = keys.get("QueryRetrieveLevel", "")
        if level not in identifier.LEVELS[model]:
            why = f"the {model} model has no level {level[:16]!r}"
            raise DimseError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, why, (QUERY_RETRIEVE_LEVEL,))
        unique = keys.get(identifier.UNIQUE_KEYS[level], "")
        if isinstance(request, CMoveRQ) and (not unique or set(unique) & set("*?")):
            why = f"a retrieve needs values of {identifier.UNIQUE_KEYS[level]}"
            raise DimseError(IDENTIFIER_DOES_NOT_MATCH_SOP_CLASS, why)
        return keys

    async def _find(self, operation: _Operation, keys: dict[str, str]) -> Response:
        context, level = operation.context, keys["QueryRetrieveLevel"]
        status = PENDING if self._archive.supports(keys) else PENDING_WITH_WARNING
        pending = operation.request.response(status, has_dataset=True)
        ours = {"QueryRetrieveLevel": level, "RetrieveAETitle": self._options.ae_title}
        matches, final = 0, SUCCESS
        for match in self._archive.find(keys):
            if operation.cancelled:
                final = CANCEL
                break
            matches += 1
            found = identifier.encode(identifier.from_text({**match, **ours}), context.transfer_syntax)
            send_response(self.connection, context.context_id, pending, found)
            await self._sent()
        self._notify(QueryAnswered(self.connection.number, level, final, matches))
        return operation.request.response(final)

    async def _sent(self) -> None:
        """Wait until the socket has taken what we wrote, and at least until a C-CANCEL could have been read."""
        await asyncio.sleep(0)
        if not self.connection.writable:
            with suppress(TimedOut):  # it is cut, and `closed` ends the operation
                await self.connection.drained()

    async def _move(
        self, operation: _Operation, request: CMoveRQ, keys: dict[str, str]
    ) -> tuple[Response, bytes | None]:
        """The final response, and the Failed SOP Instance UID List that goes with it."""
        title = request.move_destination or ""
        destination = self._options.move_destinations.get(title)
        if destination is None:
            raise DimseError(MOVE_DESTINATION_UNKNOWN, f"move destination {title[:16]!r} is unknown")
        files = self._archive.instances(keys)
        suboperations = _SubOperations(len(files))
        why = await self._send(operation, destination, files, suboperations) if files else ""
        status = suboperations.status
        counters = suboperations.counters(status)
        self._notify(
            MoveAnswered(
                self.connection.number,
                title,
                status,
                suboperations.remaining,
                suboperations.completed,
                len(suboperations.failed_uids),
                suboperations.warning,
            )
        )
        data: bytes | None = None
        if suboperations.failed_uids:
            failed = {"FailedSOPInstanceUIDList": "\\".join(suboperations.failed_uids)}
            data = identifier.encode(identifier.from_text(failed), operation.context.transfer_syntax)
        comment = why[:ERROR_COMMENT_CHARS] if status != SUCCESS else ""
        return request.response(status, has_dataset=data is not None, error_comment=comment or None, **counters), data

    async def _send(
        self, operation: _Operation, to: PeerAddress, files: Sequence[DicomFile], suboperations: _SubOperations
    ) -> str:
        """Perform the sub-operations over one association; why those failed that did, if it is known."""
        connection, options, request = self.connection, self._options, operation.request
        originator = connection.calling_ae_title, request.message_id
        why = ""
        try:
            proposal = propose(
                options.ae_title, to.ae_title, _contexts(files), max_pdu_length=options.limits.max_pdu_length
            )
            async with associate(to, proposal, options.limits, connection.notify) as association:
                scu = StorageSCU(association)  # observers are told of the whole: MoveAnswered
                for number, file in enumerate(files, 1):
                    if operation.cancelled:
                        return why
                    try:
                        status_class, name = describe(await scu.store(file, originator), "C-STORE")
                    except (NoAcceptedContext, OSError) as error:
                        status_class, name = StatusClass.FAILURE, str(error)
                    suboperations.record(file, status_class)
                    if status_class is not StatusClass.SUCCESS:
                        why = name
                    if number % options.suboperations_per_response == 0:
                        pending = request.response(PENDING, **suboperations.counters(PENDING))
                        send_response(connection, operation.context.context_id, pending)
                        await self._sent()
        except (AssociationError, ProtocolError, ConfigurationError, EOFError) as error:
            if not suboperations.remaining:  # a release that goes wrong changes nothing
                return why
            why = str(error)
            connection.misbehaved("move.destination_lost", f"{to}: {why}")
        if not operation.cancelled:
            for file in files[len(files) - suboperations.remaining :]:
                suboperations.record(file, StatusClass.FAILURE)
        return why


def _contexts(files: Sequence[DicomFile]) -> tuple[ProposedContext, ...]:
    """A context for each SOP class and transfer syntax; what does not fit in fails as not accepted."""
    pairs = {(file.sop_class_uid, file.transfer_syntax_uid): file for file in files}
    return storage_contexts(list(pairs.values())[:MAX_PRESENTATION_CONTEXTS])
