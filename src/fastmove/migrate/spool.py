"""Objects on their way to a destination that is no folder: spooled, carried on several at once, counted by study.

What is there leaves the spool with its whole study.  What is not stays, and is carried on by a later attempt at it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Final, Protocol, Self

from fastmove.errors import StorageError
from fastmove.migrate.destination import Write, in_words
from fastmove.notices import InstanceStored, ManifestFailed, Observer
from fastmove.services.withheld import Withheld
from fastmove.storage.entries import Entries, Entry
from fastmove.storage.file_system import FileSystem
from fastmove.storage.folders import OUT_OF_RESOURCES
from fastmove.storage.lock import FolderLock
from fastmove.storage.options import Placing, WriteOptions
from fastmove.storage.reserve import Reserve
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import component, naming
from fastmove.types import Readiness

LAYOUT: Final = "study"
"""Of the spool: a study leaves it as a whole."""

SPOOLED: Final = 2000
"""Objects that may wait to be carried on before what comes has to wait, too; and it goes on with half as many."""


class Answer(Enum):
    """When an object is answered with Success."""

    DISK = "disk"
    """It is in the spool."""

    DESTINATION = "destination"
    """The destination has it."""


class Carrier(Protocol):
    """Carries on one object after the other."""

    async def carry(self, entry: Entry) -> Entry | str:
        """The object as it is there; or why it was not taken."""

    async def close(self) -> None:
        """No more of them."""


class Spooled:
    """What destinations with a spool share; derive from it, and say who carries on.  DirectoryUnusable, -Locked."""

    def __init__(
        self,
        spool: Path,
        options: WriteOptions,
        write: Write,
        *,
        answer: Answer = Answer.DISK,
        reserve: int | None = None,
        notify: Observer | None = None,
    ) -> None:
        self.spool = spool
        self._write = write
        self._answer = answer
        self._notify = notify
        self._queue: asyncio.Queue[Entry] = asyncio.Queue()
        self._waiting: dict[str, int] = defaultdict(int)
        """Study → objects that are to be carried on."""
        self._failed: dict[str, dict[str, str]] = defaultdict(dict)
        """Study → SOP Instance UID → why it was not taken."""
        self._withheld: dict[str, list[Withheld]] = defaultdict(list)
        """Path → answers that wait for the object."""
        self._changed = asyncio.Condition()
        self._held_up: list[Future[None]] = []
        self._spooled = 0
        self._carrying: list[asyncio.Task[None]] = []
        by_study = naming(LAYOUT, sanitize=options.naming.sanitize)
        with ExitStack() as opened:
            opened.enter_context(FolderLock(spool, "fastmove migrate", notify, options.modes))
            self.target = opened.enter_context(StorageTarget(spool, options.replace(naming=by_study)))
            self.ready: tuple[Readiness, ...] = (opened.enter_context(Reserve(spool, reserve)).objection,)
            self._entries = Entries(spool, self._described, self._unreadable)
            opened.callback(self._entries.close)
            self._opened = opened.pop_all()

    def _carriers(self) -> Sequence[Carrier]:
        """Who carries objects on, all at once."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._carrying = [asyncio.create_task(self._carry(carrier)) for carrier in self._carriers()]
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._entries.close)
        for task in self._carrying:
            task.cancel()
        ended = await asyncio.gather(*self._carrying, return_exceptions=True)
        await asyncio.to_thread(self._opened.close)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    # ------------------------------------------------------------------ into the spool

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in the spool; if a future comes back, there should be no more before it is done."""
        if notice.placing == Placing.QUARANTINED.value:
            return None
        self._spooled += 1
        busy = self._entries.record(notice)
        if self._answer is Answer.DESTINATION:
            withheld = Withheld()
            self._withheld[notice.path].append(withheld)
            return withheld
        if busy is None and self._spooled > SPOOLED:
            busy = Future()
            self._held_up.append(busy)
        return busy

    def _described(self, entry: Entry) -> None:
        self._loop.call_soon_threadsafe(self._put, entry)

    def _put(self, entry: Entry) -> None:
        self._waiting[entry.study_instance_uid] += 1
        self._failed[entry.study_instance_uid].pop(entry.sop_instance_uid, None)
        self._queue.put_nowait(entry)

    def _unreadable(self, path: str, error: OSError) -> None:
        if self._notify is not None:
            self._notify(ManifestFailed(path, error.strerror or str(error)))

    # ------------------------------------------------------------------ out of it

    async def _carry(self, carrier: Carrier) -> None:
        try:
            while True:
                entry = await self._queue.get()
                await self._carried(entry, await carrier.carry(entry))
        finally:
            await carrier.close()

    async def _carried(self, entry: Entry, there: Entry | str) -> None:
        study = entry.study_instance_uid
        if isinstance(there, str):
            self._failed[study][entry.sop_instance_uid] = there
        else:
            self._write(there)
        self._answered(self.target.path(entry.path.encode("ascii")), taken=not isinstance(there, str))
        self._spooled -= 1
        if self._spooled <= SPOOLED // 2:
            held_up, self._held_up = self._held_up, []
            for each in held_up:
                each.set_result(None)
        async with self._changed:
            self._waiting[study] -= 1
            self._changed.notify_all()

    def _answered(self, path: str, *, taken: bool) -> None:
        for withheld in self._withheld.pop(path, ()):
            if taken:
                withheld.set_result(None)
            else:
                why = "the destination has not taken it"
                withheld.set_exception(StorageError("store.undelivered", OUT_OF_RESOURCES, why))

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Once all that is in the spool of a study has been carried on, or was not taken."""
        await asyncio.wrap_future(self._entries.settled())
        await asyncio.sleep(0)  # what the threads have told last
        async with self._changed:
            await self._changed.wait_for(lambda: not self._waiting[study])
        del self._waiting[study]
        return in_words(self._failed.pop(study, {}), "were not taken")

    async def _remove(self, study: str) -> None:
        """A study leaves the spool."""
        # The name that the layout has made of it: a UID comes from a peer, and may be `..`.
        folder = component((b"", b""), (study.encode("ascii", "replace"),), FileSystem()).decode("ascii")
        await asyncio.to_thread(shutil.rmtree, self.spool / folder, True)
