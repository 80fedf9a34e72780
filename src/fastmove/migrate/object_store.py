"""An object store that speaks S3, as the destination of a migration: objects are spooled, uploaded, and verified."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final, Self, TypeVar

from fastmove.errors import ConfigurationError, DatasetError, StorageError
from fastmove.ledger.model import Instance
from fastmove.migrate.bucket import Access, Bucket
from fastmove.migrate.destination import Delivery, Write
from fastmove.migrate.spool import Answer, Carrier, Spooled
from fastmove.migrate.study_manifest import study_manifests
from fastmove.migrate.uploads import PART_BYTES, PATIENCE_S, StoreFailed, Uploads, Verify, opened
from fastmove.notices import Observer
from fastmove.storage.entries import Entry
from fastmove.storage.manifest import json_line
from fastmove.storage.options import WriteOptions
from fastmove.types import Objection

T = TypeVar("T")

AGAIN_S: Final = 2.0
"""How often a store that is away is looked for."""

_HASTE_S: Final = 3.0
"""For so long a run that starts tries to reach it."""


class ObjectStore(Spooled):
    """A bucket, as a `Destination`: `parallel` objects are uploaded at once.

    ConfigurationError if the library is not there, or the store is not as it has to be; what `Spooled` raises.
    """

    def __init__(
        self,
        bucket: Bucket,
        access: Access,
        spool: Path,
        options: WriteOptions,
        write: Write,
        *,
        parallel: int = 8,
        part_bytes: int = PART_BYTES,
        verify: Verify = Verify.CHECKSUM,
        patience_s: float = PATIENCE_S,
        answer: Answer = Answer.DISK,
        reserve: int | None = None,
        notify: Observer | None = None,
    ) -> None:
        access = access.completed()
        patient, hasty = (opened(bucket, access, seconds) for seconds in (patience_s, min(patience_s, _HASTE_S)))
        super().__init__(spool, options, write, answer=answer, reserve=reserve, notify=notify)
        self.ready = (*self.ready, self._objection)
        self._uploads = Uploads(patient, spool, options, part_bytes, verify)
        self._probes = Uploads(hasty, spool, options, part_bytes, verify)
        self._bucket = bucket
        self._naming = options.naming
        self._parallel = parallel
        self._pool = ThreadPoolExecutor(parallel, "upload")
        self._away = ""
        """Why the store is not to be had."""

    async def __aenter__(self) -> Self:
        try:
            await asyncio.to_thread(self._probes.probe)
        except StoreFailed as failed:
            await asyncio.to_thread(self._opened.close)
            raise ConfigurationError("--to", f"{self._bucket}: {failed}") from None
        self._watching = asyncio.create_task(self._watch())
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        self._watching.cancel()
        try:
            await super().__aexit__(*error)
        finally:
            await asyncio.gather(self._watching, return_exceptions=True)
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _objection(self) -> Objection | None:
        return Objection("s3.away", f"{self._bucket}: {self._away}") if self._away else None

    async def _watch(self) -> None:
        """Once it is away, look for it until it is back."""
        while True:
            await asyncio.sleep(AGAIN_S)
            if self._away:
                with contextlib.suppress(StoreFailed):
                    await asyncio.to_thread(self._probes.look)
                    self._away = ""

    def _carriers(self) -> Sequence[Carrier]:
        return [self] * self._parallel

    async def carry(self, entry: Entry) -> Entry | str:
        """Upload an object; or why it is not there."""
        if self._away:
            return self._away
        try:
            return await self._asked(lambda: self._uploads.upload(entry))
        except StoreFailed as failed:
            return str(failed)
        except (DatasetError, OSError, StorageError) as error:
            return f"it cannot be read from the spool: {error}"

    async def close(self) -> None:
        """Those who carry on share what they need."""

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """Write the manifests of a study, which then leaves the spool."""
        try:
            await self._asked(lambda: self._write_manifests(study, instances))
        except StoreFailed as failed:
            return Delivery(f"its manifest cannot be written: {failed}")
        await self._remove(study)
        return Delivery()

    def _write_manifests(self, study: str, instances: Sequence[Instance]) -> None:
        for key, entries in study_manifests(self._naming, study, instances):
            self._uploads.put(key, b"".join(map(json_line, entries)), {"Content-Type": "application/jsonl"})

    async def _asked(self, call: Callable[[], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._pool, call)
        except StoreFailed as failed:
            if failed.away:
                self._away = str(failed)
            raise
