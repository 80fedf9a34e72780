"""Retrieves from a real dcmqrscp and a real Orthanc, which is told to send to whom by AE title.

Each archive serves both programs at once; each program has an AE title, and so a listener, of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.compat.deviations import unexplained
from tests.compat.harness import CANDIDATE, ITSELF, JUDGE, differences, facts_of, files_in, reserved_port, run
from tests.compat.tape import Facts
from tests.corpus import Corpus
from tests.integration.peers import DcmtkQrScp, Orthanc, Peer

DEADLINE_S: Final = 60.0
PROGRAMS: Final[Mapping[str, Sequence[str]]] = {"JUDGE": JUDGE, "CANDIDATE": CANDIDATE}
ROWS: Final[tuple[tuple[str, Sequence[str]], ...]] = (  # name, options, with {study} for the study
    ("normal", ()),
    ("bit preserving", ("+B",)),
    ("accept all", ("+xa",)),
    ("JPEG", ("+xy",)),
    ("deflated", ("+xd",)),
    ("big endian", ("+xb", "+te")),
    ("implicit", ("+xi", "-e", "-g")),
    ("a directory", ("-od", "out")),
    ("data sets alone", ("-F", "+ti")),
    ("smallest PDU", ("-pdu", "4096")),
)
LEVELS: Final[tuple[tuple[str, Sequence[str]], ...]] = (
    ("patient", ("-P", "-k", "0008,0052=PATIENT", "-k", "0010,0020=PAT1")),
    ("study", ("-S", "-k", "0008,0052=STUDY", "-k", "0020,000D={study}")),
    ("no such study", ("-S", "-k", "0008,0052=STUDY", "-k", "0020,000D=1.2.3.4.5.6")),
    ("no such level", ("-S", "-k", "0008,0052=NONSENSE", "-k", "0020,000D={study}")),
    ("no level", ("-S", "-k", "0020,000D={study}")),
)
STUDY_KEYS: Final = LEVELS[1][1]


async def retrieved(peer: Peer, title: str, port: int, options: Sequence[str], study: str) -> Facts:
    """What one program gets, and prints."""
    with TemporaryDirectory(prefix="compat-") as name:
        directory = Path(name)
        (directory / "out").mkdir()
        words = ("-aet", title, "-aec", peer.ae_title, "+P", str(port), *options, peer.host, str(peer.port))
        command = [*PROGRAMS[title], *(word.format(study=study) for word in words)]
        ended = await run(command, directory, {"TCP_NODELAY": "1"}, DEADLINE_S)
        return facts_of(ended, {str(port): "LISTEN", name: "DIR"}) | files_in(directory)


async def compare(peer: Peer, ports: Mapping[str, int], rows: Sequence[tuple[str, Sequence[str]]], study: str) -> None:
    """Every row with both programs at the same time; all differences in one message."""
    found: list[str] = []
    for name, options in rows:
        async with asyncio.TaskGroup() as both:
            pairs = [both.create_task(retrieved(peer, title, ports[title], options, study)) for title in PROGRAMS]
        judge, ours = (pair.result() for pair in pairs)
        if ITSELF:
            unknown, missing = differences(judge, ours), []
        else:
            unknown, missing = unexplained(f"{type(peer).__name__}/{name}", differences(judge, ours))
        found += [f"{name}: {line}" for line in unknown]
        found += [f"{name}: no longer a deviation: {entry.reason}" for entry in missing]
    assert not found, "\n".join(found)


def rows_for(study: Sequence[tuple[str, Sequence[str]]]) -> list[tuple[str, Sequence[str]]]:
    """These options for a whole study, and every level."""
    return [(name, (*options, *STUDY_KEYS)) for name, options in study] + list(LEVELS)


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("number", range(3))
async def test_a_study_comes_from_dcmqrscp_as_with_movescu(corpus: Corpus, number: int) -> None:
    with ExitStack() as stack:
        ports = {title: stack.enter_context(reserved_port()) for title in PROGRAMS}
        async with DcmtkQrScp({title: ("127.0.0.1", port) for title, port in ports.items()}) as peer:
            await peer.load(corpus.paths)
            await compare(peer, ports, rows_for(ROWS)[number::3], corpus.studies[number])


@pytest.mark.peer("dcmtk")
@pytest.mark.peer("orthanc")
@pytest.mark.parametrize("number", range(3))
async def test_a_study_comes_from_orthanc_as_with_movescu(corpus: Corpus, number: int) -> None:
    with ExitStack() as stack:
        ports = {title: stack.enter_context(reserved_port()) for title in PROGRAMS}
        async with Orthanc({title: ("127.0.0.1", port) for title, port in ports.items()}) as peer:
            await peer.load(corpus.paths)
            await compare(peer, ports, rows_for(ROWS)[number::3], corpus.studies[number])
