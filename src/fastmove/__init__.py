"""fastmove: DICOM C-MOVE at the speed of the kernel.

The names below are the public API; each is imported when it is first used, so that what a program
does not need costs it no start-up time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastmove.dimse.move import Judgement, Verdict
    from fastmove.errors import (
        AssociationAborted,
        AssociationError,
        AssociationRejected,
        ConfigurationError,
        ConnectFailed,
        ConnectionLost,
        DatasetError,
        DimseError,
        FastmoveError,
        ListenFailed,
        NoAcceptedContext,
        StorageNotReady,
        TimedOut,
    )
    from fastmove.limits import Limits
    from fastmove.net.loop import run
    from fastmove.net.requestor import AssociationHandle, associate
    from fastmove.notices import InstanceRefused, InstanceSent, InstanceStored, Notice
    from fastmove.services.listener import listen
    from fastmove.services.profile import PacsProfile
    from fastmove.services.query_scu import find
    from fastmove.services.retrieve.client import Client, Retrieval, dataset
    from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
    from fastmove.services.retrieve.session import Retrieve
    from fastmove.services.retrieve.unit import UnitResult
    from fastmove.services.selection.selection import Query, Selection, Wanted
    from fastmove.services.storage_scu import SendOutcome, StorageSCU, send, storage_contexts
    from fastmove.services.verification import echo, echo_on
    from fastmove.storage.filemeta import DicomFile, read_file_meta
    from fastmove.storage.options import OnDuplicate, WriteOptions
    from fastmove.storage.reserve import Reserve
    from fastmove.storage.target import StorageTarget
    from fastmove.types import PeerAddress
    from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose

_HOMES = {
    "dimse.move": ("Judgement", "Verdict"),
    "errors": (
        "AssociationAborted",
        "AssociationError",
        "AssociationRejected",
        "ConfigurationError",
        "ConnectFailed",
        "ConnectionLost",
        "DatasetError",
        "DimseError",
        "FastmoveError",
        "ListenFailed",
        "NoAcceptedContext",
        "StorageNotReady",
        "TimedOut",
    ),
    "limits": ("Limits",),
    "net.loop": ("run",),
    "net.requestor": ("AssociationHandle", "associate"),
    "notices": ("InstanceRefused", "InstanceSent", "InstanceStored", "Notice"),
    "services.retrieve.client": ("Client", "Retrieval", "dataset"),
    "services.listener": ("listen",),
    "services.profile": ("PacsProfile",),
    "services.query_scu": ("find",),
    "services.retrieve.config": ("RetrieveConfig", "RetrieveResult"),
    "services.retrieve.session": ("Retrieve",),
    "services.selection.selection": ("Query", "Selection", "Wanted"),
    "services.storage_scu": ("SendOutcome", "StorageSCU", "send", "storage_contexts"),
    "services.retrieve.unit": ("UnitResult",),
    "services.verification": ("echo", "echo_on"),
    "storage.filemeta": ("DicomFile", "read_file_meta"),
    "storage.options": ("OnDuplicate", "WriteOptions"),
    "storage.reserve": ("Reserve",),
    "storage.target": ("StorageTarget",),
    "types": ("PeerAddress",),
    "ul.negotiation": ("AcceptPolicy", "contexts_for", "propose"),
}
_HOME = {name: f"fastmove.{module}" for module, names in _HOMES.items() for name in names}

__all__ = [
    "AcceptPolicy",
    "AssociationAborted",
    "AssociationError",
    "AssociationHandle",
    "AssociationRejected",
    "Client",
    "ConfigurationError",
    "ConnectFailed",
    "ConnectionLost",
    "DatasetError",
    "DicomFile",
    "DimseError",
    "FastmoveError",
    "InstanceRefused",
    "InstanceSent",
    "InstanceStored",
    "Judgement",
    "Limits",
    "ListenFailed",
    "NoAcceptedContext",
    "Notice",
    "OnDuplicate",
    "PacsProfile",
    "PeerAddress",
    "Query",
    "Reserve",
    "Retrieval",
    "Retrieve",
    "RetrieveConfig",
    "RetrieveResult",
    "Selection",
    "SendOutcome",
    "StorageNotReady",
    "StorageSCU",
    "StorageTarget",
    "TimedOut",
    "UnitResult",
    "Verdict",
    "Wanted",
    "WriteOptions",
    "associate",
    "contexts_for",
    "dataset",
    "echo",
    "echo_on",
    "find",
    "listen",
    "propose",
    "read_file_meta",
    "run",
    "send",
    "storage_contexts",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastmove' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
