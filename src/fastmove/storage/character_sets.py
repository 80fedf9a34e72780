"""Text and the bytes that stand for it in a data set, by its Specific Character Set (PS3.3 C.12.1.1.2, PS3.5 6.1)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from fastmove.storage.text_values import NAME, TEXT_VRS

ESCAPE: Final = b"\x1b"
_ASCII: Final = ESCAPE + b"(B"
_ROMAJI: Final = ESCAPE + b"(J"
_KATAKANA: Final = ESCAPE + b")I"


class _Set(NamedTuple):
    """Characters that are called by an escape sequence."""

    escape: bytes
    codec: str
    nbytes: int = 1
    """Of each character."""

    @property
    def in_g0(self) -> bool:
        """Its bytes are those of ASCII, too, and what follows is not in ASCII until that is called again."""
        return self.escape[1:3] in (b"$B", b"$(")


_WHOLE: Final = {"ISO_IR 192": "utf-8", "GB18030": "gb18030", "GBK": "gbk"}
"""Character sets without code extensions that have everything in them, ASCII included."""

_SETS: Final[dict[str, _Set | None]] = {
    "6": None,
    "100": _Set(ESCAPE + b"-A", "iso8859_1"),
    "101": _Set(ESCAPE + b"-B", "iso8859_2"),
    "109": _Set(ESCAPE + b"-C", "iso8859_3"),
    "110": _Set(ESCAPE + b"-D", "iso8859_4"),
    "144": _Set(ESCAPE + b"-L", "iso8859_5"),
    "127": _Set(ESCAPE + b"-G", "iso8859_6"),
    "126": _Set(ESCAPE + b"-F", "iso8859_7"),
    "138": _Set(ESCAPE + b"-H", "iso8859_8"),
    "148": _Set(ESCAPE + b"-M", "iso8859_9"),
    "203": _Set(ESCAPE + b"-b", "iso8859_15"),
    "166": _Set(ESCAPE + b"-T", "iso8859_11"),
    "13": _Set(_KATAKANA, "shift_jis"),
    "87": _Set(ESCAPE + b"$B", "iso2022_jp", 2),
    "159": _Set(ESCAPE + b"$(D", "iso2022_jp_1", 2),
    "149": _Set(ESCAPE + b"$)C", "euc_kr", 2),
    "58": _Set(ESCAPE + b"$)A", "gb2312", 2),
}
"""By number of registration: `ISO_IR 100`, `ISO 2022 IR 100`."""

_BY_ESCAPE: Final = {each.escape: each for each in _SETS.values() if each is not None}
_TERM: Final = re.compile(r"ISO(?:_IR| 2022 IR) (\d+)")
_CALL: Final = re.compile(rb"(\x1b(?:\$\([@-~]|\$\)[@-~]|\$[@-~]|[()\-][@-~]))")


def _delimiters(vr: str) -> str:
    """Before these the sets that were called are dismissed (PS3.5 6.1.2.5.3)."""
    return "\\^=" if vr == NAME else "\t\n\f\r" if TEXT_VRS[vr].one_value else "\\"


class CharacterSet:
    """The character set of a data set, from the value of its (0008,0005); empty if it has none."""

    def __init__(self, value: bytes = b"") -> None:
        terms = [term.strip(" \0") for term in value.decode("latin-1").split("\\")]
        numbers = [_TERM.fullmatch(term or "ISO_IR 6") for term in terms]
        known = [number[1] for number in numbers if number is not None and number[1] in _SETS]
        self._codec = _WHOLE.get(terms[0])
        # Of what is not known nothing is sure but that it has ASCII.
        sets = [_SETS[number] for number in known] if len(known) == len(terms) else [None]
        self._sets = [each for each in sets if each is not None]
        self._first = sets[0] if sets[0] is not None and not sets[0].in_g0 else None
        self._g0 = _ROMAJI if self._first is not None and self._first.escape == _KATAKANA else _ASCII

    def decode(self, value: bytes, vr: str) -> str:
        """The text of a value; UnicodeError if it is none in this character set."""
        if value.isascii() and ESCAPE not in value:
            return value.decode("ascii")
        if not TEXT_VRS[vr].own_characters:
            return value.decode("ascii")
        if self._codec is not None:
            return value.decode(self._codec)
        before, *called = _CALL.split(value)
        text = self._fragment(before, self._first, vr)
        for escape, fragment in zip(called[::2], called[1::2], strict=True):
            called_set = _BY_ESCAPE.get(escape)
            if called_set is None and escape not in (_ASCII, _ROMAJI):
                raise UnicodeError("an escape sequence of no character set that is known")
            if called_set is not None and called_set.in_g0:
                text += (escape + fragment).decode(called_set.codec)
            else:
                text += self._fragment(fragment, called_set or self._first, vr)
        return text

    def shown(self, value: bytes, vr: str) -> str:
        """The text of a value for people, also if it is none."""
        try:
            return self.decode(value, vr)
        except UnicodeError:
            return value.decode("ascii", "backslashreplace")

    def _fragment(self, data: bytes, called: _Set | None, vr: str) -> str:
        """What is in ASCII and one other set, up to a delimiter, and in the first one from there."""
        delimiters = _delimiters(vr).encode("ascii")
        end = next((at for at, byte in enumerate(data) if byte in delimiters), len(data))
        first = "ascii" if self._first is None else self._first.codec
        return data[:end].decode("ascii" if called is None else called.codec) + data[end:].decode(first)

    def encode(self, text: str, vr: str) -> bytes:
        """The bytes of a text, without padding; UnicodeError if this character set does not have all of it."""
        if text.isascii() or not TEXT_VRS[vr].own_characters:
            return text.encode("ascii")
        if self._codec is not None:
            return text.encode(self._codec)
        parts = re.split(f"([{re.escape(_delimiters(vr))}])", text)
        value = b"".join(
            part.encode("ascii") if number % 2 else self._segment(part) for number, part in enumerate(parts)
        )
        if self.decode(value, vr) != text:
            raise UnicodeError("a character that would be read as another one")
        return value

    def _segment(self, text: str) -> bytes:
        """What is between delimiters: sets are called as they are needed, and dismissed at the end."""
        out = bytearray()
        called, in_g0 = self._first, False
        for character in text:
            needed, code = self._found(character)
            if in_g0 and needed is not called:
                out += self._g0
                in_g0, called = False, self._first
            if needed is not None and needed is not called:
                out += needed.escape
                called, in_g0 = needed, needed.in_g0
            out += code
        if in_g0:
            out += self._g0
        elif called is not self._first and self._first is not None:
            out += self._first.escape
        return bytes(out)

    def _found(self, character: str) -> tuple[_Set | None, bytes]:
        """The first set that has a character, and its code there; None for ASCII."""
        if character.isascii():
            return None, character.encode("ascii")
        for each in self._sets:
            try:
                code = character.encode(each.codec)
            except UnicodeEncodeError:
                continue
            if each.in_g0:  # with the escape sequences around it, perhaps of another set
                if not code.startswith(each.escape):
                    continue
                code = code[len(each.escape) :].split(ESCAPE)[0]
            if len(code) == each.nbytes:
                return each, code
        raise UnicodeError("a character that is in none of the sets")
