"""Selections at real PACS: ranges, wild cards and empty values as they understand them, with and without a cap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Final

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from fastmove.dimse import identifier
from fastmove.net.requestor import associate
from fastmove.services.query_scu import texts
from fastmove.services.selection.resolution import Unresolved, resolve
from fastmove.services.selection.selection import Query, Selection, Wanted
from fastmove.services.selection.sweep import Find
from fastmove.types import PeerAddress
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN, QUERY_RETRIEVE
from fastmove.ul.negotiation import contexts_for, propose
from tests.integration.embedded import LIMITS, embedded_pacs
from tests.integration.peers import DcmtkQrScp, Orthanc

TODAY: Final = date(2024, 6, 1)
ROOT: Final = "1.2.826.0.1.3680043.10.9999.12"
CAP: Final = 12

# Date, time, patient ID: a quiet day, a busy one, a burst at one second, values of little precision, and none.
STUDIES: Final = [
    *(("20240102", f"{8 + n:02}0000", f"Q{n}") for n in range(5)),
    *(("20240103", f"{8 + n // 4:02}{n % 4 * 15:02}30", f"P{n:02}") for n in range(20)),
    *(("20240104", "101500", f"B{n:02}") for n in range(15)),
    *(("20240103", "1015", f"M{n}") for n in range(2)),
    *(("20240103", "", f"T{n}") for n in range(3)),
    *(("", "", f"D{n}") for n in range(3)),
    ("18991231", "235959.5", "X1"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An instance of each study."""
    directory = tmp_path_factory.mktemp("studies")
    for number, (day, time, patient) in enumerate(STUDIES):
        dataset = Dataset()
        dataset.SOPClassUID = CTImageStorage
        dataset.SOPInstanceUID = f"{ROOT}.{number}.1.1"
        dataset.StudyDate, dataset.StudyTime = day, time
        dataset.AccessionNumber = f"A{number}"
        dataset.Modality = "MR" if patient.startswith("Q") else "CT"
        dataset.StudyDescription = "CHEST" if number % 2 else "Head"
        dataset.PatientID, dataset.PatientName = patient, f"Name^{patient}"
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{ROOT}.{number}", f"{ROOT}.{number}.1"
        dataset.StudyID = dataset.SeriesNumber = dataset.InstanceNumber = "1"
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(directory / f"{number}.dcm", enforce_file_format=True)
    return directory


@asynccontextmanager
async def finding(peer: PeerAddress, cap: int | None = None) -> AsyncIterator[Find]:
    """C-FIND over one association; with a cap, what is more is left out without a word."""
    contexts = contexts_for([QUERY_RETRIEVE["study"].find], [EXPLICIT_VR_LITTLE_ENDIAN])
    async with associate(peer, propose("TESTSCU", peer.ae_title, contexts), LIMITS) as association:

        async def find(keys: Sequence[str], level: str) -> AsyncIterator[Mapping[str, str]]:
            query = identifier.query(keys, level=level, relational=True)
            found = [match async for match in texts(association, query)]
            for match in found[:cap]:
                yield match

        yield find


async def resolved(find: Find, *keys: str, level: str = "STUDY") -> tuple[list[Wanted], list[Unresolved]]:
    told: list[Unresolved] = []
    selection = Selection(queries=(Query(keys, level),))
    return [wanted async for wanted in resolve(selection, find, told.append, today=TODAY)], told


def studies(*days: str) -> list[str]:
    """The UIDs of the studies of these days, or of all."""
    return sorted(f"{ROOT}.{number}" for number, (day, _, _) in enumerate(STUDIES) if not days or day in days)


def uids(wanted: list[Wanted]) -> list[str]:
    return sorted(each.study_instance_uid for each in wanted)


QUERIES: Final = {
    "everything": ((), studies()),
    "range": (("StudyDate=20240101-20240131",), studies("20240102", "20240103", "20240104")),
    "open range": (("StudyDate=20240103-",), studies("20240103", "20240104")),
    "busy day": (("StudyDate=20240103",), studies("20240103")),
    "modality": (("ModalitiesInStudy=MR\\US",), studies("20240102")),
    "number": (("AccessionNumber=A7",), [f"{ROOT}.7"]),
}


@pytest.mark.parametrize("fault", [f"find-cap={CAP}", f"find-cap={CAP}:A700", "find-cap=1000"])
@pytest.mark.parametrize(("keys", "expected"), QUERIES.values(), ids=QUERIES)
async def test_all_is_found_at_the_embedded_pacs_in_spite_of_its_cap(
    fault: str, keys: tuple[str, ...], expected: list[str], folder: Path
) -> None:
    async with embedded_pacs(folder, faults=(fault,)) as pacs, finding(pacs.address) as find:
        found, told = await resolved(find, *keys)
        assert (uids(found), told) == (expected, [])


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(DcmtkQrScp, marks=pytest.mark.peer("dcmtk")),
        pytest.param(Orthanc, marks=pytest.mark.peer("dcmtk", "orthanc")),
    ],
)
async def test_all_is_found_at_archives_of_others_in_spite_of_a_cap(
    kind: type[DcmtkQrScp | Orthanc], folder: Path
) -> None:
    async with kind() as archive:
        await archive.load(sorted(folder.glob("*.dcm")))
        async with finding(PeerAddress(archive.ae_title, archive.host, archive.port), CAP) as find:
            for keys, expected in QUERIES.values():
                if not any(key.startswith("ModalitiesInStudy") for key in keys):
                    found, told = await resolved(find, *keys)
                    assert (keys, uids(found), told) == (keys, expected, [])


@pytest.mark.parametrize("fault", [None, "no-relational"])
async def test_series_without_its_study_is_found_or_the_study_is_asked_for(fault: str | None, folder: Path) -> None:
    async with embedded_pacs(folder, faults=(fault,) if fault else ()) as pacs, finding(pacs.address) as find:
        found, told = await resolved(find, f"SeriesInstanceUID={ROOT}.3.1", level="SERIES")
        if fault is None:
            assert found == [Wanted(f"{ROOT}.3", f"{ROOT}.3.1", patient_id="Q3")]
        else:
            assert not found
            assert "give the study UID" in told[0].reason
