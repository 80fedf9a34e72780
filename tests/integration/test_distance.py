"""A PACS that is 20 ms away: several moves at once bring the objects sooner than one, and every byte of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from benchmarks.link import Link
from benchmarks.objects import Template, template, verify

from tests.integration.peers import Orthanc, free_port
from tests.integration.programs import fastmove

RTT_S = 0.02
OBJECTS, SIZE = 60, 64_000
DESTINATION = "DISTANT"


@asynccontextmanager
async def distant_orthanc(folder: Path, subject: Template) -> AsyncIterator[tuple[Link, int]]:
    """The way to an Orthanc as shipped that holds the objects, and the port where its storage associations arrive."""
    port = free_port()
    async with (
        Link(port, rtt_s=RTT_S, near_nagle=True) as back,
        Orthanc({DESTINATION: ("127.0.0.1", back.port)}, stock=True) as orthanc,
        Link(orthanc.port, rtt_s=RTT_S, far_nagle=True) as there,
    ):
        folder.mkdir()
        subject.write_files(folder, range(OBJECTS))
        sent = await fastmove("send", f"ORTHANC@127.0.0.1:{orthanc.port}", folder)
        assert sent.code == 0, sent.err
        yield there, port


async def retrieved(there: Link, port: int, subject: Template, folder: Path, parallel: str) -> dict[str, Any]:
    """The last word of a retrieve that brought everything."""
    peer = f"ORTHANC@127.0.0.1:{there.port}"
    ours = ("--aet", DESTINATION, "--port", str(port), "--host", "127.0.0.1", "--to", folder, "--parallel", parallel)
    done = await fastmove("retrieve", peer, *ours, "--study", subject.study, "--no-durable", "--json")
    assert done.code == 0, done.err
    verify(folder, [(subject, range(OBJECTS))], OBJECTS)
    return done.lines[-1]


@pytest.mark.peer("orthanc", "dcmtk")
async def test_several_moves_at_once_are_twice_as_fast_as_one(tmp_path: Path) -> None:
    subject = template("image", SIZE)
    async with distant_orthanc(tmp_path / "images", subject) as (there, port):
        seconds = {
            parallel: (await retrieved(there, port, subject, tmp_path / parallel, parallel))["seconds"]
            for parallel in ("1", "4")
        }
    assert seconds["1"] >= 1.5 * OBJECTS * RTT_S  # by Nagle's algorithm at the PACS it takes two round trips an object
    assert seconds["1"] / seconds["4"] >= 2
