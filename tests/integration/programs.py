"""The `fastmove` command as a child process, its JSON lines as they come."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

EVENT_S: Final = 30.0
EXIT_S: Final = 30.0
COMMAND: Final = (sys.executable, "-m", "fastmove")


class Program:
    """A verb with `--json`, killed at the end of the context unless it has ended by itself."""

    def __init__(self, *arguments: str | Path, env: Mapping[str, str] | None = None) -> None:
        self.arguments = [*COMMAND, *map(str, arguments), "--json"]
        self.env = env
        self.events: list[dict[str, Any]] = []
        self.errors = ""
        self._changed = asyncio.Event()

    async def started(self) -> asyncio.subprocess.Process:
        """The process, in a session of its own."""
        return await asyncio.create_subprocess_exec(
            *self.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.env,
            start_new_session=True,
        )

    async def __aenter__(self) -> Self:
        self.process = await self.started()
        self._reading = asyncio.gather(self._read_events(), self._read_errors())
        return self

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)  # the workers too
        await self.process.wait()
        await self._reading
        if exc is not None:
            exc.add_note(f"--- {self.arguments}\n{self.events}\n{self.errors}")

    async def _read_events(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.events.append(json.loads(line))
            self._changed.set()
        self._changed.set()

    async def _read_errors(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.errors += line.decode()

    def seen(self, key: str) -> list[dict[str, Any]]:
        """The events with this key so far."""
        return [event for event in self.events if event["event"] == key]

    async def event(self, key: str, count: int = 1) -> dict[str, Any]:
        """The n-th event with this key."""
        try:
            async with asyncio.timeout(EVENT_S):
                while len(found := self.seen(key)) < count:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{count} x {key} expected") from None
        return found[count - 1]

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    async def ended(self) -> int:
        """Its exit status, once it has ended and everything that it wrote is read."""
        async with asyncio.timeout(EXIT_S):
            code = await self.process.wait()
            await self._reading
        return code

    async def stopped(self) -> int:
        """Its exit status after SIGTERM."""
        self.signal(signal.SIGTERM)
        return await self.ended()

    def children(self) -> list[int]:
        """The process ids of its children."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def cpu_s(pid: int) -> float:
    """CPU seconds that a process has used (proc(5), /proc/PID/stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def listen_program(directory: Path, *options: str) -> Program:
    """`fastmove listen` on a free port of the loopback; event listen.started tells which."""
    return Program("listen", "--port", "0", "--host", "127.0.0.1", "--to", directory, *options)


async def refuses_connections(host: str, port: int) -> None:
    """Wait until nobody listens there any more."""
    async with asyncio.timeout(EXIT_S):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, port)
            except ConnectionRefusedError:
                return
            except ConnectionResetError:
                continue  # it was in the queue when the queue was closed
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()


class Ended:
    """What a command left: exit code, standard output, standard error."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
        assert "Traceback" not in err, err

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Standard output as JSON lines."""
        return [json.loads(line) for line in self.out.splitlines()]


async def fastmove(
    *arguments: str | Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    within: Sequence[str] = (),
) -> Ended:
    """Run a command to its end, by another one that is given `within`; no command may ever show a traceback."""
    process = await asyncio.create_subprocess_exec(
        *within,
        *COMMAND,
        *map(str, arguments),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        cwd=cwd,
        env={**os.environ, **(env or {})},
    )
    try:
        async with asyncio.timeout(EXIT_S):
            out, err = await process.communicate()
    except BaseException:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Ended(process.returncode, out.decode(), err.decode())
