"""The examples of the Python API run as they are printed: each marked block of the documentation, as a program.

A block is marked by `<!-- test: NAME -->` on the line before its fence.  The names that it leaves to the reader are
set before its first line, and it must print what EXPECTED says.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Final

import pytest
from tests.corpus import Corpus
from tests.integration import peers
from tests.integration.objects import write_objects
from tests.integration.peers import DcmtkQrScp

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [*sorted((ROOT / "docs" / "how-to").glob("*.md")), ROOT / "docs" / "reference" / "api.md"]
BLOCK: Final = re.compile(r"^<!-- test: (\S+) -->\n```python\n(.*?)^```", re.M | re.S)
EXAMPLE_S: Final = 30.0

EXPECTED: Final[dict[str, str]] = {
    "echo": r"is there\n$",
    "find": r"^1\.2\.826\S+ Test\^Patient1\n",
    "retrieve": r"^(\S+\.dcm \d+ bytes [A-Z]+\n){7}COMPLETE after",
    "move": r"^(\S+\.dcm \d+ bytes\n){7}COMPLETE 0 missing\n$",
    "listen": r"^listening on 127\.0\.0\.1:\d+\n(ME sent \S+ to \S+\.dcm\n){3}$",
    "store": r"^3 objects, \d+ bytes\n$",
    "associate": r"^(0000 \S+\.dcm\n){3}$",
    "notices": r"listen\.started[^\n]*\n(.*\n)*\d+ sent, \d+ to come\n",
    "fixture": r"^$",
    "testing": r"^2 studies, 2 instances\n$",
    "reference": r"^1\.2\.826\S+ COMPLETE \(\)\n$",
}
"""What each example prints."""


def examples() -> list[tuple[str, str]]:
    """Name and source of every marked block."""
    return [found for page in PAGES for found in BLOCK.findall(page.read_text())]


def test_every_example_is_marked_and_expected() -> None:
    fences = sum(page.read_text().count("```python\n") for page in PAGES)
    names = [name for name, _ in examples()]
    assert len(names) == fences, "a Python block is not marked as a test"
    assert sorted(names) == sorted(EXPECTED)


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize(("name", "source"), examples(), ids=[name for name, _ in examples()])
async def test_example_prints_what_it_should(name: str, source: str, corpus: Corpus, tmp_path: Path) -> None:
    listen_port = peers.free_port()
    # Not those of the corpus: dcmqrscp removes the file of an object that it is sent again.
    files = write_objects(tmp_path / "files", 3)
    async with DcmtkQrScp({"ME": (peers.HOST, listen_port)}) as archive:
        await archive.load(corpus.paths)
        reader = (
            "from pathlib import Path\n"
            "from fastmove import PeerAddress\n"
            f"PACS = PeerAddress({archive.ae_title!r}, {archive.host!r}, {archive.port})\n"
            f"LISTEN_PORT, PORT = {listen_port}, {peers.free_port()}\n"
            f"FOLDER = Path({str(tmp_path / 'folder')!r})\n"
            f"FILES = {[str(path) for path in files]!r}\n"
            f"STUDY = {corpus.studies[0]!r}\n"
        )
        script = tmp_path / f"{name}.py"
        script.write_text(reader + source)
        code, output = await peers.run_tool(sys.executable, "-W", "error", str(script), deadline=EXAMPLE_S)
    assert code == 0, output
    assert re.search(EXPECTED[name], output), output
