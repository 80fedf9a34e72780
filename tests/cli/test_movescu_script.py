"""The script `fastmove-movescu`, by its own name and by movescu's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("fastmove-movescu")


def run(program: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", ["fastmove-movescu", "movescu"])
def test_script_works_by_any_name(tmp_path: Path, name: str) -> None:
    program = tmp_path / name
    program.symlink_to(SCRIPT)
    shown = run(program, "--version")
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "movescu: DICOM retrieve (C-MOVE) SCU" in shown.stdout


def test_verb_and_script_are_the_same() -> None:
    verb = subprocess.run([sys.executable, "-m", "fastmove", "movescu", "--help"], capture_output=True, text=True)
    assert verb.stdout == run(SCRIPT, "--help").stdout


def test_bad_command_line_exits_with_1_and_says_why() -> None:
    refused = run(SCRIPT, "--foo")
    assert refused.returncode == 1
    assert refused.stderr.endswith("error: Unknown option --foo\n")
