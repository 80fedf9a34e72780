"""Real DICOM peers as child processes: DCMTK, Orthanc, pynetdicom.

Each peer is an async context manager with a directory and a port of its own, ready when it answers
C-ECHO.  Its log goes into the message of every failure inside the context.  None of these programs
can bind port 0 and say what it got, so a free port is found and handed over; in the moment between
somebody else may take it, then the peer ends at once and is started again on another one.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import shutil
import signal
import ssl
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import pydicom
from benchmarks.machine import free_port as free_port

from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

PROGRAMS: Final = {
    "dcmtk": ("storescp", "storescu", "dcmqrscp", "dcmqridx", "movescu", "echoscu"),
    "orthanc": ("Orthanc",),
}
SEARCH_PATH: Final = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin"))
HOST: Final = "127.0.0.1"

START_ATTEMPTS: Final = 3
START_S: Final = 20.0
STOP_S: Final = 3.0
TOOL_S: Final = 60.0


def missing(name: str) -> str | None:
    """What of this peer is not installed, or None."""
    if name == "pynetdicom":
        return None if importlib.util.find_spec(name) else "the package pynetdicom"
    absent = [program for program in PROGRAMS[name] if program_path(program) is None]
    return ", ".join(absent) or None


def program_path(program: str) -> str | None:
    """Where the program is; Debian keeps Orthanc in /usr/sbin."""
    return shutil.which(program, path=SEARCH_PATH)


def environment(stock: bool) -> dict[str, str]:
    """The environment of a child: DCMTK without Nagle's algorithm, unless it is wanted as shipped."""
    return os.environ | ({} if stock else {"TCP_NODELAY": "1"})


class Peer:
    """A child process that answers C-ECHO; subclasses say how it is started and where it stores."""

    context: ssl.SSLContext | None = None
    """How it is spoken to by TLS; None: without."""

    def __init__(self, ae_title: str, *, options: Sequence[str] = (), stock: bool = False) -> None:
        self.ae_title = ae_title
        self.host = HOST
        self.port = 0
        self.options = tuple(options)
        self.stock = stock

    def command(self) -> list[str]:
        """The command line, for `self.port` and `self.directory`; writes what it needs beside it."""
        raise NotImplementedError

    @property
    def storage(self) -> Path:
        """The directory where received objects land."""
        return self.directory / "stored"

    def stored(self) -> dict[str, Path]:
        """The Part 10 files received so far, by SOP Instance UID."""
        files = [path for path in self.storage.rglob("*") if path.is_file() and is_part10(path)]
        return {pydicom.dcmread(path, specific_tags=[]).file_meta.MediaStorageSOPInstanceUID: path for path in files}

    def log(self) -> str:
        """All that the process has written."""
        return self._log.read_text(errors="replace")

    async def __aenter__(self) -> Self:
        self._temporary = tempfile.TemporaryDirectory(prefix="peer-")
        self.directory = Path(self._temporary.name)
        self.storage.mkdir()
        self._log = self.directory / "log"
        try:
            for _ in range(START_ATTEMPTS):
                self.port = free_port()
                await self._start()
                if await self._answers():
                    return self
                await self._stop()
            raise RuntimeError(f"{type(self).__name__} does not answer C-ECHO:\n{self.log()}")
        except BaseException:
            await self._stop()
            self._temporary.cleanup()
            raise

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        await self._stop()
        if exc is not None:
            exc.add_note(f"--- log of {type(self).__name__}, port {self.port}\n{self.log()[-8000:]}")
        self._temporary.cleanup()

    async def _start(self) -> None:
        arguments = self.command()
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=environment(self.stock),
                start_new_session=True,
            )

    async def _answers(self) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while self._process.returncode is None:
                    with suppress(OSError, EOFError):  # an SSLError is an OSError
                        return await self._echo()
                    await asyncio.sleep(0.02)
        return False

    async def _echo(self) -> bool:
        async with self._connect() as requestor:
            contexts = [raw.context_rq(3, raw.VERIFICATION)]
            await requestor.associate(raw.associate_rq(called=self.ae_title, contexts=contexts))
            await requestor.echo()
            await requestor.release()
        return True

    def _connect(self) -> ScriptedRequestor:
        if self.context is None:
            return ScriptedRequestor(self.host, self.port, deadline=START_S)
        from tests.integration.tls import TlsRequestor  # for those who have TLS

        return TlsRequestor(self.host, self.port, self.context, START_S)

    def kill(self) -> None:
        """End the process and what it forked at once, in the middle of anything."""
        os.killpg(self._process.pid, signal.SIGKILL)

    async def restart(self) -> None:
        """Killed in the middle of anything, and started again at the same port over what it held."""
        self.kill()
        await self._process.wait()
        await self._start()
        assert await self._answers(), self.log()

    async def _stop(self) -> None:
        """End the process and what it forked."""
        process = getattr(self, "_process", None)
        if process is None:
            return
        for stop in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, stop)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_S)


