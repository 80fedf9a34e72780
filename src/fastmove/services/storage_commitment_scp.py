"""Storage Commitment Push Model, SCP: N-ACTION about what an archive holds, and its reports (PS3.4 J.3, PS3.7 10.1)."""

from __future__ import annotations

import asyncio
import itertools
from typing import Final

from fastmove.dimse import commitment
from fastmove.dimse.commitment import REQUEST_STORAGE_COMMITMENT, Information, Reference
from fastmove.dimse.messages import NActionRQ, NEventReportRQ, NEventReportRSP, decode
from fastmove.dimse.status import (
    CLASS_INSTANCE_CONFLICT,
    INVALID_ARGUMENT_VALUE,
    NO_SUCH_ACTION,
    NO_SUCH_SOP_CLASS,
    NO_SUCH_SOP_INSTANCE,
    PROCESSING_FAILURE,
    SUCCESS,
)
from fastmove.errors import AssociationError, DimseError, ProtocolError, RemoteProtocolError
from fastmove.limits import MAX_IDENTIFIER_BYTES
from fastmove.net.connection import Connection
from fastmove.net.mailbox import Received, WholeMessages
from fastmove.net.requestor import MAX_MESSAGE_ID, AssociationHandle, associate
from fastmove.notices import CommitmentAnswered
from fastmove.services.conduct import CommitmentPlan
from fastmove.services.query_retrieve_scp import Archive, QueryRetrieveOptions, UnderWay
from fastmove.services.scp import send_response
from fastmove.services.storage_commitment import CONTEXTS
from fastmove.types import PeerAddress, PresentationContext
from fastmove.uids import STORAGE_COMMITMENT, STORAGE_COMMITMENT_INSTANCE
from fastmove.ul.items import RoleSelection
from fastmove.ul.negotiation import is_uid, propose

N_ACTION_RQ: Final = 0x0130
N_EVENT_REPORT_RSP: Final = 0x8100

_ROLES: Final = (RoleSelection(STORAGE_COMMITMENT, scu_role=False, scp_role=True),)
"""We ask for the association, and are the SCP on it all the same (PS3.4 J.3.3)."""

_MOST: Final = MAX_IDENTIFIER_BYTES // 64
"""Instances of one request: more do not fit into a data set that is taken."""


class StorageCommitmentSCP(WholeMessages):
    """N-ACTION of one association.

    Reports go to the address that `move_destinations` of the options has for the calling AE title; a request of a
    stranger is refused.
    """

    def __init__(
        self, connection: Connection, archive: Archive, options: QueryRetrieveOptions, under_way: UnderWay
    ) -> None:
        super().__init__(connection)
        self._archive = archive
        self._options = options
        self._operations = under_way.operations
        self._message_ids = itertools.cycle(range(1, MAX_MESSAGE_ID + 1))
        self._reported: dict[int, Information] = {}
        """By Message ID, those on this association that have not been answered."""

    def message_received(self, message: Received) -> None:
        """Answer a request, and begin to report on it; take note of what is said to a report on this association."""
        connection = self.connection
        try:
            received = decode(message.command.data)
            if isinstance(received, NEventReportRSP):
                self._answered(received)
            elif isinstance(received, NActionRQ):
                self._asked(received, message.dataset, connection.contexts[message.command.pc_id])
            else:
                raise RemoteProtocolError("dimse.malformed", "neither N-ACTION-RQ nor N-EVENT-REPORT-RSP")
        except RemoteProtocolError as error:
            connection.misbehaved(error.key, error.detail)
            connection.abort(error.key)

    def closed(self) -> None:
        """The association is over; reports over others go on."""
        super().closed()
        self._reported.clear()

    def _asked(self, request: NActionRQ, dataset: bytes | None, context: PresentationContext) -> None:
        try:
            asked = _information(request, dataset, context)
            plan = self._options.conduct.commit([each.sop_instance_uid for each in asked.referenced])
            to = self._options.move_destinations.get(self.connection.calling_ae_title)
            if to is None and not plan.same_association:
                raise DimseError(PROCESSING_FAILURE, "no address for reports to the calling AE title")
        except DimseError as error:
            comment = error.error_comment or None
            response = request.response(error.status, error_comment=comment, action_type_id=request.action_type_id)
            send_response(self.connection, context.context_id, response)
            return
        response = request.response(SUCCESS, action_type_id=request.action_type_id)
        send_response(self.connection, context.context_id, response)
        if plan.reports:
            task = asyncio.get_running_loop().create_task(self._report(asked, plan, to, context))
            self._operations.add(task)
            task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._operations.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            context = {"message": "a report on a storage commitment failed", "exception": error, "task": task}
            asyncio.get_running_loop().call_exception_handler(context)

    # ------------------------------------------------------------------ the report

    async def _report(
        self, asked: Information, plan: CommitmentPlan, to: PeerAddress | None, context: PresentationContext
    ) -> None:
        if plan.delay_s:
            await asyncio.sleep(plan.delay_s)
        said = self._judged(asked, plan)
        connection = self.connection
        if plan.same_association and connection.association.may_send_data:
            message_id = next(self._message_ids)
            self._reported[message_id] = said
            data = commitment.encode(said, context.transfer_syntax)
            connection.write(connection.writer.message(context.context_id, _report_on(said, message_id).encode(), data))
        elif to is None:
            connection.misbehaved("commit.unreported", "the association is over, and there is no address")
        else:
            await self._report_to(to, said)

    def _judged(self, asked: Information, plan: CommitmentPlan) -> Information:
        uids = {each.sop_instance_uid for each in asked.referenced if is_uid(each.sop_instance_uid)}
        keys = {"QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": "\\".join(uids)}
        files = self._archive.instances(keys) if uids else ()
        held = {file.sop_instance_uid: file.sop_class_uid for file in files}
        committed: list[Reference] = []
        failed: list[Reference] = []
        for each in asked.referenced:
            if each.sop_instance_uid not in held or each.sop_instance_uid in plan.failing:
                failed.append(each._replace(failure_reason=NO_SUCH_SOP_INSTANCE))
            elif each.sop_class_uid != held[each.sop_instance_uid]:
                failed.append(each._replace(failure_reason=CLASS_INSTANCE_CONFLICT))
            else:
                committed.append(each)
        return Information(asked.transaction_uid, tuple(committed), tuple(failed))

    async def _report_to(self, to: PeerAddress, said: Information) -> None:
        limits, notify = self._options.limits, self.connection.notify
        request = propose(
            self._options.ae_title, to.ae_title, CONTEXTS, max_pdu_length=limits.max_pdu_length, roles=_ROLES
        )
        try:
            async with associate(to, request, limits, notify) as association:
                self._tell(said, await _report_over(association, said))
        except (AssociationError, ProtocolError) as error:
            self.connection.misbehaved("commit.unreported", f"{to}: {error}")

    def _answered(self, response: NEventReportRSP) -> None:
        said = self._reported.pop(response.message_id_being_responded_to, None)
        if said is None:
            raise RemoteProtocolError("dimse.unexpected_rsp", "N-EVENT-REPORT-RSP to nothing")
        self._tell(said, response.status)

    def _tell(self, said: Information, status: int | None) -> None:
        connection = self.connection
        if status != SUCCESS:
            connection.misbehaved("commit.unreported", "no status" if status is None else f"status {status:04X}H")
        if connection.notify is not None:
            counts = len(said.referenced), len(said.failed)
            connection.notify(CommitmentAnswered(connection.number, said.transaction_uid, status or SUCCESS, *counts))


