"""A PACS: C-ECHO, C-FIND, C-MOVE, C-STORE and storage commitment over one archive, as one listener."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Protocol

from fastmove.credentials import TlsSettings
from fastmove.errors import DatasetError
from fastmove.net.acceptor import Acceptor, Meter, serve
from fastmove.net.connection import Connection
from fastmove.net.service import OTHER_COMMANDS, Service
from fastmove.notices import FileSkipped, InstanceStored, Notice, Observer
from fastmove.services.disk import Disk
from fastmove.services.listener import C_ECHO_RQ, C_STORE_RQ
from fastmove.services.query_retrieve_scp import SOP_CLASSES, Archive, QueryRetrieveOptions, QueryRetrieveSCP, UnderWay
from fastmove.services.scp import UnsupportedOperations
from fastmove.services.storage_commitment_scp import N_ACTION_RQ, N_EVENT_REPORT_RSP, StorageCommitmentSCP
from fastmove.services.storage_scp import StorageSCP
from fastmove.services.verification import VerificationSCP
from fastmove.storage.target import StorageTarget
from fastmove.uids import STORAGE_COMMITMENT, VERIFICATION
from fastmove.ul.negotiation import AcceptPolicy

C_FIND_RQ = 0x0020
C_MOVE_RQ = 0x0021
C_CANCEL_RQ = 0x0FFF


class StoringArchive(Archive, Protocol):
    """An archive that takes in what is stored."""

    def add(self, path: Path) -> None:
        """Take in one file; DatasetError if it is none, OSError."""

    def count(self, level: str) -> int:
        """How many entities of a level it holds."""


@contextlib.asynccontextmanager
async def serve_archive(
    host: str,
    port: int,
    stored: StoringArchive,
    target: StorageTarget,
    options: QueryRetrieveOptions,
    notify: Observer | None = None,
    tls: TlsSettings | None = None,
    *,
    answering: Archive | None = None,
    at_once: int | None = None,
    meter: Meter | None = None,
) -> AsyncIterator[Acceptor]:
    """A PACS for the length of a block: what it stores in the target can be found before Success is sent.

    It answers whatever title it is called by.  `answering` is asked in place of the archive; more connections than
    `at_once` wait until one ends; `meter` is that of the acceptor.  ListenFailed, TlsUnusable.
    """

    def take_in(notice: InstanceStored) -> None:
        try:
            stored.add(Path(notice.path))
        except (DatasetError, OSError) as error:
            tell(FileSkipped(str(notice.path), str(error)))
        tell(notice)

    def tell(notice: Notice) -> None:
        if notify is not None:
            notify(notice)

    archive, under_way = answering or stored, UnderWay()
    with Disk(target) as disk:

        def services(connection: Connection) -> Mapping[int, Service]:
            query_retrieve = QueryRetrieveSCP(connection, archive, options, under_way)
            commitment = StorageCommitmentSCP(connection, stored, options, under_way)
            return {
                C_STORE_RQ: StorageSCP(connection, target, disk, take_in),
                C_ECHO_RQ: VerificationSCP(connection),
                C_FIND_RQ: query_retrieve,
                C_MOVE_RQ: query_retrieve,
                C_CANCEL_RQ: query_retrieve,
                N_ACTION_RQ: commitment,
                N_EVENT_REPORT_RSP: commitment,
                OTHER_COMMANDS: UnsupportedOperations(connection),
            }

        policy = AcceptPolicy(
            options.ae_title,
            any_called_ae_title=True,
            abstract_syntaxes=SOP_CLASSES | {VERIFICATION, STORAGE_COMMITMENT},
            max_pdu_length=options.limits.max_pdu_length,
        )
        try:
            async with await serve(
                host, port, policy, services, options.limits, notify, at_once=at_once, tls=tls
            ) as acceptor:
                acceptor.meter = meter
                yield acceptor
        finally:
            await under_way.end(options.limits.stop_s)
