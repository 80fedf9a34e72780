"""A PACS behind a bad network: what it is asked and what it sends go through fault proxies."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from fastmove.limits import Limits
from fastmove.types import PeerAddress
from tests.integration.faults import Fate, FaultProxy
from tests.integration.honesty import Pacs
from tests.integration.table_m.row import PacsMaker

NOWHERE: Final = ("127.0.0.1", 0)

SHORT: Final = Limits(
    connect_s=1.0,
    associate_s=1.0,
    artim_s=0.2,
    release_s=0.2,
    idle_s=1.0,
    message_s=0.3,
    response_s=0.6,
    progress_s=0.9,
    drain_s=0.2,
    uncounted_s=0.1,
    retry_s=0.01,
    away_s=1.0,
    stop_s=0.3,
)
"""Timers of both sides: a hundredth or so of what they are in life."""


@dataclass
class Proxied:
    """Looks like the PACS itself."""

    pacs: Pacs
    asking: FaultProxy
    """What we open: lists and moves."""
    storing: FaultProxy
    """What the PACS opens: sub-operations."""

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self.pacs.address.ae_title, *self.asking.address)

    @property
    def studies(self) -> Mapping[str, Any]:
        return self.pacs.studies

    @property
    def sent(self) -> Counter[str]:
        return self.pacs.sent

    def instances(self, *studies: str) -> frozenset[str]:
        return self.pacs.instances(*studies)

    def dataset(self, uid: str, /) -> bytes:
        return self.pacs.dataset(uid)

    def going_to(self, ae_title: str, port: int) -> None:
        self.storing.port = port
        self.pacs.going_to(ae_title, self.storing.address[1])


@asynccontextmanager
async def proxied(
    maker: PacsMaker,
    *,
    asking: Sequence[Fate] | Fate = (),
    storing: Sequence[Fate] | Fate = (),
    seed: int = 0,
) -> AsyncIterator[Proxied]:
    """A PACS, the connections with it in the order in which they are made; one fate: that of all of them."""
    async with (
        maker() as pacs,
        FaultProxy(pacs.address.host, pacs.address.port, seed=seed, **_fates(asking)) as to_pacs,
        FaultProxy(*NOWHERE, seed=seed, **_fates(storing)) as to_us,
    ):
        yield Proxied(pacs, to_pacs, to_us)


def _fates(fates: Sequence[Fate] | Fate) -> dict[str, Any]:
    if isinstance(fates, Fate):
        assert not fates.duplicated
        return {"outgoing": fates.outgoing, "incoming": fates.incoming}
    return {"plan": fates}
