"""A PostgreSQL of our own: a fresh cluster without durability, on a socket in a folder, for as long as tests run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from fastmove.ledger.postgresql import DATA, Server, programs, url_of

SETTINGS: Final = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "log_min_messages": "log",  # nobody reads what it writes
    "log_checkpoints": "off",
}


class Cluster:
    """A running one; databases are made and dropped by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, database: str) -> str:
        """For who wants to use it."""
        return url_of(self.folder, database)

    def execute(self, statement: str, *names: str) -> None:
        """A statement that no transaction can have, with names in it."""
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def create(self, database: str, template: str = "template1") -> str:
        """A new database, as the template is; its URL."""
        self.execute("CREATE DATABASE {} TEMPLATE {}", database, template)
        return self.url(database)

    def drop(self, database: str) -> None:
        """Gone, whoever is connected."""
        self.execute("DROP DATABASE {} WITH (FORCE)", database)


@contextmanager
def running(within: Sequence[str] = (), address: str = "", network: str = "") -> Iterator[Cluster]:
    """Made, started by another command that is given `within`, and gone afterwards; anybody in `network` may use it."""
    folder = Path(tempfile.mkdtemp(prefix="fastmove-postgresql-"))
    try:
        server = Server(folder, programs()[0], SETTINGS | {"listen_addresses": address}, within=within)
        server.make("--no-sync")
        if network:
            with (folder / DATA / "pg_hba.conf").open("a") as access:
                access.write(f"host all all {network} trust\n")
        with server:
            yield Cluster(folder)
    finally:
        shutil.rmtree(folder)
