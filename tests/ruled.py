"""Attribute rules, and what becomes of data sets that are stored by them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import Final

import pydicom
from pydicom.dataset import Dataset

from fastmove.storage.attribute_rules import AttributeRules, Rule, attribute_rules
from fastmove.storage.filemeta import FileMeta, read_file_meta
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import Received, StorageTarget, Stored
from fastmove.storage.template import naming
from tests.encoded import EXPLICIT, SOP_CLASS, SOP_INSTANCE
from tests.unit.receivers import stored

PLANNED: Final = "20261130120000+0000"
NAME: Final = b"1.2.3.4.dcm"


def rules_of(*rules: Rule, **more: str) -> AttributeRules:
    """These, resolved upon on a day in November."""
    return attribute_rules(rules, PLANNED, **{"source": "OLD PACS", **more})


def store(target: StorageTarget, data: bytes, syntax: str = EXPLICIT, name: bytes = NAME) -> Stored:
    """Put a data set in place as it came over an association; StorageError if it is refused."""
    uids = SOP_CLASS.rstrip(b"\0"), SOP_INSTANCE.rstrip(b"\0")
    meta = FileMeta(uids[0].decode(), syntax, "PACS")
    sink = target.template(meta, SOP_CLASS).open(uids[1])
    stored(sink, data)
    return target.commit(sink, name, Received(*uids, syntax, "PACS", len(data)))


def dataset_of(path: Path) -> bytes:
    """What follows the file meta information."""
    return path.read_bytes()[read_file_meta(path).dataset_offset :]


def changed(data: bytes, rules: AttributeRules | Iterable[Rule], syntax: str = EXPLICIT) -> bytes:
    """The data set of the file that is made of this one."""
    made = rules if isinstance(rules, AttributeRules) else rules_of(*rules)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        options = WriteOptions(durable=False, rules=made, checked=False, naming=naming("flat"))
        with StorageTarget(path, options) as target:
            store(target, data, syntax)
        assert [each.name for each in path.iterdir()] == [NAME.decode()]
        return dataset_of(path / NAME.decode())


def read(data: bytes, syntax: str = EXPLICIT) -> Dataset:
    """A data set as pydicom reads it."""
    file = BytesIO()
    meta = FileMeta(SOP_CLASS.rstrip(b"\0").decode(), syntax)
    file.write(meta.head(SOP_INSTANCE.rstrip(b"\0")) + data)
    file.seek(0)
    return pydicom.dcmread(file)
