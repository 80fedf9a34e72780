"""The commands as a user meets them: exit codes, messages, output forms, signals; never a traceback."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner
from tests.corpus import Corpus
from tests.integration import peers, raw
from tests.integration.listener import Listener
from tests.integration.objects import ROOT, data_sets, write_objects
from tests.integration.peers import DcmtkQrScp, DcmtkStoreScp
from tests.integration.programs import Program, fastmove, listen_program
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, Send

from fastmove.cli.verbs import VERBS, main

HOST: Final = "127.0.0.1"
STUDY: Final = "1.2.826.0.1.3680043.10.9999.1"


def address(peer: object) -> str:
    return f"{peer.ae_title}@{peer.host}:{peer.port}"  # type: ignore[attr-defined]


@asynccontextmanager
async def archive(corpus: Corpus, port: int = 0, **destinations: tuple[str, int]) -> AsyncIterator[DcmtkQrScp]:
    """dcmqrscp with the corpus, that knows us as FASTMOVE at this port."""
    async with DcmtkQrScp({"FASTMOVE": (HOST, port), **destinations}) as peer:
        await peer.load(corpus.paths)
        yield peer


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port that somebody else listens on."""
    with socket.create_server((HOST, 0)) as sock:
        yield sock.getsockname()[1]


# ---------------------------------------------------------------------- help and usage


def test_help_lists_every_verb() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    assert all(verb in result.output for verb in VERBS)


@pytest.mark.parametrize("verb", sorted(VERBS.keys() - {"movescu"}))
def test_help_of_a_verb_teaches_by_example(verb: str) -> None:
    result = CliRunner().invoke(main, [verb, "--help"])
    assert result.exit_code == 0
    assert f"fastmove {verb} " in result.output.partition("Example")[2]


BAD_USAGE: Final = {
    "no such verb": ("fetch",),
    "no peer": ("echo",),
    "no port": ("echo", "PACS@host"),
    "port out of range": ("echo", "PACS@host:99999"),
    "AE title too long": ("echo", "SEVENTEEN_LETTERS@host:104"),
    "our AE title too long": ("echo", "PACS@host:104", "--aet", "SEVENTEEN_LETTERS"),
    "key that is none": ("find", "PACS@127.0.0.1:1", "--key", "NoSuchKeyword=1"),
    "no path": ("send", "PACS@127.0.0.1:1"),
    "path that is not there": ("send", "PACS@127.0.0.1:1", "/nonexistent"),
    "retrieve to nowhere": ("retrieve", "PACS@127.0.0.1:1", "--study", "1.2"),
    "port without folder": ("retrieve", "PACS@127.0.0.1:1", "--study", "1.2", "--port", "0"),
    "folder without port": ("retrieve", "PACS@127.0.0.1:1", "--study", "1.2", "--to", "x"),
    "listen without folder": ("listen", "--port", "0"),
}


@pytest.mark.parametrize("arguments", BAD_USAGE.values(), ids=BAD_USAGE)
async def test_bad_usage_says_what_is_wrong(arguments: tuple[str, ...], tmp_path: Path) -> None:
    ended = await fastmove(*arguments, cwd=tmp_path)
    assert ended.code in (1, 2)
    assert ended.err.strip() and not ended.out


async def test_retrieve_without_a_key_says_what_it_needs(tmp_path: Path) -> None:
    ended = await fastmove("retrieve", "PACS@127.0.0.1:1", "--port", "0", "--to", tmp_path / "x")
    assert ended.code == 1
    assert "--study" in ended.err


# ---------------------------------------------------------------------- peers by name


async def test_name_from_the_configuration_works(listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "fastmove.toml").write_text(f'[peers]\narchive = "{address(listener)}"\n')
    ended = await fastmove("echo", "archive", cwd=tmp_path)
    assert (ended.code, ended.err) == (0, "")
    named = tmp_path / "elsewhere.toml"
    named.write_text(f'[peers]\nother = "{address(listener)}"\n')
    assert (await fastmove("echo", "other", env={"FASTMOVE_CONFIG": str(named)})).code == 0


async def test_unknown_name_lists_those_that_are_known(tmp_path: Path) -> None:
    (tmp_path / "fastmove.toml").write_text('[peers]\narchive = "PACS@127.0.0.1:104"\n')
    ended = await fastmove("echo", "archiv", cwd=tmp_path)
    assert ended.code in (1, 2)
    assert "'archiv'" in ended.err and "archive" in ended.err


@pytest.mark.parametrize("text", ["[peers\n", '[peers]\narchive = "PACS"\n', "[peers]\narchive = 5\n", 'peers = "x"\n'])
async def test_configuration_that_is_wrong_is_told(text: str, tmp_path: Path) -> None:
    (tmp_path / "fastmove.toml").write_text(text)
    ended = await fastmove("echo", "archive", cwd=tmp_path)
    assert ended.code in (1, 2)
    assert ended.err.strip()


