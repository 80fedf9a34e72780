"""A small corpus of valid synthetic DICOM files: 2 patients, 3 studies, with the odd things that real archives hold.

Every UID and every byte follows from the seed, so that two runs write the same files.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MRImageStorage,
    SecondaryCaptureImageStorage,
)

ROOT: Final = "1.2.826.0.1.3680043.10.9999"
BASIC_TEXT_SR: Final = "1.2.840.10008.5.1.4.1.1.88.11"
ROWS = COLUMNS = 64


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file and what it holds."""

    path: Path
    patient_id: str
    study: str
    series: str
    sop_class: str
    sop_instance: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Corpus:
    """The directory and its files."""

    directory: Path
    files: tuple[CorpusFile, ...]

    @property
    def paths(self) -> list[Path]:
        return [file.path for file in self.files]

    @property
    def studies(self) -> list[str]:
        return list(dict.fromkeys(file.study for file in self.files))

    def of_study(self, study: str) -> list[CorpusFile]:
        return [file for file in self.files if file.study == study]


def ct(dataset: Dataset, random: np.random.Generator) -> None:
    """16-bit pixels from a seeded generator."""
    dataset.SOPClassUID, dataset.Modality = CTImageStorage, "CT"
    image(dataset, random.integers(0, 4096, (ROWS, COLUMNS), dtype="<u2").tobytes())


def mr(dataset: Dataset, random: np.random.Generator) -> None:
    """As ct, of another class."""
    ct(dataset, random)
    dataset.SOPClassUID, dataset.Modality = MRImageStorage, "MR"


def image(dataset: Dataset, pixels: bytes, bits: int = 16) -> None:
    """The pixel module of a grey image."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = ROWS, COLUMNS
    dataset.BitsAllocated = dataset.BitsStored = bits
    dataset.HighBit, dataset.PixelRepresentation = bits - 1, 0
    dataset.PixelData = pixels
    dataset["PixelData"].VR = "OW" if bits == 16 else "OB"


def jpeg(dataset: Dataset, random: np.random.Generator) -> None:
    """Encapsulated fragments of random bytes between SOI and EOI: nobody decodes them here."""
    dataset.SOPClassUID, dataset.Modality = SecondaryCaptureImageStorage, "OT"
    frame = b"\xff\xd8" + random.integers(0, 255, 3000, dtype="u1").tobytes() + b"\xff\xd9"
    image(dataset, encapsulate([frame], fragments_per_frame=3), bits=8)
    dataset["PixelData"].is_undefined_length = True
    dataset.LossyImageCompression = "01"


def sr(dataset: Dataset, random: np.random.Generator) -> None:
    """A text report: nested sequences of defined and of undefined length, no pixels."""
    dataset.SOPClassUID, dataset.Modality = BASIC_TEXT_SR, "SR"
    dataset.ValueType, dataset.ContinuityOfContent = "CONTAINER", "SEPARATE"
    dataset.ContentSequence = nested(3, undefined=True)
    dataset.ConceptNameCodeSequence = nested(2, undefined=False)
    dataset["ContentSequence"].is_undefined_length = True


def nested(depth: int, *, undefined: bool) -> Sequence:
    """A sequence with an item of its kind inside, `depth` deep, then an empty item."""
    item = Dataset()
    item.ValueType, item.TextValue = "TEXT", f"level {depth}"
    if depth > 1:
        item.ContentSequence = nested(depth - 1, undefined=undefined)
        item["ContentSequence"].is_undefined_length = undefined
    item.is_undefined_length_sequence_item = undefined
    return Sequence([item, Dataset()])


def odd(dataset: Dataset, random: np.random.Generator) -> None:
    """Private elements, empty values, an odd number of pixels, characters beyond ASCII, several values."""
    ct(dataset, random)
    block = dataset.private_block(0x0009, "FASTMOVE TEST", create=True)
    block.add_new(0x01, "UN", bytes(range(32)))
    block.add_new(0x02, "LO", "private text")
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientComments = "Grüße, 検査"
    dataset.ImageType = ["DERIVED", "SECONDARY", "", "OTHER"]
    dataset.AccessionNumber = ""
    dataset.ReferencedStudySequence = Sequence()
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.Rows, dataset.Columns = 7, 63, 63
    dataset.PixelData = random.integers(0, 255, 63 * 63 + 1, dtype="u1").tobytes()


Fill = Callable[[Dataset, np.random.Generator], None]
ROWS_OF_CORPUS: Final[tuple[tuple[int, int, int, Fill, str, int], ...]] = (  # patient, study, series, …, instances
    (1, 1, 1, ct, ExplicitVRLittleEndian, 4),
    (1, 1, 2, ct, ImplicitVRLittleEndian, 2),
    (1, 1, 3, sr, ExplicitVRLittleEndian, 1),
    (1, 2, 1, mr, ImplicitVRLittleEndian, 3),
    (1, 2, 2, odd, ExplicitVRLittleEndian, 1),
    (2, 3, 1, ct, ExplicitVRBigEndian, 1),
    (2, 3, 2, ct, DeflatedExplicitVRLittleEndian, 1),
    (2, 3, 3, jpeg, JPEGBaseline8Bit, 2),
    (2, 3, 4, sr, ImplicitVRLittleEndian, 1),
)


def write_corpus(directory: Path, seed: int = 20240229) -> Corpus:
    """Write all files below `directory`."""
    random, files = np.random.default_rng(seed), []
    for patient, study, series, fill, syntax, count in ROWS_OF_CORPUS:
        for number in range(1, count + 1):
            dataset = Dataset()
            dataset.PatientID, dataset.PatientName = f"PAT{patient}", f"Test^Patient{patient}"
            dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
            dataset.StudyInstanceUID, dataset.StudyID = f"{ROOT}.{study}", str(study)
            dataset.StudyDate, dataset.StudyTime, dataset.AccessionNumber = f"2024010{study}", "120000", f"A{study}"
            dataset.SeriesInstanceUID, dataset.SeriesNumber = f"{ROOT}.{study}.{series}", series
            dataset.SOPInstanceUID, dataset.InstanceNumber = f"{ROOT}.{study}.{series}.{number}", number
            fill(dataset, random)
            path = directory / f"p{patient}-s{study}-{series}-{number}.dcm"
            save(dataset, syntax, path)
            files.append(
                CorpusFile(
                    path,
                    dataset.PatientID,
                    dataset.StudyInstanceUID,
                    dataset.SeriesInstanceUID,
                    str(dataset.SOPClassUID),
                    dataset.SOPInstanceUID,
                    str(syntax),
                )
            )
    return Corpus(directory, tuple(files))


def save(dataset: Dataset, syntax: str, path: Path) -> None:
    """A Part 10 file in this transfer syntax."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    if syntax == ExplicitVRBigEndian:
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    dataset.save_as(path, enforce_file_format=True)
