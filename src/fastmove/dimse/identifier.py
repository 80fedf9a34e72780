"""Identifiers of C-FIND and C-MOVE: query keys to data set bytes and back (PS3.4 C.2.2, C.4).

What we ask is flat and encoded here; what a peer writes may be anything: what is unusual is read by pydicom, which
is imported when it is first needed: that takes longer than a small retrieve.
"""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence
from io import BytesIO
from typing import TYPE_CHECKING, Any, Final

from fastmove.dimse import everyday
from fastmove.dimse.everyday import CODECS
from fastmove.dimse.keys import KEYS, KEYWORDS, Key
from fastmove.dimse.status import UNABLE_TO_PROCESS
from fastmove.errors import ConfigurationError, DimseError
from fastmove.limits import MAX_IDENTIFIER_BYTES
from fastmove.uids import TRANSFER_SYNTAXES

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

# Query/Retrieve level → its unique key, from the top (PS3.4 C.6.1.1, C.6.2.1).
UNIQUE_KEYS: Final[dict[str, str]] = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}

# Information model, as in `uids.QUERY_RETRIEVE` → its levels from the top.
LEVELS: Final[dict[str, tuple[str, ...]]] = {
    "patient": ("PATIENT", "STUDY", "SERIES", "IMAGE"),
    "study": ("STUDY", "SERIES", "IMAGE"),
    "patient-study": ("PATIENT", "STUDY"),
}

_FAILED_SOP_INSTANCE_UID_LIST: Final = 0x00080058
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
_TAG: Final = re.compile(r"\(?([0-9A-Fa-f]{4}),([0-9A-Fa-f]{4})\)?")


def _attribute_tag(text: str) -> tuple[int, int]:
    return divmod(int(text.strip("()").replace(",", ""), 16), 0x10000)


def _integer(text: str) -> tuple[int]:
    return (int(text),)


def _real(text: str) -> tuple[float]:
    return (float(text),)


# VR (PS3.5 6.2) → struct format of one value, and the numbers that go into it.
BINARY: Final[dict[str, tuple[str, Callable[[str], tuple[float, ...]]]]] = {
    "AT": ("HH", _attribute_tag),
    "FD": ("d", _real),
    "FL": ("f", _real),
    "SL": ("i", _integer),
    "SS": ("h", _integer),
    "SV": ("q", _integer),
    "UL": ("I", _integer),
    "US": ("H", _integer),
    "UV": ("Q", _integer),
}
_NUMBERS_AS_TEXT: Final = frozenset(("DS", "IS"))
_OF_CHARACTER_SET: Final = frozenset(("LO", "LT", "PN", "SH", "ST", "UC", "UT"))  # PS3.5 6.1.2.3

# All that pydicom raises over bytes that are no data set.
_UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    UserWarning,
    struct.error,
    zlib.error,
)


class Identifier(Mapping[str, str]):
    """A flat data set of keys: keyword → value, in ascending order of tags (PS3.5 7.1).

    Of a key that is given twice the last counts; text beyond ASCII is in ISO_IR 192, unless a character set is given.
    """

    __slots__ = ("_values", "elements")

    def __init__(self, keys: Iterable[Key]) -> None:
        elements = {key.tag: key for key in keys}
        character_set = KEYS["SpecificCharacterSet"]
        given = elements.get(character_set.tag, character_set).value
        if not given and not all(key.value.isascii() for key in elements.values()):
            elements[character_set.tag] = character_set._replace(value="ISO_IR 192")
        self.elements: Final = tuple(sorted(elements.values()))
        self._values: Final = {key.keyword: key.value for key in self.elements}

    def __getitem__(self, keyword: str) -> str:
        return self._values[keyword]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    @property
    def level(self) -> str:
        """Query/Retrieve Level (PS3.4 C.6.1.1.1)."""
        return self._values.get("QueryRetrieveLevel", "")


def parse_key(text: str) -> Key:
    """`PatientID=123`, `(0010,0020)=123`, `0010,0020=123`, or without a value: universal matching (PS3.4 C.2.2.2.3)."""
    name, _, value = text.partition("=")
    name = name.strip()
    numbers = _TAG.fullmatch(name)
    tag = int(numbers[1] + numbers[2], 16) if numbers else None
    keyword = name if tag is None else KEYWORDS.get(tag, "")
    key = (KEYS.get(keyword) or _look_up(name, tag))._replace(value=value)
    if key.vr in everyday.WITHOUT_TEXT and value:
        raise ConfigurationError("key", f"{name} is of VR {key.vr}: it can be asked for, but not matched")
    try:
        if key.vr in BINARY:
            _binary(key, "<")
        elif key.vr in _NUMBERS_AS_TEXT:
            for number in filter(None, value.split("\\")):
                float(number)
    except (ValueError, OverflowError, struct.error):
        raise ConfigurationError("key", f"{value!r} is no {key.vr} for {name}") from None
    return key


