"""Table F of the catalogue: files and durability, on `fastmove listen` and `fastmove retrieve` as users run them.

F12 is in test_kill.py, F13 in test_power_cut.py, F18 in test_catalogue_slow_disk.py, what is there already in
test_catalogue_stored.py; F04 has no quarantine here: what could not be made durable has its name no more.
"""

from __future__ import annotations

import asyncio
import errno
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.faults.forks import Forks
from tests.faults.listening import LARGE, FaultyListener, listening, unharmed
from tests.faults.shim import EVER, Kind, Plan
from tests.integration.retrieving import file_system, until

pytestmark = pytest.mark.lane("gcc")

KEPT, LOST, NEXT = 0, 1, 2
OUT_OF_RESOURCES: Final = 0xA700
NO_DURABLE: Final = ("--no-durable",)

BOTH: Final = pytest.mark.parametrize("options", [(), NO_DURABLE], ids=["durable", "fast"])


@asynccontextmanager
async def one_lost(
    forks: Forks,
    plan: Plan,
    folder: Path,
    key: str,
    op: str,
    error: int,
    first: int = 1,
    *,
    lost: int = LOST,
    options: tuple[str, ...] = (),
    named: bool = False,
) -> AsyncIterator[FaultyListener]:
    """Three objects on one association; from the first on calls fail while the second comes: it is refused for `key`.

    The first is untouched, the third is stored; the listener is as it was before.
    """
    async with AsyncExitStack() as stack:
        if named:
            stack.enter_context(plan.rule("tmpfile", str(folder), Kind.FAIL, errno.EOPNOTSUPP, 1, EVER))
        listener = await stack.enter_async_context(listening(forks, plan, folder, *options))
        peer = await stack.enter_async_context(listener.connect())
        await peer.associate()
        await listener.store(peer, KEPT)
        before = {path: path.stat() for path in listener.whole().values()}
        async with unharmed(listener):
            with plan.rule(op, str(folder), Kind.FAIL, error, first, EVER):
                assert await listener.store(peer, lost) == OUT_OF_RESOURCES
            assert await listener.store(peer, NEXT) == 0
        (refused,) = (
            event
            for event in listener.program.events
            if event["event"].startswith("fs.") and event["event"] != "fs.fallback"
        )
        assert (refused["event"], refused["status"]) == (key, OUT_OF_RESOURCES)
        assert errno.errorcode[error] in refused["detail"]
        listener.is_honest()
        assert {path: path.stat() for path in before} == before
        yield listener
        await peer.release()
        assert await listener.program.stopped() == 0


# ---------------------------------------------------------------------- F01 to F11: one call fails


