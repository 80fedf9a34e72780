"""The manifests of a study that is whole: where they go, and what is in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from typing import Final

from fastmove.ledger.model import Instance
from fastmove.storage.entries import Entry, timestamp
from fastmove.storage.file_system import FileSystem
from fastmove.storage.layout import Naming
from fastmove.storage.template import STUDY_INSTANCE_UID, Layout, component

MANIFESTS: Final = "manifests"
"""The folder of manifests where studies have no folder of their own."""


def study_manifests(naming: Naming, study: str, instances: Sequence[Instance]) -> Iterator[tuple[str, Sequence[Entry]]]:
    """The path of each, and its entries by place: paths in them are below the folder that it is in.

    A study has as many folders as the layout makes of it, such as one for each Patient ID in it.  Without a folder of
    its own it has one manifest, with paths below the root.
    """
    folder_of, now = _folders(naming), timestamp()
    for folder, there in groupby(sorted(instances, key=lambda instance: instance.place), folder_of):
        below = f"{folder}/" if folder else ""
        path = f"{below}manifest.jsonl" if folder else _without_folder(study)
        yield path, [_entry(study, instance, below, now) for instance in there]


def one_place(instances: Sequence[Instance]) -> dict[str, str]:
    """SOP Instance UID → why it may not be at its place: another one of the study has been stored in it."""
    at = Counter(instance.place for instance in instances)
    return {each.sop_instance_uid: "another object has its place" for each in instances if at[each.place] > 1}


def _folders(naming: Naming) -> Callable[[Instance], str]:
    """The folder of a study that an instance of it is in; empty if it has none."""
    if isinstance(naming, Layout):
        for depth, part in enumerate(naming.parts[:-1], 1):
            if part.tags and STUDY_INSTANCE_UID in part.tags:
                return lambda instance: "/".join(instance.place.split("/")[:depth])
    return lambda _: ""


def _without_folder(study: str) -> str:
    name = component((b"", b".jsonl"), (study.encode("ascii", "replace"),), FileSystem())  # a UID of a peer
    return f"{MANIFESTS}/{name.decode('ascii')}"


def _entry(study: str, instance: Instance, below: str, now: str) -> Entry:
    return Entry(
        now,
        "stored",
        instance.place.removeprefix(below),
        instance.nbytes,
        instance.digest.hex(),
        instance.transfer_syntax_uid,
        study,
        instance.series_instance_uid,
        instance.sop_instance_uid,
        instance.sop_class_uid,
    )
