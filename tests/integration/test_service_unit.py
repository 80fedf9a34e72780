"""The systemd unit: its score, and that a listener can do its work within what the unit allows."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import click
import pytest

from fastmove.cli.verbs import main
from tests.integration import raw
from tests.integration.peers import HOST
from tests.integration.programs import COMMAND, Program
from tests.integration.scripted import ScriptedRequestor

FOLDER: Final = Path(__file__).parents[2] / "packaging" / "systemd"
UNIT: Final = FOLDER / "fastmove-listen.service"
DROP_INS: Final = ("", "port-104.conf", "hosts.conf")
HIGHEST_SCORE: Final = 2.0
UID: Final = "1.2.826.0.1.3680043.10.9999.77"


def settings(path: Path) -> dict[str, list[str]]:
    """What a unit sets, in the order of its lines."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


@pytest.mark.lane("systemd")
@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda name: name or "alone")
def test_GF9_unit_is_exposed_to_little(drop_in: str, tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text() + ((FOLDER / drop_in).read_text() if drop_in else ""))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=100", str(unit)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    score = re.search(r"Overall exposure level for \S+: ([\d.]+)", shown)
    assert score is not None, shown
    assert float(score[1]) <= HIGHEST_SCORE, shown


@pytest.mark.lane("systemd")
def test_unit_says_nothing_that_systemd_does_not_know(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/fastmove/bin/fastmove", sys.executable))
    shown = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert unit.name not in shown.stderr, shown.stderr


def test_unit_has_what_the_checklist_asks_for() -> None:
    unit = settings(UNIT)
    wanted = {
        **dict.fromkeys(("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "ProtectHome"), "yes"),
        **dict.fromkeys(("MemoryDenyWriteExecute", "LockPersonality"), "yes"),
        "ProtectSystem": "strict",
        "RestrictAddressFamilies": "AF_INET AF_INET6 AF_UNIX",
        "CapabilityBoundingSet": "",
        "LimitCORE": "0",
        "LimitNOFILE": "4096",
        "UMask": "0077",
        "Restart": "on-failure",
    }
    assert {name: unit.get(name) for name in wanted} == {name: [value] for name, value in wanted.items()}
    assert unit["SystemCallFilter"][0] == "@system-service"
    assert "MemoryMax" in unit


def test_command_lines_of_the_unit_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(click.Path, "convert", lambda self, value, *_: Path(value))
    for path in (UNIT, FOLDER / "port-104.conf"):
        program, verb, *arguments = shlex.split(settings(path)["ExecStart"][-1])
        assert (Path(program).name, verb) == ("fastmove", "listen")
        command = main.get_command(click.Context(main), verb)
        assert command is not None
        command.make_context(verb, arguments)


def allowed() -> set[str]:
    """The system calls that the unit leaves."""
    shown = subprocess.run(["systemd-analyze", "syscall-filter"], capture_output=True, text=True, check=True).stdout
    groups: dict[str, set[str]] = {}
    name = ""
    for line in shown.splitlines():
        if line.startswith("@"):
            name = line.strip()
            groups[name] = set()
        elif name and line.startswith(" ") and not line.strip().startswith("#"):
            groups[name].add(line.strip())

    def calls(words: str) -> set[str]:
        found: set[str] = set()
        for word in words.split():
            found |= set().union(*map(calls, groups[word])) if word in groups else {word}
        return found

    left: set[str] = set()
    for words in settings(UNIT)["SystemCallFilter"]:
        left = left - calls(words[1:]) if words.startswith("~") else left | calls(words)
    # A library that is loaded, and a process that begins, ask for no more than these (systemd.exec(5)).
    return left | calls("@default")


@pytest.mark.lane("systemd", "strace")
async def test_GF9_listener_does_its_work_within_the_system_calls_and_memory_that_the_unit_allows(
    tmp_path: Path,
) -> None:
    stored, trace = tmp_path / "stored", tmp_path / "trace"
    options = ("--layout", "series", "--manifest", tmp_path / "manifest.jsonl", "--audit-file", tmp_path / "audit")
    program = Program("listen", "--port", "0", "--host", HOST, "--to", stored, *options, "--log-file", tmp_path / "log")
    strace = ["strace", "-f", "-qq", "-o", str(trace), "-e", "signal=none"]
    program.arguments = [*strace, *program.arguments]
    async with program:
        port = (await program.event("listen.started"))["port"]
        for number in range(3):
            async with ScriptedRequestor(HOST, port, deadline=10.0) as peer:
                await peer.associate()
                await peer.store(f"{UID}.{number}", raw.dataset(f"{UID}.{number}"))
                await peer.release()
        (child,) = program.children()
        os.kill(child, signal.SIGTERM)
        assert await program.ended() == 0
    used, forbidden = set(), []
    for line in trace.read_text().splitlines():
        call = re.match(r"\d+\s+(?:<\.\.\. )?(\w+)(?:\(| resumed)", line)
        if call is not None:
            used.add(call[1])
        if "PROT_WRITE" in line and "PROT_EXEC" in line:
            forbidden.append(line)
    assert len(used) > 30, "a trace"
    assert used - allowed() - {"execve"} == set()
    assert forbidden == []
    assert COMMAND[0] in trace.read_text()