@BOTH
@pytest.mark.parametrize("nth", [1, 2, 3], ids=["first", "second", "third"])
async def test_F01_no_space_at_a_write(
    nth: int, options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    folder = tmp_path / "to"
    async with one_lost(forks, plan, folder, "fs.write", "write", errno.ENOSPC, nth, lost=LARGE, options=options):
        pass


@pytest.mark.lane("mount")
@BOTH
async def test_F01_full_disk(options: tuple[str, ...], forks: Forks, tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "size=400k") as disk:
        async with listening(forks, None, disk, *options) as listener, listener.connect() as peer:
            await peer.associate()
            statuses = [await listener.store(peer, number) for number in range(4)]
            assert statuses == [0, 0, OUT_OF_RESOURCES, OUT_OF_RESOURCES]
            listener.is_honest()
            listener.whole()[KEPT].unlink()
            del listener.answered[KEPT]
            assert await listener.store(peer, 4) == 0, "what was refused takes no room"
            listener.is_honest()
            assert {event["event"] for event in listener.program.events} >= {"fs.write"}
            await listener.echoes()


@BOTH
async def test_F02_short_write_goes_on_with_the_rest(
    options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    async with listening(forks, plan, tmp_path / "to", *options) as listener, listener.connect() as peer:
        await peer.associate()
        with plan.rule("write", str(tmp_path / "to"), Kind.SHORT, 0, 1, EVER) as rule:
            assert await listener.store(peer, LOST) == 0
        assert rule.met > 10
        listener.is_honest()


@pytest.mark.parametrize(("op", "key"), [("fdatasync", "fs.fsync"), ("fsync", "fs.dirsync")], ids=["F03", "F04"])
async def test_F03_F04_sync_that_fails_is_no_success_and_the_disk_is_not_trusted_until_a_probe_succeeds(
    op: str, key: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    folder = tmp_path / "to"
    async with listening(forks, plan, folder) as listener, listener.connect() as peer:
        await peer.associate()
        assert await listener.store(peer, KEPT) == 0
        before = {path: path.stat() for path in listener.whole().values()}
        with plan.rule(op, str(folder), Kind.FAIL, errno.EIO, 1, EVER):
            assert await listener.store(peer, LOST) == OUT_OF_RESOURCES
            await listener.rejects()
            assert await listener.store(peer, NEXT) == OUT_OF_RESOURCES
            listener.is_honest()
        assert [event["event"] for event in listener.program.events if event["event"].startswith("fs.")][0] == key
        await accepts_again(listener)
        assert {path: path.stat() for path in before} == before
        assert await listener.program.stopped() == 0
        listener.is_honest()


async def test_F04_who_got_a_name_before_a_sync_failed_has_lost_it_whatever_the_next_one_says(
    forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    folder = tmp_path / "to"
    async with listening(forks, plan, folder) as listener, listener.connect() as one, listener.connect() as other:
        await one.associate()
        await other.associate()
        late = plan.rule("fsync", str(folder), Kind.DELAY, 500)
        with late as slow, plan.rule("fsync", str(folder), Kind.FAIL, errno.EIO) as rule:
            first = asyncio.ensure_future(listener.store(one, KEPT))
            await until(lambda: slow.met)
            assert await listener.store(other, LOST) == OUT_OF_RESOURCES, (
                "its name was there when the first sync failed"
            )
            assert await first == OUT_OF_RESOURCES
            assert rule.seen == 2, "the second sync was a good one"
        listener.is_honest()
        assert await listener.store(other, NEXT) == 0
        listener.is_honest()
        assert await listener.program.stopped() == 0


async def test_F03_twin_that_cannot_be_synced_is_no_success(forks: Forks, plan: Plan, tmp_path: Path) -> None:
    folder = tmp_path / "to"
    async with listening(forks, plan, folder, *NO_DURABLE) as fast, fast.connect() as peer:
        await peer.associate()
        assert await fast.store(peer, KEPT) == 0
        assert await fast.program.stopped() == 0
    async with listening(forks, plan, folder) as listener, listener.connect() as peer:
        await peer.associate()
        with plan.rule("fdatasync", str(folder), Kind.FAIL, errno.EIO, 2) as rule:  # the first is that of the new file
            assert await listener.store(peer, KEPT) == OUT_OF_RESOURCES
            assert rule.met and listener.program.seen("fs.fsync")
            await listener.rejects()
        assert listener.whole().keys() == {KEPT}
        await accepts_again(listener)


async def accepts_again(listener: FaultyListener) -> None:
    """A probe has found the disk well: an association is accepted, and an object stored."""
    async with asyncio.timeout(10):
        while True:
            try:
                await listener.echoes()
                break
            except AssertionError:  # A-ASSOCIATE-RJ
                await asyncio.sleep(0.05)
    async with listener.connect() as peer:
        await peer.associate()
        assert await listener.store(peer, 9) == 0
        await peer.release()


@BOTH
async def test_F05_quota_that_is_told_at_close(
    options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    async with one_lost(forks, plan, tmp_path / "to", "fs.close", "close", errno.EDQUOT, options=options):
        pass


@BOTH
@pytest.mark.parametrize("error", [errno.EIO, errno.EROFS, errno.EXDEV, errno.ENOSPC])
@pytest.mark.parametrize("named", [False, True], ids=["link", "rename"])
async def test_F06_name_that_cannot_be_given(
    named: bool, error: int, options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    op = "rename_new" if named else "link"
    async with one_lost(forks, plan, tmp_path / "to", "fs.rename", op, error, options=options, named=named):
        pass


async def test_F06_temporary_file_that_somebody_took_away(forks: Forks, plan: Plan, tmp_path: Path) -> None:
    async with one_lost(forks, plan, tmp_path / "to", "fs.rename", "rename_new", errno.ENOENT, named=True):
        pass


@BOTH
@pytest.mark.parametrize("error", [errno.EMFILE, errno.ENFILE, errno.EACCES, errno.EROFS, errno.EIO])
async def test_F07_F08_file_that_cannot_be_opened(
    error: int, options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    async with one_lost(forks, plan, tmp_path / "to", "fs.open", "tmpfile", error, options=options):
        pass


@BOTH
async def test_F08_folder_that_is_removed_meanwhile(options: tuple[str, ...], forks: Forks, tmp_path: Path) -> None:
    folder = tmp_path / "to"
    async with listening(forks, None, folder, *options) as listener, listener.connect() as peer:
        await peer.associate()
        assert await listener.store(peer, KEPT) == 0
        shutil.rmtree(folder)
        assert await listener.store(peer, LOST) == OUT_OF_RESOURCES
        folder.mkdir()
        assert await listener.store(peer, NEXT) == OUT_OF_RESOURCES, "it is another folder, whatever its name"
        assert not list(folder.rglob("*.dcm"))
        assert await listener.program.stopped() == 0


@pytest.mark.lane("mount")
async def test_F08_file_system_with_a_listener_cannot_be_unmounted(forks: Forks, tmp_path: Path) -> None:
    with file_system(tmp_path / "disk", "size=1m") as disk:
        async with listening(forks, None, disk) as listener, listener.connect() as peer:
            await peer.associate()
            ended = subprocess.run(["umount", disk], capture_output=True, text=True)
            assert ended.returncode and "busy" in ended.stderr
            assert await listener.store(peer, KEPT) == 0
            listener.is_honest()
            assert await listener.program.stopped() == 0


@BOTH
@pytest.mark.parametrize("error", [errno.EINTR, errno.EAGAIN])
async def test_F09_interrupted_write_is_tried_again(
    error: int, options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    async with listening(forks, plan, tmp_path / "to", *options) as listener, listener.connect() as peer:
        await peer.associate()
        with plan.rule("write", str(tmp_path / "to"), Kind.FAIL, error, 1, 20) as rule:
            assert await listener.store(peer, LOST) == 0
        assert rule.met == 20
        listener.is_honest()


@BOTH
async def test_F10_largest_file_that_the_process_may_write(
    options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    small = {"RLIMIT_FSIZE": 100_000}
    async with listening(forks, plan, tmp_path / "to", *options, limits=small) as listener, listener.connect() as peer:
        await peer.associate()
        async with unharmed(listener):
            assert await listener.store(peer, LOST) == OUT_OF_RESOURCES
        (refused,) = listener.program.seen("fs.write")
        assert "EFBIG" in refused["detail"]
        listener.is_honest()
        assert await listener.program.stopped() == 0


@BOTH
async def test_F11_temporary_file_that_cannot_be_removed_is_swept_by_the_next_start(
    options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    folder = tmp_path / "to"
    with plan.rule("tmpfile", str(folder), Kind.FAIL, errno.EOPNOTSUPP, 1, EVER):
        async with listening(forks, plan, folder, *options) as listener, listener.connect() as peer:
            await peer.associate()
            full = plan.rule("write", str(folder), Kind.FAIL, errno.ENOSPC)
            with full, plan.rule("unlink", str(folder), Kind.FAIL, errno.EIO):
                assert await listener.store(peer, LOST) == OUT_OF_RESOURCES
            assert await listener.store(peer, NEXT) == 0
            assert await listener.program.stopped() == 0
        assert len(list(folder.glob(".fm-*"))) == 1
        async with listening(forks, plan, folder, *options) as again:
            assert [event["files"] for event in again.program.seen("recover.swept")] == [1]
            assert await again.program.stopped() == 0
    assert set(listener.whole()) == {NEXT}


# ---------------------------------------------------------------------- F21: what a file system may lack

LACKING: Final = {
    # calls that it does not know, and how it says so
    "no unnamed files": {"tmpfile": errno.EOPNOTSUPP},
    "an old kernel": {"tmpfile": errno.EISDIR, "rename_new": errno.ENOSYS},
    "NFS": {"tmpfile": errno.EOPNOTSUPP, "rename_new": errno.EINVAL},
}


@BOTH
@pytest.mark.parametrize("lacking", LACKING)
async def test_F21_file_system_without_unnamed_files_or_rename_without_replacing(
    lacking: str, options: tuple[str, ...], forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    folder = tmp_path / "to"
    with ExitStack() as stack:
        rules = [
            stack.enter_context(plan.rule(op, str(folder), Kind.FAIL, error, 1, EVER))
            for op, error in LACKING[lacking].items()
        ]
        async with listening(forks, plan, folder, *options) as listener, listener.connect() as peer:
            await peer.associate()
            for number in (KEPT, LOST, LOST, LARGE):
                assert await listener.store(peer, number) == 0
            listener.is_honest()
            assert sorted(event["placing"] for event in listener.program.seen("store.stored")) == ["new"] * 3 + ["same"]
            assert len(listener.program.seen("fs.fallback")) == 1
            assert await listener.program.stopped() == 0
        assert all(rule.met for rule in rules)