# ---------------------------------------------------------------------- no association, no port, no folder

VERBS_WITH_PEER: Final = {
    "echo": (),
    "find": ("--key", "PatientID=1"),
    "send": ("CORPUS",),
    "retrieve": ("--study", "1.2.3", "--port", "0", "--to", "TO"),
}


def arguments_of(verb: str, peer: str, corpus: Corpus, tmp_path: Path) -> list[str]:
    places = {"CORPUS": str(corpus.directory), "TO": str(tmp_path / "to")}
    return [verb, peer, *(places.get(argument, argument) for argument in VERBS_WITH_PEER[verb])]


@pytest.mark.parametrize("verb", VERBS_WITH_PEER)
async def test_wrong_called_title_is_61_and_says_so(
    verb: str, listener: Listener, corpus: Corpus, tmp_path: Path
) -> None:
    ended = await fastmove(*arguments_of(verb, f"WRONG@{HOST}:{listener.port}", corpus, tmp_path))
    assert ended.code == 61
    assert "called AE title not recognized" in ended.err


@pytest.mark.parametrize("verb", VERBS_WITH_PEER)
async def test_closed_port_is_61_and_says_where(verb: str, corpus: Corpus, tmp_path: Path) -> None:
    port = peers.free_port()
    ended = await fastmove(*arguments_of(verb, f"PACS@{HOST}:{port}", corpus, tmp_path))
    assert ended.code == 61
    assert f"cannot connect to {HOST}:{port}" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("listen",),
        ("listen", "--processes", "2"),
        ("retrieve", "PACS@127.0.0.1:1", "--study", "1.2.3"),
    ],
    ids=["listen", "listen --processes", "retrieve"],
)
async def test_port_in_use_is_60(arguments: tuple[str, ...], taken_port: int, tmp_path: Path) -> None:
    ended = await fastmove(*arguments, "--host", HOST, "--port", str(taken_port), "--to", tmp_path / "to")
    assert ended.code == 60
    assert f"cannot listen on {HOST}:{taken_port}" in ended.err


@pytest.mark.parametrize("arguments", [("listen",), ("retrieve", "PACS@127.0.0.1:1", "--study", "1.2.3")])
async def test_folder_that_cannot_be_written_is_told(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for directory in (tmp_path / "file" / "below", Path("/proc/1/fastmove")):
        ended = await fastmove(*arguments, "--port", "0", "--to", directory)
        assert ended.code in (1, 45)
        assert f"cannot use {directory}" in ended.err or f"cannot write to {directory}" in ended.err


# ---------------------------------------------------------------------- echo, send


async def test_echo_answers(listener: Listener) -> None:
    ended = await fastmove("echo", address(listener))
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"{address(listener)} answered in ")
    (line,) = (await fastmove("echo", address(listener), "--json")).lines
    assert line.keys() == {"event", "peer", "ms"}
    assert (line["event"], line["peer"]) == ("echo.answered", address(listener))


