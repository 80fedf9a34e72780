"""Identifiers of C-FIND and C-MOVE: query keys to data set bytes and back (PS3.4 C.2.2, C.4)."""

from __future__ import annotations

import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping, MutableSequence
from io import BytesIO
from typing import Any, Final

from pydicom.config import IGNORE
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from fastmove.dimse.status import UNABLE_TO_PROCESS
from fastmove.errors import ConfigurationError, DimseError
from fastmove.limits import MAX_IDENTIFIER_BYTES
from fastmove.uids import TRANSFER_SYNTAXES

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
_NUMBERS: Final[dict[str, Callable[[str], Any]]] = {
    **dict.fromkeys(("US", "SS", "UL", "SL", "UV", "SV"), int),
    **dict.fromkeys(("FL", "FD"), float),
    "AT": lambda text: int(text.replace(",", ""), 16),
}

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


def parse_key(text: str) -> DataElement:
    """`PatientID=123`, `(0010,0020)=123`, `0010,0020=123`, or without a value: universal matching (PS3.4 C.2.2.2.3)."""
    name, _, value = text.partition("=")
    name = name.strip()
    numbers = _TAG.fullmatch(name)
    tag = int(numbers[1] + numbers[2], 16) if numbers else tag_for_keyword(name)
    if tag is None or not name:  # some retired elements have no keyword
        raise ConfigurationError("key", f"{name!r} is neither a keyword of the data dictionary nor gggg,eeee")
    try:
        vr = dictionary_VR(tag).split(" or ")[0]
    except KeyError:
        raise ConfigurationError("key", f"{name} is not in the data dictionary") from None
    if vr == "SQ" and value:
        raise ConfigurationError("key", f"{name} is a sequence: it can be asked for, but not matched")
    number = _NUMBERS.get(vr)
    parsed: Any = value
    try:
        if vr == "SQ":
            parsed = []
        elif number is not None and value:
            parsed = [number(part) for part in value.split("\\")]
        return DataElement(tag, vr, parsed, validation_mode=IGNORE)
    except (ValueError, OverflowError):
        raise ConfigurationError("key", f"{value!r} is no {vr} for {name}") from None


def query_retrieve_level(keywords: Iterable[str], model: str) -> str:
    """The deepest level of a model whose unique key is among the keywords, else the top one."""
    given = set(keywords)
    levels = LEVELS[model]
    return next((level for level in reversed(levels) if UNIQUE_KEYS[level] in given), levels[0])


def query(keys: Iterable[str], *, model: str = "study", level: str | None = None) -> Dataset:
    """The Identifier of a C-FIND-RQ; the unique key of the level is asked for where it is not matched.

    ConfigurationError if a unique key above the level lacks a single value (PS3.4 C.4.1.2.1).
    """
    dataset, above, at = _build(keys, model, level)
    _require_single_values(dataset, above, model)
    if at not in dataset:
        dataset.add(parse_key(at))
    return dataset


def retrieve(keys: Iterable[str], *, model: str = "study", level: str | None = None) -> Dataset:
    """The Identifier of a C-MOVE-RQ or C-GET-RQ; the unique key of the level may be a list of UIDs.

    ConfigurationError if a unique key at or above the level has no value (PS3.4 C.4.2.2.1).
    """
    dataset, above, at = _build(keys, model, level)
    _require_single_values(dataset, above, model)
    if not dataset.get(at):
        raise ConfigurationError("key", f"a retrieve at level {dataset.QueryRetrieveLevel} needs {at}")
    return dataset


