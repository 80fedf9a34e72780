"""A PostgreSQL of one's own, for a ledger to be tried with: its programs, its folder, and a process that ends with us.

It listens on a Unix socket in its folder and nowhere else.  Who runs it is the only one to reach that folder, and so it
asks for no password.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread
from typing import Final, NamedTuple, Self
from urllib.parse import quote

from fastmove.errors import ConfigurationError, LedgerError

USER: Final = "fastmove"
"""Who may do everything in it."""

DATABASE: Final = "ledger"

PORT: Final = 5432
"""Of no other use than in the name of the socket: what libpq looks for if it is told nothing."""

SOCKET: Final = f".s.PGSQL.{PORT}"
MAX_SOCKET_PATH: Final = 107
"""Bytes of the path of a Unix socket at most (unix(7): 108, with a zero at the end)."""

DATA: Final = "fastmove-postgresql"
MAKING: Final = f"{DATA}.part"
OURS: Final = {DATA, MAKING, SOCKET, f"{SOCKET}.lock"}
"""All that there is in a folder of ours."""

SERVICE_USER: Final = "postgres"
"""What packages of PostgreSQL call the user who is to run it."""

DEBIAN: Final = Path("/usr/lib/postgresql")
"""Debian has its own programs in a folder for each version, and in no PATH."""

SETTINGS: Final = {"log_min_messages": "log", "log_checkpoints": "off"}
"""What it says beyond these words people cannot do anything about."""

READY: Final = "ready to accept connections"
STOP_S: Final = 60.0
"""So long it has to write out what it has in memory; what it has not written then it does when it is next started."""

TO_INSTALL: Final = "install one (`apt install postgresql`), or take packaging/fleet/compose.yaml"


def programs() -> list[Path]:
    """The folders of PostgreSQL's own programs on this machine: that in PATH, and those of Debian, newest first."""
    found = shutil.which("initdb")
    versions = sorted(DEBIAN.glob("[1-9][0-9]/bin"), key=lambda path: int(path.parent.name), reverse=True)
    folders = [*([Path(found).resolve().parent] if found else []), *versions]
    return [each for each in dict.fromkeys(folders) if os.access(each / "initdb", os.X_OK)]


def url_of(folder: Path, database: str = DATABASE) -> str:
    """For who wants to use a database of the server in this folder."""
    return f"postgresql://{USER}@/{database}?host={quote(str(folder))}"


class Owner(NamedTuple):
    """Who runs a server, if it is not us; numbers."""

    uid: int
    gid: int


def owner_of(folder: Path) -> Owner | None:
    """Who runs a server in this folder; None: we.  ConfigurationError if nobody can.

    It refuses to be run by root: that has it run by the owner of the folder, and gives its own to SERVICE_USER.
    """
    us, uid = os.geteuid(), folder.stat().st_uid
    if us not in (0, uid):
        raise ConfigurationError("DIR", f"{folder} is of another user")
    if us:
        return None
    try:
        known = pwd.getpwuid(uid) if uid else pwd.getpwnam(SERVICE_USER)
    except KeyError:
        who = "a user with a name" if uid else "no root"
        raise ConfigurationError("DIR", f"PostgreSQL has to be run by {who}: have one start it") from None
    if not uid:
        os.chown(folder, known.pw_uid, known.pw_gid)
    return Owner(known.pw_uid, known.pw_gid)


