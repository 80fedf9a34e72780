"""Everyday identifiers mean what pydicom says they mean, or are left to it."""

from __future__ import annotations

import struct

from hypothesis import example, given
from hypothesis import strategies as st

from fastmove.dimse import everyday, identifier
from fastmove.dimse.keys import KEYS, Key
from fastmove.errors import DimseError
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN

SYNTAXES = st.sampled_from([EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN])

TROUBLE = [
    b" ",
    b"\\",
    b"\0",
    b"=",
    b"^",
    b"a",
    b"1",
    b"-",
    b"+",
    b".",
    b"~",
    b"\n",
    b"\x1b$B",
    b"\x7f",
    b"\xe4",
    "ü".encode(),
]
ODD = st.lists(st.sampled_from(TROUBLE), max_size=6).map(b"".join)
PLAIN = {
    "IS": st.integers(-999_999_999, 999_999_999).map(lambda number: b"%d" % number),
    "UI": st.from_regex(rb"\A[0-9]{1,3}(\.[0-9]{1,3}){0,4}\Z"),
    "US": st.integers(0, 65535).map(lambda number: number.to_bytes(2, "little")),
}
CHARACTER_SETS = st.sampled_from(
    [b"", b"ISO_IR 6", b"ISO_IR 100", b"ISO_IR 192", b"ISO_IR 13", b"ISO 2022 IR 87", b"x"]
)


def value_of(key: Key) -> st.SearchStrategy[bytes]:
    """Mostly what a value of this VR is, with anything that may go wrong with it."""
    if key.keyword == "SpecificCharacterSet":
        return CHARACTER_SETS
    plain = PLAIN.get(key.vr, st.from_regex(rb"\A[ -\[\]-~]{0,12}\Z"))
    joined = b"" if key.vr == "US" else b"\\"
    return st.one_of(st.lists(plain, max_size=3).map(joined.join), ODD)


@st.composite
def data_sets(draw: st.DrawFn, syntax: str, odd: bool = True) -> bytes:
    """A data set of some of the known keys."""
    keys = draw(st.lists(st.sampled_from(sorted(KEYS.values())), unique=True, max_size=6))
    if not odd or draw(st.integers(0, 9)):
        keys.sort()
    parts = []
    for key in keys:
        value = draw(value_of(key))
        if draw(st.booleans()) and len(value) & 1:
            value += b"\0" if key.vr == "UI" else b" "
        vr = key.vr if not odd or draw(st.integers(0, 9)) else draw(st.sampled_from(["UN", "LO", "OB", "SQ"]))
        head = struct.pack("<HH", *divmod(key.tag, 0x10000))
        if syntax == EXPLICIT_VR_LITTLE_ENDIAN:
            long = vr in everyday.LONG
            length = struct.pack("<2xI" if long else "<H", len(value))
            parts.append(head + vr.encode() + length + value)
        else:
            parts.append(head + struct.pack("<I", len(value)) + value)
    return b"".join(parts)


def by_pydicom(data: bytes, syntax: str) -> dict[str, str] | None:
    """What pydicom reads; None if that is an error."""
    try:
        return identifier.text_values(identifier.decode(data, syntax))
    except DimseError:
        return None


@given(st.data(), SYNTAXES)
def test_data_set_is_read_as_pydicom_reads_it_or_not_at_all(data: st.DataObject, syntax: str) -> None:
    encoded = data.draw(data_sets(syntax))
    assert everyday.read(encoded, syntax) in ({}, by_pydicom(encoded, syntax))


@given(st.data(), SYNTAXES)
def test_data_set_with_a_byte_changed_is_read_as_pydicom_reads_it_or_not_at_all(
    data: st.DataObject, syntax: str
) -> None:
    encoded = bytearray(data.draw(data_sets(syntax).filter(bool)))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] = data.draw(st.integers(0, 255))
    changed = bytes(encoded[: data.draw(st.sampled_from([len(encoded), at + 1]))])
    assert everyday.read(changed, syntax) in ({}, by_pydicom(changed, syntax))


@given(st.binary(max_size=64), SYNTAXES)
@example(b"\x08\x00\x52\x00CS\x41\x41" + bytes(0x4141), IMPLICIT_VR_LITTLE_ENDIAN)
def test_any_bytes_are_read_as_pydicom_reads_them_or_not_at_all(data: bytes, syntax: str) -> None:
    assert everyday.read(data, syntax) in ({}, by_pydicom(data, syntax))


TEXTS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"), max_size=16)
WRITABLE = {
    "IS": st.integers(-999_999_999, 999_999_999).map(str),
    "UI": st.from_regex(r"\A[0-9]{1,3}(\.[0-9]{1,3}){0,4}\Z"),
    "US": st.integers(0, 65535).map(str),
    "LO": st.one_of(TEXTS, st.just("Grüße")),
}


@given(st.data(), SYNTAXES)
def test_texts_are_encoded_as_without_haste(data: st.DataObject, syntax: str) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(KEYS.values())), unique=True, min_size=1, max_size=6))
    values = {key.keyword: data.draw(st.one_of(st.just(""), WRITABLE.get(key.vr, TEXTS))) for key in keys}
    values.pop("SpecificCharacterSet", None)
    expected = identifier.encode(identifier.from_text(values), syntax)
    assert identifier.encoder(values, syntax)(values) == expected


@given(st.data(), SYNTAXES)
def test_what_the_writer_writes_the_reader_reads(data: st.DataObject, syntax: str) -> None:
    keys = data.draw(st.lists(st.sampled_from(sorted(KEYS.values())), unique=True, min_size=1, max_size=6))
    values = {key.keyword: data.draw(PLAIN["UI"]).decode() for key in keys if key.vr == "UI"}
    if values:
        written = everyday.writer(values, syntax)(values)
        assert everyday.read(written, syntax) == values
