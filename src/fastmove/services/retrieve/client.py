"""The Python API of a retrieve: what arrives as it arrives, and the verdict at the end."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from concurrent.futures import Future
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fastmove.notices import InstanceStored, Observer
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.services.selection.selection import Query, Selection, Wanted
from fastmove.storage.collection import Collection
from fastmove.storage.options import WriteOptions
from fastmove.storage.reserve import Reserve
from fastmove.types import PeerAddress
from fastmove.values import Value

if TYPE_CHECKING:
    from pydicom.dataset import FileDataset

READ_AHEAD: Final = 256
"""Objects that are in place and not yet taken: then the PACS waits."""


class Client(Value):
    """A PACS, and who we are to it: our AE title, and the port at which it reaches us."""

    peer: PeerAddress
    ae_title: str = "FASTMOVE"
    port: int = 0
    host: str = ""

    def retrieve(
        self,
        studies: Iterable[str] = (),
        *,
        to: Path,
        queries: Iterable[Query] = (),
        wanted: Iterable[Wanted] = (),
        options: WriteOptions | None = None,
        manifest: bool = True,
        refetch: bool = False,
        reserve: int | None = None,
        notify: Observer | None = None,
        **config: Any,
    ) -> Retrieval:
        """Have studies by UID, what queries find, and anything `wanted` sent here, and stored below `to`.

        Nothing happens before it is iterated over; `reserve` is how many bytes are to be left on the disk (None: 1 GiB
        or 2 %, whichever is less; 0: none); `config` are fields of RetrieveConfig, as `parallel` and `rounds`.
        """
        selection = Selection((*wanted, *(Wanted(uid) for uid in studies)), tuple(queries))
        request = RetrieveConfig(self.peer, ae_title=self.ae_title, selection=selection, **config)
        collection = {"options": options, "with_manifest": manifest, "refetch": refetch, "notify": notify}
        return Retrieval(self, request, to, collection, reserve)


class Retrieval:
    """A retrieve under way: `async for stored in retrieval`, then `retrieval.result`.

    Leaving the loop before its end cancels (C-CANCEL), and keeps what is whole.  Iterating raises what `Retrieve.run`
    raises, DirectoryUnusable, and ConfigurationError.
    """

    def __init__(
        self, client: Client, config: RetrieveConfig, to: Path, collection: dict[str, Any], reserve: int | None
    ) -> None:
        self._client = client
        self._config = config
        self._to = to
        self._collection = collection
        self._reserve = reserve
        self._session: Retrieve | None = None
        self._result: RetrieveResult | None = None
        self._arrived: deque[InstanceStored] = deque()
        self._held_up: list[Future[None]] = []
        self._news = asyncio.Event()
        self._left = False

    @property
    def result(self) -> RetrieveResult:
        """The verdict; RuntimeError before the end."""
        if self._result is None:
            raise RuntimeError("the retrieve has not come to its end")
        return self._result

    def cancel(self) -> bool:
        """As `Retrieve.cancel`; the loop goes on with what is whole, and `result` tells."""
        return self._session is not None and self._session.cancel()

    async def __aiter__(self) -> AsyncGenerator[InstanceStored, None]:
        # What is there is looked up, and the manifest's last lines are waited for, beside the loop.
        collection = await asyncio.to_thread(Collection, self._to, **self._collection)
        try:
            with await asyncio.to_thread(Reserve, self._to, self._reserve) as reserve:
                async with aclosing(self._run(collection, reserve)) as arriving:
                    async for stored in arriving:
                        yield stored
        finally:
            await asyncio.to_thread(collection.close)

    async def _run(self, collection: Collection, reserve: Reserve) -> AsyncGenerator[InstanceStored, None]:
        client = self._client

        def on_stored(notice: InstanceStored) -> Future[None] | None:
            if self._left:
                return collection.record(notice)
            self._arrived.append(notice)
            self._news.set()
            busy = collection.record(notice)
            if busy is None and len(self._arrived) >= READ_AHEAD:
                busy = Future()
                self._held_up.append(busy)
            return busy

        session = self._session = Retrieve(
            self._config,
            collection.target,
            host=client.host,
            port=client.port,
            notify=self._collection["notify"],
            on_stored=on_stored,
            inventory=collection.inventory,
            ready=(reserve.objection,),
        )
        running = asyncio.create_task(session.run())
        running.add_done_callback(lambda _: self._news.set())
        try:
            while not running.done() or self._arrived:
                self._news.clear()
                while self._arrived:
                    yield self._arrived.popleft()
                    if len(self._arrived) < READ_AHEAD // 2:
                        self._go_on()
                if not running.done():
                    await self._news.wait()
        finally:
            self._left = True  # nobody reads what still comes, and nobody is to wait for that
            self._go_on()
            if not running.done():
                session.cancel()
            self._result = await running

    def _go_on(self) -> None:
        held_up, self._held_up = self._held_up, []
        for each in held_up:
            each.set_result(None)


def dataset(stored: InstanceStored) -> FileDataset:
    """The object as pydicom reads it, pixels included; for those who want it."""
    from pydicom import dcmread

    return dcmread(stored.path)