def _build(keys: Iterable[str], model: str, level: str | None) -> tuple[Dataset, list[str], str]:
    if model not in LEVELS:
        raise ConfigurationError("model", f"{model!r} is none of {', '.join(LEVELS)}")
    dataset = Dataset()
    for key in keys:
        dataset.add(parse_key(key))
    level = (level or dataset.get("QueryRetrieveLevel") or query_retrieve_level(dataset.dir(), model)).upper()
    if level not in LEVELS[model]:
        raise ConfigurationError("level", f"the {model} model has the levels {', '.join(LEVELS[model])}, not {level}")
    dataset.add(DataElement("QueryRetrieveLevel", "CS", level))
    if "SpecificCharacterSet" not in dataset and not all(str(element.value).isascii() for element in dataset):
        dataset.add(DataElement("SpecificCharacterSet", "CS", "ISO_IR 192"))
    position = LEVELS[model].index(level)
    return dataset, [UNIQUE_KEYS[above] for above in LEVELS[model][:position]], UNIQUE_KEYS[level]


def _require_single_values(dataset: Dataset, keywords: list[str], model: str) -> None:
    for keyword in keywords:
        value = dataset.get(keyword)
        if not value or not isinstance(value, str) or set(value) & set("*?\\"):
            level = dataset.QueryRetrieveLevel
            raise ConfigurationError("key", f"level {level} of the {model} model needs one value of {keyword}")


def encode(dataset: Dataset, transfer_syntax: str) -> bytes:
    """The bytes of an Identifier in a transfer syntax of `uids.TRANSFER_SYNTAXES`."""
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    stream = DicomBytesIO()
    stream.is_little_endian = syntax.little_endian
    stream.is_implicit_VR = syntax.implicit_vr
    write_dataset(stream, dataset)
    data: bytes = stream.getvalue()
    if syntax.deflated:
        deflate = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        data = deflate.compress(data) + deflate.flush()
        data += b"\0" * (len(data) & 1)
    return data


def decode(data: bytes, transfer_syntax: str) -> Dataset:
    """The Identifier in these bytes; DimseError (C000H) if they are none or inflate beyond MAX_IDENTIFIER_BYTES."""
    syntax = TRANSFER_SYNTAXES[transfer_syntax]
    try:
        if syntax.deflated:
            inflate = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
            data = inflate.decompress(data, MAX_IDENTIFIER_BYTES)
            if not inflate.eof:
                raise ValueError(f"no end within {MAX_IDENTIFIER_BYTES} bytes")
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
    dataset = decode(data, transfer_syntax)
    if _FAILED_SOP_INSTANCE_UID_LIST not in dataset:
        return ()
    value: bytes = getattr(dataset.get_item(_FAILED_SOP_INSTANCE_UID_LIST), "value", None) or b""
    uids = (part.strip(b"\0 ").decode("latin-1") for part in value.split(b"\\"))
    return tuple(uid for uid in uids if uid)


def text_values(dataset: Dataset) -> dict[str, str]:
    """Every element as text, by keyword (gggg,eeee if it has none), for JSON or CSV.

    Values are decoded by Specific Character Set; several are joined by a backslash, a sequence is its number of items,
    bytes are hexadecimal; what has no value of its VR is shown as it came.
    """
    texts: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for tag in sorted(dataset.keys()):
            keyword = keyword_for_tag(tag) or f"{tag.group:04X},{tag.element:04X}"
            try:
                texts[keyword] = _text(dataset[tag].value)
            except _UNREADABLE:
                raw = getattr(dataset.get_item(tag), "value", None)
                texts[keyword] = raw.decode("latin-1").strip("\0 ") if isinstance(raw, bytes) else ""
    return texts


def from_text(texts: Mapping[str, str]) -> Dataset:
    """The Identifier with these values by keyword, the reverse of `text_values`; ConfigurationError for a bad one."""
    dataset = Dataset()
    for keyword, text in texts.items():
        dataset.add(parse_key(f"{keyword}={text}"))
    if not all(map(str.isascii, texts.values())):
        dataset.add(DataElement("SpecificCharacterSet", "CS", "ISO_IR 192"))
    return dataset


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    if not isinstance(value, MutableSequence):  # pydicom's MultiValue and Sequence are
        return str(value)
    if value and isinstance(value[0], Dataset):
        return f"{len(value)} items"
    return "\\".join(map(_text, value))
