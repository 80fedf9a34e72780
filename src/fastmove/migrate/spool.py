"""Objects on their way to a destination that is no folder: spooled, carried on several at once, counted by study.

What is proved to be there leaves the spool.  What is not stays until it has come once more, or a later run carries it
on; with a study that is not tried any more it goes.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from enum import Enum
from pathlib import Path
from typing import Final, Protocol, Self

from fastmove.errors import FastmoveError, StorageError
from fastmove.ledger.model import Instance, JobState
from fastmove.migrate.destination import Standing, Write, in_words
from fastmove.migrate.presence import Presence, Unreached
from fastmove.migrate.spool_folder import SpoolFile, SpoolFolder, folder_of, name_of
from fastmove.notices import InstanceStored, ManifestFailed, Observer
from fastmove.services.withheld import Withheld
from fastmove.storage.entries import Entries, Entry
from fastmove.storage.folders import OUT_OF_RESOURCES
from fastmove.storage.lock import FolderLock
from fastmove.storage.options import Placing, WriteOptions
from fastmove.storage.quarantine import QUARANTINE
from fastmove.storage.reserve import Reserve
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming
from fastmove.types import Readiness

LAYOUT: Final = "study"
"""Of the spool: a study leaves it as a whole."""

SPOOLED: Final = 2000
"""Objects that may wait to be carried on before what comes has to wait, too; and it goes on with half as many."""

IDLE_S: Final = 5.0
"""Who has had nothing to carry on for so long gives up what that takes, as an association: others may need the room."""

ROOM_S: Final = 1.0
"""How long whoever finds no room leaves objects to others."""

FOLDERS_SHOWN: Final = 5
"""Of those that are kept, in one sentence."""

_OPEN: Final = frozenset((JobState.READY, JobState.WAITING, JobState.MOVING))


class Answer(Enum):
    """When an object is answered with Success."""

    DISK = "disk"
    """It is in the spool."""

    DESTINATION = "destination"
    """The destination has it."""


class NoRoom(Exception):
    """The destination is there, and does not take on as many carriers at once as there are."""


class Carrier(Protocol):
    """Carries on one object after the other."""

    async def carry(self, entry: Entry) -> Entry | str:
        """The object as it is there; or why it was not taken, as is any FastmoveError.  Unreached, NoRoom."""

    async def close(self) -> None:
        """No more of them for now."""


class Spooled:
    """What destinations with a spool share; derive from it, and say who carries on.  DirectoryUnusable, -Locked.

    `name` is what people call the destination, `away` the log event if it is not to be had.
    """

    def __init__(
        self,
        spool: Path,
        options: WriteOptions,
        write: Write,
        *,
        name: str,
        away: str = "destination.away",
        answer: Answer = Answer.DISK,
        reserve: int | None = None,
        notify: Observer | None = None,
    ) -> None:
        self.spool = spool
        self._folder = SpoolFolder(spool, notify)
        self.working: tuple[asyncio.Task[None], ...] = ()
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
        self._changed = asyncio.Event()
        self._held_up: list[Future[None]] = []
        self._spooled = 0
        self._left: set[str] = set()
        """Studies of which an earlier run has left something that may still be needed."""
        self._stops = 0
        self._failure: BaseException | None = None
        """What has ended one of those who are `working`: a bug of ours."""
        self.presence = Presence(name, self._look, lambda: not self._spooled, self._left_alone, away)
        by_study = naming(LAYOUT, sanitize=options.naming.sanitize)
        with ExitStack() as opened:
            opened.enter_context(FolderLock(spool, "fastmove migrate", notify, options.modes))
            self.target = opened.enter_context(StorageTarget(spool, options.replace(naming=by_study)))
            reserved = opened.enter_context(Reserve(spool, reserve)).objection
            self.ready: tuple[Readiness, ...] = (reserved, self.presence.objection)
            self._entries = Entries(spool, self._described, self._unreadable)
            opened.callback(self._entries.close)
            self._opened = opened.pop_all()

    def _carriers(self) -> Sequence[Carrier]:
        """Who carries objects on, all at once."""
        raise NotImplementedError

    async def _look(self) -> None:
        """Unreached if the destination is not to be had."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        carrying = [self._carry(carrier) for carrier in self._carriers()]
        self.working = tuple(asyncio.create_task(each) for each in (*carrying, self.presence.run()))
        for task in self.working:
            task.add_done_callback(self._ended)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._entries.close)
        for task in self.working:
            task.cancel()
        ended = await asyncio.gather(*self.working, return_exceptions=True)
        await asyncio.to_thread(self._opened.close)
        for error in ended:
            if isinstance(error, BaseException) and not isinstance(error, asyncio.CancelledError):
                raise error

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self._left_alone()

    def stop(self) -> None:
        """Wait for what is on its way, and not for a destination that is away; a second call: for nothing."""
        self._stops += 1
        self.presence.stop()
        self._tell()

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
            if self._unserved:
                self._loop.call_soon(self._left_alone)
            return withheld
        if busy is None and self._spooled > SPOOLED and not self._unserved:
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
                entry = await self._next(carrier)
                try:
                    there = await self._taken(carrier, entry)
                except NoRoom:
                    self._queue.put_nowait(entry)
                    await asyncio.sleep(ROOM_S)
                else:
                    self._carried(entry, there)
        finally:
            await carrier.close()

    async def _next(self, carrier: Carrier) -> Entry:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(IDLE_S):
                return await self._queue.get()
        await carrier.close()
        return await self._queue.get()

    async def _taken(self, carrier: Carrier, entry: Entry) -> Entry | str:
        """The object as it is there, or why it was not taken: as long as the destination is away, it waits."""
        while True:
            await self.presence.back()
            try:
                return await carrier.carry(entry)
            except Unreached as unreached:
                if not await self.presence.lost(str(unreached)):
                    return str(unreached)
            except FastmoveError as error:  # of this object, or of what its kind takes: others may fare better
                return str(error)

    def _carried(self, entry: Entry, there: Entry | str) -> None:
        study = entry.study_instance_uid
        if isinstance(there, str):
            self._failed[study][entry.sop_instance_uid] = there
        else:
            self._write(there)
        self._answered(self.target.path(entry.path.encode("ascii")), taken=not isinstance(there, str))
        self._spooled -= 1
        if self._spooled <= SPOOLED // 2:
            self._go_on()
        self._waiting[study] -= 1
        self._tell()

    def _answered(self, path: str, *, taken: bool) -> None:
        for withheld in self._withheld.pop(path, ()):
            if taken:
                withheld.set_result(None)
            else:
                why = "the destination has not taken it"
                withheld.set_exception(StorageError("store.undelivered", OUT_OF_RESOURCES, why))

    def _left_alone(self) -> None:
        """Nobody carries on for now: nothing that comes may wait for it, so that what brings it can end."""
        for path in list(self._withheld):
            self._answered(path, taken=False)
        self._go_on()
        self._tell()

    def _go_on(self) -> None:
        held_up, self._held_up = self._held_up, []
        for each in held_up:
            each.set_result(None)

    @property
    def _unserved(self) -> bool:
        return self.presence.away or self._failure is not None

    # ------------------------------------------------------------------ what is waited for

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _until(self, holds: Callable[[], bool]) -> None:
        while self._failure is None and not holds():
            await self._changed.wait()
        if self._failure is not None:
            raise self._failure

    @property
    def _given_up(self) -> bool:
        return self._stops > 1 or (self.presence.stopped and self.presence.away)

    async def _done(self, due: Future[None]) -> bool:
        """Wait for what threads do; False if it is not waited for any more.  They do it, whoever ceases to wait."""
        waited = asyncio.wrap_future(due)
        waited.add_done_callback(lambda _: self._tell())
        await self._until(lambda: waited.done() or self._given_up)
        return waited.done()

    async def _due(self, study: str) -> str:
        """Wait until nothing of a study is on its way any more; why something is, if that is not waited for."""
        if not await self._done(self._entries.settled()):
            return "objects wait in the spool for their digests"
        await asyncio.sleep(0)  # what the threads have told last
        await self._until(lambda: not self._waiting[study] or self._given_up)
        if left := self._waiting[study]:
            return f"{left:,} objects wait in the spool to be carried on"
        del self._waiting[study]
        return ""

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Once all that is in the spool of a study has been carried on, or was not taken."""
        return await self._due(study) or in_words(self._failed.pop(study, {}), "were not taken")

    # ------------------------------------------------------------------ what is left in it

    async def resume(self, standing: Callable[[str], Awaitable[Standing]]) -> str:
        """See what an earlier run has left.

        What is recorded of a complete study goes, and all of a parked one; what is of an open one is carried on when
        that is taken up.  The rest was not asked for, and may be nowhere else: it is kept, and told.
        """
        kept, nbytes = Counter[str](), 0
        try:
            folders = await asyncio.to_thread(self._folder.studies)
        except OSError as error:
            return f"{self.spool} cannot be looked through: {error.strerror or error}"
        for folder in folders:
            here = Standing() if folder == QUARANTINE else await standing(folder)
            if here.state in _OPEN:
                self._left.add(folder)
                continue
            gone = None if here.state is JobState.PARKED else here.recorded
            with self._folder.telling(folder):
                for file in await asyncio.to_thread(self._folder.remove, folder, gone):
                    kept[folder] += 1
                    nbytes += file.nbytes
        if not kept:
            return ""
        shown = ", ".join(list(kept)[:FOLDERS_SHOWN]) + (", ..." if len(kept) > FOLDERS_SHOWN else "")
        return (
            f"{kept.total():,} objects ({nbytes:,} bytes) in {self.spool} are of no study that is still to be moved, "
            f"and are kept: {shown}"
        )

    async def elsewhere(self, instances: Sequence[Instance]) -> frozenset[str]:
        """All hosts have the same one."""
        return frozenset()

    async def begin(self, study: str, recorded: Collection[str]) -> bool:
        """Carry on what an earlier run has left of a study, so that it need not be moved again."""
        folder = folder_of(study)
        if folder not in self._left:
            return False
        if await self._due(study):  # of what was begun before, and cut short
            return False
        names = set(map(name_of, recorded))
        found: Sequence[SpoolFile] = ()
        with self._folder.telling(folder):
            found = await asyncio.to_thread(self._folder.objects, folder)
        await self._carry_on([each for each in found if each.name not in names])
        await self.settled(study)
        self._left.discard(folder)
        return True

    async def _carry_on(self, files: Sequence[SpoolFile]) -> None:
        for each in files:
            if each.readable:
                self._spooled += 1
                busy = self._entries.found(each.path, each.nbytes)
                if busy is not None and not await self._done(busy):
                    return

    async def _leave(self, study: str, proved: Collection[str]) -> str:
        """What is proved leaves the spool, by SOP Instance UID.

        What came meanwhile has not been asked for: it is carried on, and why the study is not proved yet comes back.
        """
        why = await self.settled(study)
        try:
            left = await asyncio.to_thread(self._folder.remove, folder_of(study), proved)
        except OSError as error:
            return f"the spool cannot be looked through for more of it: {error.strerror or error}"
        await self._carry_on(left)
        if number := sum(each.readable for each in left):
            await self.settled(study)
            return f"{number:,} more objects are in the spool, and not proved yet"
        return why

    async def discard(self, study: str) -> None:
        """A study is not tried any more here: nothing of it stays in the spool.

        Its objects were answered with Success, and yet nothing is lost: a C-MOVE copies, and the PACS keeps what it
        has sent.  Whoever takes the study up again, an operator or another host, gets all of it that is not recorded.
        What was never asked for, in quarantine or of a study that nobody knows, is in other folders, and stays.
        """
        if not await self._due(study):
            self._failed.pop(study, None)
            with self._folder.telling(folder := folder_of(study)):
                await asyncio.to_thread(self._folder.remove, folder, None)
