"""An object store for tests of whole commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.migrate.stores import Store, environment, server


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Where the store is."""
    with server() as port:
        yield port


@pytest.fixture
def store(port: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    """A bucket of it, and an environment that has the keys."""
    environment(monkeypatch, tmp_path)
    made = Store(port)
    try:
        yield made
    finally:
        made.close()
