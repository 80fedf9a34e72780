"""The programs measured: where they are, how they are started and configured, as users do and as experts would.

DCMTK leaves Nagle's algorithm on unless TCP_NODELAY=1 is in its environment: "tuned" rows have it, and larger PDUs.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from types import TracebackType

from benchmarks import machine, yardstick
from benchmarks.certificates import Certificate

START_TIMEOUT_S = 120
STOP_TIMEOUT_S = 10
COMMAND_TIMEOUT_S = 900
NODELAY = {"TCP_NODELAY": "1"}
NOT_INSTALLED = "not installed"
DESTINATION_AET = "BENCH"
SYNTHETIC_AET = "FASTPACS"
PARALLEL = (1, 4, 16)
"""Moves at once in the rows of `wan`."""


class ProgramFailed(Exception):
    """The program did not listen in time, or ended as it should not; the message has the end of its log."""


@cache
def dcmtk(name: str) -> str | None:
    """DCMTK's program of that name; pynetdicom installs some of the same names into virtual environments."""
    for folder in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = shutil.which(name, path=folder)
        if path:
            result = subprocess.run([path, "--version"], capture_output=True, text=True)
            if result.stdout.startswith("$dcmtk"):
                return path
    return None


@cache
def fastmove(name: str = "fastmove") -> str | None:
    """Our command of that name: beside this interpreter, else on the PATH."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name)


def orthanc() -> str | None:
    return shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")


@cache
def pynetdicom() -> str | None:
    """The interpreter, if it has pynetdicom."""
    return sys.executable if importlib.util.find_spec("pynetdicom") else None


def versions() -> dict[str, str]:
    """What is installed of the programs compared."""
    found = {}
    for package in ("fastmove", "pynetdicom", "pydicom", "uvloop"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = NOT_INSTALLED
    for name, path in {"dcmtk": dcmtk("storescp"), "orthanc": orthanc()}.items():
        first = subprocess.run([path, "--version"], capture_output=True, text=True).stdout if path else NOT_INSTALLED
        found[name] = first.splitlines()[0].strip("$ ") if first else "unknown"
    return found


def environ(extra: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would tune DCMTK unasked, and with `extra`."""
    return {k: v for k, v in os.environ.items() if k != "TCP_NODELAY"} | dict(extra)


@dataclass(frozen=True)
class Program:
    """A row: `argv` is filled in with {port}, {dir}, {scratch} and what the benchmark adds; its first item None means
    that the program is missing. `prepare` writes its configuration. `may_stall`: an object may cost it tens of
    milliseconds, so that a whole study is worth a try on a part of it first. `nagle`: it has Nagle's algorithm on.
    `tls`: what the other side shows by TLS; None: without."""

    name: str
    argv: tuple[str | None, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    most_associations: int = 1000
    least_associations: int = 1
    processes: int = 1
    prepare: Callable[[dict[str, object]], None] | None = None
    may_stall: bool = False
    nagle: bool = False
    tls: Certificate | None = None

    @property
    def is_installed(self) -> bool:
        return self.argv[0] is not None

    def command(self, **values: object) -> list[str]:
        if self.prepare:
            self.prepare(values)
        return [str(word).format(**values) for word in self.argv]


class Server:
    """A program that listens on a port, in a process group of its own, from entry to exit."""

    def __init__(self, program: Program, port: int, log: Path, **values: object) -> None:
        self.argv = program.command(port=port, **values)
        self.program, self.port, self.log = program, port, log

    def __enter__(self) -> Server:
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environ(self.program.env),
                cwd=self.log.parent,
                start_new_session=True,
            )
        self.pid = self._process.pid
        end = time.monotonic() + START_TIMEOUT_S
        while machine.listeners(self.port) < self.program.processes:
            if self._process.poll() is not None or time.monotonic() > end:
                self.__exit__(None, None, None)
                raise ProgramFailed(f"did not start: {self.last_words()}")
            time.sleep(0.02)
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, traceback: TracebackType | None) -> None:
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            pass
        finally:
            try:
                os.killpg(self.pid, signal.SIGKILL)  # what it left behind, or it itself
            except ProcessLookupError:
                pass
            self._process.wait()

    def last_words(self) -> str:
        return last_words(self.log)


@dataclass(frozen=True)
class Finished:
    """What a command took from its start to its end."""

    seconds: float
    cpu_s: float
    peak_rss_bytes: int
    memory_growth: float = 0.0


