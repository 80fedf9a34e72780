"""C-MOVE from real archives: what lands on the disk is what DCMTK's own bit-preserving storescp gets of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from fastmove.bench.spec import Spec, objects
from fastmove.cli.exit_codes import for_outcome
from fastmove.dimse.move import Verdict
from fastmove.limits import Limits
from fastmove.notices import InstanceStored, ListenerStarted, Notice
from fastmove.services.retrieve.config import RetrieveConfig, RetrieveResult
from fastmove.services.retrieve.session import Retrieve
from fastmove.storage.options import WriteOptions
from fastmove.storage.target import StorageTarget
from fastmove.types import PeerAddress
from tests.corpus import BASIC_TEXT_SR, Corpus, CorpusFile
from tests.integration import peers, raw
from tests.integration.objects import ROOT, data_sets, write_objects
from tests.integration.peers import DcmtkQrScp, DcmtkStoreScp, Orthanc, Peer

LIMITS: Final = Limits(associate_s=5.0, response_s=10.0, progress_s=10.0, drain_s=1.0, stop_s=1.0)
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
PROPOSE_JPEG: Final = ("-xy",)
"""dcmqrscp proposes JPEG only if it is told to, and then nothing else."""

ARCHIVES = pytest.mark.parametrize(
    "kind",
    [
        pytest.param(DcmtkQrScp, id="dcmqrscp", marks=pytest.mark.peer("dcmtk")),
        pytest.param(Orthanc, id="orthanc", marks=pytest.mark.peer("dcmtk", "orthanc")),
    ],
)
Archive = DcmtkQrScp | Orthanc
Kind = Callable[..., Archive]


class Destination:
    """Where fastmove listens, and stores."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = peers.free_port()

    @property
    def files(self) -> dict[str, Path]:
        return {path.stem: path for path in self.directory.iterdir()}

    async def retrieve(
        self, archive: Peer, *keys: str, at_the_third: Callable[[Retrieve], None] | None = None, **config: Any
    ) -> RetrieveResult:
        """Retrieve into the directory; at the third object something may happen."""
        stored: list[InstanceStored] = []

        def on_stored(notice: InstanceStored) -> None:
            stored.append(notice)
            if at_the_third is not None and len(stored) == 3:
                at_the_third(session)

        with StorageTarget(self.directory, WriteOptions(durable=False)) as target:
            fixed: dict[str, Any] = {"limits": LIMITS, "rounds": 0, "prove": False}
            request = RetrieveConfig(address(archive), keys, **(fixed | config))
            session = Retrieve(request, target, port=self.port, on_stored=on_stored)
            return await session.run()


def address(peer: Peer) -> PeerAddress:
    return PeerAddress(peer.ae_title, peer.host, peer.port)


@pytest.fixture
def destination(tmp_path: Path) -> Destination:
    return Destination(tmp_path / "stored")


@asynccontextmanager
async def archived(
    kind: Kind, files: Sequence[Path], destination: Destination, **destinations: Peer
) -> AsyncIterator[Archive]:
    """An archive that holds these files and knows us and other destinations."""
    known = {"FASTMOVE": ("127.0.0.1", destination.port), "MOVED": ("127.0.0.1", destination.port)}
    async with kind(known | {ae: (peer.host, peer.port) for ae, peer in destinations.items()}) as archive:
        await archive.load(files)
        yield archive


@ARCHIVES
async def test_studies_are_byte_equal_to_what_a_bit_preserving_storescp_gets(
    kind: Kind, corpus: Corpus, destination: Destination
) -> None:
    files = [file for file in corpus.files if kind is Orthanc or file.transfer_syntax != JPEG_BASELINE]
    async with (
        DcmtkStoreScp("DEST") as reference,
        archived(kind, [file.path for file in files], destination, DEST=reference) as archive,
    ):
        for study in corpus.studies:
            result = await destination.retrieve(archive, f"StudyInstanceUID={study}", prove=True)
            assert result.judgement.verdict is Verdict.COMPLETE, result
            code, output = await peers.movescu(archive, "DEST", study)
            assert code == 0, output
        assert data_sets(destination.files) == data_sets(reference.stored())
    assert {file.sop_instance for file in files} == set(destination.files)
    # What neither archive writes anew: explicit VR little endian without sequences.
    sources = {
        file.sop_instance: file.path
        for file in files
        if file.transfer_syntax == raw.EXPLICIT_LE and file.sop_class != BASIC_TEXT_SR
    }
    assert data_sets(sources).items() <= data_sets(destination.files).items()


@pytest.mark.peer("dcmtk")
async def test_encapsulated_pixels_of_dcmqrscp_are_byte_equal_with_their_source(
    corpus: Corpus, destination: Destination
) -> None:
    files = [file for file in corpus.files if file.transfer_syntax == JPEG_BASELINE]
    async with DcmtkQrScp({"FASTMOVE": ("127.0.0.1", destination.port)}, options=PROPOSE_JPEG) as archive:
        await archive.load([file.path for file in files])
        result = await destination.retrieve(archive, f"StudyInstanceUID={files[0].study}", prove=True)
    assert result.judgement.verdict is Verdict.COMPLETE, result
    assert data_sets(destination.files) == data_sets({file.sop_instance: file.path for file in files})


