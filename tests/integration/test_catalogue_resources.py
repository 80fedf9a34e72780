"""Catalogue of faults, table R and F17: associations, descriptors, memory, disk: what there is not enough of."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.corpus import Spec
from fastmove.types import Objection
from tests.integration import peers, raw
from tests.integration.conftest import LIMITS, goes_on_serving
from tests.integration.embedded import embedded_pacs
from tests.integration.listener import KEPT, NEXT, listening
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
