"""The Python API of a retrieve, against the embedded PACS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove import Client, ConnectFailed, InstanceStored, OnDuplicate, Verdict, WriteOptions, dataset
from fastmove.bench.spec import Spec
from fastmove.limits import Limits
from fastmove.services.retrieve import client as client_module
from fastmove.services.selection.selection import Query
from fastmove.types import PeerAddress
from tests.integration import peers
from tests.integration.embedded import EmbeddedPacs, embedded_pacs

LIMITS: Final = Limits(connect_s=5.0, associate_s=5.0, response_s=5.0, drain_s=0.2, retry_s=0.01, stop_s=1.0)
SPEC: Final = Spec(studies=3, series=2, instances=5, size=2_000)
FAST: Final = WriteOptions(durable=False)


@asynccontextmanager
async def served(spec: Spec = SPEC, **options: Any) -> AsyncIterator[tuple[EmbeddedPacs, Client]]:
    port = peers.free_port()
    async with embedded_pacs(spec, destinations={"ME": PeerAddress("ME", "127.0.0.1", port)}, **options) as pacs:
        yield pacs, Client(pacs.address, "ME", port, "127.0.0.1")


async def test_each_object_is_given_as_it_is_in_place_and_the_verdict_at_the_end(tmp_path: Path) -> None:
    async with served() as (pacs, client):
        retrieval = client.retrieve(pacs.studies, to=tmp_path / "to", options=FAST, limits=LIMITS)
        with pytest.raises(RuntimeError):
            _ = retrieval.result
        stored = [each async for each in retrieval]
        assert {each.sop_instance_uid for each in stored} == pacs.instances()
        assert all(Path(each.path).is_file() for each in stored)
    assert retrieval.result.judgement.verdict is Verdict.COMPLETE
    assert retrieval.result.verdicts == {Verdict.COMPLETE: 3}


async def test_dataset_is_read_on_request(tmp_path: Path) -> None:
    async with served() as (pacs, client):
        study = next(iter(pacs.studies))
        async for stored in client.retrieve([study], to=tmp_path / "to", options=FAST, limits=LIMITS):
            read = dataset(stored)
            assert (read.StudyInstanceUID, read.SOPInstanceUID) == (study, stored.sop_instance_uid)
            assert read.pixel_array.size


async def test_second_retrieve_gives_nothing_and_is_complete(tmp_path: Path) -> None:
    async with served() as (pacs, client):
        for count in (30, 0):
            retrieval = client.retrieve(pacs.studies, to=tmp_path / "to", options=FAST, limits=LIMITS)
            assert len([each async for each in retrieval]) == count
            assert retrieval.result.judgement.verdict is Verdict.COMPLETE
        assert sum(pacs.sent.values()) == 30


async def test_query_finds_what_is_wanted(tmp_path: Path) -> None:
    async with served() as (pacs, client):
        queries = [Query(("AccessionNumber=ACC00000002",)), Query(("AccessionNumber=NONE",))]
        retrieval = client.retrieve(queries=queries, to=tmp_path / "to", options=FAST, limits=LIMITS)
        assert len([each async for each in retrieval]) == 10
    assert [each.query for each in retrieval.result.unresolved] == queries[1:]


async def test_leaving_the_loop_cancels_and_keeps_what_is_whole(tmp_path: Path) -> None:
    spec = Spec(studies=1, series=1, instances=200, size=20_000)
    taken: list[InstanceStored] = []
    async with served(spec, faults=("delay=0.002",)) as (pacs, client):
        retrieval = client.retrieve(pacs.studies, to=tmp_path / "to", options=FAST, limits=LIMITS, parallel=1)
        async with aclosing(aiter(retrieval)) as arriving:
            async for stored in arriving:
                taken.append(stored)
                if len(taken) == 3:
                    break
        assert retrieval.result.judgement.verdict is Verdict.CANCELLED
        files = list((tmp_path / "to").glob("*.dcm"))
        assert 3 <= len(files) < 200
        assert pacs.moves[-1].status == 0xFE00


async def test_cancelled_task_leaves_nothing_running(tmp_path: Path) -> None:
    spec = Spec(studies=1, series=1, instances=200, size=20_000)
    async with served(spec, faults=("delay=0.002",)) as (pacs, client):
        began = asyncio.Event()

        async def consume() -> None:
            async for _ in client.retrieve(pacs.studies, to=tmp_path / "to", options=FAST, limits=LIMITS):
                began.set()

        task = asyncio.create_task(consume())
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_slow_reader_holds_up_the_pacs_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_AHEAD", 4)
    async with served(Spec(studies=1, series=1, instances=60, size=2_000)) as (pacs, client):
        retrieval = client.retrieve(pacs.studies, to=tmp_path / "to", options=FAST, limits=LIMITS, parallel=1)
        seen: set[str] = set()
        async for stored in retrieval:
            await asyncio.sleep(0)
            assert len(list((tmp_path / "to").glob("*.dcm"))) <= len(seen) + 4 + 2
            seen.add(stored.sop_instance_uid)
        assert seen == pacs.instances()


async def test_nobody_there_is_an_error_of_the_loop(tmp_path: Path) -> None:
    client = Client(PeerAddress("NOBODY", "127.0.0.1", peers.free_port()), "ME")
    with pytest.raises(ConnectFailed):
        async for _ in client.retrieve(["1.2.3"], to=tmp_path / "to", limits=LIMITS):
            pass


async def test_duplicates_are_kept_as_the_options_say(tmp_path: Path) -> None:
    async with served() as (pacs, client):
        study = next(iter(pacs.studies))
        options = FAST.replace(on_duplicate=OnDuplicate.SKIP)
        async for _ in client.retrieve([study], to=tmp_path / "to", options=options, limits=LIMITS):
            pass
        retrieval = client.retrieve([study], to=tmp_path / "to", options=options, limits=LIMITS, refetch=True)
        assert {each.placing async for each in retrieval} == {"same"}
