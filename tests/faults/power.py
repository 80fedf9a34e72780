"""A disk whose power can be cut at any moment, as often as one likes.

The file system under test lies in an image, the image on XFS with reflinks: a clone of the image is what the disk holds
at that instant, and whatever is only in memory is not in it.  The clone is mounted beside the original, which plays
back the journal as after a real power cut, and looked at; the original goes on and knows nothing of it.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.lanes import SEARCH_PATH

MEMORY_BYTES: Final = 1 << 30
"""At most; a run of thousands of objects takes a tenth of it."""

OUTER_BYTES: Final = 2 << 30
INNER_BYTES: Final = 600 << 20

FICLONE: Final = 0x40049409
"""linux/fs.h: the file becomes a clone of another, atomically."""

MAKE: Final = {
    "ext4": ("mkfs.ext4", "-q", "-F", "-i", "4096", "-E", "lazy_itable_init=1,lazy_journal_init=1"),
    "xfs": ("mkfs.xfs", "-q", "-f"),
}
MOUNT: Final = {"ext4": "loop", "xfs": "loop,nouuid"}  # the clone has the UUID of the original


def run(*command: str | Path) -> None:
    """A command that must succeed."""
    subprocess.run(command, check=True, env=os.environ | {"PATH": SEARCH_PATH}, stdout=subprocess.DEVNULL)


@contextmanager
def mounted(what: Path | str, where: Path, options: str, *more: str) -> Iterator[Path]:
    """A file system, such as that of an image, by loop."""
    where.mkdir()
    run("mount", *more, "-o", options, what, where)
    try:
        yield where
    finally:
        run("umount", where)
        where.rmdir()


def blank(path: Path, nbytes: int, *make: str) -> Path:
    """An image with an empty file system; holes take no room."""
    with path.open("xb") as file:
        file.truncate(nbytes)
    run(*make, path)
    return path


class Disk:
    """The mounted file system, and its image."""

    def __init__(self, kind: str, image: Path, folder: Path, copies: Path) -> None:
        self.kind = kind
        self.image = image
        self.folder = folder
        self._copies = copies
        self._cuts = 0

    def cut(self) -> Path:
        """What the disk holds at this instant, as an image of its own."""
        self._cuts += 1
        copy = self.image.with_name(f"cut-{self._cuts}")
        with self.image.open("rb") as original, copy.open("xb") as clone:
            fcntl.ioctl(clone.fileno(), FICLONE, original.fileno())
        return copy

    @contextmanager
    def after(self, cut: Path) -> Iterator[Path]:
        """The file system as it is found when the power is back; the image is gone afterwards."""
        try:
            with mounted(cut, self._copies / cut.name, MOUNT[self.kind]) as folder:
                yield folder
        finally:
            cut.unlink()


@contextmanager
def disk(directory: Path, kind: str) -> Iterator[Disk]:
    """A file system of this kind, ext4 or xfs; for tests of the lane "power-cut".

    The images are in memory: what the disk of this machine is like does not matter, and it is not worn.
    """
    with mounted("tmpfs", directory / "memory", f"size={MEMORY_BYTES}", "-t", "tmpfs") as memory:
        outer = blank(memory / "outer.img", OUTER_BYTES, "mkfs.xfs", "-q", "-m", "reflink=1")
        with mounted(outer, directory / "outer", "loop") as below:
            image = blank(below / "inner.img", INNER_BYTES, *MAKE[kind])
            with mounted(image, directory / "disk", "loop") as folder:
                yield Disk(kind, image, folder, directory)
