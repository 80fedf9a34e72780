"""Catalogue of faults, table R and F17: associations, descriptors, memory, disk: what there is not enough of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fastmove.limits import Limits
from fastmove.notices import as_dict
from fastmove.services.listener import listen
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import Objection, Readiness
from fastmove.ul.negotiation import AcceptPolicy
from tests.integration import raw
from tests.integration.conftest import LIMITS, goes_on_serving
from tests.integration.listener import KEPT, NEXT, Listener


@asynccontextmanager
async def listening(
    directory: Path, limits: Limits = LIMITS, ready: Sequence[Readiness] = ()
) -> AsyncIterator[Listener]:
    """A storage listener with these limits."""
    under_test = Listener(directory)
    with StorageTarget(directory, WriteOptions(durable=False)) as target:
        policy = AcceptPolicy(under_test.ae_title)
        tell = under_test.record
        async with listen(
            under_test.host, 0, target, policy, limits, lambda notice: tell(as_dict(notice)), ready=ready
        ) as acceptor:
            under_test.port = acceptor.port
            yield under_test


# ---------------------------------------------------------------------- F17: room on the disk


async def test_F17_association_is_rejected_for_now_while_the_disk_is_low_and_what_stands_goes_on(
    tmp_path: Path,
) -> None:
    low: list[Objection] = []
    async with (
        listening(tmp_path, ready=(lambda: None, lambda: low[-1] if low else None)) as listener,
        listener.connect() as standing,
    ):
        await standing.associate()
        low.append(Objection("fs.low", "1 MB free"))
        async with listener.connect() as peer:
            await peer.send(raw.associate_rq())
            await peer.expect_reject(2, 3, 1)
            await peer.expect_closed()
        assert (await listener.event("fs.low"))["detail"] == "1 MB free"
        await standing.store(KEPT, raw.dataset(KEPT))
        low.clear()
        async with listener.associated() as peer:
            await peer.store(NEXT, raw.dataset(NEXT), 2)
        await standing.release()
        listener.holds(KEPT, NEXT)
        await goes_on_serving(listener)


async def test_F17_peer_that_may_not_call_learns_nothing_of_the_disk(tmp_path: Path) -> None:
    async with (
        listening(tmp_path, ready=(lambda: Objection("fs.low", ""),)) as listener,
        listener.connect() as peer,
    ):
        await peer.send(raw.associate_rq(called="OTHER"))
        await peer.expect_reject(1, 1, 7)
        assert not listener.seen("fs.low")
