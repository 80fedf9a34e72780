"""The bytes of a synthetic object around its payload: pydicom writes one, all others of its kind are made of that.

What differs between two of a kind are values of a fixed length, in the places of placeholders.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final, Literal

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.uid import UID

from fastmove.bench.modality import MODALITIES, Kind, payload_bytes
from fastmove.types import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME
from fastmove.uids import TRANSFER_SYNTAXES

UID_FORMAT: Final = "2.25.1{:038d}"
"""Of every UID: below 2.25, and of one length (PS3.5 B.2)."""

PLACEHOLDERS: Final = {
    "StudyInstanceUID": UID_FORMAT.format(1),
    "SeriesInstanceUID": UID_FORMAT.format(2),
    "SOPInstanceUID": UID_FORMAT.format(3),
    "PatientID": "SYN#PATIENT",
    "PatientName": "Synthetic^#PATIENT",
    "StudyID": "##STUDY#",
    "AccessionNumber": "ACC##STUDY#",
    "StudyDate": "19010203",
    "StudyTime": "235917",
    "SeriesNumber": "9876543",
    "InstanceNumber": "10293847",
}
"""Keyword → what stands in the template for it, of the length that every value has."""

_MARK: Final = b"FastmoveTemplate"
_GROUP_LENGTH_END: Final = 144
"""Preamble, prefix and File Meta Information Group Length (PS3.10 7.1), in bytes."""

_NOT_TEXT: Final = frozenset(("OB", "OW", "SQ"))


class Template:
    """What objects of a kind are made of; `payload` is the length of what they are for, in bytes."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self.sop_class_uid = MODALITIES[kind.modality].sop_class_uid
        self.payload = payload_bytes(kind.payload)
        dataset, whole = _whole_file(kind)
        meta_length = int.from_bytes(whole[_GROUP_LENGTH_END - 4 : _GROUP_LENGTH_END], "little")
        self.dataset_offset = _GROUP_LENGTH_END + meta_length
        self._texts = {element.keyword: _text(element.value) for element in dataset if element.VR not in _NOT_TEXT}
        keywords = {placeholder: keyword for keyword, placeholder in PLACEHOLDERS.items()}
        self._varying = {name: keywords[text] for name, text in self._texts.items() if text in keywords}
        head, self.tail = whole.split(_MARK)
        self.overhead = len(head) + len(self.tail)
        # In every encoding the length of the payload is the four bytes before it.
        order: Literal["little", "big"] = "little" if TRANSFER_SYNTAXES[kind.transfer_syntax].little_endian else "big"
        head = head[:-4] + self.payload.to_bytes(4, order)
        found = {placeholder.encode("ascii"): keyword for keyword, placeholder in PLACEHOLDERS.items()}
        cut = re.compile(b"|".join(map(re.escape, found)))
        self._pieces = cut.split(head)
        self._keywords = [found[placeholder] for placeholder in cut.findall(head)]

    def texts(self, values: Mapping[str, str]) -> dict[str, str]:
        """The attributes that are text or a number, as text by keyword; sequences are left out."""
        varying = {name: values[keyword].strip() for name, keyword in self._varying.items()}
        return self._texts | varying

    def head(self, values: Mapping[str, str]) -> bytes:
        """Everything before the payload, from the preamble on."""
        pieces, left = self.filled(values)
        assert not left
        return pieces[0]

    def filled(self, values: Mapping[str, str]) -> tuple[list[bytes], list[str]]:
        """The same as pieces, where not all values are known; and the keywords of those that belong between them."""
        pieces, left = [self._pieces[0]], []
        for keyword, piece in zip(self._keywords, self._pieces[1:], strict=True):
            if keyword in values:
                pieces[-1] += values[keyword].encode("ascii") + piece
            else:
                left.append(keyword)
                pieces.append(piece)
        return pieces, left


def _text(value: Any) -> str:
    return "\\".join(map(str, value)) if isinstance(value, MultiValue) else str(value)


def _whole_file(kind: Kind) -> tuple[Dataset, bytes]:
    """A file with placeholders for what differs, and the mark for the payload."""
    modality = MODALITIES[kind.modality]
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = modality.sop_class_uid, modality.code or kind.modality
    for keyword, placeholder in PLACEHOLDERS.items():
        setattr(dataset, keyword, placeholder)
    dataset.PatientBirthDate, dataset.PatientSex, dataset.ReferringPhysicianName = "19700101", "O", ""
    dataset.SeriesDate = dataset.ContentDate = PLACEHOLDERS["StudyDate"]
    dataset.SeriesTime = dataset.ContentTime = PLACEHOLDERS["StudyTime"]
    dataset.StudyDescription = kind.study_description
    dataset.SeriesDescription = kind.series_description or f"Synthetic {kind.modality}"
    dataset.Manufacturer = "fastmove"
    modality.describe(dataset, kind.payload)
    modality.put(dataset, _MARK)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(kind.transfer_syntax)
    dataset.file_meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    dataset.file_meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return dataset, file.getvalue()
