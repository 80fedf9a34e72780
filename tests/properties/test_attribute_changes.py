"""Whatever the data set and the rules: what is changed is what they say, all else stays, and what was is kept."""

from __future__ import annotations

import re
from tempfile import TemporaryFile
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset

from fastmove.errors import StorageError
from fastmove.storage.attribute_rules import Fixed, Missing, Rule, composed, fixed, mapped, removed
from fastmove.storage.character_sets import CharacterSet
from fastmove.storage.elements import Elements, encoding_of
from fastmove.storage.text_values import objection
from tests.encoded import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT, JPEG, LITTLE, WRITERS, Chance, Writer
from tests.ruled import PLANNED, changed, read, rules_of

native = st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN))
any_syntax = st.sampled_from((EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG, DEFLATED))
seeds = st.integers(0, 1 << 32)

TARGETS: Final = ("AccessionNumber", "InstitutionName", "PatientID", "PatientName", "PatientComments", "StudyID")
TAGS: Final = {"AccessionNumber": 0x00080050, "InstitutionName": 0x00080080, "PatientName": 0x00100010} | {
    "PatientID": 0x00100020,
    "PatientComments": 0x00104000,
    "StudyID": 0x00200010,
}
VRS: Final = {"AccessionNumber": "SH", "InstitutionName": "LO", "PatientName": "PN"} | {
    "PatientID": "LO",
    "PatientComments": "LT",
    "StudyID": "SH",
}
TERMS: Final = ("", "ISO_IR 100", "ISO_IR 192", "\\ISO 2022 IR 87", "ISO 2022 IR 13\\ISO 2022 IR 87", "GB18030")

words = st.text("AZaz019 .-éß山ﾔやД", max_size=16).map(str.strip)
present = st.dictionaries(st.sampled_from(TARGETS), words)
new = st.dictionaries(st.sampled_from(TARGETS), st.none() | words, min_size=1)


def dataset(values: dict[str, str], term: str, writer: Writer, group_lengths: bool, tail: bytes) -> bytes | None:
    """A data set with these values, none if its character set does not have them."""
    characters = CharacterSet(term.encode())
    elements = {0x00080005: ("CS", term.encode())} if term else {}
    for keyword, text in values.items():
        try:
            elements[TAGS[keyword]] = VRS[keyword], characters.encode(text, VRS[keyword])
        except UnicodeError:
            return None
    if group_lengths:
        elements |= {group << 16: ("UL", bytes(4)) for group in {0x0008, *(tag >> 16 for tag in elements)}}
    written = {tag: writer.element(tag, vr, value + b" " * (len(value) % 2)) for tag, (vr, value) in elements.items()}
    written[0x00080016] = writer.head
    return b"".join(written[tag] for tag in sorted(written)) + tail


def group_lengths_that_count(data: bytes, syntax: str) -> dict[int, int]:
    """What the length of each group that rules may change should be."""
    encoding = encoding_of(syntax)
    assert encoding is not None
    with TemporaryFile(buffering=0) as file:
        file.write(data)
        found = list(Elements(file.fileno(), 0, len(data), encoding))
    groups = {each.tag >> 16 << 16 for each in found if each.tag >> 16 in {tag >> 16 for tag in TAGS.values()}}
    return {
        group: sum(each.end - each.at for each in found if each.tag >> 16 << 16 == group and each.tag != group)
        for group in groups
    }


def texts(found: Dataset) -> dict[str, str]:
    found.decode()
    return {element.keyword: str(element.value or "") for element in found if element.keyword in TARGETS}


