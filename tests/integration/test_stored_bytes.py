"""G-A5: the bytes on the disk are those that were sent, whatever they are, and however they come."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastmove.services.listener import listen
from fastmove.services.storage_scu import send
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.uids import TRANSFER_SYNTAXES
from fastmove.ul.negotiation import AcceptPolicy
from tests.encoded import BARE, BIG, JPEG, LITTLE, PIXEL_DATA, SEQUENCE_END, UNDEFINED, Writer, deflate
from tests.integration import raw
from tests.integration.conftest import LIMITS
from tests.integration.objects import read_files
from tests.integration.programs import listen_program
from tests.integration.scripted import ScriptedRequestor
from tests.integration.test_receive import peak_rss_bytes

HOST: Final = "127.0.0.1"
PRIVATE: Final = "1.2.826.0.1.3680043.10.9999.77"
"""A transfer syntax of nobody."""

ELSEWHERE: Final = frozenset(uid for uid, row in TRANSFER_SYNTAXES.items() if "Referenced" in row.name)
"""Pixels that are on another server: no copy, and not taken."""

SYNTAXES: Final = (*sorted(TRANSFER_SYNTAXES.keys() - ELSEWHERE), PRIVATE)
CONTEXTS: Final = {syntax: 2 * number + 1 for number, syntax in enumerate(SYNTAXES)}
REQUEST: Final = raw.associate_rq(
    contexts=[raw.context_rq(pc_id, raw.CT_IMAGE, (syntax,)) for syntax, pc_id in CONTEXTS.items()]
)
MAX_PDU: Final = 131_072
MOST_SEGMENTS: Final = 500

numbers = itertools.count(1)


def writer(syntax: str) -> Writer:
    known = TRANSFER_SYNTAXES.get(syntax)
    if known is None or not known.implicit_vr:
        return BIG if known is not None and not known.little_endian else LITTLE
    return BARE


def data_set(seed: int, syntax: str, uid: str, longest: int) -> bytes:
    """An object of elements by chance, of odd lengths, private, with group lengths; deflated if it is to be."""
    chance, write = random.Random(seed), writer(syntax)
    data = write.element(0x00080000, "UL", chance.randbytes(4)) if chance.random() < 0.3 else b""
    data += write.element(0x00080016, "UI", raw.uid(raw.CT_IMAGE)) + write.element(0x00080018, "UI", raw.uid(uid))
    for tag in sorted(chance.sample(range(0x00090000, 0x7FE00000), chance.randrange(8))):
        vr = chance.choice(("OB", "UN", "LO", "UI", "US", "UT", "FD"))
        data += write.element(tag, vr, chance.randbytes(chance.choice((0, 1, 2, 3, 8, 64, 1001))))
    pixels = chance.randbytes(chance.randrange(longest))
    if syntax == JPEG:
        fragments = write.item() + write.item(pixels) + write.element(SEQUENCE_END, "", b"")
        data += write.element(PIXEL_DATA, "OB", fragments, UNDEFINED)
    else:
        data += write.element(PIXEL_DATA, "OW", pixels)
    known = TRANSFER_SYNTAXES.get(syntax)
    return deflate(data) if known is not None and known.deflated else data


def cut(data: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    """Pieces of these lengths, again and again; nothing is one empty piece."""
    at = 0
    for size in itertools.cycle(sizes):
        yield data[at : at + size]
        at += size
        if at >= len(data):
            return


def message(context_id: int, command: bytes, data: bytes, fragments: Sequence[int], together: Sequence[int]) -> bytes:
    """A C-STORE with its data set in fragments of these lengths, so many of them in a PDU."""
    pieces = list(cut(data, fragments))
    pdvs = [raw.pdv(context_id, raw.LAST * (n == len(pieces)), piece) for n, piece in enumerate(pieces, 1)]
    pdus, pdu, left = [raw.p_data(raw.pdv(context_id, raw.COMMAND | raw.LAST, command))], b"", itertools.cycle(together)
    room = next(left)
    for pdv in pdvs:
        if pdu and (not room or len(pdu) + len(pdv) > MAX_PDU):
            pdus.append(raw.p_data(pdu))
            pdu, room = b"", next(left)
        pdu += pdv
        room -= 1
    return b"".join((*pdus, raw.p_data(pdu)))


@contextmanager
def listening(runner: asyncio.Runner, directory: Path, *, durable: bool) -> Iterator[int]:
    """The port of a listener in the loop of the test."""
    with StorageTarget(directory, WriteOptions(durable=durable)) as target:
        context = listen(HOST, 0, target, AcceptPolicy("FASTMOVE"), LIMITS)
        port = runner.run(context.__aenter__()).port
        try:
            yield port
        finally:
            runner.run(context.__aexit__(None, None, None))


async def store(
    port: int,
    objects: dict[str, tuple[str, bytes]],
    fragments: Sequence[int],
    together: Sequence[int],
    segments: Sequence[int],
) -> None:
    """Send these objects, transfer syntax and data set by UID, in one stream that is cut into segments."""
    async with ScriptedRequestor(HOST, port, 20.0) as peer:
        answer = await peer.associate(REQUEST)
        assert set(answer.values()) == {0}
        stream = b"".join(
            message(CONTEXTS[syntax], raw.c_store_rq(uid, n), data, fragments, together)
            for n, (uid, (syntax, data)) in enumerate(objects.items(), 1)
        )
        least = len(stream) // MOST_SEGMENTS
        for segment in cut(stream, [size + least for size in segments]):
            await peer.send(segment)
            await asyncio.sleep(0)  # the listener, in this loop, reads it
        for n in range(1, len(objects) + 1):
            await peer.expect_status(0, n)
        await peer.release()


@pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
def test_data_set_is_stored_bit_for_bit_however_it_is_cut(
    runner: asyncio.Runner, tmp_path: Path, durable: bool
) -> None:
    with listening(runner, tmp_path / "stored", durable=durable) as port:

        @given(
            st.lists(st.tuples(st.integers(0, 1 << 32), st.sampled_from(SYNTAXES)), min_size=1, max_size=3),
            st.sampled_from((10, 3000, 70_000, 300_000)),
            st.lists(st.one_of(st.integers(1, 200), st.integers(1, 100_000)), min_size=1, max_size=5),
            st.lists(st.integers(1, 40), min_size=1, max_size=3),
            st.lists(st.one_of(st.integers(1, 20), st.integers(1, 70_000)), min_size=1, max_size=5),
        )
        @settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        def stored(
            wanted: list[tuple[int, str]], longest: int, fragments: list[int], together: list[int], segments: list[int]
        ) -> None:
            objects = {}
            for seed, syntax in wanted:
                uid = f"1.2.826.0.1.3680043.10.9999.6.{next(numbers)}"
                objects[uid] = syntax, data_set(seed, syntax, uid, longest)
            runner.run(store(port, objects, fragments, together, segments))
            for uid, (_, data) in objects.items():
                path = tmp_path / "stored" / f"{uid}.dcm"
                kept = raw.part10_dataset(path.read_bytes())
                assert hashlib.sha256(kept).digest() == hashlib.sha256(data).digest()
                path.unlink()
            assert list((tmp_path / "stored").glob("*.dcm")) == []

        stored()


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("durable", [False, True], ids=["fast", "durable"])
def test_every_transfer_syntax_is_stored_bit_for_bit(
    runner: asyncio.Runner, tmp_path: Path, syntax: str, durable: bool
) -> None:
    data = data_set(1, syntax, "1.2.3", 5001)
    with listening(runner, tmp_path / "stored", durable=durable) as port:
        runner.run(store(port, {"1.2.3": (syntax, data)}, [1001], [3], [777]))
    file = (tmp_path / "stored/1.2.3.dcm").read_bytes()
    assert raw.part10_dataset(file) == data
    assert raw.uid(syntax) in file[: len(file) - len(data)]


GIBIBYTE: Final = 1 << 30


def sparse_object(path: Path, fragments: int) -> None:
    """A file with so many fragments of 1 GiB of zeros, which take no room."""
    uid = "1.2.3.5"
    head = FileMeta(raw.CT_IMAGE, JPEG).head(uid.encode())
    head += LITTLE.element(0x00080016, "UI", raw.uid(raw.CT_IMAGE)) + LITTLE.element(0x00080018, "UI", raw.uid(uid))
    head += LITTLE.element(PIXEL_DATA, "OB", LITTLE.item(), UNDEFINED)
    with path.open("wb") as file:
        file.write(head)
        for _ in range(fragments):
            file.write(LITTLE.item(b"", GIBIBYTE))
            file.seek(GIBIBYTE, os.SEEK_CUR)
        file.write(LITTLE.element(SEQUENCE_END, "", b""))


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("options", [("--no-durable",), ()], ids=["fast", "durable"])
async def test_O16_object_of_5_gib_is_stored_bit_for_bit_and_costs_no_memory(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    source = tmp_path / "source.dcm"
    sparse_object(source, 5)
    async with listen_program(tmp_path / "stored", "--reserve", "0", *options) as program:
        peer = PeerAddress("FASTMOVE", HOST, (await program.event("listen.started"))["port"])
        before = peak_rss_bytes(program.process.pid)
        outcome = await send(peer, read_files([source]))
        assert (outcome.sent, outcome.failures) == (1, [])
        assert peak_rss_bytes(program.process.pid) - before < 16 << 20
        assert (await program.event("store.stored"))["nbytes"] == read_files([source])[0].nbytes > 5 * GIBIBYTE
    kept, sent = read_files([tmp_path / "stored/1.2.3.5.dcm", source])
    assert kept.nbytes == sent.nbytes
    with kept.path.open("rb") as one, source.open("rb") as other:
        one.seek(kept.dataset_offset)
        other.seek(sent.dataset_offset)
        while data := one.read(1 << 24):
            assert data == other.read(1 << 24)
