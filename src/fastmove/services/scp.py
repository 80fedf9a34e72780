"""What every SCP but storage shares: whole messages in, responses out; and the answer to all other commands."""

from __future__ import annotations

from fastmove._codec import CommandReceived, DatasetComplete, SinkFailed
from fastmove.dimse.messages import CCancelRQ, Message, Request, Response, UnknownCommand, decode
from fastmove.dimse.status import UNRECOGNIZED_OPERATION
from fastmove.errors import RemoteProtocolError
from fastmove.net.connection import Connection


def send_response(connection: Connection, context_id: int, response: Response, identifier: bytes | None = None) -> None:
    """Send a response, unless the association has ended meanwhile."""
    if connection.association.may_send_data:
        connection.write(connection.writer.message(context_id, response.encode(), identifier))


class CommandSCP:
    """Answers commands whose data set, if one comes, does not matter: it is drained first."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._event: CommandReceived | None = None

    def command_received(self, event: CommandReceived) -> None:
        """A command set; without a sink its data set is drained."""
        self._event = event
        if not event.has_dataset:
            self._answer(event)

    def sink_failed(self, event: SinkFailed) -> None:
        """There is no sink."""

    def dataset_complete(self, event: DatasetComplete) -> None:
        """Now the peer listens."""
        if self._event is not None:
            self._answer(self._event)

    def closed(self) -> None:
        """The association is over."""
        self._event = None

    def _answer(self, event: CommandReceived) -> None:
        self._event = None
        try:
            response = self.respond(decode(event.data))
        except RemoteProtocolError as error:
            self.connection.misbehaved(error.key, error.detail)
            self.connection.abort(error.key)
            return
        if response is not None:
            send_response(self.connection, event.pc_id, response)

    def respond(self, message: Message) -> Response | None:
        """The answer, None for none; RemoteProtocolError aborts."""
        raise NotImplementedError


class UnsupportedOperations(CommandSCP):
    """Everything that no service answers: requests get 0211 (unrecognized operation, PS3.7 C.5.8)."""

    def respond(self, message: Message) -> Response | None:
        """0211 to a request; nothing to C-CANCEL; an abort for responses that nobody asked for."""
        if isinstance(message, UnknownCommand):
            self.connection.misbehaved("dimse.unknown_op", f"command field {message.command_field:04X}H")
            return message.response(UNRECOGNIZED_OPERATION)
        if isinstance(message, Request):
            self.connection.misbehaved("dimse.not_supported", type(message).__name__)
            return message.response(UNRECOGNIZED_OPERATION)
        if isinstance(message, CCancelRQ):
            self.connection.misbehaved("dimse.cancel_ignored")
            return None
        raise RemoteProtocolError("dimse.unexpected_rsp", f"command field {message.command_field:#06x}")
