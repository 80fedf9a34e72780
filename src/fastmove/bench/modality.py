"""What synthetic objects are made of, by modality: a SOP class, the attributes that a PACS looks at, and a payload.

They are what an archive stores, indexes and sends, with pixels that a viewer shows as noise; they are not whole IODs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN
from fastmove.values import Value


class Pixels(Value):
    """The shape of an image, or of many frames."""

    rows: int
    columns: int
    frames: int = 1
    samples: int = 1
    """Per pixel: 1 is grey, 3 is red, green and blue, each of 8 bits."""

    @property
    def nbytes(self) -> int:
        """Of all frames; a colour has one byte a sample, grey has two."""
        return self.rows * self.columns * self.frames * (self.samples if self.samples > 1 else 2)


def payload_bytes(payload: Pixels | int) -> int:
    """The length of what an object is for."""
    return payload.nbytes if isinstance(payload, Pixels) else payload


class Kind(Value):
    """A kind of object: all that differs between two of a kind are UIDs, numbers, dates and payload."""

    modality: str
    payload: Pixels | int
    """The shape of the pixels; or, of a report, the bytes of its text."""

    study_description: str = "Synthetic study"
    series_description: str = ""
    transfer_syntax: str = EXPLICIT_VR_LITTLE_ENDIAN


# ---------------------------------------------------------------------- attributes


def _grey(dataset: Dataset, pixels: Pixels) -> None:
    """The pixel module of 12-bit grey."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = pixels.rows, pixels.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 12, 11, 0


def _colour(dataset: Dataset, pixels: Pixels) -> None:
    """The pixel module of 8-bit RGB."""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.Rows, dataset.Columns = pixels.rows, pixels.columns
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 8, 8, 7, 0


def _slice(dataset: Dataset, pixels: Pixels) -> None:
    _grey(dataset, pixels)
    dataset.FrameOfReferenceUID = dataset.SeriesInstanceUID
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.PixelSpacing, dataset.SliceThickness = [0.7, 0.7], 1
    dataset.ImageOrientationPatient, dataset.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 0]


def _ct(dataset: Dataset, pixels: Pixels) -> None:
    _slice(dataset, pixels)
    dataset.KVP, dataset.RescaleIntercept, dataset.RescaleSlope = 120, -1024, 1


def _mr(dataset: Dataset, pixels: Pixels) -> None:
    _slice(dataset, pixels)
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "SE", "NONE", ""
    dataset.MRAcquisitionType, dataset.EchoTime, dataset.RepetitionTime, dataset.EchoTrainLength = "2D", 15, 500, 1


def _projection(dataset: Dataset, pixels: Pixels) -> None:
    _grey(dataset, pixels)
    dataset.ImageType, dataset.ViewPosition, dataset.BodyPartExamined = ["ORIGINAL", "PRIMARY"], "PA", "CHEST"


def _mammography(dataset: Dataset, pixels: Pixels) -> None:
    _grey(dataset, pixels)
    dataset.ImageType, dataset.BodyPartExamined, dataset.ImageLaterality = ["DERIVED", "PRIMARY"], "BREAST", "L"
    dataset.PresentationIntentType = "FOR PRESENTATION"


def _tomosynthesis(dataset: Dataset, pixels: Pixels) -> None:
    _mammography(dataset, pixels)
    dataset.NumberOfFrames = pixels.frames
    measures = Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.1, 0.1], 1
    shared = Dataset()
    shared.PixelMeasuresSequence = Sequence([measures])
    dataset.SharedFunctionalGroupsSequence = Sequence([shared])


def _ultrasound(dataset: Dataset, pixels: Pixels) -> None:
    _colour(dataset, pixels)
    dataset.ImageType, dataset.NumberOfFrames = ["ORIGINAL", "PRIMARY"], pixels.frames
    dataset.FrameTime = 33.3
    dataset.FrameIncrementPointer = 0x00181063


def _slide(dataset: Dataset, pixels: Pixels) -> None:
    _colour(dataset, pixels)
    dataset.ImageType, dataset.NumberOfFrames = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"], pixels.frames
    dataset.DimensionOrganizationType, dataset.BurnedInAnnotation = "TILED_FULL", "NO"
    across = max(1, round(pixels.frames**0.5))
    dataset.TotalPixelMatrixColumns = across * pixels.columns
    dataset.TotalPixelMatrixRows = -(-pixels.frames // across) * pixels.rows
    dataset.ContainerIdentifier = "SLIDE"


def _report(dataset: Dataset, nbytes: int) -> None:
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


# ---------------------------------------------------------------------- payloads


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


def _twelve_bits(random: np.random.Generator, count: int) -> Any:
    return random.integers(0, 4096, count, dtype=np.uint16)


def _bytes(random: np.random.Generator, count: int) -> Any:
    return random.integers(0, 256, (count, 2), dtype=np.uint8).reshape(-1).view("<u2")


def _letters(random: np.random.Generator, count: int) -> Any:
    pairs = random.integers(ord("a"), ord("z") + 1, (count, 2), dtype=np.uint8)
    return pairs.reshape(-1).view("<u2")


class Modality(NamedTuple):
    """How objects of a modality are made."""

    sop_class_uid: str
    describe: Callable[[Dataset, Any], None]
    """Adds the attributes of its own, given the shape of its payload."""

    put: Callable[[Dataset, bytes], None] = _put_pixels
    noise: Callable[[np.random.Generator, int], Any] = _twelve_bits
    """So many 16-bit words of a payload."""

    code: str = ""
    """Modality (0008,0060), if it is not the name."""

    @property
    def is_text(self) -> bool:
        """Its payload is text, and no image."""
        return self.put is _put_text

    @property
    def swapped(self) -> bool:
        """True for 16-bit words, which big endian swaps."""
        return self.noise is _twelve_bits


MODALITIES: Final[dict[str, Modality]] = {
    "CT": Modality("1.2.840.10008.5.1.4.1.1.2", _ct),
    "MR": Modality("1.2.840.10008.5.1.4.1.1.4", _mr),
    "CR": Modality("1.2.840.10008.5.1.4.1.1.1", _projection),
    "DX": Modality("1.2.840.10008.5.1.4.1.1.1.1", _projection),
    "MG": Modality("1.2.840.10008.5.1.4.1.1.1.2", _mammography),
    "TOMO": Modality("1.2.840.10008.5.1.4.1.1.13.1.3", _tomosynthesis, code="MG"),
    "US": Modality("1.2.840.10008.5.1.4.1.1.3.1", _ultrasound, noise=_bytes),
    "SM": Modality("1.2.840.10008.5.1.4.1.1.77.1.6", _slide, noise=_bytes),
    "SR": Modality("1.2.840.10008.5.1.4.1.1.88.11", _report, _put_text, _letters),
}
"""By name; `TOMO` is breast tomosynthesis, whose Modality is MG."""
