"""Table U of the catalogue of faults: SOP Instance UIDs as names of files."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.limits import Limits
from fastmove.notices import as_dict
from fastmove.services.listener import listen
from fastmove.storage.options import OnDuplicate, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import raw
from tests.integration.conftest import LIMITS
from tests.integration.honesty import Retrieved, retrieve
from tests.integration.listener import KEPT, Listener
from tests.integration.scripted_archive import ScriptedArchive, ScriptedMove
from tests.integration.table_m.row import STUDY, THREE, A

WITH_FOLDERS: Final = "series"
LAYOUTS: Final = ("flat", WITH_FOLDERS)

CHARACTERS: Final = {
    # U01: a way out
    "U01 up": b"../../etc/x",
    "U01 dots": b"..",
    "U01 dot": b".",
    "U01 absolute": b"/abs",
    "U01 folder": b"a/b",
    "U01 backslash": b"\\\\srv\\x",
    "U01 drive": b"C:x",
    # U02: a NUL that ends the name early
    "U02 NUL inside": b"1.2\0../x",
    # U06: what a terminal, a log or a format would take otherwise
    "U06 UTF-8": "1.2.\u00e4".encode(),
    "U06 high": b"1.2.\x80\xff",
    "U06 newline": b"1.2\n3",
    "U06 ESC": b"1.2\x1b[2J",
    "U06 format": b"%s%n",
    # U07: an option, a hidden file
    "U07 option": b"-rf",
    "U07 hidden": b".hidden",
    # U09: our own temporary file
    "U09 temporary": b".fm-1-1.part",
}
LENGTHS: Final = {"U03 65": b"1." * 32 + b"1", "U03 255": b"1." * 127 + b"1", "U03 65000": b"1." * 32499 + b"11"}
EMPTY: Final = {"U04 empty": b"", "U04 spaces": b"    ", "U04 NULs": b"\0\0"}

REFUSED: Final = [
    *((row, uid, "store.uid_chars") for row, uid in CHARACTERS.items()),
    *((row, uid, "store.uid_length") for row, uid in LENGTHS.items()),
    *((row, uid, "store.uid_empty") for row, uid in EMPTY.items()),
]
TAKEN: Final = {
    "U02 one NUL": b"1.2.7\0",
    "U07 device": b"CON",
    "U07 device with a suffix": b"nul.dcm",
    "U05 nothing between": b"1..2",
    "U05 zero": b"01.2",
    "U05 end": b"1.2.",
    "U05 letters": b"1.2.abc-D_e",
    "U05 64": b"1." * 31 + b"12",
}
INSTANCE: Final = 0x00080018
PROPER: Final = frozenset(("U02 one NUL", "U05 64"))


@asynccontextmanager
async def listening(
    directory: Path, layout: str, *, sanitize: bool = False, limits: Limits = LIMITS, **options: Any
) -> AsyncIterator[Listener]:
    """A listener into this folder."""
    under_test = Listener(directory)
    written = WriteOptions(**{"durable": False, **options}, naming=naming(layout, sanitize=sanitize))

    def notify(notice: Any) -> None:
        under_test.record(as_dict(notice))

    with StorageTarget(directory, written) as target:
        policy = AcceptPolicy(under_test.ae_title)
        async with listen(under_test.host, 0, target, policy, limits, notify, notify) as acceptor:
            under_test.port = acceptor.port
            yield under_test


def padded(uid: bytes) -> bytes:
    return uid + b"\0" * (len(uid) % 2)


def called(data: bytes, instead_of: str, uid: bytes) -> bytes:
    """A data set with a SOP Instance UID that is written as it is."""
    return data.replace(raw.element(INSTANCE, raw.uid(instead_of)), raw.element(INSTANCE, padded(uid)))


def dataset(number: int, uid: bytes) -> bytes:
    """A data set with that UID, no two of which are the same."""
    return called(raw.dataset(f"1.9.{number}"), f"1.9.{number}", uid)


async def store(listener: Listener, *uids: bytes, status: int = 0) -> None:
    """Store objects by these UIDs, written as they are, over an association that must live; then one that is fine."""
    async with listener.connect() as peer:
        await peer.associate()
        for number, uid in enumerate(uids, 1):
            command = raw.c_store_rq("1", number, change={raw.AFFECTED_SOP_INSTANCE: padded(uid)})
            await peer.send(raw.message(1, command, dataset(number, uid)))
            await peer.expect_status(status, number)
        await peer.store(KEPT, raw.dataset(KEPT), len(uids) + 1)
        await peer.release()


def objects(listener: Listener, around: Path) -> list[str]:
    """What is stored, by its place below the folder; nothing may be beside that folder."""
    assert [path for path in around.iterdir() if path != listener.directory] == []
    return [str(path.relative_to(listener.directory)) for path in listener.files() if KEPT not in path.name]


def is_one_line(listener: Listener, event: str) -> None:
    """What is written of it."""
    for each in listener.seen(event):
        line = json.dumps(each)
        assert line.isascii() and line.isprintable()


@pytest.mark.parametrize(("row", "uid", "event"), REFUSED, ids=[row for row, *_ in REFUSED])
async def test_name_is_refused_and_nothing_is_stored(tmp_path: Path, row: str, uid: bytes, event: str) -> None:
    for layout in LAYOUTS:
        around = tmp_path / layout
        around.mkdir()
        async with listening(around / "to", layout) as listener:
            await store(listener, uid, status=0x0117)
            assert (await listener.event(event))["status"] == 0x0117
            is_one_line(listener, event)
            assert objects(listener, around) == []


@pytest.mark.parametrize(("row", "uid"), TAKEN.items(), ids=TAKEN)
async def test_name_that_pacs_really_send_is_taken(tmp_path: Path, row: str, uid: bytes) -> None:
    async with listening(tmp_path / "to", "flat") as listener:
        await store(listener, uid)
        assert objects(listener, tmp_path) == [uid.decode().rstrip("\0") + ".dcm"]
        remarks = [
            event["event"] for event in listener.events if event["event"] in ("store.uid_syntax", "store.name_alias")
        ]
    assert remarks == ([] if row in PROPER else ["store.uid_syntax"])


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "fast"])
async def test_U05_remark_comes_where_nobody_is_told_of_objects_too(tmp_path: Path, durable: bool) -> None:
    under_test = Listener(tmp_path / "to")
    with StorageTarget(under_test.directory, WriteOptions(durable)) as target:
        policy = AcceptPolicy(under_test.ae_title)
        async with listen(
            under_test.host, 0, target, policy, LIMITS, lambda notice: under_test.record(as_dict(notice))
        ) as acceptor:
            under_test.port = acceptor.port
            await store(under_test, b"1.2.3", b"1.2.03", b"1.2.4", b"1..2")
            assert len(under_test.seen("store.uid_syntax")) == 2


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_U01_to_U06_unsafe_names_are_stored_under_digests_on_request(tmp_path: Path, layout: str) -> None:
    uids = [*CHARACTERS.values(), *LENGTHS.values()]
    async with listening(tmp_path / "to", layout, sanitize=True) as listener:
        await store(listener, *uids)
        found = objects(listener, tmp_path)
        assert len(listener.seen("store.name_alias")) == len(uids) - 1
        is_one_line(listener, "store.name_alias")
        above = "" if layout == "flat" else "1.2.3/1.2.3.1/"
        assert len(found) == len(uids)
        for path in found:
            name = path.removeprefix(above)
            assert "/" not in name and not name.startswith((".", "-"))
            assert "~" in name or name.removesuffix(".dcm").encode() == LENGTHS["U03 65"], "one that is a name yet"
        stored = {raw.part10_dataset((listener.directory / path).read_bytes()) for path in found}
        assert stored == {dataset(number, uid) for number, uid in enumerate(uids, 1)}


async def test_U04_object_without_a_uid_has_no_name_at_all(tmp_path: Path) -> None:
    async with listening(tmp_path / "to", "flat", sanitize=True) as listener:
        await store(listener, *EMPTY.values(), status=0x0117)
        assert objects(listener, tmp_path) == []


@pytest.mark.parametrize("layout", LAYOUTS)
async def test_U08_names_that_would_be_the_same_stay_two(tmp_path: Path, layout: str) -> None:
    async with listening(tmp_path / "to", layout, sanitize=True, on_duplicate=OnDuplicate.REPLACE) as listener:
        await store(listener, b"1/2", b"1\\2", b"1_2", b"1:2")
        found = objects(listener, tmp_path)
        assert len({Path(path).name for path in found}) == 4
        assert len(listener.seen("store.name_alias")) == 3


@pytest.mark.parametrize("on_duplicate", OnDuplicate, ids=lambda each: each.value)
@pytest.mark.parametrize("durable", [True, False], ids=["durable", "fast"])
@pytest.mark.parametrize("dangling", [True, False], ids=["dangling", "to a file"])
async def test_U10_symlink_that_has_the_name_of_an_object_is_left_alone(
    tmp_path: Path, on_duplicate: OnDuplicate, durable: bool, dangling: bool
) -> None:
    outside, to = tmp_path / "outside", tmp_path / "to"
    to.mkdir()
    (to / "1.2.7.dcm").symlink_to(outside)
    if not dangling:
        outside.write_bytes(b"mine")
    async with listening(to, "flat", durable=durable, on_duplicate=on_duplicate) as listener:
        await store(listener, b"1.2.7", status=0xA700)
        await listener.event("fs.symlink")
    assert (to / "1.2.7.dcm").is_symlink()
    assert sorted(path.name for path in to.iterdir()) == ["1.2.7.dcm", f"{KEPT}.dcm"]
    assert outside.exists() is not dangling
    assert dangling or outside.read_bytes() == b"mine"


async def test_U10_symlink_that_has_the_name_of_a_folder_is_not_entered(tmp_path: Path) -> None:
    outside, to = tmp_path / "outside", tmp_path / "to"
    outside.mkdir()
    to.mkdir()
    (to / "1.2.3").symlink_to(outside)
    async with listening(to, "study") as listener, listener.connect() as peer:
        await peer.associate()
        await peer.send(raw.message(1, raw.c_store_rq("1.2.7"), raw.dataset("1.2.7")))
        await peer.expect_status(0xA700)
        await peer.release()
        await listener.event("fs.symlink")
    assert list(outside.iterdir()) == []


LOOKING: Final = LIMITS.replace(folder_look_s=0.02, big_folder_files=4)


@pytest.mark.parametrize("durable", [True, False], ids=["durable", "fast"])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_U11_objects_stay_in_the_folder_that_was_opened(tmp_path: Path, layout: str, durable: bool) -> None:
    to, there, other = tmp_path / "to", tmp_path / "there", tmp_path / "other"
    other.mkdir()
    async with listening(to, layout, durable=durable, limits=LOOKING) as listener, listener.connect() as peer:
        await peer.associate()
        await peer.store("1.2.7", raw.dataset("1.2.7"))
        assert listener.seen("fs.dir_changed") == []
        to.rename(there)
        to.symlink_to(other)
        await peer.store("1.2.8", raw.dataset("1.2.8"), 2)
        await listener.event("fs.dir_changed")
        await peer.release()
    assert sorted(path.name for path in there.rglob("*.dcm")) == ["1.2.7.dcm", "1.2.8.dcm"]
    assert list(other.iterdir()) == []
    assert len(listener.seen("fs.dir_changed")) == 1


async def test_U11_change_at_the_very_end_is_told_of_too(tmp_path: Path) -> None:
    async with listening(tmp_path / "to", "flat", limits=LIMITS.replace(folder_look_s=3600.0)) as listener:
        await store(listener)
        (tmp_path / "to").rename(tmp_path / "there")
    assert len(listener.seen("fs.dir_changed")) == 1


async def test_U12_folder_of_many_files_works_and_is_told_of(tmp_path: Path) -> None:
    async with listening(tmp_path / "to", "flat", limits=LOOKING) as listener:
        await store(listener, b"1.1", b"1.2")
        assert listener.seen("fs.dir_big") == []
        await store(listener, b"1.3", b"1.4")
        await listener.event("fs.dir_big")
        await store(listener, b"1.5")
        assert len(objects(listener, tmp_path)) == 5
    assert len(listener.seen("fs.dir_big")) == 1


@pytest.mark.nightly
async def test_U12_300000_objects_in_one_folder(tmp_path: Path) -> None:
    async with listening(tmp_path / "to", "flat") as listener, listener.connect() as peer:
        await peer.associate()
        for number in range(300_000):
            uid = f"1.2.{number}"
            await peer.store(uid, raw.dataset(uid, pixel_bytes=16), number % 65535 + 1)
        await peer.release()
        assert sum(1 for _ in os.scandir(listener.directory)) == 300_000
    assert len(listener.seen("fs.dir_big")) == 1


# ---------------------------------------------------------------------- retrieve


def naming_one(uid: bytes, status: int) -> Any:
    """The first object by this UID, the others by theirs; what was refused has failed."""

    async def act(move: ScriptedMove) -> None:
        async with move.storage() as storage:
            for number, each in enumerate(move.uids, 1):
                named = {raw.AFFECTED_SOP_INSTANCE: padded(uid)} if each == A else {}
                data = move.archive.dataset(each)
                origin = {raw.ORIGINATOR_AE: raw.ae(move.originator), raw.ORIGINATOR_ID: raw.us(move.message_id)}
                command = raw.c_store_rq(each, number, change={**origin, **named})
                await storage.send(raw.message(1, command, called(data, A, uid) if each == A else data))
                await storage.expect_status(status if each == A else 0, number)
                move.archive.sent[each] += each != A
        failed = int(bool(status) and A in move.uids)
        await move.respond(0xB000 if failed else 0, None, len(move.uids) - failed, failed, 0)

    return act


async def retrieved(directory: Path, uid: bytes, status: int, *options: str) -> Retrieved:
    async with ScriptedArchive(naming_one(uid, status), dict(THREE)) as pacs:
        return await retrieve(pacs, directory, "--drain", "0.3", "--rounds", "0", *options)


async def test_U01_to_U06_unsafe_names_end_a_retrieve_with_75(tmp_path: Path) -> None:
    rows = [("U01", b"../x"), ("U03", b"1" * 65), ("U04", b""), ("U06", b"\x1b[2J")]
    runs = [retrieved(tmp_path / row, uid, 0x0117) for row, uid in rows]
    for (row, _), came in zip(rows, await asyncio.gather(*runs), strict=True):
        assert (came.code, came.finished["verdict"]) == (75, "POLICY"), row
        assert set(came.files) == set(THREE[STUDY]) - {A}
        assert set(came.verdicts[STUDY]["missing"]) == {A}
        assert sorted(path.name for path in came.directory.parent.iterdir()) == sorted(each for each, _ in rows)


async def test_U10_symlink_in_the_way_ends_a_retrieve_with_73(tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    (to / f"{A}.dcm").symlink_to(tmp_path / "outside")
    came = await retrieved(to, A.encode(), 0xA700)
    assert (came.code, came.finished["verdict"]) == (73, "STORAGE_FAILED")
    assert not (tmp_path / "outside").exists()
    assert (to / f"{A}.dcm").is_symlink()


async def test_U01_unsafe_name_is_stored_by_a_retrieve_on_request(tmp_path: Path) -> None:
    came = await retrieved(tmp_path / "to", b"../x", 0, "--sanitize", "--no-prove")
    assert (came.code, came.finished["verdict"]) == (0, "COUNTED")
    assert any("~" in name for name in came.files)
