"""`fastmove.testing` and the pytest fixture as the tests of another program use them, and scenarios."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.errors import ConfigurationError, ListenFailed
from fastmove.notices import FaultCommitted, MoveAnswered
from fastmove.pacs.faults import Faults
from fastmove.pacs.pace import Pace
from fastmove.pacs.scenario import Change, parse
from fastmove.testing import Pacs
from tests.compat.harness import reserved_port
from tests.integration.programs import Program, fastmove

FASTMOVE: Final = (sys.executable, "-m", "fastmove")


def retrieved(pacs: Pacs, folder: Path, port: int) -> subprocess.CompletedProcess[str]:
    """A program of somebody else's, in effect: all studies by C-MOVE."""
    where = f"{pacs.ae_title}@{pacs.host}:{pacs.port}"
    study = ",".join(pacs.studies)
    options = ("--aet", "ME", "--port", str(port), "--host", "127.0.0.1", "--no-durable", "--rounds", "0")
    command = (*FASTMOVE, "retrieve", where, "--study", study, "--to", str(folder), *options)
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_pacs_serves_a_program_from_a_thread_and_says_what_it_did(tmp_path: Path) -> None:
    before = threading.active_count()
    with reserved_port() as port, Pacs(studies=2, destinations={"ME": ("127.0.0.1", port)}) as pacs:
        assert len(pacs.studies) == 2
        ended = retrieved(pacs, tmp_path / "in", port)
        assert ended.returncode == 0, ended.stderr
        assert set(pacs.sent) == pacs.instances()
        assert len(pacs.instances(pacs.studies[0])) == 10
        assert any(isinstance(notice, MoveAnswered) for notice in pacs.notices)
    assert threading.active_count() == before


def test_pacs_misbehaves_when_it_is_told_to(tmp_path: Path) -> None:
    with reserved_port() as port, Pacs(faults=["drop=3"], destinations={"ME": ("127.0.0.1", port)}) as pacs:
        assert retrieved(pacs, tmp_path / "in", port).returncode == 71
        assert len(pacs.dropped) == 3
        assert pacs.dropped == pacs.instances() - set(pacs.sent)
        pacs.misbehave()
        assert retrieved(pacs, tmp_path / "in", port).returncode == 0
        assert not pacs.dropped
        assert any(isinstance(notice, FaultCommitted) for notice in pacs.notices)


def test_port_that_is_taken_is_told_to_who_starts_it() -> None:
    with Pacs() as pacs, pytest.raises(ListenFailed):
        Pacs(port=pacs.port).start()


@pytest.mark.parametrize("options", [{"profile": "dentist"}, {"faults": ["nonsense"]}, {"synthetic": "x=1"}])
def test_what_cannot_be_meant_is_told_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        Pacs(**options)


def test_fixture_comes_with_the_package_and_stops_what_it_made(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "made = []\n"
        "def test_one(fastmove_pacs):\n"
        "    made.append(fastmove_pacs(studies=2))\n"
        "    made.append(fastmove_pacs(profile='sr', studies=5))\n"
        "    assert [len(pacs.studies) for pacs in made] == [2, 5]\n"
        "    assert made[0].port != made[1].port\n"
        "def test_two():\n"
        "    assert not any(pacs._thread.is_alive() for pacs in made)\n"
    )
    command = (
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-W",
        "error",
        "--rootdir",
        str(tmp_path),
    )
    ended = subprocess.run((*command, str(tmp_path)), capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert ended.returncode == 0, ended.stdout
    assert "2 passed" in ended.stdout


# ---------------------------------------------------------------------- scenarios

SCENARIO: Final = """
synthetic = "studies=1,series=1,instances=4,size=5k"
aet = "SCENE"
port = 0
fault = ["refuse-moves=A701"]

[[then]]
after = 0.2
fault = ["drop=1"]

[[then]]
after = 3600
"""


def test_scenario_has_options_and_changes_in_their_order() -> None:
    scenario = parse(SCENARIO)
    assert scenario.options["aet"] == "SCENE"
    assert scenario.changes == (Change(0.2, Faults.parse(["drop=1"])), Change(3600.0, Faults()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("= 1", "no TOML"),
        ("then = 1", "begin each with"),
        ("[[then]]\nfault = []", "has `after`"),
        ("[[then]]\nafter = 1\nx = 1", "nothing else"),
        ("[[then]]\nafter = -1", "no number of seconds"),
        ("[[then]]\nafter = true", "no number of seconds"),
        ("[[then]]\nafter = 1\nfault = 'drop=1'", "no list"),
        ("[[then]]\nafter = 1\nfault = ['x=1']", "none of"),
        ("[[then]]\nafter = 2\n[[then]]\nafter = 1", "later than the one before"),
    ],
)
def test_scenario_that_cannot_be_meant_is_refused(text: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why):
        parse(text)


async def test_pacs_of_a_scenario_changes_with_time(tmp_path: Path) -> None:
    (tmp_path / "scene.toml").write_text(SCENARIO)
    async with Program("pacs", "--scenario", tmp_path / "scene.toml") as program:
        started = await program.event("pacs.ready")
        assert (started["ae_title"], started["instances"]) == ("SCENE", 4)
        change = await program.event("pacs.fault")
        assert (change["fault"], change["detail"]) == ("change", "drop")
        assert await program.stopped() == 0


async def test_scenario_with_an_option_that_there_is_not_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "scene.toml").write_text("colour = 'blue'\n")
    ended = await fastmove("pacs", "--scenario", tmp_path / "scene.toml")
    assert ended.code == 1
    assert "'colour' is no option" in ended.err


async def test_how_many_are_served_may_change_while_some_are() -> None:
    pace = Pace()
    four, one = (pace.turn(delay_s=0.0, rate_per_s=None, served=served) for served in (4, 1))
    async with four(), four(), one():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02), one():
                pass
    async with asyncio.timeout(5), one():
        pass
