"""What a data set says of itself as it goes by: refused for what it plainly says, remarked on where it is odd."""

from __future__ import annotations

import itertools
from typing import Final

import pytest
from tests.encoded import (
    BARE,
    BIG,
    BIG_ENDIAN,
    DEFLATED,
    EXPLICIT,
    HEAD,
    IMPLICIT,
    ITEM,
    ITEM_END,
    JPEG,
    LITTLE,
    PIXEL_DATA,
    SEQUENCE_END,
    SOP_CLASS,
    TRAILING_PADDING,
    UNDEFINED,
    WRITERS,
    Writer,
    deflate,
    element,
    item,
    open_item,
    open_sequence,
    peak_kib,
    sequence,
)

from fastmove._codec import REMARKS
from fastmove._content import ContentCheck
from fastmove.limits import LOOKED_AT_BYTES, LOOKED_AT_DEPTH

UID: Final = b"1.2.3.4"
PIXELS: Final = element(PIXEL_DATA, "OW", bytes(1000))
WHOLE: Final = HEAD + element(0x00100010, "PN", b"A^B ") + PIXELS
SEQUENCE: Final = 0x00081140
CLASS_TAG, INSTANCE_TAG = 0x00080016, 0x00080018
META: Final = element(0x00020000, "UL", bytes(4)) + element(0x00020010, "UI", b"1.2\0")
FILE_HEAD: Final = bytes(128) + b"DICM" + META

syntaxes = pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG])

Judged = tuple[str | None, tuple[str, ...]]
"""The refusal, and the remarks."""

GOOD: Final[Judged] = (None, ())
TRUNCATED: Final[Judged] = ("store.truncated", ())


def remarked(*keys: str) -> Judged:
    return None, keys


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def judged(data: bytes, syntax: str = EXPLICIT, *, strict: bool = False, uid: bytes = UID) -> Judged:
    """What becomes of it, which is the same in whatever pieces it comes."""
    check = ContentCheck(syntax, strict=strict)
    found = set()
    for size in (len(data), 1, 3, 7, 1000):
        if size * 100_000 < len(data):
            continue
        refusal, remarks = check.judge(SOP_CLASS, uid, in_pieces(data, size))
        found.add((refusal, tuple(key for bit, key in REMARKS.items() if remarks & bit)))
    (only,) = found
    return only


def writer(syntax: str) -> Writer:
    return WRITERS.get(syntax, LITTLE)


# ---------------------------------------------------------------------- the object of the request


@syntaxes
def test_object_of_the_request_is_well(syntax: str) -> None:
    write = writer(syntax)
    data = write.head + write.sequence(SEQUENCE, write.item(write.head)) + write.element(PIXEL_DATA, "OW", bytes(300))
    assert judged(data, syntax) == GOOD


@syntaxes
@pytest.mark.parametrize(
    ("tag", "refusal"), [(CLASS_TAG, "store.class_mismatch"), (INSTANCE_TAG, "store.uid_mismatch")]
)
@pytest.mark.parametrize("value", [b"1.2.3.5\0", b"1.2.3.44", b"1.2.3.\0\0", b"1" * 66, b"1" * 300])
def test_another_uid_is_refused(syntax: str, tag: int, refusal: str, value: bytes) -> None:
    write = writer(syntax)
    uids = {CLASS_TAG: SOP_CLASS, INSTANCE_TAG: UID + b"\0", tag: value}
    head = b"".join(write.element(each, "UI", uid) for each, uid in uids.items())
    assert judged(head + write.element(PIXEL_DATA, "OW", bytes(300)), syntax)[0] == refusal


@pytest.mark.parametrize("padding", [b"", b"\0", b" ", b"\0\0\0", b" \0 "])
def test_padding_of_a_uid_does_not_count(padding: bytes) -> None:
    data = element(CLASS_TAG, "UI", SOP_CLASS) + element(INSTANCE_TAG, "UI", UID + padding) + PIXELS
    assert judged(data) == GOOD
    assert judged(WHOLE, uid=UID + padding) == GOOD


