"""Attribute rules applied to a file in the making: what they change is written anew, all else copied byte for byte.

What an object was before is written down in it, in its Original Attributes Sequence (PS3.3 C.12.1.1.9).
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, NamedTuple

from fastmove._sink import FileSink
from fastmove.errors import DatasetError, StorageError
from fastmove.storage.attribute_rules import (
    ORIGINAL_ATTRIBUTES,
    SPECIFIC_CHARACTER_SET,
    Attribute,
    AttributeRules,
    refused,
)
from fastmove.storage.character_sets import CharacterSet
from fastmove.storage.content import CANNOT_UNDERSTAND
from fastmove.storage.elements import (
    DELIMITER_BYTES,
    IMPLICIT,
    ITEM,
    UNDEFINED,
    Element,
    Elements,
    Encoding,
    encoding_of,
)
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import Received
from fastmove.storage.text_values import TEXT_VRS, objection

MAX_VALUE_BYTES: Final = 0xFFFE
"""Of a value that is looked at or changed: with padding no more than a length of 16 bits can say (PS3.5 7.1.2)."""

_MODIFIED_ATTRIBUTES: Final = 0x04000550
_MODIFICATION_DATETIME: Final = 0x04000562
_MODIFYING_SYSTEM: Final = 0x04000563
_SOURCE_OF_PREVIOUS_VALUES: Final = 0x04000564
_REASON: Final = 0x04000565

_LENGTH_TO_END: Final = 0x00080001
_LENGTH_BYTES: Final = 4

_PADDING: Final = b" \0"
_COPY_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 64 << 10
"""What is no longer is gathered and written together."""

_NOT_SO: Final = frozenset((errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM))
"""How a file system says that it does not copy by itself."""


class Change(NamedTuple):
    """An attribute as it was and as it is, without padding; None: it was not, or is not, there."""

    attribute: Attribute
    before: bytes | None
    after: bytes | None


class _Edit(NamedTuple):
    """What is in the place of some bytes, as (part of) this attribute."""

    at: int
    tag: int
    end: int
    data: bytes

    @property
    def growth(self) -> int:
        return len(self.data) - (self.end - self.at)


class Plan(NamedTuple):
    """What is to be changed in a data set, and how."""

    changes: tuple[Change, ...]
    character_set: CharacterSet
    edits: tuple[_Edit, ...]
    """In the order of their places and tags; none overlap."""


def changed(
    sink: FileSink, received: Received, options: WriteOptions, new_file: Callable[[bytes], FileSink]
) -> tuple[FileSink, Received]:
    """The file to be stored, and what is in it: the same if nothing is changed.  StorageError, OSError.

    The sink is discarded if another takes its place.
    """
    rules = options.rules
    assert rules is not None
    sink.write_head()
    fd, nbytes = sink.file_descriptor, received.nbytes + sink.growth
    offset = os.fstat(fd).st_size - nbytes
    plan = planned(fd, offset, nbytes, received.transfer_syntax, rules)
    if not plan.edits:
        return sink, received
    head = os.pread(fd, offset, 0)
    anew = new_file(head)
    try:
        anew.write_head()
        length = write(fd, offset, nbytes, anew.file_descriptor, len(head), plan.edits)
    except BaseException:
        anew.discard()
        raise
    sink.discard()
    return anew, received._replace(nbytes=length)


def planned(fd: int, offset: int, nbytes: int, transfer_syntax: str, rules: AttributeRules) -> Plan:
    """What rules change in the data set of so many bytes at `offset` of an open file; StorageError, OSError."""
    encoding = encoding_of(transfer_syntax)
    if encoding is None:
        raise StorageError(
            "store.rule_dataset", CANNOT_UNDERSTAND, "attributes are not changed in this transfer syntax"
        )
    try:
        return _planned(Elements(fd, offset, nbytes, encoding), rules)
    except DatasetError as error:
        raise StorageError("store.rule_dataset", CANNOT_UNDERSTAND, str(error)) from error


def _planned(elements: Elements, rules: AttributeRules) -> Plan:
    targets, sources = rules.targets, rules.sources
    groups = {tag >> 16 for tag in (*targets, ORIGINAL_ATTRIBUTES)}
    counts = {group << 16 for group in groups} | {_LENGTH_TO_END}
    places = _places(elements, {*targets, *sources, *counts, SPECIFIC_CHARACTER_SET, ORIGINAL_ATTRIBUTES}, groups)

    known = {**sources, **targets}
    values = {tag: _value(elements, there, known[tag]) for tag, there in places.found.items() if tag in known}
    characters = CharacterSet(_bytes(elements, places.found.get(SPECIFIC_CHARACTER_SET)))
    texts = {tag: _text(values.get(tag, b""), each, characters) for tag, each in sources.items()}
    changes = tuple(_changes(rules.changes(texts), values, characters))
    if not changes:
        return Plan((), characters, ())

    encoding = elements.encoding
    edits = [_edit(each, places, encoding) for each in changes]
    edits += _original_attributes(elements, places, changes, rules)
    edits += [*_counts(elements, places, edits, groups)]
    return Plan(changes, characters, tuple(sorted(edits)))  # those that are put in at one place by their tags


# ---------------------------------------------------------------------- what there is


class _Places(NamedTuple):
    """Where attributes are, and where those that are not there would be."""

    found: dict[int, Element]
    absent: dict[int, int]
    groups: dict[int, int]
    """Where a group ends."""


def _places(elements: Elements, tags: Iterable[int], groups: Iterable[int]) -> _Places:
    """Goes through all of a data set, so that nothing is behind that should be before."""
    places = _Places({}, {}, {})
    wanted = sorted(tags, reverse=True)
    groups = frozenset(groups)
    for element in elements:
        while wanted and wanted[-1] < element.tag:
            places.absent[wanted.pop()] = element.at
        if wanted and wanted[-1] == element.tag:
            places.found[wanted.pop()] = element
        group = element.tag >> 16
        if group in groups:
            places.groups[group] = element.end
    places.absent.update(dict.fromkeys(wanted, elements.nbytes))
    return places


def _bytes(elements: Elements, element: Element | None) -> bytes:
    if element is None or element.undefined:
        return b""
    return elements.read(element.value, min(element.length, MAX_VALUE_BYTES))


def _value(elements: Elements, element: Element, of: Attribute) -> bytes:
    """Its value as it is there, padding included."""
    vr = element.vr.decode("latin-1")
    if element.undefined or (vr and vr not in TEXT_VRS and vr != "UN"):
        raise refused("store.rule_dataset", of, "is no text there")
    if element.length > MAX_VALUE_BYTES:
        raise refused("store.rule_dataset", of, "is longer than rules take")
    return _bytes(elements, element)


def _text(value: bytes, of: Attribute, characters: CharacterSet) -> str:
    try:
        return characters.decode(value, of.vr).strip(" \0")
    except UnicodeError:
        raise refused("store.rule_value", of, "is not in the character set of the object") from None


# ---------------------------------------------------------------------- what there is to be


def _changes(
    wanted: Mapping[Attribute, str | None], values: Mapping[int, bytes], characters: CharacterSet
) -> Iterator[Change]:
    """What differs from what is there; padding is no difference."""
    for of, text in wanted.items():
        present = values.get(of.tag)
        before = None if present is None else present.rstrip(_PADDING)
        after = None if text is None else _encoded(of, text, characters)
        if before != after and (before is not None or after):
            yield Change(of, before, after)


def _encoded(of: Attribute, text: str, characters: CharacterSet) -> bytes:
    if wrong := objection(of.vr, text):
        raise refused("store.rule_value", of, wrong)
    try:
        value = characters.encode(text, of.vr).rstrip(_PADDING)
    except UnicodeError:
        raise refused("store.rule_value", of, "has letters that the object cannot have") from None
    if len(value) > MAX_VALUE_BYTES:
        raise refused("store.rule_value", of, "is longer than rules write")
    return value


def _edit(change: Change, places: _Places, encoding: Encoding) -> _Edit:
    of = change.attribute
    data = b"" if change.after is None else _element(encoding, of.tag, of.vr, change.after)
    if there := places.found.get(of.tag):
        return _Edit(there.at, of.tag, there.end, data)
    at = places.absent[of.tag]
    return _Edit(at, of.tag, at, data)


def _element(encoding: Encoding, tag: int, vr: str, value: bytes) -> bytes:
    if len(value) % 2:
        value += b"\0" if vr == "UI" else b" "
    return encoding.element(tag, vr.encode("latin-1"), value)


def _original_attributes(
    elements: Elements, places: _Places, changes: Iterable[Change], rules: AttributeRules
) -> list[_Edit]:
    """The sequence with one more item (PS3.3 C.12.1.1.9), or a new one."""
    encoding = elements.encoding
    there = places.found.get(ORIGINAL_ATTRIBUTES)
    if there is None:
        at = places.absent[ORIGINAL_ATTRIBUTES]
        item = _item(encoding, elements, places, changes, rules)
        return [_Edit(at, ORIGINAL_ATTRIBUTES, at, encoding.element(ORIGINAL_ATTRIBUTES, b"SQ", item))]
    if there.vr not in (b"", b"SQ", b"UN"):
        raise DatasetError("an Original Attributes Sequence that is no sequence", offset=there.at)
    item = _item(IMPLICIT if there.vr == b"UN" else encoding, elements, places, changes, rules)
    if there.undefined:
        at = there.end - DELIMITER_BYTES
        return [_Edit(at, there.tag, at, item)]
    elements.check_items(there)
    length = there.length + len(item)
    if length >= UNDEFINED:
        raise DatasetError("an Original Attributes Sequence that takes no more", offset=there.at)
    header = encoding.header(there.tag, there.vr, length)
    return [_Edit(there.at, there.tag, there.value, header), _Edit(there.end, there.tag, there.end, item)]


def _item(
    encoding: Encoding, elements: Elements, places: _Places, changes: Iterable[Change], rules: AttributeRules
) -> bytes:
    previous = b""
    for change in changes:
        there = places.found.get(change.attribute.tag)
        if there is not None:  # as it is there: this, too, is in the character set of the object
            vr = there.vr.decode("latin-1") or change.attribute.vr
            previous += _element(encoding, there.tag, vr, _bytes(elements, there))
    content = (
        encoding.element(_MODIFIED_ATTRIBUTES, b"SQ", encoding.element(ITEM, b"", previous))
        + _element(encoding, _MODIFICATION_DATETIME, "DT", rules.modified.encode("ascii"))
        + _element(encoding, _MODIFYING_SYSTEM, "LO", rules.modifying_system.encode("ascii"))
        + _element(encoding, _SOURCE_OF_PREVIOUS_VALUES, "LO", rules.source.encode("ascii"))
        + _element(encoding, _REASON, "CS", rules.reason.encode("ascii"))
    )
    return encoding.element(ITEM, b"", content)


def _counts(elements: Elements, places: _Places, edits: Iterable[_Edit], groups: Iterable[int]) -> Iterator[_Edit]:
    """Lengths of groups (gggg,0000), and of all that follows (0008,0001), which would be wrong otherwise."""
    ends = {group << 16: places.groups[group] for group in groups if group in places.groups}
    ends[_LENGTH_TO_END] = elements.nbytes
    grown = Counter[int]()
    for edit in edits:
        grown[edit.tag >> 16 << 16] += edit.growth
        grown[_LENGTH_TO_END] += edit.growth
    for tag, end in ends.items():
        there = places.found.get(tag)
        if there is None:
            continue
        length = end - there.end + grown[tag]
        if there.length != _LENGTH_BYTES or length > UNDEFINED:
            raise DatasetError("a length of a group, or of all, that cannot be right", offset=there.at)
        data = length.to_bytes(_LENGTH_BYTES, "little" if elements.encoding.order == "<" else "big")
        yield _Edit(there.value, tag, there.end, data)


# ---------------------------------------------------------------------- as it is written


def write(fd: int, offset: int, nbytes: int, to: int, start: int, edits: Iterable[_Edit]) -> int:
    """Write the data set at `offset` with its edits to another file, at `start`; how long it is then.  OSError."""
    at, out = 0, start
    gathered = bytearray()
    for edit in (*edits, _Edit(nbytes, UNDEFINED, nbytes, b"")):
        if edit.at - at <= _SMALL_BYTES:
            gathered += _read(fd, offset + at, edit.at - at)
        else:
            out = _written(to, out, gathered)
            _copy(fd, offset + at, to, out, edit.at - at)
            out += edit.at - at
        gathered += edit.data
        at = edit.end
    return _written(to, out, gathered) - start


def _read(fd: int, at: int, n: int) -> bytes:
    data = os.pread(fd, n, at)
    if len(data) < n:
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    return data


def _written(to: int, at: int, gathered: bytearray) -> int:
    """Where it goes on behind what was gathered, which is written now."""
    with memoryview(gathered) as view:
        done = 0
        while done < len(view):
            done += os.pwrite(to, view[done:], at + done)
    gathered.clear()
    return at + done


def _copy(fd: int, at: int, to: int, start: int, n: int) -> None:
    """Copies so many bytes from file to file: by the file system itself, where it does that."""
    done = 0
    try:
        while done < n and (copied := os.copy_file_range(fd, to, n - done, at + done, start + done)):
            done += copied
    except OSError as error:
        if error.errno not in _NOT_SO:
            raise
    while done < n:
        chunk = bytearray(_read(fd, at + done, min(n - done, _COPY_BYTES)))
        done = _written(to, start + done, chunk) - start