def _information(request: NActionRQ, dataset: bytes | None, context: PresentationContext) -> Information:
    """What is asked for; DimseError if it cannot be."""
    wrong = (
        (request.requested_sop_class_uid != STORAGE_COMMITMENT, NO_SUCH_SOP_CLASS, "not of storage commitment"),
        (context.abstract_syntax != STORAGE_COMMITMENT, NO_SUCH_SOP_CLASS, "not the context of storage commitment"),
        (
            request.requested_sop_instance_uid != STORAGE_COMMITMENT_INSTANCE,
            NO_SUCH_SOP_INSTANCE,
            "not the well-known SOP Instance",
        ),
        (request.action_type_id != REQUEST_STORAGE_COMMITMENT, NO_SUCH_ACTION, f"action {request.action_type_id}"),
        (dataset is None, INVALID_ARGUMENT_VALUE, "no action information"),
    )
    for holds, status, why in wrong:
        if holds:
            raise DimseError(status, why)
    asked = commitment.decode(dataset or b"", context.transfer_syntax, lambda _: _MOST)
    if not asked.referenced or asked.failed:
        raise DimseError(INVALID_ARGUMENT_VALUE, "no instances, or failed ones")
    return asked


def _report_on(said: Information, message_id: int) -> NEventReportRQ:
    return NEventReportRQ(
        message_id=message_id,
        affected_sop_class_uid=STORAGE_COMMITMENT,
        affected_sop_instance_uid=STORAGE_COMMITMENT_INSTANCE,
        event_type_id=said.event_type_id,
        has_dataset=True,
    )


async def _report_over(association: AssociationHandle, said: Information) -> int | None:
    """The status that a report gets; AssociationError, RemoteProtocolError."""
    context = association.context(STORAGE_COMMITMENT)
    if not context.scp:
        raise RemoteProtocolError("ac.context", "we may not be SCP of storage commitment")
    report = _report_on(said, association.next_message_id())
    association.send(context.context_id, report.encode(), commitment.encode(said, context.transfer_syntax))
    response = decode((await association.receive()).command.data)
    if not isinstance(response, NEventReportRSP) or response.message_id_being_responded_to != report.message_id:
        raise RemoteProtocolError("dimse.unexpected_rsp", f"{type(response).__name__} instead of N-EVENT-REPORT-RSP")
    return response.status
