"""`bench` against Orthanc and dcmqrscp, and what it says against what others have counted of the same run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import mkdtemp
from typing import Final

import pytest

from fastmove.bench.result import load
from fastmove.bench.spec import Spec, write
from tests.bench.benching import best_of_three
from tests.compat.harness import reserved_port
from tests.integration.peers import HOST, DcmtkQrScp, DcmtkStoreScp, Orthanc, Peer
from tests.integration.programs import fastmove
from tests.integration.raw import part10_dataset

SPEC: Final = Spec(studies=3, series=1, instances=60, size=300_000)
WITHIN: Final = 0.02


class Tap:
    """Forwards connections, and keeps account: of bytes, and of when they came."""

    def __init__(self) -> None:
        self.opened_at: list[float] = []
        self.last_at = 0.0
        self.nbytes = 0
        """From who connects to who is connected to."""

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, counts: bool) -> None:
        while data := await reader.read(1 << 20):
            if counts:
                self.nbytes += len(data)
                self.last_at = time.monotonic()
            writer.write(data)
            await writer.drain()
        writer.close()

    @asynccontextmanager
    async def between(self, port: int, to: Callable[[], int]) -> AsyncIterator[None]:
        """Listen on a port and forward to another for the length of a block."""
        forwarding: list[asyncio.Task[object]] = []

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.opened_at.append(time.monotonic())
            task = asyncio.current_task()
            assert task is not None
            forwarding.append(task)
            try:
                far_reader, far_writer = await asyncio.open_connection(HOST, to())
            except OSError:
                writer.close()
                return
            ways = (self._forward(reader, far_writer, counts=True), self._forward(far_reader, writer, counts=False))
            await asyncio.gather(*ways, return_exceptions=True)

        server = await asyncio.start_server(connected, HOST, port)
        try:
            yield
        finally:
            server.close()
            await asyncio.gather(*forwarding, return_exceptions=True)


def peer_of(name: str, destinations: dict[str, tuple[str, int]]) -> Orthanc | DcmtkQrScp:
    return Orthanc(destinations) if name == "orthanc" else DcmtkQrScp(destinations)


@pytest.mark.peer("dcmtk")
@pytest.mark.peer("orthanc")
@pytest.mark.parametrize("name", ["orthanc", "dcmqrscp"])
@best_of_three
async def test_retrieve_agrees_with_who_counted_the_same_bytes_and_the_same_time(name: str, tmp_path: Path) -> None:
    files = write(SPEC, tmp_path / "source")
    out, page, kept = tmp_path / "a.json", tmp_path / "a.html", Path(mkdtemp(dir=tmp_path))
    with reserved_port() as ours, reserved_port() as between, reserved_port() as asked:
        requests, objects = Tap(), Tap()
        async with peer_of(name, {"ME": (HOST, between)}) as pacs:
            await pacs.load(files)
            async with objects.between(between, lambda: ours), requests.between(asked, lambda: pacs.port):
                where = (f"{pacs.ae_title}@{HOST}:{asked}", "--aet", "ME", "--port", str(ours), "--date", "1990..")
                options = (
                    "--count",
                    "9",
                    "--parallel",
                    "2",
                    "--to",
                    kept,
                    "--no-durable",
                    "--out",
                    out,
                    "--html",
                    page,
                )
                ended = await fastmove("bench", "retrieve", *where, *options)
    assert ended.code == 0, ended.err + ended.out
    document = load(out)
    run = document["runs"][0]
    stored = list((kept / "001").glob("*.dcm"))
    assert run["objects"] == 3 * len(stored) == 3 * len(files) == 540
    assert run["bytes"] == 3 * sum(len(part10_dataset(path.read_bytes())) for path in stored)
    assert run["received_bytes"] == pytest.approx(objects.nbytes, rel=WITHIN)
    # Associations for the list, for the C-ECHOs, and then those of the moves: the run begins with the first of these.
    began = requests.opened_at[-2]
    assert run["seconds"] == pytest.approx(objects.last_at - began, rel=WITHIN, abs=0.01)
    assert run["bytes_per_s"] == pytest.approx(run["bytes"] / run["seconds"], rel=1e-4)
    assert document["peer"]["implementation_version_name"]
    assert run["latencies_ms"]["move"]["count"] == 9
    assert page.stat().st_size > 10_000


@pytest.mark.peer("dcmtk")
@pytest.mark.peer("orthanc")
@pytest.mark.parametrize("make", [Orthanc, DcmtkStoreScp], ids=["orthanc", "storescp"])
async def test_store_is_taken_by_real_peers_object_for_object(make: Callable[[], Peer], tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    async with make() as pacs:
        where = f"{pacs.ae_title}@{pacs.host}:{pacs.port}"
        load_of = ("--profile", "cr", "--count", "4", "--parallel", "2", "--new-associations")
        ended = await fastmove("bench", "store", where, *load_of, "--out", out)
        stored = [path for path in pacs.storage.rglob("*") if path.is_file()]
    assert ended.code == 0, ended.err + ended.out
    run = load(out)["runs"][0]
    assert run["statuses"] == {"0000": 4}
    assert run["latencies_ms"]["association"]["count"] == 4
    if make is DcmtkStoreScp:
        assert run["objects"] == len(stored)


@pytest.mark.peer("dcmtk")
@pytest.mark.peer("orthanc")
async def test_metrics_of_orthanc_are_asked_for_beside_the_run_and_are_on_the_page(tmp_path: Path) -> None:
    out, page = tmp_path / "a.json", tmp_path / "a.html"
    async with Orthanc(http=True) as pacs:
        where = f"{pacs.ae_title}@{pacs.host}:{pacs.port}"
        url = f"http://{HOST}:{pacs.http_port}/tools/metrics-prometheus"
        load_of = ("--synthetic", "series=1,instances=5,size=9k", "--count", "2", "--pacs-metrics", url)
        ended = await fastmove("bench", "store", where, *load_of, "--out", out, "--html", page)
    assert ended.code == 0, ended.err + ended.out
    theirs = load(out)["runs"][0]["pacs_metrics"]
    assert theirs["orthanc_count_instances"] == [0, 10]
    assert "orthanc_count_instances" in page.read_text()


@pytest.mark.peer("dcmtk")
async def test_metrics_that_cannot_be_had_are_told_of_and_the_run_goes_on(tmp_path: Path) -> None:
    async with DcmtkStoreScp() as pacs:
        where = f"{pacs.ae_title}@{pacs.host}:{pacs.port}"
        load_of = ("--synthetic", "series=1,instances=2,size=9k", "--count", "1")
        ended = await fastmove("bench", "store", where, *load_of, "--pacs-metrics", "http://127.0.0.1:1/metrics")
        refused = await fastmove("bench", "store", where, *load_of, "--pacs-metrics", "file:///etc/passwd")
    assert ended.code == 0
    assert "the PACS's metrics cannot be had" in ended.err
    assert refused.code == 1
    assert "no http:// or https:// address" in refused.err


@pytest.mark.peer("orthanc")
async def test_find_and_echo_are_answered_by_orthanc(tmp_path: Path) -> None:
    async with Orthanc() as pacs:
        await pacs.load(write(Spec(studies=2, series=1, instances=1, size=3_000), tmp_path / "source"))
        where = f"{pacs.ae_title}@{pacs.host}:{pacs.port}"
        found = await fastmove(
            "bench", "find", where, "-k", "PatientName", "--count", "5", "--out", tmp_path / "f.json"
        )
        echoed = await fastmove("bench", "echo", where, "--count", "20", "--parallel", "2")
    assert (found.code, echoed.code) == (0, 0), found.err + echoed.err
    assert load(tmp_path / "f.json")["runs"][0]["objects"] == 10