def _look_up(name: str, tag: int | None) -> Key:
    from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword

    tag = tag_for_keyword(name) if tag is None else tag
    if tag is None or not name:  # some retired elements have no keyword
        raise ConfigurationError("key", f"{name!r} is neither a keyword of the data dictionary nor gggg,eeee")
    try:
        vr = dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        raise ConfigurationError("key", f"{name} is not in the data dictionary") from None
    return Key(tag, keyword_for_tag(tag) or _number(tag), vr)


def _number(tag: int) -> str:
    return f"{tag >> 16:04X},{tag & 0xFFFF:04X}"


def query_retrieve_level(keywords: Iterable[str], model: str) -> str:
    """The deepest level of a model whose unique key is among the keywords, else the top one."""
    given = set(keywords)
    levels = LEVELS[model]
    return next((level for level in reversed(levels) if UNIQUE_KEYS[level] in given), levels[0])


def query(
    keys: Iterable[str], *, model: str = "study", level: str | None = None, relational: bool = False
) -> Identifier:
    """The Identifier of a C-FIND-RQ; the unique key of the level is asked for where it is not matched.

    ConfigurationError if a unique key above the level lacks a single value (PS3.4 C.4.1.2.1), unless the query is
    `relational` (PS3.4 C.4.1.2.2.1).
    """
    identifier = _build(keys, model, level, relational)
    at = UNIQUE_KEYS[identifier.level]
    return identifier if at in identifier else Identifier([*identifier.elements, KEYS[at]])


def retrieve(keys: Iterable[str], *, model: str = "study", level: str | None = None) -> Identifier:
    """The Identifier of a C-MOVE-RQ or C-GET-RQ; the unique key of the level may be a list of UIDs.

    ConfigurationError if a unique key at or above the level has no value (PS3.4 C.4.2.2.1).
    """
    identifier = _build(keys, model, level)
    at = UNIQUE_KEYS[identifier.level]
    if not identifier.get(at):
        raise ConfigurationError("key", f"a retrieve at level {identifier.level} needs {at}")
    return identifier


def _build(keys: Iterable[str], model: str, level: str | None, relational: bool = False) -> Identifier:
    if model not in LEVELS:
        raise ConfigurationError("model", f"{model!r} is none of {', '.join(LEVELS)}")
    given = Identifier(map(parse_key, keys))
    levels = LEVELS[model]
    level = (level or given.level or query_retrieve_level(given, model)).upper()
    if level not in levels:
        raise ConfigurationError("level", f"the {model} model has the levels {', '.join(levels)}, not {level}")
    for above in () if relational else levels[: levels.index(level)]:
        unique = UNIQUE_KEYS[above]
        if not given.get(unique) or set(given[unique]) & set("*?\\"):
            raise ConfigurationError("key", f"level {level} of the {model} model needs one value of {unique}")
    return Identifier([*given.elements, KEYS["QueryRetrieveLevel"]._replace(value=level)])


def encode(identifier: Identifier, transfer_syntax: str) -> bytes:
    """The bytes of an Identifier in a transfer syntax of `uids.TRANSFER_SYNTAXES`.

    ConfigurationError for text that its character set does not have.
    """
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    order = "<" if syntax.little_endian else ">"
    character_set = identifier.get("SpecificCharacterSet", "")
    parts: list[bytes] = []
    for key in identifier.elements:
        value = _binary(key, order) if key.vr in BINARY else _text(key, character_set)
        parts += (everyday.header(key.tag, key.vr, len(value), syntax), value)
    data = b"".join(parts)
    return deflated(data) if syntax.deflated else data


def deflated(data: bytes) -> bytes:
    """A data set as PS3.5 A.5 has it deflated: padded to an even length."""
    deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    data = deflate.compress(data) + deflate.flush()
    return data + b"\0" * (len(data) & 1)


def inflated(data: bytes) -> bytes:
    """The reverse; zlib.error, or ValueError if that is beyond MAX_IDENTIFIER_BYTES."""
    inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    data = inflate.decompress(data, MAX_IDENTIFIER_BYTES)
    if not inflate.eof:
        raise ValueError(f"no end within {MAX_IDENTIFIER_BYTES} bytes")
    return data


def encoder(keywords: Iterable[str], transfer_syntax: str) -> Callable[[Mapping[str, str]], bytes]:
    """Encodes the texts of these keywords as `encode` and `from_text` do, again and again."""
    write = everyday.writer(keywords, transfer_syntax)
    return lambda texts: write(texts) or encode(from_text(texts), transfer_syntax)


