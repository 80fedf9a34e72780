"""Where an object goes by a layout: what it says of itself is read back from the file in the making."""

from __future__ import annotations

from fastmove._sink import FileSink
from fastmove.storage.file_system import FileSystem
from fastmove.storage.head import values_in
from fastmove.storage.target import Received
from fastmove.storage.template import (
    SOP_CLASS_UID,
    SOP_INSTANCE_UID,
    SOURCE_AE_TITLE,
    TRANSFER_SYNTAX_UID,
    Layout,
)


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