@pytest.mark.peer("dcmtk", "orthanc")
@pytest.mark.parametrize("places", [(0,), (5, 6, 19)], ids=str)
async def test_orthanc_that_has_lost_files_sends_all_others(
    places: tuple[int, ...], destination: Destination, tmp_path: Path
) -> None:
    """It ends a move at the first object that it cannot read, and says nothing of those behind it."""
    (tmp_path / "source").mkdir()
    written = list(objects(Spec(studies=1, series=2, instances=12, size=2_000), tmp_path / "source"))
    files = {file.sop_instance_uid: file.path for file, _ in written}
    lost = {sorted(files)[place] for place in places}
    study = written[0][1]["StudyInstanceUID"]
    async with archived(Orthanc, list(files.values()), destination) as archive:
        stored = archive.stored()
        for uid in lost:
            stored[uid].unlink()
        await archive.restart()  # else it has them in its cache
        result = await destination.retrieve(archive, f"StudyInstanceUID={study}", prove=True, rounds=5)
    assert dict(result.units[0].missing) == dict.fromkeys(lost, "C000H Unable to process")
    assert destination.files.keys() == files.keys() - lost
    assert (result.judgement.verdict, result.units[0].stored) == (Verdict.REFUSED, 24 - len(lost))


def keys_of(level: str, file: CorpusFile) -> tuple[str, ...]:
    keys = (
        f"PatientID={file.patient_id}",
        f"StudyInstanceUID={file.study}",
        f"SeriesInstanceUID={file.series}",
        f"SOPInstanceUID={file.sop_instance}",
    )
    return keys[: ("PATIENT", "STUDY", "SERIES", "IMAGE").index(level) + 1]


@ARCHIVES
@pytest.mark.parametrize("model", ["study", "patient"])
async def test_every_level_brings_what_it_covers_and_nothing_else(
    kind: Kind, model: str, corpus: Corpus, destination: Destination
) -> None:
    wanted = corpus.files[2]
    fields = {"PATIENT": "patient_id", "STUDY": "study", "SERIES": "series", "IMAGE": "sop_instance"}
    async with archived(kind, [file.path for file in corpus.files[:11]], destination) as archive:
        for level in ("IMAGE", "SERIES", "STUDY", "PATIENT")[: 3 if model == "study" else 4]:
            keys = keys_of(level, wanted)[0 if model == "patient" else 1 :]
            result = await destination.retrieve(archive, *keys, model=model, prove=True)
            covered = {
                file.sop_instance
                for file in corpus.files[:11]
                if getattr(file, fields[level]) == getattr(wanted, fields[level])
            }
            assert result.judgement.verdict is Verdict.COMPLETE, (level, result)
            assert set(destination.files) == covered
            if level != "PATIENT":  # which is several studies, each with a list of its own
                assert result.evidence.expected == covered
            assert for_outcome(result.judgement, require_proof=True) == 0


@ARCHIVES
async def test_list_of_images_is_retrieved_in_one_move(kind: Kind, corpus: Corpus, destination: Destination) -> None:
    file, other = corpus.files[0], corpus.files[1]
    async with archived(kind, corpus.paths[:4], destination) as archive:
        keys = keys_of("SERIES", file)[1:]
        images = f"SOPInstanceUID={file.sop_instance}\\{other.sop_instance}"
        result = await destination.retrieve(archive, *keys, images, prove=True)
    assert result.judgement.verdict is Verdict.COMPLETE, result
    assert set(destination.files) == {file.sop_instance, other.sop_instance}


@ARCHIVES
async def test_without_a_list_the_counters_agree(kind: Kind, corpus: Corpus, destination: Destination) -> None:
    async with archived(kind, corpus.paths[:7], destination) as archive:
        result = await destination.retrieve(archive, f"StudyInstanceUID={corpus.studies[0]}")
    assert result.judgement.verdict is Verdict.COUNTED, result
    assert result.judgement.reasons == ()
    assert len(destination.files) == 7


@ARCHIVES
async def test_second_retrieve_changes_no_file(kind: Kind, corpus: Corpus, destination: Destination) -> None:
    async with archived(kind, corpus.paths[:7], destination) as archive:
        seen = []
        for _ in range(2):
            result = await destination.retrieve(archive, f"StudyInstanceUID={corpus.studies[0]}", prove=True)
            assert result.judgement.verdict is Verdict.COMPLETE, result
            seen.append(
                {(path.name, path.stat().st_ino, path.stat().st_mtime_ns) for path in destination.files.values()}
            )
    assert seen[0] == seen[1]


