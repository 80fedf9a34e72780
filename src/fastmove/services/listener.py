"""The storage listener: an acceptor whose associations store what they are sent, and answer C-ECHO."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

from fastmove._codec import CommandReceived
from fastmove.credentials import TlsSettings
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor, serve
from fastmove.net.connection import Connection
from fastmove.net.descriptors import few_descriptors
from fastmove.net.lag import lag_told
from fastmove.net.service import OTHER_COMMANDS, Service, Watched
from fastmove.net.workers import Share
from fastmove.notices import HostStrained, Observer, UnfinishedRemoved
from fastmove.services.disk import Disk
from fastmove.services.scp import UnsupportedOperations
from fastmove.services.storage_scp import OnStored, StorageSCP
from fastmove.services.verification import VerificationSCP
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness
from fastmove.ul.negotiation import AcceptPolicy
from fastmove.ul.pdu import AAssociateAC, AAssociateRQ

if TYPE_CHECKING:
    from fastmove.services.storage_commitment import CommitmentReceiver

C_STORE_RQ = 0x0001
C_ECHO_RQ = 0x0030


class Watch(Protocol):
    """Who is shown what goes on, PDU by PDU and message by message."""

    def established(self, request: AAssociateRQ, answer: AAssociateAC, encoded: bytes) -> None:
        """A peer has an association; `encoded` is its request as it came, without the PDU's header."""

    def requested(self, command: CommandReceived) -> None:
        """A request came; it is carried out now."""


@contextlib.asynccontextmanager
async def listen(
    host: str,
    port: int,
    target: StorageTarget,
    policy: AcceptPolicy,
    limits: Limits | None = None,
    notify: Observer | None = None,
    on_stored: OnStored | None = None,
    share: Share | None = None,
    permits: Callable[[str], bool] | None = None,
    watch: Watch | None = None,
    ready: Sequence[Readiness] = (),
    tls: TlsSettings | None = None,
    commitments: CommitmentReceiver | None = None,
) -> AsyncIterator[Acceptor]:
    """A storage listener for the length of a block; stops gracefully at its end.

    Port 0 takes a free one, which `acceptor.port` tells.  `on_stored` is called for each object when
    it is in place, before Success is sent; if it returns a future, nothing more of that association
    is read before that is done.  `notify` is told of everything else; `permits` is asked which hosts
    may connect; `watch` is shown everything; what is `ready` is asked before each association is
    accepted, as the reserve of a disk is; with `tls` connections are encrypted; `commitments` takes
    reports on storage commitments, too.  Raises ListenFailed, TlsUnusable.
    """
    limits = limits or Limits()
    if commitments is not None:
        policy = commitments.accepting(policy)
    if notify is not None:
        if target.swept:
            notify(UnfinishedRemoved(target.swept))
        if not target.has_unnamed_files:
            notify(
                HostStrained("fs.fallback", "unfinished files have names (.fm-*.part): the file system has no others")
            )
    with Disk(target, limits, notify) as disk, lag_told(limits, notify):

        def services(connection: Connection) -> Mapping[int, Service]:
            made: dict[int, Service] = {
                C_STORE_RQ: StorageSCP(connection, target, disk, on_stored),
                C_ECHO_RQ: VerificationSCP(connection),
                OTHER_COMMANDS: UnsupportedOperations(connection),
            }
            if commitments is not None:
                made |= commitments.services(connection)
            if watch is None:
                return made
            return {field: Watched(service, watch.requested) for field, service in made.items()}

        async with await serve(
            host,
            port,
            policy,
            services,
            limits,
            notify,
            share,
            permits,
            ready=(*ready, few_descriptors, disk.objection),
            tls=tls,
        ) as acceptor:
            if watch is not None:
                acceptor.on_established = watch.established
            if notify is None or not acceptor.limits.folder_look_s:
                yield acceptor
                return
            async with _looked_after(target, acceptor, notify):
                yield acceptor


@contextlib.asynccontextmanager
async def _looked_after(target: StorageTarget, acceptor: Acceptor, notify: Observer) -> AsyncIterator[None]:
    """What is odd about the folder is told: at the beginning, now and then, and at the end."""
    folder = target.watch(acceptor.limits.big_folder_files)

    async def look() -> None:
        with contextlib.suppress(OSError):  # whoever stores something learns what is wrong
            for odd in await asyncio.to_thread(folder.look, acceptor.objects):
                notify(HostStrained(*odd))

    over = asyncio.Event()

    async def look_on() -> None:
        while not over.is_set():
            await look()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(acceptor.limits.folder_look_s):
                    await over.wait()
        await look()

    looking = asyncio.create_task(look_on())
    try:
        yield
    finally:
        over.set()  # not cancelled: what a look has found must be told
        await looking
