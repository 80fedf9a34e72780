"""The folder of the objects: who stores there (F16), who may read what is stored (F20, G-F7)."""

from __future__ import annotations

import signal
import stat
from pathlib import Path
from typing import Final

import pytest

from tests.integration import raw
from tests.integration.honesty import HOST
from tests.integration.programs import Program, fastmove, listen_program
from tests.integration.scripted import ScriptedRequestor

UID: Final = "1.2.826.0.1.3680043.10.9999.16"


async def store(program: Program, *uids: str) -> None:
    """Store objects with a listener, once it listens."""
    port = (await program.event("listen.started"))["port"]
    async with ScriptedRequestor(HOST, port, 5.0) as peer:
        await peer.associate()
        for message_id, uid in enumerate(uids, 1):
            await peer.store(uid, raw.dataset(uid), message_id)
        await peer.release()


@pytest.mark.parametrize("processes", ["1", "2"])
async def test_F16_second_program_refuses_and_the_first_goes_on(tmp_path: Path, processes: str) -> None:
    async with listen_program(tmp_path, "--processes", processes, "--no-durable") as program:
        await program.event("listen.started", int(processes))
        of_other = ("--host", HOST, "--port", "0", "--to", tmp_path)
        refused = await fastmove("listen", *of_other)
        assert refused.code == 45
        assert f"is in use by fastmove listen, process {program.process.pid} on " in refused.err
        assert "(fs.locked)" in refused.err
        refused = await fastmove("retrieve", f"PACS@{HOST}:1", "--aet", "ME", "--study", "1.2.3", *of_other)
        assert refused.code == 45
        assert "hint: wait until it has ended, or give another folder with --to" in refused.err
        await store(program, UID)
        verified = await fastmove("verify", tmp_path)
        assert "fs.locked" not in verified.err, "who only reads is not kept out"
        assert await program.stopped() == 0
    assert [path.name for path in tmp_path.iterdir()] == [f"{UID}.dcm"]


async def test_F16_folder_of_a_killed_program_is_free(tmp_path: Path) -> None:
    async with listen_program(tmp_path, "--processes", "2") as program:
        await program.event("listen.started", 2)
        program.signal(signal.SIGKILL)
        await program.process.wait()
        await program._reading  # until its workers have seen it
    async with listen_program(tmp_path) as program:
        await program.event("listen.started")
        assert await program.stopped() == 0


def modes(folder: Path) -> dict[str, str]:
    """Of the folder and all that is below it."""
    found = {str(path.relative_to(folder)): path.stat().st_mode for path in (folder, *folder.rglob("*"))}
    return {path: oct(stat.S_IMODE(mode)) for path, mode in found.items()}


def under_umask(program: Program, umask: str) -> Program:
    """The same with this umask."""
    program.arguments = ["/bin/sh", "-c", f'umask {umask}; exec "$@"', "sh", *program.arguments]
    return program


@pytest.mark.parametrize("umask", ["000", "077"])
@pytest.mark.parametrize("durable", ["--durable", "--no-durable"])
async def test_F20_files_are_for_their_owner_alone_whatever_the_umask(tmp_path: Path, umask: str, durable: str) -> None:
    to = tmp_path / "above" / "to"
    layout = ("--layout", "study", "--manifest", str(to / "manifest.jsonl"))
    async with under_umask(listen_program(to, *layout, durable), umask) as program:
        await store(program, UID)
        locked = modes(tmp_path / "above")
        assert await program.stopped() == 0
    assert modes(tmp_path / "above") == {
        ".": "0o700",
        "to": "0o700",
        "to/manifest.jsonl": "0o600",
        "to/1.2.3": "0o700",
        f"to/1.2.3/{UID}.dcm": "0o600",
    }
    assert locked["to/.fastmove.lock"] == "0o600"


@pytest.mark.parametrize("umask", ["000", "077"])
@pytest.mark.parametrize("layout", ["flat", "study"])
async def test_F20_group_may_read_on_request_whatever_the_umask(tmp_path: Path, umask: str, layout: str) -> None:
    to = tmp_path / "to"
    options = ("--layout", layout, "--manifest", str(to / "manifest.jsonl"), "--group-readable", "--no-durable")
    async with under_umask(listen_program(to, *options), umask) as program:
        await store(program, UID)
        assert await program.stopped() == 0
    found = modes(to)
    folders = {".", "1.2.3"} & found.keys()
    assert {found[path] for path in folders} == {"0o750"}
    assert {mode for path, mode in found.items() if path not in folders} == {"0o640"}


async def test_F20_folder_that_hands_its_group_on_stays_so(tmp_path: Path) -> None:
    to = tmp_path / "to"
    to.mkdir()
    to.chmod(0o2770)
    async with listen_program(to, "--layout", "study", "--group-readable", "--no-durable") as program:
        await store(program, UID)
        assert await program.stopped() == 0
    assert modes(to) == {".": "0o2770", "1.2.3": "0o2750", f"1.2.3/{UID}.dcm": "0o640"}
