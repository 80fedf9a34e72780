"""A PostgreSQL of our own: a fresh cluster without durability, on a socket in a folder, for as long as tests run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from tests.lanes import postgresql_programs

USER: Final = "postgres"
"""Who runs it if we are root, as it refuses to be run by root; and who may do everything in it."""

SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "log_min_messages": "log",  # nobody reads what it writes, save that it is ready
    "log_checkpoints": "off",
}
READY: Final = "ready to accept connections"


class Cluster:
    """A running one; databases are made and dropped by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def url(self, database: str) -> str:
        """For who wants to use it."""
        return f"postgresql://{USER}@/{database}?host={self.folder}"

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
    programs = postgresql_programs()
    assert programs is not None
    folder = Path(tempfile.mkdtemp(prefix="fastmove-postgresql-"))
    as_user = ["setpriv", "--pdeathsig", "INT"]  # it ends with us, however we end
    if os.geteuid() == 0:
        shutil.chown(folder, USER, USER)
        as_user += ["--reuid", USER, "--regid", USER, "--clear-groups"]
    data = folder / "data"
    options = ("--auth", "trust", "--username", USER, "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync")
    making = [*as_user, str(programs / "initdb"), "--pgdata", str(data), *options]
    subprocess.run(making, cwd="/", check=True, capture_output=True)
    if network:
        with (data / "pg_hba.conf").open("a") as access:
            access.write(f"host all all {network} trust\n")
    settings = [
        word for name, value in {**SETTINGS, "listen_addresses": address}.items() for word in ("-c", f"{name}={value}")
    ]
    starting = [*within, *as_user, str(programs / "postgres"), "-D", str(data), "-k", str(folder), *settings]
    try:
        with subprocess.Popen(starting, cwd="/", stderr=subprocess.PIPE, text=True) as server:
            assert server.stderr is not None
            said = ""
            while READY not in said:
                line = server.stderr.readline()
                said += line
                assert line, said
            try:
                yield Cluster(folder)
            finally:
                server.send_signal(signal.SIGINT)  # at once, whoever is connected
    finally:
        shutil.rmtree(folder)
