"""Where an object goes by a layout: what it says of itself is read back from the file in the making."""

from __future__ import annotations

import os
from pathlib import Path

from fastmove._sink import FileSink
from fastmove.storage.file_system import FileSystem
from fastmove.storage.filemeta import META_OFFSET, file_meta_of
from fastmove.storage.head import attributes, values_in
from fastmove.storage.layout import Naming
from fastmove.storage.target import Received
from fastmove.storage.template import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SOURCE_AE_TITLE,
    TRANSFER_SYNTAX_UID,
    Layout,
)
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN


class Paths:
    """The paths of objects, on a file system that makes this of names."""

    def __init__(self, layout: Layout, file_system: FileSystem) -> None:
        self._layout = layout
        self._tags = layout.tags
        self._file_system = file_system

    def __call__(self, sink: FileSink, received: Received) -> bytes:
        """The path of this object; OSError if its file cannot be written or read."""
        values = values_in(sink, received, self._tags)
        values[SOP_CLASS_UID] = received.sop_class_uid
        values[SOP_INSTANCE_UID] = received.sop_instance_uid
        values[TRANSFER_SYNTAX_UID] = received.transfer_syntax.encode("latin-1")
        values[SOURCE_AE_TITLE] = received.source_ae_title.encode("latin-1", "replace")
        return self._layout.path(values, self._file_system)


def path_of(file: Path, naming: Naming) -> str:
    """Where an object that is in this file goes by another naming; OSError, DatasetError, StorageError.

    It is the same whatever the file system: for a place that is none.
    """
    fd = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        meta = file_meta_of(fd, file)
        sop_class, sop_instance = meta.sop_class_uid.encode("ascii"), meta.sop_instance_uid.encode("ascii")
        if not isinstance(naming, Layout):
            return naming.name(sop_class, sop_instance).decode("ascii")
        syntax = meta.transfer_syntax_uid
        values = attributes(fd, meta.dataset_offset, syntax, naming.tags)
        values |= attributes(fd, META_OFFSET, EXPLICIT_VR_LITTLE_ENDIAN, (SOURCE_AE_TITLE,))
        values |= {
            SOP_CLASS_UID: sop_class,
            SOP_INSTANCE_UID: sop_instance,
            TRANSFER_SYNTAX_UID: syntax.encode("ascii"),
        }
        return naming.path(values, FileSystem()).decode("ascii")
    finally:
        os.close(fd)