def test_uids_of_items_are_those_of_others() -> None:
    other = element(CLASS_TAG, "UI", b"1.9\0") + element(INSTANCE_TAG, "UI", b"1.9.9\0")
    before = open_sequence(0x00080006, open_item(other) + item(other)) + sequence(0x00080010, item(other))
    assert judged(before + WHOLE) == GOOD


def test_uids_behind_long_private_elements_are_found() -> None:
    private = element(0x00070011, "OB", bytes(60_000))
    assert judged(private + WHOLE) == GOOD
    assert judged(private + WHOLE, uid=b"1.2.3.5")[0] == "store.uid_mismatch"


def test_uids_out_of_order_are_found() -> None:
    data = element(0x00100010, "PN", b"A^B ") + WHOLE
    assert judged(data) == GOOD
    assert judged(data, uid=b"1.2.3.5")[0] == "store.uid_mismatch"


def test_second_uid_has_to_be_the_same() -> None:
    again = HEAD + element(INSTANCE_TAG, "UI", b"1.2.3.5\0") + PIXELS
    assert judged(again) == GOOD  # not even where it belongs: the walk may be astray
    data = element(CLASS_TAG, "UI", SOP_CLASS) + element(INSTANCE_TAG, "UI", b"1.2.3.5\0")
    assert judged(data + element(INSTANCE_TAG, "UI", UID))[0] == "store.uid_mismatch"


@pytest.mark.parametrize(
    "data",
    [
        element(CLASS_TAG, "UI", SOP_CLASS) + PIXELS,
        element(INSTANCE_TAG, "UI", UID) + PIXELS,
        element(CLASS_TAG, "UI", SOP_CLASS) + element(INSTANCE_TAG, "UI", b"") + PIXELS,
        element(CLASS_TAG, "UI", SOP_CLASS) + element(INSTANCE_TAG, "UI", b"\0\0") + PIXELS,
        element(0x00070011, "OB", bytes(LOOKED_AT_BYTES)) + WHOLE,
    ],
    ids=["no instance", "no class", "empty", "nothing but padding", "behind what is looked at"],
)
def test_missing_uid_is_remarked_on_and_refused_if_strict(data: bytes) -> None:
    assert judged(data) == remarked("store.no_uid_in_ds")
    assert judged(data, strict=True)[0] == "store.no_uid_in_ds"


def test_one_check_judges_one_data_set_after_the_other() -> None:
    check = ContentCheck(EXPLICIT)
    for _ in range(3):
        assert check.judge(SOP_CLASS, b"1.2.3.5", [WHOLE])[0] == "store.uid_mismatch"
        assert check.judge(SOP_CLASS, UID, [WHOLE[:-1]])[0] == "store.truncated"
        assert check.judge(SOP_CLASS, UID, [HEAD, element(SEQUENCE, "SQ", item(), UNDEFINED)])[0] is None
        assert check.judge(SOP_CLASS, UID, [WHOLE]) == (None, 0)


@pytest.mark.parametrize("n", [66, 67, 1000, 65534])
def test_request_whose_uid_is_too_long_wants_one_that_is_so_too(n: int) -> None:
    data = element(CLASS_TAG, "UI", SOP_CLASS) + element(INSTANCE_TAG, "UI", b"1" * n) + PIXELS
    assert judged(data, uid=b"1" * n) == GOOD
    assert judged(WHOLE, uid=b"1" * n)[0] == "store.uid_mismatch"
    assert judged(data)[0] == "store.uid_mismatch"


# ---------------------------------------------------------------------- all of it


