"""DCMTK's movescu against a peer that answers one association as it is told: what it printed, and what it sent."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.integration import raw

JUDGE: Final = "/usr/bin/movescu"
KEYS: Final = ("-S", "-k", "0008,0052=STUDY", "-k", "0020,000D=1.2.3")
WAIT_S: Final = 10.0
BOTH: Final = [raw.context_ac(number, 0, raw.EXPLICIT_LE) for number in (1, 3)]
ACCEPT: Final = raw.associate_ac(BOTH, called="ANY-SCP", calling="MOVESCU")


class Wire:
    """A connection to the judge that keeps what came, PDU by PDU: type and bytes after the header."""

    def __init__(self, sock: socket.socket) -> None:
        sock.settimeout(WAIT_S)
        self.sock = sock
        self.received: list[tuple[int, bytes]] = []
        self._stream = sock.makefile("rb")

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def read(self) -> int:
        """The type of the next PDU; 0 at the end."""
        with suppress(ConnectionError):
            header = self._stream.read(6)
            if len(header) == 6:
                self.received.append((header[0], self._stream.read(int.from_bytes(header[2:], "big"))))
                return header[0]
        return 0

    def read_message(self) -> None:
        """Up to the last fragment of a data set."""
        while self.read() == raw.P_DATA and self.received[-1][1][5] != raw.LAST:
            pass

    def close(self) -> None:
        self._stream.close()
        self.sock.close()


Script = Callable[[Wire], object]


@dataclass
class Heard:
    """What the judge printed and sent."""

    wire: list[tuple[int, bytes]] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    def at(self, letters: str) -> list[str]:
        """The lines of these levels."""
        return [line for line in self.lines if line[0] in letters]


def hear(answer: bytes, script: Script | None = None, *options: str, program: Sequence[str] = (JUDGE,)) -> Heard:
    """Run the judge against a peer that answers its A-ASSOCIATE-RQ so, and its C-MOVE-RQ by the script."""
    heard = Heard()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        serving = threading.Thread(target=_serve, args=(server, answer, script, heard))
        serving.start()
        command = [*program, *options, "127.0.0.1", str(server.getsockname()[1]), *KEYS]
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S, check=False)
        serving.join(WAIT_S)
    heard.lines = done.stderr.decode().splitlines()
    return heard


def _serve(server: socket.socket, answer: bytes, script: Script | None, heard: Heard) -> None:
    wire = Wire(server.accept()[0])
    heard.wire = wire.received
    try:
        wire.read()
        wire.send(answer)
        if script is not None:
            wire.read_message()
            script(wire)
        while (pdu_type := wire.read()) not in (0, raw.ABORT):
            if pdu_type == raw.RELEASE_RQ:
                wire.send(raw.release_rp())
    finally:
        wire.close()


def sends(*data: bytes) -> Script:
    return lambda wire: [wire.send(each) for each in data]


def c_move_rsp(status: int, **options: object) -> bytes:
    return raw.message(3, raw.c_move_rsp(1, status, **options))  # type: ignore[arg-type]


def of_level(letter: str, text: str) -> list[str]:
    return [f"{letter}: {line}" for line in text.split("\n")]


STATUSES: Final = (
    *(0x0000, 0xFE00, 0xB000, 0xA701, 0xA702, 0xA801, 0xA900, 0xA9FF, 0x0122, 0xC000, 0xC123, 0x0124, 0x0001, 0xFF01),
    *(0xA700, 0x0110, 0x0211, 0xB006),
)
"""Of a final C-MOVE-RSP: those that DCMTK has words for, and others."""
