"""Archives as hospitals have them: objects of many kinds, of many makers, in most transfer syntaxes.

Most are the files that come with pydicom, under other UIDs and of other patients; what it has none of is made here.
Everything follows from the seed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import numpy as np
import pydicom
from pydicom.data import get_testdata_file
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    EncapsulatedPDFStorage,
    ExplicitVRLittleEndian,
    GrayscaleSoftcopyPresentationStateStorage,
    ImplicitVRLittleEndian,
    KeyObjectSelectionDocumentStorage,
)

from fastmove.limits import UID_BYTES
from tests import corpus

ROOT: Final = "1.2.826.0.1.3680043.10.9999.8"

# ---------------------------------------------------------------------- objects


def _of_pydicom(name: str) -> Dataset:
    """A file that comes with pydicom, all its text read, so that it can be written in other characters."""
    path = get_testdata_file(name, download=False)
    assert isinstance(path, str), name
    dataset = pydicom.dcmread(path, force=True)
    dataset.decode()
    if "TransferSyntaxUID" not in dataset.file_meta:  # a data set alone
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    return dataset


def _made(syntax: str, fill: Callable[[Dataset, np.random.Generator], None]) -> Dataset:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = UID(syntax)
    fill(dataset, np.random.default_rng(1))
    return dataset


def _projection(rows: int, columns: int, sop_class: str, modality: str) -> Callable[..., None]:
    def fill(dataset: Dataset, random: np.random.Generator) -> None:
        dataset.SOPClassUID, dataset.Modality = sop_class, modality
        corpus.image(dataset, random.integers(0, 4096, (rows, columns), dtype="<u2").tobytes())
        dataset.Rows, dataset.Columns = rows, columns

    return fill


def _document(dataset: Dataset, random: np.random.Generator) -> None:
    """A PDF of an odd length, padded."""
    dataset.SOPClassUID, dataset.Modality = EncapsulatedPDFStorage, "DOC"
    dataset.DocumentTitle, dataset.MIMETypeOfEncapsulatedDocument = "Befund", "application/pdf"
    dataset.ConversionType, dataset.BurnedInAnnotation = "WSD", "YES"
    pdf = b"%PDF-1.4\n" + random.integers(0, 255, 20_000, dtype="u1").tobytes() + b"\n%%EOF\n"
    dataset.EncapsulatedDocumentLength = len(pdf)
    dataset.EncapsulatedDocument = pdf + bytes(len(pdf) % 2)


def _presentation_state(dataset: Dataset, random: np.random.Generator) -> None:
    dataset.SOPClassUID, dataset.Modality = GrayscaleSoftcopyPresentationStateStorage, "PR"
    dataset.ContentLabel, dataset.PresentationLUTShape = "LUNG", "IDENTITY"
    dataset.ReferencedSeriesSequence = corpus.nested(2, undefined=True)
    area = Dataset()
    area.DisplayedAreaTopLeftHandCorner, area.DisplayedAreaBottomRightHandCorner = [1, 1], [512, 512]
    dataset.DisplayedAreaSelectionSequence = [area]


def _key_objects(dataset: Dataset, random: np.random.Generator) -> None:
    """As short as they come."""
    dataset.SOPClassUID, dataset.Modality = KeyObjectSelectionDocumentStorage, "KO"
    dataset.ValueType = "CONTAINER"


def _private(dataset: Dataset, random: np.random.Generator) -> None:
    """Also sequences of a maker, one in the other."""
    corpus.odd(dataset, random)
    block = dataset.private_block(0x0029, "FASTMOVE NESTED", create=True)
    block.add_new(0x10, "SQ", corpus.nested(3, undefined=True))
    block.add_new(0x11, "SQ", corpus.nested(2, undefined=False))
    block.add_new(0x12, "OB", bytes(range(7)) + b"\0")


KINDS: Final[dict[str, Callable[[], Dataset]]] = {
    **{
        name: lambda file=file: _of_pydicom(file)  # type: ignore[misc]
        for name, file in {
            "ct": "CT_small.dcm",
            "ct-j2k": "693_J2KI.dcm",
            "mr": "MR_small.dcm",
            "mr-implicit": "MR_small_implicit.dcm",
            "mr-big-endian": "MR_small_bigendian.dcm",
            "mr-rle": "MR_small_RLE.dcm",
            "mr-j2k": "MR_small_jp2klossless.dcm",
            "mr-jls": "MR_small_jpeg_ls_lossless.dcm",
            "mr-padded": "MR_small_padded.dcm",
            "us": "examples_palette.dcm",
            "us-rgb": "examples_rgb_color.dcm",
            "us-j2k": "examples_jpeg2k.dcm",
            "us-loop": "examples_ybr_color.dcm",
            "sc-odd": "SC_rgb_small_odd.dcm",
            "sc-jpeg": "SC_rgb_jpeg_dcmtk.dcm",
            "sc-jpeg-lossless": "SC_rgb_jpeg_gdcm.dcm",
            "sc-jpeg-extended": "JPGExtended.dcm",
            "sc-jls": "JPEGLSNearLossless_08.dcm",
            "sc-rle-frames": "SC_rgb_rle_2frame.dcm",
            "sc-deflated": "image_dfl.dcm",
            "seg": "liver_1frame.dcm",
            "dose": "rtdose.dcm",
            "plan": "rtplan.dcm",
            "structures": "rtstruct.dcm",
            "report": "reportsi.dcm",
            "measurements": "test-SR.dcm",
            "ecg": "waveform_ecg.dcm",
        }.items()
    },
    "cr": lambda: _made(ImplicitVRLittleEndian, _projection(301, 199, ComputedRadiographyImageStorage, "CR")),
    "dx": lambda: _made(ExplicitVRLittleEndian, _projection(1401, 801, DigitalXRayImageStorageForPresentation, "DX")),
    "pdf": lambda: _made(ExplicitVRLittleEndian, _document),
    "pr": lambda: _made(ImplicitVRLittleEndian, _presentation_state),
    "ko": lambda: _made(ExplicitVRLittleEndian, _key_objects),
    "private": lambda: _made(ExplicitVRLittleEndian, _private),
    "private-implicit": lambda: _made(ImplicitVRLittleEndian, _private),
}
"""By name, each in a transfer syntax."""


@cache
def _template(kind: str) -> Dataset:
    return KINDS[kind]()


# ---------------------------------------------------------------------- studies


class Series(NamedTuple):
    """So many objects of a kind."""

    kind: str
    least: int = 1
    most: int = 1


EXAMINATIONS: Final[tuple[tuple[int, tuple[Series, ...]], ...]] = (
    (24, (Series("cr", 1, 2),)),
    (12, (Series("ct", 2, 8), Series("report"))),
    (10, (Series("mr", 2, 6), Series("mr-implicit", 1, 4), Series("mr-rle", 1, 3))),
    (10, (Series("sc-jpeg", 1, 4), Series("sc-jpeg-lossless"))),
    (8, (Series("report"),)),
    (6, (Series("pdf"), Series("ko"))),
    (5, (Series("us-loop"), Series("us-j2k"))),
    (4, (Series("us"), Series("us-rgb"), Series("measurements"))),
    (4, (Series("ct-j2k", 3, 9), Series("seg"), Series("pr", 1, 2))),
    (4, (Series("mr-j2k", 2, 6), Series("mr-jls", 2, 6), Series("mr-padded"))),
    (4, (Series("mr-implicit", 1, 3), Series("structures"), Series("plan"), Series("dose"))),
    (4, (Series("private"), Series("private-implicit", 1, 2))),
    (3, (Series("sc-odd"), Series("sc-jpeg-extended"), Series("sc-jls", 1, 2), Series("sc-rle-frames"))),
    (3, (Series("mr-big-endian", 1, 5), Series("sc-deflated"))),
    (2, (Series("ecg"),)),
    (2, (Series("mr", 50, 90), Series("mr-implicit", 10, 30), Series("ko"))),
    (1, (Series("dx", 1, 2),)),
)
"""How often there is which: from single objects to studies of many."""


class Person(NamedTuple):
    """A name, in characters that it can be written in."""

    character_set: str | list[str]
    name: str
    description: str


PERSONS: Final = (
    Person("ISO_IR 100", "Müller-Lüdenscheidt^Jürgen^^Dr.", "Schädel nativ, 2× täglich"),
    Person("ISO_IR 192", "山田^太郎=やまだ^たろう", "胸部 X線 — Ω"),
    Person("ISO_IR 144", "Люкceмбypг^Марина", "Грудная клетка"),
    Person(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", "CHEST"),
    Person("", "O'Brien^Mary-Ann^J.", "KNEE * ? /"),
    Person("ISO_IR 100", "", ""),
)
PATIENT_IDS: Final = ("{}", "0{} ", "PAT/{}^A", "7*{}", "{}..", "", "Müller{}")
"""Of their numbers; of some there is none."""

UNDATED_EVERY: Final = 17
"""So many studies, and one of them has no date."""

_UIDS: Final[tuple[Callable[[str], str], ...]] = (
    lambda places: f"{ROOT}.{places}",
    lambda places: f"2.25.{10**37 + int(''.join(f'{int(each) + 1:05}' for each in places.split('.')))}",
    lambda places: f"{ROOT}.{'7' * (UID_BYTES - len(ROOT) - len(places) - 2)}.{places}",
    lambda places: f"1.3.{places}",
)
"""How makers make them: from a few characters to 64, even and odd."""


class MixedFile(NamedTuple):
    """A file of the archive."""

    path: Path
    study: str
    sop_instance: str
    kind: str


def write(studies: int, folder: Path, seed: int = 1) -> list[MixedFile]:
    """Write an archive of so many studies; two of a patient come after each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what makers write is not always as it should be
        return list(_written(studies, folder, Random(seed)))


