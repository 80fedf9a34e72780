"""Whole messages, for those who await them instead of streaming: every service but storage."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import NamedTuple

from fastmove._codec import CommandReceived, DatasetComplete, SinkFailed
from fastmove._sink import MemorySink
from fastmove.errors import AssociationError, ConnectionLost, TimedOut
from fastmove.net.connection import Connection

MAX_WAITING = 64
"""Messages kept for a slow reader before the socket is left unread."""


class Received(NamedTuple):
    """A whole message: its command set, and its data set if it has one."""

    command: CommandReceived
    dataset: bytes | None


class WholeMessages:
    """A service that gathers command set and data set, and then calls `message_received`."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._command: CommandReceived | None = None
        self._sink: MemorySink | None = None

    def command_received(self, event: CommandReceived) -> None:
        """Keep the command until its data set is there."""
        if not event.has_dataset:
            self.message_received(Received(event, None))
            return
        self._command = event
        self._sink = MemorySink(self.connection.limits.max_identifier_bytes)
        self.connection.attach(self._sink)

    def sink_failed(self, event: SinkFailed) -> None:
        """An identifier beyond all bounds: no answer could be right."""
        self._sink = None
        self.connection.misbehaved("dimse.identifier_too_long")
        self.connection.abort("identifier too long")

    def dataset_complete(self, event: DatasetComplete) -> None:
        """The message is whole."""
        command, sink = self._command, self._sink
        self._command = self._sink = None
        if command is not None and sink is not None:
            self.message_received(Received(command, sink.getvalue()))

    def message_received(self, message: Received) -> None:
        """What to do with a message."""
        raise NotImplementedError

    def closed(self) -> None:
        """The association is over."""
        self._command = self._sink = None


class Mailbox(WholeMessages):
    """Messages in a queue, one reader."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection)
        self._messages: deque[Received] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._over: AssociationError | None = None
        self._full = False

    def message_received(self, message: Received) -> None:
        """Keep it, wake the reader."""
        self._messages.append(message)
        if len(self._messages) >= MAX_WAITING and not self._full:
            self._full = True
            self.connection.suspend()
        self._wake()

    @property
    def waiting(self) -> bool:
        """True if a message has come that nobody has read."""
        return bool(self._messages)

    @property
    def over(self) -> AssociationError | None:
        """Why no message comes any more; None while some may."""
        return self._over

    def close(self, error: AssociationError) -> None:
        """No message comes any more, for this reason."""
        if self._over is None:
            self._over = error
        self._wake()

    def closed(self) -> None:
        """The association is over."""
        super().closed()
        self.close(ConnectionLost("the association is over"))

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def receive(self, timeout_s: float | None, timer: str = "response_s") -> Received:
        """The next message; TimedOut, or the AssociationError that ended the association."""
        while not self._messages:
            if self._over is not None:
                raise self._over
            self._reader = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(timeout_s):
                    await self._reader
            except TimeoutError:
                raise TimedOut(timer, timeout_s or 0.0) from None
            finally:
                self._reader = None
        message = self._messages.popleft()
        if self._full and len(self._messages) < MAX_WAITING // 2:
            self._full = False
            self.connection.resume()
        return message
