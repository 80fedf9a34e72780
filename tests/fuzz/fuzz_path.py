"""Values as peers send them, on their way to names of files and folders.

The first byte chooses the template, the second the file system; the values follow, parted by bytes of 0xFE. Whatever
they are, a path stays below its root, every component is a name that any file system takes, and other values get
another path.
"""

from __future__ import annotations

import re
from typing import Final

from fastmove.errors import ConfigurationError, StorageError
from fastmove.storage import layout, template
from fastmove.storage.dcmtk_classes import DcmtkNaming
from fastmove.storage.layout import Naming
from fastmove.storage.template import SOP_INSTANCE_UID, FileSystem, Layout, naming

PATIENT, STUDY, SERIES = 0x00100020, 0x0020000D, 0x0020000E
TAGS: Final = (SOP_INSTANCE_UID, PATIENT, STUDY, SERIES)
TEMPLATES: Final = (
    "{patient}/{study}/{series}/{sop}.dcm",
    "{patient}_{study}.x/{sop}",
    "a{patient}^_{study}/{sop}_{patient}",
    "{series}-{patient}/x{sop}.dcm",
)
LAYOUTS: Final = tuple(made for made in map(naming, TEMPLATES) if isinstance(made, Layout))
FILE_SYSTEMS: Final = (FileSystem(), FileSystem(143), FileSystem(255, folds_case=True), FileSystem(60))
PARTING: Final = b"\xfe"
_DEVICE: Final = rb"(?:CON|PRN|AUX|NUL|COM1|LPT1|MANIFEST)(?:[.]|/|$)"
_NAME: Final = rb"(?!" + _DEVICE + rb")[0-9A-Z_^~](?:[0-9A-Z._^~-]*[0-9A-Z_^~-])?"
SAFE: Final = re.compile(_NAME + rb"(?:/" + _NAME + rb")*", re.IGNORECASE)
"""Names that every file system takes, and no shell wonders about: none hidden, no option, no device, none of ours."""

DANGEROUS: Final = frozenset(b"/\\\0\n\r\x1b%$`'\"|;&<>*?")
CLASSES: Final = (b"1.2.840.10008.5.1.4.1.1.2", b"1.2.840.10008.5.1.4.1.1.2\0", b"1.2.3")
DCMTK: Final = DcmtkNaming()


def quick(data: bytes) -> None:
    """A path stays below its root, and as deep as its template is."""
    if len(data) < 2:
        return
    chosen, file_system, values = understood(data)
    path = chosen.path(values, file_system)
    assert SAFE.fullmatch(path) and path.count(b"/") == len(chosen.parts) - 1, f"{path!r} is not safe"
    assert len(path) <= file_system.longest_name or all(
        len(name) <= file_system.longest_name for name in path.split(b"/")
    ), f"{path!r} is too long"


def understood(data: bytes) -> tuple[Layout, FileSystem, dict[int, bytes]]:
    """Layout, file system and values of an input."""
    values = dict(zip(TAGS, data[2:].split(PARTING), strict=False))
    return LAYOUTS[data[0] & 3], FILE_SYSTEMS[data[1] & 3], values


def thorough(data: bytes) -> None:
    """The names that do without a template, and templates themselves."""
    if len(data) < 2:
        return
    quick(data)
    uid = data[2:]
    for named in (Naming(), DCMTK):
        for sop_class in CLASSES:
            try:
                name = named.name(sop_class, uid)
            except StorageError as error:
                assert error.status == 0x0117
            else:
                assert name.startswith(named.prefix(sop_class)) and not DANGEROUS.intersection(name)
                assert len(name) <= 80 and name[:1] not in (b".", b"-"), f"{name!r} is too long, hidden, or an option"
    chosen, file_system, values = understood(data)
    path = chosen.path(values, file_system)
    other = values | {SOP_INSTANCE_UID: values.get(SOP_INSTANCE_UID, b"") + b"1"}
    assert chosen.path(other, file_system).upper() != path.upper() or not file_system.folds_case
    assert chosen.path(other, file_system) != path
    try:
        asked_for = naming(uid.decode("latin-1"))
    except ConfigurationError:
        return
    if isinstance(asked_for, Layout):
        assert SAFE.fullmatch(asked_for.path(dict.fromkeys((*asked_for.tags, *TAGS), b"1"), FileSystem()))


INSTRUMENTED: Final = (layout, template)


if __name__ == "__main__":
    from tests.fuzz.engine import run

    run(quick, thorough, INSTRUMENTED)
