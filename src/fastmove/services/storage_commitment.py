"""Storage Commitment Push Model, SCU: whether a PACS answers for what it was sent (PS3.4 J.3, PS3.7 10.1).

A request is an N-ACTION.  Its report is an N-EVENT-REPORT, which comes when it comes: over the same association, or
over another one that the PACS opens to a listener of ours.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from fastmove.dimse import commitment
from fastmove.dimse.commitment import EVENT_TYPES, REQUEST_STORAGE_COMMITMENT, Information, Reference
from fastmove.dimse.messages import NActionRQ, NActionRSP, NEventReportRQ, Response, decode
from fastmove.dimse.status import (
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_EVENT_TYPE,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    SUCCESS,
    StatusClass,
    describe,
)
from fastmove.errors import CommitmentOverdue, DimseError, FastmoveError, RemoteProtocolError, TimedOut
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor, serve
from fastmove.net.connection import Connection
from fastmove.net.mailbox import Received, WholeMessages
from fastmove.net.requestor import AssociationHandle
from fastmove.net.service import OTHER_COMMANDS, Service
from fastmove.notices import CommitmentReported, Observer
from fastmove.services.listener import C_ECHO_RQ
from fastmove.services.query_scu import IDENTIFIER_TRANSFER_SYNTAXES
from fastmove.services.scp import UnsupportedOperations, send_response
from fastmove.services.verification import VerificationSCP
from fastmove.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from fastmove.ul.negotiation import AcceptPolicy, contexts_for
from fastmove.values import Value

if TYPE_CHECKING:
    from fastmove.credentials import TlsSettings

CONTEXTS: Final = contexts_for([STORAGE_COMMITMENT], IDENTIFIER_TRANSFER_SYNTAXES)
"""What is proposed for storage commitment, by either side."""

N_EVENT_REPORT_RQ: Final = 0x0100

MAX_REPORTED: Final = 10_000
"""Transactions whose reports have come, and may come again: of more the oldest are forgotten."""


class Commitment(Value):
    """What a PACS says of one request, by SOP Instance UID: whatever is not `committed` it does not answer for."""

    transaction_uid: str
    committed: frozenset[str]
    failed: Mapping[str, int] = {}
    """Why it does not: Failure Reason (PS3.3 C.14.1.1), 0 if there is none."""

    missing: frozenset[str] = frozenset()
    """It was asked for them, and says nothing of them."""

    @property
    def uncommitted(self) -> dict[str, str]:
        """All that it does not answer for, and why in words."""
        missing = dict.fromkeys(sorted(self.missing), "not in the report")
        return {uid: commitment.reason(number) for uid, number in self.failed.items()} | missing


@dataclass(slots=True, eq=False)
class Transaction:
    """A request, and what is to become of it."""

    uid: str
    asked: Mapping[str, str]
    """SOP Instance UID → SOP Class UID."""

    reported: asyncio.Future[Commitment]
    due: float = 0.0
    """When the report is overdue, by the loop's clock."""


# ---------------------------------------------------------------------- reports


