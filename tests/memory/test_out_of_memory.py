"""R05: each allocation fails, alone or with those after it; nothing crashes, nothing is taken for what it is not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest

HERE: Final = Path(__file__).parent
LISTENER: Final = "listener"

pytestmark = [pytest.mark.lane("gcc"), pytest.mark.xdist_group("memory")]


@pytest.fixture(scope="module")
def starved(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], dict[str, Any]]:
    """What became of each call, by its name and by how many allocations failed after each other."""
    folder = tmp_path_factory.mktemp("starved")
    allocator = tmp_path_factory.mktemp("allocator") / "allocator.so"
    subprocess.run(["gcc", "-O1", "-shared", "-fPIC", "-o", allocator, HERE / "allocator.c"], check=True)
    run = subprocess.run(
        [sys.executable, "-m", "tests.memory.starved", str(folder)],
        env=os.environ | {"LD_PRELOAD": str(allocator), "PYTHONMALLOC": "malloc", "PYTHONFAULTHANDLER": "1"},
        cwd=HERE.parent.parent,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert run.returncode == 0, f"it ended with {run.returncode} after\n{run.stdout[-500:]}\n{run.stderr[-3000:]}"
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    return {(line["call"], line["failing"]): line for line in lines}


def test_R05_no_call_of_the_compiled_modules_crashes_or_does_something_else(
    starved: dict[tuple[str, int], dict[str, Any]],
) -> None:
    assert len(starved) >= 24
    for (call, failing), line in starved.items():
        if call != LISTENER:
            assert line["came"].keys() <= {"done", "refused"}, f"{call}, {failing} failing: {line['came']}"
            assert sum(line["came"].values()) == line["allocations"] > 0


def test_R05_no_lack_of_memory_is_passed_over(starved: dict[tuple[str, int], dict[str, Any]]) -> None:
    assert {key: line["unraised"] for key, line in starved.items() if line["unraised"]} == {}


@pytest.mark.parametrize("failing", [1, 12])
def test_R05_association_without_memory_is_aborted_by_the_provider_and_others_go_on(
    starved: dict[tuple[str, int], dict[str, Any]], failing: int
) -> None:
    line = starved[LISTENER, failing]
    aborted, stored = line["came"]["A-ABORT (2,0)"], line["came"].get("status 0000", 0)
    assert aborted > 50
    assert aborted + stored == line["allocations"], line["came"]
    assert stored <= 5, "only what Python does without"  # the object was there, and whole
    assert line["told"] == {"mem": aborted}
