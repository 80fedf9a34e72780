"""The manifest of a study that is whole: where it goes, and what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from fastmove.ledger.model import Instance
from fastmove.storage.entries import Entry, timestamp
from fastmove.storage.file_system import FileSystem
from fastmove.storage.layout import Naming
from fastmove.storage.template import STUDY_INSTANCE_UID, Layout, component

MANIFESTS: Final = "manifests"
"""The folder of manifests where studies have no folder of their own."""


def study_manifest(naming: Naming, study: str, instances: Sequence[Instance]) -> tuple[str, Sequence[Entry]]:
    """Its path, and its entries by place: paths in them are below the folder of the study, if it has one."""
    found = sorted(instances, key=lambda instance: instance.place)
    path, below = _folder_of(naming, study, found[0].place)
    return path, [_entry(study, instance, below) for instance in found]


def _folder_of(naming: Naming, study: str, place: str) -> tuple[str, str]:
    if isinstance(naming, Layout):
        for depth, part in enumerate(naming.parts[:-1], 1):
            if part.tags and STUDY_INSTANCE_UID in part.tags:
                folder = "/".join(place.split("/")[:depth])
                return f"{folder}/manifest.jsonl", folder
    name = component((b"", b".jsonl"), (study.encode("ascii", "replace"),), FileSystem())  # a UID of a peer
    return f"{MANIFESTS}/{name.decode('ascii')}", ""


def _entry(study: str, instance: Instance, below: str) -> Entry:
    return Entry(
        timestamp(),
        "stored",
        instance.place.removeprefix(f"{below}/") if below else instance.place,
        instance.nbytes,
        instance.digest.hex(),
        instance.transfer_syntax_uid,
        study,
        instance.series_instance_uid,
        instance.sop_instance_uid,
        instance.sop_class_uid,
    )
