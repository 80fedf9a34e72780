"""A machine that lacks something says so, and does not pass for one that ran everything."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
from tests import lanes

PROJECT: Final = Path(__file__).parents[2]

TESTS: Final = """
import pytest
from tests import lanes

lanes.LANES |= {"nowhere": lambda: "nothing like it here", "some day": lambda: "not yet", "here": lambda: None}
lanes.OPTIONAL = frozenset(("some day",))

@pytest.mark.lane("here")
def test_that_runs():
    pass
"""

NOWHERE: Final = """
@pytest.mark.lane("nowhere")
@pytest.mark.parametrize("n", range(3))
def test_that_cannot(n):
    raise AssertionError
"""

SOME_DAY: Final = """
@pytest.mark.lane("some day")
def test_that_may_be_skipped():
    raise AssertionError
"""

SKIPPED: Final = """
def test_that_is_skipped_in_silence():
    pytest.skip("no mood")
"""


def run(directory: Path, tests: str, ci: str) -> tuple[int, str]:
    """Exit code and output of a pytest of its own."""
    path = directory / "test_lanes_of_its_own.py"
    path.write_text(TESTS + tests)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.lanes", "-p", "no:cacheprovider", str(path)]
    environment = os.environ | {"CI": ci, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True)
    return ended.returncode, ended.stdout


@pytest.mark.parametrize(
    ("tests", "ci", "code", "said"),
    [
        (NOWHERE, "", 0, "SKIP 3 tests: lane nowhere: nothing like it here"),
        (NOWHERE, "true", 1, "lane nowhere: nothing like it here"),
        (SOME_DAY, "", 0, "SKIP 1 tests: lane some day: not yet"),
        (SOME_DAY, "true", 0, "SKIP 1 tests: lane some day: not yet"),
        (SOME_DAY + SKIPPED, "", 0, "SKIP 1 tests: no mood"),
        (SOME_DAY + SKIPPED, "true", 1, "SKIP 1 tests: no mood"),
        ("", "true", 0, "1 passed"),
    ],
    ids=["lane", "lane, CI", "optional", "optional, CI", "skip", "skip, CI", "all runs, CI"],
)
def test_what_is_skipped_is_said_and_fails_where_everything_has_to_run(
    tests: str, ci: str, code: int, said: str, tmp_path: Path
) -> None:
    ended, output = run(tmp_path, tests, ci)
    assert (ended, said in output) == (code, True), output


def test_each_lane_says_what_it_lacks_or_nothing() -> None:
    assert all(reason is None or reason for reason in map(lanes.lacking, lanes.LANES))
    assert lanes.LANES.keys() >= lanes.OPTIONAL
    assert lanes.absent("no-such-program", "sh") == "not installed: no-such-program"
    assert lanes.tried("sh", "-c", "echo no >&2; exit 1") == "sh -c echo no >&2; exit 1: no"
