"""A command on a terminal of its own: what it shows there, and keys pressed."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import struct
import termios
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.integration.programs import COMMAND

SHOWN_S: Final = 10.0
ENDED_S: Final = 10.0
_ESCAPES: Final = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs `fastmove` with these arguments; `shown` is all that it has written so far, without escape sequences."""

    def __init__(self, *arguments: str | Path, columns: int = 80, term: str = "xterm-256color") -> None:
        self.arguments = [*COMMAND, *map(str, arguments)]
        self.shown = ""
        self._environment = {**os.environ, "TERM": term}
        self._size = struct.pack("HHHH", 24, columns, 0, 0)
        self._changed = asyncio.Event()
        self._raw = b""

    async def __aenter__(self) -> Self:
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, self._size)
        try:
            self.process = await asyncio.create_subprocess_exec(
                *("setsid", "--ctty", *self.arguments),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=self._environment,
            )
        finally:
            os.close(theirs)
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        self.hang_up()
        if exc is not None:
            exc.add_note(f"--- {self.arguments}\n{self.shown}")

    def _read(self) -> None:
        try:
            data = os.read(self._ours, 65536)
        except BlockingIOError:
            return
        except OSError:  # everybody has closed the other end
            data = b""
        if data:
            self._raw += data
            self.shown = _ESCAPES.sub(b"", self._raw).decode(errors="replace").replace("\r\n", "\n")
        else:
            asyncio.get_running_loop().remove_reader(self._ours)
        self._changed.set()

    async def shows(self, pattern: str) -> re.Match[str]:
        """Wait until it does."""
        try:
            async with asyncio.timeout(SHOWN_S):
                while (found := re.search(pattern, self.shown)) is None:
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"{pattern!r} expected") from None
        return found

    def press(self, keys: bytes) -> None:
        """Type them: b"\\x03" is Ctrl-C."""
        os.write(self._ours, keys)

    def hang_up(self) -> None:
        """Close the window: SIGHUP, and nobody reads any more."""
        if self._ours >= 0:
            asyncio.get_running_loop().remove_reader(self._ours)
            os.close(self._ours)
            self._ours = -1

    async def ended(self) -> int:
        """The exit status, once it has ended; what it wrote last is shown then."""
        async with asyncio.timeout(ENDED_S):
            code = await self.process.wait()
        if self._ours >= 0:
            self._read()
        return code
