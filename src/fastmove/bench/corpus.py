"""Synthetic studies: valid Part-10 files of a given number, size, modality and transfer syntax.

pydicom writes one file; all others are its bytes with other UIDs, numbers and pixels.  Every byte follows from
the `Spec`, so that two runs write the same files.
"""

from __future__ import annotations

import itertools
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.uid import UID

from fastmove.errors import ConfigurationError
from fastmove.sizes import parse_size
from fastmove.storage.filemeta import DicomFile
from fastmove.types import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
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

_NOISE_BYTES: Final = 4 << 20
"""Pixels are random only once over this length; longer ones repeat it."""

_ONE_WRITE_BYTES: Final = 1 << 20
"""Files up to this length are put together before they are written."""

_SHIFTS: Final = 1 << 16
"""Instances begin at so many different places of the noise."""

# Keyword → what stands in the template for it, of the length that every value has.
_UID: Final = "2.25.1{:038d}"
_PLACEHOLDERS: Final = {
    "StudyInstanceUID": _UID.format(1),
    "SeriesInstanceUID": _UID.format(2),
    "SOPInstanceUID": _UID.format(3),
    "PatientID": "SYN#PATIENT",
    "PatientName": "Synthetic^#PATIENT",
    "StudyID": "#STUDY",
    "AccessionNumber": "ACC#STUDY",
    "StudyDate": "19010203",
    "SeriesNumber": "9876543",
    "InstanceNumber": "9876544",
}


@dataclass(frozen=True, slots=True)
class Spec:
    """What to make; `size` is that of a file in bytes, reached within a row of pixels."""

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
    if text.upper() not in _MODALITIES:
        raise ConfigurationError(name, f"{text!r} is none of {', '.join(_MODALITIES)}")
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


# ---------------------------------------------------------------------- what a modality is made of


def _image(dataset: Dataset, payload: int) -> None:
    """The pixel module of a 12-bit grey image, as square as may be."""
    dataset.FrameOfReferenceUID = _PLACEHOLDERS["SeriesInstanceUID"]
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = _shape(payload)
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0


def _ct(dataset: Dataset, payload: int) -> None:
    _image(dataset, payload)
    dataset.KVP, dataset.RescaleIntercept, dataset.RescaleSlope = 120, -1024, 1


def _mr(dataset: Dataset, payload: int) -> None:
    _image(dataset, payload)
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
    dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = "2D", 15, 500, 1


def _sr(dataset: Dataset, payload: int) -> None:
    """The head of a text report; its text comes with the payload."""
    dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ConceptNameCodeSequence = _code("18748-4", "LN", "Diagnostic imaging report")
    dataset.ReferencedPerformedProcedureStepSequence = Sequence()
    dataset.PerformedProcedureCodeSequence = Sequence()


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, scheme, meaning
    return Sequence([code])


def _put_pixels(dataset: Dataset, payload: bytes) -> None:
    dataset.PixelData = payload
    dataset["PixelData"].VR = "OW"


def _put_text(dataset: Dataset, payload: bytes) -> None:
    """As the last element of an item: without defined lengths around it only its own length depends on it."""
    item = Dataset()
    item.RelationshipType, item.ValueType = "CONTAINS", "TEXT"
    item.ConceptNameCodeSequence = _code("121071", "DCM", "Finding")
    item.TextValue = payload.decode("ascii")
    item.is_undefined_length_sequence_item = True
    dataset.ContentSequence = Sequence([item])
    dataset["ContentSequence"].is_undefined_length = True


def _pixels(random: np.random.Generator, count: int) -> Any:
    return random.integers(0, 4096, count, dtype=np.uint16)


def _letters(random: np.random.Generator, count: int) -> Any:
    pairs = random.integers(ord("a"), ord("z") + 1, (count, 2), dtype=np.uint8)
    return pairs.reshape(-1).view("<u2")


@dataclass(frozen=True, slots=True)
class _Modality:
    sop_class_uid: str
    describe: Callable[[Dataset, int], None]
    put: Callable[[Dataset, bytes], None]
    noise: Callable[[np.random.Generator, int], Any]
    swapped: bool
    """16-bit words, which big endian swaps."""


