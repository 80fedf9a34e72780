"""Text in the character sets of data sets: there and back, and what does not go."""

from __future__ import annotations

import pytest
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PersonName

from fastmove.storage.character_sets import CharacterSet

CASES = [
    ("", "Wang^XiaoDong", b"Wang^XiaoDong"),
    ("ISO_IR 100", "Buc^Jérôme", b"Buc^J\xe9r\xf4me"),
    ("ISO_IR 101", "Wałęsa", b"Wa\xb3\xeasa"),
    ("ISO_IR 144", "Люкceмбypг", None),
    ("ISO_IR 126", "Διονυσιος", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2"),
    ("ISO_IR 138", "שרון^דבורה", None),
    ("ISO_IR 127", "قباني^لنزار", None),
    ("ISO_IR 148", "Çavuşoğlu", None),
    ("ISO_IR 203", "Preis €", None),
    ("ISO_IR 166", "นามสกุล", None),
    ("ISO_IR 192", "Wang^XiaoDong=王^小東=", "Wang^XiaoDong=王^小東=".encode()),
    ("GB18030", "Wang^XiaoDong=王^小东=", "Wang^XiaoDong=王^小东=".encode("gb18030")),
    ("GBK", "王^小东", "王^小东".encode("gbk")),
    ("ISO_IR 13", "ﾔﾏﾀﾞ^ﾀﾛｳ", b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3"),
    # PS3.5 H.3.1 and H.3.2
    (
        "\\ISO 2022 IR 87",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
    ),
    (
        "ISO 2022 IR 13\\ISO 2022 IR 87",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
    ),
    # PS3.5 I.2
    (
        "\\ISO 2022 IR 149",
        "Hong^Gildong=洪^吉洞=홍^길동",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
    ),
    # PS3.5 K.2
    (
        "\\ISO 2022 IR 58",
        "Zhang^XiaoDong=张^小东=",
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
    ),
    ("\\ISO 2022 IR 100\\ISO 2022 IR 126", "é^Δ", b"\x1b-A\xe9^\x1b-F\xc4"),
    ("ISO 2022 IR 100\\ISO 2022 IR 126\\ISO 2022 IR 87", "éΔ山é", b"\xe9\x1b-F\xc4\x1b$B;3\x1b(B\xe9"),
    ("\\ISO 2022 IR 87\\ISO 2022 IR 159", "亜丂亜", b"\x1b$B0!\x1b(B\x1b$(D0!\x1b(B\x1b$B0!\x1b(B"),
]


@pytest.mark.parametrize(("term", "text", "value"), CASES, ids=[f"{term} {text}" for term, text, _ in CASES])
def test_text_is_written_as_the_standard_has_it_and_read_back(term: str, text: str, value: bytes | None) -> None:
    characters = CharacterSet(term.encode())
    written = characters.encode(text, "PN")
    assert value is None or written == value
    assert characters.decode(written, "PN") == text


NOT_PYDICOMS = ("ISO_IR 203", "\\ISO 2022 IR 58", "\\ISO 2022 IR 87\\ISO 2022 IR 159")
"""Which pydicom 3.0 does not know, or of which it shows the escape sequences."""


@pytest.mark.parametrize(("term", "text", "_value"), [case for case in CASES if case[0] not in NOT_PYDICOMS])
def test_pydicom_reads_the_same(term: str, text: str, _value: bytes | None) -> None:
    written = CharacterSet(term.encode()).encode(text, "PN")
    assert str(PersonName(written, convert_encodings(term.split("\\"))).decode()) == text.rstrip("=")


@pytest.mark.parametrize(
    ("term", "text"),
    [
        ("", "Jérôme"),
        ("ISO_IR 6", "Jérôme"),
        ("ISO_IR 100", "Wałęsa"),
        ("ISO_IR 100", "山田"),
        ("ISO_IR 13", "山田"),
        ("ISO_IR 13", "¥"),  # where ASCII has the backslash
        ("\\ISO 2022 IR 87", "홍"),
        ("\\ISO 2022 IR 87", "é"),
        ("\\ISO 2022 IR 149", "뷁"),  # has no code of its own
        ("GBK", "뷁"),
        ("ISO_IR 999", "é"),
        ("ISO 2022 IR 100\\ISO_IR 999", "é"),
        ("nonsense", "é"),
    ],
)
def test_letters_that_a_character_set_has_not_are_an_error(term: str, text: str) -> None:
    with pytest.raises(UnicodeError):
        CharacterSet(term.encode()).encode(text, "PN")


@pytest.mark.parametrize(
    ("term", "value"),
    [
        ("", b"J\xe9r\xf4me"),
        ("ISO_IR 192", b"J\xe9r\xf4me"),
        ("\\ISO 2022 IR 87", b"\x1b$B;"),
        ("\\ISO 2022 IR 87", b"\x1b$Zab"),
        ("\\ISO 2022 IR 87", b"\x1b$B\xff\xff"),
        ("\\ISO 2022 IR 149", b"\x1b$)C\xff"),
        ("ISO_IR 999", b"\xe9"),
    ],
)
def test_bytes_that_are_no_text_are_an_error_and_shown_all_the_same(term: str, value: bytes) -> None:
    characters = CharacterSet(term.encode())
    with pytest.raises(UnicodeError):
        characters.decode(value, "LO")
    assert characters.shown(value, "LO").isascii()


def test_ascii_is_in_any_character_set() -> None:
    for term in (b"", b"ISO_IR 999", b"\xff\xff", b"ISO_IR 192", b"\\ISO 2022 IR 87"):
        assert CharacterSet(term).encode("A^B", "PN") == b"A^B"
        assert CharacterSet(term).decode(b"A^B", "PN") == "A^B"


def test_vr_without_letters_of_its_own_has_ascii_only() -> None:
    characters = CharacterSet(b"ISO_IR 192")
    with pytest.raises(UnicodeError):
        characters.encode("Ä", "CS")
    with pytest.raises(UnicodeError):
        characters.decode("Ä".encode(), "CS")
    assert characters.encode("Ä", "LO") == "Ä".encode()


def test_lines_of_a_text_end_what_was_called() -> None:
    characters = CharacterSet(b"\\ISO 2022 IR 87")
    written = characters.encode("山\r\n田", "LT")
    assert written == b"\x1b$B;3\x1b(B\r\n\x1b$BED\x1b(B"
    assert characters.decode(written, "LT") == "山\r\n田"
    assert decode_bytes(written, convert_encodings(["", "ISO 2022 IR 87"]), {0x0A, 0x0D}) == "山\r\n田"


def test_sets_called_in_one_component_are_dismissed_at_its_end() -> None:
    characters = CharacterSet(b"ISO 2022 IR 100\\ISO 2022 IR 126")
    assert characters.decode(b"\x1b-F\xc4^\xc4", "PN") == "Δ^Ä"
