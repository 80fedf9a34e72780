"""Objects that a user gives, sent again and again under UIDs of their own: no archive takes the same one twice.

The file stays as it is: what is before its pixels is sent from memory, with other UIDs, and the rest from the file.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, Final

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.filewriter import dcmwrite

from fastmove.errors import ConfigurationError, DatasetError
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.uids import TRANSFER_SYNTAXES, TransferSyntax

UNKNOWN: Final = TransferSyntax("", "")
"""What is not known is explicit VR little endian (PS3.5 A.4)."""

_UNIQUE: Final = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class Given:
    """A file, its data set up to the pixels, and where these are."""

    def __init__(self, path: Path) -> None:
        """Read it; DatasetError if it is no object that can be sent under another UID, OSError."""
        self.file = read_file_meta(path)
        if TRANSFER_SYNTAXES.get(self.file.transfer_syntax_uid, UNKNOWN).deflated:
            raise DatasetError(f"{path}: deflated data sets cannot be given other UIDs")
        try:
            with path.open("rb") as stream:
                self.dataset = dcmread(stream, stop_before_pixels=True)
                self.pixels_at = stream.tell()
        except (InvalidDicomError, EOFError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise DatasetError(f"{path}: {error}") from error
        missing = [keyword for keyword in _UNIQUE if not self.dataset.get(keyword)]
        if missing:
            raise DatasetError(f"{path}: no {', '.join(missing)}")
        self.pixel_bytes = self.file.dataset_offset + self.file.nbytes - self.pixels_at

    @property
    def study(self) -> str:
        """Its Study Instance UID."""
        return str(self.dataset.StudyInstanceUID)

    @property
    def kind(self) -> str:
        """Its modality."""
        return str(self.dataset.get("Modality", ""))

    def renamed(self, uids: dict[str, str]) -> DicomFile:
        """The object with these UIDs in place of its own; others stay."""
        dataset = Dataset()
        dataset.update(self.dataset)
        for keyword in _UNIQUE:
            uid = str(self.dataset[keyword].value)
            setattr(dataset, keyword, uids[uid])
        before = _encoded(dataset, self.file.transfer_syntax_uid)
        return self.file.replace(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            dataset_offset=self.pixels_at,
            nbytes=len(before) + self.pixel_bytes,
            before=before,
        )


def _encoded(dataset: Any, transfer_syntax_uid: str) -> bytes:
    row = TRANSFER_SYNTAXES.get(transfer_syntax_uid, UNKNOWN)
    stream = BytesIO()
    dcmwrite(stream, dataset, implicit_vr=row.implicit_vr, little_endian=row.little_endian)
    return stream.getvalue()


def read(paths: Iterable[Path]) -> list[list[Given]]:
    """The files by study, in the order that they were given; ConfigurationError if one cannot be used."""
    studies: dict[str, list[Given]] = {}
    for path in paths:
        try:
            given = Given(path)
        except (DatasetError, OSError) as error:
            raise ConfigurationError("PATH", str(error)) from error
        studies.setdefault(given.study, []).append(given)
    return list(studies.values())


def again_and_again(studies: Sequence[Sequence[Given]], seed: int) -> Iterator[tuple[str, list[DicomFile]]]:
    """Without end: the kind of a study, and its objects under new UIDs; what belongs together still does."""
    random = Random(seed)
    for number in count():
        study = studies[number % len(studies)]
        own = {str(given.dataset[keyword].value) for given in study for keyword in _UNIQUE}
        uids = {uid: f"2.25.{uuid.UUID(int=random.getrandbits(128), version=4).int}" for uid in sorted(own)}
        kinds = "+".join(sorted({given.kind for given in study} - {""}))
        yield kinds, [given.renamed(uids) for given in study]