class Server:
    """A server in a folder, as long as the block lasts; `tell` is given what it says once it is ready.

    Its process is ours alone, and shuts down when we are gone, even if we are killed.  It is started by another
    command that is given `within`.
    """

    def __init__(
        self,
        folder: Path,
        programs: Path,
        settings: Mapping[str, str],
        *,
        within: Sequence[str] = (),
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.folder = folder
        self._programs = programs
        own = {"listen_addresses": "", "port": str(PORT), "unix_socket_directories": str(folder)}
        self._settings = {**own, **settings}
        owner = owner_of(folder)
        as_owner = ("--reuid", str(owner.uid), "--regid", str(owner.gid), "--clear-groups") if owner else ()
        self._within = (*within, "setpriv", "--pdeathsig", "INT", *as_owner)
        self._tell = tell

    def make(self, *options: str) -> None:
        """What it has its data in, whole or not at all; ConfigurationError."""
        making = self.folder / MAKING
        shutil.rmtree(making, ignore_errors=True)
        how = ("--username", USER, "--encoding", "UTF8", "--locale", "C", "--data-checksums")
        access = ("--auth-local", "trust", "--auth-host", "reject")
        command = [*self._within, str(self._programs / "initdb"), "--pgdata", str(making), *how, *access, *options]
        made = subprocess.run(
            command, cwd="/", env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True
        )
        if made.returncode:
            raise ConfigurationError("DIR", made.stderr.decode(errors="replace").strip())
        making.rename(self.folder / DATA)

    def __enter__(self) -> Self:
        """Once it is ready; LedgerError."""
        settings = (word for name, value in self._settings.items() for word in ("-c", f"{name}={value}"))
        command = [*self._within, str(self._programs / "postgres"), "-D", str(self.folder / DATA), *settings]
        self.process = subprocess.Popen(
            command,
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for us
            text=True,
            errors="replace",
        )
        assert self.process.stderr is not None
        said = ""
        try:
            while READY not in said:
                line = self.process.stderr.readline()
                said += line
                if not line:
                    raise LedgerError("start", f"PostgreSQL did not start: {said[max(said.find('FATAL'), 0) :]}")
        except BaseException:
            self._end()
            self.process.stderr.close()
            raise
        self._telling = Thread(target=self._told, name="postgresql")  # what nobody reads holds up who writes it
        self._telling.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._tell = lambda line: None  # of an end that we have asked for
        self._end()
        self._telling.join()

    def _told(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as lines:
            for line in lines:
                self._tell(line.rstrip())

    def _end(self) -> None:
        """Whoever is connected; what is committed is on the disk already."""
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait()


def _environment() -> dict[str, str]:
    """Ours, without what would be another server's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PG")} | {"LC_ALL": "C"}


@contextmanager
def server_in(folder: Path, tell: Callable[[str], None]) -> Iterator[Server]:
    """A server of a database for a ledger, in a folder of its own that is made if it is not there.

    ConfigurationError if this machine or the folder is not fit for it, LedgerError if it does not start.
    """
    folder = folder.resolve()
    installed = _installed(folder)
    with ExitStack() as stack:
        try:
            folder.mkdir(0o700, exist_ok=True)
            stack.callback(os.close, _alone(folder))
            server = _prepared(folder, installed, tell)
        except OSError as error:
            raise ConfigurationError("DIR", f"{folder}: {error.strerror or error}") from error
        stack.enter_context(server)
        _made_database(folder)
        yield server


def _prepared(folder: Path, installed: Sequence[Path], tell: Callable[[str], None]) -> Server:
    """A server that has its data in this folder; ConfigurationError."""
    if strange := sorted(each.name for each in folder.iterdir() if each.name not in OURS):
        raise ConfigurationError("DIR", f"{folder} is for something else: there is {strange[0]} in it")
    server = Server(folder, _of_the_version(folder / DATA, installed), SETTINGS, tell=tell)
    folder.chmod(0o700)  # who reaches the socket may do everything
    if not (folder / DATA).exists():
        server.make()
    return server


def _installed(folder: Path) -> list[Path]:
    """The programs that there are; ConfigurationError if something is missing, or this cannot be the folder."""
    if not (found := programs()):
        raise ConfigurationError("DIR", f"there is no PostgreSQL on this machine: {TO_INSTALL}")
    if shutil.which("setpriv") is None:
        raise ConfigurationError("DIR", "needs setpriv: `apt install util-linux`")
    try:
        import psycopg  # noqa: F401
    except ModuleNotFoundError as error:
        raise ConfigurationError("DIR", f"needs {error.name}: pip install 'fastmove[fleet]'") from error
    socket = folder / SOCKET
    if (length := len(os.fsencode(socket))) > MAX_SOCKET_PATH:
        why = f"the path of a socket has {MAX_SOCKET_PATH} bytes at most, and {socket} has {length}"
        raise ConfigurationError("DIR", f"{why}: take a folder with a shorter path")
    if "," in str(folder):
        raise ConfigurationError("DIR", f"{folder} has a comma in it, which is between hosts in an address")
    return found


def _alone(folder: Path) -> int:
    """A descriptor: as long as it is open nobody else starts one in this folder.  ConfigurationError if one runs."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise ConfigurationError("DIR", f"there is one already: {url_of(folder)}") from None
    return descriptor


def _of_the_version(data: Path, installed: Sequence[Path]) -> Path:
    """The programs that can read this data, or the first if there is none yet; ConfigurationError."""
    if not data.exists():
        return installed[0]
    version = (data / "PG_VERSION").read_text().strip()
    for each in installed:
        said = subprocess.run([each / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
        if re.findall(r"\d+", said)[:1] == [version]:
            return each
    raise ConfigurationError("DIR", f"{data} was made by PostgreSQL {version}, which is not installed here")


def _made_database(folder: Path) -> None:
    """That of the ledger, if it is not there; LedgerError."""
    import psycopg

    try:
        with psycopg.connect(url_of(folder, "postgres"), port=PORT, autocommit=True) as connection:
            if not connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE]).fetchall():
                connection.execute(f"CREATE DATABASE {DATABASE}".encode())
    except psycopg.Error as error:
        raise LedgerError("start", error) from error
