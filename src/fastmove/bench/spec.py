"""Synthetic studies that are all alike, as a user asks for them; and as files."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fastmove.bench.corpus import Corpus, written
from fastmove.bench.modality import MODALITIES, Kind, Pixels
from fastmove.bench.profiles import Examination, Series
from fastmove.bench.template import Template
from fastmove.errors import ConfigurationError
from fastmove.sizes import parse_size
from fastmove.storage.filemeta import DicomFile
from fastmove.uids import (
    EXPLICIT_VR_BIG_ENDIAN,
    EXPLICIT_VR_LITTLE_ENDIAN,
    IMPLICIT_VR_LITTLE_ENDIAN,
    TRANSFER_SYNTAXES,
)

_NATIVE: Final = (IMPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_LITTLE_ENDIAN, EXPLICIT_VR_BIG_ENDIAN)
"""Transfer syntaxes in which noise is an image."""

_MAX_PAYLOAD: Final = 0xFFFF_FFFE
"""Longest value of a defined length, in bytes (PS3.5 7.1.1)."""

_SIZED: Final = ("CT", "MR", "SR")
"""Modalities that there are of any size."""


@dataclass(frozen=True, slots=True)
class Spec:
    """Studies that are all alike; `size` is that of a file in bytes, reached within a row of pixels."""

    studies: int = 1
    series: int = 2
    """In each study."""

    instances: int = 50
    """In each series."""

    size: int = 526_000
    """A CT of 512 x 512 pixels."""

    modality: str = "CT"
    transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN
    seed: int = 1

    @classmethod
    def parse(cls, text: str) -> Spec:
        """`studies=2,series=2,instances=50,size=526k,modality=CT,transfer-syntax=...`, each with a default.

        k, M and G are powers of 1000, Ki, Mi and Gi of 1024; transfer syntaxes go by UID or keyword.
        ConfigurationError.
        """
        values: dict[str, Any] = {}
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, equals, value = part.partition("=")
            field = name.strip().replace("-", "_")
            parse = _FIELDS.get(field)
            if parse is None or not equals:
                known = ", ".join(name.replace("_", "-") for name in _FIELDS)
                raise ConfigurationError("synthetic", f"{part!r} is not NAME=VALUE with one of {known}")
            values[field] = parse(name.strip(), value.strip())
        return cls(**values)

    def kind(self) -> Kind:
        """What all objects are; ConfigurationError if the size has no room for that."""
        kind = Kind(self.modality, 2, transfer_syntax=self.transfer_syntax)
        is_text = MODALITIES[self.modality].is_text
        overhead = Template(kind if is_text else kind.replace(payload=Pixels(1, 1))).overhead
        room = (self.size - overhead) & ~1
        if not 2 <= room <= _MAX_PAYLOAD:
            limits = f"{overhead + 2} to {overhead + _MAX_PAYLOAD}"
            raise ConfigurationError("size", f"{self.size} bytes: this kind of file has {limits}")
        if is_text:
            return kind.replace(payload=room)
        columns = max(1, math.isqrt(room // 2))
        return kind.replace(payload=Pixels(max(1, room // 2 // columns), columns))

    def corpus(self, *, studies: int | None = None, own: int = 0) -> Corpus:
        """The archive, or one of so many studies, and with UIDs of its `own`; ConfigurationError as `kind`."""
        kind = self.kind()
        series = Series("", self.modality, kind.payload, self.instances, self.instances)
        examination = Examination(kind.study_description, 1, (series,) * self.series)
        return Corpus(
            studies or self.studies,
            (examination,),
            self.seed,
            name=f"{self}{own or ''}",
            transfer_syntax=self.transfer_syntax,
            studies_per_patient=1,
        )


def _number(name: str, text: str) -> int:
    try:
        number = parse_size(text)
    except ValueError:
        number = 0
    if not number:
        raise ConfigurationError(name, f"{text!r} is no positive number (526000, 526k, 1M)")
    return number


def _count(name: str, text: str) -> int:
    number = _number(name, text)
    if number >= 10**6:
        raise ConfigurationError(name, f"{text} is too many: at most 999999")
    return number


def _modality(name: str, text: str) -> str:
    if text.upper() not in _SIZED:
        raise ConfigurationError(name, f"{text!r} is none of {', '.join(_SIZED)}")
    return text.upper()


def _transfer_syntax(name: str, text: str) -> str:
    for uid in _NATIVE:
        if text == uid or text.lower() == TRANSFER_SYNTAXES[uid].keyword.lower():
            return uid
    known = ", ".join(TRANSFER_SYNTAXES[uid].keyword for uid in _NATIVE)
    raise ConfigurationError(name, f"{text!r} is none of {known}")


_FIELDS: Final[dict[str, Callable[[str, str], Any]]] = {
    "studies": _count,
    "series": _count,
    "instances": _count,
    "size": _number,
    "modality": _modality,
    "transfer_syntax": _transfer_syntax,
    "seed": _number,
}


def write(spec: Spec, folder: Path) -> list[Path]:
    """Write the files as STUDY/SERIES/INSTANCE.dcm below a folder; ConfigurationError, OSError."""
    return [file.path for file, _ in objects(spec, folder)]


def objects(spec: Spec, folder: Path) -> Iterator[tuple[DicomFile, dict[str, str]]]:
    """The same one by one: each file, once it is written, and the attributes that it has, as text by keyword."""
    yield from written(spec.corpus(), folder)
