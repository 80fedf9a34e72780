"""Standard streams that are closed, full, or read by nobody."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(sys.executable).with_name("fastmove-movescu")
NOBODY = "127.0.0.1 1"  # tcpmux: refused
MOVE = f"{SCRIPT} {NOBODY} -S -k 0008,0052=STUDY"
ECHO = f"{sys.executable} -m fastmove echo PACS@{NOBODY.replace(' ', ':')}"


def ends(command: str) -> int:
    """What a shell says of it."""
    return subprocess.run(["bash", "-c", command], capture_output=True, text=True).returncode


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("command", [MOVE, ECHO], ids=["movescu", "echo"])
def test_closed_stream_does_not_change_the_exit_code(command: str, closed: str) -> None:
    assert ends(f"{command} {closed}") == 61


@pytest.mark.parametrize("where", [">/dev/full", ">&-", "| true"])
def test_help_that_nobody_can_read_is_no_error(where: str) -> None:
    shown = subprocess.run(["bash", "-c", f"{SCRIPT} --help {where}"], capture_output=True, text=True)
    assert (shown.returncode, shown.stderr) == (0, "")


@pytest.mark.parametrize("title", ["M\u00fc", "A\\B", "A\tB"])
def test_impossible_ae_title_is_refused_without_a_traceback(title: str) -> None:
    arguments = [SCRIPT, "-aet", title, *NOBODY.split(), "-k", "0008,0052=STUDY"]
    refused = subprocess.run(arguments, capture_output=True, text=True)
    assert refused.returncode == 61
    assert refused.stderr.startswith("F: Association Request Failed:\nF: 0006:030c Illegal service parameter: ")
