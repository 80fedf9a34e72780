"""What movescu says at DEBUG on top: the negotiations, and the messages as they come and go."""

from __future__ import annotations

from typing import ClassVar

from fastmove._codec import CommandReceived
from fastmove.cli.movescu import dumps, messages
from fastmove.cli.movescu.console import Console
from fastmove.cli.movescu.log import DCMNET, MOVESCU, Log
from fastmove.cli.movescu.options import Arguments
from fastmove.cli.movescu.query import Query
from fastmove.dictionary import Dictionary
from fastmove.dimse.messages import CEchoRQ, CMoveRQ, CMoveRSP, CStoreRQ, Message, decode
from fastmove.dimse.move import MoveOutcome
from fastmove.errors import RemoteProtocolError
from fastmove.net.requestor import AssociationHandle
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ


class DebuggingConsole(Console):
    """The log lines of one run, those at DEBUG among them; a `services.listener.Watch`."""

    _debugging: ClassVar = True

    def __init__(self, log: Log, arguments: Arguments, dictionary: Dictionary) -> None:
        super().__init__(log, arguments)
        self._dictionary = dictionary
        self._transfer_syntaxes: dict[int, str] = {}
        self._query: Query | None = None
        self._outgoing: tuple[Message, int] | None = None
        self._final: tuple[int, CMoveRSP, bytes | None] | None = None

    # ------------------------------------------------------------------ the outgoing association

    def requesting(self, request: AAssociateRQ) -> None:
        """With what goes out."""
        self._log.debug(MOVESCU, messages.REQUEST_PARAMETERS + dumps.requested(request))
        super().requesting(request)

    def accepted(self, association: AssociationHandle) -> None:
        """With the answer."""
        connection = association.connection
        if connection.answer is not None:
            received = dumps.received_pdu(AAssociateAC.pdu_type, connection.association.associate_pdu)
            self._log.debug(DCMNET, received)
            negotiated = dumps.negotiated(connection.request, connection.answer)
            self._log.debug(MOVESCU, messages.PARAMETERS_NEGOTIATED + negotiated)
        self._transfer_syntaxes = {number: context.transfer_syntax for number, context in association.contexts.items()}
        super().accepted(association)

    def moving(self, message_id: int, query: Query, dictionary: Dictionary) -> None:
        """It is told with the message."""
        self._query = query

    def message(self, context_id: int, message: Message, identifier: bytes | None) -> None:
        """A C-MOVE-RQ goes out, or a response came."""
        if isinstance(message, CMoveRQ) and self._query is not None:
            self._outgoing = message, context_id
            super().moving(message.message_id, self._query, self._dictionary)
        elif isinstance(message, CMoveRSP):
            if message.status == messages.PENDING:
                super()._progressed()
                self._log.debug(MOVESCU, dumps.message(message, context_id))
            else:
                self._final = context_id, message, identifier

    def _sending(self, message_id: int) -> None:
        super()._sending(message_id)
        if self._outgoing is not None:
            self._log.debug(MOVESCU, dumps.message(*self._outgoing, outgoing=True))

    def _progressed(self) -> None:
        """It has been told with the message."""

    def moved(self, outcome: MoveOutcome) -> None:
        """With the response, and what it brought."""
        super().moved(outcome)
        if self._final is None:
            return
        context_id, response, identifier = self._final
        self._log.debug(MOVESCU, dumps.message(response, context_id))
        if identifier:
            query = Query((), source=identifier, transfer_syntax=self._transfer_syntaxes[context_id])
            self._log.debug(MOVESCU, messages.RESPONSE_IDENTIFIERS + "\n".join(query.dump(self._dictionary)))
        detail = dumps.status_detail(response)
        if detail is not None:
            self._log.debug(MOVESCU, messages.STATUS_DETAIL + detail)

    # ------------------------------------------------------------------ storage associations

    def established(self, request: AAssociateRQ, answer: AAssociateAC, encoded: bytes) -> None:
        """An association, with what was negotiated."""
        log = self._log
        log.debug(DCMNET, dumps.received_pdu(AAssociateRQ.pdu_type, encoded))
        self.limited()
        log.info(MOVESCU, messages.SUB_ASSOCIATION_RECEIVED)
        length = answer.user_information.maximum_length or 0
        log.debug(MOVESCU, messages.SUB_ASSOCIATION_PARAMETERS + dumps.asked(request, length))
        accepted = sum(context.result == 0 for context in answer.presentation_contexts)
        self._acknowledged(request.user_information.maximum_length, accepted)
        log.debug(MOVESCU, dumps.answered(request, answer))

    def _opened(self, max_pdu_length: int | None, contexts: int) -> None:
        """It has been told with what was negotiated."""

    def requested(self, command: CommandReceived) -> None:
        """A request, with the message; of what is none more is said when it is refused."""
        try:
            message = decode(command.data)
        except RemoteProtocolError:
            return
        if isinstance(message, CEchoRQ):
            super()._echoed(message.message_id)
        elif isinstance(message, CStoreRQ):
            super()._requested(message.message_id, message.affected_sop_class_uid or "")
        else:
            return
        self._log.debug(MOVESCU, dumps.message(message, command.pc_id))

    def _echoed(self, message_id: int) -> None:
        """It has been told with the message."""

    def _requested(self, message_id: int, sop_class_uid: str) -> None:
        """It has been told with the message."""
