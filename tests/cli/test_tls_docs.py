"""The commands of docs/how-to/tls.md that anybody can try on one machine, run as they stand there."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.integration.peers import free_port

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "tls.md"
READY_S: Final = 30.0
COMMAND_S: Final = 60.0


def commands() -> list[list[str]]:
    """The words of each."""
    block = re.search(r"<!-- run -->\n```console\n(.*?)^```", PAGE.read_text(), re.M | re.S)
    assert block is not None
    text = block[1].replace("11112", str(free_port())).replace("11113", str(free_port()))
    return [shlex.split(line) for line in re.findall(r"^\$ (.*)$", text, re.M)]


async def started(words: list[str], folder: Path) -> asyncio.subprocess.Process:
    program = [sys.executable, "-m", "fastmove"] if words[0] == "fastmove" else [words[0]]
    return await asyncio.create_subprocess_exec(
        *program,
        *words[1:],
        cwd=folder,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )


async def test_commands_of_the_page_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTMOVE_CONFIG", "/dev/null")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    beside: list[asyncio.subprocess.Process] = []
    outputs: dict[str, str] = {}
    try:
        for words in commands():
            if words[0] == "kill":
                continue
            background = words[-1] == "&"
            process = await started(words[:-1] if background else words, tmp_path)
            if background:
                beside.append(process)
                assert process.stdout is not None
                line = await asyncio.wait_for(process.stdout.readline(), READY_S)
                assert b"is ready" in line
                continue
            output, _ = await asyncio.wait_for(process.communicate(), COMMAND_S)
            outputs[words[1]] = output.decode()
            assert process.returncode == 0, f"{shlex.join(words)}\n{output.decode()}"
    finally:
        for process in beside:
            process.kill()
            await process.communicate()
    assert "answered in" in outputs["echo"] and "no problem found" in outputs["doctor"]
    assert len(list((tmp_path / "study").glob("*.dcm"))) == 10
