"""`fastmove retrieve` where something is wrong: one message that says what to do, the right exit code, nothing lost."""

from __future__ import annotations

import asyncio
import json
import shlex
import socket
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import pytest
from tests.compat.harness import AS_NOBODY, reserved_port
from tests.integration import raw
from tests.integration.embedded import HOST, embedded_pacs
from tests.integration.programs import COMMAND, Ended, fastmove
from tests.integration.retrieving import Retrieving, file_system, remount
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, Send

from fastmove.bench.spec import Spec
from fastmove.storage.manifest import read

SMALL: Final = Spec(studies=3, series=1, instances=4, size=2_000)
MOVE: Final = ("--study", "1.2.3", "--aet", "ME", "--host", HOST)


@pytest.fixture
def port() -> Iterator[int]:
    """One of ours."""
    with reserved_port() as port:
        yield port


def to(folder: Path, port: int) -> Sequence[str | Path]:
    return *MOVE, "--port", str(port), "--to", folder / "to"


def says(ended: Ended, code: int, *words: str) -> None:
    """This exit code, and all of these on standard error."""
    assert ended.code == code, ended.err
    for word in words:
        assert word in ended.err, ended.err


# ---------------------------------------------------------------------- no association


@pytest.mark.parametrize(
    ("answer", "why", "what_to_do"),
    [
        ((1, 1, 7), "called AE title not recognized", "the PACS goes by another AE title than 'WRONG'"),
        ((1, 1, 3), "calling AE title not recognized", "the PACS does not know us as 'ME': enter this AE title"),
        ((1, 1, 1), "no reason given", "`fastmove doctor WRONG@"),
    ],
    ids=["called", "calling", "unsaid"],
)
async def test_rejected_association_is_61_and_says_which_title_is_wrong(
    answer: tuple[int, int, int], why: str, what_to_do: str, tmp_path: Path, port: int
) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(*answer))]]) as pacs:
        ended = await fastmove("retrieve", f"WRONG@{HOST}:{pacs.port}", *to(tmp_path, port))
    says(ended, 61, f"association rejected permanently: {why}", f"hint: {what_to_do}")
    assert len(ended.err.splitlines()) == 2
    if answer[2] == 3:
        assert f"this host and port {port}" in ended.err


async def test_port_that_nobody_listens_on_is_61(tmp_path: Path, port: int) -> None:
    ended = await fastmove("retrieve", f"PACS@{HOST}:1", *to(tmp_path, port))
    says(ended, 61, f"cannot connect to {HOST}:1: Connection refused", "hint: is the PACS running", "fastmove doctor")


async def test_host_that_is_not_known_is_61(tmp_path: Path, port: int) -> None:
    ended = await fastmove("retrieve", "PACS@no.such.host.invalid:104", *to(tmp_path, port))
    says(ended, 61, "cannot connect to no.such.host.invalid:104: ", "hint: ")


async def test_pacs_that_does_not_answer_is_61(tmp_path: Path, port: int) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ)]]) as pacs:
        ended = await fastmove("retrieve", f"PACS@{HOST}:{pacs.port}", *to(tmp_path, port), "--timeout", "0.2")
    says(ended, 61, "no answer within 0.2 s", "is that the port of the PACS")


@pytest.mark.parametrize(
    "answer", [raw.abort(2, 0), b"HTTP/1.1 400 Bad Request\r\n\r\n"], ids=["A-ABORT", "another protocol"]
)
async def test_what_is_no_pacs_for_us_is_61(answer: bytes, tmp_path: Path, port: int) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(answer)]]) as pacs:
        ended = await fastmove("retrieve", f"PACS@{HOST}:{pacs.port}", *to(tmp_path, port))
    says(ended, 61, "fastmove: ", "hint: ", "fastmove doctor")


# ---------------------------------------------------------------------- our side


async def test_port_that_is_taken_is_60(tmp_path: Path) -> None:
    with socket.create_server((HOST, 0)) as taken:
        number = taken.getsockname()[1]
        ended = await fastmove("retrieve", f"PACS@{HOST}:1", *to(tmp_path, number))
    says(ended, 60, f"cannot listen on {HOST}:{number}: ", "give another --port and enter that in the PACS")


async def test_address_that_is_not_ours_is_60(tmp_path: Path, port: int) -> None:
    ended = await fastmove("retrieve", f"PACS@{HOST}:1", *to(tmp_path, port), "--host", "192.0.2.1")
    says(ended, 60, f"cannot listen on 192.0.2.1:{port}", "--host has to be an address of this host")


