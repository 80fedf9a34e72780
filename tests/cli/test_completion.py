"""Completion in the shell: verbs, options, values and names of peers, by the protocol and in bash itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

SCRIPT: Final = Path(sys.executable).with_name("fastmove")
PEERS: Final = '[peers]\narchive = "ARCHIVE@10.0.0.5:104"\naroma = "AROMA@[::1]:104"\npacs = "PACS@10.0.0.6:104"\n'

# The words so far, the last of them not yet whole; and what may stand there.
BASH: Final = {
    "verbs": (["ec"], ["plain,echo"]),
    "movescu is a verb": (["mov"], ["plain,movescu"]),
    "commands of a verb": (["config", ""], ["plain,check", "plain,example", "plain,path"]),
    "peers": (["echo", "ar"], ["plain,archive", "plain,aroma"]),
    "peers after options": (["find", "--matches", "5", "p"], ["plain,pacs"]),
    "peers as an option": (["pacs", "--move-destination", "p"], ["plain,pacs"]),
    "options": (["retrieve", "pacs", "--on"], ["plain,--on-duplicate"]),
    "choices": (["listen", "--on-duplicate", "r"], ["plain,replace"]),
    "folders": (["listen", "--to", "x"], ["dir,x"]),
    "files": (["send", "pacs", "x"], ["file,x"]),
    "options of movescu": (["movescu", "-S", "-ae"], ["plain,-aet", "plain,-aec", "plain,-aem"]),
    "options of movescu with a plus": (
        ["movescu", "+t"],
        ["plain,+t=", "plain,+te", "plain,+tb", "plain,+ti", "plain,+td", "plain,+tls"],
    ),
    "files for movescu": (["movescu", "-S", "x"], ["file,x"]),
}


def complete(shell: str, words: list[str], folder: Path) -> list[str]:
    """What a shell is told, by lines."""
    line = " ".join(["fastmove", *words])
    current = words[-1] if shell == "fish" else str(len(words))
    variables = {"_FASTMOVE_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": current}
    done = subprocess.run(
        [sys.executable, "-m", "fastmove"],
        env={**os.environ, **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a configuration."""
    (tmp_path / "fastmove.toml").write_text(PEERS)
    return tmp_path


@pytest.mark.parametrize(("words", "expected"), BASH.values(), ids=BASH)
def test_bash_is_told_what_may_stand_there(words: list[str], expected: list[str], folder: Path) -> None:
    assert [line for line in complete("bash", words, folder) if line] == expected


def test_zsh_and_fish_are_told_what_it_means(folder: Path) -> None:
    assert complete("zsh", ["echo", "aro"], folder) == ["plain", "aroma", "AROMA@[::1]:104"]
    assert complete("fish", ["echo", "aro"], folder) == ["plain,aroma\tAROMA@[::1]:104"]
    assert complete("zsh", ["movescu", "+te"], folder)[:2] == ["plain", "+te"]
    assert len(complete("zsh", ["movescu", "+te"], folder)) == 3


def test_configuration_that_is_wrong_completes_no_names(tmp_path: Path) -> None:
    (tmp_path / "fastmove.toml").write_text("not TOML")
    assert [line for line in complete("bash", ["echo", ""], tmp_path) if line] == []
    assert complete("bash", ["echo", "--js"], tmp_path) == ["plain,--json"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_of_each_shell_completes_fastmove(shell: str) -> None:
    done = subprocess.run(
        [SCRIPT],
        env={**os.environ, "_FASTMOVE_COMPLETE": f"{shell}_source"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_FASTMOVE_COMPLETE={shell}_complete" in done.stdout and "_fastmove_completion" in done.stdout


def test_bash_completes(folder: Path) -> None:
    program = """
eval "$(_FASTMOVE_COMPLETE=bash_source fastmove)"
complete -p fastmove
COMP_WORDS=(fastmove echo ar) COMP_CWORD=2
_fastmove_completion fastmove
printf '%s\\n' "${COMPREPLY[@]}"
"""
    path = f"{SCRIPT.parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", program],
        env={**os.environ, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == [
        "complete",
        "-o",
        "nosort",
        "-F",
        "_fastmove_completion",
        "fastmove",
        "archive",
        "aroma",
    ]
