"""The storage listener: real senders, many at once, large objects, duplicates, a full disk, a stop in mid-object."""

from __future__ import annotations

import asyncio
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.dimse.status import DUPLICATE_SOP_INSTANCE, OUT_OF_RESOURCES
from fastmove.limits import Limits
from fastmove.notices import InstanceStored
from fastmove.services.listener import listen
from fastmove.services.storage_scu import send
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.ul.negotiation import AcceptPolicy
from tests.corpus import Corpus
from tests.integration import peers, raw
from tests.integration.listener import Listener
from tests.integration.objects import data_set, data_sets, read_files, write_object, write_objects
from tests.integration.programs import Program, listen_program, refuses_connections
from tests.integration.scripted import ScriptedRequestor

UID: Final = "1.2.3.9"
LIMITS: Final = Limits(artim_s=0.3, idle_s=5.0, message_s=5.0, stop_s=1.0)
FAST_AND_DURABLE = pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
NAGLE = pytest.mark.parametrize("stock", [False, True], ids=["NODELAY", "stock"])


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


class Stored:
    """A listener in the test's own loop, and what it has told of stored objects."""

    def __init__(self, directory: Path, port: int) -> None:
        self.directory = directory
        self.port = port
        self.notices: list[InstanceStored] = []
        self.times: list[float] = []

    def on_stored(self, notice: InstanceStored) -> None:
        self.notices.append(notice)
        self.times.append(time.monotonic())

    @property
    def names(self) -> list[str]:
        return names(self.directory)

    def connect(self) -> ScriptedRequestor:
        return ScriptedRequestor("127.0.0.1", self.port)


@asynccontextmanager
async def listening(directory: Path, options: WriteOptions | None = None) -> AsyncIterator[Stored]:
    """A listener into this directory."""
    stored = Stored(directory, 0)
    with StorageTarget(directory, options or WriteOptions(durable=False)) as target:
        policy = AcceptPolicy("FASTMOVE")
        async with listen("127.0.0.1", 0, target, policy, LIMITS, on_stored=stored.on_stored) as acceptor:
            stored.port = acceptor.port
            yield stored


# ---------------------------------------------------------------------- real senders


@pytest.mark.peer("dcmtk")
@NAGLE
@FAST_AND_DURABLE
async def test_storescu_is_stored_byte_equal(listener: Listener, stock: bool, corpus: Corpus) -> None:
    async with peers.DcmtkStoreScp() as reference:
        for to in (reference, listener):
            code, output = await peers.storescu(to, *corpus.paths, stock=stock)  # type: ignore[arg-type]
            assert code == 0, output
        ours = data_sets({path.stem: path for path in listener.files()})
        assert ours == data_sets(reference.stored())
    assert ours.keys() == {file.sop_instance for file in corpus.files}


@pytest.mark.peer("pynetdicom")
@FAST_AND_DURABLE
async def test_pynetdicom_is_stored_byte_equal(listener: Listener, corpus: Corpus) -> None:
    script = str(Path(__file__).with_name("pynetdicom_storescu.py"))
    to = (listener.ae_title, listener.host, str(listener.port))
    code, output = await peers.run_tool(sys.executable, script, *to, *map(str, corpus.paths))
    assert code == 0, output
    sources = data_sets({file.sop_instance: file.path for file in corpus.files})
    assert data_sets({path.stem: path for path in listener.files()}) == sources


@pytest.mark.peer("dcmtk")
async def test_storescu_under_nagle_does_not_wait_for_our_acknowledgements(tmp_path: Path) -> None:
    paths = write_objects(tmp_path / "sources", 60, pixel_bytes=8192)
    async with listening(tmp_path / "stored") as stored:
        to = peers.Address("FASTMOVE", "127.0.0.1", stored.port)
        code, output = await peers.storescu(to, *paths, stock=True)
        assert code == 0, output
    gaps = [after - before for before, after in zip(stored.times, stored.times[1:], strict=False)]
    quick, median, _ = statistics.quantiles(gaps, n=4)  # the median is also that of a machine that has others to serve
    assert quick <= 0.005 and median <= 0.02, "a delayed acknowledgement costs 40 ms an object"


# ---------------------------------------------------------------------- many, large, first


