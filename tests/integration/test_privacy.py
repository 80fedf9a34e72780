"""Nothing that names a patient is written where nobody asked for it: canaries in all text, and a search for them."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.integration import raw
from tests.integration.peers import HOST, free_port
from tests.integration.programs import COMMAND, fastmove, listen_program
from tests.integration.quiet_listener import listening_quietly, port_of
from tests.integration.retrieving import NAMED, until
from tests.integration.scripted import ScriptedRequestor
from tests.integration.scripted_archive import ScriptedArchive, ScriptedMove, study

CANARY: Final = b"CNRY"
"""In all of them; each has twelve bytes, and differs."""

STUDY: Final = "1.2.826.0.1.3680043.10.9999.55"
SOP: Final = f"{STUDY}.1.1"
TEXTS: Final = {
    0x00080050: "AccessionNumber",
    0x00080080: "InstitutionName",
    0x00080090: "ReferringPhysicianName",
    0x00081030: "StudyDescription",
    0x0008103E: "SeriesDescription",
    0x00081070: "OperatorsName",
    0x00100010: "PatientName",
    0x00100020: "PatientID",
    0x00100030: "PatientBirthDate",
    0x00101000: "OtherPatientIDs",
    0x00101040: "PatientAddress",
    0x00104000: "PatientComments",
    0x00200010: "StudyID",
    0x00204000: "ImageComments",
    0x00400254: "PerformedProcedureStepDescription",
    0x00090010: "a private creator",
    0x00091001: "a private element",
}
_numbers: Final = itertools.count(1)
MARKS: Final = {tag: CANARY + b"%08d" % next(_numbers) for tag in sorted(TEXTS)}
"""The value of each text element."""


def mark() -> bytes:
    """One more."""
    return CANARY + b"%08d" % next(_numbers)


def data_set(uid: str = SOP, of: str = STUDY, *, change: int = 0) -> bytes:
    """An object whose texts are all canaries."""
    fields = {
        0x00080016: raw.uid(raw.CT_IMAGE),
        0x00080018: raw.uid(uid),
        0x0020000D: raw.uid(of),
        0x0020000E: raw.uid(of + ".1"),
        **MARKS,
    }
    head = b"".join(raw.element(tag, value) for tag, value in sorted(fields.items()))
    return head + raw.element(0x7FE00010, bytes([change]) * 40_000)


def found(folder: Path, *but: Path) -> list[str]:
    """Files with a canary in their content or name, apart from these and what is below them."""
    hits = []
    for path in folder.rglob("*"):
        if any(path == each or each in path.parents for each in but):
            continue
        if CANARY in os.fsencode(path.name) or (path.is_file() and CANARY in path.read_bytes()):
            hits.append(str(path))
    return hits


def environment(tmp_path: Path) -> dict[str, str]:
    """Everything that is written by the way is written here."""
    (tmp_path / "home").mkdir(exist_ok=True)
    where = {name: str(tmp_path / "home") for name in ("HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
    return {**os.environ, **where}


# ---------------------------------------------------------------------- listen


@asynccontextmanager
async def canary_listener(tmp_path: Path, *options: str | Path) -> AsyncIterator[int]:
    """`fastmove listen`, its streams in files; it must end well."""
    stored = tmp_path / "stored"
    layout = ("--layout", "{PatientID}/{PatientName}.{SOPInstanceUID}.dcm", "--on-duplicate", "fail")
    audit = ("--audit-file", tmp_path / "audit.xml")
    with (tmp_path / "stdout").open("wb") as out, (tmp_path / "stderr").open("wb") as err:
        listener = listening_quietly(
            stored, *layout, *audit, *options, out=out.fileno(), err=err.fileno(), env=environment(tmp_path)
        )
        async with listener as port:
            yield port


async def status(peer: ScriptedRequestor, uid: str, data: bytes) -> int:
    """What a C-STORE-RQ is answered with."""
    await peer.send(raw.message(1, raw.c_store_rq(uid), data))
    return (await peer.read_reply()).status


async def everything_goes_wrong(port: int, stored: Path) -> None:
    """Good objects, and each way for one not to be stored."""
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.associate()
        assert await status(peer, SOP, data_set()) == 0
        assert await status(peer, SOP, data_set()) == 0  # the same once more
        assert await status(peer, SOP, data_set(change=1)) == 0x0111
        assert await status(peer, mark().decode() + "/", data_set()) == 0x0117
        assert await status(peer, f"{SOP}.9", b"") == 0xC000
        await status(peer, f"{SOP}.8", data_set()[:700])  # truncated: whatever is said of it
        await status(peer, f"{SOP}.7", data_set(f"{SOP}.6"))  # another object
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.associate()
        keys = raw.element(0x00100010, MARKS[0x00100010])
        find = raw.request(0x0020, 1, raw.CT_IMAGE, {raw.DATA_SET_TYPE: raw.us(1)})
        await peer.send(raw.message(1, find, keys))
        await peer.expect_status(0x0211)
        await peer.send(raw.message(1, raw.c_store_rq(f"{SOP}.5", 2), data_set())[:20_000])
        peer.reset()
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.associate()
        command = raw.p_data(raw.pdv(1, raw.COMMAND | raw.LAST, raw.c_store_rq(f"{SOP}.4")))
        await peer.send(command, raw.p_data(raw.pdv(1, 0, data_set()[:500])), raw.abort())
        await peer.expect_closed()
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        identity = raw.user_identity(2, mark(), mark())
        await peer.associate(raw.associate_rq(user_items=raw.max_length(16384) + identity))
        change = {0x0000: mark(), raw.DATA_SET_TYPE: raw.us(1)}
        await peer.send(raw.message(1, raw.c_store_rq(f"{SOP}.3", 1, change=change), data_set()))
        await peer.read_reply()
        await peer.send(raw.p_data(raw.pdv(1, 0, data_set()[:100])))  # where a command is due
        await peer.expect_abort(2, 5)
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.send(b"GET /" + mark() + b" HTTP/1.0\r\n\r\n")
        await peer.expect_abort(0, 0)
    (folder,) = (path for path in stored.iterdir() if path.is_dir())
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    folder.write_bytes(b"")  # a file is in the place of the folder
    async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
        await peer.associate()
        assert await status(peer, f"{SOP}.2", data_set(f"{SOP}.2")) == 0xA700


@pytest.mark.parametrize(
    "options",
    [(), ("--log-file", "log", "--log-level", "info"), ("--log-file", "log", "--log-level", "debug")],
    ids=["stderr", "info", "debug"],
)
async def test_L01_listener_writes_no_canary_but_in_objects(tmp_path: Path, options: tuple[str, ...]) -> None:
    stored = tmp_path / "stored"
    where = [str(tmp_path / each) if each == "log" else each for each in options]
    async with canary_listener(tmp_path, *where) as port:
        await everything_goes_wrong(port, stored)
    log = (tmp_path / ("log" if options else "stderr")).read_text()
    told = {
        "store.uid_chars",
        "fs.occupied",
        "store.empty",
        "store.duplicate_differs",
        "conn.reset",
        "pdu.unknown_type",
    }
    assert {key for key in told if f"event={key} " in log} == told, "it has told of all that, without names"
    assert found(tmp_path, stored) == []
    assert SOP not in log


async def test_L01_unfinished_file_has_no_name_of_a_patient(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    program = listen_program(stored, "--layout", "{PatientID}/{SOPInstanceUID}.dcm")
    program.arguments[: len(COMMAND)] = [sys.executable, "-c", NAMED]
    async with program:
        port = (await program.event("listen.started"))["port"]
        async with ScriptedRequestor(HOST, port, deadline=5.0) as peer:
            await peer.associate()
            await peer.send(raw.message(1, raw.c_store_rq(SOP), data_set() + bytes(4 << 20))[: 3 << 20])
            await until(lambda: any(path.name != ".fastmove.lock" for path in stored.iterdir()))
            assert [path for path in stored.rglob("*") if CANARY in os.fsencode(path)] == []
        assert await program.stopped() == 0


# ---------------------------------------------------------------------- retrieve


class CanaryArchive(ScriptedArchive):
    """A PACS whose objects are full of canaries."""

    def dataset(self, uid: str, pixel_bytes: int = 512) -> bytes:
        return data_set(uid)


async def sends_most(move: ScriptedMove) -> None:
    """A pending response with an Error Comment, an object, one that is refused, and no word of the third."""
    comment = {0x0902: raw.ae(mark().decode())}
    await move.respond(0xFF00, 2, 0, 0, 0, change=comment)
    async with move.storage() as storage:
        await move.send(storage, move.uids[0])
        await storage.send(raw.message(1, move.request(move.uids[1], 2), b""))
        await storage.expect_status(0xC000, 2)
    await move.respond(0, None, len(move.uids), 0, 0)


async def refuses(move: ScriptedMove) -> None:
    """A failure that names the patient."""
    await move.respond(0xA702, change={0x0902: raw.ae(mark().decode())})


@pytest.mark.parametrize("act", [sends_most, refuses])
@pytest.mark.parametrize("to_file", [True, False], ids=["file", "stderr"])
async def test_L01_retrieve_writes_no_canary_but_in_objects(tmp_path: Path, act: object, to_file: bool) -> None:
    stored, keys, port = tmp_path / "stored", tmp_path / "keys", free_port()
    keys.write_bytes(b"PatientName=" + MARKS[0x00100010] + b"\n")
    log = ("--log-file", str(tmp_path / "log"), "--log-level", "info") if to_file else ()
    async with CanaryArchive(act, dict(study(STUDY, 3))) as archive:  # type: ignore[arg-type]
        archive.going_to("ME", port)
        peer = f"{archive.address.ae_title}@{HOST}:{archive.address.port}"
        what = ("--study", STUDY, "--keys-file", keys, "--rounds", "1", "--layout", "patient", "--drain", "0.2")
        where = ("--aet", "ME", "--port", str(port), "--host", HOST, "--to", stored)
        audit = ("--audit-file", tmp_path / "audit.xml")
        ended = await fastmove("retrieve", peer, *where, *what, *audit, *log, env=environment(tmp_path))
    assert ended.code in (69, 71), ended.err
    said = ended.err if act is sends_most else ended.err.replace(ended.err[ended.err.find("status A702H") :], "")
    if to_file:
        assert "event=retrieve.study" in (tmp_path / "log").read_text()
    assert found(tmp_path, stored, keys) == []
    assert CANARY.decode() not in said, "an Error Comment is in the closing words, and nowhere else"


# ---------------------------------------------------------------------- the host


@pytest.mark.parametrize("allowed", [False, True], ids=["default", "--allow-cores"])
async def test_L03_listener_that_crashes_leaves_no_core(tmp_path: Path, allowed: bool) -> None:
    arguments = ["listen", "--port", "0", "--host", HOST, "--to", str(tmp_path / "stored")]
    process = subprocess.Popen(
        [*COMMAND, *arguments, *(["--allow-cores"] if allowed else [])],
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
        preexec_fn=unlimited,
    )
    try:
        await until(lambda: port_of(process.pid))
        limit = resource.prlimit(process.pid, resource.RLIMIT_CORE)
        assert limit == ((resource.RLIM_INFINITY,) * 2 if allowed else (0, 0))
        process.send_signal(signal.SIGABRT)
        _, status = os.waitpid(process.pid, 0)
        process.returncode = status
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    assert os.WTERMSIG(status) == signal.SIGABRT
    if not allowed:
        assert not os.WCOREDUMP(status)
        assert [path.name for path in tmp_path.iterdir()] == ["stored"]


def unlimited() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY,) * 2)


async def test_L03_workers_leave_no_core_either(tmp_path: Path) -> None:
    async with listen_program(tmp_path / "stored", "--processes", "2") as program:
        await program.event("listen.started", 2)
        for pid in (program.process.pid, *program.children()):
            assert resource.prlimit(pid, resource.RLIMIT_CORE) == (0, 0)
        assert await program.stopped() == 0


def test_L03_the_flag_that_core_handlers_heed_is_cleared() -> None:
    """prctl(2): PR_GET_DUMPABLE is 3."""
    program = "import ctypes; from fastmove.cli.cores import forbid_core_dumps; prctl = ctypes.CDLL(None).prctl\n"
    program += "before = prctl(3); forbid_core_dumps(); print(before, prctl(3))"
    assert subprocess.check_output([sys.executable, "-c", program], text=True).split()[1] == "0"


async def test_L07_keys_from_a_file_are_not_on_the_command_line(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_bytes(b"# who\n\nPatientName=" + MARKS[0x00100010] + b"*\nStudyDate\n")
    async with CanaryArchive(sends_most, dict(study(STUDY, 3))) as archive:
        asked: list[bytes] = []
        perform = archive._perform

        async def perform_and_tell(link: object, request: object, calling: str) -> None:
            asked.append(request.dataset)  # type: ignore[attr-defined]
            asked.extend(Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children())
            await perform(link, request, calling)  # type: ignore[arg-type]

        archive._perform = perform_and_tell  # type: ignore[method-assign]
        peer = f"{archive.address.ae_title}@{HOST}:{archive.address.port}"
        ended = await fastmove("find", peer, "--keys-file", keys)
    assert ended.code == 0, ended.err
    identifier, *commands = asked
    assert MARKS[0x00100010] in identifier
    assert commands and not any(CANARY in command for command in commands)


def children() -> Iterator[int]:
    """The children of this process."""
    for path in Path("/proc/self/task").glob("*/children"):
        yield from map(int, path.read_text().split())
