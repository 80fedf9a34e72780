"""The real peers do what the other tests rely on: they start, store what storescu sends, and end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.corpus import Corpus
from tests.integration import peers, raw
from tests.integration.peers import Peer
from tests.integration.scripted import Close, Recv, ScriptedAcceptor, ScriptedRequestor, Send, Step

STORES = [
    pytest.param(peers.DcmtkStoreScp, marks=pytest.mark.peer("dcmtk")),
    pytest.param(peers.Orthanc, marks=pytest.mark.peer("dcmtk", "orthanc")),
    pytest.param(peers.PynetdicomScp, marks=pytest.mark.peer("dcmtk", "pynetdicom")),
]


def dataset_bytes(path: Path) -> bytes:
    return raw.part10_dataset(path.read_bytes())


@pytest.mark.parametrize("kind", STORES)
async def test_store_peer_keeps_every_file_of_the_corpus(kind: Callable[[], Peer], corpus: Corpus) -> None:
    async with kind() as peer:
        code, output = await peers.storescu(peer, *corpus.paths)
        assert code == 0, output
        assert set(peer.stored()) == {file.sop_instance for file in corpus.files}


@pytest.mark.peer("pynetdicom")
async def test_pynetdicom_peer_keeps_the_bytes_that_a_scripted_requestor_sends() -> None:
    sent = raw.dataset("1.2.3.4")
    async with peers.PynetdicomScp() as peer, ScriptedRequestor(peer.host, peer.port) as requestor:
        assert await requestor.associate(raw.associate_rq(called=peer.ae_title)) == {1: 0, 3: 0}
        await requestor.store("1.2.3.4", sent)
        await requestor.release()
        assert dataset_bytes(peer.stored()["1.2.3.4"]) == sent


@pytest.mark.peer("dcmtk")
async def test_dcmqrscp_moves_a_study_to_its_destination(corpus: Corpus) -> None:
    async with peers.DcmtkStoreScp("DEST") as destination:
        destinations = {"DEST": (destination.host, destination.port)}
        async with peers.DcmtkQrScp(destinations) as archive:
            await archive.load(corpus.paths)
            code, output = await peers.movescu(archive, "DEST", corpus.studies[0])
            assert code == 0, output
            assert set(destination.stored()) == {file.sop_instance for file in corpus.of_study(corpus.studies[0])}


@pytest.mark.peer("dcmtk", "orthanc")
async def test_orthanc_moves_a_study_to_its_destination(corpus: Corpus) -> None:
    async with peers.DcmtkStoreScp("DEST") as destination:
        destinations = {"DEST": (destination.host, destination.port)}
        async with peers.Orthanc(destinations) as archive:
            await archive.load(corpus.paths)
            code, output = await peers.movescu(archive, "DEST", corpus.studies[0])
            assert code == 0, output
            assert set(destination.stored()) == {file.sop_instance for file in corpus.of_study(corpus.studies[0])}


@pytest.mark.peer("dcmtk")
async def test_scripted_acceptor_answers_echoscu() -> None:
    script: list[Step] = [
        Recv(raw.ASSOCIATE_RQ),
        Send(raw.associate_ac([raw.context_ac(1)])),
        Recv(raw.P_DATA),
        Send(raw.message(1, raw.response(0x8030, 1, raw.VERIFICATION, 0))),
        Recv(raw.RELEASE_RQ),
        Send(raw.release_rp()),
        Close(),
    ]
    async with ScriptedAcceptor([script]) as acceptor:
        code, output = await peers.echoscu(peers.Address("SCRIPTED", acceptor.host, acceptor.port))
        await acceptor.finished()
    assert code == 0, output


@pytest.mark.peer("dcmtk")
async def test_failure_beside_a_peer_carries_its_log() -> None:
    with pytest.raises(AssertionError) as caught:
        async with peers.DcmtkStoreScp(options=("-v",)):
            raise AssertionError("planted")
    assert "DcmtkStoreScp" in caught.value.__notes__[0]
