"""`fastmove doctor` as a user meets it: lines, JSON, advice, exit codes, what is kept, and how it is stopped."""

from __future__ import annotations

import asyncio
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from tests.integration import raw
from tests.integration.doctor import Script, one_study, scripted
from tests.integration.embedded import EmbeddedPacs, embedded_pacs
from tests.integration.peers import free_port
from tests.integration.programs import COMMAND, Ended, Program, fastmove
from tests.integration.scripted import Link, Recv, Reply, ScriptedAcceptor, Send

from fastmove.bench.spec import Spec
from fastmove.cli.profile_file import saved_profile
from fastmove.services.doctor.examination import PROBES
from fastmove.types import PeerAddress

HOST: Final = "127.0.0.1"
SMALL: Final = Spec(studies=2, series=1, instances=4, size=2_000)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """State and temporary files in folders of the test."""
    folders = {"XDG_STATE_HOME": tmp_path / "state", "TMPDIR": tmp_path / "tmp"}
    folders["TMPDIR"].mkdir()
    found = {name: str(folder) for name, folder in folders.items()}
    monkeypatch.setenv("XDG_STATE_HOME", found["XDG_STATE_HOME"])
    return found


WITHOUT_TLS: Final = [probe for probe in PROBES if probe.name != "tls"]


@asynccontextmanager
async def pacs_with(*faults: str) -> AsyncIterator[tuple[EmbeddedPacs, int]]:
    port = free_port()
    async with embedded_pacs(SMALL, faults=faults, destinations={"ME": PeerAddress("ME", HOST, port)}) as pacs:
        yield pacs, port


async def doctor(peer: PeerAddress | str, env: dict[str, str], *options: str, aet: str = "ME") -> Ended:
    return await fastmove("doctor", str(peer), "--aet", aet, "--timeout", "2", "--patience", "2", *options, env=env)


async def test_good_pacs_gets_a_line_for_each_probe_and_no_advice(environment: dict[str, str]) -> None:
    async with pacs_with() as (pacs, port):
        ended = await doctor(pacs.address, environment, "--port", str(port))
        assert saved_profile(pacs.address) is not None
    assert (ended.code, ended.err) == (0, "")
    lines = ended.out.splitlines()
    titles = [probe.title for probe in WITHOUT_TLS]
    assert [line.split("  ")[0] for line in lines[: len(titles)]] == ["ok"] * len(titles)
    assert all(title in line for title, line in zip(titles, lines, strict=False))
    assert "no problem found" in lines and "What to do" not in ended.out
    assert lines[-1].endswith(f"_{pacs.address.port}.toml")


async def test_first_problem_decides_the_exit_code_and_comes_first_in_what_to_do(environment: dict[str, str]) -> None:
    async with pacs_with("association-limit=3") as (pacs, _):
        ended = await doctor(pacs.address, environment, "--port", "0", aet="YOU")
    assert ended.code == 69
    assert "PROBLEM  C-MOVE " in ended.out
    to_do = ended.out.partition("What to do, the most important first:\n")[2].splitlines()
    assert to_do[0].startswith(" 1. in the PACS: enter 'YOU' with host 127.0.0.1, port ")
    assert any("raise the number of associations" in line for line in to_do[1:])
    assert "1 problem found" in to_do


async def test_problem_that_stops_everything_is_followed_by_one_line_for_the_rest(environment: dict[str, str]) -> None:
    ended = await doctor(f"PACS@{HOST}:{free_port()}", environment)
    assert ended.code == 61
    assert ended.out.count("skipped") == 1
    assert not (Path(environment["XDG_STATE_HOME"])).exists()  # nothing was found out


@pytest.mark.parametrize(
    ("script", "code"),
    [
        ([Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(1, 1, 3))], 61),
        ([Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac([raw.context_ac(1)])), Script()], 66),
    ],
)
async def test_exit_code_is_that_of_the_cause(script: list[Any], code: int, environment: dict[str, str]) -> None:
    async with ScriptedAcceptor([[], script]) as acceptor:
        ended = await doctor(f"PACS@{acceptor.host}:{acceptor.port}", environment)
    assert ended.code == code


async def test_port_that_is_taken_ends_with_60(environment: dict[str, str]) -> None:
    async with pacs_with() as (pacs, _):
        ended = await doctor(pacs.address, environment, "--port", str(pacs.address.port), "--host", HOST)
    assert ended.code == 60
    assert "another program has this port" in ended.out


async def test_objects_that_are_missing_end_with_71(environment: dict[str, str]) -> None:
    async with pacs_with("nothing") as (pacs, port):
        ended = await doctor(pacs.address, environment, "--port", str(port))
    assert ended.code == 71


