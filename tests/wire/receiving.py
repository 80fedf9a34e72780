"""Drives the compiled receiver in pieces, and puts its events into the words of the reference."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from fastmove._codec import CommandReceived, DatasetComplete, PduReceiver
from fastmove._sink import MemorySink
from fastmove.types import ControlPdu, InvalidPdu, UnexpectedData
from tests.wire.reference import Command, Control, Dataset, Event, Invalid, Unexpected

SINK_BYTES = 1 << 26


class Receiving:
    """A compiled receiver whose data sets go to memory."""

    def __init__(
        self, *, max_pdu_length: int, accepted: Collection[int], data_allowed: bool = True, window: int = 4096
    ) -> None:
        self._receiver = PduReceiver(window=window, max_pdu_length=max_pdu_length)
        self._receiver.accept(accepted)
        self._receiver.allow_data(data_allowed)
        self._sink: MemorySink | None = None
        self.events: list[Event] = []

    def feed(self, data: bytes) -> None:
        """These bytes arrive, in as many reads as the window needs."""
        while data:
            buffer = self._receiver.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            self._receiver.advance(count)
            data = data[count:]
            while (event := self._receiver.next_event()) is not None:
                self._take(event)

    def feed_all(self, pieces: Iterable[bytes]) -> list[Event]:
        """Everything that these pieces say."""
        for piece in pieces:
            self.feed(piece)
        return self.events

    def _take(self, event: object) -> None:
        match event:
            case ControlPdu():
                self.events.append(Control(event.pdu_type, event.data))
            case CommandReceived():
                self.events.append(Command(event.pc_id, event.data))
                if event.has_dataset:
                    self._sink = MemorySink(SINK_BYTES)
                    self._receiver.attach(self._sink)
            case DatasetComplete():
                assert self._sink is not None
                data = self._sink.getvalue()
                assert event.nbytes == len(data)
                self.events.append(Dataset(event.pc_id, data))
            case InvalidPdu():
                self.events.append(Invalid(event.reason, event.offset))
            case UnexpectedData():
                self.events.append(Unexpected(event.offset))
            case _:
                raise AssertionError(f"unknown event {event!r}")
