"""What tests get that let calls of files fail."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.forks import Forks
from tests.faults.shim import Plan, compiled


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library that commits faults; for tests of the lane "gcc"."""
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture(scope="session")
def forks(shim: Path) -> Iterator[Forks]:
    """Starts commands quickly."""
    with Forks(shim) as running:
        yield running


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """The faults of a test."""
    with Plan(tmp_path / "plan") as faults:
        yield faults