def is_part10(path: Path) -> bool:
    """True if the file has the DICM prefix (PS3.10 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


class DcmtkStoreScp(Peer):
    """DCMTK's storescp, bit-preserving unless told otherwise."""

    def __init__(self, ae_title: str = "STORESCP", *, options: Sequence[str] = ("+B", "+xa"), stock: bool = False):
        super().__init__(ae_title, options=options, stock=stock)

    def command(self) -> list[str]:
        return [
            program_path("storescp") or "storescp",
            *("-aet", self.ae_title, "-od", str(self.storage), *self.options, str(self.port)),
        ]


class DcmtkQrScp(Peer):
    """DCMTK's dcmqrscp over a folder, with these move destinations: AE title → (host, port)."""

    def __init__(
        self,
        destinations: Mapping[str, tuple[str, int]] | None = None,
        ae_title: str = "QRSCP",
        *,
        options: Sequence[str] = (),
        stock: bool = False,
    ) -> None:
        super().__init__(ae_title, options=options, stock=stock)
        self.destinations = dict(destinations or {})

    def command(self) -> list[str]:
        hosts = [f"host{n} = ({ae}, {h}, {p})" for n, (ae, (h, p)) in enumerate(self.destinations.items())]
        config = [
            *(f"NetworkTCPPort = {self.port}", "MaxPDUSize = 131072", "MaxAssociations = 32"),
            *("HostTable BEGIN", *hosts, "HostTable END", "VendorTable BEGIN", "VendorTable END"),
            *("AETable BEGIN", f"{self.ae_title} {self.storage} RW (1000, 4096mb) ANY", "AETable END"),
        ]
        path = self.directory / "dcmqrscp.cfg"
        path.write_text("\n".join(config) + "\n")
        return [program_path("dcmqrscp") or "dcmqrscp", "-c", str(path), *self.options]

    async def load(self, files: Iterable[Path]) -> None:
        """Enter files into the index where they lie."""
        code, output = await run_tool("dcmqridx", str(self.storage), *map(str, files))
        assert code == 0, output


class Orthanc(Peer):
    """Orthanc without plugins, with these move destinations: AE title → (host, port).

    `settings` go over the template, `http=True` opens the REST port `http_port`.
    """

    def __init__(
        self,
        destinations: Mapping[str, tuple[str, int]] | None = None,
        ae_title: str = "ORTHANC",
        *,
        http: bool = False,
        settings: Mapping[str, object] | None = None,
        stock: bool = False,
    ) -> None:
        super().__init__(ae_title, stock=stock)
        self.destinations = dict(destinations or {})
        self.http = http
        self.settings = dict(settings or {})

    def command(self) -> list[str]:
        self.http_port = free_port()
        config = {
            "StorageDirectory": str(self.storage),
            "IndexDirectory": str(self.directory / "index"),
            "StorageCompression": False,
            "Plugins": [],
            "HttpServerEnabled": self.http,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": False,
            "DicomAet": self.ae_title,
            "DicomPort": self.port,
            "DicomCheckCalledAet": False,
            "DicomModalities": {ae: [ae, host, port] for ae, (host, port) in self.destinations.items()},
            "DicomAlwaysAllowEcho": True,
            "DicomAlwaysAllowStore": True,
            "DicomAlwaysAllowFind": True,
            "DicomAlwaysAllowMove": True,
            "UnknownSopClassAccepted": True,
            "SynchronousCMove": True,
            "SaveJobs": False,
        }
        path = self.directory / "orthanc.json"
        path.write_text(json.dumps(config | self.settings))
        return [program_path("Orthanc") or "Orthanc", str(path)]

    async def load(self, files: Iterable[Path]) -> None:
        """Send files to it by storescu, each in its own transfer syntax."""
        code, output = await storescu(self, *files)
        assert code == 0, output