class CommitmentReceiver:
    """Takes reports on the requests of this process, over whatever association they come.

    Give it to `listen`, so that the port that takes objects takes them, too; or have a port for it by
    `listen_for_reports`.
    """

    def __init__(self, notify: Observer | None = None) -> None:
        self._notify = notify
        self._awaited: dict[str, Transaction] = {}
        self._reported: dict[str, int] = {}

    def begin(self, asked: Mapping[str, str]) -> Transaction:
        """A new transaction about these: SOP Instance UID → SOP Class UID; `end` it when it is not waited for."""
        reported = asyncio.get_running_loop().create_future()
        transaction = Transaction(f"2.25.{uuid.uuid4().int}", dict(asked), reported)
        self._awaited[transaction.uid] = transaction
        return transaction

    def end(self, transaction: Transaction) -> None:
        """A report that comes now is one on nothing."""
        self._awaited.pop(transaction.uid, None)
        transaction.reported.cancel()

    def accepting(self, policy: AcceptPolicy) -> AcceptPolicy:
        """The same for a listener that takes reports."""
        also = frozenset((STORAGE_COMMITMENT,))
        return policy.replace(
            abstract_syntaxes=policy.abstract_syntaxes | also,
            reported_sop_classes=policy.reported_sop_classes | also,
        )

    def services(self, connection: Connection) -> dict[int, Service]:
        """What takes reports on an association that a peer opened."""
        return {N_EVENT_REPORT_RQ: _Reports(connection, self)}

    def answer(self, connection: Connection, message: Received) -> Response:
        """The response to an N-EVENT-REPORT-RQ; RemoteProtocolError if it is none."""
        request = decode(message.command.data)
        if not isinstance(request, NEventReportRQ):
            raise RemoteProtocolError("dimse.unexpected_rsp", f"command field {request.command_field:04X}H")
        context = connection.contexts[message.command.pc_id]
        status, comment = SUCCESS, None
        try:
            if context.abstract_syntax != STORAGE_COMMITMENT:
                raise DimseError(NO_SUCH_SOP_CLASS, "not the context of storage commitment")
            self._take(connection, request, self._read(request, message.dataset, context.transfer_syntax))
        except DimseError as error:
            status, comment = error.status, error.error_comment
            connection.misbehaved("commit.refused", f"{status:04X}H {comment}")
        return request.response(status, event_type_id=request.event_type_id, error_comment=comment)

    def _read(self, request: NEventReportRQ, dataset: bytes | None, transfer_syntax: str) -> Information:
        wrong = (
            (request.affected_sop_class_uid != STORAGE_COMMITMENT, NO_SUCH_SOP_CLASS, "not of storage commitment"),
            (
                request.affected_sop_instance_uid != STORAGE_COMMITMENT_INSTANCE,
                NO_SUCH_SOP_INSTANCE,
                "not the well-known SOP Instance",
            ),
            (request.event_type_id not in EVENT_TYPES, NO_SUCH_EVENT_TYPE, f"event type {request.event_type_id}"),
            (dataset is None, INVALID_ARGUMENT_VALUE, "no event information"),
        )
        for holds, status, why in wrong:
            if holds:
                raise DimseError(status, why)
        return commitment.decode(dataset or b"", transfer_syntax, self._most)

    def _most(self, transaction_uid: str) -> int:
        """How many instances a report on it may name."""
        awaited = self._awaited.get(transaction_uid)
        most = self._reported.get(transaction_uid) if awaited is None else len(awaited.asked)
        if most is None:
            # PS3.4 J.3.3 leaves the status to PS3.7 10.1.1.1.8: it is a value of the event information.
            raise DimseError(INVALID_ARGUMENT_VALUE, "unknown transaction")
        return most

    def _take(self, connection: Connection, request: NEventReportRQ, said: Information) -> None:
        transaction = self._awaited.get(said.transaction_uid)
        if transaction is None:
            connection.misbehaved("commit.duplicate")
            return
        asked = transaction.asked
        strangers = sum(
            asked.get(uid) is None or sop_class not in ("", asked[uid])
            for sop_class, uid, _ in (*said.referenced, *said.failed)
        )
        if strangers:
            raise DimseError(INVALID_ARGUMENT_VALUE, f"{strangers:,} instances that were not asked for")
        failed = {each.sop_instance_uid: each.failure_reason for each in said.failed}
        committed = frozenset(each.sop_instance_uid for each in said.referenced) - failed.keys()
        missing = asked.keys() - committed - failed.keys()
        del self._awaited[transaction.uid]
        self._reported[transaction.uid] = len(asked)
        while len(self._reported) > MAX_REPORTED:
            del self._reported[next(iter(self._reported))]
        transaction.reported.set_result(Commitment(transaction.uid, committed, failed, frozenset(missing)))
        if self._notify is not None:
            self._notify(CommitmentReported(transaction.uid, len(committed), len(failed), len(missing)))


class _Reports(WholeMessages):
    """N-EVENT-REPORT of an association that the PACS opened."""

    def __init__(self, connection: Connection, receiver: CommitmentReceiver) -> None:
        super().__init__(connection)
        self._receiver = receiver

    def message_received(self, message: Received) -> None:
        """Answered at once."""
        try:
            if not self.connection.contexts[message.command.pc_id].scp:
                self.connection.misbehaved("commit.role")  # which takes nothing from what it says
            response = self._receiver.answer(self.connection, message)
        except RemoteProtocolError as error:
            self.connection.misbehaved(error.key, error.detail)
            self.connection.abort(error.key)
            return
        send_response(self.connection, message.command.pc_id, response)


@asynccontextmanager
async def listen_for_reports(
    host: str,
    port: int,
    ae_title: str,
    receiver: CommitmentReceiver,
    limits: Limits | None = None,
    notify: Observer | None = None,
    tls: TlsSettings | None = None,
) -> AsyncIterator[Acceptor]:
    """A listener that takes reports, answers C-ECHO and stores nothing, for the length of a block.

    ListenFailed, TlsUnusable.
    """
    limits = limits or Limits()
    policy = AcceptPolicy(ae_title, any_storage_sop_class=False, max_pdu_length=limits.max_pdu_length)

    def services(connection: Connection) -> Mapping[int, Service]:
        return {
            C_ECHO_RQ: VerificationSCP(connection),
            **receiver.services(connection),
            OTHER_COMMANDS: UnsupportedOperations(connection),
        }

    async with await serve(host, port, receiver.accepting(policy), services, limits, notify, tls=tls) as acceptor:
        yield acceptor


# ---------------------------------------------------------------------- requests


