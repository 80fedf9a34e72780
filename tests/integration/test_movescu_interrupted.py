"""movescu interrupted: it ends at once, by the signal, the peers are told, and nothing half-written is left."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compat.harness import reserved_port
from tests.compat.judged import ACCEPT, KEYS, Wire
from tests.integration import raw

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PROMPT_S = 5.0


class Moving:
    """A C-MOVE that the PACS does not answer, and an object that stays unfinished."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Moving:
        with reserved_port() as port, socket.create_server(("127.0.0.1", 0)) as server:
            where = ["127.0.0.1", str(server.getsockname()[1]), *KEYS, "+P", str(port), "-od", str(self.folder)]
            command = [sys.executable, "-m", "fastmove", "movescu", *where]
            self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            self.pacs = Wire(server.accept()[0])
            self.pacs.read()
            self.pacs.send(ACCEPT)
            self.pacs.read_message()
            self.sender = Wire(socket.create_connection(("127.0.0.1", port)))
        self.sender.send(raw.associate_rq(contexts=[raw.context_rq(1, raw.CT_IMAGE)]))
        self.sender.read()
        self.sender.send(raw.message(1, raw.c_store_rq("1.2.3.9"), raw.dataset("1.2.3.9")))
        self.sender.read()
        self.sender.send(raw.p_data(raw.pdv(1, 3, raw.c_store_rq("1.2.3.10")), raw.pdv(1, 0, bytes(1000))))
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.pacs.close()
        self.sender.close()


@pytest.mark.parametrize("number", SIGNALS, ids=[each.name for each in SIGNALS])
def test_signal_aborts_all_associations_and_ends_the_process(tmp_path: Path, number: signal.Signals) -> None:
    with Moving(tmp_path) as moving:
        moving.process.send_signal(number)
        assert moving.process.communicate(timeout=PROMPT_S)[1] == ""
        assert moving.process.returncode == -number
        assert moving.pacs.read() == raw.ABORT
        assert moving.sender.read() == raw.ABORT
    assert [file.name for file in tmp_path.iterdir()] == ["CT.1.2.3.9"]


def test_signal_that_is_ignored_stays_so(tmp_path: Path) -> None:
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as under nohup
    try:
        with Moving(tmp_path) as moving:
            moving.process.send_signal(signal.SIGHUP)
            moving.pacs.send(raw.message(3, raw.c_move_rsp(1, 0xFF00)))
            moving.process.send_signal(signal.SIGTERM)
            moving.process.communicate(timeout=PROMPT_S)
            assert moving.process.returncode == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGHUP, previous)
