"""Part 10 files with the data sets of `raw.dataset`, as many and as large as a test needs."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from fastmove.storage.filemeta import DicomFile, FileMeta, read_file_meta
from tests.integration import raw

ROOT: Final = "1.2.826.0.1.3680043.10.9999.7"


def write_object(
    directory: Path,
    uid: str,
    *,
    study: str = ROOT,
    sop_class: str = raw.CT_IMAGE,
    transfer_syntax: str = raw.IMPLICIT_LE,
    pixel_bytes: int = 512,
) -> Path:
    """One file; its data set is implicit VR little endian whatever its transfer syntax says."""
    data = raw.dataset(uid, sop_class, study, pixel_bytes)
    path = directory / f"{uid}.{len(transfer_syntax)}.dcm"
    path.write_bytes(FileMeta(sop_class, transfer_syntax).head(uid.encode("ascii")) + data)
    return path


def write_objects(directory: Path, count: int, *, study: str = ROOT, pixel_bytes: int = 512) -> list[Path]:
    """So many instances of one series."""
    directory.mkdir(exist_ok=True)
    return [
        write_object(directory, f"{study}.1.{number}", study=study, pixel_bytes=pixel_bytes)
        for number in range(1, count + 1)
    ]


def read_files(paths: list[Path]) -> list[DicomFile]:
    """What `send` takes."""
    return [read_file_meta(path) for path in paths]


def data_set(path: Path) -> bytes:
    """The data set of a Part 10 file."""
    return raw.part10_dataset(path.read_bytes())


def data_sets(files: dict[str, Path]) -> dict[str, bytes]:
    """The data sets of Part 10 files by what names them."""
    return {uid: data_set(path) for uid, path in files.items()}
