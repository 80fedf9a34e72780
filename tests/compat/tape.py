"""What a program under test said on the wire, as facts that can be compared: name → value."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final

from tests.integration import raw
from tests.integration.scripted import Link, Reply, read_items

SILENCE_S: Final = 60.0  # longer than any scenario may last: a program that says nothing is ended by the harness
CLOSED: Final = 0

MESSAGES: Final = {
    0x0021: "C-MOVE-RQ",
    0x0FFF: "C-CANCEL-RQ",
    0x8001: "C-STORE-RSP",
    0x8030: "C-ECHO-RSP",
}
NAMED_BY_EACH: Final = {0x52: "implementation class UID", 0x55: "implementation version name"}

Facts = dict[str, str | bytes]


class Tape:
    """The facts of one run, in the order in which each association brought them."""

    def __init__(self) -> None:
        self.facts: Facts = {}
        self._count: Counter[str] = Counter()

    def write(self, where: str, what: str, facts: Facts | None = None) -> None:
        """Take note of the next thing that happened there."""
        self._count[where] += 1
        name = f"{where} {self._count[where]}"
        self.facts[name] = what
        self.facts |= {f"{name} {what} {key}": value for key, value in (facts or {}).items()}


class Channel:
    """One association as the scripted side sees it; everything heard goes to the tape."""

    def __init__(self, name: str, link: Link, tape: Tape) -> None:
        self.name = name
        self.link = link
        self.tape = tape
        self.open = True
        self.accepted: dict[int, tuple[int, str]] = {}
        """Of the last A-ASSOCIATE-AC heard: result and transfer syntax by context ID."""
        self.proposed: dict[int, tuple[str, tuple[str, ...]]] = {}
        """Of the last A-ASSOCIATE-RQ heard: abstract and transfer syntaxes by context ID."""
        self.called = self.calling = b""
        self.request: Reply | None = None
        """The last request heard; C-CANCEL is none that could be answered."""

    async def send(self, data: bytes) -> None:
        """Send bytes; a connection that the other side has ended is noted instead."""
        try:
            await self.link.send(data)
        except ConnectionError:
            self._closed()

    async def hear(self) -> int:
        """The next thing that the other side does: the PDU type or the command field, CLOSED for the end."""
        fragments: dict[int, bytes] = {raw.COMMAND: b"", 0: b""}
        lengths: list[str] = []
        while True:
            try:
                pdu = await self.link.read_pdu(SILENCE_S)
            except (EOFError, ConnectionError):
                return self._closed()
            if pdu.pdu_type != raw.P_DATA:
                return self._control(pdu.pdu_type, pdu.data)
            for context_id, control, data in pdvs(pdu.data):
                fragments[control & raw.COMMAND] += data
                lengths.append(f"{control}:{len(data)}")
                command = raw.decode_command(fragments[raw.COMMAND]) if control & raw.LAST else {}
                if control == raw.LAST or command.get(raw.DATA_SET_TYPE) == raw.us(raw.NO_DATA_SET):
                    return self._message(Reply(context_id, command, fragments[0]), lengths)

    def close(self) -> None:
        """End the connection by FIN."""
        self.open = False
        self.link.close()

    def _closed(self) -> int:
        self.tape.write(self.name, "closed")
        self.close()
        return CLOSED

    def _control(self, pdu_type: int, data: bytes) -> int:
        facts: Facts = {}
        if pdu_type in (raw.ASSOCIATE_RQ, raw.ASSOCIATE_AC):
            facts = self._associate(data)
        elif pdu_type in (raw.ABORT, raw.ASSOCIATE_RJ):
            facts = {"fields": data[1:].hex(" ")}
        self.tape.write(self.name, raw.PDU_NAME.get(pdu_type, f"PDU {pdu_type:02x}"), facts)
        if pdu_type in (raw.ABORT, raw.ASSOCIATE_RJ, raw.RELEASE_RP):
            self.close()
        return pdu_type

    def _associate(self, data: bytes) -> Facts:
        items = read_items(data[68:])
        self.called, self.calling = data[4:20], data[20:36]
        facts: Facts = {"version": data[:2].hex(), "called": self.called, "calling": self.calling}
        facts["items"] = " ".join(f"{kind:02x}" for kind, _ in items)
        for kind, body in items:
            if kind in (0x20, 0x21):
                syntaxes = tuple(value.decode() for _, value in read_items(body[4:]))
                if kind == 0x20:
                    self.proposed[body[0]] = syntaxes[0] if syntaxes else "", syntaxes[1:]
                else:
                    self.accepted[body[0]] = body[2], syntaxes[0] if syntaxes else ""
                result = f"result {body[2]} " if kind == 0x21 else ""
                facts[f"context {body[0]}"] = result + " ".join(syntaxes)
            elif kind == 0x50:
                for sub, value in read_items(body):
                    facts[f"user item {sub:02x}"] = NAMED_BY_EACH.get(sub, value)
            else:
                facts[f"item {kind:02x}"] = body
        return facts

    def _message(self, message: Reply, lengths: list[str]) -> int:
        field = int.from_bytes(message.fields[raw.COMMAND_FIELD], "little")
        if raw.MESSAGE_ID in message.fields:
            self.request = message
        facts: Facts = {f"(0000,{tag:04x})": value for tag, value in message.fields.items()}
        facts |= {"context": str(message.context_id), "pdvs": " ".join(lengths)}
        if message.fields[raw.DATA_SET_TYPE] != raw.us(raw.NO_DATA_SET):
            facts["data set"] = message.dataset
        self.tape.write(self.name, MESSAGES.get(field, f"command {field:04x}"), facts)
        return field


def pdvs(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Context ID, message control header and bytes of each PDV of a P-DATA-TF (PS3.8 9.3.5)."""
    offset = 0
    while offset < len(data):
        length, context_id, control = struct.unpack_from(">IBB", data, offset)
        yield context_id, control, data[offset + 6 : offset + 4 + length]
        offset += 4 + length
