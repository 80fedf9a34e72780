"""What movescu's normal mode costs beside its bit-preserving mode, and what DCMTK's costs.

All programs are started at once, each with a C-MOVE that its PACS accepts and never answers. So they go on receiving,
and the yardstick sends to them in turns: bursts of the same objects, one association each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from struct import Struct
from threading import Thread
from typing import Any

from benchmarks import machine, peers, yardstick
from benchmarks.load import Load, calibrate, setting
from benchmarks.objects import UID_ROOT, Mismatch, Template, verify
from benchmarks.receive import COMPARED_FILES, transfer
from benchmarks.results import Column, Goal, Run, rotated
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN
from fastmove.ul import pdu
from fastmove.ul.items import UserInformation

OURS, OURS_BITWISE, TUNED = "fastmove movescu", "fastmove movescu +B", "movescu tuned"
COLUMNS = (
    Column("CPU x own +B", "cpu_s_per_gb", 2, OURS_BITWISE),
    Column("CPU x movescu tuned", "cpu_s_per_gb", 2, TUNED),
    Column("CPU s/GB", "cpu_s_per_gb", 2),
    Column("CPU us/object", "cpu_us_per_object", 0),
    Column("objects/s", "objects_per_s", 0),
    Column("peak RSS MiB", "peak_rss_mib", 0, spread=False),
    Column("objects", "objects", 0, spread=False),
)
GOALS = (
    Goal("CPU of normal mode", setting("T", 1), OURS, "cpu_us_per_object", "<=", 0.2, TUNED),
    *(
        Goal("CPU of normal mode", setting(w, 1), OURS, "cpu_s_per_gb", "<=", 1.25, OURS_BITWISE)
        for w in ("S", "SU", "L", "LU")
    ),
    *(Goal("peak RSS, MiB", setting(w, 1), OURS, "peak_rss_mib", "<=", 64) for w in ("L", "LU")),
)

PDU_HEADER = Struct(">BxI")


class Association(StreamRequestHandler):
    """A PACS that accepts whatever is proposed, and answers nothing."""

    def handle(self) -> None:
        with suppress(ConnectionError):
            pdu_type, length = PDU_HEADER.unpack(self.rfile.read(PDU_HEADER.size))
            request = pdu.decode(pdu_type, self.rfile.read(length))
            if isinstance(request, pdu.AAssociateRQ):
                self.wfile.write(acceptance(request).encode())
            while self.rfile.read1():
                pass


def acceptance(request: pdu.AAssociateRQ) -> pdu.AAssociateAC:
    """Every presentation context, in explicit VR little endian."""
    contexts = (c.presentation_context_id for c in request.presentation_contexts)
    return pdu.AAssociateAC(
        request.called_ae_title,
        request.calling_ae_title,
        tuple(pdu.PresentationContextAC(number, 0, EXPLICIT_VR_LITTLE_ENDIAN) for number in contexts),
        UserInformation(maximum_length=0, implementation_class_uid=UID_ROOT),
    )


@contextmanager
def silent_pacs() -> Iterator[int]:
    """Its port."""
    with ThreadingTCPServer(("127.0.0.1", 0), Association) as pacs:
        Thread(target=pacs.serve_forever, daemon=True).start()
        try:
            yield pacs.server_address[1]
        finally:
            pacs.shutdown()


class Receiver:
    """A running movescu, and what it was sent since the last look into its folder."""

    def __init__(self, server: peers.Server, stored: Path) -> None:
        self.server, self._stored = server, stored
        self._sent: list[tuple[Template, range]] = []
        self._next = 0

    def send(self, subject: Template, objects: int, spin_us: int = 0) -> dict[str, Any]:
        """One association; the report of the yardstick."""
        numbers = range(self._next, self._next + objects)
        self._next = numbers.stop
        self._sent.append((subject, numbers))
        return yardstick.send(self.server.port, subject, first=numbers.start, objects=objects, spin_us=spin_us)

    def check(self) -> None:
        """Mismatch unless everything that was sent is there, as the mode writes it; the folder is empty afterwards."""
        is_bitwise = "+B" in self.server.argv
        written = [(t if is_bitwise else t.explicit or t, numbers) for t, numbers in self._sent]
        try:
            verify(self._stored, written, COMPARED_FILES)
        finally:
            self._sent.clear()
            for path in self._stored.iterdir():
                path.unlink()


def start(program: peers.Program, pacs_port: int, folder: Path, until: ExitStack) -> Receiver:
    """The program, listening; it ends with `until`."""
    stored, scratch = (Path(tempfile.mkdtemp(dir=folder)) for _ in range(2))
    values = {"dir": stored, "pacs_port": pacs_port, "called": "SILENT", "study": f"{UID_ROOT}.1"}
    server = peers.Server(program, machine.free_port(), scratch / "log", **values)
    return Receiver(until.enter_context(server), stored)


def warm_up(receiver: Receiver, load: Load) -> tuple[int, Template]:
    """How many objects, and which, it receives in the load's seconds."""
    burst = calibrate(load, lambda subject, objects: float(receiver.send(subject, objects)["seconds"]))
    receiver.check()
    return burst


def receive(receiver: Receiver, subject: Template, objects: int, spin_us: int, result: Run) -> None:
    """One burst; its figures go into `result`."""
    transfer(receiver.server.pid, result, lambda: receiver.send(subject, objects, spin_us))
    receiver.check()


@contextmanager
def failure_of(result: Run) -> Iterator[None]:
    """What goes wrong inside goes into its `error`."""
    try:
        yield
    except (peers.ProgramFailed, yardstick.SendFailed, Mismatch) as failure:
        result.error = f"FAILED: {failure}"


def cell(programs: list[peers.Program], load: Load, rounds: int) -> list[Run]:
    """So many bursts for each, in rotating order, each of as many objects as the slowest receives in its seconds.

    A program that fails gets no more.
    """
    runs = [Run(p.name, load.setting, 0, error=peers.NOT_INSTALLED) for p in programs if not p.is_installed]
    bursts: dict[Receiver, tuple[int, Template]] = {}
    with ExitStack() as until:
        pacs_port = until.enter_context(silent_pacs())
        for program in (p for p in programs if p.is_installed):
            start_up = Run(program.name, load.setting, 0)
            with failure_of(start_up):
                receiver = start(program, pacs_port, load.folder, until)
                bursts[receiver] = warm_up(receiver, load)
            runs += [start_up] * bool(start_up.error)
        if not bursts:
            return runs
        objects, subject = min(bursts.values(), key=lambda burst: burst[0] * burst[1].size)
        machine.touch(load.folder, objects * subject.size)
        for number in range(rounds):
            for receiver in rotated(list(bursts), number):
                result = Run(receiver.server.program.name, load.setting, number)
                with failure_of(result):
                    receive(receiver, subject, objects, load.workload.spin_us, result)
                runs.append(result)
                if result.error:
                    del bursts[receiver]
    return runs
