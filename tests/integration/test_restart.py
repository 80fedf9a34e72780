"""A PACS that is killed in the middle of a move and started again is asked for the rest (catalogue T16, rank 20)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.limits import Limits
from fastmove.notices import Notice
from fastmove.storage.filemeta import DicomFile
from fastmove.types import PeerAddress
from tests.integration.faults import FaultProxy, Toxics
from tests.integration.honesty import AE_TITLE, retrieve_here
from tests.integration.objects import data_set, read_files, write_objects
from tests.integration.peers import HOST, DcmtkQrScp, Orthanc, free_port
from tests.integration.programs import Program

STUDIES: Final = ("1.2.3", "1.2.4")
OBJECTS: Final = 16
"""Of each study, implicit VR little endian without sequences: nobody writes that anew."""
IMPLICIT_ONLY: Final = ("-xi",)
SLOWLY: Final = Toxics(bandwidth_bytes_per_s=1_000_000)
"""So that it is in the middle when it is killed."""

LIMITS: Final = Limits(
    connect_s=5.0,
    associate_s=5.0,
    artim_s=0.5,
    release_s=1.0,
    message_s=5.0,
    response_s=5.0,
    progress_s=5.0,
    drain_s=0.3,
    retry_s=0.05,
    max_back_off_s=0.5,
    away_s=30.0,
)


class RealArchive:
    """What a program holds, and how it is killed and started again."""

    def __init__(self, address: PeerAddress, files: dict[str, DicomFile], proxy: FaultProxy) -> None:
        self.address = address
        self.restart: Callable[[], Awaitable[None]]
        self.sent = Counter[str]()
        """Nobody knows any more."""
        self.studies: dict[str, set[str]] = {}
        self._files = files
        self._proxy = proxy

    def instances(self, *studies: str) -> frozenset[str]:
        return frozenset(uid for each in studies or self.studies for uid in self.studies[each])

    def dataset(self, uid: str, /) -> bytes:
        return data_set(self._files[uid].path)

    def going_to(self, ae_title: str, port: int) -> None:
        self._proxy.port = port


Maker = Callable[[FaultProxy, dict[str, DicomFile], Path], AbstractAsyncContextManager[RealArchive]]


@asynccontextmanager
async def orthanc(proxy: FaultProxy, files: dict[str, DicomFile], folder: Path) -> AsyncIterator[RealArchive]:
    async with Orthanc({AE_TITLE: proxy.address}) as peer:
        await peer.load([file.path for file in files.values()])
        pacs = RealArchive(PeerAddress(peer.ae_title, HOST, peer.port), files, proxy)
        pacs.restart = peer.restart
        yield pacs


@asynccontextmanager
async def dcmqrscp(proxy: FaultProxy, files: dict[str, DicomFile], folder: Path) -> AsyncIterator[RealArchive]:
    async with DcmtkQrScp({AE_TITLE: proxy.address}, options=IMPLICIT_ONLY) as peer:
        await peer.load([file.path for file in files.values()])
        pacs = RealArchive(PeerAddress(peer.ae_title, HOST, peer.port), files, proxy)
        pacs.restart = peer.restart
        yield pacs


@asynccontextmanager
async def fastmove_pacs(proxy: FaultProxy, files: dict[str, DicomFile], folder: Path) -> AsyncIterator[RealArchive]:
    host, port = proxy.address
    to = ("--move-destination", f"{AE_TITLE}@{host}:{port}")
    program = Program("pacs", "--folder", folder, "--port", str(ours := free_port()), *to)
    async with program:
        await program.event("pacs.ready")

        async def restart() -> None:
            program.process.kill()
            await program.process.wait()
            await again.__aenter__()
            await again.event("pacs.ready")

        again = Program("pacs", "--folder", folder, "--port", str(ours), *to)
        pacs = RealArchive(PeerAddress("FASTPACS", HOST, ours), files, proxy)
        pacs.restart = restart
        try:
            yield pacs
        finally:
            await again.__aexit__(None, None, None)


@pytest.mark.parametrize(
    "maker",
    [
        pytest.param(orthanc, marks=pytest.mark.peer("orthanc", "dcmtk")),
        pytest.param(dcmqrscp, marks=pytest.mark.peer("dcmtk")),
        fastmove_pacs,
    ],
)
async def test_T16_pacs_that_is_killed_in_the_middle_of_a_move_and_comes_back_costs_nothing(
    maker: Maker, tmp_path: Path
) -> None:
    (folder := tmp_path / "pacs").mkdir()
    studies = {
        study: read_files(write_objects(folder / study, OBJECTS, study=study, pixel_bytes=40_000)) for study in STUDIES
    }
    files = {file.sop_instance_uid: file for held in studies.values() for file in held}
    stored = 0
    in_the_middle = asyncio.Event()

    def tell(notice: Notice) -> None:
        nonlocal stored
        stored += notice.event == "store.stored"
        if stored == 5:
            in_the_middle.set()

    async with FaultProxy(HOST, 0, outgoing=SLOWLY) as proxy, maker(proxy, files, folder) as pacs:
        pacs.studies = {study: {file.sop_instance_uid for file in held} for study, held in studies.items()}
        running = asyncio.create_task(retrieve_here(pacs, tmp_path / "stored", limits=LIMITS, tell=tell))
        async with asyncio.timeout(20.0):
            await in_the_middle.wait()
        await pacs.restart()
        came = await running
    came.is_true(pacs, tuple(studies), answers_lost=True)
    assert (came.code, came.finished["verdict"]) == (0, "COMPLETE"), came.verdicts
    assert stored < 2 * len(files), "what was there was not fetched again"
