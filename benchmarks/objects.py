"""What is sent: synthetic SOP Instances as templates, the workloads made of them, and the check that all arrived.

A template's data set is a head, in which only the last ten digits of the SOP Instance UID differ from object to
object, and a tail that repeats one pattern. All lengths are explicit and all UIDs even, so that a peer which decodes
and encodes again (Explicit VR Little Endian) comes out with the same bytes, and every file can be compared. If a
workload wants sequences of undefined length, as many modalities send them, the template knows what comes out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.uid import (
    UID,
    BasicTextSRStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

UID_ROOT = "2.25.117642099563019275834610247721880532961"
"""A UUID's arc (X.667); four digits for the study and the ten of the counter still fit in 64 characters."""

COUNTER_DIGITS = 10
"""The counter begins with a 1, as a UID component may not begin with a 0 (PS3.5 9.1)."""

SYNTHETIC_UID = re.compile(rb"%b\.\d{4}\.1\d{9}" % re.escape(UID_ROOT.encode()))
META_AT = 144
"""Preamble, prefix and the group length element lie before; the group length is the last four bytes (PS3.10 7.1)."""

PATTERN_BYTES = 1 << 20
FRAME_BYTES = 512 * 512 * 2
PIXEL_DATA_HEADER_BYTES = 12


class Mismatch(Exception):
    """Not every object arrived once and whole."""


@cache
def pattern() -> bytes:
    """12-bit noise in 16-bit words, as uncompressed pixels look."""
    return np.random.default_rng(1).integers(0, 4096, PATTERN_BYTES // 2, dtype="<u2").tobytes()


def counter(number: int) -> bytes:
    return b"%d" % (10 ** (COUNTER_DIGITS - 1) + number)


@dataclass(frozen=True)
class Template:
    """Any number of SOP Instances that differ in their SOP Instance UID only; `size` is a data set's, in bytes."""

    sop_class: str
    study: str
    instance: str
    head: bytes
    size: int
    explicit: Template | None = None
    """The same with explicit lengths, if it has others: what normal mode of movescu and storescp writes."""

    def instance_uid(self, number: int) -> bytes:
        return self.instance.encode()[:-COUNTER_DIGITS] + counter(number)

    def head_of(self, number: int) -> bytes:
        return self.head.replace(self.instance.encode(), self.instance_uid(number), 1)

    def tail(self) -> Iterator[bytes]:
        """The bytes after the head, in pieces."""
        left = self.size - len(self.head)
        while left > 0:
            yield pattern()[:left]
            left -= PATTERN_BYTES

    def file_head(self) -> bytes:
        """Preamble and File Meta Information of object 0 (PS3.10 7.1)."""
        meta = FileMetaDataset()
        meta.FileMetaInformationVersion = b"\0\1"
        meta.MediaStorageSOPClassUID = UID(self.sop_class)
        meta.MediaStorageSOPInstanceUID = UID(self.instance)
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        meta.ImplementationClassUID = UID(UID_ROOT)
        buffer = DicomBytesIO()
        write_file_meta_info(buffer, meta)
        return bytes(128) + b"DICM" + buffer.getvalue()

    def write_files(self, folder: Path, numbers: range) -> None:
        """One Part-10 file per object."""
        file_head = self.file_head()
        for number in numbers:
            uid = self.instance_uid(number)
            with (folder / f"{uid.decode()}.dcm").open("wb") as file:
                file.write(file_head.replace(self.instance.encode(), uid) + self.head_of(number))
                file.writelines(self.tail())

    def write_template(self, path: Path) -> None:
        """What `yardstick send` reads: the head, then one period of the tail."""
        path.write_bytes(self.head + pattern())


def _encoded(elements: Dataset) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, elements)
    return bytes(buffer.getvalue())


def _code(value: str, scheme: str, meaning: str) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return item