@syntaxes
@pytest.mark.parametrize("length", [300, 70_000])
def test_value_that_is_cut_off_is_refused(syntax: str, length: int) -> None:
    write = writer(syntax)
    data = write.head + write.element(PIXEL_DATA, "OW", bytes(length))
    assert [judged(data[:-missing], syntax) for missing in (1, length // 2, length)] == [TRUNCATED] * 3
    assert judged(data + b"\0", syntax) == GOOD


@syntaxes
def test_header_that_is_cut_off_is_refused(syntax: str) -> None:
    write = writer(syntax)
    head, pixels = write.head, write.element(PIXEL_DATA, "OW", b"")
    for n in range(2, len(pixels)):
        assert judged(head + pixels[:n], syntax) == TRUNCATED


@pytest.mark.parametrize("n", range(2, len(HEAD)))
def test_data_set_that_is_cut_off_in_its_first_elements_is_refused_but_at_their_ends(n: int) -> None:
    whole = n in (len(element(CLASS_TAG, "UI", SOP_CLASS)), len(element(CLASS_TAG, "UI", SOP_CLASS)) + 1)
    assert judged(HEAD[:n]) == (remarked("store.no_uid_in_ds") if whole else TRUNCATED)


@pytest.mark.parametrize("length", [0xFFFFFFFE, 0x80000000, 0x7FFFFFFF, 93])
def test_length_beyond_all_measure_is_refused(length: int) -> None:
    for write, syntax in ((LITTLE, EXPLICIT), (BARE, IMPLICIT), (BIG, BIG_ENDIAN)):
        private = write.element(0x00091001, "OB", bytes(92), length)
        assert judged(write.head + private, syntax) == TRUNCATED
        assert judged(private, syntax) == TRUNCATED


def test_item_and_fragment_that_are_cut_off_are_refused() -> None:
    for opened in (sequence, open_sequence):
        data = HEAD + opened(SEQUENCE, item(WHOLE))
        assert judged(data) == GOOD
        assert judged(data[: len(HEAD) + 60]) == TRUNCATED
    fragment = HEAD + element(PIXEL_DATA, "OB", item() + item(bytes(100_000)), UNDEFINED)
    assert judged(fragment, JPEG) == GOOD  # no end delimiter
    assert judged(fragment[:-1], JPEG) == TRUNCATED


def test_more_than_the_last_element_that_is_looked_at_is_not_looked_at() -> None:
    behind = HEAD + element(0x00091001, "OB", bytes(LOOKED_AT_BYTES)) + element(PIXEL_DATA, "OW", b"", 1 << 20)
    assert judged(behind) == GOOD
    data = HEAD + element(0x00091001, "OB", bytes(5 << 20), 6 << 20)
    assert judged(data) == TRUNCATED


def test_filler_behind_the_last_element_is_no_header() -> None:
    assert [judged(WHOLE + bytes(n)) for n in range(8)] == [GOOD] * 8
    assert judged(WHOLE + element(TRAILING_PADDING, "OB", bytes(99))) == GOOD
    assert judged(WHOLE + b"x") == GOOD
    assert judged(WHOLE + b"xy") == TRUNCATED


# ---------------------------------------------------------------------- oddities


@pytest.mark.parametrize("as_sent", [EXPLICIT, IMPLICIT, BIG_ENDIAN])
@pytest.mark.parametrize("agreed", [EXPLICIT, IMPLICIT, BIG_ENDIAN, JPEG])
def test_another_encoding_is_remarked_on_and_followed(as_sent: str, agreed: str) -> None:
    write = writer(as_sent)
    data = write.element(0x00080005, "CS", b"ISO_IR 100") + write.head + write.element(PIXEL_DATA, "OW", bytes(300))
    same = writer(agreed) is write
    assert judged(data, agreed) == (GOOD if same else remarked("store.ts_suspect"))
    assert judged(data, agreed, uid=b"1.2.3.5")[0] == "store.uid_mismatch"
    assert judged(data[:-1], agreed)[0] == "store.truncated"


def test_transfer_syntax_that_nobody_knows_is_followed_without_a_remark() -> None:
    for write in (LITTLE, BARE, BIG):
        assert judged(write.head + write.element(PIXEL_DATA, "OW", bytes(300)), "1.2.3.4.5") == GOOD
    assert judged(bytes(range(255, 100, -1)), "1.2.3.4.5") == remarked("store.no_uid_in_ds")


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
def test_group_2_is_remarked_on_and_passed(syntax: str) -> None:
    write = writer(syntax)
    whole = write.head + write.element(PIXEL_DATA, "OW", bytes(300))
    own = write.element(0x00020000, "UL", bytes(4)) + write.element(0x00020010, "UI", b"1.2\0")
    for meta in (own, META):
        assert judged(meta + whole, syntax) == remarked("store.meta_in_ds")
        assert judged(meta + whole, syntax, uid=b"1.2.3.5")[0] == "store.uid_mismatch"
        assert judged(meta + whole[:-1], syntax)[0] == "store.truncated"


@pytest.mark.parametrize(
    "preamble", [bytes(128), b"II*\0" + bytes(124), b"MZ" + b"\x90" * 126, b"\x7fELF" + bytes(124)]
)
def test_file_in_a_data_set_is_remarked_on_and_passed(preamble: bytes) -> None:
    data = preamble + FILE_HEAD[128:] + WHOLE
    assert judged(data) == remarked("store.part10_in_ds")
    assert judged(data, uid=b"1.2.3.5")[0] == "store.uid_mismatch"


@pytest.mark.parametrize(
    "data", [bytes(8), b"rubbish" * 2, bytes(131), bytes(500), bytes(128) + b"DICO" + WHOLE, b"GIF89a" * 50]
)
def test_what_is_no_data_set_is_not_refused(data: bytes) -> None:
    refusal, remarks = judged(data)
    assert refusal is None
    assert "store.no_uid_in_ds" in remarks


@pytest.mark.parametrize(
    "data",
    [
        HEAD + element(ITEM, "", b""),
        HEAD + element(ITEM_END, "", b"") + PIXELS,
        HEAD + element(SEQUENCE_END, "", b"") + PIXELS,
        HEAD + element(SEQUENCE, "SQ", item(HEAD), UNDEFINED),
        HEAD + element(SEQUENCE, "SQ", item(HEAD), UNDEFINED) + PIXELS,
        HEAD + element(SEQUENCE, "SQ", element(ITEM_END, "", b""), UNDEFINED) + PIXELS,
        HEAD + element(SEQUENCE, "SQ", item(HEAD, UNDEFINED), UNDEFINED),
        HEAD + open_sequence(SEQUENCE, item(HEAD + element(SEQUENCE_END, "", b""), UNDEFINED)),
    ],
    ids=[
        "item of nothing",
        "end of no item",
        "end of no sequence",
        "no end of a sequence",
        "element in a sequence",
        "end of an item in a sequence",
        "no end of an item",
        "end of a sequence in an item",
    ],
)
def test_broken_structure_is_remarked_on(data: bytes) -> None:
    assert judged(data) == remarked("store.structure")


def test_encapsulated_pixels_may_end_without_a_delimiter() -> None:
    fragments = element(PIXEL_DATA, "OB", item(b"\1\0\0\0") + item(b"abcd"), UNDEFINED)
    assert judged(HEAD + fragments, JPEG) == GOOD


def test_unknown_vr_takes_the_weight_from_what_follows() -> None:
    for vr in (b"ZZ", b"\0\0", b"??"):
        odd = HEAD + element(0x00100010, vr, b"abcd")
        assert judged(odd + PIXELS) == GOOD
        assert judged(odd + PIXELS[:-1]) == remarked("store.structure")
        assert judged(element(0x00080005, vr, b"abcd") + WHOLE) == GOOD


def test_sequences_in_un_are_in_implicit_vr() -> None:
    items = BARE.open_item(BARE.element(0x00100020, "LO", b"abcd")) + BARE.element(SEQUENCE_END, "", b"")
    for write, syntax in ((LITTLE, EXPLICIT), (BIG, BIG_ENDIAN)):
        foreign = write.element(0x00091010, "UN", items, UNDEFINED)
        data = write.head + foreign + write.element(PIXEL_DATA, "OW", bytes(300))
        assert judged(data, syntax) == GOOD
        assert judged(data[:-1], syntax) == TRUNCATED


@pytest.mark.parametrize(("depth", "keys"), [(LOOKED_AT_DEPTH, ()), (LOOKED_AT_DEPTH + 1, ("store.nesting",))])
def test_deep_nesting_is_remarked_on(depth: int, keys: tuple[str, ...]) -> None:
    nested = b""
    for _ in range(depth):
        nested = open_sequence(SEQUENCE, open_item(nested))
    assert judged(HEAD + nested + PIXELS) == remarked(*keys)


# ---------------------------------------------------------------------- deflated


def test_deflated_data_set_is_inflated() -> None:
    assert judged(deflate(WHOLE), DEFLATED) == GOOD
    assert judged(deflate(WHOLE) + b"\0", DEFLATED) == GOOD
    assert judged(deflate(WHOLE), DEFLATED, uid=b"1.2.3.5")[0] == "store.uid_mismatch"
    assert judged(deflate(WHOLE[:-1]), DEFLATED) == TRUNCATED


@pytest.mark.parametrize(
    ("data", "keys"),
    [
        (deflate(WHOLE)[:-3], ("store.deflate",)),
        (b"\xff" * 300, ("store.no_uid_in_ds", "store.deflate")),
        (WHOLE, ("store.no_uid_in_ds", "store.deflate")),
    ],
    ids=["cut off", "rubbish", "not deflated"],
)
def test_what_cannot_be_inflated_is_remarked_on_and_refused_if_strict(data: bytes, keys: tuple[str, ...]) -> None:
    assert judged(data, DEFLATED) == remarked(*keys)
    assert judged(data, DEFLATED, strict=True)[0] == "store.deflate"


@pytest.mark.parametrize("length", [LOOKED_AT_BYTES - len(HEAD) - 12, LOOKED_AT_BYTES, 1 << 20])
def test_deflated_data_set_is_not_inflated_further_than_it_is_looked_at(length: int) -> None:
    data = deflate(HEAD + element(PIXEL_DATA, "OB", bytes(length)))
    assert judged(data, DEFLATED, strict=True) == GOOD
    assert judged(deflate(HEAD + element(0x00091001, "OB", bytes(length), 2 << 20)), DEFLATED) == GOOD


def test_stream_of_empty_blocks_is_given_up() -> None:
    empty = b"\0\0\0\xff\xff"  # a stored block of no bytes that is not the last
    assert judged(empty * 50_000, DEFLATED, strict=True)[0] == "store.no_uid_in_ds"


# ---------------------------------------------------------------------- length


def test_data_set_that_is_too_long_is_refused_as_soon_as_it_is() -> None:
    check = ContentCheck(EXPLICIT, max_bytes=len(WHOLE))
    assert check.judge(SOP_CLASS, UID, in_pieces(WHOLE, 100)) == (None, 0)
    asked = iter(in_pieces(WHOLE + bytes(10_000), 100))
    assert check.judge(SOP_CLASS, UID, asked)[0] == "store.too_big"
    assert next(asked, None) is not None


def test_O16_lengths_have_64_bits() -> None:
    """5 GiB of pixels, and 16 GiB where 8 GiB are allowed."""
    mebibyte = bytes(1 << 20)
    data = [HEAD + element(PIXEL_DATA, "OB", b"", UNDEFINED), *itertools.repeat(mebibyte, 5 << 10)]
    assert ContentCheck(JPEG, max_bytes=6 << 30).judge(SOP_CLASS, UID, data)[0] is None
    long = itertools.chain([HEAD + element(PIXEL_DATA, "OB", b"", 0xFFFFFFFE)], itertools.repeat(mebibyte, 4 << 10))
    assert ContentCheck(EXPLICIT).judge(SOP_CLASS, UID, long) == (None, 0)
    short = itertools.chain([HEAD + element(PIXEL_DATA, "OB", b"", 0xFFFFFFFE)], itertools.repeat(mebibyte, 4095))
    assert ContentCheck(EXPLICIT).judge(SOP_CLASS, UID, short)[0] == "store.truncated"
    too_long = itertools.chain([HEAD], itertools.repeat(mebibyte, 16 << 10))
    assert ContentCheck(EXPLICIT, max_bytes=8 << 30).judge(SOP_CLASS, UID, too_long)[0] == "store.too_big"
    assert len(list(too_long)) == 8 << 10, "refused at the first byte too many"


def test_looking_costs_no_memory() -> None:
    bomb = deflate(HEAD + element(PIXEL_DATA, "OB", bytes(64 << 20)))
    check = ContentCheck(DEFLATED)
    check.judge(SOP_CLASS, UID, [deflate(WHOLE)])
    before = peak_kib(anew=True)
    assert check.judge(SOP_CLASS, UID, in_pieces(bomb, 16_000)) == (None, 0)
    assert peak_kib() - before < 1024
