"""Data sets by chance are written as DCMTK's storescp writes them, and refused when it refuses them.

movescu and storescp share the library that does it.  One storescp for each transfer syntax and options.
"""

from __future__ import annotations

from typing import Final

import pytest

from fastmove.errors import DatasetError, UnwritableDataset
from tests.encoded import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG, SOP_CLASS, SOP_INSTANCE, Chance, rewritten
from tests.integration import raw
from tests.integration.peers import DcmtkStoreScp
from tests.integration.scripted import ScriptedRequestor

pytestmark = pytest.mark.peer("dcmtk")

DATA_SETS: Final = 40
CANNOT_WRITE: Final = 0xA700
NOTHING: Final[dict[str, object]] = {}
CASES: Final[tuple[tuple[str, str, dict[str, object]], ...]] = (
    (EXPLICIT, "", NOTHING),
    (EXPLICIT, "-e", {"undefined_length": True}),
    (EXPLICIT, "+g", {"group_length": "create"}),
    (EXPLICIT, "-g -u", {"group_length": "remove", "new_vr": False}),
    (EXPLICIT, "+tb", {"transfer_syntax": BIG_ENDIAN}),
    (EXPLICIT, "+ti -e +g", {"transfer_syntax": IMPLICIT, "undefined_length": True, "group_length": "create"}),
    (EXPLICIT, "+td +cl 1", {"transfer_syntax": DEFLATED, "compression_level": 1}),
    (IMPLICIT, "", NOTHING),
    (IMPLICIT, "+te", {"transfer_syntax": EXPLICIT}),
    (IMPLICIT, "+tb -u -e", {"transfer_syntax": BIG_ENDIAN, "new_vr": False, "undefined_length": True}),
    (BIG_ENDIAN, "+xb", NOTHING),
    (BIG_ENDIAN, "+te +g", {"transfer_syntax": EXPLICIT, "group_length": "create"}),
    (DEFLATED, "+xd", NOTHING),
    (DEFLATED, "+xd +te", {"transfer_syntax": EXPLICIT}),
    (JPEG, "+xs", NOTHING),
    (JPEG, "+xs -e +g", {"undefined_length": True, "group_length": "create"}),
)
BROKEN_CASES: Final = tuple(row for row in CASES if row[0] != DEFLATED)
NAMES: Final = {EXPLICIT: "explicit", IMPLICIT: "implicit", BIG_ENDIAN: "big", DEFLATED: "deflated", JPEG: "jpeg"}
"""Of the ids of the tests."""


class Judge(DcmtkStoreScp):
    """Debian's: the one that is found first may be pynetdicom's."""

    def command(self) -> list[str]:
        return ["/usr/bin/storescp", *super().command()[1:]]


def ours(received: bytes, syntax: str, options: dict[str, object], start: int = 0) -> bytes | int | None:
    """The data set written, or the status if it cannot be written, or None if it cannot be read."""
    try:
        return rewritten(received, syntax, start=start, **options)
    except UnwritableDataset:
        return CANNOT_WRITE
    except DatasetError:
        return None


async def store(peer: Judge, received: bytes, syntax: str) -> int | None:
    """The status of the C-STORE, None after A-ABORT."""
    sop_class, sop_instance = SOP_CLASS.rstrip(b"\0").decode(), SOP_INSTANCE.rstrip(b"\0").decode()
    async with ScriptedRequestor(peer.host, peer.port, deadline=10) as requestor:
        contexts = [raw.context_rq(1, sop_class, [syntax])]
        assert await requestor.associate(raw.associate_rq(called=peer.ae_title, contexts=contexts)) == {1: 0}
        await requestor.send(raw.message(1, raw.c_store_rq(sop_instance, sop_class=sop_class), received))
        pdu = await requestor.read_pdu()
        if pdu.pdu_type == raw.ABORT:
            return None
        status = int.from_bytes(raw.decode_command(pdu.data[6:])[raw.STATUS], "little")
        await requestor.release()
        return status


async def theirs(peer: Judge, received: bytes, syntax: str) -> bytes | int | None:
    """As ours() for storescp; what it stored is gone afterwards."""
    status = await store(peer, received, syntax)
    files = list(peer.storage.iterdir())
    written = [path.read_bytes() for path in files]
    for path in files:
        path.unlink()
    return CANNOT_WRITE if status == CANNOT_WRITE else None if status is None else written[0]


def ends_before_a_value(received: bytes, syntax: str) -> bool:
    """DCMTK counts the bytes that are not there in the lengths of what is around them, and so writes wrong ones."""
    return ours(received, syntax, NOTHING) is not None and ours(received + bytes(2), syntax, NOTHING) is None


def case(syntax: str, options: str) -> str:
    return f"{NAMES[syntax]} {options}".strip()


@pytest.mark.parametrize(("syntax", "words", "options"), CASES, ids=[case(*row[:2]) for row in CASES])
async def test_data_sets_are_written_as_dcmtk_writes_them(syntax: str, words: str, options: dict[str, object]) -> None:
    async with Judge(options=["-F", *words.split()]) as peer:
        for seed in range(DATA_SETS):
            received = Chance(seed, syntax).dataset()
            expected = await theirs(peer, received, syntax)
            assert ours(received, syntax, options) == expected, f"data set {seed}"


@pytest.mark.parametrize(("syntax", "words", "options"), BROKEN_CASES, ids=[case(*row[:2]) for row in BROKEN_CASES])
async def test_broken_data_sets_are_written_or_refused_as_by_dcmtk(
    syntax: str, words: str, options: dict[str, object]
) -> None:
    async with Judge(options=["-F", *words.split()]) as peer:
        for seed in range(DATA_SETS):
            received = Chance(seed, syntax, broken=True).dataset()
            if received and not ends_before_a_value(received, syntax):
                expected = await theirs(peer, received, syntax)
                assert ours(received, syntax, options) == expected, f"data set {seed}"


@pytest.mark.parametrize("padding", [(512, 16), (64, 0), (0, 32), (3, 2), (10, 6)])
async def test_files_and_items_are_padded_as_dcmtk_pads_them(padding: tuple[int, int]) -> None:
    async with Judge(options=["+p", *map(str, padding)]) as peer:
        for seed in range(DATA_SETS):
            received = Chance(seed).dataset()
            file = await theirs(peer, received, EXPLICIT)
            assert isinstance(file, bytes)
            head = 144 + int.from_bytes(file[140:144], "little")
            assert ours(received, EXPLICIT, {"padding": padding}, head) == file[head:], f"data set {seed}"