def _general(sop_class: str, study: int) -> Dataset:
    d = Dataset()
    d.SpecificCharacterSet = "ISO_IR 100"
    d.SOPClassUID = sop_class
    d.SOPInstanceUID = f"{UID_ROOT}.{1000 + study}.{counter(0).decode()}"
    d.StudyInstanceUID = f"{UID_ROOT}.{1000 + study}.1"
    d.SeriesInstanceUID = f"{UID_ROOT}.{1000 + study}.2"
    for keyword in ("StudyDate", "SeriesDate", "ContentDate", "InstanceCreationDate"):
        setattr(d, keyword, "20250102")
    for keyword in ("StudyTime", "SeriesTime", "ContentTime", "InstanceCreationTime"):
        setattr(d, keyword, "101530.250000")
    d.AccessionNumber, d.StudyID = f"A{study:07d}", f"S{study:05d}"
    d.Manufacturer, d.ManufacturerModelName = "Synthetic", "Yardstick"
    d.InstitutionName, d.InstitutionAddress = "Hospital of Nowhere", "1 Loopback Lane, Localhost"
    d.StationName, d.InstitutionalDepartmentName = "BENCH1", "Radiology"
    d.ReferringPhysicianName, d.StudyDescription = "Referrer^Any", "Thorax^Routine"
    d.PatientName, d.PatientID = "Bench^Mark", "BENCH-0001"
    d.PatientBirthDate, d.PatientSex, d.PatientAge, d.PatientWeight = "19600101", "O", "065Y", "75.5"
    d.SeriesNumber, d.InstanceNumber = "1", "1"
    return d


def _report(size: int, study: int) -> Dataset:
    d = _general(BasicTextSRStorage, study)
    d.Modality, d.ValueType, d.ContinuityOfContent = "SR", "CONTAINER", "SEPARATE"
    d.CompletionFlag, d.VerificationFlag = "COMPLETE", "UNVERIFIED"
    d.ReferencedPerformedProcedureStepSequence, d.PerformedProcedureCodeSequence = [], []
    d.ConceptNameCodeSequence = [_code("18748-4", "LN", "Diagnostic Imaging Report")]
    d.ContentSequence = []
    missing = size - len(_encoded(d))
    while missing > 0:
        finding = Dataset()
        finding.RelationshipType, finding.ValueType = "CONTAINS", "TEXT"
        finding.ConceptNameCodeSequence = [_code("121071", "DCM", "Finding")]
        finding.TextValue = f"Finding {len(d.ContentSequence):04d}: nothing of note in this synthetic report."
        d.ContentSequence.append(finding)
        missing -= len(_encoded(finding)) + 8
    return d


