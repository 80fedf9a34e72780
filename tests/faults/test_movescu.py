"""What the same tests make of DCMTK's movescu: they bite, and here is what a user of it may lose."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.faults.power import disk
from tests.faults.watching import Watcher
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.honesty import movescu
from tests.integration.peers import run_tool

pytestmark = pytest.mark.peer("dcmtk")

STUDY: Final = Spec(studies=1, series=1, instances=20, size=20_000)
LARGE: Final = Spec(studies=1, series=1, instances=3, size=3_000_000)


def uid_of(path: Path) -> str:
    """The SOP Instance UID that movescu names a file by: `CT.1.2.3`."""
    return path.name.partition(".")[2]


async def test_movescu_writes_under_the_final_name_and_leaves_the_half_of_it(tmp_path: Path) -> None:
    folder = tmp_path / "stored"
    folder.mkdir()
    async with embedded_pacs(LARGE) as pacs:
        (study,) = pacs.studies

        def is_whole(path: Path) -> bool:
            return path.stat().st_size > len(pacs.dataset(uid_of(path)))

        with Watcher(folder, is_whole) as watcher, reserved_port() as port:
            pacs.going_to("ME", port)
            words = words_for(pacs, port, folder, study)
            code, _ = await run_tool("prlimit", "--fsize=1000000", "movescu", *words)
        assert code < 0, "it dies of the first file that is too long"
        assert watcher.bad, "whoever looked in that moment took it for whole"
        assert [path for path in folder.iterdir() if not is_whole(path)]


def words_for(pacs: EmbeddedPacs, port: int, folder: Path, study: str) -> list[str]:
    """The arguments of movescu for a study."""
    keys = ("-S", "-k", "0008,0052=STUDY", "-k", f"0020,000D={study}")
    titles = ("-aet", "ME", "-aem", "ME", "-aec", pacs.address.ae_title, "+P", str(port), "-od", str(folder))
    return [*keys, *titles, pacs.address.host, str(pacs.address.port)]


@pytest.mark.lane("power-cut")
async def test_power_cut_after_movescu_has_ended_well_leaves_nothing(tmp_path: Path) -> None:
    async with embedded_pacs(STUDY) as pacs:
        with disk(tmp_path, "ext4") as under_test:
            code, there = await movescu(pacs, under_test.folder / "stored", next(iter(pacs.studies)))
            assert (code, len(there)) == (0, 20)
            cut = await asyncio.to_thread(under_test.cut)
            with under_test.after(cut) as mounted:
                left = [path for path in mounted.glob("stored/*") if path.stat().st_size]
    assert len(left) < 20
