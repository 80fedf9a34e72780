"""Where an object goes by a layout: what it says of itself is read back from the file in the making."""

from __future__ import annotations

import contextlib
import os

from fastmove._sink import FileSink
from fastmove.storage.folders import Folder
from fastmove.storage.head import attributes
from fastmove.storage.target import Received
from fastmove.storage.template import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SOURCE_AE_TITLE,
    TRANSFER_SYNTAX_UID,
    FileSystem,
    Layout,
)


class Paths:
    """The paths of objects below an open folder, whose file system is asked first what it makes of names; OSError."""

    def __init__(self, layout: Layout, root: Folder) -> None:
        self._layout = layout
        self._tags = layout.tags
        self._file_system = FileSystem(os.fpathconf(root.fd, "PC_NAME_MAX"), _folds_case(root))

    def __call__(self, sink: FileSink, received: Received) -> bytes:
        """The path of this object; OSError if its file cannot be written or read."""
        sink.write_head()
        fd = sink.file_descriptor
        offset = os.fstat(fd).st_size - received.nbytes - sink.growth
        values = attributes(fd, offset, received.transfer_syntax, self._tags)
        values[SOP_CLASS_UID] = received.sop_class_uid
        values[SOP_INSTANCE_UID] = received.sop_instance_uid
        values[TRANSFER_SYNTAX_UID] = received.transfer_syntax.encode("latin-1")
        values[SOURCE_AE_TITLE] = received.source_ae_title.encode("latin-1", "replace")
        return self._layout.path(values, self._file_system)


def _folds_case(root: Folder) -> bool:
    probe = b".fm-%d-case.part" % os.getpid()
    os.close(os.open(probe, os.O_CREAT | os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=root.fd))
    try:
        os.stat(probe.upper(), dir_fd=root.fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    finally:
        with contextlib.suppress(FileNotFoundError):  # swept away by somebody who starts as well
            os.unlink(probe, dir_fd=root.fd)
    return True
