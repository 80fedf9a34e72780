"""Everyday identifiers, read and written without pydicom: flat, in little endian, of keys that `dimse/keys.py` knows.

Whatever is unusual is left to who calls: nothing is guessed here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from fastmove.dimse.keys import KEYS
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN, IMPLICIT_VR_LITTLE_ENDIAN, TRANSFER_SYNTAXES, TransferSyntax

WITHOUT_TEXT: Final = frozenset(("OB", "OD", "OF", "OL", "OV", "OW", "SQ", "UN"))
LONG: Final = WITHOUT_TEXT | {"SV", "UC", "UR", "UT", "UV"}
"""VRs with a length of 32 bits (PS3.5 7.1.2)."""

CODECS: Final = {"ISO_IR 100": "latin-1", "ISO_IR 192": "utf-8"}
"""Specific Character Set → Python's name of it."""

_READ_CODECS: Final = {"": "ascii", "ISO_IR 6": "ascii", **CODECS}
_SPECIFIC_CHARACTER_SET: Final = 0x00080005
_MAX_SHORT_LENGTH: Final = 0xFFFF
_MAX_LENGTH: Final = 0x4000
"""In bytes, of a value: pydicom takes the length 4141H for the VR "AA"."""

_INTEGERS: Final = re.compile(r" *[+-]?[0-9]{1,9} *(\\\\ *[+-]?[0-9]{1,9} *)*")


# ---------------------------------------------------------------------- values, VR by VR; ValueError if unusual


def _printable(value: bytes, codec: str) -> str:
    text = value.rstrip(b"\0 ").decode(codec)
    if not text.isprintable():
        raise ValueError("control characters, or separators other than the space")
    return text


def _codes(value: bytes, _: str) -> str:
    return _printable(value, "ascii")


def _texts(value: bytes, codec: str) -> str:
    text = _printable(value, codec)
    return "\\".join(part.rstrip(" ") for part in text.split("\\")) if "\\" in text else text


def _ae_titles(value: bytes, _: str) -> str:
    if b"\0" in value:
        raise ValueError("padded with NUL")
    return "\\".join(part.strip(" ") for part in _printable(value, "ascii").split("\\"))


def _uids(value: bytes, _: str) -> str:
    text = _printable(value, "ascii")
    if " " in text:
        raise ValueError("a space in a UID")
    return text


def _person_names(value: bytes, codec: str) -> str:
    text = _printable(value, codec)
    if "=" in text:
        raise ValueError("component groups")
    return text


def _integers(value: bytes, _: str) -> str:
    text = _printable(value, "ascii")
    if text and not _INTEGERS.fullmatch(text):
        raise ValueError("no integers")
    return text.replace(" ", "")


def _unsigned_shorts(value: bytes, _: str) -> str:
    if len(value) & 1:
        raise ValueError("half a number")
    return "\\".join(str(number) for (number,) in struct.iter_unpack("<H", value))


_READ: Final[dict[str, Callable[[bytes, str], str]]] = {
    "AE": _ae_titles,
    "AS": _codes,
    "CS": _codes,
    "DA": _codes,
    "IS": _integers,
    "LO": _texts,
    "LT": _printable,
    "PN": _person_names,
    "SH": _texts,
    "TM": _codes,
    "UI": _uids,
    "US": _unsigned_shorts,
}

# What an element begins with → its key, and how its value is read.
_EXPLICIT: Final = {
    struct.pack("<HH2s", *divmod(key.tag, 0x10000), key.vr.encode()): (key, _READ[key.vr]) for key in KEYS.values()
}
_IMPLICIT: Final = {head[:4]: row for head, row in _EXPLICIT.items()}

# Transfer syntax → the same, the bytes of it, and those of the length that follows.
_LAYOUTS: Final = {EXPLICIT_VR_LITTLE_ENDIAN: (_EXPLICIT, 6, 2), IMPLICIT_VR_LITTLE_ENDIAN: (_IMPLICIT, 4, 4)}


