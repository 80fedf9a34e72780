"""Where objects are stored: open, then commit or discard."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from fastmove._sink import FileSink, FileTemplate, Preview
from fastmove.errors import DirectoryUnusable, StorageError
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import OnDuplicate, Placing, Reencoding, WriteOptions

_COMPARE_BYTES = 1 << 20


class Received(NamedTuple):
    """A whole data set as it came, with what its C-STORE-RQ says of it; UIDs without padding."""

    sop_class_uid: bytes
    sop_instance_uid: bytes
    transfer_syntax: str
    source_ae_title: str
    nbytes: int


class Stored(NamedTuple):
    """Under which name an object is stored, and how it got it; `objection` is what is wrong with it all the same."""

    name: bytes
    placing: Placing
    objection: StorageError | None = None


Reencode = Callable[
    [FileSink, Received, WriteOptions, Callable[[bytes], FileSink]], tuple[FileSink, StorageError | None]
]


class StorageTarget:
    """A directory that takes objects, each under its final name only when it is whole.

    Raises DirectoryUnusable if the directory cannot be used.
    """

    def __init__(self, directory: Path, options: WriteOptions | None = None) -> None:
        self.directory = directory
        self.options = options or WriteOptions()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise DirectoryUnusable(f"cannot use {directory}: {error.strerror}") from error
        # A string to build paths from, one per object; what is in the current directory needs none.
        self._prefix = os.path.join(directory, "") if directory != Path() else ""  # noqa: PTH118
        self._unnamed = True
        self._reencoded: Reencode | None = None
        self._preview: Callable[[str, Reencoding], Preview | None] | None = None
        if self.options.reencoding is not None:
            from fastmove.storage.reencode import preview, reencoded  # not needed to store what comes as it is

            self._reencoded = reencoded
            self._preview = preview
        try:
            self._probe()
        except OSError as error:
            os.close(self._fd)
            raise DirectoryUnusable(f"cannot write to {directory}: {error.strerror}") from error

    def _probe(self) -> None:
        # Once, at the start: can files be made here, and does the file system have unnamed ones?
        try:
            os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o600, dir_fd=self._fd))
        except OSError:
            self._unnamed = False
        self._new_file(b"").discard()

    def _new_file(self, head: bytes) -> FileSink:
        return FileSink(self._fd, head, self._unnamed, self.options.file_mode)

    def __enter__(self) -> StorageTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the directory; sinks that are still open must be gone."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def template(self, meta: FileMeta, sop_class_uid: bytes) -> FileTemplate:
        """Opens files of one presentation context; the UID is the SOP class as requests name it, padded.

        Where nothing has to be waited for it puts them in place, too.
        """
        options = self.options
        reencoding = options.reencoding
        at_once = not options.durable and reencoding is None and options.keep
        preview = self._preview(meta.transfer_syntax_uid, reencoding) if self._preview and reencoding else None
        return FileTemplate(
            self._fd,
            sop_class_uid,
            meta.pieces if options.file_meta else None,
            prefix=options.naming.prefix(sop_class_uid.rstrip(b"\0 ")),
            suffix=options.naming.suffix if at_once else None,
            unnamed=self._unnamed,
            mode=options.file_mode,
            preview=preview,
        )

    def name(self, sop_class_uid: bytes, sop_instance_uid: bytes) -> bytes:
        """What a file is called; StorageError if no safe name can be made of the UIDs."""
        return self.options.naming.name(sop_class_uid, sop_instance_uid)

    def path(self, name: bytes) -> str:
        """Where a committed object is."""
        return self._prefix + name.decode("ascii")

    def publish(self, sink: FileSink, name: bytes) -> None:
        """Put a whole object in place without waiting for the disk.

        FileExistsError if the name is taken: `commit` then decides.
        """
        sink.publish(name)

    def commit(self, sink: FileSink, name: bytes, received: Received | None = None) -> Stored:
        """Put a whole object in place as the options say; `received` is what the data set is, to write it anew.

        Blocks: it writes the data set anew, syncs, and compares with what is there, if need be.
        StorageError or OSError if the object is not stored, DatasetError if it is none; the sink is
        then discarded.
        """
        objection = None
        try:
            if self._reencoded is not None and received is not None:
                sink, objection = self._reencoded(sink, received, self.options, self._new_file)
            if not self.options.keep:
                return Stored(name, Placing.NEW)
            if self.options.durable:
                sink.sync()
            final, placing = self._place(sink, name)
            if self.options.durable:
                self._sync_directory(final, placing)
            return Stored(final, placing, objection)
        finally:
            sink.discard()

    def _sync_directory(self, name: bytes, placing: Placing) -> None:
        try:
            os.fsync(self._fd)
        except OSError:
            # The name may be lost in a crash: an object that is not acknowledged must not count as stored.
            if placing in (Placing.NEW, Placing.BESIDE):
                self.withdraw(name)
            raise

    def withdraw(self, name: bytes) -> None:
        """Remove an object that was put in place, and is not to count as stored after all."""
        with contextlib.suppress(FileNotFoundError):  # somebody took it away already
            os.unlink(name, dir_fd=self._fd)

    def _place(self, sink: FileSink, name: bytes) -> tuple[bytes, Placing]:
        candidate = name
        number = 0
        while True:
            try:
                sink.publish(candidate)
            except FileExistsError:
                if self._same(sink, candidate):
                    return candidate, Placing.SAME
            else:
                return candidate, Placing.BESIDE if number else Placing.NEW
            if self.options.on_duplicate is OnDuplicate.FAIL:
                raise StorageError("store.duplicate_differs", 0x0111, "another object with this UID is stored")
            if self.options.on_duplicate is OnDuplicate.REPLACE:
                sink.publish(name, replace=True)
                return name, Placing.REPLACED
            number += 1
            suffix = self.options.naming.suffix
            candidate = name.removesuffix(suffix) + b".dup%d" % number + suffix

    def _same(self, sink: FileSink, name: bytes) -> bool:
        # Byte for byte; a symlink put there by someone is never followed, a FIFO never waited for.
        try:
            other = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._fd)
        except OSError:
            return False
        try:
            if os.fstat(other).st_size != os.fstat(sink.file_descriptor).st_size:
                return False
            offset = 0
            while True:
                block = os.pread(sink.file_descriptor, _COMPARE_BYTES, offset)
                if block != os.pread(other, _COMPARE_BYTES, offset):
                    return False
                if not block:
                    if self.options.durable:
                        os.fdatasync(other)  # whoever wrote it may not have
                    return True
                offset += len(block)
        finally:
            os.close(other)
