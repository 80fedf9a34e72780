"""Files as the destination of a migration: folders by a layout, and a manifest for each study."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import Final, Self

from fastmove.ledger.model import Instance
from fastmove.migrate.destination import Delivery, Direct, Proved, Write, in_words
from fastmove.migrate.study_manifest import one_place, study_manifests
from fastmove.notices import InstanceStored, ManifestFailed, Observer
from fastmove.storage.entries import Entries
from fastmove.storage.folders import ABSENT, NO_FILE, lengths_below
from fastmove.storage.lock import FolderLock
from fastmove.storage.manifest import write_manifest
from fastmove.storage.options import Placing, WriteOptions
from fastmove.storage.reserve import Reserve
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness

_LACK: Final = {ABSENT: "there is no such file", NO_FILE: "what has its name is no file"}


class Files(Direct):
    """A folder, as a `Destination`.  Raises DirectoryUnusable, DirectoryLocked."""

    def __init__(
        self,
        directory: Path,
        options: WriteOptions,
        write: Write,
        *,
        reserve: int | None = None,
        notify: Observer | None = None,
    ) -> None:
        self.directory = directory
        self._options = options
        self._notify = notify
        with ExitStack() as opened:
            opened.enter_context(FolderLock(directory, "fastmove migrate", notify, options.modes))
            self.target = opened.enter_context(StorageTarget(directory, options))
            self.ready: tuple[Readiness, ...] = (opened.enter_context(Reserve(directory, reserve)).objection,)
            self._entries = Entries(directory, write, self._failed)
            opened.callback(self._entries.close)
            self._opened = opened.pop_all()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self._opened.close)

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in place; if a future comes back, there should be no more before it is done."""
        if notice.placing == Placing.QUARANTINED.value:
            return None
        return self._entries.record(notice)

    async def settled(self, study: str, patient_id: str = "") -> str:
        """Once all that is in place by now is described: that is all there is to be done."""
        await asyncio.wrap_future(self._entries.settled())
        return ""

    async def elsewhere(self, instances: Sequence[Instance]) -> frozenset[str]:
        """A host that had the study before has stored into a folder of its own."""
        try:
            return frozenset(await asyncio.to_thread(self._absent, instances))
        except OSError:  # `finish` meets it as well, and says so
            return frozenset()

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """Look for all files of a study, also those that others have stored; and write its manifests."""
        return await asyncio.to_thread(self._finished, study, instances)

    def _finished(self, study: str, instances: Sequence[Instance]) -> Delivery:
        try:
            absent = self._absent(instances)
        except OSError as error:
            return Delivery(f"its files cannot be looked for: {error.strerror or error}")
        if absent:
            return Delivery(in_words(absent, "are not where they were stored"), frozenset(absent))
        try:
            for path, entries in study_manifests(self._options.naming, study, instances):
                write_manifest(self.directory / path, entries, self._options.modes)
        except OSError as error:
            return Delivery(f"its manifest cannot be written: {error.strerror or error}")
        return Delivery(proof=Proved.FILE)

    def _absent(self, instances: Sequence[Instance]) -> dict[str, str]:
        """SOP Instance UID → why it is not at its place."""
        found = lengths_below(self.directory, [each.place for each in instances])
        lacking = {
            each.sop_instance_uid: _LACK.get(nbytes, f"its file has {nbytes:,} bytes, not {each.nbytes:,}")
            for each, nbytes in zip(instances, found, strict=True)
            if nbytes != each.nbytes
        }
        return one_place(instances) | lacking

    def _failed(self, path: str, error: OSError) -> None:
        if self._notify is not None:
            self._notify(ManifestFailed(path, error.strerror or str(error)))
