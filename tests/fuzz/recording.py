"""What the tests of the catalogue send, as seeds: `make fuzz-seeds` runs them with this as a plugin of pytest.

Each line of `catalogue.txt` is a row's test, who sent it, and the bytes. Of an associated requestor they are those
behind the usual A-ASSOCIATE-RQ and the object that is stored first. Long streams are cut off.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration import raw
from tests.integration.listener import KEPT
from tests.integration.scripted import Link, ScriptedRequestor

RECORD: Final = Path(__file__).with_name("catalogue.txt")
MAX_BYTES: Final = 1024
ASSOCIATE_RQ: Final = raw.associate_rq()
STORED: Final = raw.message(1, raw.c_store_rq(KEPT), raw.dataset(KEPT))
REQUESTOR, ASSOCIATED, ACCEPTOR = "requestor", "associated", "acceptor"

_sent: dict[Link, bytearray] = {}
_lines: dict[str, str] = {}


@pytest.fixture(autouse=True)
def recorded(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Takes down what scripted peers send in this test."""
    send, send_pieces = Link.send, Link.send_pieces

    async def recorded_send(self: Link, *chunks: bytes) -> None:
        _sent.setdefault(self, bytearray()).extend(b"".join(chunks))
        await send(self, *chunks)

    async def recorded_pieces(self: Link, data: bytes, size: int = 1, pause_s: float = 0.0) -> None:
        _sent.setdefault(self, bytearray()).extend(data)
        await send_pieces(self, data, size, pause_s)

    monkeypatch.setattr(Link, "send", recorded_send)
    monkeypatch.setattr(Link, "send_pieces", recorded_pieces)
    yield
    for link, data in _sent.items():
        role = REQUESTOR if isinstance(link, ScriptedRequestor) else ACCEPTOR
        if role == REQUESTOR and data.startswith(ASSOCIATE_RQ):
            role, data = ASSOCIATED, data.removeprefix(ASSOCIATE_RQ).removeprefix(STORED)
        _lines.setdefault(f"{role} {bytes(data[:MAX_BYTES]).hex()}", request.node.name)
    _sent.clear()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Writes the record; not if something failed."""
    if session.testsfailed or not _lines:
        return
    lines = sorted(f"{name.replace(' ', '_')} {line}\n" for line, name in _lines.items())
    RECORD.write_text("".join(lines))