class PynetdicomScp(Peer):
    """A pynetdicom storage SCP that writes data sets as they came."""

    def __init__(self, ae_title: str = "PYNETDICOM") -> None:
        super().__init__(ae_title)

    def command(self) -> list[str]:
        script = Path(__file__).with_name("pynetdicom_storescp.py")
        return [sys.executable, str(script), self.ae_title, str(self.port), str(self.storage)]


class Address:
    """Where a tool connects to: anything with these three attributes will do."""

    def __init__(self, ae_title: str, host: str, port: int) -> None:
        self.ae_title = ae_title
        self.host = host
        self.port = port


async def run_tool(program: str, *arguments: str, stock: bool = False, deadline: float = TOOL_S) -> tuple[int, str]:
    """Run a program of a peer to its end: exit code, and stdout with stderr."""
    process = await asyncio.create_subprocess_exec(
        program_path(program) or program,
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=environment(stock),
    )
    try:
        async with asyncio.timeout(deadline):
            output, _ = await process.communicate()
    except BaseException:
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return process.returncode, output.decode(errors="replace")


async def echoscu(to: Address | Peer, *options: str, calling: str = "ECHOSCU", stock: bool = False) -> tuple[int, str]:
    """Run DCMTK's echoscu."""
    called = ("-aet", calling, "-aec", to.ae_title, to.host, str(to.port))
    return await run_tool("echoscu", *options, *called, stock=stock)


async def storescu(
    to: Address | Peer, *files: Path, options: Sequence[str] = (), calling: str = "STORESCU", stock: bool = False
) -> tuple[int, str]:
    """Run DCMTK's storescu: one association a transfer syntax, as it can propose only one of each compression.

    The files are sent as they are; the exit code is that of the first run that fails.
    """
    by_syntax: dict[str, list[str]] = {}
    for path in files:
        syntax = pydicom.dcmread(path, specific_tags=[]).file_meta.TransferSyntaxUID
        by_syntax.setdefault(PROPOSE.get(syntax, ""), []).append(str(path))
    outputs = []
    for propose, paths in by_syntax.items():
        called = ("-aet", calling, "-aec", to.ae_title, *([propose] if propose else ()), to.host, str(to.port))
        code, output = await run_tool("storescu", "-v", "-R", *options, *called, *paths, stock=stock)
        outputs.append(output)
        if code:
            return code, "".join(outputs)
    return 0, "".join(outputs)


PROPOSE: Final = {  # storescu's option for a transfer syntax that it does not propose by itself
    "1.2.840.10008.1.2.1.99": "-xd",
    "1.2.840.10008.1.2.4.50": "-xy",
    "1.2.840.10008.1.2.4.51": "-xx",
    "1.2.840.10008.1.2.4.70": "-xs",
    "1.2.840.10008.1.2.4.80": "-xt",
    "1.2.840.10008.1.2.4.81": "-xu",
    "1.2.840.10008.1.2.4.90": "-xv",
    "1.2.840.10008.1.2.4.91": "-xw",
    "1.2.840.10008.1.2.5": "-xr",
}


async def movescu(
    to: Address | Peer, destination: str, study: str, *options: str, calling: str = "MOVESCU", stock: bool = False
) -> tuple[int, str]:
    """Run DCMTK's movescu for a study, study root model."""
    keys = ("-S", "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}")
    called = ("-aet", calling, "-aec", to.ae_title, "-aem", destination, to.host, str(to.port))
    return await run_tool("movescu", "-v", *keys, *options, *called, stock=stock)
