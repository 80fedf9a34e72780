"""The embedded PACS as a whole: an archive that is served, as it should be or as somebody wants it to go wrong."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

from fastmove.credentials import TlsSettings
from fastmove.notices import Observer
from fastmove.pacs.misconduct import FaultyArchive, FaultyConduct
from fastmove.services.archive import StoringArchive, serve_archive
from fastmove.services.distance import distant
from fastmove.services.query_retrieve_scp import QueryRetrieveOptions
from fastmove.storage.target import StorageTarget


def serve_pacs(
    host: str,
    port: int,
    archive: StoringArchive,
    target: StorageTarget,
    options: QueryRetrieveOptions,
    notify: Observer | None = None,
    conduct: FaultyConduct | None = None,
    tls: TlsSettings | None = None,
) -> AbstractAsyncContextManager[Any]:
    """A PACS for the length of a block, as `serve_archive`; with a `conduct` it commits its faults.

    Those that limit associations, and distance, must be there at the start; others may be changed at any time.
    """
    if conduct is None:
        return serve_archive(host, port, archive, target, options, notify, tls)
    faults, limits = conduct.lots.faults, options.limits
    if faults.association_limit is not None:
        limits = limits.replace(max_associations=faults.association_limit)
    return serve_archive(
        host,
        port,
        archive,
        target,
        options.replace(conduct=conduct, limits=limits),
        notify,
        tls,
        answering=FaultyArchive(archive, conduct.lots),
        at_once=faults.association_hang,
        meter=distant(faults.round_trip_s, faults.handshake_s) if faults.round_trip_s or faults.handshake_s else None,
    )
