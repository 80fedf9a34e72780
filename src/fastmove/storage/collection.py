"""A folder of objects that grows over several runs: where they are put, what is there already, and its manifest."""

from __future__ import annotations

from collections.abc import Container
from concurrent.futures import Future
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from fastmove.notices import InstanceStored, Observer
from fastmove.storage.lock import FolderLock
from fastmove.storage.modes import PRIVATE
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget

if TYPE_CHECKING:
    from fastmove.storage.manifest import Manifest


class Collection:
    """`target` takes objects, `inventory` has the SOP Instance UIDs of those that are there, `record` writes them down.

    Nobody else may grow it meanwhile: `holder` is what others are told of us.  With `manifest` None the manifest is the
    one that is in the folder, or a new one there; `with_manifest` False: none.  With `refetch` the inventory is empty.
    Raises DirectoryUnusable, DirectoryLocked, and ConfigurationError for the manifest.
    """

    def __init__(
        self,
        directory: Path,
        options: WriteOptions | None = None,
        *,
        manifest: Path | None = None,
        with_manifest: bool = True,
        refetch: bool = False,
        notify: Observer | None = None,
        holder: str = "fastmove",
    ) -> None:
        from fastmove.storage.inventory import Inventory  # only those who keep a collection need them
        from fastmove.storage.manifest import DEFAULT_NAME, Manifest, manifest_in

        self.inventory: Container[str] = frozenset()
        self._manifest: Manifest | None = None
        modes = PRIVATE if options is None else options.modes
        with ExitStack() as opened:
            opened.enter_context(FolderLock(directory, holder, notify, modes))
            self.target = opened.enter_context(StorageTarget(directory, options))
            path = manifest or manifest_in(directory) or directory / DEFAULT_NAME
            if with_manifest:
                self._manifest = opened.enter_context(Manifest(path, directory, notify, modes))
            if not refetch:
                found = None if self._manifest is None else self._manifest.found
                durable = self.target.options.durable
                self.inventory = Inventory.of(directory, path, self.target.options.naming, found, durable=durable)
            self._opened = opened.pop_all()

    def record(self, notice: InstanceStored) -> Future[None] | None:
        """Write down an object that is in place; if a future comes back, there should be no more before it is done."""
        return None if self._manifest is None else self._manifest.record(notice)

    @property
    def failures(self) -> int:
        """Lines of the manifest that could not be written as they should: final after `close`."""
        return 0 if self._manifest is None else self._manifest.failures

    def __enter__(self) -> Collection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait until the manifest is written, and give up the folder."""
        self._opened.close()
