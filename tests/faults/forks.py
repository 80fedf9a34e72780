"""The client of the zygote: `fastmove` commands that start in 20 ms, with the shim, each with a plan of its own."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

from tests.faults.shim import Plan
from tests.integration.programs import Program

PROJECT: Final = Path(__file__).parents[2]
MAX_ANSWER: Final = 1 << 16
START_S: Final = 30.0


class Forks:
    """A running zygote."""

    def __init__(self, library: Path) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.settimeout(START_S)
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  closed with the zygote
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.zygote", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stderr=self._complaints,
                cwd=PROJECT,
                env=os.environ | {"LD_PRELOAD": str(library), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            )
        self._answer()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ours.close()
        self._process.wait()
        self._complaints.close()

    def ask(self, request: Mapping[str, Any], *descriptors: int) -> dict[str, Any]:
        """An answer of the zygote, which has it at once."""
        socket.send_fds(self._ours, [json.dumps(request).encode()], descriptors)
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        data = self._ours.recv(MAX_ANSWER)
        if not data:
            self._complaints.seek(0)
            raise RuntimeError(f"the zygote is gone: {self._complaints.read().decode()}")
        answer: dict[str, Any] = json.loads(data)
        return answer


class ForkedProcess:
    """A child of the zygote, as `asyncio.subprocess.Process` shows one."""

    def __init__(self, forks: Forks, pid: int, stdout: asyncio.StreamReader, stderr: asyncio.StreamReader) -> None:
        self._forks = forks
        self.pid = pid
        self.stdout = stdout
        self.stderr = stderr
        self.returncode: int | None = None
        self._ended = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        self.returncode = self._forks.ask({"wait": self.pid})["code"]
        self._ended.set_result(None)

    async def wait(self) -> int:
        """Its exit code, negative if a signal killed it."""
        await asyncio.shield(self._ended)
        assert self.returncode is not None
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)


class Forked(Program):
    """A command with `--json`, started by the zygote under a plan."""

    def __init__(
        self,
        forks: Forks,
        plan: Plan | None,
        *arguments: str | Path,
        limits: Mapping[str, int] | None = None,
        log: Path | None = None,
    ) -> None:
        super().__init__(*arguments)
        self._forks = forks
        self._request = {
            "arguments": [*map(str, arguments), "--json"],
            "cwd": str(Path.cwd()),
            "environment": {},
            "limits": dict(limits or {}),
            "fault_plan": "" if plan is None else str(plan.path),
            "fault_log": "" if log is None else str(log),
        }

    async def started(self) -> ForkedProcess:  # type: ignore[override]
        """The process, with readers of what it writes."""
        ends = [os.pipe2(os.O_CLOEXEC) for _ in range(2)]
        pid = self._forks.ask(self._request, *(write for _, write in ends))["pid"]
        for _, write in ends:
            os.close(write)
        return ForkedProcess(self._forks, pid, *(reader(read) for read, _ in ends))


def reader(descriptor: int) -> asyncio.StreamReader:
    """What comes out of a pipe; it is closed at its end."""
    stream, loop = asyncio.StreamReader(), asyncio.get_running_loop()

    def readable() -> None:
        if data := os.read(descriptor, MAX_ANSWER):
            stream.feed_data(data)
            return
        loop.remove_reader(descriptor)
        os.close(descriptor)
        stream.feed_eof()

    loop.add_reader(descriptor, readable)
    return stream