def _written(studies: int, folder: Path, random: Random) -> Iterator[MixedFile]:
    examinations = [series for weight, series in EXAMINATIONS for _ in range(weight)]
    for study in range(studies):
        patient = study // 2
        # Each examination has been once before chance decides.
        series = EXAMINATIONS[study][1] if study < len(EXAMINATIONS) else random.choice(examinations)
        person, uid = PERSONS[patient % len(PERSONS)], _UIDS[study % len(_UIDS)]
        shared = Dataset()
        shared.SpecificCharacterSet = person.character_set
        shared.PatientName, shared.StudyDescription = person.name, person.description
        shared.PatientID = PATIENT_IDS[patient % len(PATIENT_IDS)].format(patient)
        shared.PatientBirthDate, shared.PatientSex = "" if patient % 3 else "19500229", "O"
        shared.StudyInstanceUID, shared.StudyID = uid(f"{study}"), f"{study}"
        dated = study % UNDATED_EVERY != UNDATED_EVERY - 1
        shared.StudyDate = f"{1995 + study % 30}{1 + study % 12:02}{1 + study % 28:02}" if dated else ""
        shared.StudyTime, shared.AccessionNumber = "" if study % 5 else "120000.123", f"A{study}" if study % 7 else ""
        for at, (kind, least, most) in enumerate(series):
            shared.SeriesInstanceUID, shared.SeriesNumber = uid(f"{study}.{at}"), at
            for number in range(random.randint(least, most)):
                shared.SOPInstanceUID, shared.InstanceNumber = uid(f"{study}.{at}.{number}"), number
                path = folder / f"{study}" / f"{at}.{number}.dcm"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(_encoded(kind, shared))
                yield MixedFile(path, shared.StudyInstanceUID, shared.SOPInstanceUID, kind)


def _encoded(kind: str, shared: Dataset) -> bytes:
    template, dataset = _template(kind), Dataset()
    dataset.update(template)
    dataset.update(shared)
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = template.file_meta.TransferSyntaxUID
    file = BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()
