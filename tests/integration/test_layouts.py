"""The storage listener with names from the data sets, and with an observer that wants to be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from fastmove.dimse.status import INVALID_SOP_INSTANCE, OUT_OF_RESOURCES
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.notices import InstanceRefused, InstanceStored, Notice
from fastmove.services.listener import listen
from fastmove.services.storage_scp import OnStored
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

HOST: Final = "127.0.0.1"
LIMITS: Final = Limits(artim_s=0.3, idle_s=5.0, message_s=5.0, stop_s=1.0)
LAYOUT: Final = naming("patient")
FAST_AND_DURABLE = pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])


def files(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


@asynccontextmanager
async def listening(
    directory: Path,
    options: WriteOptions,
    on_stored: OnStored | None = None,
    refused: list[Notice] | None = None,
) -> AsyncIterator[tuple[Acceptor, ScriptedRequestor]]:
    """A listener into this directory, and a peer that is associated with it."""

    def notify(notice: Notice) -> None:
        if refused is not None and isinstance(notice, InstanceRefused):
            refused.append(notice)

    with StorageTarget(directory, options) as target:
        async with (
            listen(HOST, 0, target, AcceptPolicy("FASTMOVE"), LIMITS, notify, on_stored) as acceptor,
            ScriptedRequestor(HOST, acceptor.port) as peer,
        ):
            await peer.associate()
            yield acceptor, peer


@FAST_AND_DURABLE
@pytest.mark.parametrize("told", [False, True])
async def test_objects_go_to_their_folders(tmp_path: Path, durable: bool, told: bool) -> None:
    notices: list[InstanceStored] = []
    options = WriteOptions(durable, naming=LAYOUT)
    async with listening(tmp_path, options, notices.append if told else None) as (acceptor, peer):
        for number, study in enumerate(("1.2.3", "1.2.4", "1.2.3"), 1):
            uid = f"{study}.9.{number}"
            await peer.store(uid, raw.dataset(uid, study=study), number)
        await peer.release()
    assert files(tmp_path) == [
        "SCRIPTED/1.2.3/1.2.3.1/1.2.3.9.1.dcm",
        "SCRIPTED/1.2.3/1.2.3.1/1.2.3.9.3.dcm",
        "SCRIPTED/1.2.4/1.2.4.1/1.2.4.9.2.dcm",
    ]
    assert acceptor.objects == 3
    if told:
        assert sorted(notice.path for notice in notices) == [str(tmp_path / name) for name in files(tmp_path)]
    stored = (tmp_path / "SCRIPTED/1.2.4/1.2.4.1/1.2.4.9.2.dcm").read_bytes()
    assert raw.part10_dataset(stored) == raw.dataset("1.2.4.9.2", study="1.2.4")


@FAST_AND_DURABLE
async def test_object_that_comes_again_changes_nothing_and_another_one_is_skipped(
    tmp_path: Path, durable: bool
) -> None:
    notices: list[InstanceStored] = []
    options = WriteOptions(durable, OnDuplicate.SKIP, naming=LAYOUT)
    async with listening(tmp_path, options, notices.append) as (_, peer):
        await peer.store("1.2.9", raw.dataset("1.2.9"), 1)
        before = Path(notices[0].path).stat()
        await peer.store("1.2.9", raw.dataset("1.2.9"), 2)
        await peer.store("1.2.9", raw.dataset("1.2.9", pixel_bytes=600), 3)
        await peer.release()
    now = Path(notices[0].path).stat()
    assert (now.st_ino, now.st_mtime_ns, now.st_size) == (before.st_ino, before.st_mtime_ns, before.st_size)
    assert [notice.placing for notice in notices] == ["new", "same", "skipped"]
    assert len({notice.path for notice in notices}) == 1
    assert len(files(tmp_path)) == 1


@FAST_AND_DURABLE
async def test_place_that_is_occupied_is_out_of_resources_and_the_association_lives(
    tmp_path: Path, durable: bool
) -> None:
    refused: list[Notice] = []
    (tmp_path / "SCRIPTED").touch()
    options = WriteOptions(durable, naming=naming("{patient}/{class}/{sop}.dcm"))
    async with listening(tmp_path, options, refused=refused) as (_, peer):
        for number in (1, 2):
            await peer.send(raw.message(1, raw.c_store_rq("1.2.9", number), raw.dataset("1.2.9")))
            await peer.expect_status(OUT_OF_RESOURCES, number)
        (tmp_path / "SCRIPTED").unlink()
        await peer.store("1.2.9", raw.dataset("1.2.9"), 3)
        await peer.release()
    assert [notice.event for notice in refused] == ["fs.occupied"] * 2
    assert files(tmp_path) == [f"SCRIPTED/{raw.CT_IMAGE}/1.2.9.dcm"]


@pytest.mark.parametrize("uid", [b"../../etc/x\0", b"..", b"a/b\0", b"", b"1" * 66])
async def test_sop_instance_uid_that_is_no_safe_name_is_refused_before_its_data_come(
    tmp_path: Path, uid: bytes
) -> None:
    async with listening(tmp_path / "in", WriteOptions(durable=False, naming=LAYOUT)) as (_, peer):
        command = raw.c_store_rq("1.2.9", 1, change={raw.AFFECTED_SOP_INSTANCE: uid})
        await peer.send(raw.message(1, command, raw.dataset("1.2.9")))
        await peer.expect_status(INVALID_SOP_INSTANCE, 1)
        await peer.store("1.2.9", raw.dataset("1.2.9"), 2)
        await peer.release()
    assert files(tmp_path) == ["in/SCRIPTED/1.2.3/1.2.3.1/1.2.9.dcm"]


async def test_observer_that_fails_has_the_object_withdrawn_from_its_folder(tmp_path: Path) -> None:
    complaints: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context["message"]))

    def fails(_: InstanceStored) -> None:
        raise RuntimeError("no room")

    async with listening(tmp_path, WriteOptions(durable=False, naming=LAYOUT), fails) as (_, peer):
        await peer.send(raw.message(1, raw.c_store_rq("1.2.9", 1), raw.dataset("1.2.9")))
        await peer.expect_status(0x0110, 1)
        await peer.release()
    assert files(tmp_path) == []
    assert complaints == ["on_stored failed for SCRIPTED/1.2.3/1.2.3.1/1.2.9.dcm"]


# ---------------------------------------------------------------------- observers that are waited for


@FAST_AND_DURABLE
async def test_association_waits_for_what_its_observer_returns(tmp_path: Path, durable: bool) -> None:
    told: list[str] = []
    busy: Future[None] = Future()

    def on_stored(notice: InstanceStored) -> Future[None] | None:
        told.append(notice.sop_instance_uid)
        return busy if len(told) == 2 else None

    async with listening(tmp_path, WriteOptions(durable), on_stored) as (acceptor, peer):
        stores = [raw.message(1, raw.c_store_rq(f"1.2.{n}", n), raw.dataset(f"1.2.{n}")) for n in range(1, 5)]
        await peer.send(*stores)
        for number in (1, 2):
            await peer.expect_status(0, number)
        (connection,) = acceptor.connections
        assert connection.receiver.suspended
        async with ScriptedRequestor(HOST, acceptor.port) as other:
            await other.associate()
            await other.echo()
            await other.release()
        assert told == ["1.2.1", "1.2.2"]
        busy.set_result(None)
        for number in (3, 4):
            await peer.expect_status(0, number)
        assert told == ["1.2.1", "1.2.2", "1.2.3", "1.2.4"]
        await peer.release()


async def test_association_that_ends_while_it_waits_leaves_nothing(tmp_path: Path) -> None:
    busy: Future[None] = Future()
    async with listening(tmp_path, WriteOptions(durable=False), lambda _: busy) as (acceptor, peer):
        await peer.store("1.2.1", raw.dataset("1.2.1"))
        (connection,) = acceptor.connections
        connection.cut()
        await connection.closed
        busy.set_result(None)
    assert files(tmp_path) == ["1.2.1.dcm"]