TABLES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "without the column": ("name;remark\nA;B\n", ("there are 'name', 'remark'", "--column accession=NAME")),
    "empty": ("", ("there are no rows",)),
    "with a header alone": ("StudyInstanceUID\n", ("there are no rows",)),
    "with rubbish": ("StudyInstanceUID\n1.2.3\nno uid\n", ("row 3",)),
}


@pytest.mark.parametrize("table", TABLES)
async def test_table_that_names_nothing_is_1_before_anybody_is_asked(table: str, tmp_path: Path, port: int) -> None:
    text, words = TABLES[table]
    (tmp_path / "list.csv").write_text(text)
    options = ("--from", tmp_path / "list.csv", "--aet", "ME", "--port", str(port), "--to", tmp_path / "to")
    ended = await fastmove("retrieve", f"PACS@{HOST}:1", *options)
    says(ended, 1, "list.csv: ", *words)
    assert not (tmp_path / "to").exists()


async def test_file_in_the_place_of_the_folder_is_45(tmp_path: Path, port: int) -> None:
    (tmp_path / "file").touch()
    ended = await fastmove("retrieve", f"PACS@{HOST}:1", *to(tmp_path / "file", port))
    says(ended, 45, f"cannot use {tmp_path / 'file' / 'to'}: Not a directory", "give another folder with --to")


@pytest.mark.lane("mount")
async def test_folder_that_cannot_be_written_to_is_45(tmp_path: Path, port: int) -> None:
    with file_system(tmp_path / "disk", "size=1m,ro") as disk:
        ended = await fastmove("retrieve", f"PACS@{HOST}:1", *MOVE, "--port", str(port), "--to", disk)
    says(ended, 45, f"in {disk}: Read-only file system", "give another folder with --to")


@pytest.mark.lane("root")  # only root can become somebody else
def test_folder_that_cannot_be_read_is_45(port: int) -> None:
    # Root may read everything: somebody else looks into a folder of root's.
    options = ("--study", "1.2.3", "--port", str(port), "--to", "/proc/1/task")
    command = [*AS_NOBODY, *COMMAND, "retrieve", f"PACS@{HOST}:1", *options]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 45, ended.stderr
    assert "/proc/1/task" in ended.stderr and "may you write there?" in ended.stderr


# ---------------------------------------------------------------------- the PACS cannot send


@pytest.mark.parametrize("studies", [1, 12])
async def test_unknown_destination_is_69_whatever_else_was_wanted(studies: int, tmp_path: Path, port: int) -> None:
    spec = Spec(studies=studies, series=2, instances=4, size=2_000)
    async with embedded_pacs(spec, faults=("find-delay=0.02",)) as pacs:
        ended = await Retrieving(pacs, tmp_path / "to", port, "--destination", "NOBODY", "--parallel", "4").shown()
    says(ended, 69, "A801H", "does not know the move destination 'NOBODY'", f"this host and port {port}")
    assert "UNKNOWN" not in ended.out + ended.err
    assert len(ended.err.splitlines()) < 12