_MODALITIES: Final = {
    "CT": _Modality("1.2.840.10008.5.1.4.1.1.2", _ct, _put_pixels, _pixels, swapped=True),
    "MR": _Modality("1.2.840.10008.5.1.4.1.1.4", _mr, _put_pixels, _pixels, swapped=True),
    "SR": _Modality("1.2.840.10008.5.1.4.1.1.88.11", _sr, _put_text, _letters, swapped=False),
}


def _shape(payload: int) -> tuple[int, int]:
    """Rows and columns of 16-bit pixels that make up this many bytes, or a few less."""
    columns = max(1, math.isqrt(payload // 2))
    return max(1, payload // 2 // columns), columns


# ---------------------------------------------------------------------- the template

_MARK: Final = b"FastmoveTemplate"
_GROUP_LENGTH_END: Final = 144
"""Preamble, prefix and File Meta Information Group Length (PS3.10 7.1), in bytes."""

_NOT_TEXT: Final = frozenset(("OB", "OW", "SQ"))


class _Template:
    """The bytes around the payload, cut where values differ between instances."""

    def __init__(self, spec: Spec, payload: int) -> None:
        dataset, whole = _whole_file(spec, payload)
        self.dataset_offset = _GROUP_LENGTH_END + int.from_bytes(
            whole[_GROUP_LENGTH_END - 4 : _GROUP_LENGTH_END], "little"
        )
        self._texts = {element.keyword: _text(element.value) for element in dataset if element.VR not in _NOT_TEXT}
        keywords = {placeholder: keyword for keyword, placeholder in _PLACEHOLDERS.items()}
        self._varying = {name: keywords[text] for name, text in self._texts.items() if text in keywords}
        head, tail = whole.split(_MARK)
        self.payload = payload
        self.tail = tail
        self.overhead = len(head) + len(tail)
        # In every encoding the length of the payload is the four bytes before it.
        order: Literal["little", "big"] = "little" if TRANSFER_SYNTAXES[spec.transfer_syntax].little_endian else "big"
        head = head[:-4] + payload.to_bytes(4, order)
        found = {placeholder.encode("ascii"): keyword for keyword, placeholder in _PLACEHOLDERS.items()}
        cut = re.compile(b"|".join(map(re.escape, found)))
        self._pieces = cut.split(head)
        self._keywords = [found[placeholder] for placeholder in cut.findall(head)]

    def texts(self, values: dict[str, str]) -> dict[str, str]:
        """The attributes that are text or a number, as text by keyword; sequences are left out."""
        varying = {name: values[keyword].strip() for name, keyword in self._varying.items()}
        return self._texts | varying

    def head(self, values: dict[str, str]) -> bytes:
        """Everything before the payload."""
        texts = [values[keyword].encode("ascii") for keyword in self._keywords]
        return b"".join(itertools.chain.from_iterable(itertools.zip_longest(self._pieces, texts, fillvalue=b"")))


def _text(value: Any) -> str:
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _whole_file(spec: Spec, payload: int) -> tuple[Dataset, bytes]:
    """A file with placeholders for what differs, and the mark for the payload."""
    modality = _MODALITIES[spec.modality]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = modality.sop_class_uid, spec.modality
    for keyword, placeholder in _PLACEHOLDERS.items():
        setattr(dataset, keyword, placeholder)
    dataset.PatientBirthDate, dataset.PatientSex, dataset.ReferringPhysicianName = "19700101", "O", ""
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = "120000"
    dataset.SeriesDate = dataset.ContentDate = _PLACEHOLDERS["StudyDate"]
    dataset.StudyDescription, dataset.SeriesDescription = "Synthetic study", f"Synthetic {spec.modality}"
    dataset.Manufacturer = "fastmove"
    modality.describe(dataset, payload)
    modality.put(dataset, _MARK)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(spec.transfer_syntax)
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return dataset, file.getvalue()


def _template(spec: Spec) -> _Template:
    overhead = _Template(spec, 2).overhead
    room = (spec.size - overhead) & ~1
    if not 2 <= room <= _MAX_PAYLOAD:
        limits = f"{overhead + 2} to {overhead + _MAX_PAYLOAD}"
        raise ConfigurationError("size", f"{spec.size} bytes: this kind of file has {limits}")
    if _MODALITIES[spec.modality].put is _put_pixels:
        rows, columns = _shape(room)
        room = rows * columns * 2
    return _Template(spec, room)


# ---------------------------------------------------------------------- the files


def write(spec: Spec, folder: Path) -> list[Path]:
    """Write the files as STUDY/SERIES/INSTANCE.dcm below a folder; ConfigurationError, OSError."""
    return [file.path for file, _ in objects(spec, folder)]


def objects(spec: Spec, folder: Path) -> Iterator[tuple[DicomFile, dict[str, str]]]:
    """The same one by one: each file, once it is written, and the attributes that it has, as text by keyword."""
    template = _template(spec)
    noise = _noise(spec, min(template.payload, _NOISE_BYTES) + 2 * _SHIFTS)
    sop_class_uid = _MODALITIES[spec.modality].sop_class_uid
    number = 0
    for study, series in itertools.product(range(1, spec.studies + 1), range(1, spec.series + 1)):
        directory = folder / f"{study:06}" / f"{series:06}"
        directory.mkdir(parents=True, exist_ok=True)
        for instance in range(1, spec.instances + 1):
            values = _values(spec, study, series, instance)
            head = template.head(values)
            path = directory / f"{instance:06}.dcm"
            with path.open("wb") as file:
                file.writelines(_parts(head, _payload(noise, number % _SHIFTS * 2, template.payload), template.tail))
            number += 1
            offset, nbytes = template.dataset_offset, len(head) + template.payload + len(template.tail)
            uid, syntax = values["SOPInstanceUID"], spec.transfer_syntax
            written = DicomFile(path, sop_class_uid, uid, syntax, offset, nbytes - offset)
            yield written, template.texts(values)


def _parts(head: bytes, payload: Iterable[memoryview], tail: bytes) -> list[bytes | memoryview]:
    """What to write; in one piece if it is short, as small files are a matter of system calls."""
    parts: list[bytes | memoryview] = [head, *payload, tail]
    return parts if sum(map(len, parts)) > _ONE_WRITE_BYTES else [b"".join(parts)]


def _noise(spec: Spec, nbytes: int) -> memoryview:
    modality = _MODALITIES[spec.modality]
    words = modality.noise(np.random.default_rng(spec.seed), nbytes // 2)
    if modality.swapped and not TRANSFER_SYNTAXES[spec.transfer_syntax].little_endian:
        words = words.byteswap()
    return memoryview(words.tobytes())


def _payload(noise: memoryview, start: int, nbytes: int) -> Iterator[memoryview]:
    whole, rest = divmod(nbytes, _NOISE_BYTES)
    for length in (*itertools.repeat(_NOISE_BYTES, whole), rest):
        yield noise[start : start + length]


def _values(spec: Spec, study: int, series: int, instance: int) -> dict[str, str]:
    """What an instance has in place of the placeholders, each of the same length."""
    return {
        "StudyInstanceUID": _uid(spec, study),
        "SeriesInstanceUID": _uid(spec, study, series),
        "SOPInstanceUID": _uid(spec, study, series, instance),
        "PatientID": f"SYN{study:08d}",
        "PatientName": f"Synthetic^{study:08d}",
        "StudyID": f"{study:06d}",
        "AccessionNumber": f"ACC{study:06d}",
        "StudyDate": f"{date(2000, 1, 1) + timedelta(days=study % 9000):%Y%m%d}",
        "SeriesNumber": f"{series:<7d}",
        "InstanceNumber": f"{instance:<7d}",
    }


def _uid(spec: Spec, *numbers: int) -> str:
    """A UID below 2.25 (PS3.5 B.2), the same for the same specification and place in it."""
    return _UID.format(uuid.uuid5(uuid.NAMESPACE_OID, f"{spec}{numbers}").int % 10**38)