def _binary(key: Key, order: str) -> bytes:
    code, numbers = BINARY[key.vr]
    values = key.value.split("\\") if key.value else ()
    return b"".join(struct.pack(order + code, *numbers(value)) for value in values)


def _text(key: Key, character_set: str) -> bytes:
    """The text, padded to an even length (PS3.5 6.2)."""
    if key.value.isascii() or key.vr not in _OF_CHARACTER_SET:
        data = key.value.encode("latin-1", "replace")
    else:
        try:
            codec = CODECS.get(character_set)
            data = key.value.encode(codec) if codec else _in_character_set(key, character_set)
        except (LookupError, ValueError, UserWarning):
            raise ConfigurationError("key", f"{character_set} has not all of {key.keyword}={key.value}") from None
    return data + (b"\0" if key.vr == "UI" else b" ") * (len(data) & 1)


def _in_character_set(key: Key, character_set: str) -> bytes:
    from pydicom.charset import convert_encodings, encode_string
    from pydicom.valuerep import PersonName

    with warnings.catch_warnings():
        warnings.simplefilter("error")  # instead of question marks
        encodings = convert_encodings(character_set.split("\\"))
        values = key.value.split("\\")
        if key.vr == "PN":
            return b"\\".join(PersonName(value).encode(encodings) for value in values)
        return b"\\".join(encode_string(value, encodings) for value in values)


def decode(data: bytes, transfer_syntax: str) -> Dataset:
    """The Identifier in these bytes; DimseError (C000H) if they are none or inflate beyond MAX_IDENTIFIER_BYTES."""
    from pydicom.filereader import read_dataset

    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    try:
        if syntax.deflated:
            data = inflated(data)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            dataset = read_dataset(BytesIO(data), syntax.implicit_vr, syntax.little_endian, len(data))
        for element in dataset.values():  # raw: pydicom takes a value that ends too early for what it is
            length = getattr(element, "length", _UNDEFINED_LENGTH)
            if length != _UNDEFINED_LENGTH and length != len(element.value or b""):
                raise ValueError(f"{element.tag} has {length} bytes, {len(element.value or b'')} came")
    except _UNREADABLE as error:
        raise DimseError(UNABLE_TO_PROCESS, f"identifier cannot be read: {type(error).__name__}") from error
    return dataset


def failed_sop_instance_uids(data: bytes, transfer_syntax: str) -> tuple[str, ...]:
    """Failed SOP Instance UID List (0008,0058) of a final response; DimseError if it cannot be read.

    In explicit VR a list of more than 64 KiB comes as UN (PS3.5 6.2.2): the bytes are read, whatever the VR.
    """
    values = everyday.values(data, transfer_syntax)
    if values is None:
        raw = dict(decode(data, transfer_syntax).items()).get(_FAILED_SOP_INSTANCE_UID_LIST)  # type: ignore[call-overload]
        value: bytes = getattr(raw, "value", None) or b""
    else:
        value = values.get(_FAILED_SOP_INSTANCE_UID_LIST, b"")
    uids = (part.strip(b"\0 ").decode("latin-1") for part in value.split(b"\\"))
    return tuple(uid for uid in uids if uid)


def texts(data: bytes, transfer_syntax: str) -> dict[str, str]:
    """Every element of an Identifier as text by keyword: `text_values` of what `decode` reads; DimseError (C000H).

    Everyday identifiers are read here; all others by pydicom, which takes twenty times as long.
    """
    return everyday.read(data, transfer_syntax) or text_values(decode(data, transfer_syntax))


def text_values(dataset: Dataset) -> dict[str, str]:
    """Every element as text, by keyword (gggg,eeee if it has none), for JSON or CSV.

    Values are decoded by Specific Character Set; several are joined by a backslash, a sequence is its number of items,
    bytes are hexadecimal; what has no value of its VR is shown as it came.
    """
    from pydicom.datadict import keyword_for_tag
    from pydicom.errors import BytesLengthException  # which derives from Exception alone

    texts: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag, raw in sorted(dataset.items()):
            keyword = keyword_for_tag(tag) or _number(tag)
            try:
                texts[keyword] = _shown(dataset[tag].value)
            except (*_UNREADABLE, BytesLengthException):
                value = getattr(raw, "value", None)
                texts[keyword] = value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else ""
    return texts


def from_text(texts: Mapping[str, str]) -> Identifier:
    """The Identifier with these values by keyword, the reverse of `text_values`; ConfigurationError for a bad one."""
    return Identifier(parse_key(f"{keyword}={text}") for keyword, text in texts.items())


def _shown(value: Any) -> str:
    from pydicom.dataset import Dataset

    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if not isinstance(value, MutableSequence):  # pydicom's MultiValue and Sequence are
        return str(value)
    if value and isinstance(value[0], Dataset):
        return f"{len(value)} items"
    return "\\".join(map(_shown, value))
