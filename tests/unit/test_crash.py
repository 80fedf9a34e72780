"""What is said of our own errors: where, and never a value."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Final

import pytest

from fastmove.dimse.command import decode
from fastmove.errors import FastmoveError
from fastmove.observe.crash import VARIABLE, described, name_of, where

CANARY: Final = "DOE^CANARY"


def failing(value: str) -> None:
    secret = value.encode()
    raise ValueError(f"cannot use {value}", secret)


def caught() -> ValueError:
    with pytest.raises(ValueError) as failure:
        failing(CANARY)
    return failure.value


def test_L04_crash_is_told_without_message_or_locals() -> None:
    text = described(caught())
    assert CANARY not in text
    assert "ValueError at test_crash.py:" in text


def test_L04_frames_of_ours_go_before_those_of_others() -> None:
    with pytest.raises(FastmoveError) as failure:
        decode(b"rubbish")
    assert where(failure.value).startswith("command.py:")
    assert "test_crash" not in where(failure.value)


def test_L04_cause_is_told_too() -> None:
    try:
        failing(CANARY)
    except ValueError as error:
        with pytest.raises(RuntimeError) as failure:
            raise RuntimeError(CANARY) from error
    text = described(failure.value)
    assert "RuntimeError at" in text and ", from ValueError at" in text
    assert CANARY not in text


def test_name_of_a_system_error_says_what_went_wrong_and_not_with_which_file() -> None:
    assert (
        name_of(FileNotFoundError(2, "No such file", f"/data/{CANARY}"))
        == "FileNotFoundError (No such file or directory)"
    )


def run(program: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = f"from fastmove.cli.main import end\n{program}"
    return subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, env=os.environ | env)


CRASHES: Final = {
    "main": "end(lambda: int('DOE^CANARY'))",
    "thread": """
import threading
def command():
    thread = threading.Thread(target=int, args=('DOE^CANARY',))
    thread.start()
    thread.join()
end(command)""",
    "destructor": """
class Object:
    def __del__(self):
        int('DOE^CANARY')
end(lambda: Object() and None)""",
}


@pytest.mark.parametrize("program", CRASHES.values(), ids=CRASHES)
def test_L04_no_hook_of_the_interpreter_shows_a_value(program: str) -> None:
    done = run(program)
    assert "internal error: ValueError" in done.stderr
    assert CANARY not in done.stdout + done.stderr
    assert done.returncode == (1 if "int('DOE^CANARY'))" in program.splitlines()[0] else 0)


def test_L04_traceback_is_shown_to_whoever_asks() -> None:
    assert CANARY in run(CRASHES["main"], **{VARIABLE: "1"}).stderr