def complete(program: Program, log: Path, **values: object) -> Finished:
    """Run a command to its end; ProgramFailed unless it exits with 0 in time. Nothing else may be reaped meanwhile."""
    argv, before, begun = program.command(**values), _children_cpu_s(), time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environ(program.env),
            cwd=str(values["dir"]),  # movescu 3.6.7 ignores -od with +B, and writes to where it is
        )
        patience = threading.Timer(COMMAND_TIMEOUT_S, process.kill)  # wait() with a timeout looks every 50 ms only
        with machine.Memory(process.pid) as memory:
            patience.start()
            try:
                process.wait()
                seconds = time.monotonic() - begun
            finally:
                patience.cancel()
    if process.returncode:
        raise ProgramFailed(f"exit code {process.returncode}: {last_words(log)}")
    return Finished(seconds, _children_cpu_s() - before, memory.peak_bytes, memory.growth)


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def last_words(log: Path) -> str:
    """The end of a log, on one line."""
    return " / ".join(log.read_text(errors="replace").split("\n")[-3:])[-200:].strip(" /")


def write_orthanc_config(values: dict[str, object]) -> None:
    """Orthanc with its defaults, but for where it listens, where it stores, and whom it may move to."""
    config: dict[str, object] = {
        "StorageDirectory": str(values["dir"]),
        "IndexDirectory": str(values["scratch"]),
        "DicomPort": values["port"],
        "HttpServerEnabled": False,
        "Plugins": [],
    }
    if "destination_port" in values:
        config["DicomModalities"] = {"bench": [DESTINATION_AET, "127.0.0.1", values["destination_port"]]}
    Path(str(values["scratch"]), "orthanc.json").write_text(json.dumps(config))


def write_dcmqrscp_config(values: dict[str, object]) -> None:
    """dcmqrscp with one storage area as large as it takes, and one move destination."""
    Path(str(values["scratch"]), "dcmqrscp.cfg").write_text(f"""\
MaxPDUSize = 16384
MaxAssociations = 16
HostTable BEGIN
bench = ({DESTINATION_AET}, 127.0.0.1, {values["destination_port"]})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
QRSCP {values["dir"]} RW (200, 4096mb) ANY
AETable END
""")


ORTHANC = Program("Orthanc", (orthanc(), "{scratch}/orthanc.json"), prepare=write_orthanc_config, nagle=True)


def yardstick_receiver(*options: str) -> Program:
    return Program("yardstick", (str(yardstick.program()), "receive", *options, "{port}", "{dir}"))


def receivers(processes: list[int], tls: Certificate | None = None) -> list[Program]:
    """The rows of `receive`; the yardstick first, as all ratios are to it; with a certificate those of TLS too."""
    storescp = dcmtk("storescp")
    listen = (fastmove(), "listen", "--any-called-aet", "--port", "{port}", "--to", "{dir}")
    larger = ("-pdu", "131072")
    bitwise = (*larger, "+B")
    return [
        yardstick_receiver(),
        Program("fastmove", (*listen, "--no-durable")),
        *(encrypted(listen, (storescp, *bitwise, "-od", "{dir}"), tls) if tls is not None else ()),
        *(
            Program(f"fastmove {n} processes", (*listen, "--no-durable", "--processes", f"{n}"), processes=n)
            for n in processes
            if n > 1
        ),
        Program("fastmove 16 KiB PDUs", (*listen, "--no-durable", "--max-pdu", "16384")),
        Program("fastmove durable", listen),
        Program("storescp", (storescp, "-od", "{dir}", "{port}"), most_associations=1),
        Program("storescp tuned", (storescp, *larger, "-od", "{dir}", "{port}"), NODELAY, most_associations=1),
        Program("storescp tuned +B", (storescp, *bitwise, "-od", "{dir}", "{port}"), NODELAY, most_associations=1),
        Program(
            "storescp tuned +B --fork",
            (storescp, "--fork", *bitwise, "-od", "{dir}", "{port}"),
            NODELAY,
            least_associations=2,
        ),
        Program("pynetdicom storescp", (pynetdicom(), "-m", "pynetdicom", "storescp", "-od", "{dir}", "{port}")),
        ORTHANC,
        replace(ORTHANC, name="Orthanc tuned", env=NODELAY, nagle=False),
    ]


def encrypted(listen: tuple[str | None, ...], storescp: tuple[str | None, ...], tls: Certificate) -> list[Program]:
    """The rows of `receive` by TLS, certificates on both sides."""
    certificate, key = str(tls.certificate), str(tls.key)
    ours = ("--tls", "--tls-cert", certificate, "--tls-key", key, "--tls-ca", certificate)
    theirs = ("+tls", key, certificate, "+cf", certificate)
    return [
        Program("fastmove TLS", (*listen, "--no-durable", *ours), tls=tls),
        Program("storescp tuned +B TLS", (*storescp, *theirs, "{port}"), NODELAY, most_associations=1, tls=tls),
    ]


def senders() -> list[Program]:
    """The rows of `send`, besides the yardstick; {parallel} associations where the program has that option."""
    storescu = dcmtk("storescu")
    to = ("+sd", "127.0.0.1", "{port}", "{dir}")
    pynetdicom_to = ("-m", "pynetdicom", "storescu", "127.0.0.1", "{port}", "{dir}", "-r")
    return [
        Program("fastmove", (fastmove(), "send", "ANY-SCP@127.0.0.1:{port}", "{dir}", "--parallel", "{parallel}")),
        Program("storescu", (storescu, *to), most_associations=1),
        Program("storescu tuned", (storescu, "-pdu", "131072", *to), NODELAY, most_associations=1),
        Program("pynetdicom storescu", (pynetdicom(), *pynetdicom_to), most_associations=1),
    ]