def _image(size: int, study: int, *, multi_frame: bool) -> Dataset:
    d = _general(MultiFrameGrayscaleWordSecondaryCaptureImageStorage if multi_frame else CTImageStorage, study)
    d.Modality, d.SeriesDescription, d.ProtocolName = "CT", "Thorax 5.0 soft", "ThoraxRoutine"
    d.ImageType, d.BodyPartExamined, d.PatientPosition = ["ORIGINAL", "PRIMARY", "AXIAL"], "CHEST", "HFS"
    d.ProcedureCodeSequence = [_code("CTTHOR", "99BENCH", "CT of the thorax")]
    d.SliceThickness, d.KVP, d.XRayTubeCurrent, d.ExposureTime = "5.0", "120", "210", "500"
    d.DataCollectionDiameter, d.ReconstructionDiameter, d.GantryDetectorTilt = "500", "380", "0"
    d.TableHeight, d.RotationDirection, d.FilterType, d.ConvolutionKernel = "152", "CW", "WEDGE", "B30f"
    d.ImagePositionPatient, d.ImageOrientationPatient = ["-190.5", "-340.5", "-120.5"], ["1", "0", "0", "0", "1", "0"]
    d.FrameOfReferenceUID, d.SliceLocation = f"{UID_ROOT}.{1000 + study}.3", "-120.5"
    d.SamplesPerPixel, d.PhotometricInterpretation = 1, "MONOCHROME2"
    d.PixelSpacing, d.BitsAllocated, d.BitsStored, d.HighBit, d.PixelRepresentation = ["0.75", "0.75"], 16, 12, 11, 0
    d.WindowCenter, d.WindowWidth, d.RescaleIntercept, d.RescaleSlope = "40", "400", "-1024", "1"
    d.RequestAttributesSequence = [_code("CTTHOR", "99BENCH", "CT of the thorax")]
    if multi_frame:
        d.Rows = d.Columns = 512
        d.NumberOfFrames = str(max(1, size // FRAME_BYTES))
    else:
        d.Columns = 512 if size > 200_000 else 64
        d.Rows = max(1, (size - len(_encoded(d)) - PIXEL_DATA_HEADER_BYTES) // (2 * d.Columns))
    return d


KINDS: dict[str, Callable[[int, int], Dataset]] = {
    "report": _report,
    "image": lambda size, study: _image(size, study, multi_frame=False),
    "multi-frame": lambda size, study: _image(size, study, multi_frame=True),
}


def _with_undefined_length(_: Dataset, element: DataElement) -> None:
    """Sequence and items end with delimiters (PS3.5 7.5.1, 7.5.2)."""
    if element.VR == "SQ":
        element.is_undefined_length = True
        for item in element.value:
            item.is_undefined_length_sequence_item = True


@cache
def template(kind: str, size: int, study: int = 1, *, series: int = 1, undefined_lengths: bool = False) -> Template:
    """About `size` bytes of data set; all UIDs are those of `study` (0 to 8999) and `series` (1 to 8)."""
    d = KINDS[kind](size, study)
    d.SeriesInstanceUID = f"{UID_ROOT}.{1000 + study}.{1 + series}"
    if undefined_lengths:
        d.walk(_with_undefined_length)
    explicit = template(kind, size, study, series=series) if undefined_lengths else None
    head, tail = _encoded(d), 0
    if "Rows" in d:
        tail = 2 * d.Rows * d.Columns * int(d.get("NumberOfFrames", 1))
        head += b"\xe0\x7f\x10\x00OW\0\0" + tail.to_bytes(4, "little")
    return Template(d.SOPClassUID, d.StudyInstanceUID, d.SOPInstanceUID, head, len(head) + tail, explicit)


@dataclass(frozen=True)
class Workload:
    """`objects` SOP Instances of about `size` bytes each."""

    name: str
    kind: str
    objects: int
    size: int
    what: str
    spin_us: int = 0
    """How long the sender polls for a response: waking an idle virtual CPU would take it longer than the receiver."""
    undefined_lengths: bool = False
    series: int = 1

    def template(self, size: int, study: int = 1, series: int = 1) -> Template:
        """Its objects, if they are to have `size` bytes."""
        return template(self.kind, size, study, series=series, undefined_lengths=self.undefined_lengths)

    def within(self, objects: float, least: int) -> tuple[int, int]:
        """(objects, size) for a budget of so many whole objects, at most all: fewer, or if need be smaller ones."""
        budget = min(objects, self.objects)
        if budget >= least:
            return int(budget), self.size
        return least, self.size if self.size < FRAME_BYTES * 8 else max(FRAME_BYTES, int(self.size * budget / least))


def workloads(*rows: Workload) -> dict[str, Workload]:
    return {w.name: w for w in rows}


STORE = workloads(
    Workload("T", "report", 10_000, 8 << 10, "10,000 x 8 KiB Basic Text SR", spin_us=1000),
    Workload("S", "image", 2_000, 526 << 10, "2,000 x 526 KiB CT"),
    Workload("L", "multi-frame", 2, 1 << 30, "2 x 1 GiB multi-frame"),
)
"""The workloads of `receive` and `send`."""

NORMAL = STORE | workloads(
    replace(STORE["S"], name="SU", what=f"{STORE['S'].what}, undefined lengths", undefined_lengths=True),
    replace(STORE["L"], name="LU", what=f"{STORE['L'].what}, undefined lengths", undefined_lengths=True),
)
"""The workloads of `movescu`: with undefined lengths its normal mode has something to write anew."""

MOVE = workloads(
    Workload("A", "image", 1, 526_000, "a study of 1 x 526 KB"),
    Workload("C", "image", 500, 526_000, "a study of 500 x 526 KB"),
    Workload("D", "image", 3_000, 12_000, "a study of 3,000 x 12 KB"),
)
"""The workloads of `retrieve`."""

DISTANT = workloads(
    MOVE["C"],
    replace(MOVE["C"], name="C5", what="a study of 500 x 526 KB in five series", series=5),
)
"""The workloads of `wan`."""


SOP_INSTANCE_UID = re.compile(rb"\x02\0\x03\0UI(..)", re.DOTALL)
"""Media Storage SOP Instance UID of the File Meta Information; its length."""


def datasets(folder: Path) -> dict[bytes, tuple[Path, int]]:
    """Where each object of a folder begins, by SOP Instance UID; Mismatch if one is there twice."""
    found: dict[bytes, tuple[Path, int]] = {}
    for path in folder.rglob("*"):
        if not path.is_file():
            continue
        with path.open("rb") as file:
            start = file.read(META_AT)
            if start[128:132] != b"DICM":
                continue
            meta = file.read(int.from_bytes(start[-4:], "little"))
        at = SOP_INSTANCE_UID.search(meta)
        if not at:
            raise Mismatch(f"{path.name} has no SOP Instance UID")
        uid = meta[at.end() : at.end() + int.from_bytes(at[1], "little")].rstrip(b"\0")
        if uid in found:
            raise Mismatch(f"{path.name} is the same object as {found[uid][0].name}")
        found[uid] = path, META_AT + len(meta)
    return found


def compare(folder: Path, original: Path) -> None:
    """Mismatch unless `folder` holds exactly the objects of `original`, each once, every byte of each data set."""
    found, wanted = datasets(folder), datasets(original)
    if found.keys() != wanted.keys():
        strange = len(found.keys() - wanted.keys())
        raise Mismatch(f"{len(found) - strange} of {len(wanted)} objects arrived, and {strange} others")
    for uid, (path, begin) in wanted.items():
        came, came_begin = found[uid]
        if came.read_bytes()[came_begin:] != path.read_bytes()[begin:]:
            raise Mismatch(f"{came.name} differs from what was sent")


def verify(folder: Path, sent: list[tuple[Template, range]], compared: int) -> None:
    """Mismatch unless `folder` holds exactly the objects sent, each once, each as long as its data set was.

    `compared` files, evenly spread, are compared byte by byte as well. Files that are not Part 10 do not count.
    """
    wanted = {t.instance_uid(n): (t, n) for t, numbers in sent for n in numbers}
    total = len(wanted)
    step = max(1, total // compared)
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as file:
            start = file.read(META_AT)
            if start[128:132] != b"DICM":
                continue
            meta = file.read(int.from_bytes(start[-4:], "little"))
            uid = SYNTHETIC_UID.search(meta)
            if not uid or uid[0] not in wanted:
                raise Mismatch(f"{path.name} is none of the {total} objects sent, or arrived twice")
            template, number = wanted.pop(uid[0])
            if path.stat().st_size - file.tell() != template.size:
                raise Mismatch(f"{path.name} holds {path.stat().st_size - file.tell()} of {template.size} bytes")
            if len(wanted) % step == 0:
                pieces = (template.head_of(number), *template.tail())
                if any(file.read(len(piece)) != piece for piece in pieces):
                    raise Mismatch(f"{path.name} differs from what was sent")
    if wanted:
        raise Mismatch(f"{total - len(wanted)} of {total} objects arrived")
