"""Our own listener as the destination of C-MOVEs that are measured: whose an object is, and how it came."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager

from fastmove.credentials import TlsSettings
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import MessageIDs
from fastmove.notices import AssociationClosed, InstanceStored, Notice, Observer
from fastmove.services.arrivals import Arrival, Arrivals
from fastmove.services.listener import listen
from fastmove.services.move_scu import Move
from fastmove.services.receipts import Receipts
from fastmove.services.retrieve.correlation import Correlation
from fastmove.storage.target import StorageTarget
from fastmove.ul.negotiation import AcceptPolicy

Came = Callable[[InstanceStored, Arrival], None]
"""Told of an object of a move."""


class Receiver:
    """Tells objects apart by their moves while the listener runs; made by `receiver`."""

    def __init__(self, ae_title: str, notify: Observer | None, max_bytes_per_s: float | None = None) -> None:
        self.message_ids = MessageIDs()
        """Moves are told apart by theirs: all have to take them from here."""
        self.unclaimed = 0
        """Objects that came and belong to no move."""
        self.port = 0
        self._arrivals = Arrivals()
        self._correlation = Correlation(ae_title, notify)
        self._acceptor: Acceptor | None = None
        self._claimed = False
        self._max_bytes_per_s = max_bytes_per_s
        self._free_at = 0.0
        self._limited: defaultdict[int, float] = defaultdict(float)
        """Association → for so long nothing more of it was to be read, since its last object."""

    def move(self, limits: Limits, came: Came) -> tuple[Move, Receipts]:
        """A move that is to come here; `end` it when nothing more of it is to come."""

        def stored(notice: InstanceStored) -> None:
            self._claimed = True
            if (arrival := self._arrivals.take(notice.association)) is not None:
                limited = min(arrival.held_s, self._limited.pop(notice.association, 0.0))
                came(notice, arrival._replace(held_s=arrival.held_s - limited, limited_s=limited))

        receipts = Receipts(on_stored=stored)
        return Move(receipts, limits, on_started=lambda number: self._correlation.begin(number, receipts)), receipts

    def end(self, move: Move) -> None:
        """What comes now is none of its."""
        if move.operation is not None:
            self._correlation.end(move.operation.message_id)

    @property
    def received(self) -> int:
        """Bytes so far, all that goes over the connections."""
        return 0 if self._acceptor is None else self._acceptor.received

    @property
    def busy_s(self) -> float:
        """How long our loop has been at what came."""
        return self._arrivals.busy_s

    def abort(self, why: str) -> None:
        """Nothing more is received over the associations that are open."""
        if self._acceptor is not None:
            self._acceptor.abort(why)

    def _stored(self, notice: InstanceStored) -> Future[None] | None:
        self._claimed = False
        self._correlation.stored(notice)
        if not self._claimed:
            self.unclaimed += 1
            self._arrivals.take(notice.association)
        return None if self._max_bytes_per_s is None else self._limit(notice, self._max_bytes_per_s)

    def _limit(self, notice: InstanceStored, max_bytes_per_s: float) -> Future[None] | None:
        """When more of this association may be read, so that no more comes in all than was wanted."""
        now = time.monotonic()
        self._free_at = max(self._free_at, now) + notice.nbytes / max_bytes_per_s
        wait = self._free_at - now
        self._limited[notice.association] += wait
        until: Future[None] = Future()
        asyncio.get_running_loop().call_later(wait, _go_on, until)
        return until

    def _observe(self, notice: Notice) -> None:
        self._correlation(notice)
        if type(notice) is AssociationClosed:
            self._arrivals.forget(notice.association)

    def _listening(self, acceptor: Acceptor) -> None:
        self._acceptor, self.port = acceptor, acceptor.port
        acceptor.meter = self._arrivals.meter
        self._correlation.arriving = acceptor.arriving


def _go_on(until: Future[None]) -> None:
    if not until.done():
        until.set_result(None)


@asynccontextmanager
async def receiver(
    ae_title: str,
    host: str,
    port: int,
    target: StorageTarget,
    limits: Limits,
    notify: Observer | None = None,
    tls: TlsSettings | None = None,
    max_bytes_per_s: float | None = None,
    transfer_syntaxes: frozenset[str] | None = None,
) -> AsyncIterator[Receiver]:
    """A listener that measures what comes, for the length of a block; raises ListenFailed, TlsUnusable.

    It reads so slowly that in all no more than `max_bytes_per_s` come, and takes objects in all transfer syntaxes or in
    these only.

    It takes whatever AE title it is called by, from everybody: it stores nothing that is kept for good.
    """
    made = Receiver(ae_title, notify, max_bytes_per_s)
    policy = AcceptPolicy(ae_title, any_called_ae_title=True, max_pdu_length=limits.max_pdu_length)
    if transfer_syntaxes is not None:
        policy = policy.replace(transfer_syntaxes=transfer_syntaxes, any_transfer_syntax=False)
    try:
        async with listen(host, port, target, policy, limits, made._observe, made._stored, tls=tls) as acceptor:
            made._listening(acceptor)
            yield made
    finally:
        made._arrivals.close()
