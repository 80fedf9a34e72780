"""Where the objects of a migration go: what the engine asks of files, an object store, another PACS."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Protocol, Self

from fastmove.ledger.model import Instance
from fastmove.notices import InstanceStored
from fastmove.storage.entries import Entry
from fastmove.storage.target import StorageTarget
from fastmove.types import Readiness

Write = Callable[[Entry], None]
"""Told of each object that is where it is to be, by some thread; its path is its place there."""


class Destination(Protocol):
    """A context manager; what it cannot be without is looked for when it is made."""

    @property
    def target(self) -> StorageTarget:
        """That our listener stores into: the place itself, or a spool on the way there."""

    @property
    def ready(self) -> Sequence[Readiness]:
        """What may stand in the way of more."""

    def stored(self, notice: InstanceStored) -> Future[None] | None:
        """An object is in `target`; if a future comes back, there should be no more before it is done."""

    async def settled(self) -> None:
        """Wait until `Write` has been told of all that is in `target` by now, or it is known that it will not be."""

    async def finish(self, study: str, instances: Sequence[Instance]) -> str:
        """A study is whole, and this is all of it; why it is not proved after all, empty if it is."""

    def __enter__(self) -> Self:
        """It is open."""

    def __exit__(self, *_: object) -> None:
        """Wait until all that is due is done."""
