"""`fastmove listen --layout --manifest`, killed and started again, and what `fastmove verify` makes of it."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path
from typing import Final

import pytest
from tests.integration.objects import data_set, write_objects
from tests.integration.programs import Program, fastmove, listen_program

from fastmove.storage.filemeta import read_file_meta
from fastmove.storage.manifest import read

HOST: Final = "127.0.0.1"


def files(folder: Path) -> dict[str, Path]:
    """Those of objects, by their paths below the folder."""
    return {str(path.relative_to(folder)): path for path in folder.rglob("*.dcm")}


def as_they_are(folder: Path) -> dict[str, tuple[int, int, int]]:
    """What changes if a file is written or replaced."""
    return {
        name: (status.st_ino, status.st_mtime_ns, status.st_size)
        for name, path in files(folder).items()
        if (status := path.stat())
    }


async def send(to: Program, sources: Path, *arguments: str) -> int:
    """The exit code of sending a folder to a listener."""
    port = (await to.event("listen.started"))["port"]
    return (await fastmove("send", f"FASTMOVE@{HOST}:{port}", sources, *arguments)).code


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_objects_go_to_their_folders_and_into_the_manifest(tmp_path: Path, processes: str) -> None:
    (tmp_path / "from").mkdir()
    for study in ("1.2.826.1", "1.2.826.2"):
        write_objects(tmp_path / "from" / study, 5, study=study)
    folder, manifest = tmp_path / "to", tmp_path / "list.csv"
    options = ("--layout", "series", "--manifest", str(manifest), "--no-durable", "--processes", processes)
    async with listen_program(folder, *options) as program:
        assert await send(program, tmp_path / "from", "--parallel", "2") == 0
        assert await program.stopped() == 0
    assert {name.split("/")[0] for name in files(folder)} == {"1.2.826.1", "1.2.826.2"}
    listed = {entry.path: entry for entry in read(manifest)}
    assert listed.keys() == files(folder).keys()
    assert all(entry.study_instance_uid == path.split("/")[0] for path, entry in listed.items())
    assert (await fastmove("verify", manifest, "--folder", folder)).code == 0


async def test_wrong_layout_is_usage_and_names_what_was_meant(tmp_path: Path) -> None:
    ended = await fastmove(
        "listen", "--port", "0", "--to", tmp_path / "to", "--layout", "{PatientsID}/{SOPInstanceUID}"
    )
    assert ended.code == 1
    assert "{PatientsID} is no field; do you mean {PatientID}?" in ended.err
    assert not (tmp_path / "to").exists()


async def test_file_that_is_no_manifest_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("mine\n")
    ended = await fastmove("listen", "--port", "0", "--to", tmp_path / "to", "--manifest", tmp_path / "list.csv")
    assert (ended.code, "another file, and no manifest" in ended.err) == (1, True)
    assert (tmp_path / "list.csv").read_text() == "mine\n"


@pytest.mark.parametrize("after", [1, 7, 40])
async def test_killed_listener_leaves_whole_objects_that_the_next_one_does_not_touch(
    tmp_path: Path, after: int
) -> None:
    (tmp_path / "from").mkdir()
    sources = write_objects(tmp_path / "from" / "study", 200, pixel_bytes=40_000)
    whole = {read_file_meta(path).sop_instance_uid: data_set(path) for path in sources}
    folder = tmp_path / "to"
    options = ("--layout", "patient", "--manifest", str(folder / "manifest.jsonl"), "--no-durable")
    async with listen_program(folder, *options) as program:
        sending = asyncio.create_task(send(program, tmp_path / "from"))
        await program.event("store.stored", after)
        program.signal(signal.SIGKILL)
        await sending
    before = as_they_are(folder)
    assert len(before) >= after
    for path in files(folder).values():
        assert data_set(path) == whole[path.stem]
    assert list(folder.rglob(".fm-*")) == []

    async with listen_program(folder, *options) as program:
        assert await send(program, tmp_path / "from") == 0
        assert await program.stopped() == 0
    now = as_they_are(folder)
    assert len(now) == len(sources)
    assert {name: now[name] for name in before} == before
    assert (await fastmove("verify", folder)).code == 0
