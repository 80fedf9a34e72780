"""`fastmove migrate run --to s3://...` as an operator calls it, and kills it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.integration import raw
from tests.integration.programs import fastmove
from tests.integration.test_receive import peak_rss_bytes
from tests.migrate.stores import ACCESS_KEY, SECRET_KEY, Store
from tests.migrate.test_migrate_command import Commanding, commanding

SPEC: Final = Spec(studies=8, series=2, instances=5, size=3_000)
MB: Final = 1_000_000


@asynccontextmanager
async def storing(tmp_path: Path, store: Store, *faults: str, spec: Spec = SPEC) -> AsyncIterator[Commanding]:
    """A PACS that is planned, and command lines with this store."""
    async with commanding(tmp_path, *faults, spec=spec) as migrate:
        migrate.folder = tmp_path / "spool"
        at = migrate.here.index("--to")
        endpoint = f"http://127.0.0.1:{store.way.port}"
        to = ("--to", store.url, "--spool", migrate.folder, "--s3-endpoint", endpoint, "--s3-region", "us-east-1")
        migrate.here = (*migrate.here[:at], *to, *migrate.here[at + 2 :])
        planned = await migrate.plan()
        assert planned.code == 0, planned.err
        yield migrate


async def arrived(migrate: Commanding, store: Store) -> None:
    assert await migrate.status() == {"complete": len(migrate.pacs.studies)}
    held = await asyncio.to_thread(store.objects)
    found = {key.rpartition("/")[2].removesuffix(".dcm"): each for key, each in held.items()}
    assert len(found) == len(held)
    assert found.keys() == migrate.pacs.instances()
    for uid, each in found.items():
        assert raw.part10_dataset(each.content) == migrate.pacs.dataset(uid)
        assert each.metadata == {"sha256": each.sha256}
    assert len(store.keys()) == len(held) + len(migrate.pacs.studies)
    assert migrate.files() == []


async def test_archive_is_moved_to_a_bucket(tmp_path: Path, store: Store) -> None:
    async with storing(tmp_path, store) as migrate:
        log = tmp_path / "a.log"
        ran = await migrate.run("--log-file", str(log), "--log-level", "debug")
        assert ran.code == 0, ran.err
        assert "8 of 8 studies are complete" in ran.out
        await arrived(migrate, store)
        for text in (ran.out, ran.err, log.read_text()):
            assert ACCESS_KEY not in text
            assert SECRET_KEY not in text


async def test_killed_at_random_moments_it_loses_nothing_and_leaves_nothing_half(tmp_path: Path, store: Store) -> None:
    random = Random(7)
    spec = Spec(studies=12, series=1, instances=12, size=3_000)
    async with storing(tmp_path, store, "delay=0.01", spec=spec) as migrate:
        for _ in range(5):
            async with migrate.program() as program:
                await program.event("listen.started")
                await asyncio.sleep(random.uniform(0.0, 0.8))  # the random moment
                program.signal(signal.SIGKILL)
                await program.ended()
        between = await asyncio.to_thread(store.objects)
        assert all(each.metadata == {"sha256": each.sha256} for each in between.values())
        ended = await migrate.run()
        assert ended.code == 0, ended.err
        await arrived(migrate, store)


async def test_killed_in_the_middle_of_an_upload_in_parts_there_is_no_half_object(tmp_path: Path, store: Store) -> None:
    spec = Spec(studies=1, series=1, instances=1, size=16 * MB)
    under_way = asyncio.Event()
    loop = asyncio.get_running_loop()

    def alter(method: str, path: str, body: bytes) -> bytes:
        if method == "PUT" and "partNumber=2" in path:
            loop.call_soon_threadsafe(under_way.set)
        return body

    async with storing(tmp_path, store, spec=spec) as migrate:
        store.way.alter = alter
        async with migrate.program("--s3-part-size", "5Mi") as program, asyncio.timeout(30):
            await under_way.wait()
            program.signal(signal.SIGKILL)
            await program.ended()
        assert store.objects() == {}
        assert len(migrate.files()) == 1
        ended = await migrate.run("--s3-part-size", "5Mi")
        assert ended.code == 0, ended.err
        await arrived(migrate, store)


@pytest.mark.rss
async def test_large_object_costs_no_memory(tmp_path: Path, store: Store) -> None:
    spec = Spec(studies=1, series=1, instances=1, size=200 * MB)
    async with storing(tmp_path, store, spec=spec) as migrate, migrate.program() as program:
        await program.event("listen.started")
        before = peak = peak_rss_bytes(program.process.pid)
        with contextlib.suppress(AssertionError, OSError):  # it has ended
            while True:
                peak = peak_rss_bytes(program.process.pid)
                await asyncio.sleep(0.02)
        assert await program.ended() == 0, program.errors
        assert peak - before < 64 << 20
        await arrived(migrate, store)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--to", "s3://archive"), "--spool"),
        (("--to", "s3://UP!/x", "--spool", "s"), "is no name of a bucket"),
        (("--to", "s3://user:word@archive", "--spool", "s"), "without credentials"),
        (("--to", "s3://archive/../x", "--spool", "s"), "is no good prefix"),
        (("--to", "s3://archive", "--spool", "s", "--s3-endpoint", "http://store:9000"), "without TLS"),
        (("--to", "s3://archive", "--spool", "s", "--s3-endpoint", "https://a:b@store"), "without credentials"),
        (("--to", "s3://archive", "--spool", "s", "--s3-part-size", "1M"), "no parts of less than"),
        (("--to", "in", "--spool", "s"), "--spool"),
    ],
)
async def test_what_cannot_be_meant_is_told(tmp_path: Path, store: Store, options: tuple[str, ...], why: str) -> None:
    async with commanding(tmp_path) as migrate:
        await migrate.plan()
        ended = await fastmove(
            "migrate", "run", migrate.ledger, migrate.peer, "--aet", "ME", "--port", "0", *options, cwd=tmp_path
        )
        assert ended.code == 1
        assert why in ended.err
        assert "word" not in ended.err
        assert not (tmp_path / "s").exists()
        assert not migrate.pacs.moves


async def test_bucket_that_is_not_there_is_told_before_anything_is_moved(tmp_path: Path, store: Store) -> None:
    async with storing(tmp_path, store) as migrate:
        store.client.delete_bucket(Bucket=store.name)
        ended = await migrate.run()
        assert ended.code == 1
        assert f"--to: {store.url}: the store: there is no such bucket" in ended.err
        assert await migrate.status() == {"ready": 8}
        assert not migrate.pacs.moves