@ARCHIVES
async def test_move_destination_may_be_another_title_of_ours(
    kind: Kind, corpus: Corpus, destination: Destination
) -> None:
    async with archived(kind, corpus.paths[:4], destination) as archive:
        result = await destination.retrieve(archive, f"StudyInstanceUID={corpus.studies[0]}", move_destination="MOVED")
    assert result.judgement.verdict is Verdict.COUNTED, result
    assert len(destination.files) == 4


@ARCHIVES
async def test_third_party_gets_the_study_and_we_open_no_port(
    kind: Kind, corpus: Corpus, destination: Destination
) -> None:
    async with (
        DcmtkStoreScp("DEST") as third,
        archived(kind, corpus.paths[:7], destination, DEST=third) as archive,
    ):
        keys = (f"StudyInstanceUID={corpus.studies[0]}",)
        request = RetrieveConfig(address(archive), keys, move_destination="DEST", prove=True, limits=LIMITS)
        notices: list[Notice] = []
        result = await Retrieve(request, notify=notices.append).run()
        assert set(third.stored()) == {file.sop_instance for file in corpus.of_study(corpus.studies[0])}
    assert (result.judgement.verdict, result.evidence.stored) == (Verdict.COUNTED, None)
    assert not [notice for notice in notices if isinstance(notice, ListenerStarted)]


@ARCHIVES
async def test_unknown_destination_is_refused(kind: Kind, corpus: Corpus, destination: Destination) -> None:
    async with archived(kind, corpus.paths[:4], destination) as archive:
        keys = (f"StudyInstanceUID={corpus.studies[0]}",)
        result = await destination.retrieve(archive, *keys, move_destination="NOBODY", prove=True)
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.REFUSED, 69)
    assert result.seconds < LIMITS.drain_s, "nothing was to be waited for"
    outcome = result.evidence.outcome
    assert outcome is not None
    if kind is DcmtkQrScp:
        assert outcome.status == 0xA801


@pytest.mark.peer("dcmtk")
async def test_object_that_the_archive_cannot_send_is_missed_at_once(corpus: Corpus, destination: Destination) -> None:
    files = corpus.of_study(corpus.studies[2])
    async with archived(DcmtkQrScp, [file.path for file in files], destination) as archive:
        result = await destination.retrieve(archive, f"StudyInstanceUID={corpus.studies[2]}", prove=True)
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.INCOMPLETE, 71)
    assert result.judgement.missing == {file.sop_instance for file in files if file.transfer_syntax == JPEG_BASELINE}
    assert result.seconds < LIMITS.drain_s, "the archive has said that they will not come"


@pytest.mark.peer("dcmtk")
async def test_unmatched_key_is_an_empty_move(corpus: Corpus, destination: Destination) -> None:
    async with archived(DcmtkQrScp, corpus.paths[:4], destination) as archive:
        result = await destination.retrieve(archive, "StudyInstanceUID=1.2.3.4.5.6")
    assert result.judgement.verdict is Verdict.COUNTED, result
    assert result.judgement.reasons == ("move.empty",)


@pytest.fixture
def long_study(tmp_path: Path) -> tuple[str, list[Path]]:
    """A study of enough instances that it can be cancelled on the way."""
    return ROOT, write_objects(tmp_path / "long", 200, pixel_bytes=32768)


@pytest.mark.peer("dcmtk")
async def test_cancel_ends_the_move_with_what_is_whole(
    long_study: tuple[str, list[Path]], destination: Destination
) -> None:
    study, paths = long_study
    async with archived(DcmtkQrScp, paths, destination) as archive:
        result = await destination.retrieve(
            archive, f"StudyInstanceUID={study}", prove=True, at_the_third=Retrieve.cancel
        )
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.CANCELLED, 0), result.judgement
    assert result.seconds < LIMITS.drain_s, "what was cancelled is not waited for"
    assert 3 <= len(destination.files) < 200
    assert set(destination.files) == result.evidence.stored
    sources = {raw.part10_dataset(path.read_bytes())[-32768:] for path in paths}
    assert {data[-32768:] for data in data_sets(destination.files).values()} <= sources


@pytest.mark.peer("dcmtk")
async def test_archive_that_dies_in_mid_move_is_unknown_and_a_second_run_completes(
    long_study: tuple[str, list[Path]], destination: Destination
) -> None:
    study, paths = long_study
    async with archived(DcmtkQrScp, paths, destination) as first:
        result = await destination.retrieve(
            first,
            f"StudyInstanceUID={study}",
            prove=True,
            at_the_third=lambda _: first.kill(),
            limits=LIMITS.replace(drain_s=0.3, away_s=0.0),
        )
    assert (result.judgement.verdict, for_outcome(result.judgement)) == (Verdict.UNKNOWN, 72), result
    assert set(destination.files) == result.evidence.stored
    async with archived(DcmtkQrScp, paths, destination) as second:
        result = await destination.retrieve(second, f"StudyInstanceUID={study}", prove=True)
    assert result.judgement.verdict is Verdict.COMPLETE
    assert len(destination.files) == 200
