"""A C-MOVE SCP that keeps the identifiers it is sent, and answers success at once; each run of movescu is one call."""

from __future__ import annotations

import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from tests.integration import raw

JUDGE: Final = ("/usr/bin/movescu",)
WAIT_S: Final = 20.0


@dataclass
class Recording:
    """What came, and how the program ended."""

    identifiers: list[bytes] = field(default_factory=list)
    code: int = 0
    stderr: str = ""

    @property
    def lines(self) -> list[str]:
        """What was printed on standard error, without the header line."""
        return [line for line in self.stderr.splitlines() if not line.startswith("$dcmtk")]


def record(
    arguments: Sequence[str],
    transfer_syntax: str = raw.EXPLICIT_LE,
    *,
    program: Sequence[str] = JUDGE,
    environment: Mapping[str, str] | None = None,
) -> Recording:
    """Run movescu with these arguments, and host and port, against an SCP that accepts this transfer syntax."""
    found = Recording()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(WAIT_S)
        serving = threading.Thread(target=_serve, args=(server, transfer_syntax, found.identifiers))
        serving.start()
        port = str(server.getsockname()[1])
        command = [*program, "127.0.0.1", port, *arguments]
        done = subprocess.run(command, capture_output=True, timeout=WAIT_S, env=dict(environment or {}), check=False)
        with suppress(OSError), socket.create_connection(("127.0.0.1", int(port)), WAIT_S):
            pass  # in place of a program that never came
        serving.join(WAIT_S)
    found.code, found.stderr = done.returncode, done.stderr.decode(errors="surrogateescape")
    return found


def _serve(server: socket.socket, transfer_syntax: str, identifiers: list[bytes]) -> None:
    connection, _ = server.accept()
    with connection, connection.makefile("rb") as stream:
        connection.settimeout(WAIT_S)
        message = bytearray()
        while len(header := stream.read(6)) == 6:
            body = stream.read(int.from_bytes(header[2:], "big"))
            if header[0] == raw.ASSOCIATE_RQ:
                contexts = [raw.context_ac(number, 0, transfer_syntax) for number in (1, 3)]
                connection.sendall(raw.associate_ac(contexts))
            elif header[0] == raw.RELEASE_RQ:
                connection.sendall(raw.release_rp())
            elif header[0] != raw.P_DATA:
                return
            elif not body[5] & raw.COMMAND:
                message += body[6:]
                if body[5] & raw.LAST:
                    identifiers.append(bytes(message))
                    message.clear()
                    command = raw.c_move_rsp(len(identifiers), 0, (None, None, None, None), {})
                    connection.sendall(raw.message(3, command, None))