async def test_send_takes_folders_and_accounts_for_all(listener: Listener, corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    ended = await fastmove("send", address(listener), corpus.directory, tmp_path, "--json", "--parallel", "2")
    assert ended.code == 0
    *sent, finished = ended.lines
    assert len(sent) == len(corpus.files)
    assert {line["event"] for line in sent} == {"send.sent"}
    assert finished.keys() == {"event", "sent", "bytes", "seconds", "warnings", "failures", "skipped"}
    assert (finished["event"], finished["sent"], len(finished["skipped"])) == ("send.finished", len(corpus.files), 1)
    assert data_sets({path.stem: path for path in listener.files()}) == data_sets(
        {file.sop_instance: file.path for file in corpus.files}
    )


async def test_send_of_no_dicom_file_is_usage(listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no DICOM")
    for path in (tmp_path, tmp_path / "notes.txt"):
        ended = await fastmove("send", address(listener), path)
        assert ended.code == 1
        assert "DICOM" in ended.err


@pytest.mark.parametrize(
    "listener_options", [{"any_storage_sop_class": False, "abstract_syntaxes": frozenset({raw.VERIFICATION})}]
)
async def test_send_of_what_the_peer_refuses_is_no_success(listener: Listener, corpus: Corpus) -> None:
    ended = await fastmove("send", address(listener), corpus.paths[0])
    assert ended.code in (66, 69)
    assert str(corpus.paths[0]) in ended.err or "context" in ended.err
    assert listener.files() == []


# ---------------------------------------------------------------------- find


@pytest.mark.peer("dcmtk")
async def test_find_lists_studies_in_three_forms(corpus: Corpus) -> None:
    async with archive(corpus) as pacs:
        query = ("find", address(pacs), "--level", "STUDY", "--key", "PatientID=PAT1")
        shown = await fastmove(*query)
        assert (shown.code, shown.err) == (0, "2 matches\n")
        assert all(study in shown.out for study in corpus.studies[:2])
        assert corpus.studies[2] not in shown.out.split()
        found = (await fastmove(*query, "--format", "json")).lines
        assert {line["StudyInstanceUID"] for line in found} == set(corpus.studies[:2])
        rows = list(csv.DictReader(io.StringIO((await fastmove(*query, "--format", "csv")).out)))
        assert {row["StudyInstanceUID"] for row in rows} == set(corpus.studies[:2])
        assert {row["PatientName"] for row in rows} == {"Test^Patient1"}


@pytest.mark.peer("dcmtk")
async def test_find_goes_one_level_below_the_uid_given(corpus: Corpus) -> None:
    async with archive(corpus) as pacs:
        series = (await fastmove("find", address(pacs), "--study", STUDY, "--format", "json")).lines
        assert {line["SeriesInstanceUID"] for line in series} == {f"{STUDY}.{n}" for n in (1, 2, 3)}
        images = ("find", address(pacs), "--study", STUDY, "--series", f"{STUDY}.1", "--format", "json")
        assert len((await fastmove(*images)).lines) == 4
        assert len((await fastmove(*images, "--matches", "2")).lines) == 2
        nothing = await fastmove("find", address(pacs), "--study", "1.2.3.4", "--level", "STUDY")
        assert (nothing.code, nothing.out) == (0, "")


# ---------------------------------------------------------------------- retrieve

FINISHED: Final = {
    *("event", "verdict", "reasons", "exit_code", "studies", "unattempted", "unresolved", "objects", "bytes"),
    *(
        "present",
        "sent",
        "empty",
        "missing",
        "unsolicited",
        "quarantined",
        "unsolicited_refused",
        "seconds",
        "first_object_s",
        "error",
    ),
}


@pytest.mark.peer("dcmtk")
async def test_retrieve_ends_with_a_verdict(corpus: Corpus, tmp_path: Path) -> None:
    port = peers.free_port()
    async with archive(corpus, port) as pacs:
        move = ("retrieve", address(pacs), "--study", STUDY, "--port", str(port), "--prove")
        shown = await fastmove(*move, "--to", tmp_path / "a")
        assert shown.code == 0
        assert "verdict: COMPLETE" in shown.out and "7 objects" in shown.out
        *lines, finished = (await fastmove(*move, "--to", tmp_path / "b", "--json")).lines
    assert finished.keys() == FINISHED
    assert (finished["event"], finished["verdict"], finished["exit_code"]) == ("retrieve.finished", "COMPLETE", 0)
    assert (finished["objects"], finished["studies"], finished["missing"]) == (7, {"COMPLETE": 1}, 0)
    (study,) = (line for line in lines if line["event"] == "retrieve.study")
    assert (study["study_instance_uid"], study["stored"], study["listed"], study["missing"]) == (STUDY, 7, 7, {})
    stored = [line for line in lines if line["event"] == "store.stored"]
    assert {Path(line["path"]).name for line in stored} == {path.name for path in (tmp_path / "b").glob("*.dcm")}
    assert finished["bytes"] == sum(line["nbytes"] for line in stored)
    assert all("time" in line for line in lines)


@pytest.mark.peer("dcmtk")
async def test_unknown_destination_is_69_with_a_hint(corpus: Corpus, tmp_path: Path) -> None:
    port = peers.free_port()
    async with archive(corpus, port) as pacs:
        ended = await fastmove(
            *("retrieve", address(pacs), "--study", STUDY, "--aet", "NOBODY"),
            *("--port", str(port), "--to", tmp_path / "to", "--prove"),
        )
    assert ended.code == 69
    assert "A801H" in ended.err and "'NOBODY'" in ended.err and str(port) in ended.err


@pytest.mark.peer("dcmtk")
async def test_retrieve_to_a_third_party_needs_no_port(corpus: Corpus) -> None:
    async with DcmtkStoreScp("DEST") as third, archive(corpus, DEST=(third.host, third.port)) as pacs:
        ended = await fastmove("retrieve", address(pacs), "--study", STUDY, "--destination", "DEST")
        assert ended.code == 0
        assert "7 sent" in ended.out and "COUNTED" in ended.out
        assert len(third.stored()) == 7


class Cancelled:
    """A step of a script: a C-MOVE with one object under way ends by C-CANCEL, as it should."""

    def __init__(self) -> None:
        self.was_cancelled = False

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.deadline = 10.0
        await link.read_reply()
        await link.send(raw.message(1, raw.c_move_rsp(1, 0xFF00, (3, 0, 0, 0))))
        cancel = await link.read_reply()
        assert cancel.fields[raw.COMMAND_FIELD] == raw.us(0x0FFF)
        assert cancel.responded_to == 1
        self.was_cancelled = True
        await link.send(raw.message(1, raw.c_move_rsp(1, 0xFE00, (3, 0, 0, 0))))
        await link.expect(raw.RELEASE_RQ)
        await link.send(raw.release_rp())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
async def test_signal_during_a_retrieve_sends_c_cancel(tmp_path: Path, number: signal.Signals) -> None:
    cancelled = Cancelled()
    script = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()), cancelled]
    async with ScriptedAcceptor([script]) as pacs:
        move = ("retrieve", f"PACS@{HOST}:{pacs.port}", "--study", "1.2.3", "--port", "0", "--host", HOST)
        async with Program(*move, "--to", tmp_path / "to") as program:
            await program.event("move.progressed")
            program.signal(number)
            assert await program.ended() == 72, "it is not complete"
        await pacs.finished()
    assert cancelled.was_cancelled
    assert program.events[-1]["verdict"] == "CANCELLED"