@pytest.mark.filterwarnings("ignore:The value length")  # pydicom counts bytes, where PS3.5 6.2 counts characters
@settings(max_examples=300, deadline=None)
@given(present, new, st.sampled_from(TERMS), native, st.booleans(), st.integers(0, 3))
def test_result_says_what_the_rules_say_and_what_was(
    before: dict[str, str], wanted: dict[str, str | None], term: str, syntax: str, group_lengths: bool, items: int
) -> None:
    writer = WRITERS.get(syntax, LITTLE)
    earlier = b"".join(writer.open_item(writer.element(0x04000563, "LO", b"EARLIER ")) for _ in range(items))
    tail = writer.open_sequence(0x00081140, b"")[:0] + writer.element(0x00280010, "US", b"\1\1")
    tail += writer.open_sequence(0x04000561, earlier) if items else b""
    tail += writer.element(0x7FE00010, "OW", bytes(30))
    data = dataset(before, term, writer, group_lengths, tail)
    if data is None:
        return
    rules: list[Rule] = [removed(name) if text is None else fixed(name, text) for name, text in wanted.items()]
    characters = CharacterSet(term.encode())
    try:
        for name, text in wanted.items():
            characters.encode(text or "", VRS[name])
    except UnicodeError:
        try:
            changed(data, rules, syntax)
        except StorageError as error:
            assert error.key == "store.rule_value"
            return
        raise AssertionError("letters that the character set does not have were written") from None
    made = changed(data, rules, syntax)
    assert made == changed(data, rules, syntax)
    after = read(made, syntax)
    expected = dict(before)
    for name, text in wanted.items():
        if text or name in before:
            expected[name] = text or ""
        if text is None:
            expected.pop(name, None)
    differing = {name for name in {*before, *expected} if before.get(name) != expected.get(name)}
    if not differing:
        assert made == data
        return
    sequence = after.OriginalAttributesSequence
    assert [item.ModifyingSystem for item in sequence] == ["EARLIER"] * items + ["FASTMOVE"]
    (previous,) = sequence[-1].ModifiedAttributesSequence
    assert texts(previous) == {name: before[name] for name in differing if name in before}
    assert len(previous) == len(texts(previous))
    assert sequence[-1].AttributeModificationDateTime == PLANNED
    assert texts(after) == expected
    tags = [element.tag for element in after]
    assert tags == sorted(tags)
    touched, right = {TAGS[name] >> 16 for name in wanted}, group_lengths_that_count(made, syntax)
    for element in after:
        if element.tag.element == 0 and element.tag.group in touched:
            assert element.value == right[element.tag.group << 16]
    assert changed(made, rules, syntax) == made  # what is as it should be is left alone


@settings(max_examples=300, deadline=None)
@given(seeds, any_syntax, st.booleans())
def test_any_data_set_is_changed_or_refused_and_never_anything_else(seed: int, syntax: str, broken: bool) -> None:
    data = Chance(seed, syntax, broken=broken, tame=not broken).dataset()
    rules = [fixed("PatientID", "NEW"), removed("StudyDate"), composed("StudyID", "{StudyTime}", Missing.KEEP)]
    try:
        made = changed(data, rules, syntax)
    except StorageError as error:
        assert error.status == 0xC000
        assert error.key in ("store.rule_dataset", "store.rule_value")
        return
    assert made != data
    assert changed(made, rules, syntax) == made


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), any_syntax)
def test_any_bytes_are_changed_or_refused(data: bytes, syntax: str) -> None:
    try:
        changed(data + bytes(len(data) % 2), [fixed("PatientID", "NEW")], syntax)
    except StorageError as error:
        assert error.status in (0xC000, 0xA700)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.sampled_from(("LO", "PN", "LT", "SH", "UC")), st.sampled_from(TERMS))
def test_text_that_is_written_is_read_back_or_refused(text: str, vr: str, term: str) -> None:
    characters = CharacterSet(term.encode())
    if objection(vr, text):
        return
    try:
        written = characters.encode(text, vr)
    except UnicodeError:
        return
    assert characters.decode(written, vr) == text
    assert b"?" not in written or "?" in text or re.search(rb"\x1b\$", written)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(words.filter(bool), words, min_size=1), words, st.sampled_from(Missing))
def test_map_says_what_its_rows_say(rows: dict[str, str], key: str, missing: Missing) -> None:
    rule = mapped("PatientID", ("PatientID",), [(n, old, (new,)) for n, (old, new) in enumerate(rows.items())], missing)
    try:
        found = {of.keyword: text for of, text in rules_of(rule).changes({0x00100020: key}).items()}
    except StorageError:
        assert missing is Missing.REFUSE
        assert not rows.get(key)
        return
    expected = rows.get(key) or (None if missing is Missing.KEEP else "")
    assert found.get("PatientID") == expected
    assert Fixed(rule.key, expected).targets == rule.targets
