"""The listener under test as the catalogue sees it: an address, a directory, events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.notices import Notice, as_dict
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import raw
from tests.integration.scripted import ScriptedRequestor

ARTIM_S: Final = 0.3
EVENT_S: Final = 1.0

KEPT: Final = "1.2.826.0.1.3680043.10.9999.900"
"""The object that each bad association has stored before: it must stay."""
LOST: Final = "1.2.826.0.1.3680043.10.9999.901"
"""The object that the fault cuts short, or that is refused."""
NEXT: Final = "1.2.826.0.1.3680043.10.9999.902"
"""An object that must be stored."""


@dataclass
class Listener:
    """A running `fastmove listen`."""

    directory: Path
    ae_title: str = "FASTMOVE"
    host: str = "127.0.0.1"
    port: int = 0
    events: list[dict[str, Any]] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def record(self, event: dict[str, Any]) -> None:
        """Take down an event: "event" has the key, the rest its fields."""
        self.events.append(event)
        self._changed.set()

    def seen(self, key: str) -> list[dict[str, Any]]:
        """The events with this key so far."""
        return [event for event in self.events if event["event"] == key]

    async def event(self, key: str) -> dict[str, Any]:
        """The first event with this key, which must come within a second."""
        try:
            async with asyncio.timeout(EVENT_S):
                while not self.seen(key):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(f"no event {key}, only {[event['event'] for event in self.events]}") from None
        return self.seen(key)[0]

    def files(self) -> list[Path]:
        """The files under their final names."""
        return sorted(path for path in self.directory.rglob("*") if path.is_file() and not path.name.startswith(".fm-"))

    def stored(self) -> list[bytes]:
        """The data sets of these files, in the order of the bytes."""
        return sorted(raw.part10_dataset(path.read_bytes()) for path in self.files())

    def holds(self, *sop_instances: str) -> None:
        """Exactly these objects, as `raw.dataset` makes them, are stored."""
        assert self.stored() == sorted(raw.dataset(sop_instance) for sop_instance in sop_instances)

    def connect(self) -> ScriptedRequestor:
        """A connection without an association."""
        return ScriptedRequestor(self.host, self.port)

    @asynccontextmanager
    async def associated(self, rq: bytes | None = None) -> AsyncIterator[ScriptedRequestor]:
        """An association on which KEPT has been stored, as message 1."""
        async with self.connect() as peer:
            await peer.associate(rq)
            await peer.store(KEPT, raw.dataset(KEPT))
            yield peer


@asynccontextmanager
async def listening(
    directory: Path, limits: Limits, ready: Sequence[Readiness] = (), host: str = "127.0.0.1"
) -> AsyncIterator[tuple[Listener, Acceptor]]:
    """A storage listener with these limits, in the loop of the test."""
    under_test = Listener(directory, host=host or "127.0.0.1")

    def notify(notice: Notice) -> None:
        under_test.record(as_dict(notice))

    with StorageTarget(directory, WriteOptions(durable=False)) as target:
        policy = AcceptPolicy(under_test.ae_title)
        async with listen(host, 0, target, policy, limits, notify, ready=ready) as acceptor:
            under_test.port = acceptor.port
            yield under_test, acceptor


def half_object(context_id: int = 1, message_id: int = 2) -> bytes:
    """The C-STORE-RQ of LOST and the beginning of its data set."""
    command = raw.pdv(context_id, raw.COMMAND | raw.LAST, raw.c_store_rq(LOST, message_id))
    return raw.p_data(command) + raw.p_data(raw.pdv(context_id, 0, raw.dataset(LOST)[:200]))
