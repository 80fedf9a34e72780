"""Where objects are stored: open, then commit or discard."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from fastmove._sink import FileSink, FileTemplate, Pace, Preview
from fastmove.errors import DirectoryUnusable, StorageError
from fastmove.storage.content import check
from fastmove.storage.file_system import probed
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.folders import OUT_OF_RESOURCES, Folder, Folders, disk_failure, is_link, root_folder
from fastmove.storage.head import study_in
from fastmove.storage.layout import FILE_SUFFIX, Naming
from fastmove.storage.options import OnDuplicate, Placing, Reencoding, Unsolicited, WriteOptions
from fastmove.storage.quarantine import NOT_AUTHORIZED, QUARANTINE, Asked

if TYPE_CHECKING:
    from fastmove.storage.folder_watch import FolderWatch

DUPLICATE_SOP_INSTANCE: Final = 0x0111

_SYNCS: Final = frozenset(("fs.fsync", "fs.dirsync"))

_NO_ROOM: Final = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG))
"""Why a sync may fail although the disk is in order."""


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
    study: str = ""
    """Its Study Instance UID, where it had to be looked at."""


Reencode = Callable[
    [FileSink, Received, WriteOptions, Callable[[bytes], FileSink]], tuple[FileSink, StorageError | None]
]
Alter = Callable[[FileSink, Received, WriteOptions, Callable[[bytes], FileSink]], tuple[FileSink, Received]]


class StorageTarget:
    """A directory that takes objects, each under its final name only when it is whole.

    Raises DirectoryUnusable if the directory cannot be used.
    """

    def __init__(self, directory: Path, options: WriteOptions | None = None) -> None:
        self.directory = directory
        self.options = options or WriteOptions()
        self._root = root_folder(directory, self.options.modes)
        # A string to build paths from, one per object; what is in the current directory needs none.
        self._prefix = os.path.join(directory, "") if directory != Path() else ""  # noqa: PTH118
        self.has_unnamed_files = True
        """False: unfinished files need a name, as the file system has no others."""
        self.asked: Asked | None = None
        """What was asked for: other objects are `unsolicited`; None: whatever comes is welcome."""
        self._pace = Pace()
        self._unsynced: StorageError | None = None
        self.failed_syncs = 0
        """How often a folder could not be synced: what had a name by then, and was not settled, may have lost it."""
        self.swept = 0
        """Unfinished files of dead processes that were found at the start, and removed."""
        self._folders = Folders(self._root, durable=self.options.durable, modes=self.options.modes)
        self._path_of: Callable[[FileSink, Received], bytes] | None = None
        self._reencoded: Reencode | None = None
        self._preview: Callable[[str, Reencoding], Preview | None] | None = None
        if self.options.reencoding is not None:
            from fastmove.storage.reencode import preview, reencoded  # not needed to store what comes as it is

            self._reencoded = reencoded
            self._preview = preview
        self._changed: Alter | None = None
        if self.options.rules is not None:
            from fastmove.storage.attribute_changes import changed  # nor what stays as it is

            self._changed = changed
        try:
            self._probe()
        except OSError as error:
            self._root.close()
            raise DirectoryUnusable(f"cannot write to {directory}: {error.strerror}") from error
        except DirectoryUnusable:
            self._root.close()
            raise

    def _probe(self) -> None:
        # Once, at the start: can files be made here, and does the file system have unnamed ones?
        try:
            os.close(os.open(".", os.O_TMPFILE | os.O_WRONLY, 0o600, dir_fd=self._root.fd))
        except OSError:
            self.has_unnamed_files = False
        if self.options.durable or not self.has_unnamed_files:
            from fastmove.storage.unfinished import sweep  # a moment in a big folder, that a short command does without

            self.swept = sweep(self.directory)
        probe, modes = FileSink(self._root.fd, b"", self.has_unnamed_files, self.options.modes.file), self.options.modes
        made = stat.S_IMODE(os.fstat(probe.file_descriptor).st_mode)
        self._exact = made != modes.file and not modes.umask  # only then it takes a call more
        probe.discard()
        self._file_system = probed(self._root, self.directory)
        naming = self.options.naming
        if naming.in_folders:
            from fastmove.storage.paths import Paths  # nor to store all in one folder
            from fastmove.storage.template import Layout

            assert isinstance(naming, Layout)
            self._path_of = Paths(naming, self._file_system)

    def _new_file(self, head: bytes) -> FileSink:
        mode = self.options.modes.file
        return FileSink(self._root.fd, head, self.has_unnamed_files, mode, deferred=True, exact=self._exact)

    def __enter__(self) -> StorageTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give up the directory; sinks that are still open must be gone."""
        self._folders.close()
        self._root.close()

    def template(self, meta: FileMeta, sop_class_uid: bytes, max_object_bytes: int = 0) -> FileTemplate:
        """Opens files of one presentation context; the UID is the SOP class as requests name it, padded.

        Where nothing has to be waited for it puts them in place, too.  0: objects may be of any size.
        """
        options = self.options
        reencoding = options.reencoding
        at_once = not options.durable and reencoding is None and options.keep and not options.naming.in_folders
        at_once = at_once and self.asked is None and options.rules is None
        preview = self._preview(meta.transfer_syntax_uid, reencoding) if self._preview and reencoding else None
        return FileTemplate(
            self._root.fd,
            sop_class_uid,
            meta.pieces if options.file_meta else None,
            prefix=options.naming.prefix(sop_class_uid.rstrip(b"\0 ")),
            suffix=options.naming.suffix if at_once else None,
            unnamed=self.has_unnamed_files,
            mode=options.modes.file,
            preview=preview,
            deferred=options.durable,
            pace=self._pace,
            exact=self._exact,
            check=check(options, meta.transfer_syntax_uid, max_object_bytes),
        )

    def name(self, sop_class_uid: bytes, sop_instance_uid: bytes) -> bytes:
        """What a file is called, empty if that depends on the data set; StorageError without a safe name."""
        return self.options.naming.name(sop_class_uid, sop_instance_uid, self._file_system)

    def watch(self, big: int) -> FolderWatch:
        """Looks after the folder while objects are stored; of `big` files or more there are many."""
        from fastmove.storage.folder_watch import FolderWatch  # for those who stay a while

        return FolderWatch(self.directory, self._root, flat=not self.options.naming.in_folders, big=big)

    def remark(self, sop_instance_uid: bytes) -> str:
        """What is odd about the UID of an object that is stored all the same: a log event, empty if nothing is."""
        return self.options.naming.remark(sop_instance_uid, self._file_system)

    def path(self, name: bytes) -> str:
        """Where a committed object is."""
        return self._prefix + name.decode("ascii")

    def publish(self, sink: FileSink, name: bytes, received: Received | None = None) -> bytes:
        """Put a whole object in place without waiting for the disk; the name that it has now.

        FileExistsError if the name is taken: `commit` then decides.  StorageError if there is no place for it.
        """
        if self._path_of is not None and received is not None:
            name = self._path_of(sink, received)
        self._publish(sink, name)
        return name

    def commit(self, sink: FileSink, name: bytes, received: Received | None = None) -> Stored:
        """Put a whole object in place as the options say; durable is its name only after `settle`.

        `received` is what the data set is, to change it, to write it anew, and to name it where its name depends on it.
        Blocks: it writes what is not written yet, writes the data set anew, syncs, and compares with what is there, if
        need be.  StorageError if the object is not stored, DatasetError if it is none; the sink is then discarded.
        """
        objection, study = None, ""
        try:
            if self.asked is not None and received is not None:
                study = "" if self.asked.names(_text(received.sop_instance_uid)) else study_in(sink, received)
                if study and not self.asked.covers(study) and self.options.unsolicited is not Unsolicited.KEEP:
                    return self._set_aside(sink, received, study)
            if self._changed is not None and received is not None:
                sink, received = self._changed(sink, received, self.options, self._new_file)
            if self._path_of is not None and received is not None:
                name = self._path_of(sink, received)
            if self._reencoded is not None and received is not None:
                sink, objection = self._reencoded(sink, received, self.options, self._new_file)
            if not self.options.keep:
                return Stored(name, Placing.NEW)
            final, placing = self._place(sink, name)
            return Stored(final, placing, objection, study)
        except StorageError as refusal:
            self._remember(refusal)
            raise
        except OSError as error:
            failure = disk_failure(sink.step, error.errno or 0)
            self._remember(failure)
            raise failure from error
        finally:
            sink.discard()

    def settle(self, group: Sequence[tuple[Stored, int]]) -> list[StorageError | None]:
        """Wait until the names of these objects are on stable storage; what failed for each: then it is not stored.

        With each object goes what `failed_syncs` was before its commit.  Blocks: one fsync for each folder.
        """
        failures: dict[bytes, StorageError] = {}
        # The kernel tells of a lost block once: the next sync succeeds, and says nothing of what the last one lost.
        lost = disk_failure("fs.dirsync", errno.EIO)
        unsettled = [lost if failed_syncs != self.failed_syncs else None for _, failed_syncs in group]
        for path in {_above(stored.name) for stored, _ in group}:
            try:
                folder = self._folders.get(path)  # held: it may not be closed, and its number used again, meanwhile
                os.fsync(folder.fd)
            except StorageError as error:
                failures[path] = error
            except OSError as error:
                failures[path] = disk_failure("fs.dirsync", error.errno or 0)
                self.failed_syncs += 1
                self._remember(failures[path])
        for number, (stored, _) in enumerate(group):
            failure = unsettled[number] = failures.get(_above(stored.name), unsettled[number])
            # The name may be lost in a crash: an object that is not acknowledged must not count as stored.
            if failure is not None and stored.placing in (Placing.NEW, Placing.BESIDE):
                with contextlib.suppress(OSError, StorageError):  # a disk that takes no more changes, no folder
                    self.withdraw(stored.name)
        return unsettled

    def _remember(self, failure: StorageError) -> None:
        if failure.key in _SYNCS and failure.errno not in _NO_ROOM:
            self._unsynced = failure

    @property
    def unsynced(self) -> StorageError | None:
        """The last failure of the disk to sync, which may have lost more than it tells of, until a `probe` succeeds."""
        return self._unsynced

    def probe(self) -> None:
        """See whether the disk syncs again; blocks."""
        sink = self._new_file(bytes(1))
        try:
            sink.sync()
            os.fsync(self._root.fd)
        except OSError as error:
            self._remember(disk_failure(sink.step, error.errno or 0))
        else:
            self._unsynced = None
        finally:
            sink.discard()

    def withdraw(self, name: bytes) -> None:
        """Remove an object that was put in place, and is not to count as stored after all."""
        folder, name = self._folder_of(name)
        with contextlib.suppress(FileNotFoundError):  # somebody took it away already
            os.unlink(name, dir_fd=folder.fd)

    # ------------------------------------------------------------------ places

    def _folder_of(self, path: bytes) -> tuple[Folder, bytes]:
        above, _, name = path.rpartition(b"/")
        return self._folders.get(above), name

    def _publish(self, sink: FileSink, path: bytes, *, replace: bool = False) -> None:
        folder, name = self._folder_of(path)
        durable = self.options.durable
        try:
            sink.publish(name, folder.fd, replace, durable)
        except FileNotFoundError:
            if folder is self._root:
                raise
            # Somebody has removed the folder since: once more, in a new one.
            self._folders.forget(path.rpartition(b"/")[0])
            folder, name = self._folder_of(path)
            sink.publish(name, folder.fd, replace, durable)

    def _set_aside(self, sink: FileSink, received: Received, study: str) -> Stored:
        """Store an object that was not asked for where it overwrites nothing, or refuse it."""
        if self.options.unsolicited is Unsolicited.REFUSE:
            raise StorageError("store.unsolicited", NOT_AUTHORIZED, "nobody has asked for an object of this study")
        name = Naming(sanitize=True).name(received.sop_class_uid, received.sop_instance_uid, self._file_system)
        path = f"{QUARANTINE}/".encode("ascii") + name
        return Stored(self._place(sink, path, OnDuplicate.KEEP_BOTH)[0], Placing.QUARANTINED, None, study)

    def _place(self, sink: FileSink, name: bytes, on_duplicate: OnDuplicate | None = None) -> tuple[bytes, Placing]:
        on_duplicate = on_duplicate or self.options.on_duplicate
        candidate = name
        number = 0
        while True:
            try:
                self._publish(sink, candidate)
            except FileExistsError:
                same = self._same(sink, candidate)
                if same:
                    return candidate, Placing.SAME
                if same is None and is_link(*self._folder_of(candidate)):
                    raise StorageError(
                        "fs.symlink", OUT_OF_RESOURCES, "a symlink has the name of this object"
                    ) from None
            else:
                return candidate, Placing.BESIDE if number else Placing.NEW
            if on_duplicate is OnDuplicate.FAIL:
                raise StorageError(
                    "store.duplicate_differs", DUPLICATE_SOP_INSTANCE, "another object with this UID is stored"
                )
            if on_duplicate is OnDuplicate.SKIP:
                if same is None:
                    raise StorageError("fs.occupied", OUT_OF_RESOURCES, "what has the name of this object is no file")
                return candidate, Placing.SKIPPED
            if on_duplicate is OnDuplicate.REPLACE:
                self._publish(sink, name, replace=True)
                return name, Placing.REPLACED
            number += 1
            suffix = self.options.naming.suffix if name.endswith(self.options.naming.suffix) else FILE_SUFFIX
            candidate = name.removesuffix(suffix) + b".dup%d" % number + suffix

    def _same(self, sink: FileSink, path: bytes) -> bool | None:
        """Whether a file is the same object; None if what has its name is no file.

        A symlink put there by someone is never followed, a FIFO never waited for.
        """
        folder, name = self._folder_of(path)
        try:
            other = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder.fd)
        except OSError:
            return None
        try:
            if not stat.S_ISREG(os.fstat(other).st_mode):
                return None
            from fastmove.storage.duplicate import same_object  # most objects have no double

            same = same_object(sink.file_descriptor, other, same_file_meta=self.options.same_file_meta)
            if same and self.options.durable:
                try:
                    os.fdatasync(other)  # whoever wrote it may not have
                except OSError as error:
                    raise disk_failure("fs.fsync", error.errno or 0) from error
            return same
        finally:
            os.close(other)


def _text(uid: bytes) -> str:
    return uid.decode("ascii", "backslashreplace")


def _above(path: bytes) -> bytes:
    return path.rpartition(b"/")[0]