class CommitmentSCU:
    """Asks for storage commitment over one established association, for the length of a block.

    Reports are taken over this association, and, if there is a `receiver`, wherever that gets them; without one the end
    of the association is the end of the wait.  Raises NoAcceptedContext.
    """

    def __init__(
        self,
        association: AssociationHandle,
        receiver: CommitmentReceiver | None = None,
        notify: Observer | None = None,
    ) -> None:
        self._association = association
        self._context = association.context(STORAGE_COMMITMENT)
        self._receiver = receiver or CommitmentReceiver(notify)
        self._here_only = receiver is None
        self._transactions: list[Transaction] = []
        self._answers: dict[int, asyncio.Future[NActionRSP]] = {}

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        for transaction in self._transactions:
            self._receiver.end(transaction)
        self._reading.cancel()
        (ended,) = await asyncio.gather(self._reading, return_exceptions=True)
        if isinstance(ended, BaseException) and not isinstance(ended, (asyncio.CancelledError, FastmoveError)):
            raise ended

    async def request(self, asked: Mapping[str, str]) -> Transaction:
        """One N-ACTION about these, SOP Instance UID → SOP Class UID, answered with success (PS3.4 J.3.2).

        DimseError if it is refused, TimedOut (`response_s`), AssociationError, RemoteProtocolError.
        """
        association, context = self._association, self._context
        limits, loop = association.connection.limits, asyncio.get_running_loop()
        transaction = self._receiver.begin(asked)
        self._transactions.append(transaction)
        request = NActionRQ(
            message_id=association.next_message_id(),
            requested_sop_class_uid=STORAGE_COMMITMENT,
            requested_sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
            action_type_id=REQUEST_STORAGE_COMMITMENT,
            has_dataset=True,
        )
        wanted = Information(transaction.uid, tuple(Reference(sop_class, uid) for uid, sop_class in asked.items()))
        answer = self._answers[request.message_id] = loop.create_future()
        association.send(context.context_id, request.encode(), commitment.encode(wanted, context.transfer_syntax))
        await asyncio.wait((answer, self._reading), timeout=limits.response_s, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            self._answers.pop(request.message_id, None)
            if self._reading.done():
                self._reading.result()
            association.abort("no N-ACTION-RSP")
            raise TimedOut("response_s", limits.response_s)
        response = answer.result()
        if response.status is None:
            association.abort("an N-ACTION-RSP without a status")
            raise RemoteProtocolError("dimse.malformed", "N-ACTION-RSP without a status")
        status_class, name = describe(response.status, "N-ACTION")
        if status_class not in (StatusClass.SUCCESS, StatusClass.WARNING):
            raise DimseError(response.status, response.error_comment or name)
        transaction.due = loop.time() + limits.commit_s
        return transaction

    async def requests(self, instances: Mapping[str, str]) -> AsyncGenerator[Transaction, None]:
        """As many as it takes for these, of `commit_instances` each, to have the `result` of one after the other.

        Where reports come over this association alone, the next is made when the one before has its report: some PACS
        cannot take a request while they report.  Raises what `request` does.
        """
        left = _parts(instances, self._association.connection.limits.commit_instances)
        made = [] if self._here_only else [await self.request(part) for part in left]
        for transaction in made:
            yield transaction
        for part in left:
            yield await self.request(part)

    async def result(self, transaction: Transaction) -> Commitment:
        """What is reported on it, or was already.

        CommitmentOverdue if that is not within `commit_s` of the response to the request; without a receiver
        AssociationError and RemoteProtocolError if the association ends before.
        """
        loop, reported = asyncio.get_running_loop(), transaction.reported
        ends = (reported, self._reading) if self._here_only else (reported,)
        left_s = max(0.0, transaction.due - loop.time())
        await asyncio.wait(ends, timeout=left_s, return_when=asyncio.FIRST_COMPLETED)
        if reported.done():
            return reported.result()
        if self._here_only and self._reading.done():
            self._reading.result()
        seconds = self._association.connection.limits.commit_s
        raise CommitmentOverdue(transaction.uid, len(transaction.asked), seconds)

    async def _read(self) -> None:
        connection = self._association.connection
        while True:
            received = await connection.mailbox.receive(None)
            try:
                self._came(received)
            except RemoteProtocolError as error:
                connection.misbehaved(error.key, error.detail)
                connection.abort(error.key)
                raise

    def _came(self, received: Received) -> None:
        if received.command.command_field == N_EVENT_REPORT_RQ:
            connection = self._association.connection
            send_response(connection, received.command.pc_id, self._receiver.answer(connection, received))
            return
        message = decode(received.command.data)
        answer = self._answers.pop(getattr(message, "message_id_being_responded_to", 0), None)
        if not isinstance(message, NActionRSP) or answer is None:
            raise RemoteProtocolError("dimse.unexpected_rsp", f"{type(message).__name__} instead of N-ACTION-RSP")
        if not answer.done():
            answer.set_result(message)


def _parts(instances: Mapping[str, str], most: int) -> Iterator[dict[str, str]]:
    """The same in several, of so many each."""
    rest = iter(instances.items())
    while part := dict(islice(rest, most)):
        yield part


async def commit(
    association: AssociationHandle,
    instances: Mapping[str, str],
    receiver: CommitmentReceiver | None = None,
    notify: Observer | None = None,
) -> list[Commitment]:
    """Ask for the commitment to these, SOP Instance UID → SOP Class UID; what is said of each request.

    Raises CommitmentOverdue, and what `CommitmentSCU` does.
    """
    async with CommitmentSCU(association, receiver, notify) as scu, aclosing(scu.requests(instances)) as transactions:
        return [await scu.result(each) async for each in transactions]
