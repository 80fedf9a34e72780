"""Table F of the catalogue: files and durability, on `fastmove listen` and `fastmove retrieve` as users run them.

F12 is in test_kill.py, F13 in test_power_cut.py; F04 has no quarantine here: what could not be made durable has its
name no more.
"""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.corpus import Spec
from tests.compat.harness import reserved_port
from tests.faults.forks import Forked, Forks
from tests.faults.listening import HUGE, HUGE_BYTES, LARGE, FaultyListener, listening, unharmed
from tests.faults.shim import EVER, Kind, Plan
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.peers import run_tool
from tests.integration.programs import fastmove
from tests.integration.retrieving import Retrieving, file_system, until
from tests.integration.scripted import ScriptedRequestor

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
        (refused,) = (event for event in listener.program.events if event["event"].startswith("fs."))
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


# ---------------------------------------------------------------------- F14, F15, F19, F22: what is there already

SMALL: Final = Spec(studies=2, series=1, instances=5, size=2_000)


def torn(manifest: Path) -> None:
    """The last line was not written to its end."""
    os.truncate(manifest, manifest.stat().st_size - 40)


def rubbish(manifest: Path) -> None:
    """A block of the manifest is not what was written, as after a power cut."""
    lines = manifest.read_bytes().splitlines(keepends=True)
    lines[2] = bytes(len(lines[2]) - 1) + b"\n"
    lines[3] = b"{" * (len(lines[3]) - 1) + b"\n"
    manifest.write_bytes(b"".join(lines))


@pytest.mark.parametrize("damage", [torn, rubbish, Path.unlink], ids=["torn", "rubbish", "missing"])
async def test_F14_manifest_that_is_damaged_is_made_whole_from_the_files(
    damage: Callable[[Path], object], forks: Forks, tmp_path: Path
) -> None:
    async with embedded_pacs(SMALL) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, tmp_path / "to", port)
            await completes(forks, run)
            before, manifest = run.whole(), run.folder / "manifest.jsonl"
            damage(manifest)
            await completes(forks, run)
            assert run.whole() == before and set(pacs.sent.values()) == {1}, "nothing is fetched again"
    listed = {entry["path"]: entry["sha256"] for entry in lines_of(manifest) if "path" in entry}
    assert listed == {file.path.name: file.sha256 for file in before.values()}
    ended = await fastmove("verify", run.folder, "--json")
    assert not [line for line in ended.lines if line["event"] == "verify.found"]
    lost = 2 if damage is rubbish else 0  # lines that nobody can read stay, and nobody knows what they said
    assert (ended.lines[-1]["damaged_lines"], ended.code) == (lost, 71 if lost else 0)


async def completes(forks: Forks, run: Retrieving) -> None:
    """The command, which must succeed."""
    async with Forked(forks, None, *run.command) as program:
        assert await program.ended() == 0, program.errors
    await run.settled()


def lines_of(manifest: Path) -> list[dict[str, Any]]:
    """What can be read of a manifest."""
    found = []
    for line in manifest.read_text(errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def gone(path: Path) -> None:
    path.unlink()


def shorter(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 2)


def flipped(path: Path) -> None:
    """One bit is another, as on a disk that forgets; length and time are as they were."""
    status, content = path.stat(), bytearray(path.read_bytes())
    content[-7] ^= 0x10
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    ("damage", "fault", "fetched"),
    [(gone, "missing", 1), (shorter, "size", 1), (flipped, "digest", 0)],
    ids=["F15 missing", "F15 other size", "F22 other content"],
)
async def test_F15_F22_file_that_is_not_what_the_manifest_says_is_reported(
    damage: Callable[[Path], None], fault: str, fetched: int, forks: Forks, tmp_path: Path
) -> None:
    async with embedded_pacs(SMALL) as pacs:
        with reserved_port() as port:
            run = Retrieving(pacs, tmp_path / "to", port)
            await completes(forks, run)
            victim = min(run.whole().values()).path
            damage(victim)
            ended = await fastmove("verify", run.folder, "--json")
            assert ended.code == 71
            (found,) = (line for line in ended.lines if line["event"] == "verify.found")
            assert (found["fault"], Path(found["path"]).name) == (fault, victim.name)
            pacs.sent.clear()
            async with Forked(forks, None, *run.command) as program:
                code = await program.ended()
            await run.settled()
            assert pacs.sent.total() == fetched, "what is not there by its size counts as missing again"
            assert code == (68 if damage is shorter else 0)


@pytest.mark.peer("dcmtk")
async def test_F19_partial_file_of_movescu_stays_and_the_object_is_beside_it(forks: Forks, tmp_path: Path) -> None:
    left = tmp_path / "movescu"
    left.mkdir()
    async with embedded_pacs(Spec(studies=1, series=1, instances=1, size=1_000_000)) as pacs:
        (study,), (uid,) = pacs.studies, pacs.files
        with reserved_port() as port:
            pacs.going_to("ME", port)
            await movescu_out_of_room(pacs, port, left, study)
            (partial,) = left.iterdir()
            assert partial.name.endswith(uid) and partial.stat().st_size < pacs.files[uid].path.stat().st_size
            pacs.sent.clear()
            run = Retrieving(pacs, tmp_path / "to", port)
            run.folder.mkdir()
            victim = Path(shutil.copy(partial, run.folder / f"{uid}.dcm"))
            content = victim.read_bytes()
            async with Forked(forks, None, *run.command, "--refetch") as program:
                assert await program.ended() == 68
            assert program.events[-1]["reasons"] == ["store.duplicate_differs"]
            assert victim.read_bytes() == content
            victim.unlink()
            (run.folder / f"{uid}.dup1.dcm").rename(victim)
            assert run.whole().keys() == {uid}


