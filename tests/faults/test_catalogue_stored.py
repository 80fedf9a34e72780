"""Table F of the catalogue, F14, F15, F19 and F22: what is there already when `fastmove` begins."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec
from tests.compat.harness import reserved_port
from tests.faults.forks import Forked, Forks
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.peers import run_tool
from tests.integration.programs import fastmove
from tests.integration.retrieving import Retrieving

pytestmark = pytest.mark.lane("gcc")

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
