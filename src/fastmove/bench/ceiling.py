"""What this host can do at most, without DICOM: TCP over its loopback, and files on its disk."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import Final, NamedTuple

CHUNK_BYTES: Final = 1 << 20
OBJECT_BYTES: Final = 526_000
"""A CT image of 512 x 512 pixels."""


class Written(NamedTuple):
    """What became of files in some time."""

    files_per_s: float
    bytes_per_s: float


def loopback(seconds: float) -> float:
    """Bytes a second of one TCP connection of this host to itself, a thread on each side."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        sender = socket.create_connection(server.getsockname())
        receiver, _ = server.accept()
    until = time.monotonic() + seconds

    def send() -> None:
        chunk = bytes(CHUNK_BYTES)
        with sender:
            while time.monotonic() < until:
                sender.sendall(chunk)

    thread = threading.Thread(target=send)
    received, window = 0, memoryview(bytearray(CHUNK_BYTES))
    began = time.monotonic()
    thread.start()
    with receiver:
        while count := receiver.recv_into(window):
            received += count
    thread.join()
    return received / (time.monotonic() - began)


def disk(folder: Path, seconds: float, *, durable: bool) -> Written:
    """Files of the size of a CT image, one after the other, synced each if it is to be `durable`; OSError."""
    data = os.urandom(OBJECT_BYTES)
    files, began = 0, time.monotonic()
    with tempfile.TemporaryDirectory(prefix=".fastmove-bench-", dir=folder) as scratch:
        while (now := time.monotonic()) - began < seconds:
            fd = os.open(Path(scratch, str(files % 1000)), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                os.write(fd, data)
                if durable:
                    os.fdatasync(fd)
            finally:
                os.close(fd)
            files += 1
    elapsed = max(now - began, 1e-9)
    return Written(files / elapsed, files * OBJECT_BYTES / elapsed)
