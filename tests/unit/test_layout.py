from __future__ import annotations

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastmove.errors import StorageError
from fastmove.limits import UID_BYTES
from fastmove.storage.layout import FILE_SUFFIX, file_name

CHARACTERS = "store.uid_chars"
LENGTH = "store.uid_length"
EMPTY = "store.uid_empty"

REFUSED = {
    # a way out of the directory
    b"../../etc/x": CHARACTERS,
    b"..": CHARACTERS,
    b".": CHARACTERS,
    b"...": CHARACTERS,
    b"/abs": CHARACTERS,
    b"a/b": CHARACTERS,
    b"1.2/../3": CHARACTERS,
    b"\\\\srv\\x": CHARACTERS,
    b"C:x": CHARACTERS,
    # a NUL that ends the name early; the service trims those at the end
    b"1.2\0../x": CHARACTERS,
    b"1.2\0": CHARACTERS,
    b"1.2 ": CHARACTERS,
    # too long
    b"1" * 65: LENGTH,
    b"1" * 255: LENGTH,
    b"1" * 65534: LENGTH,
    b"." * 65: LENGTH,
    # nothing
    b"": EMPTY,
    # what a terminal, a log or a format would take otherwise
    "1.2.ä".encode(): CHARACTERS,
    b"1.2.\x80\xff": CHARACTERS,
    b"1.2\n": CHARACTERS,
    b"\n1.2": CHARACTERS,
    b"1.2\x1b[2J": CHARACTERS,
    b"%s": CHARACTERS,
    b"1.2%n": CHARACTERS,
    # options, hidden files, our own temporary files
    b"-rf": CHARACTERS,
    b".hidden": CHARACTERS,
    b".fm-1-1.part": CHARACTERS,
    b".1.2": CHARACTERS,
}

TAKEN = [
    b"1",
    b"0",
    b"1..2",
    b"01.2",
    b"1.2.",
    b"1.2-3_4",
    b"abc",
    b"_x",
    b"CON",
    b"nul.dcm",
    b"1" * 64,
    b"A.fm-1.part",
]


@pytest.mark.parametrize(("uid", "key"), REFUSED.items(), ids=lambda value: ascii(value)[:24])
def test_name_that_is_no_safe_name_is_refused(uid: bytes, key: str) -> None:
    with pytest.raises(StorageError) as caught:
        file_name(uid)
    assert (caught.value.key, caught.value.status) == (key, 0x0117)
    assert 0 < len(caught.value.error_comment) <= 64


@pytest.mark.parametrize("uid", TAKEN)
def test_name_that_pacs_really_send_is_taken_as_it_is(uid: bytes) -> None:
    assert file_name(uid) == uid + b".dcm"


@pytest.mark.parametrize("uid", ["1.2.840.10008.5.1.4.1.1.2", "1.2.826.0.1.3680043.10.9999.1.1.1"])
def test_uid_of_the_standard_is_a_name(uid: str) -> None:
    assert file_name(uid.encode()) == f"{uid}.dcm".encode()


def name_of(uid: bytes) -> bytes | None:
    try:
        return file_name(uid)
    except StorageError:
        return None


def check(uids: list[bytes]) -> int:
    """No name of these leaves the directory, hides, reads as an option, or is that of another; how many there are."""
    names: dict[bytes, bytes] = {}
    for uid in uids:
        name = name_of(uid)
        if name is None:
            continue
        assert re.fullmatch(rb"[0-9A-Za-z_][0-9A-Za-z._-]*", name), uid
        assert not name.startswith((b".", b"-"))
        assert name.endswith(FILE_SUFFIX)
        assert len(name) <= UID_BYTES + len(FILE_SUFFIX)
        assert names.setdefault(name, uid) == uid
    return len(names)


def test_20000_random_names_are_safe_or_refused() -> None:
    chance = random.Random(20240229)
    alphabets = (
        bytes(range(256)),
        b"0123456789.",
        b"./\\-\0\n .:%1a",
        b"0123456789.ABCxyz-_" * 4 + bytes(range(0, 256, 5)),
    )
    uids = [bytes(chance.choices(alphabets[i % 4], k=chance.choice((1, 2, 3, 9, 30, 64, 65)))) for i in range(20_000)]
    assert check(uids) > 3000


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=70), st.text("01./-_a", max_size=70).map(str.encode)), max_size=30))
def test_any_names_are_safe_or_refused(uids: list[bytes]) -> None:
    check(uids)


@given(st.from_regex(rb"\A[0-9A-Za-z_][0-9A-Za-z._-]{0,63}\Z"))
def test_whatever_is_safe_is_taken(uid: bytes) -> None:
    assert file_name(uid) == uid + FILE_SUFFIX
