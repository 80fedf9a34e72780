"""Paths of stored files from a template: folders and names of what the objects say of themselves.

Every component is made by one function, whatever peers sent: none leaves its folder, and two values never share one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import chain, zip_longest
from typing import Final

from fastmove.errors import ConfigurationError
from fastmove.storage.file_system import FileSystem
from fastmove.storage.layout import EXT4, FILE_SUFFIX, UID_PADDING, Naming
from fastmove.values import Value

SOP_CLASS_UID: Final = 0x00080016
SOP_INSTANCE_UID: Final = 0x00080018
STUDY_INSTANCE_UID: Final = 0x0020000D
TRANSFER_SYNTAX_UID: Final = 0x00020010
SOURCE_AE_TITLE: Final = 0x00020016

GIVEN: Final = frozenset((SOP_CLASS_UID, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID, SOURCE_AE_TITLE))
"""What a template need not look for in the data set: request and association have it."""

SHORTHANDS: Final[dict[str, int]] = {
    "patient": 0x00100020,
    "name": 0x00100010,
    "study": STUDY_INSTANCE_UID,
    "series": 0x0020000E,
    "sop": SOP_INSTANCE_UID,
    "instance": SOP_INSTANCE_UID,
    "class": SOP_CLASS_UID,
    "modality": 0x00080060,
    "date": 0x00080020,
    "time": 0x00080030,
    "accession": 0x00080050,
    "number": 0x00200013,
    "syntax": TRANSFER_SYNTAX_UID,
    "source": SOURCE_AE_TITLE,
}
"""Fields of a template that are no keywords."""

PRESETS: Final[dict[str, str]] = {
    "flat": "{SOPInstanceUID}.dcm",
    "study": "{StudyInstanceUID}/{SOPInstanceUID}.dcm",
    "series": "{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm",
    "patient": "{PatientID}/{StudyInstanceUID}/{SeriesInstanceUID}/{SOPInstanceUID}.dcm",
}
"""Templates by name."""

ABSENT: Final = b"_"
"""Stands for a value that is empty, or not there."""

MAX_COMPONENTS: Final = 8
"""Of a path: with the longest names it is still one that the system takes."""

_MARK: Final = b"~"
"""Precedes the digest; no value and no template has it."""

_DIGEST_BYTES: Final = 6

_ROOM: Final = 12
"""Bytes of a name that are kept for `.dup1` and its like."""

_PLAIN_NAME: Final = re.compile(rb"[0-9A-Za-z_^](?:[0-9A-Za-z._^-]*[0-9A-Za-z_^-])?")
_UNSAFE: Final = re.compile(rb"[^0-9A-Za-z._^-]")
_UNSAFE_LITERAL: Final = re.compile(r"[^0-9A-Za-z._^-]")
_FIELD: Final = re.compile(r"\{([^{}/]*)\}")
_TAG: Final = re.compile(r"([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})")

_RESERVED: Final = frozenset(
    (b"CON", b"PRN", b"AUX", b"NUL", b"MANIFEST")
    + tuple(device + b"%d" % number for device in (b"COM", b"LPT") for number in range(1, 10))
)
"""Devices of Windows, whatever follows a dot; and the name of our own manifest."""

_TEXT_VRS: Final = frozenset(("AE", "AS", "CS", "DA", "DS", "DT", "IS", "LO", "PN", "SH", "TM", "UC", "UI"))


@lru_cache(128)  # objects that come after each other are of one series, mostly
def component(literals: tuple[bytes, ...], values: tuple[bytes, ...], file_system: FileSystem) -> bytes:
    """A component of a path: `values` as peers sent them, in turn with the `literals` around them.

    Letters, digits and `._^-` stay.  A name that would say less than the values, or that some file system does not
    take, gets a digest of them: different values never share a name, blanks and NULs around them apart.
    """
    bare = [value.rstrip(UID_PADDING).lstrip(b" ") for value in values]
    shown = [value or ABSENT for value in bare]
    name = _in_turn(literals, shown)
    longest = file_system.longest_name - _ROOM
    if (
        _PLAIN_NAME.fullmatch(name)
        and len(name) <= longest
        and ABSENT not in bare
        and not any(value.find(after[:1]) >= 0 for value, after in zip(bare[:-1], literals[1:], strict=False))
        and name.partition(b".")[0].upper() not in _RESERVED
        and not (file_system.folds_case and any(value != value.upper() for value in bare))
    ):
        return name
    stem = _in_turn(literals[:-1], [_UNSAFE.sub(b"_", value) for value in shown])
    if stem.startswith((b".", b"-")) or stem.partition(b".")[0].upper() in _RESERVED:
        stem = b"_" + stem
    end = _MARK + _digest(bare) + literals[-1]
    return stem[: longest - len(end)] + end


def _in_turn(literals: Iterable[bytes], values: Iterable[bytes]) -> bytes:
    return b"".join(chain.from_iterable(zip_longest(literals, values, fillvalue=b"")))


def _digest(values: Iterable[bytes]) -> bytes:
    from hashlib import blake2b  # most names need none

    lengths_and_values = b"".join(len(value).to_bytes(4, "big") + value for value in values)
    return blake2b(lengths_and_values, digest_size=_DIGEST_BYTES).hexdigest().encode("ascii")


class Part(Value):
    """A component of a template: tags, and the text before, between and after them."""

    literals: tuple[bytes, ...]
    tags: tuple[int, ...]


class Layout(Naming):
    """Folders and names from attributes of each object; `naming` makes it of a template."""

    in_folders = True

    template: str = ""
    parts: tuple[Part, ...] = ()
    suffix: bytes = FILE_SUFFIX

    def name(self, sop_class_uid: bytes, sop_instance_uid: bytes, file_system: FileSystem = EXT4) -> bytes:
        """None yet, that is `path`'s business; StorageError if there will be none, as without folders."""
        super().name(sop_class_uid, sop_instance_uid, file_system)
        return b""

    @property
    def tags(self) -> frozenset[int]:
        """What has to be looked for in the data set."""
        return frozenset(tag for part in self.parts for tag in part.tags) - GIVEN

    def path(self, values: Mapping[int, bytes], file_system: FileSystem) -> bytes:
        """The path of an object below the folder of all, from its values by tag, those that are GIVEN included."""
        find = values.get
        return b"/".join(
            component(part.literals, tuple([find(tag, b"") for tag in part.tags]), file_system) for part in self.parts
        )