@pytest.mark.peer("dcmtk")
async def test_interrupted_retrieve_from_dcmqrscp_keeps_what_is_whole(tmp_path: Path) -> None:
    port = peers.free_port()
    async with DcmtkQrScp({"FASTMOVE": (HOST, port)}) as pacs:
        await pacs.load(write_objects(tmp_path / "sources", 300, pixel_bytes=65536))
        move = ("retrieve", address(pacs), "--study", ROOT, "--port", str(port), "--prove")
        async with Program(*move, "--to", tmp_path / "to") as program:
            await program.event("store.stored")
            program.signal(signal.SIGINT)
            code = await program.ended()
    finished = program.events[-1]
    assert finished["verdict"] in ("CANCELLED", "COMPLETE")
    assert code == (0 if finished["verdict"] == "COMPLETE" else 72)
    assert finished["objects"] == len(list((tmp_path / "to").glob("*.dcm")))


# ---------------------------------------------------------------------- listen


async def test_listen_tells_events_as_json_lines(corpus: Corpus, tmp_path: Path) -> None:
    async with listen_program(tmp_path / "to", "--aet", "ARCHIVE") as program:
        port = (await program.event("listen.started"))["port"]
        ended = await fastmove("send", f"ARCHIVE@{HOST}:{port}", corpus.paths[0])
        assert ended.code == 0
        assert await program.stopped() == 0
    assert [event["event"] for event in program.events] == [
        *("listen.started", "assoc.opened", "store.stored", "assoc.closed", "signal.received", "listen.stopped")
    ]
    assert program.seen("store.stored")[0]["sop_instance_uid"] == corpus.files[0].sop_instance
    assert program.seen("listen.stopped")[0]["objects"] == 1
    assert program.errors == ""


async def test_listen_refuses_whom_it_does_not_know(corpus: Corpus, tmp_path: Path) -> None:
    async with listen_program(tmp_path / "to", "--accept-from", "SCANNER") as program:
        port = (await program.event("listen.started"))["port"]
        stranger = await fastmove("send", f"FASTMOVE@{HOST}:{port}", corpus.paths[0], "--aet", "STRANGER")
        assert stranger.code == 61
        assert "calling AE title not recognized" in stranger.err
        known = await fastmove("send", f"FASTMOVE@{HOST}:{port}", corpus.paths[0], "--aet", "SCANNER")
        assert known.code == 0
        assert await program.stopped() == 0
    assert len(os.listdir(tmp_path / "to")) == 1  # noqa: PTH208


async def test_signal_before_there_is_a_move_ends_it_at_once_and_claims_no_c_cancel(tmp_path: Path) -> None:
    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected.set()
        await stopped.wait()
        writer.close()

    connected, stopped = asyncio.Event(), asyncio.Event()
    async with await asyncio.start_server(silent, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        move = ("retrieve", f"PACS@{HOST}:{port}", "--study", "1.2.3", "--port", "0", "--host", HOST)
        program = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "fastmove", *move, "--to", str(tmp_path / "to"), stderr=asyncio.subprocess.PIPE
        )
        await connected.wait()
        program.send_signal(signal.SIGINT)
        _, told = await asyncio.wait_for(program.communicate(), 10)
        stopped.set()
    assert program.returncode == 72
    assert b"stopping" in told and b"C-CANCEL" not in told and b"Traceback" not in told
