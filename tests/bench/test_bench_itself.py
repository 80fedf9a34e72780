"""The PACS that `bench self` starts: it need not wait for us, it always ends, and errors are told as themselves."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import pytest

from fastmove.cli.bench.itself import started_pacs
from fastmove.errors import ConfigurationError

TALKS = """#!{python}
import json, pathlib, sys
print(json.dumps({{"ae_title": "PACS", "host": "127.0.0.1", "port": 104}}), flush=True)
sys.stdout.write("x" * (1 << 20) + "\\n")  # more than a pipe takes
sys.stdout.flush()
pathlib.Path({told!r}).touch()
import signal
signal.pause()
"""


def program(monkeypatch: pytest.MonkeyPatch, path: Path, text: str) -> None:
    """This is started in place of the PACS."""
    path.write_text(text)
    path.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(path))


async def test_pacs_that_tells_much_does_not_wait_for_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    program(monkeypatch, tmp_path / "pacs", TALKS.format(python=sys.executable, told=str(told)))
    async with asyncio.timeout(20):
        async with started_pacs("", 11112) as peer:
            assert (peer.ae_title, peer.port) == ("PACS", 104)
            while not told.exists():
                await asyncio.sleep(0.01)


async def test_error_while_it_runs_is_told_as_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TALKS.format(python=sys.executable, told=str(tmp_path / "told"))
    program(monkeypatch, tmp_path / "pacs", text)
    with pytest.raises(KeyError, match="ours"):
        async with started_pacs("", 11112):
            raise KeyError("ours")


async def test_pacs_that_does_not_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(monkeypatch, tmp_path / "pacs", "#!/bin/sh\nexit 3\n")
    with pytest.raises(ConfigurationError, match="does not start"):
        async with started_pacs("", 11112):
            pytest.fail("nobody is there")