def naming(template: str, *, sanitize: bool = False) -> Naming:
    """The naming of a template, or of a preset; ConfigurationError says what is wrong with it."""
    text = PRESETS.get(template, template)
    if text.startswith("/"):
        raise _wrong("names are below the folder of the objects: no / at the beginning")
    parts = tuple(_part(component) for component in text.split("/"))
    if len(parts) > MAX_COMPONENTS:
        raise _wrong(f"more than {MAX_COMPONENTS} folders and a name")
    if not any(SOP_INSTANCE_UID in part.tags for part in parts):
        raise _wrong("nothing tells one object from another: {SOPInstanceUID} has to be in it")
    if parts == (Part((b"", FILE_SUFFIX), (SOP_INSTANCE_UID,)),):
        return Naming(sanitize)
    _, dot, extension = parts[-1].literals[-1].rpartition(b".")
    return Layout(sanitize=sanitize, template=template, parts=parts, suffix=dot + extension)


def _part(text: str) -> Part:
    if not text:
        raise _wrong("a component is empty (nothing between two /, or at the end)")
    pieces = _FIELD.split(text)
    literals, fields = pieces[0::2], pieces[1::2]
    for literal in literals:
        if "{" in literal or "}" in literal:
            raise _wrong(f"{text!r} has a brace without its other half")
        if unsafe := _UNSAFE_LITERAL.search(literal):
            raise _wrong(f"{text!r} has the character {unsafe[0]!r}; letters, digits and ._^- are good names")
    if "" in literals[1:-1]:
        raise _wrong(f"{text!r}: between two fields there has to be something that parts them")
    part = Part(tuple(literal.encode("ascii") for literal in literals), tuple(map(_tag, fields)))
    # What is wrong with a name whatever the values are: `..`, a dot or hyphen first, a dot last.
    zeros = (b"0",) * len(fields)
    if component(part.literals, zeros, FileSystem()) != _in_turn(part.literals, zeros):
        raise _wrong(f"{text!r} is no good name for a file or folder")
    return part


def _tag(field: str) -> int:
    """The tag of a field: a shorthand, a keyword, or `gggg,eeee`."""
    if field in SHORTHANDS:
        return SHORTHANDS[field]
    from fastmove.dictionary import standard  # shorthands do without

    number = _TAG.fullmatch(field)
    tag = int(number[1] + number[2], 16) if number else standard().tag(field)
    if tag is None:
        meant = nearest(field)
        raise _wrong(f"{{{field}}} is no field" + (f"; do you mean {{{meant}}}?" if meant else ""))
    vr = standard().vr(tag) or "UN"
    if vr not in _TEXT_VRS and (vr != "UN" or not tag & 0x10000):
        raise _wrong(f"{{{field}}} is no text: its VR is {vr}")
    if tag not in GIVEN and not 0x00080000 <= tag < 0x7FE00000:
        raise _wrong(f"{{{field}}} is not in a data set")
    return tag


def nearest(field: str) -> str:
    """The keyword or shorthand that was meant; empty if none is like it."""
    from difflib import get_close_matches

    from fastmove.dictionary import standard

    known = {name.lower(): name for name in (*standard().keywords, *SHORTHANDS)}
    near = get_close_matches(field.lower(), known, 1)
    return known[near[0]] if near else ""


def _wrong(message: str) -> ConfigurationError:
    return ConfigurationError("layout", message)
