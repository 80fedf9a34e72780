"""Catalogue of faults, table R and F17: associations, descriptors, memory, disk: what there is not enough of."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from fastmove.cli.log import tell_errors
from fastmove.notices import ErrorOccurred, InstanceRefused, InstanceStored, Notice
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import Objection
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import peers, raw
from tests.integration.conftest import LIMITS, goes_on_serving
from tests.integration.embedded import embedded_pacs
from tests.integration.listener import KEPT, LOST, NEXT, Listener, listening
from tests.integration.programs import fastmove, listen_program
from tests.integration.retrieving import Retrieving, file_system
from tests.integration.scripted import ScriptedRequestor

# ---------------------------------------------------------------------- F17: room on the disk


async def test_F17_association_is_rejected_for_now_while_the_disk_is_low_and_what_stands_goes_on(
    tmp_path: Path,
) -> None:
    low: list[Objection] = []
    async with (
        listening(tmp_path, LIMITS, (lambda: None, lambda: low[-1] if low else None)) as (listener, _),
        listener.connect() as standing,
    ):
        await standing.associate()
        low.append(Objection("fs.low", "1 MB free"))
        async with listener.connect() as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(2, 3, 1)
            await peer.expect_closed()
        assert (await listener.event("fs.low"))["detail"] == "1 MB free"
        await standing.store(KEPT, raw.dataset(KEPT))
        low.clear()
        async with listener.associated() as peer:
            await peer.store(NEXT, raw.dataset(NEXT), 2)
        await standing.release()
        listener.holds(KEPT, NEXT)
        await goes_on_serving(listener)


async def test_F17_peer_that_may_not_call_learns_nothing_of_the_disk(tmp_path: Path) -> None:
    async with (
        listening(tmp_path, LIMITS, (lambda: Objection("fs.low", ""),)) as (listener, _),
        listener.connect() as peer,
    ):
        await peer.send(raw.associate_rq(called="OTHER"))
        await peer.expect_reject(1, 1, 7)
        assert not listener.seen("fs.low")


EVERYTHING: Final = ("--reserve", "1000T")
"""More than any disk has."""


async def test_F17_listener_says_at_its_start_that_the_disk_is_low_and_rejects(tmp_path: Path) -> None:
    async with listen_program(tmp_path, *EVERYTHING) as program:
        port = (await program.event("listen.started"))["port"]
        assert "are kept in reserve" in program.seen("fs.low")[0]["detail"]
        async with ScriptedRequestor("127.0.0.1", port, 5.0) as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(2, 3, 1)
        assert (await program.event("fs.low", 2))["host"] == "127.0.0.1"
        assert await program.stopped() == 0


async def test_F17_retrieve_onto_a_disk_that_is_low_asks_for_nothing(tmp_path: Path) -> None:
    to = ("--port", "0", "--to", tmp_path / "stored", "--study", "1.2.3")
    ended = await fastmove("retrieve", f"NOBODY@127.0.0.1:{peers.free_port()}", *to, *EVERYTHING)
    assert ended.code == 73
    assert "1,000 TB are kept in reserve" in ended.err
    assert "hint: make room on the disk, or say with --reserve how much is to be left" in ended.err


@pytest.mark.lane("mount")
async def test_F17_retrieve_ends_when_the_disk_gets_low_and_keeps_what_came(tmp_path: Path) -> None:
    spec = Spec(studies=1, series=1, instances=60, size=100_000)
    with file_system(tmp_path / "disk", "size=9m") as disk:
        async with embedded_pacs(spec, faults=("delay=0.04",)) as pacs:
            retrieving = Retrieving(pacs, disk / "stored", peers.free_port(), "--parallel", "1")
            ended = await retrieving.shown("--reserve", "7M")
            assert ended.code == 73
            assert "are kept in reserve" in ended.err
            assert ended.err.count("make room on the disk, or say with --reserve") == 1
            came = retrieving.whole()
            assert 0 < len(came) < spec.instances
            pacs.misbehave()
            await retrieving.settled()
            again = await retrieving.shown("--reserve", "0")
            assert (again.code, retrieving.whole().keys()) == (0, pacs.instances())
            assert pacs.objects_sent == spec.instances, "what came before is not sent again"


# ---------------------------------------------------------------------- F01: no room for what is written at the start

FULL: Final = {
    # a tmpfs of 16 pages: no room for another file, or for a byte of one
    "inodes": "size=64k,nr_inodes=3",
    "bytes": "size=64k",
}


STARTED: Final = [
    ("listen",),
    ("listen", "--processes", "2"),
    ("retrieve", "NOBODY@127.0.0.1:104", "--study", "1.2.3"),
]


@contextmanager
def full_disk(folder: Path, how: str) -> Iterator[Path]:
    """A file system that has no room for another file, or for anything in one."""
    with file_system(folder, FULL[how]) as disk:
        (disk / "stored").mkdir()
        fill(disk)
        yield disk


def fill(disk: Path) -> None:
    """Write until there is no room any more."""
    with suppress(OSError), (disk / "filling").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


@pytest.mark.lane("mount")
@pytest.mark.parametrize("how", FULL)
@pytest.mark.parametrize("verb", STARTED, ids=["listen", "two processes", "retrieve"])
async def test_F01_manifest_that_finds_no_room_at_the_start_ends_it_with_73(
    tmp_path: Path, verb: tuple[str, ...], how: str
) -> None:
    with full_disk(tmp_path / "disk", how) as disk:
        manifest = disk / "manifest.csv"
        ended = await fastmove(*verb, "--port", "0", "--to", tmp_path / "to", "--manifest", manifest)
        assert f"cannot write {manifest}: No space left on device; make room there" in ended.err
        assert ended.code == 73
        assert list((tmp_path / "to").iterdir()) == []


@pytest.mark.lane("mount")
@pytest.mark.parametrize("processes", ["1", "2"])
async def test_F01_manifest_that_finds_no_room_for_a_line_has_the_listener_end_with_73(
    tmp_path: Path, processes: str
) -> None:
    with file_system(tmp_path / "disk", "size=64k") as disk:
        manifest = disk / "manifest.jsonl"
        options = ("--manifest", str(manifest), "--processes", processes, "--no-durable")
        async with listen_program(tmp_path / "to", *options) as program:
            port = (await program.event("listen.started", int(processes)))["port"]
            fill(disk)
            async with ScriptedRequestor("127.0.0.1", port, 5.0) as peer:
                await peer.associate()
                await peer.store(KEPT, raw.dataset(KEPT))
                await peer.release()
            assert (await program.event("manifest.failed"))["path"] == str(manifest)
            assert await program.stopped() == 73
        assert [path.name for path in (tmp_path / "to").iterdir()] == [f"{KEPT}.dcm"], "stored all the same"


@pytest.mark.lane("mount")
async def test_F01_verify_that_finds_no_room_for_a_manifest_ends_with_73(tmp_path: Path) -> None:
    with full_disk(tmp_path / "disk", "inodes") as disk:
        ended = await fastmove("verify", disk / "stored", "--add")
        assert f"cannot write {disk / 'stored' / 'manifest.jsonl'}: No space left on device; make room" in ended.err
        assert ended.code == 73


@pytest.mark.lane("mount")
@pytest.mark.parametrize("how", FULL)
async def test_F01_folder_that_finds_no_room_for_its_lock_ends_it_with_73(tmp_path: Path, how: str) -> None:
    with full_disk(tmp_path / "disk", how) as disk:
        ended = await fastmove("listen", "--port", "0", "--to", disk / "stored")
        assert "No space left on device; make room there" in ended.err
        assert ended.code == 73


@pytest.mark.lane("mount")
async def test_F01_folder_that_cannot_be_made_on_a_full_disk_ends_it_with_73(tmp_path: Path) -> None:
    with full_disk(tmp_path / "disk", "inodes") as disk:
        ended = await fastmove("listen", "--port", "0", "--to", disk / "stored" / "new")
        assert f"cannot make {disk / 'stored' / 'new'}: No space left on device; make room there" in ended.err
        assert ended.code == 73


# ---------------------------------------------------------------------- R09: whoever is told of objects fails


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "fast"])
async def test_R09_object_whose_observer_fails_is_refused_and_nothing_else_is_lost(
    tmp_path: Path, durable: bool
) -> None:
    told: list[Notice] = []
    tell_errors(told.append)

    def fails_for_one(notice: InstanceStored) -> None:
        if notice.sop_instance_uid == LOST:
            raise RuntimeError("of the user's own")

    under_test = Listener(tmp_path)
    with StorageTarget(tmp_path, WriteOptions(durable=durable)) as target:
        async with listen(
            under_test.host, 0, target, AcceptPolicy("FASTMOVE"), LIMITS, told.append, fails_for_one
        ) as acceptor:
            under_test.port = acceptor.port
            async with under_test.associated() as peer:
                await peer.send(raw.message(1, raw.c_store_rq(LOST, 2), raw.dataset(LOST)))
                await peer.expect_status(0x0110, 2)
                await peer.store(NEXT, raw.dataset(NEXT), 3)
                await peer.release()
            await goes_on_serving(under_test)
    under_test.holds(KEPT, NEXT)
    errors = [notice for notice in told if isinstance(notice, ErrorOccurred)]
    assert [(error.event, error.error) for error in errors] == [("internal", "RuntimeError")]
    assert "of the user's own" not in str(told), "what an error says may quote a patient"
    assert [notice.status for notice in told if isinstance(notice, InstanceRefused)] == [0x0110]
