"""The embedded test PACS against DCMTK, pynetdicom and our own requestor."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any, Final

import pytest
from pydicom import dcmread

from fastmove.dimse import identifier
from fastmove.dimse.messages import CCancelRQ, CFindRQ, CMoveRQ, CMoveRSP, Request, Response, decode
from fastmove.errors import AssociationAborted
from fastmove.limits import Limits
from fastmove.net.acceptor import Acceptor
from fastmove.net.requestor import AssociationHandle, associate
from fastmove.notices import InstanceStored, Notice
from fastmove.pacs.index import Index
from fastmove.services.archive import serve_archive
from fastmove.services.listener import listen
from fastmove.services.query_retrieve_scp import SOP_CLASSES, QueryRetrieveOptions
from fastmove.services.verification import echo
from fastmove.storage.filemeta import DicomFile, read_file_meta
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from fastmove.uids import EXPLICIT_VR_LITTLE_ENDIAN, QUERY_RETRIEVE
from fastmove.ul.negotiation import AcceptPolicy, contexts_for, propose
from tests.corpus import Corpus
from tests.integration import peers, raw

HOST: Final = "127.0.0.1"
LIMITS: Final = Limits(connect_s=5.0, associate_s=5.0, artim_s=1.0, release_s=5.0, stop_s=5.0)
STUDY_ROOT: Final = QUERY_RETRIEVE["study"]
ENDLESS: Final = 50_000
"""Sub-operations that a test cannot live to see done."""


@dataclass
class Pacs:
    """A running PACS: where it is, and what it has told."""

    acceptor: Acceptor
    folder: Path
    ae_title: str = "FASTPACS"
    notices: list[Notice] = field(default_factory=list)

    @property
    def host(self) -> str:
        return HOST

    @property
    def port(self) -> int:
        return self.acceptor.port

    @property
    def address(self) -> PeerAddress:
        return PeerAddress(self.ae_title, self.host, self.port)

    def associate(self) -> AbstractAsyncContextManager[AssociationHandle]:
        """An association with a context for every Query/Retrieve SOP class."""
        contexts = contexts_for(sorted(SOP_CLASSES), [EXPLICIT_VR_LITTLE_ENDIAN])
        return associate(self.address, propose("TESTSCU", self.ae_title, contexts), LIMITS)


@asynccontextmanager
async def pacs(
    folder: Path, *destinations: PeerAddress, index: Index | None = None, suboperations_per_response: int = 1
) -> AsyncIterator[Pacs]:
    """A PACS over a folder, in the loop of the test."""
    index = index or Index()
    folder.mkdir(exist_ok=True)
    index.scan(folder)
    notices: list[Notice] = []
    options = QueryRetrieveOptions(
        ae_title="FASTPACS",
        move_destinations={peer.ae_title: peer for peer in destinations},
        suboperations_per_response=suboperations_per_response,
        limits=LIMITS,
    )
    with StorageTarget(folder, WriteOptions(durable=False)) as target:
        async with serve_archive(HOST, 0, index, target, options, notices.append) as acceptor:
            yield Pacs(acceptor, folder, notices=notices)


@pytest.fixture
def archive(corpus: Corpus, tmp_path: Path) -> Path:
    """A folder with a copy of the corpus."""
    return shutil.copytree(corpus.directory, tmp_path / "archive")


@dataclass
class Destination:
    """A storage listener of ours, and what it has told."""

    address: PeerAddress
    notices: list[Notice]
    stored: list[InstanceStored]


@asynccontextmanager
async def destination(directory: Path, **policy: Any) -> AsyncIterator[Destination]:
    """Where sub-operations go to: AE title DEST."""
    notices: list[Notice] = []
    stored: list[InstanceStored] = []
    with StorageTarget(directory, WriteOptions(durable=False)) as target:
        accept = AcceptPolicy("DEST", **policy)
        async with listen(HOST, 0, target, accept, LIMITS, notices.append, stored.append) as acceptor:
            yield Destination(PeerAddress("DEST", HOST, acceptor.port), notices, stored)


def begin(association: AssociationHandle, request: Request, sop_class: str, dataset: bytes) -> None:
    """Send a request with its identifier."""
    association.send(association.context(sop_class).context_id, request.encode(), dataset)


def study_move(association: AssociationHandle, study: str, to: str = "DEST", message_id: int = 7) -> None:
    """Send the C-MOVE-RQ for a study."""
    request = CMoveRQ(message_id=message_id, affected_sop_class_uid=STUDY_ROOT.move, move_destination=to)
    begin(association, request, STUDY_ROOT.move, keys(QueryRetrieveLevel="STUDY", StudyInstanceUID=study))


def keys(**texts: str) -> bytes:
    """An identifier."""
    return identifier.encode(identifier.from_text(texts), EXPLICIT_VR_LITTLE_ENDIAN)


async def responses(association: AssociationHandle) -> list[tuple[Response, bytes | None]]:
    """All responses up to the final one."""
    got: list[tuple[Response, bytes | None]] = []
    while not got or got[-1][0].status in (0xFF00, 0xFF01):
        received = await association.receive(30.0)
        response = decode(received.command.data)
        assert isinstance(response, Response)
        got.append((response, received.dataset))
    return got


def counters(response: Response) -> tuple[int | None, ...]:
    """Remaining, completed, failed, warning."""
    assert isinstance(response, CMoveRSP)
    return (
        response.number_of_remaining_suboperations,
        response.number_of_completed_suboperations,
        response.number_of_failed_suboperations,
        response.number_of_warning_suboperations,
    )


def failed_list(dataset: bytes | None) -> set[str]:
    """The Failed SOP Instance UID List."""
    assert dataset is not None
    return set(identifier.failed_sop_instance_uids(dataset, EXPLICIT_VR_LITTLE_ENDIAN))


def dataset_bytes(path: Path) -> bytes:
    """The data set of a Part-10 file."""
    file = read_file_meta(path)
    return path.read_bytes()[file.dataset_offset :]


def same_datasets(corpus: Corpus, study: str, stored: Mapping[str, Path]) -> None:
    """These files hold the study, byte for byte."""
    expected = {file.sop_instance: dataset_bytes(file.path) for file in corpus.of_study(study)}
    assert {uid: dataset_bytes(path) for uid, path in stored.items()} == expected


# ---------------------------------------------------------------------- DCMTK


@pytest.mark.peer("dcmtk")
async def test_findscu_gets_the_attributes_of_each_study(archive: Path, corpus: Corpus) -> None:
    async with pacs(archive) as under_test:
        code, output = await peers.run_tool(
            "findscu", "-v", "-S", "-aec", "FASTPACS", HOST, str(under_test.port),
            "-k", "QueryRetrieveLevel=STUDY", "-k", "StudyInstanceUID", "-k", "PatientName=test*",
            "-k", "NumberOfStudyRelatedInstances", "-k", "StudyDate=20240102-",
        )  # fmt: skip
    assert code == 0, output
    for study in corpus.studies:
        assert (f"[{study}" in output) is (study != corpus.studies[0])
    assert output.count("[Test^Patient") == 2
    assert "[FASTPACS]" in output


@pytest.mark.peer("dcmtk")
async def test_findscu_lists_every_image_of_a_patient(archive: Path, corpus: Corpus) -> None:
    async with pacs(archive) as under_test:
        code, output = await peers.run_tool(
            "findscu", "-v", "-P", "-aec", "FASTPACS", HOST, str(under_test.port),
            "-k", "QueryRetrieveLevel=IMAGE", "-k", "PatientID=PAT1", "-k", "SOPInstanceUID",
        )  # fmt: skip
    assert code == 0, output
    for file in corpus.files:
        assert (f"[{file.sop_instance}" in output) is (file.patient_id == "PAT1")


@pytest.mark.peer("dcmtk")
@pytest.mark.parametrize("number", [0, 1, 2])
async def test_movescu_has_a_study_sent_to_storescp_byte_for_byte(archive: Path, corpus: Corpus, number: int) -> None:
    study = corpus.studies[number]
    async with peers.DcmtkStoreScp("DEST") as third_party:
        address = PeerAddress("DEST", third_party.host, third_party.port)
        async with pacs(archive, address) as under_test:
            to = peers.Address(under_test.ae_title, HOST, under_test.port)
            code, output = await peers.movescu(to, "DEST", study)
        assert code == 0, output
        assert "Success" in output
        same_datasets(corpus, study, third_party.stored())


@pytest.mark.peer("dcmtk")
async def test_movescu_retrieves_a_study_through_its_own_port(archive: Path, corpus: Corpus, tmp_path: Path) -> None:
    port = peers.free_port()
    (tmp_path / "moved").mkdir()
    async with pacs(archive, PeerAddress("MOVESCU", HOST, port)) as under_test:
        to = peers.Address(under_test.ae_title, HOST, under_test.port)
        options = ("+P", str(port), "-od", str(tmp_path / "moved"), "+xa")
        code, output = await peers.movescu(to, "MOVESCU", corpus.studies[0], *options)
    assert code == 0, output
    # movescu encodes what it gets anew (and with +B ignores -od): the same elements, if not the same bytes.
    got = {dataset.SOPInstanceUID: dataset for dataset in map(dcmread, (tmp_path / "moved").iterdir())}
    assert got == {file.sop_instance: dcmread(file.path) for file in corpus.of_study(corpus.studies[0])}


@pytest.mark.peer("dcmtk")
async def test_object_sent_by_storescu_is_found_at_once(corpus: Corpus, tmp_path: Path) -> None:
    async with pacs(tmp_path / "empty") as under_test:
        to = peers.Address(under_test.ae_title, HOST, under_test.port)
        code, output = await peers.storescu(to, *corpus.paths)
        assert code == 0, output
        async with under_test.associate() as association:
            request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
            begin(association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel="IMAGE", SOPInstanceUID=""))
            *matches, (final, _) = await responses(association)
    found = [identifier.decode(data or b"", EXPLICIT_VR_LITTLE_ENDIAN).SOPInstanceUID for _, data in matches]
    assert final.status == 0
    assert sorted(found) == sorted(file.sop_instance for file in corpus.files)


# ---------------------------------------------------------------------- C-FIND


class EndlessIndex(Index):
    """Has matches without end, and instances almost so; counts the matches that were asked for."""

    def __init__(self, file: DicomFile | None = None, count: int = ENDLESS) -> None:
        super().__init__()
        self.matches = 0
        self._file = file
        self._count = count

    def find(self, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
        while True:
            self.matches += 1
            yield {"StudyInstanceUID": f"1.2.{self.matches}", "StudyDescription": "x" * 64}

    def instances(self, keys: Mapping[str, str]) -> list[DicomFile]:
        assert self._file is not None
        return list(repeat(self._file, self._count))


@pytest.mark.peer("pynetdicom")
async def test_pynetdicom_cancels_a_find_after_its_first_match(tmp_path: Path) -> None:
    def query(port: int) -> list[int]:
        from pydicom.dataset import Dataset

        from tests.integration.pynetdicom_reactor import mended_ae

        ae = mended_ae()
        ae.add_requested_context(STUDY_ROOT.find)
        association = ae.associate(HOST, port)
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", ""
        statuses = []
        for status, _ in association.send_c_find(wanted, STUDY_ROOT.find, msg_id=5):
            statuses.append(status.Status)
            if len(statuses) == 1:
                association.send_c_cancel(5, query_model=STUDY_ROOT.find)
        association.release()
        return statuses

    async with pacs(tmp_path / "endless", index=EndlessIndex()) as under_test:
        statuses = await asyncio.to_thread(query, under_test.port)
    assert statuses[0] == 0xFF00
    assert statuses[-1] == 0xFE00


async def test_find_waits_for_a_peer_that_does_not_read(tmp_path: Path) -> None:
    index = EndlessIndex()
    async with pacs(tmp_path / "endless", index=index) as under_test, under_test.associate() as association:
        association.connection.suspend()
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
        begin(association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel="STUDY"))
        async with asyncio.timeout(30):
            while not under_test.acceptor.connections or any(c.writable for c in under_test.acceptor.connections):
                await asyncio.sleep(0)
        asked_for = index.matches
        for _ in range(200):
            await asyncio.sleep(0)
        assert index.matches == asked_for
        association.abort()


async def test_other_associations_are_served_during_a_find(tmp_path: Path) -> None:
    async with pacs(tmp_path / "endless", index=EndlessIndex()) as under_test, under_test.associate() as association:
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
        begin(association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel="STUDY"))
        await association.receive()
        await echo(under_test.address, limits=LIMITS)
        association.abort()


async def test_second_operation_at_a_time_is_refused(tmp_path: Path) -> None:
    async with pacs(tmp_path / "endless", index=EndlessIndex()) as under_test, under_test.associate() as association:
        for message_id in (1, 2):
            request = CFindRQ(message_id=message_id, affected_sop_class_uid=STUDY_ROOT.find)
            begin(association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel="STUDY"))
        final, _ = (await responses(association))[-1]
        assert (final.status, final.message_id_being_responded_to) == (0xA700, 2)
        association.abort()


async def test_bug_in_the_archive_aborts_and_is_reported(tmp_path: Path) -> None:
    class Broken(Index):
        def find(self, keys: Mapping[str, str]) -> Iterator[dict[str, str]]:
            raise ZeroDivisionError

    reported: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))
    async with pacs(tmp_path / "broken", index=Broken()) as under_test, under_test.associate() as association:
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
        begin(association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel="STUDY"))
        with pytest.raises(AssociationAborted):
            await association.receive()
    assert [type(context["exception"]) for context in reported] == [ZeroDivisionError]


async def test_unsupported_key_makes_pending_a_warning(archive: Path) -> None:
    async with pacs(archive) as under_test, under_test.associate() as association:
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
        query = keys(QueryRetrieveLevel="STUDY", StudyInstanceUID="", Modality="CT")
        begin(association, request, STUDY_ROOT.find, query)
        assert [response.status for response, _ in await responses(association)] == [0xFF01, 0xFF01, 0xFF01, 0]


async def test_letters_beyond_ascii_are_matched_and_returned(tmp_path: Path, corpus: Corpus) -> None:
    (tmp_path / "one").mkdir()
    shutil.copy(corpus.directory / "p1-s2-2-1.dcm", tmp_path / "one")
    async with pacs(tmp_path / "one") as under_test, under_test.associate() as association:
        request = CFindRQ(message_id=1, affected_sop_class_uid=STUDY_ROOT.find)
        query = keys(QueryRetrieveLevel="STUDY", PatientComments="Grü*")
        begin(association, request, STUDY_ROOT.find, query)
        (_, match), (final, _) = await responses(association)
    assert final.status == 0
    assert identifier.decode(match or b"", EXPLICIT_VR_LITTLE_ENDIAN).PatientComments == "Grüße, 検査"


@pytest.mark.parametrize(
    ("sop_class", "dataset", "status"),
    [
        pytest.param(STUDY_ROOT.find, b"\x08\x00\x52\x00CS\xff\xff", 0xC000, id="cut-off"),
        pytest.param(STUDY_ROOT.find, keys(StudyInstanceUID=""), 0xA900, id="no-level"),
        pytest.param(STUDY_ROOT.find, keys(QueryRetrieveLevel="PATIENT"), 0xA900, id="level-of-another-model"),
        pytest.param(STUDY_ROOT.move, keys(QueryRetrieveLevel="STUDY", PatientID="1"), 0xA900, id="no-unique-key"),
        pytest.param(
            QUERY_RETRIEVE["patient"].move, keys(QueryRetrieveLevel="PATIENT", PatientID="P*"), 0xA900, id="wild-card"
        ),
    ],
)
async def test_identifier_that_cannot_be_used_gets_the_status_that_says_so(
    archive: Path, sop_class: str, dataset: bytes, status: int
) -> None:
    async with pacs(archive, PeerAddress("DEST", HOST, 1)) as under_test, under_test.associate() as association:
        request: Request = CFindRQ(message_id=1, affected_sop_class_uid=sop_class)
        if sop_class != STUDY_ROOT.find:
            request = CMoveRQ(message_id=1, affected_sop_class_uid=sop_class, move_destination="DEST")
        begin(association, request, sop_class, dataset)
        assert [response.status for response, _ in await responses(association)] == [status]


async def test_request_for_another_class_than_its_context_is_refused(archive: Path) -> None:
    async with pacs(archive) as under_test, under_test.associate() as association:
        request = CFindRQ(message_id=1, affected_sop_class_uid=QUERY_RETRIEVE["patient"].find)
        begin(association, request, STUDY_ROOT.find, keys(QueryRetrieveLevel="STUDY"))
        assert [response.status for response, _ in await responses(association)] == [0x0122]


# ---------------------------------------------------------------------- C-MOVE


async def test_move_counts_every_suboperation_and_names_its_originator(
    archive: Path, corpus: Corpus, tmp_path: Path
) -> None:
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(archive, dest.address) as under_test,
        under_test.associate() as association,
    ):
        study_move(association, corpus.studies[0], message_id=7)
        *pending, (final, dataset) = await responses(association)
    assert [counters(response) for response, _ in pending] == [(7 - n, n, 0, 0) for n in range(1, 8)]
    assert (final.status, counters(final), dataset) == (0x0000, (None, 7, 0, 0), None)
    originators = {(n.move_originator_ae_title, n.move_originator_message_id) for n in dest.stored}
    assert originators == {("TESTSCU", 7)}
    same_datasets(corpus, corpus.studies[0], {n.sop_instance_uid: Path(n.path) for n in dest.stored})


async def test_pending_responses_come_after_every_nth_suboperation(
    archive: Path, corpus: Corpus, tmp_path: Path
) -> None:
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(archive, dest.address, suboperations_per_response=3) as under_test,
        under_test.associate() as association,
    ):
        study_move(association, corpus.studies[0])
        got = await responses(association)
    assert [counters(response)[1] for response, _ in got] == [3, 6, 7]


async def test_move_of_nothing_is_a_success(archive: Path) -> None:
    async with pacs(archive, PeerAddress("DEST", HOST, 1)) as under_test, under_test.associate() as association:
        study_move(association, "1.2.3")
        ((final, _),) = await responses(association)
    assert (final.status, counters(final)) == (0x0000, (None, 0, 0, 0))


async def test_unknown_move_destination_is_refused(archive: Path, corpus: Corpus) -> None:
    async with pacs(archive) as under_test, under_test.associate() as association:
        study_move(association, corpus.studies[0], to="NOBODY")
        ((final, _),) = await responses(association)
    assert final.status == 0xA801


async def test_destination_that_does_not_listen_fails_every_suboperation(archive: Path, corpus: Corpus) -> None:
    nobody = PeerAddress("DEST", HOST, peers.free_port())
    async with pacs(archive, nobody) as under_test, under_test.associate() as association:
        study_move(association, corpus.studies[0])
        ((final, dataset),) = await responses(association)
    assert (final.status, counters(final)) == (0xA702, (None, 0, 7, 0))
    assert failed_list(dataset) == {file.sop_instance for file in corpus.of_study(corpus.studies[0])}
    assert "cannot connect" in (final.error_comment or "")


async def test_objects_without_an_accepted_context_are_listed_as_failed(
    archive: Path, corpus: Corpus, tmp_path: Path
) -> None:
    only_ct = {"abstract_syntaxes": frozenset({raw.CT_IMAGE}), "any_storage_sop_class": False}
    async with (
        destination(tmp_path / "moved", **only_ct) as dest,
        pacs(archive, dest.address) as under_test,
        under_test.associate() as association,
    ):
        study_move(association, corpus.studies[0])
        *_, (final, dataset) = await responses(association)
    others = {f.sop_instance for f in corpus.of_study(corpus.studies[0]) if f.sop_class != raw.CT_IMAGE}
    assert (final.status, counters(final)) == (0xB000, (None, 7 - len(others), len(others), 0))
    assert failed_list(dataset) == others != set()


async def test_file_that_is_gone_fails_alone(archive: Path, corpus: Corpus, tmp_path: Path) -> None:
    gone = corpus.of_study(corpus.studies[0])[2]
    async with destination(tmp_path / "moved") as dest, pacs(archive, dest.address) as under_test:
        (archive / gone.path.name).unlink()
        async with under_test.associate() as association:
            study_move(association, corpus.studies[0])
            *_, (final, dataset) = await responses(association)
    assert (final.status, counters(final)) == (0xB000, (None, 6, 1, 0))
    assert failed_list(dataset) == {gone.sop_instance}


async def test_counters_stand_still_at_what_16_bits_hold(corpus: Corpus, tmp_path: Path) -> None:
    index = EndlessIndex(read_file_meta(corpus.files[0].path), count=70_000)
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(tmp_path / "endless", dest.address, index=index) as under_test,
        under_test.associate() as association,
    ):
        study_move(association, "1.2.3")
        response = decode((await association.receive()).command.data)
        assert isinstance(response, CMoveRSP)
        assert counters(response) == (0xFFFF, 1, 0, 0)
        association.abort()


async def test_cancel_ends_a_move_with_what_remains(corpus: Corpus, tmp_path: Path) -> None:
    index = EndlessIndex(read_file_meta(corpus.files[0].path))
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(tmp_path / "endless", dest.address, index=index) as under_test,
        under_test.associate() as association,
    ):
        study_move(association, "1.2.3", message_id=7)
        await association.receive()
        cancel = CCancelRQ(message_id_being_responded_to=7)
        association.send(association.context(STUDY_ROOT.move).context_id, cancel.encode())
        final, _ = (await responses(association))[-1]
    remaining, completed, failed, warning = counters(final)
    assert final.status == 0xFE00
    assert remaining and completed
    assert (remaining + completed, failed, warning) == (ENDLESS, 0, 0)


@pytest.mark.peer("pynetdicom")
async def test_pynetdicom_cancels_a_move(corpus: Corpus, tmp_path: Path) -> None:
    def move(port: int) -> list[Any]:
        from pydicom.dataset import Dataset

        from tests.integration.pynetdicom_reactor import mended_ae

        ae = mended_ae()
        ae.add_requested_context(STUDY_ROOT.move)
        association = ae.associate(HOST, port)
        wanted = Dataset()
        wanted.QueryRetrieveLevel, wanted.StudyInstanceUID = "STUDY", "1.2.3"
        statuses = []
        for status, _ in association.send_c_move(wanted, "DEST", STUDY_ROOT.move, msg_id=9):
            statuses.append(status)
            if len(statuses) == 1:
                association.send_c_cancel(9, query_model=STUDY_ROOT.move)
        association.release()
        return statuses

    index = EndlessIndex(read_file_meta(corpus.files[0].path))
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(tmp_path / "endless", dest.address, index=index) as under_test,
    ):
        statuses = await asyncio.to_thread(move, under_test.port)
    assert statuses[-1].Status == 0xFE00
    assert 0 < statuses[-1].NumberOfRemainingSuboperations < ENDLESS


async def test_cancel_of_another_message_changes_nothing(archive: Path, corpus: Corpus, tmp_path: Path) -> None:
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(archive, dest.address) as under_test,
        under_test.associate() as association,
    ):
        study_move(association, corpus.studies[0], message_id=7)
        cancel = CCancelRQ(message_id_being_responded_to=8)
        association.send(association.context(STUDY_ROOT.move).context_id, cancel.encode())
        final, _ = (await responses(association))[-1]
    assert final.status == 0x0000
    assert "dimse.cancel_ignored" in [notice.event for notice in under_test.notices]


async def test_lost_association_ends_its_suboperations(corpus: Corpus, tmp_path: Path) -> None:
    index = EndlessIndex(read_file_meta(corpus.files[0].path))
    async with (
        destination(tmp_path / "moved") as dest,
        pacs(tmp_path / "endless", dest.address, index=index) as under_test,
    ):
        async with under_test.associate() as association:
            study_move(association, "1.2.3")
            await association.receive()
            association.abort()
        async with asyncio.timeout(5):
            while not any(notice.event == "assoc.closed" for notice in dest.notices):
                await asyncio.sleep(0)
    assert len(dest.stored) < ENDLESS
    assert not [notice for notice in under_test.notices if notice.event == "move.answered"]


async def test_stopping_the_pacs_ends_its_moves(corpus: Corpus, tmp_path: Path) -> None:
    index = EndlessIndex(read_file_meta(corpus.files[0].path))
    async with destination(tmp_path / "moved") as dest:
        async with pacs(tmp_path / "endless", dest.address, index=index) as under_test:
            contexts = contexts_for([STUDY_ROOT.move], [EXPLICIT_VR_LITTLE_ENDIAN])
            running = associate(under_test.address, propose("TESTSCU", "FASTPACS", contexts), LIMITS)
            association = await running.__aenter__()
            study_move(association, "1.2.3")
            await association.receive()
        await association.close()
    assert len(dest.stored) < ENDLESS


# ---------------------------------------------------------------------- fastmove pacs


async def test_pacs_command_says_when_it_is_ready_and_leaves_nothing_behind(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fastmove", "pacs", "--port", "0", "--synthetic", "studies=2,instances=3,size=5k",
        "--move-destination", "DEST@127.0.0.1:11112", "--json",
        stdout=asyncio.subprocess.PIPE, env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert process.stdout is not None
    try:
        ready = json.loads(await process.stdout.readline())
        assert ready["event"] == "pacs.ready"
        assert [ready[level] for level in ("patients", "studies", "series", "instances")] == [2, 2, 4, 12]
        assert list(tmp_path.iterdir())
        await echo(PeerAddress(ready["ae_title"], HOST, ready["port"]), limits=LIMITS)
    finally:
        process.send_signal(signal.SIGTERM)
        await process.communicate()
    assert process.returncode == 0
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing-to-serve"),
        pytest.param(["--folder", ".", "--synthetic", "studies=1"], id="both"),
        pytest.param(["--folder", "does-not-exist"], id="no-folder"),
        pytest.param(["--folder", ".", "--keep", "x"], id="nothing-to-keep"),
        pytest.param(["--synthetic", "studies=x"], id="bad-spec"),
        pytest.param(["--synthetic", "studies=1", "--fault", "explode"], id="bad-fault"),
    ],
)
def test_pacs_command_refuses_what_makes_no_sense(arguments: list[str]) -> None:
    from click.testing import CliRunner

    from fastmove.cli.pacs import command

    result = CliRunner().invoke(command, ["--port", "0", *arguments])
    assert result.exit_code == 1
    assert result.output.startswith("fastmove: ")
