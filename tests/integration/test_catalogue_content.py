"""Catalogue of faults, table O: what an object contains (O01-O20), over a listener, and what a retrieve makes of it.

The `listener` fixture asserts of every row that the listener goes on serving and leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from fastmove.dimse.move import Verdict
from fastmove.limits import Limits
from fastmove.notices import InstanceRefused
from fastmove.storage.options import WriteOptions
from tests.compat.harness import reserved_port
from tests.encoded import (
    BARE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    ITEM,
    ITEM_END,
    JPEG,
    LITTLE,
    PIXEL_DATA,
    SEQUENCE_END,
    UNDEFINED,
    WRITERS,
    Writer,
    deflate,
    peak_kib,
)
from tests.integration import raw
from tests.integration.conftest import LIMITS
from tests.integration.listener import KEPT, LOST, NEXT, Listener
from tests.integration.programs import COMMAND, listen_program
from tests.integration.raw import context_rq, message, part10_dataset, uid
from tests.integration.scripted import ScriptedRequestor
from tests.integration.scripted_pacs import LIMITS as RETRIEVE_LIMITS
from tests.integration.scripted_pacs import UIDS, A, B, C, Moved, ScriptedPacs, moved

CONTEXTS: Final = {IMPLICIT: 1, EXPLICIT: 5, BIG_ENDIAN: 7, DEFLATED: 9, JPEG: 11}
REQUEST: Final = raw.associate_rq(
    contexts=[
        raw.context_rq(3, raw.VERIFICATION),
        *(context_rq(pc_id, raw.CT_IMAGE, (syntax,)) for syntax, pc_id in CONTEXTS.items()),
    ]
)
"""A context for each of these transfer syntaxes."""

SEQUENCE: Final = 0x00081140
WARNINGS: Final = frozenset(
    f"store.{key}"
    for key in ("odd", "no_uid_in_ds", "nesting", "structure", "meta_in_ds", "part10_in_ds", "ts_suspect", "deflate")
)

fast_and_durable = pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
strict = pytest.mark.parametrize("write_options", [{"strict": True}], ids=["strict"])
encodings = pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN, JPEG])


def writer(syntax: str) -> Writer:
    return WRITERS.get(syntax, LITTLE)


def head(sop_instance: str = NEXT, syntax: str = IMPLICIT, sop_class: str = raw.CT_IMAGE) -> bytes:
    """The elements that say which object it is."""
    write = writer(syntax)
    return write.element(0x00080016, "UI", uid(sop_class)) + write.element(0x00080018, "UI", uid(sop_instance))


def pixels(syntax: str = IMPLICIT, nbytes: int = 512) -> bytes:
    return writer(syntax).element(PIXEL_DATA, "OW", bytes(nbytes))


async def stored(listener: Listener, data: bytes, *warnings: str, syntax: str = IMPLICIT) -> None:
    """NEXT, with this data set, is stored bit for bit, and again; each of the warnings comes once."""
    async with listener.associated(REQUEST) as peer:
        for message_id in (2, 3):
            await peer.send(message(CONTEXTS[syntax], raw.c_store_rq(NEXT, message_id), data))
            await peer.expect_status(0, message_id)
        await peer.release()
    for key in warnings:
        await listener.event(key)
    assert {key for key in WARNINGS if listener.seen(key)} == set(warnings)
    assert all(len(listener.seen(key)) == 1 for key in warnings)
    assert listener.stored() == sorted([raw.dataset(KEPT), data])
    for path in listener.files():
        assert path.read_bytes()[:132] == bytes(128) + b"DICM"


async def refused(listener: Listener, data: bytes, status: int, key: str, *, syntax: str = IMPLICIT) -> None:
    """LOST, with this data set, gets this status, as the first of an association and later; nothing of it is stored."""
    async with listener.connect() as peer:
        await peer.associate(REQUEST)
        for message_id in (1, 2):
            await peer.send(message(CONTEXTS[syntax], raw.c_store_rq(LOST, message_id), data))
            reply = await peer.expect_status(status, message_id)
            assert reply.fields[raw.AFFECTED_SOP_INSTANCE] == uid(LOST)
        await peer.store(NEXT, raw.dataset(NEXT), 3)
        await peer.release()
    assert (await listener.event(key))["sop_instance_uid"] == LOST
    assert len(listener.seen(key)) == 2
    listener.holds(NEXT)


# ---------------------------------------------------------------------- the object of the request


@fast_and_durable
@encodings
async def test_O01_another_sop_instance_than_that_of_the_request_is_refused(listener: Listener, syntax: str) -> None:
    await refused(listener, head(NEXT, syntax) + pixels(syntax), 0xA900, "store.uid_mismatch", syntax=syntax)


async def test_O01_in_a_deflated_data_set_and_in_a_long_one(listener: Listener) -> None:
    inflated = head(NEXT, EXPLICIT) + pixels(EXPLICIT)
    await refused(listener, deflate(inflated), 0xA900, "store.uid_mismatch", syntax=DEFLATED)
    listener.events.clear()
    await refused(listener, head() + pixels(nbytes=3 << 20), 0xA900, "store.uid_mismatch")


@fast_and_durable
@encodings
async def test_O02_another_sop_class_than_that_of_the_request_is_refused(listener: Listener, syntax: str) -> None:
    data = head(LOST, syntax, raw.MR_IMAGE) + pixels(syntax)
    await refused(listener, data, 0xA900, "store.class_mismatch", syntax=syntax)


WITHOUT_UIDS: Final = BARE.element(0x00100020, "LO", b"SCRIPTED") + pixels()


@fast_and_durable
async def test_O03_data_set_without_uids_is_stored_with_a_warning(listener: Listener) -> None:
    await stored(listener, WITHOUT_UIDS, "store.no_uid_in_ds")


@strict
async def test_O03_data_set_without_uids_is_refused_if_strict(listener: Listener) -> None:
    await refused(listener, WITHOUT_UIDS, 0xC000, "store.no_uid_in_ds")


# ---------------------------------------------------------------------- all of it


@fast_and_durable
@encodings
@pytest.mark.parametrize("nbytes", [512, 70_000])
async def test_O04_data_set_that_is_cut_off_is_refused(listener: Listener, syntax: str, nbytes: int) -> None:
    data = head(LOST, syntax) + pixels(syntax, nbytes)
    await refused(listener, data[:-2], 0xC000, "store.truncated", syntax=syntax)


async def test_O04_cut_off_in_the_inflated_data_set(listener: Listener) -> None:
    data = deflate((head(LOST, EXPLICIT) + pixels(EXPLICIT))[:-2])
    await refused(listener, data, 0xC000, "store.truncated", syntax=DEFLATED)


@fast_and_durable
async def test_O05_data_set_of_no_bytes_is_refused(listener: Listener, durable: bool) -> None:
    await refused(listener, b"", 0xC000, "store.empty")


@fast_and_durable
@pytest.mark.parametrize("last", [pixels(nbytes=511), pixels() + b"\0", pixels() + b"x"], ids=["odd", "\\0", "x"])
async def test_O06_odd_length_is_stored_as_it_is(listener: Listener, last: bytes) -> None:
    await stored(listener, head() + last, "store.odd")


@pytest.mark.parametrize("depth", [20_000, 1_000_000])
@pytest.mark.parametrize("closed", [True, False], ids=["closed", "open"])
async def test_O07_sequences_deep_within_each_other_are_stored(listener: Listener, depth: int, closed: bool) -> None:
    down = BARE.element(SEQUENCE, "SQ", b"", UNDEFINED) + BARE.element(ITEM, "", b"", UNDEFINED)
    up = BARE.element(ITEM_END, "", b"") + BARE.element(SEQUENCE_END, "", b"")
    data = head() + down * depth + (up * depth if closed else b"")
    await stored(listener, data, "store.nesting")


@encodings
async def test_O08_length_beyond_all_measure_is_refused(listener: Listener, syntax: str) -> None:
    private = writer(syntax).element(0x00091001, "OB", bytes(100), 0xFFFFFFFE)
    await refused(listener, head(LOST, syntax) + private, 0xC000, "store.truncated", syntax=syntax)


# ---------------------------------------------------------------------- oddities


@pytest.mark.parametrize(
    "broken",
    [
        BARE.element(SEQUENCE, "SQ", BARE.item(head()), UNDEFINED) + pixels(),
        BARE.element(SEQUENCE, "SQ", BARE.item(head()), UNDEFINED),
        BARE.element(SEQUENCE_END, "", b"") + pixels(),
        BARE.element(ITEM_END, "", b"") + pixels(),
        BARE.element(ITEM, "", b"") + pixels(),
    ],
    ids=["no end of a sequence", "nor of the data set", "end of no sequence", "end of no item", "item of nothing"],
)
async def test_O09_broken_structure_is_stored(listener: Listener, broken: bytes) -> None:
    await stored(listener, head() + broken, "store.structure")


@pytest.mark.parametrize("table", [b"", b"\xff" * 8, b"\1\2\3\4"], ids=["empty", "beyond the end", "within a fragment"])
@pytest.mark.parametrize("end", [b"", LITTLE.element(SEQUENCE_END, "", b"")], ids=["open", "closed"])
async def test_O10_encapsulated_pixels_are_stored_whatever_their_table_says(
    listener: Listener, table: bytes, end: bytes
) -> None:
    fragments = LITTLE.item(table) + LITTLE.item(bytes(3000)) + end
    data = head(NEXT, JPEG) + LITTLE.element(PIXEL_DATA, "OB", fragments, UNDEFINED)
    await stored(listener, data, syntax=JPEG)


META: Final = LITTLE.element(0x00020000, "UL", bytes(4)) + LITTLE.element(0x00020010, "UI", uid(raw.EXPLICIT_LE))


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT])
async def test_O11_group_2_is_stored_and_our_own_goes_by_the_request(listener: Listener, syntax: str) -> None:
    await stored(listener, META + head(NEXT, syntax) + pixels(syntax), "store.meta_in_ds", syntax=syntax)
    files = [path.read_bytes() for path in listener.files()]
    assert all(uid(syntax) in file[: -len(part10_dataset(file))] for file in files if META in file)


@pytest.mark.parametrize("preamble", [bytes(128), b"MZ\x90\0" * 32], ids=["zeros", "executable"])
async def test_O12_file_in_a_data_set_is_stored(listener: Listener, preamble: bytes) -> None:
    data = preamble + b"DICM" + META + head(NEXT, EXPLICIT) + pixels(EXPLICIT)
    await stored(listener, data, "store.part10_in_ds", syntax=EXPLICIT)


@pytest.mark.parametrize("as_sent", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
@encodings
async def test_O13_another_transfer_syntax_than_agreed_on_is_stored(
    listener: Listener, syntax: str, as_sent: str
) -> None:
    same = writer(syntax) is writer(as_sent)
    warnings = () if same else ("store.ts_suspect",)
    await stored(listener, head(NEXT, as_sent) + pixels(as_sent), *warnings, syntax=syntax)


def bomb(nbytes: int, beginning: bytes) -> bytes:
    """A raw deflate stream of this and so many zeros, a multiple of 1 MiB."""
    stream = zlib.compressobj(9, wbits=-15)
    first = stream.compress(beginning) + stream.flush(zlib.Z_FULL_FLUSH)
    block = stream.compress(bytes(1 << 20)) + stream.flush(zlib.Z_FULL_FLUSH)  # one like the other: nothing is kept
    data = first + block * (nbytes >> 20) + stream.flush()
    return data + bytes(len(data) % 2)


async def test_O14_deflated_gigabyte_is_stored_and_costs_nothing(listener: Listener) -> None:
    """G-E3: 1 MiB more of memory at most, and the first 64 KiB are all that is inflated."""
    data = bomb(1 << 30, head(NEXT, EXPLICIT) + LITTLE.element(PIXEL_DATA, "OB", b"", 1 << 30))
    assert len(data) < 2 << 20
    await stored(listener, deflate(head(NEXT, EXPLICIT) + pixels(EXPLICIT)), syntax=DEFLATED)
    for path in listener.files():
        path.unlink()
    before = peak_kib(anew=True)
    await stored(listener, data, syntax=DEFLATED)
    # What the test itself holds of it: message, data set read back, and each of them once more.
    assert peak_kib() - before < 1024 + 8 * len(data) // 1024


def bad_deflate(how: str, sop_instance: str) -> bytes:
    """A deflated data set that is damaged."""
    data = head(sop_instance, EXPLICIT) + pixels(EXPLICIT)
    if how == "cut off":
        data = deflate(data)[:-4]
        return data + bytes(len(data) % 2)
    return data if how == "not deflated" else b"\xff" * 1000


damages = pytest.mark.parametrize("how", ["rubbish", "not deflated", "cut off"])


@fast_and_durable
@damages
async def test_O15_damaged_deflated_data_set_is_stored(listener: Listener, how: str) -> None:
    beginning = ("store.no_uid_in_ds",) if how != "cut off" else ()
    await stored(listener, bad_deflate(how, NEXT), "store.deflate", *beginning, syntax=DEFLATED)


@strict
@damages
async def test_O15_damaged_deflated_data_set_is_refused_if_strict(listener: Listener, how: str) -> None:
    await refused(listener, bad_deflate(how, LOST), 0xC000, "store.deflate", syntax=DEFLATED)


# ---------------------------------------------------------------------- how long, how many


@fast_and_durable
@pytest.mark.parametrize("limits", [LIMITS.replace(max_object_bytes=100_000)], ids=["100 kB"])
@pytest.mark.parametrize("nbytes", [100_002, 1 << 20])
async def test_O16_longer_object_than_allowed_is_drained_and_refused(listener: Listener, nbytes: int) -> None:
    data = head(LOST) + pixels(nbytes=nbytes - len(head(LOST)) - 8)
    assert len(data) == nbytes
    await refused(listener, data, 0xA700, "store.too_big")


@pytest.mark.parametrize("limits", [LIMITS.replace(max_object_bytes=100_000)], ids=["100 kB"])
async def test_O16_object_as_long_as_allowed_is_stored(listener: Listener) -> None:
    await stored(listener, head() + pixels(nbytes=100_000 - len(head()) - 8))


async def test_O16_O15_command_takes_a_size_and_is_strict(tmp_path: Path) -> None:
    async with listen_program(tmp_path / "stored", "--max-object", "2k", "--strict", "--no-durable") as program:
        port = (await program.event("listen.started"))["port"]
        async with ScriptedRequestor(HOST, port, 5.0) as peer:
            await peer.associate(REQUEST)
            for message_id, (data, status) in enumerate(
                [(head() + pixels(nbytes=3000), 0xA700), (WITHOUT_UIDS, 0xC000), (head() + pixels(), 0)], 1
            ):
                await peer.send(message(1, raw.c_store_rq(NEXT, message_id), data))
                await peer.expect_status(status, message_id)
            await peer.release()
        await program.event("store.too_big")
        await program.event("store.no_uid_in_ds")
        assert await program.stopped() == 0
    assert [path.name for path in (tmp_path / "stored").iterdir()] == [f"{NEXT}.dcm"]


HOST: Final = "127.0.0.1"
SMALL_OBJECTS: Final = 20_000
BATCH: Final = 100
MEMORY: Final = "/dev/shm"
"""A file system that is not what is measured."""


def rss_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


def small_object(number: int) -> tuple[str, bytes]:
    """An object whose data set has 300 bytes, and its UID."""
    name = f"1.2.826.0.1.3680043.10.9999.5.{number}"
    beginning = head(name)
    return name, beginning + pixels(nbytes=300 - len(beginning) - 8)


@asynccontextmanager
async def quiet_listener(directory: Path) -> AsyncIterator[tuple[int, int]]:
    """The command without a word for each object, as it is fastest: its process id, and its port."""
    with reserved_port() as port:
        options = ("--port", str(port), "--host", HOST, "--to", str(directory), "--no-durable", "--reserve", "0")
        process = await asyncio.create_subprocess_exec(*COMMAND, "listen", *options, stderr=asyncio.subprocess.PIPE)
        try:
            assert process.stderr is not None
            assert b"listens on" in await process.stderr.readline()
            yield process.pid, port
        finally:
            process.terminate()
            await process.communicate()
        assert process.returncode == 0


async def answered(peer: ScriptedRequestor) -> None:
    """Success to each object of a batch, in their order."""
    data, at = b"", 0
    for n in range(BATCH):
        while len(data) - at < 6 or len(data) - at < 6 + int.from_bytes(data[at + 2 : at + 6], "big"):
            data += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(peer.sock, 1 << 20), peer.deadline)
        end = at + 6 + int.from_bytes(data[at + 2 : at + 6], "big")
        fields = raw.decode_command(data[at + 12 : end])
        assert (fields[raw.STATUS], fields[raw.RESPONDED_TO]) == (raw.us(0), raw.us(n))
        at = end
    assert at == len(data)


async def small_objects(directory: Path, count: int) -> tuple[int, int]:
    """Send so many on one association; what the listener needs after a quarter of them and at the end, in KiB."""
    async with quiet_listener(directory) as (pid, port), ScriptedRequestor(HOST, port, 10.0) as peer:
        await peer.associate()
        for first in range(0, count, BATCH):
            if first == count // 4:
                before = rss_kib(pid)
            objects = (small_object(number) for number in range(first, first + BATCH))
            await peer.send(*(message(1, raw.c_store_rq(name, n), data) for n, (name, data) in enumerate(objects)))
            await answered(peer)
        after = rss_kib(pid)
        await peer.release()
    return before, after


@pytest.mark.rss
async def test_O17_many_small_objects_are_all_stored_and_leave_nothing_in_memory() -> None:
    """A million of them in tests/soak."""
    with TemporaryDirectory(dir=MEMORY) as folder:
        before, after = await small_objects(Path(folder, "stored"), SMALL_OBJECTS)
        names = {path.name for path in Path(folder, "stored").iterdir()}
    assert after - before < 1024, "1 MiB for 100 000 objects at most"
    assert names == {f"{small_object(number)[0]}.dcm" for number in range(SMALL_OBJECTS)}


# ---------------------------------------------------------------------- what is of no concern


@pytest.mark.parametrize(
    "odd",
    [
        LITTLE.element(0x00090010, "LO", b"\0\xff//..\\ ") * 3 + LITTLE.element(0x00091001, "ZZ", b"abcd"),
        LITTLE.element(0x00090010, b"\0\0", b"NOBODY") + LITTLE.element(0x00091001, b"??", b"ab"),
        LITTLE.element(0x00091001, b"zz", b"abcd") + LITTLE.element(0x0009FFFF, "UN", b"abcd"),
    ],
    ids=["ZZ", "0000", "zz"],
)
async def test_O18_private_mess_and_unknown_vrs_are_stored(listener: Listener, odd: bytes) -> None:
    await stored(listener, head(NEXT, EXPLICIT) + odd + pixels(EXPLICIT), syntax=EXPLICIT)


@pytest.mark.parametrize("charset", [b"\x1b$B" * 1000, b"ISO 2022 IR 87 \\" * 500, b"\xff" * 60_000])
async def test_O19_text_is_stored_and_never_decoded(listener: Listener, charset: bytes) -> None:
    text = BARE.element(0x00100010, "PN", b"\x1b$B\xff^=" * (10 << 20 >> 3))
    data = BARE.element(0x00080005, "CS", charset) + head() + text + pixels()
    await stored(listener, data)


@pytest.mark.parametrize("syntax", [IMPLICIT, EXPLICIT, BIG_ENDIAN])
async def test_O20_preamble_is_zeros_whatever_the_data_set_is(listener: Listener, syntax: str) -> None:
    write = writer(syntax)
    program = write.element(0x00091001, "OB", b"MZ\x90\0" + b"\x7fELF" + bytes(120))
    await stored(listener, head(NEXT, syntax) + program, syntax=syntax)


# ---------------------------------------------------------------------- what a retrieve makes of it


async def retrieve(directory: Path, data: bytes, status: int, options: WriteOptions, limits: Limits) -> Moved:
    """A move of which the last object has this data set, gets this status, and counts as failed for the PACS."""

    async def act(pacs: ScriptedPacs) -> None:
        await pacs.store(A, B)
        async with pacs.storage() as storage:
            await storage.send(message(1, raw.c_store_rq(C), data))
            await storage.expect_status(status)
        await pacs.finish(0xB000, completed=2, failed=1, warning=0)

    return await moved(directory, act, listed=UIDS, options=options, limits=limits)


@pytest.mark.parametrize(
    ("data", "status", "key"),
    [
        pytest.param(raw.dataset(A), 0xA900, "store.uid_mismatch", id="O01"),
        pytest.param(raw.dataset(C, raw.MR_IMAGE), 0xA900, "store.class_mismatch", id="O02"),
        pytest.param(raw.dataset(C)[:-2], 0xC000, "store.truncated", id="O04"),
        pytest.param(b"", 0xC000, "store.empty", id="O05"),
        pytest.param(
            head(C) + BARE.element(0x00091001, "OB", bytes(100), 0xFFFFFFFE), 0xC000, "store.truncated", id="O08"
        ),
    ],
)
async def test_O01_O02_O04_O05_O08_refused_object_is_missing(
    tmp_path: Path, data: bytes, status: int, key: str
) -> None:
    ended = await retrieve(tmp_path / "stored", data, status, WriteOptions(durable=False), RETRIEVE_LIMITS)
    ended.is_judged(Verdict.INCOMPLETE, 71)
    assert ended.result.judgement.missing == {C}
    assert [n.event for n in ended.pacs.notices if isinstance(n, InstanceRefused)] == [key]


async def test_O16_object_that_is_too_long_for_us_is_a_failure_of_storage(tmp_path: Path) -> None:
    data = raw.dataset(C, pixel_bytes=5000)
    limits = RETRIEVE_LIMITS.replace(max_object_bytes=4000)
    ended = await retrieve(tmp_path / "stored", data, 0xA700, WriteOptions(durable=False), limits)
    ended.is_judged(Verdict.STORAGE_FAILED, 73, "store.too_big")
    assert ended.result.judgement.missing == {C}
