"""DCMTK's normal mode: what came is examined, and written anew where the bytes would differ (PS3.10 7)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, cast

from fastmove._sink import FileSink
from fastmove._transcode import DatasetPreview, Examination, examine, rewrite
from fastmove.dictionary import standard
from fastmove.errors import StorageError
from fastmove.storage.content import refusal
from fastmove.storage.filemeta import FileMeta
from fastmove.storage.options import Reencoding, WriteOptions
from fastmove.storage.target import Received
from fastmove.uids import TRANSFER_SYNTAXES

UNKNOWN_SOP_CLASS: Final = b"1.2.276.0.7230010.3.1.0.1"
"""What DCMTK writes into the file meta information of a data set without a SOP Class UID."""


def preview(transfer_syntax: str, reencoding: Reencoding) -> DatasetPreview | None:
    """Where data sets of a transfer syntax can be written anew while they come; None if they cannot."""
    wanted = reencoding.transfer_syntax or transfer_syntax
    known = TRANSFER_SYNTAXES.get(transfer_syntax)
    if wanted != transfer_syntax or (known is not None and known.deflated):
        return None
    return DatasetPreview(transfer_syntax, reencoding, standard())


def reencoded(
    sink: FileSink, received: Received, options: WriteOptions, new_file: Callable[[bytes], FileSink]
) -> tuple[FileSink, StorageError | None]:
    """The file to be stored (the same if its bytes are right already), and what to object to; DatasetError, OSError.

    The sink is discarded if another takes its place.
    """
    reencoding = options.reencoding
    assert reencoding is not None
    transfer_syntax = reencoding.transfer_syntax or received.transfer_syntax
    sink.write_head()
    fd = sink.file_descriptor
    nbytes = received.nbytes + sink.growth
    found = cast("Examination | None", sink.examination)
    if found is None:
        offset = os.fstat(fd).st_size - nbytes
        found = examine(fd, offset, nbytes, received.transfer_syntax, reencoding, standard())
    objection = _objection(found.sop_class_uid, found.sop_instance_uid, received)
    as_it_is = found.identical and transfer_syntax == received.transfer_syntax and objection is None
    if as_it_is or not options.keep:
        return sink, objection
    offset = os.fstat(fd).st_size - nbytes
    meta = FileMeta(
        (found.sop_class_uid or UNKNOWN_SOP_CLASS).decode("latin-1"), transfer_syntax, received.source_ae_title
    )
    head = meta.head(found.sop_instance_uid or _new_uid()) if options.file_meta else b""
    anew = new_file(head)
    try:
        anew.write_head()
        rewrite(
            fd,
            offset,
            nbytes,
            received.transfer_syntax,
            anew.file_descriptor,
            len(head),
            reencoding,
            standard(),
        )
    except BaseException:
        anew.discard()
        raise
    sink.discard()
    return anew, objection


def _new_uid() -> bytes:
    import uuid  # seldom needed, and takes 3 ms

    return b"2.25.%d" % uuid.uuid4().int


def _objection(class_uid: bytes | None, instance_uid: bytes | None, received: Received) -> StorageError | None:
    if not class_uid or not instance_uid:
        return refusal("store.no_uid_in_ds")
    if class_uid != received.sop_class_uid:
        return refusal("store.class_mismatch")
    if instance_uid != received.sop_instance_uid:
        return refusal("store.uid_mismatch")
    return None
