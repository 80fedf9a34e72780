"""An object store for tests: moto in a process of its own, behind a way to it that can be bad; looked at by boto3."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import itertools
import re
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final, NamedTuple

import boto3
import obstore
import pytest
from obstore.store import MemoryStore

from fastmove.migrate.bucket import Access, Bucket

HOST: Final = "127.0.0.1"
_NUMBERS: Final = itertools.count(1)
PREFIX: Final = "moved/2026"
ACCESS_KEY: Final = "AKIDOFTESTS"
SECRET_KEY: Final = "secretoftests"

Alter = Callable[[str, str, bytes], "bytes | int"]
"""Of a request by method and path: other content; or the status that it is answered with."""


def as_it_is(method: str, path: str, body: bytes) -> bytes | int:
    return body


class Conditions(Enum):
    """What a store does with If-None-Match of a PUT."""

    HEEDED = "heeded"
    REFUSED = "refused"
    DISREGARDED = "disregarded"


class _Server(ThreadingHTTPServer):
    daemon_threads = False

    def handle_error(self, *_: object) -> None:
        pass


class Way:
    """A reverse proxy to the store, at an address that stays; `alter` does what it likes."""

    def __init__(self, port: int) -> None:
        self._store = port
        self.alter: Alter = as_it_is
        self.conditions = Conditions.HEEDED
        self.seen: Counter[str] = Counter()
        """Methods of requests."""
        self.connections: set[socket.socket] = set()
        self.port = 0
        self._server: ThreadingHTTPServer | None = None
        self.open()

    @property
    def is_open(self) -> bool:
        return self._server is not None

    def open(self) -> None:
        """It is there."""
        way = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1

            def setup(self) -> None:
                super().setup()
                way.connections.add(self.connection)

            def finish(self) -> None:
                way.connections.discard(self.connection)
                with contextlib.suppress(OSError):
                    super().finish()

            def forward(self) -> None:
                with contextlib.suppress(OSError):  # who asks is gone, or we are
                    way.forward(self)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = forward

            def log_message(self, *_: Any) -> None:
                pass

        self._server = _Server((HOST, self.port), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def cut(self) -> None:
        """Nobody listens there any more, and what is under way gets no answer."""
        assert self._server is not None
        self._server.shutdown()
        server, self._server = self._server, None
        for each in tuple(self.connections):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        server.server_close()  # waits for those who serve

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        if self._server is None:
            request.close_connection = True
            return
        self.seen[request.command] += 1
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        altered = self.alter(request.command, request.path, body)
        if self.conditions is not Conditions.HEEDED and "If-None-Match" in request.headers:
            del request.headers["If-None-Match"]
            altered = 501 if self.conditions is Conditions.REFUSED else altered
        if isinstance(altered, int):
            self._answer(request, altered, [], f"<Error><Code>{_CODES[altered]}</Code></Error>".encode())
            return
        connection = http.client.HTTPConnection(HOST, self._store, timeout=60)
        headers = {name: value for name, value in request.headers.items() if name.lower() != "content-length"}
        connection.request(request.command, request.path, altered, headers | {"Content-Length": str(len(altered))})
        answer = connection.getresponse()
        content = answer.read()
        length = answer.getheader("Content-Length") if request.command == "HEAD" else str(len(content))
        kept = [each for each in answer.getheaders() if each[0].lower() not in _OURS]
        connection.close()
        self._answer(request, answer.status, [*kept, ("Content-Length", length or "0")], content)

    def _answer(
        self, request: BaseHTTPRequestHandler, status: int, headers: list[tuple[str, str]], content: bytes
    ) -> None:
        if self._server is None:
            request.close_connection = True
            return
        request.send_response_only(status)
        for name, value in headers or [("Content-Length", str(len(content)))]:
            request.send_header(name, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(content)


_CODES: Final = {403: "AccessDenied", 501: "NotImplemented", 503: "SlowDown"}
_OURS: Final = frozenset(("content-length", "transfer-encoding", "connection"))


class Held(NamedTuple):
    """An object as another client finds it."""

    nbytes: int
    sha256: str
    content_type: str
    metadata: dict[str, str]
    content: bytes


class Store:
    """A running store with an empty bucket."""

    def __init__(self, port: int) -> None:
        self.name = f"archive-{next(_NUMBERS)}"
        self.way = Way(port)
        self.client = boto3.client(
            "s3",
            endpoint_url=f"http://{HOST}:{port}",
            region_name="us-east-1",
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        self.client.create_bucket(Bucket=self.name)

    @property
    def url(self) -> str:
        return f"s3://{self.name}/{PREFIX}"

    @property
    def bucket(self) -> Bucket:
        return Bucket(self.name, PREFIX)

    @property
    def access(self) -> Access:
        return Access(f"http://{HOST}:{self.way.port}", access_key_id=ACCESS_KEY, secret_access_key=SECRET_KEY)

    def keys(self) -> list[str]:
        """All below the prefix."""
        found = []
        for page in self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{PREFIX}/"):
            found += [each["Key"].removeprefix(f"{PREFIX}/") for each in page.get("Contents", ())]
        return sorted(found)

    def objects(self) -> dict[str, Held]:
        """Those that are no manifests, by key."""
        return {key: self.held(key) for key in self.keys() if key.endswith(".dcm")}

    def held(self, key: str) -> Held:
        answer = self.client.get_object(Bucket=self.name, Key=f"{PREFIX}/{key}")
        content = answer["Body"].read()
        digest = hashlib.sha256(content).hexdigest()
        return Held(len(content), digest, answer["ContentType"], answer["Metadata"], content)

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=self.name, Key=f"{PREFIX}/{key}", Body=content)

    def unfinished(self) -> int:
        """Uploads in parts that nobody has completed."""
        return len(self.client.list_multipart_uploads(Bucket=self.name).get("Uploads", ()))

    def close(self) -> None:
        self.client.close()
        if self.way.is_open:
            self.way.cut()


@contextmanager
def server() -> Iterator[int]:
    """A store in a process of its own: its port."""
    obstore.put(MemoryStore(), "warm", b"")  # its threads and descriptors stay as long as the process
    command = (sys.executable, "-m", "moto.server", "-H", HOST, "-p", "0")
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        reading = threading.Thread(target=process.stderr.read, daemon=True)
        try:
            lines: list[str] = []
            while not (found := re.search(rf"http://{HOST}:(\d+)", lines[-1] if lines else "")):
                lines.append(process.stderr.readline().decode())
                assert lines[-1], lines
            reading.start()
            yield int(found[1])
        finally:
            process.kill()
            if reading.is_alive():
                reading.join()


def environment(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Credentials as users have them, and no files of theirs."""
    for name in ("AWS_PROFILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_REGION", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))