@FAST_AND_DURABLE
async def test_sixteen_associations_at_once_lose_nothing(listener: Listener) -> None:
    uids = {f"1.2.3.{n}": [f"1.2.3.{n}.{k}" for k in range(1, 9)] for n in range(1, 17)}
    together = asyncio.Barrier(len(uids))

    async def store(objects: list[str]) -> None:
        async with listener.connect() as peer:
            peer.deadline = 10.0
            await peer.associate()
            await together.wait()
            for message_id, uid in enumerate(objects, 1):
                await peer.store(uid, raw.dataset(uid, pixel_bytes=20000), message_id)
            await peer.release()

    await asyncio.gather(*map(store, uids.values()))
    everything = [uid for objects in uids.values() for uid in objects]
    assert listener.stored() == sorted(raw.dataset(uid, pixel_bytes=20000) for uid in everything)


def peak_rss_bytes(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def test_large_object_costs_no_memory(tmp_path: Path) -> None:
    small, large = write_object(tmp_path, "1.2.3.1"), write_object(tmp_path, "1.2.3.2", pixel_bytes=64 << 20)
    async with listen_program(tmp_path / "stored", "--no-durable") as program:
        peer = PeerAddress("FASTMOVE", "127.0.0.1", (await program.event("listen.started"))["port"])
        await send(peer, read_files([small]))
        before = peak_rss_bytes(program.process.pid)
        outcome = await send(peer, read_files([large]))
        assert outcome.sent == 1
        assert peak_rss_bytes(program.process.pid) - before < 16 << 20
        assert await program.stopped() == 0
    assert data_set(tmp_path / "stored" / "1.2.3.2.dcm") == data_set(large)


async def test_first_object_is_stored_at_once(tmp_path: Path) -> None:
    elapsed = []
    async with listening(tmp_path) as stored:
        for number in range(5):
            started = time.perf_counter()
            async with stored.connect() as peer:
                await peer.associate()
                await peer.store(f"1.2.3.{number}", raw.dataset(f"1.2.3.{number}"))
                elapsed.append(time.perf_counter() - started)
                await peer.release()
    assert min(elapsed) < 0.05


# ---------------------------------------------------------------------- duplicates


async def store_again(directory: Path, options: WriteOptions, other: bool) -> tuple[int, Stored, os.stat_result]:
    """Store UID twice, the second time perhaps with other bytes: its status, and the first file as it was."""
    async with listening(directory, options) as stored, stored.connect() as peer:
        await peer.associate()
        await peer.store(UID, raw.dataset(UID))
        first = (directory / f"{UID}.dcm").stat()
        data = raw.dataset(UID, pixel_bytes=600) if other else raw.dataset(UID)
        await peer.send(raw.message(1, raw.c_store_rq(UID, 2), data))
        status = (await peer.read_reply()).status
        await peer.release()
    return status, stored, first


@pytest.mark.parametrize("on_duplicate", list(OnDuplicate))
@FAST_AND_DURABLE
async def test_identical_duplicate_is_success_and_leaves_the_file_alone(
    tmp_path: Path, on_duplicate: OnDuplicate, durable: bool
) -> None:
    status, stored, first = await store_again(tmp_path, WriteOptions(durable, on_duplicate), other=False)
    now = (tmp_path / f"{UID}.dcm").stat()
    assert (status, stored.names) == (0, [f"{UID}.dcm"])
    assert (now.st_ino, now.st_mtime_ns) == (first.st_ino, first.st_mtime_ns)
    assert [notice.placing for notice in stored.notices] == ["new", "same"]


@FAST_AND_DURABLE
async def test_other_object_with_the_same_uid_is_kept_beside(tmp_path: Path, durable: bool) -> None:
    status, stored, _ = await store_again(tmp_path, WriteOptions(durable, OnDuplicate.KEEP_BOTH), other=True)
    assert (status, stored.names) == (0, [f"{UID}.dcm", f"{UID}.dup1.dcm"])
    assert data_set(tmp_path / f"{UID}.dcm") == raw.dataset(UID)
    assert data_set(tmp_path / f"{UID}.dup1.dcm") == raw.dataset(UID, pixel_bytes=600)
    assert [notice.placing for notice in stored.notices] == ["new", "beside"]


@FAST_AND_DURABLE
async def test_other_object_with_the_same_uid_replaces_the_first(tmp_path: Path, durable: bool) -> None:
    status, stored, _ = await store_again(tmp_path, WriteOptions(durable, OnDuplicate.REPLACE), other=True)
    assert (status, stored.names) == (0, [f"{UID}.dcm"])
    assert data_set(tmp_path / f"{UID}.dcm") == raw.dataset(UID, pixel_bytes=600)
    assert [notice.placing for notice in stored.notices] == ["new", "replaced"]


@FAST_AND_DURABLE
async def test_other_object_with_the_same_uid_is_refused(tmp_path: Path, durable: bool) -> None:
    status, stored, _ = await store_again(tmp_path, WriteOptions(durable, OnDuplicate.FAIL), other=True)
    assert (status, stored.names) == (DUPLICATE_SOP_INSTANCE, [f"{UID}.dcm"])
    assert data_set(tmp_path / f"{UID}.dcm") == raw.dataset(UID)
    assert [notice.placing for notice in stored.notices] == ["new"]


# ---------------------------------------------------------------------- a full disk


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB; for tests of the lane "mount"."""
    directory = tmp_path / "disk"
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", directory], check=True)
    try:
        yield directory
    finally:
        subprocess.run(["umount", directory], check=True)


async def goes_on_after_too_large(peer: ScriptedRequestor) -> None:
    """An object of 4 MiB is out of resources; the association lives and stores a smaller one."""
    await peer.associate()
    large = raw.message(1, raw.c_store_rq("1.2.3.1", 1), raw.dataset("1.2.3.1", pixel_bytes=4 << 20))
    await peer.send(large)
    reply = await peer.expect_status(OUT_OF_RESOURCES, 1)
    assert any(word in reply.fields[0x0902] for word in (b"ENOSPC", b"EFBIG")), "the comment names the reason"
    await peer.store("1.2.3.2", raw.dataset("1.2.3.2"), 2)
    await peer.release()


@pytest.mark.lane("mount")
@FAST_AND_DURABLE
async def test_full_disk_is_out_of_resources_and_the_association_lives(small_disk: Path, durable: bool) -> None:
    async with listening(small_disk, WriteOptions(durable)) as stored, stored.connect() as peer:
        await goes_on_after_too_large(peer)
        assert stored.names == ["1.2.3.2.dcm"]
        assert os.statvfs(small_disk).f_bfree * os.statvfs(small_disk).f_frsize > 1 << 20, "the space is not given back"


async def test_file_size_limit_is_out_of_resources_and_the_association_lives(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--no-durable") as program:
        port = (await program.event("listen.started"))["port"]
        resource.prlimit(program.process.pid, resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
        async with ScriptedRequestor("127.0.0.1", port) as peer:
            await goes_on_after_too_large(peer)
        assert (await program.event("fs.write"))["status"] == OUT_OF_RESOURCES
        assert await program.stopped() == 0
    assert names(tmp_path) == ["1.2.3.2.dcm"]


# ---------------------------------------------------------------------- the end


async def in_flight(program: Program) -> tuple[ScriptedRequestor, list[bytes]]:
    """An association with one object stored and the first half of another sent; the other half."""
    requestor = ScriptedRequestor("127.0.0.1", (await program.event("listen.started"))["port"], deadline=5.0)
    await requestor.__aenter__()
    await requestor.associate()
    await requestor.store("1.2.3.1", raw.dataset("1.2.3.1"))
    data = raw.message(1, raw.c_store_rq(UID, 2), raw.dataset(UID, pixel_bytes=100_000))
    await requestor.send(data[:50_000])
    return requestor, [data[50_000:]]


@pytest.mark.parametrize("option", ["--durable", "--no-durable"])
async def test_stop_waits_for_the_object_in_flight(tmp_path: Path, option: str) -> None:
    async with listen_program(tmp_path, option) as program:
        requestor, rest = await in_flight(program)
        async with requestor:
            program.process.terminate()
            await refuses_connections(*requestor.address)
            await requestor.send(*rest)
            await requestor.expect_status(0, 2)
            await requestor.expect_abort(0, 0)
            await requestor.expect_closed()
        assert await program.ended() == 0
        assert program.seen("listen.stopped")[0]["objects"] == 2
    assert data_set(tmp_path / f"{UID}.dcm") == raw.dataset(UID, pixel_bytes=100_000)


async def test_sender_that_dies_with_an_object_in_flight_leaves_nothing_of_it(tmp_path: Path) -> None:
    async with listen_program(tmp_path) as program:
        requestor, _ = await in_flight(program)
        requestor.reset()
        await program.event("assoc.closed")
        assert await program.stopped() == 0
    assert names(tmp_path) == ["1.2.3.1.dcm"]
