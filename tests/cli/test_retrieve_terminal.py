"""`fastmove retrieve` on a terminal: one look tells how far it is, and it can be stopped at any time."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from tests.compat.harness import reserved_port
from tests.integration import raw
from tests.integration.embedded import HOST, EmbeddedPacs, embedded_pacs
from tests.integration.programs import COMMAND
from tests.integration.retrieving import Retrieving, until
from tests.integration.scripted import Link, Pdu, Recv, ScriptedAcceptor, Send
from tests.integration.terminal import Terminal

from fastmove.bench.spec import Spec

STUDIES: Final = Spec(studies=4, series=2, instances=40, size=20_000)
SLOWLY: Final = ("delay=0.02",)
CTRL_C: Final = b"\x03"
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def port() -> Iterator[int]:
    """One of ours."""
    with reserved_port() as port:
        yield port


# ---------------------------------------------------------------------- what is shown


async def test_live_display_says_how_far_how_fast_and_how_long_yet(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES, faults=SLOWLY) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port)
        async with Terminal(*run.command) as terminal:
            await terminal.shows(r"0:00:\d\d left, \d+/~?320 instances")
            shown = await terminal.shows(
                r"(\d)/4 studies, ([\d.]+) MB, (?!0\.0 )([\d.]+) MB/s, (?!0/)([\d,]+)/s, (\d+) moves"
            )
            assert float(shown[2]) > 0 and int(shown[5]) > 0
            assert await terminal.ended() == 0
    assert "320 objects, 6.3 MB in" in terminal.shown and "verdict: COMPLETE" in terminal.shown
    assert max(map(len, terminal.shown.splitlines())) < 200  # frames are written one over the other


async def test_second_run_on_a_terminal_says_what_was_here(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--no-durable")
        await run.ends()
        async with Terminal(*run.command) as terminal:
            assert await terminal.ended() == 0
    assert "0 objects came, 320 were here before" in terminal.shown


@pytest.mark.parametrize("term", ["dumb", "xterm"])
async def test_terminal_says_what_is_wrong_while_it_is(term: str, tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--rounds", "1")
        run.goes_to(HOST, 1)
        async with Terminal(*run.command, columns=100, term=term) as terminal:
            if term != "dumb":
                await terminal.shows(f"nothing has come yet: does the PACS reach port {port} of this host")
            assert await terminal.ended() == 69
    assert "\x1b" not in terminal.shown
    assert "nothing came at all" in " ".join(terminal.shown.split())


# ---------------------------------------------------------------------- stopped, and gone on with


async def stopped_and_completed(run: Retrieving, told: str, code: int) -> None:
    """It kept what was whole and said how to go on; the same command does, and fetches nothing twice."""
    await run.settled()
    assert code == 72
    assert "run the same command again" in told and "Traceback" not in told
    before = run.whole()
    assert before.keys() == run.pacs.sent.keys()
    assert 0 < len(before) < len(run.pacs.files)
    run.pacs.misbehave()
    await run.ends()
    after = run.whole()
    assert after.items() >= before.items() and after.keys() == run.pacs.files.keys()
    assert set(run.pacs.sent.values()) == {1}


def cancelled_moves(pacs: EmbeddedPacs) -> int:
    return sum(move.status == 0xFE00 for move in pacs.moves)


async def test_ctrl_c_sends_c_cancel_and_says_how_to_go_on(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES, faults=SLOWLY) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--no-durable")
        async with Terminal(*run.command) as terminal:
            await until(lambda: pacs.objects_sent > 10)
            terminal.press(CTRL_C)
            await terminal.shows("stopping: C-CANCEL sent")
            code = await terminal.ended()
        assert cancelled_moves(pacs) > 0
        assert "verdict: CANCELLED" in terminal.shown
        await stopped_and_completed(run, terminal.shown, code)


@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
async def test_signal_is_as_good_as_ctrl_c(number: signal.Signals, tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES, faults=SLOWLY) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--no-durable")
        process = await asyncio.create_subprocess_exec(*COMMAND, *map(str, run.command), stderr=asyncio.subprocess.PIPE)
        await until(lambda: pacs.objects_sent > 10)
        process.send_signal(number)
        _, told = await process.communicate()
        assert cancelled_moves(pacs) > 0
        await stopped_and_completed(run, told.decode(), process.returncode or 0)


async def test_terminal_that_is_closed_stops_it_in_order(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES, faults=SLOWLY) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--no-durable")
        async with Terminal(*run.command) as terminal:
            await until(lambda: pacs.objects_sent > 10)
            terminal.hang_up()
            code = await terminal.ended()
        assert cancelled_moves(pacs) > 0
        await stopped_and_completed(run, "run the same command again", code)


async def test_hang_up_under_nohup_changes_nothing(tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES, faults=("delay=0.005",)) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port, "--no-durable")
        process = await asyncio.create_subprocess_exec("nohup", *COMMAND, *map(str, run.command), **QUIET)
        await until(lambda: pacs.objects_sent > 10)
        process.send_signal(signal.SIGHUP)
        assert await process.wait() == 0
        assert run.whole().keys() == pacs.files.keys()


QUIET: Final = {
    "stdin": asyncio.subprocess.DEVNULL,
    "stdout": asyncio.subprocess.DEVNULL,
    "stderr": asyncio.subprocess.DEVNULL,
}


class IgnoresCancel:
    """A step of a script: a C-MOVE goes on whatever is said, until it is aborted."""

    async def run(self, link: Link, received: list[Pdu]) -> None:
        link.deadline = 10.0
        await link.read_reply()
        await link.send(raw.message(1, raw.c_move_rsp(1, 0xFF00, (3, 0, 0, 0))))
        cancel = await link.read_reply()
        assert cancel.fields[raw.COMMAND_FIELD] == raw.us(0x0FFF)
        await link.send(raw.message(1, raw.c_move_rsp(1, 0xFF00, (2, 1, 0, 0))))
        await link.expect_abort(0, 0)


async def test_second_ctrl_c_aborts(tmp_path: Path, port: int) -> None:
    script = [Recv(raw.ASSOCIATE_RQ), Send(raw.associate_ac()), IgnoresCancel()]
    async with ScriptedAcceptor([script]) as pacs:
        move = ("retrieve", f"PACS@{HOST}:{pacs.port}", "--study", "1.2.3", "--port", str(port), "--no-prove")
        async with Terminal(*move, "--to", tmp_path / "to") as terminal:
            await terminal.shows("1 move")
            terminal.press(CTRL_C)
            await terminal.shows("once more to abort")
            await terminal.shows("what is on its way is waited for")
            terminal.press(CTRL_C)
            assert await terminal.ended() == 72
        await pacs.finished()
    assert "run the same command again" in terminal.shown


async def test_ctrl_c_before_there_is_an_association_ends_it_at_once(tmp_path: Path, port: int) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ)]]) as pacs:
        move = ("retrieve", f"PACS@{HOST}:{pacs.port}", "--study", "1.2.3", "--port", str(port))
        async with Terminal(*move, "--to", tmp_path / "to") as terminal:
            await terminal.shows(f"connecting to PACS@{HOST}:{pacs.port}")
            await until(lambda: pacs.received and pacs.received[0])
            terminal.press(CTRL_C)
            assert await terminal.ended() == 72
    assert "C-CANCEL" not in terminal.shown and "run the same command again" in terminal.shown


async def test_pacs_that_takes_no_association_for_now_is_waited_for_and_that_is_told(tmp_path: Path, port: int) -> None:
    async with ScriptedAcceptor([[Recv(raw.ASSOCIATE_RQ), Send(raw.associate_rj(2, 3, 2))]]) as pacs:
        move = ("retrieve", f"PACS@{HOST}:{pacs.port}", "--study", "1.2.3", "--port", str(port))
        async with Terminal(*move, "--to", tmp_path / "to") as terminal:
            await terminal.shows("the PACS takes no association now: trying again")
            terminal.press(CTRL_C)
            assert await terminal.ended() == 72
    assert "run the same command again" in terminal.shown


@pytest.mark.parametrize("selection", ["--study", "--date"])
async def test_ctrl_c_while_lists_are_asked_for_ends_it_at_once(selection: str, tmp_path: Path, port: int) -> None:
    async with embedded_pacs(STUDIES, faults=("find-delay=30",)) as pacs:
        run = Retrieving(pacs, tmp_path / "to", port)
        command = (
            run.command
            if selection == "--study"
            else (*run.command[: run.command.index("--study")], "--date", "1990..")
        )
        async with Terminal(*command) as terminal:
            await until(lambda: pacs.associations)
            await terminal.shows("left|0 instances")
            terminal.press(CTRL_C)
            assert await terminal.ended() == 72
    assert "run the same command again" in terminal.shown
    assert not list((tmp_path / "to").glob("*.dcm"))


async def test_ctrl_c_while_the_list_is_read_ends_it(tmp_path: Path, port: int) -> None:
    move = ("retrieve", f"PACS@{HOST}:1", "--from", "-", "--port", str(port), "--to", str(tmp_path / "to"))
    process = await asyncio.create_subprocess_exec(
        *COMMAND, *move, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None and process.stderr is not None
    process.stdin.write(b"1.2.3\n" * 100_000)
    await process.stdin.drain()  # more than a pipe holds: it reads
    telling = asyncio.create_task(process.stderr.read())
    while process.returncode is None:  # what comes between two reads is noticed after the next one
        process.send_signal(signal.SIGINT)
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.5)
    told = await telling
    assert (process.returncode, b"run the same command again" in told, b"Traceback" in told) == (72, True, False)
    process.stdin.close()
