"""The tutorial of a migration between two Orthancs, from its first command to its last, word for word."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import urllib.request
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from http.cookiejar import CookieJar
from itertools import count
from pathlib import Path
from typing import Final, Self

import pytest

from tests.integration.peers import SEARCH_PATH, free_port
from tests.integration.programs import fastmove

PAGE: Final = Path(__file__).parents[2] / "docs" / "tutorials" / "migrate-two-orthancs.md"

PORTS: Final = ("4343", "4344", "8080", "8143", "8144", "11112")
"""Those of the page; other ones are taken for them."""

STEP_S: Final = 90.0

VARIES: Final = (
    (re.compile(r"\d+\.\d+ (MB/s|MB|ms|s)\b|[\d,]+ objects/s"), "N"),
    (re.compile(r"127\.0\.0\.1:\d+"), "HERE"),
    (re.compile(r"\s+"), " "),
    (re.compile(r"(to be tried again 1 20) \d+"), r"\1 SOME"),  # of those that come before the lost one
)
"""What is not the same each time, in what commands say."""

pytestmark = [pytest.mark.peer("orthanc"), pytest.mark.timeout(300)]


def masked(line: str) -> str:
    for pattern, instead in VARIES:
        line = pattern.sub(instead, line)
    return line.strip()


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines that it says."""
    found: list[tuple[str, list[str]]] = []
    for line in "\n".join(re.findall(r"^```console\n(.*?)^```", text, re.M | re.S)).splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif line:
            found[-1][1].append(line)
    return found


class Terminal:
    """A shell in a folder, to which one command after the other is given."""

    def __init__(self, folder: Path, programs: Path) -> None:
        self._folder = folder
        self._environment = {
            "PATH": f"{programs}{os.pathsep}{SEARCH_PATH}",
            "HOME": str(folder),
            "FASTMOVE_CONFIG": os.devnull,
            "PYTHONPATH": os.pathsep.join(sys.path),
        }
        self._numbers = count()

    async def __aenter__(self) -> Self:
        self._shell = await asyncio.create_subprocess_exec(
            "bash",
            cwd=self._folder,
            env=self._environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)
        await self._shell.communicate()  # the pipes end as well

    def give(self, command: str) -> None:
        """Begin a command; `ended` says what came of it."""
        self._mark = f"--- {next(self._numbers)} ---"
        assert self._shell.stdin is not None
        # The shell keeps the code of the command for the next one that asks for it.
        again = f"{command}\ncode=$?; echo; echo '{self._mark}'; (exit $code)\n"
        self._shell.stdin.write(again.encode())

    async def until(self, enough: Callable[[str], object]) -> list[str]:
        """What is said up to a line that is enough, or to the end of the command."""
        assert self._shell.stdout is not None
        lines: list[str] = []
        async with asyncio.timeout(STEP_S):
            while True:
                line = (await self._shell.stdout.readline()).decode()
                assert line, lines
                lines.append(line.rstrip("\n"))
                if lines[-1] == self._mark or enough(lines[-1]):
                    return lines

    async def ended(self) -> list[str]:
        """What is said up to the end of the command."""
        return await self.until(lambda _: False)

    def interrupt(self) -> None:
        """Ctrl-C."""
        os.killpg(self._shell.pid, signal.SIGINT)


class Learner:
    """Somebody who does what the page says, and where it says Ctrl-C."""

    def __init__(self, folder: Path, opened: AsyncExitStack) -> None:
        self.folder = folder
        self.runs = 0
        self._opened = opened
        self._programs = folder / "programs"
        self._programs.mkdir()
        (self._programs / "fastmove").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m fastmove "$@"\n')
        (self._programs / "fastmove").chmod(0o755)
        self._archives: dict[str, Terminal] = {}

    async def begin(self) -> None:
        """A third terminal, in which nearly everything is done."""
        self.terminal = await self._terminal()

    async def _terminal(self) -> Terminal:
        return await self._opened.enter_async_context(Terminal(self.folder, self._programs))

    async def does(self, command: str) -> list[str]:
        """A command; what it said."""
        program, *words = command.split()
        if program == "Orthanc":
            return await self._starts(words[0])
        if command.startswith("lost="):
            await self._stops("old.json")
        self.terminal.give(command)
        if command.startswith("fastmove pacs"):
            lines = await self.terminal.until(lambda line: "is ready" in line)
            self.terminal.interrupt()
            return lines + await self.terminal.ended()
        if command.startswith("fastmove migrate run"):
            return await self._runs()
        if command.startswith("fastmove migrate serve"):
            return await self._looks()
        return await self.terminal.ended()

    async def _starts(self, configuration: str) -> list[str]:
        terminal = self._archives[configuration] = await self._terminal()
        terminal.give(f"Orthanc {configuration}")
        return await terminal.until(lambda line: "Orthanc has started" in line)

    async def _stops(self, configuration: str) -> None:
        self._archives[configuration].interrupt()
        await self._archives[configuration].ended()

    async def _runs(self) -> list[str]:
        """The first two are broken off."""
        self.runs += 1
        if self.runs == 1:
            await self._ledger(lambda states: states["complete"]["studies"] >= 3)
        elif self.runs == 2:
            await self._ledger(lambda states: states["waiting"]["studies"] == 1 and states["complete"]["studies"] == 29)
        if self.runs <= 2:
            self.terminal.interrupt()
        return await self.terminal.ended()

    async def _ledger(self, enough: Callable[[dict[str, dict[str, int]]], bool]) -> None:
        async with asyncio.timeout(STEP_S):
            while True:
                ended = await fastmove("migrate", "status", self.folder / "archive.ledger", "--json")
                (status,) = ended.lines
                if enough(status["states"]):
                    return

    async def _looks(self) -> list[str]:
        lines = await self.terminal.until(lambda line: line.startswith("http"))
        page = await asyncio.to_thread(_page, lines[-1])
        assert "35" in page and "OLD@" in page
        self.terminal.interrupt()
        return lines + await self.terminal.ended()


def _page(address: str) -> str:
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    with browser.open(address) as answer:
        return str(answer.read().decode())


async def test_the_tutorial_can_be_followed_word_for_word(tmp_path: Path) -> None:
    ports = {port: str(free_port()) for port in PORTS}
    text = PAGE.read_text()
    for name in ("old.json", "new.json"):
        assert f"`{name}`" in text
    text = text.replace("migrate serve archive.ledger", "migrate serve archive.ledger --port 8080")
    text = re.sub("|".join(rf"\b{port}\b" for port in PORTS), lambda found: ports[found[0]], text)
    async with AsyncExitStack() as opened:
        learner = Learner(tmp_path, opened)
        configurations = re.findall(r"^```json\n(.*?)^```", text, re.M | re.S)
        for name, configuration in zip(("old.json", "new.json"), configurations, strict=True):
            assert json.loads(configuration)["DicomAet"].lower() == name.removesuffix(".json")
            (tmp_path / name).write_text(configuration)
        await learner.begin()
        for command, expected in commands(text):
            said = [masked(line) for line in await learner.does(command)]
            lacking = [line for line in expected if masked(line) not in said]
            assert lacking == [], f"$ {command}\n" + "\n".join(said)
    assert learner.runs == 4
    html = (tmp_path / "report.html").read_text()
    assert "complete" in html
