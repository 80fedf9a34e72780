"""What answers the commands of an association."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from fastmove._codec import CommandReceived, DatasetComplete, SinkFailed

OTHER_COMMANDS: Final = -1
"""In a table of services by command field: the service for all others."""


class Service(Protocol):
    """What answers the commands of one association: a service class in one role (PS3.4).

    Called from the middle of a read: whatever takes time suspends the connection first.
    """

    def command_received(self, event: CommandReceived) -> None:
        """A command set; if a data set follows, attach a sink (or leave it to be drained)."""

    def dataset_complete(self, event: DatasetComplete) -> None:
        """The data set of that command is whole."""

    def sink_failed(self, event: SinkFailed) -> None:
        """The sink could not take it; the rest is drained, `dataset_complete` follows."""

    def closed(self) -> None:
        """The association is over; nothing more comes."""


class Watched:
    """A service, and somebody who is told of each request before it is carried out."""

    def __init__(self, service: Service, tell: Callable[[CommandReceived], None]) -> None:
        self._service = service
        self._tell = tell
        self.sink_failed = service.sink_failed
        self.closed = service.closed

    def command_received(self, event: CommandReceived) -> None:
        """It is told at once."""
        self._tell(event)
        self._service.command_received(event)

    def dataset_complete(self, event: DatasetComplete) -> None:
        """Told is what the receiver has carried out by itself so far."""
        if event.request is not None:
            self._tell(event.request)
        self._service.dataset_complete(event)
