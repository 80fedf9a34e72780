"""A whole stream to the Upper Layer, in any state, in any role, cut anywhere (PS3.8 9.2, 9.3).

The first byte chooses the state and what the local user does, the second how the stream is cut. Either the bare
receiver has to say what the slow reference says, or the receiver together with the state machine what it says of the
same stream in one piece. What could be decoded says the same when it has been encoded and decoded again.
"""

from __future__ import annotations

from typing import Any, Final

from fastmove._codec import CommandReceived, DatasetComplete, PduReceiver, SinkFailed
from fastmove._sink import MemorySink
from fastmove.errors import RemoteProtocolError
from fastmove.types import ControlPdu, InvalidPdu, UnexpectedData
from fastmove.ul import association, items, pdu
from fastmove.ul.association import (
    AssociateIndication,
    AssociateResponse,
    Association,
    ReleaseIndication,
    ReleaseResponse,
)
from fastmove.ul.states import State
from tests.fuzz.streams import WINDOW, arrive, cut
from tests.unit.associations import AC, IN_STATE, accepting_in_sta6
from tests.wire.reference import Command, Control, Dataset, Event, Invalid, Unexpected, events

MAX_PDU_LENGTH: Final = 2048
ACCEPTED: Final = (1, 3)
MAX_OUTBOUND: Final = 1024
"""What one association may want to send, whatever came: an answer, and an A-ABORT."""

STATES: Final = (
    *(make() for state, make in IN_STATE.items() if state not in (State.STA1, State.STA4)),  # no connection, no bytes
    accepting_in_sta6(),
)
NO_DATA, FULL, ANSWERS = 0x80, 0x40, 0x20
"""Bits of the first byte: no data are allowed; the sink soon is full; the local user answers."""

INSTRUMENTED: Final = (association, items, pdu)


def thorough(data: bytes) -> None:
    """Receiver, state machine and reference agree, whatever the pieces."""
    if len(data) < 2:
        return
    first, how, stream = data[0], data[1], data[2:]
    told = bare(first, stream, how)
    expected = comparable(
        events(stream, max_pdu_length=MAX_PDU_LENGTH, accepted=ACCEPTED, data_allowed=not first & NO_DATA)
    )
    assert told == expected, f"{told} instead of {expected}"
    whole, cut_up = End(first), End(first)
    whole.feed(stream, 0)
    cut_up.feed(stream, how)
    assert cut_up.told == whole.told, f"{cut_up.told} instead of {whole.told}"
    assert cut_up.state() == whole.state(), f"{cut_up.state()} instead of {whole.state()}"


def made(first: int) -> PduReceiver:
    """A receiver of an association with two contexts."""
    receiver = PduReceiver(window=WINDOW, max_pdu_length=MAX_PDU_LENGTH)
    receiver.accept(ACCEPTED)
    receiver.allow_data(not first & NO_DATA)
    return receiver


def bare(first: int, stream: bytes, how: int) -> list[object]:
    """The events of the receiver alone, in the words of the reference."""
    receiver = made(first)
    told: list[object] = []
    sink = MemorySink(0)

    def take(event: object) -> None:
        nonlocal sink
        match event:
            case CommandReceived():
                told.append(Command(event.pc_id, event.data))
                if event.has_dataset:
                    sink = MemorySink(1 << 20)
                    receiver.attach(sink)
            case DatasetComplete():
                told.append(Dataset(event.pc_id, sink.getvalue()))
            case ControlPdu():
                told.append(Control(event.pdu_type, event.data))
            case UnexpectedData():
                told.append(Unexpected(event.offset))
            case InvalidPdu():
                told.append(Invalid(event.reason, event.offset))
            case _:
                raise AssertionError(f"unknown event {event!r}")

    arrive(receiver, stream, how, take)
    return comparable(told)


def comparable(told: list[Any]) -> list[Event | str]:
    """Without the place where a command became too long: that is where a read ended."""
    return [
        event.reason if isinstance(event, Invalid) and event.reason == "dimse.cmd_too_long" else event for event in told
    ]


class End:
    """One end of an association, and all that can be seen of it."""

    def __init__(self, first: int) -> None:
        self.association = again(STATES[(first & 0x1F) % len(STATES)])
        self.answers = first & ANSWERS
        self.limit = 40 if first & FULL else 1 << 20
        self.sink = MemorySink(self.limit)
        self.told: list[object] = []
        self.receiver = made(first)
        self.receiver.allow_data(self.association.data_allowed)

    def feed(self, stream: bytes, how: int) -> None:
        """All of the stream arrives."""
        arrive(self.receiver, stream, how, self.take)

    def take(self, event: object) -> None:
        """As the connection does: messages to the user, all else to the state machine."""
        match event:
            case CommandReceived():
                self.told.append((event.pc_id, event.data, event.has_dataset))
                if event.has_dataset:
                    self.sink = MemorySink(self.limit)
                    self.receiver.attach(self.sink)
            case DatasetComplete():
                # A full sink has taken whole fragments only, and how long those were is a matter of the cuts.
                full = self.sink.nbytes < event.nbytes
                self.told.append((event.pc_id, event.nbytes, full or self.sink.getvalue()))
            case SinkFailed():
                self.told.append(event.error_number)
            case ControlPdu():
                round_trip(event)
                self.drive(event)
            case InvalidPdu(reason="dimse.cmd_too_long"):
                self.drive(InvalidPdu(event.reason))  # where is a matter of the cuts
            case InvalidPdu() | UnexpectedData():
                self.drive(event)
            case _:
                raise AssertionError(f"unknown event {event!r}")
        assert len(self.association.outbound) <= MAX_OUTBOUND

    def drive(self, event: ControlPdu | InvalidPdu | UnexpectedData) -> None:
        """The state machine takes it, and the user may answer."""
        association = self.association
        for indication in association.receive(event):
            self.told.append(indication)
            if self.answers and type(indication) is AssociateIndication:
                association.send(AssociateResponse(AC))
            elif self.answers and type(indication) is ReleaseIndication and association.state is not State.STA10:
                association.send(ReleaseResponse())
        self.receiver.allow_data(association.data_allowed)

    def state(self) -> tuple[object, ...]:
        """What the shell would do now."""
        one = self.association
        return one.state, bytes(one.outbound), one.artim_running, one.wants_close, self.receiver.received


def again(one: Association) -> Association:
    """Another association in the same state."""
    other = Association.__new__(Association)
    vars(other).update(vars(one))
    other.outbound = bytearray()
    other._events = []
    return other


def round_trip(received: ControlPdu) -> None:
    """What was decoded, less what is no part of it, is encoded to something that says the same."""
    try:
        encoded = pdu.decode(received.pdu_type, received.data).encode()
    except RemoteProtocolError:
        return
    again_encoded = pdu.decode(encoded[0], encoded[6:]).encode()
    assert again_encoded == encoded, f"{received.data.hex()} becomes {encoded.hex()}, then {again_encoded.hex()}"


def same_pieces(data: bytes) -> None:
    """The quick oracle cuts as the thorough one does."""
    stream, how = data[2:], data[1] if len(data) > 1 else 0
    assert quick_oracles.pieces(len(stream), how) == [len(piece) for piece in cut(stream, how) if piece]
    thorough(data)


if __name__ == "__main__":
    import quick_oracles

    from tests.fuzz.engine import run

    run(quick_oracles.pdu, same_pieces, INSTRUMENTED)