async def test_json_has_a_line_for_each_probe_and_one_for_all(environment: dict[str, str]) -> None:
    async with pacs_with("association-per-object") as (pacs, port):
        ended = await doctor(pacs.address, environment, "--port", str(port), "--json")
    *found, finished = ended.lines
    assert [each["probe"] for each in found] == [probe.name for probe in WITHOUT_TLS]
    by_probe = {each["probe"]: each for each in found}
    assert by_probe["storage"]["outcome"] == "note"
    assert by_probe["storage"]["numbers"]["associations"] == 4
    assert by_probe["storage"]["advice"][0]["side"] == "PACS"
    assert (finished["event"], finished["exit_code"], finished["problems"]) == ("doctor.finished", 0, [])
    assert finished["profile"]["association_per_object"] is True
    assert Path(finished["saved"]).is_file()


async def test_what_is_found_out_goes_over_what_was_known_and_the_rest_stays(environment: dict[str, str]) -> None:
    async with pacs_with() as (pacs, port):
        await doctor(pacs.address, environment, "--port", str(port), "--associations", "3")
        await doctor(pacs.address, environment, "--associations", "2")
        known = saved_profile(pacs.address)
        assert known is not None
        assert (known.associations, known.uid_lists, known.counters) == (2, True, True)


async def test_nothing_is_kept_if_that_is_not_wanted(environment: dict[str, str]) -> None:
    async with pacs_with() as (pacs, _):
        ended = await doctor(pacs.address, environment, "--no-save")
        assert saved_profile(pacs.address) is None
    assert ended.code == 0 and "is kept" not in ended.out


async def test_place_that_cannot_be_written_is_told_and_no_failure(environment: dict[str, str]) -> None:
    Path(environment["XDG_STATE_HOME"]).touch()
    async with pacs_with() as (pacs, _):
        ended = await doctor(pacs.address, environment)
    assert ended.code == 0
    assert ended.err.startswith("not kept: ")


async def test_dry_run_asks_nothing(environment: dict[str, str]) -> None:
    peer = f"PACS@{HOST}:{free_port()}"
    ended = await doctor(peer, environment, "--port", "11112", "--study", "1.2.3", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert "C-MOVE of 1.2.3 to our listener" in ended.out
    planned = await doctor(peer, environment, "--dry-run", "--json")
    assert {line["event"] for line in planned.lines} == {"doctor.planned"}


@pytest.mark.parametrize("option", [("--study", "1.2.*"), ("--associations", "0"), ("--destination", "A\\B")])
async def test_bad_option_is_refused(option: tuple[str, str], environment: dict[str, str]) -> None:
    ended = await doctor(f"PACS@{HOST}:104", environment, *option)
    assert ended.code == 1 and not ended.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signal_in_the_middle_of_the_move_leaves_nothing_behind(
    number: signal.Signals, environment: dict[str, str]
) -> None:
    moving = asyncio.Event()

    async def silent(_: Script, link: Link, request: Reply) -> None:
        moving.set()

    async with (
        scripted(Script(find=one_study, move=silent)) as peer,
        Program("doctor", str(peer), "--port", "0", env=os.environ | environment) as program,
    ):
        async with asyncio.timeout(10):
            await moving.wait()
        assert list(Path(environment["TMPDIR"]).iterdir())
        program.signal(number)
        assert await program.ended() == -number
    assert not list(Path(environment["TMPDIR"]).iterdir())
    assert "Traceback" not in program.errors


async def test_terminal_gets_marks_and_colours(environment: dict[str, str]) -> None:
    async with pacs_with() as (pacs, _):
        main, side = pty.openpty()
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *("doctor", str(pacs.address), "--aet", "ME"),
            stdin=side,
            stdout=side,
            stderr=side,
            env=os.environ | environment | {"TERM": "xterm", "COLUMNS": "60"},
        )
        os.close(side)
        loop = asyncio.get_running_loop()
        shown = b""
        try:
            while part := await loop.run_in_executor(None, _read, main):
                shown += part
        finally:
            os.close(main)
            await process.wait()
    text = shown.decode()
    assert "\x1b[32m✓\x1b[0m TCP connection" in text
    assert "  TCP connection ..." in text
    assert "-\x1b[0m" in text and "--port" in text
    lines = [line.rpartition("\x1b[K")[2] for line in text.splitlines()]
    assert all(len(line) < 80 for line in lines if ".toml" not in line and "\x1b" not in line)


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # the other side is closed
        return b""


async def test_help_names_the_exit_codes() -> None:
    ended = await fastmove("doctor", "--help")
    assert ended.code == 0
    assert all(text in ended.out for text in ("61 no association", "--dry-run", "fastmove doctor PACS@10.0.0.5:104"))
    assert sys.executable in COMMAND