@dataclass(frozen=True)
class Pacs:
    """A C-MOVE SCP: its program, its AE title, and whether it reads a folder of files instead of being sent them."""

    program: Program
    ae_title: str
    reads_folder: bool = False


def archives() -> list[Pacs]:
    """What `retrieve` retrieves from."""
    destination = f"{DESTINATION_AET}@127.0.0.1:{{destination_port}}"
    own = (fastmove(), "pacs", "--port", "{port}", "--folder", "{dir}", "--move-destination", destination)
    qrscp = (dcmtk("dcmqrscp"), "-c", "{scratch}/dcmqrscp.cfg", "{port}")
    return [
        Pacs(ORTHANC, "ORTHANC"),
        Pacs(Program("dcmqrscp", qrscp, prepare=write_dcmqrscp_config, nagle=True), "QRSCP"),
        Pacs(Program("fastmove pacs", own), "FASTMOVE", reads_folder=True),
    ]


def movescu_arguments(own_port: str, port: str) -> tuple[str, ...]:
    """What movescu is told, whoever made it: to have {called} move {study} to itself, into {dir}."""
    keys = ("-S", "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID={study}", "-aem", DESTINATION_AET)
    return (*keys, "-aet", DESTINATION_AET, "-aec", "{called}", "+P", own_port, "-od", "{dir}", "127.0.0.1", port)


def retrievers() -> list[Program]:
    """The rows of `retrieve`: {called} at {port} moves {study} to us at {destination_port}, into {dir}."""
    movescu, replacement = dcmtk("movescu"), fastmove("fastmove-movescu")
    rest = movescu_arguments(own_port="{destination_port}", port="{port}")
    larger = ("-pdu", "131072")
    ours = ("--aet", DESTINATION_AET, "--port", "{destination_port}", "--study", "{study}", "--to", "{dir}")
    return [
        Program("fastmove", (fastmove(), "retrieve", "{called}@127.0.0.1:{port}", *ours, "--no-durable")),
        Program("fastmove durable", (fastmove(), "retrieve", "{called}@127.0.0.1:{port}", *ours)),
        Program("fastmove movescu", (replacement, *rest)),
        Program("fastmove movescu +B", (replacement, *larger, "+B", *rest)),
        Program("movescu", (movescu, *rest), may_stall=True, nagle=True),
        Program("movescu tuned", (movescu, *larger, *rest), NODELAY, may_stall=True),
        Program("movescu tuned +B", (movescu, *larger, "+B", *rest), NODELAY, may_stall=True),
    ]


def distant_retrievers() -> list[Program]:
    """The rows of `wan`: as many moves at once as we think best, as many as we are told, and movescu as shipped."""
    rows = {program.name: program for program in retrievers()}
    ours = rows["fastmove"]
    return [
        ours,
        *(replace(ours, name=f"{ours.name} --parallel {n}", argv=(*ours.argv, "--parallel", f"{n}")) for n in PARALLEL),
        rows["movescu"],
    ]


def synthetic_archive() -> Program:
    """A PACS of {studies} studies of {instances} small images, kept in {dir}, that tells of every association."""
    destination = f"{DESTINATION_AET}@127.0.0.1:{{destination_port}}"
    spec = "studies={studies},series=1,instances={instances},size={size}"
    own = ("--synthetic", spec, "--keep", "{dir}", "--move-destination", destination, "--json")
    return Program("fastmove pacs", (fastmove(), "pacs", "--port", "{port}", "--aet", SYNTHETIC_AET, *own))


def list_retrievers() -> list[Program]:
    """The rows of `studies`: all studies of {list}, in one command."""
    ours = ("--aet", DESTINATION_AET, "--port", "{destination_port}", "--from", "{list}", "--to", "{dir}")
    command = (fastmove(), "retrieve", f"{SYNTHETIC_AET}@127.0.0.1:{{port}}", *ours)
    quick = Program("fastmove", (*command, "--no-durable"))
    return [
        quick,
        Program("fastmove durable", command),
        replace(quick, name=f"{quick.name} --parallel 1", argv=(*quick.argv, "--parallel", "1")),
    ]


def movescus() -> list[Program]:
    """The rows of `movescu`, alike in what they announce: they receive at {port} what {called} at {pacs_port} moves."""
    replacement = fastmove("fastmove-movescu")
    rest = ("-pdu", "131072", *movescu_arguments(own_port="{port}", port="{pacs_port}"))
    return [
        Program("fastmove movescu", (replacement, *rest)),
        Program("fastmove movescu +B", (replacement, "+B", *rest)),
        Program("movescu tuned", (dcmtk("movescu"), *rest), NODELAY),
    ]
