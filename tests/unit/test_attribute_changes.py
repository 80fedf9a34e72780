"""Rules applied to data sets: what is changed, what is written down of it, and what is refused."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from typing import Final

import pytest
from pydicom.dataset import Dataset
from tests.encoded import (
    BARE,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HEAD,
    IMPLICIT,
    ITEM_END,
    JPEG,
    LITTLE,
    PIXEL_DATA,
    SEQUENCE_END,
    WRITERS,
    Writer,
    deflate,
    peak_kib,
)
from tests.ruled import NAME, PLANNED, changed, dataset_of, read, rules_of, store

from fastmove.errors import StorageError
from fastmove.storage import attribute_changes, elements
from fastmove.storage.attribute_rules import Missing, Rule, composed, fixed, mapped, removed
from fastmove.storage.options import OnDuplicate, Placing, Reencoding, WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.storage.template import naming

SYNTAXES: Final = (EXPLICIT, IMPLICIT, BIG_ENDIAN)
ORIGINAL: Final = 0x04000561
RULES: Final = (fixed("PatientID", "NEW"), fixed("InstitutionName", "Hospital"), removed("PatientName"))


def writer_of(syntax: str) -> Writer:
    return WRITERS.get(syntax, LITTLE)


def patient(writer: Writer, *more: bytes, character_set: bytes = b"") -> bytes:
    """A data set with a patient, and what follows."""
    head = writer.element(0x00080005, "CS", character_set) if character_set else b""
    name = writer.element(0x00100010, "PN", b"Doe^Jane") + writer.element(0x00100020, "LO", b"OLD ")
    return head + writer.head + name + b"".join(more)


def item_of(dataset: Dataset, number: int = -1) -> Dataset:
    item: Dataset = dataset.OriginalAttributesSequence[number]
    return item


def previous(dataset: Dataset, number: int = -1) -> dict[str, str]:
    (modified,) = item_of(dataset, number).ModifiedAttributesSequence
    return {element.keyword: str(element.value) for element in modified}


def without(dataset: Dataset, *keywords: str) -> Dataset:
    left = Dataset({element.tag: element for element in dataset})
    for keyword in (*keywords, "OriginalAttributesSequence"):
        if keyword in left:
            delattr(left, keyword)
    return left


def refusal(data: bytes, *rules: Rule, syntax: str = EXPLICIT) -> StorageError:
    with pytest.raises(StorageError) as refused:
        changed(data, rules or RULES, syntax)
    assert refused.value.status == 0xC000
    assert all(part not in refused.value.error_comment for part in ("Doe", "OLD", "NEW"))
    return refused.value


# What is changed


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_attributes_are_changed_added_and_removed_and_what_they_were_is_written_down(syntax: str) -> None:
    writer = writer_of(syntax)
    data = patient(writer, writer.element(0x00180050, "DS", b"1.5 "), writer.element(0x7FE00010, "OW", bytes(64)))
    after = read(changed(data, RULES, syntax), syntax)
    assert (after.PatientID, after.InstitutionName, "PatientName" in after) == ("NEW", "Hospital", False)
    assert [element.tag for element in after] == sorted(element.tag for element in after)
    assert without(after, "PatientID", "InstitutionName") == without(read(data, syntax), "PatientID", "PatientName")
    assert previous(after) == {"PatientName": "Doe^Jane", "PatientID": "OLD"}
    item = item_of(after)
    assert item.AttributeModificationDateTime == PLANNED
    assert item.ModifyingSystem == "FASTMOVE"
    assert item.SourceOfPreviousValues == "OLD PACS"
    assert item.ReasonForTheAttributeModification == "COERCE"
    assert len(item) == 5


def test_everything_else_is_byte_for_byte_what_it_was() -> None:
    before = HEAD + LITTLE.element(0x00090010, "LO", b"ABC ") + LITTLE.element(0x00091001, b"zz", b"\1\2")
    odd = LITTLE.open_sequence(0x00181111, LITTLE.open_item() + LITTLE.item(b""), vr="UN")
    after = LITTLE.element(0x00180050, "DS", b"1 ") + odd
    last = LITTLE.element(0x7FE00010, "OW", os.urandom(100_000)) + LITTLE.element(0xFFFCFFFC, "OB", bytes(8))
    made = changed(before + LITTLE.element(0x00100020, "LO", b"OLD ") + after + last, [fixed("PatientID", "NEW!")])
    assert made.startswith(before + LITTLE.element(0x00100020, "LO", b"NEW!") + after)
    assert made.endswith(last)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize(
    "rules",
    [
        [fixed("PatientID", "OLD")],
        [fixed("PatientID", "OLD "), removed("InstitutionName")],
        [fixed("AccessionNumber", "")],
        [mapped("PatientID", ("PatientID",), [(2, "other", ("NEW",))], Missing.KEEP)],
        [composed("AccessionNumber", "{StudyID}", Missing.KEEP)],
        [composed("PatientID", "{PatientID:upper}")],
    ],
    ids=range(6),
)
def test_object_that_rules_do_not_change_is_stored_bit_for_bit(syntax: str, rules: list[Rule]) -> None:
    data = patient(writer_of(syntax))
    assert changed(data, rules, syntax) == data


def test_attribute_that_was_empty_has_an_empty_value_before() -> None:
    after = read(changed(HEAD + LITTLE.element(0x00100020, "LO", b""), [fixed("PatientID", "NEW")]))
    assert previous(after) == {"PatientID": ""}


def test_attributes_that_were_not_there_have_no_value_before() -> None:
    after = read(changed(HEAD, [fixed("PatientID", "NEW")]))
    assert after.PatientID == "NEW"
    assert previous(after) == {}


def test_attribute_is_emptied_and_removed_differently() -> None:
    after = read(changed(patient(LITTLE), [fixed("PatientID", ""), removed("PatientName")]))
    assert after["PatientID"].is_empty
    assert "PatientName" not in after
    assert previous(after) == {"PatientName": "Doe^Jane", "PatientID": "OLD"}


def test_reason_system_and_source_are_those_of_the_rules() -> None:
    made = rules_of(*RULES, reason="CORRECT", source="", modifying_system="MOVER 2")
    item = item_of(read(changed(patient(LITTLE), made)))
    assert item.ReasonForTheAttributeModification == "CORRECT"
    assert item["SourceOfPreviousValues"].is_empty
    assert item.ModifyingSystem == "MOVER 2"


def test_value_of_an_odd_length_is_padded_by_its_vr() -> None:
    data = HEAD + LITTLE.element(0x00200052, "UI", b"1.2.3\0")
    made = changed(data, [fixed("FrameOfReferenceUID", "1.2.345"), fixed("PatientID", "1")])
    assert LITTLE.element(0x00200052, "UI", b"1.2.345\0") in made
    assert LITTLE.element(0x00100020, "LO", b"1 ") in made
    assert len(made) % 2 == 0


def test_attribute_with_another_vr_gets_its_own_and_is_kept_with_the_other_one() -> None:
    data = HEAD + LITTLE.element(0x00100020, "UN", b"OLD ")
    made = changed(data, [composed("PatientID", "{PatientID}-1")])
    assert LITTLE.element(0x00100020, "LO", b"OLD-1 ") in made
    assert LITTLE.element(0x00100020, "UN", b"OLD ") in made


def test_present_value_of_an_odd_length_does_not_make_the_rest_odd() -> None:
    made = changed(HEAD + LITTLE.element(0x00100020, "LO", b"OLD"), [fixed("PatientID", "NEW")])
    assert LITTLE.element(0x00100020, "LO", b"OLD ") in made


def test_attributes_of_items_are_left_alone() -> None:
    inner = LITTLE.sequence(0x00081140, LITTLE.item(LITTLE.element(0x00100020, "LO", b"OLD ")))
    after = read(changed(HEAD + inner + LITTLE.element(0x00100020, "LO", b"OLD "), [fixed("PatientID", "NEW")]))
    assert after.PatientID == "NEW"
    assert after.ReferencedImageSequence[0].PatientID == "OLD"


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_one_map_changes_several_attributes(syntax: str) -> None:
    rule = mapped("PatientID", ("PatientID", "PatientName"), [(2, "OLD", ("77", "Roe^Jane"))])
    after = read(changed(patient(writer_of(syntax)), [rule], syntax), syntax)
    assert (after.PatientID, after.PatientName) == ("77", "Roe^Jane")


# Original Attributes Sequence that is there already (PS3.3 C.12.1.1.9)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("open_items", [False, True])
@pytest.mark.parametrize("items", [0, 2])
def test_items_that_are_there_are_kept_and_the_new_one_is_the_last(
    syntax: str, undefined: bool, open_items: bool, items: int
) -> None:
    writer = writer_of(syntax)
    sequence = writer.open_sequence if undefined else writer.sequence
    item = writer.open_item if open_items else writer.item
    there = b"".join(item(writer.element(0x04000563, "LO", b"FIRST ")) for _ in range(items))
    tail = writer.element(0x7FE00010, "OW", bytes(64))
    made = changed(patient(writer, sequence(ORIGINAL, there), tail), RULES, syntax)
    after = read(made, syntax)
    assert [item.ModifyingSystem for item in after.OriginalAttributesSequence] == ["FIRST"] * items + ["FASTMOVE"]
    assert previous(after) == {"PatientName": "Doe^Jane", "PatientID": "OLD"}
    assert made.endswith(tail)
    assert there in made


def test_change_after_change_has_two_items() -> None:
    once = changed(patient(LITTLE), [fixed("PatientID", "NEW")])
    twice = read(changed(once, [fixed("PatientID", "NEWEST")]))
    assert [previous(twice, number) for number in (0, 1)] == [{"PatientID": "OLD"}, {"PatientID": "NEW"}]


@pytest.mark.parametrize("undefined", [False, True])
def test_sequence_of_vr_un_gets_an_item_in_implicit_vr(undefined: bool) -> None:
    there = BARE.item(BARE.element(0x04000563, "LO", b"FIRST "))
    if undefined:
        sequence = LITTLE.element(ORIGINAL, "UN", there + BARE.element(SEQUENCE_END, "", b""), 0xFFFFFFFF)
    else:
        sequence = LITTLE.element(ORIGINAL, "UN", there)
    after = read(changed(patient(LITTLE, sequence), RULES))
    assert [item.ModifyingSystem for item in after.OriginalAttributesSequence] == ["FIRST", "FASTMOVE"]
    assert previous(after) == {"PatientName": "Doe^Jane", "PatientID": "OLD"}


@pytest.mark.parametrize(
    "sequence",
    [
        LITTLE.element(ORIGINAL, "LO", b"no sequence "),
        LITTLE.sequence(ORIGINAL, b"no item at all.."),
        LITTLE.sequence(ORIGINAL, LITTLE.item(b"", 8)),
        LITTLE.sequence(ORIGINAL, LITTLE.element(ITEM_END, "", b"")),
        LITTLE.sequence(ORIGINAL, LITTLE.item(b"", 0xFFFFFFFF)),
    ],
    ids=range(5),
)
def test_sequence_that_is_none_is_refused(sequence: bytes) -> None:
    assert refusal(patient(LITTLE, sequence, LITTLE.element(0x7FE00010, "OW", b""))).key == "store.rule_dataset"


# Group lengths (retired, PS3.5 7.2)


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_group_lengths_are_right_afterwards_whatever_they_were(syntax: str) -> None:
    writer = writer_of(syntax)

    def count(tag: int) -> bytes:
        return writer.element(tag, "UL", b"\7\0\0\7")

    data = (
        (count(0x00080000) + count(0x00080001) + writer.head)
        + (count(0x00100000) + writer.element(0x00100020, "LO", b"OLD "))
        + (count(0x00180000) + writer.element(0x00180050, "DS", b"1 "))
        + (count(0x04000000) + writer.element(0x04000561, "SQ", b""))
        + writer.element(0x7FE00010, "OW", bytes(10))
    )
    made = changed(data, [fixed("PatientID", "NEWER"), fixed("InstitutionName", "Hospital")], syntax)
    after = read(made, syntax)
    order = "<" if writer.order == "<" else ">"

    def length_of(tag: int) -> int:
        return int(after[tag].value)

    def end_of(tag: int) -> int:
        element = writer.element(tag, "UL", length_of(tag).to_bytes(4, "little" if order == "<" else "big"))
        assert made.count(element) == 1
        return made.index(element) + len(element)

    assert end_of(0x00080000) + length_of(0x00080000) == end_of(0x00100000) - len(count(0x00100000))
    assert end_of(0x00080001) + length_of(0x00080001) == len(made)
    assert end_of(0x00100000) + length_of(0x00100000) == made.index(count(0x00180000))
    assert made[end_of(0x04000000) + length_of(0x04000000) :] == writer.element(0x7FE00010, "OW", bytes(10))


def test_groups_that_end_where_another_begins_are_told_apart() -> None:
    data = HEAD + LITTLE.element(0x00100000, "UL", bytes(4)) + LITTLE.element(0x00100010, "PN", b"Doe ")
    made = changed(data, [fixed("PatientID", "NEW!"), removed("PatientName")])
    assert LITTLE.element(0x00100000, "UL", b"\x0c\0\0\0") + LITTLE.element(0x00100020, "LO", b"NEW!") in made


def test_group_length_of_another_length_is_refused() -> None:
    data = LITTLE.element(0x00080000, "UL", b"12") + patient(LITTLE)
    assert refusal(data).key == "store.rule_dataset"


# Sequences, pixels, transfer syntaxes


@pytest.mark.parametrize("syntax", [*SYNTAXES, JPEG])
def test_sequences_of_any_kind_are_passed_over(syntax: str) -> None:
    writer = writer_of(syntax)
    deep = writer.element(0x00180050, "DS", b"1 ")
    for _ in range(20):
        deep = writer.open_sequence(0x00081140, writer.open_item(deep) + writer.item(deep))[: 1 << 20]
        deep = deep if len(deep) < 60_000 else writer.open_sequence(0x00081140, b"")
    unknown = BARE.open_sequence(0x00081150, BARE.open_item(BARE.element(0x00180050, "", b"1 ")) + BARE.item())
    content = [writer.open_sequence(0x00081140, writer.open_item(deep)), patient(writer)[len(writer.head) :]]
    if writer is LITTLE:  # pydicom takes it for big endian, too
        content.append(writer.element(0x00181111, "UN", unknown[8:], 0xFFFFFFFF))
    if syntax == JPEG:
        fragments = LITTLE.item() + LITTLE.item(os.urandom(1000)) + LITTLE.item(os.urandom(100_000))
        content.append(LITTLE.open_sequence(PIXEL_DATA, fragments, "OB"))
    data = writer.head + b"".join(content)
    made = changed(data, RULES, syntax)
    assert content[0] in made
    assert all(each in made for each in content[2:])
    assert previous(read(made, syntax)) == {"PatientName": "Doe^Jane", "PatientID": "OLD"}


def test_deflated_data_set_is_refused_with_the_reason() -> None:
    error = refusal(deflate(patient(LITTLE)), syntax=DEFLATED)
    assert (error.key, error.error_comment) == (
        "store.rule_dataset",
        "attributes are not changed in this transfer syntax",
    )


def test_unknown_transfer_syntax_is_refused() -> None:
    assert refusal(patient(LITTLE), syntax="1.2.3.4.5").key == "store.rule_dataset"


# Character sets (PS3.3 C.12.1.1.2)

JAPANESE: Final = "Yamada^Tarou=山田^太郎=やまだ^たろう"


@pytest.mark.parametrize(
    ("term", "name", "written"),
    [
        (b"ISO_IR 100", "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
        (b"ISO_IR 192", JAPANESE, JAPANESE.encode()),
        (
            b"\\ISO 2022 IR 87",
            JAPANESE,
            b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        ),
    ],
)
def test_text_is_written_in_the_character_set_of_the_object(term: bytes, name: str, written: bytes) -> None:
    data = patient(LITTLE, character_set=term + b" " * (len(term) % 2))
    made = changed(data, [fixed("PatientName", name)])
    assert LITTLE.element(0x00100010, "PN", written + b" " * (len(written) % 2)) in made
    after = read(made)
    after.decode()
    assert after.PatientName == name
    assert previous(after) == {"PatientName": "Doe^Jane"}


@pytest.mark.parametrize(
    ("term", "name"),
    [
        (b"", "Buc^Jérôme"),
        (b"ISO_IR 100", JAPANESE),
        (b"\\ISO 2022 IR 87 ", "홍^길동"),
        (b"ISO_IR 1000 ", "Jérôme"),
    ],
)
def test_letters_that_the_object_cannot_have_refuse_it(term: bytes, name: str) -> None:
    error = refusal(patient(LITTLE, character_set=term), fixed("PatientName", name))
    assert error.key == "store.rule_value"
    assert "PatientName" in error.error_comment


def test_map_finds_what_is_there_in_any_character_set() -> None:
    rule = mapped("PatientName", ("PatientID",), [(2, "山田^太郎", ("77",)), (3, "Doe^Jérôme", ("78",))])
    name = LITTLE.element(0x00100010, "PN", b"\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B")
    japanese = LITTLE.element(0x00080005, "CS", b"\\ISO 2022 IR 87") + HEAD + name
    assert read(changed(japanese, [rule])).PatientID == "77"
    latin = (
        LITTLE.element(0x00080005, "CS", b"ISO_IR 100") + HEAD + LITTLE.element(0x00100010, "PN", b"Doe^J\xe9r\xf4me")
    )
    assert read(changed(latin, [rule])).PatientID == "78"


def test_value_that_cannot_be_read_refuses_what_goes_by_it_and_nothing_else() -> None:
    data = HEAD + LITTLE.element(0x00100010, "PN", b"Doe^J\xe9r\xf4me") + LITTLE.element(0x00100020, "LO", b"1 ")
    assert refusal(data, composed("PatientID", "{PatientName}")).key == "store.rule_value"
    made = changed(data, [fixed("PatientID", "2"), removed("PatientName")])
    assert LITTLE.element(0x00100010, "PN", b"Doe^J\xe9r\xf4me") in made  # as it was


@pytest.mark.parametrize(
    "rule",
    [
        composed("AccessionNumber", "{PatientID}-and-more-than-16"),
        composed("PatientBirthDate", "{PatientID}"),
        composed("PatientSex", "{PatientID:lower}"),
    ],
)
def test_value_that_is_none_of_its_vr_refuses_the_object(rule: Rule) -> None:
    error = refusal(patient(LITTLE), rule)
    assert error.key == "store.rule_value"
    assert rule.targets[0].keyword in error.error_comment


def test_value_that_is_not_in_the_map_refuses_the_object() -> None:
    error = refusal(patient(LITTLE), mapped("PatientID", ("PatientID",), [(2, "1", ("2",))]))
    assert error.key == "store.rule_unmapped"
    assert error.error_comment == "PatientID is not in the map (PatientID)"


# Hostile data sets


@pytest.mark.parametrize(
    "data",
    [
        HEAD + LITTLE.element(0x00100020, "LO", b"OLD ", 6),
        HEAD + LITTLE.element(0x00100020, "LO", b"OLD ")[:-1],
        HEAD + LITTLE.element(0x00100020, "LO", b"OLD ") + b"\0\0",
        HEAD + LITTLE.element(0x00100020, "LO", b"OLD ") + bytes(64),
        HEAD + LITTLE.element(0x00104000, "LT", b"OLD ", 0xFFFE),
        HEAD + LITTLE.element(0x00104000, "UT", b"OLD ", 0xFFFFFFFE),
        HEAD + LITTLE.element(0x00104000, "UT", b"OLD ", 0xFFFFFFFF),
        HEAD + LITTLE.element(0x00100020, "SQ", b""),
        HEAD + LITTLE.open_sequence(0x00100020, b""),
        HEAD + LITTLE.open_sequence(0x00100020, b"", "UN"),
        HEAD + LITTLE.element(0x00100020, "US", b"\1\2"),
        HEAD + LITTLE.element(0x00100020, "OB", bytes(70_000)),
        HEAD + LITTLE.element(0x00100020, "UT", bytes(70_000)),
        LITTLE.element(0x00100020, "LO", b"OLD ") + HEAD,
        HEAD + LITTLE.element(0x00100020, "LO", b"OLD ") * 2,
        HEAD + LITTLE.element(0x00180050, "DS", b"1 ") + LITTLE.element(0x00100020, "LO", b"OLD "),
        HEAD + LITTLE.element(0x7FE00010, "OB", b"12") + LITTLE.element(0x00100020, "LO", b"OLD "),
        HEAD + LITTLE.element(0x00081140, "SQ", b"", 0xFFFFFFFF),
        HEAD + LITTLE.element(0x00081140, "SQ", LITTLE.item(b"", 0xFFFFFFFF), 0xFFFFFFFF),
        HEAD + LITTLE.open_sequence(0x00081140, LITTLE.item(b"", 1 << 20)),
        HEAD + LITTLE.open_sequence(0x00081140, LITTLE.element(0x00180050, "DS", b"1 ")),
        HEAD + LITTLE.open_sequence(0x00081140, LITTLE.open_item(LITTLE.item())),
        HEAD + LITTLE.open_sequence(0x00081140, LITTLE.open_item(LITTLE.element(0x00180050, "DS", b"", 0xFFFE))),
        HEAD + LITTLE.item(),
        HEAD + LITTLE.element(SEQUENCE_END, "", b""),
        HEAD + LITTLE.element(PIXEL_DATA, "OB", LITTLE.item(b"12"), 0xFFFFFFFF),
        HEAD + LITTLE.open_sequence(PIXEL_DATA, LITTLE.open_item(), "OB"),
        HEAD + LITTLE.element(PIXEL_DATA, "OB", b"12345678" * 2, 0xFFFFFFFF),
        (LITTLE.element(0x00081140, "SQ", b"", 0xFFFFFFFF) + LITTLE.item(b"", 0xFFFFFFFF)) * 1000,
        b"\0",
        b"x" * 1000,
    ],
    ids=range(31),
)
def test_data_set_that_makes_no_sense_is_refused_and_leaves_nothing(data: bytes) -> None:
    assert refusal(data, *RULES, removed("PatientComments")).key == "store.rule_dataset"


def test_data_set_of_endless_elements_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elements, "_MOST_ELEMENTS", 1000)
    items = LITTLE.open_sequence(0x00081140, LITTLE.item() * 1000)
    assert (
        "more elements"
        in refusal(patient(LITTLE) + LITTLE.open_sequence(0x00181111, LITTLE.open_item(items))).error_comment
    )


# In the storage path


def target_of(path: Path, *rules: Rule, **options: object) -> StorageTarget:
    return StorageTarget(path, WriteOptions(rules=rules_of(*(rules or RULES)), checked=False, **options))


@pytest.mark.parametrize("durable", [False, True])
def test_object_that_comes_again_is_the_same(tmp_path: Path, durable: bool) -> None:
    with target_of(tmp_path, durable=durable) as target:
        assert store(target, patient(LITTLE)).placing is Placing.NEW
        assert store(target, patient(LITTLE)).placing is Placing.SAME
        assert store(target, patient(LITTLE, LITTLE.element(0x00180050, "DS", b"1 "))).placing is Placing.BESIDE
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.2.3.4.dcm", "1.2.3.4.dup1.dcm"]


def test_objects_that_differ_in_what_is_removed_alone_differ_in_what_is_written_down_of_it(tmp_path: Path) -> None:
    with target_of(tmp_path, fixed("PatientID", "1"), on_duplicate=OnDuplicate.FAIL) as target:
        store(target, HEAD + LITTLE.element(0x00100020, "LO", b"A "))
        with pytest.raises(StorageError, match="another object"):
            store(target, HEAD + LITTLE.element(0x00100020, "LO", b"B "))


def test_name_is_made_of_the_new_values(tmp_path: Path) -> None:
    layout = naming("{PatientID}/{SOPInstanceUID}.dcm")
    with StorageTarget(tmp_path, WriteOptions(rules=rules_of(*RULES), naming=layout)) as target:
        assert store(target, patient(LITTLE)).name == b"NEW/1.2.3.4.dcm"
        assert read(dataset_of(tmp_path / "NEW" / "1.2.3.4.dcm")).PatientID == "NEW"


def test_what_is_changed_is_written_anew_afterwards(tmp_path: Path) -> None:
    options = WriteOptions(rules=rules_of(*RULES), reencoding=Reencoding(transfer_syntax=BIG_ENDIAN))
    with StorageTarget(tmp_path, options) as target:
        store(target, patient(LITTLE))
    after = read(dataset_of(tmp_path / NAME.decode()), BIG_ENDIAN)
    assert (after.PatientID, previous(after)["PatientID"]) == ("NEW", "OLD")


def test_file_without_file_meta_information_is_changed_as_well(tmp_path: Path) -> None:
    with target_of(tmp_path, file_meta=False) as target:
        store(target, patient(LITTLE))
    assert (tmp_path / NAME.decode()).read_bytes() == changed(patient(LITTLE), RULES)


def test_full_disk_refuses_the_object_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(attribute_changes.os, "pwrite", full)
    with target_of(tmp_path) as target:
        with pytest.raises(StorageError) as refused:
            store(target, patient(LITTLE))
        assert (refused.value.key, refused.value.status) == ("fs.write", 0xA700)
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == []
        assert store(target, patient(LITTLE)).placing is Placing.NEW


@pytest.mark.parametrize("how", ["error", "nothing", "half"])
def test_file_system_that_does_not_copy_by_itself_is_helped(monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    calls = 0
    copy = os.copy_file_range

    def copied(*arguments: int) -> int:
        nonlocal calls
        calls += 1
        if how == "half" and calls == 1:
            return copy(arguments[0], arguments[1], 100_000, *arguments[3:])
        if how == "nothing":
            return 0
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    data = patient(LITTLE, LITTLE.element(0x7FE00010, "OW", os.urandom(5_000_000)))
    expected = changed(data, RULES)
    monkeypatch.setattr(attribute_changes.os, "copy_file_range", copied)
    assert changed(data, RULES) == expected
    assert calls


def test_disk_that_fails_while_it_copies_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(attribute_changes.os, "copy_file_range", failing)
    with pytest.raises(StorageError) as refused:
        changed(patient(LITTLE, LITTLE.element(0x7FE00010, "OW", bytes(100_000))), RULES)
    assert refused.value.status == 0xA700


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("syntax", [*SYNTAXES, JPEG])
def test_dcmdump_reads_it_without_complaint(tmp_path: Path, syntax: str) -> None:
    writer = writer_of(syntax)
    pixels = LITTLE.open_sequence(PIXEL_DATA, LITTLE.item() + LITTLE.item(bytes(100)), "OB")
    tail = pixels if syntax == JPEG else writer.element(PIXEL_DATA, "OW", bytes(100))
    with target_of(tmp_path) as target:
        store(target, patient(writer, tail), syntax)
    found = subprocess.run(["dcmdump", str(tmp_path / NAME.decode())], capture_output=True, text=True, check=True)
    assert not found.stderr
    assert "(0400,0561) SQ" in found.stdout
    assert "(0010,0020) LO [OLD]" in found.stdout
    assert "(0010,0020) LO [NEW]" in found.stdout


@pytest.mark.rss
def test_object_of_300_mb_takes_no_more_memory_than_a_small_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    big = tmp_path / "big"
    head = patient(LITTLE) + LITTLE.element(PIXEL_DATA, "OW", b"", 300_000_000)
    with big.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 300_000_000)
    out = tmp_path / "out"
    for copies in (True, False):
        if not copies:
            monkeypatch.setattr(attribute_changes.os, "copy_file_range", lambda *_: 0)
        before = peak_kib(anew=True)
        with big.open("rb") as file, out.open("w+b") as written:
            size = os.fstat(file.fileno()).st_size
            plan = attribute_changes.planned(file.fileno(), 0, size, EXPLICIT, rules_of(*RULES))
            length = attribute_changes.write(file.fileno(), 0, size, written.fileno(), 0, plan.edits)
            assert os.fstat(written.fileno()).st_size == length > size
        assert peak_kib() - before < 8 << 10
