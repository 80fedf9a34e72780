"""An object store that speaks S3, as the destination of a migration: objects are spooled, uploaded, and verified."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from fastmove.errors import ConfigurationError, DatasetError, StorageError
from fastmove.ledger.model import Instance
from fastmove.migrate.bucket import Access, Bucket
from fastmove.migrate.destination import Delivery, Proved, Write, in_words
from fastmove.migrate.presence import Unreached
from fastmove.migrate.spool import Answer, Carrier, Spooled
from fastmove.migrate.store_failure import StoreFailed
from fastmove.migrate.study_manifest import one_place, study_manifests
from fastmove.migrate.uploads import PART_BYTES, PATIENCE_S, Uploads, Verify, opened
from fastmove.notices import MigrationNoted, Observer
from fastmove.storage.entries import Entry
from fastmove.storage.manifest import json_line
from fastmove.storage.options import WriteOptions

T = TypeVar("T")

_VERIFIED: Final = 256
"""Studies of which is known what this run has verified: what is not known is looked for once more."""

_UNCONDITIONAL: Final = "{} does not heed conditions: two who write to one key at the same time may not notice it"

_HASTE_S: Final = 3.0
"""For so long a run that starts tries to reach it."""


class ObjectStore(Spooled):
    """A bucket, as a `Destination`: `parallel` objects are uploaded at once.

    ConfigurationError if the library is not there, or the store is not as it has to be; what `Spooled` raises.  One
    that is away at the start is waited for.
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
        named = {"name": str(bucket), "away": "s3.away"}
        super().__init__(spool, options, write, **named, answer=answer, reserve=reserve, notify=notify)
        self._uploads = Uploads(patient, spool, options, part_bytes, verify)
        self._probes = Uploads(hasty, spool, options, part_bytes, verify)
        self._bucket = bucket
        self._naming = options.naming
        self._parallel = parallel
        self._pool = ThreadPoolExecutor(parallel, "upload")
        self._probed = False
        self._verified: OrderedDict[str, set[str]] = OrderedDict()
        """Study → keys of what this run has uploaded or found there, of the studies that were the last to get any."""
        self._proof = Proved.CHECKSUM if verify is Verify.CHECKSUM else Proved.READ_BACK

    async def __aenter__(self) -> Self:
        try:
            await self._probe()
        except StoreFailed as failed:
            if not failed.away:
                await asyncio.to_thread(self._opened.close)
                raise ConfigurationError("--to", f"{self._bucket}: {failed}") from None
            self.presence.gone(str(failed))
        return await super().__aenter__()

    async def __aexit__(self, *error: object) -> None:
        try:
            await super().__aexit__(*error)
        finally:
            await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    async def _probe(self) -> None:
        self._uploads.conditional = await asyncio.to_thread(self._probes.probe)
        self._probed = True
        if not self._uploads.conditional and self._notify is not None:
            self._notify(MigrationNoted("s3.unconditional", _UNCONDITIONAL.format(self._bucket)))

    async def _look(self) -> None:
        try:
            await (asyncio.to_thread(self._probes.look) if self._probed else self._probe())
        except StoreFailed as failed:
            raise Unreached(str(failed)) from None

    def _carriers(self) -> Sequence[Carrier]:
        return [self] * self._parallel

    async def carry(self, entry: Entry) -> Entry | str:
        """Upload an object; or why it is not there."""
        try:
            there = await self._asked(lambda: self._uploads.upload(entry))
        except StoreFailed as failed:
            return str(failed)
        except (DatasetError, OSError, StorageError) as error:
            return f"it cannot be read from the spool: {error}"
        self._verified.setdefault(entry.study_instance_uid, set()).add(there.path)
        self._verified.move_to_end(entry.study_instance_uid)
        if len(self._verified) > _VERIFIED:
            self._verified.popitem(last=False)
        return there

    async def close(self) -> None:
        """Those who carry on share what they need."""

    async def finish(self, study: str, instances: Sequence[Instance]) -> Delivery:
        """Look for what others have uploaded of a study, and write its manifests; it then leaves the spool."""
        while True:
            try:
                if absent := await self._absent(study, instances):
                    return Delivery(in_words(absent, "are not where they were stored"), frozenset(absent))
                await self._asked(lambda: self._write_manifests(study, instances))
                break
            except StoreFailed as failed:
                return Delivery(f"it cannot be looked for and listed there: {failed}")
            except Unreached as unreached:
                if not await self.presence.lost(str(unreached)):
                    return Delivery(f"it cannot be looked for and listed there: {unreached}")
        self._verified.pop(study, None)
        left = await self._leave(study, {each.sop_instance_uid for each in instances})
        return Delivery(left) if left else Delivery(proof=self._proof)

    async def _absent(self, study: str, instances: Sequence[Instance]) -> dict[str, str]:
        """SOP Instance UID → why it is not at its place."""
        absent = one_place(instances)
        verified = self._verified.get(study, set())
        others = [each for each in instances if each.place not in verified]
        for at in range(0, len(others), self._parallel):  # if the store goes away the others are not asked for
            some = others[at : at + self._parallel]
            calls = [partial(self._uploads.lack_of, each.place, each.nbytes) for each in some]
            for each, why in zip(some, await asyncio.gather(*map(self._asked, calls)), strict=True):
                if why:
                    absent[each.sop_instance_uid] = why
        return absent

    def _write_manifests(self, study: str, instances: Sequence[Instance]) -> None:
        for key, entries in study_manifests(self._naming, study, instances):
            self._uploads.put(key, b"".join(map(json_line, entries)), {"Content-Type": "application/jsonl"})

    async def _asked(self, call: Callable[[], T]) -> T:
        try:
            return await self._loop.run_in_executor(self._pool, call)
        except StoreFailed as failed:
            if failed.away:
                raise Unreached(str(failed)) from None
            raise
