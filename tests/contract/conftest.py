"""Ledgers of every kind, fresh for each test."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Final

import pytest

from fastmove.ledger.store import Ledger
from tests.contract.postgresql import Cluster, running

MADE: Final = "made"
"""The database with an empty ledger that others are copies of."""

NUMBERS: Final = count(1)


@pytest.fixture(scope="session", params=["sqlite", pytest.param("postgresql", marks=pytest.mark.lane("postgresql"))])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster | None]:
    """A PostgreSQL, once a session (and worker); None: SQLite."""
    if request.param == "sqlite":
        yield None
        return
    with running() as cluster:
        asyncio.run(make(cluster.create(MADE)))
        yield cluster


async def make(where: str) -> None:
    async with Ledger.open(where, create=True):
        pass


@pytest.fixture
def where(cluster: Cluster | None, tmp_path: Path) -> Iterator[str]:
    """Where an empty ledger is, or is made if nobody has: a new one for each test."""
    if cluster is None:
        yield str(tmp_path / "ledger.db")
        return
    name = f"ledger_{next(NUMBERS)}"
    yield cluster.create(name, MADE)
    cluster.drop(name)


@pytest.fixture
def ledger(runner: asyncio.Runner, where: str) -> Iterator[Ledger]:
    """An empty ledger, open."""
    opening = Ledger.open(where, create=True)
    yield runner.run(opening.__aenter__())
    runner.run(opening.__aexit__(None, None, None))