async def movescu_out_of_room(pacs: EmbeddedPacs, port: int, folder: Path, study: str) -> None:
    """DCMTK's movescu, which may write no file of this length, and dies of it."""
    keys = ("-S", "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}")
    titles = ("-aet", "ME", "-aem", "ME", "-aec", pacs.address.ae_title, "+P", str(port), "-od", str(folder))
    where = (pacs.address.host, str(pacs.address.port))
    code, _ = await run_tool("prlimit", "--fsize=100000", "movescu", *keys, *titles, *where)
    assert code == -signal.SIGXFSZ


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


# ---------------------------------------------------------------------- F18: a slow disk

ECHO_P99_S: Final = 0.05
ECHO_PAUSE_S: Final = 0.01
ROUNDS: Final = 3
"""Of echoes, one of which has to be quick: the machine may have others to serve, the slow disk is slow each time."""

BUSY: Final = 2.0
"""Where a disk that is not slow has them wait as well, since the machine is busy: so many times as long."""

SENDERS: Final = 6
SLOW_GROWTH_KIB: Final = 24 << 10
"""Of six associations that send 12 MB each and wait for the disk: two windows each, and what threads take."""

SLOW: Final = {
    "sync": ("fdatasync", 1000),
    "write": ("write", 200),
    "folder": ("fsync", 1000),
    "open": ("tmpfile", 300),
}


@pytest.mark.parametrize("slow", SLOW)
async def test_F18_slow_disk_delays_its_own_answers_and_nobody_else(
    slow: str, forks: Forks, plan: Plan, tmp_path: Path
) -> None:
    op, delay_ms = SLOW[slow]
    async with listening(forks, plan, tmp_path / "to") as listener, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(listener.connect(30.0)) for _ in range(SENDERS)]
        for number, peer in enumerate(peers):
            await peer.associate()
            await listener.store(peer, number)
        other = await stack.enter_async_context(listener.connect())
        await other.associate()
        numbers = count(len(peers))
        as_usual, _ = await echoes_beside(listener, peers, other, numbers)
        with plan.rule(op, str(tmp_path / "to"), Kind.DELAY, delay_ms, 1, EVER) as rule:
            slow_echo, soonest = await echoes_beside(listener, peers, other, numbers)
        assert rule.met and soonest >= delay_ms / 1000, "an answer before the disk had it"
        assert slow_echo <= max(ECHO_P99_S, BUSY * as_usual), f"{slow_echo} s, and {as_usual} s beside a quick disk"
        assert set(listener.answered.values()) == {0}
        listener.is_honest()
        assert await listener.program.stopped() == 0


async def test_F18_slow_disk_fills_no_memory(forks: Forks, plan: Plan, tmp_path: Path) -> None:
    async with listening(forks, plan, tmp_path / "to") as listener, AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(listener.connect(60.0)) for _ in range(SENDERS)]
        for number, peer in enumerate(peers):
            await peer.associate()
            await listener.store(peer, LARGE + number)
        most = resident = listener.resident_kib()
        with plan.rule("write", str(tmp_path / "to"), Kind.DELAY, 100, 1, EVER) as rule:
            storing = asyncio.gather(*(listener.store(peer, HUGE + n) for n, peer in enumerate(peers)))
            while not storing.done():
                await asyncio.wait([storing], timeout=0.02)
                most = max(most, listener.resident_kib())
        assert await storing == [0] * SENDERS and rule.met > 10 * SENDERS
        assert most - resident <= SLOW_GROWTH_KIB, f"{most - resident} KiB more, of {SENDERS * HUGE_BYTES >> 10}"
        listener.is_honest()
        assert await listener.program.stopped() == 0


async def echoes_beside(
    listener: FaultyListener, peers: Sequence[ScriptedRequestor], other: ScriptedRequestor, numbers: Iterator[int]
) -> tuple[float, float]:
    """C-ECHOs while others store, in seconds: the worst of the best round; and the quickest C-STORE."""
    measured = asyncio.Event()

    async def stores(peer: ScriptedRequestor) -> float:
        soonest = 1e9
        while not measured.is_set():
            begun = time.monotonic()
            await listener.store(peer, next(numbers))
            soonest = min(soonest, time.monotonic() - begun)
        return soonest

    storing = [asyncio.ensure_future(stores(peer)) for peer in peers]
    worst = [await worst_echo(other, 50, 1 + 50 * n) for n in range(ROUNDS)]
    measured.set()
    return min(worst), min(await asyncio.gather(*storing))


async def worst_echo(peer: ScriptedRequestor, times: int, message_id: int) -> float:
    """How long C-ECHO takes, in seconds, with a pause after each: p99 of fewer than a hundred is the worst."""
    worst = 0.0
    for number in range(times):
        begun = time.monotonic()
        await peer.echo(message_id + number)
        worst = max(worst, time.monotonic() - begun)
        await asyncio.sleep(ECHO_PAUSE_S)
    return worst