# ---------------------------------------------------------------------- elements


def header(tag: int, vr: str, length: int, syntax: TransferSyntax) -> bytes:
    """What an element of such a length begins with; if its VR has no room for that it is UN (PS3.5 6.2.2, 7.1.2)."""
    order = "<" if syntax.little_endian else ">"
    group, element = divmod(tag, 0x10000)
    if syntax.implicit_vr:
        return struct.pack(f"{order}HHI", group, element, length)
    if vr in LONG or length > _MAX_SHORT_LENGTH:
        return struct.pack(f"{order}HH2s2xI", group, element, (vr if vr in LONG else "UN").encode(), length)
    return struct.pack(f"{order}HH2sH", group, element, vr.encode(), length)


# ---------------------------------------------------------------------- whole identifiers


def read(data: bytes, transfer_syntax: str) -> dict[str, str]:
    """Every element as text by keyword, in the order of tags; empty if anything in it is unusual."""
    layout = _LAYOUTS.get(transfer_syntax)
    if layout is None:
        return {}
    rows, head_bytes, length_bytes = layout
    found: dict[str, str] = {}
    codec, last, offset, end = "ascii", 0, 0, len(data)
    try:
        while offset < end:
            length_offset = offset + head_bytes
            key, read_value = rows[data[offset:length_offset]]
            value_offset = length_offset + length_bytes
            length = int.from_bytes(data[length_offset:value_offset], "little")
            offset = value_offset + length
            if key.tag <= last or length > _MAX_LENGTH or offset > end:
                return {}
            last = key.tag
            text = found[key.keyword] = read_value(data[value_offset:offset], codec)
            if last == _SPECIFIC_CHARACTER_SET:
                codec = _READ_CODECS[text]
    except (LookupError, ValueError):
        return {}
    return found


def writer(keywords: Iterable[str], transfer_syntax: str) -> Callable[[Mapping[str, str]], bytes]:
    """Encodes the texts of these keywords; to nothing if there is anything unusual in them."""
    layout = _LAYOUTS.get(transfer_syntax)
    chosen = sorted(KEYS[keyword] for keyword in set(keywords) if keyword in KEYS)
    if layout is None or len(chosen) < len(set(keywords)) or any(key.vr == "US" for key in chosen):
        return lambda _: b""
    rows, _, length_bytes = layout
    heads = {key.keyword: head for head, (key, _) in rows.items()}
    elements = [(key.keyword, heads[key.keyword], b"\0" if key.vr == "UI" else b" ") for key in chosen]

    def write(texts: Mapping[str, str]) -> bytes:
        parts: list[bytes] = []
        try:
            for keyword, head, pad in elements:
                value = texts[keyword].encode("ascii")
                if len(value) & 1:
                    value += pad
                parts += (head, len(value).to_bytes(length_bytes, "little"), value)
        except (UnicodeEncodeError, OverflowError):
            return b""
        return b"".join(parts)

    return write


def values(data: bytes, transfer_syntax: str) -> dict[int, bytes] | None:
    """The values of a data set by tag; None if a length is undefined or wrong, or it is deflated."""
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    order = "<" if syntax.little_endian else ">"
    found: dict[int, bytes] = {}
    offset = 0
    try:
        while offset < len(data):
            group, element, vr, length = struct.unpack_from(f"{order}HH2sH", data, offset)
            if syntax.implicit_vr or vr.decode("latin-1") in LONG:
                offset += 0 if syntax.implicit_vr else 4
                (length,) = struct.unpack_from(f"{order}I", data, offset + 4)
            elif not (vr.isalpha() and vr.isupper()):
                return None
            offset += 8
            found[group << 16 | element] = data[offset : offset + length]
            offset += length
    except struct.error:
        return None
    return found if offset == len(data) and not syntax.deflated else None