async def test_port_of_ours_that_the_pacs_does_not_reach_is_69(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(SMALL) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--rounds", "0")
        run.goes_to(HOST, 1)
        ended = await run.shown()
    says(ended, 69, "nothing came at all", f"may not reach this host and port {port}", "--aet ME --port", "A702H")
    assert f"missing: {len(pacs.files)} instances: " in ended.err


async def test_study_that_the_pacs_does_not_have_is_no_success(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(SMALL) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, studies=[*pacs.studies, "1.2.3.4"])
        ended = await run.shown()
        says(ended, 71, "not found: 1.2.3.4: the PACS has nothing of it")
        assert run.whole().keys() == pacs.files.keys()
        finished = (await run.shown("--json")).lines[-1]
    assert (finished["empty"], finished["exit_code"]) == (1, 71)


class NeverReleases:
    """A step of a script: a C-MOVE that succeeds, and an A-RELEASE-RQ that nobody answers."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.deadline = 8.0
        await link.read_reply()
        await link.send(raw.message(1, raw.c_move_rsp(1, 0, (0, 1, 0, 0))))
        await link.expect(raw.RELEASE_RQ)
        await link.expect_abort(0, 0)


async def test_pacs_that_does_not_answer_a_release_is_not_waited_for_long(tmp_path: Path, port: int) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()), NeverReleases()]]) as pacs:
        options = ("--no-prove", "--drain", "0.1", "--rounds", "0")
        ended = await fastmove("retrieve", f"PACS@{HOST}:{pacs.port}", *to(tmp_path, port), *options)
        await pacs.finished()
    says(ended, 71, "nothing came at all")


# ---------------------------------------------------------------------- disks

LARGE: Final = Spec(studies=2, series=1, instances=20, size=50_000)
MANY: Final = Spec(studies=1, series=1, instances=400, size=50_000)


@pytest.mark.lane("mount")
@pytest.mark.parametrize("options", [(), ("--no-durable", "--layout", "patient", "--no-manifest")], ids=["", "layout"])
async def test_full_disk_is_73_and_with_more_room_the_same_command_fetches_the_rest(
    options: tuple[str, ...], tmp_path: Path, port: int
) -> None:
    with file_system(tmp_path / "disk", "size=1m") as disk:
        async with embedded_pacs(LARGE) as pacs:
            run = Retrieving(pacs, disk / "to", port, *options)
            full = await run.shown()
            says(full, 73, "No space left on device", "hint: make room on the disk", "run the same command again")
            before = run.whole()
            assert 5 < len(before) < len(pacs.files) and not list(disk.rglob(".fm-*"))
            assert before.keys() == pacs.sent.keys()
            assert len(full.err.splitlines()) < 30, "it does not go on and on"
            remount(disk, "size=8m")
            again = await run.shown()
            assert again.code == 0, again.err
            after = run.whole()
            assert after.items() >= before.items() and after.keys() == pacs.files.keys()
            assert set(pacs.sent.values()) == {1}, "nothing is fetched twice"
        if not options:
            assert (await fastmove("verify", disk / "to")).code == 0


@pytest.mark.lane("mount")
async def test_full_disk_cancels_what_would_be_refused_as_well(tmp_path: Path, port: int) -> None:
    with file_system(tmp_path / "disk", "size=1m") as disk:
        async with embedded_pacs(MANY, faults=("delay=0.005",)) as pacs:
            ended = await Retrieving(pacs, disk / "to", port, "--no-durable").shown("--json")
        refused = [line for line in ended.lines if line["event"] == "fs.write"]
        assert (ended.code, ended.lines[-1]["verdict"]) == (73, "STORAGE_FAILED")
        assert 0 < len(refused) < 50, "of 380"
        assert {move.status for move in pacs.moves} == {0xFE00}


@pytest.mark.lane("mount")
async def test_manifest_that_cannot_be_written_is_73_though_every_object_is_there(tmp_path: Path, port: int) -> None:
    with file_system(tmp_path / "disk", "size=8k") as disk:
        async with embedded_pacs(LARGE) as pacs:
            run = Retrieving(pacs, tmp_path / "to", port, "--manifest", disk / "list.jsonl")
            full = await run.shown()
            says(full, 73, "event=manifest.failed", "No space left on device", "line in the manifest: make room for it")
            assert len(full.err.splitlines()) < 8
            before = run.whole()
            assert before.keys() == pacs.files.keys()
            moves = len(pacs.moves)
            remount(disk, "size=1m")
            again = await run.shown()
            assert (again.code, run.whole(), len(pacs.moves)) == (0, before, moves)
        listed = [entry.sop_instance_uid for entry in read(disk / "list.jsonl")]
        assert sorted(listed) == sorted(before)
        assert (await fastmove("verify", disk / "list.jsonl", "--folder", tmp_path / "to")).code == 0


# ---------------------------------------------------------------------- who reads what it says


async def test_json_lines_are_whole_and_nothing_else_is_on_standard_output(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(SMALL, faults=("fail=1",)) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--rounds", "0")
        ended = await run.shown("--json")
    *lines, finished = ended.lines
    assert ended.code == finished["exit_code"] == 71
    assert (finished["event"], finished["missing"]) == ("retrieve.finished", 3)
    missing = [uid for line in lines if line["event"] == "retrieve.study" for uid in line["missing"]]
    stored = [line["sop_instance_uid"] for line in lines if line["event"] == "store.stored"]
    assert sorted(missing + stored) == sorted(pacs.files)


@pytest.mark.parametrize(
    ("options", "end"),
    [("--json", "| head -1"), ("", "| true"), ("", "2>&1 | true"), ("--json", "2>&- >&-"), ("", ">/dev/full")],
)
async def test_nobody_reads_what_it_says_and_it_does_what_it_has_to(
    options: str, end: str, tmp_path: Path, port: int
) -> None:
    async with embedded_pacs(SMALL) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--no-durable")
        command = f"{shlex.join(map(str, [*COMMAND, *run.command]))} {options} {end}; exit ${{PIPESTATUS[0]}}"
        shell = await asyncio.create_subprocess_exec(
            *("bash", "-c", command), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
        out, err = await shell.communicate()
        assert shell.returncode == 0, (out, err)
        assert run.whole().keys() == pacs.files.keys()
    assert b"Traceback" not in err
    if end == "| head -1":
        assert json.loads(out)["event"] == "listen.started"
